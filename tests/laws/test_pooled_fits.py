"""Groups fitted apart and with shared exponents: against closed forms and simulated worlds."""

import numpy as np
import pytest

from astraios_analysis.laws.engine import fit_groups, fit_law, number_groups, pool_law
from astraios_analysis.laws.forms import LAWS, POWER, POWER_FLOOR

SIZES = np.array([1.137e9, 3.043e9, 7.327e9, 15.517e9])
N_METHODS, CENTRE = 7, float(np.exp(np.log(SIZES).mean()))


def world(rng, floor=0.0, noise=0.01):
    """28 runs of seven methods at four sizes with one exponent: sizes, losses and methods."""
    amplitude = np.exp(np.log(0.6) + rng.normal(0, 0.2, N_METHODS))
    method = np.repeat(np.arange(N_METHODS), len(SIZES))
    x = np.tile(SIZES, N_METHODS)
    y = (floor + amplitude[method] * (x / CENTRE) ** -0.3) * np.exp(rng.normal(0, noise, len(x)))
    return x, y, np.array([f"m{m}" for m in method])


def line(x, y, group):
    """Exponent, its standard error and degrees of freedom by linear regression with one intercept a group."""
    names, member = np.unique(group, return_inverse=True)
    design = np.column_stack([np.eye(len(names))[member], -np.log(x)])
    beta, squares, _, _ = np.linalg.lstsq(design, np.log(y), rcond=None)
    dof = len(y) - design.shape[1]
    return beta[-1], np.sqrt(squares[0] / dof * np.linalg.inv(design.T @ design)[-1, -1]), dof


def test_groups_apart_are_single_fits():
    x, y, group = world(np.random.default_rng(0), floor=0.3, noise=0.002)
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
    x, y, group = world(np.random.default_rng(2))
    numbered, names = number_groups(x, group)
    found = fit_law(pool_law(POWER, names), numbered, y)
    exponent, error, dof = line(x, y, group)
    assert found.params["alpha"] == pytest.approx(exponent, rel=1e-8)
    assert found.standard_errors["alpha"] == pytest.approx(error, rel=1e-6)
    assert found.dof == dof


def test_floor_is_found_by_pooling():
    x, y, group = world(np.random.default_rng(3), floor=0.4, noise=0.002)
    numbered, names = number_groups(x, group)
    assert fit_law(pool_law(POWER_FLOOR, names), numbered, y).params["E"] == pytest.approx(0.4, abs=0.05)
