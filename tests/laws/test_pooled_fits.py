"""Groups fitted apart, with shared exponents, and partly pooled: against closed forms and simulated worlds."""

import numpy as np
import pytest
from scipy import stats

from astraios_analysis.laws.fit import fit_law
from astraios_analysis.laws.group_fits import fit_groups
from astraios_analysis.laws.laws import LAWS, POWER, POWER_FLOOR
from astraios_analysis.laws.partial_pooling import pool_partially
from astraios_analysis.laws.pooled_laws import number_groups, pool_law
from astraios_analysis.records.refusal import Refusal

SIZES = np.array([1.137e9, 3.043e9, 7.327e9, 15.517e9])
N_METHODS, CENTRE = 7, float(np.exp(np.log(SIZES).mean()))


def world(rng, floor=0.0, tau=0.0, noise=0.01, exponent=0.3):
    """28 runs of seven methods at four sizes: sizes, losses, methods, and the exponent of each."""
    amplitude = np.exp(np.log(0.6) + rng.normal(0, 0.2, N_METHODS))
    exponents = exponent + tau * rng.normal(size=N_METHODS)
    method = np.repeat(np.arange(N_METHODS), len(SIZES))
    x = np.tile(SIZES, N_METHODS)
    y = (floor + amplitude[method] * (x / CENTRE) ** -exponents[method]) * np.exp(rng.normal(0, noise, len(x)))
    return x, y, np.array([f"m{m}" for m in method]), exponents


def line(x, y, group):
    """Exponent, its standard error and degrees of freedom by linear regression with one intercept a group."""
    names, member = np.unique(group, return_inverse=True)
    design = np.column_stack([np.eye(len(names))[member], -np.log(x)])
    beta, squares, _, _ = np.linalg.lstsq(design, np.log(y), rcond=None)
    dof = len(y) - design.shape[1]
    return beta[-1], np.sqrt(squares[0] / dof * np.linalg.inv(design.T @ design)[-1, -1]), dof


def test_groups_apart_are_single_fits():
    x, y, group, _ = world(np.random.default_rng(0), floor=0.3, noise=0.002)
    found = fit_groups(POWER, [*x, 1e9], [*y, 2.0], [*group, "alone"])
    assert list(found.fits) == [f"m{m}" for m in range(7)]
    assert "leave no degree of freedom" in found.refused["alone"]
    for name, fit in found.fits.items():
        own = group == name
        np.testing.assert_allclose(fit.theta, fit_law(POWER, x[own], y[own]).theta, rtol=1e-8)


@pytest.mark.parametrize("name", ["power", "power_floor", "chinchilla", "rectified"])
def test_gradient_and_units_of_pooled_laws(name):
    law = pool_law(LAWS[name], ["a", "b", "c"])
    rng = np.random.default_rng(1)
    x = np.column_stack([*(rng.uniform(1, 50, (9, len(law.inputs) - 1)).T), np.tile([1, 2, 3], 3)])
    theta = rng.uniform(0.2, 0.9, len(law.parameters))
    steps = 1e-6 * np.eye(len(theta))
    differences = [(law.function(x, theta + step) - law.function(x, theta - step)) / 2e-6 for step in steps]
    np.testing.assert_allclose(law.gradient(x, theta), np.column_stack(differences), atol=1e-7)
    scale = np.array([*np.full(len(law.inputs) - 1, 30.0), 1.0])
    np.testing.assert_allclose(law.function(x, law.rescale(theta, scale)), law.function(x / scale, theta), rtol=1e-10)


def test_shared_exponent_is_that_of_linear_regression():
    x, y, group, _ = world(np.random.default_rng(2))
    numbered, names = number_groups(x, group)
    found = fit_law(pool_law(POWER, names), numbered, y)
    exponent, error, dof = line(x, y, group)
    assert found.params["alpha"] == pytest.approx(exponent, rel=1e-8)
    assert found.standard_errors["alpha"] == pytest.approx(error, rel=1e-6)
    assert found.dof == dof
    draws = pool_partially(x, y, group, has_floor=False, exponents="shared").draw(40_000, np.random.default_rng(0))
    expected = exponent + error * stats.t.ppf([0.025, 0.5, 0.975], dof)
    np.testing.assert_allclose(np.quantile(draws.common_exponent, [0.025, 0.5, 0.975]), expected, rtol=2e-3)


def test_floor_is_found_by_pooling():
    x, y, group, _ = world(np.random.default_rng(3), floor=0.4, noise=0.002)
    numbered, names = number_groups(x, group)
    assert fit_law(pool_law(POWER_FLOOR, names), numbered, y).params["E"] == pytest.approx(0.4, abs=0.05)


def test_exponents_are_drawn_together_as_far_as_the_data_say():
    widths = {}
    for tau in (0.0, 0.1):
        x, y, group, exponents = world(np.random.default_rng(4), tau=tau)
        draws = pool_partially(x, y, group, has_floor=False).draw(4000, np.random.default_rng(0))
        found = np.median(draws.exponent, axis=0)
        alone = np.array([line(x[group == f"m{m}"], y[group == f"m{m}"], group[group == f"m{m}"])[0] for m in range(7)])
        widths[tau] = np.std(found) / np.std(alone)
        assert np.sqrt(np.mean((found - exponents) ** 2)) <= 1.05 * np.sqrt(np.mean((alone - exponents) ** 2))
    assert widths[0.0] < 0.6 and widths[0.1] > 0.9


@pytest.mark.parametrize(("floor", "exponents"), [(0.0, "shared"), (0.4, "shared")])
def test_coverage_in_simulated_worlds(floor, exponents):
    n_worlds, levels = 120, np.array([0.5, 0.8, 0.95])
    covered, medians = np.zeros((2, 3)), []
    for seed in range(n_worlds):
        rng = np.random.default_rng(9000 + seed)
        x, y, group, _ = world(rng, floor=floor)
        draws = pool_partially(x, y, group, has_floor=floor > 0, exponents=exponents).draw(1000, rng)
        medians.append(np.median(draws.common_exponent))
        clean = np.random.default_rng(9000 + seed)
        truth = floor + np.exp(np.log(0.6) + clean.normal(0, 0.2, N_METHODS))[3] * (34e9 / CENTRE) ** -0.3
        for row, (values, true) in enumerate(((draws.common_exponent, 0.3), (draws.curves([34e9], "m3")[:, 0], truth))):
            ends = np.quantile(values, [(1 - levels) / 2, (1 + levels) / 2], axis=0)
            covered[row] += (ends[0] <= true) & (true <= ends[1])
    # 99.9 % binomial limits for the number of worlds simulated here.
    assert np.all(covered >= stats.binom.ppf(0.0005, n_worlds, levels))
    assert np.all(covered <= stats.binom.ppf(0.9995, n_worlds, levels))
    assert abs(np.mean(medians) / 0.3 - 1) < 0.02


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda x, y, g: (x, -y, g), "a loss is -.*; pooled power laws need positive"),
        (lambda x, y, g: (x, y, ["one"] * len(x)), "pooling needs at least two groups; there is 1"),
        (lambda x, y, g: (np.full(len(x), 1e9), y, g), "1 sizes and 28 points do not identify"),
        (lambda x, y, g: (x, y[:-1], g), "must have one length; they have 28, 27 and 28"),
    ],
)
def test_refusals(change, text):
    x, y, group, _ = world(np.random.default_rng(0))
    with pytest.raises(Refusal, match=text):
        pool_partially(*change(x, y, group))


def test_unknown_group_is_named():
    x, y, group, _ = world(np.random.default_rng(0))
    draws = pool_partially(x, y, group, has_floor=False, exponents="shared").draw(10, np.random.default_rng(0))
    with pytest.raises(Refusal, match="no fit for 'm9'; it was fitted to m0, m1"):
        draws.curves([1e9], "m9")
