"""Fit a law to scores by size: one method alone, or all methods pooled with one slope.

The pooled model is, on the law's link scale, for method m at size s::

    y_ms = a_m + b x_s + u_s + e_ms

``a_m`` is the method's own intercept and ``b`` the shared slope. ``u_s`` is what all methods at one size share: they
are tuned from the same base model, so seven methods at four sizes are four looks at the trend, not twenty-eight. The
mean squares of the classical lack-of-fit decomposition estimate the two variances: between sizes around the line
(S - 2 degrees of freedom), and of a method at a size. An interval that ignored ``u_s`` would be several times too
narrow. Methods whose slopes really differ are outside this model and need their own lines.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from astraios_analysis.laws.forms import Law
from astraios_analysis.prediction.limits import Kind, reach
from astraios_analysis.records.counts import inside_unit_interval
from astraios_analysis.records.refusal import Refusal

Pooling = Literal["per_method", "pooled"]
# A per-method line with one degree of freedom has a 95 % t quantile of 12.7; below two, methods are pooled.
MIN_DOF_PER_METHOD = 2
MIN_SIZES = 3


@dataclass(frozen=True)
class Fit:
    """A fitted law.

    Attributes
    ----------
    law : Law
    pooling : {"per_method", "pooled"}
    groups : tuple of str
        Methods, in the order of their intercepts.
    names : tuple of str
        Names of ``theta``: ``a[method]`` for each method, then ``b``.
    theta : ndarray, shape (k,)
    covariance : ndarray, shape (k, k)
        Of ``theta``, with both variance components.
    size_variance, residual_variance : float
        Estimated variance of ``u_s`` and ``e_ms`` on the link scale. For one method alone the two cannot be told
        apart; all of it is then ``size_variance``.
    n_obs, n_sizes, dof, residual_dof : int
        ``dof`` = n_sizes - 2 carries the trend; ``residual_dof`` the scatter of methods at a size.
    x_range : tuple of float
        Smallest and largest size fitted.
    r_squared : float
        Share of variance explained on the link scale.
    status, message : str
        ``"converged"``, and what was done to the data, if anything.
    """

    law: Law
    pooling: Pooling
    groups: tuple[str, ...]
    names: tuple[str, ...]
    theta: np.ndarray
    covariance: np.ndarray
    size_variance: float
    residual_variance: float
    n_obs: int
    n_sizes: int
    dof: int
    residual_dof: int
    x_range: tuple[float, float]
    r_squared: float
    status: str
    message: str
    _variance_terms: tuple[np.ndarray, np.ndarray, float]

    def design(self, x: np.ndarray, group: str) -> np.ndarray:
        """Return the design matrix of a group at sizes ``x``, shape (n, k).

        Raises
        ------
        Refusal
            If the group was not fitted, or a size is not positive and finite.
        """
        if group not in self.groups:
            raise Refusal(f"no fit for {group!r}; it was fitted to {', '.join(self.groups)}")
        x = np.atleast_1d(np.asarray(x, dtype=float))
        if not np.all((x > 0) & np.isfinite(x)):
            raise Refusal(f"sizes must be positive and finite; one is {x[~((x > 0) & np.isfinite(x))][0]:g}")
        return _design(x, np.full(x.shape, self.groups.index(group)), len(self.groups), self.law)

    def half_width(self, design: np.ndarray, level: float, *, observation: bool) -> np.ndarray:
        """Return half the width of a central interval on the link scale at rows of a design matrix, shape (n,).

        Parameters
        ----------
        design : ndarray, shape (n, k)
        level : float
            Coverage, in (0, 1).
        observation : bool
            Include the scatter of one new size and one new run; otherwise the interval is for the line alone.

        Notes
        -----
        The variance is a sum of two mean squares with their own degrees of freedom. Each part is widened by its own t
        quantile and the two are added in quadrature (Howe 1974). In simulated worlds of three sizes and seven methods
        Satterthwaite's common degrees of freedom covered 91 % where 95 % was asked; this covers 95 % or more.
        """
        if not 0 < level < 1:
            raise Refusal(f"level is {level:g}; give a share between 0 and 1, such as 0.95")
        between, inverse, replication = self._variance_terms
        new = 1.0 if observation else 0.0
        share_size = (np.einsum("ni,ij,nj->n", design, between, design) + new) / replication
        # With cells missing the difference can fall below 0; it must not narrow the interval then.
        share_run = np.maximum(np.einsum("ni,ij,nj->n", design, inverse, design) + new - share_size, 0.0)
        size_mean_square = replication * self.size_variance + self.residual_variance
        # Without a second look at any size the scatter may all be that of runs, or all of sizes: cover both.
        run_dof, run_mean_square = self.dof, size_mean_square
        if self.residual_dof:
            run_dof, run_mean_square = self.residual_dof, self.residual_variance
        squared = stats.t.ppf((1 + level) / 2, self.dof) ** 2 * share_size * size_mean_square
        squared += stats.t.ppf((1 + level) / 2, run_dof) ** 2 * share_run * run_mean_square
        return np.sqrt(squared)

    def draw(self, n_draws: int, rng: np.random.Generator) -> np.ndarray:
        """Draw parameters from their multivariate t distribution, shape (n_draws, k)."""
        normal = rng.multivariate_normal(np.zeros(len(self.theta)), self.covariance, size=n_draws, method="eigh")
        return self.theta + normal / np.sqrt(rng.chisquare(self.dof, size=(n_draws, 1)) / self.dof)


def _design(x: np.ndarray, group: np.ndarray, n_groups: int, law: Law) -> np.ndarray:
    return np.column_stack([np.eye(n_groups)[group], law.regressor(x)])


def solve(law: Law, x: np.ndarray, y: np.ndarray, group: np.ndarray) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Return the groups, the design matrix and the least-squares parameters (an intercept a group, then the slope)."""
    groups = tuple(dict.fromkeys(group))
    index = np.array([groups.index(label) for label in group])
    design = _design(x, index, len(groups), law)
    return groups, design, np.linalg.lstsq(design, law.link(y), rcond=None)[0]


def _residual_sum(design: np.ndarray, y: np.ndarray) -> tuple[float, int]:
    theta, _, rank, _ = np.linalg.lstsq(design, y, rcond=None)
    return float(np.sum((y - design @ theta) ** 2)), int(rank)


def fit(law: Law, x: np.ndarray, y: np.ndarray, group: Sequence[str] | None = None) -> Fit:
    """Fit a law by least squares on its link scale.

    Parameters
    ----------
    law : Law
    x : ndarray, shape (n,)
        Sizes, positive.
    y : ndarray, shape (n,)
        Scores strictly inside the law's range (see `inside_unit_interval`).
    group : sequence of str, shape (n,), optional
        Method of each point; with more than one, the pooled model of this module is fitted.

    Raises
    ------
    Refusal
        If values are not usable, there are fewer than three sizes, or a method shares no size with the others.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    labels = np.array(["all"] * len(x) if group is None else list(group), dtype=object)
    _require_usable(law, x, y, labels)
    groups, design, theta = solve(law, x, y, labels)
    z = law.link(y)
    sizes, size_index = np.unique(x, return_inverse=True)
    around_line, rank = _residual_sum(design, z)
    if rank < design.shape[1]:
        raise Refusal(
            f"the points do not identify {design.shape[1]} parameters (rank {rank}); add sizes or drop methods"
        )
    membership = np.eye(len(sizes))[size_index]
    within, within_rank = _residual_sum(np.column_stack([design[:, :-1], membership]), z)
    dof, residual_dof = len(sizes) - 2, len(z) - within_rank
    inverse = np.linalg.inv(design.T @ design)
    hat = inverse @ design.T @ membership
    replication = _replication(design, membership, inverse, dof)
    residual_variance = within / residual_dof if residual_dof else 0.0
    # A size mean square below the residual one is chance; the line is never taken to be better known than the points.
    size_mean_square = max((around_line - within) / dof, residual_variance)
    size_variance = (size_mean_square - residual_variance) / replication
    between = hat @ hat.T
    return Fit(
        law=law,
        pooling="per_method" if len(groups) == 1 else "pooled",
        groups=groups,
        names=(*(f"a[{name}]" for name in groups), "b"),
        theta=theta,
        covariance=size_variance * between + residual_variance * inverse,
        size_variance=size_variance,
        residual_variance=residual_variance,
        n_obs=len(z),
        n_sizes=len(sizes),
        dof=dof,
        residual_dof=residual_dof,
        x_range=(float(sizes[0]), float(sizes[-1])),
        r_squared=1 - around_line / float(np.sum((z - z.mean()) ** 2)) if np.ptp(z) > 0 else float("nan"),
        status="converged",
        message="least squares on the link scale, solved exactly",
        _variance_terms=(between, inverse, replication),
    )


def _replication(design: np.ndarray, membership: np.ndarray, inverse: np.ndarray, dof: int) -> float:
    """Return how often a size effect enters the size mean square: methods per size, if every method has every size."""
    beyond_line = np.trace(membership.T @ membership) - np.trace(
        membership.T @ design @ inverse @ design.T @ membership
    )
    groups_only = design[:, :-1]
    beyond_sizes = np.column_stack([groups_only, membership])
    projected = beyond_sizes @ np.linalg.pinv(beyond_sizes) @ membership
    unexplained = np.trace(membership.T @ membership) - np.trace(membership.T @ projected)
    return float(beyond_line - unexplained) / dof


def _require_usable(law: Law, x: np.ndarray, y: np.ndarray, labels: np.ndarray) -> None:
    if not len(x) == len(y) == len(labels):
        raise Refusal(f"x, y and group must have one length; they have {len(x)}, {len(y)} and {len(labels)}")
    for name, values in (("size", x), ("score", y)):
        if not np.all(np.isfinite(values)):
            raise Refusal(f"a {name} is missing or not finite; leave such points out before fitting")
    if np.any(x <= 0):
        raise Refusal(f"sizes must be positive; the smallest is {x.min():g}")
    if not np.all(np.isfinite(law.link(y))):
        bad = y[~np.isfinite(law.link(y))][0]
        raise Refusal(f"score {bad:g} has no finite value on the scale of {law.name}; see inside_unit_interval")
    n_sizes = len(np.unique(x))
    if n_sizes < MIN_SIZES:
        raise Refusal(
            f"{n_sizes} size{'s' if n_sizes != 1 else ''} leave no degree of freedom for a line and its error; "
            f"at least {MIN_SIZES} sizes are needed: measure more sizes"
        )
    _require_linked(x, labels)


def _require_linked(x: np.ndarray, labels: np.ndarray) -> None:
    """Refuse methods that no chain of shared sizes links: size effects of one part say nothing about the other's."""
    linked = labels == labels[0]
    for _ in range(len(labels)):
        linked = np.isin(x, x[linked])
        linked = np.isin(labels, list(set(labels[linked])))
    if not np.all(linked):
        apart = [", ".join(dict.fromkeys(labels[part])) for part in (linked, ~linked)]
        raise Refusal(f"{apart[0]} and {apart[1]} share no size; fit them apart or measure a size that they share")


def fit_by(
    frame: pd.DataFrame, law: Law, *, pooling: Literal["auto", "per_method", "pooled"] = "auto"
) -> dict[str, Fit]:
    """Fit a law to one data set's scores, method by method or pooled.

    Parameters
    ----------
    frame : DataFrame
        Rows with ``method, n_params_base, value, n_items, held_out``, all of one data set, setting and metric. Rows
        marked held out take no part.
    law : Law
    pooling : {"auto", "per_method", "pooled"}
        ``auto`` fits a method alone if its sizes leave two degrees of freedom, and takes the pooled fit for the rest.

    Returns
    -------
    dict of str to Fit
        For each method, in the order of the frame; methods that are pooled share one `Fit`.

    Raises
    ------
    Refusal
        If the data set has too few sizes for any fit.
    """
    frame = frame[~frame["held_out"].astype(bool)]
    if frame.empty:
        raise Refusal("no point is left to fit: every row is held out or the selection is empty")
    x = frame["n_params_base"].to_numpy(dtype=float)
    y = inside_unit_interval(frame["value"].to_numpy(dtype=float), frame["n_items"].to_numpy(dtype=float))
    methods = frame["method"].to_numpy()
    alone = {}
    for method in dict.fromkeys(methods):
        own = methods == method
        n_sizes = len(np.unique(x[own]))
        if pooling == "per_method" or (pooling == "auto" and n_sizes - 2 >= MIN_DOF_PER_METHOD):
            try:
                alone[method] = fit(law, x[own], y[own], methods[own])
            except Refusal as error:
                raise Refusal(f"{method}: {error}") from error
    if len(alone) == len(set(methods)):
        return alone
    pooled = fit(law, x, y, methods)
    return {method: alone.get(method, pooled) for method in dict.fromkeys(methods)}


@dataclass(frozen=True)
class Prediction:
    """One predicted value with one interval.

    Attributes
    ----------
    x : float
        Size: parameters of the base model.
    y : float
        Predicted score.
    lower, upper : float
        Interval of coverage ``level``.
    level : float
    kind : {"mean", "observation"}
        ``mean``: where the fitted line is. ``observation``: where a new run at a new size falls, on the same problems.
    reach : float
        How many times the size lies beyond the fitted range (above its largest or below its smallest size); 1 inside.
    """

    x: float
    y: float
    lower: float
    upper: float
    level: float
    kind: Kind
    reach: float


def predict(
    fit: Fit,
    n_params: np.ndarray,
    group: str,
    *,
    level: float = 0.95,
    kind: Kind = "observation",
) -> list[Prediction]:
    """Predict a method's score at sizes.

    Parameters
    ----------
    fit : Fit
    n_params : ndarray, shape (n,)
        Base parameters.
    group : str
        Method.
    level : float
        Coverage of the interval, in (0, 1).
    kind : {"mean", "observation"}

    Returns
    -------
    list of Prediction, length n
        Intervals are symmetric on the law's link scale, with t quantiles (`Fit.half_width`).
    """
    x = np.atleast_1d(np.asarray(n_params, dtype=float))
    design = fit.design(x, group)
    centre = design @ fit.theta
    half = fit.half_width(design, level, observation=kind == "observation")
    values, lower, upper = (fit.law.unlink(z) for z in (centre, centre - half, centre + half))
    return [
        Prediction(float(n), float(y), float(low), float(high), level, kind, reach(n, fit.x_range))
        for n, y, low, high in zip(x, values, lower, upper, strict=True)
    ]
