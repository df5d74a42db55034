"""PooledPoints of outcome against size, from records or from a user's table, as `pools` fits them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from astraios_analysis.laws.tables import read_table
from astraios_analysis.prediction.pooled_points import Link, PooledPoints
from astraios_analysis.records.counts import inside_unit_interval
from astraios_analysis.records.frame import RunRecord
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.scores.models import ModelScores, require_one_grid


def loss_points(records: Sequence[RunRecord]) -> PooledPoints:
    """Return the final validation losses of the runs that are not held out, averaged over seeds.

    Raises
    ------
    Refusal
        If no run has a loss.
    """
    require_one_grid(records)
    known = [(r.n_params_base, r.method, r.val_loss) for r in records if not r.held_out and r.val_loss is not None]
    if not known:
        raise Refusal("these runs have no validation loss, so none is predicted; a grid trained here measures it")
    frame = pd.DataFrame(known, columns=["x", "group", "y"])
    return _average(frame, "log")


def score_points(scores: ModelScores) -> PooledPoints:
    """Return the scores of models that are not held out as shares in which more is better, inside (0, 1).

    Raises
    ------
    Refusal
        If there is none.
    """
    kept = scores.keep(~scores.table["held_out"].to_numpy(dtype=bool)) if len(scores.table) else scores
    if not len(kept.table):
        raise Refusal(f"no run has a score on {scores.dataset} to fit")
    table, n_items = kept.table, kept.table["n_items"].to_numpy(dtype=float)
    p = inside_unit_interval(kept.goodness(table["value"].to_numpy(dtype=float)), n_items)
    variance = p * (1 - p)
    n_seeds = table["n_seeds"].to_numpy(dtype=float)
    repeated = n_seeds > 1
    seed_variance = 0.0
    if repeated.any():
        own = (table["seed_variance"].to_numpy(dtype=float) / variance**2)[repeated]
        # Near 0 and 1 the linearised variance explodes; the median is that of an ordinary model.
        seed_variance = float(np.median(own))
    noise = 1 / (n_items * variance)
    size = table["n_params_base"].to_numpy(dtype=float)
    return PooledPoints(size, p, table["method"].to_numpy(dtype=str), noise, seed_variance, float(n_seeds.mean()))


def read_points(path: Path, x: str, y: str, group: str | None, link: Link) -> PooledPoints:
    """Read points from a CSV file with named columns; lines that begin with # are comments.

    Parameters
    ----------
    path : Path
    x, y : str
        Columns of sizes and outcomes. Rows of one size and group are replicates.
    group : str, optional
        Column of methods; all rows are one group without it.
    link : {"log", "logit"}

    Raises
    ------
    Refusal
        If the file has no such column or a value is not a number.
    """
    table = read_table(path)
    for column in (x, y, *([group] if group else [])):
        if column not in table:
            raise Refusal(f"{path} has no column {column!r}; choose from {', '.join(map(str, table.columns))}")
    frame = pd.DataFrame({"x": table[x], "y": table[y], "group": table[group].astype(str) if group else "all"})
    for column, name in (("x", x), ("y", y)):
        numbers = pd.to_numeric(frame[column], errors="coerce")
        if numbers.isna().any():
            row = int(np.flatnonzero(numbers.isna())[0])
            raise Refusal(
                f"{path}: {name} is {frame[column].iloc[row]!r} in row {row + 1}; give a number or drop the row"
            )
        frame[column] = numbers.astype(float)
    wrong = frame["y"] <= 0 if link == "log" else (frame["y"] <= 0) | (frame["y"] >= 1)
    if wrong.any():
        allowed = "above 0" if link == "log" else "between 0 and 1"
        raise Refusal(f"{path}: {y} is {frame['y'][wrong].iloc[0]:g}; values must lie {allowed} for a {link} scale")
    return _average(frame, link)


def _average(frame: pd.DataFrame, link: Link) -> PooledPoints:
    """Average replicates, and pool their variance on the link scale."""
    grouped = frame.groupby(["x", "group"], sort=True)["y"]
    means = grouped.mean().reset_index()
    z = np.log(frame["y"]) if link == "log" else np.log(frame["y"] / (1 - frame["y"]))
    squares = z.groupby([frame["x"], frame["group"]]).agg(["var", "size"])
    dof = squares["size"] - 1
    seed_variance = float((squares["var"] * dof).sum() / dof.sum()) if dof.sum() else 0.0
    size, y = means["x"].to_numpy(dtype=float), means["y"].to_numpy(dtype=float)
    methods, n_seeds = means["group"].to_numpy(dtype=str), float(squares["size"].mean())
    return PooledPoints(size, y, methods, np.zeros(len(y)), seed_variance, n_seeds)


def without_largest(points: PooledPoints) -> tuple[PooledPoints, PooledPoints]:
    """Split points into those of smaller sizes and those of the largest."""
    is_last = points.n_params == points.n_params.max()
    return points.keep(~is_last), points.keep(is_last)
