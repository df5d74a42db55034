"""The embedded suite: its five tasks by size and method, its robustness and its security measures."""

import pandas as pd
from matplotlib.figure import Figure

from astraios_analysis.figures.robustness import draw_categories, draw_transformations
from astraios_analysis.figures.spec import require_rows, round_table
from astraios_analysis.figures.style import (
    GREY,
    describe_models,
    draw_models,
    interval_handle,
    method_legend,
    model_handles,
    note,
    size_axis,
    small_multiples,
    twin_columns,
)
from astraios_analysis.figures.tasks import COLUMNS, draw_tasks, models_in
from astraios_analysis.records.registry import DATASETS, EMBEDDED_DATASETS, METRICS
from astraios_analysis.scores.models import keep_means, seed_words

CATEGORIES = tuple(name for name, known in DATASETS.items() if (known.kind, known.suite) == ("robustness", "embedded"))
_MIN_MODELS = 3
_SECURITY = (
    ("insecure_rate", "untrusted", "Insecure, input from outside"),
    ("insecure_rate", "trusted", "Insecure, input of one's own"),
    ("valid_rate", "all", "Valid programs"),
)


def embedded_performance(scores: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw the primary score of the embedded suite's five data sets by size and method.

    Parameters
    ----------
    scores : DataFrame
        `seeds.intervals_over_seeds` of one grid.

    Returns
    -------
    Figure
    DataFrame
        One row for each point drawn.
    """
    return draw_tasks(scores, EMBEDDED_DATASETS, "embedded_performance", "the embedded suite's", n_columns=3)


def embedded_robustness(scores: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw nominal and robust pass@1 and the relative drop by size, for each category of changed prompts.

    Parameters
    ----------
    scores : DataFrame
        `seeds.intervals_over_seeds` of one grid.

    Returns
    -------
    Figure
    DataFrame
    """
    return draw_categories(scores, CATEGORIES, "embedded_robustness")


def embedded_transformations(scores: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw the relative drop of each change by size, averaged over the methods that solved anything unchanged.

    Returns
    -------
    Figure
    DataFrame
    """
    return draw_transformations(scores, CATEGORIES, "embedded_transformations", "negative: the change helps")


def embedded_security(scores: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw the insecure share of valid programs by where the input comes from, and the share that is valid.

    Returns
    -------
    Figure
        A rate is absent where no program is valid. Where fewer than three models have one, it is said in words: a
        panel of a point or two would not show more.
    DataFrame
    """
    parts = []
    for metric, setting, _ in _SECURITY:
        chosen = (scores["metric"] == metric) & (scores["setting"] == setting)
        parts.append(scores[chosen & (scores["dataset"] == "embedded_security")])
    own = pd.concat(parts, ignore_index=True)
    require_rows(own, "embedded_security", "scores on embedded_security")
    table = round_table(own[twin_columns(own, COLUMNS)])
    suite = models_in(scores)
    parts = {p: table[(table["metric"] == p[0]) & (table["setting"] == p[1])] for p in _SECURITY}
    measured = [p for p in _SECURITY if len(parts[p])]
    rates = [p for p in measured if p[0] == "insecure_rate"]
    is_empty = all(len(models_in(parts[p])) < _MIN_MODELS for p in rates) and len(measured) > len(rates)
    shown = [p for p in measured if p not in rates] if is_empty else measured
    figure, axes = small_multiples(len(shown), len(shown), row_height=2.3 if len(shown) > 1 else 1.6, sharey=True)
    highest = max(parts[p]["upper"].fillna(parts[p]["value"]).max() for p in shown)
    for panel, (metric, setting, title) in zip(axes, shown, strict=True):
        rows = parts[metric, setting, title]
        draw_models(panel, rows)
        size_axis(panel, scores["n_params_base"])
        panel.set_title(title, loc="left")
        panel.set_ylabel(METRICS[metric].label)
        top = 1.0 if len(shown) > 1 else min(1.0, max(1.2 * highest, 0.05))
        panel.set_ylim(-0.04 * top, 1.04 * top)
        if setting == "untrusted":
            panel.axhline(0.5, color=GREY, linewidth=0.9, linestyle=(0, (4, 2)))
        if len(shown) > 1:
            note(panel, _say(rows, suite, metric), width=44, reserve=3)
        else:
            words = [_say(rows, suite, metric).replace("\n", ", ")]
            words += [_say_few(p[2], parts[p], suite, p[0]) for p in measured if p not in shown]
            note(panel, "\n".join(words), width=130)
    bars = interval_handle(table["level"].iloc[0], table["interval"])
    method_legend(figure, table["method"], [bars, *model_handles(table)])
    return figure, table


def _say_few(title: str, rows: pd.DataFrame, suite: list[tuple[str, str]], metric: str) -> str:
    """Say a rate that too few models have for a panel, with its values."""
    means = keep_means(rows)
    values = ", ".join(f"{value:.2f}" for value in means["value"])
    return f"{title}: {values} in {_say(rows, suite, metric)}".replace("\n", ", ")


def _say(rows: pd.DataFrame, suite: list[tuple[str, str]], metric: str) -> str:
    models = describe_models(models_in(rows), suite)
    n = keep_means(rows)["n_items"]
    what = "prompts" if metric == "valid_rate" else "valid programs a run"
    items = f"{n.min()} {what}" if n.min() == n.max() else f"{n.min()} to {n.max()} {what}"
    words = seed_words(rows)
    return f"{models}{f', {words}' if words else ''}\n{items}"
