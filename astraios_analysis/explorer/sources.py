"""What can be explored: the records of a grid, or a table of one input and groups, or of two inputs."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

import astraios_analysis as aa
from astraios_analysis.api import ROLES, SOURCE, as_runs, parse_size
from astraios_analysis.explorer.choices import AVERAGED, LOSS_MEASURE, RATE_MEASURE, Choice, Options
from astraios_analysis.explorer.view import IN_MEMORY, Grid, View
from astraios_analysis.records.frame import RunRecord
from astraios_analysis.records.refusal import Refusal

# Curves over the first input are drawn at as many values of the second.
_MAX_CURVES = 6


class TableGrid(Grid):
    """A table that was read with its columns' roles: ``aa.read_table(source, x, y, group)``.

    Groups are looked at as methods are. Of two inputs the first is the axis, and each value of the second (each of six
    parts of its range, where it has more) a curve.
    """

    def __init__(self, table: pd.DataFrame, name: str = "table") -> None:
        points, roles = aa.frame(table), table.attrs[ROLES]
        x, y, group = (roles[role] for role in ("x", "y", "group"))
        if len(x) > 2 or (len(x) == 2 and group):
            given = f"x names {', '.join(x)}" + f" and group {', '.join(group)}" * bool(group)
            raise Refusal(f"one input and groups, or two inputs without groups, can be looked at; {given}")
        self.name, self._y, self._x, value = name, y, x[0], points[y]
        if len(x) == 2:
            self.second, (self.curves, points["group"]) = x[1], _name_curves(x[1], points[x[1]].to_numpy())
        rows = {"size": points[x[0]].map("{:g}".format), "method": points["group"], "seed": np.nan, "x": points[x[0]]}
        rows |= {"second": points[x[-1]], "n_params_base": points[x[0]], "value": value, "held_out": points["held_out"]}
        self.inputs = pd.DataFrame(rows).assign(**{x[0]: points[x[0]]})
        is_rate = bool(value.between(0, 1).all()) and len(x) == 1
        sizes = self.inputs.sort_values("x").groupby("size", sort=False)["held_out"].all()
        self.options = Options(
            outcomes=(y,),
            measures={y: (LOSS_MEASURE, RATE_MEASURE) if is_rate else (LOSS_MEASURE,)},
            primary={},
            inputs=x[:1],
            methods=tuple(self.curves) or tuple(dict.fromkeys(points["group"])),
            sizes=tuple(sizes.index[~sizes]),
            always_held_out=tuple(sizes.index[sizes]),
            lacking=(),
            fullest=y,
            is_surface=len(x) == 2,
        )
        where = table.attrs[SOURCE]
        self.data, source = (table, IN_MEMORY) if where == "the table" else (None, repr(where))
        said = {role: names[0] if len(names) == 1 else names for role, names in roles.items() if names}
        said |= {role: roles[role] for role in ("y", "split") if roles[role]}
        self.source = f"aa.read_table({source}, {', '.join(f'{role}={names!r}' for role, names in said.items())})"
        self._cache()

    def start(self, *, level: float = 0.95, target: float | str | None = None) -> Choice:
        """Return the choice to begin with: all that ``predict`` averages."""
        return Choice(level=level, law=AVERAGED, target=None if target is None else parse_size(str(target), {}))

    def view(self, choice: Choice) -> View:
        """Return what follows from a choice; outcome and input are the table's own."""
        return super().view(replace(choice, y=self._y, x=self._x, law=choice.law or AVERAGED))

    def _table(self, choice: Choice) -> pd.DataFrame:
        """Return the rows and, where several have one input and group, their means."""
        rows = self.inputs.assign(lower=np.nan, upper=np.nan, n_items=np.nan, interval="none")
        keys = ["size", "method", "second"]
        if not rows.duplicated(keys).any():
            return rows
        means = rows.groupby(keys, sort=False, as_index=False).agg(
            {name: "mean" if name == "value" else "first" for name in rows if name not in keys}
        )
        return pd.concat([rows.assign(kind="seed"), means.assign(kind="mean")], ignore_index=True)


def _name_curves(name: str, values: np.ndarray) -> tuple[dict[str, float], np.ndarray]:
    """Return the curves of a second input, each at one of its values, by name, and the name of each row's."""
    known = np.unique(values)
    if len(known) <= _MAX_CURVES:
        digits = next(n for n in (3, 6, 17) if len({f"{value:.{n}g}" for value in known}) == len(known))
        names = {f"{name} {value:.{digits}g}": float(value) for value in known}
        return names, np.array([f"{name} {value:.{digits}g}" for value in values], dtype=object)
    edges = np.geomspace(known[0], known[-1], _MAX_CURVES + 1)
    part = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, _MAX_CURVES - 1)
    middles = {i: float(np.exp(np.log(values[part == i]).mean())) for i in np.unique(part).tolist()}
    names = {i: f"{name} near {middle:.3g}" for i, middle in middles.items()}
    return {names[i]: middles[i] for i in middles}, np.array([names[i] for i in part], dtype=object)


def make_grid(runs: Sequence[RunRecord] | pd.DataFrame, name: str = "table") -> Grid:
    """Return the records of one grid, or a table that ``aa.read_table`` read, as something to look at."""
    return TableGrid(runs, name) if isinstance(runs, pd.DataFrame) else Grid(as_runs(runs))


def explore(
    runs: Sequence[RunRecord] | pd.DataFrame,
    choice: Choice | None = None,
    *,
    level: float = 0.95,
    target: float | str | None = None,
) -> View:
    """Look at runs by one law, or by all that ``predict`` averages.

    Parameters
    ----------
    runs : sequence of RunRecord, or DataFrame
        The records of one grid, or a table with its columns' roles: ``aa.read_table("runs.csv", "params", "loss",
        "method")``. Of two inputs, the first is the axis and values of the second are the curves.
    choice : Choice, optional
        What to look at; by default the loss, or the score that most models have, by the laws that ``predict`` averages.
    level, target : float, optional
        Without a choice: coverage of the intervals, and where to predict, as a number or as ``predict`` takes sizes.

    Returns
    -------
    View
        Its ``plot()``, ``predictions``, ``backtest``, ``parameters``, and the lines of code that make it again.

    Raises
    ------
    Refusal
        What the runs cannot answer, with the reason.
    """
    grid = make_grid(runs)
    return grid.view(grid.start(level=level, target=target) if choice is None else choice)
