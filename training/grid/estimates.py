"""What runs cost before they are trained (operations, memory, time), and what this machine has. Without torch.

Operations are those that records hold (`training.loop.flop`): (4 N + 2 N_u) D, with N, N_u all and updated parameters
and D tokens. Time counts validation (2 N a token), attention's own products (4 L d T a token forward, with L blocks,
width d and row T, twice that backward) and activations computed anew (one more forward pass) as well.

Memory, in bytes, with c bytes of the forward pass (4 in float32, 2 in bfloat16), head width k and feed-forward width f:

* weights 4 N; a frozen base in bfloat16 2, in 8 bits 1 and in nf4 .52 a parameter of the blocks, 2 of embeddings;
* gradients 4 N_u and AdamW's moments 8 N_u, in float32 always;
* activations of every block and token: c (6 d + 2 k + 2 f) + (4 - c) 2 d: inputs of both norms (float32), of all four
  projections and of the activation function, queries, keys, values and the attention's output; nothing grows with the
  square of the row (flash kernels). LoRA keeps a dropped copy and a mask of its inputs instead, (IA)^3 its products in
  float32. With gradient checkpointing: 4 d of every block, and one block whole;
* logits (c + 12) V a token, of `CHUNK_LOGITS` at most: as computed, in float32, log-softmax, and gradient;
* copies in bfloat16 that autocast makes: 2 N, of embeddings and two blocks when sharded; buckets of gradients 4 N_u;
* the optimiser's step 4 N_u (a moment, torch's foreach), when activations are gone.

Sharded over g processes (FSDP2), weights, gradients and moments are divided by g. Korthikanti et al. 2022, arXiv
2205.05198, section 4; Rajbhandari et al. 2020, arXiv 1910.02054, section 3. The counts for this project's blocks are
its own: a test holds them to what autograd keeps.
"""

import math
import os
import platform
import re
import shutil
import statistics
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from pathlib import Path

import numpy as np
import pandas as pd

from astraios_analysis.records.frame import RunRecord, load, load_folder
from astraios_analysis.records.refusal import Refusal
from training.spec.files import checkpoints_in, record_path, work_folder
from training.spec.run import (
    CHUNK_LOGITS,
    LoopSettings,
    ModelSize,
    ParameterCounts,
    RunSpec,
    Schedule,
    Tuning,
    block_parameters,
    closed_form_counts,
    is_closed_form,
    micro_batch_size,
    qkv_width,
    spec_of,
    training_flop,
)

GIB = 2**30
_MEMINFO = Path("/proc/meminfo")
_CPUINFO = Path("/proc/cpuinfo")
# Limit of a container or of a cluster's job, in either version of Linux' control groups.
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_USED = (Path("/sys/fs/cgroup/memory.current"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"))


def gpus() -> dict[str, int]:
    """Return the free bytes of the GPUs that this process may use, as ``nvidia-smi`` lists them; none without it."""
    if shutil.which("nvidia-smi") is None:
        return {}
    query = ["nvidia-smi", "--query-gpu=index,uuid,memory.free", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return {}
    return visible_gpus(done.stdout, os.environ.get("CUDA_VISIBLE_DEVICES"))


def visible_gpus(listed: str, visible: str | None) -> dict[str, int]:
    """Return the free bytes of the GPUs of the driver's list that a value of CUDA_VISIBLE_DEVICES leaves."""
    free: dict[str, int] = {}
    indices = []
    for line in listed.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) == 3 and parts[2].isdigit():
            indices.append(parts[0])
            free[parts[0]] = free[parts[1]] = int(parts[2]) * 2**20
    names = indices if visible is None else [name.strip() for name in visible.split(",")]
    # CUDA counts as far as the first that is not there.
    return {name: free[name] for name in takewhile(free.__contains__, names)}


def processor_name(listed: str | None = None) -> str:
    """Return what this machine calls its kind of processor."""
    if listed is None:
        listed = _text_of(_CPUINFO)
    found = re.search(r"^model name\s*:\s*(\S.*)$", listed, re.MULTILINE)
    return found[1].strip() if found else platform.machine() or "unknown"


def available_memory() -> int | None:
    """Return the bytes that new processes can have here; None where the system does not tell."""
    free = []
    found = re.search(r"^MemAvailable:\s+(\d+) kB", _text_of(_MEMINFO), re.MULTILINE)
    if found:
        free.append(int(found[1]) * 1024)
    for limit, used in zip(_LIMITS, _USED, strict=True):
        # No such group, or no limit ("max").
        with suppress(ValueError):
            free.append(max(0, int(_text_of(limit)) - int(_text_of(used))))
    return min(free, default=None)


def _text_of(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def in_gib(n_bytes: float) -> str:
    """Return a number of bytes in GiB: three digits, or all of them before the point, "1,147"."""
    gib = n_bytes / GIB
    return f"{gib:,.0f}" if gib >= 1000 else f"{gib:.3g}"


PROCESS_BYTES = GIB // 2
"""What a process takes before any model: the libraries on a CPU (measured 0.4 GiB), the context on a GPU (assumed)."""

_FLOAT32, _BFLOAT16 = 4, 2
# Of nf4, a scale of 8 bits for 64 weights and one of 32 bits for 256 of those (QLoRA, section 3): 4.127 bits a weight.
_QUANTISED = {"int8": 1.0, "nf4": 0.516}
# Two blocks at a time: the one that computes, and the next one, fetched meanwhile.
_BLOCKS_FETCHED = 2


@cache
def counts_of(size: ModelSize, tuning: Tuning) -> ParameterCounts:
    """Return a tuned model's counts: by closed forms where there are some, else on the meta device."""
    if is_closed_form(size, tuning):
        return closed_form_counts(size, tuning)
    # Brings torch, which plans of this project's own grids and of the study's do without.
    from training.models.counts import count_size

    return count_size(size, tuning)


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of the fullest process, by what takes them."""

    weights: float
    gradients: float
    moments: float
    # Held for a forward and backward pass.
    activations: float
    logits: float
    copies: float
    # Held for the optimiser's step.
    step: float
    process: float = PROCESS_BYTES

    @property
    def total(self) -> float:
        """Return the peak: what is held, and the larger of a pass and an optimiser's step."""
        held = self.process + self.weights + self.gradients + self.moments
        return held + max(self.activations + self.logits + self.copies, self.step)


def activation_bytes(size: ModelSize, tuning: Tuning, bytes_of_pass: int) -> float:
    """Return the bytes that one block keeps of one token for the backward pass."""
    d, f, k, c = size.d_model, size.d_ff, size.d_model // size.n_heads, bytes_of_pass
    full = c * (6 * d + 2 * k + 2 * f) + (_FLOAT32 - c) * 2 * d
    if tuning.method == "lora":
        # Dropped copies and masks of three inputs, in place of the inputs of four frozen projections.
        return full + (c + _FLOAT32) * (2 * d + f) - c * (3 * d + f) + 3 * tuning.rank * c
    if tuning.method == "ia3":
        return full + (_FLOAT32 - c) * (qkv_width(size) + f)
    return full


def estimate_memory(
    size: ModelSize,
    tuning: Tuning,
    schedule: Schedule,
    loop: LoopSettings,
    *,
    n_processes: int = 1,
    is_sharded: bool = False,
    is_offloaded: bool = False,
) -> MemoryEstimate:
    """Return the memory that training takes on the fullest process; without a micro-batch, its whole share at once."""
    counts = counts_of(size, tuning)
    added = counts.n_params - counts.n_params_base
    # In main memory they are none of the device's.
    shards = math.inf if is_offloaded else n_processes if is_sharded else 1
    c = _BFLOAT16 if loop.precision == "bf16" else _FLOAT32
    micro_batch = micro_batch_size(schedule.global_batch, loop.micro_batch, n_processes)
    tokens = micro_batch * (schedule.sequence_length + (tuning.virtual_tokens or 0))
    of_block = activation_bytes(size, tuning, c)
    kept = of_block * size.n_layers
    if loop.gradient_checkpointing:
        kept = of_block + _FLOAT32 * size.d_model * size.n_layers
    updated = _FLOAT32 * counts.n_params_updated
    if is_sharded:
        # Embeddings, which belong to no block, stay gathered.
        copies = c * (block_parameters(size) * _BLOCKS_FETCHED + counts.n_params_embedding)
    else:
        copies = _BFLOAT16 * counts.n_params if c == _BFLOAT16 and loop.base_precision is None else 0
        copies += updated if n_processes > 1 else 0
    return MemoryEstimate(
        weights=(_base_bytes(size, counts.n_params_base, loop) + _FLOAT32 * added) / shards,
        gradients=updated / shards,
        moments=2 * updated / shards,
        activations=kept * tokens,
        logits=(c + 12) * min(size.vocab_size * tokens, CHUNK_LOGITS),
        copies=copies,
        step=updated / shards,
    )


def _base_bytes(size: ModelSize, n_base: int, loop: LoopSettings) -> float:
    if loop.base_precision is None:
        return _FLOAT32 * n_base
    if loop.base_precision == "bf16":
        return _BFLOAT16 * n_base
    of_blocks = size.n_layers * block_parameters(size)
    return _QUANTISED[loop.base_precision] * of_blocks + _BFLOAT16 * (n_base - of_blocks)


@dataclass(frozen=True)
class Plan:
    """Settings and processes with which a run fits; several processes are sharded."""

    loop: LoopSettings
    n_processes: int
    memory: MemoryEstimate

    def changes(self, spec: RunSpec) -> list[str]:
        """Return how it differs from a run's own settings, in the words of the command line."""
        found = [f"{self.n_processes} devices with FSDP2 (--shard)"] if self.n_processes > 1 else []
        if self.loop.micro_batch != spec.loop.micro_batch:
            found.append(f"--micro-batch {self.loop.micro_batch}")
        if self.loop.gradient_checkpointing != spec.loop.gradient_checkpointing:
            found.append("--gradient-checkpointing")
        return found


def fitting_plan(spec: RunSpec, memory_bytes: float, n_devices: int) -> Plan | None:
    """Return how a run fits: as it is set, else with the smallest passes, checkpointed, or sharded over all it can be.

    Precisions stay as given: they are the same for all methods of a grid unless someone decides otherwise.
    """
    # What is not sharded whole (`check_sharding`) is not proposed.
    batch = spec.schedule.global_batch
    most = 1 if spec.loop.base_precision in _QUANTISED else min(n_devices, batch)
    # Of the devices as many as the batch divides into.
    shared = next(n for n in range(most, 0, -1) if batch % n == 0)
    for n_processes in dict.fromkeys((1, shared)):
        for checkpointing in dict.fromkeys((spec.loop.gradient_checkpointing, True)):
            for micro_batch in dict.fromkeys((spec.loop.micro_batch, spec.loop.micro_batch or 1)):
                if micro_batch and batch // n_processes % micro_batch:
                    continue
                changed = {"micro_batch": micro_batch, "gradient_checkpointing": checkpointing}
                loop = spec.loop.model_copy(update=changed)
                layout = {"n_processes": n_processes, "is_sharded": n_processes > 1}
                memory = estimate_memory(spec.size, spec.tuning, spec.schedule, loop, **layout)
                if memory.total <= memory_bytes:
                    return Plan(loop, n_processes, memory)
    return None


def shortage(spec: RunSpec, memory_bytes: float, n_devices: int = 1) -> str | None:
    """Return why a run does not fit into a device as it is set, and what would do; None where it fits."""
    needed = estimate_memory(spec.size, spec.tuning, spec.schedule, spec.loop).total
    if needed <= memory_bytes:
        return None
    free = spec.model_copy(update={"loop": spec.loop.model_copy(update={"micro_batch": None})})
    plan = fitting_plan(free, memory_bytes, n_devices)
    if plan is not None:
        advice = " and ".join(plan.changes(free))
    else:
        fewer_bits = "" if spec.tuning.method == "fft" or spec.loop.base_precision else "--base-precision int8, "
        more = "" if spec.loop.base_precision in _QUANTISED else "more such devices (--shard), or "
        advice = f"{fewer_bits}{more}devices with more memory"
    return f"needs {in_gib(needed)} GiB, has {in_gib(memory_bytes)}: use {advice}"


def needed_bytes(spec: RunSpec) -> float:
    """Return the memory of the fullest moment of a run: its own training, or that of its base from scratch."""
    own = estimate_memory(spec.size, spec.tuning, spec.schedule, spec.loop).total
    if spec.pretraining is None:
        return own
    in_float32 = spec.loop.model_copy(update={"base_precision": None})
    return max(own, estimate_memory(spec.size, Tuning(method="fft"), spec.pretraining, in_float32).total)


def place(
    specs: Sequence[RunSpec], jobs: int, devices: Mapping[str, int], memory_bytes: float | None
) -> tuple[str | None, ...]:
    """Return for each worker process the GPU that it works on, None without GPUs: as many as memory has room for.

    Any worker may get any run, so each has room for the largest. Refuses where not even one run fits.
    """
    largest = max(specs, key=needed_bytes)
    need = needed_bytes(largest)

    def room(free: float | None) -> int:
        return jobs if free is None else min(jobs, int(free // need))

    if not devices:
        places: list[str | None] = [None] * room(memory_bytes)
    else:
        rooms = {name: room(free) for name, free in devices.items()}
        # The first worker of every GPU before the second of any.
        places = [name for turn in range(jobs) for name, n in rooms.items() if turn < n][:jobs]
    if not places:
        free = max(devices.values(), default=memory_bytes)
        reason = shortage(largest, free) or (
            f"needs {in_gib(need)} GiB for the training of its base, has {in_gib(free)}: use --micro-batch"
        )
        raise Refusal(f"run {largest.run_id} does not fit: {reason} (or --no-memory-check to try it all the same)")
    return tuple(places)


@dataclass(frozen=True)
class Machine:
    """What runs are trained on."""

    n_devices: int
    memory_bytes: float
    tflops: float
    utilisation: float
    step_seconds: float = 0.0

    def __post_init__(self) -> None:
        amounts = {"gpus": self.n_devices, "memory-gib": self.memory_bytes / GIB, "tflops": self.tflops}
        for name, value in amounts.items():
            if not (math.isfinite(value) and value > 0):
                raise Refusal(f"--{name} is {value:g}; give a positive number")
        if not 0 < self.utilisation <= 1:
            raise Refusal(f"--utilisation is {self.utilisation}; give a share of the peak in (0, 1]")


@dataclass(frozen=True)
class RunEstimate:
    """What one run will cost; plan and times are None where it does not fit."""

    spec: RunSpec
    counts: ParameterCounts
    n_tokens: int
    # As its record will count them, and those that take time: validation, attention and recomputed activations too.
    flop: float
    flop_spent: float
    # With the run's own settings, on one device.
    memory: MemoryEstimate
    plan: Plan | None
    # Seconds of one device, times devices; and from start to end.
    device_seconds: float | None
    seconds: float | None


def run_flop(counts: ParameterCounts, spec: RunSpec, n_tokens: int, n_rows: int) -> float:
    """Return the operations of training a run, as its record will have them."""
    if spec.tuning.virtual_tokens:
        return training_flop(counts.n_params_base, 0, n_tokens, spec.tuning.virtual_tokens * n_rows)
    return training_flop(counts.n_params, counts.n_params_updated, n_tokens)


def spent_flop(counts: ParameterCounts, spec: RunSpec, n_tokens: int, *, recomputed: bool) -> float:
    """Return all operations of a run: training, validation, attention, recomputed activations."""
    schedule, size = spec.schedule, spec.size
    n_rows = schedule.steps * schedule.global_batch
    length = n_tokens / n_rows + (spec.tuning.virtual_tokens or 0)
    attention = 4.0 * size.n_layers * size.d_model * length
    forward = 2.0 * counts.n_params_base + attention
    # Before the first step, at multiples of validate_every, and after the last; a frozen base once by itself.
    n_validations = 1 + math.ceil(schedule.steps / schedule.validate_every) + (spec.tuning.method != "fft")
    trained = run_flop(counts, spec, n_tokens, n_rows) + 3.0 * attention * length * n_rows
    again = forward * length * n_rows if recomputed else 0.0
    return trained + again + n_validations * spec.n_validation * length * forward


def estimate_run(spec: RunSpec, machine: Machine, *, tokens_per_row: float | None = None) -> RunEstimate:
    """Return what a run will cost on a machine, scores and the training of its base left out.

    Without a measured mean length, rows that are one document are taken to be as long as they may be.
    """
    schedule, counts = spec.schedule, counts_of(spec.size, spec.tuning)
    n_rows = schedule.steps * schedule.global_batch
    n_tokens = round(n_rows * (tokens_per_row or schedule.sequence_length))
    plan = fitting_plan(spec, machine.memory_bytes, machine.n_devices)
    spent = spent_flop(counts, spec, n_tokens, recomputed=plan is not None and plan.loop.gradient_checkpointing)
    device_seconds = seconds = None
    if plan is not None:
        busy = spent / (machine.tflops * 1e12 * machine.utilisation)
        device_seconds = busy + schedule.steps * machine.step_seconds * plan.n_processes
        seconds = device_seconds / plan.n_processes
    flop = run_flop(counts, spec, n_tokens, n_rows)
    memory = estimate_memory(spec.size, spec.tuning, schedule, spec.loop)
    return RunEstimate(spec, counts, n_tokens, flop, spent, memory, plan, device_seconds, seconds)


def grid_seconds(estimates: Sequence[RunEstimate], machine: Machine) -> float | None:
    """Return the least time in which a machine can train runs: all devices busy, and no run cut in two."""
    if any(estimate.plan is None for estimate in estimates):
        return None
    busy = sum(estimate.device_seconds for estimate in estimates) / machine.n_devices
    return max(busy, *(estimate.seconds for estimate in estimates))


def measured_costs(folder: str | Path) -> pd.DataFrame:
    """Return the time that runs took by their records, of those that hold time, operations and the specification.

    A row a run: ``length`` is the most tokens a row may have, ``flop_spent`` the operations that took the time.
    """
    found = _costs_of(load_folder(folder))
    if found.empty:
        raise Refusal(
            f"no record in {folder} has time, operations and the run's specification; give a folder of records that "
            "`python -m training grid run` wrote"
        )
    return found


def _costs_of(records: Iterable[RunRecord]) -> pd.DataFrame:
    rows = []
    for record in records:
        cost, spec, described = record.cost, spec_of(record), record.provenance.spec
        if cost is None or not cost.seconds or not cost.flop or spec is None:
            continue
        recomputed = described.get("loop", described["run"].get("loop", {})).get("gradient_checkpointing", False)
        row = {
            "size": record.size,
            "method": record.method,
            "data": spec.data,
            "length": spec.schedule.sequence_length,
            "steps": spec.schedule.steps,
            "tokens_per_row": record.n_tokens / (spec.schedule.steps * spec.schedule.global_batch),
            "flop_spent": spent_flop(counts_of(spec.size, spec.tuning), spec, record.n_tokens, recomputed=recomputed),
            "seconds": cost.seconds,
            "device_seconds": cost.seconds * described.get("n_processes", 1),
            "scoring_seconds": sum(taken.get("seconds", 0.0) for taken in described.get("scores", {}).values()),
        }
        rows.append(row)
    return pd.DataFrame(rows)


def pace(measured: pd.DataFrame) -> tuple[float, float]:
    """Return operations a second of a device, and seconds of a step that no operation explains (0 for one size alone).

    Least squares of relative errors in seconds = flop / rate + steps * overhead. Small models spend most of their time
    between operations, so that one rate for all sizes would be far off at both ends.
    """
    parts = measured[["flop_spent", "steps"]].to_numpy() / measured[["device_seconds"]].to_numpy()
    if measured["size"].nunique() > 1:
        per_flop, overhead = np.linalg.lstsq(parts, np.ones(len(measured)), rcond=None)[0]
        if per_flop > 0 and overhead > 0:
            return float(1 / per_flop), float(overhead)
    return float(statistics.median(parts[:, 0])), 0.0


def tokens_per_row(measured: pd.DataFrame, spec: RunSpec) -> float | None:
    """Return the mean tokens of a row on a run's corpus with its longest row; None where none was measured."""
    is_same = (measured["data"] == spec.data) & (measured["length"] == spec.schedule.sequence_length)
    return statistics.fmean(measured.loc[is_same, "tokens_per_row"]) if is_same.any() else None


# One run tells nothing about sizes that differ from its own.
_LEAST_FINISHED = 2


def seconds_left(specs: Sequence[RunSpec], runs_dir: str | Path) -> list[float | None]:
    """Return the time that each run of a grid still takes, training and scores, by the pace of its finished runs.

    0 for finished ones, None where too few are finished to tell. What a run's last checkpoint has is taken off.
    """
    paths = [record_path(runs_dir, spec.run_id) for spec in specs]
    is_done = [path.exists() for path in paths]
    records = []
    for path in (path for path, done in zip(paths, is_done, strict=True) if done):
        # A record that cannot be read tells nothing about the pace.
        with suppress(ValueError):
            records.append(load(path))
    measured = _costs_of(records)
    if len(measured) < _LEAST_FINISHED:
        return [0.0 if done else None for done in is_done]
    rate, overhead = pace(measured)
    scored = statistics.fmean(measured["scoring_seconds"])
    return [
        0.0 if done else _seconds(spec, measured, rate, overhead) * _share_left(spec, runs_dir) + scored
        for spec, done in zip(specs, is_done, strict=True)
    ]


def describe_time(seconds: float) -> str:
    """Return a time as people say it: ``1 h 05 min``."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def _seconds(spec: RunSpec, measured: pd.DataFrame, rate: float, overhead: float) -> float:
    is_same = (measured["size"] == spec.size.name) & (measured["method"] == spec.tuning.method)
    if is_same.any():
        # Another seed of the same cell.
        return statistics.fmean(measured.loc[is_same, "seconds"])
    length = tokens_per_row(measured, spec) or spec.schedule.sequence_length
    n_tokens = round(length * spec.schedule.steps * spec.schedule.global_batch)
    counts = counts_of(spec.size, spec.tuning)
    flop = spent_flop(counts, spec, n_tokens, recomputed=spec.loop.gradient_checkpointing)
    return flop / rate + spec.schedule.steps * overhead


def _share_left(spec: RunSpec, runs_dir: str | Path) -> float:
    return 1 - max(checkpoints_in(work_folder(runs_dir, spec.run_id)), default=0) / spec.schedule.steps
