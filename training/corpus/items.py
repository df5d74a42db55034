"""One item of the corpus: what a document is made from, and what a problem set lists."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

from training.corpus.cases import Case
from training.corpus.layout import Document, Example, lay_out
from training.corpus.programs import Program
from training.corpus.settings import COMPLETION, Split

YES, NO = "Yes", "No"
"""Answers to clone and defect questions, and their choices in this order."""


@dataclass(frozen=True)
class Item:
    """A prompt with its reference answer and how to judge another answer.

    Attributes
    ----------
    task : str
        One of `TASKS`, or `COMPLETION` for a documented function.
    language : {"python", "java"}
        Language of the programs in it.
    split : {"train", "validation", "test"}
        Part of the corpus.
    prompt : str
        What a model is given; in the question layout for tasks, as it is for documented functions.
    reference : str
        The right answer; for security, the answer of the training text (in a problem, the safe one).
    programs : tuple of Program
        Every program that the text shows or describes, the one it is about first.
    seen : bool
        Whether that program is one operation's work, so that it occurs in every split; kept out of headline scores.
    cases : tuple of Case
        Inputs and outputs by which a program is judged; in problems only.
    choices : tuple of str
        The possible answers of a question with few; the references of both idioms for security, safe one first.
    details : dict
        What else is known of it, for a breakdown of scores.
    """

    task: str
    language: str
    split: Split
    prompt: str
    reference: str
    programs: tuple[Program, ...] = ()
    seen: bool = False
    cases: tuple[Case, ...] = ()
    choices: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def n_ops(self) -> int | None:
        """Operations of the program it is about; none for security."""
        return self.programs[0].n_ops if self.programs else None

    @property
    def id(self) -> str:
        """Name of the item: task, split and a digest of the prompt, in which the items of a problem set differ."""
        return f"{self.task}-{self.split}-{hashlib.sha256(self.prompt.encode()).hexdigest()[:12]}"

    @property
    def example(self) -> Example:
        """Prompt and completion, as a JSONL file would give them."""
        return Example(self.prompt, self.reference)

    @property
    def document(self) -> Document:
        """The text as a model reads it."""
        if self.task == COMPLETION:
            return Document(self.prompt, self.reference)
        return lay_out(self.example)

    def to_json(self) -> dict[str, Any]:
        """Return the item as plain values, for a line of JSONL."""
        return {
            "task": self.task,
            "id": self.id,
            "language": self.language,
            "split": self.split,
            "prompt": self.prompt,
            "reference": self.reference,
            "tests": [{"input": case.input, "output": case.output} for case in self.cases],
            "n_ops": self.n_ops,
            "seen": self.seen,
            "choices": list(self.choices),
            "details": {**self.details, "programs": [program.label for program in self.programs]},
        }
