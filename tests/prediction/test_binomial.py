"""Binomial regression against statsmodels, in worlds whose truth is known, and at the edges."""

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.special import expit

from astraios_analysis.prediction.binomial import fit_rates, mean_rate, solve_rates
from astraios_analysis.prediction.stack import sobol
from astraios_analysis.records.refusal import Refusal

SIZES = np.repeat([1.0, 2.0, 3.0, 4.0], 7)


def world(rng, theta=(-0.5, 1.0), n=200, chance=0.0, size_sd=0.0):
    """A design of 28 models, and rates of n problems."""
    x = rng.standard_normal(28)
    design = np.column_stack([np.ones(28), x])
    eta = design @ theta + size_sd * np.repeat(rng.standard_normal(4), 7)
    return design, rng.binomial(n, mean_rate(eta, chance)) / n, np.full(28, float(n))


def test_parameters_agree_with_statsmodels():
    design, rates, n = world(np.random.default_rng(0))
    peer = sm.GLM(rates, design, family=sm.families.Binomial(), var_weights=n).fit(scale="X2")
    found = fit_rates(design, rates, n, SIZES, 0.0)
    # The weak prior moves estimates by its share of the information, here well below a thousandth.
    np.testing.assert_allclose(found.theta, peer.params, rtol=1e-3)
    np.testing.assert_allclose(np.sqrt(np.diag(found.bread) * peer.scale), peer.bse, rtol=1e-3)


@pytest.mark.parametrize("chance", [0.0, 0.5])
def test_gradient_vanishes_at_the_solution(chance):
    design, rates, n = world(np.random.default_rng(1), chance=chance)
    theta = solve_rates(design, rates, n, chance)

    def objective(values):
        p = mean_rate(design @ values, chance)
        return np.sum(n * (rates * np.log(p) + (1 - rates) * np.log(1 - p))) - np.sum(values**2) / 200

    for step in 1e-5 * np.eye(2):
        slope = (objective(theta + step) - objective(theta - step)) / 2e-5
        assert abs(slope) < 1e-4


def test_variance_components_are_recovered():
    rng = np.random.default_rng(3)
    found = [fit_rates(*world(rng, size_sd=0.4), SIZES, 0.0) for _ in range(150)]
    assert np.mean([f.dispersion for f in found]) == pytest.approx(1.0, abs=0.08)
    assert np.mean([f.size_variance for f in found]) == pytest.approx(0.16, abs=0.05)
    # Models that differ by more than their size and problems are over-dispersed.
    design, _, n = world(rng)
    rates = rng.binomial(200, expit(design @ (-0.5, 1.0) + 0.5 * rng.standard_normal((100, 28)))) / 200
    assert np.median([fit_rates(design, rate, n, SIZES, 0.0).dispersion for rate in rates]) > 4


def test_one_solved_where_hardly_any_was_expected_is_no_over_dispersion():
    rng = np.random.default_rng(6)
    # Half of the models solve next to nothing.
    design = np.column_stack([np.ones(28), np.where(np.arange(28) % 2, 0.0, -14.0) + rng.standard_normal(28)])
    rates = rng.binomial(200, expit(design @ (-0.5, 1.0))) / 200
    before = fit_rates(design, rates, np.full(28, 200.0), SIZES, 0.0)
    rates[0] = 1 / 200
    after = fit_rates(design, rates, np.full(28, 200.0), SIZES, 0.0)
    assert rates[2] == 0 and after.dispersion < before.dispersion + 0.5


@pytest.mark.parametrize("size_sd", [0.0, 0.4])
def test_draws_cover_the_slope_as_often_as_asked(size_sd):
    rng = np.random.default_rng(5)
    hits = []
    for _ in range(200):
        theta = fit_rates(*world(rng, size_sd=size_sd), SIZES, 0.0).draw(sobol(512, 6))[0][:, 1]
        hits.append(np.quantile(theta, 0.1) <= 1.0 <= np.quantile(theta, 0.9))
    # Four binomial standard errors below; the size variance, never below 0, makes intervals wide where there is none.
    assert 0.8 - 4 * np.sqrt(0.16 / 200) <= np.mean(hits) <= 0.95


@pytest.mark.parametrize("edge", [0.0, 1.0])
def test_none_or_all_solved_in_one_group_stays_finite(edge):
    design, rates, n = world(np.random.default_rng(6))
    group = np.arange(28) % 7 == 0
    found = fit_rates(np.column_stack([design, group]), np.where(group, edge, rates), n, SIZES, 0.0)
    assert np.all(np.isfinite(found.covariance)) and found.theta[2] * (2 * edge - 1) > 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rates": np.full(28, 1.5)}, r"1.5 is not a rate in \[0, 1\]"),
        ({"rates": np.full(28, np.nan)}, "a rate is missing or not finite"),
        ({"n_items": np.zeros(28)}, "a rate needs problems behind it; one has 0"),
        ({"chance": 1.0}, "chance level 1 is not in"),
        ({"rates": np.full(3, 0.5)}, "28, 3 and 28 rows"),
        ({"design": np.eye(28)}, "no degree of freedom is left by 28 models beside 28 parameters"),
    ],
)
def test_unusable_rates_are_refused(change, message):
    design, rates, n = world(np.random.default_rng(7))
    arguments = {"design": design, "rates": rates, "n_items": n, "size": SIZES, "chance": 0.0}
    with pytest.raises(Refusal, match=message):
        fit_rates(**(arguments | change))
