"""Does validation loss say how well a model does? Correlation of loss with each score, and a verdict in words.

The correlation over all models mixes two things that move both: size and method. It is therefore also taken among the
methods of one size (what one would choose a method by) and among the sizes of one method.

Near a floor most models score the same, and many resamples of models and problems have one score only, which has no
correlation. To leave these out would keep the resamples that happen to hold the few models and problems that make the
correlation. Such a resample could be anything: it counts as -1 towards the lower end and as 1 towards the upper. Where
these are more than an end leaves out, the interval is everything and the correlation is called not estimable. Resampled
models are tied with themselves, which pulls a correlation towards 0: intervals are bias-corrected (Efron 1981).
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.special import logit
from scipy.stats import norm

from astraios_analysis.records.counts import inside_unit_interval
from astraios_analysis.records.frame import RunRecord
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.registry import DATASETS, METRICS, order_datasets
from astraios_analysis.scores.bootstrap import (
    ProblemBootstrap,
    percentile_interval,
    primary_measures,
    primary_score,
)
from astraios_analysis.scores.models import ModelScores, group_models, model_scores, usable_models
from astraios_analysis.scores.ranks import (
    Correlation,
    correlate_groups,
    draw_orders,
    noise_free,
    pearson,
    permutation_p,
    spearman,
    with_value,
)

SCOPES = {"all": None, "within_size": "n_params_base", "within_method": "method"}
MIN_GROUP = 4
# A model beats a random guess when its score is this many standard errors of a guess above chance.
_ABOVE_CHANCE_ERRORS = 2.0
FOLLOWS, DOES_NOT_FOLLOW, AT_CHANCE = "follows loss", "does not follow loss", "at chance"
HARDLY_VARIES, NOT_ESTIMABLE = "hardly varies", "not estimable"


def correlation_interval(
    loss: np.ndarray,
    score: np.ndarray,
    groups: list[np.ndarray],
    correlation: Correlation,
    value: float,
    level: float,
) -> tuple[float, float, str]:
    """Return the interval of a correlation from those of resampled models, shape (n_draws, n), and how it was made.

    Models are correlated within groups of their places. Where draws without a correlation are many, the interval is -1
    to 1, and its description says that it is not estimable and why.
    """
    low, high = (correlate_groups(correlation, loss, score, groups, unknown=unknown) for unknown in (-1.0, 1.0))
    lower, upper = percentile_interval(low, level)[0], percentile_interval(high, level)[1]
    if lower <= -1 + 1e-9 and upper >= 1 - 1e-9:
        # An unknown group moves the two ends apart by twice its weight.
        share = float(np.mean(high - low)) / 2
        return -1.0, 1.0, f"{NOT_ESTIMABLE}: scores do not differ in {100 * share:.0f} % of resamples"
    lower, upper = bias_corrected(low, value, level)[0], bias_corrected(high, value, level)[1]
    return lower, upper, "bias-corrected bootstrap over models and problems"


def bias_corrected(draws: np.ndarray, value: float, level: float) -> tuple[float, float]:
    """Return the bias-corrected percentile interval of draws round a value, which it holds in any case."""
    known = draws[~np.isnan(draws)]
    if not known.size or np.isnan(value):
        return float("nan"), float("nan")
    below = np.mean(known < value) + np.mean(known == value) / 2
    bias = norm.ppf(np.clip(below, 1 / len(known), 1 - 1 / len(known)))
    half = norm.ppf((1 + level) / 2)
    lower, upper = np.quantile(known, norm.cdf([2 * bias - half, 2 * bias + half]))
    return with_value((float(lower), float(upper)), value)


def loss_correlation(
    scores: ModelScores, *, level: float = 0.95, n_draws: int = 1000, n_permutations: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Correlate validation loss with one data set's score, by scope and statistic, and judge the data set as a whole.

    Correlations are with goodness, so that -1 means that less loss always comes with a better score, for error rates
    too; Pearson's is with its logit. Intervals resample models and problems. The p-value is two-sided, from permuting
    scores among all models, or within the groups of the scope; groups whose models all score the same have no
    correlation and are not counted.
    """
    kept = usable_models(scores)
    loss, n_items = kept.table["val_loss"].to_numpy(dtype=float), kept.table["n_items"].to_numpy(dtype=float)
    rows = []
    for scope, column in SCOPES.items():
        labels = np.zeros(len(loss)) if column is None else kept.table[column].to_numpy()
        groups = [np.flatnonzero(labels == label) for label in dict.fromkeys(labels)]
        groups = [g for g in groups if len(g) >= MIN_GROUP and np.ptp(kept.good[g]) > 0 and np.ptp(loss[g]) > 0]
        if not groups:
            continue
        index, drawn = _resample(kept, groups, n_draws, np.random.default_rng([seed, 1]))
        orders, _ = draw_orders(len(loss), np.random.default_rng([seed, 2]), n_sampled=n_permutations, groups=groups)
        sides = {
            "spearman": (spearman, kept.good, drawn),
            "pearson_logit": (pearson, _logits(kept.good, n_items), _logits(drawn, n_items[index])),
        }
        for statistic, (correlation, score, resampled) in sides.items():
            null = correlate_groups(correlation, np.broadcast_to(loss, orders.shape), score[orders], groups)
            lower, upper, interval = correlation_interval(
                loss[index], resampled, groups, correlation, float(null[0]), level
            )
            found = {"dataset": kept.dataset, "metric": kept.metric, "scope": scope, "statistic": statistic}
            found |= {"value": float(null[0]), "lower": lower, "upper": upper, "level": level, "interval": interval}
            found |= {"p_value": permutation_p(null), "n_models": sum(map(len, groups)), "n_groups": len(groups)}
            rows.append(found)
    found = pd.DataFrame(rows)
    return found.assign(verdict=judge(kept, found)) if rows else found


def _logits(goodness: np.ndarray, n_items: np.ndarray) -> np.ndarray:
    return logit(inside_unit_interval(goodness, n_items))


def _resample(
    kept: ModelScores, groups: list[np.ndarray], n_draws: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Resample models within their groups and problems for all of them: places and goodness, shape (n_draws, n)."""
    index = np.tile(np.arange(len(kept.table)), (n_draws, 1))
    for group in groups:
        index[:, group] = rng.choice(group, (n_draws, len(group)))
    draw = rng.integers(len(kept.draws), size=n_draws)
    goodness = kept.goodness(kept.draws[draw[:, None], index])
    known = ~np.isnan(goodness).any(axis=1)
    return (index[known], goodness[known]) if known.any() else (index, kept.good[index])


def is_at_chance(scores: ModelScores) -> bool:
    """Whether no more than one model in ten scores two standard errors above a random guess."""
    if not METRICS[scores.metric].is_bounded:
        return False
    n, chance = scores.table["n_items"].to_numpy(dtype=float), scores.chance
    error = np.sqrt(np.maximum(chance * (1 - chance), 1 / n) / n)
    return bool(np.mean(scores.good > chance + _ABOVE_CHANCE_ERRORS * error) <= 0.1)


def judge(scores: ModelScores, correlations: pd.DataFrame) -> str:
    """Say whether a data set's score follows loss.

    ``at chance`` where hardly a model beats a random guess; ``hardly varies`` where Spearman's correlation over all
    models is not estimable; ``follows loss`` where it is negative with an interval below 0.
    """
    if is_at_chance(scores):
        return AT_CHANCE
    overall = correlations[(correlations["scope"] == "all") & (correlations["statistic"] == "spearman")]
    if overall["interval"].str.startswith(NOT_ESTIMABLE).any():
        return HARDLY_VARIES
    return FOLLOWS if len(overall) and float(overall["upper"].iloc[0]) < 0 else DOES_NOT_FOLLOW


def loss_correlations(
    records: Sequence[RunRecord], *, level: float = 0.95, bootstrap: ProblemBootstrap | None = None, seed: int = 0
) -> pd.DataFrame:
    """Run `loss_correlation` for every data set of one grid that has losses and scores, one below the other."""
    bootstrap = bootstrap or ProblemBootstrap(n_draws=1000)
    parts, refusals = [], []
    for name in order_datasets(primary_measures(records)):
        try:
            parts.append(loss_correlation(model_scores(records, name, bootstrap), level=level, seed=seed))
        except Refusal as error:
            refusals.append(str(error))
    if not parts:
        raise Refusal("\n".join(refusals) or "no run has a primary score; add runs with scores")
    return pd.concat(parts, ignore_index=True)


def size_correlations(
    records: Sequence[RunRecord], *, level: float = 0.95, bootstrap: ProblemBootstrap | None = None, seed: int = 0
) -> pd.DataFrame:
    """Correlate less loss with a better score among the methods of each size, for every data set that has a vote.

    1 means that the method with less loss always scores higher. ``value`` is of means over seeds; intervals resample
    problems and, where a model has several, its seeds (loss and score of a run together); ``mean`` is the row over the
    data sets of a size.
    """
    bootstrap = bootstrap or ProblemBootstrap(n_draws=1000)
    fitted = [r for r in records if not r.held_out and r.val_loss is not None]
    rows: list[dict] = []
    sizes: dict[int, list[tuple[float, np.ndarray]]] = {}
    for name, known in DATASETS.items():
        is_own = known.suite in ("published", "embedded") and not known.is_extra
        if not is_own or all(primary_score(record, name) is None for record in fitted):
            continue
        scores = model_scores(fitted, name, bootstrap)
        if not scores.has_vote:
            continue
        loss, moved = scores.table["val_loss"].to_numpy(dtype=float), _resample_seeds(fitted, scores, seed)
        for n, at in scores.places.items():
            place = list(at.values())
            if len(place) < MIN_GROUP or np.ptp(loss[place]) < 1e-12 or np.ptp(scores.good[place]) < 1e-12:
                continue
            value = -float(spearman(loss[place], scores.good[place]))
            drawn = scores.goodness(scores.draws)[:, place]
            true = noise_free(scores.good[place], drawn, [np.arange(len(place))], seed)
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


def _resample_seeds(records: Sequence[RunRecord], scores: ModelScores, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return how losses and goodness of models move when their seeds are resampled, shape (n_draws, n_models) each."""
    rng, shape = np.random.default_rng([seed, 3]), scores.draws.shape
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
