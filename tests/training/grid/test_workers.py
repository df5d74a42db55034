import multiprocessing
import os
import signal
import sys
import time
from contextlib import redirect_stderr
from unittest.mock import Mock

import pytest
import tiny_grid as TINY
from tqdm import tqdm
from waiting import wait_until

from training.__main__ import main
from training.grid import bases
from training.grid.workers import Folders, Task, Worker, _Launch, _work_off, launch
from training.spec.files import exclusive, run_lock, run_state
from training.spec.grids import PRESETS, embedded_size

SPECS = TINY.tiny_grid(learning_rates={"lora": 1e30}).runs()
FFT, LORA, PTUNING, ADAPTERH = SPECS


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def launched(folders):
    lines = []
    with exclusive(run_lock(folders[0], ADAPTERH.run_id)):
        outcomes = launch(SPECS, Folders(*folders), jobs=1, report=lines.append)
    return outcomes, lines


def test_every_run_has_an_outcome_in_the_order_given_and_a_failed_one_its_reason(launched, folders):
    outcomes, _ = launched
    assert [outcome.run_id for outcome in outcomes] == [spec.run_id for spec in (FFT, LORA, PTUNING, ADAPTERH)]
    assert [outcome.status for outcome in outcomes] == ["done", "failed", "done", "busy"]
    assert "DivergedError: training diverged" in outcomes[1].message
    assert "is being trained by another process; wait for it" in outcomes[3].message
    failed, busy = (run_state(folders[0], spec.run_id) for spec in (LORA, ADAPTERH))
    assert (failed.state, busy.state) == ("failed", "missing")
    assert "training diverged" in failed.detail


def test_progress_names_the_base_first_and_counts_the_runs(launched):
    _, lines = launched
    assert lines[0].startswith("base 16x1, seed 0: ready (")
    assert [line.split()[0] for line in lines[1:]] == ["[1/4]", "[2/4]", "[3/4]", "[4/4]"]
    assert any(PTUNING.run_id in line and "done, validation loss" in line for line in lines)


def test_a_killed_worker_is_a_failed_run_with_a_reason(tmp_path):
    worker = Worker(Folders(tmp_path, tmp_path))
    try:
        worker.give(Task("run", FFT))
        os.kill(worker._process.pid, signal.SIGKILL)
        _, status, message, _ = worker.take()
        assert not worker.is_alive
    finally:
        worker.end()
    assert status == "failed"
    reason = "it was killed, perhaps for want of memory: try fewer jobs"
    assert message == f"the worker process ended (exit code -9); {reason}"
    assert run_state(tmp_path, FFT.run_id).detail == message


def test_a_worker_that_is_stopped_leaves_no_semaphore_behind():
    def work():
        ours, theirs = multiprocessing.Pipe()
        ours.close()
        _work_off(theirs, None)
        sys.exit(hasattr(tqdm.get_lock(), "mp_lock"))

    assert TINY.in_a_process(work) == 0


def test_a_worker_sees_the_gpu_it_is_pinned_to(tmp_path, monkeypatch):
    seen = []
    process = Mock(start=lambda: seen.append(os.environ.get("CUDA_VISIBLE_DEVICES")), is_alive=lambda: False)
    context = Mock(Pipe=multiprocessing.Pipe, Process=lambda **_: process)
    monkeypatch.setattr("training.grid.workers.multiprocessing.get_context", lambda _: context)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    for gpu in ("3", None):
        Worker(Folders(tmp_path, tmp_path), gpu).end()
    assert seen == ["3", "2,3"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2,3"


class FakeWorker:
    """Answers without a process: bases of one seed fail."""

    tasks, gpu = (), None

    def __init__(self, *_):
        self.task, self.is_alive = None, True
        self.connection, self._other = os.pipe()

    def give(self, task):
        self.task = task
        FakeWorker.tasks += ((task.kind, task.spec.size.name),)
        os.write(self._other, b".")

    def take(self):
        task, self.task = self.task, None
        os.read(self.connection, 1)
        is_bad = task.kind == "base" and task.spec.seed == 1
        return task, *(("failed", "ValueError: no") if is_bad else ("done", "")), 0.0

    def end(self):
        os.close(self.connection)
        os.close(self._other)


def test_bases_come_first_and_larger_sizes_before_smaller_ones(tmp_path, monkeypatch):
    monkeypatch.setattr("training.grid.workers.Worker", FakeWorker)
    monkeypatch.setattr(FakeWorker, "tasks", ())
    sizes = (embedded_size(16, 1, 2), embedded_size(32, 1, 2))
    specs = TINY.tiny_grid(sizes=sizes, methods=("fft", "lora"), seeds=(0, 1)).runs()
    outcomes = launch(specs, Folders(tmp_path, tmp_path), jobs=1)
    twice = [(kind, size) for kind in ("base", "run") for size in ("32x1", "16x1") for _ in range(2)]
    assert FakeWorker.tasks == tuple(twice)
    failed = [spec.run_id for spec in specs if spec.seed == 1]
    assert [outcome.run_id for outcome in outcomes if outcome.status == "failed"] == failed
    assert run_state(tmp_path, failed[0]).detail == "base 16x1, seed 1: ValueError: no"


def test_every_place_has_a_worker_and_no_more_than_there_are_runs(tmp_path, monkeypatch):
    worker = Mock(side_effect=FakeWorker)
    monkeypatch.setattr("training.grid.workers.Worker", worker)
    launch((FFT, LORA), Folders(tmp_path, tmp_path), jobs=3, places=("0", "1", "0"))
    assert [call.args[1] for call in worker.call_args_list] == ["0", "1"]


def test_pretrained_sizes_need_no_base(tmp_path):
    spec = FFT.model_copy(update={"size": FFT.size.model_copy(update={"pretrained": "x"})})
    started = _Launch([Task("run", spec)], Folders(tmp_path, tmp_path), 1, print)
    assert (started._bases, len(started._ready)) == ([], 1)


def test_jobs_are_positive(tmp_path):
    with pytest.raises(ValueError, match="jobs is 0; give the number of worker processes, from 1 on"):
        launch(SPECS, Folders(tmp_path, tmp_path), jobs=0)


def train_for_hours(*_, folder, **__):
    folder.mkdir()
    time.sleep(10_000)


def launcher(folder):
    """A command in a process group of its own, whose worker is at a base that takes hours."""
    os.setpgrp()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    patch = pytest.MonkeyPatch()
    TINY.fork_workers(patch)
    patch.setattr(bases, "train", train_for_hours)
    patch.setitem(PRESETS, "tiny", TINY.tiny_grid)
    command = ["grid", "run", "--preset", "tiny", "--method", "fft", "--jobs", "1", "--no-scores"]
    with (folder / "errors").open("w") as errors, redirect_stderr(errors):
        status = main([*command, "--runs", str(folder / "runs"), "--cache", str(folder / "cache")])
    sys.exit(status)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are read from /proc, and end with their parent on Linux")
@pytest.mark.parametrize("is_interrupted", [True, False])
def test_workers_end_with_a_launcher_that_is_interrupted_or_killed(tmp_path, is_interrupted):
    process = TINY.FORK.Process(target=launcher, args=(tmp_path,))
    process.start()
    try:
        # The worker is at its task as soon as the base has its folder.
        wait_until(lambda: list(tmp_path.glob("cache/bases/.training-*")))
        # Ctrl-C reaches all processes of a terminal; a kill, the launcher alone.
        os.killpg(process.pid, signal.SIGINT) if is_interrupted else process.kill()
        process.join(300)
        wait_until(lambda: not TINY.living_processes(process.pid))
    finally:
        for left in TINY.living_processes(process.pid):
            os.kill(left, signal.SIGKILL)
    assert process.exitcode == (130 if is_interrupted else -signal.SIGKILL)
    errors = (tmp_path / "errors").read_text()
    assert ("the same command goes on from the last checkpoints" in errors) is is_interrupted
    assert "Traceback" not in errors
