"""Robustness and security: ReCode by category and transformation, and how many security completions parse."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn
from matplotlib.figure import Figure

from astraios_analysis.figures.spec import require_rows, round_table
from astraios_analysis.figures.style import (
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
from astraios_analysis.figures.tasks import COLUMNS, models_in
from astraios_analysis.records.registry import DATASETS, METRICS
from astraios_analysis.scores.models import keep_means, seed_words

CATEGORIES = ("recode_format", "recode_function", "recode_syntax")
MEASURES = (
    ("nominal", "pass@1", "nominal pass@1"),
    ("all_transformations", "robust_pass@1", "robust pass@1"),
    ("all_transformations", "robust_drop@1", "relative drop"),
)
_SUMMARIES = ("nominal", "all_transformations", "mean_over_transformations")


def recode_categories(scores: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw nominal pass@1, robust pass@1 and the relative drop by size, for each ReCode category.

    Parameters
    ----------
    scores : DataFrame
        `scores.score_intervals` of one grid.

    Returns
    -------
    Figure
        One row of panels a measure, one column a category.
    DataFrame
    """
    return draw_categories(scores, CATEGORIES, "recode_categories")


def draw_categories(scores: pd.DataFrame, categories: Sequence[str], name: str) -> tuple[Figure, pd.DataFrame]:
    """Draw `MEASURES` by size for categories of changed prompts; ``name`` is the figure's, for errors."""
    parts = []
    for setting, metric, measure in MEASURES:
        chosen = scores["dataset"].isin(categories) & (scores["setting"] == setting) & (scores["metric"] == metric)
        parts.append(scores.loc[chosen, twin_columns(scores, COLUMNS)].assign(measure=measure))
    table = round_table(pd.concat(parts, ignore_index=True))
    require_rows(table, name, f"scores on {', '.join(categories)}")
    shown = [dataset for dataset in categories if dataset in set(table["dataset"])]
    measures = [measure for _, _, measure in MEASURES if measure in set(table["measure"])]
    figure, axes = small_multiples(len(measures) * len(shown), len(shown), row_height=1.8, sharey="row")
    suite = models_in(scores)
    for position, panel in enumerate(axes):
        measure, dataset = measures[position // len(shown)], shown[position % len(shown)]
        rows = table[(table["measure"] == measure) & (table["dataset"] == dataset)]
        draw_models(panel, rows)
        size_axis(panel, scores["n_params_base"], label=position >= len(axes) - len(shown))
        panel.set_title(DATASETS[dataset].title, loc="left")
        problems = f"\n{rows['n_items'].iloc[0]} problems" if len(rows) else ""
        problems += f", {seed_words(rows)}" if seed_words(rows) else ""
        note(panel, f"{describe_models(models_in(rows), suite)}{problems}", width=54, reserve=2)
        panel.set_ylabel(measure if position % len(shown) == 0 else "")
    start_at_zero(axes)
    bars = interval_handle(table["level"].iloc[0], table["interval"])
    method_legend(figure, table["method"], [bars, *model_handles(table)])
    return figure, table


def recode_transformations(scores: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw the relative drop of each ReCode transformation by size, averaged over the methods measured.

    Returns
    -------
    Figure
        A heat map with the number of methods in each column's label where it differs.
    DataFrame
        ``dataset, setting, size, n_params_base, value`` (mean over methods), ``lowest``, ``highest``, ``n_methods``.
    """
    return draw_transformations(
        scores,
        CATEGORIES,
        "recode_transformations",
        "worst of 5 seeds where random; negative: the change helps",
    )


def draw_transformations(
    scores: pd.DataFrame, categories: Sequence[str], name: str, words: str
) -> tuple[Figure, pd.DataFrame]:
    """Draw the relative drop of each change by size; ``name`` is the figure's, ``words`` go below its title."""
    models = keep_means(scores)
    chosen = (
        models["dataset"].isin(categories) & (models["metric"] == "robust_drop@1") & ~models["setting"].isin(_SUMMARIES)
    )
    require_rows(models[chosen], name, f"relative drops on {', '.join(categories)}")
    groups = models[chosen].groupby(["dataset", "setting", "size", "n_params_base"], sort=False)["value"]
    table = groups.agg(value="mean", lowest="min", highest="max", n_methods="count").reset_index()
    table = round_table(table.sort_values(["dataset", "setting", "n_params_base"]))
    table["label"] = table["dataset"].map(lambda name: DATASETS[name].title) + ": " + table["setting"]
    grid = table.pivot(index="label", columns="n_params_base", values="value")
    counts = table.pivot(index="label", columns="n_params_base", values="n_methods")
    most = int(np.nanmax(counts.to_numpy()))
    text = grid.map(lambda drop: f"{drop:.2f}".replace("-0.00", "0.00"))
    text += counts.map(lambda n: "" if n == most else f"  (n={n:.0f})")
    figure, (axes,) = small_multiples(1, 1, row_height=max(0.2 * len(grid) + 0.6, 1.9))
    limit = max(float(np.nanmax(grid.abs().to_numpy())), 0.01)
    grid.columns = [size_label(size) for size in grid.columns]
    seaborn.heatmap(
        grid,
        vmin=-limit,
        vmax=limit,
        cmap="RdBu_r",
        annot=text,
        fmt="",
        annot_kws={"fontsize": 6.5},
        linewidths=0.4,
        ax=axes,
        cbar_kws={"label": "relative drop of pass@1"},
    )
    axes.grid(False)
    axes.set(xlabel="base model parameters", ylabel="")
    axes.tick_params(left=False, bottom=False)
    axes.set_title("Relative drop by transformation", loc="left")
    runs = f" ({seed_words(scores)} each)" if seed_words(scores) else ""
    note(axes, f"mean over {most} methods{runs} unless said; {words}", width=110)
    return figure, table.drop(columns="label")


def parse_rates(scores: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw the share of Asleep-at-the-Keyboard completions that parse; this is not a security score.

    Returns
    -------
    Figure
        One panel a language, one line a model.
    DataFrame
    """
    chosen = (scores["dataset"] == "aatk") & (scores["metric"] == "parse_rate")
    table = round_table(scores.loc[chosen, [*COLUMNS, "language", "n_samples"]])
    require_rows(table, "parse_rates", "parse rates on aatk")
    models = models_in(table)
    figure, axes = small_multiples(2, 2, row_height=0.17 * len(models) + 0.6, sharey=True)
    for panel, language in zip(axes, ("python", "c"), strict=True):
        rows = table[table["language"] == language]
        for position, (size, method) in enumerate(models):
            style, own = METHOD_STYLES[method], rows[(rows["size"] == size) & (rows["method"] == method)]
            for row in own.to_dict("records"):
                panel.plot([row["lower"], row["upper"]], [position, position], color=style.colour, linewidth=0.9)
                panel.plot(row["value"], position, style.marker, color=style.colour)
                panel.annotate(
                    f"n={row['n_items']}",
                    (1.005, position),
                    xycoords=("axes fraction", "data"),
                    fontsize=5.8,
                    va="center",
                )
        panel.set_yticks(range(len(models)), [f"{size} {METHOD_STYLES[method].label}" for size, method in models])
        panel.set_ylim(len(models) - 0.4, -0.6)
        panel.set_xlim(0, 1)
        panel.set_xlabel(METRICS["parse_rate"].label)
        panel.set_title({"python": "Python", "c": "C"}[language], loc="left")
        shown = describe_models(models_in(rows), models_in(scores)).split(" (")[0]
        bars = interval_handle(table["level"].iloc[0], table["interval"]).get_label()
        note(panel, f"{shown}; n scenarios; {bars}; not a security score", width=90)
    return figure, table
