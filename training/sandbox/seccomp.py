"""The filter of system calls: a BPF program built here and handed to the kernel, without root and without libraries."""

import ctypes
import errno
import os
import struct
from dataclasses import dataclass

from training.sandbox.syscalls import ARCHITECTURES, EXEC, find_numbers

# linux/bpf_common.h and linux/seccomp.h
_LOAD, _AND, _JUMP_IF_EQUAL, _JUMP_FROM, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER_OFFSET, _ARCHITECTURE_OFFSET, _ARGUMENTS_OFFSET = 0, 4, 16
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2

# A new thread shares its group (CLONE_THREAD) and opens no name space (CLONE_NEW*).
_CLONE_THREAD, _CLONE_NEW = 0x00010000, 0x7E020080
_PID = object()

# Of fcntl: nothing that names a process to be signalled (F_SETOWN, F_SETSIG), no leases or notifications.
_FCNTL = (0, 1, 2, 3, 4, 5, 6, 7, 1030, 1032)
# Of ioctl: TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX; not FIOSETOWN, TIOCSTI or devices.
_IOCTL = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
# Of prctl: names of threads and of memory (PR_SET_NAME, PR_GET_NAME, PR_SET_VMA).
_PRCTL = (15, 16, 0x53564D41)

# Calls allowed with some arguments only: (argument, allowed values of its low word). Where the kernel reads an `int`,
# the high word is not looked at by it and need not be by us.
_ALLOWED_VALUES = {
    "kill": [(0, (_PID,))],
    "tgkill": [(0, (_PID,))],
    "prlimit64": [(0, (0, _PID))],
    "fcntl": [(1, _FCNTL)],
    "ioctl": [(1, _IOCTL)],
    "prctl": [(0, _PRCTL)],
    # AF_UNIX, SOCK_STREAM with or without SOCK_NONBLOCK and SOCK_CLOEXEC: connected for good.
    "socketpair": [(0, (1,)), (1, (0x1, 0x801, 0x80001, 0x80801))],
    # `send` is `sendto` without an address; the address is a pointer, so both words count.
    "sendto": [(4, (0,)), (4.5, (0,))],
}


@dataclass(frozen=True)
class Filter:
    """A filter with blanks for the process that it will hold.

    Attributes
    ----------
    code : bytes
        Instructions of the BPF program.
    pid_offsets : tuple of int
        Where the identifier of the process goes.
    """

    code: bytes
    pid_offsets: tuple[int, ...]

    def fill(self, pid: int) -> bytes:
        """Instructions for one process.

        Parameters
        ----------
        pid : int
            The only process that it may signal: itself.

        Returns
        -------
        bytes
        """
        code = bytearray(self.code)
        for offset in self.pid_offsets:
            struct.pack_into("=I", code, offset, pid)
        return bytes(code)


def build_filter(machine: str | None = None, *, may_exec: bool = False) -> Filter:
    """The filter for a machine.

    Parameters
    ----------
    machine : str, optional
        As `os.uname()` names it; this one by default.
    may_exec : bool
        Whether the process may still become another program (never: start one).

    Returns
    -------
    Filter
    """
    machine = machine or os.uname().machine
    numbers = find_numbers(machine)
    if not may_exec:
        numbers.pop(EXEC)
    steps: list[tuple] = [
        (_LOAD, 0, 0, _ARCHITECTURE_OFFSET),
        (_JUMP_IF_EQUAL, 1, 0, ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_OFFSET),
    ]
    steps += _search(_make_ranges(numbers))
    offsets = tuple(8 * index + 4 for index, step in enumerate(steps) if step[3] is _PID)
    code = b"".join(struct.pack("=HBBI", *step[:3], 0 if step[3] is _PID else step[3]) for step in steps)
    return Filter(code, offsets)


def _make_ranges(numbers: dict[str, int]) -> list[tuple[int, list[tuple]]]:
    """What to do with every number there is: (first number, steps), each valid up to the next one's first."""
    # "No such call" makes the C library fall back on calls that it knows (clone3 to clone); "not permitted" would not.
    unknown = [(_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]
    bodies = {number: [*_check_arguments(name), (_RETURN, 0, 0, _ALLOW)] for name, number in numbers.items()}
    ranges: list[tuple[int, list[tuple]]] = [(0, bodies.get(0, unknown))]
    for first in sorted({first for number in bodies for first in (number, number + 1)} - {0}):
        body = bodies.get(first, unknown)
        if body != ranges[-1][1]:
            ranges.append((first, body))
    return ranges


def _search(ranges: list[tuple[int, list[tuple]]]) -> list[tuple]:
    """Steps that find the range of a number by halves.

    When a filter is installed, the kernel runs it for every call there is; a list that is gone through one by one makes
    that the most expensive part of starting a program.
    """
    if len(ranges) == 1:
        return ranges[0][1]
    middle = len(ranges) // 2
    below, above = _search(ranges[:middle]), _search(ranges[middle:])
    return [(_JUMP_FROM, len(below), 0, ranges[middle][0]), *below, *above]


def _check_arguments(name: str) -> list[tuple]:
    refuse = (_RETURN, 0, 0, _ERRNO | errno.EPERM)
    if name == "clone":
        flags = (_LOAD, 0, 0, _ARGUMENTS_OFFSET)
        mask = (_AND, 0, 0, _CLONE_THREAD | _CLONE_NEW)
        return [flags, mask, (_JUMP_IF_EQUAL, 1, 0, _CLONE_THREAD), refuse]
    steps: list[tuple] = []
    for argument, values in _ALLOWED_VALUES.get(name, []):
        steps.append((_LOAD, 0, 0, _ARGUMENTS_OFFSET + int(8 * argument)))
        # Each match jumps over the remaining comparisons and the refusal.
        steps += [(_JUMP_IF_EQUAL, len(values) - i, 0, value) for i, value in enumerate(values)]
        steps.append(refuse)
    return steps


class PreparedFilter:
    """A filter in the memory that the kernel reads it from, so that little is left to do for each process.

    Parameters
    ----------
    blank : Filter
        The filter.
    """

    def __init__(self, blank: Filter) -> None:
        size = len(blank.code)
        self._pid_offsets = blank.pid_offsets
        self._text = ctypes.create_string_buffer(blank.code, size)
        header = struct.pack("@HxxxxxxP", size // 8, ctypes.addressof(self._text))
        self._header = ctypes.create_string_buffer(header, len(header))
        self._prctl = _LIBC.prctl

    def install(self, pid: int) -> None:
        """Put the filter on this process for good. It needs `no_new_privs`, and only one thread.

        Parameters
        ----------
        pid : int
            This process.

        Raises
        ------
        OSError
            If the kernel has no filters.
        """
        for offset in self._pid_offsets:
            struct.pack_into("=I", self._text, offset, pid)
        if self._prctl(_PR_SET_SECCOMP, _MODE_FILTER, self._header, 0, 0):
            number = ctypes.get_errno()
            raise OSError(number, f"the kernel refused the seccomp filter: {os.strerror(number)}")


_LIBC = ctypes.CDLL(None, use_errno=True)
