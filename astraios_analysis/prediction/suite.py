"""One law for the scores of several data sets: what few sizes of one cannot show is learned from the others.

On the logit scale, for the mean over seeds of method m at size s on data set d::

    z_dms = a_dm + (b_d + g_dm) x_s + u_ds + e_dms,    x_s = (1 - (N_s / N_0)^-k) / (k ln 10)
    b_d ~ N(b, s_b^2),  g_dm ~ N(0, s_g^2),  u_ds ~ N(0, s_u^2),  e_dms ~ N(0, s_e^2 + f v_dms)

A line in the log of the size (k = 0) that bends as the data sets together say: k, b, the four standard deviations and
the factor of the known noise are the suite's, intercepts (flat priors) and all effects the data set's own. A data set
borrows from those that do not share its problems; what several of those share among themselves counts once. Everything
is integrated by importance sampling of the marginal likelihood, in which intercepts and effects are Gaussian and drop
out exactly (as in `pool`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.linalg import null_space
from scipy.special import logit

from astraios_analysis.prediction.points import PooledPoints
from astraios_analysis.prediction.pool import Versions
from astraios_analysis.prediction.stack import N_VERSIONS, Stack, explore, keep_versions

MIN_LENDERS = 3
MIN_LENT_SIZES = 3
# What is the suite's: name, ends of its prior, and whether that is uniform in the log. Slopes are logits per decade.
_PRIOR = {
    "slope": (-2.0, 6.0, False),
    "bend": (-1.0, 3.0, False),
    "slope_sd": (0.03, 3.0, True),
    "own_slope_sd": (0.01, 1.0, True),
    "sigma_size": (0.01, 1.0, True),
    "sigma_run": (0.01, 1.0, True),
    "noise_factor": (0.05, 2.0, True),
}
FORM = "logit_power/suite"
_N_FIRST, _N_NEAR = 2048, (1024, 1024, 1024, 2048)
_WIDER = 1.4


@dataclass(frozen=True)
class Lender:
    """Another data set's points, and the share with which they count: one over the number of those of its family."""

    name: str
    points: PooledPoints
    share: float


def _versions(places: np.ndarray) -> dict[str, np.ndarray]:
    """Return the versions at places of the unit cube, each (h,)."""
    found = {}
    for (name, (low, high, is_log)), place in zip(_PRIOR.items(), places.T, strict=True):
        found[name] = np.exp(np.log(low) + np.log(high / low) * place) if is_log else low + (high - low) * place
    return found


def _bent(n_params: np.ndarray, centre: float, bend: np.ndarray) -> np.ndarray:
    """Return x of sizes in each version, shape (h, n); ``centre`` is log N_0."""
    t = np.log(np.asarray(n_params, dtype=float)) - centre
    k = np.where(np.abs(bend) < 1e-6, 1e-6, bend)[:, None]
    return -np.expm1(-k * t) / (k * np.log(10))


@lru_cache(maxsize=64)
def _contrasts(points: PooledPoints) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return what the intercepts leave (n - m contrasts), of link values, noise, sizes; and methods' memberships."""
    own = (points.method[:, None] == np.array(points.methods)).astype(float)
    free = null_space(own.T)
    at_size = (points.n_params[:, None] == points.sizes).astype(float)
    z = free.T @ logit(points.y)
    return free, z, free.T @ (points.noise[:, None] * free), free.T @ at_size @ at_size.T @ free, own


@lru_cache(maxsize=512)
def _likelihood_at(points: PooledPoints, centre: float, key: bytes) -> np.ndarray:
    places = np.frombuffer(key).reshape(-1, len(_PRIOR))
    v = _versions(places)
    free, z, noise, sizes, own = _contrasts(points)
    x = _bent(points.n_params, centre, v["bend"])
    whole = x @ free
    by_method = np.swapaxes(free, 0, 1) @ (x[:, :, None] * own)
    square = {name: value[:, None, None] ** 2 for name, value in v.items()}
    covariance = square["slope_sd"] * whole[:, :, None] * whole[:, None, :]
    covariance = covariance + square["own_slope_sd"] * (by_method @ np.swapaxes(by_method, 1, 2))
    covariance += square["sigma_size"] * sizes + v["noise_factor"][:, None, None] * noise
    covariance += square["sigma_run"] * np.eye(len(z))
    root = np.linalg.cholesky(covariance)
    left = np.linalg.solve(root, (z - v["slope"][:, None] * whole)[:, :, None])[:, :, 0]
    return -(left**2).sum(axis=1) / 2 - np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=1)


def _log_likelihood(points: PooledPoints, centre: float, places: np.ndarray) -> np.ndarray:
    """Return the restricted log likelihood of versions, shape (h,)."""
    return _likelihood_at(points, centre, places.tobytes())


@dataclass(frozen=True, kw_only=True)
class SuiteLaw(Versions):
    """A data set's scores under the suite's law; ``slope, bend, slope_sd, own_slope_sd`` have shape (h,)."""

    slope: np.ndarray
    bend: np.ndarray
    slope_sd: np.ndarray
    own_slope_sd: np.ndarray

    def _lines(self, method: np.ndarray, n_params: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return x of points (h, n) and which method each has (n, m)."""
        own = np.asarray(method)[:, None] == np.array(self.methods)
        return _bent(n_params, self.centre, self.bend), own.astype(float)

    def posterior(
        self, methods: Sequence[str], n_params: np.ndarray, extra: tuple[Sequence[str], np.ndarray] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return mean (h, t) and covariance (h, t, t) of the lines at t targets, as `pool.Pool.posterior` does."""
        points, slope = self.points, self.slope[:, None]
        z = np.broadcast_to(logit(points.y), (len(slope), len(points.y)))
        noise = self.noise_factor[:, None] * points.noise + self.sigma_run[:, None] ** 2
        method, sizes = points.method, points.n_params
        if extra is not None:
            expected = self.posterior(*extra)[0]
            more = self.noise_factor[:, None] * self.noise_at(expected) + self.sigma_run[:, None] ** 2
            more = more + points.one_run_variance
            z, noise = np.concatenate([z, expected], axis=1), np.concatenate([noise, more], axis=1)
            method, sizes = np.append(method, list(extra[0])), np.append(sizes, extra[1])
        x, own = self._lines(method, sizes)
        x_new, own_new = self._lines(np.asarray(methods), np.asarray(n_params, dtype=float))
        within = self._slopes(x, own, x, own) + self.sigma_size[:, None, None] ** 2 * (sizes[:, None] == sizes)
        inverse = np.linalg.inv(within + noise[:, :, None] * np.eye(len(sizes)))
        weighted = own.T @ inverse
        levels = np.linalg.inv(weighted @ own)
        left = (z - slope * x)[:, :, None]
        level = levels @ (weighted @ left)
        gain = self._slopes(x_new, own_new, x, own) @ inverse
        mean = (own_new @ level + gain @ (left - own @ level))[:, :, 0] + slope * x_new
        rest = own_new - gain @ own
        prior = self._slopes(x_new, own_new, x_new, own_new)
        covariance = prior - gain @ np.swapaxes(self._slopes(x_new, own_new, x, own), 1, 2)
        covariance = covariance + rest @ levels @ np.swapaxes(rest, 1, 2)
        return mean, (covariance + np.swapaxes(covariance, 1, 2)) / 2

    def _slopes(self, x, own, x_other, own_other) -> np.ndarray:
        """Return the covariance that slopes give two lists of points, (h, n, n)."""
        common, alone = (sd[:, None, None] ** 2 for sd in (self.slope_sd, self.own_slope_sd))
        return x[:, :, None] * x_other[:, None, :] * (common + alone * (own @ own_other.T))


@lru_cache(maxsize=128)
def fit_suite(points: PooledPoints, lenders: tuple[Lender, ...]) -> Stack:
    """Fit a data set's points under the law that its lenders share."""
    sizes = np.unique(np.concatenate([lender.points.n_params for lender in lenders]))
    centre = float(np.log(sizes).mean())

    def log_posterior(places: np.ndarray) -> np.ndarray:
        lent = sum(lender.share * _log_likelihood(lender.points, centre, places) for lender in lenders)
        return lent + _log_likelihood(points, centre, places)

    places, log_weight = explore(log_posterior, len(_PRIOR), _N_FIRST, _N_NEAR, _WIDER)
    kept = keep_versions(log_weight, places[:, list(_PRIOR).index("sigma_size")], N_VERSIONS)
    law = SuiteLaw(points=points, link="logit", centre=centre, **_versions(places[kept]))
    return Stack(points, "logit", (law,), {FORM: 1.0})
