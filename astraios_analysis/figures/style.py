"""Looks and names: each method's colour, marker and name, the theme, and the parts that panels share.

Colours are the Okabe-Ito set, which people with the common colour deficiencies can tell apart; every method also has
its own marker, so no figure depends on colour alone.
"""

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, fontManager
from matplotlib.lines import Line2D
from matplotlib.textpath import text_to_path

from astraios_analysis.records.registry import DATASETS, LOSS, MEAN_GENERATION, RELEASED, find_dataset
from astraios_analysis.records.schema import METHODS, order_methods
from astraios_analysis.scores.models import SEED_COLUMNS, keep_means, keep_seeds, seed_words

THEME = "astraios_analysis.figures.theme"
FULL_WIDTH = 7.2  # inches: the text width of a two-column page
_NOTE_SIZE = 8  # points
# Points of a panel's place that its axis' numbers and label take.
_BESIDE_PANEL = 48
GREY = "0.45"
# Fonts with Chinese, Japanese and Korean letters that systems come with.
_CJK = ("Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "PingFang SC")
_CJK += ("Hiragino Sans", "Apple SD Gothic Neo", "Microsoft YaHei", "SimHei", "Yu Gothic", "Malgun Gothic")
_APART = 0.09  # of the step between two categories, between neighbouring methods
_BESIDE = 0.028  # decades between neighbouring methods' intervals beyond a predicted size
_LINE = 0.17  # inches: a line of a legend
_SMALLEST, _LARGEST = 2.2, 5.0  # markers that grow with the base model
MAX_PANELS = 9
"""More panels than that nobody reads; what is left out stands in the table, and is named."""


@dataclass(frozen=True)
class MethodStyle:
    """How a tuning method is drawn and named."""

    label: str
    colour: str
    marker: str


# For methods that are not the study's, in their order: 56 pairs.
_OTHER_COLOURS = ("#332288", "#882255", "#117733", "#999933", "#AA4499", "#44AA99", "#661100", "#6699CC")
_OTHER_MARKERS = "osD^vPX"
_LONGEST_LABEL = 24  # letters


class _Styles(dict[str, MethodStyle]):
    """Styles by method; one that the study does not know gets its own by its place among the others."""

    def __missing__(self, method: str) -> MethodStyle:
        place = len(self) - len(METHODS)
        marker = _OTHER_MARKERS[place % len(_OTHER_MARKERS)]
        label = shorten(method)
        label = method if label in {style.label for style in self.values()} else label
        return self.setdefault(method, MethodStyle(label, _OTHER_COLOURS[place % len(_OTHER_COLOURS)], marker))

    def order(self, methods: Iterable[str]) -> None:
        """Give the methods of what is drawn next their styles, so that these depend on nothing drawn before."""
        for method in [method for method in self if method not in METHODS]:
            del self[method]
        for method in order_methods(methods):
            self[method]


METHOD_STYLES = _Styles(
    {
        "fft": MethodStyle("FFT", "#000000", "o"),
        "lora": MethodStyle("LoRA", "#0072B2", "s"),
        "ptuning": MethodStyle("P-Tuning", "#D55E00", "^"),
        "ia3": MethodStyle("(IA)³", "#009E73", "D"),
        "adapterh": MethodStyle("AdapterH", "#CC79A7", "v"),
        "adapterp": MethodStyle("AdapterP", "#E69F00", "P"),
        "parallel": MethodStyle("Parallel", "#56B4E9", "X"),
    }
)


@cache
def _families() -> list[str]:
    """Return the fonts to draw with: names may be in any script, and what one font lacks is drawn with the next."""
    others = [font for font in fontManager.ttflist if font.name in _CJK]
    # A font without the weight that is asked for is used with a warning.
    fontManager.ttflist += [replace(font, weight=400) for font in others if font.weight == 500]
    return ["DejaVu Sans", *sorted({font.name for font in others}, key=_CJK.index)]


def small_multiples(
    n_panels: int, n_columns: int, row_height: float = 1.75, **kwargs: object
) -> tuple[Figure, list[Axes]]:
    """Return a full-width figure and its axes in reading order; unused places are left empty."""
    plt.style.use(THEME)
    mpl.rcParams["font.family"] = _families()
    n_rows = -(-n_panels // n_columns)
    figure, axes = plt.subplots(
        n_rows, n_columns, figsize=(FULL_WIDTH, row_height * n_rows + 0.55), squeeze=False, **kwargs
    )
    flat = list(axes.flat)
    for unused in flat[n_panels:]:
        unused.remove()
    return figure, flat[:n_panels]


def heat_map(axes: Axes, grid: pd.DataFrame, **looks: object) -> None:
    """Draw a table's values as coloured cells, each with its number."""
    named = grid.astype(float).set_axis(map(plain, grid.index)).set_axis(map(plain, grid.columns), axis=1)
    seaborn.heatmap(named, ax=axes, **looks)
    axes.grid(False)
    axes.set(xlabel="", ylabel="")
    axes.tick_params(left=False, bottom=False)
    # Few tall rows would have their names upright, one over the other.
    axes.tick_params(axis="y", labelrotation=0)


def choose_panels(names: Iterable[str], votes: Mapping[str, bool]) -> tuple[list[str], list[str]]:
    """Return the data sets to draw, the mean first, and the others: those without a vote, and what is too many."""
    names = sorted(dict.fromkeys(names), key=lambda name: name != MEAN_GENERATION)
    drawn = [name for name in names if votes.get(name, True)][:MAX_PANELS] or names[:MAX_PANELS]
    return drawn, [name for name in names if name not in drawn]


def say_undrawn(figure: Figure, names: Sequence[str], votes: Mapping[str, bool]) -> None:
    """Name above the legend of methods the data sets that have no panel."""
    mute = [name_dataset(name) for name in names if not votes.get(name, True)]
    rest = [name_dataset(name) for name in names if votes.get(name, True)]
    parts = [f"no model surely beats the commonest answer on {join(mute)}"] if mute else []
    parts += [f"the table alone has {join(rest)}"] if rest else []
    if parts:
        words = "\n".join(textwrap.wrap(f"Not drawn: {'; '.join(parts)}.", 100))
        figure.legends[0].set_title(words, prop={"size": _NOTE_SIZE})
        figure.legends[0].get_title().set_color(GREY)


def find_place(method: str) -> int:
    """Return a method's place in the order of what is drawn."""
    METHOD_STYLES[method]
    return list(METHOD_STYLES).index(method)


def beside(n_params: float, method: str) -> float:
    """Return where a method's prediction interval stands, right of the size that all are predicted at."""
    return n_params * 10 ** (_BESIDE * (1 + find_place(method) % len(METHODS)))


def _places(n_params: Iterable[float], method: str, sizes: Iterable[float] | None) -> np.ndarray:
    """Return sizes as they are or, among ``sizes`` as categories, their places, methods set apart."""
    x = np.asarray(list(n_params), dtype=float)
    if sizes is None:
        return x
    apart = _APART * (find_place(method) % len(METHODS) - (len(METHODS) - 1) / 2)
    return np.searchsorted(np.unique(np.asarray(list(sizes), dtype=float)), x) + apart


def draw_methods(
    axes: Axes,
    table: pd.DataFrame,
    *,
    line: bool = True,
    hollow: bool = False,
    sizes: Iterable[float] | None = None,
) -> None:
    """Draw measured points with their intervals, method by method.

    ``table`` has ``method, n_params_base, value, lower, upper``; ``line`` joins a method's points; ``hollow`` marks
    them as held out. Points stand at their sizes or, with ``sizes``, at these as categories.
    """
    sizes = None if sizes is None else list(sizes)
    for method, rows in table.groupby("method", sort=False):
        rows = rows.sort_values("n_params_base")
        x, y = _places(rows["n_params_base"], method, sizes), rows["value"].to_numpy(dtype=float)
        error = np.vstack([y - rows["lower"].to_numpy(dtype=float), rows["upper"].to_numpy(dtype=float) - y])
        axes.errorbar(
            x,
            y,
            yerr=np.where(np.isnan(error), 0, np.maximum(error, 0)),
            fmt=METHOD_STYLES[method].marker,
            elinewidth=0.7,
            **_marker_looks(method, hollow),
        )
        if line:
            axes.plot(x, y, color=METHOD_STYLES[method].colour, linewidth=0.7, alpha=0.55, zorder=2)


def size_axis(
    axes: Axes, sizes: Iterable[int], *, label: bool = True, margin: float = 1.35, label_width: float = 0.165
) -> None:
    """Make the horizontal axis a log axis of base size with a tick at each measured size.

    ``margin`` is how many times it goes beyond the ends; a label needs the share ``label_width`` of the axis, and of
    ticks closer together the smaller one's label stands below.
    """
    ticks = sorted({int(size) for size in sizes})
    lower, upper = ticks[0] / margin, ticks[-1] * margin
    names: list[str] = []
    last = [np.inf, np.inf]
    for tick in reversed(ticks):
        room = [np.log10(other / tick) >= label_width * np.log10(upper / lower) for other in last]
        line = room.index(True) if any(room) else None
        names.append("" if line is None else "\n" * line + size_label(tick))
        if line is not None:
            last[line] = tick
    axes.set_xscale("log")
    axes.set_xticks(ticks, names[::-1])
    axes.xaxis.set_minor_locator(mpl.ticker.NullLocator())
    axes.set_xlim(lower, upper)
    if label:
        axes.set_xlabel("base model parameters")


def size_label(n_params: float) -> str:
    """Return a size for people: ``1.1B``, ``350M``."""
    for unit, name in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        # What rounds up to a whole unit is said in that unit: 999,999,999 is 1.0B and not 1000.0M.
        if n_params >= 0.99995 * unit:
            digits = 0 if n_params % unit == 0 or n_params >= 99.95 * unit else 1
            return f"{n_params / unit:.{digits}f}{name}"
    return f"{n_params:.0f}"


def start_at_zero(panels: Iterable[Axes]) -> None:
    """Start vertical axes at zero, or below where something drawn is negative; for panels that are all drawn."""
    for panel in panels:
        upper = panel.get_ylim()[1]
        shared = panel.get_shared_y_axes().get_siblings(panel)
        if min(other.dataLim.y0 for other in shared) < 0:
            continue
        # What is far from 0 and close together had a margin of its own spread: too little for a marker.
        highest = max(other.dataLim.y1 for other in shared)
        panel.set_ylim(0, highest * 1.04 if 0 < highest < upper < highest * 1.03 else upper)


def handle(label: str, **looks: object) -> Line2D:
    """Return an entry of a legend, grey unless it has a colour of its own."""
    return Line2D([], [], **{"color": GREY} | looks, label=plain(label))


def interval_handles(table: pd.DataFrame) -> list[Line2D]:
    """Return the legend entry that names error bars: their level, and how they were made (the column ``interval``).

    None where no interval is known.
    """
    level, known = table["level"].iloc[0], {kind for kind in table["interval"] if kind != "none"}
    ways = ["bootstrap over problems"] if any(kind.startswith("bootstrap") for kind in known) else []
    ways += ["normal"] if any("normal" in kind for kind in known) else []
    label = f"{100 * level:g} % interval ({' or '.join(ways)})"
    return [handle(label, marker="|", markersize=7, linestyle="")] if ways else []


def legend_columns(figure: Figure, handles: Sequence[Line2D], at_most: int) -> int:
    """Return in how many columns a legend fits into a figure's width."""
    widest = max(_width(one.get_label()) for one in handles)
    return max(min(len(handles), at_most, int(72 * figure.get_figwidth() / (widest + 24))), 1)


def method_legend(figure: Figure, methods: Iterable[str], extra: Sequence[Line2D] = ()) -> None:
    """Name the methods shown below all panels, in the one order of methods, and everything else above them."""
    shown = order_methods(methods)
    styles = [METHOD_STYLES[method] for method in shown]
    handles = [handle(s.label, color=s.colour, marker=s.marker, linestyle="") for s in styles]
    looks = {"frameon": False, "handletextpad": 0.3, "columnspacing": 1.2}
    columns = legend_columns(figure, handles, len(METHODS))
    # Rows beyond the first take no height from the panels.
    figure.set_figheight(figure.get_figheight() + _LINE * ((len(handles) - 1) // columns))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, **looks)
    if extra:
        columns = len(extra) if len(extra) <= 4 else 3
        figure.legend(handles=list(extra), loc="outside upper center", ncols=columns, **looks)


def twin_columns(table: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """Return columns of a CSV twin: those named, and what tells seeds and held-out sizes apart where there are any."""
    held_out = ["held_out"] if table["held_out"].any() else []
    return [*columns, *held_out, *(name for name in SEED_COLUMNS if "kind" in table)]


def split_held_out(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows of fitted sizes and those of held-out ones."""
    if "held_out" not in table:
        return table, table.iloc[:0]
    # Tables of several grids, of which one holds nothing out, have gaps.
    is_held_out = table["held_out"].astype(str).eq("True")
    return table[~is_held_out], table[is_held_out]


def draw_models(axes: Axes, table: pd.DataFrame, sizes: Iterable[int], *, label: bool = True) -> None:
    """Draw models by size as categories: points with intervals, joined by method unless held out; seeds small and pale.

    ``sizes`` are all sizes of the figure; ``label`` names the axis.
    """
    ticks = sorted({int(size) for size in sizes})
    fitted, held_out = split_held_out(keep_means(table))
    draw_methods(axes, fitted, sizes=ticks)
    draw_methods(axes, held_out, line=False, hollow=True, sizes=ticks)
    for method, own in keep_seeds(table).groupby("method", sort=False):
        draw_seeds(axes, _places(own["n_params_base"], method, ticks), own["value"], method)
    names = [size_label(tick) for tick in ticks]
    if max(map(_width, names)) > _room(axes) / (len(ticks) + 0.2):
        # Every second one stands below.
        names = [f"{chr(10) * (place % 2)}{name}" for place, name in enumerate(names)]
    axes.set_xticks(range(len(ticks)), names)
    axes.set_xlim(-0.6, len(ticks) - 0.4)
    axes.grid(axis="x", visible=False)
    if label:
        axes.set_xlabel("base model parameters")


def draw_markers(
    axes: Axes, x: Sequence[float], y: Sequence[float], method: str, *, hollow: bool = False, size: float = 4
) -> None:
    """Draw a method's models, hollow where they are held out."""
    x, y, looks = np.asarray(x, dtype=float), np.asarray(y, dtype=float), _marker_looks(method, hollow)
    axes.plot(x, y, METHOD_STYLES[method].marker, markersize=size, linestyle="", **looks)


def _marker_looks(method: str, hollow: bool) -> dict[str, object]:
    colour = METHOD_STYLES[method].colour
    if hollow:
        looks = {"markerfacecolor": "white", "markeredgecolor": colour, "markeredgewidth": 0.8}
    else:
        looks = {"markerfacecolor": colour, "markeredgecolor": "white", "markeredgewidth": 0.3}
    return {"color": colour, "zorder": 3, **looks}


def draw_seeds(axes: Axes, x: Sequence[float], y: Sequence[float], method: str) -> None:
    """Draw runs of single seeds, small and pale."""
    style = METHOD_STYLES[method]
    looks = {"markersize": 2.2, "alpha": 0.45, "markeredgewidth": 0, "linestyle": "", "zorder": 2.5}
    axes.plot(x, y, style.marker, color=style.colour, **looks)


def marker_size_of(n_params: float, sizes: list[int]) -> float:
    """Return the size of a marker that grows with the base model."""
    place = sizes.index(n_params) / max(len(sizes) - 1, 1)
    return _SMALLEST + (_LARGEST - _SMALLEST) * place


def size_handles(table: pd.DataFrame) -> list[Line2D]:
    """Return legend entries for markers of the smallest and the largest base model."""
    sizes = sorted(set(table["n_params_base"]))
    names = table.drop_duplicates("n_params_base").set_index("n_params_base")["size"]
    ends = list(dict.fromkeys((sizes[0], sizes[-1])))
    looks = {"color": GREY, "marker": "o", "linestyle": ""}
    return [handle(f"base {names[n]}", markersize=marker_size_of(n, sizes), **looks) for n in ends]


def law_sizes(exact: Sequence[float]) -> np.ndarray:
    """Return whole numbers of parameters to draw a law through: those given, and some between their ends."""
    # Round numbers, so that no machine's last bit shows in a size.
    between = [float(f"{size:.4g}") for size in np.geomspace(min(exact), max(exact), 13)[1:-1]]
    return np.unique(np.rint([*exact, *between])).astype(int)


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


def split_grids(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Split the table of a figure that grids share, each part without the columns that its grid lacks.

    Intervals keep theirs: scores of which none is known have gaps there.
    """
    kept = table.columns.isin(["lower", "upper"])
    return [(grid, own.loc[:, kept | own.notna().any()]) for grid, own in table.groupby("grid", sort=False)]


def model_handles(table: pd.DataFrame) -> list[Line2D]:
    """Return legend entries for what a table has of single seeds and held-out sizes."""
    handles = []
    if len(keep_seeds(table)):
        handles.append(handle("one seed", marker="o", markersize=2.2, linestyle=""))
        handles.append(handle("mean over seeds", marker="o", linestyle=""))
    if len(split_held_out(table)[1]):
        hollow = {"markerfacecolor": "white", "markeredgewidth": 0.8}
        handles.append(handle("size held out of fits", marker="o", linestyle="", **hollow))
    return handles


def plain_log(panel: Axes, axis: str = "y", write: Callable[[float], str] = "{:g}".format) -> None:
    """Make an axis logarithmic with plain numbers at 1, 2 and 5, or where it is short or long at more or fewer."""
    getattr(panel, f"set_{axis}scale")("log")
    own = getattr(panel, f"{axis}axis")
    lower, upper = sorted(getattr(panel, f"get_{axis}lim")())
    subs = (1, 1.5, 2, 3, 4, 5, 7) if upper / lower < 12 else (1, 2, 5) if upper / lower < 500 else (1,)
    own.set_major_locator(mpl.ticker.LogLocator(subs=subs, numticks=20))
    own.set_minor_locator(mpl.ticker.NullLocator())
    own.set_major_formatter(lambda number, _: write(number))


def span(counts: Iterable[float]) -> str:
    """Say one whole number, or the smallest and the largest of several."""
    low, high = int(min(counts)), int(max(counts))
    return f"{low}" if low == high else f"{low} to {high}"


def in_seeds(table: pd.DataFrame) -> str:
    """Say after a comma how many runs a mean is over; nothing where there is one run a model."""
    return f", {words}" if (words := seed_words(table)) else ""


def models_in(table: pd.DataFrame) -> list[tuple[str, str]]:
    """Return the distinct (size, method) pairs of a table in increasing order of size."""
    ordered = table[["n_params_base", "size", "method"]].drop_duplicates().sort_values("n_params_base", kind="stable")
    return list(dict.fromkeys(zip(ordered["size"], ordered["method"], strict=True)))


# So few are named rather than what is missing, which is the longer list.
_FEW_MODELS = 2


def describe_models(table: pd.DataFrame, suite: pd.DataFrame | None = None) -> str:
    """Say which models of a suite a table has: ``21 of 28 models (not 16b)``, ``1 of 28 models (only 16b FFT)``.

    Without a suite, the table is its own.
    """
    present, suite = models_in(table), models_in(table if suite is None else suite)
    missing = [model for model in suite if model not in present]
    text = f"{len(suite) - len(missing)} of {len(suite)} models"
    if not missing:
        return text
    kept = [model for model in suite if model in present]
    if 0 < len(kept) <= _FEW_MODELS < len(missing):
        return f"{text} (only {', '.join(f'{size} {name_method(method)}' for size, method in kept)})"
    parts = []
    for size in dict.fromkeys(size for size, _ in suite):
        here = [method for s, method in suite if s == size]
        gone = [method for s, method in missing if s == size]
        if len(gone) == len(here):
            parts.append(size)
        elif len(gone) > len(here) / 2:
            parts.append(f"{size} but {' '.join(name_method(m) for m in here if m not in gone)}")
        elif gone:
            parts.append(f"{size} {' '.join(map(name_method, gone))}")
    return f"{text} (not {', '.join(parts)})"


def label_panel(
    axes: Axes, title: str, text: str, *, reserve: int = 1, beside: float = _BESIDE_PANEL, **labels: str
) -> None:
    """Write a panel's title, grey lines between it and the frame, wrapped to the panel's width, and the axes' labels.

    Room for at least ``reserve`` lines keeps the titles of a row level; ``beside`` are the points that labels take.
    """
    axes.set(**{name: plain(label) for name, label in labels.items()})
    room = _room(axes, beside)
    lines = [part for line in plain(text).split("\n") for part in _wrap(line, room)]
    # Titles are larger than notes, and only words of one's own, without a blank, are too long for a panel.
    share = (room + beside / 2) / (1.1 * max(map(_width, title.split("\n"))))
    if share < 1 and " " not in title:
        title = shorten(title, int(share * len(title)))
    axes.set_title(plain(title), loc="left", pad=4 + 1.2 * _NOTE_SIZE * max(len(lines), reserve))
    ends = {"xycoords": "axes fraction", "textcoords": "offset points", "fontsize": _NOTE_SIZE, "color": GREY}
    written = axes.annotate("\n".join(lines), (0, 1), (0, 2), **ends)
    # The title already holds the room; counted again, long lines would squeeze the panels.
    written.set_in_layout(False)


def plain(text: str) -> str:
    """Return a text as it is to be drawn: what stands between two dollars would be taken for a formula."""
    return text.replace("$", r"\$")


def _room(axes: Axes, beside: float = _BESIDE_PANEL) -> float:
    """Return the width of a panel in points, of its place without what stands beside it."""
    place = axes.get_subplotspec()
    return 72 * axes.figure.get_figwidth() * len(place.colspan) / place.get_gridspec().ncols - beside


def _width(text: str) -> float:
    """Return the width of a note's text in points."""
    return text_to_path.get_text_width_height_descent(text, FontProperties(size=_NOTE_SIZE), ismath=False)[0]


def _wrap(line: str, room: float) -> list[str]:
    """Return a line in parts that are no wider than a number of points, where words allow it."""
    lines = [""]
    for word in line.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and _width(longer) > room:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def name_method(method: str) -> str:
    """Return a method's display name."""
    return METHOD_STYLES[method].label


def name_dataset(dataset: str) -> str:
    """Return a data set's title, or its name where it is not one of the study's."""
    return find_dataset(dataset).title


def shorten(name: str, letters: int = _LONGEST_LABEL) -> str:
    """Return a name as it is, or its beginning and end where it has more than so many letters."""
    return name if len(name) <= letters else f"{name[: letters // 2]}…{name[letters // 2 + 1 - letters :]}"


def name_grid(grid: str) -> str:
    """Return what the runs of a grid are called."""
    return "Released models" if grid == RELEASED else f"Grid {grid}"


def join(words: Iterable[str]) -> str:
    """Return words as an enumeration: ``a, b and c``."""
    words = list(words)
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def split_kinds(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Split a table by what its data sets measure, without those that have no vote; the mean comes first.

    `ModelScores.has_vote` says which have; a table without that column has no other.
    """
    table = keep_voting(table)
    known = table["dataset"].map(DATASETS)
    kinds = [None if pd.isna(one) else one.title.lower() if one.parts else one.kind for one in known]
    order = {DATASETS[MEAN_GENERATION].title.lower(): 0, "generation": 1, "robustness": 2, "comprehension": 3}
    others = ["validation loss" if name == LOSS else "other" for name in table["dataset"]]
    labels = pd.Series([kind or other for kind, other in zip(kinds, others, strict=True)], table.index, dtype=object)
    labels = labels.replace("answers", "losses of answers")
    return [(name, table[labels == name]) for name in sorted(set(labels), key=lambda name: (order.get(name, 4), name))]


def say_no_vote(table: pd.DataFrame) -> str:
    """Say which data sets are not counted in a headline because no model beats the constant answer; nothing if none."""
    names = list(dict.fromkeys(table.loc[~_has_vote(table), "dataset"]))
    why = "no model surely beats the commonest answer"
    return f" No vote: {join(map(name_dataset, names))} ({why})." if names else ""


def say_mute(rows: pd.DataFrame) -> str:
    """Say after a comma that the data set of some rows has no vote; nothing where it has."""
    return "" if _has_vote(rows).all() else ", no vote"


def keep_voting(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of data sets that have a vote."""
    return table[_has_vote(table)]


def _has_vote(table: pd.DataFrame) -> pd.Series:
    if "has_vote" not in table:
        return pd.Series(True, index=table.index)
    # Tables read from CSV hold the words.
    return ~table["has_vote"].astype(str).str.lower().eq("false")
