"""Outcomes, problem by problem, as scores of a record with standard errors and counts.

A mean of one greedy answer a problem has the standard error sqrt(p (1 - p) / n): what resampling problems tends to, and
0 where all answers are right or all are wrong, which says that the problems do not differ and not that the score is
exact. Everything else is resampled: problems, never answers, a thousand times with a fixed seed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from astraios_analysis.records import ProblemCounts, Score, chance_level
from training.evaluation.embedded.problems import SEEN

LANGUAGE = "python"
N_RESAMPLES = 1000

NOMINAL, ALL_TRANSFORMATIONS = "nominal", "all_transformations"
"""Settings of robustness scores, named as those of ReCode in the published suite."""


@dataclass(frozen=True)
class Outcomes:
    """What came of each problem.

    Attributes
    ----------
    ids : tuple of int
        Places of the problems in their set.
    n_passed : ndarray of int, shape (n_problems,)
        Answers that passed.
    n_samples : int
        Answers to each.
    """

    ids: tuple[int, ...]
    n_passed: np.ndarray
    n_samples: int = 1

    @property
    def counts(self) -> ProblemCounts:
        """The same, as a record stores it."""
        n_samples = (self.n_samples,) * len(self.ids)
        return ProblemCounts(problem_ids=self.ids, n_samples=n_samples, n_passed=tuple(map(int, self.n_passed)))


def counted_score(dataset: str, setting: str, metric: str, outcomes: Outcomes) -> Score:
    """Return a mean pass rate with its counts, problem by problem.

    Parameters
    ----------
    dataset, setting, metric : str
        What was measured.
    outcomes : Outcomes
        The counts.

    Returns
    -------
    Score
        The mean over problems; its standard error is over problems too.
    """
    shares = outcomes.n_passed / outcomes.n_samples
    total = int(outcomes.n_passed.sum())
    counted = {"n_samples": len(shares) * outcomes.n_samples, "n_passed": total, "problems": outcomes.counts}
    return _score(dataset, setting, metric, float(shares.mean()), _mean_error(shares), len(shares), **counted)


def share_score(dataset: str, setting: str, metric: str, is_so: np.ndarray) -> Score:
    """Return a share of the problems; how it came about problem by problem is stored with another metric.

    Parameters
    ----------
    dataset, setting, metric : str
        What was measured.
    is_so : ndarray of bool, shape (n_problems,)
        Of which problems it is true.
    """
    n, total = len(is_so), int(is_so.sum())
    return _score(dataset, setting, metric, total / n, _mean_error(is_so), n, n_samples=n, n_passed=total)


def resampled_score(
    dataset: str, setting: str, metric: str, statistic: Callable[[np.ndarray], float | None], n_problems: int
) -> Score | None:
    """Return a statistic of problems, its standard error from resampling them.

    Parameters
    ----------
    dataset, setting, metric : str
        What was measured.
    statistic : callable
        From places of problems, shape (n_problems,), to the score, or None where it is not defined.
    n_problems : int
        How many there are.

    Returns
    -------
    Score or None
        Nothing where the statistic is not defined. Resamples in which it is not are left out of the error.
    """
    value = statistic(np.arange(n_problems))
    if value is None:
        return None
    rng = np.random.default_rng(0)
    draws = [statistic(rng.integers(n_problems, size=n_problems)) for _ in range(N_RESAMPLES)]
    known = np.array([draw for draw in draws if draw is not None])
    return _score(dataset, setting, metric, value, float(known.std()), n_problems)


def answer_share_scores(dataset: str, setting: str, truth: np.ndarray, given: np.ndarray) -> list[Score]:
    """Return the agreement, macro F1 and share of positive answers to Yes/No questions.

    Parameters
    ----------
    dataset, setting : str
        What was asked, and how answers were got.
    truth : ndarray of bool, shape (n_problems,)
        Whether Yes is right.
    given : ndarray of int, shape (n_problems,)
        1 for Yes, 0 for No, -1 for neither.

    Returns
    -------
    list of Score
        Without the agreement itself, which carries the counts.
    """
    metric = "overall_macro_f1" if (setting.startswith("generated")) else "macro_f1"

    def f1(places: np.ndarray) -> float:
        return macro_f1(truth[places].astype(int), given[places])

    found = resampled_score(dataset, setting, metric, f1, len(truth))
    return [*([] if found is None else [found]), share_score(dataset, setting, "predicted_positive_rate", given == 1)]


def macro_f1(truth: np.ndarray, given: np.ndarray) -> float:
    """Return the mean over labels of F1 = 2 TP / (2 TP + FP + FN); every label that occurs counts, on either side.

    Parameters
    ----------
    truth, given : ndarray of int, shape (n_problems,)
        Labels; an answer that is none of them is a label of its own.
    """
    scores = []
    for label in np.union1d(truth, given):
        hits = np.sum((truth == label) & (given == label))
        scores.append(2 * hits / (np.sum(truth == label) + np.sum(given == label)))
    return float(np.mean(scores))


def robustness_scores(
    dataset: str, ids: Sequence[int], nominal: np.ndarray, changed: dict[str, np.ndarray]
) -> list[Score]:
    """Return the scores of a category of changed prompts, as ReCode defines them.

    Robust pass@1 is the share of problems solved under every change, the relative drop (nominal - robust) / nominal,
    and robust relative the share of problems whose outcome any change turns. A drop from nothing is not defined and
    is left out.

    Parameters
    ----------
    dataset : str
        Name of the category's data set.
    ids : sequence of int
        Places of the problems in their set.
    nominal : ndarray of bool, shape (n_problems,)
        Whether the unchanged prompt was solved.
    changed : dict of str to ndarray of bool, shape (n_problems,)
        For each change, whether the changed prompt was solved.

    Returns
    -------
    list of Score
        Settings `NOMINAL`, each change, and `ALL_TRANSFORMATIONS`.

    References
    ----------
    Wang et al. 2022, arXiv 2212.10264.
    """
    names = tuple(ids)
    scores = [counted_score(dataset, NOMINAL, "pass@1", Outcomes(names, nominal))]
    for change, solved in changed.items():
        scores.append(counted_score(dataset, change, "robust_pass@1", Outcomes(names, solved)))
        scores += _compared(dataset, change, nominal, solved, nominal != solved)
    together = np.stack(list(changed.values()))
    n_solved = together.sum(axis=0)
    solved = together.all(axis=0)
    everywhere = Outcomes(names, n_solved, len(together))
    scores.append(counted_score(dataset, ALL_TRANSFORMATIONS, "mean_pass@1", everywhere))
    scores.append(share_score(dataset, ALL_TRANSFORMATIONS, "robust_pass@1", solved))
    is_turned = np.where(nominal, ~solved, n_solved > 0)
    return [*scores, *_compared(dataset, ALL_TRANSFORMATIONS, nominal, solved, is_turned)]


def _compared(
    dataset: str, setting: str, nominal: np.ndarray, solved: np.ndarray, is_turned: np.ndarray
) -> list[Score]:
    def drop(places: np.ndarray) -> float | None:
        before = nominal[places].mean()
        return float(1 - solved[places].mean() / before) if before > 0 else None

    found = resampled_score(dataset, setting, "robust_drop@1", drop, len(nominal))
    return [*([] if found is None else [found]), share_score(dataset, setting, "robust_relative@1", is_turned)]


def _mean_error(shares: np.ndarray) -> float:
    # With one answer a problem this is sqrt(p (1 - p) / n).
    return float(np.std(shares) / sqrt(len(shares)))


def _score(
    dataset: str, setting: str, metric: str, value: float, stderr: float, n_items: int, **counts: object
) -> Score:
    # What a random program passes of the problems that were seen was not measured.
    is_known = not (setting.endswith(f"/{SEEN}") and metric == "pass@1")
    return Score(
        dataset=dataset,
        language=LANGUAGE,
        setting=setting,
        metric=metric,
        value=value,
        stderr=stderr,
        chance=chance_level(dataset, metric) if is_known else None,
        n_items=n_items,
        source="measured",
        **counts,
    )
