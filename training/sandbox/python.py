"""Runs Python programs: one forked process each, from a worker that has imported what programs commonly import."""

import fcntl
import gc
import importlib
import os
import select
import signal
import stat
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NoReturn

from training.sandbox.confinement import Walls, confine_program, make_filter
from training.sandbox.python_harness import FAILED, OUT_OF_MEMORY, PASSED, hide_worker, run_program

NOT_CONTAINED = b"E"
"""First byte of a report that the program was not started; only what knows the secret can say so."""

SECRET_BYTES = 32
"""Length of the secret that a program has passed."""

_REPORTS = 3

# What most programs import. Every page and every mapped library is paid for by each fork, so what few programs need is
# left to them: `hashlib`, which `secrets` imports, and the library behind it made every program 0.4 ms dearer. Nor
# `threading`, nor what imports it: once it is there, every fork puts its locks in order.
_COMMON_MODULES = """
abc bisect collections collections.abc contextlib copy enum functools heapq io itertools math operator os re string
struct time types typing warnings
"""

# How often, in seconds, folders are measured and processor time is read at the least; entries that are counted.
_FOLDER_PERIOD = 0.05
_LONGEST_WAIT = 0.25
_MAX_SCANNED = 4096
_HANGUP = select.POLLHUP | select.POLLERR


def measure_folder(folder: str) -> tuple[int, int]:
    """Bytes and entries in a folder, counting at most some thousands of entries."""
    if os.path.ismount(folder):
        # A file system of its own: its totals cost the same however much it holds.
        totals = os.statvfs(folder)
        used = (totals.f_blocks - totals.f_bfree) * totals.f_frsize
        return used, max(0, totals.f_files - totals.f_ffree - 1)
    return _scan_folder(folder)


def _scan_folder(folder: str) -> tuple[int, int]:
    n_bytes = n_entries = 0
    waiting = [folder]
    while waiting and n_entries < _MAX_SCANNED:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    n_entries += 1
                    if n_entries >= _MAX_SCANNED:
                        break
                    status = entry.stat(follow_symlinks=False)
                    n_bytes += 512 * status.st_blocks
                    if stat.S_ISDIR(status.st_mode):
                        waiting.append(entry.path)
        except FileNotFoundError:
            # Removed meanwhile.
            continue
        except OSError:
            # Too deep, or closed to us: built to hide what it holds, so it counts as full.
            return n_bytes, _MAX_SCANNED
    return n_bytes, n_entries


def empty_folder(folder: str) -> bool:
    """Remove everything in a folder.

    Symbolic links are removed, never followed; a chain of folders deeper than a path can name is taken apart from its
    top, by moving what lies below up. Nothing may be running that could exchange a folder for a link meanwhile.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        counter = 0
        while names := os.listdir(descriptor):
            for name in names:
                counter = _remove_entry(descriptor, name, counter)
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _remove_entry(parent: int, name: str, counter: int) -> int:
    if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
        os.unlink(name, dir_fd=parent)
        return counter
    os.chmod(name, 0o700, dir_fd=parent)
    inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    try:
        for child in os.listdir(inner):
            if stat.S_ISDIR(os.stat(child, dir_fd=inner, follow_symlinks=False).st_mode):
                counter += 1
                os.chmod(child, 0o700, dir_fd=inner)
                os.rename(child, f".moved-{os.getpid()}-{counter}", src_dir_fd=inner, dst_dir_fd=parent)
            else:
                os.unlink(child, dir_fd=inner)
    finally:
        os.close(inner)
    os.rmdir(name, dir_fd=parent)
    return counter


class HostGone(Exception):
    """Whoever asked for the program is gone: stop it and end."""


@dataclass
class Outcome:
    """What was seen of a process while it ran a program."""

    # What it sent.
    data: bytes = b""
    # Status and message of the limit that it reached; it is dead then.
    stopped: tuple[str, str] | None = None
    # As from `os.wait4`, where it ended.
    exit_status: int | None = None
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0

    def make_verdict(self, status: str, message: str) -> dict[str, Any]:
        """Fields of the `Verdict` of the program."""
        times = {"cpu_seconds": self.cpu_seconds, "wall_seconds": self.wall_seconds}
        return {"status": status, "message": message, **times}


@dataclass
class Watch:
    """A child of this process under watch, with the pipe (not blocking) that it reports on.

    `host` is the stream from whoever asked: when it hangs up, the child is killed.
    """

    pid: int
    reports: int
    folder: str
    host: int = 0
    _exited: int | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._poll = select.poll()
        self._poll.register(self.reports, select.POLLIN)
        self._poll.register(self.host, 0)
        # Not on every system, nor before Linux 5.3; without it, the process is asked now and then.
        self._pidfd = None
        with suppress(AttributeError, OSError):
            self._pidfd = os.pidfd_open(self.pid)
            self._poll.register(self._pidfd, select.POLLIN)

    def close(self) -> None:
        """Give back the descriptors."""
        for descriptor in (self.reports, self._pidfd):
            if descriptor is not None:
                os.close(descriptor)

    def kill(self) -> None:
        """End the process and collect it."""
        if self._exited is None:
            os.kill(self.pid, signal.SIGKILL)
            self._collect(0)

    def read_cpu(self) -> float:
        """Processor time in seconds that the process has used, all threads together."""
        try:
            # The clock of another process: clock_getcpuclockid(3).
            return time.clock_gettime((~self.pid << 3) | 2)
        except OSError:
            return 0.0

    def run(self, limits: dict[str, Any], is_complete: Callable[[bytes], bool], cpu_before: float = 0.0) -> Outcome:
        """Wait until the process ends, reports completely, or reaches a limit; `cpu_before` was used before it."""
        outcome = Outcome()
        begin = time.monotonic()
        next_measure = begin + _FOLDER_PERIOD
        while self._exited is None and not is_complete(outcome.data):
            now = time.monotonic()
            used = self.read_cpu() - cpu_before
            outcome.stopped = self._find_excess(outcome, limits, used, now - begin, now >= next_measure)
            if outcome.stopped:
                outcome.cpu_seconds = used
                self.kill()
                break
            next_measure = now + _FOLDER_PERIOD if now >= next_measure else next_measure
            left = min(limits["wall_seconds"] - (now - begin), next_measure - now, _LONGEST_WAIT)
            # No faster than its processors can use up what is left.
            left = min(left, max(0.002, (limits["cpu_seconds"] - used) / (os.cpu_count() or 1)))
            self._wait(left, outcome)
        if self._exited is not None:
            self._drain(outcome, limits["output_bytes"])
            outcome.exit_status = self._exited
        final = self.read_cpu() if self._exited is None else self._usage.ru_utime + self._usage.ru_stime
        outcome.cpu_seconds = outcome.cpu_seconds or max(0.0, final - cpu_before)
        outcome.wall_seconds = time.monotonic() - begin
        return outcome

    def _find_excess(
        self, outcome: Outcome, limits: dict[str, Any], cpu: float, wall: float, measure: bool
    ) -> tuple[str, str] | None:
        if cpu > limits["cpu_seconds"]:
            return "timeout", f"used more than {limits['cpu_seconds']:g} s of processor time"
        if wall > limits["wall_seconds"]:
            return "timeout", f"took more than {limits['wall_seconds']:g} s"
        if len(outcome.data) > limits["output_bytes"]:
            return "failed", f"sent more than {limits['output_bytes']} bytes"
        if measure:
            n_bytes, n_entries = measure_folder(self.folder)
            if n_bytes > limits["folder_bytes"]:
                return "failed", f"wrote more than {limits['folder_bytes']} bytes"
            if n_entries > limits["files"]:
                return "failed", f"made more than {limits['files']} files"
        return None

    def _wait(self, seconds: float, outcome: Outcome) -> None:
        if self._pidfd is None:
            seconds = min(seconds, 0.005)
        for descriptor, event in self._poll.poll(1000 * max(0.0, seconds)):
            if descriptor == self.host and event & _HANGUP:
                self.kill()
                raise HostGone
            if descriptor == self.reports:
                data = self._read()
                outcome.data += data
                if not data:
                    # Closed before the end: the process may still go on, and is watched without its pipe.
                    self._poll.unregister(self.reports)
        if self._exited is None:
            self._collect(os.WNOHANG)

    def _read(self) -> bytes:
        with suppress(BlockingIOError):
            return os.read(self.reports, 2**16)
        return b""

    def _drain(self, outcome: Outcome, most: int) -> None:
        while len(outcome.data) <= most and (data := self._read()):
            outcome.data += data

    def _collect(self, options: int) -> None:
        pid, status, self._usage = os.wait4(self.pid, options)
        if pid:
            self._exited = status


class PythonRunner:
    """Forks a contained process for each Python program."""

    def __init__(self, walls: Walls, packages: list[str]) -> None:
        self._walls = walls
        self._filter = make_filter(walls)
        for name in _COMMON_MODULES.split():
            with suppress(ImportError):
                importlib.import_module(name)
        # The worker's own code is not for programs; the packages come last, as in a normal interpreter.
        sys.path[:] = [path for path in sys.path[1:] if path not in packages] + packages
        # Here and not in every child, which would have to copy the memory that it frees.
        hide_worker()
        # Nothing of the worker is collected in its children, so they share its memory.
        gc.collect()
        gc.disable()
        gc.freeze()

    def run(self, source: str, test: str, limits: dict[str, Any]) -> dict[str, Any]:
        """Fields of the `Verdict` of a program."""
        secret = os.urandom(SECRET_BYTES)
        ours, theirs = os.pipe()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become_program(source, test, limits, theirs, secret, parent)
        os.close(theirs)
        os.set_blocking(ours, False)
        watch = Watch(pid, ours, self._walls.folder)
        try:
            outcome = watch.run(limits, lambda data: False)
        finally:
            watch.kill()
            watch.close()
        return outcome.make_verdict(*judge(outcome, secret, limits))

    def close(self) -> None:
        """Nothing is kept between programs."""

    def _become_program(
        self, source: str, test: str, limits: dict[str, Any], reports: int, secret: bytes, parent: int
    ) -> NoReturn:
        end, has_begun = os._exit, False
        try:
            isolate_descriptors({_REPORTS: reports})
            os.chdir(self._walls.folder)
            confine_program(self._walls, self._filter, limits, memory=limits["memory_bytes"], spare=1)
            # A worker that is gone cannot watch; its death before the line above went unnoticed.
            if os.getppid() == parent:
                has_begun = True
                run_program(source, test, _REPORTS, secret)
        except Exception as error:
            # Later on, even `os.write` may be the program's, which would be handed the secret.
            if not has_begun:
                os.write(_REPORTS, NOT_CONTAINED + secret + f"{type(error).__name__}: {error}".encode())
        finally:
            end(1)


def isolate_descriptors(kept: dict[int, int]) -> None:
    """Close every descriptor but those kept, {new number: old}; standard ones among the closed lead nowhere."""
    # Out of the way of every new number first.
    moved = {new: fcntl.fcntl(old, fcntl.F_DUPFD, 16) for new, old in kept.items()}
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nowhere, number)
    for new, old in moved.items():
        os.dup2(old, new)
    os.closerange(max(3, *(new + 1 for new in kept)), os.sysconf("SC_OPEN_MAX"))


def judge(outcome: Outcome, secret: bytes, limits: dict[str, Any]) -> tuple[str, str]:
    """Status and message of a program whose process has ended."""
    if outcome.stopped:
        return outcome.stopped
    ended = os.waitstatus_to_exitcode(outcome.exit_status)
    if ended < 0:
        if -ended == signal.SIGXCPU or (-ended == signal.SIGKILL and outcome.cpu_seconds >= limits["cpu_seconds"]):
            return "timeout", f"used more than {limits['cpu_seconds']:g} s of processor time"
        return "failed", f"killed by {_name_signal(-ended)}"
    if outcome.data == PASSED + secret and ended == 0:
        return "passed", ""
    if outcome.data.startswith(NOT_CONTAINED + secret):
        return "error", outcome.data[1 + len(secret) :].decode("utf-8", "replace")
    kind, text = outcome.data[:1], outcome.data[1:].decode("utf-8", "replace")
    if kind in (FAILED, OUT_OF_MEMORY):
        return "memory" if kind == OUT_OF_MEMORY else "failed", text
    if outcome.data:
        return "failed", "wrote to the channel of the harness"
    return "failed", f"ended with exit code {ended} before the end of its test"


def _name_signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
