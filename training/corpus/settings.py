"""Which text the embedded corpus holds: a frozen specification with a name and a digest."""

import hashlib
import json
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

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

FUNCTION_NAME = "solve"
"""Name of all functions: copying invented names is a task of its own that hides all others in small models."""

Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]


class Frozen(BaseModel):
    """What is set: checked, and never changed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Mixture(Frozen):
    """Shares of the tasks in the instruction stream; they add up to 1."""

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


class CorpusSettings(Frozen):
    """Everything that decides the embedded corpus' text; the defaults are the project's corpus."""

    # Of the values that programs work on.
    kinds: Annotated[tuple[Kind, ...], Field(min_length=1)] = ("list",)
    # Relative frequency of programs of 1, 2, 3 and 4 operations in the streams.
    ops_weights: tuple[Weight, Weight, Weight, Weight] = (0.1, 0.3, 0.3, 0.3)
    # Chance of a drawn operation to have a constant; a little less than their share in the text, because programs
    # without constants are more often redundant.
    constant_share: Share = 0.2
    phrasings: Annotated[int, Field(ge=1, le=3)] = 2
    # Of the wrong programs in clone and defect questions, those one mutation away; the others are unrelated.
    near_miss_share: Share = 0.5
    # How often a security answer uses the unsafe idiom, its input being the program's own or from outside.
    unsafe_share_trusted: Share = 0.8
    unsafe_share_untrusted: Share = 0.2
    mixture: Mixture = Mixture()
    # Of base text, which has each task's content as it stands in code and not as a question (`items.told_in_code`);
    # without it base text is documented functions alone.
    pretraining_mixture: Mixture | None = Mixture(
        synthesis=0.4, fix=0.15, explain=0.15, clone=0.1, defect=0.1, security=0.1
    )
    validation_share: Annotated[float, Field(gt=0, lt=0.5)] = 0.2
    test_share: Annotated[float, Field(gt=0, lt=0.5)] = 0.2
    # Of the division, the problem sets and the tokenizer, which all runs share.
    split_seed: Annotated[int, Field(ge=0)] = 0
    # Of each stream, those whose words the tokenizer knows.
    tokenizer_documents: PositiveInt = 2000
    # There was a choice once; the labels of corpora, and so the names of runs, still have what was chosen.
    max_ops: Literal[4] = MAX_OPS
    max_grade: Literal[3] = 3
    constants: tuple[Literal[2], Literal[3], Literal[5]] = CONSTANTS
    function_name: Literal["solve"] = FUNCTION_NAME
    fix_shows_description: Literal[True] = True
    java_share: Annotated[float, Field(ge=0, le=0)] = 0.0
    vocab_size: Literal[1024] = 1024
    vocabulary: Literal["used"] = "used"

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if len(set(self.kinds)) < len(self.kinds):
            raise ValueError(f"kinds {self.kinds} repeats a value; name each once")
        if not sum(self.ops_weights) > 0:
            raise ValueError(f"ops_weights {self.ops_weights} leave no program of up to {MAX_OPS} operations")
        return self

    def split_of(self, name: str) -> Split:
        """Return the split of what has a name: a hash of it and ``split_seed``."""
        digest = hashlib.blake2b(f"{self.split_seed}:{name}".encode(), digest_size=7).digest()
        share = int.from_bytes(digest) / 2**56
        if share < self.test_share:
            return "test"
        return "validation" if share < self.test_share + self.validation_share else "train"

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits that stand for the settings and the generator's version."""
        content = {"version": CORPUS_VERSION, **self.model_dump(mode="json", exclude_none=True)}
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:8]

    @property
    def label(self) -> str:
        """Name under which a run records its corpus: ``embedded-`` and the digest."""
        return f"embedded-{self.digest}"
