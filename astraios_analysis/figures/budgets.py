"""What budgets buy: loss along lines of equal cost."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn
from matplotlib import pyplot

from astraios_analysis.figures.style import draw_law

# Rows that cost up to so many times more or less than a budget are shown with it.
_NEAR = 1.5


def draw_budgets(table: pd.DataFrame, lines: Sequence[Any], points: pd.DataFrame, names: Sequence[str]) -> Any:
    """Return a Figure: loss against size along each budget, dashed beyond the sizes fitted, rows and optima."""
    size, _, loss = names
    figure, axes = pyplot.subplots(figsize=(7.2, 4.8), layout="constrained")
    low, high = points[size].min(), points[size].max()
    shown = [low, high]
    colours = seaborn.color_palette("colorblind", len(lines))
    for colour, line, (_, best) in zip(colours, lines, table.iterrows(), strict=True):
        near = points[(points["cost"] / best["budget"]).between(1 / _NEAR, _NEAR)]
        ends = [best[f"{size}_lower"], best[f"{size}_upper"]]
        shown += [*ends, best[size] / 5, best[size] * 5]
        draw_law(axes, pd.Series(line.inputs[:, 0]), pd.Series(line.loss), (low, high), colour)
        axes.scatter(near[size], near[loss], color=colour, s=14, alpha=0.7)
        axes.plot(ends, [best["loss"]] * 2, color=colour, linewidth=4, alpha=0.5)
        axes.plot(best[size], best["loss"], "*", color=colour, markersize=13, markeredgecolor="black")
        axes.plot([], [], color=colour, label=f"{best['budget']:.3g}")
    window = max(min(shown), low / 30), min(max(shown), high * 30)
    seen = [line.loss[(line.inputs[:, 0] >= window[0]) & (line.inputs[:, 0] <= window[1])] for line in lines]
    top = max(np.quantile(np.concatenate([points[loss], *seen]), 0.9), table["loss"].max())
    bottom = min(table["loss"].min(), points[loss].min())
    axes.set(xscale="log", xlim=window, ylim=(0.97 * bottom, 1.05 * top), xlabel=size, ylabel=loss)
    level = 100 * table["level"].iloc[0]
    axes.set_title(f"Optimum of each budget with its {level:g} % interval; dots: rows of 0.7 to 1.5 times the budget")
    axes.title.set_fontsize(9)
    axes.legend(title="budget (FLOP)")
    pyplot.close(figure)
    return figure
