"""Robustness and security: ReCode, the embedded suite's changed prompts, and flaws in programs."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from astraios_analysis.figures.spec import (
    BARS,
    INTERVAL,
    average_models,
    figure,
    find_ends,
    keep_largest,
    require_rows,
    round_table,
)
from astraios_analysis.figures.style import (
    GREY,
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
    note,
    size_label,
    small_multiples,
    start_at_zero,
    twin_columns,
)
from astraios_analysis.figures.tasks import COLUMNS
from astraios_analysis.records.registry import DATASETS, METRICS
from astraios_analysis.scores.models import keep_means, seed_words

RECODE = ("recode_format", "recode_function", "recode_syntax")
EMBEDDED = tuple(name for name, known in DATASETS.items() if (known.kind, known.suite) == ("robustness", "embedded"))
MEASURES = (
    ("nominal", "pass@1", "nominal pass@1"),
    ("all_transformations", "robust_pass@1", "robust pass@1"),
    ("all_transformations", "robust_drop@1", "relative drop"),
)
_SUMMARIES = ("nominal", "all_transformations", "mean_over_transformations")
_MIN_MODELS = 3
_RELEASED = (
    ("insecure_rate", "t0.2,n20,longest_prefix,own_weakness", "Insecure: own weakness"),
    ("insecure_rate", "t0.2,n20,longest_prefix,all_rules", "Insecure: any rule"),
    ("parse_rate", "t0.2,n20,longest_prefix", "Valid programs"),
)
_SECURITY = (
    ("insecure_rate", "untrusted", "Insecure, input from outside"),
    ("insecure_rate", "trusted", "Insecure, input of one's own"),
    ("valid_rate", "all", "Valid programs"),
)


def _say_drops(table: pd.DataFrame) -> str | None:
    drops, parts = table[table["measure"] == "relative drop"], []
    for dataset, rows in average_models(drops, "value", "dataset").groupby("dataset", sort=False):
        largest = keep_largest(rows)
        parts.append(f"{100 * largest['value'].mean():.0f} % on {name_dataset(dataset)} ({largest['size'].iloc[0]})")
    return f"The mean over methods loses of what it solves, at the largest size: {join(parts)}." if parts else None


@figure(
    "recode_categories",
    notebook="robustness_security",
    title="Robustness by ReCode category",
    question="How much do changed prompts cost?",
    caption="Nominal pass@1, robust pass@1 (solved under every transformation and seed of the category) and relative "
    f"drop (nominal - robust) / nominal, against base size. {INTERVAL.split('; they')[0]}.",
    answer=_say_drops,
    fitted=BARS,
)
def recode_categories(scores: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw nominal and robust pass@1 and the relative drop by size: a row a measure, a column a ReCode category."""
    return _draw_categories(scores, RECODE, "recode_categories")


@figure(
    "embedded_robustness",
    notebook="robustness_security",
    title="Robustness on the embedded suite",
    question="How much do changed prompts and programs cost?",
    caption="Nominal pass@1, robust pass@1 (solved under every change of the category) and relative drop (nominal - "
    "robust) / nominal, absent where nothing was solved, against base size. Large points are means over seeds with "
    "{level} bootstrap intervals over problems, small ones single seeds.",
    answer=_say_drops,
    fitted=("value", *BARS),
)
def embedded_robustness(scores: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw nominal and robust pass@1 and the relative drop by size for the embedded suite's changed prompts."""
    return _draw_categories(scores, EMBEDDED, "embedded_robustness")


def _draw_categories(scores: pd.DataFrame, categories: Sequence[str], name: str) -> tuple[Figure, pd.DataFrame]:
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
        draw_models(panel, rows, scores["n_params_base"], label=position >= len(axes) - len(shown))
        panel.set_title(DATASETS[dataset].title, loc="left")
        problems = f"\n{rows['n_items'].iloc[0]} problems" if len(rows) else ""
        note(panel, f"{describe_models(models_in(rows), suite)}{problems}{in_seeds(rows)}", width=54, reserve=2)
        panel.set_ylabel(measure if position % len(shown) == 0 else "")
    start_at_zero(axes)
    bars = interval_handle(table["level"].iloc[0], table["interval"])
    method_legend(figure, table["method"], [bars, *model_handles(table)])
    return figure, table


def _say_changes(table: pd.DataFrame) -> str:
    least, most = find_ends(keep_largest(table), "value")
    ends = [f"{row['setting'].replace('_', ' ')} ({100 * row['value']:.0f} %)" for row in (most, least)]
    return f"At {most['size']}, most by {ends[0]} and least by {ends[1]}."


@figure(
    "recode_transformations",
    notebook="robustness_security",
    title="Relative drop by ReCode transformation",
    question="Which change hurts?",
    caption="Relative drop of pass@1 for each transformation by base size, averaged over the methods measured (number "
    "given where some are missing). No intervals; lowest and highest method are in the table.",
    answer=_say_changes,
    fitted=("value",),
)
def recode_transformations(scores: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw the relative drop of each ReCode transformation by size, averaged over the methods measured."""
    words = "worst of 5 seeds where random; negative: the change helps"
    return _draw_transformations(scores, RECODE, "recode_transformations", words)


@figure(
    "embedded_transformations",
    notebook="robustness_security",
    title="Relative drop by change of the prompt",
    question="Which change hurts?",
    caption="Relative drop of pass@1 for each change by base size, averaged over the methods that solved anything "
    "(number given where some did not). No intervals; lowest and highest method are in the table.",
    answer=_say_changes,
    fitted=("value", "lowest", "highest"),
)
def embedded_transformations(scores: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw the relative drop of each change by size, averaged over the methods that solved anything unchanged."""
    return _draw_transformations(scores, EMBEDDED, "embedded_transformations", "negative: the change helps")


def _draw_transformations(
    scores: pd.DataFrame, categories: Sequence[str], name: str, words: str
) -> tuple[Figure, pd.DataFrame]:
    """Draw a heat map of relative drops; the twin has the mean over methods, ``lowest``, ``highest``, ``n_methods``."""
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
    limit = max(float(np.nanmax(grid.abs().to_numpy())), 0.01)
    grid.columns = [size_label(size) for size in grid.columns]
    looks = {"vmin": -limit, "vmax": limit, "cmap": "RdBu_r", "annot": text, "fmt": "", "linewidths": 0.4}
    bar = {"label": "relative drop of pass@1"}
    figure, axes = heat_map(grid, 0.2 * len(grid) + 0.6, annot_kws={"fontsize": 6.5}, cbar_kws=bar, **looks)
    axes.set_xlabel("base model parameters")
    axes.set_title("Relative drop by transformation", loc="left")
    runs = f" ({seed_words(scores)} each)" if seed_words(scores) else ""
    note(axes, f"mean over {most} methods{runs} unless said; {words}", width=110)
    return figure, table.drop(columns="label")


def _say_security(table: pd.DataFrame) -> str:
    parts = []
    for setting, words in (
        (_RELEASED[0][1], "of the kind that their scenario asks about"),
        (_RELEASED[1][1], "at all"),
    ):
        largest = keep_largest(table[table["setting"] == setting])
        low, high = (f"{100 * largest['value'].agg(end):.0f}" for end in ("min", "max"))
        parts.append(f"{low} to {high} % have a flaw {words} ({largest['n_items'].iloc[0]} scenarios)")
    size, n = largest["size"].iloc[0], len(largest)
    return f"Of the valid programs of {size} ({n} methods), {join(parts)}; how size matters is a claim that is tested."


@figure(
    "security",
    notebook="robustness_security",
    title="Security: Asleep at the Keyboard",
    question="How many programs have a flaw?",
    caption="Share of valid programs in which bandit finds a flaw of medium or high severity in what the model wrote: "
    "by the rules that concern the scenario's own weakness, over the Python scenarios that have such rules; by every "
    "rule, over all of them; and the share of programs that is valid. A completion that does not parse is cut after "
    "the last line up to which it does. {level} percentile intervals from bootstrap resamples of scenarios.",
    answer=_say_security,
    fitted=BARS,
)
def security(scores: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw the insecure share of valid completions by size and method, and the share of completions that is valid."""
    own = scores[scores["dataset"] == "aatk"]
    parts = [own[(own["metric"] == metric) & (own["setting"] == setting)] for metric, setting, _ in _RELEASED]
    table = round_table(pd.concat(parts)[COLUMNS])
    require_rows(table, "security", "insecure rates on aatk")
    figure, axes = small_multiples(len(_RELEASED), len(_RELEASED), sharey=True)
    for panel, (_, setting, title) in zip(axes, _RELEASED, strict=True):
        rows = table[table["setting"] == setting]
        draw_models(panel, rows, scores["n_params_base"])
        panel.set_title(title, loc="left")
        panel.set_ylabel("share of valid programs" if title != _RELEASED[2][2] else METRICS["parse_rate"].label)
        panel.set_ylim(-0.04, 1.04)
        shown = describe_models(models_in(rows), models_in(scores)).split(" (")[0]
        note(panel, f"{shown}; {rows['n_items'].iloc[0]} scenarios", width=44)
    method_legend(figure, table["method"], [interval_handle(table["level"].iloc[0], table["interval"])])
    return figure, table


def _say_flaws(table: pd.DataFrame) -> str | None:
    flaws = table[table["metric"] == "insecure_rate"]
    models = average_models(flaws, "value", "setting")
    if models.empty:
        return None
    parts = []
    for setting, rows in models.groupby("setting", sort=False):
        largest = keep_largest(rows)
        own = flaws[(flaws["setting"] == setting) & (flaws["size"] == largest["size"].iloc[0])]
        low, high = (f"{100 * value:.0f}" for value in (largest["value"].min(), largest["value"].max()))
        share = f"{low} %" if low == high else f"{low} to {high} %"
        n = f"{len(largest)} {'method' if len(largest) == 1 else 'methods'}"
        least = f"as few as {int(own['n_items'].min())} programs of a method"
        parts.append(f"{share} where the input is {setting} ({own['size'].iloc[0]}: {n}, {least})")
    return f"Of the valid programs of the largest models, {join(parts)} have a flaw."


@figure(
    "embedded_security",
    notebook="robustness_security",
    title="Security on the embedded suite",
    question="How many programs have a flaw?",
    caption="Share of valid programs in which bandit finds a flaw of medium or high severity, where the input comes "
    "from outside and where it does not, and the share of programs that is valid. Large points are means over seeds "
    "with {level} normal intervals from bootstrap standard errors, small ones single seeds.",
    answer=_say_flaws,
    fitted=("value", *BARS),
)
def embedded_security(scores: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw the insecure share of valid programs by where the input comes from, and the share that is valid.

    Rates that fewer than three models have (none is valid elsewhere) are said in words: a panel would not show more.
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
        draw_models(panel, rows, scores["n_params_base"])
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
    return f"{models}{in_seeds(rows)}\n{items}"
