"""Rank correlation with honest uncertainty, and whether the order of methods at a small size holds at a large one."""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import permutations
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import stats

from astraios_analysis.records.frame import RunRecord
from astraios_analysis.records.refusal import Refusal, attempt
from astraios_analysis.records.registry import LOSS, order_datasets
from astraios_analysis.scores.bootstrap import (
    RESAMPLES,
    ProblemBootstrap,
    percentile_interval,
    primary_measures,
    primary_score,
)
from astraios_analysis.scores.models import ModelScores, model_scores

# Up to eight items all orders are enumerated (40,320); beyond that they are sampled.
MAX_EXACT = 8
N_PERMUTATIONS = 20_000
MIN_METHODS = 4


def spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return Spearman's rho along the last axis (average ranks for ties), NaN where one side is constant."""
    return pearson(stats.rankdata(x, axis=-1), stats.rankdata(y, axis=-1))


def kendall(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return Kendall's tau-b along the last axis, NaN where one side is constant."""
    upper = np.triu_indices(x.shape[-1], k=1)
    sign_x = np.sign(x[..., :, None] - x[..., None, :])[..., upper[0], upper[1]]
    sign_y = np.sign(y[..., :, None] - y[..., None, :])[..., upper[0], upper[1]]
    return _cosine(sign_x, sign_y)


def pearson(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation along the last axis, NaN where one side is constant."""
    return _cosine(x - x.mean(axis=-1, keepdims=True), y - y.mean(axis=-1, keepdims=True))


def _cosine(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    norm = np.sqrt((x**2).sum(axis=-1) * (y**2).sum(axis=-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(norm > 1e-12, (x * y).sum(axis=-1) / norm, np.nan)


Correlation = Callable[[np.ndarray, np.ndarray], np.ndarray]
STATISTICS: dict[str, Correlation] = {"spearman": spearman, "kendall": kendall}


def draw_orders(
    n: int, rng: np.random.Generator
) -> tuple[np.ndarray, Literal["exact permutation", "sampled permutation"]]:
    """Return orders of n items, shape (n_orders, n), and whether these are all there are.

    The observed order is the first: that it is among them is what keeps a p-value from being 0.
    """
    if n <= MAX_EXACT:
        return _all_orders(n), "exact permutation"
    observed = np.arange(n)[None]
    return np.vstack([observed, rng.permuted(observed.repeat(N_PERMUTATIONS, axis=0), axis=1)]), "sampled permutation"


@cache
def _all_orders(n: int) -> np.ndarray:
    return np.array(list(permutations(range(n))))


def over_orders(x: np.ndarray, y: np.ndarray, orders: np.ndarray, statistic: str = "spearman") -> np.ndarray:
    """Correlate x with y in every order, shape (n_orders, n), by a key of `STATISTICS`: ranked once for all of them."""
    correlate = pearson if statistic == "spearman" else STATISTICS[statistic]
    return correlate(stats.rankdata(x), stats.rankdata(y)[orders])


def permutation_p(null: np.ndarray, side: Literal["both", "above", "below"] = "both") -> float:
    """Return the share of statistics, one an order of `draw_orders`, that are as extreme as the observed ``null[0]``.

    ``both`` compares absolute values. NaN, where an order has no correlation, is left out; an observed NaN has no p.
    """
    if np.isnan(null[0]):
        return float("nan")
    known = null[~np.isnan(null)]
    known = {"both": np.abs(known), "above": known, "below": -known}[side]
    return float(np.mean(known >= known[0] - 1e-12))


def rank_correlation(small: np.ndarray, large: np.ndarray, statistic: str) -> tuple[float, float, str]:
    """Correlate the scores of the same methods at two sizes, by a key of `STATISTICS`.

    The two-sided p-value, which stands between the correlation and its kind, is that all orders are equally likely.
    """
    orders, kind = draw_orders(len(small), np.random.default_rng(0))
    null = over_orders(small, large, orders, statistic)
    if np.isnan(null[0]):
        raise Refusal("all methods score the same at one of the sizes; there is no order to compare")
    return float(null[0]), permutation_p(null), kind


# Variance of measured scores where they show none: some 3e-5, far below one problem.
_LEAST_SPREAD = 1e-9
# Standard deviation that parts scores without spread and without noise.
_TIE = 1e-7
# What is integrated over: correlations of true scores, and their variances as shares of those of the measured ones.
_CORRELATIONS, _SHARES = np.linspace(-1, 1, 17), np.array([0.03, 0.2, 0.6, 1.3])
_LEAST_VARIANCE = 1e-9


def noise_free(good: np.ndarray, drawn: np.ndarray, seed: int = 0) -> np.ndarray:
    """Draw what scores would be without noise, given measured ones and draws of them, shape (n_draws, n).

    The places are those of the same methods twice, at one size and at another (or of losses and of scores). True scores
    are normal round their mean; noise has the covariance of the draws. The prior is flat in the correlation of the two
    sides and in the logarithm of their variances: each side shrunk by itself would pull the correlation towards 0, as
    resampled ranks do. 95 % intervals of one correlation cover 93 to 99 % in simulated worlds, of means of five 88 to
    98 % (least where noise is larger than the spread).
    """
    k, known = len(good) // 2, drawn[~np.isnan(drawn).any(axis=1)]
    sides, centre = good.reshape(2, k), np.eye(k) - 1 / k
    spread = np.sqrt(np.maximum(sides.var(axis=1, ddof=1), _LEAST_SPREAD))
    mean, scale = np.repeat(sides.mean(axis=1), k), np.repeat(spread, k)
    both = np.kron(np.eye(2), centre)
    noise = both @ np.cov(known / scale, rowvar=False) @ both if len(known) > 1 else np.zeros((2 * k, 2 * k))
    off = (good - mean) / scale
    rho, first, second = (axis.ravel() for axis in np.meshgrid(_CORRELATIONS, _SHARES, _SHARES, indexing="ij"))
    shared = rho * np.sqrt(first * second)
    between = np.stack([first, shared, shared, second], axis=-1).reshape(-1, 2, 2)
    prior = np.einsum("hij,kl->hikjl", between, centre).reshape(-1, 2 * k, 2 * k)
    values, vectors = np.linalg.eigh(prior + noise)
    at = np.maximum(values, _LEAST_VARIANCE)
    log_weight = -0.5 * (np.log(at) + (off @ vectors) ** 2 / at).sum(axis=1)
    total = np.cumsum(np.exp(log_weight - log_weight.max()))
    chosen = np.searchsorted(total / total[-1], (np.arange(len(drawn)) + 0.5) / len(drawn)).clip(0, len(total) - 1)
    rng = np.random.default_rng(seed)
    used, place = np.unique(rng.permutation(chosen), return_inverse=True)
    kept = np.where(values > _LEAST_VARIANCE, 1 / at, 0.0)[used]
    shrink = prior[used] @ (vectors[used] * kept[:, None, :]) @ vectors[used].swapaxes(1, 2)
    # The symmetric root: signs and order of eigenvectors, which differ between machines, cancel in it.
    values, vectors = np.linalg.eigh(prior[used] - shrink @ prior[used])
    root = (vectors * np.sqrt(np.where(values > _LEAST_VARIANCE, values, 0))[:, None, :]) @ vectors.swapaxes(1, 2)
    normal = rng.standard_normal((len(drawn), 2 * k))
    true = (shrink @ off)[place] + np.einsum("ni,nij->nj", normal, root[place])
    # Scores that nothing tells apart, such as shares of 0, are in an order by chance, and not by how a machine rounds.
    return mean + scale * true + rng.normal(0, _TIE, normal.shape)


def with_value(interval: tuple[float, float], value: float) -> tuple[float, float]:
    """Return an interval, extended to a value where that lies outside: none is shown that excludes its estimate."""
    lower, upper = interval
    return min(lower, value), max(upper, value)


def _measured(records: list[RunRecord], dataset: str, bootstrap: ProblemBootstrap) -> ModelScores:
    """Return the primary scores of the runs that are not held out: a ranking is what a method is chosen by."""
    scores = model_scores([record for record in records if not record.held_out], dataset, bootstrap)
    if scores.table.empty:
        raise Refusal(f"no run that is not held out has {dataset}; choose another data set or add runs")
    return scores


def rank_transfer(
    records: list[RunRecord], dataset: str, *, level: float = 0.95, bootstrap: ProblemBootstrap = RESAMPLES
) -> pd.DataFrame:
    """Correlate the ranking of methods at every smaller size with that at the largest size measured for all of them.

    ``estimate`` (a median) and the interval are of noise-free scores (`noise_free`), the interval extended to the
    observed ``value``. ``ceiling`` is the product, over the two sizes, of the mean correlation between the observed and
    a resampled ranking. If the true order were the same at both sizes, about that much would be seen, and less where
    noise is larger than the differences between methods. ``p_holm`` is corrected over a table's rows of one statistic.
    A smaller size at which all methods score the same has no order and no row.
    """
    scores = _measured(records, dataset, bootstrap)
    places = scores.places
    usable = [n for n, at_size in places.items() if len(at_size) >= MIN_METHODS]
    if len(usable) < 2:
        raise Refusal(
            f"{dataset}: {len(usable)} size(s) have scores of {MIN_METHODS} or more methods; two are needed to compare"
        )
    large, rows = places[usable[-1]], []
    for small in (places[n] for n in usable[:-1]):
        methods = [method for method in small if method in large]
        pair = ([small[method] for method in methods], [large[method] for method in methods])
        if len(methods) >= MIN_METHODS and scores.table["value"].iloc[pair[0]].nunique() > 1:
            rows.extend(_compare(scores, *pair, level))
    if not rows:
        raise Refusal(
            f"{dataset}: no smaller size shares {MIN_METHODS} methods with the largest that differ in score; add runs"
        )
    return _corrected(pd.DataFrame(rows))


def _corrected(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of rank correlations with p-values corrected for the number of those of one statistic."""
    table = table.assign(p_holm=table.groupby("statistic")["p_value"].transform(holm))
    first = list(table).index("p_value") + 1
    return table[[*table.columns[:first], "p_holm", *table.columns[first:-1]]]


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Return Holm's step-down corrected p-values, in the order given (Holm 1979).

    As `statsmodels.stats.multitest.multipletests`, which collects garbage at every call: half of the time of a verdict.
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return corrected


def _compare(scores: ModelScores, small: list[int], large: list[int], level: float) -> list[dict]:
    values, draws, rows = scores.good, scores.draws_of_runs(), []
    both = [*small, *large]
    true = np.split(noise_free(values[both], draws[:, both]), 2, axis=1)
    first = {"small": scores.table.iloc[small[0]], "large": scores.table.iloc[large[0]]}
    for statistic, function in STATISTICS.items():
        value, p_value, p_kind = rank_correlation(values[small], values[large], statistic)
        drawn = function(*true)
        lower, upper = with_value(percentile_interval(drawn, level), value)
        again = [function(values[s], draws[:, s]) for s in (small, large)]
        repeatability = [np.nan if np.isnan(one).all() else np.nanmean(one) for one in again]
        row = {"dataset": scores.dataset, "has_vote": scores.has_vote}
        row |= {f"size_{name}": model["size"] for name, model in first.items()}
        row |= {f"n_params_{name}": int(model["n_params_base"]) for name, model in first.items()}
        row |= {"statistic": statistic, "value": value, "estimate": float(np.nanmedian(drawn))}
        row |= {"lower": lower, "upper": upper, "level": level}
        row |= {"p_value": p_value, "p_kind": p_kind, "n_methods": len(small)}
        row |= {"methods": " ".join(scores.table["method"].iloc[small]), "ceiling": float(np.prod(repeatability))}
        rows.append(row | {"interval": f"of noise-free scores, {scores.interval_of([*small, *large])}"})
    return rows


def rank_methods(
    records: list[RunRecord], dataset: str, *, level: float = 0.95, bootstrap: ProblemBootstrap = RESAMPLES
) -> pd.DataFrame:
    """Rank methods at each measured size, with the probability ``p_best`` that each is the best of those measured.

    ``rank`` 1 is the best; ties share the smaller rank. ``p_best`` is the share of bootstrap resamples of problems in
    which the method is first (a tie is shared equally). With several seeds the variance of their mean is in the draws;
    with one, they say nothing about other training runs. ``has_vote`` is `ModelScores.has_vote`.
    """
    scores = _measured(records, dataset, bootstrap)
    table, values, draws, has_vote = scores.table, scores.good, scores.draws_of_runs(), scores.has_vote
    rows = []
    for n_params, at_size in scores.places.items():
        chosen = list(at_size.values())
        p_best = share_first(draws[:, chosen])
        ranks = stats.rankdata(-values[chosen], method="min").astype(int)
        for (method, place), rank, p in zip(at_size.items(), ranks, p_best, strict=True):
            lower, upper = scores.interval(draws[:, place], level)
            row = {"dataset": dataset, "has_vote": has_vote, "metric": scores.metric, "size": table["size"].iloc[place]}
            row |= {"n_params_base": n_params, "method": method, "rank": int(rank), "value": table["value"].iloc[place]}
            row |= {"lower": lower, "upper": upper, "level": level, "p_best": float(p), "n_methods": len(chosen)}
            rows.append(row | {"n_seeds": int(table["n_seeds"].iloc[place]), "interval": scores.interval_of([place])})
    return pd.DataFrame(rows).sort_values(["n_params_base", "rank"], kind="stable").reset_index(drop=True)


def share_first(draws: np.ndarray) -> np.ndarray:
    """Return the share of draws, shape (n_draws, n), in which each is the largest; NaN where errors are not known."""
    known = draws[~np.isnan(draws).any(axis=1)]
    if not len(known):
        return np.full(draws.shape[1], np.nan)
    is_first = known == known.max(axis=-1, keepdims=True)
    return (is_first / is_first.sum(axis=-1, keepdims=True)).mean(axis=0)


def measured_datasets(records: Sequence[RunRecord], *, loss: bool = False) -> list[str]:
    """Return the data sets on which a run that is not held out has a primary score, in the one order.

    With ``loss`` the validation loss goes before them where it was measured.
    """
    fitted = [record for record in records if not record.held_out]
    has_loss = loss and any(record.val_loss is not None for record in fitted)
    measures = primary_measures(records).items()
    names = [name for name, own in measures if any(primary_score(r, name, own) is not None for r in fitted)]
    return [LOSS] * has_loss + order_datasets(names)


def over_datasets(
    call: Callable[..., pd.DataFrame],
    records: Sequence[RunRecord],
    nothing: str = "",
    *,
    loss: bool = True,
    **ways: Any,
) -> pd.DataFrame:
    """Return what a call says of the loss and every data set, one below the other; those that it refuses are left out.

    Where all are refused, ``nothing`` says why, or else the reasons.
    """
    parts, refused = attempt(measured_datasets(records, loss=loss), lambda name: call(records, name, **ways))
    if not parts:
        reasons = "; ".join(dict.fromkeys(refused.values()))
        raise Refusal(nothing or reasons or "no run has a loss or a primary score; add some")
    return pd.concat(parts.values(), ignore_index=True)


def rank_all(records: list[RunRecord], *, level: float = 0.95, bootstrap: ProblemBootstrap = RESAMPLES) -> pd.DataFrame:
    """Run `rank_methods` for every measured data set, one below the other."""
    names = measured_datasets(records, loss=True)
    if not names:
        raise Refusal("no run has a primary score to rank by; add runs with scores")
    return pd.concat(
        [rank_methods(records, name, level=level, bootstrap=bootstrap) for name in names], ignore_index=True
    )


def transfer_all(
    records: list[RunRecord], *, level: float = 0.95, bootstrap: ProblemBootstrap = RESAMPLES
) -> pd.DataFrame:
    """Run `rank_transfer` for every data set that has two sizes to compare, one below the other."""
    nothing = "no data set has scores of four or more methods at two sizes; add runs"
    found = over_datasets(rank_transfer, records, nothing, level=level, bootstrap=bootstrap)
    return _corrected(found.drop(columns="p_holm"))
