"""The optimiser of the study: AdamW over what is updated, a linear warm-up, a cosine decay."""

import math

import torch
from torch import nn

from training.spec.run import Schedule

# AdamW's other settings are those of the study's trainer (transformers), which are torch's own.
_BETAS = (0.9, 0.999)
_EPSILON = 1e-8


def learning_rate(schedule: Schedule, step: int) -> float:
    """Return the rate of the step after s others: r s / w in warm-up, then r (1 + cos(pi (s - w) / (S - w))) / 2.

    With peak r, w warm-up steps and S steps in all, as in the study's trainer; resuming needs no state of it.
    """
    if step < schedule.warmup_steps:
        return schedule.learning_rate * step / schedule.warmup_steps
    done = (step - schedule.warmup_steps) / max(1, schedule.steps - schedule.warmup_steps)
    return schedule.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def updated_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that training updates, by name, after the check that they are float32."""
    updated = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    if not updated:
        raise ValueError("no parameter requires a gradient: there is nothing to train; use apply_tuning first")
    for name, weight in updated.items():
        if weight.dtype != torch.float32:
            raise ValueError(
                f"updated parameter {name} is {str(weight.dtype).removeprefix('torch.')}, where small steps are lost "
                "to rounding; load what is updated in float32 and choose precision 'bf16' for the forward pass"
            )
    return updated


def make_optimizer(model: nn.Module, schedule: Schedule) -> torch.optim.AdamW:
    """Return AdamW over the updated parameters of a model.

    Biases and the weights of norms do not decay, everything else does, (IA)^3's factors too, as in the study's trainer.
    """
    undecayed = {
        f"{prefix}.{name}".removeprefix(".")
        for prefix, module in model.named_modules()
        for name, _ in module.named_parameters(recurse=False)
        if "bias" in name or "norm" in type(module).__name__.lower()
    }
    groups: dict[float, list[nn.Parameter]] = {}
    for name, weight in updated_parameters(model).items():
        groups.setdefault(0.0 if name in undecayed else schedule.weight_decay, []).append(weight)
    # Largest decay first: the order of groups must not depend on which parameter comes first.
    ordered = [{"params": groups[decay], "weight_decay": decay} for decay in sorted(groups, reverse=True)]
    return torch.optim.AdamW(ordered, lr=schedule.learning_rate, betas=_BETAS, eps=_EPSILON)
