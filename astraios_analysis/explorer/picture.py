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
    table, traces = view.table, []
    METHOD_STYLES.order(view.choice.methods)
    for method, own in table.groupby("method", sort=False):
        style, kinds = METHOD_STYLES[method], dict(list(own.groupby("kind")))
        colour, symbol = style.colour, _SYMBOLS.get(style.marker, "circle")
        common = {"legendgroup": method, "showlegend": False, "hovertemplate": _RUN, "mode": "markers"}
        for kind, looks in (
            ("seed", {"size": 4, "opacity": 0.5}),
            ("measured", {"size": 8}),
            ("held_out", {"size": 8, "symbol": f"{symbol}-open"}),
        ):
            if kind in kinds:
                rows = kinds[kind]
                marker = {"color": colour, "symbol": symbol} | looks
                bars = _bars(rows, colour) if kind != "seed" else {}
                words = [_words(row, kind) for row in rows.to_dict("records")]
                traces.append(common | {"x": rows["x"], "y": rows["value"], "text": words, "marker": marker} | bars)
        traces += _law(kinds.get("line"), method, kinds)
        traces += _predictions(kinds.get("prediction"), method, view.choice.level)
    if other is not None:
        for method, line in other.line.groupby("method", sort=False):
            traces.append(_line(line, method, "dot", f"{name_method(method)}: {other.choice.law}"))
    return traces


def _words(row: dict[str, Any], kind: str) -> str:
    run = f", seed {row['seed']:g}" if kind == "seed" and pd.notna(row.get("seed")) else ""
    ends = f"<br>interval {row['lower']:.4g} to {row['upper']:.4g}" if pd.notna(row["lower"]) else ""
    return f"{name_method(row['method'])}, {row['size']}{run}{' (held out)' if kind == 'held_out' else ''}{ends}"


def _bars(rows: pd.DataFrame, colour: str) -> dict[str, Any]:
    up, down = rows["upper"] - rows["value"], rows["value"] - rows["lower"]
    if up.isna().all():
        return {}
    return {"error_y": {"array": up, "arrayminus": down, "color": colour, "thickness": 1, "width": 0}}


def _line(line: pd.DataFrame, method: str, dash: str, words: str, **more: Any) -> dict[str, Any]:
    looks = {"color": METHOD_STYLES[method].colour, "width": 1.5, "dash": dash}
    hover = f"{words}<br>%{{x:.5~g}}: %{{y:.4~g}}<extra></extra>"
    own = {"x": line["x"], "y": line["value"], "mode": "lines", "line": looks, "hovertemplate": hover}
    return own | {"legendgroup": method, "showlegend": False, "name": name_method(method)} | more


def _law(line: pd.DataFrame | None, method: str, kinds: dict[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """Return a law, solid over what was fitted and dashed beyond."""
    if line is None:
        return []
    line, words = line.sort_values("x"), f"{name_method(method)}: law"
    ends = kinds["measured"]["x"] if "measured" in kinds else line["x"]
    inside, beyond = line[line["x"] <= ends.max()], line[line["x"] >= ends.max()]
    return [_line(inside, method, "solid", words, showlegend=True), _line(beyond, method, "dash", words)]


def _predictions(rows: pd.DataFrame | None, method: str, level: float) -> list[dict[str, Any]]:
    """Return prediction intervals at the target: 50 % thick, the wide one thin."""
    found = []
    for wanted, width in ((level, 1.5), (0.5, 5)) if rows is not None else ():
        for row in rows[rows["level"] == wanted].to_dict("records"):
            ends = [row["lower"], row["upper"]]
            words = f"{name_method(method)}, {100 * wanted:g} % prediction interval<br>{ends[0]:.4g} to {ends[1]:.4g}"
            bar = _line(pd.DataFrame({"x": [beside(row["x"], method)] * 2, "value": ends}), method, "solid", words)
            found.append(bar | {"line": bar["line"] | {"width": width}, "hovertemplate": f"{words}<extra></extra>"})
    return found


def make_residuals(view: View) -> list[dict[str, Any]]:
    """Return traces of residuals: the logarithm of measured over the law (losses), or their difference (rates)."""
    traces, table = [], view.table
    for method, own in table[table["kind"].isin(["measured", "held_out"])].groupby("method", sort=False):
        line = view.line[view.line["method"] == method].sort_values("x")
        if line.empty:
            continue
        law = np.interp(np.log(own["x"]), np.log(line["x"]), line["value"])
        off = np.log(own["value"] / law) if view.choice.is_loss else own["value"] - law
        style = METHOD_STYLES[method]
        symbol = _SYMBOLS.get(style.marker, "circle")
        symbols = [symbol if kind == "measured" else f"{symbol}-open" for kind in own["kind"]]
        words = [_words(row, row["kind"]) for row in own.to_dict("records")]
        looks = {"color": style.colour, "symbol": symbols, "size": 8}
        one = {"x": own["x"], "y": off, "text": words, "mode": "markers", "marker": looks, "hovertemplate": _RUN}
        traces.append(one | {"legendgroup": method, "showlegend": False})
    return traces


def make_backtest(view: View) -> list[dict[str, Any]]:
    """Return traces of predicted against measured for the runs that took no part, with the diagonal."""
    traces = []
    for method, own in view.backtest.groupby("method", sort=False):
        style = METHOD_STYLES[method]
        symbol = _SYMBOLS.get(style.marker, "circle")
        symbols = [symbol if by == IN_TURN else f"{symbol}-open" for by in own["held_out_by"]]
        words = [
            f"{name_method(method)}, {row['size']}, held out by {row['held_out_by']}; no change {row['no_change']:.4g}"
            for row in own.to_dict("records")
        ]
        bars = {"array": own["upper"] - own["predicted"], "arrayminus": own["predicted"] - own["lower"]}
        bars |= {"color": style.colour, "thickness": 1, "width": 0}
        looks = {"color": style.colour, "symbol": symbols, "size": 7}
        one = {"x": own["value"], "y": own["predicted"], "text": words, "mode": "markers", "marker": looks}
        traces.append(one | {"error_y": bars, "hovertemplate": _RUN, "legendgroup": method, "showlegend": False})
    if len(view.backtest):
        ends = [view.backtest["value"].min(), view.backtest["value"].max()]
        traces.append(
            {"x": ends, "y": ends, "mode": "lines", "line": {"color": "grey", "width": 1}, "showlegend": False}
        )
    return traces


def draw_interactive(
    view: View, *, other: View | None = None, right: str = "backtest", log: Sequence[bool] = (True, True)
) -> FigureWidget:
    """Return a view as a figure: the law on the left, its back-test or its residuals on the right.

    A new one each time: a page that is still loading misses what is changed in a figure that it has.
    """
    choice, x_label = view.choice, X_LABELS[view.choice.x]
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
