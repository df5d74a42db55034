"""The search of learning rates: where it goes on, what it writes, and that the presets have what it found."""

import math

import pandas as pd
import pytest
import tiny_grid as TINY
from hypothesis import given
from hypothesis import strategies as st

from training.grid import search as search_module
from training.grid.search import (
    FACTOR,
    PILOT_SEED,
    Trial,
    grow,
    read_trials,
    search,
    start_rates,
    trial_spec,
    write_trials,
)


def make_trials(losses, method="lora"):
    return [
        Trial(
            method=method,
            size="16x1",
            seed=PILOT_SEED,
            steps=6,
            learning_rate=1e-3 * FACTOR**index,
            val_loss=loss,
            val_loss_se=None,
            base_val_loss=None,
            chosen=False,
        )
        for index, loss in enumerate(losses)
    ]


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([2.0, 1.0, 3.0], set()),
        ([1.0, 2.0, 3.0], {5e-4}),
        ([3.0, 2.0, 1.0], {8e-3}),
        ([1.0], {5e-4, 2e-3}),
        # A failure is worse than any loss: the best lies inside.
        ([2.0, 1.0, None], set()),
        ([None, None, 1.0], {8e-3}),
    ],
)
def test_range_grows_where_the_best_is_at_its_edge(losses, expected):
    assert grow(make_trials(losses)) == expected


@given(st.lists(st.one_of(st.none(), st.floats(0.1, 10)), min_size=1, max_size=8))
def test_a_range_that_does_not_grow_has_its_best_inside(losses):
    known = [loss for loss in losses if loss is not None]
    if not known:
        with pytest.raises(ValueError, match="no trial of 'lora' gave a validation loss"):
            grow(make_trials(losses))
    elif not grow(make_trials(losses)):
        best = losses.index(min(known))
        assert 0 < best < len(losses) - 1


def test_a_trial_is_of_no_grid():
    grid = TINY.tiny_grid(seeds=(0, 1))
    spec = trial_spec(grid, "lora", 0.25)
    assert (spec.grid, spec.seed, spec.size.name) == ("tiny_search", PILOT_SEED, "16x1")
    assert spec.schedule.learning_rate == 0.25
    assert spec.run_id not in {run.run_id for run in grid.runs()}


def test_rates_tried_first_are_the_grids_own_at_that_size():
    wide = TINY.tiny_grid(learning_rates={"lora": 0.04}, reference_width=4, width_exponents={"lora": 1.0})
    assert start_rates(wide, "lora") == {0.005, 0.01, 0.02}


def test_search_ends_with_the_best_rate_inside(tmp_path):
    lines = []
    # Far too small on purpose: the range has to grow upwards.
    grid = TINY.tiny_grid(learning_rates={"lora": 2.5e-2})
    assert start_rates(grid, "lora") == {1.25e-2, 2.5e-2, 5e-2}
    trials = search(grid, tmp_path / "runs", tmp_path / "cache", jobs=1, methods=["lora"], report=lines.append)
    rates = [trial.learning_rate for trial in trials]
    assert len(rates) > 2
    assert rates == pytest.approx([rates[0] * FACTOR**index for index in range(len(rates))])
    best = [index for index, trial in enumerate(trials) if trial.chosen]
    assert len(best) == 1
    assert 0 < best[0] < len(trials) - 1
    assert trials[best[0]].val_loss == min(trial.val_loss for trial in trials)

    # Trained once each: a second search reads the records.
    lines.clear()
    assert read_trials([trial_spec(grid, "lora", rate) for rate in rates], tmp_path / "runs") == trials
    write_trials(trials, tmp_path / "rates.csv")
    frame = pd.read_csv(tmp_path / "rates.csv")
    assert list(frame["learning_rate"]) == rates
    assert list(frame["val_loss"]) == [trial.val_loss for trial in trials]
    assert not math.isnan(frame["val_loss_se"].min())


def test_prompt_lengths_are_searched_each_for_itself(tmp_path, monkeypatch):
    trained = []

    def launch(specs, *_folders, jobs, report):
        trained.extend(specs)

    def read(specs, runs_dir):
        # A shorter prompt has its best at a larger rate.
        losses = [abs(math.log2(spec.schedule.learning_rate * spec.tuning.virtual_tokens / 0.08)) for spec in specs]
        return tuple(
            search_module._trial(spec, None, {}).model_copy(update={"val_loss": loss, "chosen": loss == min(losses)})
            for spec, loss in zip(specs, losses, strict=True)
        )

    monkeypatch.setattr(search_module, "launch", launch)
    monkeypatch.setattr(search_module, "read_trials", read)
    grid = TINY.tiny_grid(learning_rates={"ptuning": 1e-2})
    trials = search(grid, tmp_path, tmp_path, jobs=1, methods=["ptuning"], virtual_tokens=[2, 8])
    best = {trial.virtual_tokens: trial.learning_rate for trial in trials if trial.chosen}
    assert best == pytest.approx({2: 4e-2, 8: 1e-2})
    assert len({spec.run_id for spec in trained if spec.schedule.learning_rate == 1e-2}) == 2


def test_prompt_lengths_without_p_tuning(tmp_path):
    with pytest.raises(ValueError, match=r"prompt lengths belong to ptuning, and the methods are lora; add ptuning"):
        search(TINY.tiny_grid(), tmp_path, tmp_path, jobs=1, methods=["lora"], virtual_tokens=[2])


def test_a_prompt_longer_than_the_positions_allow():
    grid = TINY.tiny_grid()
    most = grid.sizes[0].n_positions - grid.schedule.sequence_length
    assert trial_spec(grid, "ptuning", 0.1, most).tuning.virtual_tokens == most
    with pytest.raises(ValueError, match=f"a prompt of {most + 1} virtual tokens .* give at most {most}"):
        trial_spec(grid, "ptuning", 0.1, most + 1)
