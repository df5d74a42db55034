"""A grid on one machine: worker processes that train one run after the other. torch is imported in the workers only.

Importing the libraries takes as long as the smallest runs, so a worker stays for as many runs as there are. Each has
one thread: several threads that share a busy machine's cores wait for each other most of the time.
"""

import multiprocessing
import os
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Literal

from training.config import RunSpec
from training.run_files import last_line, mark_error, record_path

Status = Literal["done", "skipped", "failed", "busy"]

# Set before a worker starts, because the libraries read them at import.
_WORKER_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
_SECONDS_TO_END = 10


@dataclass(frozen=True)
class Outcome:
    """What became of a run.

    Attributes
    ----------
    run_id : str
        The run.
    status : {"done", "skipped", "failed", "busy"}
        Whether it was trained now, was finished before, failed, or is being trained by another process.
    message : str
        Losses of a finished run; the last line of a failure.
    seconds : float
        Time it took here.
    """

    run_id: str
    status: Status
    message: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class _Task:
    kind: Literal["base", "run"]
    spec: RunSpec

    @property
    def base(self) -> str:
        """What the runs of one base have in common."""
        shared = {"size", "pretraining", "loop", "data", "seed", "n_validation"}
        return self.spec.model_dump_json(include=shared)

    @property
    def name(self) -> str:
        """What progress calls it."""
        return self.spec.run_id if self.kind == "run" else f"base {self.spec.size.name}, seed {self.spec.seed}"


def launch(
    specs: Sequence[RunSpec],
    runs_dir: str | Path,
    cache_dir: str | Path,
    *,
    jobs: int,
    report: Callable[[str], None] = lambda line: None,
) -> tuple[Outcome, ...]:
    """Train runs in worker processes, base models first; finished runs are skipped, failures do not stop the others.

    Parameters
    ----------
    specs : sequence of RunSpec
        The runs.
    runs_dir, cache_dir : str or Path
        Folders of records and of base models.
    jobs : int
        Worker processes.
    report : callable, optional
        Is given a line of progress at a time.

    Returns
    -------
    tuple of Outcome
        One for each run, in the order given.

    Raises
    ------
    ValueError
        If ``jobs`` is not positive.
    KeyboardInterrupt
        After Ctrl-C, when the workers have ended. What they were at goes on from its last checkpoint the next time.
    """
    if jobs < 1:
        raise ValueError(f"jobs is {jobs}; give the number of worker processes, from 1 on")
    outcomes = {spec.run_id: Outcome(spec.run_id, "skipped") for spec in specs}
    missing = [spec for spec in specs if not record_path(runs_dir, spec.run_id).exists()]
    if len(missing) < len(specs):
        report(f"{len(specs) - len(missing)} of {len(specs)} runs were finished before")
    if missing:
        for outcome in _Launch(missing, Path(runs_dir), Path(cache_dir), jobs, report).outcomes():
            outcomes[outcome.run_id] = outcome
    return tuple(outcomes.values())


class _Launch:
    def __init__(
        self, specs: list[RunSpec], runs_dir: Path, cache_dir: Path, jobs: int, report: Callable[[str], None]
    ) -> None:
        # Largest first: the last task of all should be a short one.
        runs = sorted((_Task("run", spec) for spec in specs), key=_work, reverse=True)
        self._n_runs, self._n_ended = len(runs), 0
        self._waiting: dict[str, list[_Task]] = {}
        self._ready: list[_Task] = []
        for task in runs:
            if task.spec.size.pretrained is not None:
                self._ready.append(task)
            else:
                self._waiting.setdefault(task.base, []).append(task)
        self._bases = [_Task("base", tasks[0].spec) for tasks in self._waiting.values()]
        self._folders, self._jobs, self._report = (runs_dir, cache_dir), min(jobs, len(runs)), report

    def outcomes(self) -> Iterator[Outcome]:
        workers: list[_Worker] = []
        try:
            workers += [_Worker(*self._folders) for _ in range(self._jobs)]
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
                        workers[workers.index(worker)] = _Worker(*self._folders)
        finally:
            for worker in workers:
                worker.end()

    def _hand_out(self, workers: "list[_Worker]") -> None:
        for worker in workers:
            queue = self._bases or self._ready
            if worker.task is None and queue:
                worker.give(queue.pop(0))

    def _ended(self, task: _Task, status: Status, message: str, seconds: float) -> Iterator[Outcome]:
        if task.kind == "run":
            yield self._outcome(task, status, message, seconds)
            return
        self._report(f"{task.name}: {'ready' if status == 'done' else message} ({seconds:.1f} s)")
        dependents = self._waiting.pop(task.base)
        if status == "done":
            self._ready = sorted([*self._ready, *dependents], key=_work, reverse=True)
            return
        for dependent in dependents:
            mark_error(self._folders[0], dependent.spec.run_id, f"{task.name}: {message}\n")
            yield self._outcome(dependent, "failed", f"{task.name}: {message}", 0.0)

    def _outcome(self, task: _Task, status: Status, message: str, seconds: float) -> Outcome:
        self._n_ended += 1
        place = f"[{self._n_ended:{len(str(self._n_runs))}}/{self._n_runs}]"
        self._report(f"{place} {task.name}: {status}, {message} ({seconds:.1f} s)")
        return Outcome(task.spec.run_id, status, message, seconds)


class _Worker:
    """One worker process, and the task it is at."""

    def __init__(self, runs_dir: Path, cache_dir: Path) -> None:
        # Spawned, not forked: an accelerator that the parent has touched cannot be used in a forked process.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.task: _Task | None = None
        self._runs_dir, self._given = runs_dir, 0.0
        self._process = context.Process(target=_work_off, args=(theirs, runs_dir, cache_dir), daemon=True)
        with _environment(_WORKER_ENVIRONMENT), _interruption_ignored():
            self._process.start()
        # With this end closed here, the end of the process is the end of the connection.
        theirs.close()

    @property
    def is_alive(self) -> bool:
        return not self.connection.closed

    def give(self, task: _Task) -> None:
        self.task, self._given = task, time.perf_counter()
        # A worker that has died is noticed when its answer is read.
        with suppress(BrokenPipeError):
            self.connection.send((task.kind, task.spec.model_dump_json()))

    def take(self) -> tuple[_Task, Status, str, float]:
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
        self.connection.close()
        # An idle worker ends by itself; one at a task is stopped, and its checkpoints are whole at any moment.
        if self.task is not None:
            self._process.terminate()
        self._process.join(_SECONDS_TO_END)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _work_off(connection: Connection, runs_dir: Path, cache_dir: Path) -> None:
    warnings.simplefilter("ignore", category=FutureWarning)
    from transformers.utils import logging

    logging.disable_progress_bar()
    while True:
        try:
            kind, text = connection.recv()
        except (EOFError, OSError):
            return
        answer = _answer(kind, RunSpec.model_validate_json(text), runs_dir, cache_dir)
        with suppress(BrokenPipeError):
            connection.send(answer)


def _answer(kind: str, spec: RunSpec, runs_dir: Path, cache_dir: Path) -> tuple[Status, str]:
    from training.bases import pretrain
    from training.reporting import Reporting
    from training.run import BusyError, run

    # One bar for each worker would overwrite the others'.
    quiet = Reporting(show_progress=False)
    try:
        if kind == "base":
            pretrain(spec, cache_dir, reporting=quiet)
            return "done", ""
        record = run(spec, runs_dir, cache_dir, reporting=quiet)
    except BusyError as error:
        return "busy", str(error)
    except Exception as error:  # whatever it is, the other runs go on, and this one says what it was
        if kind == "run":
            mark_error(runs_dir, spec.run_id, traceback.format_exc())
        return "failed", last_line(f"{type(error).__name__}: {error}")
    return "done", f"validation loss {record.val_loss:.3f}, base {record.base_val_loss:.3f}"


def _work(task: _Task) -> tuple[int, int]:
    size = task.spec.size
    return size.n_layers * size.d_model * (size.d_model + size.d_ff), task.spec.schedule.steps


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
