"""Final losses and curves."""

import pytest
from scipy import stats
from simulated_grids import simulate

from astraios_analysis.records.refusal import Refusal
from astraios_analysis.scores.losses import final_losses, loss_curves
from astraios_analysis.scores.models import keep_means, keep_seeds


def test_intervals_are_normal_and_means_keep_their_error():
    table = final_losses(simulate(seeds=(0, 1), val_loss_se=0.05), level=0.9)
    half = table["upper"] - table["val_loss"]
    assert half.to_numpy() == pytest.approx(stats.norm.ppf(0.95) * 0.05)
    means, seeds = (keep(table).groupby(["method", "size"])["val_loss"] for keep in (keep_means, keep_seeds))
    assert set(means.size()) == {1} and set(seeds.size()) == {2} and len(means) == 28
    assert means.mean().to_dict() == pytest.approx(seeds.mean().to_dict())


def test_runs_without_losses_are_left_out_or_refused():
    some = simulate(seeds=(0,))
    bare = [record.model_copy(update={"val_loss": None}) for record in some]
    found = final_losses([*some[:3], *bare[3:]])
    # One run a model needs no means.
    assert len(found) == 3 and "kind" not in found
    with pytest.raises(Refusal, match=r"none of these runs has a validation loss .* train a grid"):
        final_losses(bare)
    with pytest.raises(Refusal, match="none of these runs has a validation curve"):
        loss_curves(bare)
