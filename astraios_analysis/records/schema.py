"""The one schema of a finished run: `RunRecord` and the `Score`s in it.

Every record is frozen and validated when it is made, so nothing downstream has to doubt a value. What was not measured
is absent (``None`` in memory, no key in a file): never 0 and never NaN.
"""

import json
import operator
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from astraios_analysis.records.refusal import RecordError, explain
from astraios_analysis.records.registry import DECLARATIONS, METRICS

SCHEMA_VERSION = 2
# The study's, in the order of every figure; a record may have any other.
METHODS: tuple[str, ...] = ("fft", "lora", "ptuning", "ia3", "adapterh", "adapterp", "parallel")

# Scores arrive rounded (the released tables to 1e-6 after conversion); counts must explain them to this precision.
_ROUNDING = 1e-6
# Tables hold integers in 64 bits; no count of anything here comes near.
_LARGEST = 2**63 - 1

# Letters of any script, small ones; short enough for the names of files that they become a part of.
Name = Annotated[str, StringConstraints(pattern=r"^[^\W_\p{Lu}][^\W\p{Lu}]*$", max_length=100)]
# A method is whatever its user calls it, in one word.
Method = Annotated[str, StringConstraints(pattern=r"^[^\s,]+$", max_length=100)]
RunId = Annotated[str, StringConstraints(pattern=r"^[^\W_][\w.-]*$")]
Count = Annotated[int, Field(ge=0, le=_LARGEST)]
PositiveCount = Annotated[int, Field(gt=0, le=_LARGEST)]
NonNegative = Annotated[float, Field(ge=0)]


@contextmanager
def validating(path: Path, place: str = "") -> Iterator[None]:
    """Refuse what is wrong with anything made here of a file, or of a place in it, every field of it."""
    try:
        yield
    except ValidationError as error:
        raise RecordError([explain(path, detail, place) for detail in error.errors()]) from error


class _Schema(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ProblemCounts(_Schema):
    """Outcomes problem by problem: of ``n_samples[i]`` programs for ``problem_ids[i]``, ``n_passed[i]`` passed.

    Of an insecure rate, which is a share of valid programs: ``n_samples[i]`` were valid, ``n_passed[i]`` have a flaw.
    """

    problem_ids: tuple[int | str, ...]
    n_samples: tuple[Count, ...]
    n_passed: tuple[Count, ...]

    @model_validator(mode="after")
    def _agree(self) -> Self:
        lengths = {len(self.problem_ids), len(self.n_samples), len(self.n_passed)}
        if len(lengths) != 1 or not self.problem_ids:
            raise ValueError(
                "problem_ids, n_samples and n_passed must have one entry for each problem; "
                f"they have {len(self.problem_ids)}, {len(self.n_samples)} and {len(self.n_passed)}"
            )
        if len(set(self.problem_ids)) != len(self.problem_ids):
            raise ValueError("problem_ids must be distinct; merge the counts of a repeated problem")
        exceeds = list(map(operator.gt, self.n_passed, self.n_samples))
        if any(exceeds):
            i = exceeds.index(True)
            raise ValueError(
                f"problem {self.problem_ids[i]}: n_passed {self.n_passed[i]} exceeds n_samples {self.n_samples[i]}"
            )
        return self


class Score(_Schema):
    """One number measured on one data set.

    Attributes
    ----------
    dataset, language, setting, metric : str
        What was measured; the four together are unique in a record. ``metric`` is a key of `METRICS`.
    value : float
        In the metric's range. Rates are fractions in [0, 1], not percentages.
    stderr : float, optional
        Standard error over problems, in the unit of ``value``.
    reading_error : float, optional
        Largest error of reading the value off a plot, for digitised values.
    chance : float, optional
        Value that a uniform random guess scores.
    n_items : int, optional
        Number of problems: the independent items a bootstrap resamples. Required for every rate.
    n_samples, n_passed : int, optional
        Programs or answers scored over all problems, and how many passed.
    problems : ProblemCounts, optional
        The counts problem by problem. They are stored once for each data set, language and setting, with the
        metric that is their plain mean; other metrics of that setting are functions of the same counts.
    source : {"measured", "digitised"}
        Whether outcomes were scored, or the value was read off a published plot.
    source_file : str, optional
        The file of generations that was scored, or the plot that was read; of a mean, the data sets it is over.
    """

    dataset: Name
    language: Name
    setting: Annotated[str, StringConstraints(min_length=1)]
    metric: str
    value: float
    stderr: NonNegative | None = None
    reading_error: NonNegative | None = None
    chance: float | None = None
    n_items: PositiveCount | None = None
    n_samples: PositiveCount | None = None
    n_passed: Count | None = None
    problems: ProblemCounts | None = None
    source: Literal["measured", "digitised"]
    source_file: str | None = None

    def __repr__(self) -> str:
        """Return one line: what was measured, and the value."""
        error = "" if self.stderr is None else f" ± {self.stderr:.2g}"
        return f"Score({self.dataset}, {self.language}, {self.setting}, {self.metric}: {self.value:.6g}{error})"

    __str__ = __repr__

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Return what identifies the score in a record: (data set, language, setting, metric)."""
        return self.dataset, self.language, self.setting, self.metric

    @field_validator("metric")
    @classmethod
    def _known_metric(cls, metric: str) -> str:
        if metric not in METRICS:
            known = ", ".join(sorted(METRICS))
            message = (
                f"unknown metric {metric!r}; choose from {known}, or declare it in {DECLARATIONS} beside the records"
            )
            raise ValueError(message)
        return metric

    @model_validator(mode="after")
    def _in_range(self) -> Self:
        metric = METRICS[self.metric]
        if not metric.lower <= self.value <= metric.upper:
            hint = "; divide a percentage by 100" if 1 < self.value <= 100 else ""
            raise ValueError(
                f"value {self.value:g} is outside {metric.describe_range()}, the range of {self.metric}{hint}"
            )
        if self.chance is not None and not metric.lower <= self.chance <= metric.upper:
            raise ValueError(f"chance {self.chance:g} is outside {metric.describe_range()}, the range of {self.metric}")
        if self.n_items is None:
            raise ValueError(f"{self.metric} needs n_items, the number of problems it was measured on")
        if self.source == "measured" and self.reading_error is not None:
            raise ValueError("reading_error belongs to digitised values; leave it out of a measured one")
        return self

    @model_validator(mode="after")
    def _counts_agree(self) -> Self:
        if self.n_passed is not None and self.n_samples is None:
            raise ValueError("n_passed needs n_samples, the number of programs or answers scored")
        if self.n_passed is not None and self.n_samples is not None and self.n_passed > self.n_samples:
            raise ValueError(f"n_passed {self.n_passed} exceeds n_samples {self.n_samples}")
        if self.problems is None:
            return self
        if len(self.problems.problem_ids) != self.n_items:
            raise ValueError(f"n_items is {self.n_items} but problems lists {len(self.problems.problem_ids)}")
        totals = {"n_samples": sum(self.problems.n_samples), "n_passed": sum(self.problems.n_passed)}
        for name, total in totals.items():
            if getattr(self, name) not in (None, total):
                raise ValueError(f"{name} is {getattr(self, name)} but the problems add up to {total}")
        if self.metric == "insecure_rate":
            mean, what = totals["n_passed"] / max(totals["n_samples"], 1), "share of valid programs"
        elif not all(self.problems.n_samples):
            raise ValueError(f"{self.metric} needs samples of every problem; leave out those without")
        else:
            shares = map(operator.truediv, self.problems.n_passed, self.problems.n_samples)
            mean, what = sum(shares) / len(self.problems.problem_ids), "mean pass rate"
        if abs(mean - self.value) > _ROUNDING:
            raise ValueError(f"value {self.value:g} is not the {what} {mean:.6f} of the counts in problems")
        return self


class ValidationPoint(_Schema):
    """Validation cross-entropy after a number of optimiser steps, in nats per token."""

    step: Count
    loss: NonNegative
    stderr: NonNegative | None = None
    n_tokens: Count | None = None


class TaskLoss(_Schema):
    """Cross-entropy of a task's right answers on validation problems, nats per token, and its error over problems."""

    loss: NonNegative
    stderr: NonNegative | None = None
    n_targets: PositiveCount


class Cost(_Schema):
    """What a run cost: wall-clock seconds, floating-point operations and peak memory in bytes."""

    seconds: NonNegative | None = None
    flop: NonNegative | None = None
    peak_memory_bytes: Count | None = None


class Provenance(_Schema):
    """Where a record comes from: enough to make it again.

    ``spec`` is the run's specification as written by the trainer; ``origin`` says in words where numbers that this
    project did not train come from. ``processor`` is the kind of processor and the vector instructions that torch used
    on it: on another kind the same run rounds differently.
    """

    origin: str | None = None
    spec: dict[str, JsonValue] | None = None
    commit: str | None = None
    dirty: bool | None = None
    versions: dict[str, str] | None = None
    device: str | None = None
    processor: str | None = None
    created_at: str | None = None
    sandbox: str | None = None

    @field_validator("spec")
    @classmethod
    def _is_json(cls, spec: dict[str, JsonValue] | None) -> dict[str, JsonValue] | None:
        try:
            json.dumps(spec, allow_nan=False, ensure_ascii=False).encode()
        except ValueError as error:
            raise ValueError(f"cannot be written as JSON ({error}); leave out what has no value") from error
        return spec


class RunRecord(_Schema):
    """One finished run of the grid: a base model of one size, tuned by one method with one seed.

    Attributes
    ----------
    schema_version : int
        Version of this schema.
    run_id, grid : str
        Unique name of the run, and the grid it belongs to.
    method : str
        Tuning method: one of `METHODS`, or any other name.
    size : str
        Label of the base model's size. Sizes are ordered by ``n_params_base``, never by label.
    seed : int, optional
        Seed of data, initialisation and order; absent where it is not known.
    held_out : bool
        Whether the size is held out: kept out of every fit and every choice.
    n_params, n_params_base, n_params_updated : int
        Parameters of the tuned model (added ones included), of the base model (embeddings included), and updated.
    n_params_base_nonembedding : int, optional
        Parameters of the base model without token and position embeddings.
    n_tokens : int, optional
        Tokens seen in tuning.
    base_val_loss, val_loss, val_loss_se : float, optional
        Validation cross-entropy before and after tuning and the standard error of the latter, nats per token.
    val_curve : tuple of ValidationPoint
        Validation cross-entropy by step.
    base_task_losses, task_losses : dict of str to TaskLoss
        By task, the cross-entropy of right answers on validation problems, before and after tuning.
    scores : tuple of Score
        Downstream scores.
    cost : Cost, optional
        Seconds, FLOP and memory.
    provenance : Provenance
        Where the record comes from.
    """

    schema_version: int = SCHEMA_VERSION
    run_id: RunId
    grid: Name
    method: Method
    size: Annotated[str, StringConstraints(min_length=1)]
    seed: Count | None = None
    held_out: bool
    n_params: PositiveCount
    n_params_base: PositiveCount
    n_params_base_nonembedding: PositiveCount | None = None
    n_params_updated: PositiveCount
    n_tokens: PositiveCount | None = None
    base_val_loss: NonNegative | None = None
    val_loss: NonNegative | None = None
    val_loss_se: NonNegative | None = None
    val_curve: tuple[ValidationPoint, ...] = ()
    base_task_losses: dict[Name, TaskLoss] = {}
    task_losses: dict[Name, TaskLoss] = {}
    scores: tuple[Score, ...] = ()
    cost: Cost | None = None
    provenance: Provenance = Provenance()

    @field_validator("schema_version")
    @classmethod
    def _known_version(cls, version: int) -> int:
        if version > SCHEMA_VERSION:
            raise ValueError(f"schema version {version} is newer than the {SCHEMA_VERSION} read here; upgrade astraios")
        if version < 1:
            raise ValueError(f"schema version {version} does not exist; versions are 1 to {SCHEMA_VERSION}")
        return version

    @model_validator(mode="after")
    def _counts_agree(self) -> Self:
        for part in ("n_params_base", "n_params_updated"):
            if getattr(self, part) > self.n_params:
                raise ValueError(f"{part} {getattr(self, part)} exceeds n_params {self.n_params}, the tuned model")
        if (self.n_params_base_nonembedding or 0) > self.n_params_base:
            raise ValueError(
                f"n_params_base_nonembedding {self.n_params_base_nonembedding} exceeds n_params_base "
                f"{self.n_params_base}, which includes the embeddings"
            )
        return self

    @model_validator(mode="after")
    def _losses_agree(self) -> Self:
        if self.val_loss is None and self.val_loss_se is not None:
            raise ValueError("val_loss_se is the standard error of val_loss, which is missing; add it or drop both")
        steps = [point.step for point in self.val_curve]
        if steps != sorted(set(steps)):
            raise ValueError("val_curve must have strictly increasing steps")
        return self

    @model_validator(mode="after")
    def _scores_are_distinct(self) -> Self:
        seen: set[tuple[str, str, str, str]] = set()
        for score in self.scores:
            if score.key in seen:
                raise ValueError(f"scores has {', '.join(score.key)} twice; keep one or give one its own setting")
            seen.add(score.key)
        return self

    def __repr__(self) -> str:
        """Return one line: which run it is, and how much was measured."""
        loss = "" if self.val_loss is None else f", val_loss {self.val_loss:.6g}"
        held_out = ", held out" if self.held_out else ""
        what = f"{self.size} {self.method}{held_out}, {self.n_params_updated:,} of {self.n_params:,} parameters updated"
        return f"RunRecord({self.run_id}: {what}{loss}, {len(self.scores)} scores)"

    __str__ = __repr__

    def problem_counts(self, dataset: str, language: str, setting: str) -> ProblemCounts | None:
        """Return the per-problem counts of a data set, language and setting, or None where they were not recorded."""
        for score in self.scores:
            is_asked = score.dataset == dataset and score.setting == setting and score.language == language
            if is_asked and score.problems is not None:
                return score.problems
        return None


def order_methods(methods: Iterable[str]) -> list[str]:
    """Return distinct methods in the one order: the study's, then others by name."""
    order = {name: place for place, name in enumerate(METHODS)}
    return sorted(set(methods), key=lambda name: (order.get(name, len(order)), name))


def known_method(method: str) -> str:
    """Return a method that is trained here, one of `METHODS`; raise ValueError naming the choices otherwise."""
    if method not in METHODS:
        raise ValueError(f"unknown tuning method {method!r}; choose from {', '.join(sorted(METHODS))}")
    return method
