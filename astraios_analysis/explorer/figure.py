"""A fit that was explored: models, law and prediction in one panel, the back-test beside them."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from astraios_analysis.explorer.choices import LOSS, SIZE_COLUMNS, X_LABELS, Choice
from astraios_analysis.explorer.results import IN_TURN, Exploration, first_view, line_table
from astraios_analysis.figures.losses import LOSS_LABEL
from astraios_analysis.figures.spec import BARS, figure, require_rows, round_table
from astraios_analysis.figures.style import (
    GREY,
    METHOD_STYLES,
    dodge,
    draw_law,
    draw_methods,
    draw_prediction,
    draw_seeds,
    method_legend,
    note,
    plain_log,
    size_axis,
    size_label,
    small_multiples,
    start_at_zero,
)
from astraios_analysis.figures.transfer import count_covered, draw_backtest
from astraios_analysis.records.frame import RunRecord
from astraios_analysis.records.registry import DATASETS, METRICS

# Bars go at most this many times beyond what was measured on a logarithmic axis; the table has their ends.
_ROOM = 2.0
_POOLING_WORDS = {"own": "each method by itself", "shared": "shape shared, own level", "partial": "partly pooled"}
_COLUMNS = [
    "outcome",
    "input",
    "kind",
    "method",
    "size",
    "x",
    "value",
    "lower",
    "upper",
    "level",
    "interval",
    "n_seeds",
    "held_out_by",
    "predicted",
    "covered",
    "no_change",
    "reach",
]


def _say_explored(table: pd.DataFrame) -> str | None:
    checked = table[table["kind"] == "backtest"].dropna(subset=["value", "predicted"])
    if checked.empty:
        return None
    made = checked[checked["lower"].notna()]
    error = (checked["predicted"] - checked["value"]).abs().mean()
    still = (checked["no_change"] - checked["value"]).abs().mean()
    return (
        f"Predicted from the smaller sizes, the largest fitted one is missed by {error:.2g} on average, against "
        f"{still:.2g} for predicting no change; {count_covered(made)} of {len(made)} prediction intervals cover it."
    )


@figure(
    "explored_fit",
    notebook="explore",
    title="A law, its prediction and its back-test",
    question="What does one law say, and how far would it have been right?",
    caption="What the explorer starts with: the validation loss, or without losses the score that most models have, "
    "against the parameters of the base model with {level} intervals; a law whose shape methods share (solid over the "
    "fitted sizes, dashed beyond) and prediction intervals for a new run at {target} parameters, or at the held-out "
    "size of a grid out of its reach. Right: the largest fitted size predicted from the smaller ones with {level} "
    "prediction intervals; dots predict no change. Bars that leave the frame are in the table.",
    answer=_say_explored,
    fitted=("value", *BARS, "predicted", "reach"),
)
def first_fit(runs: Sequence[RunRecord], level: float, target: float) -> tuple[Figure, pd.DataFrame]:
    """Draw what the explorer starts with for a grid."""
    return explored_fit(first_view(runs, level=level, target=target))


def explored_fit(exploration: Exploration) -> tuple[Figure, pd.DataFrame]:
    """Draw the models of a choice, the law through them, the prediction at the target, and the back-test.

    Parameters
    ----------
    exploration : Exploration

    Returns
    -------
    Figure
        Left: points with error bars, hollow where held out; the law solid over what was fitted and dashed beyond;
        bars at the target are 50 % (thick) and ``level`` (thin) prediction intervals for a new run. Right: the largest
        fitted size, predicted from the smaller ones.
    DataFrame
        Rows of kind measured, held_out, seed, line, prediction and backtest.
    """
    choice = exploration.choice
    table = round_table(_table(exploration))
    require_rows(table[table["kind"] == "measured"], "explored_fit", "models with an outcome")
    # Finding a layout takes half as long as drawing, and the explorer draws at every touch: margins are fixed here.
    ratios = {"width_ratios": [5, 3]}
    figure, (left, right) = small_multiples(2, 2, row_height=3.5, gridspec_kw=ratios, layout="none")
    figure.subplots_adjust(left=0.075, right=0.985, bottom=0.175, top=0.775, wspace=0.27)
    _draw_fit(left, table, choice)
    left.set_title(_title(choice), loc="left")
    note(left, _words(exploration, table), width=92, reserve=2)
    _draw_backtest(right, table[table["kind"] == "backtest"], choice)
    method_legend(figure, choice.methods, _handles(exploration, table))
    return figure, table


def _table(exploration: Exploration) -> pd.DataFrame:
    choice, models = exploration.choice, exploration.models
    kinds = models["held_out_by"].isna().map({True: "measured", False: "held_out"})
    predictions = exploration.predictions
    predictions = predictions[predictions["kind"] == "observation"].drop(columns="kind")
    backtest = exploration.backtest
    if len(backtest):
        no_change = backtest["measured"] + backtest["no_change_error"]
        backtest = backtest.rename(columns={"measured": "value"}).assign(no_change=no_change)
    parts = [
        models.assign(kind=kinds, level=choice.level),
        exploration.seeds.assign(kind="seed", lower=np.nan, upper=np.nan),
        line_table(exploration).assign(kind="line"),
        predictions.assign(kind="prediction", interval="observation"),
        backtest.assign(kind="backtest", interval="observation"),
    ]
    frames = [part for part in parts if len(part)]
    table = pd.concat([part.astype({"x": float, "value": float}) for part in frames], ignore_index=True)
    return table.assign(outcome=_outcome(choice), input=choice.x).reindex(columns=_COLUMNS)


def _outcome(choice: Choice) -> str:
    return choice.y if choice.y == LOSS else f"{choice.y} | {choice.measure}"


def _title(choice: Choice) -> str:
    if choice.y == LOSS:
        return "Validation cross-entropy"
    setting, _, metric = choice.measure.partition(" | ")
    return f"{DATASETS[choice.y].title}: {METRICS[metric].label} ({setting})"


def _y_label(choice: Choice) -> str:
    return LOSS_LABEL if choice.y == LOSS else METRICS[choice.measure.partition(" | ")[2]].label


def _words(exploration: Exploration, table: pd.DataFrame) -> str:
    choice = exploration.choice
    fitted, out = (int((table["kind"] == kind).sum()) for kind in ("measured", "held_out"))
    counted = f"{fitted} models fitted, {out} held out" if out else f"{fitted} models, all fitted"
    seeds = table.loc[table["kind"].isin(["measured", "held_out"]), "n_seeds"].astype(float)
    counted += f", {_span(seeds)} seeds each" if seeds.max() > 1 else ", one run each"
    law = f"{choice.law}, {_POOLING_WORDS[choice.pooling]}"
    return f"{law}; {counted}\npredicted at {_number(choice.target, choice.x)} {_unit(choice.x)}"


def _span(values: pd.Series) -> str:
    low, high = int(values.min()), int(values.max())
    return str(high) if low == high else f"{low} to {high}"


def _number(value: float, x: str) -> str:
    return f"{value:.3g}" if x in ("seconds", "flop") else size_label(float(f"{value:.3g}"))


def _unit(x: str) -> str:
    return {"flop": "FLOP", "seconds": "s"}.get(x, X_LABELS[x])


def _draw_fit(panel: Axes, table: pd.DataFrame, choice: Choice) -> None:
    spread = 1.0 if choice.x in SIZE_COLUMNS else 0.0
    points = table.assign(n_params_base=table["x"])
    measured, held_out = (points[points["kind"] == kind] for kind in ("measured", "held_out"))
    draw_methods(panel, measured, line=False, spread=spread)
    draw_methods(panel, held_out, line=False, hollow=True, spread=spread)
    for method, own in table.groupby("method", sort=False):
        colour = METHOD_STYLES[method].colour
        line, seeds = own[own["kind"] == "line"], own[own["kind"] == "seed"]
        inside = own.loc[own["kind"] == "measured", "x"]
        draw_law(panel, line["x"], line["value"], (inside.min(), inside.max()), colour)
        predicted = own[own["kind"] == "prediction"]
        if len(predicted):
            x = float(dodge([predicted["x"].iloc[0]], method, spread=2)[0])
            draw_prediction(panel, x, predicted, choice.level, colour)
        draw_seeds(panel, dodge(seeds["x"], method, spread), seeds["value"], method)
    panel.set_ylabel(_y_label(choice))
    _set_limits(panel, table, choice)
    panel.set_xlabel(X_LABELS[choice.x])
    if choice.x in SIZE_COLUMNS:
        sizes = table.loc[table["kind"].isin(["measured", "held_out"]), "x"]
        size_axis(panel, [*sizes, choice.target], label=False, margin=1.6, label_width=0.09)
        return
    panel.set_xscale("log")
    if choice.x == "seconds":
        plain_log(panel, "x")
    elif choice.x == "n_params_updated":
        panel.xaxis.set_major_formatter(lambda number, _: size_label(number))


def _set_limits(panel: Axes, table: pd.DataFrame, choice: Choice) -> None:
    """Bound a logarithmic axis by what was measured and the law: bars without end would flatten both."""
    if choice.y != LOSS:
        start_at_zero([panel])
        panel.set_ylim(top=min(panel.get_ylim()[1], 1.0))
        return
    panel.set_yscale("log")
    values = table.loc[table["kind"].isin(["measured", "held_out", "line"]), "value"]
    bars = table.loc[(table["kind"] == "prediction") & (table["level"] == choice.level), ["lower", "upper"]]
    lower = max(min(values.min(), bars["lower"].min() if len(bars) else np.inf), values.min() / _ROOM)
    upper = min(max(values.max(), bars["upper"].max() if len(bars) else 0.0), values.max() * _ROOM)
    panel.set_ylim(lower / 1.06, upper * 1.06)
    plain_log(panel)


def _draw_backtest(panel: Axes, rows: pd.DataFrame, choice: Choice) -> None:
    own = rows[rows["held_out_by"] == IN_TURN]
    by_choice = rows[rows["held_out_by"] == "choice"]
    shown = own if by_choice.empty else by_choice[by_choice["x"] == by_choice["x"].max()]
    shown = own if shown.empty else shown
    if len(by_choice) and choice.x not in SIZE_COLUMNS:
        shown = by_choice[by_choice["size"] == by_choice["size"].iloc[-1]]
    if shown.empty:
        panel.set_axis_off()
        panel.text(0, 0.5, "No back-test: too few sizes are left\nto fit without the largest.", color=GREY, fontsize=7)
        return
    size = shown["size"].iloc[0]
    drawn = shown.rename(columns={"value": "measured", "no_change": "persistence"})
    draw_backtest(panel, drawn)
    panel.set_title(f"Back-test: {size} held out", loc="left")
    error = (shown["predicted"] - shown["value"]).abs().mean()
    no_change = (shown["no_change"] - shown["value"]).abs().mean()
    words = f"error {error:.3f}, no change {no_change:.3f}"
    note(panel, f"{words}\ninterval covered {int(shown['covered'].sum())} of {len(shown)}", width=44, reserve=2)
    panel.set_xlabel(_y_label(choice))
    values = shown[["value", "predicted", "no_change"]].to_numpy(dtype=float)
    ends = shown[["lower", "upper"]].to_numpy(dtype=float)
    if choice.y == LOSS:
        low = max(ends[:, 0].min(), values.min() / _ROOM)
        high = min(ends[:, 1].max(), values.max() * _ROOM)
        panel.set_xlim(min(low, values.min()) / 1.05, max(high, values.max()) * 1.05)
        plain_log(panel, "x")


def _handles(exploration: Exploration, table: pd.DataFrame) -> Sequence[Line2D]:
    level, kinds = exploration.choice.level, set(table["kind"])
    hollow = {"markerfacecolor": "white", "markeredgewidth": 0.8}
    ways = sorted(set(exploration.models["interval"]) - {"none"})
    handles = []
    if ways:
        how = "normal" if ways == ["normal"] else "bootstrap over problems"
        handles.append(
            Line2D(
                [], [], color=GREY, marker="|", markersize=7, linestyle="", label=f"{100 * level:g} % interval ({how})"
            )
        )
    handles.append(Line2D([], [], color=GREY, linewidth=1.1, label="law"))
    handles.append(Line2D([], [], color=GREY, linewidth=1.1, linestyle="--", label="extrapolated"))
    handles.append(Line2D([], [], color=GREY, linewidth=2.2, label="50 %"))
    handles.append(Line2D([], [], color=GREY, linewidth=0.7, label=f"{100 * level:g} % prediction interval"))
    if "held_out" in kinds or "backtest" in kinds:
        handles.append(Line2D([], [], color=GREY, marker="o", linestyle="", label="held out", **hollow))
    if "seed" in kinds:
        handles.append(Line2D([], [], color=GREY, marker="o", markersize=2.2, linestyle="", label="one seed"))
    return handles
