"""The optimiser of the study: AdamW over what is updated, a linear warm-up, a cosine decay."""

import math

import torch
from torch import nn

from training.spec.run import Schedule

# AdamW's other settings are those of the study's trainer (transformers), which are torch's own.
_BETAS = (0.9, 0.999)
_EPSILON = 1e-8


def learning_rate(schedule: Schedule, step: int) -> float:
    """Return the learning rate of a step.

    With peak rate r, w warm-up steps and S steps: r s / w for s < w, then r (1 + cos(pi (s - w) / (S - w))) / 2. This
    is the schedule of the study's trainer; where there is a warm-up, its first step has rate 0.

    Parameters
    ----------
    schedule : Schedule
        Peak rate, warm-up and number of steps.
    step : int
        Steps s taken before, 0 for the first.

    Returns
    -------
    float
        The rate: a function of the step alone, so a resumed run needs no state of the schedule.
    """
    if step < schedule.warmup_steps:
        return schedule.learning_rate * step / schedule.warmup_steps
    done = (step - schedule.warmup_steps) / max(1, schedule.steps - schedule.warmup_steps)
    return schedule.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def updated_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that training updates, by name.

    Raises
    ------
    ValueError
        If there is none, or one is not float32.
    """
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

    Biases and the weights of norms do not decay, everything else does, as in the study's trainer: a norm's weight
    and a bias shift or scale one channel, and pulling them to 0 does not make the model simpler. (IA)^3's factors
    decay, as they did there.

    Parameters
    ----------
    model : torch.nn.Module
        A tuned model.
    schedule : Schedule
        Rate and weight decay.

    Returns
    -------
    torch.optim.AdamW
        Two groups: with and without decay; the first may be empty and is then left out.

    Raises
    ------
    ValueError
        If nothing is updated, or not in float32.
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
