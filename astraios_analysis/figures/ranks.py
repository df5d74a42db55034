"""Rank transfer: small against large, and whether the order of methods carries over."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from astraios_analysis.figures.spec import BARS, figure, require_rows, round_table
from astraios_analysis.figures.style import (
    GREY,
    METHOD_STYLES,
    columns_for,
    interval_handle,
    method_legend,
    name_dataset,
    note,
    small_multiples,
)
from astraios_analysis.records.registry import DATASETS, METRICS
from astraios_analysis.records.schema import METHODS
from astraios_analysis.scores.models import keep_means


def _say_small_large(table: pd.DataFrame) -> str | None:
    found = {
        dataset: rows["small"].corr(rows["large"], method="spearman")
        for dataset, rows in table.groupby("dataset", sort=False)
        if min(len(rows), rows["small"].nunique() + 1, rows["large"].nunique() + 1) > 2
    }
    known = pd.Series(found, dtype=float).dropna()
    if known.empty:
        return None
    ends = [f"{known[name]:.2f} ({name_dataset(name)})" for name in (known.idxmin(), known.idxmax())]
    return (
        f"Spearman's correlation of small and large is above 0 on {int((known > 0).sum())} of {len(known)} data sets, "
        f"from {ends[0]} to {ends[1]}."
    )


@figure(
    "small_against_large",
    notebook="scale_transfer",
    title="Small against large",
    question="Do methods keep their places from small to large?",
    caption="Each method's primary score at the smallest size against its score at the largest size that has scores of "
    "four or more methods, with {level} intervals in both directions. Spearman's rank correlation with its exact "
    "permutation p-value.",
    answer=_say_small_large,
    fitted=("small_lower", "small_upper", "large_lower", "large_upper"),
)
def small_against_large(primary: pd.DataFrame, transfers: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw each method's score at the smallest size against its score at the largest, for each data set."""
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


def _say_ranks(table: pd.DataFrame) -> str | None:
    rows = table[table["statistic"] == "spearman"].dropna(subset=["p_value"])
    if rows.empty:
        return None
    clear = rows[rows["p_value"] < 0.05]
    chance = 0.05 * len(rows)
    return (
        f"{len(clear)} of {len(rows)} pairs of data set and smaller size have p < 0.05 for rank correlation with the "
        f"largest size, where chance alone would give about {chance:.1f}."
    )


@figure(
    "rank_transfer",
    notebook="scale_transfer",
    title="Does the order of methods carry over?",
    question="Does the order of methods carry over?",
    caption="Rank correlation of methods between each smaller size and the largest, with {level} percentile intervals "
    "over resampled problems. The grey tick is the product of both sizes' mean correlation with their own resamples: "
    "about the most that rank noise lets one see. Noise pulls resampled ranks towards 0, so an interval can leave out "
    "its estimate: it says how much depends on the problems, and is no confidence interval for the order of noise-free "
    "scores.",
    answer=_say_ranks,
    fitted=("value", *BARS, "p_value", "ceiling"),
)
def rank_transfer(transfers: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw the rank correlation of methods between each smaller size and the largest, for each data set.

    Bars are percentile intervals over problems; a tick marks about the most that rank noise lets one see.
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
