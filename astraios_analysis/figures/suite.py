"""The model suite: how many parameters each method updates at each size, and what tuning costs."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from astraios_analysis.figures import style
from astraios_analysis.figures.spec import average_models, figure, find_ends, keep_largest, require_rows
from astraios_analysis.figures.style import METHOD_STYLES, name_grid, name_method, size_label

_COLUMNS = ["size", "method", "n_params", "n_params_base", "n_params_base_nonembedding", "n_params_updated"]
# Columns of the table: title and label of the axis.
_PANELS = {
    "n_params_updated": ("Updated parameters", "updated parameters"),
    "percent_updated": ("Share of the tuned model", "updated, % of all parameters"),
    "flop": ("Cost of tuning", "FLOP, 1e12"),
}


def _say_updated(table: pd.DataFrame) -> str | None:
    tuned = table[table["method"] != "fft"]
    if tuned.empty:
        return None
    ends = find_ends(tuned, "percent_updated")
    shares = [f"{row['percent_updated']:.2g} %" for row in ends]
    named = [f"{a} ({name_method(row['method'])}, {row['size']})" for a, row in zip(shares, ends, strict=True)]
    words = f"from {named[0]} to {named[1]}" if shares[0] != shares[1] else shares[0]
    found = f"Apart from full fine-tuning, {words} of the tuned model."
    costs = table.dropna(subset=["flop"]) if "flop" in table else table.iloc[:0]
    largest = keep_largest(average_models(costs, "flop")) if len(costs) else costs
    if len(largest) < 2:
        return found
    least, most = find_ends(largest, "flop")
    if least["flop"] == most["flop"]:
        return f"{found} At {most['size']}, FLOP do not differ."
    names = f"{name_method(most['method'])} against {name_method(least['method'])}"
    return f"{found} At {most['size']}, FLOP differ by a factor of {most['flop'] / least['flop']:.2g} ({names})."


def _updated_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the counts of every model, and the FLOP of tuning where they were recorded, averaged over seeds."""
    require_rows(frame, "updated_parameters", "runs")
    held_out = ["held_out"] * bool(frame["held_out"].any())
    cost = frame.groupby(["size", "method"])["flop"].mean().astype(float)
    table = frame[[*_COLUMNS, *held_out]].drop_duplicates().join(cost, on=["size", "method"])
    share = 100 * table["n_params_updated"].astype(float) / table["n_params"].astype(float)
    return table.assign(percent_updated=share).dropna(axis=1, how="all")


@figure(
    "updated_parameters",
    notebook="model_suite",
    title="Updated parameters by method and size",
    question="How many parameters does each method update?",
    caption="Number of parameters each method updates, their share of the tuned model in percent (added parameters "
    "counted in the total), and the floating-point operations of tuning where they were recorded, against the "
    "parameters of the base model (embeddings included). Exact counts, both axes logarithmic.",
    answer=_say_updated,
    fitted=("flop",),
    rows=_updated_rows,
)
def updated_parameters(table: pd.DataFrame) -> Figure:
    """Draw updated parameters by base size and method, a row of panels a grid."""
    grids, shown = style.split_grids(table), [name for name in _PANELS if name in table]
    figure, axes = style.small_multiples(len(grids) * len(shown), len(shown), row_height=2.4)
    for position, panel in enumerate(axes):
        (grid, rows), column = grids[position // len(shown)], shown[position % len(shown)]
        if column not in rows:
            panel.remove()
            continue
        _draw(panel, rows.assign(flop=rows["flop"] / 1e12) if column == "flop" else rows, column)
        title, label = _PANELS[column]
        style.label_panel(panel, title, f"{name_grid(grid)}: {style.describe_models(rows)}", ylabel=label)
    style.method_legend(figure, table["method"], style.model_handles(table))
    return figure


def _draw(axes: Axes, table: pd.DataFrame, column: str) -> None:
    axes.set_yscale("log")
    for method, rows in table.groupby("method", sort=False):
        look, rows = METHOD_STYLES[method], rows.sort_values("n_params_base")
        x, y = rows["n_params_base"].astype(float), rows[column].astype(float)
        axes.plot(x, y, color=look.colour, marker=look.marker, markeredgecolor="white", markeredgewidth=0.3)
        held_out = style.split_held_out(rows)[1]
        style.draw_markers(axes, held_out["n_params_base"], held_out[column], method, hollow=True)
    style.size_axis(axes, table["n_params_base"])
    # Plain numbers: the exponents of powers of ten would be too small to read in print.
    if column == "n_params_updated":
        style.plain_log(axes, "y", size_label)
    else:
        style.plain_log(axes)
