"""Validation cross-entropy by size, step and updated parameters, scores against it, and what budgets buy of it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot
from matplotlib.axes import Axes
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
from astraios_analysis.figures.style import GREY, METHOD_STYLES, join, name_dataset, name_method, size_label
from astraios_analysis.figures.tasks import SCORED
from astraios_analysis.prediction.chain import POOLED, WITHIN, LossRegression
from astraios_analysis.prediction.forecast import fit_outcome
from astraios_analysis.prediction.outcome import record_outcome
from astraios_analysis.records.frame import RunRecord
from astraios_analysis.records.notation import count
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.registry import LOSS, METRICS, find_dataset, order_datasets
from astraios_analysis.records.schema import order_methods
from astraios_analysis.scores.models import keep_means, keep_seeds, seed_words

LOSS_LABEL = "validation loss, nats per token"
_FINAL = ["size", "method", "n_params_base", "n_params_updated", "base_val_loss", "val_loss", "val_loss_se"]
_FINAL += [*BARS, "level"]
# Rows that cost up to so many times more or less than a budget are shown with it.
_NEAR = 1.5
_SCORED = [*SCORED, "val_loss", "val_loss_se", "value", *BARS, "level", "interval", "n_items"]


def _say_loss(table: pd.DataFrame) -> str:
    models = average_models(table[table["kind"] != "line"], "val_loss")
    best, worst = find_ends(keep_largest(models), "val_loss")
    sizes = list(models.groupby("n_params_base"))
    firsts = sum(find_ends(rows, "val_loss")[0]["method"] == best["method"] for _, rows in sizes)
    values = [f"{row['val_loss']:.3g} ({name_method(row['method'])})" for row in (best, worst)]
    if models["method"].nunique() == 1:
        return f"At {best['size']}, {values[0]} nats per token."
    return (
        f"At {best['size']}, from {values[0]} to {values[1]} nats per token; {name_method(best['method'])} has the "
        f"lowest loss at {firsts} of {len(sizes)} sizes."
    )


@figure(
    "cross_entropy",
    notebook="cross_entropy",
    title="Validation cross-entropy by size",
    question="How does the final loss depend on size and method?",
    caption="Final validation loss against the parameters of the base model, embeddings included, both axes "
    "logarithmic; dotted: the untuned base models. Large points are means over seeds with {level} normal intervals "
    "over validation tokens, small ones single seeds. Curves are what `astraios predict` says, laws and ways to pool "
    "methods averaged, with {level} confidence bands (where the law is, not where a new run falls); dashed beyond the "
    "fitted sizes. Hollow sizes are held out and take no part.",
    answer=_say_loss,
    fitted=("val_loss", "base_val_loss", *BARS),
)
def cross_entropy(losses: pd.DataFrame, runs: Sequence[RunRecord], level: float) -> tuple[Figure, pd.DataFrame]:
    """Draw final loss by base size: all methods, then one panel each with its line and confidence band.

    The twin has rows of kind seed, mean or run (one run a model), and line.
    """
    require_rows(losses, "cross_entropy", "validation losses")
    measured = losses[style.twin_columns(losses, _FINAL)]
    measured = measured if "kind" in measured else measured.assign(kind="run")
    lines = _law_rows(runs, losses, level)
    table = round_table(pd.concat([measured, lines], ignore_index=True) if len(lines) else measured)
    methods = order_methods(measured["method"])
    alone = methods[: style.MAX_PANELS - 1]
    figure, axes = style.small_multiples(len(alone) + 1, 4, row_height=1.95, sharex=True, sharey=True)
    points = table[table["kind"] != "line"]
    _all_methods(axes[0], points[points["kind"] != "seed"], len(alone))
    for panel, method in zip(axes[1:], alone, strict=True):
        _one_method(panel, table[table["method"] == method])
    for position, panel in enumerate(axes):
        is_lowest = position + 4 >= len(axes)
        style.size_axis(panel, points["n_params_base"], label=is_lowest)
        # Shared axes leave out the numbers above a place without a panel.
        panel.tick_params(axis="x", labelbottom=is_lowest)
        style.plain_log(panel)
        panel.set_ylabel(LOSS_LABEL if position % 4 == 0 else "")
    has_base = bool(losses["base_val_loss"].notna().any())
    handles = [style.handle("base model, untuned", linestyle=":")] * has_base + style.model_handles(losses)
    if len(lines):
        handles.append(style.handle(f"law and {100 * level:g} % confidence band", linewidth=1.1))
        handles += [style.handle("extrapolated", linewidth=1.1, linestyle="--")] * bool(lines["is_extrapolated"].any())
    style.method_legend(figure, methods, handles)
    return figure, table


def _law_rows(runs: Sequence[RunRecord], losses: pd.DataFrame, level: float) -> pd.DataFrame:
    """Return the predicted law of each method with the band of its mean; nothing where sizes are too few."""
    try:
        fitted = fit_outcome(record_outcome(runs, LOSS))
    except Refusal:
        return pd.DataFrame()
    ends = float(losses["n_params_base"].min()), float(losses["n_params_base"].max())
    law, parts = max(fitted.weights, key=fitted.weights.get), []
    for size in style.law_sizes([*ends, *fitted.outcome.points.sizes]):
        found = fitted.intervals(float(size), (level,))
        bounds = dict(zip(BARS, found.bounds["mean", level], strict=True))
        beyond = not fitted.x_range[0] <= size <= fitted.x_range[1]
        row = {"method": found.methods, "n_params_base": size, "val_loss": found.median, **bounds}
        parts.append(pd.DataFrame(row | {"level": level, "law": law, "is_extrapolated": beyond}))
    return pd.concat(parts, ignore_index=True).assign(kind="line")


def _all_methods(panel: Axes, models: pd.DataFrame, n_alone: int) -> None:
    base = models.groupby("n_params_base")["base_val_loss"].mean()
    panel.plot(base.index.astype(float), base, color=GREY, linestyle=":", linewidth=1.1)
    for method, own in models.groupby("method", sort=False):
        own = own.sort_values("n_params_base")
        colour = METHOD_STYLES[method].colour
        panel.plot(own["n_params_base"].astype(float), own["val_loss"], color=colour, linewidth=0.9)
        for part, hollow in zip(style.split_held_out(own), (False, True), strict=True):
            style.draw_markers(panel, part["n_params_base"], part["val_loss"], method, hollow=hollow)
    words = seed_words(models.assign(kind="mean")) if "n_seeds" in models else "one run a model"
    rest = f"; {n_alone} have panels" if models["method"].nunique() > n_alone else ""
    style.label_panel(panel, "All methods", f"{style.describe_models(models)}\n{words}{rest}", reserve=2)


def _one_method(panel: Axes, rows: pd.DataFrame) -> None:
    method = rows["method"].iloc[0]
    look, models = METHOD_STYLES[method], rows[~rows["kind"].isin(["line", "seed"])]
    base = models.sort_values("n_params_base")
    panel.plot(base["n_params_base"].astype(float), base["base_val_loss"], color=GREY, linestyle=":", linewidth=1.1)
    line = rows[rows["kind"] == "line"].sort_values("n_params_base")
    if len(line):
        n_params, (lower, upper) = line["n_params_base"].astype(float), (line[name].astype(float) for name in BARS)
        inside = n_params[~line["is_extrapolated"].astype(bool)]
        style.draw_law(panel, n_params, line["val_loss"], (inside.min(), inside.max()), look.colour)
        panel.fill_between(n_params, lower, upper, color=look.colour, alpha=0.15, linewidth=0)
    seeds = rows[rows["kind"] == "seed"]
    style.draw_seeds(panel, seeds["n_params_base"].astype(float), seeds["val_loss"], method)
    for part, hollow in zip(style.split_held_out(models), (False, True), strict=True):
        x, known = part["n_params_base"].astype(float), part["lower"].notna()
        bars = part[known]
        panel.vlines(x[known], bars["lower"], bars["upper"], color=look.colour, linewidth=0.8, zorder=2.8)
        style.draw_markers(panel, x, part["val_loss"], method, hollow=hollow, size=3.4)
    style.label_panel(panel, look.label, _law_words(line), reserve=2)


def _law_words(line: pd.DataFrame) -> str:
    if line.empty:
        return "no law: fewer than three fitted sizes"
    law, pooling = line["law"].iloc[0].replace("_", " ").split("/")
    return f"mostly {law},\n{pooling}"


def _say_steps(table: pd.DataFrame) -> str:
    curves = table.groupby(["size", "method", *(c for c in ("seed", "kind") if c in table)], sort=False)
    lowest = [rows.loc[rows["loss"].idxmin(), "step"] == rows["step"].max() for _, rows in curves]
    return f"In {sum(lowest)} of {len(lowest)} curves the last validation loss is the lowest."


@figure(
    "cross_entropy_by_step",
    notebook="cross_entropy",
    title="Validation cross-entropy by step",
    question="Does the loss still fall at the last step?",
    caption="Validation loss by optimiser step, one panel a size, axes shared; step 0 is the untuned base model. Thick "
    "lines are means over seeds, thin ones single seeds.",
    answer=_say_steps,
    fitted=("loss",),
)
def cross_entropy_by_step(curves: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw validation loss by optimiser step, one panel a size; step 0 is the untuned base model."""
    require_rows(curves, "cross_entropy_by_step", "validation curves")
    columns = style.twin_columns(curves, ["size", "method", "n_params_base", "step", "loss", "stderr"])
    table = round_table(curves[columns])
    sizes = sorted(set(table["n_params_base"]))
    n_columns = min(len(sizes), 3)
    figure, axes = style.small_multiples(len(sizes), n_columns, row_height=2.1, sharex=True, sharey=True)
    for position, (panel, n_params) in enumerate(zip(axes, sizes, strict=True)):
        rows = table[table["n_params_base"] == n_params]
        for method, own in rows.groupby("method", sort=False):
            _draw_curves(panel, own, method)
        size, is_held_out = rows["size"].iloc[0], len(style.split_held_out(rows)[1]) > 0
        title = f"{size}, {size_label(n_params)} parameters{', held out' if is_held_out else ''}"
        words = f"{count(rows['method'].nunique(), 'method')}{style.in_seeds(rows) or ', one run each'}"
        style.label_panel(panel, title, words, ylabel=LOSS_LABEL if position % n_columns == 0 else "")
        style.plain_log(panel)
        is_lowest = position + n_columns >= len(sizes)
        panel.set_xlabel("optimiser step (0: base model)" if is_lowest else "")
        # Shared axes leave out the numbers above a place without a panel.
        panel.tick_params(axis="x", labelbottom=is_lowest)
    handles = [style.handle("mean over seeds", linewidth=1.2), style.handle("one seed", linewidth=0.5, alpha=0.6)]
    style.method_legend(figure, table["method"], handles if len(keep_seeds(table)) else [])
    return figure, table


def _draw_curves(panel: Axes, rows: pd.DataFrame, method: str) -> None:
    look = METHOD_STYLES[method]
    seeds = keep_seeds(rows)
    for _, own in seeds.groupby("seed") if len(seeds) else []:
        panel.plot(own["step"], own["loss"], color=look.colour, linewidth=0.4, alpha=0.5, zorder=2)
    mean = keep_means(rows).sort_values("step")
    every = max(len(mean) // 6, 1)
    panel.plot(
        mean["step"],
        mean["loss"],
        color=look.colour,
        linewidth=1.1,
        marker=look.marker,
        markersize=3.2,
        markevery=(style.find_place(method) % every, every),
        markeredgecolor="white",
        markeredgewidth=0.3,
        zorder=3,
    )


def _say_updated(table: pd.DataFrame) -> str | None:
    models = average_models(table, "val_loss", "n_params_updated")
    found = [
        (rows["size"].iloc[0], rows["n_params_updated"].corr(rows["val_loss"], method="spearman"))
        for _, rows in models.groupby("n_params_base")
        if len(rows) > 2
    ]
    if not found:
        return None
    listed = join(f"{value:.2f} at {size}" for size, value in found)
    return f"Spearman's correlation of updated parameters and loss among the methods of one size is {listed}."


@figure(
    "cross_entropy_by_updated_parameters",
    notebook="cross_entropy",
    title="Validation cross-entropy against updated parameters",
    question="Do more updated parameters mean less loss?",
    caption="Final validation loss against the number of updated parameters and their share of the tuned model, axes "
    "logarithmic; points grow with the base model. Large points are means over seeds, small pale ones single seeds; "
    "intervals over validation tokens are in the table.",
    answer=_say_updated,
    fitted=("val_loss", "base_val_loss", *BARS, "percent_updated"),
)
def cross_entropy_by_updated_parameters(losses: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw final loss against the number and the share of updated parameters."""
    require_rows(losses, "cross_entropy_by_updated_parameters", "validation losses")
    share = 100 * losses["n_params_updated"].astype(float) / losses["n_params"].astype(float)
    columns = style.twin_columns(losses, [*_FINAL[:4], "n_params", "percent_updated", *_FINAL[4:]])
    table = round_table(losses.assign(percent_updated=share)[columns])
    figure, panels = style.small_multiples(2, 2, row_height=3.0, sharey=True)
    sizes = sorted(set(table["n_params_base"]))
    for panel, column in zip(panels, ("n_params_updated", "percent_updated"), strict=True):
        panel.set_xscale("log")
        _points(panel, table, column, "val_loss", sizes)
        style.plain_log(panel)
    number, percent = panels
    style.plain_log(number, "x", size_label)
    style.plain_log(percent, "x")
    words = f"{style.describe_models(table)}{style.in_seeds(table)}"
    style.label_panel(number, "Number of updated parameters", words, xlabel="updated parameters", ylabel=LOSS_LABEL)
    style.label_panel(percent, "Share of the tuned model", words, xlabel="updated, % of all parameters")
    style.method_legend(figure, table["method"], [*style.model_handles(table), *style.size_handles(table)])
    return figure, table


def _say_loss_performance(table: pd.DataFrame) -> str | None:
    if "parameter" not in table:
        return None
    known, parts = table[(table["kind"] == "parameter") & (table["parameter"] == "slope")], []
    for scope, words in ((POOLED, "over all sizes"), (WITHIN, "within sizes")):
        rows = known[known["scope"] == scope]
        rising = rows[rows["lower"] > 0].to_dict("records")
        listed = join(f"{name_dataset(row['dataset'])} ({row['value']:.1f})" for row in rising)
        found = f"{words} on {len(rising)} of {len(rows)} data sets{f': {listed}' if listed else ''}"
        parts += [found] if len(rows) else []
    if not parts:
        return None
    return f"The score rises as the loss falls, with an interval above 0 (logits per nat), {'; '.join(parts)}."


@figure(
    "loss_performance",
    notebook="loss_performance",
    title="Loss against performance",
    question="Does less loss mean a better score?",
    caption="Primary score of each data set against validation loss (falling to the right), one point a model, larger "
    "for larger base models; means over seeds with {level} bootstrap intervals over problems, small points single "
    "seeds. The curve is a binomial regression above the chance level with over-dispersion and a size effect, pooled "
    "over sizes, with its {level} confidence band; above each panel its slope in logits per nat, and that among models "
    "of one size. Held-out sizes (hollow) take no part and are predicted from their losses.",
    answer=_say_loss_performance,
    fitted=("val_loss", "value", *BARS),
)
def loss_performance(
    primary: pd.DataFrame, regressions: tuple[dict[str, LossRegression], dict[str, str]], votes: dict[str, bool]
) -> tuple[Figure, pd.DataFrame]:
    """Draw each data set's primary score against validation loss, one point a model, with the curve that regresses it.

    The twin has rows of models and seeds, and of kind curve, parameter (``scope, parameter``) and prediction (of the
    size held out).
    """
    known = primary[primary["val_loss"].notna()]
    require_rows(known, "loss_performance", "runs with both a validation loss and a primary score")
    measured, (fits, refused) = round_table(known[style.twin_columns(known, _SCORED)]), regressions
    names = order_datasets(measured["dataset"])
    losses = np.geomspace(measured["val_loss"].min(), measured["val_loss"].max(), 41)
    rows = [rows for name in names if name in fits for rows in _regression_rows(fits[name], losses)]
    points = measured if "kind" in measured else measured.assign(kind="run")
    table = round_table(pd.concat([points, *rows], ignore_index=True))
    drawn, _ = style.choose_panels([name for name in names if name in fits] or names, votes)
    rest = [name for name in names if name not in drawn]
    n_columns = min(3, len(drawn))
    figure, axes = style.small_multiples(len(drawn), n_columns, row_height=2.7, sharex=True)
    for position, (panel, name) in enumerate(zip(axes, drawn, strict=True)):
        own = measured[measured["dataset"] == name]
        _points(panel, own, "val_loss", "value", sorted(set(measured["n_params_base"])))
        shown = f"{style.describe_models(own, measured)}{style.in_seeds(own) or ', one run each'}"
        _regression_panel(panel, name, own["metric"].iloc[0], fits.get(name), losses, shown, refused.get(name, ""))
        is_lowest = position + n_columns >= len(drawn)
        is_middle = position % n_columns == (n_columns - 1) // 2
        panel.set_xlabel(f"{LOSS_LABEL} (falls to the right)" if is_lowest and is_middle else "")
        panel.tick_params(axis="x", labelbottom=is_lowest)
    style.plain_log(axes[0], "x")
    axes[0].invert_xaxis()
    handles = [
        *style.interval_handles(measured),
        *style.model_handles(measured),
        style.handle("binomial regression, pooled", color="black", linewidth=1.0),
        *[style.handle("random guess", linestyle=(0, (4, 2)))] * any(map(_has_guess, drawn)),
        *style.size_handles(measured),
    ]
    style.method_legend(figure, measured["method"], handles)
    style.say_undrawn(figure, rest, votes)
    return figure, table


def regression_panels(fits: dict[str, LossRegression]) -> Figure:
    """Draw scores against a loss with their regressions, a panel a data set; held-out models hollow."""
    figure, axes = style.small_multiples(len(fits), min(len(fits), 3), row_height=2.6)
    for panel, (name, fit) in zip(axes, fits.items(), strict=True):
        for row in fit.models.to_dict("records"):
            style.draw_markers(panel, row["val_loss"], row["value"], row["method"])
        test = fit.held_out[~fit.held_out["method"].isna()]
        for row in test.to_dict("records"):
            style.draw_markers(panel, row["loss"], row["measured"], row["method"], hollow=True)
        ends = [*fit.models["val_loss"], *test["loss"]]
        _regression_panel(
            panel, name, fit.metric, fit, np.linspace(min(ends), max(ends), 41), f"{len(fit.models)} models", ""
        )
        panel.set_xlabel(LOSS_LABEL if fit.on == LOSS else f"loss of {fit.on}, nats per token")
        panel.invert_xaxis()
    style.method_legend(figure, [method for fit in fits.values() for method in fit.models["method"]])
    return figure


def _regression_rows(fit: LossRegression, losses: np.ndarray) -> list[pd.DataFrame]:
    curve = fit.curve(losses).rename(columns={"loss": "val_loss"}).assign(kind="curve")
    parameters = fit.table[["scope", "parameter", "value", *BARS]].assign(kind="parameter")
    tested = fit.held_out.rename(columns={"loss": "val_loss", "predicted": "value"})
    tested = tested[["size", "method", "val_loss", "value", *BARS, "measured", "covered"]].assign(kind="prediction")
    return [part.assign(dataset=fit.dataset, level=fit.level) for part in (curve, parameters, tested) if len(part)]


def _has_guess(name: str) -> bool:
    return (find_dataset(name).chance or 0) > 0.01


def _regression_panel(
    panel: Axes, name: str, metric: str, fit: LossRegression | None, losses: np.ndarray, shown: str, reason: str
) -> None:
    # Shares do not go below 0, and where all are 0 the axis must not magnify nothing; bands may be wider than it.
    lower, upper = panel.get_ylim()
    if _has_guess(name):
        guess = find_dataset(name).chance
        panel.axhline(guess, color=GREY, linewidth=0.9, linestyle=(0, (4, 2)))
        lower, upper = min(lower, guess - 0.03), max(upper, guess + 0.03)
    if fit is not None:
        curve = fit.curve(losses)
        lower, upper = min(lower, curve["value"].min()), max(upper, curve["value"].max())
        panel.plot(curve["loss"], curve["value"], color="black", linewidth=1.0, zorder=1.5)
        panel.fill_between(curve["loss"], curve["lower"], curve["upper"], color="black", alpha=0.12, linewidth=0)
    words = f"{shown}\n{_describe_regression(fit, reason)}"
    style.label_panel(panel, name_dataset(name), words, reserve=3, ylabel=METRICS[metric].label)
    panel.set_ylim(*((max(lower, -0.03), max(upper, 0.1)) if METRICS[metric].lower == 0 else (lower, upper)))


def _describe_regression(fit: LossRegression | None, reason: str) -> str:
    if fit is None:
        return f"no curve: {reason}"
    slopes = fit.table[fit.table["parameter"] == "slope"].set_index("scope")
    words = []
    for scope in (POOLED, WITHIN):
        if scope in slopes.index:
            row = slopes.loc[scope]
            words.append(f"{scope} {row['value']:.1f} [{row['lower']:.1f}, {row['upper']:.1f}]")
    found = f"slope {'; '.join(words)}"
    if len(fit.held_out):
        error = (fit.held_out["predicted"] - fit.held_out["measured"]).abs().mean()
        covered = f"{int(fit.held_out['covered'].sum())} of {len(fit.held_out)} covered"
        found += f"\n{fit.held_out['size'].iloc[0]} predicted: error {error:.3f}, {covered}"
    return found


def _points(panel: Axes, rows: pd.DataFrame, x: str, y: str, sizes: list[int]) -> None:
    """Draw models, larger for larger base models, scores with their intervals; seeds small and pale."""
    for method, own in keep_seeds(rows).groupby("method", sort=False):
        style.draw_seeds(panel, own[x].astype(float), own[y], method)
    for part, hollow in zip(style.split_held_out(keep_means(rows)), (False, True), strict=True):
        for row in part.to_dict("records"):
            if y == "value":
                colour = METHOD_STYLES[row["method"]].colour
                panel.plot([row[x]] * 2, [row["lower"], row["upper"]], color=colour, linewidth=0.6)
            size = style.marker_size_of(row["n_params_base"], sizes)
            style.draw_markers(panel, [row[x]], [row[y]], row["method"], hollow=hollow, size=size)


def draw_budgets(table: pd.DataFrame, lines: Sequence[Any], points: pd.DataFrame, names: Sequence[str]) -> Any:
    """Return a Figure: loss against size along each budget, dashed beyond the sizes fitted, rows and optima."""
    size, _, loss = names
    figure, axes = pyplot.subplots(figsize=(7.2, 4.8), layout="constrained")
    low, high = points[size].min(), points[size].max()
    shown = [low, high]
    colours = sns.color_palette("colorblind", len(lines))
    for colour, line, (_, best) in zip(colours, lines, table.iterrows(), strict=True):
        near = points[(points["cost"] / best["budget"]).between(1 / _NEAR, _NEAR)]
        ends = [best[f"{size}_lower"], best[f"{size}_upper"]]
        shown += [*ends, best[size] / 5, best[size] * 5]
        style.draw_law(axes, pd.Series(line.inputs[:, 0]), pd.Series(line.loss), (low, high), colour)
        axes.scatter(near[size], near[loss], color=colour, s=14, alpha=0.7)
        axes.plot(ends, [best["loss"]] * 2, color=colour, linewidth=4, alpha=0.5)
        axes.plot(best[size], best["loss"], "*", color=colour, markersize=13, markeredgecolor="black")
        axes.plot([], [], color=colour, label=f"{best['budget']:.3g}")
    window = max(min(shown), low / 30), min(max(shown), high * 30)
    seen = [line.loss[(line.inputs[:, 0] >= window[0]) & (line.inputs[:, 0] <= window[1])] for line in lines]
    top = max(np.quantile(np.concatenate([points[loss], *seen]), 0.9), table["loss"].max())
    bottom = min(table["loss"].min(), points[loss].min())
    axes.set(xscale="log", xlim=window, ylim=(0.97 * bottom, 1.05 * top), xlabel=size, ylabel=loss)
    level = 100 * table["level"].iloc[0]
    axes.set_title(f"Optimum of each budget with its {level:g} % interval; dots: rows of 0.7 to 1.5 times the budget")
    axes.title.set_fontsize(9)
    axes.legend(title="budget (FLOP)")
    pyplot.close(figure)
    return figure
