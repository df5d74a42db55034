import json
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from tiny_grid import write_record

from astraios_analysis.records.frame import RunRecord
from training.corpus.settings import CorpusSettings
from training.grid.search import PILOT_SEED
from training.spec.grids import PRESETS, Grid, corpus_settings, preset
from training.spec.run import ModelSize, Schedule

LADDER = Path(__file__).parents[3] / "data" / "runs" / "ladder"


def size(name, d_model=32):
    return ModelSize(name=name, d_model=d_model, n_layers=2, n_heads=4, vocab_size=64, n_positions=16)


@pytest.mark.parametrize("name", PRESETS)
def test_run_ids_and_labels_fit_a_record(name, tmp_path):
    for run in preset(name).runs():
        assert write_record(tmp_path, run).stem == run.run_id


def test_runs_follow_the_grid_not_the_order_asked():
    runs = preset("starcoderbase").runs(sizes=["7b", "1b"], methods=["lora", "fft"])
    assert [(run.size.name, run.tuning.method) for run in runs] == list(product(("1b", "7b"), ("fft", "lora")))
    assert [run.seed for run in preset("ladder").runs(sizes=["16x2"], methods=["fft"], seeds=[2, 0])] == [0, 2]


def test_pretraining_is_for_sizes_without_weights_only():
    pretrained = ModelSize(**{**size("b").model_dump(), "pretrained": "some/model"})
    grid = Grid(name="g", sizes=(size("a"), pretrained), methods=("fft",), data="text", pretraining=Schedule())
    assert [run.pretraining for run in grid.runs()] == [Schedule(), None]
    shared = Grid(**{**dict(grid), "pretraining_instructions": 0.2})
    assert [run.pretraining_instructions for run in shared.runs()] == [0.2, None]


@pytest.mark.parametrize(("size", "name"), [("16x2", ""), ("56x3", "_56x3")])
def test_the_ladders_rates_are_as_good_as_the_best_that_was_tried(size, name):
    trials = pd.read_csv(Path(__file__).parents[3] / "data" / "pilots" / f"ladder_learning_rates{name}.csv")
    assert set(trials["size"]) == {size}
    rates = {run.tuning.method: run.schedule.learning_rate for run in preset("ladder").runs([size], None, [0])}
    assert set(trials["method"]) == set(rates)
    for method, tried in trials.groupby("method"):
        best = tried.loc[tried["val_loss"].idxmin()]
        assert tried["learning_rate"].min() < best["learning_rate"] < tried["learning_rate"].max()
        nearest = tried.loc[np.log(tried["learning_rate"] / rates[method]).abs().idxmin()]
        assert nearest["learning_rate"] == pytest.approx(rates[method], rel=0.1)
        assert nearest["val_loss"] < best["val_loss"] + 0.2 * best["val_loss_se"]


def test_ladder_is_the_grid_that_was_trained():
    records = {path.stem: RunRecord.model_validate_json(path.read_text("utf-8")) for path in LADDER.glob("*.json")}
    runs = {run.run_id: run for run in preset("ladder").runs()}
    assert runs.keys() == records.keys()
    for run_id in ("ladder-16x2-fft-s0-", "ladder-160x4-adapterh-s1-"):
        (run,) = (run for name, run in runs.items() if name.startswith(run_id))
        described = records[run.run_id].provenance.spec
        assert described["run"] == run.model_dump(mode="json", exclude_none=True)
        assert described["corpus"] == corpus_settings(run.data).model_dump(mode="json", exclude_none=True)
        assert CorpusSettings.model_validate_json(json.dumps(described["corpus"])).label == run.data
    # The pilot has a seed that the grid has not.
    assert PILOT_SEED not in {run.seed for run in runs.values()}
    # One frozen commit, nothing edited.
    assert len({record.provenance.commit for record in records.values()}) == 1
    assert not any(record.provenance.dirty for record in records.values())


def test_unknown_names_are_errors_that_list_the_choices():
    with pytest.raises(ValueError, match="unknown seed 7 in grid 'ladder'; choose from 0, 1, 2"):
        preset("ladder").runs(seeds=[7])
    with pytest.raises(ValueError, match="unknown corpus 'text'; runs are trained here on embedded-"):
        corpus_settings("text")
    narrow = Grid(name="g", sizes=(size("a"),), methods=("lora",), data="text")
    with pytest.raises(ValueError, match="unknown tuning method 'fft' in grid 'g'; choose from lora"):
        narrow.runs(methods=["fft"])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sizes": (size("a"), size("a", 64))}, "size 'a' is in grid 'g' twice"),
        ({"held_out_sizes": ("c",)}, "unknown held-out size 'c' in grid 'g'; choose from a"),
        ({"methods": ("lora2",)}, "unknown tuning method 'lora2'"),
        ({"learning_rates": {"lora2": 1e-3}}, "unknown tuning method 'lora2'"),
        ({"width_exponents": {"lora2": 1.0}}, "unknown tuning method 'lora2'"),
        ({"learning_rates": {"lora": 0.0}}, r"learning_rates\.lora"),
    ],
)
def test_grid_refuses_what_does_not_fit_together(fields, message):
    with pytest.raises(ValidationError, match=message):
        Grid(**{"name": "g", "sizes": (size("a"),), "data": "text", **fields})
