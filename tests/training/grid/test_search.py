"""The search of learning rates: where it goes on, what it writes, and that the presets have what it found."""

import numpy as np
import pandas as pd
import pytest
import tiny_grid as TINY

from training.grid.search import FACTOR, PILOT_SEED, grow, read_trials, search, start_rates, trial_spec
from training.grid.workers import Folders
from training.spec.grids import preset


def make_trials(losses):
    rates = [1e-3 * FACTOR**index for index in range(len(losses))]
    return pd.DataFrame({"method": "lora", "learning_rate": rates, "val_loss": np.array(losses, dtype=float)})


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        *(([2.0, 1.0, 3.0], set()), ([1.0, 2.0, 3.0], {5e-4}), ([3.0, 2.0, 1.0], {8e-3}), ([1.0], {5e-4, 2e-3})),
        # A failure is worse than any loss: the best lies inside.
        ([2.0, 1.0, None], set()),
        ([None, None, 1.0], {8e-3}),
    ],
)
def test_range_grows_where_the_best_is_at_its_edge(losses, expected):
    assert grow(make_trials(losses)) == expected


def test_a_range_without_any_loss_is_refused():
    with pytest.raises(ValueError, match="no trial of 'lora' gave a validation loss"):
        grow(make_trials([None, None]))


def test_a_trial_is_of_no_grid_and_has_the_rate_that_is_given_at_any_size():
    grid = TINY.tiny_grid(seeds=(0, 1))
    spec = trial_spec(grid, "lora", 0.25)
    assert (spec.grid, spec.seed, spec.size.name) == ("tiny_search", PILOT_SEED, "16x1")
    assert spec.schedule.learning_rate == 0.25
    assert spec.run_id not in {run.run_id for run in grid.runs()}
    ladder = preset("ladder")
    spec = trial_spec(ladder, "ia3", 0.02, size="56x3")
    assert (spec.size.name, spec.schedule.learning_rate) == ("56x3", 0.02)
    assert spec.pretraining == ladder.runs(["56x3"], ["ia3"])[0].pretraining


def test_rates_tried_first_are_the_grids_own_at_that_size():
    wide = TINY.tiny_grid(learning_rates={"lora": 0.04}, reference_width=4, width_exponents={"lora": 1.0})
    assert start_rates(wide, "lora") == {0.005, 0.01, 0.02}


def test_search_ends_with_the_best_rate_inside(tmp_path, monkeypatch):
    TINY.fork_workers(monkeypatch)
    # Far too small on purpose: the range has to grow upwards.
    grid = TINY.tiny_grid(learning_rates={"lora": 2.5e-2})
    assert start_rates(grid, "lora") == {1.25e-2, 2.5e-2, 5e-2}
    folders = Folders(tmp_path / "runs", tmp_path / "cache")
    trials = search(grid, folders, jobs=1, methods=["lora"])
    rates = trials["learning_rate"].tolist()
    assert len(rates) > 2
    assert rates == pytest.approx([rates[0] * FACTOR**index for index in range(len(rates))])
    (best,) = np.flatnonzero(trials["chosen"])
    assert 0 < best < len(trials) - 1 and best == trials["val_loss"].argmin()
    again = read_trials([trial_spec(grid, "lora", rate) for rate in rates], tmp_path / "runs")
    pd.testing.assert_frame_equal(again, trials)
    assert trials["val_loss_se"].notna().all()
