"""What makes a run that run: every input its numbers depend on, in short, so that a resumed run can be checked."""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from training.batches import RowSet
from training.config import Schedule
from training.loop_settings import LoopSettings

# Leading values of a tensor tell one draw or training from another; a digest of all would read the whole base model.
_LEADING_VALUES = 64


def run_identity(
    model: nn.Module,
    schedule: Schedule,
    settings: LoopSettings,
    rows: Mapping[str, RowSet],
    *,
    seed: int,
    spec: Mapping[str, Any],
    accelerator: Accelerator,
) -> dict[str, Any]:
    """Return everything that a run's numbers depend on.

    Parameters
    ----------
    model : torch.nn.Module
        The tuned model before its first step, not wrapped.
    schedule, settings : Schedule, LoopSettings
        How it is trained, batch sizes filled in.
    rows : mapping of str to RowSet
        Training and validation rows.
    seed : int
        Seed of the run.
    spec : mapping of str to JSON values
        What the caller knows the run by.
    accelerator : Accelerator
        Its processes.

    Returns
    -------
    dict
        JSON values. Where checkpoints are written is not among them: the numbers do not depend on it.

    Raises
    ------
    ValueError
        If the processes do not agree on it.
    """
    identity = {
        "spec": dict(spec),
        "schedule": schedule.model_dump(),
        "settings": settings.model_dump(exclude={"checkpoint_every"}),
        "seed": seed,
        "n_processes": accelerator.num_processes,
        "device": accelerator.device.type,
        "rows": {name: row_set.digest for name, row_set in rows.items()},
        "initial_weights": weights_digest(model),
    }
    _check_agreement(identity, accelerator)
    return identity


def weights_digest(model: nn.Module) -> str:
    """Return a SHA-256 of the names, shapes, types and leading values of all parameters, and which are updated."""
    digest = hashlib.sha256()
    for name, weight in model.named_parameters():
        values = weight.detach().flatten()[:_LEADING_VALUES].to("cpu", torch.float32)
        described = f"{name} {tuple(weight.shape)} {weight.dtype} {weight.requires_grad}"
        digest.update(described.encode() + values.numpy().tobytes())
    return digest.hexdigest()


def _check_agreement(identity: Mapping[str, Any], accelerator: Accelerator) -> None:
    if accelerator.num_processes == 1:
        return
    # Six bytes are exact in a float64 and in an int64 alike.
    number = int.from_bytes(hashlib.sha256(repr(identity).encode()).digest()[:6], "big")
    numbers = accelerator.gather(torch.tensor([number], device=accelerator.device)).tolist()
    if len(set(numbers)) > 1:
        raise ValueError(
            f"the {len(numbers)} processes of this run do not agree on its model, rows or settings; build all of them "
            "from the same specification and seed on every process"
        )
