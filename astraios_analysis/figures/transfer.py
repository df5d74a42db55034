"""Scale transfer: fits by size, small against large, rank transfer, and the back-test of all that."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from astraios_analysis.backtests import backtest, summarise_backtest
from astraios_analysis.figures.spec import require_rows, round_table
from astraios_analysis.figures.tasks import models_in
from astraios_analysis.fits import Fit, fit_by
from astraios_analysis.laws import Law
from astraios_analysis.metrics import DATASETS, METRICS
from astraios_analysis.predictions import predict
from astraios_analysis.schema import METHODS
from astraios_analysis.style import (
    GREY,
    METHOD_STYLES,
    describe_models,
    dodge,
    draw_methods,
    interval_handle,
    method_legend,
    note,
    size_axis,
    small_multiples,
)

POOLING_WORDS = {
    ("per_method",): "own slope for each method",
    ("pooled",): "one slope for all methods",
    ("per_method", "pooled"): "own or shared slopes",
}


def score_scaling(
    primary: pd.DataFrame, datasets: Sequence[str], law: Law, target: float
) -> tuple[Figure, pd.DataFrame]:
    """Draw measured scores, fitted lines and predictions at a target size, for each data set.

    Parameters
    ----------
    primary : DataFrame
        Primary scores with intervals.
    datasets : sequence of str
        Data sets with three sizes or more.
    law : Law
    target : float
        Base parameters to predict at.

    Returns
    -------
    Figure
        Lines are solid over the fitted sizes and dashed beyond; bars at the target are 50 % (thick) and 95 % (thin)
        prediction intervals for a new run.
    DataFrame
        Measured rows (``kind`` measured), lines (line) and predictions (prediction).
    """
    parts = [_scaling_rows(primary[primary["dataset"] == name], law, target) for name in datasets]
    table = round_table(pd.concat(parts, ignore_index=True)) if parts else pd.DataFrame()
    require_rows(table, "score_scaling", "a data set with primary scores at three sizes")
    figure, axes = small_multiples(len(datasets), 4, row_height=1.85)
    suite = models_in(primary)
    for position, (panel, name) in enumerate(zip(axes, datasets, strict=True)):
        rows = table[table["dataset"] == name]
        _scaling_panel(panel, rows, target)
        measured = rows[rows["kind"].isin(["measured", "held_out"])]
        panel.set_title(DATASETS[name].title, loc="left")
        poolings = tuple(sorted(set(rows.loc[rows["kind"] == "prediction", "pooling"])))
        shown = describe_models(models_in(measured), suite)
        note(panel, f"{shown}\n{POOLING_WORDS[poolings]}", width=33, reserve=3)
        panel.set_ylabel(METRICS[DATASETS[name].primary_metric or ""].label)
        panel.set_xlabel("base model parameters" if position + 4 >= len(datasets) else "")
    measured = primary[primary["dataset"].isin(datasets)]
    handles = [
        interval_handle(measured["level"].iloc[0], measured["interval"]),
        Line2D([], [], color=GREY, linewidth=1.1, label="fitted"),
        Line2D([], [], color=GREY, linewidth=1.1, linestyle="--", label="extrapolated"),
        Line2D([], [], color=GREY, linewidth=2.2, label="50 %"),
        Line2D([], [], color=GREY, linewidth=0.7, label="95 % prediction interval"),
    ]
    method_legend(figure, table["method"], handles)
    return figure, table


def _scaling_rows(own: pd.DataFrame, law: Law, target: float) -> pd.DataFrame:
    fits = fit_by(own, law)
    keep = ["dataset", "metric", "size", "method", "n_params_base", "value", "lower", "upper", "level", "n_items"]
    is_held_out = own["held_out"].astype(bool)
    measured = own[keep].assign(kind=np.where(is_held_out, "held_out", "measured"), pooling="", dof=pd.NA)
    rows = []
    for method, fitted in fits.items():
        shared = {"dataset": own["dataset"].iloc[0], "metric": own["metric"].iloc[0], "method": method}
        shared |= {"pooling": fitted.pooling, "dof": fitted.dof}
        grid = _line_sizes(fitted, target)
        for n_params, value in zip(grid, law.unlink(fitted.design(grid, method) @ fitted.theta), strict=True):
            rows.append({**shared, "kind": "line", "n_params_base": n_params, "value": value})
        rows.extend(shared | _prediction(fitted, target, method, level) for level in (0.5, 0.95))
    return pd.concat([measured, pd.DataFrame(rows)], ignore_index=True)


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
        beyond = [(n_params <= smallest, "--"), (n_params >= largest, "--")]
        for part, style in [(n_params.between(smallest, largest), "-"), *beyond]:
            panel.plot(n_params[part], line["value"][part], color=colour, linewidth=0.8, linestyle=style)
        x = float(dodge([target], method, spread=2)[0])
        for level, width in ((0.95, 0.7), (0.5, 2.2)):
            for row in own[(own["kind"] == "prediction") & (own["level"] == level)].to_dict("records"):
                panel.plot([x, x], [row["lower"], row["upper"]], color=colour, linewidth=width, solid_capstyle="butt")
    sizes = [*rows.loc[rows["size"].notna(), "n_params_base"], round(target)]
    size_axis(panel, sizes, label=False, margin=1.45, label_width=0.18)
    panel.tick_params(axis="x", labelsize=6)
    panel.set_ylim(0, 1)


def small_against_large(primary: pd.DataFrame, transfers: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw each method's score at the smallest size against its score at the largest, for each data set.

    Parameters
    ----------
    primary : DataFrame
        Primary scores with intervals.
    transfers : DataFrame
        `regressions.rank_transfer` of several data sets; gives the pairs of sizes and the correlations.

    Returns
    -------
    Figure
    DataFrame
        One row for each method of each data set: ``small, small_lower, small_upper, large, ...``.
    """
    require_rows(transfers, "small_against_large", "scores of four methods at two sizes")
    smallest = transfers["n_params_small"] == transfers.groupby("dataset")["n_params_small"].transform("min")
    pairs = transfers[smallest & (transfers["statistic"] == "spearman")]
    parts = []
    for pair in pairs.to_dict("records"):
        sides = [_side(primary, pair, side) for side in ("small", "large")]
        parts.append(sides[0].merge(sides[1], on=["dataset", "metric", "method"], validate="one_to_one"))
    table = round_table(pd.concat(parts, ignore_index=True))
    figure, axes = small_multiples(len(pairs), 4)
    for panel, pair in zip(axes, pairs.to_dict("records"), strict=True):
        rows = table[table["dataset"] == pair["dataset"]]
        for row in rows.to_dict("records"):
            style = METHOD_STYLES[row["method"]]
            panel.plot([row["small_lower"], row["small_upper"]], [row["large"]] * 2, color=style.colour, linewidth=0.6)
            panel.plot([row["small"]] * 2, [row["large_lower"], row["large_upper"]], color=style.colour, linewidth=0.6)
            panel.plot(row["small"], row["large"], style.marker, color=style.colour, markeredgewidth=0, zorder=3)
        panel.set_title(DATASETS[pair["dataset"]].title, loc="left")
        who = _describe_methods(pair["methods"], transfers)
        note(panel, f"{who}\nSpearman {pair['value']:.2f}, p = {pair['p_value']:.2g}", width=36, reserve=2)
        panel.set_xlabel(f"{METRICS[rows['metric'].iloc[0]].label}, {pair['size_small']}")
        panel.set_ylabel(f"{METRICS[rows['metric'].iloc[0]].label}, {pair['size_large']}")
    drawn = primary[primary["dataset"].isin(pairs["dataset"])]
    method_legend(figure, table["method"], [interval_handle(drawn["level"].iloc[0], drawn["interval"])])
    return figure, table


def _describe_methods(compared: str, transfers: pd.DataFrame) -> str:
    """Say how many methods are compared, and which of those measured anywhere are not."""
    methods, everyone = compared.split(), {method for names in transfers["methods"] for method in names.split()}
    missing = [METHOD_STYLES[method].label for method in METHODS if method in everyone.difference(methods)]
    return f"{len(methods)} methods" + (f" (not {' '.join(missing)})" if missing else "")


def _side(primary: pd.DataFrame, pair: dict, side: str) -> pd.DataFrame:
    chosen = (primary["dataset"] == pair["dataset"]) & (primary["n_params_base"] == pair[f"n_params_{side}"])
    columns = {"size": f"size_{side}", "value": side, "lower": f"{side}_lower", "upper": f"{side}_upper"}
    return primary.loc[chosen, ["dataset", "metric", "method", *columns]].rename(columns=columns)


def rank_transfer(transfers: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw the rank correlation of methods between each smaller size and the largest, for each data set.

    Parameters
    ----------
    transfers : DataFrame
        `regressions.rank_transfer` of several data sets.

    Returns
    -------
    Figure
        Bars are percentile intervals over problems; a tick marks about the most that rank noise lets one see.
    DataFrame
    """
    require_rows(transfers, "rank_transfer", "scores of four methods at two sizes")
    table = round_table(transfers)
    labels = [
        f"{DATASETS[row['dataset']].title}, {row['size_small']} to {row['size_large']}, "
        f"{_describe_methods(row['methods'], table)}"
        for row in table[table["statistic"] == "spearman"].to_dict("records")
    ]
    figure, axes = small_multiples(2, 2, row_height=0.155 * len(labels) + 0.5, sharey=True)
    for panel, statistic in zip(axes, ("spearman", "kendall"), strict=True):
        for position, row in enumerate(table[table["statistic"] == statistic].to_dict("records")):
            panel.plot([row["lower"], row["upper"]], [position, position], color="#0072B2", linewidth=1.0)
            panel.plot(row["value"], position, "o", color="#0072B2")
            panel.plot(row["ceiling"], position, "|", color=GREY, markersize=6)
        panel.axvline(0, color="0.3", linewidth=0.8)
        panel.set_xlim(-1.05, 1.05)
        panel.set_xlabel("rank correlation")
        panel.set_yticks(range(len(labels)), labels)
        panel.set_ylim(len(labels) - 0.4, -0.6)
        panel.set_title({"spearman": "Spearman's rho", "kendall": "Kendall's tau-b"}[statistic], loc="left")
    observed = f"observed, {100 * table['level'].iloc[0]:g} % percentile interval over problems"
    handles = [
        Line2D([], [], color="#0072B2", marker="o", label=observed),
        Line2D([], [], color=GREY, marker="|", linestyle="", label="about the most that rank noise lets one see"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    return figure, table


def backtest_panels(
    primary: pd.DataFrame, datasets: Sequence[str], law: Law, level: float
) -> tuple[Figure, pd.DataFrame]:
    """Draw the largest size's measured scores against what the smaller sizes predicted, for each data set.

    Returns
    -------
    Figure
        The pooled procedure; hollow points are held out, bars are prediction intervals for a new run.
    DataFrame
        Both poolings (``is_drawn`` marks the pooled one).
    """
    poolings = ("pooled", "per_method")
    parts = [backtest(primary, name, pooling=p, level=level, law=law) for name in datasets for p in poolings]
    table = round_table(pd.concat(parts, ignore_index=True)) if parts else pd.DataFrame()
    require_rows(table, "backtest", "methods with primary scores at three sizes")
    table["is_drawn"] = table["pooling"] == "pooled"
    summary = summarise_backtest(table[table["is_drawn"]]).set_index("dataset")
    figure, axes = small_multiples(len(datasets), 4, row_height=2.05, sharey=True)
    for panel, name in zip(axes, datasets, strict=True):
        _backtest_panel(panel, table[(table["dataset"] == name) & table["is_drawn"]])
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


def _backtest_panel(panel: Axes, rows: pd.DataFrame) -> None:
    for position, method in enumerate(METHODS):
        style = METHOD_STYLES[method]
        for row in rows[rows["method"] == method].to_dict("records"):
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
