"""Robustness and security: ReCode, the embedded suite's changed prompts, and flaws in programs."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from astraios_analysis.figures import style
from astraios_analysis.figures.spec import (
    BARS,
    average_models,
    figure,
    find_ends,
    keep_largest,
    require_rows,
    round_table,
)
from astraios_analysis.figures.style import GREY, MAX_PANELS, join, name_dataset, name_grid, size_label, span
from astraios_analysis.figures.tasks import COLUMNS
from astraios_analysis.records.notation import count
from astraios_analysis.records.registry import DATASETS, METRICS
from astraios_analysis.scores.models import keep_means

CATEGORIES = tuple(
    name
    for suite in ("published", "embedded")
    for name, known in DATASETS.items()
    if (known.kind, known.suite) == ("robustness", suite)
)
MEASURES = (
    ("nominal", "pass@1", "nominal pass@1"),
    ("all_transformations", "robust_pass@1", "robust pass@1"),
    ("all_transformations", "robust_drop@1", "relative drop"),
)
_SUMMARIES = ("nominal", "all_transformations", "mean_over_transformations")
_MIN_MODELS = 3
# Of what is solved, a share is lost: of fewer problems a run it says nothing.
_MIN_SOLVED = 5
_MIN_PROGRAMS = 30
_FLOOR = 0.005  # below it nothing can be seen
# Data set, metric, setting, title, and the least number of items that a rate must be of.
RATES = (
    ("aatk", "insecure_rate", "t0.2,n20,longest_prefix,own_weakness", "Own weakness' rules", 0),
    ("aatk", "insecure_rate", "t0.2,n20,longest_prefix,all_rules", "Any rule", 0),
    ("aatk", "parse_rate", "t0.2,n20,longest_prefix", "Valid programs", 0),
    ("embedded_security", "insecure_rate", "untrusted", "Input from outside", _MIN_PROGRAMS),
    ("embedded_security", "insecure_rate", "trusted", "Input of one's own", _MIN_PROGRAMS),
    ("embedded_security", "valid_rate", "all", "Valid programs", 0),
)


def _say_drops(table: pd.DataFrame) -> str | None:
    drops, parts = table[table["measure"] == "relative drop"], []
    for dataset, rows in average_models(drops, "value", "dataset").groupby("dataset", sort=False):
        largest = keep_largest(rows)
        parts.append(f"{100 * largest['value'].mean():.0f} % on {name_dataset(dataset)} ({largest['size'].iloc[0]})")
    return f"The mean over methods loses of what it solves, at the largest size: {join(parts)}." if parts else None


@figure(
    "robustness",
    notebook="robustness_security",
    title="Robustness by category of change",
    question="How much do changed prompts and programs cost?",
    caption="Nominal pass@1, robust pass@1 (solved under every transformation and seed of the category) and relative "
    f"drop (nominal - robust) / nominal, absent where a run solves fewer than {_MIN_SOLVED} problems, against base "
    "size, with {level} percentile intervals from 2,000 bootstrap resamples of problems. Of several seeds large points "
    "are means, small ones runs.",
    answer=_say_drops,
    fitted=("value", *BARS),
)
def robustness(scores: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw nominal and robust pass@1 and the relative drop by size: a row a measure, a column a category of change."""
    parts = []
    for setting, metric, measure in MEASURES:
        chosen = scores["dataset"].isin(CATEGORIES) & (scores["setting"] == setting) & (scores["metric"] == metric)
        own = scores[chosen] if metric != "robust_drop@1" else _solving(scores, chosen)
        parts.append(own[style.twin_columns(scores, COLUMNS)].assign(measure=measure))
    table = round_table(pd.concat(parts, ignore_index=True))
    require_rows(table, "robustness", "scores on changed prompts, nominal and robust")
    shown = [dataset for dataset in CATEGORIES if dataset in set(table["dataset"])][: MAX_PANELS // len(MEASURES)]
    measures = [measure for _, _, measure in MEASURES if measure in set(table["measure"])]
    figure, axes = style.small_multiples(len(measures) * len(shown), len(shown), row_height=1.8, sharey="row")
    for position, panel in enumerate(axes):
        measure, dataset = measures[position // len(shown)], shown[position % len(shown)]
        rows = table[(table["measure"] == measure) & (table["dataset"] == dataset)]
        style.draw_models(panel, rows, scores["n_params_base"], label=position >= len(axes) - len(shown))
        problems = f"\n{rows['n_items'].iloc[0]} problems" if len(rows) else ""
        words = f"{style.describe_models(rows, scores)}{problems}{style.in_seeds(rows)}"
        ylabel = measure if position % len(shown) == 0 else ""
        style.label_panel(panel, DATASETS[dataset].title, words, reserve=2, ylabel=ylabel)
    style.start_at_zero(axes)
    style.method_legend(figure, table["method"], [*style.interval_handles(table), *style.model_handles(table)])
    return figure, table


def _say_changes(table: pd.DataFrame) -> str:
    least, most = find_ends(keep_largest(table), "value")
    ends = [f"{row['setting'].replace('_', ' ')} ({100 * row['value']:.0f} %)" for row in (most, least)]
    return f"At {most['size']}, most by {ends[0]} and least by {ends[1]}."


def _solving(scores: pd.DataFrame, chosen: pd.Series) -> pd.DataFrame:
    """Return the chosen relative drops of models that solve enough problems unchanged."""
    nominal = scores[(scores["setting"] == "nominal") & (scores["metric"] == "pass@1")]
    solved = nominal.assign(solved=nominal["value"] * nominal["n_items"].astype(float))
    by = ["dataset", "size", "method"]
    most = scores[by].merge(solved.groupby(by)["solved"].mean(), how="left", left_on=by, right_index=True)["solved"]
    return scores[chosen & (most.to_numpy() >= _MIN_SOLVED)]


def _transformation_rows(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over methods of each transformation's relative drop, ``lowest``, ``highest``, ``n_methods``."""
    models = keep_means(scores)
    is_change = models["dataset"].isin(CATEGORIES) & ~models["setting"].isin(_SUMMARIES)
    chosen = _solving(models, is_change & (models["metric"] == "robust_drop@1"))
    require_rows(chosen, "transformations", "relative drops on changed prompts")
    groups = chosen.groupby(["dataset", "setting", "size", "n_params_base"], sort=False)["value"]
    table = groups.agg(value="mean", lowest="min", highest="max", n_methods="count").reset_index()
    return table.sort_values(["dataset", "setting", "n_params_base"])


@figure(
    "transformations",
    notebook="robustness_security",
    title="Relative drop by transformation",
    question="Which change hurts?",
    caption="Relative drop of pass@1 for each transformation by base size (worst of five seeds where random), averaged "
    f"over the methods that solve {_MIN_SOLVED} problems a run unchanged (number given where some are missing). "
    "Negative: the change helps. No intervals; lowest and highest method are in the table.",
    answer=_say_changes,
    fitted=("value", "lowest", "highest"),
    rows=_transformation_rows,
)
def transformations(table: pd.DataFrame) -> Figure:
    """Draw a heat map of relative drops a grid."""
    grids = style.split_grids(table)
    rows = [own[["dataset", "setting"]].drop_duplicates().shape[0] for _, own in grids]
    heights = {"height_ratios": [n + 2 for n in rows]}
    figure, axes = style.small_multiples(
        len(grids), 1, row_height=0.17 * sum(rows) / len(rows) + 0.5, gridspec_kw=heights
    )
    limit = max(float(table["value"].abs().max()), 0.01)
    for axis, (grid, own) in zip(axes, grids, strict=True):
        label = own["dataset"].map(name_dataset) + ": " + own["setting"]
        wide = {
            name: own.assign(label=label).pivot(index="label", columns="n_params_base", values=name)
            for name in ("value", "n_methods")
        }
        most = int(own["n_methods"].max())
        text = wide["value"].map(lambda drop: f"{drop:.2f}".replace("-0.00", "0.00"))
        text += wide["n_methods"].map(lambda n, most=most: "" if n == most else f"  (n={n:.0f})")
        shown = wide["value"].rename(columns=size_label)
        looks = {"vmin": -limit, "vmax": limit, "cmap": "RdBu_r", "annot": text, "fmt": "", "linewidths": 0.4}
        style.heat_map(axis, shown, annot_kws={"fontsize": 6}, cbar_kws={"label": "relative drop of pass@1"}, **looks)
        axis.tick_params(axis="y", labelsize=6)
        words = f"mean over {count(most, 'method')} unless said"
        style.label_panel(axis, name_grid(grid), words, xlabel="base model parameters")
    return figure


def _rate(table: pd.DataFrame, place: int) -> pd.DataFrame:
    dataset, metric, setting, _, least = RATES[place]
    chosen = (table["dataset"] == dataset) & (table["metric"] == metric) & (table["setting"] == setting)
    return table[chosen & (table["n_items"].astype(float) >= least)]


def _has_panel(rows: pd.DataFrame) -> bool:
    means = keep_means(rows)
    return len(means) >= _MIN_MODELS and bool((means["value"] > _FLOOR).any())


def _say_security(table: pd.DataFrame) -> str | None:
    parts, size, n = [], "", 0
    for place, (_, metric, _, title, _) in enumerate(RATES):
        largest = average_models(_rate(table, place), "value")
        if metric == "insecure_rate" and len(largest) >= _MIN_MODELS:
            largest = keep_largest(largest)
            ends = dict.fromkeys(f"{100 * largest['value'].agg(end):.0f}" for end in ("min", "max"))
            parts.append(f"{' to '.join(ends)} % by {title[0].lower()}{title[1:]}")
            size, n = largest["size"].iloc[0], len(largest)
    return f"Of the valid programs of {size} ({count(n, 'method')}) have a flaw: {join(parts)}." if parts else None


def _security_rows(scores: pd.DataFrame) -> pd.DataFrame:
    own = scores[scores["dataset"].isin({rate[0] for rate in RATES})]
    keys = {rate[:3] for rate in RATES}
    is_rate = [key in keys for key in zip(own["dataset"], own["metric"], own["setting"], strict=True)]
    own = own[np.array(is_rate, dtype=bool)]
    known = [place for place, rate in enumerate(RATES) if rate[1] == "insecure_rate" and _has_panel(_rate(own, place))]
    needs = f"insecure rates of {_MIN_MODELS} models, each over {_MIN_PROGRAMS} valid programs or a set of scenarios"
    require_rows(own if known else own.iloc[:0], "security", needs)
    return own[style.twin_columns(own, COLUMNS)]


@figure(
    "security",
    notebook="robustness_security",
    title="Security: flaws in programs",
    question="How many programs have a flaw?",
    caption="Share of valid programs in which bandit finds a flaw of medium or high severity. Asleep at the Keyboard: "
    "by the rules that concern the scenario's own weakness, over the Python scenarios that have such rules; by every "
    "rule, over all of them; a completion that does not parse is cut after the last line up to which it does. Embedded "
    f"suite: where the input comes from outside and where it does not, from {_MIN_PROGRAMS} valid programs a run on. "
    "And the share of programs that is valid. {level} intervals from bootstrap resamples of problems.",
    answer=_say_security,
    fitted=("value", *BARS),
    rows=_security_rows,
)
def security(table: pd.DataFrame) -> Figure:
    """Draw the insecure share of valid programs by size and method, and the share of programs that is valid."""
    shown = [
        (grid, place, rows)
        for grid, own in style.split_grids(table)
        for place in range(len(RATES))
        if len(rows := _rate(own, place)) and _has_panel(rows)
    ]
    figure, axes = style.small_multiples(len(shown), min(3, len(shown)), row_height=2.1, sharey=True)
    for panel, (grid, place, rows) in zip(axes, shown, strict=True):
        _, metric, setting, title, _ = RATES[place]
        style.draw_models(panel, rows, rows["n_params_base"])
        panel.set_ylim(-0.04, 1.04)
        if setting == "untrusted":
            panel.axhline(0.5, color=GREY, linewidth=0.9, linestyle=(0, (4, 2)))
        n, n_models = keep_means(rows)["n_items"].astype(int), len(style.models_in(rows))
        what = "scenarios" if setting.startswith("t0.2") else "prompts" if setting == "all" else "programs a run"
        words = f"{name_grid(grid)}: {n_models} models, {span(n)} {what}{style.in_seeds(rows)}"
        style.label_panel(panel, title, words, ylabel=METRICS[metric].label)
    style.method_legend(figure, table["method"], [*style.interval_handles(table), *style.model_handles(table)])
    return figure
