"""One law back-tested: distances by hand, a known growth of errors found again, held-out outcomes not seen."""

import numpy as np
import pandas as pd
import pytest

from astraios_analysis.curves.backtest import (
    Group,
    distance_beyond,
    fit_growth,
    forecast_law,
    inner_errors,
    score_group,
)
from astraios_analysis.laws.forms import find_law
from astraios_analysis.laws.residuals import Objective
from astraios_analysis.records.refusal import Refusal

LAW, OBJECTIVE = find_law("power_floor"), Objective("log")
X = np.geomspace(1e6, 1e9, 40)
FAR = np.geomspace(1.5e9, 1e10, 12)


def world(rng, noise=0.01, bend=0.0):
    """Losses of a power law with a floor; ``bend`` makes it leave the law at large sizes."""
    x = np.concatenate([X, FAR])
    truth = 1.5 + 40 * x**-0.25 * (1 + bend * np.log(x / X[0]))
    return x, truth * np.exp(noise * rng.standard_normal(len(x)))


def scored(x, y):
    """Score a forecast of the far rows by the law alone."""
    group = group_of(x, y)
    train, test = (rows[["x"]].to_numpy() for rows in (group.train, group.test))
    return score_group(group, forecast_law(LAW, train, group.train["y"].to_numpy(), test, OBJECTIVE), "y")


def group_of(x, y):
    frame = pd.DataFrame({"x": x, "y": y})
    return Group({}, frame.iloc[: len(X)], frame.iloc[len(X) :])


def test_distance_is_along_the_direction_that_separates_the_targets():
    train = np.array([[1.0, 10.0], [2.0, 20.0], [4.0, 5.0]])
    by_first = distance_beyond(train, np.array([[8.0, 5.0], [16.0, 1.0]]))
    np.testing.assert_allclose(by_first, np.log([2, 4]))
    by_product = distance_beyond(train, np.array([[3.0, 19.0]]))
    np.testing.assert_allclose(by_product, np.log(57 / 40))
    np.testing.assert_allclose(distance_beyond(train, np.array([[2.0, 10.0]])), 0.0)
    np.testing.assert_allclose(distance_beyond(X[:, None], np.array([[1e8], [2e9]])), [0.0, np.log(2)])


def test_growth_of_errors_is_found_again():
    rng = np.random.default_rng(0)
    distance = rng.uniform(0, 2, 4000)
    errors = np.sqrt(0.01**2 + (0.05 * distance) ** 2) * rng.standard_normal(4000)
    near, growth = fit_growth(errors, distance, 0.01)
    assert near == pytest.approx(0.01, rel=0.2) and growth == pytest.approx(0.05, rel=0.2)
    assert fit_growth(0.02 * rng.standard_normal(4000), distance, 0.01)[1] < 0.005
    assert fit_growth(np.empty(0), np.empty(0), 0.03) == (0.03, 0.0)


def test_a_new_row_is_covered_about_as_often_as_asked():
    hits = []
    for seed in range(12):
        hits.append(list(scored(*world(np.random.default_rng(seed)))["coverage"].values()))
    # Rows of one world share the fit's error: about 12 independent looks.
    levels = np.array([0.5, 0.8, 0.95])
    assert np.all(np.mean(hits, axis=0) >= levels - 3 * np.sqrt(levels * (1 - levels) / 12)), np.mean(hits, axis=0)


def test_errors_that_grow_widen_what_lies_far():
    rng = np.random.default_rng(3)

    def widths(bend):
        x, y = world(rng, noise=0.002, bend=bend)
        forecast = forecast_law(LAW, x[: len(X), None], y[: len(X)], FAR[:, None], OBJECTIVE)
        low, high = forecast.interval(0.95)
        return np.log(high / low)

    straight, bent = widths(0.0), widths(0.15)
    assert np.all(np.diff(bent) > 0) and bent[-1] > 2 * straight[-1]


def test_outcomes_that_are_held_out_take_no_part():
    x, y = world(np.random.default_rng(1))
    other = np.where(np.arange(len(x)) < len(X), y, 7.0)
    one, two = (scored(x, values) for values in (y, other))
    centre, changed = (
        forecast_law(LAW, g.train[["x"]].to_numpy(), g.train["y"].to_numpy(), g.test[["x"]].to_numpy(), OBJECTIVE)
        for g in (group_of(x, y), group_of(x, other))
    )
    np.testing.assert_array_equal(centre.scales, changed.scales)
    np.testing.assert_array_equal(centre.centres, changed.centres)
    assert one["rmse_log"] < 0.05 < two["rmse_log"] and one["n_train"] == 40 and one["n_test"] == 12


def test_splits_that_cannot_be_fitted_are_left_out():
    x = X[:5, None]
    errors, distances = inner_errors(LAW, x, 1.5 + 40 * x[:, 0] ** -0.25, OBJECTIVE)
    # Of five rows 0.8 and 0.9 both leave the last; 0.5 to 0.7 leave too few below.
    assert len(errors) == len(distances) == 2
    with pytest.raises(Refusal, match="3 parameters"):
        forecast_law(LAW, x[:3], np.array([3.0, 2.5, 2.2]), x[3:], OBJECTIVE)
