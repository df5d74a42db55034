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

from astraios_analysis.prediction.chain import chance_of, usable_models
from astraios_analysis.records.counts import inside_unit_interval
from astraios_analysis.records.frame import RunRecord
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.registry import DATASETS
from astraios_analysis.scores.bootstrap import ProblemBootstrap, percentile_interval, primary_score
from astraios_analysis.scores.models import ModelScores, model_scores
from astraios_analysis.scores.ranks import spearman

SCOPES = {"all": None, "within_size": "n_params_base", "within_method": "method"}
MIN_GROUP = 4
# A model beats a random guess when its score is this many standard errors of a guess above chance.
_ABOVE_CHANCE_ERRORS = 2.0
FOLLOWS, DOES_NOT_FOLLOW, AT_CHANCE = "follows loss", "does not follow loss", "at chance"
HARDLY_VARIES, NOT_ESTIMABLE = "hardly varies", "not estimable"


def pearson_logit(loss: np.ndarray, goodness: np.ndarray, n_items: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation of loss with the logit of a rate, along the last axis.

    Rates are kept half a problem away from 0 and 1, so that the logit is finite.

    Parameters
    ----------
    loss, goodness, n_items : ndarray, shape (..., n)
    """
    x = loss - loss.mean(axis=-1, keepdims=True)
    y = logit(inside_unit_interval(goodness, n_items))
    y = y - y.mean(axis=-1, keepdims=True)
    norm = np.sqrt((x**2).sum(axis=-1) * (y**2).sum(axis=-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(norm > 1e-12, (x * y).sum(axis=-1) / norm, np.nan)


def _correlate(loss: np.ndarray, goodness: np.ndarray, n_items: np.ndarray, statistic: str) -> np.ndarray:
    if statistic == "spearman":
        return spearman(loss, goodness)
    return pearson_logit(loss, goodness, n_items)


def _grouped(
    loss: np.ndarray,
    goodness: np.ndarray,
    n_items: np.ndarray,
    groups: list[np.ndarray],
    statistic: str,
    unknown: float | None = None,
) -> np.ndarray:
    """Average the correlation over groups of models, weighted by models less one.

    Groups of one loss or one score have no correlation: they drop out, or count as ``unknown``.
    """
    values = np.stack([_correlate(loss[..., g], goodness[..., g], n_items[..., g], statistic) for g in groups], axis=-1)
    weights = np.broadcast_to(np.array([len(g) - 1.0 for g in groups]), values.shape)
    if unknown is None:
        weights = np.where(np.isnan(values), 0.0, weights)
    values = np.nan_to_num(values, nan=unknown or 0.0)
    total = weights.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, (values * weights).sum(axis=-1) / total, np.nan)


def correlation_interval(
    drawn: tuple[np.ndarray, np.ndarray, np.ndarray], groups: list[np.ndarray], statistic: str, level: float
) -> tuple[float, float, str]:
    """Return the interval of resampled correlations, and how it was made.

    Parameters
    ----------
    drawn : tuple of ndarray, each of shape (n_draws, n)
        Loss, goodness and problems of resampled models.
    groups : list of ndarray
        Places of the models that are correlated with one another.
    statistic : {"spearman", "pearson_logit"}
    level : float

    Returns
    -------
    lower, upper : float
        Where draws without a correlation are many, -1 and 1.
    interval : str
        The method, or that the correlation is not estimable and why.
    """
    low, high = (_grouped(*drawn, groups, statistic, unknown=unknown) for unknown in (-1.0, 1.0))
    lower, upper = percentile_interval(low, level)[0], percentile_interval(high, level)[1]
    if lower <= -1 + 1e-9 and upper >= 1 - 1e-9:
        # An unknown group moves the two ends apart by twice its weight.
        share = float(np.mean(high - low)) / 2
        return -1.0, 1.0, f"{NOT_ESTIMABLE}: scores do not differ in {100 * share:.0f} % of resamples"
    return lower, upper, "percentile, bootstrap over models and problems"


def loss_correlation(
    scores: ModelScores, *, level: float = 0.95, n_draws: int = 1000, n_permutations: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Correlate validation loss with one data set's score, with bootstrap intervals over models and problems.

    Parameters
    ----------
    scores : ModelScores
    level : float
    n_draws, n_permutations : int
    seed : int

    Returns
    -------
    DataFrame
        One row for each scope and statistic: ``dataset, metric, scope, statistic, value, lower, upper, level, interval,
        p_value, n_models, n_groups, verdict``. Correlations are with goodness, so that -1 means that less loss always
        comes with a better score, for error rates too. The p-value is two-sided, from permuting scores among all
        models, or within the groups of the scope; groups whose models all score the same have no correlation and are
        not counted. ``interval`` says whether there is one (`correlation_interval`). The verdict is on the data set as
        a whole (`judge`).

    Raises
    ------
    Refusal
        If the scores cannot be related to loss.
    """
    kept = usable_models(scores)
    table = kept.table
    loss, n_items = table["val_loss"].to_numpy(dtype=float), table["n_items"].to_numpy(dtype=float)
    goodness = kept.goodness(table["value"].to_numpy(dtype=float))
    rows = []
    for scope, column in SCOPES.items():
        labels = np.zeros(len(table)) if column is None else table[column].to_numpy()
        groups = [np.flatnonzero(labels == label) for label in dict.fromkeys(labels)]
        groups = [g for g in groups if len(g) >= MIN_GROUP and np.ptp(goodness[g]) > 0 and np.ptp(loss[g]) > 0]
        if not groups:
            continue
        drawn = _resample(kept, groups, n_draws, np.random.default_rng([seed, 1]))
        for statistic in ("spearman", "pearson_logit"):
            value = float(_grouped(loss, goodness, n_items, groups, statistic))
            lower, upper, interval = correlation_interval(drawn, groups, statistic, level)
            shuffled = _permute(groups, len(table), n_permutations, np.random.default_rng([seed, 2]))
            null = _grouped(
                np.broadcast_to(loss, shuffled.shape), goodness[shuffled], n_items[shuffled], groups, statistic
            )
            extreme = np.sum(np.abs(null[~np.isnan(null)]) >= abs(value) - 1e-12)
            found = {"dataset": kept.dataset, "metric": kept.metric, "scope": scope, "statistic": statistic}
            found |= {"value": value, "lower": lower, "upper": upper, "level": level, "interval": interval}
            found |= {"p_value": float((extreme + 1) / (n_permutations + 1)) if not np.isnan(value) else np.nan}
            rows.append(found | {"n_models": sum(map(len, groups)), "n_groups": len(groups)})
    found = pd.DataFrame(rows)
    return found.assign(verdict=judge(kept, found)) if rows else found


def _resample(kept: ModelScores, groups: list[np.ndarray], n_draws: int, rng: np.random.Generator) -> tuple:
    """Resample models within their groups and problems for all of them: loss, goodness and items, (n_draws, n)."""
    index = np.tile(np.arange(len(kept.table)), (n_draws, 1))
    for group in groups:
        index[:, group] = rng.choice(group, (n_draws, len(group)))
    draw = rng.integers(len(kept.draws), size=n_draws)
    goodness = kept.goodness(kept.draws[draw[:, None], index])
    loss, n_items = kept.table["val_loss"].to_numpy(dtype=float), kept.table["n_items"].to_numpy(dtype=float)
    known = ~np.isnan(goodness).any(axis=1)
    if not known.any():
        goodness = kept.goodness(kept.table["value"].to_numpy(dtype=float))[index]
        known = np.ones(n_draws, dtype=bool)
    return loss[index][known], goodness[known], n_items[index][known]


def _permute(groups: list[np.ndarray], n: int, n_permutations: int, rng: np.random.Generator) -> np.ndarray:
    index = np.tile(np.arange(n), (n_permutations, 1))
    for group in groups:
        index[:, group] = rng.permuted(np.tile(group, (n_permutations, 1)), axis=1)
    return index


def is_at_chance(scores: ModelScores) -> bool:
    """Whether no more than one model in ten scores two standard errors above a random guess."""
    p, n = scores.goodness(scores.table["value"].to_numpy(dtype=float)), scores.table["n_items"].to_numpy(dtype=float)
    chance = chance_of(scores)
    error = np.sqrt(np.maximum(chance * (1 - chance), 1 / n) / n)
    return bool(np.mean(p > chance + _ABOVE_CHANCE_ERRORS * error) <= 0.1)


def judge(scores: ModelScores, correlations: pd.DataFrame) -> str:
    """Say whether a data set's score follows loss.

    Returns
    -------
    str
        ``at chance`` where hardly a model beats a random guess; ``hardly varies`` where Spearman's correlation over all
        models is not estimable; ``follows loss`` where it is negative with an interval below 0; ``does not follow
        loss`` otherwise.
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
    """Run `loss_correlation` for every data set of one grid that has losses and scores, one below the other.

    Raises
    ------
    Refusal
        If no data set has both.
    """
    bootstrap = bootstrap or ProblemBootstrap(n_draws=1000)
    parts, refusals = [], []
    for name in DATASETS:
        if all(primary_score(record, name) is None for record in records):
            continue
        try:
            parts.append(loss_correlation(model_scores(records, name, bootstrap), level=level, seed=seed))
        except Refusal as error:
            refusals.append(str(error))
    if not parts:
        raise Refusal("\n".join(refusals) or "no run has a primary score; add runs with scores")
    return pd.concat(parts, ignore_index=True)
