"""Profiles: exact where the law is linear, open where data bound nothing. Refits: each the fit of its resample."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from law_worlds import THETAS, losses_on_grid
from scipy import stats
from scipy.optimize import least_squares

from astraios_analysis.laws.engine import fit_law
from astraios_analysis.laws.forms import LAWS, POWER, POWER_FLOOR
from astraios_analysis.laws.intervals import bootstrap, certify
from astraios_analysis.laws.residuals import Objective
from astraios_analysis.records.refusal import Refusal

X = np.geomspace(1e6, 1e9, 14)


def rise(fit, x, y, level, **held):
    """How far a fit rises when a parameter is held, in units of what the square of the t quantile of a level allows."""
    allowed = 0.5 * (stats.t.ppf((1 + level) / 2, fit.dof) * fit.residual_scale) ** 2
    found = fit_law(fit.law, x, y, fixed=held, n_starts=4, must_converge=False)
    return (found.value - fit.value) / allowed


def test_fits_with_a_parameter_held_at_an_end_rise_by_the_square_of_the_t_quantile():
    y = (0.5 + 40 * X**-0.3) * np.exp(np.random.default_rng(0).normal(0, 0.01, 14))
    found = fit_law(POWER_FLOOR, X, y)
    certificate, intervals = certify(found, 0.8)
    assert all(certificate.identified.values()) and certificate.is_lowest and certificate.warnings() == []
    for name in POWER_FLOOR.names:
        interval = intervals[name]
        assert interval.lower < interval.value < interval.upper
        for end in (interval.lower, interval.upper):
            assert rise(found, X, y, 0.8, **{name: end}) == pytest.approx(1, rel=1e-5)


def test_floor_far_below_the_points_is_not_identified():
    y = 40 * X**-0.1 * np.exp(np.random.default_rng(1).normal(0, 0.02, 14))
    certificate, intervals = certify(fit_law(POWER_FLOOR, X, y, must_converge=False))
    assert not certificate.identified["E"]
    assert intervals["E"].lower == 0 and np.isfinite(intervals["E"].upper)
    text = "not identifiable: E (its 95 % profile interval reaches its bound)"
    assert ("not_identified:E", text) in certificate.warnings()


RNG = np.random.default_rng(0)
FORTY = np.geomspace(1e6, 1e9, 40)
Y = (0.5 + 40 * FORTY**-0.3) * np.exp(RNG.normal(0, 0.01, 40))


@pytest.mark.parametrize("delta", [np.inf, 1e-2])
def test_refits_are_fits_of_their_resamples(delta):
    found = fit_law(POWER_FLOOR, FORTY, Y, objective=Objective("log", delta))
    refits = bootstrap(found, 20, np.random.default_rng(7))
    counts = np.random.default_rng(7).multinomial(40, np.full(40, 1 / 40), size=20)
    for theta, value, drawn in zip(refits.theta, refits.objective, counts, strict=True):
        alone = fit_law(POWER_FLOOR, np.repeat(FORTY, drawn), np.repeat(Y, drawn), objective=Objective("log", delta))
        assert value == pytest.approx(alone.value, rel=1e-9)
        np.testing.assert_allclose(theta, alone.theta, rtol=1e-4)


def test_spread_of_drawn_points_is_that_of_the_sandwich():
    # Noise grows with x, so that errors of equal noise are far off.
    x = np.geomspace(1e6, 1e9, 60)
    y = 40 * x**-0.3 * np.exp(np.random.default_rng(1).normal(0, 1, 60) * np.geomspace(0.005, 0.05, 60))
    amplitude, alpha = bootstrap(fit_law(POWER, x, y), 3000, np.random.default_rng(2)).theta.T
    found, line = np.cov(np.log(amplitude), alpha), sm.OLS(np.log(y), sm.add_constant(-np.log(x)))
    np.testing.assert_allclose(found, line.fit(cov_type="HC0").cov_params(), rtol=0.2)
    assert abs(found[1, 1] / line.fit().cov_params()[1, 1] - 1) > 0.25


def test_one_resample_has_no_spread():
    with pytest.raises(Refusal, match="1 resamples have no spread"):
        bootstrap(fit_law(POWER, FORTY, Y), 1, np.random.default_rng(0))


def scipy_profile(residual, starts, level, dof, estimate, step):
    """An end of a profile, by scipy alone: small steps from the estimate, each from where the last one ended."""
    roots, costs, known = [], [], list(starts)
    while len(roots) < 2 or roots[-1] < stats.t.ppf((1 + level) / 2, dof):
        held = (estimate + len(roots) * step,)
        tries = [least_squares(residual, start, "3-point", x_scale="jac", xtol=1e-12, args=held) for start in known]
        best = min(tries, key=lambda one: one.cost)
        known[len(starts) :] = [best.x]
        costs.append(best.cost)
        roots.append(np.sqrt(max(best.cost / costs[0] - 1, 0.0) * dof))
    share = (stats.t.ppf((1 + level) / 2, dof) - roots[-2]) / (roots[-1] - roots[-2])
    return estimate + (len(roots) - 2 + share) * step


def power_floor_end(fit, x, y, name, end):
    """The end of a profile interval near the one found, in the logs of the other two parameters."""
    others = [other for other in fit.law.names if other != name]

    def residual(logs, held):
        found = dict(zip(others, np.exp(logs), strict=True)) | {name: held}
        return np.log(found["E"] + found["A"] * x ** -found["alpha"]) - np.log(y)

    floors = (1e-9 * y.min(), 0.2 * y.min(), 0.6 * y.min())
    starts = [np.log([(fit.params | {"E": floor})[other] for other in others]) for floor in floors]
    return scipy_profile(residual, starts, 0.95, fit.dof, fit.params[name], (end - fit.params[name]) / 6)


@pytest.mark.parametrize(
    ("law", "theta", "names"),
    [("power_floor", [0.0, 6.0, 0.09], ("A", "alpha")), ("rectified", [0.0, 30.0, 3.0, 0.2], ("beta",))],
)
def test_ends_at_a_bound_are_those_of_an_independent_profile(law, theta, names):
    """Worlds without a floor: the best floor is 0 in about half of them, and above the best exponent it is not."""
    truth, x = dict(zip(LAWS[law].names, theta, strict=True)), np.geomspace(300, 3e6, 15)
    at_bound, covered = 0, []
    for seed in range(4):
        noise = 0.01 * np.random.default_rng(seed).standard_normal(len(x))
        y = LAWS[law].function(x, np.array(theta)) * np.exp(noise)
        fit = fit_law(law, x, y, must_converge=False)
        certificate, found = certify(fit, only=["E", *names])
        assert found["E"].lower == 0 and found["E"].lower <= fit.params["E"] <= found["E"].upper
        assert certificate.is_lowest
        at_bound += fit.params["E"] == 0
        covered += [found[name].lower <= truth[name] <= found[name].upper for name in names]
        for name in names if law == "power_floor" and seed < 2 else ():
            for end in (found[name].lower, found[name].upper):
                assert end == pytest.approx(power_floor_end(fit, x, y, name, end), rel=2e-3)
    assert at_bound >= 1 and sum(covered) >= len(covered) - 2


def test_a_coupled_law_of_which_one_term_has_vanished():
    """A may be 0: alpha and A may then be anything, and the floor has an end all the same."""
    theta = [1.69, 0, 640, 0.35, 0.35]
    table = losses_on_grid("chinchilla", theta, 0.005, n=6, sizes=(1e8, 3e10), tokens=(2e9, 6e11)).to_numpy()
    x, y = table[:, :2], table[:, 2]
    fit = fit_law("skaling", x, y, must_converge=False, n_starts=4)
    certificate, found = certify(fit, only=["E", "A", "alpha", "k"])
    for name in ("A", "alpha"):
        assert (found[name].lower, found[name].upper, found[name].is_identified) == (0, np.inf, False)
    assert (found["k"].lower, found["k"].upper) == (0.01, 2) and certificate.is_lowest
    assert rise(fit, x, y, 0.95, E=found["E"].upper) == pytest.approx(1, rel=1e-4)


def test_ends_of_a_parameter_of_either_sign():
    table = losses_on_grid("farseer", THETAS["farseer"][0], 0.003, 1, n=7, sizes=(1e8, 3e10), tokens=(2e9, 6e11))
    x, y = table[["N", "D"]].to_numpy(), table["loss"].to_numpy()
    fit = fit_law("farseer", x, y, n_starts=4)
    own = certify(fit, only=["a1"])[1]["a1"]
    assert rise(fit, x, y, 0.95, a1=own.upper) == pytest.approx(1, rel=1e-5)
    assert rise(fit, x, y, 0.95, a1=own.lower) == pytest.approx(1, abs=0.05)


@pytest.mark.reference
def test_cases_at_a_bound(reference_folder):
    """Small inputs whose right ends were found by other means."""
    folder = reference_folder / "cases"
    loss, exact = (pd.read_csv(folder / name, comment="#") for name in ("a09_wandb_loss.csv", "a10_exact_power.csv"))
    fit = fit_law("power_floor", loss["Step"].to_numpy(), loss["loss"].to_numpy())
    certificate, found = certify(fit)
    assert certificate.is_lowest and fit.status == "converged" and fit.value == pytest.approx(6.69992e-05, rel=1e-5)
    assert (found["E"].value, found["E"].lower) == (0, 0) and found["E"].upper == pytest.approx(5.01, rel=0.01)
    assert found["alpha"].lower == pytest.approx(0.0613, rel=0.01)
    assert found["alpha"].upper == pytest.approx(0.2085, rel=0.01)
    fit = fit_law("power_floor", exact["n"].to_numpy(), exact["loss"].to_numpy())
    certificate, found = certify(fit)
    assert found["E"].lower == 0 and fit.params["E"] <= found["E"].upper < 4e-6 and not certificate.identified["E"]
    assert found["alpha"].value == pytest.approx(0.3, abs=1e-4)
