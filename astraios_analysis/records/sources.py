"""Where records come from: every released model and trained run below a data folder, as one list; and several grids.

Grids differ in what they hold, so that `PerGrid` holds one value for each, or the reason in words why there is none.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Generic, TypeVar

import pandas as pd

from astraios_analysis.records.files import files_below, peek
from astraios_analysis.records.frame import (
    FileProblem,
    RecordError,
    RunRecord,
    check,
    sort_records,
    with_answers,
    with_mean,
)
from astraios_analysis.records.refusal import Refusal, collect, fail, require_known
from astraios_analysis.records.registry import LOSS, RELEASED, read_declarations


def find_data_dir() -> Path:
    """Return the data folder to use when none is named: ``./data``, or else what came with this package."""
    return _find("data", "run in the repository or pass --data FOLDER")


def find_notebooks_dir() -> Path:
    """Return the folder of notebooks: ``./notebooks``, or else what came with this package."""
    return _find("notebooks", "run in the repository or pass --notebooks DIR")


def find_example() -> Path:
    """Return the simulated table of the examples, which came with this package."""
    return _find("data/examples/runs.csv", "install anew", here=False)


def _find(name: str, remedy: str, *, here: bool = True) -> Path:
    package = Path(__file__).resolve().parents[1]
    # A wheel holds a copy (setup.py); an editable install has the checkout's beside the package.
    beside = package.parent / name if (package.parent / "pyproject.toml").is_file() else None
    for candidate in (Path(name) if here else None, package / "study" / name, beside):
        if candidate and candidate.exists():
            return candidate
    raise fail(Path(name), f"does not exist; {remedy}")


def check_sources(paths: list[Path], grid: str | None = None) -> tuple[list[RunRecord], list[FileProblem]]:
    """Validate record files and folders of records: what could be read, and what not and why.

    With ``grid``, what is of another grid is passed over.
    """
    # What cannot be listed is said when it is read.
    listed, _ = collect(files_below, [path for path in paths if os.path.isdir(path)])
    for files in listed:
        read_declarations(files)
    return check(paths, grid)


def load_records(data_dir: str | Path | None = None, grid: str | None = None) -> list[RunRecord]:
    """Read every record below a data folder (`find_data_dir` by default), of one grid or all, ordered as a table is.

    Anything wrong in the folder is refused. Runs that have what their grid's mean over code generation is over have the
    mean among their scores, and so are losses of right answers.
    """
    folder = find_data_dir() if data_dir is None else Path(data_dir)
    records, problems = check_sources([folder], grid)
    if problems:
        raise RecordError(problems)
    if grid is not None and not records:
        require_known("grid", [grid], sorted({name for name, _, _ in peek_runs(folder)}))
    return with_mean(sort_records(with_answers(record) for record in records if grid in (None, record.grid)))


def peek_runs(data_dir: str | Path | None = None) -> Iterator[tuple[str, object, frozenset[str]]]:
    """Look for grid, seed and data sets of the runs below a data folder, nothing checked: what to choose a grid by."""
    place = find_data_dir() if data_dir is None else Path(data_dir)
    for file in files_below(place) if place.is_dir() else [place]:
        found = peek(file) if file.suffix == ".json" else {}
        if isinstance(found.get("grid"), str):
            scores = [score for score in found.get("scores") or () if isinstance(score, dict)]
            names = {str(score.get("dataset")) for score in scores} | ({LOSS} if "val_loss" in found else set())
            yield found["grid"], found.get("seed"), frozenset(names)


ALL = "all"

T = TypeVar("T")
R = TypeVar("R")


class PerGrid(Mapping[str, T], Generic[T]):
    """One value for each grid that has one, in the order to be shown.

    ``lacking`` holds, for each grid without a value, why.
    """

    def __init__(self, found: Mapping[str, T], lacking: Mapping[str, str] | None = None) -> None:
        self._found = dict(found)
        self.lacking = dict(lacking or {})

    def __getitem__(self, grid: str) -> T:
        """Return a grid's value; for a grid without one, the error says why."""
        if grid in self._found:
            return self._found[grid]
        reason = self.lacking.get(grid, f"no such grid; choose from {', '.join(self._found) or 'none'}")
        raise KeyError(f"{grid}: {reason}")

    def __iter__(self) -> Iterator[str]:
        """Iterate over the grids that have a value."""
        return iter(self._found)

    def __len__(self) -> int:
        """Return how many grids have a value."""
        return len(self._found)

    def __repr__(self) -> str:
        """Return one line a grid."""
        lines = [f"{grid}: {_describe(value)}" for grid, value in self._found.items()]
        return "\n".join([*lines, *(f"{grid}: {reason}" for grid, reason in self.lacking.items())])

    @property
    def table(self) -> pd.DataFrame:
        """The tables of all grids below one another, with the grid in front; without any, why there is none."""
        parts = [table.assign(grid=grid) for grid, table in self.items()]
        if not parts:
            return pd.DataFrame({"grid": list(self.lacking), "lacks": list(self.lacking.values())})
        whole = pd.concat(parts, ignore_index=True)
        return whole[["grid", *(name for name in whole if name != "grid")]]

    def map(self, function: Callable[..., R], *others: object, **named: object) -> "PerGrid[R]":
        """Apply a function to each grid's value and the other arguments.

        A grid whose records do not suffice (`Refusal`) lacks the result for that reason.
        """
        found: dict[str, R] = {}
        lacking = dict(self.lacking)
        for grid, value in self.items():
            try:
                found[grid] = function(value, *others, **named)
            except Refusal as error:
                lacking[grid] = str(error)
        return PerGrid(found, lacking)


def _describe(value: object) -> str:
    return f"{len(value)} rows" if isinstance(value, pd.DataFrame) else repr(value)


def load_grids(data_dir: str | Path | None = None, grid: str = ALL) -> PerGrid[list[RunRecord]]:
    """Read the records below a data folder, of one grid or of all: the released models first, others by name."""
    records = load_records(data_dir, None if grid == ALL else grid)
    if not records:
        raise fail(Path(data_dir or "data"), "holds no record; add record files (*.json)")
    names = sorted({record.grid for record in records}, key=lambda name: (name != RELEASED, name))
    return PerGrid({name: [record for record in records if record.grid == name] for name in names})
