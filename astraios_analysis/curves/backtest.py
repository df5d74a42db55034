"""Back-test forecasts on tables: fit rows marked ``train``, predict rows marked ``extrapolate``, score the forecast.

Curves in one input are forecast as in `forecast`. Of one law of the registry the widths come from inner splits: the
training rows are put in order of each input and of the inputs' product (compute, for N and D), and split at several
places; the law is fitted to the rows below and predicts those above. The variance of these errors grows with the
distance beyond the last row fitted, in log units of what orders the rows::

    variance = near^2 + (growth x distance)^2

Both are fitted to all inner errors by maximum likelihood. Errors of one split are alike, so that the variance is known
as by few looks only: predictions are Student's t with as many degrees of freedom as a direction has splits.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from astraios_analysis.curves.forecast import Forecast, student_forecast
from astraios_analysis.laws.engine import LawFit, fit_law
from astraios_analysis.laws.law import Law
from astraios_analysis.laws.residuals import Objective
from astraios_analysis.laws.tables import TRAIN
from astraios_analysis.prediction.limits import LEVELS, score_values
from astraios_analysis.records.counts import inside_unit_interval
from astraios_analysis.records.notation import column_numbers
from astraios_analysis.records.refusal import Refusal

EXTRAPOLATE = "extrapolate"
CURVE_PROCEDURE = (
    "power law, power law with floor and rectified law averaged by their posterior over exponents, floors, a rough "
    "remainder that grows with the distance from the last training row, and noise; priors chosen by the evidence of "
    "all training rows; prediction intervals hold fit, form and residual variance"
)
LAW_PROCEDURE = (
    "one law fitted to the training rows with Huber's loss on log residuals; prediction intervals hold parameter "
    "variance (delta method) and the errors of inner splits of the training rows, in order of each input and of their "
    "product, which grow with the distance beyond the rows fitted; Student's t"
)
INNER_SHARES = (0.5, 0.6, 0.7, 0.8, 0.9)
_NEAR_GRID, _GROWTH_GRID = np.geomspace(0.3, 10, 25), np.concatenate([[0.0], np.geomspace(1e-3, 1.0, 40)])
# Log residuals below this are rounding.
_MIN_SCATTER = 1e-9


@dataclass(frozen=True)
class Group:
    """Rows of one group to fit and to predict."""

    key: dict[str, str]
    train: pd.DataFrame
    test: pd.DataFrame


def split_groups(
    frame: pd.DataFrame, inputs: Sequence[str], y: str, group: Sequence[str], split: str, *, may_be_zero: bool = False
) -> tuple[list[Group], list[str]]:
    """Return each group's training and held-out rows, and notes on what was left out."""
    for name in (*inputs, y, *group, split):
        if name not in frame:
            raise Refusal(f"there is no column {name!r}; the table has {', '.join(map(str, frame.columns))}")
    unknown = sorted(set(frame[split].astype(str)) - {TRAIN, EXTRAPOLATE})
    if unknown:
        raise Refusal(
            f"column {split!r} holds {', '.join(map(repr, unknown[:5]))}; mark rows to fit {TRAIN!r} and rows to "
            f"predict {EXTRAPOLATE!r}"
        )
    frame, notes = usable_rows(frame, inputs, y, may_be_zero=may_be_zero)
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


def usable_rows(
    frame: pd.DataFrame, inputs: Sequence[str], y: str, *, may_be_zero: bool = False
) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows whose inputs are positive, numbers read, and a note on the others."""
    notes, frame = [], frame.copy()
    for name in (*inputs, y):
        values = column_numbers(frame[name]).to_numpy()
        if not np.all(np.isfinite(values)):
            first = int(np.flatnonzero(~np.isfinite(values))[0])
            raise Refusal(f"column {name!r} is not a finite number in row {first + 1}: {frame[name].iloc[first]!r}")
        frame[name] = values
    if np.any(frame[y] <= 0) and not may_be_zero:
        raise Refusal(f"column {y!r} must be positive; the smallest value is {frame[y].min():g}")
    zero = (frame[list(inputs)] <= 0).any(axis=1)
    if zero.any():
        notes.append(f"{int(zero.sum())} rows with {' or '.join(inputs)} of 0 or less have no logarithm; left out")
    return frame[~zero], notes


def score_group(group: Group, forecast: Forecast, y: str, n_items: np.ndarray | None = None) -> dict:
    """Return one group's ``group, n_train, n_test, weights`` and the scores of its forecast (`score_values`).

    Rates are scored half an item away from 0 and 1 where their items are known.
    """
    measured = group.test[y].to_numpy(dtype=float)
    measured = measured if n_items is None else inside_unit_interval(measured, n_items)
    bounds = {level: forecast.interval(level) for level in LEVELS}
    scored = score_values(measured, np.log(forecast.median), bounds)
    return {"group": group.key, "n_train": len(group.train), **scored, "weights": forecast.weights}


def summarise(groups: Sequence[dict]) -> dict:
    """Return the plain means over groups of each number that `score_group` gives."""
    mean = {name: float(np.mean([g[name] for g in groups])) for name in ("rmse_log", "mean_abs_pct", "interval_score")}
    for name in ("coverage", "weights"):
        keys = dict.fromkeys(key for g in groups for key in g[name])
        mean[name] = {key: float(np.mean([g[name].get(key, 0.0) for g in groups])) for key in keys}
    return mean


def forecast_law(law: Law, train: np.ndarray, y: np.ndarray, target: np.ndarray, objective: Objective) -> Forecast:
    """Forecast outcomes at targets (m, d) by one law fitted to y (n,) at train (n, d), all positive."""
    fitted = fit_law(law, _shaped(law, train), y, objective=objective)
    centre, variance = _log_prediction(fitted, _shaped(law, target))
    # A few rows far off (early checkpoints) are not what the far end scatters by: the median, scaled to a normal's.
    scatter = max(1.4826 * float(np.median(np.abs(_log_prediction(fitted, _shaped(law, train))[0] - np.log(y)))), 0.0)
    scatter = max(scatter, _MIN_SCATTER)
    errors, distances = inner_errors(law, train, y, objective)
    near, growth = fit_growth(errors, distances, scatter)
    spread = np.sqrt(variance + near**2 + (growth * distance_beyond(train, target)) ** 2)
    return student_forecast(centre, spread, len(INNER_SHARES), law.name, near)


def _shaped(law: Law, x: np.ndarray) -> np.ndarray:
    return x[:, 0] if len(law.inputs) == 1 else x


def _log_prediction(fitted: LawFit, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    value = fitted.law.function(x, fitted.theta)
    slope = fitted.law.gradient(x, fitted.theta) / value[:, None]
    return np.log(value), np.einsum("ni,ij,nj->n", slope, fitted.covariance, slope)


def directions(x: np.ndarray) -> np.ndarray:
    """Return what orders rows: the log of each input, and of their product where there are several, shape (k, n)."""
    logs = np.log(x).T
    return logs if len(logs) == 1 else np.vstack([logs, logs.sum(axis=0)])


def distance_beyond(train: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return how far targets lie beyond the training rows, in log units, shape (m,); 0 within them.

    It is counted along the direction in which most targets lie beyond; inputs alone decide, no outcome.
    """
    last, at = directions(train).max(axis=1)[:, None], directions(target)
    chosen = int(np.argmax((at > last).mean(axis=1)))
    return np.maximum(at[chosen] - last[chosen], 0.0)


def inner_errors(law: Law, x: np.ndarray, y: np.ndarray, objective: Objective) -> tuple[np.ndarray, np.ndarray]:
    """Return log errors of predicting the far rows of inner splits, and how far each lies beyond the rows fitted.

    Splits whose near rows cannot be fitted are left out; both arrays may be empty.
    """
    errors, distances = [np.empty(0)], [np.empty(0)]
    for along in directions(x):
        order = np.argsort(along, kind="stable")
        for share in INNER_SHARES:
            near, far = np.split(order, [int(share * len(order))])
            try:
                inner = fit_law(law, _shaped(law, x[near]), y[near], objective=objective, must_converge=False)
            except Refusal:
                continue
            errors.append(_log_prediction(inner, _shaped(law, x[far]))[0] - np.log(y[far]))
            distances.append(np.maximum(along[far] - along[near].max(), 0.0))
    return np.concatenate(errors), np.concatenate(distances)


def fit_growth(errors: np.ndarray, distances: np.ndarray, scatter: float) -> tuple[float, float]:
    """Fit ``near`` and ``growth`` of the errors' variance by maximum likelihood over a grid.

    ``near`` lies between 0.3 and 10 times the scatter of the residuals, and is it where there are no errors.
    """
    if not len(errors):
        return scatter, 0.0
    near, growth = (g.ravel() for g in np.meshgrid(_NEAR_GRID * scatter, _GROWTH_GRID, indexing="ij"))
    variance = near[:, None] ** 2 + (growth[:, None] * distances) ** 2
    best = int(np.argmin(np.sum(np.log(variance) + errors**2 / variance, axis=1)))
    return float(near[best]), float(growth[best])
