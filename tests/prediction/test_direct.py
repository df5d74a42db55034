"""Laws that methods share, mixed with each method's own curve: shares, draws, coverage, one answer for both forms."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from pooled_worlds import require_calibrated
from scipy.special import ndtr
from scipy.stats import spearmanr
from simulated_grids import simulate

import astraios_analysis as aa
from astraios_analysis.prediction.direct import fit_direct
from astraios_analysis.prediction.outcome import table_outcome

SIZES = 2e5 * 2.5 ** np.arange(9)
NEXT = SIZES[6] * 2.5
METHODS = tuple("abcde")


def outcome_of(rng, n_sizes=7, *, own=True, size_sd=0.0):
    """Losses of five methods, with floors and exponents of their own or common ones; and truths at the next size."""
    sizes = np.append(SIZES[:n_sizes], SIZES[n_sizes - 1] * 2.5)
    floor = 0.6 + 0.15 * rng.uniform(-1, 1, 5) * own
    exponent = rng.uniform(0.15, 0.5, 5) if own else np.full(5, 0.3)
    line = floor[:, None] + np.exp(0.15 * rng.standard_normal(5))[:, None] * (sizes / sizes[0]) ** -exponent[:, None]
    y = line * np.exp(0.006 * rng.standard_normal(line.shape) + size_sd * rng.standard_normal(len(sizes)))
    rows = {"n": np.tile(sizes[:-1], 5), "y": y[:, :-1].ravel(), "m": np.repeat(METHODS, n_sizes)}
    return table_outcome(pd.DataFrame(rows), "n", "y", "m", "log"), y[:, -1]


@pytest.fixture(scope="module")
def fitted():
    return fit_direct(outcome_of(np.random.default_rng(0))[0])


def test_own_curves_weigh_where_they_predict_better():
    worlds = range(4)
    made = [[outcome_of(np.random.default_rng(s), own=own)[0] for s in worlds] for own in (True, False)]
    own, alike = (np.mean([fit_direct(outcome).share for outcome in some]) for some in made)
    assert own > 0.5 > alike
    # The largest of four sizes leaves three, too few for a curve: nothing judges it.
    four = outcome_of(np.random.default_rng(0), 4)[0]
    assert fit_direct(four).share == 0.5
    nine = outcome_of(np.random.default_rng(0), 9)[0]
    assert fit_direct(nine).share == 1
    rates = replace(four, link="logit", points=replace(four.points, y=four.points.y / 3))
    found = fit_direct(rates)
    assert found.share == 0 and found.weights_of("a") == found.stack.weights


def test_draws_are_the_mixture_and_keep_what_methods_share(fitted):
    assert sum(fitted.weights_of("b").values()) == pytest.approx(1)
    drawn, stack = fitted.draw(NEXT), fitted.stack.draw(NEXT)
    for kind in ("observation", "mean"):
        curve = fitted.curves.forecast("b", np.array([NEXT]))
        centres, scales = (part[:, 0] for part in curve.parts(kind))
        for z in np.quantile(np.log(drawn[kind][:, 1]), [0.05, 0.3, 0.7, 0.95]):
            own = curve.shares @ ndtr((z - centres) / scales)
            expected = fitted.share * own + (1 - fitted.share) * np.mean(np.log(stack[kind][:, 1]) < z)
            assert np.mean(np.log(drawn[kind][:, 1]) < z) == pytest.approx(expected, abs=0.015)
    last = fitted.stack.draw(SIZES[6])["observation"]
    take = np.all(drawn["observation"] != stack["observation"], axis=1)
    assert take.mean() == pytest.approx(fitted.share, abs=0.01)
    at_last, after = (spearmanr(one[take]).statistic[0, 1:] for one in (last, drawn["observation"]))
    np.testing.assert_allclose(after, at_last, atol=0.1)
    assert after.min() > 0.3


def test_new_runs_are_covered_as_often_as_asked():
    worlds = [outcome_of(np.random.default_rng(seed), size_sd=0.015) for seed in range(12)]
    found = [(truth, fit_direct(outcome).draw(NEXT)["observation"]) for outcome, truth in worlds]
    require_calibrated(found, np.log, 12, 2.5)


@pytest.mark.parametrize(
    ("quantity", "n_sizes"), [("val_loss", 5), ("val_loss", 3), ("embedded_fix", 5), ("embedded_fix", 3)]
)
def test_records_and_their_table_have_one_answer(quantity, n_sizes):
    losses = {} if quantity == "val_loss" else {"val_loss": None}
    runs = simulate(sizes=(13_296, 51_936, 213_000, 727_296, 2_336_064)[:n_sizes], seeds=(0, 1), **losses)
    # A table has no seeds that methods could share.
    runs = [run.model_copy(update={"seed": place}) for place, run in enumerate(runs)]
    rows = aa.frame(runs)
    rows = rows[rows["dataset"] == "embedded_fix"]
    way = {"y": "val_loss"} if quantity == "val_loss" else {"y": "value", "n_items": "n_items"}
    of_runs = aa.predict(runs, 4e6, dataset=quantity, force=True).rows
    # Whichever way the rows come: draws go by the names of methods.
    of_table = aa.predict(rows[::-1], 4e6, x="n_params_base", group="method", force=True, **way).rows
    assert n_sizes == 3 or any("/own_curve" in law for law in of_runs[0]["weights"])
    by_method = {row["method"]: row for row in of_table}
    for one in of_runs:
        pair = (one, by_method[one["method"]])
        found = [[r["value"], *(end for i in r["intervals"] for end in (i["lower"], i["upper"]))] for r in pair]
        np.testing.assert_allclose(*found, rtol=1e-9)
