"""Runs of one model with several seeds are replicates: one row for each model, and how far its seeds scatter.

A size and a method make a model; seeds repeat its training. Seeds of one model share what is peculiar to the model, so
regressions see the mean over seeds once and not each seed as news; what seeds scatter is added where a single new run
is predicted.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from astraios_analysis.records.frame import RunRecord
from astraios_analysis.records.registry import DATASETS, METRICS
from astraios_analysis.scores.bootstrap import ProblemBootstrap

MODEL_COLUMNS = ["grid", "size", "n_params_base", "method", "held_out"]


@dataclass(frozen=True)
class ModelScores:
    """A data set's primary scores, model by model.

    Attributes
    ----------
    dataset, metric : str
    table : DataFrame
        One row for each model, sizes increasing: ``grid, size, n_params_base, n_params_updated, method, held_out,
        value`` (mean over seeds), ``n_items`` (problems; the mean where runs differ), ``n_seeds, seed_variance`` (of
        one run's score; NaN with one seed), ``val_loss`` (mean over seeds, NaN where not measured),
        ``loss_seed_variance``.
    draws : ndarray, shape (n_draws, n_models)
        The means for resampled problems; one resample serves all models.
    kinds : tuple of str
        How the draws of each model were made.
    """

    dataset: str
    metric: str
    table: pd.DataFrame
    draws: np.ndarray
    kinds: tuple[str, ...]

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger value is a better model."""
        return METRICS[self.metric].higher_is_better is not False

    def goodness(self, values: np.ndarray) -> np.ndarray:
        """Turn a share that is better when lower into its complement, so that more is better."""
        return values if self.higher_is_better else 1.0 - values

    def draws_of_runs(self, seed: int = 0) -> np.ndarray:
        """Return goodness for resampled problems and for other seeds, shape (n_draws, n_models).

        The variance over seeds, pooled over models, enters by its share of the mean over a model's seeds; with one seed
        a model it is not known and left out (`covers_seeds`).
        """
        drawn = self.goodness(self.draws)
        if not self.covers_seeds:
            return drawn
        more = self.table["n_seeds"].to_numpy(dtype=float)
        known = more > 1
        variance = np.sum(((more - 1) * self.table["seed_variance"].fillna(0))[known]) / np.sum((more - 1)[known])
        noise = np.random.default_rng([seed, zlib.crc32(self.dataset.encode())]).standard_normal(drawn.shape)
        return drawn + np.sqrt(variance / more) * noise

    @property
    def covers_seeds(self) -> bool:
        """Whether any model has two seeds, so that draws can cover other training runs."""
        return bool((self.table["n_seeds"] > 1).any()) if len(self.table) else False

    def keep(self, rows: np.ndarray) -> "ModelScores":
        """Return the models that a boolean array keeps."""
        table = self.table[rows].reset_index(drop=True)
        kinds = tuple(kind for kind, kept in zip(self.kinds, rows, strict=True) if kept)
        return ModelScores(self.dataset, self.metric, table, self.draws[:, rows], kinds)

    def interval_of(self, places: Sequence[int]) -> str:
        """Say how the draws of some models were made, by their places in the table."""
        ways = "; ".join(dict.fromkeys(self.kinds[place] for place in places))
        return f"{ways} and seeds" if self.covers_seeds else ways


def model_scores(
    records: Sequence[RunRecord],
    dataset: str,
    bootstrap: ProblemBootstrap | None = None,
    measure: tuple[str, str] | None = None,
) -> ModelScores:
    """Average a data set's scores over the seeds of each model: the primary ones unless told otherwise.

    Parameters
    ----------
    records : sequence of RunRecord
        Runs of one grid; those without a primary score on the data set are left out. Held-out ones keep their mark.
    dataset : str
        A data set with a primary metric.
    bootstrap : ProblemBootstrap, optional
        Resamples of problems.
    measure : tuple of str, optional
        Another metric and setting.

    Raises
    ------
    ValueError
        If the data set is unknown or has no primary metric, the records are of several grids, or
        two runs are of one seed.
    """
    metric, setting = measure or _primary_measure(dataset)
    require_one_grid(records)
    bootstrap = bootstrap or ProblemBootstrap()
    models: dict[tuple, list[tuple[RunRecord, float, np.ndarray, int]]] = {}
    kinds: dict[tuple, str] = {}
    for record in sorted(records, key=lambda r: r.n_params_base):
        wanted = (dataset, metric, setting)
        score = next((s for s in record.scores if (s.dataset, s.metric, s.setting) == wanted), None)
        if score is None:
            continue
        draws, kind = bootstrap.draws(record, score)
        key = tuple(getattr(record, name) for name in MODEL_COLUMNS)
        kinds.setdefault(key, kind)
        own = models.setdefault(key, [])
        if any(record.seed == other.seed for other, _, _, _ in own):
            raise ValueError(f"{record.size} {record.method} has two runs of one seed on {dataset}; keep one of them")
        own.append((record, score.value, draws, score.n_items or 1))
    rows = [_row(key, runs) for key, runs in models.items()]
    drawn = [np.mean([draws for _, _, draws, _ in runs], axis=0) for runs in models.values()]
    draws = np.stack(drawn, axis=-1) if drawn else np.empty((bootstrap.n_draws, 0))
    # Sums in floating point must not decide which of two equal scores is larger.
    return ModelScores(dataset, metric, pd.DataFrame(rows), np.round(draws, 9), tuple(kinds.values()))


def _primary_measure(dataset: str) -> tuple[str, str]:
    known = DATASETS.get(dataset)
    if known is None or known.primary_metric is None:
        choices = ", ".join(d.name for d in DATASETS.values() if d.primary_metric)
        raise ValueError(f"no primary score is defined on {dataset!r}; choose from {choices}")
    return known.primary_metric, known.primary_setting or ""


def _row(key: tuple, runs: list[tuple[RunRecord, float, np.ndarray, int]]) -> dict:
    values = np.array([value for _, value, _, _ in runs])
    losses = np.array([np.nan if record.val_loss is None else record.val_loss for record, _, _, _ in runs])
    return {
        **dict(zip(MODEL_COLUMNS, key, strict=True)),
        "n_params_updated": runs[0][0].n_params_updated,
        "value": float(values.mean()),
        "n_items": float(np.mean([n for _, _, _, n in runs])),
        "n_seeds": len(runs),
        "seed_variance": _variance(values),
        "val_loss": float(losses.mean()),
        "loss_seed_variance": _variance(losses),
    }


def _variance(values: np.ndarray) -> float:
    return float(values.var(ddof=1)) if len(values) > 1 else float("nan")


def require_one_grid(records: Sequence[RunRecord]) -> None:
    """Refuse runs of several grids, whose scores do not compare.

    Raises
    ------
    ValueError
    """
    grids = sorted({record.grid for record in records})
    if len(grids) > 1:
        raise ValueError(
            f"scores of different grids do not compare, and there are {len(grids)}: {', '.join(grids)}; give one"
        )


def average_seeds(primary: pd.DataFrame) -> pd.DataFrame:
    """Return a table of primary scores with one row for each model and data set, its value the mean over seeds.

    Parameters
    ----------
    primary : DataFrame
        `scores.primary_frame`; rows of several seeds may repeat a model.

    Returns
    -------
    DataFrame
        The columns of the first run of each model, with ``value``, ``val_loss`` and ``n_items`` averaged (items
        rounded down), ``n_seeds`` and ``seed_variance`` (of one run's value, NaN with one seed) added.
    """
    keys = ["dataset", "setting", "metric", *MODEL_COLUMNS]
    if primary.empty:
        return primary.assign(n_seeds=pd.Series(dtype="Int64"), seed_variance=pd.Series(dtype=float))
    grouped = primary.groupby(keys, sort=False, dropna=False)
    first = grouped.head(1).set_index(keys)
    means = grouped[["value", "val_loss"]].mean()
    items = grouped["n_items"].mean().astype(float) // 1
    added = {"n_seeds": grouped.size(), "seed_variance": grouped["value"].var(ddof=1)}
    merged = first.assign(**means, n_items=items.astype("Int64"), **added).reset_index()
    return merged[[*primary.columns, *added]]
