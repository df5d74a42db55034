"""Memory and speed of a 1B-shaped model on one GPU against the estimate: `make bench-gpu`, for a machine that has one.

StarCoderBase-1B's shape with random weights, full fine-tuning and LoRA, two seeds, 20 steps of 8 rows of 2,048 tokens
in bfloat16, FSDP2 over one device. Prints peak memory and MFU beside what `training.grid.estimates` says; the aim is an
MFU of 40 %. Start it with torchrun, as the Makefile does.
"""

import os
import sys

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from astraios_analysis.records.notation import table_text
from training.grid.estimates import GIB, estimate_memory
from training.loop.batches import TokenRows
from training.loop.flop import model_flops_utilisation
from training.loop.train import train
from training.models.pretrained import scratch_config
from training.models.tuning import apply_tuning
from training.spec.run import STARCODERBASE_SIZES, LoopSettings, Schedule, Tuning

LENGTH, STEPS = 2048, 20
SIZE = STARCODERBASE_SIZES[0]


def rows_of(n: int, seed: int) -> list:
    """Return random rows: speed and memory do not depend on what they say."""
    rng = np.random.default_rng(seed)
    return [(rng.integers(0, SIZE.vocab_size, LENGTH), np.ones(LENGTH, dtype=bool)) for _ in range(n)]


def main() -> None:
    """Train each method with each seed and print a line for each."""
    if not torch.cuda.is_available():
        sys.exit("there is no GPU here")
    torch.distributed.init_process_group("nccl")
    schedule = Schedule(steps=STEPS, global_batch=8, sequence_length=LENGTH, warmup_steps=2, validate_every=STEPS)
    settings = LoopSettings(precision="bf16", micro_batch=4, gradient_checkpointing=True)
    lines = []
    for method in ("lora", "fft"):
        for seed in (0, 1):
            tuning = Tuning(method=method)
            torch.manual_seed(seed)
            base = AutoModelForCausalLM.from_config(scratch_config(SIZE), dtype=torch.float32)
            model = apply_tuning(base, tuning, seed=seed)
            rows = TokenRows(rows_of(8 * STEPS, seed), rows_of(4, 2))
            result = train(model, schedule, rows, seed=seed, settings=settings, is_sharded=True)
            estimate = estimate_memory(SIZE, tuning, schedule, settings, n_processes=1, is_sharded=True)
            used = model_flops_utilisation(result.flop, result.step_seconds, 1, torch.cuda.get_device_name())
            peak = result.peak_memory_bytes or 0
            lines.append(
                {
                    "method": method,
                    "seed": seed,
                    "loss": f"{result.train_losses[0]:.3f} -> {result.train_losses[-1]:.3f}",
                    "peak GiB": f"{peak / GIB:.2f}",
                    "estimate GiB": f"{(estimate.total - estimate.process) / GIB:.2f}",
                    "tokens/s": f"{result.n_tokens / result.step_seconds:,.0f}",
                    "MFU": "-" if used is None else f"{used:.3f}",
                }
            )
            del model, base
            torch.cuda.empty_cache()
    if os.environ.get("RANK", "0") == "0":
        print(table_text(lines))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
