"""Scale transfer: fits by size, small against large, rank transfer, and the back-test of all that."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from astraios_analysis.figures.spec import BARS, figure, require_rows, round_table
from astraios_analysis.figures.style import (
    GREY,
    METHOD_STYLES,
    columns_for,
    describe_models,
    dodge,
    draw_law,
    draw_methods,
    draw_prediction,
    draw_seeds,
    in_seeds,
    interval_handle,
    join,
    method_legend,
    model_handles,
    models_in,
    name_dataset,
    note,
    size_axis,
    size_label,
    small_multiples,
    split_held_out,
)
from astraios_analysis.laws.forms import LOGIT_LINEAR
from astraios_analysis.prediction.backtests import backtest, summarise_backtest
from astraios_analysis.prediction.fits import Fit, fit_by
from astraios_analysis.prediction.limits import MAX_REACH, predict, require_reach, require_sizes
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.registry import DATASETS, METRICS
from astraios_analysis.records.schema import METHODS
from astraios_analysis.scores.models import keep_means, keep_seeds

_MEASURED = ["dataset", "metric", "size", "method", "n_params_base", "value", "lower", "upper", "level", "n_items"]
POOLING_WORDS = {
    ("per_method",): "own slope for each method",
    ("pooled",): "one slope for all methods",
    ("per_method", "pooled"): "own or shared slopes",
}


def choose_target(primary: pd.DataFrame, target: float) -> float:
    """Return the size to predict at: the target, if a grid's sizes support it, or else what can be checked.

    That is the largest held-out size, where prediction and measurement can be compared, or twice the largest size.
    """
    if primary.empty:
        return target
    fitted, held_out = split_held_out(primary)
    largest = float((fitted if len(fitted) else primary)["n_params_base"].max())
    if largest / MAX_REACH <= target <= largest * MAX_REACH:
        return target
    return float(held_out["n_params_base"].max()) if len(held_out) else 2 * largest


def refused_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a figure's table that stand for a data set that must not be predicted, with its reason."""
    if "refusal" not in table:
        return table.iloc[:0].assign(refusal="")
    return table[table["refusal"].fillna("").astype(str) != ""]


def say_refused(table: pd.DataFrame) -> str:
    """Say which data sets of a figure's table are not predicted, and in short why; nothing where all are."""
    rows = refused_rows(table)
    # What follows the first clause explains it and stands in the table.
    reasons = rows["refusal"].astype(str).str.split(";").str[0]
    listed = [
        f"{join(name_dataset(name) for name in own['dataset'])} ({reason})"
        for reason, own in rows.groupby(reasons, sort=False)
    ]
    return f" Not predicted: {'; '.join(listed)}." if listed else ""


def count_covered(intervals: pd.DataFrame) -> int:
    """Return how many prediction intervals cover what was measured; tables read from CSV hold the words."""
    return int(intervals["covered"].astype(str).str.lower().eq("true").sum())


def _say_scaling(table: pd.DataFrame) -> str | None:
    predicted = table[(table["kind"] == "prediction") & (table["level"] > 0.9)]
    if predicted.empty:
        return say_refused(table).strip() or None
    width = (predicted["upper"] - predicted["lower"]).median()
    target = size_label(predicted["n_params_base"].max())
    return (
        f"A new run at {target}: 95 % prediction intervals are {100 * width:.0f} of 100 points wide in the median over "
        f"{predicted['dataset'].nunique()} data sets and their methods.{say_refused(table)}"
    )


@figure(
    "score_scaling",
    notebook="scale_transfer",
    title="Scores by size, fitted and extrapolated",
    question="What will a larger model score?",
    caption="Measured primary scores with {level} bootstrap intervals over problems, logit-linear lines (solid over "
    "the fitted sizes, dashed beyond), and prediction intervals for a new run at {target} parameters (50 % thick, 95 % "
    "thin). Four sizes give each method its own line with 2 degrees of freedom; otherwise one slope is shared. Fewer "
    "than four sizes leave nothing to back-test with: such data sets are not predicted.",
    answer=_say_scaling,
    fitted=("value", *BARS, "reach"),
)
def score_scaling(primary: pd.DataFrame, datasets: Sequence[str], target_size: float) -> tuple[Figure, pd.DataFrame]:
    """Draw measured scores, fitted lines and predictions for a new run at a target size, for each data set.

    A data set that must not be predicted has lines over the fitted sizes only. The twin has measured rows (``kind``
    measured, or held_out; of several seeds means, and rows of kind seed), lines (line) and predictions (prediction),
    or why there are none (refused, with a ``refusal``).
    """
    parts = [_scaling_rows(primary[primary["dataset"] == name], target_size) for name in datasets]
    seeds = keep_seeds(primary)
    seeds = seeds.loc[seeds["dataset"].isin(datasets), _MEASURED].assign(kind="seed")
    parts += [seeds] if len(seeds) else []
    table = round_table(pd.concat(parts, ignore_index=True)) if parts else pd.DataFrame()
    require_rows(table, "score_scaling", "a data set with primary scores at three sizes")
    n_columns = columns_for(datasets)
    figure, axes = small_multiples(len(datasets), n_columns, row_height=1.85)
    suite = models_in(primary)
    for position, (panel, name) in enumerate(zip(axes, datasets, strict=True)):
        rows = table[table["dataset"] == name]
        _scaling_panel(panel, rows, target_size)
        measured = rows[rows["kind"].isin(["measured", "held_out"])]
        panel.set_title(DATASETS[name].title, loc="left")
        poolings = tuple(sorted(set(rows.loc[rows["kind"] == "line", "pooling"])))
        shown = describe_models(models_in(measured), suite) + in_seeds(primary[primary["dataset"] == name])
        refused = "\nnot predicted" if (rows["kind"] == "refused").any() else ""
        note(panel, f"{shown}\n{POOLING_WORDS[poolings]}{refused}", width=33, reserve=3)
        panel.set_ylabel(METRICS[DATASETS[name].primary_metric or ""].label)
        panel.set_xlabel("base model parameters" if position + n_columns >= len(datasets) else "")
    measured = primary[primary["dataset"].isin(datasets)]
    handles = [
        interval_handle(measured["level"].iloc[0], measured["interval"]),
        Line2D([], [], color=GREY, linewidth=1.1, label="fitted"),
        Line2D([], [], color=GREY, linewidth=1.1, linestyle="--", label="extrapolated"),
        Line2D([], [], color=GREY, linewidth=2.2, label="50 %"),
        Line2D([], [], color=GREY, linewidth=0.7, label="95 % prediction interval"),
        *model_handles(measured),
    ]
    method_legend(figure, table["method"].dropna(), handles)
    return figure, table


def _scaling_rows(own: pd.DataFrame, target: float) -> pd.DataFrame:
    own = keep_means(own)
    fits = fit_by(own, LOGIT_LINEAR)
    is_held_out = own["held_out"].astype(bool)
    measured = own[_MEASURED].assign(kind=np.where(is_held_out, "held_out", "measured"), pooling="", dof=pd.NA)
    rows, refusal = [], _refusal(measured[~is_held_out.to_numpy()], target)
    for method, fitted in fits.items():
        shared = {"dataset": own["dataset"].iloc[0], "metric": own["metric"].iloc[0], "method": method}
        shared |= {"pooling": fitted.pooling, "dof": fitted.dof}
        grid = _line_sizes(fitted, fitted.x_range[0] if refusal else target)
        for n_params, value in zip(grid, LOGIT_LINEAR.unlink(fitted.design(grid, method) @ fitted.theta), strict=True):
            rows.append({**shared, "kind": "line", "n_params_base": n_params, "value": value})
        rows.extend(shared | _prediction(fitted, target, method, level) for level in (() if refusal else (0.5, 0.95)))
    if refusal:
        row = {"dataset": own["dataset"].iloc[0], "metric": own["metric"].iloc[0], "kind": "refused"}
        rows.append(row | {"n_params_base": round(target), "refusal": refusal})
    return pd.concat([measured.assign(refusal=""), pd.DataFrame(rows)], ignore_index=True)


def _refusal(fitted: pd.DataFrame, target: float) -> str:
    """Return why the scores must not be predicted at a size; nothing where they may."""
    sizes = fitted["n_params_base"]
    try:
        require_sizes(sizes.nunique())
        require_reach(target, (float(sizes.min()), float(sizes.max())), force=False)
    except Refusal as error:
        return str(error)
    return ""


def _line_sizes(fitted: Fit, target: float) -> np.ndarray:
    """Return whole numbers of parameters that span the fitted range and the target, both ends and it among them."""
    ends = [*fitted.x_range, target]
    # Round numbers, so that no machine's last bit shows in a size.
    between = [float(f"{size:.4g}") for size in np.geomspace(min(ends), max(ends), 25)[1:-1]]
    return np.unique(np.rint([*ends, *between])).astype(int)


def _prediction(fitted: Fit, target: float, method: str, level: float) -> dict:
    p = predict(fitted, np.array([target]), method, level=level)[0]
    values = {"value": p.y, "lower": p.lower, "upper": p.upper, "level": p.level}
    return {"kind": "prediction", "n_params_base": round(target), "reach": p.reach, **values}


def _scaling_panel(panel: Axes, rows: pd.DataFrame, target: float) -> None:
    measured = rows[rows["kind"] == "measured"]
    draw_methods(panel, measured, line=False)
    draw_methods(panel, rows[rows["kind"] == "held_out"], line=False, hollow=True)
    smallest, largest = measured["n_params_base"].min(), measured["n_params_base"].max()
    for method, own in rows.groupby("method", sort=False):
        colour = METHOD_STYLES[method].colour
        line = own[own["kind"] == "line"].sort_values("n_params_base")
        n_params = line["n_params_base"]
        draw_law(panel, n_params, line["value"], (smallest, largest), colour)
        x = float(dodge([target], method, spread=2)[0])
        draw_prediction(panel, x, own[own["kind"] == "prediction"], 0.95, colour)
    sizes = sorted(set(rows.loc[rows["kind"] != "line", "n_params_base"]))
    size_axis(panel, sizes, label=False, margin=1.45, label_width=0.18)
    panel.tick_params(axis="x", labelsize=6)
    panel.set_ylim(0, 1)
    for method, own in rows[rows["kind"] == "seed"].groupby("method", sort=False):
        draw_seeds(panel, dodge(own["n_params_base"], method), own["value"], method)


def _say_backtest(table: pd.DataFrame) -> str | None:
    rows = table[table["is_drawn"].astype(bool)].dropna(subset=["error"])
    if rows.empty:
        return None
    error, still = rows["error"].abs().mean(), rows["persistence_error"].abs().mean()
    made = rows[rows["lower"].notna()]
    width = f", {100 * (made['upper'] - made['lower']).median():.0f} points wide in the median" if len(made) else ""
    return (
        f"The held-out size is missed by {100 * error:.1f} of 100 points on average, against {100 * still:.1f} for "
        f"predicting no change; {count_covered(made)} of {len(made)} prediction intervals cover{width}."
    )


@figure(
    "backtest",
    notebook="scale_transfer",
    title="Back-test: the largest size held out",
    question="How good are such predictions?",
    caption="Scores of the largest size, held out (hollow), and what a logit-linear fit with one shared slope "
    "predicted from the smaller sizes, with {level} prediction intervals for a new run; dots predict no change. With "
    "two training sizes no interval is possible.",
    answer=_say_backtest,
    fitted=("predicted", *BARS, "error", "persistence_error", "reach"),
)
def backtest_panels(primary: pd.DataFrame, datasets: Sequence[str], level: float) -> tuple[Figure, pd.DataFrame]:
    """Draw the largest size's measured scores (hollow) against what the smaller sizes predicted, for each data set.

    The twin has both poolings; ``is_drawn`` marks the pooled one.
    """
    poolings = ("pooled", "per_method")
    primary = keep_means(primary)
    parts = [backtest(primary, name, pooling=p, level=level, law=LOGIT_LINEAR) for name in datasets for p in poolings]
    table = round_table(pd.concat(parts, ignore_index=True)) if parts else pd.DataFrame()
    require_rows(table, "backtest", "methods with primary scores at three sizes")
    table["is_drawn"] = table["pooling"] == "pooled"
    summary = summarise_backtest(table[table["is_drawn"]]).set_index("dataset")
    figure, axes = small_multiples(len(datasets), columns_for(datasets), row_height=2.05, sharey=True)
    for panel, name in zip(axes, datasets, strict=True):
        draw_backtest(panel, table[(table["dataset"] == name) & table["is_drawn"]])
        panel.set_title(DATASETS[name].title, loc="left")
        verdict = _verdict(summary.loc[name]) if name in summary.index else "no method here has two smaller sizes"
        note(panel, verdict, width=34, reserve=3)
        panel.set_xlabel(METRICS[DATASETS[name].primary_metric or ""].label)
    handles = [
        Line2D([], [], color=GREY, marker="o", linestyle="", markerfacecolor="white", label="measured, held out"),
        Line2D([], [], color=GREY, marker="|", markersize=7, label=f"predicted, {100 * level:g} % prediction interval"),
        Line2D([], [], color=GREY, marker=".", markersize=3, linestyle="", label="no change from the size before"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    return figure, table


def draw_backtest(panel: Axes, rows: pd.DataFrame) -> None:
    """Draw what was held out against what was predicted, one line a method, on an axis of shares.

    ``rows`` has ``method, measured, predicted, lower, upper, persistence``.
    """
    for row in rows.to_dict("records"):
        position, style = METHODS.index(row["method"]), METHOD_STYLES[row["method"]]
        panel.plot([row["lower"], row["upper"]], [position, position], color=style.colour, linewidth=0.9)
        panel.plot(row["predicted"], position, "|", color=style.colour, markersize=8, markeredgewidth=1.4)
        panel.plot(row["persistence"], position, ".", color=GREY, markersize=3)
        panel.plot(row["measured"], position, style.marker, color=style.colour, markerfacecolor="white", zorder=3)
    panel.set_yticks(range(len(METHODS)), [METHOD_STYLES[method].label for method in METHODS])
    panel.set_ylim(len(METHODS) - 0.4, -0.6)
    panel.set_xlim(0, 1)


def _verdict(row: pd.Series) -> str:
    covered = (
        f"interval covered {row['n_covered']} of {row['n_intervals']}"
        if row["n_intervals"]
        else "no degree of freedom, no interval"
    )
    error = f"error {row['mean_abs_error']:.3f}, no change {row['persistence_mean_abs_error']:.3f}"
    return f"{row['size']} from {row['n_train_sizes']} sizes, {row['n']} methods\n{error}\n{covered}"
