"""Released tables and record files below one folder are found together, or what is wrong with them is said."""

import shutil
from pathlib import Path

import pytest

from astraios_analysis.records.frame import RecordError, save
from astraios_analysis.records.sources import check_sources, find_data_dir, load_records


@pytest.fixture
def data(tmp_path, write_tables, make_record):
    """A data folder with the tables of two released models and one trained run."""
    write_tables(tmp_path / "data" / "released")
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


def test_one_model_in_two_sources_names_both(data, make_record):
    shutil.copytree(data / "released", data / "more")
    problems = check_sources([data])[1]
    assert len(problems) == 2
    assert {problem.path for problem in problems} == {data / "released"}
    assert f"'released-1b-fft' is also in {data / 'more'}; give one of them" in {p.message for p in problems}
    shutil.rmtree(data / "more")
    save(make_record(run_id="released-1b-lora"), data / "runs")
    assert [problem.message for problem in check_sources([data])[1]] == [
        "'released-1b-lora' is also in a record file; give one of them"
    ]


def test_scores_of_something_else_are_not_taken_for_released_tables(tmp_path, make_record):
    save(make_record(), tmp_path)
    (tmp_path / "scores.csv").write_text("name,points\nanna,3\n")
    assert [record.run_id for record in load_records(tmp_path)] == ["mini-1b-lora-s0"]


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
