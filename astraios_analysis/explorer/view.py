"""What follows from a choice: the law, its prediction and its back-test, as a figure, tables and lines of code.

Laws, predictions and back-tests are those of ``fit`` and ``predict``; nothing is fitted here.
"""

import base64
import hashlib
import html
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
from matplotlib import pyplot
from matplotlib.figure import Figure

import astraios_analysis as aa
from astraios_analysis.api import LEVELS, MAX_REACH, parse_size
from astraios_analysis.explorer.choices import (
    AVERAGED,
    SHARED,
    SIZE_COLUMNS,
    X_LABELS,
    Choice,
    complete,
    options_of,
)
from astraios_analysis.figures import style
from astraios_analysis.figures.style import METHOD_STYLES, name_method
from astraios_analysis.records.counts import inside_unit_interval
from astraios_analysis.records.frame import RunRecord
from astraios_analysis.records.notation import table_text
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.registry import LOSS

# Whose choice it was to hold a size out: the records', the user's, or the back-test's.
RECORDS, CHOICE, IN_TURN = "records", "choice", "in turn"
_RUN = ["held_out_by", "size", "method", "seed", "x", "value"]
_TESTED = [*_RUN, "predicted", "lower", "upper", "level", "covered", "error", "no_change", "no_change_error", "reach"]
_N_LINE_POINTS = 16
_SCREEN_DPI = 120
_TWIN = ["outcome", "input", "kind", "method", "size", "seed", "x", "value", "lower", "upper", "level", "interval"]
_TWIN += ["n_seeds", "held_out_by", "predicted", "covered", "no_change", "reach"]
_PREDICTED = ["predicted", "lower", "upper", "level", "kind", "reach"]
# What the line that reads it calls a table that comes from no file.
IN_MEMORY = "table"
# Of fewer sizes ``predict`` says nothing; one law may.
_MIN_SIZES = 3

Curve = aa.Fit | aa.Prediction


class Grid:
    """One grid's runs, and what was computed of them: a view whose target alone has moved is not fitted anew."""

    source = ""  # a line of Python that reads the runs; empty where it is known from folder and name
    data: pd.DataFrame | None = None  # a table that comes from no file
    # Of two inputs: the second one's column, and the value of each curve by its name.
    second, curves = "", MappingProxyType({})

    def __init__(self, records: Sequence[RunRecord]) -> None:
        self.records, self.options, self.name = list(records), options_of(records), records[0].grid
        self.inputs = aa.frame(self.records, per="run")[["size", "method", "held_out", *X_LABELS]]
        self._cache()

    def _cache(self) -> None:
        self._measure = lru_cache(maxsize=32)(self._measured)
        self._average = lru_cache(maxsize=64)(self._averaged)
        self._fit = lru_cache(maxsize=64)(self._fitted)

    def start(self, *, level: float = 0.95, target: float | str | None = None) -> Choice:
        """Return the choice to begin with: the loss, or without losses the primary score that most models have.

        A target in base parameters that the grid's sizes do not reach gives way to the size that the records hold out,
        or to twice the largest.
        """
        found = self.options
        if not found.outcomes:
            raise Refusal(
                "these runs have neither losses nor scores that are shares, and the explorer shows no others; "
                "aa.predict answers for what has another range, or train or score a grid"
            )
        if target is not None:
            target = parse_size(str(target), {record.size: record.n_params_base for record in self.records})
        fitted = {float(record.n_params_base) for record in self.records if not record.held_out}
        if target is not None and fitted and not max(fitted) / MAX_REACH <= target <= max(fitted) * MAX_REACH:
            target = max((float(record.n_params_base) for record in self.records if record.held_out), default=None)
        laws = [law for law in found.laws(found.fullest, found.measure(found.fullest)) if law != AVERAGED]
        law = AVERAGED if len(fitted) >= _MIN_SIZES else laws[0]
        return Choice(found.fullest, level=level, target=target, law=law)

    def view(self, choice: Choice) -> "View":
        """Return what follows from a choice; the certificate of its fit takes longest, and waits until it is read."""
        choice = complete(choice, self.options)
        models, seeds, curve, line, backtest, notes = self._fit(replace(choice, target=None))
        fitted = models[models["held_out_by"] == ""]
        choice = replace(choice, target=float(choice.target or 2 * fitted["x"].max()))
        predictions = self._law_at(curve, choice, self._places(choice, [choice.target]), {*LEVELS, choice.level})
        predictions = predictions.rename(columns={"predicted": "value"})
        beyond = predictions[predictions["reach"] > MAX_REACH].drop_duplicates("method")
        notes += tuple(
            f"{row.method} is not predicted: {row.x:.4g} lies {row.reach:.1f} times beyond what was fitted; the limit "
            f"is {MAX_REACH:g} times"
            for row in beyond.itertuples()
        )
        predictions = predictions[predictions["reach"] <= MAX_REACH].drop(columns="second", errors="ignore")
        # From the smallest input of a method to its largest, or the target.
        ends = pd.concat([models, predictions]).groupby("method")["x"].agg(["min", "max"])
        low, high = (line["method"].map(ends[end]) for end in ("min", "max"))
        line = pd.concat([line[line["x"].between(low, high)], predictions.drop_duplicates("method")])
        line = line.sort_values("x", kind="stable")[["method", "x", "value"]].reset_index(drop=True)
        return View(choice, self.name, models, seeds, curve, line, predictions, backtest, notes, self.source, self.data)

    def _measured(self, y: str, measure: str, level: float) -> pd.DataFrame:
        """Return an outcome of every run, and with several seeds of every model, with intervals."""
        if y == LOSS:
            found = aa.frame(self.records, per="run", level=level).rename(columns={LOSS: "value"})
            return found.assign(n_items=np.nan, interval=np.where(found["lower"].notna(), "normal", "none"))
        return aa.frame(self.records, level=level, only=(y, *measure.split(" | ")))

    def _table(self, choice: Choice) -> pd.DataFrame:
        """Return an outcome of every run, and of every model, at its input."""
        # The seeds of a model are looks at one input: the mean of theirs.
        inputs = self.inputs.groupby(["size", "method"])[choice.x].mean().rename("x")
        measured = self._measure(choice.y, choice.measure, choice.level)
        return measured.join(inputs.astype(float), on=["size", "method"])

    def _rows(self, choice: Choice) -> pd.DataFrame:
        """Return single runs (kind ``seed``) and models (``mean``, or ``run`` of one), with who holds them out."""
        table = self._table(choice).dropna(subset=["x", "value"])
        by = np.where(table["size"].isin(choice.held_out), CHOICE, "")
        by = np.where(table["held_out"].astype(bool), RECORDS, by)
        return table.assign(kind=table.get("kind", "run"), held_out_by=by)

    def _fitted(self, choice: Choice) -> tuple:
        """Return models and seeds of a choice, its law, where this runs, its back-test, and notes."""
        table = self._rows(choice)
        table = table[table["method"].isin(choice.methods)]
        models, runs = table[table["kind"] != "seed"].reset_index(drop=True), table[table["kind"] != "mean"]
        if models.empty:
            raise Refusal(f"no run of {', '.join(choice.methods)} has {choice.y} and {choice.x}; choose other methods")
        is_averaged = choice.law == AVERAGED or bool(self.curves)
        curve = self._average(replace(choice, methods=(), pooling="")) if is_averaged else _fit_law(choice, runs)
        backtest, notes = self._backtest(choice, runs, curve)
        if choice.x in X_LABELS and choice.x not in SIZE_COLUMNS:
            notes += (
                "methods of one size share a base model; against this input the intervals do not know of it, and are "
                "too narrow",
            )
        x = np.geomspace(models["x"].min(), MAX_REACH * models["x"].max(), _N_LINE_POINTS)[:-1]
        # Four digits: the last bits of a power differ between machines, and a table of what is drawn should not.
        x = [*(float(f"{one:.4g}") for one in x), *(models["x"] if self.curves else ())]
        places = self._places(choice, x)
        asked = pd.concat([places, models[places.columns]]).drop_duplicates()
        line = self._law_at(curve, choice, asked, [choice.level]).query("kind == 'observation'")
        models = models.merge(line[[*places.columns, "predicted"]], how="left")
        if self.curves:
            line = line[line["second"] == line["method"].map(self.curves)]
        line = line.rename(columns={"predicted": "value"})
        return models, runs[runs["kind"] == "seed"], curve, line, backtest, notes

    def _averaged(self, choice: Choice) -> aa.Prediction:
        """Return what ``predict`` says: of records, or of the table of another measure or input."""
        runs = self._rows(choice)
        runs = _to_fit(runs[runs["kind"] != "mean"])
        is_primary = choice.y == LOSS or choice.measure == self.options.primary.get(choice.y)
        if is_primary and not self.source and choice.x == "n_params_base":
            kept = [record for record in self.records if record.size not in choice.held_out]
            return aa.predict(kept, runs["x"].max(), choice.y, level=choice.level)
        if self.curves:
            points = pd.DataFrame({choice.x: runs["x"], self.second: runs["second"], choice.y: runs["value"]})
            places = [{choice.x: runs["x"].max(), self.second: value} for value in self.curves.values()]
            roles = {"x": [choice.x, self.second], "law": None if choice.law == AVERAGED else choice.law}
            return aa.predict(points, at=places, y=choice.y, level=choice.level, force=True, **roles)
        points = pd.DataFrame({choice.x: runs["x"], choice.y: _seen(choice, runs), "method": runs["method"]})
        roles = {"x": choice.x, "y": choice.y, "group": "method", "rate": not choice.is_loss}
        return aa.predict(points, runs["x"].max(), level=choice.level, **roles)

    def _places(self, choice: Choice, x: Sequence[float]) -> pd.DataFrame:
        """Return every method, or curve of two inputs, at inputs: ``method, x`` and, of two inputs, ``second``."""
        found = pd.MultiIndex.from_product([choice.methods, x], names=["method", "x"]).to_frame(index=False)
        return found.assign(second=found["method"].map(self.curves)) if self.curves else found

    def _law_at(self, curve: Curve, choice: Choice, rows: pd.DataFrame, levels: Iterable[float]) -> pd.DataFrame:
        """Return rows that have a law, with ``predicted`` and, at every level, ``lower, upper, level, kind, reach``."""
        keys = ["x", "second"] if self.curves else ["x"]
        inputs = rows[keys].drop_duplicates().to_numpy(dtype=float)
        if isinstance(curve, aa.Prediction):
            found = curve.predict(inputs, sorted(levels))
        else:
            found = pd.concat([curve.predict(inputs, level=level) for level in sorted(levels)])
        found = found.rename(columns={choice.x: "x", self.second: "second", "value": "predicted", "group": "method"})
        keys += [] if self.curves else ["method"]
        return rows.merge(found[[*keys, *_PREDICTED]], on=keys)

    def _backtest(self, choice: Choice, runs: pd.DataFrame, curve: Curve) -> tuple[pd.DataFrame, tuple]:
        """Compare held-out runs with the law, and those of the largest fitted size with the law without it."""
        notes = tuple(f"no law for {method}: {why}" for method, why in curve.refused.items())
        is_out, untested = runs["held_out_by"] != "", ""
        found = [self._compare(curve, choice, runs[~is_out], runs[is_out])]
        if isinstance(curve, aa.Prediction):
            found.insert(0, self._tested(curve, choice, runs[~is_out]))
            untested, notes = curve.untested.get(choice.y, ""), (*notes, *curve.notes)
        else:
            last = runs["n_params_base"] == runs.loc[~is_out, "n_params_base"].max()
            try:
                smaller = _fit_law(choice, runs[~is_out & ~last])
                tested = self._compare(smaller, choice, runs[~is_out & ~last], runs[~is_out & last])
                found.insert(0, tested.assign(held_out_by=IN_TURN))
            except Refusal as error:
                untested = str(error)
        if untested:
            notes += (f"the largest fitted size is not back-tested: {untested}",)
        found = [part for part in found if len(part)]
        return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=_TESTED), notes

    def _compare(self, curve: Curve, choice: Choice, train: pd.DataFrame, test: pd.DataFrame) -> pd.DataFrame:
        """Compare runs that took no part with the law, and with no change from their method's largest fitted size."""
        if test.empty:
            return pd.DataFrame(columns=_TESTED)
        last = train[train["n_params_base"] == train.groupby("method")["n_params_base"].transform("max")]
        runs = test[[name for name in (*_RUN, "second") if name in test]]
        law = self._law_at(curve, choice, runs, [choice.level]).query("kind == 'observation'")
        return _compared(law.assign(no_change=law["method"].map(last.groupby("method")["value"].mean())), choice)

    def _tested(self, curve: aa.Prediction, choice: Choice, runs: pd.DataFrame) -> pd.DataFrame:
        """Return the back-test that ``predict`` made, of the methods chosen."""
        found, level = curve.tested, f"{100 * choice.level:g}"
        if "measured" in found:  # of a table, which knows no sizes and seeds
            keys = ["x", "second" if self.curves else "method", "measured"]
            known = runs.assign(measured=_seen(choice, runs)).drop_duplicates(keys)
            found = found.rename(columns={choice.x: "x", self.second: "second", "value": "predicted"})
            found = found.merge(known[list(dict.fromkeys([*keys, "size", "method", "seed", "value"]))], on=keys)
        names = {"n_params": "x", "last": "no_change", "persistence": "no_change"}
        found = found.rename(columns={**names, f"lower_{level}": "lower", f"upper_{level}": "upper"})
        if found.empty:
            return pd.DataFrame(columns=_TESTED)
        return _compared(found[found["method"].isin(choice.methods)].assign(held_out_by=IN_TURN), choice)


def _to_fit(runs: pd.DataFrame) -> pd.DataFrame:
    runs = runs[runs["held_out_by"] == ""]
    if runs.empty:
        raise Refusal("no run is left to fit: every size is held out; hold out fewer")
    return runs


def _seen(choice: Choice, runs: pd.DataFrame) -> np.ndarray:
    """Return values as laws of a table see them: rates half a problem inside (0, 1)."""
    value = runs["value"].to_numpy(dtype=float)
    if choice.is_loss:
        return value
    return inside_unit_interval(value, runs["n_items"].astype(float).fillna(np.inf))


def _fit_law(choice: Choice, runs: pd.DataFrame) -> aa.Fit:
    """Fit one law, as ``fit`` does, to the runs that are not held out."""
    runs = _to_fit(runs)
    points = pd.DataFrame({choice.x: runs["x"], choice.y: runs["value"], "method": runs["method"]})
    pooling = choice.pooling if runs["method"].nunique() > 1 else "none"
    return aa.fit(points, choice.law, choice.x, choice.y, "method", pooling=pooling, level=choice.level)


def _compared(rows: pd.DataFrame, choice: Choice) -> pd.DataFrame:
    """Return runs that took no part, each with the errors of the law and of no change."""
    errors = {name: rows[of] - rows["value"] for name, of in (("error", "predicted"), ("no_change_error", "no_change"))}
    covered = rows["value"].between(rows["lower"], rows["upper"])
    return rows.assign(**errors, covered=covered, level=choice.level)[_TESTED]


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
        the records or the choice hold a row out, and is empty where it is fitted; ``predicted`` is the law there.
    curve : Fit or Prediction
        What ``fit`` or ``predict`` returns.
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
    data : DataFrame, optional
        A table that comes from no file, which that line calls ``table``.
    """

    choice: Choice
    grid: str
    models: pd.DataFrame
    seeds: pd.DataFrame
    curve: Curve
    line: pd.DataFrame
    predictions: pd.DataFrame
    backtest: pd.DataFrame
    notes: tuple[str, ...]
    source: str = ""
    data: pd.DataFrame | None = None

    @property
    def is_certified(self) -> bool:
        """Whether parameters and certificate are at hand."""
        return isinstance(self.curve, aa.Prediction) or "table" in vars(self.curve)

    @property
    def parameters(self) -> pd.DataFrame:
        """Parameters with intervals and whether the data bound them, or weights of the laws averaged."""
        return self.curve.weights if isinstance(self.curve, aa.Prediction) else self.curve.table

    @property
    def certificate(self) -> pd.DataFrame:
        """What speaks for and against the fit, one row a fit."""
        return self.curve.diagnostics

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
        return table.assign(outcome=outcome, input=choice.x).reindex(columns=_TWIN)

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
        """Return the figure: points, laws (dashed beyond what was fitted), and predictions at the target."""
        choice, table = self.choice, self.table.rename(columns={"x": "n_params_base"})
        METHOD_STYLES.order(choice.methods)
        figure, (panel,) = style.small_multiples(1, 1, row_height=2.6)
        for kind, is_hollow in (("measured", False), ("held_out", True)):
            style.draw_methods(panel, table[table["kind"] == kind], line=False, hollow=is_hollow)
        for method, own in table.groupby("method", sort=False):
            x, colour = own["n_params_base"], METHOD_STYLES[method].colour
            seeds, measured, line, ends = (own["kind"] == kind for kind in ("seed", "measured", "line", "prediction"))
            style.draw_seeds(panel, x[seeds], own.loc[seeds, "value"], method)
            style.draw_law(panel, x[line], own.loc[line, "value"], (x[measured].min(), x[measured].max()), colour)
            style.draw_prediction(panel, style.beside(choice.target, method), own[ends], choice.level, colour)
        panel.set_title(f"{style.name_dataset(choice.y)}: {_law_words(choice)}", loc="left")
        y_label = "nats per token" if choice.y == LOSS else choice.measure
        panel.set(xlabel=X_LABELS.get(choice.x, choice.x), ylabel=y_label, xscale="log")
        if choice.is_loss:
            style.plain_log(panel)
        looks = {"law": (0.8, "-"), "extrapolated": (0.8, "--"), "50 %": (2.2, "-")}
        looks |= {f"{100 * choice.level:g} % prediction interval": (0.7, "-")}
        handles = [style.handle(label, linewidth=width, linestyle=dash) for label, (width, dash) in looks.items()]
        style.method_legend(figure, choice.methods, handles)
        # Whoever asked for it shows it: an open figure a notebook would show once more.
        pyplot.close(figure)
        return figure

    def code(self, data_dir: str | Path) -> str:
        """Return the lines of Python that make the view again."""
        runs = self.source or f"aa.load({str(Path(data_dir).resolve())!r}, {self.grid!r})"
        return (
            f"import astraios_analysis as aa\nruns = {runs}\n"
            f"view = aa.explore(runs, aa.Choice({self.choice.arguments}))\n"
        )

    def save(self, path: str | Path) -> list[Path]:
        """Write figure (PDF, PNG) and table (CSV) under a name whose suffix does not matter; return their paths."""
        return aa.Drawing(self.plot(), self.table).save(path)

    def write(self, folder: str | Path, data_dir: str | Path) -> list[Path]:
        """Write figure, table and code into a folder, under a name that says what is shown; return their paths.

        Beside the code lies what it reads, where that comes from no file.
        """
        choice = self.choice
        words = re.sub(r"[\W_]+", "_", f"{self.grid} {choice.y} {choice.x} {choice.law} {choice.pooling}".lower())
        # Different choices have different names.
        digest = hashlib.sha256(f"{self.grid}, {choice.arguments}".encode()).hexdigest()[:6]
        script = Path(folder) / f"{words}_{digest}.py"
        written, code = self.save(script), self.code(data_dir)
        if self.data is not None:
            read = script.with_name(f"{script.stem}_{IN_MEMORY}.csv")
            read.write_text(self.data.to_csv(index=False), encoding="utf-8")
            code = code.replace(f"({IN_MEMORY},", f"({str(read.resolve())!r},", 1)
            written.append(read)
        script.write_text(f"{code}view.save(__file__)\n", encoding="utf-8")
        return [*written, script]

    @cached_property
    def picture(self) -> bytes:
        """The figure as PNG for a screen."""
        file = io.BytesIO()
        self.plot().savefig(file, format="png", dpi=_SCREEN_DPI, metadata={"Software": None})
        return file.getvalue()

    def prediction_html(self) -> str:
        """Return prediction and back-test."""
        return _to_html(self.prediction_table, "Prediction for a new run") + _to_html(
            self.backtest_table, "Back-test: sizes the fit has not seen"
        )

    def fit_html(self) -> str:
        """Return parameters and certificate; it takes a second or two unless the view is certified."""
        if isinstance(self.curve, aa.Prediction):
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
        words = f"{self.grid}: {choice.y} against {X_LABELS.get(choice.x, choice.x)}; {_law_words(choice)}"
        return f"{words}\n{table_text(self.prediction_table)}"


def _to_html(table: pd.DataFrame, caption: str) -> str:
    shown = table.to_html(index=False, na_rep="", float_format="{:.4g}".format, border=0) if len(table) else "none"
    return f"<p><b>{caption}</b></p>{shown}"


def _law_words(choice: Choice) -> str:
    return "laws averaged" if choice.law == AVERAGED else f"{choice.law}, {SHARED[choice.pooling]}"
