"""Scores with their uncertainty: bootstrap over problems, interval for every score, mean performance.

The 20 samples of one problem are not independent, and all models answer the same problems. So problems are resampled,
not samples, and one resample of problems serves every model and every data set built on them: differences between
models, means over data sets and ranks then carry the right covariance.
"""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import comb

import numpy as np
import pandas as pd

from astraios_analysis.records.frame import ProblemCounts, RunRecord, Score, to_frame
from astraios_analysis.records.registry import DATASETS, METRICS, SECOND_FILE, STUDY_DATASETS
from astraios_analysis.records.released import ALL_TRANSFORMATIONS, NOMINAL

PROBLEM_BOOTSTRAP = "bootstrap over problems"
BOOTSTRAP_ERROR = "normal, bootstrap standard error"
BINOMIAL_ERROR = "normal, binomial standard error"
NO_INTERVAL = "none"

_CATEGORY_SETTINGS = (NOMINAL, ALL_TRANSFORMATIONS, "mean_over_transformations")


def pass_at_k(n_samples: np.ndarray, n_passed: np.ndarray, k: int) -> np.ndarray:
    """Return the unbiased estimate, problem by problem, that one of ``k`` samples passes.

    ``1 - C(n - c, k) / C(n, k)`` for ``c`` passes of ``n`` samples (Chen et al. 2021, equation 1).

    Parameters
    ----------
    n_samples, n_passed : ndarray of int, shape (n_problems,)
    k : int

    Raises
    ------
    ValueError
        If a problem has fewer than ``k`` samples.
    """
    if np.any(n_samples < k):
        raise ValueError(f"pass@{k} needs at least {k} samples a problem; the smallest has {int(n_samples.min())}")
    return np.array([1 - comb(int(n - c), k) / comb(int(n), k) for n, c in zip(n_samples, n_passed, strict=True)])


def problem_statistics(record: RunRecord, score: Score) -> np.ndarray | None:
    """Return the per-problem quantities whose means give a score.

    Returns
    -------
    ndarray, shape (k, n_problems), or None
        One row for a plain mean; rows (nominal, robust) for the relative drop. None where the record has no counts that
        determine the score.
    """
    if score.setting == "mean_over_transformations":
        return _mean_over_transformations(record, score)
    counts = score.problems or record.problem_counts(*score.key[:3])
    if counts is None:
        return None
    n, passed = np.array(counts.n_samples), np.array(counts.n_passed)
    if score.problems is not None:
        return (passed / n)[None]
    if score.metric == "pass@10":
        return pass_at_k(n, passed, 10)[None] if n.min() >= 10 else None
    robust = (passed == n).astype(float)
    if score.metric == "robust_pass@1":
        return robust[None]
    nominal = _nominal(record, score, counts)
    if nominal is None:
        return None
    if score.metric == "robust_drop@1":
        return np.stack([nominal, robust])
    if score.metric == "robust_relative@1":
        return np.where(nominal == 1, robust == 0, passed > 0).astype(float)[None]
    return None


def _nominal(record: RunRecord, score: Score, counts: ProblemCounts) -> np.ndarray | None:
    nominal = record.problem_counts(score.dataset, score.language, NOMINAL)
    if nominal is None or nominal.problem_ids != counts.problem_ids:
        return None
    return np.array(nominal.n_passed) / np.array(nominal.n_samples)


def _mean_over_transformations(record: RunRecord, score: Score) -> np.ndarray | None:
    """Average a per-transformation metric over a category's transformations, each with weight one."""
    parts = [
        problem_statistics(record, other)
        for other in record.scores
        if (other.dataset, other.language, other.metric) == (score.dataset, score.language, score.metric)
        and other.setting not in _CATEGORY_SETTINGS
        and SECOND_FILE not in other.setting
    ]
    known = [part for part in parts if part is not None]
    return np.mean(known, axis=0) if known and len(known) == len(parts) else None


def combine(metric: str, means: np.ndarray) -> np.ndarray:
    """Turn means of per-problem quantities into scores.

    Parameters
    ----------
    metric : str
        Key of `METRICS`.
    means : ndarray, shape (..., k)
        Means of the rows of `problem_statistics`.

    Returns
    -------
    ndarray, shape (...)
        The score; NaN where a relative drop has no nominal pass to drop from.
    """
    if metric != "robust_drop@1":
        return means[..., 0]
    nominal, robust = means[..., 0], means[..., 1]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(nominal > 0, 1 - robust / nominal, np.nan)


@dataclass
class ProblemBootstrap:
    """Resamples of problems, one stream for each pool of problems.

    Attributes
    ----------
    n_draws : int
        Number of resamples.
    seed : int
        Fixes every resample; the stream of a pool does not depend on which other pools are drawn.
    """

    n_draws: int = 2000
    seed: int = 0
    _weights: dict[tuple[str, int], np.ndarray] = field(default_factory=dict, repr=False)

    def weights(self, pool: str, n_problems: int) -> np.ndarray:
        """Return resampling weights, shape (n_draws, n_problems); each row adds up to one."""
        key = (pool, n_problems)
        if key not in self._weights:
            rng = np.random.default_rng([self.seed, zlib.crc32(pool.encode()), n_problems])
            times = rng.multinomial(n_problems, np.full(n_problems, 1 / n_problems), size=self.n_draws)
            self._weights[key] = times / n_problems
        return self._weights[key]

    def draws(self, record: RunRecord, score: Score) -> tuple[np.ndarray, str]:
        """Return bootstrap draws of a score, shape (n_draws,), and the name of the interval they make.

        With per-problem counts, problems are resampled. Without, draws are normal around the value: with the
        bootstrap standard error that came with it, or for a digitised accuracy the binomial standard error and the
        reading error in quadrature, independent between models. Where neither is known, draws are NaN.
        """
        statistics = problem_statistics(record, score)
        if statistics is not None:
            means = self.weights(problem_pool(score.dataset), statistics.shape[1]) @ statistics.T
            return combine(score.metric, means), PROBLEM_BOOTSTRAP
        error, kind = _standard_error(score)
        if error is None:
            return np.full(self.n_draws, np.nan), NO_INTERVAL
        name = "/".join((record.run_id, *score.key))
        rng = np.random.default_rng([self.seed, zlib.crc32(name.encode())])
        metric = METRICS[score.metric]
        return np.clip(score.value + error * rng.standard_normal(self.n_draws), metric.lower, metric.upper), kind


def problem_pool(dataset: str) -> str:
    """Return the pool of problems a data set draws on; an unknown data set has its own."""
    return DATASETS[dataset].problems if dataset in DATASETS else dataset


def _standard_error(score: Score) -> tuple[float | None, str]:
    if score.stderr is not None:
        return score.stderr, BOOTSTRAP_ERROR
    if score.metric == "accuracy" and score.n_items is not None:
        # Half an item is added to both answers: an accuracy of exactly 0 is not known without error.
        share = (score.value * score.n_items + 0.5) / (score.n_items + 1)
        variance = share * (1 - share) / score.n_items + (score.reading_error or 0.0) ** 2
        suffix = " and reading error" if score.reading_error is not None else ""
        return variance**0.5, BINOMIAL_ERROR + suffix
    return None, NO_INTERVAL


def percentile_interval(draws: np.ndarray, level: float) -> tuple[float, float]:
    """Return the central interval of draws that are not NaN; (NaN, NaN) where there are none."""
    if not 0 < level < 1:
        raise ValueError(f"level is {level:g}; give a share between 0 and 1, such as 0.95")
    known = draws[~np.isnan(draws)]
    if known.size == 0:
        return float("nan"), float("nan")
    lower, upper = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(lower), float(upper)


def score_intervals(
    records: Iterable[RunRecord], *, level: float = 0.95, bootstrap: ProblemBootstrap | None = None
) -> pd.DataFrame:
    """Return the tidy table of scores with an interval for each.

    Parameters
    ----------
    records : iterable of RunRecord
    level : float
        Coverage the intervals aim at, in (0, 1).
    bootstrap : ProblemBootstrap, optional
        Number of resamples and seed.

    Returns
    -------
    DataFrame
        `to_frame` with ``lower``, ``upper``, ``level`` and ``interval`` (how it was made). An interval covers the
        choice of problems; it does not cover the variance between training runs, of which released models have one.
    """
    records = list(records)
    bootstrap = bootstrap or ProblemBootstrap()
    rows = []
    for record in records:
        for score in record.scores:
            draws, kind = bootstrap.draws(record, score)
            lower, upper = percentile_interval(draws, level)
            rows.append((record.run_id, *score.key, lower, upper, level, kind))
    columns = ["run_id", "dataset", "language", "setting", "metric", "lower", "upper", "level", "interval"]
    intervals = pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(("lower", "upper", "level"), float))
    return to_frame(records).merge(intervals, how="left", validate="one_to_one")


def primary_score(record: RunRecord, dataset: str) -> Score | None:
    """Return a run's score on a data set's primary metric and setting, or None if it was not measured."""
    known = DATASETS.get(dataset)
    wanted = known and (dataset, known.primary_metric, known.primary_setting)
    return next((s for s in record.scores if (s.dataset, s.metric, s.setting) == wanted), None)


def primary_frame(scores: pd.DataFrame) -> pd.DataFrame:
    """Keep the rows of a table of scores that are a data set's primary metric and setting."""
    primary = {(d.name, d.primary_metric, d.primary_setting) for d in DATASETS.values()}
    keys = zip(scores["dataset"], scores["metric"], scores["setting"], strict=True)
    # An array, because an empty list would select columns.
    return scores[np.array([key in primary for key in keys], dtype=bool)].reset_index(drop=True)


def shared_datasets(records: Sequence[RunRecord], datasets: Sequence[str] = STUDY_DATASETS) -> list[str]:
    """Return the data sets whose primary score every one of these runs has."""
    return [name for name in datasets if all(primary_score(record, name) is not None for record in records)]


def mean_performance(
    records: Sequence[RunRecord],
    datasets: Sequence[str],
    *,
    level: float = 0.95,
    bootstrap: ProblemBootstrap | None = None,
) -> pd.DataFrame:
    """Average each run's primary scores over data sets that all runs share.

    Parameters
    ----------
    records : sequence of RunRecord
        Every one must have a primary score on every data set.
    datasets : sequence of str
        At least one; each enters with weight one.

    Returns
    -------
    DataFrame
        ``size, method, n_params_base, value, lower, upper, level, interval, n_datasets, datasets``, one row a run.

    Raises
    ------
    ValueError
        If there is no run or no data set, a run lacks one of them, or the data sets are of two suites.
    """
    if not datasets or not records:
        raise ValueError("a mean needs runs and a data set that all of them share; choose fewer runs or more data sets")
    if len({DATASETS[name].suite for name in datasets if name in DATASETS}) > 1:
        raise ValueError(
            f"{', '.join(datasets)} are of two suites, whose scores share no mean; choose data sets of one"
        )
    bootstrap = bootstrap or ProblemBootstrap()
    rows = []
    for record in records:
        found = {name: primary_score(record, name) for name in datasets}
        missing = [name for name, score in found.items() if score is None]
        if missing:
            raise ValueError(
                f"{record.run_id} has no primary score on {', '.join(missing)}; leave the run or the set out"
            )
        scores = [score for score in found.values() if score is not None]
        draws, kinds = mean_draws(record, scores, bootstrap)
        lower, upper = percentile_interval(draws, level)
        rows.append(
            {
                "grid": record.grid,
                "run_id": record.run_id,
                "size": record.size,
                "method": record.method,
                "n_params_base": record.n_params_base,
                "value": float(np.mean([score.value for score in scores])),
                "lower": lower,
                "upper": upper,
                "level": level,
                "interval": kinds,
                "n_datasets": len(datasets),
                "datasets": " ".join(datasets),
            }
        )
    return pd.DataFrame(rows)


def mean_draws(record: RunRecord, scores: Sequence[Score], bootstrap: ProblemBootstrap) -> tuple[np.ndarray, str]:
    """Return draws of the mean of a run's scores, shape (n_draws,), and how they were made."""
    draws, kinds = zip(*(bootstrap.draws(record, score) for score in scores), strict=True)
    return np.mean(draws, axis=0), "; ".join(dict.fromkeys(kinds))
