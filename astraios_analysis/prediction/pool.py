"""One law for several methods at several sizes, with partial pooling, averaged over what the data leave open.

On the link scale, for the mean over seeds of method m at size s with x the log of the size::

    z_ms = a_m + (b + b_m) x_s + u_s + e_ms,   b_m ~ N(0, tau^2),  u_s ~ N(0, s_u^2),  e_ms ~ N(0, s_e^2 + k v_ms)

Intercepts and the common slope have flat priors; ``u_s`` is what all methods share that are tuned from one base model;
``v_ms`` is the binomial variance of a rate on the logit scale. A loss has z = log(loss - E): a power law of the size
with a floor E that methods share, or that is a share of each method's line at the largest size. With such relative
floors the exponent is common, and the share f_m of a method's floor takes the slope's place: where it is common, too,
curves are multiples of one another. What scatters is the log of the loss itself, in which laws are linear (`Linear`).
Slopes are common (tau = 0), drawn towards a common one, or each method's own; the floor is 0 or free. Standard
deviations have log-uniform priors around the scatter seen. All of it is integrated by importance sampling of the
marginal likelihood (`stack.fit_form`), in which the effects are Gaussian and drop out exactly (Rasmussen & Williams
2006, chapter 2.7). Intervals thus carry the fit, the form, the size, and the run.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.special import logit

from astraios_analysis.curves.mixture import Link
from astraios_analysis.prediction.outcome import PooledPoints
from astraios_analysis.records.counts import inside_unit_interval
from astraios_analysis.records.refusal import Refusal

# A floor lies between 0 and this share of the smallest loss.
SPREAD_OF_FLOORS = 0.98
# Gauss-Newton steps to the shares of relative floors, and how far one goes.
_N_STEPS, _LONGEST = 12, 0.3


@dataclass(frozen=True, kw_only=True)
class Versions:
    """Equally likely versions of a law of several methods, and the points that each is conditioned on.

    ``centre`` is that of the log of the sizes; ``sigma_size, sigma_run, noise_factor`` have shape (h,), one value a
    version. Laws say where a size lies on their lines (`at`), and what their coefficients are.
    """

    points: PooledPoints
    link: Link
    centre: float
    sigma_size: np.ndarray
    sigma_run: np.ndarray
    noise_factor: np.ndarray

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods fitted, in the order of draws."""
        return self.points.methods

    def at(self, n_params: np.ndarray) -> np.ndarray:
        """Return x of sizes in each version, shape (h, t), or (1, t) where versions agree."""
        raise NotImplementedError

    @property
    def coefficients(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean (h, c) and covariance (h, c, c), the intercepts first, and what slopes are made of, (n_methods, c)."""
        raise NotImplementedError

    @cached_property
    def _lines(self) -> tuple[np.ndarray, ...]:
        """Means (h, m) of levels and slopes; covariances (h, m, m) of levels, of levels with slopes, and of slopes."""
        mean, covariance, of_slopes = self.coefficients
        m, with_slopes = len(self.methods), covariance @ of_slopes.T
        return mean[:, :m], mean @ of_slopes.T, covariance[:, :m, :m], with_slopes[:, :m], of_slopes @ with_slopes

    def posterior(self, methods: Sequence[str], n_params: float) -> tuple[np.ndarray, np.ndarray]:
        """Return mean (h, t) and covariance (h, t, t) of lines at one size, without ``u_s`` and ``e_ms``."""
        unknown = [name for name in methods if name not in self.methods]
        if unknown:
            raise Refusal(f"{unknown[0]} was not fitted; choose from {', '.join(self.methods)}")
        level, slope, levels, crossed, slopes = self._lines
        grown, change = self._growth(slope, self.at(np.array([n_params], dtype=float)))
        crossed = crossed * change[:, None, :]
        mean = level + grown
        both = levels + crossed + np.swapaxes(crossed, 1, 2) + change[:, :, None] * slopes * change[:, None, :]
        if tuple(methods) == self.methods:
            return mean, both
        place = np.array([self.methods.index(name) for name in methods], dtype=int)
        return mean[:, place], both[:, place[:, None], place]

    def _growth(self, slope: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what lines of slopes (h, m) add to their levels at x, and how that changes with the slope."""
        return x * slope, x

    def highest(self, n_params: float) -> np.ndarray:
        """Return what no draw of a line on the link scale goes beyond, shape (h, m) or (1, 1): nothing."""
        return np.full((1, 1), np.inf)

    def floors(self, methods: Sequence[str]) -> np.ndarray:
        """Return the floor of each version for methods of targets, shape (h, t): none."""
        return np.zeros((1, len(methods)))

    def unlink(self, z: np.ndarray, floor: np.ndarray) -> np.ndarray:
        """Return outcomes of link values, ``floor`` being that of each version."""
        return floor + np.exp(z) if self.link == "log" else share_of(z)

    def noise_at(self, outcome: np.ndarray) -> np.ndarray:
        """Return the known part of the variance at outcomes: of a rate's logit, from the problems behind a point."""
        points = self.points
        if self.link == "log" or not points.noise.any():
            return np.zeros(1)
        n_items = np.mean(1 / (points.noise * points.y * (1 - points.y)))
        p = inside_unit_interval(outcome, n_items)
        return 1 / (n_items * p * (1 - p))


@dataclass(frozen=True, kw_only=True)
class Pool(Versions):
    """A pooled law of one outcome.

    ``centre`` and ``scale`` are those of log10 of the sizes; ``tau, floor`` have shape (h,). ``has_own_lines``: each
    method has a slope of its own with nothing shared; otherwise slopes are common up to ``tau``. Where floors are
    relative ``growth`` (h,) is the slope of what is above them, and the slopes are floors as shares of the lines at
    ``centre``, the largest size.
    """

    scale: float
    tau: np.ndarray
    floor: np.ndarray
    growth: np.ndarray | None = None
    has_own_lines: bool = False

    def take(self, versions: np.ndarray) -> "Pool":
        """Return the law with some of its versions."""
        names = ["tau", "sigma_size", "sigma_run", "noise_factor", "floor"] + ["growth"] * (self.growth is not None)
        return replace(self, **{name: getattr(self, name)[versions] for name in names})

    def floors(self, methods: Sequence[str]) -> np.ndarray:
        """Return the floor of each version for methods of targets, shape (h, t); 0 where lines include it."""
        return np.broadcast_to(self.floor[:, None], (len(self.floor), len(methods)))

    def highest(self, n_params: float) -> np.ndarray:
        """Return what no draw of a line goes beyond: with relative floors, beyond the largest size, its level there."""
        if self.growth is None or np.log10(n_params) <= self.centre:
            return super().highest(n_params)
        return self._lines[0] + 3 * np.sqrt(np.diagonal(self._lines[2], axis1=1, axis2=2))

    def _growth(self, slope: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.growth is None:
            return super()._growth(slope, x)
        return _relative_line(x, slope.clip(0, SPREAD_OF_FLOORS), self.growth[:, None])

    @cached_property
    def coefficients(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean and covariance of intercepts, slope and what each method's slope differs by (`Versions`)."""
        points, versions = self.points, (self.tau, self.sigma_size, self.sigma_run, self.noise_factor)
        kind, x = {"has_own_lines": self.has_own_lines}, self.at(points.n_params)[0]
        linear = Linear.of(self.link, points, x, self.floor, self.growth, **kind)
        mean, covariance = MixedEquations.of(points, linear, versions, **kind).coefficients()
        each = np.eye(len(self.methods))
        own = each[:, : len(each) if self.tau.any() else 0]
        of_slopes = np.hstack([np.zeros(each.shape), slopes_of(each, **kind), own])
        return mean, covariance, of_slopes

    def at(self, n_params: np.ndarray) -> np.ndarray:
        """Return the scaled log10 of sizes, the same in each version."""
        return (np.log10(n_params)[None] - self.centre) / self.scale


def share_of(z: np.ndarray) -> np.ndarray:
    """Return the shares whose logits are z, in a quarter of the time of `scipy.special.expit`."""
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-z))


def draw_runs(pool: Versions, n_params: float, normals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draw the lines of all m methods at one size, and logs or logits of the outcome of one new run of each.

    ``normals`` has shape (h, i, 2 m + 2) for i draws of each version: the lines' standard normal numbers, the size
    effect's, the runs', and that of the seed, which the runs share as they share the size. They are the caller's, so
    that draws at different sizes, of different kinds and in different calls are the same draws. Each result has shape
    (h i, m).
    """
    m = len(pool.methods)
    mean, covariance = pool.posterior(pool.methods, n_params)
    z = normals[..., :m] @ np.swapaxes(np.linalg.cholesky(covariance + 1e-12 * np.eye(m)), 1, 2)
    z += mean[:, None, :]
    np.minimum(z, pool.highest(n_params)[:, None, :], out=z)
    line = pool.unlink(z, pool.floors(pool.methods)[:, None, :])
    own = pool.noise_factor[:, None, None] * pool.noise_at(line)
    of_seed, of_run = pool.points.one_run_variances
    own = own + (pool.sigma_run**2 + of_run)[:, None, None]
    run = np.sqrt(own) * normals[..., m + 1 : -1] + np.sqrt(of_seed) * normals[..., -1:]
    run += pool.sigma_size[:, None, None] * normals[..., m : m + 1]
    run += np.log(line) if pool.link == "log" else z
    return line.reshape(-1, m), run.reshape(-1, m)


def slopes_of(methods: np.ndarray, *, has_own_lines: bool) -> np.ndarray:
    """Return whose the fixed slopes are at points of indicated methods: each method's (n, m), or all one (n, 1)."""
    return methods if has_own_lines else np.ones((len(methods), 1))


@dataclass(frozen=True)
class Linear:
    """A law in the log of the loss, or on the logit scale, linear in levels and slopes: what scatters alike there.

    ``response`` (h, n) is what they explain, ``level`` and ``slope`` (h, n) what those of a point's method count;
    ``log_scale`` (h,) is minus the log density of the values over that of ``response``.
    """

    response: np.ndarray
    level: np.ndarray
    slope: np.ndarray
    log_scale: np.ndarray

    @classmethod
    def of(cls, link: Link, points: PooledPoints, x: np.ndarray, floor: np.ndarray, growth, *, has_own_lines: bool):
        """Set up the points of each version with its floor, or the growth of what is above relative ones, each (h,).

        A loss scatters by a share of itself, which is a larger share of what lies above the floor. The share is taken
        at the loss that levels of methods and sizes give, not at the one observed: low losses by chance would weigh
        less. Where floors are relative the law is that at the floors of least squares, and its changes from there.
        """
        y, shape = points.y, (len(floor), len(points.y))
        ones = np.ones(shape)
        if link == "logit":
            return cls(np.broadcast_to(logit(y), shape), ones, x * ones, np.zeros(len(floor)))
        if growth is not None:
            groups = slopes_of(points.by_method, has_own_lines=has_own_lines)
            share = _relative_floors(points, x, growth[:, None], groups)
            line, change = _relative_line(x, share, growth[:, None])
            return cls(np.log(y) - line + share * change, ones, change, np.full(len(floor), np.log(y).sum()))
        levels = np.hstack([points.by_method, points.by_size])
        expected = np.exp(levels @ np.linalg.lstsq(levels, np.log(y), rcond=None)[0])
        above = np.maximum(expected - floor[:, None], (1 - SPREAD_OF_FLOORS) * expected)
        stretch = expected / above
        left = y - floor[:, None]
        return cls(np.log(left) / stretch, 1 / stretch, x / stretch, np.log(stretch * left).sum(axis=1))


def _relative_line(x: np.ndarray, share: np.ndarray, growth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the log of losses over those at the largest size, where x is 0, and how it changes with floors' shares."""
    grown = np.exp(growth * x)
    line = share + (1 - share) * grown
    return np.log(line), (1 - grown) / line


def _relative_floors(points: PooledPoints, x: np.ndarray, growth: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return floors' shares of least squares in each version at every point, those of a group the same, (h, n)."""
    log_y, methods = np.log(points.y), points.by_method

    def within(values: np.ndarray) -> np.ndarray:
        return values - (values @ methods / methods.sum(axis=0)) @ methods.T

    share = np.full((len(growth), len(x)), 0.5)
    for _ in range(_N_STEPS):
        line, change = _relative_line(x, share, growth)
        left, change = within(log_y - line), within(change)
        step = ((left * change) @ groups) / ((change**2) @ groups + 1e-12)
        share = (share + (step @ groups.T).clip(-_LONGEST, _LONGEST)).clip(0, SPREAD_OF_FLOORS)
    return share


@dataclass(frozen=True)
class MixedEquations:
    """The mixed-model equations (Henderson 1975) of every version: fixed effects, sizes, differences in slope.

    ``matrix`` (h, c, c) and ``right`` (h, c) belong to what the least-squares fit ``start`` (h, k) of the k fixed
    effects leaves over, so that nothing is lost to cancellation; ``square`` is its weighted sum of squares,
    ``log_scatter`` the log determinant of the points' own variances, ``log_prior`` that of the effects', ``room`` half
    that of the fixed effects' products: their prior is flat in what is explained, in the log of the loss, not in that
    of what is above the floor, where any floor close to the losses leaves lines more room.
    """

    matrix: np.ndarray
    right: np.ndarray
    start: np.ndarray
    square: np.ndarray
    log_scatter: np.ndarray
    log_prior: np.ndarray
    room: np.ndarray
    n_sizes: int

    @classmethod
    def of(cls, points: PooledPoints, linear: Linear, versions, *, has_own_lines: bool) -> "MixedEquations":
        """Set up the equations of points in each version (tau, sigma_size, sigma_run, noise_factor), each (h,)."""
        tau, sigma_size, sigma_run, factor = versions
        methods, sizes = points.by_method, points.by_size
        own = methods[:, : methods.shape[1] if tau.any() else 0]
        slopes = slopes_of(methods, has_own_lines=has_own_lines)
        level, slope = linear.level[:, :, None], linear.slope[:, :, None]
        shared = np.broadcast_to(sizes, (len(tau), *sizes.shape))
        design = np.concatenate([level * methods, slope * slopes, shared, slope * own], axis=2)
        k = methods.shape[1] + slopes.shape[1]
        fixed = design[:, :, :k]
        products = np.swapaxes(fixed, 1, 2) @ fixed
        start = np.linalg.solve(products, (linear.response[:, None] @ fixed)[:, 0, :, None])
        left = linear.response - (fixed @ start)[:, :, 0]
        spread = np.repeat(np.column_stack([sigma_size, tau]), [sizes.shape[1], own.shape[1]], axis=1)
        spread = np.maximum(spread, 1e-12)
        variance = sigma_run[:, None] ** 2 + factor[:, None] * points.noise
        weighted = np.swapaxes(design / variance[:, :, None], 1, 2)
        matrix, right = weighted @ design, (weighted @ left[:, :, None])[:, :, 0]
        diagonal = np.arange(k, matrix.shape[1])
        matrix[:, diagonal, diagonal] += spread**-2
        return cls(
            matrix=matrix,
            right=right,
            start=start[:, :, 0],
            square=(left**2 / variance).sum(axis=1),
            log_scatter=np.log(variance).sum(axis=1),
            log_prior=2 * np.log(spread).sum(axis=1),
            room=np.linalg.slogdet(products)[1] / 2,
            n_sizes=sizes.shape[1],
        )

    def coefficients(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and covariance of fixed effects and differences in slope."""
        k = self.start.shape[1]
        kept = np.r_[:k, k + self.n_sizes : self.matrix.shape[1]]
        covariance = np.linalg.inv(self.matrix)
        mean = np.einsum("hij,hj->hi", covariance, self.right)
        mean[:, :k] += self.start
        covariance = (covariance + np.swapaxes(covariance, 1, 2))[:, kept[:, None], kept] / 2
        return mean[:, kept], covariance

    def log_likelihoods(self) -> tuple[np.ndarray, np.ndarray]:
        """Return restricted and maximised log likelihoods, without what is the same for all versions, each (h,)."""
        k, n = self.start.shape[1], self.matrix.shape[1]
        # One Cholesky factor, effects before fixed and what is explained last: its diagonal has both determinants and
        # the sum of squares that is left.
        order = np.r_[k:n, :k]
        joined = np.empty((len(self.matrix), n + 1, n + 1))
        joined[:, :n, :n] = self.matrix[:, order[:, None], order]
        joined[:, n, :n] = joined[:, :n, n] = self.right[:, order]
        joined[:, n, n] = self.square
        try:
            diagonal = np.diagonal(np.linalg.cholesky(joined), axis1=1, axis2=2)
            logs = 2 * np.log(diagonal[:, :n])
            effects, whole, left = logs[:, : n - k].sum(axis=1), logs.sum(axis=1), diagonal[:, n] ** 2
        except np.linalg.LinAlgError:
            # Nothing is left of points that a version meets.
            explained = np.linalg.solve(self.matrix, self.right[:, :, None])[:, :, 0]
            left = self.square - (self.right * explained).sum(axis=1)
            whole, effects = (np.linalg.slogdet(matrix)[1] for matrix in (self.matrix, self.matrix[:, k:, k:]))
        shared = self.log_scatter + self.log_prior + left
        return self.room - (shared + whole) / 2, -(shared + effects) / 2
