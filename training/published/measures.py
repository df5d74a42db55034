"""Standard errors by resampling problems.

The samples of one problem are not independent of each other, so problems are what is resampled, never samples.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from astraios_analysis.records.counts import robust_drop, robust_pass, robust_relative
from astraios_analysis.records.frame import ProblemCounts, Score, chance_level

N_RESAMPLES = 1000
"""Resamples behind a standard error, as in the released tables."""

SEED = 0
"""Seed of the resamples: the same counts give the same standard errors."""


def resample(n_items: int, n_resamples: int = N_RESAMPLES, seed: int = SEED) -> np.ndarray:
    """How often each item occurs in each of several resamples with replacement.

    Parameters
    ----------
    n_items : int
        Items, and size of a resample.
    n_resamples : int
        Resamples.
    seed : int
        Seed of the draw.

    Returns
    -------
    ndarray of int, shape (n_resamples, n_items)
        Each row adds up to ``n_items``.
    """
    rng = np.random.default_rng(seed)
    return rng.multinomial(n_items, np.full(n_items, 1 / n_items), size=n_resamples)


def resampled_stderr(values: Sequence[float] | np.ndarray) -> float:
    """Standard error of a mean over problems, by resampling them.

    Parameters
    ----------
    values : sequence of float, shape (n_problems,)
        One value for each problem.

    Returns
    -------
    float
        Standard deviation over the resamples, in the unit of the values.
    """
    x = np.asarray(values, dtype=float)
    return float(np.std(resample(x.size) @ x / x.size, ddof=1))


def resampled_statistic_stderr(
    values: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], n_resamples: int = N_RESAMPLES
) -> float | None:
    """Standard error of a function of means over problems, by resampling them.

    Parameters
    ----------
    values : ndarray of float, shape (n_problems, n_values)
        Several values for each problem.
    statistic : callable
        Takes means, shape (n_resamples, n_values), and gives the statistic of each resample, shape (n_resamples,);
        not a number where it has none.
    n_resamples : int
        Resamples.

    Returns
    -------
    float or None
        Standard deviation over the resamples that have the statistic; None where fewer than half have it.
    """
    means = resample(len(values), n_resamples) @ np.asarray(values, dtype=float) / len(values)
    found = statistic(means)
    found = found[np.isfinite(found)]
    return float(np.std(found, ddof=1)) if 2 * found.size >= n_resamples else None


INVALID = -1
"""Prediction of an answer that the rule cannot read. It counts as wrong, and as a label of its own in macro F1."""

_ANSWER_MARK = "\nAnswer:"
_LABELS = (INVALID, 0, 1)


@dataclass(frozen=True)
class AnswerRule:
    """How an answer is read where its first clause says neither yes nor no.

    Attributes
    ----------
    positive, negative : tuple of str
        Phrases, in small letters, that mean yes and no wherever they occur; the positive ones are looked for first.
    """

    positive: tuple[str, ...]
    negative: tuple[str, ...]


CLONE_RULE = AnswerRule(("there is a", "ere is a"), ("there is no",))
DEFECT_RULE = AnswerRule(("there is a", "ere is a", "has a defect", "contains a defect"), ("there is no defect",))


def read_answer(text: str, rule: AnswerRule) -> int:
    """Read a prediction out of a generated text.

    What follows the last line that begins with "Answer:" counts. Its first clause, up to a comma or a full stop,
    decides if it holds "yes" or "no" and not the other, also inside a word; then the rule's phrases do.

    Parameters
    ----------
    text : str
        What was generated, with its prompt or without.
    rule : AnswerRule
        Phrases that count.

    Returns
    -------
    int
        1 for yes, 0 for no, `INVALID` where it says neither.
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
    """Items of the published sub-sample: negatives are drawn first, then positives, with Python's generator.

    Parameters
    ----------
    labels : sequence of int
        True label of each item, 0 or 1.
    n_positive, n_negative : int
        Items wanted of each label.
    seed : int
        Seed; the study's is 0.

    Returns
    -------
    list of int or None
        Places of the items, in their order; None where there are too few of a label.
    """
    places = {label: [place for place, found in enumerate(labels) if found == label] for label in (0, 1)}
    if len(places[0]) < n_negative or len(places[1]) < n_positive:
        return None
    rng = random.Random(seed)
    negatives = rng.sample(range(len(places[0])), n_negative)
    positives = rng.sample(range(len(places[1])), n_positive)
    return sorted([places[0][i] for i in negatives] + [places[1][i] for i in positives])


def score_answers(labels: Sequence[int], predictions: Sequence[int]) -> tuple[dict[str, float], dict[str, float]]:
    """Accuracy, macro F1 and valid rate of predictions, with standard errors over items.

    Parameters
    ----------
    labels : sequence of int, shape (n_items,)
        True labels, 0 or 1.
    predictions : sequence of int, shape (n_items,)
        1, 0 or `INVALID`.

    Returns
    -------
    values, stderr : dict of str to float
        By metric: ``overall_accuracy`` (invalid answers wrong), ``overall_macro_f1`` (mean of F1 over the labels that
        occur among labels and predictions, `INVALID` one of them), ``valid_rate``, ``valid_accuracy`` and
        ``valid_f1`` (of label 1; both among valid answers, absent where there are none), ``predicted_positive_rate``.

    Raises
    ------
    ValueError
        If there are no items, or as many labels as predictions are not given.
    """
    if len(labels) != len(predictions) or not len(labels):
        raise ValueError(f"{len(labels)} labels and {len(predictions)} predictions; give one of each for every item")
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
class Transformation:
    """One way to perturb prompts.

    Attributes
    ----------
    name : str
        ReCode's name.
    n_seeds : int
        Perturbations of each prompt: `N_SEEDS` where it is random, else 1.
    """

    name: str
    n_seeds: int = 1


@dataclass(frozen=True)
class Category:
    """One of ReCode's four categories.

    Attributes
    ----------
    name : str
        The study's name of it.
    configuration : str
        ReCode's own, which is also its name on the hub.
    transformations : tuple of Transformation
        In the order of published files, which is that of ReCode's sorted file names.
    nominal : (str, int) or None
        Transformation and seed that leave every prompt as it was, once prompts are stripped as the harness does; None
        where there is none, and nominal outcomes must come from elsewhere.
    """

    name: str
    configuration: str
    transformations: tuple[Transformation, ...]
    nominal: tuple[str, int] | None = None

    @property
    def blocks(self) -> tuple[tuple[str, int], ...]:
        """Transformation and seed of each block of problems in a published file."""
        return tuple((item.name, seed) for item in self.transformations for seed in range(item.n_seeds))


def _make_category(name: str, configuration: str, names: str, nominal: tuple[str, int] | None = None) -> Category:
    # A name with a star is random.
    items = tuple(Transformation(text.rstrip("*"), N_SEEDS if text.endswith("*") else 1) for text in names.split())
    return Category(name, configuration, items, nominal)


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

    With r the share of problems solved under every perturbation and p the nominal share: RP_s@1 = r,
    RD_s@1 = (p - r) / p, and RR_s@1 is the share of problems whose worst or best perturbed outcome differs from the
    nominal one.

    Parameters
    ----------
    n_passed : sequence of int, shape (n_problems,)
        Perturbed prompts of each problem that were solved.
    n_perturbed : sequence of int, shape (n_problems,)
        Perturbed prompts of each problem.
    nominal : sequence of bool, shape (n_problems,), optional
        Whether the prompt as it was is solved.

    Returns
    -------
    values, stderr : dict of str to float
        By metric: ``mean_pass@1``, ``robust_pass@1``, and with nominal outcomes ``robust_relative@1`` and
        ``robust_drop@1``; the last is absent where no nominal prompt is solved.

    References
    ----------
    Wang et al. 2022, arXiv 2212.10264, section 3.
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


# Metrics that can be the plain mean of a data set's counts: with the first that is, the counts are stored in a record.
_MEANS = ("mean_pass@1", "pass@1", "overall_accuracy", "accuracy")
_SAME = 1e-9


@dataclass(frozen=True)
class ProblemCount:
    """Outcomes of one problem.

    Attributes
    ----------
    problem_id : int
        Its place in the problem set, from 0.
    n_samples, n_passed : int
        Programs or answers that were scored, and how many of them were right.
    """

    problem_id: int
    n_samples: int
    n_passed: int


@dataclass(frozen=True)
class Part:
    """Scores of one setting of a data set.

    Attributes
    ----------
    values : mapping of str to float
        Value of each metric.
    stderr : mapping of str to float
        Standard error over problems of those that have one.
    per_problem : tuple of ProblemCount
        In the order of the problem set.
    """

    values: Mapping[str, float]
    stderr: Mapping[str, float]
    per_problem: tuple[ProblemCount, ...]

    @property
    def n_samples(self) -> int:
        """Programs or answers that were scored, over all problems."""
        return sum(count.n_samples for count in self.per_problem)

    def counts_to_json(self) -> list[dict[str, int]]:
        """Return the counts as plain values, in their order."""
        return [
            {"problem_id": count.problem_id, "n_samples": count.n_samples, "n_passed": count.n_passed}
            for count in self.per_problem
        ]


@dataclass(frozen=True)
class Report:
    """Scores of one data set.

    Attributes
    ----------
    dataset, language : str
        What was scored.
    metric : str
        The metric that stands for the data set in means.
    whole : Part
        Scores over everything that was read.
    settings : mapping of str to Part
        Scores of parts that have a name: a published sub-sample, ReCode's transformations.
    sandbox : str or None
        What contained the programs; None where none was executed.
    details : mapping of str to object
        What else belongs into the JSON form.
    notes : tuple of str
        What a reader of the table must know.
    """

    dataset: str
    language: str
    metric: str
    whole: Part
    settings: Mapping[str, Part] = field(default_factory=dict)
    sandbox: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values: the interface of ``python -m training score --json``."""
        settings = [
            {
                "setting": name,
                "n_problems": len(part.per_problem),
                "n_samples": part.n_samples,
                **part.values,
                "stderr": dict(part.stderr),
                "per_problem": part.counts_to_json(),
            }
            for name, part in self.settings.items()
        ]
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
            "per_problem": self.whole.counts_to_json(),
        }

    def to_table(self) -> str:
        """Return the report as a table for people."""
        rows = [("setting", "metric", "value", "stderr")]
        for setting, part in {"all": self.whole, **self.settings}.items():
            for name, value in part.values.items():
                error = part.stderr.get(name)
                rows.append((setting, name, f"{value:.4f}", "" if error is None else f"{error:.4f}"))
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = [
            f"{setting:<{widths[0]}}  {name:<{widths[1]}}  {value:>{widths[2]}}  {error:>{widths[3]}}".rstrip()
            for setting, name, value, error in rows
        ]
        head = f"{self.dataset}: {len(self.whole.per_problem)} problems, {self.whole.n_samples:,} samples"
        where = f"programs were executed in: {self.sandbox}" if self.sandbox else "no program was executed"
        foot = f"stderr: over problems, which are resampled; {where}"
        return "\n".join([head, "", *lines, "", *self.notes, foot])

    def to_scores(self, setting: str, source_file: str | None = None) -> tuple[Score, ...]:
        """Return the report as scores of a record.

        Parameters
        ----------
        setting : str
            Under which condition the data set was asked. ReCode's transformations are settings of their own; any
            other part of the report is this setting, a stroke, and the part's name.
        source_file : str, optional
            The file that was scored.

        Returns
        -------
        tuple of Score
            The counts are stored with the metric that is their plain mean.
        """
        is_robustness = self.dataset.startswith("recode")
        parts = {setting: self.whole} | {
            name if is_robustness else f"{setting}/{name}": part for name, part in self.settings.items()
        }
        return tuple(
            self._make_score(name, part, metric, source_file) for name, part in parts.items() for metric in part.values
        )

    def _make_score(self, setting: str, part: Part, metric: str, source_file: str | None) -> Score:
        n_problems = len(part.per_problem)
        mean = sum(count.n_passed / count.n_samples for count in part.per_problem) / n_problems
        carrier = next((name for name in _MEANS if abs(part.values.get(name, -1.0) - mean) < _SAME), None)
        counts = ProblemCounts(
            problem_ids=tuple(count.problem_id for count in part.per_problem),
            n_samples=tuple(count.n_samples for count in part.per_problem),
            n_passed=tuple(count.n_passed for count in part.per_problem),
        )
        return Score(
            dataset=self.dataset,
            language=self.language,
            setting=setting,
            metric=metric,
            value=part.values[metric],
            stderr=part.stderr.get(metric),
            chance=chance_level(self.dataset, metric),
            n_items=n_problems,
            n_samples=part.n_samples,
            problems=counts if metric == carrier else None,
            source="measured",
            source_file=source_file,
        )


def make_counts(n_samples: list[int], n_passed: list[int]) -> tuple[ProblemCount, ...]:
    """Return counts of problems in their order, numbered from 0."""
    return tuple(
        ProblemCount(place, samples, passed)
        for place, (samples, passed) in enumerate(zip(n_samples, n_passed, strict=True))
    )
