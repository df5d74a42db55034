"""Scale transfer: fits by size, small against large, rank transfer, and the back-test of all that."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from astraios_analysis.figures import style
from astraios_analysis.figures.spec import BARS, figure, keep_shares, require_rows, round_table
from astraios_analysis.figures.style import GREY, MAX_PANELS, METHOD_STYLES, join, name_dataset, name_grid, size_label
from astraios_analysis.prediction.backtest import largest_from_smaller
from astraios_analysis.prediction.forecast import Fitted, fit_outcome, fit_supported, require_near
from astraios_analysis.prediction.limits import MAX_REACH
from astraios_analysis.prediction.outcome import record_outcome
from astraios_analysis.records.frame import RunRecord
from astraios_analysis.records.notation import count
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.registry import LOSS, METRICS, find_dataset
from astraios_analysis.records.schema import order_methods
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
    fitted, held_out = style.split_held_out(primary)
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
        f"{count(predicted['dataset'].nunique(), 'data set')} and the methods.{say_refused(table)}"
    )


@figure(
    "score_scaling",
    notebook="scale_transfer",
    title="Scores by size, fitted and extrapolated",
    question="What will a larger model score?",
    caption="Measured primary scores with {level} bootstrap intervals over problems, the laws of size that "
    "`astraios predict` averages (solid over the fitted sizes, dashed beyond), and its prediction intervals for a new "
    "run at a larger size ({target}, or what a grid out of its reach is predicted at; 50 % thick, 95 % thin). Fewer "
    "than four sizes leave nothing to back-test with: such data sets are not predicted.",
    answer=_say_scaling,
    fitted=("value", *BARS, "reach"),
)
def score_scaling(
    primary: pd.DataFrame,
    runs: Sequence[RunRecord],
    datasets: Sequence[str],
    target_size: float,
    votes: dict[str, bool],
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
    predicted = [name for name in datasets if name in set(table.loc[table["kind"] == "prediction", "dataset"])]
    shown, rest = style.choose_panels(predicted or datasets, votes)
    rest += [name for name in datasets if predicted and name not in predicted]
    n_columns = min(3, len(shown))
    figure, axes = style.small_multiples(len(shown), n_columns, row_height=2.2)
    for position, (panel, name) in enumerate(zip(axes, shown, strict=True)):
        rows = table[table["dataset"] == name]
        _scaling_panel(panel, rows, target_size)
        measured = rows[rows["kind"].isin(["measured", "held_out"])]
        words = style.describe_models(measured, primary) + style.in_seeds(primary[primary["dataset"] == name])
        lines = rows[rows["kind"] == "line"]
        law = f"mostly {lines['law'].iloc[0]}" if len(lines) else "no law"
        refused = "\nnot predicted" if (rows["kind"] == "refused").any() else ""
        labels = {"xlabel": "base model parameters" if position + n_columns >= len(shown) else ""}
        labels["ylabel"] = METRICS[rows["metric"].iloc[0]].label
        style.label_panel(panel, name_dataset(name), f"{words}\n{law}{refused}", reserve=2, **labels)
    measured = primary[primary["dataset"].isin(datasets)]
    handles = [
        *style.interval_handles(measured),
        style.handle("fitted", linewidth=1.1),
        style.handle("extrapolated", linewidth=1.1, linestyle="--"),
        style.handle("50 %", linewidth=2.2),
        style.handle("95 % prediction interval", linewidth=0.7),
        *style.model_handles(measured),
    ]
    style.method_legend(figure, table["method"].dropna(), handles)
    style.say_undrawn(figure, rest, votes)
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
    for size in style.law_sizes(ends):
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
        {"method": method, "n_params_base": target if target < 1 else round(target), "value": value, "level": level}
        | {end: found.bounds["observation", level][i, place] for i, end in enumerate(BARS)}
        for level in (0.5, 0.95)
        for place, (method, value) in enumerate(zip(found.methods, found.median, strict=True))
    ]


def _scaling_panel(panel: Axes, rows: pd.DataFrame, target: float) -> None:
    measured = rows[rows["kind"] == "measured"]
    style.draw_methods(panel, measured, line=False)
    style.draw_methods(panel, rows[rows["kind"] == "held_out"], line=False, hollow=True)
    smallest, largest = measured["n_params_base"].min(), measured["n_params_base"].max()
    for method, own in rows.groupby("method", sort=False):
        colour = METHOD_STYLES[method].colour
        line = own[own["kind"] == "line"].sort_values("n_params_base")
        n_params = line["n_params_base"]
        style.draw_law(panel, n_params, line["value"], (smallest, largest), colour)
        style.draw_prediction(panel, style.beside(target, method), own[own["kind"] == "prediction"], 0.95, colour)
    sizes = sorted(set(rows.loc[rows["kind"] != "line", "n_params_base"]))
    style.size_axis(panel, sizes, label=False, margin=1.75, label_width=0.18)
    panel.tick_params(axis="x", labelsize=6)
    metric = METRICS[rows["metric"].iloc[0]]
    if metric.is_bounded:
        top = 1.08 * float(np.nanmax(rows[["value", "upper"]].to_numpy(dtype=float)))
        panel.set_ylim(metric.lower, min(metric.upper, top))
    for method, own in rows[rows["kind"] == "seed"].groupby("method", sort=False):
        style.draw_seeds(panel, own["n_params_base"], own["value"], method)


def _say_backtest(table: pd.DataFrame) -> str | None:
    tested, parts = style.keep_voting(table[table["kind"] == "tested"]), []
    losses, scores = tested[tested["dataset"] == LOSS], _shares(tested[tested["dataset"] != LOSS])
    for what, rows, unit, factor in (("losses", losses, "nats", 1), ("scores", scores, "of 100 points", 100)):
        if len(rows):
            error, still = (factor * rows[name].abs().mean() for name in ("error", "persistence_error"))
            width = factor * (rows["upper"] - rows["lower"]).median()
            parts.append(
                f"{what} of the largest size are missed by {error:.2g} {unit} on average (no change: {still:.2g}), "
                f"{count_covered(rows)} of {len(rows)} prediction intervals cover, {width:.2g} wide in the median"
            )
    found = "; ".join(parts)
    return f"{found[0].upper()}{found[1:]}.{style.say_no_vote(table.dropna(subset=['error']))}" if found else None


def _backtest_rows(
    runs: Sequence[RunRecord], datasets: Sequence[str], level: float, votes: Mapping[str, bool]
) -> pd.DataFrame:
    """Return the runs of the largest size with what the smaller ones predict, and of one outcome points and laws.

    ``kind``: ``tested``; ``measured`` (a smaller size) and ``line`` of the outcome that is drawn.
    """
    has_loss = any(run.val_loss is not None and not run.held_out for run in runs)
    parts = []
    for name in [LOSS] * has_loss + list(datasets):
        try:
            outcome = record_outcome(runs, name)
        except Refusal:
            continue
        rows = largest_from_smaller(outcome, (level,))
        if rows is None:
            continue
        # Whole numbers, which rounding leaves as they are.
        parts.append(rows.assign(quantity=name, n_params=rows["n_params"].astype(int)))
    require_rows(pd.DataFrame(parts and parts[0]), "backtest", "methods with primary scores at four sizes")
    tested = _tested(pd.concat(parts, ignore_index=True), level)
    tested = tested.assign(has_vote=tested["dataset"].map(lambda name: votes.get(name, True)))
    # The loss, or what says most: the score with most sizes.
    voting = style.keep_voting(tested).assign(n=lambda own: own.groupby("dataset")["method"].transform("nunique"))
    most = voting.sort_values(["n_train_sizes", "n"], ascending=False, kind="stable")["dataset"]
    name = LOSS if LOSS in set(most) else next(iter(most), tested["dataset"].iloc[0])
    outcome = record_outcome(runs, name)
    fitted = fit_outcome(outcome.below(float(outcome.points.sizes[-1])))
    points = outcome.runs[outcome.runs["n_params"] < outcome.points.sizes[-1]]
    points = points.rename(columns={"n_params": "n_params_base", "value": "measured"})
    points = points[["method", "n_params_base", "measured"]].astype({"n_params_base": int}).assign(kind="measured")
    line = pd.DataFrame(law_rows(fitted, float(outcome.points.sizes[-1]))).rename(columns={"value": "predicted"})
    drawn = pd.concat([points, line.assign(kind="line")]).assign(dataset=name)
    return pd.concat([tested, drawn], ignore_index=True)


def _tested(rows: pd.DataFrame, level: float) -> pd.DataFrame:
    """Return runs that were held out (`prediction.backtest.predict_runs`, with ``quantity``) as rows of the figure."""
    name = f"{100 * level:g}"
    renamed = {"quantity": "dataset", "n_params": "n_params_base", "value": "measured"}
    renamed |= {f"{end}_{name}": end for end in (*BARS, "covered")}
    table = rows.rename(columns=renamed)[[*renamed.values(), *_TESTED]].assign(level=level, kind="tested")
    return table.assign(persistence_error=table["persistence"] - table["measured"])


@figure(
    "backtest",
    notebook="scale_transfer",
    title="Back-test: the largest size predicted from the smaller ones",
    question="How good are such predictions?",
    caption="Left: one outcome, fitted to the smaller sizes (filled) as `astraios predict` does; dashed the way to the "
    "largest size, {level} prediction intervals for a new run there, and what was then measured (hollow). Right: "
    "predicted against measured for every run of the largest size, all data sets scored by a share, with the same "
    "intervals; on the diagonal a prediction is right. Data sets with too few sizes cannot be back-tested.",
    answer=_say_backtest,
    fitted=("predicted", *BARS, "error", "persistence", "persistence_error", "reach"),
    rows=_backtest_rows,
)
def backtest_panels(table: pd.DataFrame) -> Figure:
    """Draw a prediction with what was then measured, and predicted against measured scores, a row a grid.

    ``dataset, method, size, n_params_base, seed, measured, predicted, lower, upper, level, error, covered, persistence,
    persistence_error, n_train_sizes, reach``.
    """
    grids = style.split_grids(table)
    figure, axes = style.small_multiples(2 * len(grids), 2, row_height=2.9)
    for (grid, own), left, right in zip(grids, axes[::2], axes[1::2], strict=True):
        shown = own[own["dataset"] == own.loc[own["kind"] == "line", "dataset"].iloc[0]]
        _prediction_panel(left, shown, grid)
        tested = style.keep_voting(own[own["kind"] == "tested"])
        shares = _shares(tested)
        shares = shares if len(shares) else tested[tested["dataset"] == shown["dataset"].iloc[0]]
        _draw_tested(right, shares, f"{name_grid(grid)}: predicted and measured scores")
    dots = {"marker": "o", "linestyle": ""}
    handles = [
        style.handle("measured, fitted", **dots),
        style.handle("measured, held out", markerfacecolor="white", **dots),
        style.handle("predicted", linewidth=1.1, linestyle="--"),
        style.handle(f"{100 * table['level'].max():g} % prediction interval", linewidth=0.8),
    ]
    style.method_legend(figure, table["method"], handles)
    return figure


def _prediction_panel(panel: Axes, rows: pd.DataFrame, grid: str) -> None:
    """Draw an outcome by size: what was fitted, the law, and the prediction of the largest size beside its runs."""
    kinds = {kind: rows[rows["kind"] == kind] for kind in ("measured", "line", "tested")}
    inside, target = kinds["measured"]["n_params_base"], float(kinds["tested"]["n_params_base"].iloc[0])
    for method, line in kinds["line"].groupby("method", sort=False):
        colour, line = METHOD_STYLES[method].colour, line.sort_values("n_params_base")
        style.draw_law(panel, line["n_params_base"], line["predicted"], (inside.min(), inside.max()), colour)
        own, tested = (kinds[kind][kinds[kind]["method"] == method] for kind in ("measured", "tested"))
        style.draw_markers(panel, own["n_params_base"], own["measured"], method, size=3.4)
        x = style.beside(target, method)
        for ends in tested.iloc[:1][[*BARS]].to_numpy(dtype=float):
            panel.plot([x, x], ends, color=colour, linewidth=0.9)
        style.draw_markers(panel, [x] * len(tested), tested["measured"], method, hollow=True, size=4)
    name = rows["dataset"].iloc[0]
    style.size_axis(panel, [*inside, target], margin=1.75)
    metric = METRICS.get(find_dataset(name).primary_metric or "")
    if name == LOSS:
        style.plain_log(panel)
    ylabel = "nats per token" if name == LOSS else metric.label if metric else style.shorten(name)
    title = f"{name_grid(grid)}: {style.shorten(name_dataset(name), 32)}"
    style.label_panel(panel, title, _verdict(kinds["tested"]), reserve=2, ylabel=ylabel)


def _shares(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of data sets whose scores are shares, by their metric or else by their values."""
    metrics = rows["dataset"].map(lambda name: METRICS.get(find_dataset(name).primary_metric or ""))
    within = rows.groupby("dataset")["measured"].transform(lambda own: own.between(0, 1).all())
    ends = [(0, 1) if metric is None else (metric.lower, metric.upper) for metric in metrics]
    return rows[[fits and known == (0, 1) for known, fits in zip(ends, within, strict=True)]]


def backtest_rows(rows: pd.DataFrame) -> Figure:
    """Draw runs that were held out (`prediction.backtest.predict_runs`, with ``quantity``), one panel a quantity."""
    table = _tested(rows, 0.95)
    names = list(dict.fromkeys(table["dataset"]))[:MAX_PANELS]
    figure, axes = style.small_multiples(len(names), min(3, len(names)), row_height=2.4)
    for panel, name in zip(axes, names, strict=True):
        _draw_tested(panel, table[table["dataset"] == name], name_dataset(name))
    style.method_legend(figure, table["method"])
    return figure


def _draw_tested(panel: Axes, rows: pd.DataFrame, title: str) -> None:
    for method, own in rows.groupby("method", sort=False):
        panel.vlines(own["measured"], own["lower"], own["upper"], color=METHOD_STYLES[method].colour, linewidth=0.5)
        style.draw_markers(panel, own["measured"], own["predicted"], method, size=3.4)
    ends = rows["measured"].min(), rows["measured"].max()
    panel.axline((ends[0], ends[0]), slope=1, color=GREY, linewidth=0.8, zorder=1)
    style.label_panel(panel, title, _verdict(rows), reserve=2, xlabel="measured", ylabel="predicted")


def _verdict(rows: pd.DataFrame) -> str:
    error, still = (float(rows[name].abs().mean()) for name in ("error", "persistence_error"))
    covered = f"{count_covered(rows)} of {len(rows)} intervals cover"
    n = f"{count(rows['method'].nunique(), 'method')} at {join(dict.fromkeys(rows['size']))}"
    return f"{n}\nmean error {error:.3f}, no change {still:.3f}; {covered}"


def prediction_panels(
    fitted: Mapping[str, Fitted], targets: Mapping[str, Sequence[float]], x_label: str = ""
) -> Figure:
    """Draw predictions of any outcomes at each method's targets: single runs, laws (dashed beyond these), intervals."""
    figure, axes = style.small_multiples(len(fitted), min(len(fitted), 3), row_height=2.3)
    METHOD_STYLES.order(targets)
    every = sorted({target for own in targets.values() for target in own})
    for panel, (name, one) in zip(axes, fitted.items(), strict=True):
        laws = pd.DataFrame([row for target in every for row in law_rows(one, target)])
        bars = {target: pd.DataFrame(prediction_rows(one, target)).groupby("method") for target in every}
        for method, own_targets in targets.items():
            if method not in one.methods:
                continue
            ends = one.range_of(method)
            colour, runs = METHOD_STYLES[method].colour, one.outcome.runs[one.outcome.runs["method"] == method]
            style.draw_markers(panel, runs["n_params"], runs["value"], method, size=3.5)
            own = laws[(laws["method"] == method) & (laws["n_params_base"] <= max(*ends, *own_targets))]
            own = own.drop_duplicates("n_params_base").sort_values("n_params_base")
            style.draw_law(panel, own["n_params_base"], own["value"], ends, colour)
            for target in dict.fromkeys(own_targets):
                rows = bars[target].get_group(method)
                place = style.beside(float(target), method)
                style.draw_prediction(panel, place, rows, 0.95, colour)
                style.draw_markers(panel, [place], rows["value"].iloc[:1], method, hollow=True, size=3.5)
        panel.set_xscale("log")
        if one.outcome.link == "log":
            style.plain_log(panel)
        panel.set_title(style.shorten(name_dataset(name), 32), loc="left")
        panel.set(xlabel=x_label, ylabel=one.outcome.metric)
    looks = (("law", 0.8, "-"), ("extrapolated", 0.8, "--"), ("50 %", 2.2, "-"), ("95 % prediction interval", 0.7, "-"))
    handles = [style.handle(label, linewidth=w, linestyle=dash) for label, w, dash in looks]
    style.method_legend(figure, targets, handles)
    # Whoever asked for it shows it: an open figure a notebook would show once more.
    pyplot.close(figure)
    return figure


def _say_small_large(table: pd.DataFrame) -> str | None:
    fits = table[(table["kind"] == "fit") & table["is_drawn"].astype(bool)] if "kind" in table else table.iloc[:0]
    if fits.empty:
        return None
    parts = []
    for kind, own in style.split_kinds(fits):
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
    caption="Each method's primary score at the smallest size that tells methods apart against its score at the "
    "largest size that has scores of four or more methods, with {level} intervals in both directions. The line "
    "regresses large on small with the errors of both, which problems cause (Fuller 1987); its {level} band is from "
    "one resample of problems for all. Dotted: differences that carry over unchanged. Where methods may differ at all "
    "smaller sizes by the choice of problems alone there is no line. The table has every pair of sizes.",
    answer=_say_small_large,
    fitted=("small_lower", "small_upper", "large_lower", "large_upper", *_LINE),
)
def small_against_large(
    primary: pd.DataFrame, slopes: pd.DataFrame, votes: dict[str, bool]
) -> tuple[Figure, pd.DataFrame]:
    """Draw each method's score at the smallest size against its score at the largest, for each data set.

    The twin has rows of kind point (of the pairs drawn) and fit (of every pair of sizes).
    """
    require_rows(slopes, "small_against_large", "scores of four methods at two sizes")
    # The widest pair that has a slope, or else the widest.
    widest = slopes["n_params_large"] / slopes["n_params_small"] * np.where(slopes["slope"].isna(), 1e-9, 1)
    is_drawn = widest == widest.groupby(slopes["dataset"]).transform("max")
    fits = slopes.assign(kind="fit", is_drawn=is_drawn)
    points = pd.concat([_pairs(primary, fit) for fit in fits[is_drawn].to_dict("records")], ignore_index=True)
    table = round_table(pd.concat([points, fits], ignore_index=True))
    drawn = table[table["is_drawn"].astype("boolean").fillna(False)]
    has_slope = drawn["slope"].notna() if drawn["slope"].notna().any() else drawn["slope"].isna()
    shown, _ = style.choose_panels(drawn.loc[has_slope, "dataset"], votes)
    rest = [name for name in drawn["dataset"] if name not in shown]
    picture = _transfer_panels(table[table["kind"] == "point"], drawn[drawn["dataset"].isin(shown)])
    style.say_undrawn(picture, rest, votes)
    return picture, table


def transfer_panels(primary: pd.DataFrame, slopes: pd.DataFrame) -> Figure:
    """Draw large against small with its line, a panel a row of ``slopes`` (`scores.transfer.transfer_slopes`)."""
    points = pd.concat([_pairs(primary, fit) for fit in slopes.to_dict("records")], ignore_index=True)
    return _transfer_panels(points, slopes)


def _pairs(primary: pd.DataFrame, fit: dict) -> pd.DataFrame:
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
    figure, axes = style.small_multiples(len(fits), min(3, len(fits)), row_height=1.95)
    for panel, fit in zip(axes, fits.to_dict("records"), strict=True):
        chosen = (points["dataset"] == fit["dataset"]) & (points["size_small"] == fit["size_small"])
        rows = points[chosen & (points["size_large"] == fit["size_large"])]
        for row in rows.to_dict("records"):
            look = METHOD_STYLES[row["method"]]
            panel.plot([row["small_lower"], row["small_upper"]], [row["large"]] * 2, color=look.colour, linewidth=0.6)
            panel.plot([row["small"]] * 2, [row["large_lower"], row["large_upper"]], color=look.colour, linewidth=0.6)
            panel.plot(row["small"], row["large"], look.marker, color=look.colour, markeredgewidth=0, zorder=3)
        _draw_line(panel, fit)
        who = _describe_methods(fit["methods"], fits) + style.say_mute(pd.DataFrame([fit]))
        metric = METRICS[fit["metric"]].label if fit["metric"] in METRICS else fit["metric"]
        xlabel, ylabel = (f"{metric}, {fit[size]}" for size in ("size_small", "size_large"))
        words = f"{who}\n{_say_slope(fit)}"
        style.label_panel(panel, name_dataset(fit["dataset"]), words, reserve=2, xlabel=xlabel, ylabel=ylabel)
    handles = [
        *style.interval_handles(points),
        style.handle("large on small, errors in both", color="black", linewidth=0.9),
        style.handle("differences unchanged", linewidth=0.8, linestyle=":"),
    ]
    style.method_legend(figure, points["method"], handles)
    return figure


def _say_slope(fit: dict) -> str:
    if not np.isnan(fit["slope"]):
        return f"slope {_interval(fit)}"
    known = not np.isnan(fit["reliability"])
    return f"no slope: reliability at {fit['size_small']} {fit['reliability']:.2f}" if known else "no slope"


def _interval(fit: dict) -> str:
    lower, upper = (f"{float(f'{fit[name]:.2g}'):g}" for name in ("slope_lower", "slope_upper"))
    return f"{fit['slope']:.2f} [{lower}, {upper}]"


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
    return count(len(methods), "method") + (f" (not {' '.join(missing)})" if missing else "")
