"""The error of the project: what cannot be answered, or a record that cannot be trusted, and what to do about it."""

from collections.abc import Iterable
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


def fail(path: Path, message: str, field: str = "") -> RecordError:
    """Return the error that says what is wrong with one line, column or key of a file."""
    return RecordError([FileProblem(path, field, message)])


def require_known(what: str, wanted: Iterable[object], known: Iterable[object]) -> None:
    """Refuse a value that is not known, naming the choices."""
    known = list(known)
    for value in wanted:
        if value not in known:
            raise Refusal(f"unknown {what} {value!r}; choose from {', '.join(map(str, known)) or 'none'}")
