"""Averaging of laws: AICc by hand, weights of one law that is clearly right, densities that integrate to one."""

import numpy as np
import pytest
from scipy.special import expit, logit

from astraios_analysis.prediction.pool_fits import Form, fit_form, forms_of
from astraios_analysis.prediction.pooled_points import PooledPoints
from astraios_analysis.prediction.stack import akaike_weights, fit_stack, log_density
from astraios_analysis.records.refusal import Refusal

SIZES = np.array([1e4, 5e4, 2e5, 8e5, 3e6])
METHODS = tuple("abcd")


def losses(rng, floor=0.3, exponents=(0.3,) * 4, noise=0.004, sizes=SIZES):
    amplitude = 0.3 + 0.1 * np.arange(4)
    line = floor + amplitude[:, None] * (sizes / 1e5) ** -np.array(exponents)[:, None]
    y = line * np.exp(noise * rng.standard_normal(line.shape))
    size, method = np.tile(sizes, 4), np.repeat(METHODS, len(sizes))
    return PooledPoints(size, y.ravel(), method, np.zeros(y.size))


def test_akaike_weights_by_hand():
    np.testing.assert_allclose(akaike_weights(np.array([0.0, 2 * np.log(3), np.inf])), [0.75, 0.25, 0.0])
    np.testing.assert_allclose(akaike_weights(np.array([np.inf, np.inf])), [0.5, 0.5])


def test_one_method_has_nothing_to_pool():
    assert [form.name for form in forms_of("log", 1)] == ["power/shared_slope", "power_floor/shared_slope"]
    assert len(forms_of("log", 4)) == 9 and len(forms_of("logit", 2)) == 3


def test_the_law_that_holds_gets_the_weight():
    stack = fit_stack(losses(np.random.default_rng(0)), "log")
    by_law = {law: sum(w for name, w in stack.weights.items() if name.startswith(f"{law}/")) for law in ("power",)}
    assert stack.n_left_out == 2 and sum(stack.weights.values()) == pytest.approx(1)
    assert by_law["power"] < 0.05 and stack.weights["power_floor/no_pooling"] < 0.2
    differing = fit_stack(losses(np.random.default_rng(1), floor=0.0, exponents=(0.05, 0.2, 0.35, 0.5)), "log")
    shared = sum(w for name, w in differing.weights.items() if name.endswith("/shared_slope"))
    assert shared < 0.01


def test_methods_whose_curves_are_multiples_share_a_relative_floor():
    line = 0.6 + 0.4 * (SIZES / 1e4) ** -0.5
    y = np.array([[0.4], [0.8], [1.6], [3.2]]) * line
    y = y * np.exp(0.003 * np.random.default_rng(6).standard_normal(y.shape))
    points = PooledPoints(np.tile(SIZES, 4), y.ravel(), np.repeat(METHODS, 5), np.zeros(20))
    stack = fit_stack(points, "log")
    assert stack.weights["relative_floor/shared_slope"] > 0.5
    drawn = stack.draw(METHODS, 1e7, 1000, np.random.default_rng(0), observation=False)
    truth = y[:, 0] / line[0] * (0.6 + 0.4 * 1000**-0.5)
    np.testing.assert_allclose(np.median(drawn, axis=0), truth, rtol=0.02)


def test_without_a_size_to_leave_out_aicc_stands_alone():
    stack = fit_stack(losses(np.random.default_rng(2), sizes=SIZES[:3]), "log")
    aicc = np.array([score.aicc for score in stack.scores])
    assert stack.n_left_out == 0 and all(np.isnan(score.left_out) for score in stack.scores)
    np.testing.assert_allclose(list(stack.weights.values()), akaike_weights(aicc), atol=1e-9)


def test_own_lines_are_least_squares_lines_of_each_method():
    rng = np.random.default_rng(3)
    z = rng.standard_normal((4, 5))
    points = PooledPoints(np.tile(SIZES, 4), expit(z).ravel(), np.repeat(METHODS, 5), np.zeros(20))
    pool, aicc = fit_form(points, "logit", Form("logit_linear", "no_pooling"))
    mean = pool.posterior(["b"], np.array([1e7]))[0]
    slope, level = np.polyfit(np.log10(SIZES), z[1], 1)
    np.testing.assert_allclose(mean, level + slope * 7.0, rtol=1e-6)
    assert np.isfinite(aicc)


@pytest.mark.parametrize("link", ["log", "logit"])
def test_density_is_that_of_the_draws(link):
    points = losses(np.random.default_rng(4), noise=0.03)
    if link == "logit":
        points = PooledPoints(points.n_params, expit(np.log(points.y)), points.method, np.full(20, 0.01))
    pool = fit_form(points, link, forms_of(link, 4)[1])[0]
    target = PooledPoints(np.array([1e7]), points.y[:1], np.array(["a"]), np.zeros(1))
    scale = np.log if link == "log" else logit
    drawn = scale(pool.draw(["a"], 1e7, 8000, np.random.default_rng(0), observation=True)[:, 0])
    grid = np.linspace(drawn.mean() - 7 * drawn.std(), drawn.mean() + 7 * drawn.std(), 61)
    back = np.exp(grid) if link == "log" else expit(grid)
    many = PooledPoints(np.full(61, 1e7), back, np.full(61, "a"), np.zeros(61))
    density = np.exp(log_density(pool, many))
    assert np.trapezoid(density, grid) == pytest.approx(1, abs=0.01)
    assert np.trapezoid(density * grid, grid) == pytest.approx(drawn.mean(), abs=0.02 * drawn.std() + 0.01)
    assert np.exp(log_density(pool, target)).shape == (1,)


def test_refusals():
    with pytest.raises(Refusal, match="2 sizes; a law and its error need 3"):
        fit_stack(losses(np.random.default_rng(5), sizes=SIZES[:2]), "log")
