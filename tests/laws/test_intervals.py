"""Profiles: exact where the law is linear, open where data bound nothing. Refits: each the fit of its resample."""

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from astraios_analysis.laws.engine import fit_law
from astraios_analysis.laws.forms import POWER, POWER_FLOOR
from astraios_analysis.laws.intervals import KINDS, bootstrap, certify, delta_intervals
from astraios_analysis.laws.residuals import Objective
from astraios_analysis.records.refusal import Refusal

X = np.geomspace(1e6, 1e9, 14)


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_linear_law_has_the_intervals_of_linear_regression(level):
    y = 40 * X**-0.3 * np.exp(np.random.default_rng(0).normal(0, 0.02, 14))
    design = np.column_stack([np.ones(14), -np.log(X)])
    beta, squares, _, _ = np.linalg.lstsq(design, np.log(y), rcond=None)
    half = stats.t.ppf((1 + level) / 2, 12) * np.sqrt(squares[0] / 12 * np.linalg.inv(design.T @ design).diagonal())
    _, found = certify(fit_law(POWER, X, y), level)
    for name, middle, width, back in (("A", beta[0], half[0], np.exp), ("alpha", beta[1], half[1], float)):
        assert (found[name].lower, found[name].upper) == pytest.approx(
            (back(middle - width), back(middle + width)), rel=1e-4
        )
        assert found[name].is_identified


@pytest.mark.parametrize("name", POWER_FLOOR.names)
def test_fits_with_the_parameter_held_at_an_end_rise_by_the_square_of_the_t_quantile(name):
    y = (0.5 + 40 * X**-0.3) * np.exp(np.random.default_rng(0).normal(0, 0.01, 14))
    found = fit_law(POWER_FLOOR, X, y)
    interval = certify(found, 0.8)[1][name]
    rise = 0.5 * (stats.t.ppf(0.9, found.dof) * found.residual_scale) ** 2
    for held in (interval.lower, interval.upper):
        assert fit_law(POWER_FLOOR, X, y, fixed={name: held}).value - found.value == pytest.approx(rise, rel=1e-5)


def test_floor_far_below_the_points_is_not_identified():
    y = 40 * X**-0.1 * np.exp(np.random.default_rng(1).normal(0, 0.02, 14))
    certificate, intervals = certify(fit_law(POWER_FLOOR, X, y, must_converge=False))
    assert not certificate.identified["E"]
    assert intervals["E"].lower == 0 and np.isfinite(intervals["E"].upper)
    assert "not identifiable: E (its 95 % profile interval reaches its bound)" in certificate.warnings()


def test_good_data_identify_all_and_methods_agree():
    y = (0.5 + 40 * X**-0.3) * np.exp(np.random.default_rng(2).normal(0, 0.002, 14))
    found = fit_law(POWER_FLOOR, X, y)
    certificate, intervals = certify(found)
    assert all(certificate.identified.values()) and certificate.is_lowest and certificate.warnings() == []
    for name, interval in delta_intervals(found).items():
        own = intervals[name]
        assert own.lower < own.value < own.upper
        assert (interval.upper - interval.lower) == pytest.approx(own.upper - own.lower, rel=0.1)


def test_refusals():
    y = 40 * X**-0.3 * np.exp(np.random.default_rng(0).normal(0, 0.02, 14))
    with pytest.raises(Refusal, match="level is 95; give a share"):
        certify(fit_law(POWER, X, y), 95)


RNG = np.random.default_rng(0)
FORTY = np.geomspace(1e6, 1e9, 40)
Y = (0.5 + 40 * FORTY**-0.3) * np.exp(RNG.normal(0, 0.01, 40))


@pytest.mark.parametrize("delta", [np.inf, 1e-2])
def test_refits_are_fits_of_their_resamples(delta):
    found = fit_law(POWER_FLOOR, FORTY, Y, objective=Objective("log", delta))
    refits = bootstrap(found, 20, np.random.default_rng(7))
    counts = np.random.default_rng(7).multinomial(40, np.full(40, 1 / 40), size=20)
    for theta, value, weights in zip(refits.theta, refits.objective, counts, strict=True):
        alone = fit_law(POWER_FLOOR, FORTY, Y, objective=Objective("log", delta), weights=weights)
        assert value == pytest.approx(alone.value, rel=1e-9)
        np.testing.assert_allclose(theta, alone.theta, rtol=1e-4)


def log_log_line(x, y, **options):
    """Linear regression of log y, whose coefficients are log A and alpha."""
    return sm.OLS(np.log(y), sm.add_constant(-np.log(x))).fit(**options)


@pytest.mark.parametrize("kind", ["residual", "parametric"])
def test_spread_of_refits_is_the_covariance_of_linear_regression(kind):
    # Of six points two parameters take a third of the degrees of freedom: without them spreads are a fifth too small.
    x = np.geomspace(1e6, 1e9, 6)
    y = 40 * x**-0.3 * np.exp(np.random.default_rng(1).normal(0, 0.02, 6))
    amplitude, alpha = bootstrap(fit_law(POWER, x, y), 6000, np.random.default_rng(2), kind).theta.T
    np.testing.assert_allclose(np.cov(np.log(amplitude), alpha), log_log_line(x, y).cov_params(), rtol=0.08)


@pytest.mark.parametrize("size", [1, 5])
def test_spread_of_drawn_points_and_blocks_is_that_of_the_sandwich(size):
    # Noise grows with x and is the same within blocks, so that errors of independent points are far off.
    x, blocks = np.geomspace(1e6, 1e9, 60 * size), np.repeat(np.arange(60), size)
    y = 40 * x**-0.3 * np.exp((np.random.default_rng(1).normal(0, 1, 60) * np.geomspace(0.005, 0.05, 60))[blocks])
    kind = {"kind": "block", "blocks": blocks} if size > 1 else {"kind": "pairs"}
    amplitude, alpha = bootstrap(fit_law(POWER, x, y), 3000, np.random.default_rng(2), **kind).theta.T
    options = {"cov_type": "cluster", "cov_kwds": {"groups": blocks, "use_correction": False}}
    found, expected = np.cov(np.log(amplitude), alpha), log_log_line(x, y, **options).cov_params()
    np.testing.assert_allclose(found, expected, rtol=0.2)
    assert abs(found[1, 1] / log_log_line(x, y).cov_params()[1, 1] - 1) > 0.25


def test_same_seed_same_refits():
    found = fit_law(POWER, FORTY, Y)
    first, second = (bootstrap(found, 10, np.random.default_rng(5)).theta for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"kind": "jackknife"}, f"unknown bootstrap 'jackknife'; choose from {', '.join(KINDS)}"),
        ({"kind": "block"}, "a block bootstrap needs the block of each point"),
        ({"kind": "block", "blocks": [1, 2]}, "there are 40 points and 2 block labels"),
        ({"kind": "block", "blocks": [1] * 40}, "at least two blocks"),
    ],
)
def test_refused_bootstraps(options, text):
    with pytest.raises(Refusal, match=text):
        bootstrap(fit_law(POWER, FORTY, Y), 10, np.random.default_rng(0), **options)


def test_one_resample_has_no_spread():
    with pytest.raises(Refusal, match="1 resamples have no spread"):
        bootstrap(fit_law(POWER, FORTY, Y), 1, np.random.default_rng(0))
