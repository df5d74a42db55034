"""The uncertainty of scores: bootstrap over problems.

The 20 samples of one problem are not independent, and all models answer the same problems. So problems are resampled,
not samples, and one resample of problems serves every model and every data set built on them: differences between
models, means over data sets and ranks then carry the right covariance.
"""

import zlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

import numpy as np
import pandas as pd

from astraios_analysis.records.counts import pass_at_k, robust_drop, robust_pass, robust_relative
from astraios_analysis.records.frame import ProblemCounts, RunRecord, Score
from astraios_analysis.records.refusal import require_level
from astraios_analysis.records.registry import (
    ALL_TRANSFORMATIONS,
    DATASETS,
    LOSS,
    LOSS_METRIC,
    METRICS,
    NOMINAL,
    SECOND_FILE,
    DataSet,
    find_dataset,
)

PROBLEM_BOOTSTRAP = "bootstrap over problems"
BOOTSTRAP_ERROR = "normal, bootstrap standard error"
BINOMIAL_ERROR = "normal, binomial standard error"
TOKEN_ERROR = "normal, standard error over validation tokens"
NO_INTERVAL = "none"

_CATEGORY_SETTINGS = (NOMINAL, ALL_TRANSFORMATIONS, "mean_over_transformations")


def problem_statistics(record: RunRecord, score: Score) -> np.ndarray | None:
    """Return per-problem quantities whose means give a score (`combine`), shape (k, n_problems).

    One row for a plain mean; rows (nominal, robust) for the relative drop and (insecure, valid) for the insecure rate.
    None where the record has no counts that determine the score.
    """
    if score.setting == "mean_over_transformations":
        return _mean_over_transformations(record, score)
    counts = score.problems or record.problem_counts(*score.key[:3])
    if counts is None:
        return None
    n, passed = np.array(counts.n_samples), np.array(counts.n_passed)
    if score.metric == "insecure_rate":
        return np.stack([passed, n])
    if score.problems is not None:
        return (passed / n)[None]
    if score.metric == "pass@10":
        return pass_at_k(n, passed, 10)[None] if n.min() >= 10 else None
    if score.metric == "robust_pass@1":
        return robust_pass(passed, n)[None]
    nominal = _nominal(record, score, counts)
    if nominal is None:
        return None
    if score.metric == "robust_drop@1":
        return np.stack([nominal, robust_pass(passed, n)])
    if score.metric == "robust_relative@1":
        return robust_relative(passed, n, nominal)[None]
    return None


def _nominal(record: RunRecord, score: Score, counts: ProblemCounts) -> np.ndarray | None:
    """Return the pass rates of the unchanged prompts, where they are of the same problems."""
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
    """Turn means of the rows of `problem_statistics`, shape (..., k), into scores, shape (...)."""
    if metric == "robust_drop@1":
        return robust_drop(means[..., 0], means[..., 1])
    if metric == "insecure_rate":
        with np.errstate(invalid="ignore", divide="ignore"):
            return means[..., 0] / means[..., 1]
    return means[..., 0]


# Of security every run has its own number of valid programs.
@lru_cache(maxsize=128)
def _weights(n_draws: int, seed: int, pool: str, n_problems: int) -> np.ndarray:
    rng = np.random.default_rng([seed, zlib.crc32(pool.encode()), n_problems])
    return rng.multinomial(n_problems, np.full(n_problems, 1 / n_problems), size=n_draws) / n_problems


@dataclass(frozen=True)
class ProblemBootstrap:
    """Resamples of problems, one stream for each pool of problems, whichever other pools are drawn."""

    n_draws: int = 2000
    seed: int = 0

    def weights(self, pool: str, n_problems: int) -> np.ndarray:
        """Return resampling weights, shape (n_draws, n_problems); each row adds up to one."""
        return _weights(self.n_draws, self.seed, pool, n_problems)

    def draws(self, scored: Sequence[tuple[RunRecord, Score]]) -> list[tuple[np.ndarray, str]]:
        """Return bootstrap draws of each run's score, shape (n_draws,), and the name of the interval they make.

        With per-problem counts, problems are resampled, those of one pool together. Without, draws are normal around
        the value, independent between models: with the standard error that came with it, or for an accuracy the
        binomial one and the reading error in quadrature. Seeds of a model share what they are measured on, so that
        these errors do not average out over them. Where no error is known, draws are NaN.
        """
        if self.n_draws == 0:
            return [(np.empty(0), NO_INTERVAL)] * len(scored)
        found: dict[int, tuple[np.ndarray, str]] = {}
        pools: dict[tuple[str, int], dict[int, np.ndarray]] = {}
        for place, (record, score) in enumerate(scored):
            statistics = problem_statistics(record, score)
            if statistics is None:
                found[place] = self._normal_draws(record, score)
            else:
                pool = (find_dataset(score.dataset).problems, statistics.shape[1])
                pools.setdefault(pool, {})[place] = statistics
        for pool, own in pools.items():
            means = self.weights(*pool) @ np.concatenate(list(own.values())).T
            ends = np.cumsum([len(statistics) for statistics in own.values()])
            for place, part in zip(own, np.split(means, ends[:-1], axis=1), strict=True):
                found[place] = combine(scored[place][1].metric, part), PROBLEM_BOOTSTRAP
        return [found[place] for place in range(len(scored))]

    def _normal_draws(self, record: RunRecord, score: Score) -> tuple[np.ndarray, str]:
        error, kind = _standard_error(score)
        if error is None:
            return np.full(self.n_draws, np.nan), NO_INTERVAL
        run = record.run_id if record.seed is None else f"{record.size} {record.method}"
        name = "/".join((run, *score.key))
        rng = np.random.default_rng([self.seed, zlib.crc32(name.encode())])
        metric = METRICS[score.metric]
        return np.clip(score.value + error * rng.standard_normal(self.n_draws), metric.lower, metric.upper), kind

    def mean_draws(self, groups: Sequence[Sequence[tuple[RunRecord, Score]]]) -> list[tuple[np.ndarray, str]]:
        """Return draws of the mean of each group of scores, of runs or data sets, and how they were made."""
        drawn, found = iter(self.draws([pair for group in groups for pair in group])), []
        for group in groups:
            own, kinds = zip(*islice(drawn, len(group)), strict=True)
            found.append((np.mean(own, axis=0), "; ".join(dict.fromkeys(kinds))))
        return found


RESAMPLES = ProblemBootstrap()
NO_RESAMPLES = ProblemBootstrap(n_draws=0)
"""Where averages alone are asked for, and no interval."""


def _standard_error(score: Score) -> tuple[float | None, str]:
    if score.stderr is not None:
        return score.stderr, TOKEN_ERROR if score.dataset == LOSS else BOOTSTRAP_ERROR
    if score.metric == "accuracy" and score.n_items is not None:
        # Half an item is added to both answers: an accuracy of exactly 0 is not known without error.
        share = (score.value * score.n_items + 0.5) / (score.n_items + 1)
        variance = share * (1 - share) / score.n_items + (score.reading_error or 0.0) ** 2
        suffix = " and reading error" if score.reading_error is not None else ""
        return variance**0.5, BINOMIAL_ERROR + suffix
    return None, NO_INTERVAL


def percentile_interval(draws: np.ndarray, level: float) -> tuple[float, float]:
    """Return the central interval of draws that are not NaN; (NaN, NaN) where there are none."""
    require_level(level)
    known = draws[~np.isnan(draws)]
    if known.size == 0:
        return float("nan"), float("nan")
    lower, upper = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(lower), float(upper)


def find_score(record: RunRecord, dataset: str, metric: str | None, setting: str | None) -> Score | None:
    """Return a run's score on a data set by one metric and setting, or None if it was not measured."""
    if dataset == LOSS:
        return _loss_score(record)
    for score in record.scores:
        if score.dataset == dataset and score.metric == metric and score.setting == setting:
            return score
    return None


Measure = tuple[str, str]
"""A metric and a setting."""


def primary_measures(records: Iterable[RunRecord]) -> dict[str, Measure]:
    """Return the metric and setting that stand for each data set that runs have scores on.

    Those of the study are in the registry. Of any other it is what was declared, and else the one that most runs have;
    ties go to the first metric of the registry and the shortest setting. Data sets without one are left out.
    """
    return _primary_measures((r.run_id, s.dataset, s.metric, s.setting) for r in records for s in r.scores)


def _primary_measures(keys: Iterable[tuple[str, str, str, str]]) -> dict[str, Measure]:
    runs: dict[str, dict[Measure, set[str]]] = {}
    for run_id, dataset, metric, setting in keys:
        runs.setdefault(dataset, {}).setdefault((metric, setting), set()).add(run_id)
    found = {name: _chosen(find_dataset(name), measures) for name, measures in runs.items()}
    return {name: measure for name, measure in found.items() if measure is not None}


def _chosen(known: DataSet, measures: dict[Measure, set[str]]) -> Measure | None:
    if known.name in DATASETS:
        return (known.primary_metric, known.primary_setting or "") if known.primary_metric else None
    fitting = [
        (metric, setting)
        for metric, setting in measures
        if METRICS[metric].higher_is_better is not None and SECOND_FILE not in setting
        if known.primary_metric in (None, metric) and known.primary_setting in (None, setting)
    ]
    place = list(METRICS).index
    order = sorted(fitting, key=lambda m: (-len(measures[m]), place(m[0]), len(m[1]), m[1]))
    return order[0] if order else None


def primary_score(record: RunRecord, dataset: str, measure: Measure | None = None) -> Score | None:
    """Return a run's score by a measure, by default the registry's, or None if it was not measured."""
    known = find_dataset(dataset)
    return find_score(record, dataset, *(measure or (known.primary_metric, known.primary_setting)))


def _loss_score(record: RunRecord) -> Score | None:
    """Return the validation loss as a score, so that methods are ranked and chosen by it as by any other."""
    if record.val_loss is None:
        return None
    what = {"dataset": LOSS, "language": "text", "setting": "validation", "metric": LOSS_METRIC, "n_items": 1}
    return Score(**what, value=record.val_loss, stderr=record.val_loss_se, source="measured")


def primary_frame(scores: pd.DataFrame) -> pd.DataFrame:
    """Keep the rows of a table of scores that are a data set's primary metric and setting."""
    runs = scores[scores["run_id"].notna()]
    measures = _primary_measures(zip(*(runs[c] for c in ("run_id", "dataset", "metric", "setting")), strict=True))
    return keep_measures(scores, {(name, *measure) for name, measure in measures.items()})


def keep_measures(scores: pd.DataFrame, wanted: Collection[tuple[str, str, str]]) -> pd.DataFrame:
    """Keep the rows of a table of scores that are of some data sets, each by a metric and setting."""
    keys = zip(scores["dataset"], scores["metric"], scores["setting"], strict=True)
    # An array, because an empty list would select columns.
    return scores[np.array([key in wanted for key in keys], dtype=bool)].reset_index(drop=True)
