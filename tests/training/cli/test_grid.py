import importlib
import json
import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import tiny_grid as TINY

from astraios_analysis.records.frame import load_folder
from training.grid.rows import run_corpus
from training.grid.workers import Outcome
from training.sandbox.programs import SandboxUnavailable
from training.spec.files import exclusive, mark_error, record_path, run_lock, run_state, work_folder
from training.spec.grids import PRESETS
from training.spec.run import RunSpec


def test_list_shows_every_preset(told):
    rows = json.loads(told("grid", "list", "--json").out)
    expected = [("smoke", 14), ("ladder", 126), ("gpu", 35), ("starcoderbase", 28)]
    assert [(row["preset"], row["n_runs"]) for row in rows] == expected
    assert rows[0]["sizes"] == ["16x2", "32x2"]
    header, smoke, *_ = told("grid", "list").out.splitlines()
    assert header.split() == ["preset", "sizes", "held_out_sizes", "methods", "seeds", "n_runs", "data"]
    assert smoke.split()[:5] == ["smoke", "16x2", "32x2", "-", "fft"]


def test_status_tells_the_five_states_apart(told, tmp_path, tiny):
    fft, lora, ptuning, adapterh = tiny.runs()
    command = ["grid", "status", "--preset", "tiny", "--runs", tmp_path / "runs"]
    assert told(*command).out.endswith("0 done, 0 damaged, 0 running, 0 failed, 0 partial, 4 missing\n")
    assert not (tmp_path / "runs").exists()
    TINY.write_record(tmp_path / "runs", fft)
    mark_error(tmp_path / "runs", lora.run_id, "Traceback\nValueError: no\n")
    for step in (2, 4):
        (work_folder(tmp_path / "runs", ptuning.run_id) / f"step-{step:06d}").mkdir(parents=True)
    with exclusive(run_lock(tmp_path / "runs", adapterh.run_id)):
        rows = json.loads(told(*command, "--json").out)
    states = [("done", ""), ("failed", "ValueError: no"), ("partial", "4 steps saved"), ("running", "")]
    assert [(row["state"], row["detail"]) for row in rows] == states
    assert [row["method"] for row in rows] == ["fft", "lora", "ptuning", "adapterh"]
    lines = told(*command).out.splitlines()
    assert lines[0].split() == ["run_id", "size", "method", "seed", "state", "detail"]
    assert lines[-1] == "1 done, 0 damaged, 0 running, 1 failed, 1 partial, 1 missing"


def test_status_tells_how_long_the_rest_takes(told, tmp_path, monkeypatch):
    source = Path(__file__).parents[3] / "data" / "runs" / "ladder"
    records = sorted((r for r in load_folder(source) if r.seed == 0), key=lambda record: record.n_params_base)
    specs = [RunSpec.model_validate_json(json.dumps(record.provenance.spec["run"])) for record in records]
    monkeypatch.setitem(PRESETS, "again", lambda: SimpleNamespace(name="again", runs=lambda *_: specs))
    command = ["grid", "status", "--preset", "again", "--runs", tmp_path]
    for record in records[:-1]:
        shutil.copy(record_path(source, record.run_id), record_path(tmp_path, record.run_id))
    last, truth = specs[-1], records[-1].cost.seconds
    *done, left = [row["seconds_left"] for row in json.loads(told(*command, "--json").out)]
    assert done == [0] * (len(records) - 1)
    assert truth / 3 < left < truth * 3 + 120
    # Half of it is saved: half of its training is left, and all of its scores.
    (work_folder(tmp_path, last.run_id) / f"step-{last.schedule.steps // 2:06d}").mkdir(parents=True)
    half = json.loads(told(*command, "--json").out)[-1]["seconds_left"]
    assert left / 2 < half < left
    assert re.fullmatch(r"about \d+ (min|s) left with 1 at a time", told(*command).out.splitlines()[-1])


def test_retry_trains_failed_runs_and_no_others(told, monkeypatch, tmp_path, tiny):
    fft, lora, ptuning, _ = tiny.runs()
    TINY.write_record(tmp_path, fft)
    mark_error(tmp_path, lora.run_id, "ValueError: no\n")
    mark_error(tmp_path, ptuning.run_id, "DivergedError: training diverged\n")
    diverged = work_folder(tmp_path, ptuning.run_id) / "failed.json"
    diverged.write_text('{"reason": "the loss is nan"}')
    launch = Mock(side_effect=lambda specs, *_, **__: [Outcome(spec.run_id, "done") for spec in specs])
    monkeypatch.setattr("training.cli.grid.launch", launch)
    command = ["grid", "retry", "--preset", "tiny", "--runs", tmp_path, "--no-scores"]
    errors = told(*command).err
    assert [*launch.call_args.args[0]] == [lora]
    assert "1 runs that diverged would diverge again and are left out; --diverged" in errors
    assert run_state(tmp_path, lora.run_id).state == "missing"
    told(*command, "--diverged")
    assert [*launch.call_args.args[0]] == [ptuning]
    assert not diverged.exists()
    assert f"no failed run to try again in {tmp_path}" in told(*command).err


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    # Trained here once, and known to the workers.
    run_corpus(TINY.tiny_grid().data).tokenizer  # noqa: B018
    return ["--runs", str(tmp_path_factory.mktemp("runs")), "--cache", str(tmp_path_factory.mktemp("cache"))]


@pytest.fixture
def trained(told, folders, tiny):
    """Train two of the runs, those that are not there yet: what is said."""
    command = ["grid", "run", "--preset", "tiny", "--method", "fft", "adapterh", "--jobs", "2", "--no-scores", *folders]
    return told(*command)


def test_run_trains_in_workers_and_a_second_time_skips(told, folders, trained, tiny):
    assert trained.out == ""
    assert f"2 of 2 runs are finished; records are in {folders[1]}" in trained.err
    command = ["grid", "run", "--preset", "tiny", "--method", "fft", "adapterh", "--no-scores", *folders]
    assert "2 of 2 runs were finished before" in told(*command).err
    assert len(list(Path(folders[1]).glob("*.json"))) == 2


@pytest.mark.sandbox
def test_score_adds_measures_to_finished_runs_and_a_second_time_skips(told, folders, trained):
    command = ["grid", "score", "--preset", "tiny", "--jobs", "1", "--measures", "security", "defect", *folders]
    captured = told(*command)
    assert captured.out == ""
    assert "2 of 4 runs have no record yet and are passed over" in captured.err
    assert "[2/2] tiny-16x1-" in captured.err
    assert f"2 of 2 records in {folders[1]} have the measures" in captured.err
    records = load_folder(folders[1])
    assert [{score.dataset for score in r.scores} for r in records] == [{"embedded_defect", "embedded_security"}] * 2
    errors = told(*command).err
    assert "2 of 2 records have all of the measures" in errors
    assert "[1/" not in errors
    assert load_folder(folders[1]) == records


@pytest.mark.sandbox
def test_a_tuned_model_that_is_gone_is_a_failure_with_a_reason(told, folders, trained, tmp_path):
    chosen = ["--preset", "tiny", "--method", "fft", *folders[:2]]
    errors = told("grid", "score", *chosen, "--jobs", "1", "--measures", "explain", "--cache", tmp_path, status=1).err
    assert "failed: tiny-16x1-fft-s0-" in errors
    assert "tuned weights of run" in errors
    # The record is as it was, and nothing marks it as failed.
    assert "1 done" in told("grid", "status", *chosen).out


@pytest.mark.sandbox
def test_scores_of_base_models_are_printed_and_in_no_record(told, folders, trained, monkeypatch):
    before = {path: path.read_bytes() for path in Path(folders[1]).glob("*.json")}
    command = ["grid", "score", "--preset", "tiny", "--base", "--measures", "defect", *folders]
    rows = json.loads(told(*command, "--json").out)
    columns = "size seed n_params_base dataset setting metric value stderr n_items"
    assert list(rows[0]) == columns.split()
    assert {row["dataset"] for row in rows} == {"embedded_completion", "embedded_defect"}
    assert {path: path.read_bytes() for path in Path(folders[1]).glob("*.json")} == before
    monkeypatch.setattr("training.grid.run.base_scores", lambda *_: rows)
    shown = [line.split()[3:6] for line in told(*command).out.splitlines()[1:]]
    # No score stands for defect, so all of its are shown.
    assert shown[0] == ["embedded_completion", "greedy", "pass@1"] and len(shown) == len(rows)
    assert ["embedded_defect", "likelihood", "accuracy"] in shown


def test_without_containment_nothing_is_trained_or_scored(refused, monkeypatch, tmp_path, tiny):
    refusal = SandboxUnavailable("no containment works here (bubblewrap: not found); install bubblewrap")
    monkeypatch.setattr("training.cli.shared.Sandbox", Mock(side_effect=refusal))
    monkeypatch.setattr("training.cli.grid.launch", lambda *_, **__: pytest.fail("trained"))
    monkeypatch.setattr("training.cli.grid.launch_scoring", lambda *_, **__: pytest.fail("scored"))
    errors = refused("grid", "run", "--preset", "tiny", "--runs", tmp_path)
    assert "no containment works here" in errors
    assert "--no-scores trains without running any program" in errors
    assert "nothing was scored" in refused("grid", "score", "--preset", "tiny", "--runs", tmp_path)
    # Nor where what is run cannot be analysed.
    monkeypatch.undo()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "bandit is not installed" in refused("grid", "run", "--preset", "smoke", "--runs", tmp_path, "--unsafe")


def test_failures_are_listed_and_are_the_exit_status(told, monkeypatch, tmp_path, tiny):
    fft, lora, *_ = tiny.runs()
    found = (Outcome(fft.run_id, "done"), Outcome(lora.run_id, "failed", "DivergedError: training diverged"))
    launch = Mock(return_value=found)
    monkeypatch.setattr("training.cli.grid.launch", launch)
    errors = told("grid", "run", "--preset", "tiny", "--method", "lora", "fft", status=1).err
    assert f"failed: {lora.run_id}: DivergedError: training diverged\n1 of 2 runs are finished" in errors
    (specs, given), options = launch.call_args
    assert (specs, given.runs) == ((fft, lora), Path("build/runs/tiny"))
    assert options["jobs"] == len(os.sched_getaffinity(0))
