"""What can be explored: the records of a grid, or a table of one input and groups, or of two inputs."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from astraios_analysis.curves.routes import TableFit
from astraios_analysis.curves.tables import Columns
from astraios_analysis.explorer.choices import (
    AVERAGED,
    LOSS_MEASURE,
    RATE_MEASURE,
    Choice,
    Options,
    starting_choice,
)
from astraios_analysis.explorer.view import Grid, Levels, View
from astraios_analysis.laws.fit import Fit
from astraios_analysis.laws.forms import LAWS
from astraios_analysis.laws.tables import ROLES, SOURCE, TRAIN, held_out_rows, read_labels, read_numbers
from astraios_analysis.prediction.forecast import Fitted, table_outcome
from astraios_analysis.records.frame import RunRecord
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.scores.bootstrap import NO_INTERVAL
from astraios_analysis.scores.models import MEAN

# Curves over the first input are drawn at as many values of the second.
_MAX_CURVES = 6


class TableGrid(Grid):
    """A table that was read with its columns' roles: ``aa.read_table(source, x, y, group)``.

    Groups are looked at as methods are. Of two inputs the first is the axis, and each value of the second (each of six
    parts of its range, where it has more) a curve.
    """

    def __init__(self, table: pd.DataFrame, name: str = "table") -> None:
        roles = table.attrs.get(ROLES, {})
        x, y, group = (roles.get(role) for role in ("x", "y", "group"))
        if not x or y is None:
            raise Refusal("which column is what is not known; read the table with aa.read_table(table, x=..., y=...)")
        if len(x) > 2 or (len(x) == 2 and group):
            given = f"x names {', '.join(x)}" + f" and group {', '.join(group)}" * bool(group)
            raise Refusal(f"one input and groups, or two inputs without groups, can be looked at; {given}")
        where = table.attrs.get(SOURCE, "the table")
        self.name, self._y, self._x, self._values = name, y, x, {}
        inputs = [read_numbers(table, column, where, positive=True) for column in x]
        value = read_numbers(table, y, where)
        is_out = held_out_rows(table).to_numpy() if "held_out" in table else np.zeros(len(table), dtype=bool)
        if roles.get("split"):
            is_out |= (table[roles["split"]].astype(str) != TRAIN).to_numpy()
        method = read_labels(table, group, where) if len(x) == 1 else self._curves(inputs[1])
        rows = {"size": [f"{one:g}" for one in inputs[0]], "method": method, "seed": np.nan, "x": inputs[0]}
        rows |= {"second": inputs[-1], "n_params_base": inputs[0], "value": value, "held_out": is_out}
        self.inputs = pd.DataFrame(rows).assign(**{x[0]: inputs[0]})
        is_rate = bool(((value >= 0) & (value <= 1)).all()) and len(x) == 1
        sizes = self.inputs.sort_values("x").groupby("size", sort=False)["held_out"].all()
        self.options = Options(
            outcomes=(y,),
            measures={y: (LOSS_MEASURE, RATE_MEASURE) if is_rate else (LOSS_MEASURE,)},
            primary={},
            inputs=x[:1],
            methods=tuple(self._values) or tuple(dict.fromkeys(method.tolist())),
            sizes=tuple(sizes.index[~sizes]),
            always_held_out=tuple(sizes.index[sizes]),
            lacking=(),
            is_surface=len(x) == 2,
        )
        source = "table" if where == "the table" else repr(where)
        said = {role: names[0] if len(names) == 1 else names for role, names in roles.items() if names}
        said |= {role: roles[role] for role in ("y", "split") if roles[role]}
        self.source = f"aa.read_table({source}, {', '.join(f'{role}={names!r}' for role, names in said.items())})"
        self._cache()

    def _curves(self, second: np.ndarray) -> np.ndarray:
        """Name each row's curve, and remember at which value of the second input it is drawn."""
        values, name = np.unique(second), self._x[1]
        if len(values) <= _MAX_CURVES:
            digits = next(n for n in (3, 6, 17) if len({f"{value:.{n}g}" for value in values}) == len(values))
            self._values = {f"{name} {value:.{digits}g}": float(value) for value in values}
            return np.array([f"{name} {value:.{digits}g}" for value in second], dtype=object)
        edges = np.geomspace(values[0], values[-1], _MAX_CURVES + 1)
        part = np.clip(np.searchsorted(edges, second, side="right") - 1, 0, _MAX_CURVES - 1)
        middles = {i: float(np.exp(np.log(second[part == i]).mean())) for i in np.unique(part).tolist()}
        names = {i: f"{name} near {middle:.3g}" for i, middle in middles.items()}
        self._values = {names[i]: middles[i] for i in middles}
        return np.array([names[i] for i in part], dtype=object)

    def start(self, *, level: float = 0.95, target: float | None = None) -> Choice:
        """Return the choice to begin with: all that ``predict`` averages."""
        return Choice(level=level, law=AVERAGED)

    def view(self, choice: Choice) -> View:
        """Return what follows from a choice; outcome and input are the table's own."""
        return super().view(replace(choice, y=self._y, x=self._x[0], law=choice.law or AVERAGED))

    def _table(self, choice: Choice) -> pd.DataFrame:
        """Return the rows and, where several have one input and group, their means."""
        rows = self.inputs.assign(lower=np.nan, upper=np.nan, n_items=np.nan, interval=NO_INTERVAL)
        keys = ["size", "method", "second"]
        if not rows.duplicated(keys).any():
            return rows
        means = rows.groupby(keys, sort=False, as_index=False).agg(
            {name: "mean" if name == "value" else "first" for name in rows if name not in keys}
        )
        return pd.concat([rows.assign(kind="seed"), means.assign(kind=MEAN)], ignore_index=True)

    def _curve(self, choice: Choice, runs: pd.DataFrame, below: float = np.inf) -> Levels | Fit | Fitted | TableFit:
        if not self.options.is_surface:
            return super()._curve(choice, runs, below)
        rows = self._fitted_rows(runs, below)
        named = rows.assign(**dict(zip(self._x, (rows["x"], rows["second"]), strict=True)), **{self._y: rows["value"]})
        surface = Columns(self._x, self._y, law=LAWS.get(choice.law)).fit_surface(named)
        outcome = table_outcome(rows, "x", "value", "method", "log")
        return Levels(replace(outcome, metric=self._y), surface, self._values)


def make_grid(runs: Sequence[RunRecord] | pd.DataFrame, name: str = "table") -> Grid:
    """Return the records of one grid, or a table that ``aa.read_table`` read, as something to look at."""
    return TableGrid(runs, name) if isinstance(runs, pd.DataFrame) else Grid(runs)


def explore(runs: Sequence[RunRecord] | pd.DataFrame, choice: Choice | None = None) -> View:
    """Look at runs by one law, or by all that ``predict`` averages.

    Parameters
    ----------
    runs : sequence of RunRecord, or DataFrame
        The records of one grid, or a table with its columns' roles: ``aa.read_table("runs.csv", "params", "loss",
        "method")``. Of two inputs, the first is the axis and values of the second are the curves.
    choice : Choice, optional
        What to look at; by default the loss, or the score that most models have, by the laws that ``predict`` averages.

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
    return grid.view(grid.start() if choice is None else choice)


def first_view(records: Sequence[RunRecord], *, level: float = 0.95, target: float | None = None) -> View:
    """Return what a grid starts with."""
    return explore(records, starting_choice(records, level=level, target=target))
