"""Record files below one folder are found together, by grid, or what is wrong is said."""

from pathlib import Path

import pandas as pd
import pytest

from astraios_analysis.records.frame import RecordError, save
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.sources import PerGrid, check_sources, find_data_dir, load_grids, load_records
from astraios_analysis.scores.losses import final_losses


@pytest.fixture
def data(tmp_path, make_record, released_records):
    """A data folder with two released models and one trained run."""
    for record in released_records[:2]:
        save(record, tmp_path / "data" / "released")
    save(make_record(), tmp_path / "data" / "runs")
    return tmp_path / "data"


def test_released_models_and_trained_runs_are_read_together(data):
    records = load_records(data)
    assert len(records) == 3
    assert [record.grid for record in records] == ["mini", "released", "released"]
    assert [record.run_id for record in load_records(data, "mini")] == ["mini-1b-lora-s0"]
    assert len(load_records(str(data), "released")) == 2
    assert len(load_records(data / "runs" / "mini-1b-lora-s0.json")) == 1


def test_one_place_given_twice_counts_once(data):
    for paths in ([data, data], [data, data / "released"], [data / "runs", data], [data, data / ".." / "data"]):
        records, problems = check_sources(paths)
        assert (len(records), problems) == (3, [])


def test_data_folder_is_the_one_here_or_the_one_of_the_project(tmp_path, monkeypatch, released_folder):
    monkeypatch.chdir(tmp_path)
    assert find_data_dir() == released_folder.parent
    (tmp_path / "data").mkdir()
    assert find_data_dir() == Path("data")


def test_no_data_folder_says_where_to_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("astraios_analysis.records.sources.__file__", str(tmp_path / "package" / "sources.py"))
    with pytest.raises(RecordError, match="data: does not exist; run in the repository or pass --data FOLDER"):
        find_data_dir()


@pytest.fixture
def folder(tmp_path, make_record):
    save(make_record(run_id="a", grid="mini"), tmp_path)
    save(make_record(run_id="b", grid="bare", val_loss=None, val_loss_se=None, val_curve=()), tmp_path)
    return tmp_path


class TestLoadGrids:
    def test_all_grids_or_one(self, folder):
        ids = {name: [r.run_id for r in runs] for name, runs in load_grids(folder).items()}
        assert ids == {"bare": ["b"], "mini": ["a"]}
        assert list(load_grids(folder, "mini")) == ["mini"]

    def test_released_models_come_first(self, released_records, folder):
        save(released_records[0], folder)
        assert list(load_grids(folder)) == ["released", "bare", "mini"]


class TestMap:
    def test_reasons_are_kept_and_passed_on(self, folder):
        losses = load_grids(folder).map(final_losses)
        assert list(losses) == ["mini"] and "none of these runs has a validation loss" in losses.lacking["bare"]
        counts = losses.map(len)
        assert dict(counts) == {"mini": 1} and counts.lacking == losses.lacking
        with pytest.raises(KeyError, match="none of these runs has a validation loss"):
            counts["bare"]
        assert repr(counts).splitlines() == [f"mini: {counts['mini']}", f"bare: {counts.lacking['bare']}"]

    def test_only_refusals_are_caught(self):
        def fail(value, error):
            raise error

        assert PerGrid({"a": 1}).map(fail, Refusal("no loss")).lacking == {"a": "no loss"}
        with pytest.raises(ValueError, match="a fault"):
            PerGrid({"a": 1}).map(fail, ValueError("a fault"))

    def test_tables_stand_below_one_another(self):
        tables = PerGrid({"a": pd.DataFrame({"x": [1, 2]}), "b": pd.DataFrame({"x": [3]})})
        assert tables.table.to_dict("list") == {"grid": ["a", "a", "b"], "x": [1, 2, 3]}
        assert PerGrid({}, {"a": "no loss"}).table.to_dict("list") == {"grid": ["a"], "lacks": ["no loss"]}
