"""The processes of a run: set up by accelerate, refused where a launch started copies that do not know of each other.

One process needs no launcher. Two on CPUs: ``ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 -m training ...``;
on GPUs ``torchrun`` or ``accelerate launch --multi_gpu``.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import GeneralTracker
from accelerate.utils import DistributedType, GradientAccumulationPlugin

from training.spec.files import exclusive
from training.spec.run import Precision

# Numbers of processes and ranks as launchers announce them (torchrun, Intel MPI and MPICH, Open MPI, MVAPICH).
_WORLD_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", "LOCAL_WORLD_SIZE")
_RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK", "LOCAL_RANK")
_ENGINES = {
    "ACCELERATE_USE_FSDP": DistributedType.FSDP,
    "ACCELERATE_USE_DEEPSPEED": DistributedType.DEEPSPEED,
    "ACCELERATE_USE_MEGATRON_LM": DistributedType.MEGATRON_LM,
}
_SUPPORTED = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)
_HOW_TO_LAUNCH = (
    "start several processes with torchrun --nproc_per_node N (on CPUs with ACCELERATE_USE_CPU=true in the "
    "environment), or one process without a launcher"
)


def check_launch(environment: Mapping[str, str], n_processes: int, distributed_type: str) -> None:
    """Refuse a launch whose processes accelerate did not connect.

    Such processes would each train the whole run and overwrite each other's files.

    Parameters
    ----------
    environment : mapping of str to str
        Environment variables as the launcher left them.
    n_processes : int
        Processes that accelerate connected.
    distributed_type : str
        How it connected them (`accelerate.utils.DistributedType`).

    Raises
    ------
    ValueError
        If the launcher announced more processes than are connected, or a way of connecting them that is not in force
        or that the loop does not support.
    """
    for name in _WORLD_SIZES:
        announced = _integer(environment.get(name), 1)
        # A node of several has fewer processes than there are in all.
        if announced > n_processes if name == "LOCAL_WORLD_SIZE" else announced not in (1, n_processes):
            raise _refusal(f"{name} announces {announced} processes", n_processes, distributed_type)
    if n_processes == 1:
        for name in _RANKS:
            if _integer(environment.get(name), 0) > 0:
                raise _refusal(f"{name} is {environment[name]}, so this is not the only one", 1, distributed_type)
        # accelerate's launcher sets an address only for more than one process (and on CPUs starts one all the same).
        if {"ACCELERATE_MIXED_PRECISION", "MASTER_ADDR"} <= environment.keys() and "WORLD_SIZE" not in environment:
            raise _refusal(
                "accelerate launch was told to start more than one (it set MASTER_ADDR)", 1, distributed_type
            )
    for name, engine in _ENGINES.items():
        if environment.get(name, "false").lower() in ("true", "1") and distributed_type != engine:
            raise _refusal(f"{name} asks for {engine.value}", n_processes, distributed_type)
    if distributed_type not in _SUPPORTED:
        raise ValueError(
            f"the training loop does not support {_name(distributed_type)}: its checkpoints are tested for one process "
            f"and for data-parallel ones; {_HOW_TO_LAUNCH}"
        )


def make_accelerator(
    precision: Precision, log_with: Sequence[str | GeneralTracker] = (), folder: Path | None = None
) -> Accelerator:
    """Return accelerate's handle on the processes of this run.

    Parameters
    ----------
    precision : {"fp32", "bf16"}
        Precision of the forward pass.
    log_with : sequence of str or GeneralTracker
        Trackers, by accelerate's names or made.
    folder : Path, optional
        Where trackers that write files put them.

    Returns
    -------
    Accelerator
        One that never accumulates by itself: the loop weights every pass by its tokens.

    Raises
    ------
    ValueError
        If the launch is not sound (`check_launch`), or a tracker is unknown or not installed.
    """
    # Before accelerate writes its own into it.
    environment = dict(os.environ)
    mixed_precision = "bf16" if precision == "bf16" else "no"
    state = AcceleratorState._shared_state
    if state and state["_mixed_precision"] != mixed_precision:
        # One process may train runs of both precisions one after the other; accelerate keeps the first one's.
        AcceleratorState._reset_state()
    accelerator = Accelerator(
        mixed_precision=mixed_precision,
        # Given as a plugin, so that a launcher's variable cannot change it.
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        log_with=list(log_with) or None,
        project_dir=folder,
    )
    check_launch(environment, accelerator.num_processes, accelerator.distributed_type)
    # accelerate turns names into members of an enumeration, which equal no name.
    found = [*accelerator.log_with, *(str(tracker) for tracker in accelerator.log_with)]
    missing = [tracker for tracker in log_with if tracker != "all" and tracker not in found]
    if missing:
        raise ValueError(
            f"tracker {missing[0]!r} is not installed; install its package, or choose another for log_with"
        )
    return accelerator


def is_first_process() -> bool:
    """Return whether this process writes the files: the first of those that a launcher started, or the only one."""
    return not any(_integer(os.environ.get(name), 0) for name in _RANKS if name != "LOCAL_RANK")


def connect_processes(precision: Precision) -> None:
    """Connect the processes of a launch, where there are several; one process is left alone."""
    if any(_integer(os.environ.get(name), 1) > 1 for name in _WORLD_SIZES):
        make_accelerator(precision)


def agreed(value: Any) -> Any:
    """Return what the first process gave, on all of them; all call it, and wait for it.

    Parameters
    ----------
    value : object
        What this process found; only the first one's counts. It must be picklable.
    """
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return value
    values = [value]
    torch.distributed.broadcast_object_list(values, src=0)
    return values[0]


@contextmanager
def locked_by_first(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold a lock file for all processes of a launch: the first one takes it (`training.spec.files.exclusive`).

    Yields
    ------
    bool
        Whether it is held, the same on every process.
    """
    with ExitStack() as stack:
        held = stack.enter_context(exclusive(path, wait=wait)) if is_first_process() else None
        yield agreed(held)


def _refusal(announcement: str, n_processes: int, distributed_type: str) -> ValueError:
    connected = "1 process" if n_processes == 1 else f"{n_processes} processes"
    return ValueError(
        f"{announcement}, but accelerate connected {connected} (distributed type {_name(distributed_type)}): the rest "
        f"would train unsynchronised copies of the run and overwrite each other's files; {_HOW_TO_LAUNCH}"
    )


def _name(distributed_type: str) -> str:
    return getattr(distributed_type, "value", distributed_type)


def _integer(text: str | None, default: int) -> int:
    try:
        return int(text) if text else default
    except ValueError:
        return default
