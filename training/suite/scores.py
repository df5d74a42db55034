"""Outcomes, problem by problem, as scores of a record with standard errors and counts.

A mean of one greedy answer a problem has the standard error sqrt(p (1 - p) / n): what resampling problems tends to, and
0 where all answers are right or all are wrong, which says that the problems do not differ and not that the score is
exact. Everything else is resampled, problems and never answers (`training.published.measures`).
"""

from collections.abc import Sequence
from math import sqrt

import numpy as np

from astraios_analysis.records.frame import ProblemCounts, Score, chance_level
from training.published.measures import NOMINAL, score_answers, score_robustness
from training.suite.problems import SEEN

LANGUAGE = "python"

GREEDY, LIKELIHOOD, GENERATED = "greedy", "likelihood", "generated"
"""Settings: greedy answers; the more likely of two answers; greedy answers to a Yes/No question, parsed."""

ALL_TRANSFORMATIONS = "all_transformations"
"""Setting of robustness over all changes of a category, as for ReCode in the published suite."""


def counted_score(
    dataset: str, setting: str, metric: str, n_passed: np.ndarray, ids: Sequence[int] | None = None, n_samples: int = 1
) -> Score:
    """Return a mean pass rate with its counts, problem by problem; without ids, problems are numbered from 0."""
    n, shares = len(n_passed), n_passed / n_samples
    problems = ProblemCounts(
        problem_ids=tuple(range(n) if ids is None else ids),
        n_samples=(n_samples,) * n,
        n_passed=tuple(map(int, n_passed)),
    )
    counted = {"n_samples": n * n_samples, "n_passed": int(n_passed.sum()), "problems": problems}
    return _score(dataset, setting, metric, float(shares.mean()), _mean_error(shares), n, **counted)


def share_score(dataset: str, setting: str, metric: str, is_so: np.ndarray) -> Score:
    """Return a share of the problems; how it came about problem by problem is stored with another metric."""
    n, total = len(is_so), int(is_so.sum())
    return _score(dataset, setting, metric, total / n, _mean_error(is_so), n, n_samples=n, n_passed=total)


def answer_scores(dataset: str, setting: str, truth: np.ndarray, given: np.ndarray, first: int = 0) -> list[Score]:
    """Return the scores of answers to Yes/No questions, numbered from the first on."""
    is_generated = setting.startswith(GENERATED)
    names = {"overall_macro_f1": "overall_macro_f1" if is_generated else "macro_f1"}
    names |= {"valid_rate": "valid_rate"} if is_generated else {}
    names |= {"predicted_positive_rate": "predicted_positive_rate"}
    values, errors = score_answers(truth.astype(int).tolist(), given.tolist())
    n, accuracy = len(truth), "overall_accuracy" if is_generated else "accuracy"
    counted = counted_score(dataset, setting, accuracy, given == truth, range(first, first + n))
    return [counted, *(_score(dataset, setting, own, values[name], errors[name], n) for name, own in names.items())]


CHOICE = "choice"
"""Setting: the likeliest of given answers, none of them generated (`choices`)."""


def choice_scores(dataset: str, log_likelihoods: np.ndarray) -> list[Score]:
    """Return how often the first of several answers is the likeliest, and its probability among them.

    Log-likelihoods have the shape (n_problems, n_answers); an answer as likely as the right one makes it wrong.
    """
    right, others = log_likelihoods[:, 0], log_likelihoods[:, 1:]
    shares = 1 / (1 + np.exp(np.clip(others - right[:, None], None, 500)).sum(axis=1))
    return [
        counted_score(dataset, CHOICE, "choice_accuracy", right > others.max(axis=1)),
        mean_score(dataset, CHOICE, "choice_probability", shares),
    ]


def preference_scores(dataset: str, margins: np.ndarray, is_untrusted: np.ndarray) -> list[Score]:
    """Return how preferences for safe code, log-likelihood ratios of shape (n,), follow the origin of the input."""
    scores = [auc_score(dataset, CHOICE, "preference_auc", margins, is_untrusted)]
    for origin, asked in (("untrusted", is_untrusted), ("trusted", ~is_untrusted)):
        ids = np.flatnonzero(asked).tolist()
        scores.append(counted_score(dataset, f"{CHOICE}/{origin}", "safe_share", margins[asked] > 0, ids))
    return scores


def auc_score(dataset: str, setting: str, metric: str, values: np.ndarray, is_positive: np.ndarray) -> Score:
    """Return the chance that a positive problem has the larger value, ties counting one half.

    Its error is that of DeLong et al. 1988: the variances of the problems' placements in the other group.
    """
    positive, negative = values[is_positive], values[~is_positive]
    larger = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    spread = sum(larger.mean(axis=axis).var(ddof=1) / larger.shape[1 - axis] for axis in (0, 1))
    return _score(dataset, setting, metric, float(larger.mean()), sqrt(spread), len(values))


def mean_score(dataset: str, setting: str, metric: str, values: np.ndarray) -> Score:
    """Return the mean over problems of what is no count."""
    return _score(dataset, setting, metric, float(values.mean()), _mean_error(values), len(values))


def robustness_scores(
    dataset: str, ids: Sequence[int], nominal: np.ndarray, changed: dict[str, np.ndarray]
) -> list[Score]:
    """Return the scores of a category of changed prompts (`training.published.measures.score_robustness`)."""
    scores = [counted_score(dataset, NOMINAL, "pass@1", nominal, ids)]
    for change, solved in changed.items():
        scores += _compared(dataset, change, ids, nominal, solved, 1)
    together = np.stack(list(changed.values())).sum(axis=0)
    return [*scores, *_compared(dataset, ALL_TRANSFORMATIONS, ids, nominal, together, len(changed))]


def _compared(
    dataset: str, setting: str, ids: Sequence[int], nominal: np.ndarray, n_passed: np.ndarray, n_samples: int
) -> list[Score]:
    n = len(nominal)
    values, errors = score_robustness(n_passed.tolist(), [n_samples] * n, nominal.tolist())
    # With one change the mean is the robust pass rate, and is not stored twice.
    counted = "robust_pass@1" if n_samples == 1 else "mean_pass@1"
    others = [name for name in values if name not in (counted, "mean_pass@1")]
    return [
        counted_score(dataset, setting, counted, n_passed, ids, n_samples),
        *(_score(dataset, setting, name, values[name], errors[name], n) for name in others if name in errors),
    ]


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
