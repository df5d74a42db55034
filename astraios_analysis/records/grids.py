"""Several grids at once: one value for each grid, and for a grid that cannot give one, the reason in words.

Grids differ in what they hold: released models come without losses, a trained grid has no published data sets. A
notebook asks every grid the same; what one cannot answer is said, and stops nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Generic, TypeVar

import pandas as pd

from astraios_analysis.records.frame import RunRecord
from astraios_analysis.records.refusal import Refusal, fail
from astraios_analysis.records.released import GRID
from astraios_analysis.records.sources import load_records

ALL = "all"

T = TypeVar("T")
R = TypeVar("R")


class PerGrid(Mapping[str, T], Generic[T]):
    """One value for each grid that has one, in the order to be shown.

    ``lacking`` holds, for each grid without a value, why; ``everything`` all grids in order, with a value or without.
    """

    def __init__(
        self, found: Mapping[str, T], lacking: Mapping[str, str] | None = None, order: Iterable[str] | None = None
    ) -> None:
        self._found = dict(found)
        self.lacking = dict(lacking or {})
        self.everything = list(order or [*self._found, *self.lacking])

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
        """Apply a function to each grid's value and the other arguments, of which a `PerGrid` gives the grid's value.

        A grid for which an argument is lacking, or whose records do not suffice (`Refusal`), lacks the result for that
        reason.
        """
        found: dict[str, R] = {}
        lacking: dict[str, str] = {}
        for grid in self.everything:
            try:
                values = [_value(argument, grid) for argument in (self, *others)]
                found[grid] = function(*values, **{name: _value(value, grid) for name, value in named.items()})
            except Refusal as error:
                lacking[grid] = str(error)
        return PerGrid(found, lacking, self.everything)


def _value(argument: object, grid: str) -> object:
    """Return an argument, of a `PerGrid` the grid's value; refuse where that is lacking."""
    if not isinstance(argument, PerGrid):
        return argument
    if grid in argument.lacking:
        raise Refusal(argument.lacking[grid])
    return argument[grid]


def _describe(value: object) -> str:
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"{shape[0]} rows, {shape[1]} columns" if len(shape) == 2 else f"shape {shape}"
    if isinstance(value, list) and value and isinstance(value[0], RunRecord):
        return f"{len(value)} runs"
    return repr(value)


def load_grids(data_dir: str | Path | None = None, grid: str = ALL) -> PerGrid[list[RunRecord]]:
    """Read the records below a data folder, of one grid or of all: the released models first, others by name."""
    records = load_records(data_dir, None if grid == ALL else grid)
    if not records:
        raise fail(Path(data_dir or "data"), "holds no record; add record files (*.json) or the released tables")
    names = sorted({record.grid for record in records}, key=lambda name: (name != GRID, name))
    return PerGrid({name: [record for record in records if record.grid == name] for name in names})
