"""The model suite: how many parameters each method updates at each size, and what tuning costs."""

from itertools import pairwise

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from astraios_analysis.figures.spec import average_models, figure, find_ends, keep_largest, require_rows, round_table
from astraios_analysis.figures.style import (
    METHOD_STYLES,
    describe_models,
    draw_markers,
    draw_seeds,
    join,
    method_legend,
    model_handles,
    models_in,
    name_method,
    note,
    plain_log,
    size_axis,
    size_label,
    small_multiples,
    split_held_out,
    twin_columns,
)

COLUMNS = ["size", "method", "n_params", "n_params_base", "n_params_base_nonembedding", "n_params_updated"]
# Costs whose largest is less than so many times the smallest have an axis from zero.
_LITTLE = 3
# Columns of a run's cost: title, label and unit of the axis.
_COSTS = {
    "flop": ("Operations", "FLOP of tuning, 1e12", 1e12),
    "seconds": ("Time", "seconds of tuning", 1.0),
    "peak_memory_bytes": ("Memory", "peak memory, GiB", 2.0**30),
}


def _say_updated(table: pd.DataFrame) -> str | None:
    tuned = table[table["method"] != "fft"]
    if tuned.empty:
        return None
    ends = [
        f"{row['percent_updated']:.2g} % ({name_method(row['method'])}, {row['size']})"
        for row in find_ends(tuned, "percent_updated")
    ]
    return f"Apart from full fine-tuning, from {ends[0]} to {ends[1]} of the tuned model."


@figure(
    "updated_parameters",
    notebook="model_suite",
    title="Updated parameters by method and size",
    question="How many parameters does each method update?",
    caption="Number of parameters each method updates, and their share of the tuned model in percent, against the "
    "parameters of the base model (embeddings included). Exact counts, both axes logarithmic.",
    answer=_say_updated,
)
def updated_parameters(frame: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw updated parameters by base size and method; the twin has ``percent_updated``, of added parameters too."""
    table = frame[twin_columns(frame, COLUMNS)].drop_duplicates()
    share = 100 * table["n_params_updated"].astype(float) / table["n_params"].astype(float)
    table = table.assign(percent_updated=share)
    require_rows(table, "updated_parameters", "runs")
    table = round_table(table)
    figure, (count, share) = small_multiples(2, 2, row_height=3.0)
    for axes, column in ((count, "n_params_updated"), (share, "percent_updated")):
        _draw(axes, table, column)
    count.set_title("Updated parameters", loc="left")
    count.set_ylabel("updated parameters")
    # Plain numbers: the exponents of powers of ten would be too small to read in print.
    count.yaxis.set_major_formatter(lambda number, _: size_label(number))
    share.yaxis.set_major_formatter(lambda percent, _: f"{percent:g}")
    share.set_title("Share of the tuned model", loc="left")
    share.set_ylabel("updated, % of all parameters")
    for axes in (count, share):
        note(axes, f"exact counts, {describe_models(models_in(table), models_in(table))}")
    if handles := model_handles(table):
        figure.legend(handles=handles, loc="outside upper center", frameon=False)
    return figure, table


def _draw(axes: Axes, table: pd.DataFrame, column: str) -> None:
    axes.set_yscale("log")
    ends = {}
    for method, rows in table.groupby("method", sort=False):
        style, rows = METHOD_STYLES[method], rows.sort_values("n_params_base")
        x, y = rows["n_params_base"].astype(float), rows[column].astype(float)
        axes.plot(x, y, color=style.colour, marker=style.marker, markeredgecolor="white", markeredgewidth=0.3)
        held_out = split_held_out(rows)[1]
        draw_markers(axes, held_out["n_params_base"], held_out[column], method, hollow=True)
        ends[method] = (float(x.iloc[-1]), float(y.iloc[-1]))
    size_axis(axes, table["n_params_base"])
    _label_ends(axes, ends)


def _label_ends(axes: Axes, ends: dict[str, tuple[float, float]]) -> None:
    """Name each line at its right end, with names moved apart where lines end close together."""
    to_axes = axes.transScale + axes.transLimits
    heights = {method: float(to_axes.transform(end)[1]) for method, end in ends.items()}
    for method, height in _spread(heights).items():
        style = METHOD_STYLES[method]
        axes.annotate(
            style.label,
            ends[method],
            xytext=(1.05, height),
            textcoords="axes fraction",
            color=style.colour,
            va="center",
            fontsize=7,
            arrowprops={"arrowstyle": "-", "color": style.colour, "linewidth": 0.4, "shrinkA": 0, "shrinkB": 3},
        )


def _spread(heights: dict[str, float], gap: float = 0.055) -> dict[str, float]:
    """Move heights apart, each as little as it must, until neighbours are ``gap`` of the axis apart."""
    order = sorted(heights, key=lambda name: heights[name])
    placed = dict(heights)
    for _ in range(200):
        for lower, upper in pairwise(order):
            overlap = gap - (placed[upper] - placed[lower])
            if overlap > 0:
                placed[lower] -= overlap / 2
                placed[upper] += overlap / 2
    return placed


def _say_cost(table: pd.DataFrame) -> str | None:
    words = {"flop": "operations", "seconds": "seconds", "peak_memory_bytes": "peak memory"}
    largest, parts = keep_largest(average_models(table, "value", "measure")), []
    for measure, rows in largest.groupby("measure", sort=False):
        least, most = find_ends(rows, "value")
        if len(rows) > 1 and least["value"] > 0:
            names = f"{name_method(most['method'])} against {name_method(least['method'])}"
            parts.append(f"{words.get(measure, measure)} by a factor of {most['value'] / least['value']:.2g} ({names})")
    return f"At {largest['size'].iloc[0]}, methods differ in {join(parts)}." if parts else None


@figure(
    "training_cost",
    notebook="model_suite",
    title="Cost of tuning",
    question="What does tuning cost?",
    caption="Floating-point operations, wall-clock seconds and peak memory of each tuning run against the parameters "
    "of the base model; where a model has several seeds, large points are their means and small ones the runs. Times "
    "are of one machine that did other work as well.",
    answer=_say_cost,
)
def training_cost(frame: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw FLOP, seconds and peak memory of tuning; the twin has a row a run and measure (``value`` in bytes, ...)."""
    parts = [
        frame.assign(measure=measure, value=frame[measure].astype(float))[frame[measure].notna()] for measure in _COSTS
    ]
    own = pd.concat(parts, ignore_index=True)
    require_rows(own, "training_cost", "runs whose cost was recorded")
    table = round_table(own[[*twin_columns(own, ["size", "method", "n_params_base"]), "seed", "measure", "value"]])
    shown = [measure for measure in _COSTS if measure in set(table["measure"])]
    figure, axes = small_multiples(len(shown), len(shown), row_height=2.5)
    for panel, measure in zip(axes, shown, strict=True):
        rows = table[table["measure"] == measure]
        title, label, unit = _COSTS[measure]
        _draw_costs(panel, rows, unit)
        size_axis(panel, rows["n_params_base"])
        panel.set_title(title, loc="left")
        panel.set_ylabel(label)
        n_seeds = rows.groupby(["size", "method"]).size().max()
        each = f"{n_seeds} run{'s' if n_seeds > 1 else ''} each"
        note(panel, f"{describe_models(models_in(rows), models_in(frame))}, {each}", width=40)
    method_legend(figure, table["method"])
    return figure, table


def _draw_costs(panel: Axes, rows: pd.DataFrame, unit: float) -> None:
    for method, own in rows.groupby("method", sort=False):
        x, y = own["n_params_base"], own["value"] / unit
        mean = own.groupby("n_params_base")["value"].mean() / unit
        style = METHOD_STYLES[method]
        if len(mean) < len(own):
            draw_seeds(panel, x, y, method)
        looks = {"markeredgecolor": "white", "markeredgewidth": 0.3, "linewidth": 0.7}
        panel.plot(mean.index, mean, color=style.colour, marker=style.marker, **looks)
    if rows["value"].max() < _LITTLE * rows["value"].min():
        panel.set_ylim(bottom=0)
    else:
        panel.set_yscale("log")
        plain_log(panel)
