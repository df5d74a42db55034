"""Averaging of laws: weights by hand and of laws that hold, coverage from both sides, densities, determinism."""

from dataclasses import replace

import numpy as np
import pytest
from pooled_worlds import METHOD, NEXT, SIZE, loss_world, rate_world, require_calibrated
from scipy.special import expit, logit

from astraios_analysis.prediction import stack as stacks
from astraios_analysis.prediction.points import PooledPoints
from astraios_analysis.prediction.stack import Form, akaike_weights, draw_pools, fit_form, fit_stack, log_density
from astraios_analysis.records.refusal import Refusal

FIVE = np.array([1e4, 5e4, 2e5, 8e5, 3e6])
FOUR = tuple("abcd")


def losses(rng, floor=0.3, exponents=(0.3,) * 4, noise=0.004, sizes=FIVE):
    amplitude = 0.3 + 0.1 * np.arange(4)
    line = floor + amplitude[:, None] * (sizes / 1e5) ** -np.array(exponents)[:, None]
    y = line * np.exp(noise * rng.standard_normal(line.shape))
    return PooledPoints(np.tile(sizes, 4), y.ravel(), np.repeat(FOUR, len(sizes)), np.zeros(y.size))


def test_akaike_weights_by_hand():
    np.testing.assert_allclose(akaike_weights(np.array([0.0, 2 * np.log(3), np.inf])), [0.75, 0.25, 0.0])
    np.testing.assert_allclose(akaike_weights(np.array([np.inf, np.inf])), [0.5, 0.5])


def test_methods_of_one_size_count_as_one_look():
    # One look for the first form three times as dense, one look of equal Akaike weights: w = (1/2 + 3w/(1+2w)) / 2.
    one = [np.log(np.array([[3.0], [1.0]]))]
    seven = [np.log(np.array([[3.0] * 7, [1.0] * 7]))]
    expected = stacks.weigh(np.array([0.5, 0.5]), one)
    w = expected[0]
    assert w == pytest.approx((0.5 + 3 * w / (1 + 2 * w)) / 2, rel=1e-6)
    np.testing.assert_allclose(stacks.weigh(np.array([0.5, 0.5]), seven), expected, rtol=1e-9)


def test_one_method_has_nothing_to_pool():
    assert [form.name for form in stacks.forms_of("log", 1)] == ["power/shared_slope", "power_floor/shared_slope"]
    assert len(stacks.forms_of("log", 4)) == 9 and len(stacks.forms_of("logit", 2)) == 3


def test_the_law_that_holds_gets_the_weight():
    stack = fit_stack(losses(np.random.default_rng(0)), "log")
    power = sum(w for name, w in stack.weights.items() if name.startswith("power/"))
    assert sum(stack.weights.values()) == pytest.approx(1)
    assert power < 0.05 and stack.weights["power_floor/no_pooling"] < 0.2
    differing = fit_stack(losses(np.random.default_rng(1), floor=0.0, exponents=(0.05, 0.2, 0.35, 0.5)), "log")
    assert sum(w for name, w in differing.weights.items() if name.endswith("/shared_slope")) < 0.01


def test_methods_whose_curves_are_multiples_share_a_relative_floor():
    line = 0.6 + 0.4 * (FIVE / 1e4) ** -0.5
    y = np.array([[0.4], [0.8], [1.6], [3.2]]) * line
    y = y * np.exp(0.003 * np.random.default_rng(6).standard_normal(y.shape))
    stack = fit_stack(PooledPoints(np.tile(FIVE, 4), y.ravel(), np.repeat(FOUR, 5), np.zeros(20)), "log")
    assert stack.weights["relative_floor/shared_slope"] > 0.5
    truth = y[:, 0] / line[0] * (0.6 + 0.4 * 1000**-0.5)
    np.testing.assert_allclose(np.median(stack.draw(1e7)["mean"], axis=0), truth, rtol=0.02)


def test_without_a_size_to_leave_out_aicc_stands_alone():
    stack = fit_stack(losses(np.random.default_rng(2), sizes=FIVE[:3]), "log")
    fitted = [form for form in stacks.forms_of("log", 4) if form.name in stack.weights]
    aicc = np.array([fit_form(stack.points, "log", form)[1] for form in fitted])
    np.testing.assert_allclose(list(stack.weights.values()), akaike_weights(aicc), atol=1e-9)


def test_own_lines_are_least_squares_lines_of_each_method():
    z = np.random.default_rng(3).standard_normal((4, 5))
    points = PooledPoints(np.tile(FIVE, 4), expit(z).ravel(), np.repeat(FOUR, 5), np.zeros(20))
    pool, aicc = fit_form(points, "logit", Form("logit_linear", "no_pooling"))
    slope, level = np.polyfit(np.log10(FIVE), z[1], 1)
    np.testing.assert_allclose(pool.posterior(["b"], np.array([1e7]))[0], level + slope * 7.0, rtol=1e-6)
    assert np.isfinite(aicc)


@pytest.mark.parametrize("link", ["log", "logit"])
def test_density_is_that_of_the_draws(link):
    points = losses(np.random.default_rng(4), noise=0.03)
    if link == "logit":
        points = PooledPoints(points.n_params, expit(np.log(points.y)), points.method, np.full(20, 0.01))
    pool = fit_form(points, link, stacks.forms_of(link, 4)[1])[0]
    scale = np.log if link == "log" else logit
    drawn = scale(draw_pools([pool], 1e7)["observation"][:, 0])
    grid = np.linspace(drawn.mean() - 9 * drawn.std(), drawn.mean() + 9 * drawn.std(), 81)
    back = np.exp(grid) if link == "log" else expit(grid)
    density = np.exp(log_density(pool, PooledPoints(np.full(81, 1e7), back, np.full(81, "a"), np.zeros(81))))
    assert np.trapezoid(density, grid) == pytest.approx(1, abs=0.01)
    assert np.trapezoid(density * grid, grid) == pytest.approx(drawn.mean(), abs=0.02 * drawn.std() + 0.01)


@pytest.mark.parametrize(
    ("world", "link", "scale"), [(loss_world, "log", np.log), (rate_world, "logit", logit)], ids=["losses", "rates"]
)
def test_a_new_run_is_covered_as_often_as_asked_and_no_wider_than_needed(world, link, scale):
    worlds = [world(np.random.default_rng(seed)) for seed in range(20)]
    found = [(truth, fit_stack(points, link).draw(NEXT)["observation"]) for points, truth in worlds]
    require_calibrated(found, scale, 20, 2.2)


def test_the_same_points_give_the_same_numbers():
    first = fit_stack(loss_world(np.random.default_rng(4))[0], "log").draw(NEXT)["mean"]
    stacks.fit_stack.cache_clear()
    stacks.fit_form.cache_clear()
    np.testing.assert_array_equal(fit_stack(loss_world(np.random.default_rng(4))[0], "log").draw(NEXT)["mean"], first)


NONE = PooledPoints(*(np.array([]) for _ in range(4)))
THREE = PooledPoints(FIVE[:3], np.array([3.0, 2.5, 2.4]), np.array(["a"] * 3), np.zeros(3))
ALL = PooledPoints(SIZE, 1 / np.log10(SIZE), METHOD, np.zeros(28))


@pytest.mark.parametrize(
    ("points", "link", "message"),
    [
        (replace(ALL, y=np.full(28, np.nan)), "log", "a value is missing or not finite"),
        (replace(ALL, y=np.full(28, 0.5)), "log", "equal or lie on lines exactly"),
        (replace(ALL, y=np.full(28, 1.5)), "logit", r"value 1.5 is outside \(0, 1\); it has no logit"),
        (replace(ALL, y=np.zeros(28)), "log", r"value 0 is outside \(0, inf\)"),
        (replace(ALL, n_params=np.full(28, 1e6)), "log", "1 size; a law and its error need 3"),
        (replace(ALL, n_params=-SIZE), "log", "sizes must be positive; the smallest is -800000"),
        (THREE, "log", "3 points leave too little to judge 2 parameters by"),
        (NONE, "log", "no point is left to fit"),
    ],
)
def test_what_no_law_can_be_fitted_to(points, link, message):
    with pytest.raises(Refusal, match=message):
        fit_stack(points, link)
