"""Every law: what it says about itself, and that its pieces agree with each other."""

from pathlib import Path

import numpy as np
import pytest
from law_worlds import THETAS

from astraios_analysis.laws.engine import pool_law
from astraios_analysis.laws.forms import CHINCHILLA, LAWS, LOGIT_LINEAR, REFERENCE_SIZE, tie_law
from astraios_analysis.laws.law import GROUP

SIZES = np.array([1e6, 3.3e7, 1.137207296e9, 1.5517456384e10, 1e12])
TOKENS = np.array([2e9, 1e8, 3e10, 5e11, 1e10])
RANKS = np.array([4.0, 8.0, 64.0, 16.0, 2.0])
LOSSES = np.array([3.9, 3.1, 2.6, 2.2, 1.9])
law_cases = pytest.mark.parametrize("law", LAWS.values(), ids=LAWS.keys())


def settings_of_laws():
    """Every law at two settings, and some over two groups, with an amplitude each, or with a tied exponent."""
    yield from ((LAWS[name], theta) for name, settings in THETAS.items() for theta in settings)
    for name, amplitude in (("power", "A"), ("power_floor", "A"), ("chinchilla", "A"), ("rectified", "B")):
        theta, place = THETAS[name][0], LAWS[name].names.index(amplitude)
        yield pool_law(LAWS[name], "ab"), [*theta[:place], *theta[place + 1 :], theta[place], 1.7 * theta[place]]
    yield tie_law(CHINCHILLA, {"alpha": "beta"}), [1.69, 406.4, 4100.7, 0.38]


CASES = [pytest.param(law, np.array(theta), id=law.name) for law, theta in settings_of_laws()]


def inputs_of(law):
    """Inputs that a law takes, shape (5,) or (5, d)."""
    repeats = np.array([1.0, 3.0, 40.0, 0.5, 7.0])
    columns = {"N": SIZES, "D": TOKENS, "U": SIZES / 300, "Q": TOKENS / repeats, "L": LOSSES, "V": RANKS}
    columns |= {GROUP: np.array([1.0, 2.0, 1.0, 2.0, 1.0])}
    x = np.column_stack([columns[name] for name in law.inputs])
    return x[:, 0] if len(law.inputs) == 1 else x


def finite_differences(law, x, theta):
    """Central differences of a law's function, shape (n, k)."""
    columns = []
    for index, value in enumerate(theta):
        step = np.zeros(len(theta))
        step[index] = 1e-5 * max(abs(value), 1e-3)
        columns.append((law.function(x, theta + step) - law.function(x, theta - step)) / (2 * step[index]))
    return np.column_stack(columns)


def test_the_page_on_the_fit_engine_has_the_table_of_laws():
    text = (Path(__file__).parents[2] / "docs" / "fit_engine.md").read_text("utf-8")
    rows = [f"| `{law.name}` | `{law.formula}` | {', '.join(law.inputs)} | {law.source} |" for law in LAWS.values()]
    assert [line for line in text.splitlines() if line.startswith("| `")] == rows


@pytest.mark.parametrize(("law", "theta"), CASES)
def test_gradient_is_that_of_finite_differences(law, theta):
    assert all(p.lower < value < p.upper for p, value in zip(law.parameters, theta, strict=True))
    x = inputs_of(law)
    found, expected = law.gradient(x, theta), finite_differences(law, x, theta)
    # Relative to the largest derivative of a parameter: far smaller ones drown in the rounding of differences.
    is_wrong = np.abs(found - expected) > 1e-6 * np.abs(expected).max(axis=0) + 1e-300
    assert [name for name, wrong in zip(law.names, is_wrong.any(axis=0), strict=True) if wrong] == []


@pytest.mark.parametrize(("law", "theta"), [case for case in CASES if case.values[0].linear])
def test_function_is_the_sum_of_its_linear_parameters_times_their_derivatives(law, theta):
    x, positions = inputs_of(law), [law.index(name) for name in law.linear]
    total = law.gradient(x, theta)[:, positions] @ theta[positions]
    np.testing.assert_allclose(total, law.function(x, theta), rtol=1e-12)
    other = theta.copy()
    other[positions] *= 0.5
    np.testing.assert_allclose(law.gradient(x, other)[:, positions], law.gradient(x, theta)[:, positions], rtol=1e-12)


# The inputs of some laws have a fixed unit.
@pytest.mark.parametrize(("law", "theta"), [case for case in CASES if case.values[0].rescale is not None])
def test_rescaled_parameters_give_the_same_values(law, theta):
    x = inputs_of(law)
    scale = law.scale_of(np.log([30.0, 7.0, 1.7])[: len(law.inputs)])
    expected = law.function(x / (scale if x.ndim > 1 else scale[0]), theta)
    np.testing.assert_allclose(law.function(x, law.rescale(theta, scale)), expected, rtol=1e-10)


@law_cases
def test_many_settings_are_evaluated_at_once(law):
    x, many = inputs_of(law), np.array(THETAS[law.name])
    values, gradients = law.function(x, many), law.gradient(x, many)
    assert (values.shape, gradients.shape) == ((2, 5), (2, 5, len(law.names)))
    own_x = law.function(np.stack([x, x]), many)
    for row, theta in enumerate(many):
        np.testing.assert_allclose(values[row], law.function(x, theta), rtol=1e-14)
        np.testing.assert_allclose(own_x[row], values[row], rtol=1e-14)
        np.testing.assert_allclose(gradients[row], law.gradient(x, theta), rtol=1e-14)


def test_m4_is_the_published_form():
    e, e0, a, x_t, c = THETAS["m4"][0]
    y = LAWS["m4"].function(TOKENS, np.array([e, e0, a, x_t, c]))
    beta = x_t**c * (e0 - e) ** (1 - a)
    np.testing.assert_allclose((y - e) / (e0 - y) ** a, beta * TOKENS**-c, rtol=1e-9)


def test_broken_power_law_has_two_slopes():
    law, theta = LAWS["broken"], np.array([0.0, 9.0, 0.1, 0.4, 1e6, 0.2])
    for x, slope in ((1e2, -0.1), (1e10, -0.5)):
        low, high = np.log(law.function(np.array([x, 1.01 * x]), theta))
        assert (high - low) / np.log(1.01) == pytest.approx(slope, abs=1e-4)


def test_intercept_is_the_logit_at_one_billion_parameters():
    found = LOGIT_LINEAR.function(np.array([REFERENCE_SIZE, 1e10]), np.array([np.log(3), np.log(2)]))
    assert found == pytest.approx([3 / 4, 6 / 7])


def test_farseer_passes_through_a_power_of_size():
    """Where c is 0 the bend is a straight line in log N: no jump between the two ways it is computed."""
    law, x, theta = LAWS["farseer"], inputs_of(LAWS["farseer"]), np.array(THETAS["farseer"][1])
    values, gradients = [], []
    for c in (-1e-5, 0.0, 1e-5):
        theta[5] = c
        values.append(law.function(x, theta))
        gradients.append(law.gradient(x, theta))
    np.testing.assert_allclose(np.diff(values, axis=0)[0], np.diff(values, axis=0)[1], rtol=1e-2)
    np.testing.assert_allclose(np.mean([gradients[0], gradients[2]], axis=0), gradients[1], rtol=1e-4)
