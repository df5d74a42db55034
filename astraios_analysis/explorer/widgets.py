"""Explore fits by hand: widgets over the figure functions, and the same without widgets.

``explore.Explorer(runs)`` shows widgets; ``explore.explore(records, explore.Choice(...))`` returns what they show.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import ipywidgets as widgets
import numpy as np

from astraios_analysis.explorer.choices import (
    LOSS,
    X_LABELS,
    Choice,
    Options,
    complete,
    laws_for,
    options_of,
    poolings_for,
    starting_choice,
)
from astraios_analysis.explorer.files import write_exploration
from astraios_analysis.explorer.pages import (
    Page,
    backtest_table,
    certificate_table,
    fit_page,
    page_of,
    parameter_table,
    prediction_table,
)
from astraios_analysis.explorer.points import input_table, outcome_table
from astraios_analysis.explorer.results import Exploration, certify, explore, first_view, summarise_backtest
from astraios_analysis.figures.style import METHOD_STYLES
from astraios_analysis.prediction.limits import MAX_REACH
from astraios_analysis.records.frame import RecordError, RunRecord
from astraios_analysis.records.grids import PerGrid
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.registry import DATASETS

__all__ = [
    "Choice",
    "Exploration",
    "Explorer",
    "backtest_table",
    "certificate_table",
    "certify",
    "explore",
    "first_view",
    "page_of",
    "parameter_table",
    "prediction_table",
    "summarise_backtest",
    "write_exploration",
]

_KEPT = 64
# A profile takes a second or two; it waits until nothing has been moved for so long.
_CERTIFY_AFTER = 0.6
_POOLING_WORDS = {"own": "nothing (each by itself)", "shared": "all but the level", "partial": "what the data say"}


class Explorer:
    """Widgets for one choice at a time: plot, prediction, back-test and fit follow at every change.

    Parameters
    ----------
    runs : PerGrid of list of RunRecord
        `grids.load_grids`.
    data_dir : str or Path
        Where they were read from, for the script that the button writes.
    out_dir : str or Path
        Where the button writes.
    level : float
        Coverage of the intervals.
    target : float, optional
        Base parameters to predict at, at the start.
    """

    def __init__(
        self,
        runs: PerGrid[list[RunRecord]],
        *,
        data_dir: str | Path,
        out_dir: str | Path,
        level: float = 0.95,
        target: float | None = None,
    ) -> None:
        self.runs, self.data_dir, self.out_dir = runs, data_dir, out_dir
        self.level, self.start_target = level, target
        self.exploration: Exploration | None = None
        self._options = {grid: options_of(records) for grid, records in runs.items()}
        self._outcomes: OrderedDict = OrderedDict()
        self._explored: OrderedDict = OrderedDict()
        self._is_updating, self._waiting, self._target = False, None, 10.0
        self._make_widgets()
        self._show_grid()
        for widget in self._inputs.values():
            widget.observe(self._on_change, names="value")
        self._save.on_click(self._on_save)

    def _make_widgets(self) -> None:
        look = {"style": {"description_width": "70px"}, "layout": widgets.Layout(width="300px")}
        several = {"style": look["style"], "rows": 7, "layout": widgets.Layout(width="300px")}
        self._inputs = {
            "grid": widgets.Dropdown(description="grid", options=list(self.runs), **look),
            "y": widgets.Dropdown(description="outcome", options=[LOSS], **look),
            "measure": widgets.Dropdown(description="measure", options=[""], **look),
            "x": widgets.Dropdown(description="against", options=[], **look),
            "law": widgets.Dropdown(description="law", options=[], **look),
            "pooling": widgets.Dropdown(description="share", options=[], **look),
            "methods": widgets.SelectMultiple(description="methods", options=[], **several),
            "held_out": widgets.SelectMultiple(description="hold out", options=[], **(several | {"rows": 4})),
            "target": widgets.FloatLogSlider(
                description="predict at", value=10.0, min=0, max=1, step=0.01, readout_format=".3s", **look
            ),
        }
        self._save = widgets.Button(description="Write figure, CSV and code", layout=widgets.Layout(width="300px"))
        self._said, self._always = widgets.HTML(), widgets.HTML()
        self._picture = widgets.Image(format="png", layout=widgets.Layout(max_width="100%", width="860px"))
        self._prediction, self._fit, self._notes = widgets.HTML(), widgets.HTML(), widgets.HTML()
        controls = [*self._inputs.values(), self._always, self._save, self._said]
        left = widgets.VBox(controls, layout=widgets.Layout(width="320px", flex="0 0 auto"))
        shown = [self._picture, self._notes, self._prediction, self._fit]
        right = widgets.VBox(shown, layout=widgets.Layout(flex="1 1 auto", min_width="0", padding="0 0 0 12px"))
        self.widget = widgets.HBox([left, right])

    @property
    def records(self) -> list[RunRecord]:
        """Runs of the grid that is chosen."""
        return self.runs[self._inputs["grid"].value]

    @property
    def options(self) -> Options:
        """What that grid offers."""
        return self._options[self._inputs["grid"].value]

    @property
    def choice(self) -> Choice:
        """What the widgets say."""
        values = {name: widget.value for name, widget in self._inputs.items() if name != "grid"}
        # What comes back from a page has been through logarithms; a target that was not moved stays what it was.
        if np.isclose(values["target"], self._target, rtol=1e-6):
            values["target"] = self._target
        return Choice(level=self.level, **{name: v or () if name == "methods" else v for name, v in values.items()})

    def _on_change(self, change: dict) -> None:
        if self._is_updating:
            return
        if change["owner"] is self._inputs["grid"]:
            self._show_grid()
        else:
            self._offer(keep_target=change["owner"] not in (self._inputs["x"], self._inputs["held_out"]))
            self._show()

    def _show_grid(self) -> None:
        """Set all widgets to the choice that a grid starts with."""
        try:
            start = starting_choice(self.records, level=self.level, target=self.start_target)
        except Refusal as error:
            self._refuse(str(error))
            return
        found = self.options
        always = ", ".join(found.always_held_out)
        self._always.value = f"Held out by the records: {always}" if always else ""
        self._offer(start)
        self._show()

    def _offer(self, start: Choice | None = None, *, keep_target: bool = True) -> None:
        """Offer what the chosen grid, outcome and law have, keeping what is chosen where it is still there."""
        now, found, old = start or self.choice, self.options, self._inputs
        offered = {
            "y": [(_name_outcome(name), name) for name in found.outcomes],
            "measure": [(name or "-", name) for name in found.measures.get(now.y, ("",))],
            "x": [(X_LABELS[name], name) for name in found.inputs],
            "law": list(laws_for(now.y)),
            "methods": [(METHOD_STYLES[name].label, name) for name in found.methods],
            "held_out": list(found.sizes),
        }
        self._is_updating = True
        try:
            for name, choices in offered.items():
                wished = getattr(now, name)
                _set_options(old[name], choices, found.methods if name == "methods" and not wished else wished)
            poolings = poolings_for(old["law"].value, old["x"].value)
            _set_options(old["pooling"], [(_POOLING_WORDS[name], name) for name in poolings], now.pooling)
            self._set_target(now, keep=keep_target)
        finally:
            self._is_updating = False

    def _set_target(self, now: Choice, *, keep: bool) -> None:
        inputs, slider = input_table(self.records, self._inputs["x"].value), self._inputs["target"]
        out = {record.size for record in self.records if record.held_out} | set(self._inputs["held_out"].value)
        fitted = inputs.loc[~inputs["size"].isin(out) & inputs["x"].notna(), "x"]
        largest = float(fitted.max()) if len(fitted) else 1.0
        wished = now.target if keep and now.target else 2 * largest
        self._target = float(np.clip(wished, largest, largest * MAX_REACH))
        # The slider knows whole steps from its lower end only: that end is moved so that the target is one of them.
        steps = np.floor((np.log10(self._target) - np.log10(largest)) / slider.step + 1e-9)
        low, high = np.log10(self._target) - steps * slider.step, np.log10(largest * MAX_REACH) + 1e-9
        slider.min = min(low, slider.min)
        slider.max, slider.min = high, low
        slider.value = self._target

    def _show(self) -> None:
        """Show what follows from the widgets; what cannot be answered is said in place of the plot."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        try:
            choice = complete(self.choice, self.options)
            self.exploration, page = self._remember(
                self._explored, (self._inputs["grid"].value, choice), lambda: self._compute(choice)
            )
        except Refusal as error:
            self._refuse(str(error))
            return
        self._picture.value, self._picture.layout.display = page.picture, None
        self._prediction.value, self._fit.value, self._notes.value = page.prediction, page.fit, page.notes
        self._said.value, self._save.disabled = "", False
        if not self.exploration.is_certified:
            self._certify_later()

    def _compute(self, choice: Choice) -> tuple[Exploration, Page]:
        key = self._inputs["grid"].value, choice.y, choice.measure, choice.level
        outcomes = self._remember(self._outcomes, key, lambda: outcome_table(self.records, choice))
        found = explore(self.records, choice, outcomes=outcomes)
        return found, page_of(found, self.options)

    @staticmethod
    def _remember(memory: OrderedDict, key: object, compute: Callable[[], object]):
        if key not in memory:
            memory[key] = compute()
        memory.move_to_end(key)
        if len(memory) > _KEPT:
            memory.popitem(last=False)
        return memory[key]

    def _certify_later(self) -> None:
        """Compute profile intervals once nothing moves; at once where no loop runs, as in a script."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._certify()
            return
        self._waiting = loop.call_later(_CERTIFY_AFTER, self._certify)

    def _certify(self) -> None:
        self._waiting = None
        found = certify(self.exploration)
        choice = complete(self.choice, self.options)
        kept = self._explored.get((self._inputs["grid"].value, choice))
        if kept is not None:
            page = replace(kept[1], fit=fit_page(found))
            self._explored[self._inputs["grid"].value, choice] = found, page
        self.exploration, self._fit.value = found, fit_page(found)

    def _refuse(self, reason: str) -> None:
        self.exploration, self._save.disabled = None, True
        self._picture.layout.display = "none"
        self._prediction.value = self._fit.value = self._said.value = ""
        self._notes.value = f"<p><b>This choice has no answer.</b></p><p>{_escape(reason)}</p>"

    def _on_save(self, _: object) -> None:
        try:
            written = write_exploration(self.exploration, self.out_dir, self.data_dir)
        except RecordError as error:
            self._said.value = _escape(str(error))
            return
        self._said.value = "Written: " + "<br>".join(_escape(str(path)) for path in written)

    def _repr_mimebundle_(self, **named: object):
        """Return the widgets and, for a page without a kernel, what they show."""
        bundle = self.widget._repr_mimebundle_(**named)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        if self.exploration is not None:
            page = Page(self._picture.value, self._prediction.value, self._fit.value, self._notes.value)
            data = {**data, "text/html": page._repr_html_()}
        return data, metadata


def _name_outcome(name: str) -> str:
    return "validation loss" if name == LOSS else DATASETS[name].title


def _set_options(widget, choices: Sequence, wished: object) -> None:
    """Give a widget choices and the value wished for, or what is nearest to it among them."""
    values = [choice[1] if isinstance(choice, tuple) else choice for choice in choices]
    if tuple(widget.options) != tuple(choices):
        widget.options = choices
    if isinstance(widget, widgets.SelectMultiple):
        widget.value = tuple(value for value in values if value in wished)
    else:
        widget.value = wished if wished in values else values[0]


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
