"""Devices of this machine and the memory they have free. Importable without torch.

A parent process that has touched a GPU through torch keeps a context on it; so the driver's own command is asked.
"""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_MEBIBYTE = 2**20
_MEMINFO = Path("/proc/meminfo")
_CPUINFO = Path("/proc/cpuinfo")
# Limit of a container or of a cluster's job, in either version of Linux' control groups.
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_USED = (Path("/sys/fs/cgroup/memory.current"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"))


@dataclass(frozen=True)
class Gpu:
    """A GPU that this process may use.

    Attributes
    ----------
    index : str
        What CUDA_VISIBLE_DEVICES calls it.
    free_bytes : int
        Memory that nobody uses.
    """

    index: str
    free_bytes: int


def gpus(environment: Mapping[str, str] | None = None) -> tuple[Gpu, ...]:
    """Return the GPUs that this process may use, as the driver's ``nvidia-smi`` lists them; none without it.

    Parameters
    ----------
    environment : mapping of str to str, optional
        Environment variables; those of the process without it. CUDA_VISIBLE_DEVICES restricts and orders them.

    Returns
    -------
    tuple of Gpu
        In the order in which CUDA counts them.
    """
    environment = os.environ if environment is None else environment
    if shutil.which("nvidia-smi") is None:
        return ()
    query = ["nvidia-smi", "--query-gpu=index,uuid,memory.free", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return ()
    return visible_gpus(done.stdout, environment.get("CUDA_VISIBLE_DEVICES"))


def visible_gpus(listed: str, visible: str | None) -> tuple[Gpu, ...]:
    """Return the GPUs of the driver's list that a value of CUDA_VISIBLE_DEVICES leaves.

    Parameters
    ----------
    listed : str
        Lines ``index, uuid, MiB free``.
    visible : str, optional
        Indices or uuids with commas between; all without it, none where it is empty.

    Returns
    -------
    tuple of Gpu
        As named by ``visible``; CUDA stops at the first name that it does not know, and so does this.
    """
    free: dict[str, int] = {}
    indices = []
    for line in listed.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) == 3 and parts[2].isdigit():
            indices.append(parts[0])
            free[parts[0]] = free[parts[1]] = int(parts[2]) * _MEBIBYTE
    names = indices if visible is None else [name.strip() for name in visible.split(",")]
    found: list[Gpu] = []
    for name in names:
        if name not in free:
            break
        found.append(Gpu(name, free[name]))
    return tuple(found)


def processor_name(listed: str | None = None) -> str:
    """Return what this machine calls its kind of processor.

    Parameters
    ----------
    listed : str, optional
        What Linux lists of its processors; read from ``/proc/cpuinfo`` without it.

    Returns
    -------
    str
        The model's name, or where Linux knows none (as on aarch64), the architecture.
    """
    if listed is None:
        listed = _CPUINFO.read_text(errors="replace") if _CPUINFO.exists() else ""
    found = re.search(r"^model name\s*:\s*(\S.*)$", listed, re.MULTILINE)
    return found[1].strip() if found else platform.machine() or "unknown"


def available_memory() -> int | None:
    """Return the bytes that new processes can have here; None where the system does not tell."""
    free = [size for size in (_system_memory(), _group_memory()) if size is not None]
    return min(free, default=None)


def _system_memory() -> int | None:
    if not _MEMINFO.exists():
        return None
    match = re.search(r"^MemAvailable:\s+(\d+) kB", _MEMINFO.read_text("ascii", "replace"), re.MULTILINE)
    return int(match[1]) * 1024 if match else None


def _group_memory() -> int | None:
    for limit, used in zip(_LIMITS, _USED, strict=True):
        try:
            return max(0, int(limit.read_text("ascii")) - int(used.read_text("ascii")))
        except (OSError, ValueError):
            # No such group, or no limit ("max").
            continue
    return None
