"""What can be measured on a run: the metrics, the data sets, and what each number means.

`METRICS` fixes the range and the direction of every metric, so that a percentage stored as a fraction, or a robustness
drop read as a pass rate, is an error when a record is made and not a wrong point in a figure. `DATASETS` names, for
each data set of the study, the one metric and setting that enter means, fits and ranks. It holds two suites, the
published data sets and those of the embedded corpus, which share no mean and no panel.
"""

from dataclasses import dataclass
from math import inf
from typing import Literal

Kind = Literal["comprehension", "generation", "robustness", "security"]
Suite = Literal["published", "embedded", "mean"]

# The one measured quantity beside scores: validation cross-entropy, by its name in records and tables.
LOSS = "val_loss"
# The mean over code generation: a score like others (`records.means`), but no data set beside those it is over.
MEAN_GENERATION = "mean_generation"


@dataclass(frozen=True)
class Metric:
    """One way to turn outcomes into a number in the closed range from ``lower`` (which may be infinite) to ``upper``.

    ``higher_is_better`` is None for a descriptive share that is neither good nor bad; ``label`` stands on an axis.
    """

    name: str
    label: str
    lower: float
    upper: float
    higher_is_better: bool | None
    meaning: str
    # Of a guess, where it is the same on every data set.
    chance: float | None = None

    def describe_range(self) -> str:
        """Return the range in interval notation, for example ``[0, 1]``."""
        left = "(-inf" if self.lower == -inf else f"[{self.lower:g}"
        return f"{left}, {self.upper:g}]"


# Shares in [0, 1], by direction: name, label and meaning.
_SHARES: dict[bool | None, tuple[tuple[str, str, str], ...]] = {
    True: (
        ("pass@1", "pass@1", "mean over problems of the share of samples that pass the tests"),
        ("pass@10", "pass@10", "unbiased estimate that one of 10 samples passes (Chen et al. 2021)"),
        ("accuracy", "accuracy", "share of items answered correctly"),
        ("macro_f1", "macro F1", "F1 averaged over the labels"),
        ("overall_accuracy", "accuracy", "share of all items answered correctly, invalid answers wrong"),
        ("overall_macro_f1", "macro F1", "F1 averaged over the labels, invalid answers a label"),
        ("valid_rate", "valid answers", "share of items with an answer the published rule can parse"),
        ("valid_accuracy", "accuracy of valid answers", "share of valid answers that are correct"),
        ("valid_f1", "F1 of valid answers", "F1 of the positive class among valid answers"),
        ("mean_pass@1", "mean pass@1", "mean pass rate over the perturbed prompts"),
        ("robust_pass@1", "robust pass@1", "share of problems solved under every perturbation"),
        ("parse_rate", "parse rate", "share of completions that parse as a program; not a security score"),
        ("line_accuracy", "right lines", "share of a program's lines that are the reference's, place by place"),
        ("test_share", "tests passed", "mean over problems of the share of assertions that hold"),
        ("choice_accuracy", "right choices", "share of problems whose right answer is the likeliest of four"),
        ("choice_probability", "probability of the right choice", "of the right answer among four, by likelihood"),
        ("preference_auc", "preference by origin", "chance that safe code is preferred more for input from outside"),
        ("safe_share", "safe preferences", "share of problems whose safe idiom is likelier than the unsafe one"),
        ("auc", "AUC", "chance that Yes is likelier where it is right than where it is wrong"),
    ),
    False: (
        ("brier", "Brier score", "mean squared error of the probability of Yes (Brier 1950)"),
        ("robust_relative@1", "changed outcomes", "share of problems whose outcome a perturbation changes"),
        ("insecure_rate", "insecure programs", "share of valid programs in which an analyser finds a flaw"),
        ("syntax_error_rate", "syntax errors", "share of programs that do not parse"),
        ("compile_error_rate", "compile errors", "share of programs that do not compile"),
        ("timeout_rate", "time-outs", "share of programs stopped at the time limit"),
    ),
    None: (
        ("predicted_positive_rate", "positive answers", "share of items answered with the positive label"),
        ("distinct_sample_share", "distinct samples", "distinct texts of a problem over its samples"),
    ),
}
# Of an equal preference for all answers.
_CHANCE = {"choice_accuracy": 0.25, "choice_probability": 0.25, "brier": 0.25}
_CHANCE |= dict.fromkeys(("preference_auc", "safe_share", "auc"), 0.5)
METRICS: dict[str, Metric] = {
    name: Metric(name, label, 0.0, 1.0, better, meaning, _CHANCE.get(name))
    for better, shares in _SHARES.items()
    for name, label, meaning in shares
}
METRICS["robust_drop@1"] = Metric(
    "robust_drop@1", "relative drop", -inf, 1.0, False, "(nominal - robust pass@1) / nominal"
)


@dataclass(frozen=True)
class DataSet:
    """A data set and its primary measure, the one metric and setting that enter means, fits and ranks.

    Both are None where no measured score stands for it. Data sets with one pool of ``problems`` ask about the same
    problems in the same order, so they are resampled together. ``language`` is None where there are several;
    ``chance`` is the score of a uniform random guess, ``majority`` that of always giving the commonest answer. What
    ``is_extra`` is no data set of the study, and takes part in everything but its means and the votes on its claims. A
    mean has ``parts``, the data sets that it may be over.
    """

    name: str
    title: str
    kind: Kind
    language: str | None
    primary_metric: str | None
    primary_setting: str | None
    problems: str
    chance: float | None = 0.0
    majority: float | None = None
    suite: Suite = "published"
    is_extra: bool = False
    parts: tuple[str, ...] = ()

    @property
    def task(self) -> str:
        """The task whose problems it asks about: of an embedded data set, a key of a record's ``task_losses``."""
        return self.problems.removeprefix("embedded_").removesuffix("_half")

    @property
    def family(self) -> str:
        """Name that data sets share whose scores come from the same completions, or from variants of one prompt."""
        if self.suite == "embedded":
            return self.task
        return "recode" if self.kind == "robustness" or self.name == "humaneval_python" else self.name


def _comprehension(name: str, language: str, metric: str, setting: str, pool: str, majority: float) -> DataSet:
    title = name.replace("_", " ").capitalize()
    return DataSet(name, title, "comprehension", language, metric, setting, pool, 0.5, majority)


def _humaneval(task: str, language: str) -> DataSet:
    title = f"{task.title()} {language.title()}"
    return DataSet(f"humaneval{task}_{language}", title, "generation", language, "pass@1", "t0.2,n20", "humaneval")


def _recode(category: str) -> DataSet:
    measure = ("robust_pass@1", "all_transformations")
    return DataSet(f"recode_{category}", f"ReCode {category}", "robustness", "python", *measure, "humaneval")


def _embedded(
    name: str, kind: Kind, measure: tuple[str, str], chance: float, *, pool: str = "", majority: float | None = None
) -> DataSet:
    title = f"Embedded {name}"
    if kind == "robustness":
        name, title = f"robust_{name}", f"{title} changed"
    pool = f"embedded_{pool or name}"
    return DataSet(f"embedded_{name}", title, kind, "python", *measure, pool, chance, majority, suite="embedded")


_HUMANEVALPACK = tuple(
    _humaneval(task, language) for task in ("synthesize", "fix", "explain") for language in ("python", "java")
)
_GREEDY, _LIKELIHOOD = ("pass@1", "greedy"), ("accuracy", "likelihood")
_ROBUST = ("robust_pass@1", "all_transformations")
_OWN_WEAKNESS = ("insecure_rate", "t0.2,n20,longest_prefix,own_weakness")
_CHANGED = {"description": "synthesis", "format": "synthesis", "syntax": "fix"}
# Majority shares: BigCloneBench, 0.863 by the data card; Devign test split, 1,477 of 2,732 functions not vulnerable.
DATASETS: dict[str, DataSet] = {
    dataset.name: dataset
    for dataset in (
        _comprehension("clone_detection", "java", "accuracy", "zero_shot", "bigclonebench", 0.863),
        _comprehension("defect_detection", "c", "overall_accuracy", "zero_shot/full2732", "devign", 1477 / 2732),
        *_HUMANEVALPACK,
        DataSet(
            MEAN_GENERATION,
            "Mean code generation",
            "generation",
            None,
            "pass@1",
            "mean",
            "humaneval",
            suite="mean",
            parts=tuple(dataset.name for dataset in _HUMANEVALPACK),
        ),
        # The unperturbed prompts of ReCode: the problems, and the outcomes, that its robust scores rest on.
        DataSet("humaneval_python", "HumanEval Python", "generation", "python", *_GREEDY, "humaneval", is_extra=True),
        *(_recode(category) for category in ("format", "function", "syntax", "docstring")),
        DataSet("aatk", "Asleep at the Keyboard", "security", "python", *_OWN_WEAKNESS, "aatk", chance=None),
        # Chance of a program: the share of random ones that pass (docs/corpus.md); questions are balanced.
        *(_embedded(task, "generation", _GREEDY, 0.0001) for task in ("synthesis", "fix", "explain")),
        *(_embedded(task, "comprehension", _LIKELIHOOD, 0.5, majority=0.5) for task in ("clone", "defect")),
        *(_embedded(name, "robustness", _ROBUST, 0.0, pool=f"{task}_half") for name, task in _CHANGED.items()),
        # Chance: the safe or the unsafe idiom by the toss of a coin.
        _embedded("security", "security", ("insecure_rate", "untrusted"), 0.5),
    )
}


def _of_suite(suite: Suite) -> tuple[str, ...]:
    known = (dataset for dataset in DATASETS.values() if dataset.suite == suite and not dataset.is_extra)
    return tuple(dataset.name for dataset in known if dataset.kind in ("comprehension", "generation"))


# The eight data sets whose mean is the study's downstream performance, and the five of the embedded suite.
STUDY_DATASETS: tuple[str, ...] = _of_suite("published")
EMBEDDED_DATASETS: tuple[str, ...] = _of_suite("embedded")
SECOND_FILE = "second_file"


def chance_level(dataset: str, metric: str) -> float | None:
    """Return the score of a random guess on a data set's metric, or None where none is known."""
    known = DATASETS.get(dataset)
    if known is None or metric not in METRICS:
        return None
    if METRICS[metric].chance is not None:
        return METRICS[metric].chance
    comparable = metric == known.primary_metric or metric.startswith("pass@")
    return known.chance if comparable else None
