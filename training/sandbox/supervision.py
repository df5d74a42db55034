"""Watching a process while it runs a program, and stopping it at the first limit that it reaches."""

import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from training.sandbox.folders import measure_folder

# How often, in seconds, folders are measured and processor time is read at the least.
_FOLDER_PERIOD = 0.05
_LONGEST_WAIT = 0.25
_HANGUP = select.POLLHUP | select.POLLERR


class HostGone(Exception):
    """Whoever asked for the program is gone: stop it and end."""


@dataclass
class Outcome:
    """What was seen of a process while it ran a program.

    Attributes
    ----------
    data : bytes
        What it sent.
    stopped : tuple of (str, str) or None
        Status and message of the limit that it reached; it is dead then.
    exit_status : int or None
        As from `os.wait4`, where it ended.
    cpu_seconds, wall_seconds : float
        Processor time used meanwhile, and time on the clock.
    """

    data: bytes = b""
    stopped: tuple[str, str] | None = None
    exit_status: int | None = None
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0


@dataclass
class Watch:
    """A process under watch, with the pipe that it reports on.

    Attributes
    ----------
    pid : int
        The process, a child of this one.
    reports : int
        Read end of its pipe, not blocking.
    folder : str
        The folder that it may write in.
    host : int
        Stream from whoever asked: when it hangs up, the process is killed.
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
        # Not on every system; without it, the process is asked now and then.
        self._pidfd = os.pidfd_open(self.pid) if hasattr(os, "pidfd_open") else None
        if self._pidfd is not None:
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
        """Wait until the process ends, reports completely, or reaches a limit.

        Parameters
        ----------
        limits : dict
            Fields of `Limits`.
        is_complete : callable
            Whether what it sent is a complete report.
        cpu_before : float
            Processor time in seconds that it had used before the program.

        Returns
        -------
        Outcome

        Raises
        ------
        HostGone
            If nobody waits for the outcome any more; the process is dead then.
        """
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
        outcome.cpu_seconds = outcome.cpu_seconds or max(0.0, self._final_cpu() - cpu_before)
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

    def _final_cpu(self) -> float:
        return self.read_cpu() if self._exited is None else self._usage.ru_utime + self._usage.ru_stime
