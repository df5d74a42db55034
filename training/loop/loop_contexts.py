"""What holds while a run is trained, and is put back afterwards: random numbers, recomputed activations, kernels."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from accelerate import Accelerator
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel

from training.corpus.hub import reason_of
from training.loop.sharding import blocks_of


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


@contextmanager
def compiled(model: PreTrainedModel | PeftModel, is_asked: bool, accelerator: Accelerator) -> Iterator[None]:
    """Compute a model's blocks by compiled kernels, where that is asked for; parameters and their names stay.

    Parameters
    ----------
    model : PreTrainedModel or PeftModel
        The tuned model, whole.
    is_asked : bool
        Whether it shall be so.
    accelerator : Accelerator
        Its device.

    Raises
    ------
    ValueError
        If torch cannot compile here.
    """
    if not is_asked:
        yield
        return
    _check_compiler(accelerator.device)
    blocks = blocks_of(model)
    for block in blocks:
        # Rows of any length by one kernel, and dropout's noise as without.
        block.compile(dynamic=True, options={"fallback_random": True})
    try:
        yield
    finally:
        for block in blocks:
            block._compiled_call_impl = None
        # The next model's blocks are of the same code, whose kernels torch keeps only so many of.
        torch._dynamo.reset()


def _check_compiler(device: torch.device) -> None:
    try:
        torch.compile(nn.functional.gelu)(torch.ones(2, device=device))
    except Exception as error:  # of its own, of the C++ compiler and of triton
        raise ValueError(
            f"torch.compile does not work here ({reason_of(error)}); install what compiles for {device.type} (a C++ "
            "compiler for cpu, triton for cuda), or leave out --compile"
        ) from error
