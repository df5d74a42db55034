"""Bootstrap refits: each is the fit of its own resample, and their spread is that of theory."""

import numpy as np
import pytest

from astraios_analysis.laws.engine import fit_law
from astraios_analysis.laws.forms import POWER, POWER_FLOOR
from astraios_analysis.laws.intervals import KINDS, bootstrap
from astraios_analysis.laws.residuals import Objective
from astraios_analysis.records.refusal import Refusal

RNG = np.random.default_rng(0)
X = np.geomspace(1e6, 1e9, 40)
Y = (0.5 + 40 * X**-0.3) * np.exp(RNG.normal(0, 0.01, 40))


@pytest.mark.parametrize("delta", [np.inf, 1e-2])
def test_refits_are_fits_of_their_resamples(delta):
    found = fit_law(POWER_FLOOR, X, Y, objective=Objective("log", delta))
    refits = bootstrap(found, 20, np.random.default_rng(7))
    counts = np.random.default_rng(7).multinomial(40, np.full(40, 1 / 40), size=20)
    for theta, value, weights in zip(refits.theta, refits.objective, counts, strict=True):
        alone = fit_law(POWER_FLOOR, X, Y, objective=Objective("log", delta), weights=weights)
        assert value == pytest.approx(alone.value, rel=1e-9)
        np.testing.assert_allclose(theta, alone.theta, rtol=1e-4)


@pytest.mark.parametrize("kind", ["pairs", "residual", "parametric"])
def test_spread_is_that_of_linear_theory(kind):
    y = 40 * X**-0.3 * np.exp(np.random.default_rng(1).normal(0, 0.02, 40))
    found = fit_law(POWER, X, y)
    spread = bootstrap(found, 800, np.random.default_rng(2), kind).theta.std(axis=0, ddof=1)
    assert spread[1] == pytest.approx(found.standard_errors["alpha"], rel=0.2)


def test_blocks_are_drawn_whole():
    y = 40 * X**-0.3 * np.exp(np.repeat(np.random.default_rng(3).normal(0, 0.05, 8), 5))
    found = fit_law(POWER, X, y)
    blocks = np.repeat(np.arange(8), 5)
    apart = bootstrap(found, 400, np.random.default_rng(2)).theta.std(axis=0, ddof=1)[1]
    together = bootstrap(found, 400, np.random.default_rng(2), "block", blocks=blocks).theta.std(axis=0, ddof=1)[1]
    assert together > 1.3 * apart


def test_same_seed_same_refits():
    found = fit_law(POWER, X, Y)
    first, second = (bootstrap(found, 10, np.random.default_rng(5)).theta for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"kind": "jackknife"}, f"unknown bootstrap 'jackknife'; choose from {', '.join(KINDS)}"),
        ({"kind": "block"}, "a block bootstrap needs the block of each point"),
        ({"kind": "block", "blocks": [1, 2]}, "there are 40 points and 2 block labels"),
        ({"kind": "block", "blocks": [1] * 40}, "at least two blocks"),
    ],
)
def test_refusals(options, text):
    with pytest.raises(Refusal, match=text):
        bootstrap(fit_law(POWER, X, Y), 10, np.random.default_rng(0), **options)


def test_one_resample_has_no_spread():
    with pytest.raises(Refusal, match="1 resamples have no spread"):
        bootstrap(fit_law(POWER, X, Y), 1, np.random.default_rng(0))
