"""Scale transfer: fits by size, small against large, rank transfer, and the back-test of all that."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from astraios_analysis.figures.spec import BARS, figure, keep_shares, require_rows, round_table
from astraios_analysis.figures.style import (
    GREY,
    METHOD_STYLES,
    beside,
    columns_for,
    describe_models,
    draw_law,
    draw_methods,
    draw_prediction,
    draw_seeds,
    in_seeds,
    interval_handle,
    join,
    law_sizes,
    method_legend,
    model_handles,
    models_in,
    name_dataset,
    note,
    plain_log,
    say_mute,
    say_no_vote,
    size_axis,
    size_label,
    small_multiples,
    split_held_out,
    split_kinds,
)
from astraios_analysis.prediction.backtest import describe, largest_from_smaller
from astraios_analysis.prediction.forecast import (
    Fitted,
    fit_outcome,
    fit_supported,
    record_outcome,
    require_near,
)
from astraios_analysis.prediction.limits import MAX_REACH
from astraios_analysis.records.frame import RunRecord
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.registry import METRICS, DataSet, find_dataset
from astraios_analysis.records.schema import METHODS, order_methods
from astraios_analysis.scores.models import keep_means, keep_seeds

_LINE = ("slope", "slope_lower", "slope_upper", "centre", "intercept", "intercept_lower", "intercept_upper")
_LINE += ("scatter", "reliability")
_TESTED = ["method", "size", "seed", "predicted", "error", "persistence", "n_train_sizes", "reach"]
_MEASURED = ["dataset", "metric", "size", "method", "n_params_base", "value", "lower", "upper", "level", "n_items"]


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
    return table[table["refusal"].astype(object).fillna("").astype(str) != ""]


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
    predicted = keep_shares(table[(table["kind"] == "prediction") & (table["level"] > 0.9)])
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
    caption="Measured primary scores with {level} bootstrap intervals over problems, the laws of size that "
    "`astraios predict` averages (solid over the fitted sizes, dashed beyond), and its prediction intervals for a new "
    "run at {target} parameters (50 % thick, 95 % thin). Fewer than four sizes leave nothing to back-test with: such "
    "data sets are not predicted.",
    answer=_say_scaling,
    fitted=("value", *BARS, "reach"),
)
def score_scaling(
    primary: pd.DataFrame, runs: Sequence[RunRecord], datasets: Sequence[str], target_size: float
) -> tuple[Figure, pd.DataFrame]:
    """Draw measured scores, the predicted law and predictions for a new run at a target size, for each data set.

    A data set that must not be predicted has laws over the fitted sizes only. The twin has measured rows (``kind``
    measured, or held_out; of several seeds means, and rows of kind seed), medians of the law (line) and predictions
    (prediction), or why there are none (refused, with a ``refusal``); ``law`` is the one with the largest weight.
    """
    parts = [_scaling_rows(primary[primary["dataset"] == name], runs, name, target_size) for name in datasets]
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
        panel.set_title(name_dataset(name), loc="left")
        shown = describe_models(models_in(measured), suite) + in_seeds(primary[primary["dataset"] == name])
        laws = rows.loc[rows["kind"] == "line", "law"]
        law = f"mostly {laws.iloc[0]}" if len(laws) else "no law"
        refused = "\nnot predicted" if (rows["kind"] == "refused").any() else ""
        note(panel, f"{shown}\n{law}{refused}", width=33, reserve=3)
        panel.set_ylabel(METRICS[rows["metric"].iloc[0]].label)
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


def _scaling_rows(own: pd.DataFrame, runs: Sequence[RunRecord], name: str, target: float) -> pd.DataFrame:
    own = keep_means(own)
    is_held_out = own["held_out"].astype(bool)
    measured = own[_MEASURED].assign(kind=np.where(is_held_out, "held_out", "measured"), refusal="")
    outcome, rows, refusal, beyond = record_outcome(runs, name), [], "", 1.0
    where = {"dataset": name, "metric": outcome.metric}
    try:
        fitted = fit_supported(outcome)
        beyond = require_near(fitted, target)
    except Refusal as error:
        fitted, refusal = None, str(error).removeprefix(f"{name}: ")
    try:
        fitted = fitted or fit_outcome(outcome)
        rows = [row | where | {"kind": "line"} for row in law_rows(fitted, fitted.x_range[0] if refusal else target)]
    except Refusal as error:
        refusal = refusal or str(error).removeprefix(f"{name}: ")
    if refusal:
        rows.append(where | {"kind": "refused", "n_params_base": round(target), "refusal": refusal})
    else:
        rows += [row | where | {"kind": "prediction", "reach": beyond} for row in prediction_rows(fitted, target)]
    return pd.concat([measured, pd.DataFrame(rows)], ignore_index=True)


def law_rows(fitted: Fitted, target: float) -> list[dict]:
    """Return medians of every method over the fitted sizes and a target: ``method, n_params_base, value, law``."""
    ends = [*fitted.x_range, target]
    law = max(fitted.weights, key=fitted.weights.get).replace("_", " ").replace("/", ", ")
    rows = []
    for size in law_sizes(ends):
        median = fitted.intervals(float(size), ()).median
        rows += [
            {"method": method, "n_params_base": size, "value": value, "law": law}
            for method, value in zip(fitted.methods, median, strict=True)
        ]
    return rows


def prediction_rows(fitted: Fitted, target: float) -> list[dict]:
    """Return predictions for a new run with 50 and 95 % intervals: ``method, n_params_base, value, lower, ...``."""
    found = fitted.intervals(target, (0.5, 0.95))
    return [
        {"method": method, "n_params_base": round(target), "value": value, "level": level}
        | {end: found.bounds["observation", level][i, place] for i, end in enumerate(BARS)}
        for level in (0.5, 0.95)
        for place, (method, value) in enumerate(zip(found.methods, found.median, strict=True))
    ]


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
        draw_prediction(panel, beside(target, method), own[own["kind"] == "prediction"], 0.95, colour)
    sizes = sorted(set(rows.loc[rows["kind"] != "line", "n_params_base"]))
    size_axis(panel, sizes, label=False, margin=1.75, label_width=0.18)
    panel.tick_params(axis="x", labelsize=6)
    metric = METRICS[rows["metric"].iloc[0]]
    if metric.is_bounded:
        top = 1.08 * float(np.nanmax(rows[["value", "upper"]].to_numpy(dtype=float)))
        panel.set_ylim(metric.lower, min(metric.upper, top))
    for method, own in rows[rows["kind"] == "seed"].groupby("method", sort=False):
        draw_seeds(panel, own["n_params_base"], own["value"], method)


def _say_backtest(table: pd.DataFrame) -> str | None:
    table = table[table.groupby("dataset")["measured"].transform(lambda own: own.between(0, 1).all())]
    if table.empty:
        return None
    error, still = table["error"].abs().mean(), table["persistence_error"].abs().mean()
    width = 100 * (table["upper"] - table["lower"]).median()
    return (
        f"The held-out size is missed by {100 * error:.1f} of 100 points on average, against {100 * still:.1f} for "
        f"predicting no change; {count_covered(table)} of {len(table)} prediction intervals cover, {width:.0f} points "
        "wide in the median."
    )


@figure(
    "backtest",
    notebook="scale_transfer",
    title="Back-test: the largest size held out",
    question="How good are such predictions?",
    caption="Scores of the largest size, held out (hollow), and what `astraios predict` says of it from the smaller "
    "sizes, with {level} prediction intervals for a new run; dots predict no change. Data sets with fewer than four "
    "sizes cannot be back-tested.",
    answer=_say_backtest,
    fitted=("predicted", *BARS, "error", "persistence", "persistence_error", "reach"),
)
def backtest_panels(runs: Sequence[RunRecord], datasets: Sequence[str], level: float) -> tuple[Figure, pd.DataFrame]:
    """Draw the largest size's measured scores (hollow) against what the smaller sizes predicted, for each data set.

    The twin has one row a run: ``dataset, method, size, n_params_base, seed, measured, predicted, lower, upper, level,
    error, covered, persistence, persistence_error, n_train_sizes, reach``.
    """
    parts = []
    for name in datasets:
        rows = largest_from_smaller(record_outcome(runs, name), (level,))
        # Whole numbers, which rounding leaves as they are.
        parts += [] if rows is None else [rows.assign(quantity=name, n_params=rows["n_params"].astype(int))]
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    require_rows(table, "backtest", "methods with primary scores at four sizes")
    return backtest_rows(table, level)


def backtest_rows(rows: pd.DataFrame, level: float = 0.95) -> tuple[Figure, pd.DataFrame]:
    """Draw runs that were held out (`prediction.backtest.predict_runs`, with ``quantity``), one panel a quantity."""
    name = f"{100 * level:g}"
    renamed = {"quantity": "dataset", "n_params": "n_params_base", "value": "measured"}
    renamed |= {f"{end}_{name}": end for end in (*BARS, "covered")}
    table = rows.rename(columns=renamed)[[*renamed.values(), *_TESTED]].assign(level=level)
    still = table["persistence"] - table["measured"]
    table = round_table(table.assign(persistence_error=still))
    names = list(dict.fromkeys(table["dataset"]))
    figure, axes = small_multiples(len(names), columns_for(names), row_height=2.05, sharey=True)
    for panel, quantity in zip(axes, names, strict=True):
        own = table[table["dataset"] == quantity]
        draw_backtest(panel, own)
        data = find_dataset(quantity)
        panel.set_title(data.title, loc="left")
        note(panel, _verdict(rows[rows["quantity"] == quantity], level), width=34, reserve=3)
        if not _is_share(data, own):
            panel.autoscale(axis="x")
        panel.set_xlabel(METRICS[data.primary_metric].label if data.primary_metric else "")
    handles = [
        Line2D([], [], color=GREY, marker="o", linestyle="", markerfacecolor="white", label="measured, held out"),
        Line2D([], [], color=GREY, marker="|", markersize=7, label=f"predicted, {100 * level:g} % prediction interval"),
        Line2D([], [], color=GREY, marker=".", markersize=3, linestyle="", label="no change from the size before"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    return figure, table


def _is_share(data: DataSet, rows: pd.DataFrame) -> bool:
    """Whether what was held out is a share: by its metric, or where that is not known by its values."""
    metric = METRICS.get(data.primary_metric or "")
    return (metric.lower, metric.upper) == (0, 1) if metric else bool(rows["measured"].between(0, 1).all())


def draw_backtest(panel: Axes, rows: pd.DataFrame) -> None:
    """Draw what was held out against what was predicted, one line a method, on an axis of shares.

    ``rows`` has ``method, measured, predicted, lower, upper, persistence``.
    """
    others = set(rows["method"]) - set(METHODS)
    methods = order_methods(rows["method"] if others else METHODS)
    for row in rows.to_dict("records"):
        position, style = methods.index(row["method"]), METHOD_STYLES[row["method"]]
        panel.plot([row["lower"], row["upper"]], [position, position], color=style.colour, linewidth=0.9)
        panel.plot(row["predicted"], position, "|", color=style.colour, markersize=8, markeredgewidth=1.4)
        panel.plot(row["persistence"], position, ".", color=GREY, markersize=3)
        panel.plot(row["measured"], position, style.marker, color=style.colour, markerfacecolor="white", zorder=3)
    panel.set_yticks(range(len(methods)), [METHOD_STYLES[method].label for method in methods])
    panel.set_ylim(len(methods) - 0.4, -0.6)
    panel.set_xlim(0, 1)


def _verdict(rows: pd.DataFrame, level: float) -> str:
    found = describe(rows, level)
    sizes, n = f"{rows['n_train_sizes'].iloc[0]} sizes", rows["method"].nunique()
    error = f"error {found['mean_abs_error']:.3f}, no change {found['persistence_mean_abs_error']:.3f}"
    covered = f"interval covered {found['n_covered']} of {len(rows)}"
    return f"{rows['size'].iloc[0]} from {sizes}, {n} methods\n{error}\n{covered}"


def prediction_panels(
    fitted: Mapping[str, Fitted], targets: Sequence[float], methods: Sequence[str], x_label: str = ""
) -> Figure:
    """Draw predictions of any outcomes: single runs, laws (dashed beyond the sizes fitted) and intervals at targets."""
    figure, axes = small_multiples(len(fitted), min(len(fitted), 3), row_height=2.3)
    METHOD_STYLES.order(methods)
    looks = {method: METHOD_STYLES[method] for method in methods}
    for panel, (name, one) in zip(axes, fitted.items(), strict=True):
        laws = pd.DataFrame([row for target in targets for row in law_rows(one, target)])
        bars = pd.DataFrame([row for target in targets for row in prediction_rows(one, target)])
        for method, style in looks.items():
            runs = one.outcome.runs[one.outcome.runs["method"] == method]
            panel.plot(runs["n_params"], runs["value"], style.marker, color=style.colour, markersize=3.5, linestyle="")
            own = laws[laws["method"] == method].drop_duplicates("n_params_base").sort_values("n_params_base")
            draw_law(panel, own["n_params_base"], own["value"], one.x_range, style.colour)
            for target, ends in bars[bars["method"] == method].groupby("n_params_base"):
                draw_prediction(panel, float(target), ends, 0.95, style.colour)
                panel.plot(target, ends["value"].iloc[0], style.marker, color=style.colour, mfc="white", markersize=3.5)
        panel.set_xscale("log")
        if one.outcome.link == "log":
            plain_log(panel)
        panel.set_title(name_dataset(name), loc="left")
        panel.set_ylabel(one.outcome.metric)
        panel.set_xlabel(x_label)
    handles = [
        Line2D([], [], color=style.colour, marker=style.marker, linestyle="", label=style.label)
        for style in looks.values()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 8), frameon=False)
    looks = (("law", 0.8, "-"), ("extrapolated", 0.8, "--"), ("50 %", 2.2, "-"), ("95 % prediction interval", 0.7, "-"))
    handles = [Line2D([], [], color=GREY, linewidth=w, linestyle=style, label=label) for label, w, style in looks]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)
    # Whoever asked for it shows it: an open figure a notebook would show once more.
    pyplot.close(figure)
    return figure


def _say_small_large(table: pd.DataFrame) -> str | None:
    fits = table[(table["kind"] == "fit") & table["is_drawn"].astype(bool)] if "kind" in table else table.iloc[:0]
    if fits.empty:
        return None
    parts = []
    for kind, own in split_kinds(fits):
        known = own.dropna(subset=["slope"])
        slopes = [
            f"{_interval(row)}" + (f" ({name_dataset(row['dataset'])})" if len(own) > 1 else "")
            for row in known.to_dict("records")
        ]
        less = len(own) - len(known)
        rest = f"{less} of {len(own)} without one" if less else ""
        parts.append(f"{kind} {join(filter(None, [*slopes, rest]))}")
    return f"Slope of large on small, 1 where differences between methods carry over unchanged: {'; '.join(parts)}."


@figure(
    "small_against_large",
    notebook="scale_transfer",
    title="Small against large",
    question="Do differences between methods carry over from small to large?",
    caption="Each method's primary score at the smallest size against its score at the largest size that has scores of "
    "four or more methods, with {level} intervals in both directions. The line regresses large on small with the "
    "errors of both, which problems cause (Fuller 1987); its {level} band is from one resample of problems for all. "
    "Dotted: differences that carry over unchanged. Where methods may differ at the small size by the choice of "
    "problems alone there is no line. The table has every pair of sizes.",
    answer=_say_small_large,
    fitted=("small_lower", "small_upper", "large_lower", "large_upper", *_LINE),
)
def small_against_large(primary: pd.DataFrame, slopes: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw each method's score at the smallest size against its score at the largest, for each data set.

    The twin has rows of kind point (of the pairs drawn) and fit (of every pair of sizes).
    """
    require_rows(slopes, "small_against_large", "scores of four methods at two sizes")
    widest = slopes["n_params_large"] / slopes["n_params_small"]
    is_drawn = widest == widest.groupby(slopes["dataset"]).transform("max")
    fits = slopes.assign(kind="fit", is_drawn=is_drawn)
    points = pd.concat([_pairs(primary, fit) for fit in fits[is_drawn].to_dict("records")], ignore_index=True)
    table = round_table(pd.concat([points, fits], ignore_index=True))
    drawn = table["is_drawn"].astype("boolean").fillna(False)
    return _transfer_panels(table[table["kind"] == "point"], table[drawn]), table


def transfer_panels(primary: pd.DataFrame, slopes: pd.DataFrame) -> Figure:
    """Draw large against small with its line, a panel a row of ``slopes`` (`scores.transfer.transfer_slopes`)."""
    points = pd.concat([_pairs(primary, fit) for fit in slopes.to_dict("records")], ignore_index=True)
    return _transfer_panels(points, slopes)


def _pairs(primary: pd.DataFrame, fit: dict) -> pd.DataFrame:
    """Return the two scores of every method of a fit, side by side."""
    sides = []
    for side in ("small", "large"):
        chosen = (primary["dataset"] == fit["dataset"]) & (primary["n_params_base"] == fit[f"n_params_{side}"])
        columns = {
            "size": f"size_{side}",
            "n_params_base": f"n_params_{side}",
            "value": side,
            "lower": f"{side}_lower",
            "upper": f"{side}_upper",
        }
        kept = keep_means(primary[chosen])[["dataset", "metric", "method", "level", "interval", *columns]]
        sides.append(kept.rename(columns=columns).drop(columns=["level", "interval"] if side == "large" else []))
    return sides[0].merge(sides[1], on=["dataset", "metric", "method"], validate="one_to_one").assign(kind="point")


def _transfer_panels(points: pd.DataFrame, fits: pd.DataFrame) -> Figure:
    figure, axes = small_multiples(len(fits), min(columns_for(list(fits["dataset"])), len(fits)), row_height=1.95)
    for panel, fit in zip(axes, fits.to_dict("records"), strict=True):
        chosen = (points["dataset"] == fit["dataset"]) & (points["size_small"] == fit["size_small"])
        rows = points[chosen & (points["size_large"] == fit["size_large"])]
        for row in rows.to_dict("records"):
            style = METHOD_STYLES[row["method"]]
            panel.plot([row["small_lower"], row["small_upper"]], [row["large"]] * 2, color=style.colour, linewidth=0.6)
            panel.plot([row["small"]] * 2, [row["large_lower"], row["large_upper"]], color=style.colour, linewidth=0.6)
            panel.plot(row["small"], row["large"], style.marker, color=style.colour, markeredgewidth=0, zorder=3)
        panel.set_title(name_dataset(fit["dataset"]), loc="left")
        _draw_line(panel, fit)
        who = _describe_methods(fit["methods"], fits)
        note(panel, f"{who}{say_mute(pd.DataFrame([fit]))}\n{_say_slope(fit)}", width=36, reserve=2)
        metric = METRICS[fit["metric"]].label if fit["metric"] in METRICS else fit["metric"]
        panel.set_xlabel(f"{metric}, {fit['size_small']}")
        panel.set_ylabel(f"{metric}, {fit['size_large']}")
    lines = [Line2D([], [], color="black", linewidth=0.9, label="large on small, errors in both")]
    lines += [Line2D([], [], color=GREY, linewidth=0.8, linestyle=":", label="differences unchanged")]
    method_legend(figure, points["method"], [interval_handle(points["level"].iloc[0], points["interval"]), *lines])
    return figure


def _say_slope(fit: dict) -> str:
    if not np.isnan(fit["slope"]):
        return f"slope {_interval(fit)}"
    known = not np.isnan(fit["reliability"])
    return f"no slope: reliability at {fit['size_small']} {fit['reliability']:.2f}" if known else "no slope"


def _interval(fit: dict) -> str:
    return f"{fit['slope']:.2f} [{fit['slope_lower']:.2g}, {fit['slope_upper']:.2g}]"


def _draw_line(panel: Axes, fit: dict) -> None:
    """Draw a fit's line with its band over what is drawn, and the line of slope 1 through its middle."""
    ends, heights = panel.get_xlim(), panel.get_ylim()
    x = np.linspace(*ends, 201)
    off = x - fit["centre"]
    unchanged = fit["intercept"] + off
    shown = (heights[0] <= unchanged) & (unchanged <= heights[1])
    panel.plot(x[shown], unchanged[shown], color=GREY, linewidth=0.8, linestyle=":", zorder=1)
    if not np.isnan(fit["slope"]):
        middle = fit["intercept"] + fit["slope"] * off
        # The slope and the level at the centre go together hardly at all: their errors add in squares.
        low_slope, high_slope = ((fit[f"slope_{end}"] - fit["slope"]) * off for end in BARS)
        level = [fit[f"intercept_{end}"] - fit["intercept"] for end in BARS]
        lower = middle - np.hypot(level[0], np.minimum(low_slope, high_slope))
        upper = middle + np.hypot(level[1], np.maximum(low_slope, high_slope))
        shown = (heights[0] <= middle) & (middle <= heights[1])
        panel.plot(x[shown], middle[shown], color="black", linewidth=0.9, zorder=2)
        panel.fill_between(x, lower, upper, color="black", alpha=0.1, linewidth=0, zorder=0)
    panel.set_xlim(*ends)
    panel.set_ylim(*heights)


def _describe_methods(compared: str, transfers: pd.DataFrame) -> str:
    """Say how many methods are compared, and which of those measured anywhere are not."""
    methods, everyone = compared.split(), {method for names in transfers["methods"] for method in names.split()}
    missing = [METHOD_STYLES[method].label for method in order_methods(everyone.difference(methods))]
    return f"{len(methods)} methods" + (f" (not {' '.join(missing)})" if missing else "")


def _say_ranks(table: pd.DataFrame) -> str | None:
    rows = table[table["statistic"] == "spearman"].dropna(subset=["p_value"])
    if rows.empty:
        return None
    parts = [
        f"{kind} {int((own['p_value'] < 0.05).sum())} of {len(own)} ({0.05 * len(own):.1f}; corrected for their "
        f"number, {int((own['p_holm'] < 0.05).sum())})"
        for kind, own in split_kinds(rows)
    ]
    found = "Pairs of data set and smaller size with p < 0.05 for rank correlation with the largest size (and what "
    return f"{found}chance alone would give): {'; '.join(parts) or 'none'}.{say_no_vote(rows)}"


@figure(
    "rank_transfer",
    notebook="scale_transfer",
    title="Does the order of methods carry over?",
    question="Does the order of methods carry over?",
    caption="Observed rank correlation of methods between each smaller size and the largest (dots), and what it would "
    "be without the noise of the problems asked: median (hollow) and {level} interval of scores shrunk by their noise "
    "and then ranked. The grey tick is the product of both sizes' mean correlation with their own resamples: about the "
    "most that rank noise lets one see.",
    answer=_say_ranks,
    fitted=("value", "estimate", *BARS, "p_value", "p_holm", "ceiling"),
)
def rank_transfer(transfers: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw the rank correlation of methods between each smaller size and the largest, for each data set.

    Bars are intervals of noise-free scores; a tick marks about the most that rank noise lets one see.
    """
    require_rows(transfers, "rank_transfer", "scores of four methods at two sizes")
    table = round_table(transfers)
    labels = [
        f"{name_dataset(row['dataset'])}, {row['size_small']} to {row['size_large']}, "
        f"{_describe_methods(row['methods'], table)}"
        for row in table[table["statistic"] == "spearman"].to_dict("records")
    ]
    figure, axes = small_multiples(2, 2, row_height=0.155 * len(labels) + 0.5, sharey=True)
    for panel, statistic in zip(axes, ("spearman", "kendall"), strict=True):
        for position, row in enumerate(table[table["statistic"] == statistic].to_dict("records")):
            panel.plot([row["lower"], row["upper"]], [position, position], color="#0072B2", linewidth=1.0)
            panel.plot(row["value"], position, "o", color="#0072B2")
            panel.plot(row["estimate"], position, "o", color="#0072B2", markerfacecolor="white", markersize=3)
            panel.plot(row["ceiling"], position, "|", color=GREY, markersize=6)
        panel.axvline(0, color="0.3", linewidth=0.8)
        panel.set_xlim(-1.05, 1.05)
        panel.set_xlabel("rank correlation")
        panel.set_yticks(range(len(labels)), labels)
        panel.set_ylim(len(labels) - 0.4, -0.6)
        panel.set_title({"spearman": "Spearman's rho", "kendall": "Kendall's tau-b"}[statistic], loc="left")
    noiseless = f"without noise, {100 * table['level'].iloc[0]:g} % interval"
    hollow = {"markerfacecolor": "white", "markersize": 3}
    handles = [
        Line2D([], [], color="#0072B2", marker="o", linestyle="", label="observed"),
        Line2D([], [], color="#0072B2", marker="o", label=noiseless, **hollow),
        Line2D([], [], color=GREY, marker="|", linestyle="", label="about the most that rank noise lets one see"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    return figure, table
