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

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from scipy.linalg import null_space
from scipy.special import logit

from astraios_analysis.prediction.outcome import Lender, PooledPoints
from astraios_analysis.prediction.pool import Versions
from astraios_analysis.prediction.stack import N_VERSIONS, Stack, explore, keep_versions

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
_N_FIRST, _N_NEAR = 2048, 2048
_WIDER = 1.4


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
def _contrasts(points: PooledPoints) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what the intercepts leave of link values (k,), of slopes and of scatter, k contrasts of n points.

    Slopes are what x multiplies to, (n, k (1 + m)): the common slope and each method's own. Scatter (3, k k) are the
    covariances that size effects, a run's scatter and the known noise have at variances and a factor of 1.
    """
    own, at_size = points.by_method, points.by_size
    free = null_space(own.T)
    slopes = free[:, :, None] * np.column_stack([np.ones(len(own)), own])[:, None, :]
    scatter = [at_size @ at_size.T, np.eye(len(own)), np.diag(points.noise)]
    scatter = np.stack([(free.T @ one @ free).ravel() for one in scatter])
    return free.T @ logit(points.y), slopes.reshape(len(own), -1), scatter


@lru_cache(maxsize=512)
def _likelihood_at(points: PooledPoints, centre: float, key: bytes) -> np.ndarray:
    places = np.frombuffer(key).reshape(-1, len(_PRIOR))
    v, (z, slopes, scatter), h = _versions(places), _contrasts(points), len(places)
    k = len(z)
    by_slope = (_bent(points.n_params, centre, v["bend"]) @ slopes).reshape(h, k, -1)
    left = z - v["slope"][:, None] * by_slope[:, :, 0]
    by_slope[:, :, 0] *= v["slope_sd"][:, None]
    by_slope[:, :, 1:] *= v["own_slope_sd"][:, None, None]
    joined = np.empty((h, k + 1, k + 1))
    factors = np.column_stack([v["sigma_size"] ** 2, v["sigma_run"] ** 2, v["noise_factor"]])
    joined[:, :k, :k] = (factors @ scatter).reshape(h, k, k)
    joined[:, :k, :k] += by_slope @ np.swapaxes(by_slope, 1, 2)
    # The factor's last row is what is left, solved for: whatever stands in the corner, if it is large.
    joined[:, k, :k], joined[:, :k, k], joined[:, k, k] = left, left, 1e200
    root = np.linalg.cholesky(joined)
    logs = np.log(np.diagonal(root, axis1=1, axis2=2)[:, :k]).sum(axis=1)
    return -(root[:, k, :k] ** 2).sum(axis=1) / 2 - logs


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

    def at(self, n_params: np.ndarray) -> np.ndarray:
        """Return x of sizes in each version, shape (h, n)."""
        return _bent(n_params, self.centre, self.bend)

    @cached_property
    def coefficients(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean and covariance of intercepts (flat priors), the data set's slope, and what methods' differ by from it.

        What slopes are made of comes beside them (`pool.Versions`).
        """
        points, m = self.points, len(self.methods)
        x, own = self.at(points.n_params), points.by_method
        slopes = x[:, :, None] * np.column_stack([np.ones(len(own)), own])
        spread = np.repeat([self.slope_sd**2, self.own_slope_sd**2], [1, m], axis=0).T
        shared = spread[:, :, None] * np.swapaxes(slopes, 1, 2)
        at_size = self.sigma_size[:, None, None] ** 2 * (points.by_size @ points.by_size.T)
        noise = self.noise_factor[:, None] * points.noise + self.sigma_run[:, None] ** 2
        inverse = np.linalg.inv(slopes @ shared + at_size + noise[:, :, None] * np.eye(len(points.y)))
        weighted, gain = own.T @ inverse, shared @ inverse
        levels = np.linalg.inv(weighted @ own)
        left = (logit(points.y) - self.slope[:, None] * x)[:, :, None]
        level = levels @ (weighted @ left)
        mean = np.concatenate([level, gain @ (left - own @ level)], axis=1)[:, :, 0]
        # What the slopes know of themselves, and what they owe to intercepts that are not known.
        known = spread[:, :, None] * np.eye(m + 1) - gain @ np.swapaxes(shared, 1, 2)
        with_levels = np.concatenate([np.broadcast_to(np.eye(m), levels.shape), -gain @ own], axis=1)
        covariance = with_levels @ levels @ np.swapaxes(with_levels, 1, 2)
        covariance[:, m:, m:] += known
        mean[:, m] += self.slope
        of_slopes = np.column_stack([np.zeros((m, m)), np.ones(m), np.eye(m)])
        return mean, (covariance + np.swapaxes(covariance, 1, 2)) / 2, of_slopes


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
