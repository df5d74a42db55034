"""Operations, memory and time before a run: held to records, to what autograd keeps, and to counts by hand."""

import json
import platform
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from astraios_analysis.records.frame import load_folder
from training.grid.estimates import (
    GIB,
    Machine,
    activation_bytes,
    available_memory,
    counts_of,
    estimate_memory,
    estimate_run,
    fitting_plan,
    grid_seconds,
    measured_costs,
    needed_bytes,
    pace,
    place,
    processor_name,
    run_flop,
    shortage,
    visible_gpus,
)
from training.loop.batches import TokenBatch
from training.loop.validation import token_losses
from training.models.counts import count_parameters
from training.models.pretrained import scratch_config
from training.models.tuning import apply_tuning
from training.spec.grids import preset
from training.spec.run import LoopSettings, ModelSize, RunSpec, Schedule, Tuning, closed_form_counts

LADDER = Path(__file__).parents[3] / "data" / "runs" / "ladder"
PUBLISHED = {(run.size.name, run.tuning.method): run for run in preset("starcoderbase").runs()}
SMOKE = preset("smoke").runs()
MACHINE = Machine(n_devices=8, memory_bytes=80 * GIB, tflops=312, utilisation=0.4)
ROWS, LENGTH = 2, 50
LISTED = "0, GPU-a, 81000\n1, GPU-b, 2000\n2, GPU-c, 81000\n"


def with_loop(spec, **changes):
    return spec.model_copy(update={"loop": LoopSettings(**changes)})


def memory_of(spec, **layout):
    return estimate_memory(spec.size, spec.tuning, spec.schedule, spec.loop, **layout)


@pytest.fixture(scope="module")
def measured():
    return measured_costs(LADDER)


def test_operations_are_those_of_the_records():
    records = load_folder(LADDER)
    assert records
    for record in records:
        spec = RunSpec.model_validate_json(json.dumps(record.provenance.spec["run"]))
        n_rows = spec.schedule.steps * spec.schedule.global_batch
        counts = closed_form_counts(spec.size, spec.tuning)
        assert run_flop(counts, spec, record.n_tokens, n_rows) == pytest.approx(record.cost.flop, rel=1e-12)


def test_full_fine_tuning_costs_6_n_d():
    estimate = estimate_run(PUBLISHED["1b", "fft"], MACHINE)
    assert estimate.n_tokens == 200 * 32 * 2048
    assert estimate.flop == 6 * 1_137_207_296 * estimate.n_tokens
    # By hand: 21 validations of 512 rows forward, and attention of 24 blocks of width 2048 in both.
    attention = 4 * 24 * 2048 * 2048
    validated = 21 * 512 * 2048 * (2 * 1_137_207_296 + attention)
    assert estimate.flop_spent == pytest.approx(estimate.flop + 3 * attention * estimate.n_tokens + validated)
    assert estimate.seconds == pytest.approx(estimate.flop_spent / (312e12 * 0.4))
    on_eight = estimate_run(PUBLISHED["16b", "fft"], MACHINE)
    assert on_eight.plan.n_processes == 8
    assert on_eight.seconds == pytest.approx(on_eight.device_seconds / 8)
    assert on_eight.flop == 6 * 15_517_456_384 * on_eight.n_tokens


def test_a_grid_takes_its_longest_run_at_least():
    one, other = (estimate_run(PUBLISHED[size, "lora"], MACHINE) for size in ("16b", "1b"))
    assert grid_seconds([one, other], MACHINE) == one.seconds
    assert grid_seconds([one] * 16, MACHINE) == pytest.approx(2 * one.device_seconds)
    small = replace(MACHINE, n_devices=1, memory_bytes=GIB)
    assert grid_seconds([estimate_run(PUBLISHED["16b", "lora"], small)], small) is None


OPTIONS = {"n_devices": "gpus", "memory_bytes": "memory-gib", "tflops": "tflops", "utilisation": "utilisation"}


@pytest.mark.parametrize("name", OPTIONS)
def test_machines_have_positive_numbers(name):
    with pytest.raises(ValueError, match=f"--{OPTIONS[name]} is 0; give a"):
        replace(MACHINE, **{name: 0})


def test_pace_finds_rate_and_overhead_again(measured):
    made = measured.assign(device_seconds=measured["flop_spent"] / 5e9 + measured["steps"] * 0.1)
    assert pace(made) == pytest.approx((5e9, 0.1))
    assert pace(made[made["size"] == made["size"][0]])[1] == 0


def test_a_folder_without_costs_is_refused(tmp_path):
    record = json.loads(next(LADDER.glob("*.json")).read_text())
    del record["cost"]
    (tmp_path / f"{record['run_id']}.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"no record in .* has time, operations and the run's specification; give"):
        measured_costs(tmp_path)


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
    batch = TokenBatch(tokens, tokens[:, 1:], tokens.numel(), tokens[:, 1:].numel())
    bf16 = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), bf16:
        losses = token_losses(model, batch)
    assert losses.requires_grad
    return sum(kept.values()), size, tuning


def test_counts_of_any_model_and_method_are_those_of_the_meta_device(tmp_path, config_of, monkeypatch):
    config = config_of("qwen2")
    config.save_pretrained(tmp_path / "lab" / "qwen")
    dora = Tuning(method="dora", peft={"peft_type": "LORA", "use_dora": True})
    monkeypatch.setenv("ASTRAIOS_MODELS", str(tmp_path))
    shape = {"d_model": 32, "n_layers": 2, "n_heads": 4, "d_ff": 48, "vocab_size": 80, "n_positions": 96}
    size = ModelSize(name="qwen", pretrained="lab/qwen", **shape)
    for tuning in (dora, Tuning(method="lora"), Tuning(method="fft")):
        assert counts_of(size, tuning) == count_parameters(config, tuning)
    own = ModelSize(name="own", **shape)
    assert counts_of(own, dora).n_params_base == counts_of(own, Tuning(method="lora")).n_params_base
    assert estimate_memory(own, dora, Schedule(), LoopSettings()).gradients > 0


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
    memory = memory_of(run)
    assert memory.weights + memory.gradients + memory.moments == 16 * 15_517_456_384
    assert memory_of(run, n_processes=8, is_sharded=True).weights == memory.weights / 8
    assert memory_of(run, n_processes=8).weights == memory.weights


def test_a_frozen_base_in_fewer_bits_is_smaller():
    run = PUBLISHED["7b", "lora"]
    for kept, bytes_of_one in ((None, 4.01), ("bf16", 2.01), ("int8", 1.04), ("nf4", 0.57)):
        loop = with_loop(run, precision="bf16", base_precision=kept)
        assert round(memory_of(loop).weights / 7.327e9, 2) == bytes_of_one


def test_checkpointing_keeps_one_block_and_the_inputs_of_all():
    run = PUBLISHED["1b", "fft"]
    plain = memory_of(with_loop(run, micro_batch=1)).activations
    recomputed = memory_of(with_loop(run, micro_batch=1, gradient_checkpointing=True)).activations
    assert recomputed == pytest.approx(plain / 24 + 24 * 4 * 2048 * 2048)


@pytest.mark.parametrize(
    ("memory_gib", "n_devices", "expected"),
    [
        (300, 8, (1, None, False)),
        (80, 8, (1, 1, False)),
        (22, 8, (1, 1, True)),
        (16, 1, None),
        (16, 8, (8, None, False)),
        (12, 8, (8, 1, False)),
        # Six devices do not share a batch of 32 rows evenly, and three do not; four of them do, and two.
        (16, 6, (4, 1, False)),
        (16, 3, (2, 1, False)),
    ],
)
def test_small_passes_come_before_checkpointing_and_that_before_many_devices(memory_gib, n_devices, expected):
    plan = fitting_plan(with_loop(PUBLISHED["1b", "fft"], precision="bf16"), memory_gib * GIB, n_devices)
    found = plan and (plan.n_processes, plan.loop.micro_batch, plan.loop.gradient_checkpointing)
    assert found == expected
    assert plan is None or plan.memory.total <= memory_gib * GIB


def test_a_micro_batch_that_was_asked_for_is_kept():
    run = with_loop(PUBLISHED["1b", "lora"], micro_batch=4)
    assert fitting_plan(run, 80 * GIB, 1).loop.micro_batch == 4
    small = run.model_copy(update={"schedule": run.schedule.model_copy(update={"global_batch": 2})})
    assert fitting_plan(small, 80 * GIB, 1) is None


@pytest.mark.parametrize(
    ("run", "memory_gib", "n_devices", "ending"),
    [
        (("1b", "fft"), 22, 1, "needs 187 GiB, has 22: use --micro-batch 1 and --gradient-checkpointing"),
        (("16b", "fft"), 80, 8, "use 8 devices with FSDP2 (--shard) and --micro-batch 1"),
        (("16b", "fft"), 80, 1, "use more such devices (--shard), or devices with more memory"),
        (("16b", "lora"), 40, 1, "use --base-precision int8, more such devices (--shard), or devices with more memory"),
    ],
)
def test_a_shortage_says_what_is_needed_and_what_would_do(run, memory_gib, n_devices, ending):
    assert shortage(PUBLISHED[run], memory_gib * GIB, n_devices).endswith(ending)
    assert shortage(PUBLISHED[run], 2000 * GIB) is None


def test_visible_gpus_are_those_that_cuda_would_count_and_memory_is_in_bytes():
    names = {None: ["0", "1", "2"], "2,0": ["2", "0"], "GPU-c": ["GPU-c"], "": [], "-1": [], "0,7,1": ["0"]}
    assert {visible: list(visible_gpus(LISTED, visible)) for visible in names} == names
    assert visible_gpus(LISTED, "1") == {"1": 2000 * 2**20}
    assert visible_gpus("No devices were found\n", None) == {}
    found = available_memory()
    assert found is None or found > 2**20


def test_a_run_from_scratch_needs_what_its_base_needs():
    spec = preset("ladder").runs(methods=["ia3"])[-1]
    assert needed_bytes(spec) > estimate_memory(spec.size, spec.tuning, spec.schedule, spec.loop).total


def test_as_many_workers_as_memory_has_room_for_and_one_on_every_gpu_before_a_second_on_any():
    need = max(needed_bytes(spec) for spec in SMOKE)
    assert place(SMOKE, 4, {}, None) == place(SMOKE, 4, {}, 100 * GIB) == (None,) * 4
    assert place(SMOKE, 4, {}, 2.5 * need) == (None,) * 2
    gpus = visible_gpus(LISTED, None)
    assert place(SMOKE, 3, gpus, None) == ("0", "1", "2")
    assert place(SMOKE, 5, gpus, None) == ("0", "1", "2", "0", "1")


def test_a_run_that_does_not_fit_is_named_with_what_would_do():
    lora = [PUBLISHED["16b", "lora"]]
    for specs, gpus, free, message in (
        (lora, {}, 24 * GIB, r"16b-lora-.* fit: needs .* GiB, has 24: use --base-precision int8, more"),
        (lora, {"0": 80 * GIB}, None, r"does not fit: needs .* has 80: use --micro-batch \d.*--no-memory-check"),
        (SMOKE, {}, 0.1 * GIB, r"does not fit: needs \S+ GiB, has 0\.1: use"),
    ):
        with pytest.raises(ValueError, match=message):
            place(specs, 2, gpus, free)


def test_name_of_the_processor_is_the_first_of_those_listed():
    assert processor_name("processor\t: 0\nmodel\t\t: 17\nmodel name\t: Fast 9\nmodel name\t: Slow 1\n") == "Fast 9"
    assert processor_name("processor\t: 0\nCPU part\t: 0xd0c\n") == platform.machine()
    assert processor_name()


def test_json_is_pure_and_complete(told):
    found = json.loads(told("estimate", "--preset", "starcoderbase", "--json").out)
    assert list(found) == ["machine", "cells", "grid", "measured"]
    assert (len(found["cells"]), found["grid"]["n_runs"], found["grid"]["n_unfit"]) == (28, 28, 0)
    cell = found["cells"][-7]
    assert (cell["size"], cell["method"], cell["n_params_updated"]) == ("16b", "fft", 15_517_456_384)
    assert cell["plan"]["n_processes"] == 8
    assert found["grid"]["flop"] == sum(cell["flop"] for cell in found["cells"])


def test_what_does_not_fit_is_said_and_is_the_exit_status(told):
    command = ["estimate", "--preset", "starcoderbase", "--size", "16b", "--gpus", "1", "--method"]
    captured = told(*command, "fft", status=1)
    assert "not on 1" in captured.out
    assert "1 of 1 runs do not fit on 1 GPUs" in captured.err
    told(*command, "lora", "--memory-gib", "24", "--base-precision", "int8")


def test_measured_grids_give_pace_and_length_of_rows(told):
    command = ["estimate", "--preset", "ladder", "--gpus", "2", "--memory-gib", "8", "--measured", LADDER, "--json"]
    found = json.loads(told(*command).out)
    assert found["machine"]["step_seconds"] > 0
    assert found["measured"]["n_runs"] == 126
    # 300 steps of 32 documents, as long as those that were measured on the same corpus.
    assert found["cells"][0]["n_tokens"] == pytest.approx(300 * 32 * found["measured"]["tokens_per_row"], abs=1)
