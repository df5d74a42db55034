"""One law for several methods at several sizes, with partial pooling, averaged over what the data leave open.

On the link scale, for the mean over seeds of method m at size s with x the log of the size::

    z_ms = a_m + (b + b_m) x_s + u_s + e_ms,   b_m ~ N(0, tau^2),  u_s ~ N(0, s_u^2),  e_ms ~ N(0, s_e^2 + k v_ms)

Intercepts and the common slope have flat priors; ``u_s`` is what all methods share that are tuned from one base model;
``v_ms`` is the binomial variance of a rate on the logit scale. A loss has z = log(loss - E): a power law of the size
with a floor E that methods share, or that is one share of each method's smallest loss, so that curves are multiples of
one another; ``u_s`` and ``e_ms`` are then relative to the loss itself.
Slopes are either common (tau = 0) or own, the floor either 0 or free, each with prior
probability one half; standard deviations have log-uniform priors around the scatter seen. All of it is integrated by
importance sampling of the marginal likelihood, in which the effects are Gaussian and drop out exactly (Rasmussen &
Williams 2006, chapter 2.7). Intervals thus carry the fit, the form, the size, and the run.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from astraios_analysis.prediction.pooled_points import Link, PooledPoints
from astraios_analysis.records.refusal import Refusal

# A floor lies between 0 and this share of the smallest loss.
SPREAD_OF_FLOORS = 0.98


@dataclass(frozen=True)
class Pool:
    """A pooled law: equally likely versions of it, and the points that each is conditioned on.

    Attributes
    ----------
    link : {"log", "logit"}
    points : PooledPoints
    methods : tuple of str
    centre, scale : float
        Mean and standard deviation of log10 of the sizes.
    tau, sigma_size, sigma_run, noise_factor, floor : ndarray, shape (n_kept,)
        The versions.
    weights : dict of str to float
        Posterior probability of each form.
    has_own_lines : bool
        Whether each method has a slope of its own with nothing shared; otherwise slopes are common up to ``tau``.
    is_relative : bool
        Whether floors are shares of each method's smallest loss; otherwise methods have one floor.
    """

    link: Link
    points: PooledPoints
    methods: tuple[str, ...]
    centre: float
    scale: float
    tau: np.ndarray
    sigma_size: np.ndarray
    sigma_run: np.ndarray
    noise_factor: np.ndarray
    floor: np.ndarray
    weights: dict[str, float]
    has_own_lines: bool = False
    is_relative: bool = False

    @property
    def x_range(self) -> tuple[float, float]:
        """Smallest and largest size fitted."""
        return float(self.points.n_params.min()), float(self.points.n_params.max())

    def floors(self, methods: Sequence[str]) -> np.ndarray:
        """Return the floor of each version for methods of targets, shape (n_kept, t)."""
        return self.floor[:, None] * floor_units(self.points, methods, is_relative=self.is_relative)

    def unlink(self, z: np.ndarray, floor: np.ndarray) -> np.ndarray:
        """Return outcomes of link values, ``floor`` being that of each version."""
        return floor + np.exp(z) if self.link == "log" else expit(z)

    def posterior(
        self, methods: Sequence[str], n_params: np.ndarray, extra: tuple[Sequence[str], np.ndarray] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the law at targets, for each version.

        Parameters
        ----------
        methods : sequence of str, length t
        n_params : ndarray, shape (t,)
        extra : tuple of (methods, sizes), optional
            Runs that are imagined to be measured too, with one seed each. Only the covariance makes sense then.

        Returns
        -------
        mean : ndarray, shape (n_kept, t)
            Link values of the lines (``u_s`` and ``e_ms`` left out).
        covariance : ndarray, shape (n_kept, t, t)
        """
        group, x, size, noise = _locate(self, self.points.method, self.points.n_params, self.points.noise)
        z, stretch = link_values(self.link, self.points, self.floors(self.points.method))
        if extra is not None:
            stretch = np.concatenate([stretch, self._stretch(self.posterior(*extra)[0], extra[0])], axis=1)
            more = _locate(self, np.asarray(extra[0]), np.asarray(extra[1], dtype=float), np.zeros(len(extra[0])))
            group, x = np.concatenate([group, more[0]]), np.concatenate([x, more[1]])
            size, noise = np.concatenate([size, more[2]]), np.concatenate([noise, more[3]])
            z = np.concatenate([z, np.zeros((len(z), len(more[0])))], axis=1)
        n_new = 0 if extra is None else len(extra[0])
        versions = (self.tau, self.sigma_size, self.sigma_run, self.noise_factor)
        matrix = covariance_of_points(group, x, size, noise, stretch, versions)
        if n_new:
            own = np.arange(len(x) - n_new, len(x))
            matrix[:, own, own] += self.points.seed_variance * (1 - 1 / self.points.n_seeds)
        target_group, target_x, _, _ = _locate(self, np.asarray(methods), np.asarray(n_params, dtype=float), None)
        designs = [
            design_of(*of, len(self.methods), has_own_lines=self.has_own_lines)
            for of in ((group, x), (target_group, target_x))
        ]
        return _condition(matrix, designs, z, (group, x), (target_group, target_x), self.tau)

    def draw(
        self, methods: Sequence[str], n_params: float, n_draws: int, rng: np.random.Generator, *, observation: bool
    ) -> np.ndarray:
        """Draw outcomes of methods at one size together.

        Parameters
        ----------
        methods : sequence of str
        n_params : float
        n_draws : int
        rng : Generator
        observation : bool
            Add one new size effect, shared by the methods, and one new run of each.

        Returns
        -------
        ndarray, shape (n_draws, n_methods)
        """
        mean, covariance = self.posterior(methods, np.full(len(methods), float(n_params)))
        root = np.linalg.cholesky(covariance + 1e-12 * np.eye(len(methods)))
        version = rng.integers(len(self.tau), size=n_draws)
        z = mean[version] + np.einsum("nij,nj->ni", root[version], rng.standard_normal((n_draws, len(methods))))
        if observation:
            noise = self.noise_factor[version, None] * self.noise_at(z)
            more = self.points.seed_variance * (1 - 1 / self.points.n_seeds)
            variance = self.sigma_run[version, None] ** 2 + noise + more
            scatter = self.sigma_size[version, None] * rng.standard_normal((n_draws, 1))
            scatter = scatter + np.sqrt(variance) * rng.standard_normal(z.shape)
            if self.link == "log":
                line = self.unlink(z, self.floors(methods)[version])
                return line * np.exp(scatter)
            z = z + scatter
        return self.unlink(z, self.floors(methods)[version])

    def _stretch(self, z: np.ndarray, methods: Sequence[str]) -> np.ndarray:
        """Return how many times scatter is larger on the link scale than relative to the outcome, (n_kept, t)."""
        return 1 + self.floors(methods) * np.exp(-np.maximum(z, -20)) if self.link == "log" else np.ones_like(z)

    def noise_at(self, z: np.ndarray) -> np.ndarray:
        """Return the known part of the variance at link values: that of a rate, from the problems behind a point."""
        if self.link == "log" or not self.points.noise.any():
            return np.zeros_like(z)
        y = self.points.y
        n_items = np.mean(1 / (self.points.noise * y * (1 - y)))
        p = np.clip(expit(z), 0.5 / (n_items + 1), 1 - 0.5 / (n_items + 1))
        return 1 / (n_items * p * (1 - p))


def _locate(pool, method, n_params, noise):
    """Return method numbers, centred log sizes, sizes and noise of points."""
    unknown = [name for name in method if name not in pool.methods]
    if unknown:
        raise Refusal(f"{unknown[0]} was not fitted; choose from {', '.join(pool.methods)}")
    group = np.array([pool.methods.index(name) for name in method], dtype=int)
    x = (np.log10(n_params) - pool.centre) / pool.scale
    return group, x, np.round(np.log10(n_params), 9), noise


def design_of(group: np.ndarray, x: np.ndarray, n_methods: int, *, has_own_lines: bool) -> np.ndarray:
    """Return what intercepts and slopes multiply at points, shape (n, n_methods + 1) or (n, 2 n_methods)."""
    own = np.eye(n_methods)[group]
    return np.column_stack([own, own * x[:, None] if has_own_lines else x])


def covariance_of_points(group, x, size, noise, stretch, versions) -> np.ndarray:
    """Return the covariance of points for each version, shape (h, n, n)."""
    tau, sigma_size, sigma_run, factor = (values[:, None, None] for values in versions)
    same_method, same_size = group[:, None] == group, size[:, None] == size
    scatter = sigma_size**2 * same_size + (sigma_run**2 + factor * noise) * np.eye(len(x))
    return tau**2 * (same_method * np.outer(x, x)) + stretch[:, :, None] * stretch[:, None, :] * scatter


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


def _condition(matrix, designs, z, points, targets, tau):
    """Return mean and covariance of targets given points, the flat effects integrated out."""
    (group, x), (target_group, target_x), (design, target_design) = points, targets, designs
    shared = (tau**2)[:, None, None] * ((target_group[:, None] == group) * np.outer(target_x, x))
    prior = (tau**2)[:, None, None] * ((target_group[:, None] == target_group) * np.outer(target_x, target_x))
    right = np.concatenate([np.broadcast_to(design, (len(tau), *design.shape)), z[..., None]], axis=2)
    solved = np.linalg.solve(matrix, np.concatenate([right, np.swapaxes(shared, 1, 2)], axis=2))
    k = design.shape[1]
    solved_design, solved_z, solved_shared = solved[..., :k], solved[..., k], solved[..., k + 1 :]
    information = np.linalg.inv(design.T @ solved_design)
    theta = np.einsum("hij,nj,hn->hi", information, design, solved_z)
    residual = solved_z - np.einsum("hnk,hk->hn", solved_design, theta)
    mean = theta @ target_design.T + np.einsum("htn,hn->ht", shared, residual)
    left = target_design - np.einsum("htn,hnk->htk", shared, solved_design)
    covariance = prior - shared @ solved_shared + left @ information @ np.swapaxes(left, 1, 2)
    return mean, (covariance + np.swapaxes(covariance, 1, 2)) / 2
