"""Decisions: the best method, choices by small models, cost against performance, and the claims behind them."""

import textwrap
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from astraios_analysis.claims.judge import Judgement, judgement_frame
from astraios_analysis.claims.rules import CLAIMS, THESE, VERDICTS
from astraios_analysis.figures import style
from astraios_analysis.figures.spec import BARS, figure, keep_shares, require_rows
from astraios_analysis.figures.style import (
    GREY,
    METHOD_STYLES,
    join,
    name_dataset,
    name_grid,
    name_method,
    size_label,
    span,
)
from astraios_analysis.figures.transfer import say_refused
from astraios_analysis.records.notation import count
from astraios_analysis.records.registry import DATASETS, LOSS, MEAN_GENERATION, METRICS, RELEASED
from astraios_analysis.records.schema import METHODS, order_methods

_COLOURS = dict(zip(VERDICTS, ("#009E73", "#D55E00", "#E69F00", "#56B4E9", GREY, GREY), strict=True))
_COST_LABELS = {
    "n_params_updated": "updated parameters",
    "peak_memory_bytes": "peak memory in bytes",
    "flop": "FLOP of tuning",
    "seconds": "seconds of tuning",
}

PAIRS = ("pair_accuracy", "pair_lower", "pair_upper")
ORDER = ("value", "estimate", *BARS, "p_value", "p_holm", "ceiling")
_MEASURED = "best at the smaller size"
_SHADES = ("#9ecae1", "#4292c6", "#08306b")  # of smaller sizes, the nearest to the largest last
# Panels of costs that each grid gets.
_MOST_COSTS = 4
# Methods whose probabilities have room for three digits.
_MOST_NUMBERED = 8


CLEAR = 0.95
"""Probability from which a method is called clearly the best."""
PROBABILITIES = {"vmin": 0, "vmax": 1, "cmap": "Blues", "annot": True, "fmt": ".2f", "linewidths": 0.5}
PROBABILITIES |= {"annot_kws": {"fontsize": 6}}
"""Looks of a heat map of probabilities."""


def say_clearly_best(table: pd.DataFrame) -> str:
    """Say on which data sets of a table of ``p_best`` one method is clearly the best, by what they measure."""
    table = table.dropna(subset=["p_best"])
    firsts = table.sort_values("p_best", ascending=False).groupby("dataset", sort=False).head(1)
    parts = []
    for kind, rows in style.split_kinds(firsts):
        if rows["dataset"].eq(MEAN_GENERATION).all():
            parts.append(f"{kind} {name_method(rows['method'].iloc[0])} ({rows['p_best'].iloc[0]:.2g})")
            continue
        clear = rows[rows["p_best"] >= CLEAR].to_dict("records")
        named = join(f"{name_method(row['method'])} on {name_dataset(row['dataset'])}" for row in clear)
        parts.append(f"{kind} {len(clear)} of {len(rows)} data sets{f' ({named})' if named else ''}")
    found = f"One method is the best with a probability of {CLEAR:g} or more, or the likeliest of a mean: "
    return f"{found}{'; '.join(parts) or 'nowhere'}.{style.say_no_vote(firsts)}"


BEST = {"measured": "problems resampled", "predicted": "one new run of each"}


def _say_best(table: pd.DataFrame) -> str:
    measured, predicted = (table[table["kind"] == kind] for kind in BEST)
    parts = [say_clearly_best(measured[measured["is_drawn"].astype(str).eq("True")])]
    known = predicted.dropna(subset=["p_best"])
    if len(known):
        parts.append(f"At {size_label(known['n_params_base'].max())}: {say_clearly_best(known)}")
    return " ".join([*parts, say_refused(predicted).strip()]).strip()


def _best_rows(ranks: pd.DataFrame, best: pd.DataFrame) -> pd.DataFrame:
    require_rows(ranks, "best_method", "primary scores")
    if (ranks["n_seeds"] == 1).all():
        ranks = ranks.drop(columns="n_seeds")
    fullest = ranks[ranks["n_methods"] == ranks.groupby("dataset")["n_methods"].transform("max")]
    chosen = fullest.groupby("dataset")["n_params_base"].max()
    is_drawn = (ranks["n_params_base"] == ranks["dataset"].map(chosen)) & (ranks["n_methods"] > 1)
    require_rows(ranks[is_drawn], "best_method", "primary scores of several methods at one size")
    if best.empty:
        return ranks.assign(kind="measured", is_drawn=is_drawn)
    predicted = best.rename(columns={"n_params": "n_params_base"}).assign(kind="predicted", is_drawn=True)
    return pd.concat([ranks.assign(kind="measured", is_drawn=is_drawn), predicted], ignore_index=True)


@figure(
    "best_method",
    notebook="predictions",
    title="Probability of being the best method",
    question="Which method is the best of those measured, and which will be at a size that nobody has trained?",
    caption="Left: share of 2,000 bootstrap resamples of problems in which a method has the highest primary score, at "
    "the largest size at which most methods were measured; it covers the choice of problems and, of several seeds, "
    "other training runs. "
    "Right: probability that one new run of a method is the best at a larger size ({target}, or the held-out size of a "
    "grid out of its reach): share of joint draws. Data sets without a vote are left out, and those that no back-test "
    "can check are not predicted; an empty cell is a method that was not measured.",
    answer=_say_best,
    fitted=("p_best", "value", *BARS, "n_params_base", "reach", "expected_regret"),
    rows=_best_rows,
)
def best_method(table: pd.DataFrame) -> Figure:
    """Draw each method's probability of being the best, measured and predicted; all sizes are in the table."""
    drawn = style.keep_voting(table[table["is_drawn"].astype(str).eq("True") & table["p_best"].notna()])
    keys = _keys(drawn)
    methods = order_methods(drawn["method"])
    kinds = [kind for kind in BEST if kind in set(drawn["kind"])]
    figure, axes = style.small_multiples(
        len(kinds), len(kinds), row_height=max(0.19 * len(keys) + 0.9, 2.2), sharey=True
    )
    for panel, kind in zip(axes, kinds, strict=True):
        rows = drawn[drawn["kind"] == kind]
        grid = rows.pivot(index=["grid", "dataset"], columns="method", values="p_best")
        grid = grid.reindex(index=pd.MultiIndex.from_tuples(keys), columns=methods)
        grid.index, grid.columns = _best_labels(drawn, keys), [name_method(method) for method in methods]
        looks, label = PROBABILITIES, "P(best)"
        if len(methods) > _MOST_NUMBERED:
            looks |= {"annot": (100 * grid).map(lambda p: f"{p:.0f}" if p >= 0.5 else ""), "fmt": ""}
            label = "P(best); numbers in %"
        style.heat_map(panel, grid, cbar=kind == kinds[-1], cbar_kws={"label": label}, **looks)
        panel.tick_params(axis="x", rotation=60 if set(methods) <= set(METHODS) else 90)
        sizes = rows.groupby("grid", sort=False)["n_params_base"].max().map(size_label)
        at = "; ".join(f"{name} at {size}" for name, size in sizes.items())
        where = at if kind == "predicted" else "at the largest size of most methods"
        words = f"{count(rows['method'].nunique(), 'method')}, {BEST[kind]}\n{where}"
        style.label_panel(panel, f"P(best), {kind}", words)
    return figure


def _keys(*tables: pd.DataFrame) -> list[tuple[str, str]]:
    """Return grids and data sets of tables, grid by grid."""
    whole = pd.concat([table[["grid", "dataset"]] for table in tables])
    keys = dict.fromkeys(zip(whole["grid"], whole["dataset"], strict=True))
    return sorted(keys, key=lambda key: list(dict.fromkeys(whole["grid"])).index(key[0]))


def _best_labels(drawn: pd.DataFrame, keys: Sequence[tuple[str, str]]) -> list[str]:
    measured, several = drawn[drawn["kind"] == "measured"], drawn["grid"].nunique() > 1
    sizes = measured.drop_duplicates(["grid", "dataset"]).set_index(["grid", "dataset"])["size"]
    labels = []
    for grid, name in keys:
        where = f"{grid} " * (several and grid != RELEASED) + str(sizes.get((grid, name), ""))
        label = style.shorten(name_dataset(name), 32)
        labels.append(f"{label}, {where}" if where else label)
    return labels


def _say_choices(table: pd.DataFrame) -> str | None:
    choices = table[table["kind"] == "choice"]
    rows = choices[choices["is_drawn"].astype(str).eq("True") & (choices["rule"] == _MEASURED)]
    if rows.empty:
        return None
    parts = [
        f"{kind} {int(own['is_right'].astype(bool).sum())} of {len(own)} cases, "
        f"{100 * own['regret'].mean():.1f} points (a random choice {100 * own['regret_random'].mean():.1f})"
        for kind, own in style.split_kinds(keep_shares(rows))
    ]
    found = "The best method of a smaller size is best at the largest too, and its mean regret in points of 100 is: "
    found = f"{found}{'; '.join(parts)}." if parts else ""
    for _, own in rows.drop(keep_shares(rows).index).groupby("metric", sort=False):
        names = join(dict.fromkeys(map(name_dataset, own["dataset"])))
        found += (
            f" On {names} it is in {int(own['is_right'].astype(bool).sum())} of {len(own)} cases, with "
            f"a mean regret of {own['regret'].mean():.2g} (a random choice {own['regret_random'].mean():.2g})."
        )
    return f"{found}{_say_order(table[table['kind'] == 'order'])}{style.say_no_vote(rows)}".strip() or None


def _say_order(table: pd.DataFrame) -> str:
    rows = table[table["statistic"] == "spearman"].dropna(subset=["p_value"]) if "statistic" in table else table
    if rows.empty:
        return ""
    parts = [f"{kind} {int((own['p_holm'] < 0.05).sum())} of {len(own)}" for kind, own in style.split_kinds(rows)]
    return (
        " The order of methods correlates with that at the largest size (p < 0.05, corrected for their number) in "
        f"pairs of data set and smaller size: {'; '.join(parts) or 'none'}."
    )


def _choice_rows(choices: pd.DataFrame, transfers: pd.DataFrame) -> pd.DataFrame:
    require_rows(choices, "small_model_choices", "scores of two methods at two sizes")
    largest = choices.groupby("dataset")["n_params_large"].transform("max")
    choices = choices.assign(kind="choice", is_drawn=choices["n_params_large"] == largest)
    if transfers.empty:
        return choices
    return pd.concat([choices, transfers.assign(kind="order")], ignore_index=True)


@figure(
    "small_model_choices",
    notebook="predictions",
    title="Choosing a method by small models",
    question="What comes of choosing a method by small models?",
    caption="Left: Spearman's rank correlation of methods between each smaller size and the largest (dots, darker for "
    "sizes nearer to it) and what it would be without the noise of the problems asked: {level} interval of scores "
    "shrunk by their noise and then ranked. Right: score given up at the largest size by the method that is best at a "
    "smaller one, with {level} percentile intervals over problems; the tick is a random choice. Kendall's tau, losses, "
    "methods predicted best and all other pairs of sizes are in the table.",
    answer=_say_choices,
    fitted=("p_right", "regret", "regret_lower", "regret_upper", "regret_random", *PAIRS, *ORDER),
    rows=_choice_rows,
)
def small_model_choices(table: pd.DataFrame) -> Figure:
    """Draw how the order of methods at smaller sizes carries over to the largest, and what a choice there gives up."""
    voting = style.keep_voting(table)
    order = voting[voting["kind"] == "order"]
    order = order[order["statistic"] == "spearman"] if len(order) else order
    chosen = voting[voting["is_drawn"].astype(str).eq("True") & (voting["rule"] == _MEASURED)]
    regret = keep_shares(chosen)
    if regret.empty and order.empty:
        regret = chosen[chosen["metric"] == chosen["metric"].iloc[0]]
    keys = _keys(order, regret)
    panels = [
        (order, ("value", *BARS), "Order of methods", "Spearman's rho with the largest size"),
        (regret, ("regret", "regret_lower", "regret_upper"), "Regret of the best at a smaller size", "score given up"),
    ]
    panels = [panel for panel in panels if len(panel[0])]
    figure, axes = style.small_multiples(len(panels), 2, row_height=max(0.27 * len(keys) + 0.7, 1.9), sharey=True)
    for panel, (rows, names, title, label) in zip(axes, panels, strict=True):
        for place, (grid, dataset) in enumerate(keys):
            own = rows[(rows["grid"] == grid) & (rows["dataset"] == dataset)].sort_values("n_params_small")
            _draw_sizes(panel, own[list(names)].astype(float).to_numpy(), place)
            if rows is regret:
                panel.plot(own["regret_random"].astype(float), [place] * len(own), "|", color=GREY, markersize=11)
        panel.axvline(0, color="0.3", linewidth=0.8)
        style.label_panel(panel, title, f"{span(rows['n_methods'])} methods", xlabel=label)
    several = table["grid"].nunique() > 1
    shown = [(grid, style.shorten(name_dataset(name), 32)) for grid, name in keys]
    labels = [label + f", {grid}" * (several and grid != RELEASED) for grid, label in shown]
    axes[0].set_yticks(range(len(keys)), labels)
    axes[0].set_ylim(len(keys) - 0.4, -0.6)
    words = ("three or more sizes below the largest", "two sizes", "one size")
    handles = [style.handle(label, color=shade, marker="o") for shade, label in zip(_SHADES, words, strict=True)]
    handles.append(style.handle("random choice", marker="|", markersize=9, linestyle=""))
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    return figure


def _draw_sizes(panel: Axes, values: np.ndarray, place: int) -> None:
    """Draw (value, lower, upper) of smaller sizes, the largest last, in a row; nearer ones darker."""
    for step, (value, lower, upper) in enumerate(values[::-1]):
        height, colour = place - 0.22 * min(step, 2) + 0.22, _SHADES[::-1][min(step, 2)]
        panel.plot([lower, upper], [height, height], color=colour, linewidth=1.0)
        panel.plot(value, height, "o", color=colour, markersize=3.2)


def _say_frontier(table: pd.DataFrame) -> str | None:
    measured = table[(table["kind"] == "measured") & table["on_frontier"].astype(bool)]
    measured = style.keep_voting(measured[measured["dataset"] != MEAN_GENERATION])
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
    f"both. Of each grid the mean, the loss and the next data sets, {_MOST_COSTS} at most; all are in the table.",
    answer=_say_frontier,
    fitted=("n_params_base", "cost_value", "value", *BARS, "p_frontier"),
    rows=lambda frontier: frontier,
)
def cost_performance(table: pd.DataFrame) -> Figure:
    """Draw score against cost, measured and predicted, and the models that no other beats in both."""
    panels = []
    for grid, own in style.split_grids(table):
        names = sorted(
            dict.fromkeys(style.keep_voting(own)["dataset"]), key=lambda name: name not in (MEAN_GENERATION, LOSS)
        )
        panels += [(grid, name, own[own["dataset"] == name]) for name in names[:_MOST_COSTS]]
    figure, axes = style.small_multiples(len(panels), min(_MOST_COSTS, len(panels)), row_height=2.0)
    for panel, (grid, name, rows) in zip(axes, panels, strict=True):
        _draw_costs(panel, rows)
        counts = rows["kind"].value_counts()
        predicted = "not predicted" if counts.get("refused", 0) else count(counts.get("predicted", 0), "prediction")
        words = f"{name_grid(grid)}\n{count(counts.get('measured', 0), 'model')}, {predicted}"
        axes_labels = {"xlabel": _COST_LABELS[rows["cost"].iloc[0]], "ylabel": METRICS[rows["metric"].iloc[0]].label}
        style.label_panel(
            panel, textwrap.fill(style.shorten(name_dataset(name), 32), 20), words, reserve=2, **axes_labels
        )
    handles = [
        style.handle("measured", marker="o", linestyle=""),
        style.handle("predicted at the target", marker="o", markerfacecolor="white", linestyle=""),
        style.handle("not beaten by a measured model", color="black", linewidth=0.8),
    ]
    style.method_legend(figure, table["method"].dropna(), handles)
    return figure


def _draw_costs(panel: Axes, rows: pd.DataFrame) -> None:
    for row in rows[rows["kind"] != "refused"].to_dict("records"):
        look, is_measured = METHOD_STYLES[row["method"]], row["kind"] == "measured"
        panel.plot([row["cost_value"]] * 2, [row["lower"], row["upper"]], color=look.colour, linewidth=0.6, alpha=0.6)
        face = look.colour if is_measured else "white"
        panel.plot(row["cost_value"], row["value"], look.marker, color=look.colour, markerfacecolor=face, markersize=4)
    measured = rows[rows["kind"] == "measured"].sort_values("cost_value")
    is_lower_better = METRICS[rows["metric"].iloc[0]].higher_is_better is False
    best = measured["value"].cummin() if is_lower_better else measured["value"].cummax()
    panel.step(measured["cost_value"], best, where="post", color="black", linewidth=0.8, zorder=1)
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(mpl.ticker.LogLocator(numticks=5))
    panel.xaxis.set_major_formatter(lambda number, _: size_label(number) if number < 1e15 else f"{number:.0e}")
    panel.xaxis.set_minor_locator(mpl.ticker.NullLocator())


def _say_verdicts(table: pd.DataFrame) -> str:
    pooled = table[table["part"] == "pooled"]
    parts = []
    for scope, rows in pooled.groupby("scope", sort=False):
        counts = join(f"{n} {verdict}" for verdict, n in rows["verdict"].value_counts().items())
        parts.append(f"{scope.capitalize()}: {counts}.")
    return " ".join(parts)


def _claim_rows(judgements: Sequence[Judgement]) -> pd.DataFrame:
    """Return a row for every claim and part; one without numbers for a claim that was not tested."""
    frames = [judgement_frame(judgements), judgement_frame(judgements, parts=True)]
    table = pd.concat([frame for frame in frames if len(frame)], ignore_index=True)
    require_rows(table[table["effect"].notna()], "claim_effects", "a claim that can be tested")
    return table


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
    rows=_claim_rows,
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
def claim_effects(table: pd.DataFrame) -> Figure:
    """Draw the effect of every claim that could be tested, pooled and part by part: a panel a claim."""
    tested = table[table["effect"].notna()]
    shown = tested[(tested["part"] == "pooled") | (tested["scope"] == THESE)]
    panels = list(shown.groupby("claim", sort=False))
    # Panels of a row are as tall as the one with most parts.
    panels.sort(key=lambda named: -len(named[1]))
    heights = [max(len(rows) for _, rows in panels[place : place + 2]) for place in range(0, len(panels), 2)]
    grid, n_suites = {"height_ratios": heights}, table["suite"].nunique()
    # A line of each part, and what stands above and below a panel.
    row_height = 0.1 * float(np.mean(heights)) + 1.0 + 0.4 * n_suites
    figure, axes = style.small_multiples(len(panels), 2, row_height=row_height, gridspec_kw=grid)
    several = n_suites > 1
    for panel, (name, rows) in zip(axes, panels, strict=True):
        _draw_claim(panel, rows, table[(table["claim"] == name) & (table["part"] == "pooled")], several)
    return figure


def _draw_claim(panel: Axes, rows: pd.DataFrame, verdicts: pd.DataFrame, several: bool) -> None:
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
    suites = [f"{row['suite']}: " * (several and row["part"] == "pooled") for row in shown]
    names = [f"pooled, {row['scope']}" if row["part"] == "pooled" else _name_part(row["part"]) for row in shown]
    panel.set_yticks(np.arange(len(shown)), [f"{a}{b}" for a, b in zip(suites, names, strict=True)], fontsize=6)
    panel.set_ylim(-0.6, len(shown) - 0.4)
    panel.xaxis.set_major_locator(mpl.ticker.MaxNLocator(5))
    panel.set_xlabel(rows["unit"].iloc[0], fontsize=6.5)
    said = []
    for suite, own in verdicts.groupby("suite", sort=False):
        found = [
            f"{row.scope} {row.verdict}"
            + (f" (p {row.p_corrected:.2g})" if pd.notna(row.p_corrected) and row.verdict != "contradicted" else "")
            for row in own.itertuples()
        ]
        said.append(f"{suite}: " * several + "; ".join(found))
    words = f"{span(rows['n'].dropna())} {CLAIMS[rows['claim'].iloc[0]].counted}"
    title = textwrap.fill(rows["statement"].iloc[0], 33)
    style.label_panel(panel, title, "\n".join([*said, words]), reserve=4, beside=130)


def _name_part(name: str) -> str:
    if name in DATASETS:
        return DATASETS[name].title
    if name in METHOD_STYLES:
        return style.plain(METHOD_STYLES[name].label)
    return _COST_LABELS.get(name, name.removeprefix("t0.2,n20,").replace(",", ", ").replace("_", " "))
