"""What a user says about runs that no file says: grid, method, size, seed, counts. What is missing is asked for."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from astraios_analysis.records.files import FileProblem, RecordError
from astraios_analysis.records.released import GRID as RELEASED
from astraios_analysis.records.schema import RunRecord

COUNTS = ("n_params", "n_params_base", "n_params_base_nonembedding", "n_params_updated")
_UNITS = ((10**9, "b"), (10**6, "m"), (10**3, "k"))


@dataclass(frozen=True)
class Given:
    """Values given as options; None where a file must say it.

    Attributes
    ----------
    grid, run_id, method, size : str, optional
    seed : int, optional
    held_out : tuple of str
        Sizes that are held out.
    n_params, n_params_base, n_params_base_nonembedding, n_params_updated, n_tokens : int, optional
    """

    grid: str | None = None
    run_id: str | None = None
    method: str | None = None
    size: str | None = None
    seed: int | None = None
    held_out: tuple[str, ...] = ()
    n_params: int | None = None
    n_params_base: int | None = None
    n_params_base_nonembedding: int | None = None
    n_params_updated: int | None = None
    n_tokens: int | None = None

    def counts(self) -> dict[str, int]:
        """Return the counts of parameters that were given."""
        return {name: value for name in COUNTS if (value := getattr(self, name)) is not None}

    def names_a_run(self) -> bool:
        """Whether more than a name was given: a run is described, and not only pointed at."""
        return self.grid is not None or self.method is not None or bool(self.counts())


def fail(path: Path, message: str, field: str = "") -> RecordError:
    """Return the error that says what is wrong with one key, line or column of a file."""
    return RecordError([FileProblem(path, field, message)])


def read_json(path: Path) -> dict:
    """Return the object in a JSON file.

    Raises
    ------
    RecordError
        If the file is not there, is not JSON, or holds something else than an object.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise fail(path, f"cannot be read ({error.strerror}); check the path and its permissions") from error
    except (ValueError, RecursionError) as error:
        raise fail(path, f"is not valid JSON ({error}); it may be cut off: restore it") from error
    if not isinstance(content, dict):
        raise fail(path, f"holds a {type(content).__name__}, not a JSON object; is it the right file?")
    return content


def size_label(n_params_base: int) -> str:
    """Return the label of a size that nobody named: its parameters to three digits, for example ``1.14b``."""
    for unit, suffix in _UNITS:
        if n_params_base >= 0.9995 * unit:
            return f"{float(f'{n_params_base / unit:.3g}'):g}{suffix}"
    return str(n_params_base)


def complete_counts(counts: Mapping[str, int], method: str | None) -> dict[str, int]:
    """Return counts with what follows from the method.

    Full fine-tuning updates every parameter and adds none. Every other method updates what it adds, so a tuned model
    has the base model's parameters and the updated ones; where that is not so, ``n_params`` must be given.
    """
    counts = dict(counts)
    if method == "fft" and "n_params_base" in counts:
        counts.setdefault("n_params_updated", counts["n_params_base"])
        counts.setdefault("n_params", counts["n_params_base"])
    if method is not None and {"n_params_base", "n_params_updated"} <= counts.keys():
        counts.setdefault("n_params", counts["n_params_base"] + counts["n_params_updated"])
    return counts


def run_name(*parts: object) -> str:
    """Return the name of a run made of what tells it apart."""
    text = "-".join(str(part) for part in parts if part is not None)
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-")


def make_record(path: Path, place: str, fields: Mapping[str, object]) -> RunRecord:
    """Return a record, or the error that names the file, the place in it and everything wrong with the fields.

    Raises
    ------
    RecordError
    """
    if fields.get("grid") == RELEASED:
        raise fail(path, f"{RELEASED!r} is the grid of the published models; choose another name with --grid", place)
    try:
        return RunRecord(**fields)
    except ValidationError as error:
        raise RecordError([_explain(path, place, detail) for detail in error.errors()]) from error


def _explain(path: Path, place: str, detail) -> FileProblem:
    """Say what is wrong with one field in the words of the schema."""
    field = ".".join(str(part) for part in detail["loc"])
    where = ", ".join(part for part in (place, field) if part)
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] != "value_error":
        message = f"is {detail['input']!r}; {message[0].lower()}{message[1:]}"
    return FileProblem(path, where, message)
