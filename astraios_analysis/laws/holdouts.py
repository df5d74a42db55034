"""How far a law errs beyond the points it is fitted to, told by inner splits of these points.

Points are put in order of each input and of the inputs' product (compute, for N and D) and split at several places; the
law is fitted to the points below and predicts those above. With u what the points below leave open about the law there
(the delta method, in units of the scatter), an inner error has the variance::

    near^2 (1 + u) + (growth x distance)^2

in which the distance beyond the last point is in log units of what orders them. ``near`` and ``growth`` are fitted by
maximum likelihood. Errors of one split are alike, so that the variance is known by few looks: predictions are Student's
t with as many degrees of freedom as a direction has splits, or as the points leave where that is less.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from astraios_analysis.laws.engine import LawFit, fit_subsets
from astraios_analysis.laws.law import GROUP, Law
from astraios_analysis.laws.residuals import check_inputs
from astraios_analysis.records.refusal import Refusal

INNER_SHARES = (0.5, 0.6, 0.7, 0.8, 0.9)
_NEAR_GRID, _GROWTH_GRID = np.geomspace(0.3, 10, 25), np.concatenate([[0.0], np.geomspace(1e-3, 1.0, 40)])
# Inputs move together where what is left across is this share of their spread; a place is so far off their line.
_TOGETHER, _OFF = 1e-3, 0.02
# Residuals below this are rounding.
MIN_SCATTER = 1e-9


@dataclass(frozen=True)
class Width:
    """How far predictions of a law err, on the scale of its residuals.

    ``near`` is the standard deviation of a new point around the law, ``growth`` what the law's own error grows by for
    each log unit beyond ``last`` (the largest of each of `directions`), ``inflation`` what the variance of the law's
    parameters is multiplied by, ``dof`` the degrees of freedom of all these. ``still`` are directions of the inputs'
    logarithms in which no point lies apart from the others' ``centre``: no number but a refusal is said off them.
    """

    near: float
    growth: float
    inflation: float
    dof: int
    last: tuple[float, ...]
    centre: tuple[float, ...] = ()
    still: tuple[tuple[float, ...], ...] = ()

    def require_told(self, x: np.ndarray) -> None:
        """Refuse inputs (n, d) that lie off the line, or plane, on which all points lie."""
        if not self.still:
            return
        off = np.abs((np.log(x) - np.array(self.centre)) @ np.array(self.still).T).max(axis=1)
        if np.any(off > _OFF):
            place, far = ", ".join(f"{one:.4g}" for one in x[np.argmax(off)]), np.exp(off.max())
            raise Refusal(
                f"inputs move together, or not at all, in the rows fitted, and {place} lies off where they do by a "
                f"factor of {far:.3g}; no row tells what happens there: ask where rows lie, or add some that vary them"
            )

    def spread(self, variance: np.ndarray, distance: np.ndarray, kind: str) -> np.ndarray:
        """Return standard deviations of the law (``mean``) or of a new point (``observation``), shape (n,).

        ``variance`` (n,) is the law's by the delta method, ``distance`` (n,) how far each lies beyond the points.
        """
        own = self.inflation * variance + (self.growth * distance) ** 2
        return np.sqrt(own + (self.near**2 if kind == "observation" else 0.0))


def ordered(law: Law, x: np.ndarray) -> np.ndarray:
    """Return what tells how far out inputs (n,) or (n, d) of a law lie, without a group's number, (n, d).

    Of a loss the smallest lies furthest.
    """
    names = [name for name in law.inputs if name != GROUP]
    x = np.asarray(x, dtype=float).reshape(len(x), -1)[:, : len(names)]
    return 1 / x if names == ["L"] else x


def in_order(x: np.ndarray, y: np.ndarray, n_labels: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return points x, (n,) or (n, d), and y (n,) in an order of their own, whatever that of their file.

    Where the near points of a split leave a law open, where their fit ends hangs on rounding, and so on the order. The
    last ``n_labels`` columns of x are numbers of groups, which follow the file and order nothing.
    """
    columns = x.T if x.ndim == 2 else [x]
    n = len(columns) - n_labels
    rows = np.lexsort((*columns[n:], y, *columns[:n]))
    return x[rows], y[rows]


def directions(x: np.ndarray) -> np.ndarray:
    """Return what orders points (n, d): the log of each input, and of their product where there are several, (k, n)."""
    logs = np.log(x).T
    return logs if len(logs) == 1 else np.vstack([logs, logs.sum(axis=0)])


def distance_beyond(last: Sequence[float], x: np.ndarray) -> np.ndarray:
    """Return how far inputs (m, d) lie beyond the last of each direction, in log units, shape (m,); 0 within them."""
    return np.maximum((directions(x) - np.asarray(last)[:, None]).max(axis=0), 0.0)


def reach(x: np.ndarray, low: np.ndarray | float, high: np.ndarray | float) -> np.ndarray:
    """Return how many times inputs (n,) or (n, d) lie beyond a range, the furthest of several, (n,); 1 within it."""
    beyond = np.maximum(np.maximum(x / high, low / x), 1.0)
    return beyond if beyond.ndim == 1 else beyond.max(axis=1)


@dataclass(frozen=True)
class InnerErrors:
    """Split by split: errors of the far points (None where the near ones cannot be fitted), distances, and ``open``."""

    errors: list[np.ndarray | None]
    distances: list[np.ndarray]
    open: list[np.ndarray]

    def joined(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return errors, distances and what is open of all splits that have errors, each (n,)."""
        known = [one is not None for one in self.errors]
        lists = (self.errors, self.distances, self.open)
        return tuple(np.concatenate([*(o for o, k in zip(own, known, strict=True) if k), np.empty(0)]) for own in lists)


def inner_errors(fitted: LawFit, x: np.ndarray) -> InnerErrors:
    """Return errors of predicting far points, on the scale of the fit's residuals, the splits being those of x (n, d).

    The law may take some of these inputs only: the splits are the same for all laws that are compared.
    """
    nears, fars, distances = [], [], []
    for along in directions(x[:, np.ptp(x, axis=0) > 0]):
        order = np.argsort(np.round(along, 12), kind="stable")
        for share in INNER_SHARES:
            near, far = np.split(order, [int(share * len(order))])
            nears.append(np.isin(np.arange(len(x)), near))
            fars.append(far)
            distances.append(np.maximum(along[far] - along[near].max(initial=-np.inf), 0.0))
    inputs, y, errors = check_inputs(fitted.law, fitted.x), fitted.problem.outcome, []
    for theta, far in zip(fit_subsets(fitted, np.array(nears)), fars, strict=True):
        with np.errstate(all="ignore"):
            value = fitted.law.function(inputs, theta)[far]
            error = np.log(value / y[far]) if fitted.objective.residual == "log" else value - y[far]
        errors.append(error if len(error) and np.all(np.isfinite(error)) else None)
    slopes = fitted.problem.evaluate(fitted.phi)[1].T
    slopes = slopes / np.maximum(np.sqrt(np.sum(slopes**2, axis=0)), 1e-300)
    return InnerErrors(errors, distances, [_open(slopes, *one) for one in zip(nears, fars, strict=True)])


def _open(slopes: np.ndarray, near: np.ndarray, far: np.ndarray) -> np.ndarray:
    """Return the law's variance at far points, in units of the scatter's, known from the near ones alone, (n_far,).

    ``slopes`` (n, q) are the derivatives at all points by the fit's coordinates.
    """
    if not np.all(np.isfinite(slopes)):
        return np.zeros(len(far))
    covariance = np.linalg.pinv(slopes[near].T @ slopes[near], rcond=1e-12, hermitian=True)
    return np.maximum(np.einsum("ni,ij,nj->n", slopes[far], covariance, slopes[far]), 0.0)


def fit_growth(
    errors: np.ndarray, distances: np.ndarray, scatter: float, open_: np.ndarray | float = 0.0
) -> tuple[float, float]:
    """Fit ``near`` and ``growth`` of errors (n,) by maximum likelihood over a grid.

    ``near`` lies between 0.3 and 10 times the scatter of the residuals, and is it where there are no errors.
    """
    if not len(errors):
        return scatter, 0.0
    near, growth = (g.ravel() for g in np.meshgrid(_NEAR_GRID * scatter, _GROWTH_GRID, indexing="ij"))
    variance = near[:, None] ** 2 * (1 + open_) + (growth[:, None] * distances) ** 2
    best = int(np.argmin(np.sum(np.log(variance) + errors**2 / variance, axis=1)))
    return float(near[best]), float(growth[best])


def width_of(fitted: LawFit, x: np.ndarray, n_free: int, found: InnerErrors | None = None) -> Width:
    """Return how far a fit's predictions err beyond its points, which x (n, d) orders.

    Points of one x count as one look, in whatever group: ``n_free`` are the parameters that such looks determine.
    """
    found = inner_errors(fitted, x) if found is None else found
    errors, distances, open_ = found.joined()
    # A few points far off (early checkpoints) are not what the far end scatters by: the median, scaled to a normal's.
    n, k = fitted.n_obs, len(fitted.phi)
    scatter = 1.4826 * float(np.median(np.abs(fitted.residuals))) * np.sqrt(n / max(n - k, 1))
    scatter = max(scatter if len(errors) else max(scatter, fitted.residual_scale), MIN_SCATTER)
    near, growth = fit_growth(errors, distances, scatter, open_)
    # What widens the scatter of points widens what is known of the parameters as well.
    inflation = max((near / fitted.residual_scale) ** 2, 1.0) if fitted.residual_scale > 0 else 1.0
    dof = min(len(INNER_SHARES), max(len(np.unique(x, axis=0)) - n_free, 1))
    return Width(near, growth, inflation, dof, tuple(map(float, directions(x).max(axis=1))), *_still(np.log(x)))


def _still(logs: np.ndarray) -> tuple[tuple, tuple]:
    """Return the centre of points (n, d), and the directions in which they do not lie apart."""
    centre = logs.mean(axis=0)
    _, spread, axes = np.linalg.svd(logs - centre)
    spread = np.append(spread, np.zeros(len(axes) - len(spread)))
    still = axes[spread <= _TOGETHER * spread.max()]
    return tuple(map(float, centre)), tuple(tuple(map(float, one)) for one in still)
