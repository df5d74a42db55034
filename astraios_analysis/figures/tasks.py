"""Task performance: each data set by size and method, means, zero- against one-shot, and which method is best."""

from collections.abc import Sequence

import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from astraios_analysis.figures.spec import require_rows, round_table
from astraios_analysis.figures.style import (
    GREY,
    METHOD_STYLES,
    describe_models,
    draw_models,
    interval_handle,
    method_legend,
    model_handles,
    note,
    size_axis,
    size_label,
    small_multiples,
    start_at_zero,
    twin_columns,
)
from astraios_analysis.records.registry import DATASETS, METRICS, STUDY_DATASETS
from astraios_analysis.records.schema import METHODS
from astraios_analysis.scores.bootstrap import primary_frame
from astraios_analysis.scores.models import seed_words

COLUMNS = [
    "dataset",
    "setting",
    "metric",
    "size",
    "method",
    "n_params_base",
    "value",
    "lower",
    "upper",
    "level",
    "interval",
    "n_items",
    "source",
]
Model = tuple[str, str]
# Chance levels below this lie on the axis.
_VISIBLE = 0.01
_LONG_LABEL = 40


def models_in(table: pd.DataFrame) -> list[Model]:
    """Return the distinct (size, method) pairs of a table in increasing order of size."""
    ordered = table.sort_values("n_params_base", kind="stable")
    return list(dict.fromkeys(zip(ordered["size"], ordered["method"], strict=True)))


def task_performance(scores: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw the primary score of the study's eight data sets by size and method.

    Parameters
    ----------
    scores : DataFrame
        `scores.score_intervals` of one grid.

    Returns
    -------
    Figure
    DataFrame
        One row for each point drawn.
    """
    return draw_tasks(scores, STUDY_DATASETS, "task_performance", "the study's")


def draw_tasks(
    scores: pd.DataFrame, datasets: Sequence[str], name: str, whose: str, n_columns: int = 4
) -> tuple[Figure, pd.DataFrame]:
    """Draw the primary scores of data sets by size and method, one panel a data set.

    Parameters
    ----------
    scores : DataFrame
        Scores with intervals of one grid.
    datasets : sequence of str
        In the order of the panels; those without a score have none.
    name : str
        The figure's, for errors.
    whose : str
        Whose data sets these are, in words.
    n_columns : int

    Raises
    ------
    Refusal
        If there is no such score.
    """
    table = round_table(primary_rows(scores, datasets))
    require_rows(table, name, f"a primary score on one of {whose} data sets")
    shown = [dataset for dataset in datasets if dataset in set(table["dataset"])]
    figure, axes = small_multiples(len(shown), n_columns)
    for position, (panel, dataset) in enumerate(zip(axes, shown, strict=True)):
        rows = table[table["dataset"] == dataset]
        _panel(panel, rows, dataset, models_in(scores))
        size_axis(panel, scores["n_params_base"], label=position + n_columns >= len(shown))
    start_at_zero(axes)
    bars = interval_handle(table["level"].iloc[0], table["interval"])
    has_commonest = any(DATASETS[dataset].majority not in (None, DATASETS[dataset].chance) for dataset in shown)
    references = _reference_handles() if has_commonest else _reference_handles()[1:]
    method_legend(figure, table["method"], [bars, *references, *model_handles(table)])
    return figure, table


def primary_rows(scores: pd.DataFrame, datasets: Sequence[str]) -> pd.DataFrame:
    """Return the primary scores of data sets, in their order, with the columns of a CSV twin."""
    primary = primary_frame(scores)
    columns = twin_columns(scores, COLUMNS)
    return pd.concat([primary.loc[primary["dataset"] == name, columns] for name in datasets], ignore_index=True)


def _panel(panel: Axes, rows: pd.DataFrame, name: str, suite: list[Model]) -> None:
    known = DATASETS[name]
    draw_models(panel, rows)
    if known.majority is not None and known.majority != known.chance:
        panel.axhline(known.majority, color=GREY, linewidth=0.9, linestyle=(0, (1, 1.5)))
    if known.chance and known.chance >= _VISIBLE:
        panel.axhline(known.chance, color=GREY, linewidth=0.9, linestyle=(0, (4, 2)))
    panel.set_title(known.title, loc="left")
    n_items, source = rows["n_items"].iloc[0], rows["source"].iloc[0]
    items = "problems" if known.kind == "generation" else "items"
    words = seed_words(rows) or source
    note(panel, f"{describe_models(models_in(rows), suite)}\n{n_items} {items}, {words}", width=31, reserve=3)
    panel.set_ylabel(METRICS[known.primary_metric or ""].label)


def _reference_handles() -> list[Line2D]:
    return [
        Line2D([], [], color=GREY, linestyle=(0, (1, 1.5)), label="always the commonest answer"),
        Line2D([], [], color=GREY, linestyle=(0, (4, 2)), label="random guess"),
    ]


def mean_performance(means: dict[str, pd.DataFrame], suite: list[Model]) -> tuple[Figure, pd.DataFrame]:
    """Draw mean scores over named sets of data sets, one panel a set.

    Parameters
    ----------
    means : dict of str to DataFrame
        Title of each panel and its `scores.mean_performance`.
    suite : list of (size, method)
        All models there are.

    Returns
    -------
    Figure
    DataFrame
        One row for each point, with the panel it is in and the data sets averaged.
    """
    parts = [frame.assign(panel=title) for title, frame in means.items()]
    table = round_table(pd.concat(parts, ignore_index=True)) if parts else pd.DataFrame()
    require_rows(table, "mean_performance", "runs with primary scores on two data sets of one kind")
    figure, axes = small_multiples(len(means), len(means), row_height=2.6, sharey=False)
    for panel, title in zip(axes, means, strict=True):
        rows = table[table["panel"] == title]
        draw_models(panel, rows)
        size_axis(panel, table["n_params_base"])
        panel.set_ylabel("mean of primary scores")
        panel.set_title(title, loc="left")
        names = [DATASETS[name].title for name in rows["datasets"].iloc[0].split()]
        names = [name.removeprefix("Embedded ") if title.startswith("Embedded") else name for name in names]
        words = f", {seed_words(rows)}" if seed_words(rows) else ""
        shown = describe_models(models_in(rows), suite)
        note(panel, f"{shown}{words}\nmean of {', '.join(names)}", width=42, reserve=5)
    bars = interval_handle(table["level"].iloc[0], table["interval"])
    method_legend(figure, table["method"], [bars, *model_handles(table)])
    return figure, table


def zero_against_one_shot(scores: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw accuracy with no and with one example in the prompt, for clone and defect detection.

    Returns
    -------
    Figure
        One row of panels for each data set, one column for each size; hollow is zero-shot, filled one-shot.
    DataFrame
    """
    parts = [_shots(scores, name) for name in ("clone_detection", "defect_detection")]
    table = round_table(pd.concat(parts, ignore_index=True))
    require_rows(table, "zero_against_one_shot", "an accuracy on clone_detection or defect_detection")
    names, sizes = list(dict.fromkeys(table["dataset"])), sorted(set(table["n_params_base"]))
    figure, axes = small_multiples(len(names) * len(sizes), len(sizes), row_height=2.1, sharey=True, sharex="row")
    suite = models_in(scores)
    for position, panel in enumerate(axes):
        name, n_params = names[position // len(sizes)], sizes[position % len(sizes)]
        rows = table[(table["dataset"] == name) & (table["n_params_base"] == n_params)]
        _dumbbells(panel, rows)
        panel.set_title(f"{DATASETS[name].title}, {size_label(n_params)}", loc="left")
        both = rows.groupby(["size", "method"])["shots"].nunique()
        size = table.loc[table["n_params_base"] == n_params, "size"].iloc[0]
        here = [model for model in suite if model[0] == size]
        note(panel, f"both: {describe_models(list(both[both == 2].index), here)}")
        panel.axvline(DATASETS[name].majority or 0, color=GREY, linewidth=0.9, linestyle=(0, (1, 1.5)))
        panel.set_xlim(-0.02, 1)
        panel.set_xlabel("accuracy" if position >= len(axes) - len(sizes) else "")
    handles = [
        Line2D([], [], color=GREY, marker="o", linestyle="", markerfacecolor="white", label="zero-shot"),
        Line2D([], [], color=GREY, marker="o", linestyle="", label="one-shot"),
        interval_handle(table["level"].iloc[0], table["interval"]),
        _reference_handles()[0],
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    return figure, table


def _shots(scores: pd.DataFrame, name: str) -> pd.DataFrame:
    known = DATASETS[name]
    zero = known.primary_setting or ""
    settings = {zero: "zero_shot", zero.replace("zero_shot", "one_shot"): "one_shot"}
    is_accuracy = (scores["dataset"] == name) & (scores["metric"] == known.primary_metric)
    rows = scores.loc[is_accuracy & scores["setting"].isin(list(settings)), COLUMNS]
    return rows.assign(shots=rows["setting"].map(settings))


def _dumbbells(panel: Axes, rows: pd.DataFrame) -> None:
    for position, method in enumerate(METHODS):
        style, own = METHOD_STYLES[method], rows[rows["method"] == method].set_index("shots")
        if len(own) == 2:
            panel.plot(own["value"], [position, position], color=style.colour, linewidth=0.8, alpha=0.5)
        for shots in ("zero_shot", "one_shot"):
            if shots not in own.index:
                continue
            row = own.loc[shots]
            panel.plot([row["lower"], row["upper"]], [position, position], color=style.colour, linewidth=2.2)
            face = "white" if shots == "zero_shot" else style.colour
            panel.plot(row["value"], position, style.marker, color=style.colour, markerfacecolor=face, zorder=3)
    panel.set_yticks(range(len(METHODS)), [METHOD_STYLES[method].label for method in METHODS])
    panel.set_ylim(len(METHODS) - 0.4, -0.6)


def best_method(ranks: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw, for each data set, the probability that each method is the best of those measured at one size.

    The size is the largest of those at which most methods were measured.

    Parameters
    ----------
    ranks : DataFrame
        `regressions.rank_methods` of several data sets, one below the other.

    Returns
    -------
    Figure
        A heat map; an empty cell is a method not measured at that size. Data sets with one method are not drawn.
    DataFrame
        All sizes, the one drawn marked ``is_drawn``.
    """
    require_rows(ranks, "best_method", "primary scores")
    if (ranks["n_seeds"] == 1).all():
        ranks = ranks.drop(columns="n_seeds")
    fullest = ranks[ranks["n_methods"] == ranks.groupby("dataset")["n_methods"].transform("max")]
    chosen = fullest.groupby("dataset")["n_params_base"].max()
    is_drawn = (ranks["n_params_base"] == ranks["dataset"].map(chosen)) & (ranks["n_methods"] > 1)
    table = round_table(ranks.assign(is_drawn=is_drawn))
    drawn = table[table["is_drawn"]]
    require_rows(drawn, "best_method", "primary scores of several methods at one size")
    labels = {
        name: f"{DATASETS[name].title} at {rows['size'].iloc[0]} ({len(rows)} methods)"
        for name, rows in drawn.groupby("dataset", sort=False)
    }
    grid = drawn.pivot(index="dataset", columns="method", values="p_best")
    grid = grid.reindex(index=list(labels), columns=[m for m in METHODS if m in grid.columns])
    figure, (axes,) = small_multiples(1, 1, row_height=max(0.3 * len(grid) + 0.5, 1.9))
    grid.index, grid.columns = list(labels.values()), [METHOD_STYLES[m].label for m in grid.columns]
    seaborn.heatmap(
        grid.astype(float),
        vmin=0,
        vmax=1,
        cmap="Blues",
        annot=True,
        fmt=".2f",
        linewidths=0.5,
        ax=axes,
        cbar_kws={"label": "P(best) over resampled problems"},
    )
    axes.grid(False)
    axes.set(xlabel="", ylabel="")
    axes.tick_params(left=False, bottom=False)
    # Beside long names there is less room for a title.
    comma = ",\n" if max(map(len, labels.values())) > _LONG_LABEL else ", "
    words = f"Probability of being the best method{comma}largest size at which most methods were measured"
    axes.set_title(words, loc="left")
    return figure, table
