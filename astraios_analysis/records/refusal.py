"""The error of the project: what cannot be answered, or a record that cannot be trusted, and what to do about it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


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


def collect(function: Callable[[T], R], items: Iterable[T]) -> tuple[list[R], list[FileProblem]]:
    """Return what a function makes of each item, and what is wrong with those that it refuses."""
    found, problems = [], []
    for item in items:
        try:
            found.append(function(item))
        except RecordError as error:
            problems += error.problems
    return found, problems


def gather(function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Return what a function makes of each item; what is wrong with any of them is refused together."""
    found, problems = collect(function, items)
    if problems:
        raise RecordError(problems)
    return found


def fold(problems: Iterable[FileProblem], most: int | None = None) -> list[FileProblem]:
    """Return each problem once, with the other places that have it; of more than ``most`` only how many there are."""
    places: dict[tuple[Path, str], dict[str, None]] = {}
    for problem in problems:
        places.setdefault((problem.path, problem.message), {})[problem.field] = None
    found = []
    for (path, message), (first, *others) in places.items():
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        also = f" (also {', '.join(others[:3])}{more})" if others else ""
        found.append(FileProblem(path, first, message + also))
    if most is not None and len(found) > most:
        found[most:] = [FileProblem(found[0].path, "", f"has {len(found) - most} problems more of this kind")]
    return found


def require_known(what: str, wanted: Iterable[object], known: Iterable[object]) -> None:
    """Refuse a value that is not known, naming the choices."""
    known = list(known)
    for value in wanted:
        if value not in known:
            raise Refusal(f"unknown {what} {value!r}; choose from {', '.join(map(str, known)) or 'none'}")


def require_level(level: float) -> float:
    """Return the coverage of an interval; refuse what is no share."""
    if not isinstance(level, Real) or not 0 < level < 1:
        raise Refusal(f"level is {level}; give a share between 0 and 1, such as 0.95")
    return level


def attempt(names: Iterable[T], call: Callable[[T], R]) -> tuple[dict[T, R], dict[T, str]]:
    """Return what a call gives for each name, and for the others why it refuses."""
    found, refused = {}, {}
    for name in names:
        try:
            found[name] = call(name)
        except Refusal as error:
            refused[name] = str(error).removeprefix(f"{name}: ")
    return found, refused


def by_reason(refused: Mapping[T, str]) -> dict[str, str]:
    """Return each reason once, by the names of all that it stopped."""
    names: dict[str, list[str]] = {}
    for name, reason in refused.items():
        names.setdefault(reason, []).append(str(name))
    return {", ".join(of_reason): reason for reason, of_reason in names.items()}


_WORDS = {
    "missing": "is missing; every record has it: add the field",
    "extra_forbidden": "is not a field of this kind of file (value {shown}); remove it or correct its spelling",
    "json_invalid": "cannot be read ({message}); restore the file or run that cell again",
    "finite_number": "is {shown}; a value that was not measured is left out, not written as NaN or infinity",
    "string_pattern_mismatch": "is {shown}; a name has {letters}, and begins with a letter or digit: choose another",
    "value_error": "{message}",
}
_LETTERS = {"run_id": "letters, digits, '_', '.' and '-'", "method": "no spaces and no commas"}


def explain(path: Path, detail: Mapping[str, Any], place: str = "") -> FileProblem:
    """Say what pydantic finds wrong with one field of a file, or of one place in it."""
    field, shown = ".".join(map(str, detail["loc"])), repr(detail["input"])
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    message, letters = detail["msg"].removeprefix("Value error, "), _LETTERS.get(field, "small letters, digits and '_'")
    plain = f"is {shown}; {message[0].lower()}{message[1:]}"
    words = _WORDS.get(detail["type"], "{plain}").format(shown=shown, message=message, letters=letters, plain=plain)
    return FileProblem(path, ", ".join(filter(None, (place, field))) or "record", words)
