"""Runs Python programs: one forked process each, from a worker that has imported what programs commonly import."""

import fcntl
import gc
import importlib
import os
import signal
import sys
from contextlib import suppress
from typing import Any, NoReturn

from training.sandbox.confinement import Walls, confine_program, make_filter
from training.sandbox.python_harness import FAILED, OUT_OF_MEMORY, PASSED, hide_worker, run_program
from training.sandbox.supervision import Outcome, Watch

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


class PythonRunner:
    """Forks a contained process for each Python program.

    Parameters
    ----------
    walls : Walls
        The containment that this worker is in already.
    packages : list of str
        Folders of installed packages that programs may import.
    """

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

    def run(self, source: str, test: str, limits: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        """Run one program.

        Parameters
        ----------
        source, test : str
            The program and its test.
        limits : dict
            Fields of `Limits`.

        Returns
        -------
        verdict : dict
            Fields of `Verdict`.
        is_reusable : bool
            Always true: the process of a program is gone when this returns.
        """
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
        status, message = judge(outcome, secret, limits)
        return {
            "status": status,
            "message": message,
            "cpu_seconds": outcome.cpu_seconds,
            "wall_seconds": outcome.wall_seconds,
        }, True

    def close(self) -> None:
        """Nothing is kept between programs."""

    def _become_program(
        self, source: str, test: str, limits: dict[str, Any], reports: int, secret: bytes, parent: int
    ) -> NoReturn:
        try:
            isolate_descriptors({_REPORTS: reports})
            os.chdir(self._walls.folder)
            confine_program(self._walls, self._filter, limits, memory=limits["memory_bytes"], spare=1)
            # A worker that is gone cannot watch; its death before the line above went unnoticed.
            if os.getppid() == parent:
                run_program(source, test, _REPORTS, secret)
        except Exception as error:
            os.write(_REPORTS, NOT_CONTAINED + secret + f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(1)


def isolate_descriptors(kept: dict[int, int]) -> None:
    """Close every descriptor of this process but some; standard ones that are not kept lead nowhere.

    Parameters
    ----------
    kept : dict of int to int
        New number of each descriptor to keep: what is 0, 1 or 2 here is not redirected.
    """
    # Out of the way of every new number first.
    moved = {new: fcntl.fcntl(old, fcntl.F_DUPFD, 16) for new, old in kept.items()}
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nowhere, number)
    for new, old in moved.items():
        os.dup2(old, new)
    os.closerange(max(3, *(new + 1 for new in kept)), os.sysconf("SC_OPEN_MAX"))


def judge(outcome: Outcome, secret: bytes, limits: dict[str, Any]) -> tuple[str, str]:
    """Status and message of a program whose process has ended.

    Parameters
    ----------
    outcome : Outcome
        What was seen of it.
    secret : bytes
        What it must have sent, alone, to have passed.
    limits : dict
        Fields of `Limits`.

    Returns
    -------
    status, message : str
    """
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
