"""Pilots: what they may be, and what is told from made records."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import f_oneway
from statsmodels.formula.api import ols

from astraios_analysis.records.frame import METHODS, Provenance, Score, TaskLoss
from training.corpus.settings import CorpusSettings
from training.grid.pilot import (
    MEASURES,
    THRESHOLDS,
    acceptance,
    method_signal,
    pilot_grid,
    pilot_rows,
    size_signal,
    write_table,
)
from training.spec.grids import CORPORA, preset

LADDER = preset("ladder")
SEEDS = (1001, 1002, 1003)


@pytest.fixture
def made_of(make_record):
    """Factory of a table of pilots that were trained, by their specifications; P-Tuning gains nothing."""

    def record(spec, score=0.3):
        measured = {"language": "python", "source": "measured", "value": score, "stderr": 0.03, "n_items": 200}
        gain = 0.0 if spec.tuning.method == "ptuning" else 0.1
        return make_record(
            **{"method": spec.tuning.method, "size": spec.size.name, "seed": spec.seed},
            **{"base_val_loss": 1.0, "val_loss": 1.0 - gain},
            scores=tuple(Score(dataset=d, setting=s, metric=m, **measured) for d, s, m in MEASURES),
            task_losses={"fix": TaskLoss(loss=1 / spec.size.d_model, n_targets=5)},
            provenance=Provenance(spec={"run": spec.model_dump(mode="json", exclude_none=True)}),
        )

    return lambda specs, *scores: pilot_rows(map(record, specs, *scores))


@pytest.fixture
def table(made_of):
    """Factory of a table of pilots whose scores rise by a step from size to size."""

    def table(step):
        rng, grid = np.random.default_rng(2), pilot_grid(LADDER, SEEDS)
        places = {size.name: place for place, size in enumerate(grid.sizes)}
        scores = (
            float(np.clip(0.3 + step * places[spec.size.name] + rng.normal(0, 0.02), 0, 1)) for spec in grid.runs()
        )
        return made_of(grid.runs(), scores)

    return table


def test_pilots_have_seeds_of_their_own_and_no_held_out_size():
    grid = pilot_grid(LADDER, [1004], text="plain", offsets=0, instructions=0.005)
    assert [size.name for size in grid.sizes] == ["16x2", "32x2", "56x3", "88x4", "128x4"]
    run = grid.runs()[0]
    assert (run.grid, run.seed) == ("ladder_pilot", 1004)
    assert CORPORA[run.data] == CorpusSettings(pretraining_mixture=None)
    assert (run.loop.position_offsets, run.pretraining_instructions) == (None, 0.005)
    own = pilot_grid(LADDER, [1004, 1004]).runs()[0]
    assert (own.loop, own.data, own.schedule) == (LADDER.loop, LADDER.data, LADDER.runs()[0].schedule)
    with pytest.raises(ValueError, match="seed 1 is one of grid 'ladder'; pilots have seeds of their own"):
        pilot_grid(LADDER, [1001, 1])
    with pytest.raises(ValueError, match="unknown base text 'songs'; choose from skills, plain"):
        pilot_grid(LADDER, [1001], text="songs")


@pytest.mark.parametrize("text", ["skills", "plain"])
def test_pilots_read_the_text_of_their_own_grid(text):
    harder = CORPORA[preset("gpu").data]
    assert CORPORA[pilot_grid(preset("gpu"), [1004], text=text).data] == harder.model_copy(
        update={} if text == "skills" else {"pretraining_mixture": None}
    )


@pytest.mark.filterwarnings("error")
def test_one_pilot_of_a_grid_without_instructions_in_base_text_tells_nothing_of_differences(made_of):
    rows = made_of(pilot_grid(preset("smoke"), [1004], text="plain").runs(["16x2"], ["lora"]))
    assert rows[["text", "position_offsets", "instructions"]].to_numpy().tolist() == [["plain", 0, 0]]
    found = acceptance(rows)
    untold = found["criterion"].str.contains("signal|ratio")
    assert found.loc[untold, ["value", "reached"]].isna().all(axis=None)
    assert found.loc[~untold, ["value", "reached"]].notna().all(axis=None)


def made(rng, between_sizes=0.0, between_methods=0.0):
    index = pd.MultiIndex.from_product([range(4), METHODS, SEEDS], names=["size", "method", "seed"])
    sizes, methods = index.get_level_values(0).to_numpy(), index.codes[1]
    values = between_sizes * sizes + between_methods * methods + rng.normal(size=len(index))
    return pd.Series(values, index, name="value").reset_index()


def test_signal_of_sizes_is_the_root_of_f_over_bases():
    table = made(np.random.default_rng(0), between_sizes=0.5)
    bases = table.groupby(["size", "seed"])["value"].mean().unstack()
    assert size_signal(table) ** 2 == pytest.approx(f_oneway(*bases.to_numpy()).statistic)


def test_residuals_of_methods_are_those_of_an_analysis_of_variance():
    table = made(np.random.default_rng(4), between_methods=0.3).query("size == 0")
    means = table.groupby("method")["value"].mean()
    left = ols("value ~ C(seed) + C(method)", table).fit()
    assert method_signal(table) == pytest.approx(means.std(ddof=1) / np.sqrt(left.mse_resid))


@pytest.mark.parametrize(("runs", "signal"), [("first_runs", "first_signal"), ("acceptance_runs", "signal")])
def test_what_was_found_follows_from_its_runs(runs, signal):
    pilots = Path(__file__).parents[3] / "data" / "pilots"
    found = acceptance(pd.read_csv(pilots / f"ladder_{runs}.csv"))
    pd.testing.assert_frame_equal(found, pd.read_csv(pilots / f"ladder_{signal}.csv"), rtol=1e-9)


def test_acceptance_tells_a_grid_with_sizes_from_one_without(tmp_path, table):
    found = {step: acceptance(table(step)).set_index(["criterion", "of"]) for step in (0.1, 0.0)}
    for name in ("fix_pass@1", "explain_choice_accuracy"):
        assert found[0.1].loc[("size_signal_without_smallest", name), "reached"]
        assert not found[0.0].loc[("size_signal_without_smallest", name), "reached"]
        assert not found[0.1].loc[("method_signal_without_fft_ptuning", name), "reached"]
    # 0.3 is not three errors above the chance of one in four.
    assert found[0.0].loc[("range", "explain_choice_accuracy"), "value"] == 0
    assert found[0.0].loc[("range", "fix_pass@1"), "value"] == 1
    below = found[0.1].loc["below_base", "value"]
    assert (below["ptuning"], below["lora"]) == (0, 1)
    assert found[0.1].loc[("answer_loss_ratio", "fix"), "value"] == pytest.approx(16 / 128)
    assert set(found[0.1].index.get_level_values(0)) == set(THRESHOLDS)
    write_table(rows := table(0.1), tmp_path / "made" / "pilots.csv")
    made = pd.read_csv(tmp_path / "made" / "pilots.csv")
    pd.testing.assert_frame_equal(made, rows, check_dtype=False, check_exact=True)
    assert list(rows["size"].unique()) == ["16x2", "32x2", "56x3", "88x4", "128x4"]
