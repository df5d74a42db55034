"""Does validation loss say how well a model does? Correlation of loss with each score, and a verdict in words.

The correlation over all models mixes two things that move both: size and method. It is therefore also taken among the
methods of one size (what one would choose a method by) and among the sizes of one method.

Near a floor most models score the same, and many resamples of models and problems have one score only, which has no
correlation. To leave these out would keep the resamples that happen to hold the few models and problems that make the
correlation, so that an interval of them can exclude the value itself. Such a resample could be anything: it counts as
-1 towards the lower end and as 1 towards the upper. Where these are more than an end leaves out, the interval is
everything and the correlation is called not estimable.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.special import logit

from astraios_analysis.records.counts import inside_unit_interval
from astraios_analysis.records.frame import RunRecord
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.registry import METRICS, order_datasets
from astraios_analysis.scores.bootstrap import ProblemBootstrap, percentile_interval, primary_measures
from astraios_analysis.scores.models import ModelScores, model_scores, usable_models
from astraios_analysis.scores.ranks import Correlation, correlate_groups, draw_orders, pearson, permutation_p, spearman

SCOPES = {"all": None, "within_size": "n_params_base", "within_method": "method"}
MIN_GROUP = 4
# A model beats a random guess when its score is this many standard errors of a guess above chance.
_ABOVE_CHANCE_ERRORS = 2.0
FOLLOWS, DOES_NOT_FOLLOW, AT_CHANCE = "follows loss", "does not follow loss", "at chance"
HARDLY_VARIES, NOT_ESTIMABLE = "hardly varies", "not estimable"


def correlation_interval(
    loss: np.ndarray, score: np.ndarray, groups: list[np.ndarray], correlation: Correlation, level: float
) -> tuple[float, float, str]:
    """Return the interval of correlations of resampled models, shape (n_draws, n), and how it was made.

    Models are correlated within groups of their places. Where draws without a correlation are many, the interval is -1
    to 1, and its description says that it is not estimable and why.
    """
    low, high = (correlate_groups(correlation, loss, score, groups, unknown=unknown) for unknown in (-1.0, 1.0))
    lower, upper = percentile_interval(low, level)[0], percentile_interval(high, level)[1]
    if lower <= -1 + 1e-9 and upper >= 1 - 1e-9:
        # An unknown group moves the two ends apart by twice its weight.
        share = float(np.mean(high - low)) / 2
        return -1.0, 1.0, f"{NOT_ESTIMABLE}: scores do not differ in {100 * share:.0f} % of resamples"
    return lower, upper, "percentile, bootstrap over models and problems"


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
            lower, upper, interval = correlation_interval(loss[index], resampled, groups, correlation, level)
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
