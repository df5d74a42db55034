"""Predictions at unmeasured sizes: sizes as people write them, what comes through the loss, what has no support."""

import numpy as np
import pandas as pd
import pytest
from simulated_grids import LARGEST, World, simulate
from simulated_grids import SIZES as GRID_SIZES

from astraios_analysis.prediction.forecast import fit_outcome, fit_supported, require_near, summarise
from astraios_analysis.prediction.limits import parse_size, reach, require_reach
from astraios_analysis.prediction.outcome import record_outcome, table_outcome
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.registry import LOSS

FIX = "embedded_fix"


@pytest.fixture(scope="module")
def world():
    """Four sizes, and a fifth held out."""
    return simulate(World(seed_sd=0.02, size_sd=0.1), held_out=(LARGEST,))


@pytest.fixture(scope="module")
def fitted(world):
    return {name: fit_outcome(record_outcome(world, name)) for name in (LOSS, FIX)}


def test_weights_name_the_laws_that_were_used(fitted):
    weights, losses = fitted[FIX].weights, fitted[LOSS].weights
    assert sum(weights.values()) == pytest.approx(1)
    through = {name: weight for name, weight in weights.items() if ">logistic" in name}
    assert {name.split(">")[0] for name in through} == set(losses)
    leading = max(through, key=through.get).split(">")[0]
    assert leading == max(losses, key=losses.get)


def test_error_rates_stay_error_rates():
    world = World(level={"embedded_security": 0.0}, slope={"embedded_security": 4.0})
    found = fit_outcome(record_outcome(simulate(world), "embedded_security"))
    true = [1 - float(world.goodness("embedded_security", world.loss(m, LARGEST))) for m in found.methods]
    np.testing.assert_allclose(np.median(found.draw(LARGEST)["mean"], axis=0), true, atol=0.06)


def test_without_losses_a_score_has_its_own_law_only():
    records = simulate(val_loss=None)
    found = fit_outcome(record_outcome(records, FIX))
    assert set(found.weights) == {f"logit_linear/{p}" for p in ("shared_slope", "own_slopes", "no_pooling")}
    with pytest.raises(Refusal, match="these runs have no validation loss, so none is predicted"):
        record_outcome(records, LOSS)


def test_intervals_end_at_zero_and_one_where_items_cannot_tell():
    outcome = record_outcome(simulate(n_problems=50), FIX)
    drawn = {kind: np.linspace([0.001, 0.2, 0.8], [0.3, 0.6, 0.999], 1001) for kind in ("observation", "mean")}
    found = summarise(outcome, drawn, ("a", "b", "c"), (0.95,)).bounds["observation", 0.95]
    # Half a problem of 51 is 0.0098: 2.5 % quantiles below it are 0, 97.5 % ones above 1 - 0.0098 are 1.
    np.testing.assert_allclose(found, [[0.0, 0.21, 0.804975], [0.292525, 0.59, 1.0]], atol=1e-3)


def test_released_models_at_34b(released_records):
    found = fit_outcome(record_outcome(released_records, "recode_format")).intervals(34e9)
    places = [found.methods.index(method) for method in ("lora", "adapterp", "fft")]
    # Pinned: a change of the estimator moves them, rounding and another library's last digits do not.
    np.testing.assert_allclose(found.median[places], [0.4763, 0.4502, 0.4675], atol=0.004)
    ends = [[0.367, 0.351, 0.367], [0.577, 0.553, 0.569]]
    np.testing.assert_allclose(found.bounds["observation", 0.95][:, places], ends, atol=0.015)


def test_replicates_of_a_table_are_averaged():
    table = pd.DataFrame({"params": [1e6, 1e6, 1e7], "loss": [2.0, 2.2, 1.5], "m": "a"})
    points = table_outcome(table, "params", "loss", "m", "log").points
    np.testing.assert_allclose(points.y, [2.1, 1.5])
    assert points.seed_variance == pytest.approx(np.var(np.log([2.0, 2.2]), ddof=1)) and points.n_seeds == 1.5
    with pytest.raises(Refusal, match=r"column 'loss': is -2\.0, not above 0, to have a logarithm"):
        table_outcome(table.assign(loss=-2.0), "params", "loss", "m", "log")


KNOWN = {"1b": 1_137_207_296, "16B": 15_517_456_384}
RANGE = (1.137e9, 15.517e9)
SIZES = {**KNOWN, "1B": KNOWN["1b"], "16b": KNOWN["16B"], "34b": 34e9, " 7B ": 7e9, "350m": 350e6, "0.5b": 0.5e9}
SIZES |= {"120k": 120e3, "1.5t": 1.5e12, "3.4e10": 3.4e10, "3.4E+10": 3.4e10, "1137207296": 1_137_207_296}


@pytest.mark.parametrize(("text", "expected"), SIZES.items())
def test_sizes(text, expected):
    assert parse_size(text, KNOWN) == pytest.approx(expected, rel=1e-15)
    # A label that nobody measured is a round number.
    assert parse_size("1b") == 1e9


@pytest.mark.parametrize("text", ["big", "-3b", "0", "0b", "", " ", "nanb", "nan", "inf", "1e999", "7bb", "b"])
def test_other_text_is_refused(text):
    with pytest.raises(Refusal, match=r"is not understood; give a measured size \(1b, 16B\)") as caught:
        parse_size(text, KNOWN)
    assert repr(text) in str(caught.value)


def test_reach_counts_how_many_times_beyond():
    expected = {1e9: 1, 4e9: 1, 16e9: 1, 32e9: 2, 160e9: 10, 5e8: 2, 1e8: 10}
    assert {size: reach(size, (1e9, 16e9)) for size in expected} == pytest.approx(expected)


@pytest.mark.parametrize("size", [1.137e9 / 10.02, 15.517e9 * 10.01])
def test_far_sizes_need_force_on_both_sides(size):
    with pytest.raises(Refusal, match=r"10\.0[12] times beyond the fitted range .*or insist with --force"):
        require_reach(size, RANGE, force=False)
    require_reach(size, RANGE, force=True)
    require_reach(15.517e10, RANGE, force=False)


def few(*sizes, **options):
    return simulate(sizes=sizes, methods=("fft", "lora"), seeds=(0,), **options)


ENOUGH = few(*GRID_SIZES)
FLAT = [run.model_copy(update={"val_loss": 1.0}) for run in ENOUGH]
# One method at all sizes and another one at the largest, with and without the first one there.
PAIR = [run for run in few(*GRID_SIZES, LARGEST) if run.method == "fft" or run.n_params_base == LARGEST]
LONE = [run for run in PAIR if run.method == "lora" or run.n_params_base < LARGEST]


@pytest.mark.parametrize(
    ("refused", "said", "lifted"),
    [
        (few(*GRID_SIZES[:2]), "measured at 2 sizes.* and 1 leaves no.*Measure 2 more sizes, 4 in all", ENOUGH),
        (few(*GRID_SIZES[:3]), "measured at 3 sizes.* and 2 leave no.*Measure 1 more size, 4 in all", ENOUGH),
        (LONE, "predict no method of the largest.*Measure more methods at the largest", PAIR),
        (FLAT, "the points are equal.*add seeds", ENOUGH),
        (few(*GRID_SIZES, val_loss=None), "no validation loss.*a grid trained here measures it", ENOUGH),
    ],
    ids=["two sizes", "three sizes", "another method at the largest", "no scatter", "no loss"],
)
def test_a_refusal_says_what_lifts_it(refused, said, lifted):
    with pytest.raises(Refusal, match=said):
        fit_supported(record_outcome(refused, "val_loss"))
    fitted = fit_supported(record_outcome(lifted, "val_loss"))
    with pytest.raises(Refusal, match=r"val_loss: .* Add runs nearer to that size, or insist with --force"):
        require_near(fitted, 100 * LARGEST)
    assert require_near(fitted, 100 * LARGEST, force=True) > 10 and require_near(fitted, 2 * LARGEST) < 10
