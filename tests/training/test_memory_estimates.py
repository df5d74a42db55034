"""Memory by formula, held to what autograd keeps for the backward pass; and plans that fit."""

from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM

from training.grid.estimates import GIB, Layout, activation_bytes, estimate_memory, fitting_plan, in_gib, shortage
from training.loop.validation import count_virtual_tokens, token_losses
from training.models.models import scratch_config
from training.models.tuning import apply_tuning
from training.spec.grids import preset
from training.spec.loop_settings import LoopSettings
from training.spec.run import ModelSize, Schedule, Tuning

ROWS, LENGTH = 2, 50
PUBLISHED = {(run.size.name, run.tuning.method): run for run in preset("starcoderbase").runs()}


def kept_bytes(n_layers, method, precision):
    """Bytes of the distinct tensors that autograd keeps for one backward pass, weights and their copies left out."""
    size = ModelSize(name="s", d_model=64, n_layers=n_layers, n_heads=4, d_ff=256, vocab_size=90, n_positions=128)
    tuning = Tuning.for_width(method, 64)
    with torch.random.fork_rng():
        base = AutoModelForCausalLM.from_config(scratch_config(size), dtype=torch.float32)
    model = apply_tuning(base, tuning, seed=0).train()
    own = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept, alive, width = {}, [], LENGTH + (tuning.virtual_tokens or 0)
    token_axes = {width, ROWS * width}

    def pack(tensor):
        storage = tensor.untyped_storage()
        # A bfloat16 copy of a weight has no axis of tokens.
        per_token = not token_axes.isdisjoint(tensor.shape)
        if storage.data_ptr() not in own and per_token:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    tokens = torch.zeros((ROWS, LENGTH), dtype=torch.int64)
    batch = SimpleNamespace(tokens=tokens, targets=tokens[:, 1:])
    bf16 = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), bf16:
        losses = token_losses(model, batch, count_virtual_tokens(model))
    assert losses.requires_grad
    return sum(kept.values()), size, tuning


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("method", "low", "high"),
    [
        ("fft", 0.95, 1.05),
        ("lora", 0.9, 1.1),
        ("ia3", 0.95, 1.1),
        # Upper bounds: under a frozen base less is kept than the formula of full fine-tuning says.
        ("ptuning", 1, 1.75),
        ("adapterh", 1, 1.5),
        ("adapterp", 1, 1.6),
        ("parallel", 1, 1.6),
    ],
)
def test_activations_are_what_autograd_keeps(method, precision, low, high):
    (two, *_), (four, size, tuning) = (kept_bytes(n_layers, method, precision) for n_layers in (2, 4))
    n_tokens = ROWS * (LENGTH + (tuning.virtual_tokens or 0))
    of_a_block = (four - two) / 2 / n_tokens
    assert low <= activation_bytes(size, tuning, 4 if precision == "fp32" else 2) / of_a_block <= high


def test_full_fine_tuning_holds_16_bytes_a_parameter():
    run = PUBLISHED["16b", "fft"]
    memory = estimate_memory(run.size, run.tuning, run.schedule, run.loop)
    assert memory.weights + memory.gradients + memory.moments == 16 * 15_517_456_384
    sharded = estimate_memory(run.size, run.tuning, run.schedule, run.loop, Layout(8, is_sharded=True))
    assert sharded.weights == memory.weights / 8
    whole = estimate_memory(run.size, run.tuning, run.schedule, run.loop, Layout(8))
    assert whole.weights == memory.weights


def test_a_frozen_base_in_fewer_bits_is_smaller():
    run = PUBLISHED["7b", "lora"]
    sizes = [
        estimate_memory(run.size, run.tuning, run.schedule, LoopSettings(precision="bf16", base_precision=kept)).weights
        for kept in (None, "bf16", "int8")
    ]
    assert [round(size / 7.327e9, 2) for size in sizes] == [4.01, 2.01, 1.04]


def test_checkpointing_keeps_one_block_and_the_inputs_of_all():
    run = PUBLISHED["1b", "fft"]
    arguments = run.size, run.tuning, run.schedule
    plain = estimate_memory(*arguments, LoopSettings(micro_batch=1)).activations
    recomputed = estimate_memory(*arguments, LoopSettings(micro_batch=1, gradient_checkpointing=True)).activations
    assert recomputed == pytest.approx(plain / 24 + 24 * 4 * 2048 * 2048)


def test_plans_prefer_few_devices_then_kept_activations_then_large_passes():
    run = PUBLISHED["1b", "fft"]
    arguments = run.size, run.tuning, run.schedule, LoopSettings(precision="bf16")

    def chosen(memory_gib, n_devices):
        plan = fitting_plan(*arguments, memory_bytes=memory_gib * GIB, n_devices=n_devices)
        if plan is None:
            return None
        assert plan.memory.total <= memory_gib * GIB
        layout = plan.layout
        return layout.n_processes, layout.is_sharded, plan.loop.micro_batch, plan.loop.gradient_checkpointing

    assert chosen(300, 8) == (1, False, 32, False)
    assert chosen(80, 8) == (1, False, 8, False)
    assert chosen(24, 8) == (1, False, 1, False)
    assert chosen(22, 8) == (1, False, 1, True)
    assert chosen(16, 1) is None
    assert chosen(16, 8) == (2, True, 1, False)


def test_a_micro_batch_that_was_asked_for_is_kept():
    run = PUBLISHED["1b", "lora"]
    arguments = run.size, run.tuning, run.schedule, LoopSettings(micro_batch=4)
    assert fitting_plan(*arguments, memory_bytes=80 * GIB, n_devices=1).loop.micro_batch == 4
    small = Schedule(global_batch=2)
    assert fitting_plan(*arguments[:2], small, arguments[3], memory_bytes=80 * GIB, n_devices=1) is None


def test_a_shortage_says_what_is_needed_and_what_would_do():
    assert shortage(PUBLISHED["1b", "lora"], 300 * GIB) is None
    text = shortage(PUBLISHED["1b", "fft"], 24 * GIB)
    assert text == "needs 235 GiB, has 24: use --micro-batch 2 and --gradient-checkpointing"
    assert shortage(PUBLISHED["16b", "fft"], 80 * GIB).endswith("has 80: use 4 such devices with FSDP2")
    assert shortage(PUBLISHED["16b", "fft"], 80 * GIB, n_devices=8).endswith(
        "use 4 devices with FSDP2 and --micro-batch 4 and --gradient-checkpointing"
    )
    text = shortage(PUBLISHED["16b", "lora"], 40 * GIB)
    assert text.endswith("use --base-precision bf16, for all methods with a frozen base alike")
    assert shortage(PUBLISHED["16b", "fft"], 1 * GIB).endswith("use devices with more memory")


@pytest.mark.parametrize(("gib", "shown"), [(0.104, "0.104"), (24, "24"), (999.4, "999"), (1147.3, "1,147")])
def test_memory_is_shown_without_powers_of_ten(gib, shown):
    assert in_gib(gib * 2**30) == shown
