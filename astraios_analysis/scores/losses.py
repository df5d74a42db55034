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
from astraios_analysis.scores.models import has_several_seeds, keep_means, with_means

MIN_SIZES = 3
_RUN = ["grid", "run_id", "size", "method", "seed", "held_out"]
_RUN += ["n_params", "n_params_base", "n_params_base_nonembedding", "n_params_updated"]
LOSSES = ["base_val_loss", "val_loss", "val_loss_se"]


def final_losses(records: Sequence[RunRecord], *, level: float = 0.95) -> pd.DataFrame:
    """Return the final validation loss of each run of a grid that has one and, with several seeds, of each model.

    Intervals are normal, from the standard error over validation tokens. All seeds are validated on the same tokens, so
    a mean over seeds keeps their mean standard error rather than a smaller one.
    """
    table = to_frame(records, per="run")
    table = table.loc[table["val_loss"].notna(), [*_RUN, *LOSSES]].reset_index(drop=True)
    if table.empty:
        raise Refusal(
            "none of these runs has a validation loss (released models were published without); train a grid, or add "
            "records with val_loss"
        )
    if has_several_seeds(records):
        table = with_means(table, [], LOSSES)
    half = stats.norm.ppf((1 + level) / 2) * table["val_loss_se"]
    return table.assign(lower=table["val_loss"] - half, upper=table["val_loss"] + half, level=level)


def loss_curves(records: Sequence[RunRecord]) -> pd.DataFrame:
    """Return the validation loss of each run by optimiser step and, with several seeds, of each model.

    Columns ``step, loss, stderr`` beside those of the run; step 0 is the base model.
    """
    rows = [
        {name: getattr(record, name) for name in _RUN} | {"step": p.step, "loss": p.loss, "stderr": p.stderr}
        for record in records
        for p in record.val_curve
    ]
    if not rows:
        raise Refusal("none of these runs has a validation curve; train a grid, or add records with val_curve")
    table = pd.DataFrame(rows).astype({"stderr": float, "seed": "Int64"})
    return with_means(table, ["step"], ["loss"]) if has_several_seeds(records) else table


def loss_lines(losses: pd.DataFrame, *, level: float = 0.95, n_points: int = 25) -> pd.DataFrame:
    """Fit ``log loss = a + b log N`` to each method's `final_losses`, N the base parameters.

    Each model enters once, with its mean over seeds; held-out sizes take no part, but lines reach from the smallest to
    the largest size measured. The band is a confidence band of the line, with t quantiles: it is not where a new run
    falls. A line has no floor: it is the form that few sizes can support, and bends away from losses that have one.
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
    """Fit one method's line, and evaluate it at its own sizes and between the ends."""
    from statsmodels.regression.linear_model import OLS

    n_params = own["n_params_base"].to_numpy(dtype=float)
    # Centred, so that the level and the slope are known apart and rounding stays small.
    centre = np.log10(n_params).mean()
    design = np.column_stack([np.ones(len(own)), np.log10(n_params) - centre])
    fit = OLS(np.log10(own["val_loss"].to_numpy(dtype=float)), design).fit()
    between = [float(f"{size:.4g}") for size in np.geomspace(*map(float, ends), n_points)[1:-1]]
    at = np.unique(np.rint([*map(float, ends), *between, *n_params]))
    band = fit.get_prediction(np.column_stack([np.ones(len(at)), np.log10(at) - centre]))
    bounds = band.conf_int(alpha=1 - level)
    slope_lower, slope_upper = fit.conf_int(alpha=1 - level)[1]
    return pd.DataFrame(
        {
            "n_params_base": at.astype(int),
            "value": 10**band.predicted_mean,
            "lower": 10 ** bounds[:, 0],
            "upper": 10 ** bounds[:, 1],
            "level": level,
            "slope": fit.params[1],
            "slope_lower": slope_lower,
            "slope_upper": slope_upper,
            "n_sizes": int(fit.nobs),
            "dof": int(fit.df_resid),
            "is_extrapolated": (at < n_params.min()) | (at > n_params.max()),
        }
    )
