"""Task performance: each data set by size and method, means, and zero- against one-shot."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from astraios_analysis.figures import style
from astraios_analysis.figures.spec import (
    BARS,
    INTERVAL,
    average_models,
    figure,
    keep_largest,
    keep_shares,
    require_rows,
    round_table,
)
from astraios_analysis.figures.style import GREY, METHOD_STYLES, join, name_dataset, name_grid, name_method
from astraios_analysis.records.registry import DATASETS, MEAN_GENERATION, METRICS, find_dataset, order_datasets
from astraios_analysis.scores.bootstrap import primary_frame
from astraios_analysis.scores.models import seed_words

SCORED = ["dataset", "setting", "metric", "size", "method", "n_params_base"]
COLUMNS = [*SCORED, "value", *BARS, "level", "interval", "n_items", "source"]
# Chance levels below this lie on the axis.
_VISIBLE = 0.01
# What scores are held against, and how it is drawn.
_COMMONEST, _GUESS = "always the commonest answer", "random guess"
_DASHES = {_COMMONEST: (0, (1, 1.5)), _GUESS: (0, (4, 2))}


def say_growth(table: pd.DataFrame) -> str | None:
    """Say on which data sets of shares the mean over methods rises with size, and which others get better."""
    rising, other, losses, gains = [], [], [], []
    are_shares = set(keep_shares(table)["dataset"])
    for dataset, rows in average_models(table, "value", "dataset").groupby("dataset", sort=False):
        wide = rows.pivot_table(index="method", columns="n_params_base", values="value")
        counts = wide.notna().sum()
        full = counts[counts >= max(counts.max() / 2, 1)].index
        pair = wide[[full.min(), full.max()]].dropna() if len(full) > 1 else pd.DataFrame()
        if pair.empty:
            continue
        small, large = pair.mean()
        if dataset in are_shares:
            (rising if large > small else other).append(f"{name_dataset(dataset)} ({100 * (large - small):+.1f})")
            continue
        metric = METRICS[table.loc[table["dataset"] == dataset, "metric"].iloc[0]]
        is_better = metric.turn(large) > metric.turn(small)
        words = f"{name_dataset(dataset)} (to {100 * large / small:.0f} %)" if is_better else ""
        (gains if metric.higher_is_better else losses).append(words)
    parts = []
    if rising + other:
        rest = f"; not on {join(other)}" if other else ""
        n = f"{len(rising)} of {len(rising + other)} data sets"
        parts.append(f"rises on {n}, in points of 100{f': {join(rising)}' if rising else ''}{rest}")
    for what, own in (("loss falls", losses), ("what is no share rises", gains)):
        better = [words for words in own if words]
        parts += [f"{what} on {len(better)} of {len(own)}{f': {join(better)}' if better else ''}"] if own else []
    if not parts:
        return None
    return f"From the smallest to the largest size that most methods have, the mean over methods {'; '.join(parts)}."


@figure(
    "task_performance",
    notebook="task_performance",
    title="Scores by size and method",
    question="How good is each model on each data set?",
    caption="Primary score of each data set against the parameters of the base model. "
    f"{INTERVAL} Methods are set apart, sizes are categories; each panel names the models that lack it. Of several "
    "seeds large points are means, small ones single runs, hollow ones sizes held out of fits. Scores of the embedded "
    "suite do not compare with those of published data sets.",
    answer=say_growth,
    fitted=("value", *BARS),
)
def task_performance(scores: pd.DataFrame, votes: dict[str, bool]) -> tuple[Figure, pd.DataFrame]:
    """Draw the primary score of every data set by size and method, robustness and security apart."""
    primary = primary_frame(scores)
    kinds = primary["dataset"].map(lambda name: find_dataset(name).kind)
    is_task = ~kinds.isin(["robustness", "security"]) & ~primary["dataset"].isin([MEAN_GENERATION])
    table = round_table(primary.loc[is_task, style.twin_columns(scores, COLUMNS)])
    require_rows(table, "task_performance", "a primary score")
    shown, rest = style.choose_panels(order_datasets(table["dataset"]), votes)
    n_columns = min(3, len(shown))
    figure, axes = style.small_multiples(len(shown), n_columns, row_height=2.1)
    for position, (panel, dataset) in enumerate(zip(axes, shown, strict=True)):
        rows = table[table["dataset"] == dataset]
        style.draw_models(panel, rows, scores["n_params_base"], label=position + n_columns >= len(shown))
        _panel(panel, rows, dataset, scores)
    style.start_at_zero(axes)
    known = {name for dataset in shown for name in _references(dataset)}
    references = [_reference_handle(name) for name in _DASHES if name in known]
    style.method_legend(
        figure, table["method"], [*style.interval_handles(table), *references, *style.model_handles(table)]
    )
    style.say_undrawn(figure, rest, votes)
    return figure, table


def _references(dataset: str) -> dict[str, float]:
    """Return which lines a panel has, and where: the score of the commonest answer, and that of guessing."""
    known = find_dataset(dataset)
    found = {} if known.majority in (None, known.chance) else {_COMMONEST: known.majority}
    if known.chance and known.chance >= _VISIBLE:
        found[_GUESS] = known.chance
    return found


def _reference_handle(name: str) -> Line2D:
    return style.handle(name, linewidth=1.5, linestyle=_DASHES[name])


def _panel(panel: Axes, rows: pd.DataFrame, name: str, scores: pd.DataFrame) -> None:
    known = find_dataset(name)
    for reference, height in _references(name).items():
        panel.axhline(height, color=GREY, linewidth=0.9, linestyle=_DASHES[reference])
    n_items, source = rows["n_items"].iloc[0], rows["source"].iloc[0]
    items = {"generation": "problems", "answers": "tokens"}.get(known.kind, "items")
    words = f"{style.describe_models(rows, scores)}\n{n_items} {items}, {seed_words(rows) or source}"
    style.label_panel(panel, known.title, words, reserve=3, ylabel=METRICS[rows["metric"].iloc[0]].label)


def _say_means(table: pd.DataFrame) -> str | None:
    parts = []
    for panel, rows in table.groupby("panel", sort=False):
        largest = keep_largest(average_models(rows, "value"))
        names, mute = rows["datasets"].iloc[0].split(), _words(rows)
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


def _mean_rows(panels: dict[str, pd.DataFrame]) -> pd.DataFrame:
    parts = [frame.assign(panel=title) for title, frame in panels.items()]
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    require_rows(table, "mean_performance", "runs with primary scores on two data sets of one kind")
    return table


@figure(
    "mean_performance",
    notebook="task_performance",
    title="Mean performance over shared data sets",
    question="Which method is best on average?",
    caption="Mean of the primary scores over data sets that all models of a panel have. "
    f"{INTERVAL} All data sets built on HumanEval are resampled together.",
    answer=_say_means,
    fitted=("value", *BARS),
    rows=_mean_rows,
)
def mean_performance(table: pd.DataFrame) -> Figure:
    """Draw mean scores, one panel a set of data sets that has a vote; the table names the data sets averaged."""
    parts = [part for grid in style.split_grids(table) for part in _voting_means(*grid)]
    figure, axes = style.small_multiples(len(parts), min(3, len(parts)), row_height=2.3)
    for panel, (grid, title, rows) in zip(axes, parts, strict=True):
        style.draw_models(panel, rows, table.loc[table["grid"] == grid, "n_params_base"])
        names = [DATASETS[name].title.removeprefix("Embedded ") for name in rows["datasets"].iloc[0].split()]
        n_models = len(style.models_in(rows))
        words = f"{name_grid(grid)}, {n_models} models{style.in_seeds(rows)}\nmean of {', '.join(names)}"
        style.label_panel(panel, title, words, reserve=4, ylabel="mean of primary scores")
    style.method_legend(figure, table["method"], [*style.interval_handles(table), *style.model_handles(table)])
    return figure


def _voting_means(grid: str, table: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame]]:
    """Return the panels of a grid, without those of which no data set has a vote unless there is no other."""
    found = [(grid, title, own) for title, own in table.groupby("panel", sort=False)]
    mute = [set(own["datasets"].iloc[0].split()) <= set(_words(own)) for _, _, own in found]
    return [part for part, is_mute in zip(found, mute, strict=True) if not is_mute] or found


def _words(rows: pd.DataFrame) -> list[str]:
    """Return the data sets without a vote of a mean; an empty cell of a CSV is none."""
    return str(rows["no_vote"].iloc[0]).replace("nan", "").split() if "no_vote" in rows else []


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
    caption="Accuracy with one example in the prompt against that without, a point a model, larger for larger base "
    "models, with {level} intervals: over problems for defect detection, binomial and reading error for clone "
    "detection. Above the diagonal the example helps. Dotted: always giving the commonest answer.",
    answer=_say_shots,
    fitted=BARS,
)
def zero_against_one_shot(scores: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw accuracy with one example in the prompt against that with none, a panel a data set."""
    parts = [_shots(scores, name) for name in ("clone_detection", "defect_detection")]
    table = round_table(pd.concat(parts, ignore_index=True))
    require_rows(table, "zero_against_one_shot", "an accuracy on clone_detection or defect_detection")
    names, sizes = list(dict.fromkeys(table["dataset"])), sorted(set(table["n_params_base"]))
    figure, axes = style.small_multiples(len(names), 2, row_height=3.0)
    for panel, name in zip(axes, names, strict=True):
        rows = table[table["dataset"] == name]
        both = rows.groupby(["size", "method"], sort=False).filter(lambda own: own["shots"].nunique() == 2)
        _draw_shots(panel, both, sizes)
        top = 1.04 * float(rows["upper"].max())
        panel.plot([0, top], [0, top], color=GREY, linewidth=0.7)
        for line in (panel.axvline, panel.axhline):
            line(DATASETS[name].majority or 0, color=GREY, linewidth=0.9, linestyle=_DASHES[_COMMONEST])
        panel.set(xlim=(0, top), ylim=(0, top), xlabel="zero-shot accuracy", ylabel="one-shot accuracy")
        style.label_panel(panel, DATASETS[name].title, f"both: {style.describe_models(both, scores)}")
    handles = [*style.interval_handles(table), _reference_handle(_COMMONEST), *style.size_handles(table)]
    style.method_legend(figure, table["method"], handles)
    return figure, table


def _draw_shots(panel: Axes, both: pd.DataFrame, sizes: list[int]) -> None:
    """Draw models that have both accuracies."""
    for (_, method), own in both.groupby(["size", "method"], sort=False):
        zero, one = (own.set_index("shots").loc[shots] for shots in ("zero_shot", "one_shot"))
        colour, marker_size = METHOD_STYLES[method].colour, style.marker_size_of(zero["n_params_base"], sizes)
        panel.plot([zero["lower"], zero["upper"]], [one["value"]] * 2, color=colour, linewidth=0.6)
        panel.plot([zero["value"]] * 2, [one["lower"], one["upper"]], color=colour, linewidth=0.6)
        style.draw_markers(panel, [zero["value"]], [one["value"]], method, size=marker_size)


def _shots(scores: pd.DataFrame, name: str) -> pd.DataFrame:
    known = DATASETS[name]
    zero = known.primary_setting or ""
    settings = {zero: "zero_shot", zero.replace("zero_shot", "one_shot"): "one_shot"}
    is_accuracy = (scores["dataset"] == name) & (scores["metric"] == known.primary_metric)
    rows = scores.loc[is_accuracy & scores["setting"].isin(list(settings)), COLUMNS]
    return rows.assign(shots=rows["setting"].map(settings))
