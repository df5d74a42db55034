"""Models trained with several seeds: their mean, every seed beside it, held-out sizes hollow."""

from collections.abc import Sequence

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from astraios_analysis.figures.style import GREY, METHOD_STYLES, dodge, draw_methods
from astraios_analysis.records.registry import DATASETS
from astraios_analysis.scores.models import SEED_COLUMNS, keep_means, keep_seeds

_LONG_TITLE = 22


def twin_columns(table: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """Return columns of a CSV twin: those named, and what tells seeds and held-out sizes apart where there are any."""
    held_out = ["held_out"] if table["held_out"].any() else []
    return [*columns, *held_out, *(name for name in SEED_COLUMNS if "kind" in table)]


def split_held_out(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows of fitted sizes and those of held-out ones."""
    if "held_out" not in table:
        return table, table.iloc[:0]
    is_held_out = table["held_out"].astype(bool)
    return table[~is_held_out], table[is_held_out]


def draw_models(axes: Axes, table: pd.DataFrame, *, line: bool = True) -> None:
    """Draw each model's point with its interval, and its seeds as small points.

    Parameters
    ----------
    axes : Axes
    table : DataFrame
        ``method, n_params_base, value, lower, upper`` and, where there are any, ``held_out`` and ``kind``.
    line : bool
        Join the points of a method; held-out ones are never joined.
    """
    fitted, held_out = split_held_out(keep_means(table))
    draw_methods(axes, fitted, line=line)
    draw_methods(axes, held_out, line=False, hollow=True)
    for method, own in keep_seeds(table).groupby("method", sort=False):
        draw_seeds(axes, dodge(own["n_params_base"], method), own["value"], method)


def draw_seeds(axes: Axes, x: Sequence[float], y: Sequence[float], method: str) -> None:
    """Draw runs of single seeds, small and pale."""
    style = METHOD_STYLES[method]
    axes.plot(
        x,
        y,
        style.marker,
        color=style.colour,
        markersize=2.2,
        alpha=0.45,
        markeredgewidth=0,
        linestyle="",
        zorder=2.5,
    )


def draw_law(panel: Axes, x: pd.Series, y: pd.Series, fitted: tuple[float, float], colour: str) -> None:
    """Draw a law, solid over the inputs fitted and dashed beyond; the dashed part starts where the solid one ends."""
    for part, style in ((x.between(*fitted), "-"), (x <= fitted[0], "--"), (x >= fitted[1], "--")):
        panel.plot(x[part], y[part], color=colour, linewidth=0.8, linestyle=style)


def draw_prediction(panel: Axes, x: float, rows: pd.DataFrame, level: float, colour: str) -> None:
    """Draw the 50 % prediction interval of a table (``lower, upper, level``) thick, and that of ``level`` thin."""
    for wanted, width in ((level, 0.7), (0.5, 2.2)):
        own = (rows["level"] == wanted).to_numpy()
        for ends in rows[["lower", "upper"]].to_numpy(dtype=float)[own]:
            panel.plot([x, x], ends, color=colour, linewidth=width, solid_capstyle="butt")


def model_handles(table: pd.DataFrame) -> list[Line2D]:
    """Return legend entries for what a table has of single seeds and held-out sizes."""
    handles = []
    if len(keep_seeds(table)):
        handles.append(Line2D([], [], color=GREY, marker="o", markersize=2.2, linestyle="", label="one seed"))
        handles.append(Line2D([], [], color=GREY, marker="o", linestyle="", label="mean over seeds"))
    if len(split_held_out(table)[1]):
        hollow = {"markerfacecolor": "white", "markeredgewidth": 0.8}
        handles.append(Line2D([], [], color=GREY, marker="o", linestyle="", label="size held out of fits", **hollow))
    return handles


def plain_log(panel: Axes, axis: str = "y") -> None:
    """Make an axis logarithmic with plain numbers at 1, 2 and 5 (and what lies between, where that is all there is)."""
    getattr(panel, f"set_{axis}scale")("log")
    own = getattr(panel, f"{axis}axis")
    lower, upper = sorted(getattr(panel, f"get_{axis}lim")())
    few = upper / lower < 12
    own.set_major_locator(mpl.ticker.LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 7) if few else (1, 2, 5), numticks=20))
    own.set_minor_locator(mpl.ticker.NullLocator())
    own.set_major_formatter(lambda number, _: f"{number:g}")


def columns_for(datasets: Sequence[str]) -> int:
    """Return how many panels with the titles of data sets stand side by side: four, or three where titles are long."""
    return 3 if any(len(DATASETS[name].title) > _LONG_TITLE for name in datasets) else 4
