"""Back-test one law of the registry: fit training rows, predict held-out ones; widths come from an inner split."""

from collections.abc import Sequence

import numpy as np

from astraios_analysis.csv_backtests import Group, score_group
from astraios_analysis.forecasts import Forecast
from astraios_analysis.law_fits import LawFit, fit_law
from astraios_analysis.law_types import Law
from astraios_analysis.objectives import Objective

LAW_PROCEDURE = (
    "one law fitted to the training rows with Huber's loss on log residuals; prediction intervals hold parameter "
    "variance (delta method) and the larger of the residual variance and the squared error on an inner hold-out of "
    "the fifth of training rows that are predicted lowest"
)
_INNER_SHARE = 0.2


def backtest_law(groups: Sequence[Group], law: Law, x: Sequence[str], y: str, objective: Objective) -> list[dict]:
    """Fit a law to each group's training rows, predict its held-out rows and score them."""
    found = []
    for group in groups:
        train, measured = group.train[list(x)].to_numpy(), group.train[y].to_numpy()
        train, target = (v[:, 0] if len(x) == 1 else v for v in (train, group.test[list(x)].to_numpy()))
        fitted = fit_law(law, train, measured, objective=objective)
        scatter = max(_residual_error(fitted, train, measured), _inner_error(fitted, train, measured, objective))
        centre, variance = _log_prediction(fitted, target)
        forecast = Forecast(centre[None], np.sqrt(variance + scatter**2)[None], np.ones(1), {law.name: 1.0})
        found.append(score_group(group, forecast, y))
    return found


def _log_prediction(fitted: LawFit, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    value = fitted.law.function(x, fitted.theta)
    slope = fitted.law.gradient(x, fitted.theta) / value[:, None]
    return np.log(value), np.einsum("ni,ij,nj->n", slope, fitted.covariance, slope)


def _residual_error(fitted: LawFit, x: np.ndarray, y: np.ndarray) -> float:
    residual = np.log(fitted.law.function(x, fitted.theta)) - np.log(y)
    # A few rows far off (early checkpoints) are not what the far end scatters by: the median, scaled to a normal's.
    return float(1.4826 * np.median(np.abs(residual)))


def _inner_error(fitted: LawFit, x: np.ndarray, y: np.ndarray, objective: Objective) -> float:
    """Return the error on the rows that the law, fitted to the others, is to extrapolate to."""
    order = np.argsort(-fitted.law.function(x, fitted.theta))
    n_inner = len(order) - max(1, int(_INNER_SHARE * len(order)))
    if n_inner <= len(fitted.theta):
        return 0.0
    kept, out = order[:n_inner], order[n_inner:]
    inner = fit_law(fitted.law, x[kept], y[kept], objective=objective)
    return float(np.sqrt(np.mean((_log_prediction(inner, x[out])[0] - np.log(y[out])) ** 2)))
