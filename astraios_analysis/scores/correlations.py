"""Does validation loss say which method is better? Its correlation with each score among the methods of one size.

Over all models a correlation mixes two things that move both, size and method: a method is chosen by the order within a
size.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from astraios_analysis.records.frame import RunRecord
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.registry import DATASETS
from astraios_analysis.scores.bootstrap import ProblemBootstrap, percentile_interval, primary_score
from astraios_analysis.scores.models import ModelScores, group_models, model_scores
from astraios_analysis.scores.ranks import noise_free, spearman, with_value

MIN_GROUP = 4
_RESAMPLES = ProblemBootstrap(n_draws=1000)


def size_correlations(
    records: Sequence[RunRecord], *, level: float = 0.95, bootstrap: ProblemBootstrap = _RESAMPLES
) -> pd.DataFrame:
    """Correlate less loss with a better score among the methods of each size, for every data set that has a vote.

    1 means that the method with less loss always scores higher. ``value`` is of means over seeds; intervals resample
    problems and, where a model has several, its seeds (loss and score of a run together); ``mean`` is the row over the
    data sets of a size.
    """
    fitted = [r for r in records if not r.held_out and r.val_loss is not None]
    rows: list[dict] = []
    sizes: dict[int, list[tuple[float, np.ndarray]]] = {}
    for name, known in DATASETS.items():
        # A loss is not held against another.
        is_own = known.suite in ("published", "embedded") and not known.is_extra and known.kind != "answers"
        if not is_own or all(primary_score(record, name) is None for record in fitted):
            continue
        scores = model_scores(fitted, name, bootstrap)
        if not scores.has_vote:
            continue
        loss, moved = scores.table["val_loss"].to_numpy(dtype=float), _resample_seeds(fitted, scores)
        for n, at in scores.places.items():
            place = list(at.values())
            if len(place) < MIN_GROUP or np.ptp(loss[place]) < 1e-12 or np.ptp(scores.good[place]) < 1e-12:
                continue
            value = -float(spearman(loss[place], scores.good[place]))
            drawn = scores.goodness(scores.draws)[:, place]
            true = noise_free(scores.good[place], drawn, [np.arange(len(place))])
            draws = -spearman(loss[place] + moved[0][:, place], true + moved[1][:, place])
            sizes.setdefault(n, []).append((value, draws))
            rows.append({"dataset": name} | _size_row(scores.table.iloc[place[0]], value, draws, len(place), level))
    if not rows:
        raise Refusal("no size has losses and scores of four methods; train a grid, which measures both")
    labels = {r.n_params_base: r for r in fitted}
    for n, found in sorted(sizes.items()):
        value, draws = np.mean([v for v, _ in found]), np.mean([d for _, d in found], axis=0)
        model = pd.Series({"size": labels[n].size, "n_params_base": n})
        rows.append({"dataset": "mean"} | _size_row(model, float(value), draws, len(found), level))
    return pd.DataFrame(rows)


def _size_row(model: pd.Series, value: float, draws: np.ndarray, n: int, level: float) -> dict:
    lower, upper = with_value(percentile_interval(draws, level), value)
    row = {"size": model["size"], "n_params_base": int(model["n_params_base"]), "value": value}
    return row | {"lower": lower, "upper": upper, "level": level, "n": n}


def _resample_seeds(records: Sequence[RunRecord], scores: ModelScores) -> tuple[np.ndarray, np.ndarray]:
    """Return how losses and goodness of models move when their seeds are resampled, shape (n_draws, n_models) each."""
    rng, shape = np.random.default_rng([0, 3]), scores.draws.shape
    moved = np.zeros(shape), np.zeros(shape)
    runs = {(own[0].n_params_base, own[0].method): own for own in group_models(records).values()}
    for place, row in enumerate(scores.table.itertuples()):
        own = [(r.val_loss, primary_score(r, scores.dataset)) for r in runs[row.n_params_base, row.method]]
        values = np.array([(loss, scores.goodness(np.float64(s.value))) for loss, s in own if s is not None])
        chosen = rng.integers(len(values), size=(shape[0], len(values)))
        means = values[chosen].mean(axis=1) - values.mean(axis=0)
        for kind, column in zip(moved, means.T, strict=True):
            kind[:, place] = column
    return moved
