"""What holds while a run is trained, and is put back afterwards: random numbers, recomputed activations."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from accelerate import Accelerator
from peft import PeftModel
from transformers import PreTrainedModel


@contextmanager
def seeded(seed: int, accelerator: Accelerator) -> Iterator[None]:
    """Draw what is random in training from a seed, another stream on every process, and nothing of the caller's."""
    device = accelerator.device
    # The caller's random numbers go on as if there had been no training.
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        draw_from(seed, accelerator)
        yield


def draw_from(seed: int, accelerator: Accelerator, *more: int) -> None:
    """Seed this process from a run's seed and further numbers."""
    # Mixed, not added: the second process of one seed must not draw what the first of the next seed draws.
    torch.manual_seed(int(np.random.SeedSequence([seed, accelerator.process_index, *more]).generate_state(1)[0]))


@contextmanager
def activations(model: PreTrainedModel | PeftModel, recomputed: bool) -> Iterator[None]:
    """Compute a model's activations anew in the backward pass, where that is asked for."""
    if not recomputed:
        yield
        return
    # The other, reentrant kind gives no gradients where the input of a block needs none, as under a frozen base.
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    try:
        yield
    finally:
        model.gradient_checkpointing_disable()
