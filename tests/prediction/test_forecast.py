"""Predictions at unmeasured sizes: what comes through the loss, what is asked beside, ends of intervals, numbers."""

import numpy as np
import pandas as pd
import pytest
from simulated_grids import LARGEST, World, simulate

from astraios_analysis.prediction.forecast import fit_outcome, record_outcome, summarise, table_outcome
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
