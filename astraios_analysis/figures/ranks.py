"""Rank transfer: small against large, and whether the order of methods carries over."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from astraios_analysis.figures.spec import require_rows, round_table
from astraios_analysis.figures.style import (
    GREY,
    METHOD_STYLES,
    columns_for,
    interval_handle,
    method_legend,
    note,
    small_multiples,
)
from astraios_analysis.records.registry import DATASETS, METRICS
from astraios_analysis.records.schema import METHODS
from astraios_analysis.scores.models import keep_means


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
    primary = keep_means(primary)
    parts = []
    for pair in pairs.to_dict("records"):
        sides = [_side(primary, pair, side) for side in ("small", "large")]
        parts.append(sides[0].merge(sides[1], on=["dataset", "metric", "method"], validate="one_to_one"))
    table = round_table(pd.concat(parts, ignore_index=True))
    figure, axes = small_multiples(len(pairs), columns_for(list(pairs["dataset"])))
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
