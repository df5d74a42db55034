"""The pooled law's posterior, against generalised least squares with known variances; effects; imagined runs."""

import numpy as np
import pytest
import statsmodels.api as sm
from pooled_worlds import NEXT, rate_world
from scipy.special import expit, logit

from astraios_analysis.prediction.points import PooledPoints
from astraios_analysis.prediction.pool import Pool, draw_runs
from astraios_analysis.prediction.stack import Form, fit_form
from astraios_analysis.records.refusal import Refusal

SIZES = np.array([1e6, 1e7, 1e8])


def one_version(y, link="logit", tau=0.0, sigma_size=0.3, sigma_run=0.1, floor=0.0, noise=0.0):
    """A law of two methods at three sizes whose variances are known."""
    points = PooledPoints(np.tile(SIZES, 2), y, np.repeat(["a", "b"], 3), np.full(6, noise))
    versions = {"tau": tau, "sigma_size": sigma_size, "sigma_run": sigma_run, "noise_factor": 1.0, "floor": floor}
    versions = {name: np.array([value]) for name, value in versions.items()}
    return Pool(points=points, link=link, centre=7.0, scale=1.0, **versions)


Z = np.array([-1.0, -0.2, 0.9, -1.6, -0.9, 0.1])


def by_statsmodels(tau=0.0, sigma_size=0.3, sigma_run=0.1, noise=0.0):
    """The same by statsmodels: mean and covariance of both methods' lines at 1e9, best linear predictions."""
    x, group = np.tile([-1.0, 0.0, 1.0], 2), np.repeat([0, 1], 3)
    same_size, same_method = x[:, None] == x, group[:, None] == group
    covariance = sigma_size**2 * same_size + (sigma_run**2 + noise) * np.eye(6)
    covariance = covariance + tau**2 * same_method * np.outer(x, x)
    design, target = np.column_stack([np.eye(2)[group], x]), np.array([[1.0, 0.0, 2.0], [0.0, 1.0, 2.0]])
    found = sm.GLS(Z, design, sigma=covariance).fit()
    # What the slopes of the points' own methods share with those at the target.
    shared = tau**2 * (np.arange(2)[:, None] == group) * 2.0 * x
    mean = target @ found.params + shared @ np.linalg.solve(covariance, Z - design @ found.params)
    left = target - shared @ np.linalg.solve(covariance, design)
    prior = tau**2 * 4.0 * np.eye(2) - shared @ np.linalg.solve(covariance, shared.T)
    # statsmodels scales by the residual variance; here the variances are known.
    return mean, prior + left @ found.normalized_cov_params @ left.T


@pytest.mark.parametrize(
    "variances", [{}, {"sigma_size": 0.05}, {"noise": 0.04}, {"sigma_size": 0.6, "noise": 0.1}, {"tau": 0.4}]
)
def test_posterior_is_that_of_generalised_least_squares(variances):
    mean, covariance = one_version(expit(Z), **variances).posterior(["a", "b"], np.array([1e9, 1e9]))
    expected_mean, expected_covariance = by_statsmodels(**variances)
    np.testing.assert_allclose(mean[0], expected_mean, rtol=1e-8)
    np.testing.assert_allclose(covariance[0], expected_covariance, rtol=1e-8)
    # What both share at a size does not average out over methods: it is most of the covariance.
    assert covariance[0, 0, 1] > 0.5 * covariance[0, 0, 0] or variances


def test_a_loss_scatters_relative_to_itself():
    floor, line = 0.5, np.exp(Z)
    mean, covariance = one_version(floor + line, "log", floor=floor).posterior(["a"], np.array([1e9]))
    # Scatter of 1 % of the loss is (floor + line) / line times as much of what lies above the floor.
    flat = one_version(line, "log")
    assert covariance[0, 0, 0] > flat.posterior(["a"], np.array([1e9]))[1][0, 0, 0] and np.isfinite(mean).all()
    with pytest.raises(Refusal, match="z was not fitted; choose from a, b"):
        flat.posterior(["z"], np.array([1e9]))


def test_draws_have_the_moments_of_the_posterior():
    pool = one_version(expit(Z))
    normals = np.random.default_rng(0).standard_normal((1, 200_000, 5))
    line, run = draw_runs(pool, ["a", "b"], np.array([1e9, 1e9]), normals)
    line, (mean, covariance) = logit(line), pool.posterior(["a", "b"], np.array([1e9, 1e9]))
    np.testing.assert_allclose(line.mean(axis=0), mean[0], atol=0.01)
    np.testing.assert_allclose(np.cov(line.T), covariance[0], rtol=0.03)
    np.testing.assert_allclose(np.cov(run.T), covariance[0] + 0.09 + 0.01 * np.eye(2), rtol=0.03)
    # At two sizes each run has its own size's effect: the lines alone are correlated.
    normals = np.random.default_rng(0).standard_normal((1, 200_000, 6))
    _, apart = draw_runs(pool, ["a", "b"], np.array([1e9, 2e9]), normals)
    between = pool.posterior(["a", "b"], np.array([1e9, 2e9]))[1][0]
    np.testing.assert_allclose(np.cov(apart.T), between + (0.09 + 0.01) * np.eye(2), rtol=0.03)


def test_seeds_widen_one_new_run():
    points = rate_world(np.random.default_rng(3))[0]
    seeds = {"run_variance": np.full(28, 0.5), "seeds": np.full(28, 3.0)}
    seeded = PooledPoints(points.n_params, points.y, points.method, points.noise, **seeds)
    normals, spreads = np.random.default_rng(0).standard_normal((1, 50_000, 15)), []
    for own in (points, seeded):
        pool = fit_form(own, "logit", Form("logit_linear", "shared_slope"))[0].take(np.array([0]))
        spreads.append(draw_runs(pool, pool.methods, np.full(7, NEXT), normals)[1][:, 0].var())
    # Two thirds of the variance of a seed come on top: a mean of three already carries the last third.
    assert spreads[1] - spreads[0] == pytest.approx(0.5 * 2 / 3, rel=0.15)
