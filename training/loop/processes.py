"""The processes of a run, and one model over many of them in shards.

They are set up by accelerate, and refused where a launch started copies that do not know of each other. One process
needs no launcher. Two on CPUs: ``ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 -m training ...``; on GPUs
``torchrun`` or ``accelerate launch --multi_gpu``.

Shards are plain torch's (FSDP2, `fully_shard` on every block and on the whole; Zhao et al. 2023, arXiv 2304.11277):
accelerate's own way exists for accelerators only, this one is the same on CPU processes, where tests hold it to the
training of one process. Gradients are summed and cut at every pass: whole ones would not fit where this is needed.
Checkpoints hold every tensor once; any number of processes reads them.
"""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as sharded_files
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import GeneralTracker
from accelerate.utils import DistributedType, GradientAccumulationPlugin
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard

from astraios_analysis.records.refusal import Refusal
from training.spec.files import exclusive
from training.spec.run import Precision

# Numbers of processes and ranks as launchers announce them (torchrun, Intel MPI and MPICH, Open MPI, MVAPICH).
_WORLD_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", "LOCAL_WORLD_SIZE")
_RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK", "LOCAL_RANK")
_ENGINES = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_MEGATRON_LM")
_SUPPORTED = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)
_HOW_TO_LAUNCH = (
    "start several processes with torchrun --nproc_per_node N (on CPUs with ACCELERATE_USE_CPU=true in the "
    "environment), or one process without a launcher"
)


def check_launch(environment: Mapping[str, str], n_processes: int, distributed_type: str) -> None:
    """Refuse a launch whose processes accelerate did not connect, or whose engine the loop does not know.

    Such processes would each train the whole run and overwrite each other's files.
    """
    # A node of several has fewer processes than there are in all.
    announced = {name: _integer(environment.get(name), 1) for name in _WORLD_SIZES}
    told = [
        f"{name} announces {n} processes"
        for name, n in announced.items()
        if n > n_processes or (n not in (1, n_processes) and name != "LOCAL_WORLD_SIZE")
    ]
    if n_processes == 1:
        ranks = [name for name in _RANKS if _integer(environment.get(name), 0) > 0]
        told += [f"{name} is {environment[name]}, so this is not the only one" for name in ranks]
        # accelerate's launcher sets an address only for more than one process (and on CPUs starts one all the same).
        if {"ACCELERATE_MIXED_PRECISION", "MASTER_ADDR"} <= environment.keys() and "WORLD_SIZE" not in environment:
            told.append("accelerate launch was told to start more than one (it set MASTER_ADDR)")
    asked = [name for name in _ENGINES if environment.get(name, "false").lower() in ("true", "1")]
    if told:
        raise Refusal(
            f"{told[0]}, but accelerate connected {n_processes} (distributed type {_name(distributed_type)}): the rest "
            f"would train unsynchronised copies of the run and overwrite each other's files; {_HOW_TO_LAUNCH}"
        )
    if asked or distributed_type not in _SUPPORTED:
        raise Refusal(
            f"the training loop does not support {', '.join(asked) or _name(distributed_type)}: its checkpoints are "
            f"tested for one process and for data-parallel ones, and --shard divides a model; {_HOW_TO_LAUNCH}"
        )


def make_accelerator(
    precision: Precision, log_with: Sequence[str | GeneralTracker] = (), folder: Path | None = None
) -> Accelerator:
    """Return accelerate's handle on this run's processes; it never accumulates: the loop weights passes by tokens."""
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


def connect_processes(precision: Precision, *, is_offloaded: bool = False) -> None:
    """Connect the processes of a launch, where there are several; one process is left alone."""
    if any(_integer(os.environ.get(name), 1) > 1 for name in _WORLD_SIZES):
        if is_offloaded and torch.cuda.is_available():
            # Sums over shards in main memory go through gloo.
            torch.cuda.set_device(_integer(os.environ.get("LOCAL_RANK"), 0))
            torch.distributed.init_process_group("cpu:gloo,cuda:nccl")
        make_accelerator(precision)


def agreed(value: Any) -> Any:
    """Return what the first process gave (picklable), on all of them; all call it, and wait for it."""
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return value
    values = [value]
    torch.distributed.broadcast_object_list(values, src=0)
    return values[0]


@contextmanager
def locked_by_first(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold a lock file for all processes of a launch (`training.spec.files.exclusive`): the first one takes it."""
    with ExitStack() as stack:
        held = stack.enter_context(exclusive(path, wait=wait)) if is_first_process() else None
        yield agreed(held)


def _name(distributed_type: str) -> str:
    return getattr(distributed_type, "value", distributed_type)


def _integer(text: str | None, default: int) -> int:
    try:
        return int(text) if text else default
    except ValueError:
        return default


SHARDS_FOLDER = "shards"
"""Folder of the tensors within a checkpoint."""

# A frozen base is read from where it came from.
_UPDATED_ONLY = StateDictOptions(ignore_frozen_params=True, strict=False)


def shard(model: nn.Module, device: torch.device, precision: Precision, *, is_offloaded: bool = False) -> nn.Module:
    """Divide a model's parameters among all processes, in place; make its optimiser afterwards.

    The first process has the weights, and the others may have shapes only (the meta device). Block by block they are
    sent to all and cut: a device never holds more than its shards and the block in hand. With ``is_offloaded`` shards
    and the optimiser are kept in main memory.
    """
    if not torch.distributed.is_initialized():
        raise ValueError(
            "a model is sharded over connected processes; start them with torchrun --nproc_per_node N (on CPUs with "
            "ACCELERATE_USE_CPU=true in the environment)"
        )
    blocks = blocks_of(model)
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    policy = MixedPrecisionPolicy()
    if precision == "bf16":
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    offload = CPUOffloadPolicy(pin_memory=device.type == "cuda") if is_offloaded else OffloadPolicy()
    places: dict[int, list[tuple[dict[str, Any], str]]] = {}
    for module in model.modules():
        for values in (module._parameters, module._buffers):
            for name, value in values.items():
                if value is not None:
                    places.setdefault(id(value), []).append((values, name))
    for module in (*blocks, model):
        for value in (*module.parameters(), *module.buffers()):
            if id(value) in places:
                sent = _from_first(value, device)
                # All at once, so that a head that is the embedding stays it.
                for values, name in places.pop(id(value)):
                    values[name] = sent
        fully_shard(module, mesh=mesh, mp_policy=policy, offload_policy=offload)
    return model


def _from_first(value: torch.Tensor, device: torch.device) -> torch.Tensor:
    sent = value.detach().to(device) if is_first_process() else torch.empty_like(value, device=device)
    torch.distributed.broadcast(sent, src=0)
    return nn.Parameter(sent, value.requires_grad) if isinstance(value, nn.Parameter) else sent


def save_shards(model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> None:
    """Write the updated parameters and the optimiser's moments of a sharded model; every process writes its part."""
    weights, moments = get_state_dict(model, optimizer, options=_UPDATED_ONLY)
    with warnings.catch_warnings(action="ignore"):
        sharded_files.save({"model": weights, "optimizer": moments}, checkpoint_id=folder / SHARDS_FOLDER)


def load_shards(model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> None:
    """Read what `save_shards` wrote, on any number of processes."""
    if not (folder / SHARDS_FOLDER).is_dir():
        raise ValueError(f"there is no folder {SHARDS_FOLDER} in it: it was written without --shard; go on without it")
    weights, moments = get_state_dict(model, optimizer, options=_UPDATED_ONLY)
    with warnings.catch_warnings(action="ignore"):
        sharded_files.load({"model": weights, "optimizer": moments}, checkpoint_id=folder / SHARDS_FOLDER)
    set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=moments, options=_UPDATED_ONLY)


def whole_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the updated parameters of a sharded model, whole and on the CPU; on the first process only.

    All processes call it.
    """
    options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
    return get_model_state_dict(model, options=options)


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """Return the modules that a model of transformers calls its blocks."""
    names = {name for module in model.modules() for name in getattr(module, "_no_split_modules", None) or ()}
    found = [module for module in model.modules() if type(module).__name__ in names]
    if not found:
        raise ValueError(
            f"{type(model).__name__} does not say which modules are its blocks; give a model of transformers that "
            "names them (_no_split_modules)"
        )
    return found
