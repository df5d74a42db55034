"""One law for several methods at several sizes, with partial pooling, averaged over what the data leave open.

On the link scale, for the mean over seeds of method m at size s with x the log of the size::

    z_ms = a_m + (b + b_m) x_s + u_s + e_ms,   b_m ~ N(0, tau^2),  u_s ~ N(0, s_u^2),  e_ms ~ N(0, s_e^2 + k v_ms)

Intercepts and the common slope have flat priors; ``u_s`` is what all methods share that are tuned from one base model;
``v_ms`` is the binomial variance of a rate on the logit scale. A loss has z = log(loss - E): a power law of the size
with a floor E that methods share, or that is one share of each method's smallest loss, so that curves are multiples of
one another; ``u_s`` and ``e_ms`` are then relative to the loss itself.
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
        """Means (h, m) of levels and slopes; covariances (h, m, m) of levels, twice with slopes, and of slopes."""
        mean, covariance, of_slopes = self.coefficients
        m, with_slopes = len(self.methods), covariance @ of_slopes.T
        crossed = with_slopes[:, :m] + np.swapaxes(with_slopes[:, :m], 1, 2)
        return mean[:, :m], mean @ of_slopes.T, covariance[:, :m, :m], crossed, of_slopes @ with_slopes

    def posterior(self, methods: Sequence[str], n_params: float) -> tuple[np.ndarray, np.ndarray]:
        """Return mean (h, t) and covariance (h, t, t) of lines at one size, without ``u_s`` and ``e_ms``."""
        unknown = [name for name in methods if name not in self.methods]
        if unknown:
            raise Refusal(f"{unknown[0]} was not fitted; choose from {', '.join(self.methods)}")
        level, slope, levels, crossed, slopes = self._lines
        if tuple(methods) != self.methods:
            place = np.array([self.methods.index(name) for name in methods], dtype=int)
            level, slope = level[:, place], slope[:, place]
            levels, crossed, slopes = (one[:, place[:, None], place] for one in (levels, crossed, slopes))
        x = self.at(np.array([n_params], dtype=float))
        return level + x * slope, levels + x[:, :, None] * (crossed + x[:, :, None] * slopes)

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
    method has a slope of its own with nothing shared; otherwise slopes are common up to ``tau``. ``is_relative``:
    floors are shares of each method's smallest loss; otherwise methods have one floor.
    """

    scale: float
    tau: np.ndarray
    floor: np.ndarray
    has_own_lines: bool = False
    is_relative: bool = False

    def take(self, versions: np.ndarray) -> "Pool":
        """Return the law with some of its versions."""
        names = ("tau", "sigma_size", "sigma_run", "noise_factor", "floor")
        return replace(self, **{name: getattr(self, name)[versions] for name in names})

    def floors(self, methods: Sequence[str]) -> np.ndarray:
        """Return the floor of each version for methods of targets, shape (h, t)."""
        return self.floor[:, None] * floor_units(self.points, methods, is_relative=self.is_relative)

    @cached_property
    def coefficients(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean and covariance of intercepts, slope and what each method's slope differs by (`Versions`)."""
        points, versions = self.points, (self.tau, self.sigma_size, self.sigma_run, self.noise_factor)
        group, m = np.array([self.methods.index(name) for name in points.method]), len(self.methods)
        kind = {"n_methods": m, "has_own_lines": self.has_own_lines, "has_slopes": self.tau.any()}
        z, stretch = link_values(self.link, points, self.floors(points.method))
        equations = MixedEquations.of(
            *design_of(group, self.at(points.n_params)[0], **kind), points, z, stretch, versions
        )
        of_slopes = np.hstack(design_of(np.arange(m), np.ones(m), **kind))
        of_slopes[:, :m] = 0
        return *equations.coefficients(), of_slopes

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
    line = pool.unlink(z, pool.floors(pool.methods)[:, None, :])
    own = pool.noise_factor[:, None, None] * pool.noise_at(line)
    of_seed, of_run = pool.points.one_run_variances
    own = own + (pool.sigma_run**2 + of_run)[:, None, None]
    run = np.sqrt(own) * normals[..., m + 1 : -1] + np.sqrt(of_seed) * normals[..., -1:]
    run += pool.sigma_size[:, None, None] * normals[..., m : m + 1]
    run += np.log(line) if pool.link == "log" else z
    return line.reshape(-1, m), run.reshape(-1, m)


def design_of(
    group: np.ndarray, x: np.ndarray, n_methods: int, *, has_own_lines: bool, has_slopes: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return what intercepts and slopes multiply at points, and what the methods' differences in slope do (0 wide)."""
    own = np.eye(n_methods)[group]
    fixed = np.column_stack([own, own * x[:, None] if has_own_lines else x])
    return fixed, own[:, : n_methods if has_slopes else 0] * x[:, None]


@dataclass(frozen=True)
class MixedEquations:
    """The mixed-model equations (Henderson 1975) of every version: fixed effects, sizes, differences in slope.

    ``matrix`` (h, c, c) and ``right`` (h, c) belong to what the least-squares fit ``start`` (h, k) of the k fixed
    effects leaves over, so that nothing is lost to cancellation; ``square`` is its weighted sum of squares,
    ``log_scatter`` the log determinant of the points' own variances, ``log_prior`` that of the effects'.
    """

    matrix: np.ndarray
    right: np.ndarray
    start: np.ndarray
    square: np.ndarray
    log_scatter: np.ndarray
    log_prior: np.ndarray
    n_sizes: int

    @classmethod
    def of(cls, design, own, points, z, stretch, versions) -> "MixedEquations":
        """Set up the equations of points whose link values and stretch are those of each version, both (h, n)."""
        tau, sigma_size, sigma_run, factor = versions
        size = np.round(np.log10(points.n_params), 9)
        membership = (size[:, None] == np.unique(size)).astype(float)
        variance = stretch**2 * (sigma_run[:, None] ** 2 + factor[:, None] * points.noise)
        start = z @ np.linalg.pinv(design).T
        left = z - start @ design.T
        n_sizes, n_own, k = membership.shape[1], own.shape[1], design.shape[1]
        spreads = [np.repeat(sigma_size[:, None], n_sizes, axis=1), np.repeat(tau[:, None], n_own, axis=1)]
        spread = np.maximum(np.concatenate(spreads, axis=1), 1e-12)
        # Versions differ by the weights of points alone, so that products of columns are made once for all of them.
        shared, sizes = np.hstack([design, own]), np.arange(k, k + n_sizes)
        places = np.r_[:k, k + n_sizes : k + n_sizes + n_own]
        matrix = np.zeros((len(z), len(places) + n_sizes, len(places) + n_sizes))
        matrix[:, places[:, None], places] = weighted_products(1 / variance, shared, shared)
        crossed = weighted_products(stretch / variance, shared, membership)
        matrix[:, places[:, None], sizes] = crossed
        matrix[:, sizes[:, None], places] = np.swapaxes(crossed, 1, 2)
        matrix[:, sizes, sizes] = (stretch**2 / variance) @ membership
        diagonal = np.arange(matrix.shape[1])
        matrix[:, diagonal[k:], diagonal[k:]] += spread**-2
        right = np.empty(matrix.shape[:2])
        right[:, places] = (left / variance) @ shared
        right[:, sizes] = (stretch * left / variance) @ membership
        scatter, prior = np.log(variance).sum(axis=1), 2 * np.log(spread).sum(axis=1)
        return cls(matrix, right, start, (left**2 / variance).sum(axis=1), scatter, prior, n_sizes)

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
        return -(shared + whole) / 2, -(shared + effects) / 2


def weighted_products(weight: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return ``a.T @ diag(w) @ b`` for every row w of weights (h, n), shape (h, p, q)."""
    products = (a[:, :, None] * b[:, None, :]).reshape(len(a), -1)
    return (weight @ products).reshape(len(weight), a.shape[1], b.shape[1])


def floor_units(points: PooledPoints, methods: Sequence[str], *, is_relative: bool) -> np.ndarray:
    """Return what a floor is counted in: 1, or each method's smallest loss, shape (t,)."""
    if not is_relative:
        return np.ones(len(methods))
    smallest = {method: points.y[points.method == method].min() for method in set(methods)}
    return np.array([smallest[method] for method in methods])


def link_values(link: Link, points: PooledPoints, floor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return points on the link scale of each version, and how many times scatter is larger there, both (h, n).

    ``floor``, of the same shape, is each point's.

    A loss scatters by a share of itself, which is a larger share of what lies above the floor. The share is taken at
    the loss that levels of methods and sizes give, not at the one observed: low losses by chance would weigh less.
    """
    y = points.y
    if link == "logit":
        return np.broadcast_to(logit(y), (len(floor), len(y))), np.ones((len(floor), len(y)))
    columns = [
        points.method[:, None] == np.unique(points.method),
        points.n_params[:, None] == np.unique(points.n_params),
    ]
    levels = np.column_stack(columns).astype(float)
    expected = np.exp(levels @ np.linalg.lstsq(levels, np.log(y), rcond=None)[0])
    above = np.maximum(expected - floor, (1 - SPREAD_OF_FLOORS) * expected)
    return np.log(y - floor), expected / above
