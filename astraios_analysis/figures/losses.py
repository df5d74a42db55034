"""Validation cross-entropy: final loss by size, loss by step, and loss against updated parameters."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from astraios_analysis.figures.spec import require_rows, round_table
from astraios_analysis.figures.style import (
    GREY,
    METHOD_STYLES,
    describe_models,
    draw_seeds,
    method_legend,
    model_handles,
    note,
    plain_log,
    size_axis,
    size_label,
    small_multiples,
    split_held_out,
    twin_columns,
)
from astraios_analysis.figures.tasks import models_in
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.schema import METHODS
from astraios_analysis.scores.losses import loss_lines
from astraios_analysis.scores.models import keep_means, keep_seeds, seed_words

LOSS_LABEL = "validation loss, nats per token"
_FINAL = [
    "size",
    "method",
    "n_params_base",
    "n_params_updated",
    "base_val_loss",
    "val_loss",
    "val_loss_se",
    "lower",
    "upper",
    "level",
]
_LINE = ["method", "n_params_base", "value", "lower", "upper", "level", "slope", "slope_lower", "slope_upper", "dof"]


# Log losses nearer than this give labels that touch.
_NEAR_HEIGHTS = 0.06


def cross_entropy(losses: pd.DataFrame, level: float) -> tuple[Figure, pd.DataFrame]:
    """Draw final validation loss by base size, one panel a method, with a line and its confidence band.

    Parameters
    ----------
    losses : DataFrame
        `losses.final_losses` of one grid.
    level : float
        Coverage of the confidence band.

    Returns
    -------
    Figure
        All methods in the first panel, then one panel each: base models grey, the line dashed beyond the fitted sizes.
    DataFrame
        Rows of kind seed, mean or run (one run a model), and line.
    """
    require_rows(losses, "cross_entropy", "validation losses")
    measured = losses[twin_columns(losses, _FINAL)]
    measured = measured if "kind" in measured else measured.assign(kind="run")
    try:
        lines = loss_lines(losses, level=level)
    except Refusal:
        lines = pd.DataFrame(columns=[*_LINE, "is_extrapolated"])
    lines = lines.rename(columns={"value": "val_loss"}).assign(kind="line")
    table = round_table(pd.concat([measured, lines], ignore_index=True) if len(lines) else measured)
    methods = [method for method in METHODS if method in set(measured["method"])]
    figure, axes = small_multiples(len(methods) + 1, 4, row_height=1.95, sharex=True, sharey=True)
    points = table[table["kind"] != "line"]
    _all_methods(axes[0], _models(points))
    for panel, method in zip(axes[1:], methods, strict=True):
        _one_method(panel, table[table["method"] == method])
    for position, panel in enumerate(axes):
        size_axis(panel, points["n_params_base"], label=position + 4 >= len(axes))
        plain_log(panel)
        panel.set_ylabel(LOSS_LABEL if position % 4 == 0 else "")
    handles = [Line2D([], [], color=GREY, linestyle=":", label="base model, untuned"), *model_handles(losses)]
    if len(lines):
        band = f"line and {100 * level:g} % confidence band"
        handles.append(Line2D([], [], color=GREY, linewidth=1.1, label=band))
        handles.append(Line2D([], [], color=GREY, linewidth=1.1, linestyle="--", label="extrapolated"))
    method_legend(figure, methods, handles)
    return figure, table


def _models(points: pd.DataFrame) -> pd.DataFrame:
    return points[points["kind"] != "seed"]


def _all_methods(panel: Axes, models: pd.DataFrame) -> None:
    base = models.groupby("n_params_base")["base_val_loss"].mean()
    panel.plot(base.index.astype(float), base, color=GREY, linestyle=":", linewidth=1.1)
    for method, own in models.groupby("method", sort=False):
        own = own.sort_values("n_params_base")
        colour = METHOD_STYLES[method].colour
        panel.plot(own["n_params_base"].astype(float), own["val_loss"], color=colour, linewidth=0.9)
        for part, hollow in zip(split_held_out(own), (False, True), strict=True):
            _markers(panel, part["n_params_base"], part["val_loss"], method, hollow=hollow)
    panel.set_title("All methods", loc="left")
    models_here = models_in(models)
    words = seed_words(models.assign(kind="mean")) if "n_seeds" in models else "one run a model"
    note(panel, f"{describe_models(models_here, models_here)}\n{words}", width=36, reserve=2)


def _markers(panel: Axes, x: pd.Series, y: pd.Series, method: str, *, hollow: bool, size: float = 4) -> None:
    style = METHOD_STYLES[method]
    panel.plot(
        x.astype(float),
        y,
        style.marker,
        color=style.colour,
        markersize=size,
        markerfacecolor="white" if hollow else style.colour,
        markeredgecolor=style.colour if hollow else "white",
        markeredgewidth=0.8 if hollow else 0.3,
        linestyle="",
        zorder=3,
    )


def _one_method(panel: Axes, rows: pd.DataFrame) -> None:
    method = rows["method"].iloc[0]
    style, models = METHOD_STYLES[method], _models(rows[rows["kind"] != "line"])
    base = models.sort_values("n_params_base")
    panel.plot(base["n_params_base"].astype(float), base["base_val_loss"], color=GREY, linestyle=":", linewidth=1.1)
    line = rows[rows["kind"] == "line"].sort_values("n_params_base")
    if len(line):
        _draw_line(panel, line, style.colour)
    seeds = rows[rows["kind"] == "seed"]
    draw_seeds(panel, seeds["n_params_base"].astype(float), seeds["val_loss"], method)
    for part, hollow in zip(split_held_out(models), (False, True), strict=True):
        x, known = part["n_params_base"].astype(float), part["lower"].notna()
        bars = part[known]
        panel.vlines(x[known], bars["lower"], bars["upper"], color=style.colour, linewidth=0.8, zorder=2.8)
        _markers(panel, x, part["val_loss"], method, hollow=hollow, size=3.4)
    panel.set_title(style.label, loc="left")
    panel.title.set_color(style.colour)
    note(panel, _slope_words(line), width=36, reserve=2)


def _draw_line(panel: Axes, line: pd.DataFrame, colour: str) -> None:
    n_params, beyond = line["n_params_base"].astype(float), line["is_extrapolated"].astype(bool)
    inside = ~beyond
    # The dashed part starts where the solid one ends.
    edges = (n_params <= n_params[inside].min(), n_params >= n_params[inside].max())
    for part, style in ((inside, "-"), (edges[0], "--"), (edges[1], "--")):
        panel.plot(n_params[part], line["val_loss"][part], color=colour, linewidth=0.9, linestyle=style)
    lower, upper = (line[name].astype(float) for name in ("lower", "upper"))
    panel.fill_between(n_params, lower, upper, color=colour, alpha=0.15, linewidth=0)


def _slope_words(line: pd.DataFrame) -> str:
    if line.empty:
        return "no line: fewer than three fitted sizes"
    first = line.iloc[0]
    slope = f"slope {first['slope']:.3f} [{first['slope_lower']:.3f}, {first['slope_upper']:.3f}]"
    dof = int(first["dof"])
    return f"{slope}\n{int(first['n_sizes'])} sizes, {dof} degree{'s' if dof != 1 else ''} of freedom"


def cross_entropy_by_step(curves: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw validation loss by optimiser step, one panel a size.

    Parameters
    ----------
    curves : DataFrame
        `losses.loss_curves` of one grid.

    Returns
    -------
    Figure
        Means over seeds, with single seeds as thin lines; step 0 is the untuned base model.
    DataFrame
    """
    require_rows(curves, "cross_entropy_by_step", "validation curves")
    columns = twin_columns(curves, ["size", "method", "n_params_base", "step", "loss", "stderr"])
    table = round_table(curves[columns])
    sizes = sorted(set(table["n_params_base"]))
    n_columns = min(len(sizes), 3)
    figure, axes = small_multiples(len(sizes), n_columns, row_height=2.1, sharex=True, sharey=True)
    for position, (panel, n_params) in enumerate(zip(axes, sizes, strict=True)):
        rows = table[table["n_params_base"] == n_params]
        for method, own in rows.groupby("method", sort=False):
            _draw_curves(panel, own, method)
        size, is_held_out = rows["size"].iloc[0], len(split_held_out(rows)[1]) > 0
        panel.set_title(f"{size}, {size_label(n_params)} parameters{', held out' if is_held_out else ''}", loc="left")
        words = seed_words(rows)
        note(panel, f"{rows['method'].nunique()} methods{f', {words}' if words else ', one run each'}", width=60)
        plain_log(panel)
        panel.set_ylabel(LOSS_LABEL if position % n_columns == 0 else "")
        is_lowest = position + n_columns >= len(sizes)
        panel.set_xlabel("optimiser step (0: base model)" if is_lowest else "")
        # Shared axes leave out the numbers above a place without a panel.
        panel.tick_params(axis="x", labelbottom=is_lowest)
    handles = []
    if len(keep_seeds(table)):
        handles = [
            Line2D([], [], color=GREY, linewidth=1.2, label="mean over seeds"),
            Line2D([], [], color=GREY, linewidth=0.5, alpha=0.6, label="one seed"),
        ]
    method_legend(figure, table["method"], handles)
    return figure, table


def _draw_curves(panel: Axes, rows: pd.DataFrame, method: str) -> None:
    style = METHOD_STYLES[method]
    seeds = keep_seeds(rows)
    for _, own in seeds.groupby("seed") if len(seeds) else []:
        panel.plot(own["step"], own["loss"], color=style.colour, linewidth=0.4, alpha=0.5, zorder=2)
    mean = keep_means(rows).sort_values("step")
    every = max(len(mean) // 6, 1)
    panel.plot(
        mean["step"],
        mean["loss"],
        color=style.colour,
        linewidth=1.1,
        marker=style.marker,
        markersize=3.2,
        markevery=(METHODS.index(method) % every, every),
        markeredgecolor="white",
        markeredgewidth=0.3,
        zorder=3,
    )


def cross_entropy_by_updated_parameters(losses: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw final validation loss against the number and the share of updated parameters, one line a size.

    Parameters
    ----------
    losses : DataFrame
        `losses.final_losses` of one grid.

    Returns
    -------
    Figure
        Both axes logarithmic; a size's line joins its methods in the order of their updated parameters.
    DataFrame
    """
    require_rows(losses, "cross_entropy_by_updated_parameters", "validation losses")
    share = 100 * losses["n_params_updated"].astype(float) / losses["n_params"].astype(float)
    columns = twin_columns(losses, [*_FINAL[:4], "n_params", "percent_updated", *_FINAL[4:]])
    table = round_table(losses.assign(percent_updated=share)[columns])
    figure, panels = small_multiples(2, 2, row_height=3.0, sharey=True)
    for panel, column in zip(panels, ("n_params_updated", "percent_updated"), strict=True):
        panel.set_xscale("log")
        _draw_sizes(panel, table, column)
        plain_log(panel)
    count, percent = panels
    count.set_xlabel("updated parameters")
    count.xaxis.set_major_formatter(lambda number, _: size_label(number))
    percent.xaxis.set_major_formatter(lambda number, _: f"{number:g}")
    percent.set_xlabel("updated, % of all parameters")
    count.set_ylabel(LOSS_LABEL)
    count.set_title("Number of updated parameters", loc="left")
    percent.set_title("Share of the tuned model", loc="left")
    models = models_in(table)
    words = seed_words(table)
    for panel in panels:
        note(panel, f"{describe_models(models, models)}{f', {words}' if words else ''}; labels: base model", width=80)
    method_legend(figure, table["method"], model_handles(table))
    return figure, table


def _label_shifts(heights: list[float]) -> list[float]:
    """Return how far labels move, in points, where neighbouring lines begin at nearly one height."""
    shifts = [0.0] * len(heights)
    for place in range(1, len(heights)):
        if abs(np.log(heights[place] / heights[place - 1])) < _NEAR_HEIGHTS:
            shifts[place - 1], shifts[place] = max(shifts[place - 1], 3.5), -3.5
    return shifts


def _draw_sizes(panel: Axes, table: pd.DataFrame, column: str) -> None:
    means, seeds = keep_means(table), keep_seeds(table)
    sizes = sorted(set(means["n_params_base"]))
    for method, own in seeds.groupby("method", sort=False):
        draw_seeds(panel, own[column].astype(float), own["val_loss"], method)
    labels = []
    for place, n_params in enumerate(sizes):
        own = means[means["n_params_base"] == n_params].sort_values(column)
        shade = str(round(0.75 - 0.6 * place / max(len(sizes) - 1, 1), 3))
        panel.plot(own[column].astype(float), own["val_loss"], color=shade, linewidth=1.0, zorder=1.5)
        for method, row in own.groupby("method", sort=False):
            for part, hollow in zip(split_held_out(row), (False, True), strict=True):
                _markers(panel, part[column], part["val_loss"], method, hollow=hollow)
        labels.append((float(own[column].iloc[0]), float(own["val_loss"].iloc[0]), own["size"].iloc[0], shade))
    for (x, y, size, shade), shift in zip(labels, _label_shifts([y for _, y, _, _ in labels]), strict=True):
        panel.annotate(
            size, (x, y), (-5, shift), textcoords="offset points", ha="right", va="center", fontsize=6.5, color=shade
        )
    lower, upper = panel.get_xlim()
    # Room for the labels at the left ends.
    panel.set_xlim(lower / np.sqrt(upper / lower) ** 0.3, upper)
