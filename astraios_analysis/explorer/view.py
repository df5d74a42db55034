"""What follows from a choice: the law, its prediction and its back-test, as a figure, tables and lines of code.

Laws are those of ``fit`` and ``predict``; nothing is fitted here in a way of its own.
"""

import base64
import hashlib
import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot
from matplotlib.figure import Figure

from astraios_analysis.curves.routes import TableFit, fit_routes
from astraios_analysis.curves.surfaces import Surface
from astraios_analysis.explorer.choices import (
    AVERAGED,
    SHARED,
    SIZE_COLUMNS,
    X_LABELS,
    Choice,
    complete,
    name_input,
    options_of,
    starting_choice,
)
from astraios_analysis.figures.spec import round_table, save
from astraios_analysis.figures.style import METHOD_STYLES, name_method
from astraios_analysis.figures.transfer import prediction_panels
from astraios_analysis.laws.fit import Fit, fit_table
from astraios_analysis.prediction.forecast import (
    Fitted,
    Intervals,
    Outcome,
    fit_outcome,
    fit_supported,
    record_outcome,
    table_outcome,
)
from astraios_analysis.prediction.limits import KINDS, LEVELS, MAX_REACH, reach
from astraios_analysis.records.counts import inside_unit_interval
from astraios_analysis.records.frame import RunRecord, to_frame
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.registry import LOSS
from astraios_analysis.scores.bootstrap import NO_INTERVAL
from astraios_analysis.scores.losses import final_losses
from astraios_analysis.scores.models import MEAN, intervals_over_seeds, keep_means

# Whose choice it was to hold a size out: the records', the user's, or the back-test's.
RECORDS, CHOICE, IN_TURN = "records", "choice", "in turn"
_TESTED = ["held_out_by", "size", "method", "seed", "x", "value", "predicted", "lower", "upper", "level", "covered"]
_TESTED += ["error", "no_change", "no_change_error", "reach"]
_N_LINE_POINTS = 16
_SCREEN_DPI = 120
_TWIN = ["outcome", "input", "kind", "method", "size", "seed", "x", "value", "lower", "upper", "level", "interval"]
_TWIN += ["n_seeds", "held_out_by", "predicted", "covered", "no_change", "reach"]


@dataclass(frozen=True)
class Levels:
    """A surface and the values of the second input, by the names of their curves; asked as `forecast.Fitted` is."""

    outcome: Outcome
    surface: Surface
    values: dict[str, float]
    share: float = 0.0

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the curves."""
        return tuple(self.values)

    @property
    def x_range(self) -> tuple[float, float]:
        """Smallest and largest first input fitted."""
        return float(self.surface.train[:, 0].min()), float(self.surface.train[:, 0].max())

    @property
    def n_sizes(self) -> int:
        """Number of different first inputs fitted."""
        return len(np.unique(self.surface.train[:, 0]))

    @property
    def weights(self) -> dict[str, float]:
        """Shares of the laws."""
        return self.surface.shares

    def intervals(self, n_params: float, levels: Sequence[float] = LEVELS) -> Intervals:
        """Return medians and intervals of all curves at one value of the first input."""
        found = self.surface.forecast(np.array([[n_params, value] for value in self.values.values()]))
        bounds = {(kind, level): np.array(found.interval(level, kind)) for kind in KINDS for level in levels}
        return Intervals(self.methods, found.median, bounds)

    def predict_rows(self, rows: pd.DataFrame, level: float) -> pd.DataFrame:
        """Return rows with ``predicted, lower, upper, level, reach`` at their own two inputs, ``x`` and ``second``."""
        inputs = rows[["x", "second"]].to_numpy(dtype=float)
        found = self.surface.forecast(inputs)
        lower, upper = found.interval(level)
        ends = {"predicted": found.median, "lower": lower, "upper": upper, "level": level}
        return rows.assign(**ends, reach=self.surface.reach(inputs)).reset_index(drop=True)


class Grid:
    """One grid's runs, and what was computed of them: a view whose target alone has moved is not fitted anew."""

    source = ""  # a line of Python that reads the runs; empty where it is known from folder and name

    def __init__(self, records: Sequence[RunRecord]) -> None:
        self.records, self.options, self.name = list(records), options_of(records), records[0].grid
        self.inputs = to_frame(self.records, per="run")[["size", "method", "held_out", *X_LABELS]]
        self._measure = lru_cache(maxsize=32)(self._measured)
        self._cache()

    def _cache(self) -> None:
        self._fit = lru_cache(maxsize=64)(self._fitted)

    def start(self, *, level: float = 0.95, target: float | None = None) -> Choice:
        """Return the choice to begin with."""
        return starting_choice(self.records, level=level, target=target)

    def view(self, choice: Choice) -> "View":
        """Return what follows from a choice; the certificate of its fit takes longest, and waits until it is read."""
        choice = complete(choice, self.options)
        models, runs, curve, line, backtest, notes = self._fit(replace(choice, target=None))
        fitted = models[models["held_out_by"] == ""]
        choice = replace(choice, target=float(choice.target or 2 * fitted["x"].max()))
        predictions = _at(curve, [choice.target], sorted({*LEVELS, choice.level}))
        predictions = predictions[predictions["method"].isin(choice.methods)]
        place = choice.methods.index
        predictions = predictions.sort_values("method", key=lambda own: own.map(place), kind="stable")
        beyond = predictions[predictions["reach"] > MAX_REACH].drop_duplicates("method")
        notes += tuple(
            f"{row.method} is not predicted: {row.x:.4g} lies {row.reach:.1f} times beyond what was fitted; the limit "
            f"is {MAX_REACH:g} times"
            for row in beyond.itertuples()
        )
        predictions = predictions[predictions["reach"] <= MAX_REACH].reset_index(drop=True)
        # From the smallest input of a method to its largest, or the target.
        ends = pd.concat([models, predictions]).groupby("method")["x"].agg(["min", "max"])
        low, high = (line["method"].map(ends[end]) for end in ("min", "max"))
        line = pd.concat([line[line["x"].between(low, high)], predictions.drop_duplicates("method")])
        line = line.sort_values("x", kind="stable")[["method", "x", "value"]].reset_index(drop=True)
        runs = runs[runs["method"].isin(choice.methods)] if "kind" in runs else runs.iloc[:0]
        return View(choice, self.name, models, runs, curve, line, predictions, backtest, notes, self.source)

    def _measured(self, y: str, measure: str, level: float) -> pd.DataFrame:
        """Return an outcome of every run, and with several seeds of every model, with intervals."""
        if y == LOSS:
            table = final_losses(self.records, level=level).rename(columns={LOSS: "value"})
            return table.assign(n_items=np.nan, interval=np.where(table["lower"].notna(), "normal", NO_INTERVAL))
        setting, _, metric = measure.rpartition(" | ")
        return intervals_over_seeds(self.records, level=level, wanted={(y, metric, setting)})

    def _table(self, choice: Choice) -> pd.DataFrame:
        """Return an outcome of every run, and of every model, at its input."""
        # The seeds of a model are looks at one input: the mean of theirs.
        inputs = self.inputs.groupby(["size", "method"])[choice.x].mean().rename("x")
        measured = self._measure(choice.y, choice.measure, choice.level)
        return measured.join(inputs.astype(float), on=["size", "method"])

    def _fitted(self, choice: Choice) -> tuple:
        """Return models and runs of a choice, its law, where this runs, its back-test, and notes."""
        table = self._table(choice).dropna(subset=["x", "value"])
        by = np.where(table["size"].isin(choice.held_out), CHOICE, "")
        table = table.assign(held_out_by=np.where(table["held_out"].astype(bool), RECORDS, by))
        models = keep_means(table)
        models = models[models["method"].isin(choice.methods)].reset_index(drop=True)
        if models.empty:
            raise Refusal(f"no run of {', '.join(choice.methods)} has {choice.y} and {choice.x}; choose other methods")
        runs = table[table["kind"] != MEAN] if "kind" in table else table
        curve = self._curve(choice, runs)
        if isinstance(curve, Levels):
            models = curve.predict_rows(models, choice.level).assign(lower=np.nan, upper=np.nan)
        backtest, notes = self._backtest(choice, runs, curve)
        if choice.x in X_LABELS and choice.x not in SIZE_COLUMNS:
            notes += (
                "methods of one size share a base model; against this input the intervals do not know of it, and are "
                "too narrow",
            )
        x = np.geomspace(models["x"].min(), MAX_REACH * models["x"].max(), _N_LINE_POINTS)[:-1]
        # Four digits: the last bits of a power differ between machines, and a table of what is drawn should not.
        x = np.unique([*models["x"], *(float(f"{one:.4g}") for one in x)])
        line = _at(curve, x, [choice.level], KINDS[:1])
        line = line.loc[line["method"].isin(choice.methods), ["method", "x", "value"]]
        return models, runs, curve, line, backtest, notes

    def _curve(self, choice: Choice, runs: pd.DataFrame, below: float = np.inf) -> Fit | Fitted:
        """Fit the runs that are not held out, of base models smaller than ``below``."""
        runs = self._fitted_rows(runs, below)
        if choice.law == AVERAGED:
            return self._average(choice, runs, below)
        runs = runs[runs["method"].isin(choice.methods)]
        pooling = choice.pooling if runs["method"].nunique() > 1 else "none"
        return fit_table(
            pd.DataFrame({choice.x: runs["x"], choice.y: runs["value"], "method": runs["method"]}),
            *(choice.law, choice.x, choice.y, "method"),
            pooling=pooling,
            level=choice.level,
        )

    def _fitted_rows(self, runs: pd.DataFrame, below: float) -> pd.DataFrame:
        runs = runs[(runs["held_out_by"] == "") & (runs["n_params_base"] < below)]
        if runs.empty:
            raise Refusal("no run is left to fit: every size is held out; hold out fewer")
        return runs

    def _average(self, choice: Choice, runs: pd.DataFrame, below: float) -> Fitted | TableFit:
        """Average laws as ``predict`` does: of records, or of the table of another measure or input."""
        is_primary = choice.y == LOSS or choice.measure == self.options.primary.get(choice.y)
        if is_primary and not self.source and choice.x == "n_params_base":
            kept = [record for record in self.records if record.size not in choice.held_out]
            outcome = record_outcome(kept, choice.y)
            return fit_supported(outcome) if np.isinf(below) else fit_outcome(outcome.below(below))
        link, value = "log", runs["value"].to_numpy(dtype=float)
        if not choice.is_loss:
            link, value = "logit", inside_unit_interval(value, runs["n_items"].astype(float).fillna(np.inf))
        table = pd.DataFrame({choice.x: runs["x"], choice.y: value, "method": runs["method"]})
        outcome = table_outcome(table, choice.x, choice.y, "method", link)
        return fit_routes(outcome)

    def _backtest(self, choice: Choice, runs: pd.DataFrame, curve: Fit | Fitted) -> tuple[pd.DataFrame, tuple]:
        """Compare the law with held-out runs, and those of the largest fitted size with the law without it."""
        is_fitted = runs["held_out_by"] == ""
        largest = float(runs.loc[is_fitted, "n_params_base"].max())
        is_last, is_smaller = runs["n_params_base"] == largest, runs["n_params_base"] < largest
        notes = tuple(f"no law for {method}: {why}" for method, why in getattr(curve, "refused", {}).items())
        found = [_compare(curve, runs[is_fitted], runs[~is_fitted], choice)]
        try:
            smaller = self._curve(choice, runs, largest)
            last = runs[is_fitted & is_last].assign(held_out_by=IN_TURN)
            found.insert(0, _compare(smaller, runs[is_fitted & is_smaller], last, choice))
        except Refusal as error:
            notes += (f"the largest fitted size is not back-tested: {error}",)
        found = [part for part in found if len(part)]
        return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=_TESTED), notes


def _at(curve: Fit | Fitted, x: Sequence[float], levels: Sequence[float], kinds: Sequence[str] = KINDS) -> pd.DataFrame:
    """Return laws at inputs: ``method, x, value, lower, upper, level, kind, reach``."""
    if isinstance(curve, Fit):
        found = pd.concat([curve.predict(np.asarray(x, dtype=float), level=level) for level in levels])
        found = found.rename(columns={"group": "method", curve.points.x_names[0]: "x"})
        return found[found["kind"].isin(kinds)]
    parts = []
    for one in map(float, x):
        drawn = curve.intervals(one, levels)
        for kind, level in ((kind, level) for kind in kinds for level in levels):
            lower, upper = drawn.bounds[kind, level]
            own = {"method": drawn.methods, "x": one, "value": drawn.median, "lower": lower, "upper": upper}
            parts.append(pd.DataFrame(own | {"level": level, "kind": kind, "reach": reach(one, curve.x_range)}))
    return pd.concat(parts, ignore_index=True)


def _compare(curve: Fit | Fitted, train: pd.DataFrame, test: pd.DataFrame, choice: Choice) -> pd.DataFrame:
    """Compare runs that took no part with the law, and with no change from their method's largest fitted size."""
    test = test.loc[test["method"].isin(choice.methods)]
    if test.empty:
        return pd.DataFrame(columns=_TESTED)
    if isinstance(curve, Levels):
        found = curve.predict_rows(test, choice.level)
    else:
        at = _at(curve, sorted(set(test["x"])), [choice.level], KINDS[:1]).rename(columns={"value": "predicted"})
        found = test[["held_out_by", "size", "method", "seed", "x", "value"]].merge(at, on=["method", "x"])
    last = train[train["n_params_base"] == train.groupby("method")["n_params_base"].transform("max")]
    found["no_change"] = found["method"].map(last.groupby("method")["value"].mean())
    found["error"], found["no_change_error"] = (found[name] - found["value"] for name in ("predicted", "no_change"))
    found["covered"] = found["value"].between(found["lower"], found["upper"])
    return found[_TESTED]


@dataclass(frozen=True, repr=False)
class View:
    """What follows from a choice.

    Attributes
    ----------
    choice : Choice
        With every default filled in.
    grid : str
    models, seeds : DataFrame
        What was measured, means over seeds and, where there are several, single runs; ``held_out_by`` says whether
        the records or the choice hold a row out, and is empty where it is fitted.
    curve : Fit or Fitted
        What ``fit`` and ``predict`` make.
    line : DataFrame
        ``method, x, value``: the law from a method's smallest input to its largest, or the target.
    predictions : DataFrame
        At the target: ``method, x, value, lower, upper, level, kind, reach``; kind ``observation`` is where a new run
        falls, ``mean`` where the law is.
    backtest : DataFrame
        Runs that took no part: ``held_out_by, size, method, seed, x, value, predicted, lower, upper, level, covered,
        error, no_change, no_change_error, reach``; no change is that of a method's largest fitted size.
    notes : tuple of str
        What is left out, and why.
    source : str
        The line of Python that reads a table; empty for records, which are known by folder and grid.
    """

    choice: Choice
    grid: str
    models: pd.DataFrame
    seeds: pd.DataFrame
    curve: Fit | Fitted
    line: pd.DataFrame
    predictions: pd.DataFrame
    backtest: pd.DataFrame
    notes: tuple[str, ...]
    source: str = ""

    @property
    def is_certified(self) -> bool:
        """Whether parameters and certificate are at hand."""
        return not isinstance(self.curve, Fit) or "table" in vars(self.curve)

    @property
    def parameters(self) -> pd.DataFrame:
        """Parameters with intervals and whether the data bound them, or weights of the laws averaged."""
        if isinstance(self.curve, Fit):
            return self.curve.table
        weights = {name: weight for name, weight in self.curve.weights.items() if weight >= 1e-3}
        return pd.DataFrame({"law": list(weights), "weight": list(weights.values())})

    @property
    def certificate(self) -> pd.DataFrame:
        """What speaks for and against the fit, one row a fit."""
        if isinstance(self.curve, Fit):
            return self.curve.diagnostics
        n_points = len(self.curve.outcome.points.y)
        return pd.DataFrame(
            {"n_obs": [n_points], "n_sizes": self.curve.n_sizes, "share_through_loss": self.curve.share}
        )

    @property
    def table(self) -> pd.DataFrame:
        """What the figure draws: rows of kind measured, held_out, seed, line, prediction and backtest."""
        choice, models, predicted = self.choice, self.models, self.predictions
        kinds = np.where(models["held_out_by"] == "", "measured", "held_out")
        parts = [
            models.assign(kind=kinds, level=choice.level),
            self.seeds.assign(kind="seed", lower=np.nan, upper=np.nan),
            self.line.assign(kind="line"),
            predicted[predicted["kind"] == "observation"].assign(kind="prediction", interval="observation"),
            self.backtest.assign(kind="backtest", interval="observation"),
        ]
        table = pd.concat([part.astype({"x": float, "value": float}) for part in parts if len(part)], ignore_index=True)
        outcome = choice.y if choice.y == LOSS else f"{choice.y} | {choice.measure}"
        return round_table(table.assign(outcome=outcome, input=choice.x).reindex(columns=_TWIN))

    @property
    def prediction_table(self) -> pd.DataFrame:
        """Predictions at the target for people, one row a method."""
        found, percent = self.predictions, f"{100 * self.choice.level:g} %"
        shown = {("observation", 0.5): "50 %", ("observation", self.choice.level): percent}
        shown[("mean", self.choice.level)] = f"law, {percent}"
        rows = {}
        for row in found.itertuples():
            own = rows.setdefault(row.method, {"method": name_method(row.method), "predicted": row.value})
            if (row.kind, row.level) in shown:
                own[shown[row.kind, row.level]] = f"[{row.lower:.3g}, {row.upper:.3g}]"
            own["reach"] = f"{row.reach:.1f} x"
        order = ["method", "predicted", *dict.fromkeys(shown.values()), "reach"]
        return pd.DataFrame(rows.values(), columns=order)

    @property
    def backtest_table(self) -> pd.DataFrame:
        """The back-test for people, one row a size held out."""
        names = ["held out", "size", "mean error", "no change", f"{100 * self.choice.level:g} % interval covered"]
        rows = [
            (by, size, *own[["error", "no_change_error"]].abs().mean(), f"{own['covered'].sum()} of {len(own)}")
            for (by, size), own in self.backtest.groupby(["held_out_by", "size"], sort=False)
        ]
        return pd.DataFrame(rows, columns=names)

    def plot(self) -> Figure:
        """Return the figure that ``fit`` and ``predict`` give: points, laws, and predictions at the target."""
        choice = self.choice
        METHOD_STYLES.order(choice.methods)
        if isinstance(self.curve, Fit):
            return self.curve.plot(to=choice.target if len(self.predictions) else None)
        methods = [method for method in choice.methods if method in self.curve.methods]
        targets = [choice.target] if len(self.predictions) else []
        return prediction_panels({choice.y: self.curve}, targets, methods, name_input(choice.x))

    def code(self, data_dir: str | Path) -> str:
        """Return the lines of Python that make the view again."""
        runs = self.source or f"aa.load({str(Path(data_dir).resolve())!r}, {self.grid!r})"
        return (
            f"import astraios_analysis as aa\nruns = {runs}\n"
            f"view = aa.explore(runs, aa.Choice({self.choice.arguments}))\n"
        )

    def save(self, path: str | Path) -> list[Path]:
        """Write figure (PDF, PNG) and table (CSV) under a name whose suffix does not matter; return their paths."""
        return save(self.plot(), self.table, Path(path).stem, Path(path).parent)

    def write(self, folder: str | Path, data_dir: str | Path) -> list[Path]:
        """Write figure, table and code into a folder, under a name that says what is shown; return their paths."""
        choice = self.choice
        words = re.sub(r"[^a-z0-9]+", "_", f"{self.grid} {choice.y} {choice.x} {choice.law} {choice.pooling}".lower())
        # Different choices have different names.
        digest = hashlib.sha256(f"{self.grid}, {choice.arguments}".encode()).hexdigest()[:6]
        script = Path(folder) / f"{words}_{digest}.py"
        written = self.save(script)
        script.write_text(f"{self.code(data_dir)}view.save(__file__)\n", encoding="utf-8")
        return [*written, script]

    @cached_property
    def picture(self) -> bytes:
        """The figure as PNG for a screen."""
        drawn, file = self.plot(), io.BytesIO()
        drawn.savefig(file, format="png", dpi=_SCREEN_DPI, metadata={"Software": None})
        pyplot.close(drawn)
        return file.getvalue()

    def prediction_html(self) -> str:
        """Return prediction and back-test."""
        return _to_html(self.prediction_table, "Prediction for a new run") + _to_html(
            self.backtest_table, "Back-test: sizes the fit has not seen"
        )

    def fit_html(self) -> str:
        """Return parameters and certificate; it takes a second or two unless the view is certified."""
        if not isinstance(self.curve, Fit):
            shown = _to_html(self.parameters, "Laws averaged: weights")
        else:
            shown = f"<p><b>Fit</b></p>{self.curve._repr_html_()}"
            facts = self.curve.checklist(next(iter(self.curve.fits)))
            shown += "".join(f"<p>{html.escape(f'{item}: {words}')}</p>" for item, words in facts.items())
        return shown + _to_html(self.certificate, "Fit diagnostics")

    def notes_html(self) -> str:
        """Return what is left out."""
        return "".join(f"<p>{html.escape(one)}</p>" for one in dict.fromkeys(self.notes))

    def _repr_html_(self) -> str:
        picture = base64.b64encode(self.picture).decode("ascii")
        image = f'<img src="data:image/png;base64,{picture}" alt="law and back-test" style="max-width:100%">'
        return image + self.notes_html() + self.prediction_html() + (self.fit_html() if self.is_certified else "")

    def __repr__(self) -> str:
        choice = self.choice
        words = f"{self.grid}: {choice.y} against {name_input(choice.x)}; {_law_words(choice)}"
        return f"{words}\n{self.prediction_table.to_string(index=False)}"


def _to_html(table: pd.DataFrame, caption: str) -> str:
    shown = table.to_html(index=False, na_rep="", float_format="{:.4g}".format, border=0) if len(table) else "none"
    return f"<p><b>{caption}</b></p>{shown}"


def _law_words(choice: Choice) -> str:
    return "laws averaged" if choice.law == AVERAGED else f"{choice.law}, {SHARED[choice.pooling]}"
