"""The pooled law: truth comes back, intervals hold, forms get the weight they deserve; what is refused."""

import numpy as np
import pytest
from scipy.special import expit, logit

from astraios_analysis.prediction.points import read_points, without_largest
from astraios_analysis.prediction.pool_fits import fit_pool
from astraios_analysis.prediction.pooled_points import PooledPoints
from astraios_analysis.records.refusal import Refusal

SIZES = np.array([1e4, 5e4, 2e5, 8e5])
NEXT = 3e6
METHODS = tuple("abcdefg")
SIZE, METHOD = np.tile(SIZES, 7), np.repeat(METHODS, 4)


def loss_world(rng, floor=0.2, size_sd=0.02, run_sd=0.02, slope_sd=0.0):
    """Losses of seven methods at four sizes, and what they are at the next size."""
    amplitude = 0.35 + 0.1 * np.arange(7)
    exponent = 0.2 + slope_sd * rng.standard_normal(7)
    x = np.append(SIZES, NEXT)
    law = floor + amplitude[:, None] * (x / 1e5) ** -exponent[:, None]
    noise = size_sd * rng.standard_normal(5) + run_sd * rng.standard_normal((7, 5))
    loss = law * np.exp(noise)
    return PooledPoints(SIZE, loss[:, :4].ravel(), METHOD, np.zeros(28)), loss[:, 4], law[:, 4]


def rate_world(rng, size_sd=0.15, run_sd=0.1, slope_sd=0.2):
    """Rates likewise, logit-linear in the log of the size."""
    x = np.log10(np.append(SIZES, NEXT) / 1e5)
    slope = 1.0 + slope_sd * rng.standard_normal((7, 1))
    z = -0.2 * np.arange(7)[:, None] + slope * x + size_sd * rng.standard_normal(5)
    p = expit(z + run_sd * rng.standard_normal((7, 5)))
    return PooledPoints(SIZE, p[:, :4].ravel(), METHOD, np.zeros(28)), p[:, 4], None


@pytest.mark.parametrize(("world", "link"), [(loss_world, "log"), (rate_world, "logit")])
def test_a_new_run_is_covered_about_as_often_as_asked(world, link):
    levels, hits = np.array([0.5, 0.8, 0.95]), []
    for seed in range(16):
        rng = np.random.default_rng(seed)
        points, truth, _ = world(rng)
        drawn = fit_pool(points, link, seed=seed).draw(METHODS, NEXT, 800, rng, observation=True)
        lower, upper = (np.quantile(drawn, q, axis=0) for q in ((1 - levels) / 2, (1 + levels) / 2))
        hits.append(((lower <= truth) & (truth <= upper)).mean(axis=1))
    # Methods of one world share its size effect: about 16 independent looks, a coarse check only.
    assert np.all(np.mean(hits, axis=0) >= levels - 3.5 * np.sqrt(levels * (1 - levels) / 16)), np.mean(hits, axis=0)


def test_forms_get_the_weight_they_deserve():
    curved = fit_pool(loss_world(np.random.default_rng(0), floor=0.25, size_sd=0.002, run_sd=0.002)[0], "log").weights
    straight = fit_pool(loss_world(np.random.default_rng(0), floor=0.0, size_sd=0.002, run_sd=0.002)[0], "log").weights
    assert curved["power_floor/shared_slope"] + curved["power_floor/own_slopes"] > 0.99
    assert straight["power/shared_slope"] > 0.5 and sum(straight.values()) == pytest.approx(1)
    differing = fit_pool(rate_world(np.random.default_rng(1), run_sd=0.02, slope_sd=0.4)[0], "logit").weights
    assert differing["logit_linear/own_slopes"] > 0.99


def test_methods_at_one_size_are_drawn_together():
    rng = np.random.default_rng(2)
    pool = fit_pool(rate_world(rng, size_sd=0.5, run_sd=0.02)[0], "logit")
    drawn = pool.draw(METHODS, NEXT, 2000, rng, observation=True)
    assert np.corrcoef(drawn[:, 0], drawn[:, 3])[0, 1] > 0.5
    line = pool.draw(METHODS, NEXT, 2000, np.random.default_rng(2), observation=False)
    assert np.all(line.std(axis=0) < drawn.std(axis=0))


def test_seeds_widen_one_new_run():
    points = rate_world(np.random.default_rng(3))[0]
    seeded = PooledPoints(points.n_params, points.y, points.method, points.noise, seed_variance=0.5, n_seeds=3)
    spreads = [
        logit(fit_pool(p, "logit").draw(["a"], NEXT, 4000, np.random.default_rng(0), observation=True)).std()
        for p in (points, seeded)
    ]
    # Two thirds of the variance of a seed come on top: a mean of three already carries the last third.
    assert spreads[1] ** 2 - spreads[0] ** 2 == pytest.approx(0.5 * 2 / 3, rel=0.15)


def test_the_same_seed_gives_the_same_pool():
    points = loss_world(np.random.default_rng(4))[0]
    one, two, other = (fit_pool(points, "log", seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.floor, two.floor) and not np.array_equal(one.floor, other.floor)


def test_one_more_run_at_the_target_narrows_it_and_does_so_more_than_one_far_away():
    pool = fit_pool(rate_world(np.random.default_rng(5))[0], "logit")
    now = pool.posterior(["a"], np.array([NEXT]))[1].mean()
    near, far = (pool.posterior(["a"], np.array([NEXT]), (["a"], np.array([size])))[1].mean() for size in (NEXT, 1e4))
    assert near < 0.8 * now and near < far <= now * (1 + 1e-9)


@pytest.mark.parametrize(
    ("change", "link", "message"),
    [
        ({"y": np.full(28, np.nan)}, "log", "a value is missing or not finite"),
        ({"y": np.full(28, 0.5)}, "log", "equal or lie on lines exactly"),
        ({"y": np.full(28, 1.5)}, "logit", r"value 1.5 is outside \(0, 1\); it has no logit"),
        ({"y": np.zeros(28)}, "log", r"value 0 is outside \(0, inf\)"),
        ({"n_params": np.full(28, 1e6)}, "log", "1 size; a law and its error need 3"),
        ({"n_params": -SIZE}, "log", "sizes must be positive; the smallest is -800000"),
    ],
)
def test_what_no_law_can_be_fitted_to(change, link, message):
    fields = {"n_params": SIZE, "y": 1 / np.log10(SIZE), "method": METHOD, "noise": np.zeros(28)}
    with pytest.raises(Refusal, match=message):
        fit_pool(PooledPoints(**(fields | change)), link)


def test_three_points_leave_nothing_to_judge_by():
    points = PooledPoints(SIZES[:3], np.array([3.0, 2.5, 2.4]), np.array(["a"] * 3), np.zeros(3))
    with pytest.raises(Refusal, match="3 points leave too little to judge 2 parameters by"):
        fit_pool(points, "log")
    with pytest.raises(Refusal, match="no point is left to fit"):
        fit_pool(PooledPoints(*(np.array([]) for _ in range(4))), "log")


def test_unknown_method():
    pool = fit_pool(loss_world(np.random.default_rng(6))[0], "log")
    with pytest.raises(Refusal, match="z was not fitted; choose from a, b"):
        pool.draw(["z"], NEXT, 10, np.random.default_rng(0), observation=False)


class TestTables:
    def test_replicates_are_averaged(self, tmp_path):
        path = tmp_path / "runs.csv"
        path.write_text("# note\nparams,loss,method\n1e6,2.0,a\n1e6,2.2,a\n1e7,1.5,a\n")
        points = read_points(path, "params", "loss", "method", "log")
        np.testing.assert_allclose(points.y, [2.1, 1.5])
        assert points.seed_variance == pytest.approx(np.var(np.log([2.0, 2.2]), ddof=1)) and points.n_seeds == 1.5

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("params,loss\n1,2\n", "has no column 'method'; choose from params, loss"),
            ("params,loss,method\n1,two,a\n", "loss is 'two' in row 1; give a number or drop the row"),
            ("params,loss,method\n1,-2,a\n", "loss is -2; values must lie above 0 for a log scale"),
            ("", "is not a CSV table"),
        ],
    )
    def test_refusals(self, tmp_path, text, message):
        path = tmp_path / "runs.csv"
        path.write_text(text)
        with pytest.raises(Refusal, match=message):
            read_points(path, "params", "loss", "method", "log")

    def test_split(self):
        points = loss_world(np.random.default_rng(7))[0]
        train, test = without_largest(points)
        assert len(train.y) == 21 and set(test.n_params) == {8e5} and len(test.y) == 7
