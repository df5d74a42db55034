"""One model over many processes: weights, gradients and moments in shards (FSDP2), and checkpoints of them.

Plain torch: `fully_shard` on every block and on the whole. accelerate's own way to it exists for accelerators only;
this one is the same on CPU processes, where tests can hold it to the training of one process. Frozen
and updated weights are sharded alike.

A checkpoint holds every tensor once, in pieces as the writing processes had them; any number of processes reads it.

References
----------
Zhao et al. 2023, PyTorch FSDP, arXiv 2304.11277; Rajbhandari et al. 2020, ZeRO, arXiv 1910.02054.
"""

import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as sharded_files
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from training.spec.run import Precision

SHARDS_FOLDER = "shards"
"""Folder of the tensors within a checkpoint."""


def shard(model: nn.Module, device: torch.device, precision: Precision) -> nn.Module:
    """Divide a model's parameters among all processes, in place; make its optimiser afterwards.

    Parameters
    ----------
    model : torch.nn.Module
        A tuned model, the same on every process.
    device : torch.device
        This process' device.
    precision : {"fp32", "bf16"}
        Precision in which blocks are gathered and computed; gradients are summed in float32 either way.

    Returns
    -------
    torch.nn.Module
        The model, its parameters now shards.

    Raises
    ------
    ValueError
        If the processes are not connected, or the model does not say what its blocks are.
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
    model.to(device)
    for block in blocks:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    return fully_shard(model, mesh=mesh, mp_policy=policy)


def is_sharded(model: nn.Module) -> bool:
    """Return whether `shard` has divided a model."""
    return isinstance(model, FSDPModule)


def save_shards(model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> None:
    """Write the updated parameters and the optimiser's moments of a sharded model; every process writes its part."""
    weights, moments = get_state_dict(model, optimizer, options=_updated_only())
    with _without_notices():
        sharded_files.save({"model": weights, "optimizer": moments}, checkpoint_id=folder / SHARDS_FOLDER)


def load_shards(model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> None:
    """Read what `save_shards` wrote, on any number of processes.

    Raises
    ------
    ValueError
        If there is nothing: processes that were not sharded wrote the checkpoint.
    """
    if not (folder / SHARDS_FOLDER).is_dir():
        raise ValueError(f"there is no folder {SHARDS_FOLDER} in it: it was written without --shard; go on without it")
    weights, moments = get_state_dict(model, optimizer, options=_updated_only())
    with _without_notices():
        sharded_files.load({"model": weights, "optimizer": moments}, checkpoint_id=folder / SHARDS_FOLDER)
    set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=moments, options=_updated_only())


def whole_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the updated parameters of a sharded model, whole and on the CPU; on the first process only.

    All processes call it.
    """
    options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
    return get_model_state_dict(model, options=options)


def _updated_only() -> StateDictOptions:
    # A frozen base is read from where it came from.
    return StateDictOptions(ignore_frozen_params=True, strict=False)


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """Return the modules that a model of transformers calls its blocks.

    Raises
    ------
    ValueError
        If it does not say which they are.
    """
    names = {name for module in model.modules() for name in getattr(module, "_no_split_modules", None) or ()}
    found = [module for module in model.modules() if type(module).__name__ in names]
    if not found:
        raise ValueError(
            f"{type(model).__name__} does not say which modules are its blocks; give a model of transformers that "
            "names them (_no_split_modules)"
        )
    return found


def _without_notices() -> Any:
    return warnings.catch_warnings(action="ignore")
