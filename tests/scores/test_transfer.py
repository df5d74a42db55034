"""Large on small with errors in both: worlds with a known slope, and one number recomputed by other means."""

import numpy as np
import pytest
from released_counts import problem_shares
from simulated_grids import World, simulate
from transfer_worlds import coverage

import astraios_analysis as aa
from astraios_analysis.scores.transfer import errors_in_both


def test_slope_from_the_counts_alone(released_runs, released_folder):
    share = problem_shares(released_folder)
    x, y = share["1b"], share["7b"][share["1b"].columns]
    # Errors of means over problems, analytically: the covariance of problems over their number.
    joint = np.cov(np.hstack([x, y]).T) / len(share)
    k = x.shape[1]
    centring = (np.eye(k) - 1 / k) / (k - 1)
    e_xx, e_xy = np.trace(centring @ joint[:k, :k]), np.trace(centring @ joint[:k, k:])
    expected = (np.cov(x.mean(), y.mean())[0, 1] - e_xy) / (x.mean().var(ddof=1) - e_xx)
    row = aa.transfer(released_runs, small="1b", large="7b", dataset="mean_generation").table.iloc[0]
    assert row["slope"] == pytest.approx(expected, rel=0.03)
    assert row["centre"] == pytest.approx(x.mean().mean()) and row["intercept"] == pytest.approx(y.mean().mean())
    assert row["slope_lower"] < row["slope"] < row["slope_upper"]
    assert row["intercept_lower"] < row["intercept"] < row["intercept_upper"]


def test_of_losses_the_level_is_in_nats():
    runs = list(simulate(World(), seeds=(0,), n_problems=40, val_loss_se=0.01))
    found = aa.transfer(runs, dataset="val_loss")
    assert len(found.plot().axes) >= len(found.table) > 0
    for row in found.table.dropna(subset=["slope"]).to_dict("records"):
        assert row["intercept_lower"] < row["intercept"] < row["intercept_upper"]
        # The error of a mean over seven methods, each known to 0.01, and what the smaller size brings.
        assert row["intercept_upper"] - row["intercept_lower"] < 4 * 0.01 / np.sqrt(7) * np.hypot(1, row["slope"]) * 1.5


@pytest.mark.parametrize("design", [{}, {"scatter": 0.03}, {"spread": 0.02}], ids=["line", "scatter", "little spread"])
def test_worlds_with_a_known_slope(design):
    found, covered, error, naive = coverage(120, **design)
    assert found > 0.9 and 0.89 <= covered <= 0.995 and abs(error) < 0.1
    if "spread" in design:
        # Least squares is drawn towards 0; errors taken off, the slope is not.
        assert naive < -0.05 and abs(error) < abs(naive)


def test_without_errors_it_is_least_squares():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=7), rng.normal(size=7)
    line = errors_in_both(x, y, np.tile(x, (10, 1)), np.tile(y, (10, 1)), 0.95)
    slope = np.polyfit(x, y, 1)[0]
    expected = {"slope": slope, "slope_lower": slope, "slope_upper": slope, "reliability": 1.0}
    assert {name: line[name] for name in expected} == pytest.approx(expected)


def test_where_errors_could_be_everything_there_is_no_slope(released_runs):
    row = aa.transfer(released_runs, "1b", "7b", "humanevalsynthesize_python").table.iloc[0]
    assert np.isnan(row["slope"]) and "by the choice of problems alone" in row["reason"]


def test_every_pair_of_sizes(released_runs):
    found = aa.transfer(released_runs, dataset=["mean_generation", "recode_format"])
    table = found.table
    assert "slope_lower" in repr(found) and len(found.plot().axes) >= len(table)
    assert table.groupby("dataset").size().to_dict() == {"mean_generation": 3, "recode_format": 6}
    alone = aa.transfer(released_runs, "1b", "7b", "mean_generation").table.iloc[0]
    among = table[(table["dataset"] == "mean_generation") & (table["size_large"] == "7b")].iloc[0]
    assert alone["slope"] == among["slope"]
