"""Where the files of a run lie, and what they tell about it.

Records lie in the folder of their grid; what a run needs to go on lies in the hidden folder ``.work/<run_id>`` beside
them, which readers of records pass over, and which goes away when the record is there.
"""

import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar, Literal, Self

from astraios_analysis.records.frame import load
from astraios_analysis.records.reading import read_json
from astraios_analysis.records.refusal import Refusal

State = Literal["done", "damaged", "running", "failed", "partial", "missing"]

STATES: tuple[State, ...] = ("done", "damaged", "running", "failed", "partial", "missing")
"""States of a run. A partial one was interrupted after a checkpoint, and goes on from there."""

DIVERGED_FILE = "failed.json"
"""Written by the training loop when a run diverges."""

_ERROR_FILE = "error.txt"
# `run_state` holds a lock for an instant: who does not want to wait for a run still waits that long.
_ATTEMPTS, _PAUSE = 5, 0.05


class JournalError(Refusal):
    """A journal cannot be written, or another process writes it; the message says what is kept and what to do."""


class Journal:
    """A file of JSON lines: first what they hold for, then values as they come. Use it as a context manager.

    Whoever opens it again for the same subject finds the values in it, and goes on after the last whole line.
    """

    CONTENT: ClassVar[str] = "lines"
    WORK: ClassVar[str] = "writing the same file"

    def __init__(self, path: Path, subject: Mapping[str, Any], *, is_fresh: bool = False) -> None:
        header = json.dumps(subject, sort_keys=True)
        self.path, self._size, self._n_values = path, 0, 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise JournalError(f"{path}: cannot be opened ({error}); name a writable folder") from error
        try:
            if not _lock_soon(self._descriptor):
                raise JournalError(f"{path}: another process is {self.WORK}; wait until it is done")
            first, *lines = path.read_bytes().split(b"\n")[:-1] or [b""]
            if is_fresh or first != header.encode():
                lines = []
                os.ftruncate(self._descriptor, 0)
                self._append(header)
            else:
                # A last line that was not finished is cut off.
                self._size = len(first) + 1 + sum(len(line) + 1 for line in lines)
                os.ftruncate(self._descriptor, self._size)
            for line in lines:
                # What is damaged is found out again.
                with suppress(ValueError, TypeError, KeyError):
                    self._take(json.loads(line))
                    self._n_values += 1
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        os.close(self._descriptor)

    def _take(self, value: Any) -> None:
        """Keep a value that the file has; raise an error where it is none."""

    def _write(self, value: Any) -> None:
        """Write a value down, and keep it."""
        self._append(json.dumps(value))
        self._take(value)
        self._n_values += 1

    def _append(self, line: str) -> None:
        data = line.encode() + b"\n"
        try:
            n_written = os.write(self._descriptor, data)
            if n_written < len(data):
                # A full disk may take a part; the attempt to write the rest says why.
                os.write(self._descriptor, data[n_written:])
        except OSError as error:
            os.ftruncate(self._descriptor, self._size)
            raise JournalError(
                f"{self.path}: cannot be written ({error.strerror}); the {self._n_values} {self.CONTENT} in it are "
                "kept: free some space, and the same command goes on"
            ) from error
        self._size += len(data)


@dataclass(frozen=True)
class RunState:
    """State of a run, and in words what more is known: steps taken, or why it failed."""

    state: State
    detail: str = ""
    is_divergence: bool = False


def record_path(runs_dir: str | Path, run_id: str) -> Path:
    """Return the file of a run's record."""
    return Path(runs_dir) / f"{run_id}.json"


def work_folder(runs_dir: str | Path, run_id: str) -> Path:
    """Return the folder of a run's checkpoints while it is not finished."""
    return Path(runs_dir) / ".work" / run_id


def run_lock(runs_dir: str | Path, run_id: str) -> Path:
    """Return the lock file that a run holds while it goes on."""
    return Path(runs_dir) / ".work" / f"{run_id}.lock"


@contextmanager
def exclusive(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold a lock file against all other processes, and yield whether it is held; always so with ``wait``.

    The system lifts the lock however this process ends. The file stays behind, empty: without it a third process could
    get in beside a second that waits.
    """
    with _opened(path) as file:
        if wait:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield True
        else:
            yield _lock_soon(file.fileno())


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a new folder to fill, which takes its name, and another's place, when all of it is on the disk."""
    partial = folder.with_name(f".writing-{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    flush(*partial.rglob("*"), partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def flush(*paths: Path) -> None:
    """Let files and folders be on the disk, in this order."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def clear_work(runs_dir: str | Path, run_id: str) -> None:
    """Remove what a finished run kept to go on; also its lock file, which guards nothing once the record is there."""
    shutil.rmtree(work_folder(runs_dir, run_id), ignore_errors=True)
    lock = run_lock(runs_dir, run_id)
    lock.unlink(missing_ok=True)
    # Other runs of the grid may have something there.
    with suppress(OSError):
        lock.parent.rmdir()


def mark_error(runs_dir: str | Path, run_id: str, text: str) -> None:
    """Write down why a run stopped, where there is room for it; the last line is what `run_state` shows."""
    folder = work_folder(runs_dir, run_id)
    # What is written here is told to the user as well: a full disk must not stop the other runs.
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _ERROR_FILE).write_text(text, "utf-8")


def clear_error(runs_dir: str | Path, run_id: str) -> None:
    """Remove what `mark_error` wrote: the run is tried again."""
    (work_folder(runs_dir, run_id) / _ERROR_FILE).unlink(missing_ok=True)


def clear_failure(runs_dir: str | Path, run_id: str) -> None:
    """Forget that a run failed, and that it diverged; its checkpoints stay."""
    clear_error(runs_dir, run_id)
    (work_folder(runs_dir, run_id) / DIVERGED_FILE).unlink(missing_ok=True)


def divergence(folder: Path) -> dict[str, Any] | None:
    """Return what `DIVERGED_FILE` says, None where there is none."""
    path = folder / DIVERGED_FILE
    if not path.exists():
        return None
    try:
        found = read_json(path)
        return {"reason": str(found["reason"]), "identity": found["identity"]}
    except (ValueError, KeyError) as error:
        raise Refusal(f"why a run failed cannot be read ({error}); delete {path} to try it again") from error


def run_state(runs_dir: str | Path, run_id: str) -> RunState:
    """Return the state of a run as its files tell it."""
    if record_path(runs_dir, run_id).exists():
        problem = damage(runs_dir, run_id)
        return RunState("done") if problem is None else RunState("damaged", problem)
    folder = work_folder(runs_dir, run_id)
    n_steps = max(checkpoints_in(folder), default=0)
    reached = f"{n_steps} steps saved" if n_steps else ""
    if _is_held(run_lock(runs_dir, run_id)):
        return RunState("running", reached)
    error, diverged = folder / _ERROR_FILE, folder / DIVERGED_FILE
    if error.exists():
        reason = last_line(error.read_text("utf-8")) or "no room was left to write down why"
        return RunState("failed", reason, is_divergence=diverged.exists())
    if diverged.exists():
        try:
            reason = divergence(folder)["reason"]
        except Refusal as damaged:
            reason = str(damaged)
        return RunState("failed", reason, is_divergence=True)
    return RunState("partial", reached) if n_steps else RunState("missing")


def damage(runs_dir: str | Path, run_id: str) -> str | None:
    """Return why a run's record, where there is one, cannot be read, and what to do; None where nothing is wrong."""
    try:
        if record_path(runs_dir, run_id).exists():
            load(record_path(runs_dir, run_id))
    except ValueError as error:
        return f"{str(error).splitlines()[0]}; delete the file to train the run again"
    return None


def require_writable(folder: str | Path) -> None:
    """Refuse a folder in which nothing can be written, before anything is computed for it."""
    probe = Path(folder) / f".writable-{os.getpid()}"
    try:
        probe.parent.mkdir(parents=True, exist_ok=True)
        with probe.open("wb") as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise Refusal(f"{folder} cannot be written: {error.strerror}; make room, or name another folder") from error
    finally:
        with suppress(OSError):
            probe.unlink()


def last_line(text: str) -> str:
    """Return the last line of a text that is not empty."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def _opened(path: Path) -> IO[str]:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The last run of another process may remove the folder at this very moment.
        with suppress(FileNotFoundError):
            return path.open("w")


def _lock_soon(descriptor: int) -> bool:
    for _ in range(_ATTEMPTS):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_PAUSE)
        else:
            return True
    return False


def checkpoints_in(folder: Path) -> dict[int, Path]:
    """Return the checkpoints in a run's work folder by their steps, in order."""
    found = [path for path in folder.glob("step-*") if re.fullmatch(r"step-\d+", path.name) and path.is_dir()]
    return dict(sorted((int(path.name.removeprefix("step-")), path) for path in found))


def _is_held(path: Path) -> bool:
    # Shared, and given back at once: a run that starts this very moment asks again.
    try:
        with path.open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
