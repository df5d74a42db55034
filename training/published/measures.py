"""From outcomes to scores: answers read and counted, robustness, standard errors, and the report of a data set.

The samples of one problem are not independent of each other, so problems are what is resampled, never samples. Rule and
sub-sample of yes/no answers are those of the study's notebook (`evaluation/eval_code_comprehension.ipynb` of
bigcode-project/astraios); ReCode's categories and scores those of Wang et al. 2022, arXiv 2212.10264.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from astraios_analysis.records.counts import robust_drop, robust_pass, robust_relative
from astraios_analysis.records.refusal import Refusal

N_RESAMPLES = 1000
"""Resamples behind a standard error, as in the released tables."""

SEED = 0
"""Seed of the resamples: the same counts give the same standard errors."""


def resample(n_items: int) -> np.ndarray:
    """How often each item occurs in each resample with replacement, shape (`N_RESAMPLES`, n_items)."""
    return np.random.default_rng(SEED).multinomial(n_items, np.full(n_items, 1 / n_items), size=N_RESAMPLES)


def resampled_stderr(values: Sequence[float] | np.ndarray) -> float:
    """Standard error of a mean over problems, by resampling them."""
    x = np.asarray(values, dtype=float)
    return float(np.std(resample(x.size) @ x / x.size, ddof=1))


def resampled_statistic_stderr(values: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray]) -> float | None:
    """Standard error of a function of means over problems, by resampling them; None where it is mostly undefined."""
    means = resample(len(values)) @ np.asarray(values, dtype=float) / len(values)
    found = statistic(means)
    found = found[np.isfinite(found)]
    return float(np.std(found, ddof=1)) if 2 * found.size >= N_RESAMPLES else None


INVALID = -1
"""Prediction of an answer that the rule cannot read. It counts as wrong, and as a label of its own in macro F1."""

_ANSWER_MARK = "\nAnswer:"
_LABELS = (INVALID, 0, 1)


@dataclass(frozen=True)
class AnswerRule:
    """Phrases, in small letters, that mean yes and no wherever they occur; the positive ones are looked for first."""

    positive: tuple[str, ...]
    negative: tuple[str, ...]


CLONE_RULE = AnswerRule(("there is a", "ere is a"), ("there is no",))
DEFECT_RULE = AnswerRule(("there is a", "ere is a", "has a defect", "contains a defect"), ("there is no defect",))


def read_answer(text: str, rule: AnswerRule) -> int:
    """Read a prediction out of a generated text.

    What follows the last line that begins with "Answer:" counts. Its first clause, up to a comma or a full stop,
    decides if it holds "yes" or "no" and not the other, also inside a word; then the rule's phrases do.
    """
    answer = text.rsplit(_ANSWER_MARK, 1)[-1].lower()
    clause = answer.replace(",", ".").split(".", 1)[0]
    says_yes, says_no = "yes" in clause, "no" in clause
    if says_yes != says_no:
        return int(says_yes)
    if any(phrase in answer for phrase in rule.positive):
        return 1
    return 0 if any(phrase in answer for phrase in rule.negative) else INVALID


def draw_subsample(labels: Sequence[int], n_positive: int, n_negative: int, seed: int = 0) -> list[int] | None:
    """Items of the published sub-sample: negatives are drawn first, then positives, with Python's generator."""
    places = {label: [place for place, found in enumerate(labels) if found == label] for label in (0, 1)}
    if len(places[0]) < n_negative or len(places[1]) < n_positive:
        return None
    rng = random.Random(seed)
    negatives = rng.sample(range(len(places[0])), n_negative)
    positives = rng.sample(range(len(places[1])), n_positive)
    return sorted([places[0][i] for i in negatives] + [places[1][i] for i in positives])


def score_answers(labels: Sequence[int], predictions: Sequence[int]) -> tuple[dict[str, float], dict[str, float]]:
    """Values and standard errors over items of accuracy and macro F1 (`INVALID` is wrong, and a label of its own).

    ``overall_accuracy``, ``overall_macro_f1``, ``valid_rate``, ``valid_accuracy`` and ``valid_f1`` (of label 1; both
    absent where no answer is valid), ``predicted_positive_rate``.
    """
    if len(labels) != len(predictions) or not len(labels):
        raise Refusal(f"{len(labels)} labels and {len(predictions)} predictions; give one of each for every item")
    cells = np.zeros((2, len(_LABELS)))
    for label, prediction in zip(labels, predictions, strict=True):
        cells[label, _LABELS.index(prediction)] += 1
    values = {name: float(value[0]) for name, value in _count_metrics(cells[None]).items() if np.isfinite(value[0])}
    # A resample of items is a draw of how many fall into each cell.
    n_items = len(labels)
    draws = np.random.default_rng(SEED).multinomial(n_items, cells.ravel() / n_items, size=N_RESAMPLES)
    resampled = _count_metrics(draws.reshape(-1, *cells.shape).astype(float))
    return values, {name: float(np.nanstd(resampled[name], ddof=1)) for name in values}


def _count_metrics(cells: np.ndarray) -> dict[str, np.ndarray]:
    """Metrics of tables of counts, shape (n_tables, true label, prediction in the order of `_LABELS`)."""
    n_items = cells.sum(axis=(1, 2))
    right = cells[:, 0, 1] + cells[:, 1, 2]
    n_valid = cells[:, :, 1:].sum(axis=(1, 2))
    true = np.stack([np.zeros(len(cells)), cells[:, 0].sum(axis=1), cells[:, 1].sum(axis=1)], axis=1)
    predicted = cells.sum(axis=1)
    hits = np.stack([np.zeros(len(cells)), cells[:, 0, 1], cells[:, 1, 2]], axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        # F1 is 2 hits / (true + predicted); not a number for a label that does not occur.
        f1 = 2 * hits / (true + predicted)
        valid_true = cells[:, 1, 1:].sum(axis=1)
        valid_f1 = 2 * cells[:, 1, 2] / (valid_true + predicted[:, 2])
        valid_f1 = np.where((n_valid > 0) & ~np.isfinite(valid_f1), 0.0, valid_f1)
        return {
            "overall_accuracy": right / n_items,
            "overall_macro_f1": np.nanmean(f1, axis=1),
            "valid_rate": n_valid / n_items,
            "valid_accuracy": right / n_valid,
            "valid_f1": valid_f1,
            "predicted_positive_rate": predicted[:, 2] / n_items,
        }


N_SEEDS = 5
"""Random perturbations of each prompt where the transformation is random: s in RP_s@1."""

NOMINAL = "nominal"
"""Setting of the prompts as they were."""


@dataclass(frozen=True)
class Category:
    """One of ReCode's four categories, by the study's name and ReCode's own.

    ``transformations`` are in their files' order, with how many seeds each has. ``nominal`` is the transformation and
    seed that leave every prompt as it was, once prompts are stripped as the harness does; None where there is none, and
    nominal outcomes must come from elsewhere.
    """

    name: str
    configuration: str
    transformations: Mapping[str, int]
    nominal: tuple[str, int] | None = None

    @property
    def blocks(self) -> tuple[tuple[str, int], ...]:
        """Transformation and seed of each block of problems in a published file."""
        return tuple((name, seed) for name, n_seeds in self.transformations.items() for seed in range(n_seeds))


def _make_category(name: str, configuration: str, names: str, nominal: tuple[str, int] | None = None) -> Category:
    # A name with a star is random.
    transformations = {text.rstrip("*"): N_SEEDS if text.endswith("*") else 1 for text in names.split()}
    return Category(name, configuration, transformations, nominal)


CATEGORIES: dict[str, Category] = {
    category.name: category
    for category in (
        _make_category(
            "format",
            "format",
            "doc2comments new_line_aftercode new_line_afterdoc new_lines* split_lines tab_indent",
            # It adds empty lines at the end of a prompt, where the harness takes them away again.
            nominal=("new_line_aftercode", 0),
        ),
        _make_category(
            "function",
            "func_name",
            "FuncRenameButterFinger* FuncRenameCamelCase FuncRenameChangeChar* FuncRenameInflectionalVariation* "
            "FuncRenameSwapChar* FuncRenameSynonymSub*",
            # No synonym was found for any of the names with this seed.
            nominal=("FuncRenameSynonymSub", 0),
        ),
        _make_category(
            "syntax",
            "natgen",
            "DeadCodeInserterLast DeadCodeInserter* ForWhileTransformer OperandSwap VarRenamerCB VarRenamerNaive "
            "VarRenamerRN*",
        ),
        _make_category(
            "docstring",
            "nlaugmenter",
            "BackTranslation ButterFingersPerturbation* ChangeCharCase* EnglishInflectionalVariation* "
            "SwapCharactersPerturbation* SynonymInsertion* SynonymSubstitution* TenseTransformationFuture "
            "TenseTransformationPast WhitespacePerturbation*",
        ),
    )
}
"""ReCode's categories by the study's names."""


def score_robustness(
    n_passed: Sequence[int], n_perturbed: Sequence[int], nominal: Sequence[bool] | None = None
) -> tuple[dict[str, float], dict[str, float]]:
    """Robust pass, relative drop and robust relative, from one program for each perturbed prompt.

    `astraios_analysis.records.counts` defines them; what is relative is absent without nominal outcomes, and the drop
    where no nominal prompt is solved.
    """
    robust = robust_pass(n_passed, n_perturbed)
    columns = {"mean_pass@1": np.asarray(n_passed) / np.asarray(n_perturbed), "robust_pass@1": robust}
    if nominal is not None:
        columns["robust_relative@1"] = robust_relative(n_passed, n_perturbed, nominal)
    values = {name: float(column.mean()) for name, column in columns.items()}
    stderr = {name: resampled_stderr(column) for name, column in columns.items()}
    if nominal is not None and any(nominal):
        values["robust_drop@1"] = float(robust_drop(np.mean(nominal), robust.mean()))
        pairs = np.stack([np.asarray(nominal, dtype=float), robust], axis=1)
        spread = resampled_statistic_stderr(pairs, lambda means: robust_drop(means[:, 0], means[:, 1]))
        stderr |= {} if spread is None else {"robust_drop@1": spread}
    return values, stderr


class ProblemCount(NamedTuple):
    """Outcomes of one problem; its place in the problem set, from 0."""

    problem_id: int
    n_samples: int
    n_passed: int


@dataclass(frozen=True)
class Part:
    """Scores of one setting of a data set, with standard errors over problems of those that have one."""

    values: Mapping[str, float]
    stderr: Mapping[str, float]
    per_problem: tuple[ProblemCount, ...]

    @property
    def n_samples(self) -> int:
        """Programs or answers that were scored, over all problems."""
        return sum(count.n_samples for count in self.per_problem)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        sizes = {"n_problems": len(self.per_problem), "n_samples": self.n_samples}
        return {**sizes, **self.values, "stderr": dict(self.stderr), "per_problem": self.counts}

    @property
    def counts(self) -> list[dict[str, int]]:
        """The outcomes as plain values, in the order of the problem set."""
        return [count._asdict() for count in self.per_problem]


@dataclass(frozen=True)
class Report:
    """Scores of one data set: of all that was read, and of parts that have a name."""

    dataset: str
    language: str
    # The one that stands for the data set in means.
    metric: str
    whole: Part
    settings: Mapping[str, Part] = field(default_factory=dict)
    sandbox: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values: the interface of ``python -m training score --json``."""
        settings = [{"setting": name, **part.to_json()} for name, part in self.settings.items()]
        return {
            "dataset": self.dataset,
            "language": self.language,
            "n_problems": len(self.whole.per_problem),
            "n_samples": self.whole.n_samples,
            "primary_metric": self.metric,
            **self.whole.values,
            "stderr": dict(self.whole.stderr),
            **self.details,
            **({"settings": settings} if settings else {}),
            **({"notes": list(self.notes)} if self.notes else {}),
            "sandbox": self.sandbox,
            "per_problem": self.whole.counts,
        }


def make_counts(n_samples: list[int], n_passed: list[int]) -> tuple[ProblemCount, ...]:
    """Return counts of problems in their order, numbered from 0."""
    return tuple(
        ProblemCount(place, samples, passed)
        for place, (samples, passed) in enumerate(zip(n_samples, n_passed, strict=True))
    )
