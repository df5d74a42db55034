"""Walls that a worker puts around itself before it touches any program, and those around each program."""

import ctypes
import os
import resource
import signal
import sys
from dataclasses import dataclass
from typing import Any

from training.sandbox import landlock
from training.sandbox.seccomp import PreparedFilter, build_filter

# linux/prctl.h
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 36, 38

DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
"""What a program may open outside its folder besides the interpreter's files."""

UNLIMITED = resource.RLIM_INFINITY

_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Walls:
    """What a worker is told about its containment.

    Attributes
    ----------
    backend : {"bubblewrap", "landlock+seccomp", "unsafe"}
        What holds it.
    readable : tuple of str
        Paths that the interpreter needs.
    folder : str
        The folder of its programs.
    user : int or None
        Unprivileged user to become, where it was started by root.
    processes : int
        Processes and threads that its user has besides the program's.
    """

    backend: str
    readable: tuple[str, ...]
    folder: str
    user: int | None
    processes: int

    @property
    def is_safe(self) -> bool:
        """Whether there are walls at all."""
        return self.backend != "unsafe"


def confine_worker(walls: Walls) -> None:
    """Drop every privilege and close the file system but for what the interpreter needs.

    Parameters
    ----------
    walls : Walls
        What to set up.

    Raises
    ------
    OSError
        If any of it cannot be had: a worker that is not contained does not start.
    """
    if not walls.is_safe:
        return
    if walls.user is not None:
        os.setgroups([])
        os.setresgid(walls.user, walls.user, walls.user)
        os.setresuid(walls.user, walls.user, walls.user)
    if 0 in (*os.getresuid(), *os.getresgid()):
        raise PermissionError("the worker still runs as root after dropping its privileges")
    # After the change of user, which would clear it. A worker never outlives what started it.
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    if walls.backend != "bubblewrap" or landlock.find_version() >= landlock.LEAST_VERSION:
        landlock.restrict_files(walls.readable, DEVICES, walls.folder)


def make_filter(walls: Walls, *, may_exec: bool = False) -> PreparedFilter | None:
    """The filter for programs, made once.

    Parameters
    ----------
    walls : Walls
        The worker's containment.
    may_exec : bool
        Whether the process still has to become its interpreter.

    Returns
    -------
    PreparedFilter or None
        None where programs run without walls.
    """
    return PreparedFilter(build_filter(may_exec=may_exec)) if walls.is_safe else None


def confine_program(
    walls: Walls, blank: PreparedFilter | None, limits: dict[str, Any], *, memory: int, spare: int
) -> None:
    """The last thing a new process does before it hands itself over to a program.

    Parameters
    ----------
    walls : Walls
        The worker's containment.
    blank : PreparedFilter or None
        From `make_filter`.
    limits : dict
        Fields of `Limits`.
    memory : int
        Address space in bytes.
    spare : int
        Threads that the interpreter needs for itself.
    """
    threads = walls.processes + spare + limits["threads"]
    kernel_limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: limits["file_bytes"],
        resource.RLIMIT_NOFILE: limits["open_files"],
        resource.RLIMIT_AS: memory,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_SIGPENDING: 1024,
    }
    if walls.is_safe:
        kernel_limits[resource.RLIMIT_NPROC] = threads
    # The worker watches the processor time; this one ends what a worker that is gone cannot.
    if limits.get("cpu_seconds"):
        kernel_limits[resource.RLIMIT_CPU] = int(limits["cpu_seconds"]) + 2
    for name, value in kernel_limits.items():
        _lower_limit(name, value)
    os.umask(0o077)
    if blank is not None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        blank.install(os.getpid())


def _lower_limit(name: int, value: int) -> None:
    ceiling = resource.getrlimit(name)[1]
    value = value if ceiling == UNLIMITED else min(value, ceiling)
    try:
        resource.setrlimit(name, (value, value))
    except (OSError, ValueError):
        # Systems other than Linux refuse some of them; there programs run without walls only.
        if sys.platform == "linux":
            raise


def _prctl(option: int, value: int) -> None:
    if _LIBC.prctl(option, value, 0, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, f"prctl {option} was refused: {os.strerror(number)}")
