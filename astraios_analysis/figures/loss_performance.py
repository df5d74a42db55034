"""Loss against performance: each data set's score against validation loss, and how the two correlate."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from astraios_analysis.figures.losses import LOSS_LABEL
from astraios_analysis.figures.spec import require_rows, round_table
from astraios_analysis.figures.style import (
    GREY,
    METHOD_STYLES,
    columns_for,
    describe_models,
    draw_seeds,
    interval_handle,
    method_legend,
    model_handles,
    note,
    small_multiples,
    split_held_out,
    twin_columns,
)
from astraios_analysis.figures.tasks import models_in
from astraios_analysis.records.registry import DATASETS, METRICS
from astraios_analysis.scores.models import keep_means, keep_seeds, seed_words

_COLUMNS = [
    "dataset",
    "setting",
    "metric",
    "size",
    "method",
    "n_params_base",
    "val_loss",
    "val_loss_se",
    "value",
    "lower",
    "upper",
    "level",
    "interval",
    "n_items",
]
_SCOPES = {
    "all": "all models",
    "within_size": "methods of one size",
    "within_method": "sizes of one method",
}
_SCOPE_COLOURS = {"all": "#000000", "within_size": "#0072B2", "within_method": "#D55E00"}
_SMALLEST, _LARGEST = 2.2, 5.0


def loss_performance(primary: pd.DataFrame, correlations: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw each data set's primary score against validation loss, one point a model.

    Parameters
    ----------
    primary : DataFrame
        Primary scores with intervals and ``val_loss`` (`seeds.intervals_over_seeds`).
    correlations : DataFrame
        `loss_correlations.loss_correlations` of the same runs.

    Returns
    -------
    Figure
        Markers grow with the base model; Spearman's rho over all models and its interval stand above each panel.
    DataFrame
    """
    known = primary[primary["val_loss"].notna()]
    require_rows(known, "loss_performance", "runs with both a validation loss and a primary score")
    table = round_table(known[twin_columns(known, _COLUMNS)])
    names = [name for name in DATASETS if name in set(table["dataset"])]
    n_columns = columns_for(names)
    figure, axes = small_multiples(len(names), n_columns, row_height=2.0, sharex=True)
    for position, (panel, name) in enumerate(zip(axes, names, strict=True)):
        rows = table[table["dataset"] == name]
        _points(panel, rows, sorted(set(table["n_params_base"])))
        known_set = DATASETS[name]
        if known_set.chance and known_set.chance > 0.01:
            panel.axhline(known_set.chance, color=GREY, linewidth=0.9, linestyle=(0, (4, 2)))
        panel.set_title(known_set.title, loc="left")
        note(panel, f"{_say_models(rows, table)}\n{_say_correlation(correlations, name)}", width=46, reserve=3)
        metric = METRICS[known_set.primary_metric or ""]
        panel.set_ylabel(metric.label)
        # Shares do not go below 0, and where all are 0 the axis must not magnify nothing.
        lower, upper = panel.get_ylim()
        panel.set_ylim(max(lower, -0.03), max(upper, 0.1))
        is_lowest = position + n_columns >= len(names)
        panel.set_xlabel(LOSS_LABEL if is_lowest else "")
        panel.tick_params(axis="x", labelbottom=is_lowest)
    axes[0].invert_xaxis()
    handles = [
        interval_handle(table["level"].iloc[0], table["interval"]),
        *model_handles(table),
        Line2D([], [], color=GREY, linestyle=(0, (4, 2)), label="random guess"),
        *_size_handles(table),
    ]
    method_legend(figure, table["method"], handles)
    return figure, table


def _marker_size(n_params: float, sizes: list[int]) -> float:
    place = sizes.index(n_params) / max(len(sizes) - 1, 1)
    return _SMALLEST + (_LARGEST - _SMALLEST) * place


def _size_handles(table: pd.DataFrame) -> list[Line2D]:
    sizes = sorted(set(table["n_params_base"]))
    names = table.drop_duplicates("n_params_base").set_index("n_params_base")["size"]
    ends = list(dict.fromkeys((sizes[0], sizes[-1])))
    looks = {"color": GREY, "marker": "o", "linestyle": ""}
    return [Line2D([], [], markersize=_marker_size(n, sizes), label=f"base {names[n]}", **looks) for n in ends]


def _points(panel: Axes, rows: pd.DataFrame, sizes: list[int]) -> None:
    for method, own in keep_seeds(rows).groupby("method", sort=False):
        draw_seeds(panel, own["val_loss"], own["value"], method)
    for part, hollow in zip(split_held_out(keep_means(rows)), (False, True), strict=True):
        for row in part.to_dict("records"):
            style = METHOD_STYLES[row["method"]]
            panel.plot([row["val_loss"]] * 2, [row["lower"], row["upper"]], color=style.colour, linewidth=0.6)
            panel.plot(
                row["val_loss"],
                row["value"],
                style.marker,
                color=style.colour,
                markersize=_marker_size(row["n_params_base"], sizes),
                markerfacecolor="white" if hollow else style.colour,
                markeredgecolor=style.colour if hollow else "white",
                markeredgewidth=0.8 if hollow else 0.3,
                zorder=3,
            )


def _say_models(rows: pd.DataFrame, table: pd.DataFrame) -> str:
    models = describe_models(models_in(rows), models_in(table))
    words = seed_words(rows)
    return f"{models}, {words}" if words else f"{models}, one run each"


def _say_correlation(correlations: pd.DataFrame, name: str) -> str:
    chosen = correlations[(correlations["dataset"] == name) & (correlations["statistic"] == "spearman")]
    overall = chosen[chosen["scope"] == "all"]
    if overall.empty:
        return "no correlation: scores or losses do not differ, or too few models"
    row = overall.iloc[0]
    rho = f"rho {row['value']:.2f} [{row['lower']:.2f}, {row['upper']:.2f}], n = {int(row['n_models'])}"
    return f"{row['verdict']}: {rho}"


def loss_correlation(correlations: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw the rank correlation of validation loss with each data set's score: over all models, sizes, and methods.

    Parameters
    ----------
    correlations : DataFrame
        `loss_correlations.loss_correlations`.

    Returns
    -------
    Figure
        -1: less loss always comes with a better score.
    DataFrame
    """
    require_rows(correlations, "loss_correlation", "runs with both a validation loss and a primary score")
    table = round_table(correlations)
    shown = table[table["statistic"] == "spearman"]
    names = [name for name in DATASETS if name in set(shown["dataset"])]
    scopes = [scope for scope in _SCOPES if scope in set(shown["scope"])]
    figure, axes = small_multiples(len(scopes), len(scopes), row_height=0.2 * len(names) + 0.7, sharey=True)
    for panel, scope in zip(axes, scopes, strict=True):
        rows = shown[shown["scope"] == scope]
        colour = _SCOPE_COLOURS[scope]
        for row in rows.to_dict("records"):
            position = names.index(row["dataset"])
            panel.plot([row["lower"], row["upper"]], [position, position], color=colour, linewidth=1.0)
            panel.plot(row["value"], position, "o", color=colour)
        panel.axvline(0, color="0.3", linewidth=0.8)
        panel.set_xlim(-1.05, 1.05)
        panel.set_xlabel("Spearman's rho, loss with score")
        panel.set_title(_SCOPES[scope].capitalize(), loc="left")
        groups, models = rows["n_groups"].max(), rows["n_models"].max()
        per = "" if scope == "all" else f" in {groups} groups"
        bars = f"{100 * rows['level'].iloc[0]:g} % interval"
        note(panel, f"{models} models{per}\n{bars} over models and problems", width=36, reserve=3)
    verdicts = shown.drop_duplicates("dataset").set_index("dataset")["verdict"]
    axes[0].set_yticks(range(len(names)), [f"{DATASETS[name].title}\n{verdicts[name]}" for name in names])
    axes[0].set_ylim(len(names) - 0.4, -0.6)
    return figure, table
