"""One law for several data sets: posterior and likelihood by hand, coverage from both sides, nothing seen twice."""

from dataclasses import replace

import numpy as np
import pytest
from pooled_worlds import NEXT, SIZES, require_calibrated, suite_world
from scipy.special import logit

from astraios_analysis.prediction import suite
from astraios_analysis.prediction.backtest import largest_from_smaller
from astraios_analysis.prediction.forecast import fit_outcome, fit_supported
from astraios_analysis.prediction.outcome import Lender, record_outcome
from astraios_analysis.prediction.suite import SuiteLaw, fit_suite

VERSION = {"slope": 1.2, "bend": 0.7, "slope_sd": 0.5, "own_slope_sd": 0.2}
VERSION |= {"sigma_size": 0.15, "sigma_run": 0.1, "noise_factor": 0.5}
SYNTHESIS = "humanevalsynthesize_java"


def dense(points, n_params, method, version=VERSION):
    """Mean and covariance of effects at points and targets as one Gaussian; intercepts have a huge variance instead."""
    sizes, methods = np.append(points.n_params, n_params), np.append(points.method, method)
    x = (1 - (sizes / 1e5) ** -version["bend"]) / (version["bend"] * np.log(10))
    same = methods[:, None] == methods
    line = (1e4 + version["own_slope_sd"] ** 2 * np.outer(x, x)) * same + version["slope_sd"] ** 2 * np.outer(x, x)
    n = len(points.y)
    seen = line[:n, :n] + version["sigma_size"] ** 2 * (points.n_params[:, None] == points.n_params)
    seen += np.diag(version["sigma_run"] ** 2 + version["noise_factor"] * points.noise)
    return version["slope"] * x, line, seen


@pytest.fixture(scope="module")
def points():
    own = suite_world(np.random.default_rng(0))[0]
    return replace(own, noise=np.full(28, 0.02))


@pytest.fixture(scope="module")
def fitted(points):
    versions = {name: np.array([value]) for name, value in VERSION.items()}
    return SuiteLaw(points=points, link="logit", centre=float(np.log(1e5)), **versions)


def test_posterior_is_that_of_one_gaussian(points, fitted):
    mean, covariance = fitted.posterior(["a", "c"], NEXT)
    expected, line, seen = dense(points, [NEXT, NEXT], ["a", "c"])
    gain = line[28:, :28] @ np.linalg.inv(seen)
    np.testing.assert_allclose(mean[0], expected[28:] + gain @ (logit(points.y) - expected[:28]), atol=1e-3)
    np.testing.assert_allclose(covariance[0], line[28:, 28:] - gain @ line[:28, 28:], atol=1e-3)


def test_likelihood_is_the_restricted_one(points):
    places = np.random.default_rng(1).random((4, 7))
    found = suite._log_likelihood(points, float(np.log(1e5)), places)
    expected, design = [], (points.method[:, None] == np.unique(points.method)).astype(float)
    for i in range(4):
        version = {name: value[i] for name, value in suite._versions(places).items()}
        mean, _, seen = dense(points, [], [], version)
        seen = seen - 1e4 * (points.method[:, None] == points.method)
        left, inverse = logit(points.y) - mean, np.linalg.inv(seen)
        middle = design.T @ inverse @ design
        level = np.linalg.solve(middle, design.T @ inverse @ left)
        square = (left - design @ level) @ inverse @ (left - design @ level)
        expected.append(-(square + np.linalg.slogdet(seen)[1] + np.linalg.slogdet(middle)[1]) / 2)
    np.testing.assert_allclose(np.diff(found), np.diff(expected), rtol=1e-8)


@pytest.fixture(scope="module", params=[2, 3], ids=["two sizes", "three sizes"])
def forecasts(request):
    """Of 14 worlds: seven outcomes of a data set at its next size, and what few sizes and three others say of it."""
    found = []
    for seed in range(14):
        own, *others = suite_world(np.random.default_rng(seed))
        n = request.param
        kept, target = own.below(SIZES[n]), float(SIZES[n])
        truth = own.keep(own.n_params == target).y
        lenders = tuple(Lender(str(i), other, 1.0) for i, other in enumerate(others))
        found.append((truth, fit_suite(kept, lenders).draw(target)["observation"]))
    return found


def test_few_sizes_are_covered_as_often_as_asked_and_no_wider_than_needed(forecasts):
    require_calibrated(forecasts, logit, 10, 1.8)


def test_three_sizes_are_enough_where_others_lend(released_records, released_runs):
    outcome = record_outcome(released_records, SYNTHESIS)
    shares = {lender.name: lender.share for lender in outcome.lenders}
    n_recode = sum(name.startswith("recode") or name == "humaneval_python" for name in shares)
    assert SYNTHESIS not in shares and shares["humanevalfix_java"] == 1 and shares["recode_format"] == 1 / n_recode
    assert fit_supported(outcome).weights == {"logit_power/suite": 1.0}
    own = record_outcome(released_records, "recode_format")
    assert not any(lender.name.startswith("recode") for lender in own.lenders)
    mean = record_outcome(released_runs, "mean_generation")
    assert {lender.name.split("_")[0] for lender in mean.lenders} == {"recode", "humaneval"}
    assert record_outcome(released_records, "defect_detection").lenders == ()


def test_the_back_test_sees_nothing_of_what_it_holds_out(released_records):
    def changed(record):
        scores = tuple(s.model_copy(update={"value": 0.9}) if s.dataset == SYNTHESIS else s for s in record.scores)
        return record.model_copy(update={"scores": scores}) if record.size == "7b" else record

    both = released_records, [changed(record) for record in released_records]
    own, other = (largest_from_smaller(record_outcome(records, SYNTHESIS)) for records in both)
    assert (other["value"] == 0.9).all() and (own["value"] < 0.4).all()
    np.testing.assert_array_equal(own[["predicted", "lower_95"]], other[["predicted", "lower_95"]])


def test_the_law_is_the_lenders_too(released_records):
    outcome = record_outcome(released_records, SYNTHESIS)
    lenders = tuple(
        replace(own, points=replace(own.points, y=0.3 + 0.001 * np.arange(len(own.points.y)) % 0.007))
        for own in outcome.lenders
    )
    usual, moved = (fit_outcome(o).direct.stack.pools[0] for o in (outcome, replace(outcome, lenders=lenders)))
    assert usual.slope.mean() > 0.8 and moved.slope.mean() < 0.5
