"""Validation cross-entropy of runs: final, by step, and a line through it against size.

Losses are in nats per token, on validation tokens that are the same for all runs of a grid. Standard errors are over
these tokens; they do not cover training again, which takes seeds.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from astraios_analysis.records.frame import RunRecord, to_frame
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.scores.seeds import average, has_several_seeds, keep_means, with_means

MIN_SIZES = 3
_RUN = [
    "grid",
    "run_id",
    "size",
    "method",
    "seed",
    "held_out",
    "n_params",
    "n_params_base",
    "n_params_base_nonembedding",
    "n_params_updated",
]
LOSSES = ["base_val_loss", "val_loss", "val_loss_se"]


def final_losses(records: Sequence[RunRecord], *, level: float = 0.95) -> pd.DataFrame:
    """Return the final validation loss of each run and, with several seeds, of each model.

    Parameters
    ----------
    records : sequence of RunRecord
        Runs of one grid; those without a loss are left out.
    level : float
        Coverage of the intervals, in (0, 1).

    Returns
    -------
    DataFrame
        ``grid, run_id, size, method, seed, held_out, n_params_base, ..., base_val_loss, val_loss, val_loss_se, lower,
        upper, level`` (nats per token) and, with several seeds, ``kind`` and ``n_seeds``. Intervals are normal, from
        the standard error over validation tokens. All seeds are validated on the same tokens, so a mean over seeds
        keeps their mean standard error rather than a smaller one.

    Raises
    ------
    Refusal
        If no run has a loss.
    """
    runs = to_frame(records, per="run")
    runs = runs.loc[runs["val_loss"].notna(), [*_RUN, *LOSSES]].reset_index(drop=True)
    if runs.empty:
        raise Refusal(
            "none of these runs has a validation loss (released models were published without); train a grid, or add "
            "records with val_loss"
        )
    table = runs
    if has_several_seeds(records):
        table = with_means(runs, average(runs, [], LOSSES))
    half = stats.norm.ppf((1 + level) / 2) * table["val_loss_se"]
    return table.assign(lower=table["val_loss"] - half, upper=table["val_loss"] + half, level=level)


def loss_curves(records: Sequence[RunRecord]) -> pd.DataFrame:
    """Return the validation loss of each run by optimiser step and, with several seeds, of each model.

    Returns
    -------
    DataFrame
        ``grid, run_id, size, method, seed, held_out, n_params_base, ..., step, loss, stderr``; step 0 is the base
        model. With several seeds also ``kind`` and ``n_seeds``.

    Raises
    ------
    Refusal
        If no run has a validation curve.
    """
    rows = [
        {name: getattr(record, name) for name in _RUN} | {"step": p.step, "loss": p.loss, "stderr": p.stderr}
        for record in records
        for p in record.val_curve
    ]
    if not rows:
        raise Refusal("none of these runs has a validation curve; train a grid, or add records with val_curve")
    table = pd.DataFrame(rows).astype({"stderr": float, "seed": "Int64"})
    if not has_several_seeds(records):
        return table
    return with_means(table, average(table, ["step"], ["loss"]))


def loss_lines(losses: pd.DataFrame, *, level: float = 0.95, n_points: int = 25) -> pd.DataFrame:
    """Fit ``log loss = a + b log N`` to each method, N the base parameters; held-out sizes take no part.

    Parameters
    ----------
    losses : DataFrame
        `final_losses`; each model enters once, with its mean over seeds.
    level : float
        Coverage of the confidence band.
    n_points : int
        Sizes to return for each method, from the smallest to the largest measured one, held-out ones included.

    Returns
    -------
    DataFrame
        ``method, n_params_base, value, lower, upper, level, slope, slope_lower, slope_upper, n_sizes, dof,
        is_extrapolated``. The band is a confidence band of the line, with t quantiles: it is not where a new run falls.

    Raises
    ------
    Refusal
        If no method has three sizes.

    Notes
    -----
    A line has no floor: it is the form that few sizes can support, and bends away from losses that have one.
    """
    means = keep_means(losses)
    ends = means["n_params_base"].min(), means["n_params_base"].max()
    parts = []
    for method, own in means.groupby("method", sort=False):
        own = own[~own["held_out"].astype(bool)]
        if own["n_params_base"].nunique() < MIN_SIZES:
            continue
        parts.append(_line(own, ends, level, n_points).assign(method=method))
    if not parts:
        raise Refusal(f"no method has a loss at {MIN_SIZES} sizes; a line and its error need as many: add sizes")
    return pd.concat(parts, ignore_index=True)


def _line(own: pd.DataFrame, ends: tuple[float, float], level: float, n_points: int) -> pd.DataFrame:
    n_params = own["n_params_base"].to_numpy(dtype=float)
    x, y = np.log10(n_params), np.log10(own["val_loss"].to_numpy(dtype=float))
    dof, spread = len(x) - 2, float(np.sum((x - x.mean()) ** 2))
    slope = float(np.sum((x - x.mean()) * (y - y.mean())) / spread)
    residual = float(np.sqrt(np.sum((y - y.mean() - slope * (x - x.mean())) ** 2) / dof))
    t = float(stats.t.ppf((1 + level) / 2, dof))
    between = [float(f"{size:.4g}") for size in np.geomspace(*map(float, ends), n_points)[1:-1]]
    at = np.unique(np.rint([*map(float, ends), *between, *n_params]))
    centred = np.log10(at) - x.mean()
    centre = y.mean() + slope * centred
    half = t * residual * np.sqrt(1 / len(x) + centred**2 / spread)
    error = t * residual / np.sqrt(spread)
    return pd.DataFrame(
        {
            "n_params_base": at.astype(int),
            "value": 10**centre,
            "lower": 10 ** (centre - half),
            "upper": 10 ** (centre + half),
            "level": level,
            "slope": slope,
            "slope_lower": slope - error,
            "slope_upper": slope + error,
            "n_sizes": len(x),
            "dof": dof,
            "is_extrapolated": (at < n_params.min()) | (at > n_params.max()),
        }
    )
