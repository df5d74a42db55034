"""Correlation of score and loss on grids whose truth is known; what says nothing about loss is named."""

import numpy as np
import pytest
from simulated_grids import World, simulate

from astraios_analysis.records.refusal import Refusal
from astraios_analysis.scores.bootstrap import ProblemBootstrap
from astraios_analysis.scores.correlations import size_correlations
from astraios_analysis.scores.models import model_scores, usable_models

BOOTSTRAP = ProblemBootstrap(n_draws=300)
FIX = "embedded_fix"


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (lambda: simulate(val_loss=None), "scores but no validation loss, so nothing relates the two"),
        (lambda: simulate(val_loss=1.25), "all models have one loss, 1.25"),
        (lambda: simulate(methods=("lora",), sizes=(13_296,)), "1 models have a loss and a score; 4 are needed"),
        (lambda: simulate(scores=()), "no run has a score"),
        (lambda: simulate(World(level={FIX: -60.0}, slope={FIX: 0.0}), n_problems=5), "no model solves any problem"),
        (lambda: simulate(World(level={FIX: 60.0}, slope={FIX: 0.0})), "every model solves every problem"),
    ],
)
def test_what_says_nothing_about_loss(records, message):
    with pytest.raises(Refusal, match=message):
        usable_models(model_scores(records(), FIX, BOOTSTRAP))


@pytest.mark.parametrize("slope", [0.0, 6.0], ids=["scores without relation to the loss", "scores that follow it"])
def test_methods_of_a_size(slope):
    found = size_correlations(simulate(World(level={FIX: 0.0}, slope={FIX: slope})), bootstrap=BOOTSTRAP)
    assert ((found["lower"] <= found["value"]) & (found["value"] <= found["upper"])).all()
    means = found[found["dataset"] == "mean"]
    assert means["size"].is_unique and len(means) == len(found) / 2
    if slope:
        assert (found["value"] > 0.7).all() and (found["lower"] > 0).all()
    else:
        assert ((means["lower"] < 0) & (means["upper"] > 0)).mean() > 0.7 and np.abs(means["value"].mean()) < 0.5
