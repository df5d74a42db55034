"""Profile intervals: exact where the law is linear, open where the data do not bound a parameter."""

import numpy as np
import pytest
from scipy import stats

from astraios_analysis.laws.engine import fit_law
from astraios_analysis.laws.forms import POWER, POWER_FLOOR
from astraios_analysis.laws.intervals import certify, delta_intervals
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
