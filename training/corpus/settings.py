"""Which text the embedded corpus holds: a frozen specification with a name and a digest."""

import hashlib
import json
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, StringConstraints, model_validator

from training.corpus.programs import CONSTANTS, Kind

CORPUS_VERSION = 1
"""Version of the generator: raised whenever the same settings make other text. It enters the digest."""

Split = Literal["train", "validation", "test"]

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
"""Parts of the corpus. Programs of two and more operations belong to exactly one."""

Task = Literal["synthesis", "fix", "explain", "clone", "defect", "security"]

TASKS: tuple[Task, ...] = ("synthesis", "fix", "explain", "clone", "defect", "security")
"""Instruction tasks. Pre-training documents are the seventh kind of item, `COMPLETION`."""

COMPLETION = "completion"
"""Task of a base model: the body of a function from its header and docstring, as in the pre-training stream."""

MAX_OPS = 4
"""Most operations of a program: whether a program of k needs k is decided against all programs of fewer."""

Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Mixture(_Settings):
    """Shares of the tasks in the instruction stream; they add up to 1.

    Attributes
    ----------
    synthesis, fix, explain, clone, defect, security : float
        Share of each task.

    Raises
    ------
    pydantic.ValidationError
        If a share is negative, or they do not add up to 1.
    """

    synthesis: Weight = 0.25
    fix: Weight = 0.2
    explain: Weight = 0.15
    clone: Weight = 0.15
    defect: Weight = 0.15
    security: Weight = 0.1

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        total = sum(getattr(self, task) for task in TASKS)
        if abs(total - 1) > 1e-9:
            raise ValueError(f"the shares of the tasks add up to {total:g}; make them add up to 1")
        return self


class CorpusSettings(_Settings):
    """Everything that decides the embedded corpus' text; the defaults are the project's corpus.

    Attributes
    ----------
    kinds : tuple of {"list", "number", "string"}
        Kinds of values that programs work on.
    max_ops : int
        Most operations in a program, from 2 to 4.
    ops_weights : tuple of float
        Relative frequency of programs of 1, 2, 3 and 4 operations in the streams.
    max_grade : int
        Hardest operations used (see `Operation.grade`).
    constants : tuple of int
        Constants used, out of 2, 3 and 5.
    constant_share : float
        Chance of each drawn operation to be one with a constant. Their share in the text is a little larger, because
        programs without constants are more often redundant; the default keeps it under a quarter.
    phrasings : int
        Ways to describe a program, from 1 to 3.
    java_share : float
        Share of Java among the items of synthesis, fix and explain; the rest is Python.
    function_name : str
        The one name of all functions.
    fix_shows_description : bool
        Whether a fix says what the function should do, beside its failing behaviour.
    near_miss_share : float
        Share of the wrong programs in clone and defect questions that differ from the right one by one mutation; the
        others are unrelated programs of as many operations.
    unsafe_share_trusted, unsafe_share_untrusted : float
        How often a security item's answer uses the unsafe idiom, where its input is said to be the program's own or
        to come from outside.
    mixture : Mixture
        Shares of the instruction tasks.
    validation_share, test_share : float
        Shares of the programs kept for validation and for test.
    split_seed : int
        Seed of that division, and of the problem sets and the tokenizer, which all runs share.
    vocab_size : int
        Most tokens of the tokenizer.
    tokenizer_documents : int
        Documents of each stream that the tokenizer is trained on.

    Raises
    ------
    pydantic.ValidationError
        If a value is out of range or repeated.
    """

    kinds: Annotated[tuple[Kind, ...], Field(min_length=1)] = ("list",)
    max_ops: Annotated[int, Field(ge=2, le=MAX_OPS)] = MAX_OPS
    ops_weights: tuple[Weight, Weight, Weight, Weight] = (0.1, 0.3, 0.3, 0.3)
    max_grade: Annotated[int, Field(ge=1, le=3)] = 3
    constants: tuple[Literal[2, 3, 5], ...] = CONSTANTS
    constant_share: Share = 0.2
    phrasings: Annotated[int, Field(ge=1, le=3)] = 2
    java_share: Share = 0.0
    function_name: Annotated[str, StringConstraints(pattern=r"^[a-z]+$")] = "solve"
    fix_shows_description: bool = True
    near_miss_share: Share = 0.5
    unsafe_share_trusted: Share = 0.8
    unsafe_share_untrusted: Share = 0.2
    mixture: Mixture = Mixture()
    validation_share: Annotated[float, Field(gt=0, lt=0.5)] = 0.2
    test_share: Annotated[float, Field(gt=0, lt=0.5)] = 0.2
    split_seed: Annotated[int, Field(ge=0)] = 0
    vocab_size: Annotated[int, Field(ge=300)] = 1024
    tokenizer_documents: PositiveInt = 2000

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        for name, values in (("kinds", self.kinds), ("constants", self.constants)):
            if len(set(values)) < len(values):
                raise ValueError(f"{name} {values} repeats a value; name each once")
        if self.constant_share > 0 and not self.constants and self.max_grade > 1:
            raise ValueError("constant_share is positive but there are no constants; give some, or set the share to 0")
        if not sum(self.ops_weights[: self.max_ops]) > 0:
            raise ValueError(f"ops_weights {self.ops_weights} leave no program of up to {self.max_ops} operations")
        return self

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits that stand for the settings and the generator's version."""
        content = {"version": CORPUS_VERSION, **self.model_dump(mode="json")}
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:8]

    @property
    def label(self) -> str:
        """Name under which a run records its corpus: ``embedded-`` and the digest."""
        return f"embedded-{self.digest}"
