"""Does the order of methods at a small size hold at a large one? Rank correlation with honest uncertainty."""

from dataclasses import dataclass
from itertools import permutations

import numpy as np
import pandas as pd
from scipy import stats

from astraios_analysis.records.frame import RunRecord
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.registry import DATASETS
from astraios_analysis.scores.bootstrap import ProblemBootstrap, percentile_interval, primary_score
from astraios_analysis.scores.models import ModelScores, model_scores

# Up to eight methods all orders are enumerated (40,320); beyond that they are sampled.
MAX_EXACT = 8
N_PERMUTATIONS = 20_000
MIN_METHODS = 4


@dataclass(frozen=True)
class RankCorrelation:
    """A rank correlation with its permutation p-value.

    Attributes
    ----------
    statistic : {"spearman", "kendall"}
    value : float
        Spearman's rho or Kendall's tau-b, in [-1, 1].
    p_value : float
        Two-sided: share of orders whose statistic is at least as far from 0.
    p_kind : {"exact permutation", "sampled permutation"}
    n_methods : int
    """

    statistic: str
    value: float
    p_value: float
    p_kind: str
    n_methods: int


def spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return Spearman's rho along the last axis (average ranks for ties), NaN where one side is constant.

    Parameters
    ----------
    x, y : ndarray, shape (..., n)
    """
    rank_x, rank_y = stats.rankdata(x, axis=-1), stats.rankdata(y, axis=-1)
    return _correlation(rank_x - rank_x.mean(axis=-1, keepdims=True), rank_y - rank_y.mean(axis=-1, keepdims=True))


def kendall(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return Kendall's tau-b along the last axis, NaN where one side is constant.

    Parameters
    ----------
    x, y : ndarray, shape (..., n)
    """
    upper = np.triu_indices(x.shape[-1], k=1)
    sign_x = np.sign(x[..., :, None] - x[..., None, :])[..., upper[0], upper[1]]
    sign_y = np.sign(y[..., :, None] - y[..., None, :])[..., upper[0], upper[1]]
    return _correlation(sign_x, sign_y)


def _correlation(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    norm = np.sqrt((x**2).sum(axis=-1) * (y**2).sum(axis=-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(norm > 0, (x * y).sum(axis=-1) / norm, np.nan)


STATISTICS = {"spearman": spearman, "kendall": kendall}


def rank_correlation(small: np.ndarray, large: np.ndarray, statistic: str, seed: int = 0) -> RankCorrelation:
    """Correlate two rankings of the same methods and test against all orders being equally likely.

    Parameters
    ----------
    small, large : ndarray, shape (n_methods,)
        Scores of the methods at the two sizes.
    statistic : {"spearman", "kendall"}
    seed : int
        For more than eight methods, whose orders are sampled.

    Raises
    ------
    Refusal
        If there are fewer than four methods, or all scores at one size are equal.
    """
    small, large = np.asarray(small, dtype=float), np.asarray(large, dtype=float)
    n = len(small)
    if n < MIN_METHODS:
        raise Refusal(f"{n} methods have scores at both sizes; a rank correlation needs at least {MIN_METHODS}")
    value = float(STATISTICS[statistic](small, large))
    if np.isnan(value):
        raise Refusal("all methods score the same at one of the sizes; there is no order to compare")
    if n <= MAX_EXACT:
        orders, kind = np.array(list(permutations(range(n)))), "exact permutation"
    else:
        rng = np.random.default_rng(seed)
        orders, kind = rng.permuted(np.tile(np.arange(n), (N_PERMUTATIONS, 1)), axis=1), "sampled permutation"
    null = STATISTICS[statistic](np.broadcast_to(small, orders.shape), large[orders])
    at_least = np.abs(null) >= abs(value) - 1e-12
    p = at_least.mean() if n <= MAX_EXACT else (at_least.sum() + 1) / (len(orders) + 1)
    return RankCorrelation(statistic, value, float(p), kind, n)


def _by_size(scores: ModelScores) -> dict[int, dict[str, int]]:
    """Return the places of models by base size and method, sizes in increasing order."""
    places: dict[int, dict[str, int]] = {}
    for place, row in enumerate(scores.table.itertuples()):
        places.setdefault(row.n_params_base, {})[row.method] = place
    return places


def _measured(records: list[RunRecord], dataset: str, bootstrap: ProblemBootstrap | None) -> ModelScores:
    """Return the primary scores of the runs that are not held out: a ranking is what a method is chosen by."""
    _require_primary(dataset)
    try:
        scores = model_scores([record for record in records if not record.held_out], dataset, bootstrap)
    except ValueError as error:
        raise Refusal(str(error)) from error
    if scores.table.empty:
        raise Refusal(f"no run has a primary score on {dataset}; choose another data set or add runs")
    return scores


def rank_transfer(
    records: list[RunRecord], dataset: str, *, level: float = 0.95, bootstrap: ProblemBootstrap | None = None
) -> pd.DataFrame:
    """Correlate the ranking of methods at every smaller size with that at the largest size measured for all of them.

    Parameters
    ----------
    records : list of RunRecord
        Runs of one grid; several seeds of a size and method are replicates, of which the mean is ranked.
    dataset : str
        A data set with a primary score.
    level : float
        Coverage of the bootstrap intervals.
    bootstrap : ProblemBootstrap, optional
        Resamples; problems are resampled jointly for all methods and both sizes.

    Returns
    -------
    DataFrame
        One row for each smaller size and statistic: ``dataset, size_small, size_large, n_params_small,
        n_params_large, statistic, value, lower, upper, level, p_value, p_kind, n_methods, methods, ceiling,
        interval``.

    Notes
    -----
    The percentile interval says how much the observed correlation depends on which problems were asked. It is not a
    confidence interval for the order of noise-free scores: noise in ranks pulls every resample towards 0. ``ceiling``
    shows how much: the product, over the two sizes, of the mean correlation between the observed and a resampled
    ranking. If the true order were the same at both sizes, about that much would be seen, and less where noise is
    larger than the differences between methods. Runs of held-out sizes take no part. A smaller size at which all
    methods score the same has no order and no row.

    Raises
    ------
    Refusal
        If no two sizes share four methods.
    """
    scores = _measured(records, dataset, bootstrap)
    places = _by_size(scores)
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
    return pd.DataFrame(rows)


def _require_primary(dataset: str) -> None:
    if dataset not in DATASETS or DATASETS[dataset].primary_metric is None:
        known = ", ".join(d.name for d in DATASETS.values() if d.primary_metric)
        raise Refusal(f"unknown data set {dataset!r}; choose from {known}")


def _compare(scores: ModelScores, small: list[int], large: list[int], level: float) -> list[dict]:
    table, values, draws = scores.table, scores.goodness(scores.table["value"].to_numpy()), scores.draws_of_runs()
    rows = []
    for statistic, function in STATISTICS.items():
        found = rank_correlation(values[small], values[large], statistic)
        lower, upper = percentile_interval(function(draws[:, small], draws[:, large]), level)
        repeatability = [
            np.nanmean(function(np.broadcast_to(values[side], draws[:, side].shape), draws[:, side]))
            for side in (small, large)
        ]
        rows.append(
            {
                "dataset": scores.dataset,
                "size_small": table["size"].iloc[small[0]],
                "size_large": table["size"].iloc[large[0]],
                "n_params_small": int(table["n_params_base"].iloc[small[0]]),
                "n_params_large": int(table["n_params_base"].iloc[large[0]]),
                "statistic": statistic,
                "value": found.value,
                "lower": lower,
                "upper": upper,
                "level": level,
                "p_value": found.p_value,
                "p_kind": found.p_kind,
                "n_methods": found.n_methods,
                "methods": " ".join(table["method"].iloc[small]),
                "ceiling": float(np.prod(repeatability)),
                "interval": f"percentile, {scores.interval_of([*small, *large])}",
            }
        )
    return rows


def rank_methods(
    records: list[RunRecord], dataset: str, *, level: float = 0.95, bootstrap: ProblemBootstrap | None = None
) -> pd.DataFrame:
    """Rank methods at each measured size, with the probability that each is the best of those measured there.

    Returns
    -------
    DataFrame
        ``dataset, metric, size, n_params_base, method, rank, value, lower, upper, level, p_best, n_methods, n_seeds,
        interval``. ``rank`` 1 is the best; ties share the smaller rank. ``p_best`` is the share of bootstrap resamples
        of problems in which the method is first (a tie is shared equally). With several seeds the variance of their
        mean is in the draws; with one, they say nothing about other training runs.

    Raises
    ------
    Refusal
        If the data set is unknown or not measured.
    """
    scores = _measured(records, dataset, bootstrap)
    table, values, draws = scores.table, scores.goodness(scores.table["value"].to_numpy()), scores.draws_of_runs()
    rows = []
    for n_params, at_size in _by_size(scores).items():
        chosen = list(at_size.values())
        is_first = draws[:, chosen] == draws[:, chosen].max(axis=-1, keepdims=True)
        p_best = (is_first / is_first.sum(axis=-1, keepdims=True)).mean(axis=0)
        ranks = stats.rankdata(-values[chosen], method="min").astype(int)
        for position, (method, place) in enumerate(at_size.items()):
            bounds = percentile_interval(draws[:, place], level)
            lower, upper = sorted(float(scores.goodness(np.float64(bound))) for bound in bounds)
            rows.append(
                {
                    "dataset": dataset,
                    "metric": scores.metric,
                    "size": table["size"].iloc[place],
                    "n_params_base": n_params,
                    "method": method,
                    "rank": int(ranks[position]),
                    "value": table["value"].iloc[place],
                    "lower": lower,
                    "upper": upper,
                    "level": level,
                    "p_best": float(p_best[position]),
                    "n_methods": len(chosen),
                    "n_seeds": int(table["n_seeds"].iloc[place]),
                    "interval": scores.interval_of([place]),
                }
            )
    return pd.DataFrame(rows).sort_values(["n_params_base", "rank"], kind="stable").reset_index(drop=True)


def measured_datasets(records: list[RunRecord]) -> list[str]:
    """Return the data sets on which a run that is not held out has a primary score, in the order of `DATASETS`."""
    fitted = [record for record in records if not record.held_out]
    return [name for name in DATASETS if any(primary_score(record, name) is not None for record in fitted)]


def rank_all(
    records: list[RunRecord], *, level: float = 0.95, bootstrap: ProblemBootstrap | None = None
) -> pd.DataFrame:
    """Run `rank_methods` for every measured data set, one below the other."""
    bootstrap = bootstrap or ProblemBootstrap()
    parts = [rank_methods(records, name, level=level, bootstrap=bootstrap) for name in measured_datasets(records)]
    if not parts:
        raise Refusal("no run has a primary score to rank by; add runs with scores")
    return pd.concat(parts, ignore_index=True)


def transfer_all(
    records: list[RunRecord], *, level: float = 0.95, bootstrap: ProblemBootstrap | None = None
) -> pd.DataFrame:
    """Run `rank_transfer` for every data set that has two sizes to compare, one below the other."""
    bootstrap = bootstrap or ProblemBootstrap()
    parts = []
    for name in measured_datasets(records):
        try:
            parts.append(rank_transfer(records, name, level=level, bootstrap=bootstrap))
        except Refusal:
            continue
    if not parts:
        raise Refusal("no data set has scores of four or more methods at two sizes; add runs")
    return pd.concat(parts, ignore_index=True)
