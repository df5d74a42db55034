"""The toolkit: verbs on the runs of a grid or on any table, and what they return.

What a verb returns prints as a table in a terminal and in Jupyter, has ``.table`` and, where there is something to see,
``.plot()``. What the data cannot answer is refused (`Refusal`), with the reason and the next step. Commands, notebooks
and explorer call these and nothing beneath them.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from astraios_analysis.claims.judge import Judgement, UntestedError, judge_claims, judgement_frame, judgement_rows
from astraios_analysis.claims.rules import CLAIMS, VERDICT_RULE
from astraios_analysis.laws.fit import Fit, fit_table
from astraios_analysis.laws.forms import LAWS, find_law
from astraios_analysis.laws.law import Law
from astraios_analysis.laws.tables import ALL, ROLES, evaluate, read_points, read_table, record_points
from astraios_analysis.laws.tables import SOURCE as SOURCE
from astraios_analysis.prediction import backtest as backtests
from astraios_analysis.prediction.chain import LossRegression, regress_all
from astraios_analysis.prediction.decide import (
    COSTS,
    TFLOPS,
    best_at_size,
    choices,
    frontier,
    parse_budget,
    small_model_decisions,
    training_preset,
)
from astraios_analysis.prediction.forecast import Fitted, require_near
from astraios_analysis.prediction.limits import LEVELS, parse_size, predictable_datasets, reach, require_predictable
from astraios_analysis.prediction.limits import MAX_REACH as MAX_REACH
from astraios_analysis.prediction.outcome import record_outcome, table_rows
from astraios_analysis.records.files import sort_records
from astraios_analysis.records.frame import RunRecord, to_frame
from astraios_analysis.records.notation import parse_number, rows_of, table_text
from astraios_analysis.records.reading import NOTES
from astraios_analysis.records.refusal import Refusal, attempt, require_known, require_level
from astraios_analysis.records.registry import LOSS, LOSS_METRIC, MEAN_GENERATION, choose_measure
from astraios_analysis.records.sources import PerGrid, find_example, load_grids, load_records
from astraios_analysis.scores.bootstrap import TOKEN_ERROR, ProblemBootstrap, keep_measures, primary_measures
from astraios_analysis.scores.completion import complete as complete_scores
from astraios_analysis.scores.completion import score_cells
from astraios_analysis.scores.contrasts import (
    OTHER,
    REFERENCE,
    Measured,
    contrasts,
    crossing,
    measure,
    measure_rows,
    run_sd,
)
from astraios_analysis.scores.losses import final_losses
from astraios_analysis.scores.models import intervals_over_seeds, require_one_grid
from astraios_analysis.scores.ranks import measured_datasets, rank_methods, rank_transfer, transfer_all
from astraios_analysis.scores.transfer import transfer_slopes
from astraios_analysis.tables.allocate import ALLOCATING, allocate_budget, iso_cost
from astraios_analysis.tables.backtest import MARKS, summarise
from astraios_analysis.tables.plan import COST_POWER, parse_money, plan_batch, read_pool
from astraios_analysis.tables.routes import TableFit, fit_answer
from astraios_analysis.tables.rows import (
    SPLIT,
    Columns,
    SurfaceFit,
    answer_row,
    backtest_table,
    mark_largest,
    predict_places,
    rows_to_fit,
    test_rows,
)

Runs = Sequence[RunRecord]
AXES = {"n_params_base": "base model parameters"}


class Result:
    """What a verb returns: prints as its table."""

    table: pd.DataFrame

    def __repr__(self) -> str:
        """Return the table as text."""
        return table_text(self.table)

    def _repr_html_(self) -> str:
        return self.table.to_html(index=False, na_rep="", float_format="{:.4g}".format, border=0)


def _shown_once(figure: Any) -> Any:
    """Return a figure that a notebook shows as what a cell returns, and not once more."""
    from matplotlib import pyplot

    pyplot.close(figure)
    return figure


def _as_table(runs: Any) -> pd.DataFrame | None:
    """Return a table that is given as such, or as its file; None where runs are given."""
    if isinstance(runs, str | Path):
        return read_table(runs)
    if isinstance(runs, pd.DataFrame):
        names = [name for name in runs.columns if not isinstance(name, str)]
        if names:
            raise Refusal(f"column {names[0]!r} has no name of letters; give it one: table.columns = [...]")
        return read_table(runs) if runs.columns.has_duplicates else runs
    is_several = isinstance(runs, Iterable) and not isinstance(runs, Mapping)
    if not is_several or not all(isinstance(run, RunRecord) for run in runs):
        raise Refusal(f"{type(runs).__name__} is neither runs nor a table; give a DataFrame, or what `load` returns")
    return None


def as_runs(runs: Runs) -> list[RunRecord]:
    """Return the runs of one grid, or refuse a table."""
    if _as_table(runs) is not None:
        raise Refusal("this is asked of runs, as `load` reads them; make records of a table with `astraios import csv`")
    require_one_grid(runs)
    if not runs:
        raise Refusal("there is no run; give what `load` returns")
    if all(run.held_out for run in runs):
        raise Refusal("every run is marked held out, and none is left to learn from; mark fewer")
    # As `load` orders them: what is drawn and printed does not depend on how they were put together.
    return sort_records(runs)


def load(data: str | Path | None = None, grid: str | None = None) -> list[RunRecord]:
    """Read the runs below a data folder, ordered by grid, size, method and seed.

    Parameters
    ----------
    data : str or Path, optional
        Folder with record files; ``./data`` by default.
    grid : str, optional
        Keep one grid, such as ``released``; all of them by default.

    Raises
    ------
    RecordError
        If anything in the folder is wrong, or the grid is not in it.
    """
    return load_records(data, None if grid == "all" else grid)


def frame(
    runs: Runs | pd.DataFrame, per: str = "score", level: float | None = None, only: tuple[str, str, str] | None = None
) -> pd.DataFrame:
    """Return runs as a tidy table: one row a score, or one row a run.

    Parameters
    ----------
    runs : sequence of RunRecord, or DataFrame
        Of a table from `read_table` the points are returned: its inputs and outcome as numbers, ``group`` (labels of
        several columns joined) and ``held_out``.
    per : {"score", "primary", "run"}
        ``primary``: the scores that stand for their data sets, alone.
    level : float, optional
        With it, ``lower`` and ``upper`` of intervals of this coverage: of scores over problems; of runs that have one,
        of the validation loss over tokens. Where models have several seeds their means, which have the intervals,
        stand below the runs (``kind`` is ``seed`` or ``mean``).
    only : tuple of str, optional
        Data set, setting and metric of the scores to return.
    """
    require_known("per", [per], ("score", "primary", "run"))
    if level is not None:
        require_level(level)
    if (table := _as_table(runs)) is not None:
        return read_points(table)
    runs = sort_records(runs)
    if per == "run":
        return to_frame(runs, per) if level is None else final_losses(runs, level=level)
    wanted = None if only is None else {(only[0], only[2], only[1])}
    if per == "primary":
        wanted = {(name, *measure) for name, measure in primary_measures(runs).items()}
    if level is not None:
        return intervals_over_seeds(runs, level=level, wanted=wanted)
    return to_frame(runs) if wanted is None else keep_measures(to_frame(runs), wanted)


def example_table() -> pd.DataFrame:
    """Return the simulated losses of the examples: ``params, method, loss``, a table as `read_table` gives.

    Drawn around 1.6 + A params^-0.32 with A of 300, 360 and 520, with a relative scatter of 0.01.
    """
    return read_table(find_example(), x="params", y="loss", group="method")


def list_laws() -> pd.DataFrame:
    """Return the laws that `fit` and `backtest` know: ``law, formula, inputs, source``."""
    rows = [(law.name, law.formula, ", ".join(law.inputs), law.source) for law in LAWS.values()]
    return pd.DataFrame(rows, columns=["law", "formula", "inputs", "source"])


def fit(
    runs: Runs | pd.DataFrame,
    law: str | Law,
    x: str | Sequence[str] | None = None,
    y: str | None = None,
    group: str | Sequence[str] | None = None,
    **options: Any,
) -> Fit:
    """Fit a law to the points of a table, or to the runs of a grid.

    Parameters
    ----------
    runs : DataFrame, path of a table, or sequence of RunRecord
        One row a point; rows whose column ``held_out`` is true, and held-out runs, take no part.
    law : str or Law
        `list_laws` has their names.
    x, group : str or sequence of str, optional
        Columns of the inputs, in the law's order, and of what tells groups apart. A table from `read_table` knows
        them, and y and split. Of runs: ``n_params_base`` and ``method``; ``group=()`` is one law for all.
    y : str, optional
        Column of the outcome; of runs ``val_loss``.
    **options
        ``split`` : str
            Column of a table that marks the rows to fit with ``train``.
        ``pooling`` : {"none", "shared"}
            Whether each group is fitted by itself (tables), or all have one floor and exponent and each its amplitude
            (runs).
        ``huber`` : float
            Where Huber's loss turns from square to straight; least squares without it. ``scale`` : {"fixed",
            "estimated"}
        ``residual`` : {"log", "linear"}
            Scale of the residuals; the law's own by default.
        ``fixed`` : mapping of str to float or str
            Parameters to hold at a value, or to tie to another: ``{"alpha": "beta"}``.
        ``level``, ``intervals``, ``resamples``, ``seed``
            Coverage of the parameters' intervals (0.95); ``profile`` or ``bootstrap``; refits and seed of a bootstrap.
        ``n_starts`` : int
            Starts to polish.
    """
    if (table := _as_table(runs)) is not None:
        return fit_table(table, law, x, y, group, **options)
    if options.pop("split", None):
        raise Refusal("split names a column of a table; runs are marked held out in their records")
    table = to_frame(runs, per="run")
    x, group = _several(x) or ["n_params_base"], ["method"] if group is None else _several(group)
    points = record_points(table, x, y or LOSS, group or [])
    is_shared = points.group is not None and len(set(points.group.tolist())) > 1
    pooling = options.pop("pooling", None) or ("shared" if is_shared else None)
    return fit_table(points, law, pooling=pooling, **options)


@dataclass(frozen=True, repr=False)
class Prediction(Result):
    """Predicted values, their intervals, the laws averaged and the back-test of the same procedure.

    Attributes
    ----------
    rows : list of dict
        One a quantity, size and method, as ``astraios predict --json`` prints them: ``size, n_params, at, group,
        dataset, method, quantity, metric, value, intervals, reach, weights``. ``value`` is the median of one new run;
        an interval of kind ``observation`` is where it falls, of kind ``mean`` where the law is.
    backtest : DataFrame
        One row a quantity: the runs of the largest size predicted from the smaller ones: ``quantity, n,
        mean_abs_error, persistence_mean_abs_error`` (no change) and ``n_covered`` by 95 % intervals.
    tested : DataFrame
        Those runs, each with its prediction (`prediction.backtest.predict_runs`).
    refused : dict of str to str
        Quantities that must not be predicted, and why.
    untested : dict of str to str
        Quantities that are predicted without a back-test, and why: their intervals are those of few degrees of freedom.
    notes : list of str
        What was left out of a table, what looks wrong in it, and curves with spikes or a tail that rises.
    """

    rows: list[dict[str, Any]]
    backtest: pd.DataFrame
    tested: pd.DataFrame
    refused: dict[str, str]
    fitted: dict[str, Fitted | TableFit | SurfaceFit] = field(default_factory=dict)
    untested: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def table(self) -> pd.DataFrame:
        """One row a quantity, size and method, with prediction intervals: ``value, lower_50, upper_50, ...``, reach."""
        table = []
        for row in self.rows:
            names = ("quantity", "metric", "method", "size", "n_params", "value")
            ends = {}
            for one in row["intervals"]:
                if one["kind"] == "observation":
                    ends |= {f"{end}_{100 * one['level']:g}": one[end] for end in ("lower", "upper")}
            table.append({name: row[name] for name in names} | ends | {"reach": row["reach"]})
        return pd.DataFrame(table)

    @property
    def weights(self) -> pd.DataFrame:
        """Weights of the laws averaged: ``quantity, law, weight``, those below 0.001 left out."""
        found = {name: one.weights for name, one in self.fitted.items() if not isinstance(one, SurfaceFit)}
        found = found or {row["quantity"]: row["weights"] for row in self.rows[::-1]}
        rows = [(name, law, w) for name, weights in found.items() for law, w in weights.items() if w >= 1e-3]
        return pd.DataFrame(rows, columns=["quantity", "law", "weight"])

    @property
    def diagnostics(self) -> pd.DataFrame:
        """What was fitted: ``quantity, n_obs`` (means over seeds), ``n_sizes, share_through_loss``."""
        rows = []
        for name, one in self.fitted.items():
            x = one.train[:, 0] if isinstance(one, SurfaceFit) else one.outcome.points.n_params
            rows.append((name, len(x), len(np.unique(x)), getattr(one, "share", 0.0)))
        return pd.DataFrame(rows, columns=["quantity", "n_obs", "n_sizes", "share_through_loss"])

    def predict(
        self, x: float | Sequence | np.ndarray | pd.DataFrame, level: float | Sequence[float] = 0.95
    ) -> pd.DataFrame:
        """Predict at more inputs from what is fitted already, as `Fit.predict` does, however far they lie.

        Parameters
        ----------
        x : number, sequence or DataFrame
            Inputs, shape (n,), or (n, d) in the order of the columns, or a table with these.
        level : float or sequence of float
            Of the intervals.

        Returns
        -------
        DataFrame
            ``quantity, group`` (or method), the inputs' columns, ``value, lower, upper, level, kind, reach``.
        """
        if not self.fitted:
            raise Refusal("predictions of families or through a loss are not kept; ask `predict` for these places")
        levels = [require_level(one) for one in _several(level)]
        names = list(self.rows[0]["at"])
        x = x[names].to_numpy(dtype=float) if isinstance(x, pd.DataFrame) else np.asarray(x, dtype=float)
        x, parts = x.reshape(-1, len(names)), []
        for quantity, one in self.fitted.items():
            own = one.predict(x, levels) if isinstance(one, SurfaceFit) else _ask(one, x[:, 0], names[0], levels)
            parts.append(own.assign(quantity=quantity))
        columns = ["quantity", "group", *names, "value", "lower", "upper", "level", "kind", "reach"]
        return pd.concat(parts, ignore_index=True)[columns]

    def plot(self) -> Any:
        """Return a Figure: measured points, laws (dashed beyond the sizes fitted), and predictions with intervals."""
        from astraios_analysis.figures.transfer import prediction_panels

        if not self.fitted or any(isinstance(one, SurfaceFit) for one in self.fitted.values()):
            raise Refusal("predictions in several inputs, of families or through a loss have no figure yet; see table")
        axis = next(iter(self.rows[0]["at"]))
        targets: dict[str, list[float]] = {}
        for row in self.rows:
            targets.setdefault(row["method"], []).append(row["at"][axis])
        return prediction_panels(self.fitted, targets, AXES.get(axis, axis))


def predict(
    runs: Runs | pd.DataFrame,
    size: str | float | Sequence[str | float] | None = None,
    dataset: str | Sequence[str] | None = None,
    method: str | Sequence[str] | None = None,
    *,
    at: str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]] | None = None,
    force: bool = False,
    level: float | None = None,
    **table: Any,
) -> Prediction:
    """Predict losses and scores of methods at sizes, measured or not; of a table, any column from others.

    Of runs, laws and ways to pool methods are averaged by how they predict the largest sizes left out. A table's way is
    chosen from what it holds: curves of one input, sizes with methods, few sizes (several ways that apply are mixed by
    how they predict rows left out); a column of families, one of losses or a law name another. Everything is fitted
    once, whatever is asked for.

    Parameters
    ----------
    runs : sequence of RunRecord, or DataFrame
        Runs of one grid (held-out ones take no part), or a table of one's own.
    size : str, float, or several
        Parameters of the base model: a measured size, ``"34b"``, ``3.4e10``. Of a table, values of its input, or of
        the column ``size_column``.
    dataset : str or sequence of str, optional
        Data sets, or ``val_loss``; by default all that can be predicted.
    method : str or sequence of str, optional
        Methods (values of ``group``); all by default.
    at : str, mapping, or several
        Of a table: places to predict, ``"N=7e9,D=2e12"`` or ``{"N": 7e9, "D": 2e12}``; ``size`` is its short form.
    force : bool
        Allow inputs beyond ten times the fitted range.
    level : float, optional
        Coverage of one more interval, beside those of 50, 80 and 95 %.
    **table
        Of a table. ``x``, ``y``, ``group``, ``split`` : columns (one or several of inputs and groups); rows of one x
        and group are replicates, rows not marked ``train`` in ``split`` take no part; by default what `read_table` was
        told. ``rate`` : y is a rate in [0, 1], errors or successes, not a loss with a floor. ``n_items`` : column, or
        number, of the items behind a rate, with which it may be 0 or 1. ``size_column``, ``family_column`` : of models;
        the larger models of families are predicted from their smaller ones, at each x. ``law``, ``huber`` : one law
        alone. ``via`` : column of losses that the rate is predicted through. ``route`` : ``curve``, ``sizes`` or
        ``lines`` alone.
    """
    methods, levels = _several(method), LEVELS if level is None else tuple(sorted({*LEVELS, require_level(level)}))
    if (given := _as_table(runs)) is not None:
        return _predict_table(given, _places(size, at), methods, levels, force=force, **table)
    _require_no_options({"at": at, **table})
    runs, names, untested = as_runs(runs), _several(dataset), {}
    for name in names or []:
        if name != LOSS:
            require_predictable(runs, name)
    if names is None:
        names = [LOSS] * _has_losses(runs) + predictable_datasets(runs)
    _require_methods(runs, methods)
    known = {run.size: run.n_params_base for run in runs}
    sizes = [(str(one), parse_size(str(one), known)) for one in _several(size) or []]
    if not sizes:
        raise Refusal("name the sizes to predict, such as 34b")

    def answer(name: str) -> Fitted | TableFit:
        one, why = fit_answer(record_outcome(runs, name))
        for _, n_params in sizes:
            require_near(one, n_params, force=force)
        untested.update({name: why} if why else {})
        return one

    fitted, refused = attempt(dict.fromkeys(names), answer)
    if not fitted or (refused and dataset is not None):
        raise Refusal(_listed(refused) or "no data set here has primary scores at three sizes; add runs")
    rows, tested, summaries = [], [], []
    for name, one in fitted.items():
        wanted = [method for method in methods or one.methods if method in one.methods]
        if not wanted:
            refused[name] = f"{methods[0]} has no {name} to fit; choose from {', '.join(one.methods)}"
            continue
        rows += [row for label, n_params in sizes for row in _rows(name, one, label, n_params, wanted, levels)]
        found = None if name in untested else backtests.largest_from_smaller(one.outcome, levels)
        if found is not None:
            tested.append(found.assign(quantity=name))
            summaries.append({"quantity": name, **backtests.describe(found)})
    if not rows:
        raise Refusal("\n".join(refused.values()))
    tests = pd.concat(tested, ignore_index=True) if tested else pd.DataFrame()
    return Prediction(rows, pd.DataFrame(summaries), tests, refused, fitted, untested)


def _listed(refused: Mapping[str, str]) -> str:
    return "\n".join(f"{name}: {reason}" for name, reason in refused.items())


def _has_losses(runs: Runs) -> bool:
    return any(run.val_loss is not None and not run.held_out for run in runs)


def _places(size: Any, at: Any) -> list[Any]:
    """Return the places asked for: one number (a size), or a dict of columns' values."""
    sizes = [parse_size(str(one)) for one in _several(size) or []]
    return sizes + [parse_place(one) for one in ([at] if isinstance(at, Mapping) else _several(at) or [])]


def parse_place(text: str | Mapping[str, Any]) -> dict[str, Any]:
    """Return a place to predict at, ``N=7e9,D=2e12``, as values of columns; what is no number stays text."""
    parts = text.items() if isinstance(text, Mapping) else [part.partition("=")[::2] for part in str(text).split(",")]
    found: dict[str, Any] = {}
    for name, value in parts:
        if str(value).strip() == "" or str(name).strip() in found:
            raise Refusal(f"{text!r} is no place to predict at; write COLUMN=VALUE, several columns joined by commas")
        try:
            found[str(name).strip()] = parse_size(str(value))
        except Refusal:
            found[str(name).strip()] = str(value).strip()
    return found


_TABLE_OPTIONS = ("x", "y", "group", "split", "rate", "n_items", "size_column", "family_column", "law", "huber", "via")
_TABLE_OPTIONS += ("route",)


def _table_columns(
    table: pd.DataFrame,
    x: Any = None,
    y: str | None = None,
    group: Any = None,
    size_column: str | None = None,
    family_column: str | None = None,
    law: str | Law | None = None,
    **more: Any,
) -> Columns:
    require_known("option of a table", more, _TABLE_OPTIONS)
    x, y, group = _roles(table, x, y, group)
    found = find_law(law) if isinstance(law, str) else law
    columns = Columns(tuple(x), y, tuple(group), size_column, family_column, found, **more)
    columns.require(table)
    return columns


def _predict_table(
    table: pd.DataFrame,
    places: list[Any],
    methods: list[str] | None,
    levels: Sequence[float],
    *,
    force: bool,
    **named: Any,
) -> Prediction:
    split = named.pop("split", None)
    columns = _table_columns(table, **named)
    if not places:
        raise Refusal(f"name what to predict at: size, or at, such as {columns.needed[0]}=7e9")
    asked = [place if isinstance(place, dict) else {columns.needed[0]: place} for place in places]
    train = rows_to_fit(table, columns, split)
    refused: dict[str, str] = {}
    rows, one = predict_places(train, columns, asked, methods, force=force, refused=refused, levels=levels)
    tested, why = test_rows(train, columns, levels)
    summary = (
        [] if tested is None else [{"quantity": columns.y, **backtests.describe(tested, "measured", "value", "last")}]
    )
    fitted = {} if one is None else {columns.y: one}
    tests, untested = pd.DataFrame() if tested is None else tested, {} if why is None else {columns.y: why}
    notes = [*train.attrs[NOTES], *(one.notes if isinstance(one, TableFit) else [])]
    ends = [one[end] for row in rows for one in row["intervals"] for end in ("lower", "upper")]
    if not np.isfinite([*(row["value"] for row in rows), *ends]).all():
        raise Refusal(
            f"the rows do not determine {columns.y} there; {columns.needed[0]} may hardly differ between them"
        )
    return Prediction(rows, pd.DataFrame(summary), tests, refused, fitted, untested, notes)


def _several(value: Any) -> list | None:
    if value is None or isinstance(value, str | Mapping) or not isinstance(value, Iterable):
        return None if value is None else [value]
    return list(value)


def _require_no_options(table: Mapping[str, Any]) -> None:
    given = [name for name, value in table.items() if value]
    require_known("option", given, (*_TABLE_OPTIONS, "at", "target", "power"))
    if given:
        raise Refusal(f"{given[0]} is for a table; give a DataFrame, or leave it out")


def _require_methods(runs: Runs, methods: list[str] | None) -> None:
    require_known("tuning method", methods or [], dict.fromkeys(run.method for run in runs))


def _roles(table: pd.DataFrame, x: Any, y: str | None, group: Any) -> tuple[list[str], str, list[str]]:
    """Return the columns of a table: as named, or as `read_table` was told."""
    told = table.attrs.get(ROLES, {})
    x, y = _several(x) or list(told.get("x", ())), y or told.get("y")
    if not (x and y):
        known = ", ".join(map(str, table.columns))
        raise Refusal(f"name the table's columns with x and y, and group for methods; it has {known}")
    return x, y, list(told.get("group", ())) if group is None else _several(group)


def _ask(fitted: Fitted | TableFit, x: np.ndarray, name: str, levels: Sequence[float]) -> pd.DataFrame:
    """Predict all methods at values of one input, each by itself, as `Prediction.predict` gives them."""
    parts = []
    for one in x.tolist():
        found = fitted.intervals(one, levels)
        beyond = [reach(one, fitted.range_of(method)) for method in found.methods]
        for (kind, level), (lower, upper) in found.bounds.items():
            own = {"group": found.methods, name: one, "value": found.median, "lower": lower, "upper": upper}
            parts.append(pd.DataFrame(own | {"level": level, "kind": kind, "reach": beyond}))
    return pd.concat(parts, ignore_index=True)


def _rows(
    name: str, fitted: Fitted | TableFit, label: str, n_params: float, methods: list[str], levels: Sequence[float]
) -> list[dict]:
    found, rows = fitted.intervals(n_params, levels), []
    shared = {"size": label, "at": {"n_params_base": n_params}, "quantity": name, "metric": fitted.outcome.metric}
    shared |= {"dataset": None if name == LOSS else name, "reach": require_near(fitted, n_params, force=True)}
    shared |= {"sizes_fitted": fitted.n_sizes}
    for method in methods:
        place = fitted.methods.index(method)
        ends = {key: own[:, place] for key, own in found.bounds.items()}
        weights = fitted.weights_of(method)
        rows.append(answer_row(method, float(found.median[place]), ends, weights=weights, **shared))
    return rows


@dataclass(frozen=True, repr=False)
class Backtest(Result):
    """What was held out, predicted from the rest, and what the predictions were worth.

    Attributes
    ----------
    groups : list of dict
        One a quantity (or a curve, or a model of a family), as ``astraios backtest --json`` prints them.
    rows : DataFrame
        Every run held out with its prediction: ``quantity, size, n_params, method, seed, value, predicted, error,
        lower_50, ..., persistence, reach``; of a table ``group, x, measured, value`` (predicted), ``lower_50, ...``.
    refused : list of str
        What could not be back-tested, and why.
    procedure : str
        How it was predicted.
    notes : list of str
        What was left out of a table, and what looks wrong in it.
    """

    groups: list[dict[str, Any]]
    rows: pd.DataFrame = field(default_factory=pd.DataFrame)
    refused: list[str] = field(default_factory=list)
    procedure: str = backtests.RECORD_PROCEDURE
    notes: list[str] = field(default_factory=list)

    @property
    def table(self) -> pd.DataFrame:
        """One row a group: runs, errors of the logarithm beside no change, coverage, interval score."""
        names = ("n_train", "n_test", "rmse_log", "persistence_rmse_log", "mean_abs_pct", "interval_score")
        rows = []
        for group in self.groups:
            label = group["group"].get("quantity") or "/".join(group["group"].values()) or ALL
            coverage = {f"covered_{100 * float(level):g}": share for level, share in group["coverage"].items()}
            rows.append({"quantity": label} | {n: group[n] for n in names if n in group} | coverage)
        return pd.DataFrame(rows)

    @property
    def predicted(self) -> list[dict[str, Any]]:
        """Every row held out, as ``astraios backtest --json`` prints it: keys, ``measured, value, intervals``."""
        rows, of_runs = rows_of(self.rows), "predicted" in self.rows
        for row in rows:
            if of_runs:
                row |= {"measured": row["value"], "value": row["predicted"]}
            row["intervals"] = [
                {"level": level, "kind": "observation"}
                | {end: row[f"{end}_{100 * level:g}"] for end in ("lower", "upper")}
                for level in LEVELS
            ]
        return rows

    @property
    def mean(self) -> dict[str, Any]:
        """Plain means over groups: ``rmse_log, mean_abs_pct, interval_score, coverage, weights``."""
        return summarise(self.groups)

    def plot(self) -> Any:
        """Return a Figure: what was held out against what was predicted."""
        from astraios_analysis.figures.transfer import backtest_rows

        if "predicted" not in self.rows:
            raise Refusal("a back-test of a table has no figure; its numbers are in table, groups and rows")
        return _shown_once(backtest_rows(self.rows))


def backtest(
    runs: Runs | pd.DataFrame,
    hold_out: int | None = None,
    dataset: str | Sequence[str] | None = None,
    *,
    split: str | None = None,
    progress: Any = lambda items: items,
    **table: Any,
) -> Backtest:
    """Hold sizes or rows out, predict them from the others as `predict` does, and score the predictions.

    Of a table, rows that a column ``split`` marks ``extrapolate`` are predicted from those it marks ``train``; without
    one, the largest values of its input.

    Parameters
    ----------
    runs : sequence of RunRecord, or DataFrame
        Runs of one grid, or a table of one's own.
    hold_out : int, optional
        How many of the largest sizes are predicted; by default those marked held out, or else the largest one.
    dataset : str or sequence of str, optional
        Data sets, or ``val_loss``; all that are measured by default.
    split : str, optional
        Column of a table.
    progress : callable
        Wraps the sequence of quantities or curves, as ``tqdm`` does.
    **table
        As in `predict`: ``x, y, group, rate, n_items, size_column, family_column, law, huber, via, route``.
    """
    if (given := _as_table(runs)) is not None:
        columns = _table_columns(given, **table)
        split = split or given.attrs.get(ROLES, {}).get("split")
        given = rows_to_fit(given, columns, split, MARKS)
        notes = given.attrs[NOTES]
        given = given if split else mark_largest(given, columns, hold_out or 1)
        groups, rows, refused = backtest_table(given, columns, split or SPLIT, progress)
        reasons = [f"{name}: {reason}" for name, reason in refused.items()]
        return Backtest(groups, rows, reasons, columns.procedure, notes)
    _require_no_options(table)
    runs = as_runs(runs)
    groups, refused = backtests.backtest_records(runs, hold_out, _quantities(runs, dataset), progress)
    if not groups:
        raise Refusal("\n".join(refused) or "no data set has scores at three fitted sizes and a held-out one")
    rows = pd.concat([group.pop("rows") for group in groups], ignore_index=True)
    return Backtest(groups, rows, refused)


def _quantities(runs: Runs, dataset: str | Sequence[str] | None) -> list[str]:
    """Return what is back-tested: what was named, or the loss where it is measured and every primary score."""
    known = measured_datasets(runs, loss=True)
    require_known("data set", _several(dataset) or [], known)
    return _several(dataset) or known


@dataclass(frozen=True, repr=False)
class Allocation(Result):
    """What budgets buy.

    Attributes
    ----------
    table : DataFrame
        One row a budget: the inputs and the loss with ``_lower`` and ``_upper``, ``level``, ``reach`` (how many times
        the optimum lies beyond the rows fitted), ``warnings``, each with a code: ``outside_data``, ``no_optimum``.
    weights : dict of str to float
        Of the laws averaged.
    points : DataFrame
        The rows fitted, with what each cost.
    notes : list of str
        What was left out of the table, and what looks wrong in it.
    """

    table: pd.DataFrame
    weights: dict[str, float]
    points: pd.DataFrame
    lines: list[Any]
    names: tuple[str, ...]
    notes: list[str] = field(default_factory=list)

    def plot(self) -> Any:
        """Return a Figure: loss along each line of equal cost, rows that cost about as much, optima with intervals."""
        from astraios_analysis.figures.losses import draw_budgets

        return draw_budgets(self.table, self.lines, self.points, self.names)


def allocate(
    table: pd.DataFrame,
    budget: float | Sequence[float],
    x: Sequence[str] | None = None,
    y: str | None = None,
    *,
    cost: str | None = None,
    split: str | None = None,
    law: str | Law | None = None,
    huber: float = 1e-3,
    level: float = 0.95,
    seed: int = 0,
) -> Allocation:
    """Find the size and the data with the least predicted loss that a budget buys.

    Parameters
    ----------
    table : DataFrame
        One row a run.
    budget : float, or several
        In the unit of ``cost``: FLOP.
    x : sequence of str, optional
        Columns of the size and of the data; by default what `read_table` was told, as are y and split.
    y : str, optional
        Column of the loss.
    cost : str, optional
        Cost of a run, an expression of the columns x that rises with the second: ``6*N*D`` by default, of columns N, D.
    split : str, optional
        Column that marks the rows to fit with ``train``.
    law : str or Law, optional
        This law alone; by default those of `predict` that can have a best size, averaged as there.
    huber : float
        Where Huber's loss turns from square to straight.
    level : float
        Coverage of the intervals, which hold the optima of draws of the laws' parameters.
    seed : int
        Of the draws.

    References
    ----------
    Hoffmann et al. 2022, section 3: of ``E + A N^-alpha + B D^-beta`` and 6 N D the optimum is a power of the budget.
    """
    columns = _table_columns(table, x, y, law=law, huber=huber)
    if len(columns.x) != 2:
        raise Refusal(f"a budget is shared between two inputs, size and data; x names {', '.join(columns.x)}")
    require_level(level)
    train, names = rows_to_fit(table, columns, split), columns.x
    cost = cost or f"6 * `{names[0]}` * `{names[1]}`"
    budgets, wrong = attempt(_several(budget) or [], lambda one: float(parse_number(str(one))))
    if wrong or not budgets or not all(0 < one < float("inf") for one in budgets.values()):
        odd = next(iter(wrong), budget)
        raise Refusal(f"budget {odd!r} is not understood; give a positive number of FLOP, such as 1e21, or several")
    surface = columns.fit_surface(train, [LAWS[name] for name in ALLOCATING])
    if any(member.curve.width.still for member in surface.members):
        raise Refusal(
            f"{names[0]} and {names[1]} move together in all rows, so that none tells how a budget is best shared "
            "between them; add rows that vary them apart"
        )
    # The same draws for each, so that a budget's interval does not depend on which others are asked for.
    lines = [iso_cost(surface, names, cost, one, np.random.default_rng(seed)) for one in budgets.values()]
    found = [
        allocate_budget(line, surface, names, one, level) for line, one in zip(lines, budgets.values(), strict=True)
    ]
    points = train[[*names, columns.y]].assign(cost=evaluate(cost, train))
    weights = {name: share for name, share in surface.shares.items() if share >= 1e-3}
    return Allocation(pd.DataFrame(found), weights, points, lines, (*names, columns.y), train.attrs[NOTES])


@dataclass(frozen=True, repr=False)
class Ranking(Result):
    """Methods in order, size by size, and whether the order carries over.

    Attributes
    ----------
    table : DataFrame
        Methods by size with the probability of being first (`scores.ranks.rank_methods`).
    transfer : DataFrame
        Rank correlations of each smaller size with the largest.
    decisions : DataFrame
        What choosing by a smaller size comes to at larger ones: regret, random choice, pairs in the same order.
    best : DataFrame
        With ``size``: the probability that each method is the best there.
    refused : dict of str to str
    """

    table: pd.DataFrame
    transfer: pd.DataFrame
    decisions: pd.DataFrame
    best: pd.DataFrame
    refused: dict[str, str]


def rank(
    runs: Runs,
    size: str | float | None = None,
    dataset: str | Sequence[str] | None = None,
    *,
    level: float = 0.95,
    seed: int = 0,
    force: bool = False,
) -> Ranking:
    """Rank methods at each measured size and, with ``size``, at one that nobody has measured.

    Parameters
    ----------
    runs : sequence of RunRecord
        Of one grid.
    size : str or float, optional
    dataset : str or sequence of str, optional
        Data sets, or ``val_loss``; all that are measured by default.
    level : float
        Coverage of the intervals.
    seed : int
        Of the bootstrap over problems.
    force : bool
        Allow sizes beyond ten times the fitted range.
    """
    runs = as_runs(runs)
    names = _several(dataset) or measured_datasets(runs, loss=True)
    options = {"level": level, "bootstrap": ProblemBootstrap(seed=seed)}
    n_params = None if size is None else parse_size(str(size), {run.size: run.n_params_base for run in runs})
    transfers = pd.DataFrame({"dataset": []})
    with suppress(Refusal):
        transfers = transfer_all(runs, **options)

    def carry_over(name: str) -> pd.DataFrame:
        # p-values are corrected over all data sets, whichever are asked for.
        own = transfers[transfers["dataset"] == name]
        return own if len(own) else rank_transfer(runs, name, **options)

    ranks = [rank_methods(runs, name, **options) for name in names]
    if not ranks:
        raise Refusal("no run here has a loss or a score to rank by; add some, or choose another grid")
    ways = {"transfer": carry_over, "decisions": lambda name: small_model_decisions(runs, name, **options)}
    tables, refused = {"best": pd.DataFrame()}, {}
    if n_params is not None:
        ways["best"] = lambda name: best_at_size(runs, name, n_params, level=level, force=force)
    for kind, way in ways.items():
        parts, reasons = attempt(names, way)
        if kind == "best" and reasons and dataset is not None:
            raise Refusal(_listed(reasons))
        tables[kind] = pd.concat(parts.values(), ignore_index=True) if parts else pd.DataFrame()
        label = f"best method at {size} on" if kind == "best" else f"{kind} of"
        refused |= {f"{label} {name}": reason for name, reason in reasons.items()}
    return Ranking(pd.concat(ranks, ignore_index=True), **tables, refused=refused)


@dataclass(frozen=True, repr=False)
class Comparison(Result):
    """Two methods, paired: differences by size, where they cross, and what is known of the noise of one run.

    Attributes
    ----------
    rows : list of dict
        As ``astraios compare --json`` prints them, these models first: ``method_a, method_b, size, n_params, dataset,
        difference, stderr, lower, upper, level, scope, tipping_sd, interval``. ``difference`` is b minus a in units of
        the score or loss. ``scope``: "these models" on other problems, or "other models", trained with other seeds
        (None where each has one run). ``tipping_sd``: standard deviation of one run, in the same units, from which on
        the interval would include 0; None where it does already.
    crossings : DataFrame
        The size from which on the method ahead at the largest size is ahead, one row a data set
        (`scores.contrasts.crossing`).
    run_sd : DataFrame
        What is known of the standard deviation of one run, beyond what the runs of its seed share: ``dataset, run_sd,
        source``.
    notes : list of str
        What was left out of a table, and what looks wrong in it.
    """

    rows: list[dict[str, Any]]
    crossings: pd.DataFrame
    run_sd: pd.DataFrame
    notes: list[str] = field(default_factory=list)

    @property
    def table(self) -> pd.DataFrame:
        """One row a data set, size and scope."""
        return pd.DataFrame(self.rows)

    def plot(self) -> Any:
        """Return a Figure: differences by size with intervals over problems, a panel a data set."""
        from astraios_analysis.figures.contrasts import contrast_panels

        return _shown_once(contrast_panels(self.table))


def compare(
    runs: Runs | pd.DataFrame,
    method_a: str | None = None,
    method_b: str | Sequence[str] | None = None,
    size: str | float | Sequence[str | float] | None = None,
    dataset: str | Sequence[str] | None = None,
    *,
    against: str | float | None = None,
    level: float = 0.95,
    seed: int = 0,
    **table: Any,
) -> Comparison:
    """Compare methods, b minus a: paired by problems, and by seeds where there are several.

    Parameters
    ----------
    runs : sequence of RunRecord, or DataFrame
        Runs of one grid (held-out ones take no part), or a table with a column of methods.
    method_a : str, optional
        By default full fine-tuning, or the first there is.
    method_b : str or sequence of str, optional
        One or several; by default all others.
    size : str, float, or several
        Measured sizes; by default all that have both.
    dataset : str or sequence of str, optional
        Data sets, or ``val_loss``. By default ``mean_generation`` where the grid has it, else everything measured.
    against : str or float, optional
        Another size for ``method_a``: is b at ``size`` better than a there?
    level : float
        Coverage of the intervals.
    seed : int
        Of the bootstrap over problems.
    **table
        Of a table, as in `predict`: ``x, y, group, split, rate, n_items``. Its rows of one size and method are
        replicates; errors over problems are those of ``n_items`` independent answers.
    """
    given, bootstrap, notes = _as_table(runs), ProblemBootstrap(seed=seed), []
    if given is None:
        _require_no_options(table)
        runs = as_runs(runs)
        quantities = [measure(runs, name, bootstrap) for name in _several(dataset) or _compared(runs)]
        known = {run.size: run.n_params_base for run in runs}
    else:
        one, notes = _measure_table(given, bootstrap, **table)
        runs, quantities = [], [one]
        known = {label: n_params for n_params, label in quantities[0].sizes.items()}
    methods = list(dict.fromkeys(method for one in quantities for method in one.methods))
    first = method_a or (REFERENCE if REFERENCE in methods else methods[0])
    others = _several(method_b) or [method for method in methods if method != first]
    require_known("tuning method", [first, *others], methods)
    if not others:
        raise Refusal(f"{first} is the only method here; a comparison needs two")
    if against is None and first in others:
        raise Refusal(f"{first} is compared with itself; name two methods of {', '.join(methods)}")
    sizes = None if size is None else [_measured_size(one, known) for one in _several(size)]
    other = None if against is None else _measured_size(against, known)
    rows, crossings, noise, reasons = [], [], [], []
    for measured in quantities:
        found, refused = attempt(
            others, lambda second, one=measured: contrasts(one, first, second, sizes, against=other, level=level)
        )
        reasons += refused.values()
        rows += [row for own in found.values() for row in own]
        # Whether a table's rates are errors or successes is not said.
        unknown = given is not None and measured.higher_is_better
        crossings += [] if other or unknown else [crossing(measured, first, second, level) for second in found]
        noise += [] if (known_sd := run_sd(runs, measured)) is None else [(measured.name, *known_sd)]
    # Of methods that nobody named, those that a data set lacks are left out of it.
    if reasons and (method_b is not None or not rows):
        raise Refusal("\n".join(dict.fromkeys(reasons)))
    crossings = pd.DataFrame([row for row in crossings if row is not None])
    rows.sort(key=lambda row: row["scope"] == OTHER)
    return Comparison(rows, crossings, pd.DataFrame(noise, columns=["dataset", "run_sd", "source"]), notes)


def _measure_table(
    table: pd.DataFrame, bootstrap: ProblemBootstrap, split: str | None = None, **named: Any
) -> tuple[Measured, list[str]]:
    columns = _table_columns(table, **named)
    if not columns.group or len(columns.needed) > 1:
        raise Refusal("methods are compared by a column of sizes, x, and one of methods, group; name them")
    rows = rows_to_fit(table, columns, split)
    found = table_rows(rows, columns.needed[0], columns.y, columns.group, columns.n_items)
    measured = measure_rows(found, columns.y, is_rate=columns.link == "logit", bootstrap=bootstrap)
    return measured, rows.attrs[NOTES]


def _compared(runs: Runs) -> list[str]:
    """Return what two methods are compared on where nothing is named."""
    names = measured_datasets(runs, loss=True)
    if not names:
        raise Refusal("no run here has a loss or a primary score to compare; add runs")
    return [MEAN_GENERATION] if MEAN_GENERATION in names else names


def _measured_size(text: str | float, known: dict[str, int]) -> int:
    n_params = parse_size(str(text), known)
    if n_params not in known.values():
        raise Refusal(f"size {text!r} was not measured; choose from {', '.join(known)}, or ask `predict`")
    return int(n_params)


@dataclass(frozen=True, repr=False)
class Transfer(Result):
    """Scores at a large size regressed on those at a small one, methods as points, errors in both.

    Attributes
    ----------
    table : DataFrame
        One row a data set and pair of sizes (`scores.transfer.transfer_slopes`): ``slope`` and ``intercept`` (the score
        at the large size of a method whose small score is ``centre``, the methods' mean) with intervals, ``scatter``,
        ``reliability``; ``reason`` where there is no slope.
    primary : DataFrame
        The scores: one row a model, with intervals.
    """

    table: pd.DataFrame
    primary: pd.DataFrame

    @property
    def rows(self) -> list[dict[str, Any]]:
        """As ``astraios transfer --json`` prints them."""
        return rows_of(self.table)

    def plot(self) -> Any:
        """Return a Figure: a panel a data set and pair of sizes, with the line and its band."""
        from astraios_analysis.figures.transfer import transfer_panels

        return _shown_once(transfer_panels(self.primary, self.table))


def transfer(
    runs: Runs,
    small: str | float | None = None,
    large: str | float | None = None,
    dataset: str | Sequence[str] | None = None,
    *,
    level: float = 0.95,
    seed: int = 0,
) -> Transfer:
    """Regress scores at a large size on scores at a small one over methods, with known errors in both.

    Problems are resampled jointly for all methods and sizes; least squares on such scores would be drawn towards a
    slope of 0 (Fuller 1987, Measurement Error Models, section 2.5).

    Parameters
    ----------
    runs : sequence of RunRecord
        Of one grid; held-out runs take no part.
    small, large : str or float, optional
        Measured sizes; all pairs by default.
    dataset : str or sequence of str, optional
        All that are measured by default, ``mean_generation`` among them.
    level : float
        Coverage of the intervals.
    seed : int
        Of the bootstrap over problems.
    """
    runs = as_runs(runs)
    known = {run.size: run.n_params_base for run in runs}
    first, second = (None if one is None else _measured_size(one, known) for one in (small, large))
    if first is not None and second is not None and first >= second:
        raise Refusal(f"{small} is not smaller than {large}; give the smaller size first")
    bootstrap = ProblemBootstrap(seed=seed)

    def slopes(name: str) -> pd.DataFrame:
        found = transfer_slopes(runs, name, level=level, bootstrap=bootstrap)
        for wanted, side in ((first, "n_params_small"), (second, "n_params_large")):
            found = found if wanted is None else found[found[side] == wanted]
        if found.empty:
            raise Refusal("these two sizes do not share four methods")
        return found

    parts, refused = attempt(_several(dataset) or measured_datasets(runs), slopes)
    if not parts or (refused and dataset is not None):
        raise Refusal(_listed(refused) or "no run has a primary score; add runs with scores")
    table = pd.concat(parts.values(), ignore_index=True)
    shown = set(table["dataset"])
    wanted = {(name, *measure) for name, measure in primary_measures(runs).items() if name in shown}
    primary = intervals_over_seeds(runs, level=level, bootstrap=bootstrap, wanted=wanted)
    if LOSS in shown:
        losses = final_losses(runs, level=level).rename(columns={"val_loss": "value"})
        losses = losses.assign(dataset=LOSS, metric=LOSS_METRIC, interval=TOKEN_ERROR)
        primary = pd.concat([primary, losses], ignore_index=True)
    return Transfer(table, primary)


@dataclass(frozen=True, repr=False)
class Regression(Result):
    """Scores regressed on a loss: ``fits`` by data set (`prediction.chain.LossRegression`), ``refused`` why not.

    Each fit has ``table`` (parameters), ``held_out`` and ``curve(losses)``.
    """

    fits: dict[str, LossRegression]
    refused: dict[str, str]

    @property
    def table(self) -> pd.DataFrame:
        """Parameters, one row a data set, scope and parameter: ``value, lower, upper``."""
        return pd.concat([one.table for one in self.fits.values()], ignore_index=True)

    @property
    def held_out(self) -> pd.DataFrame:
        """The size held out, one row a model: ``loss, measured, predicted, lower, upper, covered``."""
        parts = [one.held_out.assign(dataset=name) for name, one in self.fits.items()]
        return pd.concat(parts, ignore_index=True)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Parameters as ``astraios regress --json`` prints them."""
        return rows_of(self.table)

    def plot(self) -> Any:
        """Return a Figure: points, the pooled curve with its band, and the held-out size (hollow)."""
        from astraios_analysis.figures.losses import regression_panels

        return _shown_once(regression_panels(self.fits))


def regress(runs: Runs, score: str | Sequence[str] | None = None, on: str = LOSS, *, level: float = 0.95) -> Regression:
    """Regress scores on a loss: binomial, above the chance level, with over-dispersion and a size effect.

    Parameters
    ----------
    runs : sequence of RunRecord
        Of one grid. What is held out is predicted, and takes no part in the fit.
    score : str or sequence of str, optional
        Data sets; all that are measured by default.
    on : str
        ``val_loss``, or a task whose answers' loss the records hold.
    level : float
        Coverage of the intervals.
    """
    runs = as_runs(runs)
    fits, refused = regress_all(runs, _several(score), on, level=level)
    if not fits or (refused and score is not None):
        shown = refused if score is not None else dict(list(refused.items())[:1])
        raise Refusal(_listed(shown) or "no run has a primary score; add runs with scores")
    return Regression(fits, refused)


_VERDICT = ("grid", "claim", "scope", "verdict", "effect", "lower", "upper", "p_corrected")


@dataclass(frozen=True, repr=False)
class Verdicts(Result):
    """The study's claims, judged: ``judgements`` with their evidence, ``parts`` one row a claim and part.

    ``reason`` says why none is judged, where no run has a score that a claim is about.
    """

    judgements: list[Judgement]
    reason: str = ""

    def __repr__(self) -> str:
        """Return each claim's verdict with effect and interval as text; ``.table`` has everything."""
        kept = [name for name in _VERDICT if name in self.table]
        return table_text(self.table[kept] if kept else self.table)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Judgements as plain values, as ``astraios claims --json`` prints them."""
        return judgement_rows(self.judgements)

    @property
    def table(self) -> pd.DataFrame:
        """One row a claim: effect, interval, p-values, verdict, reason; or why none is judged."""
        return pd.DataFrame({"not judged": [self.reason]}) if self.reason else judgement_frame(self.judgements)

    @property
    def parts(self) -> pd.DataFrame:
        """One row a claim and part."""
        return judgement_frame(self.judgements, parts=True)


def describe_claims() -> str:
    """Return the study's claims and the rules by which `judge` judges them, as text."""
    lines = [VERDICT_RULE]
    for claim in CLAIMS.values():
        effect = f"effect: {claim.effect} ({claim.unit}); part: {claim.part}"
        lines.append(f"{claim.name}: {claim.statement}\n{effect}\n{claim.rule}")
    return "\n\n".join(lines)


def judge(runs: Runs, claims: str | Sequence[str] | None = None, *, seed: int = 0, all_parts: bool = False) -> Verdicts:
    """Judge the study's claims on every grid and suite among the runs, for these models and for others.

    Parameters
    ----------
    runs : sequence of RunRecord
    claims : str or sequence of str, optional
        Names of claims; all by default. Corrected p-values are for all of them in any case.
    seed : int
        Of the resamples of problems.
    all_parts : bool
        Whether data sets on which no model beats the constant answer vote, too.
    """
    names = _several(claims) or tuple(CLAIMS)
    if _as_table(runs) is not None:
        raise Refusal("claims are judged on runs, as `load` reads them")
    try:
        return Verdicts(judge_claims(sort_records(runs), claims=names, seed=seed, all_parts=all_parts))
    except UntestedError as error:
        return Verdicts([], str(error))


@dataclass(frozen=True, repr=False)
class Completion(Result):
    """Scores of every model on every data set of programs: ``table``, measured or estimated (``kind``).

    Estimates are of what scoring the model would give; they enter no fit, mean or rank.
    """

    table: pd.DataFrame


def complete(runs: Runs, *, level: float = 0.95) -> Completion:
    """Fill in the scores that models of a grid lack from those that they have.

    The logit of a score, above chance, is additive in data set and model, with a slope in the log of the size that is
    the data set's own; the interval has the error of the sum, what it leaves over, and the problems' binomial noise.

    Parameters
    ----------
    runs : sequence of RunRecord
        Of one grid; held-out runs take no part.
    level : float
    """
    return Completion(complete_scores(score_cells(as_runs(runs)), require_level(level)))


@dataclass(frozen=True, repr=False)
class Plan(Result):
    """What choosing a method for a size gives up, and which runs would lower that.

    Attributes
    ----------
    table : DataFrame
        What the choice gives up on average, now and after more runs, with the cost of these
        (`prediction.decide.choices`).
    frontier : DataFrame
        Cost against performance of every model and of predictions at the target (`prediction.decide.frontier`).
    n_params : float
        Base parameters of the target.
    cost : str
        Of the frontier.
    preset : str, optional
        Of the grid whose sizes and methods these are, in `training`.
    """

    table: pd.DataFrame
    frontier: pd.DataFrame
    n_params: float
    cost: str
    preset: str | None


@dataclass(frozen=True, repr=False)
class Batch(Result):
    """Rows of a table to measure next.

    Attributes
    ----------
    table : DataFrame
        In order of choice: ``row`` (counted from 1), the columns of groups and inputs, ``cost, total_cost,
        error_after`` (`tables.plan.plan_batch`), a relative error of the outcome at the target rows.
    rows : DataFrame
        The same rows with all their columns, as the table has them.
    error_now : float
        The error before any of them is measured.
    budget, spent : float
        What they may cost, and what the measured rows cost.
    weights : dict of str to float
        Of the laws averaged.
    notes : list of str
        What was left out of the table, and what looks wrong in it.
    """

    table: pd.DataFrame
    rows: pd.DataFrame
    error_now: float
    budget: float
    spent: float
    weights: dict[str, float]
    notes: list[str] = field(default_factory=list)


def _plan_table(
    table: pd.DataFrame,
    target: pd.DataFrame | str | Path | None = None,
    cost: str | None = None,
    budget: str | None = None,
    power: float = COST_POWER,
    split: str | None = None,
    **named: Any,
) -> Batch:
    if target is None or cost is None or budget is None:
        raise Refusal("name the target rows, the cost of a row (a column, or 6*N*D) and the budget (10%, or an amount)")
    if not 0 <= power <= 2:
        raise Refusal(f"the power of the cost is {power:g}; give 0 (no account of it) to 2")
    columns = _table_columns(table, **named)
    if columns.law is None and len(columns.x) > 3:
        raise Refusal(f"x names {len(columns.x)} inputs; laws are averaged for one to three: name a law, or fewer")
    pool = read_pool(table, _as_table(target), columns, cost, split)
    left, spent = parse_money(str(budget), pool)
    found, now, weights = plan_batch(pool, columns, left, power)
    rows = table.iloc[found["row"].to_numpy() - 1]
    for place, name in enumerate([*columns.group, *columns.x], start=1):
        found.insert(place, name, rows[name].to_numpy())
    return Batch(found, rows.reset_index(drop=True), now, left, spent, weights, pool.notes)


def plan(
    runs: Runs | pd.DataFrame,
    size: str | float | None = None,
    dataset: str | Sequence[str] | None = None,
    *,
    candidate_sizes: Sequence[str | float] = (),
    budget: str | None = None,
    tflops: float = TFLOPS,
    cost: str | None = None,
    **table: Any,
) -> Plan | Batch:
    """Say what choosing a method for a size gives up, which runs would lower that, and what performance costs.

    Of a table: which of the rows that have no outcome yet to measure, so that the outcome at target rows is predicted
    best for the money.

    Parameters
    ----------
    runs : sequence of RunRecord, or DataFrame
        Of one grid; or a table whose rows without an outcome are candidates.
    size : str or float
        The target.
    dataset : str or sequence of str, optional
        What to predict there; ``val_loss`` by default.
    candidate_sizes : sequence of str or float
        Sizes that could be trained, beside the measured ones.
    budget : str, optional
        What more runs may cost: ``40 gpu-hours``, ``2 gpu-days``, ``3e20 flop``. Of a table: a share of what all its
        rows cost, ``10%``, in which the measured rows count, or an amount in the unit of the cost.
    tflops : float
        FLOP that a GPU does in a second, in units of 1e12.
    cost : str
        Of the frontier: one of `prediction.decide.COSTS`, ``flop`` by default. Of a table: a column, or an expression
        of columns such as ``6*N*D``.
    **table
        Of a table: ``target`` (the rows to predict, or their file; no outcome is read), ``x, y, group, split, law,
        huber`` as in `predict`, ``power`` of the cost that a row's gain is divided by.

    References
    ----------
    Fedorov 1972, Theory of Optimal Experiments (V-optimal designs); Li et al. 2026 (arXiv 2604.22753), the cost power.
    """
    if (rows := _as_table(runs)) is not None:
        for name in (n for n, value in {"size": size, "dataset": dataset}.items() if value):
            raise Refusal(f"{name} is for records; a table's plan has target rows")
        return _plan_table(rows, cost=cost, budget=budget, **table)
    _require_no_options(table)
    if size is None:
        raise Refusal("name the size to choose a method for, such as 34b")
    runs, cost = as_runs(runs), cost or "flop"
    known = {run.size: run.n_params_base for run in runs}
    runs = [run for run in runs if not run.held_out]
    names = _several(dataset) or [LOSS] * _has_losses(runs)
    if not names:
        raise Refusal("these runs have no validation loss; name the data set to predict with --dataset")
    target, more = parse_size(str(size), known), [parse_size(str(one), known) for one in candidate_sizes]
    money = None if budget is None else parse_budget(str(budget), tflops)
    chosen = [choices(runs, name, target, more, money, tflops) for name in dict.fromkeys(names)]
    fronts, refused = attempt(dict.fromkeys(names), lambda name: frontier(runs, name, cost, target=target))
    # The loss, which nobody named, is planned for where no cost is recorded, too.
    if refused and (set(refused) != {LOSS} or cost not in COSTS):
        raise Refusal(_listed(refused))
    front = pd.concat(fronts.values(), ignore_index=True) if fronts else pd.DataFrame()
    return Plan(pd.concat(chosen, ignore_index=True), front, target, cost, training_preset(runs))


@dataclass(frozen=True, repr=False)
class Drawing(Result):
    """A figure, and the table of what it shows."""

    figure: Any
    table: pd.DataFrame

    def save(self, path: str | Path) -> list[Path]:
        """Write PDF, PNG and the table as CSV, by a path whose suffix does not matter; return the files' paths."""
        from astraios_analysis.figures import spec

        return spec.save(self.figure, spec.round_table(self.table), Path(path).stem, Path(path).parent)

    def plot(self) -> Any:
        """Return the figure."""
        return self.figure


def grids(
    data: str | Path | None = None, grid: str = "all", *, metrics: Mapping[str, str] | None = None, **options: Any
) -> PerGrid[Any]:
    """Read the runs below a data folder, grid by grid, as figures are drawn from them: what a notebook begins with.

    Parameters
    ----------
    data : str or Path, optional
        Folder with record files; ``./data`` by default.
    grid : str
        One grid, or ``all``.
    metrics : mapping of str to str, optional
        Of data sets of one's own the score that stands for them: ``{"gsm8k": "accuracy"}``, or ``"accuracy,5shot"``.
    **options
        ``level`` (coverage of intervals), ``target`` (size to predict at), ``cost`` (that performance is weighed by).

    Raises
    ------
    RecordError
        If anything in the folder is wrong, holds no record, or the grid is not in it.
    """
    from astraios_analysis.figures.gallery import Tables

    found = load_grids(data, grid)
    for name, metric in (metrics or {}).items():
        choose_measure(name, *metric.split(",", 1))
    return found.map(Tables, **options)


def draw(name: str, runs: Runs | PerGrid[Any], folder: str | Path | None = None, **options: Any) -> Any:
    """Draw one of the figures from the runs of a grid, or from those of several (`grids`) into a folder.

    Parameters
    ----------
    name : str
        Such as ``score_scaling``; a wrong one is answered with the list.
    runs : sequence of RunRecord, or PerGrid
    folder : str or Path, optional
        Of several grids: where PDF, PNG and the table as CSV are written; a grid that lacks the figure is named.
    **options
        Of one grid: ``level``, ``target`` and ``cost`` as in `grids`.

    Returns
    -------
    Drawing or Gallery
    """
    from astraios_analysis.figures import gallery

    if isinstance(runs, PerGrid):
        return gallery.draw(name, runs, folder or "figures")
    return Drawing(*gallery.Tables(as_runs(runs), **options).draw(name))
