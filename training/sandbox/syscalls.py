"""System calls that a contained program may make: everything else is answered as if the kernel did not know it.

An allow-list, so that what later kernels add is shut out until somebody looks at it. What is deliberately absent:

* processes: `fork`, `vfork`, `clone3`, `execve` (allowed to a JVM at its start, see `EXEC`), `ptrace`,
  `process_vm_*`, `pidfd_*`, `kcmp`, `tkill`, `rt_sigqueueinfo`, `setsid`, `sched_set*`, `setpriority`;
* sockets: `socket`, `bind`, `connect`, `listen`, `accept`, `sendmsg` (an unconnected Unix socket could be aimed at an
  abstract address), `io_uring_*` (it would make calls unseen by the filter);
* memory that outlives a program or escapes its limits: `memfd_create`, `shmget`, `msgget`, `semget`, `mq_open`;
* attributes of files, which Landlock does not govern: `chmod`, `chown`, `utimensat`, `setxattr`;
* the kernel's own: `mount`, `bpf`, `keyctl`, `perf_event_open`, `userfaultfd`, `unshare`, `setns`, `personality`, ...

The numbers are those of Linux's `arch/x86/entry/syscalls/syscall_64.tbl` and `include/uapi/asm-generic/unistd.h`
(aarch64); `None` where an architecture has no such call.
"""

from types import MappingProxyType

# name: (x86-64, aarch64)
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


def _parse() -> dict[str, tuple[int | None, ...]]:
    entries = (entry.split() for entry in _NUMBERS.replace("\n", " ").split(","))
    return {name: tuple(None if number == "-" else int(number) for number in numbers) for name, *numbers in entries}


NUMBERS = MappingProxyType(_parse())
"""Numbers by name, in the order of `ARCHITECTURES`."""


def find_numbers(machine: str) -> dict[str, int]:
    """Numbers of the allowed calls on a machine.

    Parameters
    ----------
    machine : str
        As `os.uname()` names it.

    Returns
    -------
    dict of str to int

    Raises
    ------
    ValueError
        If there is no table for the machine.
    """
    if machine not in ARCHITECTURES:
        raise ValueError(f"no system calls are known for machine {machine!r}; choose from {', '.join(ARCHITECTURES)}")
    column = list(ARCHITECTURES).index(machine)
    return {name: number for name, numbers in NUMBERS.items() if (number := numbers[column]) is not None}
