"""Models and their seeds: a size and a method make a model, seeds repeat its training and are its replicates.

Tables of several seeds have a column ``kind``: rows of kind ``seed`` are runs, and rows of kind ``mean`` are models.
Tables of one run a model have no such column, and each row is both. What is peculiar to a model is shared by its seeds,
so fits and ranks see their mean once (`ModelScores`), and how far seeds scatter is added where a new run is predicted.
"""

import zlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from itertools import islice

import numpy as np
import pandas as pd
from scipy import special, stats

from astraios_analysis.records.frame import RunRecord, Score, to_frame
from astraios_analysis.records.notation import count
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.registry import DATASETS, LOSS, METRICS, TEXT_LOSSES, find_dataset, order_datasets
from astraios_analysis.scores.bootstrap import (
    NO_INTERVAL,
    RESAMPLES,
    Measure,
    ProblemBootstrap,
    find_score,
    keep_measures,
    percentile_interval,
    primary_measures,
)

MODEL = ["grid", "size", "n_params_base", "method", "held_out"]
# Fewer models than these say nothing about the relation of loss and score.
MIN_MODELS = 4
_PRIOR_DOF = 2.0
SEED, MEAN = "seed", "mean"
SEED_COLUMNS = ["kind", "seed", "n_seeds"]
_KEYS = ["dataset", "language", "setting", "metric"]
_OF_ONE_RUN = ["run_id", "seed", "stderr", "n_samples", "n_passed", "source_file"]


def group_models(records: Iterable[RunRecord]) -> dict[tuple, list[RunRecord]]:
    """Return the runs of each model, in the order of the first of them; the key has the fields `MODEL`."""
    models: dict[tuple, list[RunRecord]] = {}
    for record in records:
        models.setdefault(tuple(getattr(record, name) for name in MODEL), []).append(record)
    return models


def has_several_seeds(records: Iterable[RunRecord]) -> bool:
    """Whether any model was trained more than once."""
    return any(len(runs) > 1 for runs in group_models(records).values())


def require_one_grid(records: Sequence[RunRecord]) -> None:
    """Refuse runs of several grids, whose scores do not compare."""
    grids = sorted({record.grid for record in records})
    if len(grids) > 1:
        raise Refusal(
            f"scores of different grids do not compare, and there are {len(grids)}: {', '.join(grids)}; give one"
        )


def with_means(
    runs: pd.DataFrame,
    keys: Sequence[str],
    values: Sequence[str],
    counts: Sequence[str] = (),
    intervals: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Put rows of models below those of their runs, told apart by ``kind``: one for each model and key.

    Models have means of ``values``, rounded means of ``counts``, ``n_seeds``, and ``intervals``, joined by the columns
    that these share. What belongs to one run (its name, seed, counts of outcomes) is missing; the rest is the first
    run's.
    """
    by = [*MODEL, *keys]
    groups = runs.groupby(by, sort=False, dropna=False)
    means = groups[list(values)].mean()
    for name in counts:
        means[name] = groups[name].mean().astype(float).round().astype("Int64")
    means["n_seeds"] = groups.size()
    replaced = [] if intervals is None else [name for name in intervals if name not in by]
    first = groups.head(1).set_index(by).drop(columns=[*values, *counts, *replaced], errors="ignore")
    means = first.join(means).reset_index().drop(columns=_OF_ONE_RUN, errors="ignore")
    if intervals is not None:
        means = means.merge(intervals, how="left", validate="one_to_one")
    means = means.reindex(columns=[*runs.columns, "n_seeds"]).astype(runs.dtypes.to_dict())
    table = pd.concat([runs.assign(n_seeds=1, kind=SEED), means.assign(kind=MEAN)], ignore_index=True)
    return table.astype({"n_seeds": "Int64"})


def keep_means(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a table that stand for models: means over seeds, or runs where there is one a model."""
    return table[table["kind"] == MEAN].reset_index(drop=True) if "kind" in table else table


def keep_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of single runs beside which there is a mean; none where each model has one run."""
    return table[table["kind"] == SEED] if "kind" in table else table.iloc[:0]


def seed_words(table: pd.DataFrame) -> str:
    """Say how many runs a mean is over: ``3 seeds``, ``1 to 3 seeds``, or nothing where there is one run a model."""
    if "kind" not in table or table.empty:
        return ""
    n = keep_means(table)["n_seeds"]
    few, many = int(n.min()), int(n.max())
    return f"{many} seed{'s' if many > 1 else ''}" if few == many else f"{few} to {many} seeds"


def intervals_over_seeds(
    records: Sequence[RunRecord],
    *,
    level: float = 0.95,
    bootstrap: ProblemBootstrap = RESAMPLES,
    wanted: Collection[tuple[str, str, str]] | None = None,
) -> pd.DataFrame:
    """Return `to_frame` with ``lower``, ``upper``, ``level`` and ``interval`` (how it was made) for each score.

    ``wanted`` are (data set, metric, setting), all by default: bootstrapping every score takes seconds. Where models
    have several seeds, runs come without intervals and their means below them with, over the ``n_seeds`` runs that have
    the score. Intervals resample the problems of all seeds together: they cover the choice of problems, not the
    variance between training runs; how far seeds scatter is in the rows of kind ``seed``.
    """
    found, is_several = [], has_several_seeds(records)
    by = [*(["size", "method"] if is_several else ["run_id"]), *_KEYS]
    for own in group_models(records).values():
        scored: dict[tuple, list[tuple[RunRecord, Score]]] = {}
        for record in own:
            for score in record.scores:
                if wanted is None or (score.dataset, score.metric, score.setting) in wanted:
                    scored.setdefault(score.key, []).append((record, score))
        for key, (draws, kind) in zip(scored, bootstrap.mean_draws(list(scored.values())), strict=True):
            model = [getattr(own[0], name) for name in by[: -len(_KEYS)]]
            found.append((*model, *key, *percentile_interval(draws, level), level, kind))
    intervals = pd.DataFrame(found, columns=[*by, "lower", "upper", "level", "interval"])
    intervals = intervals.astype(dict.fromkeys(("lower", "upper", "level"), float))
    runs = to_frame(records) if wanted is None else keep_measures(to_frame(records), wanted)
    if not is_several:
        return runs.merge(intervals, how="left", validate="one_to_one")
    runs = runs.assign(lower=np.nan, upper=np.nan, level=level, interval=NO_INTERVAL)
    values = ["value", "base_val_loss", "val_loss", "val_loss_se"]
    return with_means(runs, _KEYS, values, ["n_items"], intervals)


@dataclass(frozen=True)
class ModelScores:
    """One data set's scores, or the validation losses, model by model.

    ``table`` has one row for each model, sizes increasing: `MODEL`, ``n_params_updated``, ``value`` (mean over seeds),
    ``n_items`` (problems; the mean where runs differ), ``n_seeds``, ``seed_variance`` (of one run's score; NaN with one
    seed), ``sampling_variance`` (that part of it which the sampling of answers explains) and ``val_loss`` (mean over
    seeds, NaN where not measured). ``draws``, shape (n_draws, n_models), are the means for resampled problems, one
    resample for all models, and ``kinds`` how they were made; ``runs`` are the models' scores by seed.
    """

    dataset: str
    metric: str
    table: pd.DataFrame
    draws: np.ndarray
    kinds: tuple[str, ...]
    runs: tuple[dict[int | None, float], ...]

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger value is a better model."""
        return METRICS[self.metric].higher_is_better is not False

    def goodness(self, values: np.ndarray) -> np.ndarray:
        """Turn values round where less is better: a share into its complement, a loss into its negative."""
        return METRICS[self.metric].turn(values)

    @property
    def good(self) -> np.ndarray:
        """Goodness of the models' scores, shape (n_models,)."""
        return self.goodness(self.table["value"].to_numpy(dtype=float))

    def draws_of_runs(self, seed: int = 0) -> np.ndarray:
        """Return goodness for resampled problems and for other seeds, shape (n_draws, n_models).

        Seeds enter by `run_noise`; with one seed a model nothing is known of them and they are left out
        (`covers_seeds`). Where errors over problems are not known, those over seeds contain them. Another text would
        move losses together: their differences are known as far as seeds tell, as `contrasts` and predictions have it.
        """
        drawn = self.goodness(self.draws)
        if not self.covers_seeds:
            return drawn
        if self.metric in TEXT_LOSSES:
            drawn = self.good + self.draws.std(axis=0) * _normals(len(drawn), seed, True, "text")[:, None]
        return np.where(np.isnan(drawn), self.good, drawn) + run_noise(self, seed)

    def interval(self, good: np.ndarray, level: float) -> tuple[float, float]:
        """Return the interval of draws of goodness in units of the score, inside its range."""
        metric, ends = METRICS[self.metric], self.goodness(np.array(percentile_interval(good, level)))
        lower, upper = np.clip(np.sort(ends), metric.lower, metric.upper)
        return float(lower), float(upper)

    @cached_property
    def places(self) -> dict[int, dict[str, int]]:
        """Places of models in the table by base size, in increasing order, and method."""
        found: dict[int, dict[str, int]] = {}
        for place, row in enumerate(self.table.itertuples()):
            found.setdefault(row.n_params_base, {})[row.method] = place
        return found

    def by_model(self, values: np.ndarray) -> dict[tuple[int, str], np.ndarray]:
        """Return values (..., n_models) by base size and method."""
        return {(n, method): values[..., place] for n, at in self.places.items() for method, place in at.items()}

    @property
    def chance(self) -> float:
        """Goodness of a random guess; 0 where no chance level is known."""
        return float(self.goodness(np.float64(find_dataset(self.dataset).chance or 0.0)))

    @cached_property
    def has_vote(self) -> bool:
        """Whether any model that is not held out is surely (97.5 %) better than always giving the commonest answer.

        A data set on which none is measures nothing that a method could be chosen by: it is shown, and takes no part in
        what is counted or averaged over data sets.
        """
        known = find_dataset(self.dataset)
        constant = known.majority if known.majority is not None else known.chance
        if constant is None or self.table.empty:
            return True
        lowest = np.quantile(self.goodness(self.draws), 0.025, axis=0)[~self.table["held_out"].to_numpy(dtype=bool)]
        return not bool(np.all(lowest <= self.goodness(np.float64(constant))))

    def pair_of_sizes(self, small: int, large: int) -> dict[str, object]:
        """Return what a row of a table about two sizes begins with; the sizes are those of two models, by place."""
        row = {"dataset": self.dataset, "has_vote": self.has_vote, "metric": self.metric}
        for side, place in (("small", small), ("large", large)):
            model = self.table.iloc[place]
            row |= {f"size_{side}": model["size"], f"n_params_{side}": int(model["n_params_base"])}
        return row

    @property
    def covers_seeds(self) -> bool:
        """Whether any model has two seeds, so that draws can cover other training runs."""
        return bool((self.table["n_seeds"] > 1).any()) if len(self.table) else False

    def runs_by_seed(self, places: Sequence[int]) -> np.ndarray:
        """Return scores of models by seed, shape (n_places, n_seeds); NaN where there is no run."""
        return pd.DataFrame([self.runs[place] for place in places]).to_numpy(dtype=float)

    @property
    def together(self) -> np.ndarray:
        """Share of the variance of one run that runs of its seed share with it at its size, shape (n_models,)."""
        found = np.zeros(len(self.table))
        for at in self.places.values():
            found[list(at.values())] = share_of_seeds(self.runs_by_seed(list(at.values())))
        return found

    def keep(self, rows: np.ndarray) -> "ModelScores":
        """Return the models that a boolean array keeps."""
        table = self.table[rows].reset_index(drop=True)
        kinds = tuple(kind for kind, kept in zip(self.kinds, rows, strict=True) if kept)
        runs = tuple(own for own, kept in zip(self.runs, rows, strict=True) if kept)
        return ModelScores(self.dataset, self.metric, table, self.draws[:, rows], kinds, runs)

    def interval_of(self, places: Sequence[int]) -> str:
        """Say how the draws of some models were made, by their places in the table."""
        ways = "; ".join(dict.fromkeys(self.kinds[place] for place in places))
        return f"{ways} and seeds" if self.covers_seeds else ways


def model_scores(
    records: Sequence[RunRecord],
    dataset: str,
    bootstrap: ProblemBootstrap = RESAMPLES,
    measure: tuple[str, str] | None = None,
) -> ModelScores:
    """Average a data set's scores over the seeds of each model, by the primary metric and setting or by ``measure``.

    Runs without the score are left out; held-out ones keep their mark.
    """
    require_one_grid(records)
    metric, setting = measure or require_measure(records, dataset)
    rows, measured = [], []
    for key, runs in group_models(sorted(records, key=lambda r: r.n_params_base)).items():
        found = [(record, find_score(record, dataset, metric, setting)) for record in runs]
        scored = [(record, score) for record, score in found if score is not None]
        if not scored:
            continue
        if len({record.seed for record, _ in scored}) < len(scored):
            model = dict(zip(MODEL, key, strict=True))
            raise Refusal(f"{model['size']} {model['method']} has two runs of one seed on {dataset}; keep one of them")
        rows.append(dict(zip(MODEL, key, strict=True)) | _summarise(scored))
        measured.append(scored)
    drawn, of_runs, kinds = iter(bootstrap.draws([pair for scored in measured for pair in scored])), [], []
    for row, scored in zip(rows, measured, strict=True):
        own, ways = zip(*islice(drawn, len(scored)), strict=True)
        # How far runs move about their mean when problems are resampled is what their own answers contribute.
        moved = np.var(own - np.mean(own, axis=0), axis=1) if len(own) > 1 and bootstrap.n_draws else np.zeros(2)
        row["sampling_variance"] = float(np.nan_to_num(moved.sum() / (len(moved) - 1)))
        of_runs.append(np.mean(own, axis=0))
        kinds.append("; ".join(dict.fromkeys(ways)))
    draws = np.stack(of_runs, axis=-1) if of_runs else np.empty((bootstrap.n_draws, 0))
    by_seed = tuple({record.seed: score.value for record, score in scored} for scored in measured)
    # Sums in floating point must not decide which of two equal scores is larger.
    return ModelScores(dataset, metric, pd.DataFrame(rows), np.round(draws, 9), tuple(kinds), by_seed)


def run_noise(scores: ModelScores, seed: int = 0) -> np.ndarray:
    """Draw how far means over seeds would be off in other training runs, shape of ``scores.draws``.

    Runs of one seed at one size share the order of batches, and often a base model, so that their scores go up and down
    together. Deviations of runs from their models' means are split, size by size, into what a seed shares and what is a
    run's own (two-way layout; Searle, Casella & McCulloch 1992, chapter 4), of which sampling answers explains a part.
    Not every method goes along alike: each model has an own variance. A run that is off is off on every data set, so
    that data sets share their normal numbers.
    """
    draw = partial(_normals, len(scores.draws), seed, scores.dataset == LOSS)
    places = scores.places
    shared, own = zip(*(mean_squares(scores.runs_by_seed(list(at.values()))) for at in places.values()), strict=True)
    scale = _scale(scores)
    of_size = np.array([scale[list(at.values())].mean() for at in places.values()])
    of_model = scale[[place for at in places.values() for place in at.values()]]
    of_seeds, (of_runs, widened) = _moderate(np.array(shared), of_size), _moderate(np.concatenate(own), of_model)
    noise, squares = np.empty(scores.draws.shape), iter(zip(of_runs, widened, strict=True))
    for size, of_seed, factor in zip(places, *of_seeds, strict=True):
        here = [next(squares) for _ in places[size]]
        more = max(of_seed - np.mean([square for square, _ in here]), 0.0) / len(here)
        for (method, place), (square, wider) in zip(places[size].items(), here, strict=True):
            runs, sampled = scores.runs[place], scores.table["sampling_variance"].iloc[place]
            together = np.mean([draw(f"{size} seed {run}") for run in runs], axis=0)
            alone = wider * np.sqrt(max(square - sampled, 0.0) / len(runs))
            noise[:, place] = factor * np.sqrt(more) * together + alone * draw(f"{size} {method}")
    return noise


def _scale(scores: ModelScores) -> np.ndarray:
    """Return what variances of scores go with, (n_models,): p (1 - p) of shares, the square of losses on a text."""
    metric, value = METRICS[scores.metric], scores.table["value"].to_numpy(dtype=float)
    if metric.is_bounded:
        # Half an item is added to both answers: runs that solve nothing are not all alike.
        items = scores.table["n_items"].to_numpy(dtype=float)
        p = ((value - metric.lower) / (metric.upper - metric.lower) * items + 0.5) / (items + 1)
        return p * (1 - p)
    return value**2 if scores.metric in TEXT_LOSSES else np.ones(len(value))


@lru_cache(maxsize=1024)
def _normals(n: int, seed: int, is_loss: bool, name: str) -> np.ndarray:
    return np.random.default_rng([seed, is_loss, zlib.crc32(name.encode())]).standard_normal(n)


def share_of_seeds(runs: np.ndarray) -> float:
    """Return the share of the variance of one run that the runs of its seed share, from runs of a size."""
    (square, _), own = mean_squares(runs)
    alone = float(np.mean(own[:, 0])) if len(own) else 0.0
    together = max(square - alone, 0.0) / max(len(own), 1)
    return together / (together + alone) if together else 0.0


def mean_squares(runs: np.ndarray) -> tuple[tuple[float, float], np.ndarray]:
    """Return mean square and degrees of freedom of what seeds of a size share, and those of models' own, (n_models, 2).

    Runs are of shape (n_models, n_seeds), NaN where there is none. What one method's runs scatter by is their own:
    nothing says what a seed would share with others.
    """
    known = ~np.isnan(runs) & ((~np.isnan(runs)).sum(axis=1, keepdims=True) > 1)
    off = np.where(known, runs - np.nanmean(runs, axis=1, keepdims=True), 0.0)
    n_methods, dof, shared = known.sum(axis=0), np.maximum(known.sum(axis=1) - 1.0, 0.0), (0.0, 0.0)
    seed_dof = np.count_nonzero(n_methods) - 1.0
    if 0 < seed_dof < dof.sum():
        of_seed = off.sum(axis=0) / np.maximum(n_methods, 1)
        shared = float(n_methods @ of_seed**2 / seed_dof), seed_dof
        off, dof = np.where(known, off - of_seed, 0.0), dof * (1 - seed_dof / dof.sum())
    squares = np.divide((off**2).sum(axis=1), dof, out=np.zeros(len(dof)), where=dof > 0)
    return shared, np.stack([squares, dof], axis=1)


def _moderate(known: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shrink mean squares with their degrees of freedom, shape (n, 2), towards a geometric mean in units of a scale.

    That has the weight of `_PRIOR_DOF`: few seeds say little of a variance (Smyth 2004, equation 3), and variances
    differ. The second value is by how much draws are widened: from the normal 95 % interval to that of t.
    """
    squares, dof = known[:, 0] / scale, known[:, 1]
    positive = (dof > 0) & (squares > 0)
    if not positive.any():
        return np.zeros(len(squares)), np.ones(len(squares))
    d = dof[positive]
    centre = np.exp(np.mean(np.log(squares[positive]) - special.digamma(d / 2) + np.log(d / 2)))
    # The logarithm of a square of one degree of freedom or less says little.
    centre = min(centre, np.average(squares[positive], weights=d))
    freedom = np.clip(_PRIOR_DOF + dof, 1.0, max(d.sum(), 1.0))
    squares = (_PRIOR_DOF * centre + dof * squares) / (_PRIOR_DOF + dof)
    return scale * squares, stats.t.ppf(0.975, freedom) / stats.norm.ppf(0.975)


def require_measure(records: Sequence[RunRecord], dataset: str) -> Measure:
    """Return the metric and setting that stand for a data set among some runs, or refuse one that has none."""
    known = find_dataset(dataset)
    if known.primary_metric is not None and known.primary_setting is not None:
        return known.primary_metric, known.primary_setting
    found = primary_measures(records)
    if dataset not in found:
        choices = order_datasets(found) + [LOSS] * any(record.val_loss is not None for record in records)
        if any(score.dataset == dataset for record in records for score in record.scores):
            why = "parse rates are not security scores" if dataset in DATASETS else "none has a direction"
            raise Refusal(f"{dataset} has no score that stands for it ({why}); choose from {', '.join(choices)}")
        remedy = (
            f"choose from {', '.join(choices)}" if choices else "these runs have neither scores nor losses: add some"
        )
        raise Refusal(f"unknown data set {dataset!r}; {remedy}")
    return found[dataset]


def _summarise(scored: list[tuple[RunRecord, Score]]) -> dict:
    values = np.array([score.value for _, score in scored])
    losses = np.array([np.nan if record.val_loss is None else record.val_loss for record, _ in scored])
    return {
        "n_params_updated": scored[0][0].n_params_updated,
        "value": float(values.mean()),
        "n_items": float(np.mean([score.n_items or 1 for _, score in scored])),
        "n_seeds": len(scored),
        "seed_variance": float(values.var(ddof=1)) if len(values) > 1 else np.nan,
        "val_loss": float(losses.mean()),
    }


def usable_models(scores: ModelScores) -> ModelScores:
    """Keep the models whose score can be related to loss: not held out, with a loss; refuse where these say nothing."""
    if scores.table.empty:
        raise Refusal(f"{scores.dataset}: no run has a score; add runs or choose another data set")
    kept = scores.keep((~scores.table["held_out"].astype(bool) & scores.table["val_loss"].notna()).to_numpy())
    if kept.table.empty:
        raise Refusal(
            f"{scores.dataset}: these runs have scores but no validation loss, so nothing relates the two; "
            "train a grid, which measures both"
        )
    if len(kept.table) < MIN_MODELS:
        raise Refusal(
            f"{scores.dataset}: {count(len(kept.table), 'model')} with a loss and a score; {MIN_MODELS} are "
            "needed: add runs"
        )
    if np.ptp(kept.table["val_loss"]) < 1e-9:
        raise Refusal(f"{scores.dataset}: all models have one loss, {kept.table['val_loss'].iloc[0]:g}")
    for edge, words in ((0.0, "no model solves any problem"), (1.0, "every model solves every problem")):
        if np.all(kept.good == edge):
            raise Refusal(f"{scores.dataset}: {words}, so the score says nothing about loss; add other sizes")
    return kept
