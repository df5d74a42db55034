"""The error of the project: what cannot be answered, or a record that cannot be trusted, and what to do about it."""

from dataclasses import dataclass
from pathlib import Path


class Refusal(ValueError):
    """A question that these data or arguments cannot answer; the message names the thing, the value and the remedy."""


@dataclass(frozen=True)
class FileProblem:
    """What is wrong with one field of one file, and what to do about it."""

    path: Path
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.field}: {self.message}" if self.field else f"{self.path}: {self.message}"


class RecordError(Refusal):
    """A record that cannot be read, written or trusted; the message names file, field, value and remedy."""

    def __init__(self, problems: list[FileProblem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems
