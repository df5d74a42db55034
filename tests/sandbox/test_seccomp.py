"""The filter, run by an interpreter of BPF that is written here: what it allows on each machine."""

import errno
import struct

import pytest

from training.sandbox.confinement import ARCHITECTURES, build_filter, find_numbers

ALLOWED, KILLED = 0x7FFF0000, 0x80000000
UNKNOWN, REFUSED = 0x00050000 | errno.ENOSYS, 0x00050000 | errno.EPERM
PID = 4242


def run_filter(code, machine, number, arguments=()):
    """Answer of a filter to one system call."""
    words = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("<IIQ6Q", number, ARCHITECTURES[machine], 0, *(word % 2**64 for word in words))
    position, value = 0, 0
    while True:
        operation, if_true, if_false, operand = struct.unpack_from("=HBBI", code, 8 * position)
        position += 1
        if operation == 0x20:
            (value,) = struct.unpack_from("<I", data, operand)
        elif operation == 0x54:
            value &= operand
        elif operation == 0x15:
            position += if_true if value == operand else if_false
        elif operation == 0x35:
            position += if_true if value >= operand else if_false
        else:
            assert operation == 0x06
            return operand


@pytest.fixture(params=list(ARCHITECTURES))
def machine(request):
    return request.param


@pytest.fixture
def answer(machine):
    """Function from the name of an allowed call and its arguments to the filter's answer."""
    code = build_filter(machine).fill(PID)
    numbers = find_numbers(machine)
    return lambda name, *arguments: run_filter(code, machine, numbers[name], arguments)


def test_ordinary_calls_are_allowed(answer):
    for name in ("read", "write", "openat", "mmap", "futex", "exit_group", "wait4"):
        assert answer(name) == ALLOWED


def test_calls_that_are_not_listed_are_unknown_and_those_of_other_modes_killed(machine):
    code = build_filter(machine).fill(PID)
    listed = set(find_numbers(machine).values())
    for number in set(range(600)) - listed:
        assert run_filter(code, machine, number) == UNKNOWN
    other = next(name for name in ARCHITECTURES if name != machine)
    assert run_filter(code, other, 0) == KILLED
    if machine == "x86_64":
        # A call of x32.
        assert run_filter(code, machine, 0x40000000 | find_numbers(machine)["read"]) == UNKNOWN


@pytest.mark.parametrize(
    ("name", "allowed", "refused"),
    [
        ("kill", (PID, 9), [(PID - 1, 9), (0, 9), (-1, 9)]),
        ("tgkill", (PID, 1, 9), [(1, 1, 9)]),
        ("clone", (0x3D0F00,), [(17,), (0x4111,), (0x10000 | 0x10000000,)]),
        ("prlimit64", (0,), [(1,)]),
        ("fcntl", (3, 3), [(3, 8), (3, 10)]),
        ("ioctl", (3, 0x5401), [(3, 0x8901), (3, 0x5412)]),
        ("socketpair", (1, 0x80001), [(1, 2), (2, 1)]),
        ("sendto", (3, 7, 1, 0, 0), [(3, 7, 1, 0, 7), (3, 7, 1, 0, 7 << 32)]),
        ("prctl", (15,), [(1,), (4,)]),
    ],
)
def test_arguments_decide(answer, name, allowed, refused):
    assert answer(name, *allowed) == ALLOWED
    assert [answer(name, *arguments) for arguments in refused] == [REFUSED] * len(refused)


def test_only_what_has_to_may_become_another_program(machine):
    number = find_numbers(machine)["execve"]
    assert run_filter(build_filter(machine).fill(PID), machine, number) == UNKNOWN
    assert run_filter(build_filter(machine, may_exec=True).fill(PID), machine, number) == ALLOWED


def test_dangerous_calls_are_not_listed():
    dangerous = """
        socket connect bind listen accept sendmsg ptrace process_vm_readv process_vm_writev keyctl add_key bpf mount
        umount2 pivot_root chroot setns unshare clone3 fork vfork io_uring_setup userfaultfd perf_event_open
        memfd_create shmget chmod fchmodat chown setxattr utimensat mknodat open_by_handle_at setuid setgid
        kexec_load init_module
    """
    assert all(find_numbers(machine).keys().isdisjoint(dangerous.split()) for machine in ARCHITECTURES)
