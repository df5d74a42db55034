"""What can be measured on a run: the metrics, the data sets, and what each number means.

`METRICS` fixes the range and the direction of every metric, so that a percentage stored as a fraction, or a robustness
drop read as a pass rate, is an error when a record is made and not a wrong point in a figure. `DATASETS` names, for
each data set of the study, the one metric and setting that enter means, fits and ranks. It holds two suites, the
published data sets and those of the embedded corpus, which share no mean and no panel. Any other data set is one of the
user's own: it takes part in everything but means and claims, by what `declare` says of it and else by its records.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite
from pathlib import Path
from typing import Literal

from astraios_analysis.records.reading import read_toml
from astraios_analysis.records.refusal import Refusal, fail

Kind = Literal["comprehension", "generation", "answers", "robustness", "security", "own"]
Suite = Literal["published", "embedded", "mean", "own"]

# The one measured quantity beside scores: validation cross-entropy, by its name in records and tables, and its metric.
LOSS, LOSS_METRIC = "val_loss", "nats per token"
# The mean over code generation: a score like others (`records.frame`), but no data set beside those it is over.
MEAN_GENERATION = "mean_generation"
# The grid of the 28 published models, and settings of their scores on changed prompts.
RELEASED, NOMINAL, ALL_TRANSFORMATIONS = "released", "nominal", "all_transformations"
DECLARATIONS = "datasets.toml"
"""File beside records that declares data sets of one's own."""


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
        return f"{left}, {self.upper:g}{')' if self.upper == inf else ']'}"

    @property
    def is_bounded(self) -> bool:
        """Whether values are shares of a range, and not a loss, which has a floor and no top."""
        return isfinite(self.lower) and isfinite(self.upper)

    def turn(self, values):
        """Turn values round where less is better, so that more is; done twice, it gives the values again."""
        if self.higher_is_better is not False:
            return values
        return (self.lower + self.upper if self.is_bounded else 0.0) - values


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
        ("f1", "F1", "harmonic mean of precision and recall"),
        ("rouge_l", "ROUGE-L", "longest common subsequence with the reference (Lin 2004)"),
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
        ("stereotype_share", "stereotypes", "pairs whose stereotype is the likelier sentence (Nangia et al. 2020)"),
    ),
}
# Of an equal preference for all answers.
_CHANCE = {"choice_accuracy": 0.25, "choice_probability": 0.25, "brier": 0.25}
_CHANCE |= dict.fromkeys(("preference_auc", "safe_share", "auc", "stereotype_share"), 0.5)
METRICS: dict[str, Metric] = {
    name: Metric(name, label, 0.0, 1.0, better, meaning, _CHANCE.get(name))
    for better, shares in _SHARES.items()
    for name, label, meaning in shares
}
METRICS |= {
    metric.name: metric
    for metric in (
        Metric("robust_drop@1", "relative drop", -inf, 1.0, False, "(nominal - robust pass@1) / nominal"),
        Metric("mcc", "Matthews correlation", -1.0, 1.0, True, "correlation of answer and label"),
        Metric("bleu", "BLEU", 0.0, 100.0, True, "overlap with references (Papineni et al. 2002)"),
        Metric("chrf", "chrF", 0.0, 100.0, True, "F of character n-grams (Popovic 2015)"),
        Metric("perplexity", "perplexity", 1.0, inf, False, "exponential of the cross-entropy"),
        Metric("bits_per_byte", "bits per byte", 0.0, inf, False, "cross-entropy in bits per byte of text"),
        Metric(
            "cross_entropy", "cross-entropy", 0.0, inf, False, "cross-entropy of the data set's text, nats per token"
        ),
        Metric("likelihood_difference", "log-likelihood difference", 0.0, inf, None, "mean distance of pairs, in nats"),
        Metric(LOSS_METRIC, "validation loss", 0.0, inf, False, "validation cross-entropy, nats per token"),
    )
}
TEXT_LOSSES = ("perplexity", "bits_per_byte", "cross_entropy", LOSS_METRIC)
"""Losses on a text: a harder one would move all models together."""


@dataclass(frozen=True)
class DataSet:
    """A data set and its primary measure, the one metric and setting that enter means, fits and ranks.

    Both are None where no measured score stands for it. Data sets with one pool of ``problems`` ask about the same
    problems in the same order, so they are resampled together. ``language`` is None where there are several;
    ``chance`` is the score of a uniform random guess (of accuracy where no measure is primary), ``majority`` that of
    always giving the commonest answer. What ``is_extra`` is no data set of the study, and takes part in everything but
    its means and the votes on its claims. A mean has ``parts``, the data sets that it may be over.
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
    n_items: int | None = None

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
    name: str, kind: Kind, measure: tuple[str | None, str | None], chance: float | None, *, pool: str = ""
) -> DataSet:
    title = f"Embedded {name}"
    if kind == "robustness":
        name, title = f"robust_{name}", f"{title} changed"
    pool = f"embedded_{pool or name}"
    return DataSet(f"embedded_{name}", title, kind, "python", *measure, pool, chance, suite="embedded")


ANSWERS = "right_answers"
"""Setting of the cross-entropy of a task's right answers, on validation problems."""


def _answers(task: str) -> DataSet:
    """Return the data set of a task's losses of right answers, on validation problems."""
    measure, pool = ("cross_entropy", ANSWERS), f"{task}_answers"
    return DataSet(f"answers_{task}", f"Answers of {task}", "answers", "python", *measure, pool, None, suite="embedded")


_HUMANEVALPACK = tuple(
    _humaneval(task, language) for task in ("synthesize", "fix", "explain") for language in ("python", "java")
)
_GREEDY = ("pass@1", "greedy")
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
        # Headlines of the grid `ladder` (docs/ladder.md). Chance of a program: the share of random ones that pass
        # (docs/corpus.md).
        *(_embedded(task, "generation", _GREEDY, 0.0001) for task in ("synthesis", "fix")),
        _embedded("explain", "generation", ("choice_accuracy", "choice"), 0.25),
        # No score stands for them: choices hardly leave chance, or show neither sizes nor methods.
        *(_embedded(task, "comprehension", (None, None), 0.5) for task in ("clone", "defect")),
        *(_answers(task) for task in ("synthesis", "fix", "explain", "clone", "defect", "security")),
        *(_embedded(name, "robustness", _ROBUST, 0.0, pool=f"{task}_half") for name, task in _CHANGED.items()),
        # Chance: the safe or the unsafe idiom by the toss of a coin.
        _embedded("security", "security", ("insecure_rate", "untrusted"), 0.5),
    )
}


def _of_suite(suite: Suite) -> tuple[str, ...]:
    known = (dataset for dataset in DATASETS.values() if dataset.suite == suite and not dataset.is_extra)
    kinds = ("comprehension", "generation")
    return tuple(dataset.name for dataset in known if dataset.kind in kinds and dataset.primary_metric)


# The eight data sets whose mean is the study's downstream performance, and the three of the embedded suite.
STUDY_DATASETS: tuple[str, ...] = _of_suite("published")
EMBEDDED_DATASETS: tuple[str, ...] = _of_suite("embedded")
SECOND_FILE = "second_file"


_DECLARED: dict[str, DataSet] = {}
_CHOSEN: dict[str, dict[str, str | None]] = {}


def find_dataset(name: str) -> DataSet:
    """Return a data set of the study, one that was declared, or what is known of any other: its name."""
    if name == LOSS:
        return DataSet(LOSS, "Validation loss", "own", None, LOSS_METRIC, "", LOSS, None, suite="own")
    own = DataSet(name, name, "own", None, None, None, name, chance=None, suite="own")
    own = DATASETS.get(name) or _DECLARED.get(name, own)
    return replace(own, **_CHOSEN[name]) if name in _CHOSEN else own


def choose_measure(dataset: str, metric: str, setting: str | None = None) -> None:
    """Say which score stands for a data set of one's own, whatever is declared beside the records."""
    _require_own(dataset)
    if metric not in METRICS or METRICS[metric].higher_is_better is None:
        known = ", ".join(sorted(name for name, one in METRICS.items() if one.higher_is_better is not None))
        raise Refusal(f"unknown metric {metric!r}; choose from {known}, or declare it in {DECLARATIONS}")
    _CHOSEN[dataset] = {"primary_metric": metric, "primary_setting": setting}


def _require_own(dataset: str) -> None:
    if dataset in DATASETS or dataset == LOSS:
        raise Refusal(f"{dataset!r} is one of the toolkit's own, whose metric is fixed; give yours another name")


def order_datasets(names: Iterable[str]) -> list[str]:
    """Return distinct data sets in the one order: the loss, the study's, the user's own by name."""
    order = {name: place for place, name in enumerate((LOSS, *DATASETS))}
    return sorted(set(names), key=lambda name: (order.get(name, len(order)), name))


def declare(
    dataset: str,
    metric: str | None = None,
    setting: str | None = None,
    *,
    range: Sequence[float] | None = None,
    higher_is_better: bool | None = None,
    chance: float | None = None,
    n_items: int | None = None,
    title: str | None = None,
) -> None:
    """Say what is measured on a data set of one's own.

    Parameters
    ----------
    dataset : str
    metric, setting : str, optional
        Which of its scores stands for it; by default the one that most runs have. A metric that is not known yet
        needs its range and direction.
    range : (float, float), optional
        Smallest and largest value of the metric; ``float("inf")`` for no largest one.
    higher_is_better : bool, optional
    chance : float, optional
        Value of a random guess.
    n_items : int, optional
        Number of problems.
    title : str, optional
        Name in figures.

    Raises
    ------
    Refusal
        If the data set is one of the study's, or what is said of its metric contradicts what is known.
    """
    _require_own(dataset)
    if metric is not None:
        _declare_metric(metric, range, higher_is_better)
    elif range is not None or higher_is_better is not None:
        raise Refusal(f"{dataset}: range and higher_is_better belong to a metric; name it")
    known = METRICS.get(metric or "")
    if known and known.higher_is_better is None:
        raise Refusal(f"{dataset}: {metric} describes answers and says nothing about how good they are; choose another")
    if chance is not None and known and not known.lower <= chance <= known.upper:
        raise Refusal(f"{dataset}: chance {chance:g} is outside {known.describe_range()}, the range of {metric}")
    if n_items is not None and n_items < 1:
        raise Refusal(f"{dataset}: n_items is {n_items}; give the number of problems, 1 or more")
    own = DataSet(
        dataset, title or dataset, "own", None, metric, setting, dataset, chance, suite="own", n_items=n_items
    )
    _DECLARED[dataset] = own


def _declare_metric(name: str, ends: Sequence[float] | None, higher_is_better: bool | None) -> None:
    known = METRICS.get(name)
    if known is None and (ends is None or higher_is_better is None):
        raise Refusal(
            f"unknown metric {name!r}; choose from {', '.join(sorted(METRICS))}, or declare it with range = [0, 1] and "
            f"higher_is_better = true in {DECLARATIONS}"
        )
    lower, upper = (known.lower, known.upper) if ends is None else map(float, ends)
    better = known.higher_is_better if higher_is_better is None else higher_is_better
    if not (isfinite(lower) and lower < upper):
        raise Refusal(f"{name}: range {lower:g} to {upper:g} is none; give the smallest and the largest value")
    if upper == inf and better:
        raise Refusal(f"{name}: a metric of which more is better needs a largest value")
    if known is not None and (known.lower, known.upper, known.higher_is_better) != (lower, upper, better):
        words = "higher is better" if known.higher_is_better else "lower is better"
        raise Refusal(f"{name} is known with range {known.describe_range()}, {words}; give yours another name")
    METRICS.setdefault(name, Metric(name, name, lower, upper, better, "declared by the user"))


_ENTRIES = {"metric": str, "setting": str, "range": list, "higher_is_better": bool, "chance": (int, float)}
_ENTRIES |= {"n_items": int, "title": str}


def read_declarations(files: Iterable[Path]) -> None:
    """Declare the data sets of those files that declare some: a table each, with what `declare` takes."""
    declared = [(path, *entry) for path in files if path.name == DECLARATIONS for entry in read_toml(path).items()]
    for path, name, said in declared:
        try:
            if not isinstance(said, dict):
                raise Refusal(f'is {said!r}; write a table: [{name}], then metric = "accuracy"')
            for key, value in said.items():
                if key not in _ENTRIES:
                    raise Refusal(f"{key} is nothing that is declared; choose from {', '.join(_ENTRIES)}")
                if not isinstance(value, _ENTRIES[key]) or (isinstance(value, bool) and key != "higher_is_better"):
                    raise Refusal(f"{key} is {value!r}")
            declare(name, **said)
        except (Refusal, TypeError, ValueError) as error:
            raise fail(path, str(error), f"[{name}]") from error


def chance_level(dataset: str, metric: str) -> float | None:
    """Return the score of a random guess on a data set's metric, or None where none is known."""
    known = find_dataset(dataset)
    if metric not in METRICS:
        return None
    if METRICS[metric].chance is not None:
        return METRICS[metric].chance
    primary = known.primary_metric or "accuracy"
    of_programs = metric.startswith("pass@") and "pass@" in primary
    return known.chance if metric == primary or of_programs else None
