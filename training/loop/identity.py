"""What makes a run that run: every input its numbers depend on, in short, so that a resumed run can be checked."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from training.loop.batches import RowSet
from training.spec.run import LoopSettings
from training.spec.run import Schedule

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


def without_processes(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return an identity without what depends on the number of processes and changes rounding only."""
    # How a global batch is cut into passes changes rounding only, and sizes left open follow from the processes; those
    # that someone chose are in the specification, too.
    kept = {name: value for name, value in identity.items() if name != "n_processes"}
    if "settings" in kept:
        cut = ("micro_batch", "validation_batch")
        kept["settings"] = {name: value for name, value in kept["settings"].items() if name not in cut}
    return kept


def describe_differences(written: Any, given: Any, name: str = "") -> list[str]:
    """Return in words where two JSON values differ: ``schedule.steps is 200 there and 100 here``."""
    if isinstance(written, dict) and isinstance(given, dict):
        names = [*written, *(key for key in given if key not in written)]
        return [
            text
            for key in names
            for text in describe_differences(written.get(key), given.get(key), f"{name}.{key}".removeprefix("."))
        ]
    return [] if written == given else [f"{name} is {_brief(written)} there and {_brief(given)} here"]


def _brief(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:12]}…"
