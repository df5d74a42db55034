"""Task performance: each data set by size and method, means, zero- against one-shot, and which method is best."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from astraios_analysis.figures.spec import (
    BARS,
    INTERVAL,
    average_models,
    figure,
    keep_largest,
    require_rows,
    round_table,
)
from astraios_analysis.figures.style import (
    GREY,
    METHOD_STYLES,
    describe_models,
    draw_models,
    heat_map,
    in_seeds,
    interval_handle,
    join,
    method_legend,
    model_handles,
    models_in,
    name_dataset,
    name_method,
    note,
    say_mute,
    say_no_vote,
    size_label,
    small_multiples,
    split_kinds,
    start_at_zero,
    twin_columns,
)
from astraios_analysis.records.registry import (
    DATASETS,
    EMBEDDED_DATASETS,
    MEAN_GENERATION,
    METRICS,
    STUDY_DATASETS,
    find_dataset,
)
from astraios_analysis.records.schema import METHODS, order_methods
from astraios_analysis.scores.bootstrap import primary_frame
from astraios_analysis.scores.models import seed_words

SCORED = ["dataset", "setting", "metric", "size", "method", "n_params_base"]
COLUMNS = [*SCORED, "value", *BARS, "level", "interval", "n_items", "source"]
# Chance levels below this lie on the axis.
_VISIBLE = 0.01
_LONG_LABEL = 40
CLEAR = 0.95
"""Probability from which a method is called clearly the best."""
PROBABILITIES = {"vmin": 0, "vmax": 1, "cmap": "Blues", "annot": True, "fmt": ".2f", "linewidths": 0.5}
"""Looks of a heat map of probabilities."""


def say_growth(table: pd.DataFrame) -> str | None:
    """Say on which data sets the mean over methods rises with size."""
    rising, other = [], []
    for dataset, rows in average_models(table, "value", "dataset").groupby("dataset", sort=False):
        wide = rows.pivot_table(index="method", columns="n_params_base", values="value")
        counts = wide.notna().sum()
        full = counts[counts >= max(counts.max() / 2, 1)].index
        pair = wide[[full.min(), full.max()]].dropna() if len(full) > 1 else pd.DataFrame()
        if len(pair):
            gain = float((pair.iloc[:, 1] - pair.iloc[:, 0]).mean())
            shown = f"{100 * gain:+.1f}" if rows["value"].between(0, 1).all() else f"{gain:+.2g}"
            (rising if gain > 0 else other).append(f"{name_dataset(dataset)} ({shown})")
    if not rising + other:
        return None
    rest = f"; not on {join(other)}" if other else ""
    return (
        f"From the smallest to the largest size that most methods have, the mean over methods rises on {len(rising)} "
        f"of {len(rising) + len(other)} data sets, in points of 100: {join(rising) or 'none'}{rest}."
    )


@figure(
    "task_performance",
    notebook="task_performance",
    title="Eight data sets by size and method",
    question="How good is each model on each data set?",
    caption="Primary score of each of the study's eight data sets against the parameters of the base model. "
    f"{INTERVAL} Methods are shifted sideways a little so that bars do not overlap; each panel names the models that "
    "were not released.",
    answer=say_growth,
    fitted=BARS,
)
def task_performance(scores: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw the primary score of the study's eight data sets by size and method."""
    return _draw_tasks(scores, STUDY_DATASETS, "task_performance", "the study's")


@figure(
    "embedded_performance",
    notebook="task_performance",
    title="The embedded suite by size and method",
    question="How good is each model on each embedded data set?",
    caption="Primary score of each of the embedded suite's five data sets against the parameters of the base model: "
    "large points are means over seeds with {level} percentile intervals from 2,000 bootstrap resamples of problems, "
    "small ones single seeds, hollow ones sizes held out of fits. No value compares with one of a published data set.",
    answer=say_growth,
    fitted=("value", *BARS),
)
def embedded_performance(scores: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw the primary score of the embedded suite's five data sets by size and method."""
    return _draw_tasks(scores, EMBEDDED_DATASETS, "embedded_performance", "the embedded suite's", n_columns=3)


def _draw_tasks(
    scores: pd.DataFrame, datasets: Sequence[str], name: str, whose: str, n_columns: int = 4
) -> tuple[Figure, pd.DataFrame]:
    """Draw primary scores, one panel a data set that has any; ``name`` and ``whose`` are for errors."""
    primary, columns = primary_frame(scores), twin_columns(scores, COLUMNS)
    parts = [primary.loc[primary["dataset"] == dataset, columns] for dataset in datasets]
    table = round_table(pd.concat(parts, ignore_index=True))
    require_rows(table, name, f"a primary score on one of {whose} data sets")
    shown = [dataset for dataset in datasets if dataset in set(table["dataset"])]
    figure, axes = small_multiples(len(shown), n_columns)
    for position, (panel, dataset) in enumerate(zip(axes, shown, strict=True)):
        rows = table[table["dataset"] == dataset]
        draw_models(panel, rows, scores["n_params_base"], label=position + n_columns >= len(shown))
        _panel(panel, rows, dataset, models_in(scores))
    start_at_zero(axes)
    bars = interval_handle(table["level"].iloc[0], table["interval"])
    has_commonest = any(known.majority not in (None, known.chance) for known in map(find_dataset, shown))
    references = _reference_handles() if has_commonest else _reference_handles()[1:]
    method_legend(figure, table["method"], [bars, *references, *model_handles(table)])
    return figure, table


def _panel(panel: Axes, rows: pd.DataFrame, name: str, suite: list[tuple[str, str]]) -> None:
    known = find_dataset(name)
    if known.majority is not None and known.majority != known.chance:
        panel.axhline(known.majority, color=GREY, linewidth=0.9, linestyle=(0, (1, 1.5)))
    if known.chance and known.chance >= _VISIBLE:
        panel.axhline(known.chance, color=GREY, linewidth=0.9, linestyle=(0, (4, 2)))
    panel.set_title(known.title, loc="left")
    n_items, source = rows["n_items"].iloc[0], rows["source"].iloc[0]
    items = "problems" if known.kind == "generation" else "items"
    words = seed_words(rows) or source
    note(panel, f"{describe_models(models_in(rows), suite)}\n{n_items} {items}, {words}", width=31, reserve=3)
    panel.set_ylabel(METRICS[rows["metric"].iloc[0]].label)


def _reference_handles() -> list[Line2D]:
    return [
        Line2D([], [], color=GREY, linestyle=(0, (1, 1.5)), label="always the commonest answer"),
        Line2D([], [], color=GREY, linestyle=(0, (4, 2)), label="random guess"),
    ]


def _say_means(table: pd.DataFrame) -> str | None:
    parts = []
    for panel, rows in table.groupby("panel", sort=False):
        largest = keep_largest(average_models(rows, "value"))
        names, mute = (str(rows[column].iloc[0]).split() for column in ("datasets", "no_vote"))
        mute = [name for name in mute if name in names]
        if mute == names:
            parts.append(f"{panel}: no vote (no model is surely better than always giving the commonest answer)")
        elif len(largest) > 1:
            first, second = largest.sort_values("value", ascending=False).to_dict("records")[:2]
            parts.append(
                f"{panel}: {name_method(first['method'])} at {first['size']} ({100 * first['value']:.1f}), then "
                f"{name_method(second['method'])} ({100 * second['value']:.1f})"
                + (f", with {join(map(name_dataset, mute))}, which have no vote" if mute else "")
            )
    return f"Highest mean at the largest size, of 100 points: {'; '.join(parts)}." if parts else None


@figure(
    "mean_performance",
    notebook="task_performance",
    title="Mean performance over shared data sets",
    question="Which method is best on average?",
    caption="Mean of the primary scores over data sets that all models of a panel have. "
    f"{INTERVAL} All data sets built on HumanEval are resampled together.",
    answer=_say_means,
    fitted=("value", *BARS),
)
def mean_performance(panels: dict[str, pd.DataFrame], models: list[tuple[str, str]]) -> tuple[Figure, pd.DataFrame]:
    """Draw mean scores, one panel a set of data sets; the twin names the panel and the data sets averaged."""
    parts = [frame.assign(panel=title) for title, frame in panels.items()]
    table = round_table(pd.concat(parts, ignore_index=True)) if parts else pd.DataFrame()
    require_rows(table, "mean_performance", "runs with primary scores on two data sets of one kind")
    figure, axes = small_multiples(len(panels), len(panels), row_height=2.6, sharey=False)
    for panel, title in zip(axes, panels, strict=True):
        rows = table[table["panel"] == title]
        draw_models(panel, rows, table["n_params_base"])
        panel.set_ylabel("mean of primary scores")
        panel.set_title(title, loc="left")
        names = [DATASETS[name].title for name in rows["datasets"].iloc[0].split()]
        names = [name.removeprefix("Embedded ") if title.startswith("Embedded") else name for name in names]
        shown = describe_models(models_in(rows), models)
        note(
            panel,
            f"{shown}{in_seeds(rows)}\nmean of {', '.join(names)}",
            width=42 if len(panels) < 4 else 28,
            reserve=5,
        )
    bars = interval_handle(table["level"].iloc[0], table["interval"])
    method_legend(figure, table["method"], [bars, *model_handles(table)])
    return figure, table


def _say_shots(table: pd.DataFrame) -> str | None:
    parts = []
    for dataset, rows in table.groupby("dataset", sort=False):
        wide = rows.pivot_table(index=["size", "method"], columns="shots", values="value").dropna()
        if len(wide) and {"zero_shot", "one_shot"} <= set(wide.columns):
            better = int((wide["one_shot"] > wide["zero_shot"]).sum())
            parts.append(f"{better} of {len(wide)} models on {name_dataset(dataset)}")
    return f"One example raises the accuracy of {join(parts)}." if parts else None


@figure(
    "zero_against_one_shot",
    notebook="task_performance",
    title="Clone and defect detection, zero-shot against one-shot",
    question="Does an example in the prompt help?",
    caption="Accuracy with no example (hollow) and with one example (filled) in the prompt, by size and method. Thick "
    "bars are {level} intervals: over problems for defect detection, binomial and reading error for clone detection. "
    "Dotted: always giving the commonest answer.",
    answer=_say_shots,
    fitted=BARS,
)
def zero_against_one_shot(scores: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw accuracy with no and with one example in the prompt: a row of panels a data set, a column a size."""
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
    methods = order_methods({*METHODS, *rows["method"]})
    for position, method in enumerate(methods):
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
    panel.set_yticks(range(len(methods)), [METHOD_STYLES[method].label for method in methods])
    panel.set_ylim(len(methods) - 0.4, -0.6)


def say_clearly_best(table: pd.DataFrame) -> str:
    """Say on which data sets of a table of ``p_best`` one method is clearly the best, by what they measure."""
    table = table.dropna(subset=["p_best"])
    firsts = table.sort_values("p_best", ascending=False).groupby("dataset", sort=False).head(1)
    parts = []
    for kind, rows in split_kinds(firsts):
        if rows["dataset"].eq(MEAN_GENERATION).all():
            parts.append(f"{kind} {name_method(rows['method'].iloc[0])} ({rows['p_best'].iloc[0]:.2g})")
            continue
        clear = rows[rows["p_best"] >= CLEAR].to_dict("records")
        named = join(f"{name_method(row['method'])} on {name_dataset(row['dataset'])}" for row in clear)
        parts.append(f"{kind} {len(clear)} of {len(rows)} data sets{f' ({named})' if named else ''}")
    found = f"One method is the best with a probability of {CLEAR:g} or more, or the likeliest of a mean: "
    return f"{found}{'; '.join(parts) or 'nowhere'}.{say_no_vote(firsts)}"


def _say_best(table: pd.DataFrame) -> str:
    return say_clearly_best(table[table["is_drawn"].astype(bool)])


@figure(
    "best_method",
    notebook="task_performance",
    title="Probability of being the best method",
    question="Which method is the best of those measured?",
    caption="Share of 2,000 bootstrap resamples of problems in which a method has the highest primary score, at the "
    "largest size at which most methods were measured. It covers the choice of problems, not other training runs. An "
    "empty cell is a method that was not measured.",
    answer=_say_best,
    fitted=("p_best", *BARS),
)
def best_method(ranks: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw each method's probability of being the best of those measured at one size; all sizes are in the twin."""
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
        name: f"{name_dataset(name)} at {rows['size'].iloc[0]} ({len(rows)} methods{say_mute(rows)})"
        for name, rows in drawn.groupby("dataset", sort=False)
    }
    grid = drawn.pivot(index="dataset", columns="method", values="p_best")
    grid = grid.reindex(index=list(labels), columns=order_methods(grid.columns))
    grid.index, grid.columns = list(labels.values()), [name_method(method) for method in grid.columns]
    bar = {"label": "P(best) over resampled problems"}
    figure, axes = heat_map(grid, 0.3 * len(grid) + 0.5, cbar_kws=bar, **PROBABILITIES)
    # Beside long names there is less room for a title.
    comma = ",\n" if max(map(len, labels.values())) > _LONG_LABEL else ", "
    words = f"Probability of being the best method{comma}largest size at which most methods were measured"
    axes.set_title(words, loc="left")
    return figure, table
