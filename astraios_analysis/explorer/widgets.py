"""Widgets over views: plot, prediction, back-test and fit follow at every change."""

import asyncio
import html
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import ipywidgets as widgets
import numpy as np
import pandas as pd
from plotly.graph_objects import FigureWidget

from astraios_analysis.api import MAX_REACH
from astraios_analysis.explorer.choices import LOSS, SHARED, X_LABELS, Choice, poolings_for
from astraios_analysis.explorer.picture import draw_interactive
from astraios_analysis.explorer.sources import make_grid
from astraios_analysis.explorer.view import Grid, View
from astraios_analysis.figures.style import name_dataset, name_method
from astraios_analysis.records.frame import RecordError, RunRecord
from astraios_analysis.records.refusal import Refusal

# Profiles take a second or two; they wait until nothing has been moved for so long.
_CERTIFY_AFTER = 0.6
# The controls stay where they are while what they show scrolls by.
_STICKY = "<style>.astraios-controls { position: sticky; top: 0; align-self: flex-start; }</style>"
_COMPUTING = "<p><b>Fit</b></p><p>Parameters and fit diagnostics are being computed.</p>"


class Explorer:
    """Widgets for one choice at a time.

    Parameters
    ----------
    runs : sequence of RunRecord, DataFrame, or mapping of str to these
        Records of a grid, or a table that ``aa.read_table`` read with its columns' roles; several by name.
    data_dir : str or Path
        Where they were read from, for the code that the button writes.
    out_dir : str or Path
        Where the button writes.
    level : float
        Coverage of the intervals.
    target : float or str, optional
        Base parameters to predict at, at the start.
    """

    def __init__(
        self,
        runs: Sequence[RunRecord] | pd.DataFrame | Mapping[str, Sequence[RunRecord] | pd.DataFrame],
        *,
        data_dir: str | Path = "data",
        out_dir: str | Path = "build/explored",
        level: float = 0.95,
        target: float | str | None = None,
    ) -> None:
        named = runs if isinstance(runs, Mapping) else {"": runs}
        grids = {name: make_grid(own, name or "table") for name, own in named.items()}
        self.grids = {name or grid.name: grid for name, grid in grids.items()}
        self.data_dir, self.out_dir, self.level, self.start_target = data_dir, out_dir, level, target
        self.view: View | None = None
        self._is_updating, self._waiting, self._target = False, None, 10.0
        self._make_widgets()
        self._show_grid()
        for widget in self._inputs.values():
            widget.observe(self._on_change, names="value")
        for widget in self._looks.values():
            widget.observe(self._on_look, names="value")
        self._save.on_click(self._on_save)

    def _make_widgets(self) -> None:
        def look(**own: object) -> dict:
            return {"style": {"description_width": "80px"}, "layout": widgets.Layout(width="300px"), **own}

        lists = {"y": "outcome", "measure": "measure", "x": "against", "law": "law", "pooling": "share"}
        self._inputs = {
            "grid": widgets.Dropdown(options=list(self.grids), **look(description="grid")),
            **{name: widgets.Dropdown(options=[], **look(description=words)) for name, words in lists.items()},
            "methods": widgets.SelectMultiple(options=[], **look(description="methods", rows=7)),
            "held_out": widgets.SelectMultiple(options=[], **look(description="hold out", rows=4)),
            "target": widgets.FloatLogSlider(
                value=10.0, min=0, max=1, step=0.01, **look(description="predict at", readout_format=".3s")
            ),
        }
        # How the same is looked at; nothing is fitted anew but the second law.
        self._looks = {
            "other": widgets.Dropdown(options=[("none", "")], **look(description="second law")),
            "right": widgets.Dropdown(options=["backtest", "residuals"], **look(description="beside")),
            "log_x": widgets.Checkbox(value=True, indent=False, description="logarithmic x"),
            "log_y": widgets.Checkbox(value=True, indent=False, description="logarithmic y"),
        }
        self._save = widgets.Button(description="Write figure, CSV and code", layout=widgets.Layout(width="300px"))
        self._picture = FigureWidget()
        names = ("_said", "_always", "_notes", "_prediction", "_fit")
        self._said, self._always, self._notes, self._prediction, self._fit = (widgets.HTML() for _ in names)
        self._code = widgets.Textarea(rows=4, layout=widgets.Layout(width="98%"))
        controls = [*self._inputs.values(), *self._looks.values(), self._always, self._save, self._said]
        left = widgets.VBox([widgets.HTML(_STICKY), *controls], layout=widgets.Layout(width="320px", flex="0 0 auto"))
        left.add_class("astraios-controls")
        # A box of their own: the picture's layout is plotly's, and cannot be hidden.
        self._shown = widgets.VBox([self._picture, self._code])
        shown = [self._shown, self._notes, self._prediction, self._fit]
        right = widgets.VBox(shown, layout=widgets.Layout(flex="1 1 auto", min_width="0", padding="0 0 0 12px"))
        self.widget = widgets.HBox([left, right])

    @property
    def grid(self) -> Grid:
        """The grid that is chosen."""
        return self.grids[self._inputs["grid"].value]

    @property
    def choice(self) -> Choice:
        """What the widgets say."""
        values = {name: widget.value for name, widget in self._inputs.items() if name != "grid"}
        # What comes back from a page has been through logarithms; a target that was not moved stays what it was.
        if np.isclose(values["target"], self._target, rtol=1e-6):
            values["target"] = self._target
        return Choice(level=self.level, **values)

    def _on_change(self, change: dict) -> None:
        if self._is_updating:
            return
        if change["owner"] is self._inputs["grid"]:
            self._show_grid()
        else:
            self._offer(self.choice, keep_target=change["owner"] not in (self._inputs["x"], self._inputs["held_out"]))
            self._show()

    def _on_look(self, _: dict) -> None:
        if not self._is_updating and self.view is not None:
            self._draw()

    def _draw(self) -> None:
        """Draw the view, and a second law over it where one is chosen; why there is none is said."""
        looks, other = {name: widget.value for name, widget in self._looks.items()}, None
        self._said.value = ""
        if looks["other"]:
            try:
                other = self.grid.view(replace(self.view.choice, law=looks["other"], pooling=""))
            except Refusal as error:
                self._said.value = html.escape(f"{looks['other']}: {error}")
        log = (looks["log_x"], looks["log_y"] and self.view.choice.is_loss)
        old, self._picture = self._picture, draw_interactive(self.view, other=other, right=looks["right"], log=log)
        self._shown.children = (self._picture, self._code)
        old.close()

    def _show_grid(self) -> None:
        try:
            start = self.grid.start(level=self.level, target=self.start_target)
        except Refusal as error:
            self._refuse(str(error))
            return
        always = ", ".join(self.grid.options.always_held_out)
        self._always.value = f"Held out by the records: {always}" if always else ""
        self._offer(start)
        self._show()

    def _offer(self, now: Choice, *, keep_target: bool = True) -> None:
        """Offer what the chosen grid, outcome and law have, keeping what is chosen where it is still there."""
        found = self.grid.options
        self._is_updating = True
        try:
            y = self._set("y", {n: "validation loss" if n == LOSS else name_dataset(n) for n in found.outcomes}, now.y)
            measures = {name: name or "-" for name in found.measures.get(y, ("",))}
            measure = self._set("measure", measures, now.measure)
            self._set("x", {name: X_LABELS.get(name, name) for name in found.inputs}, now.x)
            law = self._set("law", {name: name for name in found.laws(y, measure)}, now.law)
            others = {"": "none"} | {name: name for name in found.laws(y, measure) if name != law}
            kept, second = self._looks["other"].value, self._looks["other"]
            second.options = [(words, name) for name, words in others.items()]
            second.value = kept if kept in others else ""
            self._set("pooling", {name: SHARED[name] for name in poolings_for(law)}, now.pooling)
            self._set("methods", {name: name_method(name) for name in found.methods}, now.methods or found.methods)
            self._set("held_out", {name: name for name in found.sizes}, now.held_out)
            self._set_target(now.target if keep_target else None)
        finally:
            self._is_updating = False

    def _set(self, name: str, choices: Mapping[str, str], wished: object) -> object:
        """Give a widget choices and the value wished for, or what is nearest to it among them."""
        widget, options = self._inputs[name], tuple((label, value) for value, label in choices.items())
        if tuple(widget.options) != options:
            widget.options = options
        if isinstance(wished, tuple):
            widget.value = tuple(value for value in choices if value in wished)
        else:
            widget.value = wished if wished in choices else next(iter(choices))
        return widget.value

    def _set_target(self, wished: float | None) -> None:
        runs, slider = self.grid.inputs, self._inputs["target"]
        is_out = runs["held_out"].astype(bool) | runs["size"].isin(self._inputs["held_out"].value)
        fitted = runs.loc[~is_out, self._inputs["x"].value].dropna()
        largest = float(fitted.max()) if len(fitted) else 1.0
        self._target = float(np.clip(wished or 2 * largest, largest, largest * MAX_REACH))
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
            self.view = self.grid.view(self.choice)
        except Refusal as error:
            self._refuse(str(error))
            return
        view, self._save.disabled = self.view, False
        self._shown.layout.display = None
        self._draw()
        self._code.value = view.code(self.data_dir)
        self._prediction.value = view.prediction_html()
        lacking = "".join(f"<p>{html.escape(one)}</p>" for one in self.grid.options.lacking)
        self._notes.value = view.notes_html() + lacking
        self._fit.value = view.fit_html() if view.is_certified else _COMPUTING
        if not view.is_certified:
            self._certify_later()

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
        self._fit.value = self.view.fit_html()

    def _refuse(self, reason: str) -> None:
        self.view, self._save.disabled = None, True
        self._shown.layout.display = "none"
        self._prediction.value = self._fit.value = self._said.value = ""
        self._notes.value = f"<p><b>This choice has no answer.</b></p><p>{html.escape(reason)}</p>"

    def _on_save(self, _: object) -> None:
        try:
            written = self.view.write(self.out_dir, self.data_dir)
        except RecordError as error:
            self._said.value = html.escape(str(error))
            return
        self._said.value = "Written: " + "<br>".join(html.escape(str(path)) for path in written)

    def _repr_mimebundle_(self, **named: object):
        """Return the widgets and, for a page without a kernel, what they show."""
        bundle = self.widget._repr_mimebundle_(**named)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        return ({**data, "text/html": self.view._repr_html_()} if self.view else data), metadata
