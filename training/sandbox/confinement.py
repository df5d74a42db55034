"""Walls that a worker puts around itself before it touches any program, and those around each program.

Three kinds: a change of user with no new privileges, Landlock's limits on files, and a filter of system calls - a BPF
program built here and handed to the kernel, without root and without libraries. Beside them the kernel's own limits.
"""

import ctypes
import errno
import os
import resource
import signal
import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = ctypes.c_long

# linux/prctl.h
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 22, 36, 38

# What a program may open outside its folder besides the interpreter's files.
_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")

# System calls that a program may make; everything else is answered as if the kernel did not know it. An allow-list, so
# that what later kernels add is shut out until somebody looks at it. What is deliberately absent:
# - processes: fork, vfork, clone3, execve (allowed to a JVM at its start, see EXEC), ptrace, process_vm_*, pidfd_*,
#   kcmp, tkill, rt_sigqueueinfo, setsid, sched_set*, setpriority;
# - sockets: socket, bind, connect, listen, accept, sendmsg (an unconnected Unix socket could be aimed at an abstract
#   address), io_uring_* (it would make calls unseen by the filter);
# - memory that outlives a program or escapes its limits: memfd_create, shmget, msgget, semget, mq_open;
# - attributes of files, which Landlock does not govern: chmod, chown, utimensat, setxattr;
# - the kernel's own: mount, bpf, keyctl, perf_event_open, userfaultfd, unshare, setns, personality, ...
# Numbers of x86-64 (arch/x86/entry/syscalls/syscall_64.tbl) and aarch64 (include/uapi/asm-generic/unistd.h).
_NUMBERS = """
read 0 63, write 1 64, close 3 57, open 2 -, openat 257 56, creat 85 -, lseek 8 62, pread64 17 67, pwrite64 18 68,
readv 19 65, writev 20 66, preadv 295 69, pwritev 296 70, preadv2 327 286, pwritev2 328 287, dup 32 23, dup2 33 -,
dup3 292 24, pipe 22 -, pipe2 293 59, close_range 436 436,
stat 4 -, fstat 5 80, lstat 6 -, newfstatat 262 79, statx 332 291, access 21 -, faccessat 269 48, faccessat2 439 439,
readlink 89 -, readlinkat 267 78, getdents 78 -, getdents64 217 61, getcwd 79 17, chdir 80 49, fchdir 81 50,
statfs 137 43, fstatfs 138 44,
mkdir 83 -, mkdirat 258 34, rmdir 84 -, unlink 87 -, unlinkat 263 35, rename 82 -, renameat 264 38, renameat2 316 276,
link 86 -, linkat 265 37, symlink 88 -, symlinkat 266 36, truncate 76 45, ftruncate 77 46, fallocate 285 47,
fsync 74 82, fdatasync 75 83, flock 73 32, umask 95 166, fadvise64 221 223, sendfile 40 71,
mmap 9 222, munmap 11 215, mprotect 10 226, mremap 25 216, madvise 28 233, msync 26 227, mincore 27 232, brk 12 214,
futex 202 98, futex_waitv 449 449, set_robust_list 273 99, set_tid_address 218 96, rseq 334 293, membarrier 324 283,
arch_prctl 158 -, getrandom 318 278, sched_yield 24 124, sched_getaffinity 204 123, getcpu 309 168,
sched_getparam 143 121, sched_getscheduler 145 120, sched_get_priority_max 146 125, sched_get_priority_min 147 126,
getpriority 140 141, exit 60 93, exit_group 231 94, restart_syscall 219 128, wait4 61 260, waitid 247 95,
rt_sigaction 13 134, rt_sigprocmask 14 135, rt_sigreturn 15 139, rt_sigpending 127 136, rt_sigtimedwait 128 137,
rt_sigsuspend 130 133, sigaltstack 131 132, pause 34 -,
nanosleep 35 101, clock_nanosleep 230 115, clock_gettime 228 113, clock_getres 229 114, gettimeofday 96 169, time 201 -,
times 100 153, alarm 37 -, getitimer 36 102, setitimer 38 103, timer_create 222 107, timer_settime 223 110,
timer_gettime 224 108, timer_getoverrun 225 109, timer_delete 226 111, timerfd_create 283 85, timerfd_settime 286 86,
timerfd_gettime 287 87, eventfd 284 -, eventfd2 290 19,
poll 7 -, ppoll 271 73, select 23 -, pselect6 270 72, epoll_create 213 -, epoll_create1 291 20, epoll_ctl 233 21,
epoll_wait 232 -, epoll_pwait 281 22, epoll_pwait2 441 441,
getpid 39 172, getppid 110 173, gettid 186 178, getpgrp 111 -, getpgid 121 155, getsid 124 156, getuid 102 174,
geteuid 107 175, getgid 104 176, getegid 108 177, getresuid 118 148, getresgid 120 150, getgroups 115 158,
getrusage 98 165, getrlimit 97 163, setrlimit 160 164, sysinfo 99 179, uname 63 160,
recvfrom 45 207, getsockname 51 204, getpeername 52 205, getsockopt 55 209, setsockopt 54 208, shutdown 48 210,
clone 56 220, kill 62 129, tgkill 234 131, prlimit64 302 261, ioctl 16 29, fcntl 72 25, socketpair 53 199,
sendto 44 206, prctl 157 167, execve 59 221
"""

ARCHITECTURES = MappingProxyType({"x86_64": 0xC000003E, "aarch64": 0xC00000B7})
"""Audit number of each supported machine (`linux/audit.h`): a call made in another mode, as 32-bit, kills."""

EXEC = "execve"
"""The call that only a program which still has to become its interpreter may make."""

LEAST_VERSION = 3
"""Of Landlock: before it (Linux 6.2) a file that may only be read could be truncated."""

# linux/bpf_common.h and linux/seccomp.h
_LOAD, _AND, _JUMP_IF_EQUAL, _JUMP_FROM, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER_OFFSET, _ARCHITECTURE_OFFSET, _ARGUMENTS_OFFSET = 0, 4, 16
_MODE_FILTER = 2

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


# One number on every architecture (linux/landlock.h, asm-generic/unistd.h).
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG, _PATH_BENEATH = 1, 1

# Bits of access to files, in the order of linux/landlock.h.
_BITS = """
execute write_file read_file read_dir remove_dir remove_file make_char make_dir make_reg make_sock make_fifo make_block
make_sym refer truncate ioctl_dev
"""
_BIT = {name: 1 << index for index, name in enumerate(_BITS.split())}
_READ = _BIT["execute"] | _BIT["read_file"]
_OWN = _BIT["read_file"] | _BIT["write_file"] | _BIT["truncate"]
_OWN_FOLDER = _OWN | sum(_BIT[x] for x in ("read_dir", "remove_dir", "remove_file", "make_dir", "make_reg", "make_sym"))


def find_numbers(machine: str) -> dict[str, int]:
    """Numbers of the allowed calls on a machine, as `os.uname()` names it."""
    if machine not in ARCHITECTURES:
        raise ValueError(f"no system calls are known for machine {machine!r}; choose from {', '.join(ARCHITECTURES)}")
    column = list(ARCHITECTURES).index(machine)
    rows = (entry.split() for entry in _NUMBERS.replace("\n", " ").split(","))
    return {name: int(numbers[column]) for name, *numbers in rows if numbers[column] != "-"}


class Filter:
    """A BPF program in the memory that the kernel reads it from, so that little is left to do for each process.

    It has blanks for the number of the only process that may be signalled: the one that it is put on.
    """

    def __init__(self, steps: list[tuple]) -> None:
        self._pid_offsets = [8 * index + 4 for index, step in enumerate(steps) if step[3] is _PID]
        code = b"".join(struct.pack("=HBBI", *step[:3], 0 if step[3] is _PID else step[3]) for step in steps)
        self._code = ctypes.create_string_buffer(code, len(code))
        header = struct.pack("@HxxxxxxP", len(steps), ctypes.addressof(self._code))
        self._header = ctypes.create_string_buffer(header, len(header))

    def fill(self, pid: int) -> bytes:
        """Instructions for one process."""
        for offset in self._pid_offsets:
            struct.pack_into("=I", self._code, offset, pid)
        return self._code.raw

    def install(self, pid: int) -> None:
        """Put the filter on this process for good. It needs `no_new_privs`, and only one thread."""
        self.fill(pid)
        if _LIBC.prctl(_PR_SET_SECCOMP, _MODE_FILTER, self._header, 0, 0):
            raise _refusal("the kernel refused the seccomp filter")


def build_filter(machine: str | None = None, *, may_exec: bool = False) -> Filter:
    """The filter for a machine, this one by default; `may_exec` lets the process become (never start) a program."""
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
    return Filter(steps + _search(_make_ranges(numbers)))


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


def find_version() -> int:
    """Version of the kernel's Landlock: 0 without it."""
    return max(0, _LIBC.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION_FLAG)))


def restrict_files(readable: Iterable[str], folder: str) -> None:
    """Leave this process and its descendants some paths to read and one folder to write in, for good."""
    version = find_version()
    if version < LEAST_VERSION:
        raise OSError(f"Landlock version {version} is below {LEAST_VERSION}: Linux 6.2 or newer is needed")
    handled = sum(list(_BIT.values())[: 16 if version >= 5 else 15])
    # Handled and never granted, where the kernel can: TCP; reaching abstract sockets and sending signals outside.
    attributes = struct.pack("=QQQ", handled, 3, 3)[: 24 if version >= 6 else 16 if version >= 4 else 8]
    ruleset = _call(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0))
    try:
        for path in readable:
            _allow(ruleset, path, _READ | _BIT["read_dir"], _READ)
        for path in _DEVICES:
            _allow(ruleset, path, 0, _OWN)
        _allow(ruleset, folder, _OWN_FOLDER, _OWN)
        _call(_RESTRICT_SELF, ruleset, ctypes.c_uint32(0))
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, as_folder: int, as_file: int) -> None:
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        access = as_folder if os.path.isdir(path) else as_file
        rule = struct.pack("=Qi", access, opened)
        _call(_ADD_RULE, ruleset, ctypes.c_int(_PATH_BENEATH), rule, ctypes.c_uint32(0))
    finally:
        os.close(opened)


def _call(number: int, *arguments: object) -> int:
    result = _LIBC.syscall(number, *arguments)
    if result < 0:
        raise _refusal(f"Landlock refused call {number}")
    return result


def _refusal(what: str) -> OSError:
    """The error of the last call of the C library."""
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")


@dataclass(frozen=True)
class Walls:
    """What a worker is told about its containment."""

    # Whether there are any, and whether bubblewrap is one of them.
    is_safe: bool
    is_wrapped: bool
    # Paths that the interpreter needs, and the folder of its programs.
    readable: list[str]
    folder: str
    # Whom to become, where it was started by root.
    user: int | None
    # Processes and threads that its user has besides the program's.
    processes: int


def confine_worker(walls: Walls) -> None:
    """Drop every privilege and close all files but the interpreter's; what is not contained does not start."""
    if not walls.is_safe:
        return
    if walls.user is not None:
        os.setgroups([])
        os.setresgid(walls.user, walls.user, walls.user)
        os.setresuid(walls.user, walls.user, walls.user)
        if 0 in (*os.getresuid(), *os.getresgid()):
            raise PermissionError("the worker still runs as root after dropping its privileges")
    _drop_capabilities()
    # After the change of user, which would clear it. A worker never outlives what started it.
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    if not walls.is_wrapped or find_version() >= LEAST_VERSION:
        restrict_files(walls.readable, walls.folder)


def _drop_capabilities() -> None:
    """What makes an ordinary user of root in a user name space: for good, as no program that it becomes may add any."""
    # linux/capability.h: version 3, this process; effective, permitted and inheritable, two words each.
    if _LIBC.capset(struct.pack("=Ii", 0x20080522, 0), bytes(24)):
        raise _refusal("capabilities could not be dropped")


def make_filter(walls: Walls, *, may_exec: bool = False) -> Filter | None:
    """The filter for programs, made once; None where they run without walls."""
    return build_filter(may_exec=may_exec) if walls.is_safe else None


def confine_program(walls: Walls, blank: Filter | None, limits: dict[str, Any], *, memory: int, spare: int) -> None:
    """The last thing a new process does before it hands itself over: `spare` threads are the interpreter's own."""
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
    value = value if ceiling == resource.RLIM_INFINITY else min(value, ceiling)
    try:
        resource.setrlimit(name, (value, value))
    except (OSError, ValueError):
        # Systems other than Linux refuse some of them; there programs run without walls only.
        if sys.platform == "linux":
            raise


def _prctl(option: int, value: int) -> None:
    if _LIBC.prctl(option, value, 0, 0, 0):
        raise _refusal(f"prctl {option} was refused")
