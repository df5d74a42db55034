"""Landlock: the kernel's own limits on what a process may open, set without root (Linux 6.2 or newer)."""

import ctypes
import os
import struct
from collections.abc import Iterable

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
_WRITE = _BIT["write_file"] | _BIT["truncate"]
_OWN = _BIT["read_file"] | _WRITE
_OWN_FOLDER = _OWN | sum(_BIT[x] for x in ("read_dir", "remove_dir", "remove_file", "make_dir", "make_reg", "make_sym"))

LEAST_VERSION = 3
"""Before it (Linux 6.2) a file that may only be read could be truncated."""

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = ctypes.c_long


def find_version() -> int:
    """Version of the kernel's Landlock interface: 0 without it.

    Returns
    -------
    int
    """
    return max(0, _LIBC.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION_FLAG)))


def restrict_files(readable: Iterable[str], devices: Iterable[str], folder: str) -> None:
    """Leave this process and its descendants some paths to read and one folder to write in, for good.

    Where the kernel can, it also forbids TCP, signals to processes outside, and abstract sockets of others.

    Parameters
    ----------
    readable : iterable of str
        Files and folders that may be read and executed; those that do not exist are passed over.
    devices : iterable of str
        Files that may be read and written.
    folder : str
        The only folder to write in.

    Raises
    ------
    OSError
        If the kernel refuses.
    """
    version = find_version()
    if version < LEAST_VERSION:
        raise OSError(f"Landlock version {version} is below {LEAST_VERSION}: Linux 6.2 or newer is needed")
    handled = sum(list(_BIT.values())[: 16 if version >= 5 else 15])
    # Handled and never granted: binding and connecting TCP; reaching abstract sockets and sending signals outside.
    attributes = struct.pack("=QQQ", handled, 3, 3)[: 24 if version >= 6 else 16 if version >= 4 else 8]
    ruleset = _call(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0))
    try:
        for path in readable:
            _allow(ruleset, path, _READ | _BIT["read_dir"], _READ)
        for path in devices:
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
        error = ctypes.get_errno()
        raise OSError(error, f"Landlock refused call {number}: {os.strerror(error)}")
    return result
