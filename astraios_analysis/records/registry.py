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
Suite = Literal["published", "embedded"]

# The one measured quantity beside scores: validation cross-entropy, by its name in records and tables.
LOSS = "val_loss"


@dataclass(frozen=True)
class Metric:
    """One way to turn outcomes into a number.

    Attributes
    ----------
    name : str
        Name in records and tables.
    label : str
        Name on an axis.
    lower, upper : float
        Closed range of possible values; ``lower`` may be ``-inf``.
    higher_is_better : bool or None
        Direction; ``None`` for a descriptive share that is neither good nor bad.
    meaning : str
        One sentence for tables and error messages.
    """

    name: str
    label: str
    lower: float
    upper: float
    higher_is_better: bool | None
    meaning: str

    def describe_range(self) -> str:
        """Return the range in interval notation, for example ``[0, 1]``."""
        left = "(-inf" if self.lower == -inf else f"[{self.lower:g}"
        return f"{left}, {self.upper:g}]"


def _share(name: str, label: str, higher_is_better: bool | None, meaning: str) -> Metric:
    return Metric(name, label, 0.0, 1.0, higher_is_better, meaning)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        _share("pass@1", "pass@1", True, "mean over problems of the share of samples that pass the tests"),
        _share("pass@10", "pass@10", True, "unbiased estimate that one of 10 samples passes (Chen et al. 2021)"),
        _share("accuracy", "accuracy", True, "share of items answered correctly"),
        _share("macro_f1", "macro F1", True, "F1 averaged over the labels"),
        _share(
            "overall_accuracy",
            "accuracy",
            True,
            "share of all items answered correctly, invalid answers wrong",
        ),
        _share("overall_macro_f1", "macro F1", True, "F1 averaged over the labels, invalid answers a label"),
        _share("valid_rate", "valid answers", True, "share of items with an answer the published rule can parse"),
        _share("valid_accuracy", "accuracy of valid answers", True, "share of valid answers that are correct"),
        _share("valid_f1", "F1 of valid answers", True, "F1 of the positive class among valid answers"),
        _share(
            "predicted_positive_rate",
            "positive answers",
            None,
            "share of items answered with the positive label",
        ),
        _share("mean_pass@1", "mean pass@1", True, "mean pass rate over the perturbed prompts"),
        _share("robust_pass@1", "robust pass@1", True, "share of problems solved under every perturbation"),
        Metric("robust_drop@1", "relative drop", -inf, 1.0, False, "(nominal - robust pass@1) / nominal"),
        _share(
            "robust_relative@1",
            "changed outcomes",
            False,
            "share of problems whose outcome a perturbation changes",
        ),
        _share(
            "parse_rate",
            "parse rate",
            True,
            "share of completions that parse as a program; not a security score",
        ),
        _share(
            "insecure_rate",
            "insecure programs",
            False,
            "share of valid programs in which an analyser finds a flaw",
        ),
        _share("syntax_error_rate", "syntax errors", False, "share of programs that do not parse"),
        _share("compile_error_rate", "compile errors", False, "share of programs that do not compile"),
        _share("timeout_rate", "time-outs", False, "share of programs stopped at the time limit"),
        _share("distinct_sample_share", "distinct samples", None, "distinct texts of a problem over its samples"),
    )
}


@dataclass(frozen=True)
class DataSet:
    """A data set and its primary measure.

    Attributes
    ----------
    name, title : str
        Name in records, and in words.
    kind : {"comprehension", "generation", "robustness", "security"}
        What the data set asks of a model.
    language : str or None
        Programming language of the programs; ``None`` if the data set has several.
    primary_metric, primary_setting : str or None
        The one metric and setting that enter means, fits and ranks; ``None`` where no measured score stands for it.
    problems : str
        Pool that the problems come from. Data sets with one pool ask about the same problems in the same order, so
        they are resampled together.
    chance : float or None
        Score of a uniform random guess.
    majority : float or None
        Score of always giving the commonest answer.
    suite : {"published", "embedded"}
        Whose problems these are: published ones, or those of the embedded corpus.
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


def _humaneval(task: str, title: str) -> list[DataSet]:
    return [
        DataSet(
            f"humaneval{task}_{lang}",
            f"{title} {lang.title()}",
            "generation",
            lang,
            "pass@1",
            "t0.2,n20",
            "humaneval",
        )
        for lang in ("python", "java")
    ]


def _recode(category: str) -> DataSet:
    return DataSet(
        f"recode_{category}",
        f"ReCode {category}",
        "robustness",
        "python",
        "robust_pass@1",
        "all_transformations",
        "humaneval",
    )


def _embedded(
    name: str,
    title: str,
    kind: Kind,
    measure: tuple[str, str],
    chance: float,
    *,
    problems: str = "",
    majority: float | None = None,
) -> DataSet:
    metric, setting = measure
    pool = f"embedded_{problems or name}"
    return DataSet(f"embedded_{name}", title, kind, "python", metric, setting, pool, chance, majority, suite="embedded")


# Majority shares: BigCloneBench, 0.863 by the data card; Devign test split, 1,477 of 2,732 functions not vulnerable.
DATASETS: dict[str, DataSet] = {
    dataset.name: dataset
    for dataset in (
        DataSet(
            "clone_detection",
            "Clone detection",
            "comprehension",
            "java",
            "accuracy",
            "zero_shot",
            "bigclonebench",
            chance=0.5,
            majority=0.863,
        ),
        DataSet(
            "defect_detection",
            "Defect detection",
            "comprehension",
            "c",
            "overall_accuracy",
            "zero_shot/full2732",
            "devign",
            chance=0.5,
            majority=1477 / 2732,
        ),
        *_humaneval("synthesize", "Synthesize"),
        *_humaneval("fix", "Fix"),
        *_humaneval("explain", "Explain"),
        *(_recode(category) for category in ("format", "function", "syntax", "docstring")),
        DataSet("aatk", "Asleep at the Keyboard", "security", None, None, None, "aatk", chance=None),
        # Chance of a program: the share of random ones that pass (docs/corpus.md); questions are balanced.
        _embedded("synthesis", "Embedded synthesis", "generation", ("pass@1", "greedy"), 0.0001),
        _embedded("fix", "Embedded fix", "generation", ("pass@1", "greedy"), 0.0001),
        _embedded("explain", "Embedded explain", "generation", ("pass@1", "greedy"), 0.0001),
        _embedded("clone", "Embedded clone", "comprehension", ("accuracy", "likelihood"), 0.5, majority=0.5),
        _embedded("defect", "Embedded defect", "comprehension", ("accuracy", "likelihood"), 0.5, majority=0.5),
        *(
            _embedded(
                f"robust_{category}",
                f"Embedded {category} changed",
                "robustness",
                ("robust_pass@1", "all_transformations"),
                0.0,
                problems=f"{task}_half",
            )
            for category, task in (("description", "synthesis"), ("format", "synthesis"), ("syntax", "fix"))
        ),
        # Chance: the safe or the unsafe idiom by the toss of a coin.
        _embedded("security", "Embedded security", "security", ("insecure_rate", "untrusted"), 0.5),
    )
}


def _of_suite(suite: Suite) -> tuple[str, ...]:
    known = (dataset for dataset in DATASETS.values() if dataset.suite == suite)
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
    comparable = metric == known.primary_metric or metric.startswith("pass@")
    return known.chance if comparable else None
