"""Final losses, curves, and lines of loss against size, on losses whose law is known."""

import numpy as np
import pytest
from scipy import stats
from simulated_grids import LARGEST, World, simulate

from astraios_analysis.records.refusal import Refusal
from astraios_analysis.scores.losses import final_losses, loss_curves, loss_lines
from astraios_analysis.scores.models import keep_means, keep_seeds

LINE = World(floor=0.0, seed_sd=0.0)


def test_intervals_are_normal_and_means_keep_their_error():
    table = final_losses(simulate(seeds=(0, 1), val_loss_se=0.05), level=0.9)
    half = table["upper"] - table["val_loss"]
    assert half.to_numpy() == pytest.approx(stats.norm.ppf(0.95) * 0.05)
    means, seeds = keep_means(table), keep_seeds(table)
    assert len(means) == 28 and len(seeds) == 56
    one = (means["method"] == "lora") & (means["size"] == "13k")
    own = seeds[(seeds["method"] == "lora") & (seeds["size"] == "13k")]["val_loss"]
    assert means.loc[one, "val_loss"].item() == pytest.approx(own.mean())


def test_one_run_a_model_needs_no_means():
    assert "kind" not in final_losses(simulate(seeds=(3,)))


def test_runs_without_losses_are_left_out_or_refused():
    some = simulate(seeds=(0,))
    bare = [record.model_copy(update={"val_loss": None}) for record in some]
    assert len(final_losses([*some[:3], *bare[3:]])) == 3
    with pytest.raises(Refusal, match=r"none of these runs has a validation loss .* train a grid"):
        final_losses(bare)
    with pytest.raises(Refusal, match="none of these runs has a validation curve"):
        loss_curves(bare)


def test_line_recovers_a_power_law_and_leaves_held_out_sizes_out():
    records = simulate(LINE, held_out=(LARGEST,))
    lines = loss_lines(final_losses(records))
    assert lines["slope"].to_numpy() == pytest.approx(-0.2)
    assert set(lines["dof"]) == {2} and set(lines["n_sizes"]) == {4}
    beyond = lines[lines["n_params_base"] == LARGEST]
    assert beyond["is_extrapolated"].all()
    assert beyond["value"].to_numpy() == pytest.approx([LINE.loss(m, LARGEST) for m in beyond["method"]])
    wrong = [r.model_copy(update={"val_loss": 9.0}) if r.held_out else r for r in records]
    assert loss_lines(final_losses(wrong))["value"].to_numpy() == pytest.approx(lines["value"].to_numpy())


def test_slope_and_interval_are_those_of_least_squares():
    table = final_losses(simulate(World(floor=0.0, seed_sd=0.05), methods=("fft",), seeds=(0,)))
    row = loss_lines(table, level=0.9).iloc[0]
    found = stats.linregress(np.log10(table["n_params_base"].astype(float)), np.log10(table["val_loss"]))
    assert row["slope"] == pytest.approx(found.slope)
    assert row["slope_upper"] - row["slope"] == pytest.approx(stats.t.ppf(0.95, 2) * found.stderr)


def test_band_covers_the_line_as_often_as_it_says():
    covered = []
    for seed in range(200):
        records = simulate(World(floor=0.0, seed_sd=0.05), methods=("fft",), seeds=(0,), seed=seed, n_problems=1)
        lines = loss_lines(final_losses(records), level=0.8)
        truth = World(floor=0.0).loss("fft", lines["n_params_base"])
        covered.append(((lines["lower"] <= truth) & (truth <= lines["upper"])).iloc[0])
    assert 0.72 < np.mean(covered) < 0.88


def test_two_sizes_are_too_few_for_a_line():
    with pytest.raises(Refusal, match="no method has a loss at 3 sizes"):
        loss_lines(final_losses(simulate(sizes=(13_296, 51_936))))
