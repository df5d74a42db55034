import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from training.__main__ import main
from training.grid import PRESETS, preset
from training.launch import Outcome
from training.run_files import exclusive, mark_error, record_path, run_lock, work_folder

TINY = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("tiny_grid.py"))))


@pytest.fixture
def tiny(monkeypatch):
    grid = TINY.tiny_grid()
    monkeypatch.setitem(PRESETS, "tiny", lambda: grid)
    return grid


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    captured = capsys.readouterr()
    assert (exit_.value.code, captured.out) == (2, "")
    return captured.err


def test_list_shows_every_preset(capsys):
    assert main(["grid", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["preset"], row["n_runs"]) for row in rows] == [("smoke", 14), ("starcoderbase", 28)]
    assert rows[0]["sizes"] == ["16x2", "32x2"]
    main(["grid", "list"])
    header, smoke, *_ = capsys.readouterr().out.splitlines()
    assert header.split() == ["preset", "sizes", "held_out_sizes", "methods", "seeds", "n_runs", "data"]
    assert smoke.startswith("smoke          16x2 32x2     -  ")


def test_status_tells_the_five_states_apart(capsys, tmp_path, tiny):
    fft, lora, ptuning, adapterh = tiny.runs()
    record_path(tmp_path, fft.run_id).write_text("{}")
    mark_error(tmp_path, lora.run_id, "Traceback\nValueError: no\n")
    (work_folder(tmp_path, ptuning.run_id) / "step-000002").mkdir(parents=True)
    (work_folder(tmp_path, ptuning.run_id) / "step-000004").mkdir()
    with exclusive(run_lock(tmp_path, adapterh.run_id)):
        assert main(["grid", "status", "--preset", "tiny", "--runs", str(tmp_path), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["method"], row["state"], row["detail"]) for row in rows] == [
        ("fft", "done", ""),
        ("lora", "failed", "ValueError: no"),
        ("ptuning", "partial", "4 steps saved"),
        ("adapterh", "running", ""),
    ]
    main(["grid", "status", "--preset", "tiny", "--runs", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["run_id", "size", "method", "seed", "state", "detail"]
    assert lines[-1] == "1 done, 0 running, 1 failed, 1 partial, 1 missing"


def test_status_of_nothing_is_all_missing(capsys, tmp_path):
    main(["grid", "status", "--preset", "smoke", "--runs", str(tmp_path / "none"), "--size", "16x2"])
    assert capsys.readouterr().out.endswith("0 done, 0 running, 0 failed, 0 partial, 7 missing\n")
    assert not (tmp_path / "none").exists()


def test_run_trains_in_workers_and_a_second_time_skips(capsys, tmp_path, tiny):
    command = ["grid", "run", "--preset", "tiny", "--method", "fft", "adapterh", "--jobs", "2"]
    command += ["--runs", str(tmp_path / "runs"), "--cache", str(tmp_path / "cache")]
    assert main(command) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"2 of 2 runs are finished; records are in {tmp_path / 'runs'}" in captured.err
    assert main(command) == 0
    assert "2 of 2 runs were finished before" in capsys.readouterr().err
    assert len(list((tmp_path / "runs").glob("*.json"))) == 2


def test_failures_are_listed_and_are_the_exit_status(capsys, monkeypatch, tmp_path, tiny):
    fft, lora, *_ = tiny.runs()
    found = (Outcome(fft.run_id, "done"), Outcome(lora.run_id, "failed", "DivergedError: training diverged"))
    given = {}

    def launch(specs, runs_dir, cache_dir, **options):
        given.update(specs=specs, runs_dir=runs_dir, **options)
        return found

    monkeypatch.setattr("training.launch.launch", launch)
    assert main(["grid", "run", "--preset", "tiny", "--method", "lora", "fft"]) == 1
    errors = capsys.readouterr().err
    assert f"failed: {lora.run_id}: DivergedError: training diverged\n1 of 2 runs are finished" in errors
    assert given["specs"] == (fft, lora)
    assert given["runs_dir"] == Path("build/runs/tiny")
    assert given["jobs"] == len(os.sched_getaffinity(0))


def test_wrong_arguments_say_what_is_allowed(capsys):
    assert "unknown preset 'mega'; choose from smoke" in refused(capsys, "grid", "run", "--preset", "mega")
    assert "unknown size '1b' in grid 'smoke'" in refused(capsys, "grid", "run", "--preset", "smoke", "--size", "1b")
    assert "jobs is 0; give" in refused(capsys, "grid", "run", "--preset", "smoke", "--jobs", "0")
    message = refused(capsys, "grid", "run", "--preset", "starcoderbase")
    assert f"unknown corpus 'commitpackft+oasst'; runs are trained here on {preset('smoke').data}" in message
    assert "--preset" in refused(capsys, "grid", "status")
    assert "ACTION" in refused(capsys, "grid")


def test_listing_and_status_need_no_torch(tmp_path):
    code = (
        "import sys; from training.__main__ import main\n"
        "main(['grid', 'list'])\n"
        "main(['grid', 'status', '--preset', 'smoke'])\n"
        "import training.launch\n"
        "assert 'torch' not in sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, timeout=120)
