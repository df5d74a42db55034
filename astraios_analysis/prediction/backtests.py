"""Check a prediction procedure on sizes it has not seen: hold out the largest, fit the rest, predict, compare."""

import numpy as np
import pandas as pd

from astraios_analysis.laws.forms import LOGIT_LINEAR, Law
from astraios_analysis.prediction.fits import Pooling, fit_by, solve
from astraios_analysis.prediction.limits import predict, predictable_datasets, reach, require_predictable
from astraios_analysis.records.counts import inside_unit_interval
from astraios_analysis.records.refusal import Refusal


def backtest(
    frame: pd.DataFrame, dataset: str, *, pooling: Pooling, level: float = 0.95, law: Law = LOGIT_LINEAR
) -> pd.DataFrame:
    """Hold out the largest measured size, fit the rest, predict it, and compare.

    Parameters
    ----------
    frame : DataFrame
        Primary scores.
    dataset : str
    pooling : {"per_method", "pooled"}
    level : float
        Coverage of the observation intervals.
    law : Law

    Returns
    -------
    DataFrame
        One row for each method measured at the held-out size: ``dataset, pooling, method, size, n_params_base,
        measured, predicted, lower, upper, level, kind, error, covered, persistence, persistence_error, n_train_sizes,
        dof, reach``. ``error`` is predicted minus measured; ``persistence`` predicts no change from the method's
        largest training size. With two training sizes no degree of freedom is left: the line's prediction is given,
        the interval and ``covered`` are missing.

    Raises
    ------
    Refusal
        If fewer than three sizes are measured.
    """
    require_predictable(frame, dataset)
    own = frame[(frame["dataset"] == dataset) & ~frame["held_out"].astype(bool)]
    largest = own["n_params_base"].max()
    train, test = own[own["n_params_base"] < largest], own[own["n_params_base"] == largest]
    rows = []
    for row in test.to_dict("records"):
        of_method = train[train["method"] == row["method"]]
        if of_method["n_params_base"].nunique() < 2:
            continue
        source = of_method if pooling == "per_method" else train
        last = float(of_method["value"][of_method["n_params_base"] == of_method["n_params_base"].max()].mean())
        predicted = _hold_out(source, law, row["method"], float(largest), level)
        error = predicted["predicted"] - row["value"]
        has_interval = np.isfinite(predicted["lower"])
        covered = predicted["lower"] <= row["value"] <= predicted["upper"] if has_interval else None
        rows.append(
            {
                "dataset": dataset,
                "pooling": pooling,
                "method": row["method"],
                "size": row["size"],
                "n_params_base": largest,
                "measured": row["value"],
                **predicted,
                "level": level,
                "kind": "observation",
                "error": error,
                "covered": covered,
                "persistence": last,
                "persistence_error": last - row["value"],
            }
        )
    frame_out = pd.DataFrame(rows)
    return frame_out.astype({"covered": "boolean"}) if rows else frame_out


def _hold_out(train: pd.DataFrame, law: Law, method: str, n_params: float, level: float) -> dict:
    n_sizes = train["n_params_base"].nunique()
    beyond = reach(n_params, (float(train["n_params_base"].min()), float(train["n_params_base"].max())))
    shared = {"n_train_sizes": n_sizes, "dof": n_sizes - 2, "reach": beyond}
    try:
        fitted = fit_by(train, law, pooling="per_method" if train["method"].nunique() == 1 else "pooled")[method]
    except Refusal:
        value = _line(train, law, method, n_params)
        return {"predicted": value, "lower": np.nan, "upper": np.nan, **shared, "dof": 0}
    p = predict(fitted, np.array([n_params]), method, level=level)[0]
    return {"predicted": p.y, "lower": p.lower, "upper": p.upper, **shared}


def _line(train: pd.DataFrame, law: Law, method: str, n_params: float) -> float:
    """Return the least-squares line's value where two training sizes leave nothing to judge its error by."""
    y = inside_unit_interval(train["value"].to_numpy(dtype=float), train["n_items"].to_numpy(dtype=float))
    x = train["n_params_base"].to_numpy(dtype=float)
    groups, _, theta = solve(law, x, y, train["method"].to_numpy())
    target = theta[groups.index(method)] + theta[-1] * law.regressor(np.array([n_params]))
    return float(law.unlink(target)[0])


def backtest_all(frame: pd.DataFrame, *, level: float = 0.95, law: Law = LOGIT_LINEAR) -> pd.DataFrame:
    """Run `backtest` for every data set that has three sizes, with both poolings; without any, the table is empty."""
    parts = [
        backtest(frame, dataset, pooling=pooling, level=level, law=law)
        for dataset in predictable_datasets(frame)
        for pooling in ("per_method", "pooled")
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def summarise_backtest(backtests: pd.DataFrame) -> pd.DataFrame:
    """Summarise back-tests by data set and pooling.

    Returns
    -------
    DataFrame
        ``dataset, pooling, size, n, mean_abs_error, rmse, mean_error, persistence_mean_abs_error, n_intervals,
        n_covered, mean_width, n_train_sizes, dof, level``.
    """
    rows = []
    if backtests.empty:
        return pd.DataFrame(rows)
    for (dataset, pooling), group in backtests.groupby(["dataset", "pooling"], sort=False):
        with_interval = group["covered"].notna()
        width = (group["upper"] - group["lower"])[with_interval]
        rows.append(
            {
                "dataset": dataset,
                "pooling": pooling,
                "size": group["size"].iloc[0],
                "n": len(group),
                "mean_abs_error": group["error"].abs().mean(),
                "rmse": float(np.sqrt((group["error"] ** 2).mean())),
                "mean_error": group["error"].mean(),
                "persistence_mean_abs_error": group["persistence_error"].abs().mean(),
                "n_intervals": int(with_interval.sum()),
                "n_covered": int(group["covered"].fillna(False).sum()),
                "mean_width": width.mean(),
                "n_train_sizes": int(group["n_train_sizes"].max()),
                "dof": int(group["dof"].max()),
                "level": group["level"].iloc[0],
            }
        )
    return pd.DataFrame(rows)
