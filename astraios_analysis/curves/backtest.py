"""Back-test forecasts on tables: fit rows marked ``train``, predict rows marked ``extrapolate``, score both ways."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from astraios_analysis.curves.forecast import MIN_POINTS, Forecast, forecast_curves
from astraios_analysis.prediction.limits import LEVELS, score_values
from astraios_analysis.records.refusal import Refusal

TRAIN, EXTRAPOLATE = "train", "extrapolate"
CURVE_PROCEDURE = (
    "power law, power law with floor and rectified law averaged by their posterior over exponents, floors, a rough "
    "remainder that grows with the distance from the last training row, and noise; priors chosen by the evidence of "
    "all training rows; prediction intervals hold fit, form and residual variance"
)


@dataclass(frozen=True)
class Group:
    """One group's rows.

    Attributes
    ----------
    key : dict of str to str
    train, test : DataFrame
        Rows to fit and to predict.
    """

    key: dict[str, str]
    train: pd.DataFrame
    test: pd.DataFrame


def split_groups(
    frame: pd.DataFrame, inputs: Sequence[str], y: str, group: Sequence[str], split: str
) -> tuple[list[Group], list[str]]:
    """Return each group's training and held-out rows, and notes on what was left out.

    Raises
    ------
    Refusal
        If a column is missing or not numeric, the split has other values, or nothing is held out.
    """
    for name in (*inputs, y, *group, split):
        if name not in frame:
            raise Refusal(f"there is no column {name!r}; the table has {', '.join(map(str, frame.columns))}")
    unknown = sorted(set(frame[split].astype(str)) - {TRAIN, EXTRAPOLATE})
    if unknown:
        raise Refusal(
            f"column {split!r} holds {', '.join(map(repr, unknown[:5]))}; mark rows to fit {TRAIN!r} and rows to "
            f"predict {EXTRAPOLATE!r}"
        )
    frame, notes = _usable(frame, inputs, y)
    parts = [((), frame)] if not group else frame.groupby(list(group), sort=False)
    groups = []
    for key, rows in parts:
        train, test = rows[rows[split] == TRAIN], rows[rows[split] == EXTRAPOLATE]
        if test.empty:
            notes.append(f"{'/'.join(map(str, key))}: nothing is marked {EXTRAPOLATE}; left out")
            continue
        groups.append(Group(dict(zip(group, map(str, key), strict=True)), train, test))
    if not groups:
        raise Refusal(f"no row is marked {EXTRAPOLATE} in column {split!r}; mark the rows to predict")
    return groups, notes


def _usable(frame: pd.DataFrame, inputs: Sequence[str], y: str) -> tuple[pd.DataFrame, list[str]]:
    notes, frame = [], frame.copy()
    for name in (*inputs, y):
        values = pd.to_numeric(frame[name], errors="coerce").to_numpy(dtype=float)
        if not np.all(np.isfinite(values)):
            first = int(np.flatnonzero(~np.isfinite(values))[0])
            raise Refusal(f"column {name!r} is not a finite number in row {first + 1}: {frame[name].iloc[first]!r}")
        frame[name] = values
    if np.any(frame[y] <= 0):
        raise Refusal(f"column {y!r} must be positive; the smallest value is {frame[y].min():g}")
    zero = (frame[list(inputs)] <= 0).any(axis=1)
    if zero.any():
        notes.append(f"{int(zero.sum())} rows with {' or '.join(inputs)} of 0 or less have no logarithm; left out")
    return frame[~zero], notes


def backtest_curves(
    groups: Sequence[Group], x: str, y: str, progress: Callable[[Sequence], Sequence] = lambda items: items
) -> list[dict]:
    """Forecast each group's held-out rows from its training rows and score the forecast.

    Raises
    ------
    Refusal
        If a group has too few training rows.
    """
    for group in groups:
        if group.train[x].nunique() < MIN_POINTS:
            name = "/".join(group.key.values()) or "the table"
            raise Refusal(
                f"{name}: {group.train[x].nunique()} different {x} are marked {TRAIN}; at least {MIN_POINTS} are needed"
            )
    curves = [(g.train[x].to_numpy(), g.train[y].to_numpy()) for g in groups]
    forecasts = forecast_curves(curves, [g.test[x].to_numpy() for g in groups], progress=progress)
    return [score_group(g, f, y) for g, f in zip(groups, forecasts, strict=True)]


def score_group(group: Group, forecast: Forecast, y: str) -> dict:
    """Score one group's forecast.

    Returns
    -------
    dict
        ``group, n_train, n_test, rmse_log, mean_abs_pct, coverage, interval_score, weights``. The interval score
        (Gneiting and Raftery 2007) is that of the 95 % interval of log y; lower is better.
    """
    bounds = {level: forecast.interval(level) for level in LEVELS}
    scored = score_values(group.test[y].to_numpy(), forecast.log_mean, bounds)
    return {"group": group.key, "n_train": len(group.train), **scored, "weights": forecast.weights}


def summarise(groups: Sequence[dict]) -> dict:
    """Return the plain means over groups of each number that `score_group` gives."""
    mean = {name: float(np.mean([g[name] for g in groups])) for name in ("rmse_log", "mean_abs_pct", "interval_score")}
    for name in ("coverage", "weights"):
        keys = dict.fromkeys(key for g in groups for key in g[name])
        mean[name] = {key: float(np.mean([g[name].get(key, 0.0) for g in groups])) for key in keys}
    return mean
