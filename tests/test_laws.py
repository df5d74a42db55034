"""Every law: what it says about itself, and that its pieces agree with each other."""

import inspect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astraios_analysis.laws import LAWS, LOGIT_LINEAR, REFERENCE_SIZE, decades

SIZES = np.array([1e6, 3.3e7, 1.137207296e9, 1.5517456384e10, 1e12])
THETAS = [np.array([-1.5, 1.0]), np.array([0.3, -0.4]), np.array([0.0, 0.0]), np.array([2.0, 0.05])]
law_cases = pytest.mark.parametrize("law", LAWS.values(), ids=LAWS.keys())


@law_cases
def test_law_describes_itself(law):
    assert law.name and law.formula and law.source
    names = [parameter.name for parameter in law.parameters]
    assert len(set(names)) == len(names) >= 1
    for parameter in law.parameters:
        assert parameter.name in law.formula
        assert parameter.unit and parameter.meaning
        assert parameter.lower < parameter.upper


@law_cases
def test_laws_are_found_by_their_name(law):
    assert LAWS[law.name] is law


@law_cases
def test_function_takes_sizes_then_parameters(law):
    assert list(inspect.signature(law.function).parameters) == ["x", "theta"]
    assert law.function(SIZES, THETAS[0]).shape == SIZES.shape


@law_cases
@pytest.mark.parametrize("theta", THETAS, ids=str)
def test_function_is_linear_on_the_link_scale(law, theta):
    expected = law.unlink(theta[0] + theta[1] * law.regressor(SIZES))
    np.testing.assert_allclose(law.function(SIZES, theta), expected, rtol=1e-14)


@law_cases
@pytest.mark.parametrize("theta", THETAS, ids=str)
def test_slope_on_the_link_scale_is_the_derivative_in_each_parameter(law, theta):
    step = 1e-5
    for index, expected in enumerate((np.ones_like(SIZES), law.regressor(SIZES))):
        up, down = theta.copy(), theta.copy()
        up[index] += step
        down[index] -= step
        rise = law.link(law.function(SIZES, up)) - law.link(law.function(SIZES, down))
        np.testing.assert_allclose(rise / (2 * step), expected, rtol=1e-6, atol=1e-6)


@law_cases
@given(value=st.floats(1e-9, 1 - 1e-9))
def test_unlink_is_the_inverse_of_link(law, value):
    np.testing.assert_allclose(law.unlink(law.link(np.array([value]))), value, rtol=1e-9)


@law_cases
@given(z=st.floats(-15, 15))
def test_link_is_the_inverse_of_unlink(law, z):
    np.testing.assert_allclose(law.link(law.unlink(np.array([z]))), z, rtol=1e-8, atol=1e-8)


def test_intercept_is_the_logit_at_one_billion_parameters():
    assert LOGIT_LINEAR.function(np.array([REFERENCE_SIZE]), np.array([np.log(3), 2.0]))[0] == pytest.approx(0.75)


def test_slope_is_the_change_of_the_logit_for_ten_times_the_parameters():
    one, ten = LOGIT_LINEAR.function(np.array([1e9, 1e10]), np.array([0.0, np.log(4)]))
    assert (one, ten) == (pytest.approx(0.5), pytest.approx(0.8))


def test_rates_stay_inside_the_unit_interval_far_beyond_any_size():
    values = LOGIT_LINEAR.function(np.array([1e3, 1e15]), np.array([-1.5, 1.0]))
    assert np.all((values > 0) & (values < 1))


def test_decades_count_from_one_billion():
    np.testing.assert_allclose(decades(np.array([1e8, 1e9, 1e11])), [-1, 0, 2], atol=1e-12)
    assert decades([10**10]).dtype == float
