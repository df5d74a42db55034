"""Back-test one law of the registry: fit training rows, predict held-out ones; widths come from inner splits.

The training rows are put in order of each input and of the inputs' product (compute, for N and D), and split at several
places: the law is fitted to the rows below and predicts those above. The variance of these errors grows with the
distance beyond the last row fitted, in log units of what orders the rows::

    variance = near^2 + (growth x distance)^2

Both are fitted to all inner errors by maximum likelihood. Errors of one split are alike, so that the variance is known
as by few looks only: predictions are Student's t with as many degrees of freedom as a direction has splits.
"""

from collections.abc import Sequence

import numpy as np

from astraios_analysis.curves.backtest import Group, score_group
from astraios_analysis.curves.forecast import Forecast, student_forecast
from astraios_analysis.laws.fit import LawFit, fit_law
from astraios_analysis.laws.forms import Law
from astraios_analysis.laws.objectives import Objective
from astraios_analysis.records.refusal import Refusal

LAW_PROCEDURE = (
    "one law fitted to the training rows with Huber's loss on log residuals; prediction intervals hold parameter "
    "variance (delta method) and the errors of inner splits of the training rows, in order of each input and of their "
    "product, which grow with the distance beyond the rows fitted; Student's t"
)
INNER_SHARES = (0.5, 0.6, 0.7, 0.8, 0.9)
_NEAR_GRID, _GROWTH_GRID = np.geomspace(0.3, 10, 25), np.concatenate([[0.0], np.geomspace(1e-3, 1.0, 40)])
# Log residuals below this are rounding.
_MIN_SCATTER = 1e-9


def backtest_law(groups: Sequence[Group], law: Law, x: Sequence[str], y: str, objective: Objective) -> list[dict]:
    """Fit a law to each group's training rows, predict its held-out rows and score them.

    Raises
    ------
    Refusal
        If a group's training rows cannot be fitted.
    """
    found = []
    for group in groups:
        train, target = (rows[list(x)].to_numpy(dtype=float) for rows in (group.train, group.test))
        forecast = forecast_law(law, train, group.train[y].to_numpy(dtype=float), target, objective)
        found.append(score_group(group, forecast, y))
    return found


def forecast_law(law: Law, train: np.ndarray, y: np.ndarray, target: np.ndarray, objective: Objective) -> Forecast:
    """Forecast outcomes at targets by one law.

    Parameters
    ----------
    law : Law
    train, target : ndarray, shape (n, d) and (m, d)
        Inputs, positive.
    y : ndarray, shape (n,)
        Outcomes, positive.
    objective : Objective

    Raises
    ------
    Refusal
        If the law cannot be fitted to the training rows.
    """
    fitted = fit_law(law, _shaped(law, train), y, objective=objective)
    centre, variance = _log_prediction(fitted, _shaped(law, target))
    # A few rows far off (early checkpoints) are not what the far end scatters by: the median, scaled to a normal's.
    scatter = max(1.4826 * float(np.median(np.abs(_log_prediction(fitted, _shaped(law, train))[0] - np.log(y)))), 0.0)
    scatter = max(scatter, _MIN_SCATTER)
    errors, distances = inner_errors(law, train, y, objective)
    near, growth = fit_growth(errors, distances, scatter)
    spread = np.sqrt(variance + near**2 + (growth * distance_beyond(train, target)) ** 2)
    return student_forecast(centre, spread, len(INNER_SHARES), law.name)


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

    Parameters
    ----------
    errors, distances : ndarray, shape (n,)
    scatter : float
        Of the residuals; ``near`` lies between 0.3 and 10 times it, and is it where there are no errors.
    """
    if not len(errors):
        return scatter, 0.0
    near, growth = (g.ravel() for g in np.meshgrid(_NEAR_GRID * scatter, _GROWTH_GRID, indexing="ij"))
    variance = near[:, None] ** 2 + (growth[:, None] * distances) ** 2
    best = int(np.argmin(np.sum(np.log(variance) + errors**2 / variance, axis=1)))
    return float(near[best]), float(growth[best])
