"""``python -m training score`` as a process: its output, what stops it, and what is not lost by that."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import tiny_problems as TINY

from training.__main__ import main
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


def make_command(*arguments):
    return [sys.executable, "-m", "training", "score", *map(str, arguments)]


def start(*arguments, **options):
    """A process of the command, in which Ctrl-C works although the tests may ignore it."""
    return subprocess.Popen(
        make_command(*arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        restore_signals=True,
        **({"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler)} | options),
    )


def run(*arguments, **options):
    return subprocess.run(make_command(*arguments), capture_output=True, text=True, check=False, timeout=600, **options)


def journalled(folder):
    """Programs in the journal below a folder, in order; none where there is no whole line yet."""
    paths = list(folder.glob("*.jsonl")) if folder.is_dir() else []
    lines = [line for path in paths for line in path.read_text().splitlines(keepends=True)[1:]]
    return [json.loads(line)["program"] for line in lines if line.endswith("\n")]


def wait_for_verdicts(process, folder, n_verdicts):
    deadline = time.monotonic() + 600
    while len(journalled(folder)) < n_verdicts:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def options(problems, folder):
    return ["--dataset", "humanevalfix_python", "--problems", problems, "--resume", folder, "--unsafe", "--workers", 1]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_what_was_killed_loses_nothing_and_repeats_nothing(tmp_path, problems, generations, number):
    folder = tmp_path / "journals"
    arguments = [generations, *options(problems, folder), "--json"]
    process = start(*arguments)
    wait_for_verdicts(process, folder, 5)
    process.send_signal(number)
    out, err = process.communicate(timeout=600)
    assert out == ""
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert "stopped; the same command goes on from there" in err
    before = journalled(folder)
    assert 5 <= len(before) < 60
    again = run(*arguments)
    assert f"{len(before)} verdicts are known from " in again.stderr
    after = journalled(folder)
    assert after[: len(before)] == before
    assert set(Counter(after).values()) == {1}
    assert len(after) == 60
    found = json.loads(again.stdout)
    assert [row["n_passed"] for row in found["per_problem"]] == [20, 7, 0]
    whole = run(generations, *options(problems, tmp_path / "other"), "--json")
    assert json.loads(whole.stdout) == found


def test_json_is_all_there_is_on_standard_output(tmp_path, problems, generations):
    done = run(generations, *options(problems, tmp_path / "journals"), "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0
    expected = {"dataset": "humanevalfix_python", "n_problems": 3, "n_samples": 60, "sandbox": "unsafe"}
    assert found.items() >= expected.items()
    assert found["pass@1"] == pytest.approx(27 / 60)
    assert found["per_problem"] == [
        {"problem_id": number, "n_samples": 20, "n_passed": n_passed} for number, n_passed in enumerate([20, 7, 0])
    ]
    assert "60/60" in done.stderr


def test_duplicates_run_once(tmp_path, problems):
    samples = [several * 10 for several in TINY.make_samples(TINY.python_rows(), [1, 1, 0], 2)]
    path = tmp_path / "generations.json"
    path.write_text(json.dumps(samples))
    found = json.loads(run(path, *options(problems, tmp_path / "journals"), "--json").stdout)
    assert (found["n_samples"], found["n_distinct_programs"]) == (60, 6)
    assert len(journalled(tmp_path / "journals")) == 6


@pytest.mark.skipif(sys.platform != "linux", reason="a limit of the kernel stands for a full disk")
def test_a_full_disk_is_said_and_loses_nothing(tmp_path, problems, generations):
    folder = tmp_path / "journals"
    limit = 2000
    full = run(
        generations,
        *options(problems, folder),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert (full.returncode, full.stdout) == (1, "")
    assert "cannot be written (File too large)" in full.stderr
    assert "are kept: free some space, and the same command goes on" in full.stderr
    before = journalled(folder)
    assert len(before) > 0
    again = run(generations, *options(problems, folder))
    assert again.returncode == 0
    assert journalled(folder)[: len(before)] == before
    assert len(journalled(folder)) == 60


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_standard_output_keeps_the_verdicts(tmp_path, problems, generations):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            make_command(generations, *options(problems, tmp_path / "journals"), "--json"),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert "standard output cannot be written (No space left on device); the verdicts are kept" in done.stderr
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x.json"], "--dataset is missing"),
        (["--dataset", "humanevalfix_python"], "GENERATIONS is missing"),
        (["missing.json", "--dataset", "humanevalfix_python"], "missing.json: there is no such file"),
        (["x.json", "--dataset", "humanevalfix"], "unknown data set 'humanevalfix'"),
        (["x.json", "--dataset", "aatk", "--workers", "0"], "0 is not in the range x>=1"),
        (["x.json", "--dataset", "aatk", "--cpu-seconds", "0"], "0.0 is not in the range 0<x<3600"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message, refused):
    assert message in refused("score", *arguments)


def test_data_sets_are_listed(capsys):
    assert main(["score", "--list"]) == 0
    text = capsys.readouterr().out
    assert main(["score", "--list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["dataset"] for row in rows] == list(TASKS)
    assert all(row["dataset"] in text and row["reference"] in text for row in rows)
    assert {row["dataset"]: row["chance"] for row in rows}["defect_detection"] == 0.5


def test_scoring_needs_no_torch(tmp_path, problems, generations):
    code = (
        "import sys\n"
        "blocked = ('torch', 'transformers', 'peft', 'accelerate', 'tokenizers')\n"
        "sys.modules.update(dict.fromkeys(blocked))\n"
        "from training.__main__ import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["score", generations, *options(problems, tmp_path / "j"), "--json"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["n_samples"] == 60
