"""Worker processes that train or score one run after the other; only they import torch.

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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from training.spec.files import last_line, mark_error
from training.spec.run import RunSpec
from training.suite.request import Scoring

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


@dataclass(frozen=True)
class Task:
    """One thing to do: train a base model, train a run, or score one.

    Attributes
    ----------
    kind : {"base", "run", "score"}
        Which of these.
    spec : RunSpec
        The run; for a base, any of those that share it.
    """

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
    scoring: Scoring | None
    log_with: tuple[str, ...] = ()
    log_dir: Path | None = None


class Worker:
    """One worker process, and the task it is at.

    Parameters
    ----------
    folders : Folders
        What its tasks share.
    gpu : str, optional
        The GPU that the process sees, as CUDA_VISIBLE_DEVICES names it; all without it.

    Attributes
    ----------
    connection : Connection
        Where its answers arrive.
    task : Task or None
        What it is at.
    """

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


def _work_off(connection: Connection, folders: Folders) -> None:
    warnings.simplefilter("ignore", category=FutureWarning)
    from transformers.utils import logging

    logging.disable_progress_bar()
    while True:
        try:
            kind, text = connection.recv()
        except (EOFError, OSError):
            return
        answer = perform(kind, RunSpec.model_validate_json(text), folders)
        with suppress(BrokenPipeError):
            connection.send(answer)


def perform(kind: str, spec: RunSpec, folders: Folders) -> tuple[Status, str]:
    """Do a task in this process, whatever may go wrong in it.

    Parameters
    ----------
    kind : {"base", "run", "score"}
        What to do.
    spec : RunSpec
        The run.
    folders : Folders
        Where its files are, and the measures that are wanted.

    Returns
    -------
    status : {"done", "failed", "busy"}
        What became of it.
    message : str
        Losses of a run, or the last line of a failure, which is also kept beside the run's checkpoints.
    """
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
            record = rescore(spec, folders.runs, folders.cache, folders.scoring or Scoring())
            return "done", f"{len(record.scores)} scores"
        reporting = replace(quiet, log_with=folders.log_with, folder=folders.log_dir)
        record = run(spec, folders.runs, folders.cache, reporting=reporting, scoring=folders.scoring)
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
