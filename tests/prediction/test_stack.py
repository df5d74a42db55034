"""Pooled laws, against least squares of known variances, and their averaging: weights by hand, coverage, densities."""

from dataclasses import replace

import numpy as np
import pytest
import statsmodels.api as sm
from pooled_worlds import METHOD, NEXT, SIZE, loss_world, rate_world, require_calibrated
from scipy.optimize import least_squares
from scipy.special import expit, logit

from astraios_analysis.prediction import stack as stacks
from astraios_analysis.prediction.outcome import PooledPoints
from astraios_analysis.prediction.pool import Pool, draw_runs
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
    assert stack.weights["relative_floor/shared_floor"] > 0.5
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
    np.testing.assert_allclose(pool.posterior(["b"], 1e7)[0], level + slope * 7.0, rtol=1e-6)
    assert np.isfinite(aicc)


@pytest.mark.parametrize(("link", "law"), [("log", "power"), ("log", "power_floor"), ("logit", "logit_linear")])
def test_density_is_that_of_the_draws(link, law):
    points = losses(np.random.default_rng(4), noise=0.03)
    if link == "logit":
        points = PooledPoints(points.n_params, expit(np.log(points.y)), points.method, np.full(20, 0.01))
    pool = fit_form(points, link, Form(law, "own_slopes"))[0]
    scale = np.log if link == "log" else logit
    drawn = scale(draw_pools([pool], 1e7)["observation"][:, 0])
    grid = np.linspace(drawn.mean() - 9 * drawn.std(), drawn.mean() + 9 * drawn.std(), 81)
    back = np.exp(grid) if link == "log" else expit(grid)
    density = np.exp(log_density(pool, PooledPoints(np.full(81, 1e7), back, np.full(81, "a"), np.zeros(81))))
    assert np.trapezoid(density, grid) == pytest.approx(1, abs=0.01)
    assert np.trapezoid(density * grid, grid) == pytest.approx(drawn.mean(), abs=0.02 * drawn.std() + 0.01)
    assert np.trapezoid(density * (grid - drawn.mean()) ** 2, grid) == pytest.approx(drawn.var(), rel=0.15)


@pytest.mark.parametrize(
    ("world", "link", "scale"), [(loss_world, "log", np.log), (rate_world, "logit", logit)], ids=["losses", "rates"]
)
def test_a_new_run_is_covered_as_often_as_asked_and_no_wider_than_needed(world, link, scale):
    worlds = [world(np.random.default_rng(seed)) for seed in range(20)]
    found = [(truth, fit_stack(points, link).draw(NEXT)["observation"]) for points, truth in worlds]
    require_calibrated(found, scale, 20, 2.2)


def test_a_narrow_peak_is_found_whole():
    centre, spread = np.array([0.31, 0.77, 0.52, 0.93]), np.array([0.002, 0.1, 0.004, 0.003])
    places, log_weight = stacks.explore(
        lambda places: -(((places - centre) / spread) ** 2).sum(axis=1) / 2, 4, 512, 512, 1.3
    )
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    mean = weight @ places
    assert 1 / (weight**2).sum() > 100
    np.testing.assert_allclose((mean - centre) / spread, 0, atol=0.1)
    np.testing.assert_allclose(np.sqrt(weight @ (places - mean) ** 2), spread, rtol=0.1)


def around(rng, sizes, line, noise):
    """Runs of up to 18 methods around lines (n_methods, n_sizes), and their points."""
    y, names = line * np.exp(noise * rng.standard_normal(line.shape)), [*"abcdefghijklmnopqr"][: len(line)]
    return y, PooledPoints(np.tile(sizes, len(line)), y.ravel(), np.repeat(names, len(sizes)), np.zeros(y.size))


@pytest.mark.parametrize(("law", "n_sizes"), [("power_floor", 3), ("relative_floor", 9)])
@pytest.mark.parametrize("noise", [0.0005, 0.004])
def test_a_floor_of_many_methods_is_where_least_squares_put_it(law, n_sizes, noise):
    rng, is_relative, sizes = np.random.default_rng(0), law == "relative_floor", np.geomspace(1e8, 1e9, n_sizes)

    def line_of(floor, exponent, level, sizes):
        above = (sizes / 1e9) ** -exponent
        return level * (floor + (1 - floor) * above) if is_relative else floor + level * above

    floor, level = (0.86, 4.2) if is_relative else (3.6, 0.6)
    levels = level * np.exp(0.1 * rng.standard_normal((18, 1)))
    y, points = around(rng, sizes, line_of(floor, 0.3, levels, sizes), noise)
    pool = fit_form(points, "log", Form(law, "shared_floor" if is_relative else "shared_slope"))[0]
    shares, errors = (one[:, 18] for one in (pool.coefficients[0], np.diagonal(pool.coefficients[1], axis1=1, axis2=2)))
    floors, variance = (shares, errors.mean()) if is_relative else (pool.floor, 0.0)

    def residuals(found):
        return np.log(y / line_of(*found[:2], np.exp(found[2:, None]), sizes)).ravel()

    found = least_squares(residuals, [floor, 0.3, *np.log(levels[:, 0])])
    error = np.sqrt(np.linalg.inv(found.jac.T @ found.jac)[0, 0] * 2 * found.cost / (y.size - 20))
    # Sizes may have effects of their own, and no scatter is believed below a tenth of that around parallel lines.
    assert abs(np.median(floors) - found.x[0]) < 2 * error
    assert error < np.sqrt(floors.var() + variance) < 6 * error
    low, high = np.quantile(draw_pools([pool], 1e10)["mean"], [0.025, 0.975], axis=0)
    truth = line_of(floor, 0.3, levels[:, 0], 1e10)
    assert (low < truth).all() and (truth < high).all() and ((high - low) / truth).max() < 0.1


def test_a_relative_floor_does_not_rise_beyond_the_sizes_fitted():
    # Where nearly all is above the floor its share is not known: lines made linear in it would rise without bound.
    rng, sizes = np.random.default_rng(5), np.geomspace(1e6, 1e9, 5)
    points = around(rng, sizes, np.linspace(0.5, 2, 7)[:, None] * (sizes / 1e6) ** -0.5, 0.2)[1]
    for pooling in stacks.POOLINGS_OF_FLOORS:
        pool = fit_form(points, "log", Form("relative_floor", pooling))[0]
        drawn = draw_pools([pool], 1e10)["mean"]
        assert (drawn.max(axis=0) < 20 * np.median(draw_pools([pool], 1e9)["mean"], axis=0)).all()


def test_exponents_of_their_own_are_not_taken_for_curves_that_are_multiples():
    covered, sizes = [], np.array([1e8, 3e8, 1e9, 4e9])
    for seed in range(8):
        rng = np.random.default_rng(seed)
        level, exponent = np.exp(0.3 * rng.standard_normal((7, 1))), 0.3 * np.exp(0.15 * rng.standard_normal((7, 1)))
        line = 1 + level * (sizes / 1e8) ** -exponent
        stack = fit_stack(around(rng, sizes[:3], line[:, :3], 0.005)[1], "log")
        assert stack.weights["relative_floor/shared_floor"] < 0.1
        drawn, truth = np.log(stack.draw(4e9)["mean"]), np.log(line[:, 3])
        low, high = np.quantile(drawn[:, 1:] - drawn[:, :1], [0.025, 0.975], axis=0)
        covered.append((low <= truth[1:] - truth[0]) & (truth[1:] - truth[0] <= high))
    assert np.mean(covered) > 0.85


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
        (THREE, "log", "too little is left by 3 points to judge 2 parameters by"),
        (NONE, "log", "no point is left to fit"),
    ],
)
def test_what_no_law_can_be_fitted_to(points, link, message):
    with pytest.raises(Refusal, match=message):
        fit_stack(points, link)


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
    mean, covariance = one_version(expit(Z), **variances).posterior(["a", "b"], 1e9)
    expected_mean, expected_covariance = by_statsmodels(**variances)
    np.testing.assert_allclose(mean[0], expected_mean, rtol=1e-8)
    np.testing.assert_allclose(covariance[0], expected_covariance, rtol=1e-8)
    # What both share at a size does not average out over methods: it is most of the covariance.
    assert covariance[0, 0, 1] > 0.5 * covariance[0, 0, 0] or variances


def test_a_loss_scatters_relative_to_itself():
    floor, line = 0.5, np.exp(Z)
    mean, covariance = one_version(floor + line, "log", floor=floor).posterior(["a"], 1e9)
    # Scatter of 1 % of the loss is (floor + line) / line times as much of what lies above the floor.
    flat = one_version(line, "log")
    assert covariance[0, 0, 0] > flat.posterior(["a"], 1e9)[1][0, 0, 0] and np.isfinite(mean).all()
    with pytest.raises(Refusal, match="z was not fitted; choose from a, b"):
        flat.posterior(["z"], 1e9)


def test_draws_have_the_moments_of_the_posterior():
    pool = one_version(expit(Z))
    normals = np.random.default_rng(0).standard_normal((1, 200_000, 6))
    line, run = draw_runs(pool, 1e9, normals)
    line, (mean, covariance) = logit(line), pool.posterior(["a", "b"], 1e9)
    np.testing.assert_allclose(line.mean(axis=0), mean[0], atol=0.01)
    np.testing.assert_allclose(np.cov(line.T), covariance[0], rtol=0.03)
    np.testing.assert_allclose(np.cov(run.T), covariance[0] + 0.09 + 0.01 * np.eye(2), rtol=0.03)


def test_seeds_widen_one_new_run_and_what_its_runs_share_cancels_between_methods():
    points = rate_world(np.random.default_rng(3))[0]
    seeds = {"run_variance": np.full(28, 0.5), "seeds": np.full(28, 3.0), "together": np.full(28, 0.6)}
    seeded = PooledPoints(points.n_params, points.y, points.method, points.noise, **seeds)
    normals, spreads = np.random.default_rng(0).standard_normal((1, 50_000, 16)), []
    for own in (points, seeded):
        pool = fit_form(own, "logit", Form("logit_linear", "shared_slope"))[0].take(np.array([0]))
        run = draw_runs(pool, NEXT, normals)[1]
        spreads.append((run[:, 0].var(), (run[:, 0] - run[:, 1]).var()))
    # Two thirds of the variance of a seed come on top: a mean of three already carries the last third.
    of_run, of_difference = np.subtract(*spreads[::-1])
    assert of_run == pytest.approx(0.5 * 2 / 3, rel=0.15)
    assert of_difference == pytest.approx(2 * (1 - 0.6) * 0.5 * 2 / 3, rel=0.15)
