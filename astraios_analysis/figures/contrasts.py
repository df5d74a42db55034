"""Paired contrasts of methods by size."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from astraios_analysis.figures import style
from astraios_analysis.figures.spec import BARS, figure, require_rows, round_table
from astraios_analysis.figures.style import METHOD_STYLES, join, name_dataset, name_method, size_label
from astraios_analysis.records.registry import LOSS, MEAN_GENERATION, METRICS, find_dataset
from astraios_analysis.records.schema import order_methods

_GAP = 0.09  # of the step between two sizes, between neighbouring methods


def _say_contrasts(table: pd.DataFrame) -> str | None:
    names = list(dict.fromkeys(table["dataset"]))
    name = MEAN_GENERATION if MEAN_GENERATION in names else names[0]
    rows, parts = table[(table["dataset"] == name) & (table["scope"] == "these models")], []
    lower_is_better = name == LOSS
    for size, own in rows.groupby("size", sort=False):
        clear = own[(own["lower"] > 0) | (own["upper"] < 0)]
        better = (clear["difference"] < 0) if lower_is_better else (clear["difference"] > 0)
        others = [set(clear.loc[side, "method_b"]) for side in (better, ~better)]
        everyone = own["method_b"].nunique()
        above, below = (
            f"all {everyone} others" if len(side) == everyone > 2 else join(map(name_method, order_methods(side)))
            for side in others
        )
        found = [f"{above} better"] * bool(above) + [f"{below} worse"] * bool(below)
        none = "none clearly apart" if own["lower"].notna().any() else "no interval is known"
        parts.append(f"at {size} {' and '.join(found) or none}")
    first = name_method(rows["method_a"].iloc[0])
    return f"{name_dataset(name)} against {first}, on these problems and others like them: {'; '.join(parts)}."


@figure(
    "contrasts",
    notebook="task_performance",
    title="Contrasts of methods by size",
    question="How far apart are the methods, and where do they cross?",
    caption="Score of each method minus that of full fine-tuning (or of the first method there is) at the same size, "
    "with {level} intervals from one resample of problems for all models: of these models, on other problems. What "
    "training again would change is not in them.",
    answer=_say_contrasts,
    fitted=("difference", "stderr", *BARS, "tipping_sd"),
)
def contrasts(differences: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw every method's difference to one of them by size, a panel a data set."""
    require_rows(differences, "contrasts", "scores of two methods at one size")
    table = round_table(differences)
    return contrast_panels(table), table


def contrast_panels(table: pd.DataFrame) -> Figure:
    """Draw differences by size with intervals, a panel a data set; of rows of both scopes these models are drawn."""
    drawn = table[table["scope"] == "these models"]
    names, methods = list(dict.fromkeys(drawn["dataset"])), list(dict.fromkeys(drawn["method_b"]))
    names, rest = style.choose_panels(names, {})
    figure, axes = style.small_multiples(len(names), min(3, len(names)), row_height=2.1)
    first = METHOD_STYLES[drawn["method_a"].iloc[0]].label
    for panel, name in zip(axes, names, strict=True):
        rows = drawn[drawn["dataset"] == name]
        _draw_contrasts(panel, rows, methods)
        metric = find_dataset(name).primary_metric
        ylabel = f"{METRICS[metric].label if metric else 'score'} minus {first}"
        style.label_panel(panel, name_dataset(name), _count_clear(rows), xlabel="base model parameters", ylabel=ylabel)
    style.method_legend(figure, methods)
    style.say_undrawn(figure, rest, {})
    return figure


def _draw_contrasts(panel: Axes, rows: pd.DataFrame, methods: Sequence[str]) -> None:
    panel.axhline(0, color="0.3", linewidth=0.8)
    sizes = sorted(set(rows["n_params"]))
    for place, method in enumerate(methods):
        own, look = rows[rows["method_b"] == method].sort_values("n_params"), METHOD_STYLES[method]
        # Markers stand side by side: sizes are categories here.
        gap = min(_GAP, 0.9 / len(methods))
        x = own["n_params"].map(sizes.index) + gap * (place - (len(methods) - 1) / 2)
        panel.vlines(x, own["lower"].astype(float), own["upper"].astype(float), color=look.colour, linewidth=0.8)
        panel.plot(x, own["difference"], look.marker, color=look.colour, linestyle="-", linewidth=0.6, markersize=3.5)
    panel.set_xticks(range(len(sizes)), [size_label(size) for size in sizes])
    panel.set_xlim(-0.6, len(sizes) - 0.4)
    panel.grid(axis="x", visible=False)


def _count_clear(rows: pd.DataFrame) -> str:
    clear = int(((rows["lower"] > 0) | (rows["upper"] < 0)).sum())
    n_methods = f"{rows['method_b'].nunique() + 1} methods"
    known = int(rows["lower"].notna().sum())
    intervals = f"{clear} of {known} intervals leave out 0" if known else "no interval is known"
    return f"{n_methods}; {intervals}"
