"""Decisions: the best method, choices by small models, cost against performance, and the claims behind them."""

import textwrap
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from astraios_analysis.claims.judge import Judgement, judgement_frame
from astraios_analysis.claims.rules import CLAIMS, THESE, VERDICTS
from astraios_analysis.figures.spec import BARS, figure, keep_shares, require_rows, round_table
from astraios_analysis.figures.style import (
    GREY,
    METHOD_STYLES,
    heat_map,
    join,
    keep_voting,
    method_legend,
    name_dataset,
    name_method,
    note,
    say_mute,
    say_no_vote,
    size_label,
    small_multiples,
    split_kinds,
)
from astraios_analysis.figures.tasks import PROBABILITIES, say_clearly_best
from astraios_analysis.figures.transfer import say_refused
from astraios_analysis.records.registry import DATASETS, MEAN_GENERATION, METRICS
from astraios_analysis.records.schema import order_methods

_COLOURS = dict(zip(VERDICTS, ("#009E73", "#D55E00", "#E69F00", "#56B4E9", GREY, GREY), strict=True))
_COST_LABELS = {
    "n_params_updated": "updated parameters",
    "peak_memory_bytes": "peak memory in bytes",
    "flop": "FLOP of tuning",
    "seconds": "seconds of tuning",
}

PAIRS = ("pair_accuracy", "pair_lower", "pair_upper")
# Four panels a row leave no room for long titles on one line.
_TITLE_WIDTH = 18


def _say_best(table: pd.DataFrame) -> str:
    return f"{say_clearly_best(table)}{say_refused(table)}"


@figure(
    "best_at_target",
    notebook="predictions",
    title="Probability of being best at a larger size",
    question="Which method will be best at a size that nobody has trained?",
    caption="Probability that a method is the best of those measured at a size that nobody has trained ({target}, or "
    "the held-out size of a grid out of its reach): share of joint draws of one new run of each method. Data sets that "
    "no back-test can check are named, and not predicted.",
    answer=_say_best,
    fitted=("n_params", "p_best", "value", *BARS, "reach", "expected_regret"),
)
def best_at_target(best: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw the probability that each method is the best at a size that nobody has trained.

    Data sets that must not be predicted are named below the title; the twin has the reason (``refusal``).
    """
    require_rows(best, "best_at_target", "a data set with primary scores at four sizes")
    drawn, table = best.dropna(subset=["p_best"]), round_table(best)
    grid = table.dropna(subset=["p_best"]).pivot(index="dataset", columns="method", values="p_best")
    grid = grid.reindex(index=list(dict.fromkeys(drawn["dataset"])), columns=order_methods(grid.columns))
    grid.index = [name_dataset(name) for name in grid.index]
    grid.columns = [name_method(method) for method in grid.columns]
    bar = {"label": "P(best), one new run"}
    figure, axes = heat_map(grid, 0.3 * len(grid) + 0.5, cbar_kws=bar, **PROBABILITIES)
    reach = table["reach"].max()
    words = f"Probability of being best at {size_label(table['n_params'].iloc[0])} parameters"
    axes.set_title(f"{words}, up to {reach:.1f} times beyond the sizes fitted", loc="left")
    words = f"{drawn['method'].nunique()} methods; fitted on each data set: {_span(drawn['n_models'])} models"
    note(axes, f"{words}\n{say_refused(table).strip()}", 110)
    return figure, table


def _span(counts: pd.Series) -> str:
    """Say one number, or the smallest and the largest of several."""
    low, high = int(counts.min()), int(counts.max())
    return f"{low}" if low == high else f"{low} to {high}"


def _say_choices(table: pd.DataFrame) -> str | None:
    rows = table[table["is_drawn"].astype(bool) & (table["rule"] == "best at the smaller size")]
    if rows.empty:
        return None
    parts = [
        f"{kind} {int(own['is_right'].astype(bool).sum())} of {len(own)} cases, "
        f"{100 * own['regret'].mean():.1f} points ({100 * own['regret_random'].mean():.1f} by lot)"
        for kind, own in split_kinds(keep_shares(rows))
    ]
    found = "The best method of a smaller size is best at the largest too, and gives up of 100 points on average: "
    found = f"{found}{'; '.join(parts)}." if parts else ""
    for name, own in rows.drop(keep_shares(rows).index).groupby("dataset", sort=False):
        found += (
            f" On {name_dataset(name)} it is in {int(own['is_right'].astype(bool).sum())} of {len(own)} cases, and "
            f"gives up {own['regret'].mean():.2g} ({own['regret_random'].mean():.2g} by lot)."
        )
    return f"{found}{say_no_vote(rows)}".strip() or None


@figure(
    "small_model_choices",
    notebook="predictions",
    title="Choosing a method by small models",
    question="What comes of choosing a method by small models?",
    caption="Score given up at the larger size by the method chosen at a smaller one (filled: best there; hollow: "
    "predicted best by a law of the sizes up to it), with {level} percentile intervals over problems; the dash is what "
    "a choice by lot gives up on average.",
    answer=_say_choices,
    fitted=("p_right", "regret", "regret_lower", "regret_upper", "regret_random", *PAIRS),
)
def small_model_choices(choices: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw what choosing a method at a smaller size gives up at the largest; the twin has all pairs of sizes."""
    require_rows(choices, "small_model_choices", "scores of two methods at two sizes")
    largest = choices.groupby("dataset")["n_params_large"].transform("max")
    table = round_table(choices.assign(is_drawn=choices["n_params_large"] == largest))
    drawn = table[table["is_drawn"]]
    names = list(dict.fromkeys(drawn["dataset"]))
    figure, axes = small_multiples(len(names), 4, row_height=1.85)
    for panel, name in zip(axes, names, strict=True):
        _draw_choices(panel, drawn[drawn["dataset"] == name])
    handles = [
        Line2D([], [], color="black", marker="o", linestyle="", label="best at the smaller size"),
        Line2D([], [], color="black", marker="o", markerfacecolor="white", linestyle="", label="predicted best"),
        Line2D([], [], color=GREY, marker="_", markersize=9, linestyle="", label="choice by lot"),
    ]
    method_legend(figure, drawn["chosen"], handles)
    return figure, table


def _draw_choices(panel: Axes, rows: pd.DataFrame) -> None:
    sizes = list(dict.fromkeys(rows.sort_values("n_params_small")["size_small"]))
    for row in rows.to_dict("records"):
        is_measured = row["rule"].startswith("best")
        x = sizes.index(row["size_small"]) + (-0.12 if is_measured else 0.12)
        style = METHOD_STYLES[row["chosen"]]
        panel.plot([x, x], [row["regret_lower"], row["regret_upper"]], color=style.colour, linewidth=0.8)
        face = style.colour if is_measured else "white"
        looks = {"color": style.colour, "markerfacecolor": face, "markersize": 5, "clip_on": False, "zorder": 3}
        panel.plot(x, row["regret"], marker=style.marker, **looks)
        panel.plot(x, row["regret_random"], marker="_", color=GREY, markersize=9)
    panel.set_xticks(range(len(sizes)), sizes)
    panel.set_xlim(-0.5, len(sizes) - 0.5)
    panel.set_ylim(bottom=0)
    panel.set_title(textwrap.fill(name_dataset(rows["dataset"].iloc[0]), _TITLE_WIDTH), loc="left")
    pairs = rows[rows["rule"].str.startswith("best")]["pair_accuracy"]
    shown = f"judged at {rows['size_large'].iloc[0]}, {rows['n_methods'].max()} methods{say_mute(rows)}; "
    shown += f"pairs in the same order: {', '.join(f'{value:.2f}' for value in pairs)}"
    note(panel, shown, width=28, reserve=3)
    metric = METRICS[rows["metric"].iloc[0]]
    panel.set_ylabel(f"{metric.label} lost" if metric.is_bounded else f"excess {metric.label}")
    panel.set_xlabel("size chosen at")


def _say_frontier(table: pd.DataFrame) -> str | None:
    measured = table[(table["kind"] == "measured") & table["on_frontier"].astype(bool)]
    measured = keep_voting(measured[measured["dataset"] != MEAN_GENERATION])
    counts = measured.groupby("method")["dataset"].nunique().sort_values(ascending=False, kind="stable")
    if counts.empty:
        return None
    listed = join(f"{name_method(method)} ({n})" for method, n in counts.items())
    return f"Methods with a model that no other beats in both, by number of data sets: {listed}.{say_refused(table)}"


@figure(
    "cost_performance",
    notebook="predictions",
    title="Cost against performance",
    question="What does performance cost?",
    caption="Primary score against cost of every model (filled) and its prediction at the target size (hollow), with "
    "{level} intervals: over problems, and for one new run. The step joins measured models that no other beats in "
    "both.",
    answer=_say_frontier,
    fitted=("n_params_base", "cost_value", "value", *BARS, "p_frontier"),
)
def cost_performance(frontier: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw score against cost, measured and predicted, and the models that no other beats in both."""
    require_rows(frontier, "cost_performance", "runs with a cost and a primary score")
    table = round_table(frontier)
    names = list(dict.fromkeys(table["dataset"]))
    figure, axes = small_multiples(len(names), 4, row_height=1.8)
    for panel, name in zip(axes, names, strict=True):
        rows = table[table["dataset"] == name]
        _draw_costs(panel, rows)
        panel.set_title(textwrap.fill(name_dataset(name), _TITLE_WIDTH), loc="left")
        panel.set_ylabel(METRICS[rows["metric"].iloc[0]].label)
        panel.set_xlabel(_COST_LABELS[rows["cost"].iloc[0]])
        panel.xaxis.set_major_formatter(lambda number, _: size_label(number))
        counts = rows["kind"].value_counts()
        predicted = "not predicted" if counts.get("refused", 0) else f"{counts.get('predicted', 0)} predictions"
        note(panel, f"{counts.get('measured', 0)} models, {predicted}")
    handles = [
        Line2D([], [], color=GREY, marker="o", linestyle="", label="measured"),
        Line2D([], [], color=GREY, marker="o", markerfacecolor="white", linestyle="", label="predicted at the target"),
        Line2D([], [], color="black", linewidth=0.8, label="not beaten by a measured model"),
    ]
    method_legend(figure, table["method"].dropna(), handles)
    return figure, table


def _draw_costs(panel: Axes, rows: pd.DataFrame) -> None:
    for row in rows[rows["kind"] != "refused"].to_dict("records"):
        style, is_measured = METHOD_STYLES[row["method"]], row["kind"] == "measured"
        panel.plot([row["cost_value"]] * 2, [row["lower"], row["upper"]], color=style.colour, linewidth=0.6, alpha=0.6)
        face = style.colour if is_measured else "white"
        panel.plot(
            row["cost_value"], row["value"], style.marker, color=style.colour, markerfacecolor=face, markersize=4
        )
    measured = rows[rows["kind"] == "measured"].sort_values("cost_value")
    is_lower_better = METRICS[rows["metric"].iloc[0]].higher_is_better is False
    best = measured["value"].cummin() if is_lower_better else measured["value"].cummax()
    panel.step(measured["cost_value"], best, where="post", color="black", linewidth=0.8, zorder=1)
    panel.set_xscale("log")


def _say_verdicts(table: pd.DataFrame) -> str:
    pooled = table[table["part"] == "pooled"]
    parts = []
    for scope, rows in pooled.groupby("scope", sort=False):
        counts = join(f"{n} {verdict}" for verdict, n in rows["verdict"].value_counts().items())
        parts.append(f"{scope.capitalize()}: {counts}.")
    return " ".join(parts)


@figure(
    "claim_effects",
    notebook="claims",
    title="What the study claims, judged",
    question="Does what the study claims hold?",
    caption="Effect of each claim, pooled over the data sets that have a vote, for these models (full diamond: other "
    "problems) and where it is known for other models (hollow diamond: other runs or sizes), and on each part of these "
    "models (dots; hollow without a vote), with 95 % intervals of the kind that docs/claims.md names; right of the "
    "dashed line speaks for the claim. Claims that the records cannot test are named in the table.",
    answer=_say_verdicts,
    fitted=(
        "effect",
        *BARS,
        "p",
        "p_opposite",
        "p_corrected",
        "without_lowest",
        "without_highest",
        "all_parts",
        "tipping_sd",
    ),
)
def claim_effects(judgements: Sequence[Judgement]) -> tuple[Figure, pd.DataFrame]:
    """Draw the effect of every claim that could be tested, pooled and part by part: a panel a claim and suite.

    The twin has a row without numbers for a claim that was not tested.
    """
    frames = [judgement_frame(judgements), judgement_frame(judgements, parts=True)]
    table = round_table(pd.concat([frame for frame in frames if len(frame)], ignore_index=True))
    tested = table[table["effect"].notna()]
    require_rows(tested, "claim_effects", "a claim that can be tested")
    shown = tested[(tested["part"] == "pooled") | (tested["scope"] == THESE)]
    panels = list(shown.groupby(["suite", "claim"], sort=False))
    most = max(len(rows) for _, rows in panels)
    figure, axes = small_multiples(len(panels), 2, row_height=0.75 + 0.14 * most)
    several = table["suite"].nunique() > 1
    for panel, ((suite, name), rows) in zip(axes, panels, strict=True):
        verdicts = table[(table["suite"] == suite) & (table["claim"] == name) & (table["part"] == "pooled")]
        _draw_claim(panel, rows, verdicts, f"{suite} data sets. " if several else "")
    return figure, table


def _draw_claim(panel: Axes, rows: pd.DataFrame, verdicts: pd.DataFrame, where: str) -> None:
    rows = rows[(rows["part"] != "pooled") | (rows["scope"] == THESE) | rows["lower"].notna()]
    shown = rows.to_dict("records")[::-1]
    for height, row in enumerate(shown):
        is_whole = row["part"] == "pooled"
        colour = _COLOURS[row["verdict"]] if is_whole else GREY
        panel.plot([row["lower"], row["upper"]], [height, height], color=colour, linewidth=1.1)
        is_full = row["scope"] == THESE if is_whole else row["votes"]
        marker, size = ("D", 5) if is_whole else ("o", 3.5)
        fill = colour if is_full else "white"
        panel.plot(row["effect"], height, marker, markersize=size, color=colour, markerfacecolor=fill)
    panel.axvline(0, color=GREY, linewidth=0.7, linestyle="--", zorder=0)
    names = [f"Pooled, {row['scope']}" if row["part"] == "pooled" else _name_part(row["part"]) for row in shown]
    panel.set_yticks(np.arange(len(shown)), names, fontsize=6)
    panel.set_ylim(-0.6, len(shown) - 0.4)
    panel.xaxis.set_major_locator(mpl.ticker.MaxNLocator(5))
    panel.set_xlabel(rows["unit"].iloc[0], fontsize=6.5)
    panel.set_title(textwrap.fill(rows["statement"].iloc[0], 34), loc="left", fontsize=7)
    said = []
    for row in verdicts.itertuples():
        has_p = row.p_corrected == row.p_corrected and row.verdict != "contradicted"
        said.append(f"{row.scope}: {row.verdict}" + (f", corrected p {row.p_corrected:.2g}" if has_p else ""))
    low, high = int(rows["n"].min()), int(rows["n"].max())
    n = f"{low if low == high else f'{low} to {high}'} {CLAIMS[rows['claim'].iloc[0]].counted}"
    note(panel, f"{where}{said[0]}\n{said[1]}\n{n}".capitalize(), width=60, reserve=3)


def _name_part(name: str) -> str:
    if name in DATASETS:
        return DATASETS[name].title
    if name in METHOD_STYLES:
        return METHOD_STYLES[name].label
    return _COST_LABELS.get(name, name.removeprefix("t0.2,n20,").replace(",", ", ").replace("_", " "))
