"""Worker processes that train or score one run after the other; only they import torch.

Importing the libraries takes as long as the smallest runs, so a worker stays for as many runs as there are. Each has
one thread: several threads that share a busy machine's cores wait for each other most of the time.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from astraios_analysis.records.frame import load
from astraios_analysis.records.refusal import Refusal
from training.spec.files import damage, last_line, mark_error, record_path, require_writable
from training.spec.run import RunSpec
from training.suite.request import Scoring, is_unscored

Status = Literal["done", "skipped", "failed", "busy"]

# Set before a worker starts, because the libraries read them at import, and the C library at the process' start.
_WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # Keep freed memory. Every step of a small model allocates the same few arrays of megabytes (its logits), and glibc
    # gives such back to the system at once, to have them zeroed page by page at the next: thousands of page faults a
    # step, which took a fifth to half of the time of the smallest models. Other C libraries ignore these.
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 32),
    "MALLOC_TOP_PAD_": str(1 << 26),
}
_SECONDS_TO_END = 10
# Of <linux/prctl.h>: the signal that a process gets when the thread that started it ends.
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Task:
    """One thing to do: train a base model, train a run, or score one."""

    kind: Literal["base", "run", "score"]
    spec: RunSpec

    @property
    def base(self) -> str:
        """What the runs of one base have in common."""
        shared = {"size", "pretraining", "pretraining_instructions", "loop", "data", "seed", "n_validation"}
        return self.spec.model_dump_json(include=shared)

    @property
    def name(self) -> str:
        """What progress calls it."""
        return self.spec.run_id if self.kind != "base" else f"base {self.spec.size.name}, seed {self.spec.seed}"


@dataclass(frozen=True)
class Folders:
    """What all tasks of a launch share: folders of records and of models, the measures that are wanted, and trackers.

    ``log_with`` are accelerate's names of trackers that every run reports to; those that write files put them into
    ``log_dir``.
    """

    runs: Path
    cache: Path
    scoring: Scoring | None = None
    log_with: tuple[str, ...] = ()
    log_dir: Path | None = None
    # Of runs of several processes.
    is_sharded: bool = False


class Worker:
    """One worker process, and the task it is at."""

    def __init__(self, folders: Folders, gpu: str | None = None) -> None:
        # Spawned, not forked: an accelerator that the parent has touched cannot be used in a forked process.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.task: Task | None = None
        self.gpu = gpu
        self._runs_dir, self._given = folders.runs, 0.0
        self._process = context.Process(target=_work_off, args=(theirs, folders), daemon=True)
        pinned = {} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu}
        with _environment({**_WORKER_ENVIRONMENT, **pinned}), _interruption_ignored():
            self._process.start()
        # With this end closed here, the end of the process is the end of the connection.
        theirs.close()

    @property
    def is_alive(self) -> bool:
        """Whether it can be given a task."""
        return not self.connection.closed

    def give(self, task: Task) -> None:
        """Let it do a task; there is one at a time."""
        self.task, self._given = task, time.perf_counter()
        # A worker that has died is noticed when its answer is read.
        with suppress(BrokenPipeError):
            self.connection.send((task.kind, task.spec.model_dump_json()))

    def take(self) -> tuple[Task, Status, str, float]:
        """Return the task it is done with, what became of it, a message, and the seconds it took."""
        task, self.task = self.task, None
        try:
            status, message = self.connection.recv()
        except (EOFError, OSError):
            self.end()
            status, message = "failed", f"the worker process ended (exit code {self._process.exitcode})"
            if self._process.exitcode == -signal.SIGKILL:
                message += "; it was killed, perhaps for want of memory: try fewer jobs"
            if task.kind == "run":
                mark_error(self._runs_dir, task.spec.run_id, f"{message}\n")
        return task, status, message, time.perf_counter() - self._given

    def end(self) -> None:
        """End the process, and wait until it is gone."""
        self.connection.close()
        # An idle worker ends by itself; one at a task is stopped, and its checkpoints are whole at any moment.
        if self.task is not None:
            self._process.terminate()
        self._process.join(_SECONDS_TO_END)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _end_with_parent() -> None:
    """Let the kernel end this process when its parent is gone, however that ended; else it would train on alone."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    parent = parent_process()
    if parent is not None and not parent.is_alive():
        sys.exit(1)


def _work_off(connection: Connection, folders: Folders) -> None:
    _end_with_parent()
    warnings.simplefilter("ignore", category=FutureWarning)
    from transformers.utils import logging

    logging.disable_progress_bar()
    # Its own lock is a semaphore, which a worker that is stopped leaves behind, and Python complains of.
    tqdm.set_lock(threading.RLock())
    while True:
        try:
            kind, text = connection.recv()
        except (EOFError, OSError):
            return
        answer = perform(kind, RunSpec.model_validate_json(text), folders)
        with suppress(BrokenPipeError):
            connection.send(answer)


def perform(kind: str, spec: RunSpec, folders: Folders) -> tuple[Status, str]:
    """Do a task in this process, whatever may go wrong in it."""
    from training.grid.bases import pretrain
    from training.grid.run import BusyError, rescore, run
    from training.loop.reporting import Reporting

    # One bar for each worker would overwrite the others'.
    quiet = Reporting(show_progress=False)
    try:
        if kind == "base":
            pretrain(spec, folders.cache, reporting=quiet)
            return "done", ""
        if kind == "score":
            record = rescore(spec, folders.runs, folders.cache, folders.scoring)
            return "done", f"{len(record.scores)} scores"
        reporting = replace(quiet, log_with=folders.log_with, folder=folders.log_dir)
        how = {"scoring": folders.scoring, "is_sharded": folders.is_sharded}
        record = run(spec, folders.runs, folders.cache, reporting=reporting, **how)
    except BusyError as error:
        return "busy", str(error)
    except Exception as error:  # whatever it is, the other runs go on, and this one says what it was
        # Remembered where a run is to be trained; one to be scored has its record, and is simply tried again.
        if kind == "run":
            mark_error(folders.runs, spec.run_id, traceback.format_exc())
        return "failed", last_line(f"{type(error).__name__}: {error}")
    return "done", f"validation loss {record.val_loss:.3f}, base {record.base_val_loss:.3f}"


@contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    before: dict[str, Any] = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextmanager
def _interruption_ignored() -> Iterator[None]:
    # Ctrl-C reaches every process of the terminal, and the parent decides what becomes of its workers. A process that
    # is started now ignores it from its first instant, while it imports too. Handlers belong to the main thread.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@dataclass(frozen=True)
class Outcome:
    """What became of a run."""

    run_id: str
    status: Status
    message: str = ""
    seconds: float = 0.0


def launch(
    specs: Sequence[RunSpec],
    folders: Folders,
    *,
    jobs: int,
    report: Callable[[str], None] = lambda line: None,
    places: Sequence[str | None] | None = None,
) -> tuple[Outcome, ...]:
    """Train runs in worker processes, base models first; finished runs are skipped, failures do not stop the others."""
    missing = [spec for spec in specs if not record_path(folders.runs, spec.run_id).exists()]
    damaged = _damaged(specs, folders.runs)
    if n_finished := len(specs) - len(missing) - len(damaged):
        report(f"{n_finished} of {len(specs)} runs were finished before")
    return _outcomes(specs, damaged, [Task("run", spec) for spec in missing], folders, jobs, report, places)


def launch_scoring(
    specs: Sequence[RunSpec],
    folders: Folders,
    *,
    jobs: int,
    report: Callable[[str], None] = lambda line: None,
) -> tuple[Outcome, ...]:
    """Add the measures that finished runs lack, in worker processes; nothing is trained."""
    runs_dir = folders.runs
    finished = [spec for spec in specs if record_path(runs_dir, spec.run_id).exists()]
    if not finished:
        raise Refusal(f"none of the {len(specs)} runs has a record in {runs_dir}; train them with `grid run` first")
    if len(finished) < len(specs):
        report(f"{len(specs) - len(finished)} of {len(specs)} runs have no record yet and are passed over")
    damaged = _damaged(finished, runs_dir)
    whole = [spec for spec in finished if spec.run_id not in damaged]
    records = {spec.run_id: load(record_path(runs_dir, spec.run_id)) for spec in whole}
    tasks = [Task("score", spec) for spec in whole if is_unscored(records[spec.run_id], folders.scoring)]
    if len(tasks) < len(whole):
        report(f"{len(whole) - len(tasks)} of {len(whole)} records have all of the measures")
    return _outcomes(finished, damaged, tasks, folders, jobs, report)


def _damaged(specs: Sequence[RunSpec], runs_dir: Path) -> dict[str, Outcome]:
    problems = {spec.run_id: damage(runs_dir, spec.run_id) for spec in specs}
    return {run_id: Outcome(run_id, "failed", problem) for run_id, problem in problems.items() if problem}


def _outcomes(
    specs: Sequence[RunSpec],
    damaged: Mapping[str, Outcome],
    tasks: list[Task],
    folders: Folders,
    jobs: int,
    report: Callable[[str], None],
    places: Sequence[str | None] | None = None,
) -> tuple[Outcome, ...]:
    if jobs < 1:
        raise Refusal(f"jobs is {jobs}; give the number of worker processes, from 1 on")
    outcomes = {spec.run_id: damaged.get(spec.run_id, Outcome(spec.run_id, "skipped")) for spec in specs}
    if tasks:
        for folder in (folders.runs, folders.cache):
            require_writable(folder)
        for outcome in _Launch(tasks, folders, jobs, report, places).outcomes():
            outcomes[outcome.run_id] = outcome
    return tuple(outcomes.values())


class _Launch:
    def __init__(
        self,
        tasks: list[Task],
        folders: Folders,
        jobs: int,
        report: Callable[[str], None],
        places: Sequence[str | None] | None = None,
    ) -> None:
        # Largest first: the last task of all should be a short one.
        runs = sorted(tasks, key=_work, reverse=True)
        self._n_runs, self._n_ended = len(runs), 0
        self._waiting: dict[str, list[Task]] = {}
        self._ready: list[Task] = []
        for task in runs:
            if task.kind == "score" or task.spec.size.pretrained is not None:
                self._ready.append(task)
            else:
                self._waiting.setdefault(task.base, []).append(task)
        self._bases = [Task("base", tasks[0].spec) for tasks in self._waiting.values()]
        self._folders, self._report = folders, report
        self._places = (places or (None,) * jobs)[: len(runs)]

    def outcomes(self) -> Iterator[Outcome]:
        workers: list[Worker] = []
        try:
            workers += [Worker(self._folders, gpu) for gpu in self._places]
            while True:
                self._hand_out(workers)
                busy = {worker.connection: worker for worker in workers if worker.task is not None}
                if not busy:
                    return
                for connection in wait(list(busy)):
                    worker = busy[connection]
                    task, status, message, seconds = worker.take()
                    yield from self._ended(task, status, message, seconds)
                    if not worker.is_alive:
                        workers[workers.index(worker)] = Worker(self._folders, worker.gpu)
        finally:
            for worker in workers:
                worker.end()

    def _hand_out(self, workers: "list[Worker]") -> None:
        for worker in workers:
            queue = self._bases or self._ready
            if worker.task is None and queue:
                worker.give(queue.pop(0))

    def _ended(self, task: Task, status: Status, message: str, seconds: float) -> Iterator[Outcome]:
        if task.kind != "base":
            yield self._outcome(task, status, message, seconds)
            return
        self._report(f"{task.name}: {'ready' if status == 'done' else message} ({seconds:.1f} s)")
        dependents = self._waiting.pop(task.base)
        if status == "done":
            self._ready = sorted([*self._ready, *dependents], key=_work, reverse=True)
            return
        for dependent in dependents:
            mark_error(self._folders.runs, dependent.spec.run_id, f"{task.name}: {message}\n")
            yield self._outcome(dependent, "failed", f"{task.name}: {message}", 0.0)

    def _outcome(self, task: Task, status: Status, message: str, seconds: float) -> Outcome:
        self._n_ended += 1
        place = f"[{self._n_ended:{len(str(self._n_runs))}}/{self._n_runs}]"
        self._report(f"{place} {task.name}: {status}, {message} ({seconds:.1f} s)")
        return Outcome(task.spec.run_id, status, message, seconds)


def _work(task: Task) -> tuple[int, int]:
    size = task.spec.size
    return size.n_layers * size.d_model * (size.d_model + size.d_ff), task.spec.schedule.steps
