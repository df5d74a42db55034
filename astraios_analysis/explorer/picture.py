"""A view as an interactive picture: hover names the run and its values; zoom; axes; a second law; residuals."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from plotly.graph_objects import FigureWidget

from astraios_analysis.explorer.choices import X_LABELS
from astraios_analysis.explorer.view import IN_TURN, View
from astraios_analysis.figures.style import METHOD_STYLES, beside, name_dataset, name_method
from astraios_analysis.records.registry import LOSS

_SYMBOLS = {"o": "circle", "s": "square", "^": "triangle-up", "D": "diamond", "v": "triangle-down", "P": "cross"}
_SYMBOLS |= {"X": "x", "p": "pentagon"}
_RUN = "%{text}<br>%{x:.5~g}: %{y:.4~g}<extra></extra>"


def make_traces(view: View, other: View | None = None) -> list[dict[str, Any]]:
    """Return traces of the left panel: runs, models, laws, predictions; of another view its laws, dotted."""
    traces = []
    METHOD_STYLES.order(view.choice.methods)
    for method, own in view.table.groupby("method", sort=False):
        kinds = dict(list(own.groupby("kind")))
        for kind, looks in (("seed", {"size": 4, "opacity": 0.5}), ("measured", {}), ("held_out", {})):
            if kind in kinds:
                rows, is_full = kinds[kind], kind != "held_out"
                bars = rows if kind != "seed" and rows["upper"].notna().any() else None
                traces.append(_points(method, rows["x"], rows["value"], _words(rows), is_full, bars, **looks))
        if "line" in kinds:
            traces += _law(kinds["line"].sort_values("x"), method, kinds.get("measured", kinds["line"])["x"].max())
        if "prediction" in kinds:
            traces += _predictions(kinds["prediction"], method, view.choice.level)
    for method, line in other.line.groupby("method", sort=False) if other is not None else ():
        traces.append(_line(line, method, "dot", f"{name_method(method)}: {other.choice.law}"))
    return traces


def _points(
    method: str,
    x: pd.Series,
    y: pd.Series,
    words: list[str],
    is_full: pd.Series | bool,
    bars: pd.DataFrame | None = None,
    **looks: Any,
) -> dict[str, Any]:
    """Return a trace of a method's points, open where they are not full, with bars from ``lower`` to ``upper``."""
    style = METHOD_STYLES[method]
    symbol, full = _SYMBOLS.get(style.marker, "circle"), np.broadcast_to(is_full, len(x))
    symbols = [symbol if one else f"{symbol}-open" for one in full]
    trace = {"x": x, "y": y, "text": words, "mode": "markers", "hovertemplate": _RUN, "legendgroup": method}
    trace |= {"showlegend": False, "marker": {"color": style.colour, "symbol": symbols, "size": 8} | looks}
    if bars is not None:
        ends = {"array": bars["upper"] - y, "arrayminus": y - bars["lower"]}
        trace["error_y"] = ends | {"color": style.colour, "thickness": 1, "width": 0}
    return trace


def _words(rows: pd.DataFrame) -> list[str]:
    found = []
    for row in rows.to_dict("records"):
        run = f", seed {row['seed']:g}" if row["kind"] == "seed" and pd.notna(row.get("seed")) else ""
        ends = f"<br>interval {row['lower']:.4g} to {row['upper']:.4g}" if pd.notna(row["lower"]) else ""
        is_out = " (held out)" * (row["kind"] == "held_out")
        found.append(f"{name_method(row['method'])}, {row['size']}{run}{is_out}{ends}")
    return found


def _line(line: pd.DataFrame, method: str, dash: str, words: str, **more: Any) -> dict[str, Any]:
    looks = {"color": METHOD_STYLES[method].colour, "width": 1.5, "dash": dash}
    hover = f"{words}<br>%{{x:.5~g}}: %{{y:.4~g}}<extra></extra>"
    own = {"x": line["x"], "y": line["value"], "mode": "lines", "line": looks, "hovertemplate": hover}
    return own | {"legendgroup": method, "showlegend": False, "name": name_method(method)} | more


def _law(line: pd.DataFrame, method: str, end: float) -> list[dict[str, Any]]:
    words = f"{name_method(method)}: law"
    inside, beyond = line[line["x"] <= end], line[line["x"] >= end]
    return [_line(inside, method, "solid", words, showlegend=True), _line(beyond, method, "dash", words)]


def _predictions(rows: pd.DataFrame, method: str, level: float) -> list[dict[str, Any]]:
    """Return prediction intervals at the target: 50 % thick, the wide one thin."""
    found = []
    for wanted, width in ((level, 1.5), (0.5, 5)):
        for row in rows[rows["level"] == wanted].to_dict("records"):
            ends = [row["lower"], row["upper"]]
            words = f"{name_method(method)}, {100 * wanted:g} % prediction interval<br>{ends[0]:.4g} to {ends[1]:.4g}"
            bar = _line(pd.DataFrame({"x": [beside(row["x"], method)] * 2, "value": ends}), method, "solid", words)
            found.append(bar | {"line": bar["line"] | {"width": width}, "hovertemplate": f"{words}<extra></extra>"})
    return found


def make_residuals(view: View) -> list[dict[str, Any]]:
    """Return traces of residuals: the logarithm of measured over the law (losses), or their difference (rates)."""
    traces, table = [], view.table
    models = table[table["kind"].isin(["measured", "held_out"])].dropna(subset="predicted")
    for method, own in models.groupby("method", sort=False):
        off = np.log(own["value"] / own["predicted"]) if view.choice.is_loss else own["value"] - own["predicted"]
        traces.append(_points(method, own["x"], off, _words(own), own["kind"] == "measured"))
    return traces


def make_backtest(view: View) -> list[dict[str, Any]]:
    """Return traces of predicted against measured for the runs that took no part, with the diagonal."""
    traces, table = [], view.backtest
    for method, own in table.groupby("method", sort=False):
        words = [
            f"{name_method(method)}, {row['size']}, held out by {row['held_out_by']}; no change {row['no_change']:.4g}"
            for row in own.to_dict("records")
        ]
        is_full = own["held_out_by"] == IN_TURN
        traces.append(_points(method, own["value"], own["predicted"], words, is_full, own, size=7))
    if len(table):
        ends, looks = [table["value"].min(), table["value"].max()], {"color": "grey", "width": 1}
        traces.append({"x": ends, "y": ends, "mode": "lines", "line": looks, "showlegend": False})
    return traces


def draw_interactive(
    view: View, *, other: View | None = None, right: str = "backtest", log: Sequence[bool] = (True, True)
) -> FigureWidget:
    """Return a view as a figure: the law on the left, its back-test or its residuals on the right.

    A new one each time: a page that is still loading misses what is changed in a figure that it has.
    """
    choice, x_label = view.choice, X_LABELS.get(view.choice.x, view.choice.x)
    beside = make_residuals(view) if right == "residuals" else make_backtest(view)
    traces = [*make_traces(view, other), *(trace | {"xaxis": "x2", "yaxis": "y2"} for trace in beside)]
    x_kind, y_kind = ("log" if on else "linear" for on in log)
    y_label = "validation loss, nats per token" if choice.y == LOSS else f"{name_dataset(choice.y)}: {choice.measure}"
    x2, y2 = {"type": y_kind, "title": "measured"}, {"type": y_kind, "title": "predicted"}
    if right == "residuals":
        x2, y2 = {"type": x_kind, "title": x_label}, {"type": "linear", "title": "measured against the law"}
    layout = {
        "xaxis": {"type": x_kind, "title": x_label, "domain": [0, 0.62]},
        "yaxis": {"type": y_kind, "title": y_label},
        "xaxis2": x2 | {"domain": [0.72, 1]},
        "yaxis2": y2 | {"anchor": "x2"},
        "legend": {"orientation": "h", "y": -0.2},
        "margin": {"t": 20, "r": 10, "l": 60, "b": 20},
        "template": "simple_white",
        "height": 480,
        "hovermode": "closest",
    }
    return FigureWidget([{"type": "scatter", **_plain(trace)} for trace in traces], layout)


def _plain(value: Any) -> Any:
    """Return arrays and Series as lists, so that a page without extensions can read them."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return [None if pd.isna(one) else one for one in value] if isinstance(value, pd.Series | np.ndarray) else value
