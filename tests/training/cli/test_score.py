"""``python -m training score`` as a process: its output, what stops it, and what is not lost by that."""

import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import tiny_problems as TINY
from waiting import wait_until

from training.published.tasks import TASKS
from training.sandbox import containment, pool
from training.sandbox.containment import BUBBLEWRAP

N_SAMPLES = 20


@pytest.fixture
def problems(tmp_path):
    return TINY.write_problems(tmp_path / "problems.jsonl", TINY.python_rows())


@pytest.fixture
def generations(tmp_path):
    """60 programs, of which 20, 7 and 0 are right; each takes a moment, so that one can be stopped among them."""
    samples = TINY.make_samples(TINY.python_rows(), [20, 7, 0], N_SAMPLES, "import time; time.sleep(0.06) #")
    path = tmp_path / "generations.json"
    path.write_text(json.dumps(samples))
    return path


# The command needs no torch: where one of its libraries is imported, it fails.
WITHOUT_TORCH = """
import sys
sys.modules.update(dict.fromkeys(('torch', 'transformers', 'peft', 'accelerate', 'tokenizers')))
from training.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def start(*arguments, **options):
    """A process of the command, in which Ctrl-C works although the tests may ignore it."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    handled = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler)}
    command = [sys.executable, "-c", WITHOUT_TORCH, "score", *map(str, arguments)]
    return subprocess.Popen(command, text=True, restore_signals=True, **(pipes | handled | options))


@pytest.fixture
def scored(told):
    """Run the command in this process: its result, with the JSON that it printed, and its notes."""

    def scored(*arguments):
        captured = told("score", *arguments, "--json")
        return json.loads(captured.out), captured.err

    return scored


def journalled(folder):
    """Programs in the journal below a folder, in order; none where there is no whole line yet."""
    paths = list(folder.glob("*.jsonl")) if folder.is_dir() else []
    lines = [line for path in paths for line in path.read_text().splitlines(keepends=True)[1:]]
    return [json.loads(line)["program"] for line in lines if line.endswith("\n")]


def wait_for_verdicts(process, folder, n_verdicts):
    wait_until(lambda: process.poll() is not None or len(journalled(folder)) >= n_verdicts)
    assert process.poll() is None, process.communicate()


def options(problems, folder):
    return ["--dataset", "humanevalfix_python", "--problems", problems, "--resume", folder, "--unsafe", "--workers", 1]


def test_what_was_stopped_loses_nothing_and_repeats_nothing(tmp_path, problems, generations, scored):
    folder, before = tmp_path / "journals", []
    arguments = [generations, *options(problems, folder)]
    for number in (signal.SIGINT, signal.SIGKILL):
        process = start(*arguments, "--json")
        wait_for_verdicts(process, folder, len(before) + 5)
        process.send_signal(number)
        out, err = process.communicate(timeout=600)
        assert out == ""
        is_stopped = "stopped; the same command goes on from there" in err
        assert (process.returncode, is_stopped) == ((130, True) if number == signal.SIGINT else (-number, False))
        after = journalled(folder)
        assert len(before) + 5 <= len(after) < 60
        assert after[: len(before)] == before
        before = after
    found, notes = scored(*arguments)
    assert f"{len(before)} verdicts are known from " in notes
    after = journalled(folder)
    assert after[: len(before)] == before
    assert set(Counter(after).values()) == {1}
    assert len(after) == 60
    whole, notes = scored(generations, *options(problems, tmp_path / "other"))
    assert whole == found
    expected = {"dataset": "humanevalfix_python", "n_problems": 3, "n_samples": 60, "sandbox": "unsafe"}
    assert found.items() >= expected.items()
    assert found["pass@1"] == pytest.approx(27 / 60)
    counts = [(one["problem_id"], one["n_samples"], one["n_passed"]) for one in found["per_problem"]]
    assert counts == [(0, 20, 20), (1, 20, 7), (2, 20, 0)]
    assert "60/60" in notes


def test_verdicts_that_cannot_be_kept_are_a_failure(tmp_path, problems, generations, told):
    (tmp_path / "file").write_text("")
    errors = told("score", generations, *options(problems, tmp_path / "file" / "x"), status=1).err
    assert "file/x/humanevalfix_python-" in errors
    assert "cannot be opened" in errors and "name a writable folder" in errors


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_standard_output_keeps_the_verdicts(tmp_path, problems, generations):
    with open("/dev/full", "w") as full:
        process = start(generations, *options(problems, tmp_path / "journals"), "--json", stdout=full)
        _, err = process.communicate(timeout=600)
    assert process.returncode == 1
    assert "standard output cannot be written (No space left on device); the verdicts are kept" in err
    assert len(journalled(tmp_path / "journals")) == 60


def test_a_missing_javac_is_said_with_what_to_do(tmp_path, monkeypatch, refused):
    rows = TINY.java_rows()
    problems = TINY.write_problems(tmp_path / "java.jsonl", rows)
    (tmp_path / "x.json").write_text(json.dumps([[TINY.solve(row)] for row in rows]))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    arguments = ["--dataset", "humanevalfix_java", "--problems", problems, "--resume", tmp_path / "j", "--unsafe"]
    message = refused("score", tmp_path / "x.json", *arguments)
    assert "Java programs cannot be run" in message
    assert "apt-get install openjdk-17-jdk-headless" in message


def test_no_sandbox_is_a_refusal_and_nothing_is_run(tmp_path, problems, generations, monkeypatch, refused):
    monkeypatch.setattr(pool, "BACKENDS", (BUBBLEWRAP,))
    monkeypatch.setattr(containment.shutil, "which", lambda name: str(tmp_path / name))
    arguments = [option for option in options(problems, tmp_path / "j") if option != "--unsafe"]
    message = refused("score", generations, *arguments)
    assert f"no containment works here (bubblewrap: {tmp_path}/bwrap cannot be started" in message
    assert "or allow --unsafe" in message
    assert journalled(tmp_path / "j") == []


def test_data_sets_are_listed(told):
    rows, text = json.loads(told("score", "--list", "--json").out), told("score", "--list").out
    assert [row["dataset"] for row in rows] == list(TASKS)
    assert all(row["dataset"] in text and row["reference"] in text for row in rows)
    assert {row["dataset"]: row["chance"] for row in rows}["defect_detection"] == 0.5
