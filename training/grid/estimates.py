"""Devices of this machine and the memory they have free. Importable without torch.

A parent process that has touched a GPU through torch keeps a context on it; so the driver's own command is asked.
"""

import json
import math
import os
import platform
import re
import shutil
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from astraios_analysis.records.frame import RunRecord, load, load_folder
from training.models.counts import ParameterCounts, added_parameters, block_parameters, closed_form_counts, qkv_width
from training.spec.files import record_path, run_state
from training.spec.loop_settings import LoopSettings
from training.spec.run import ModelSize, RunSpec, Schedule, Tuning

_MEBIBYTE = 2**20
_MEMINFO = Path("/proc/meminfo")
_CPUINFO = Path("/proc/cpuinfo")
# Limit of a container or of a cluster's job, in either version of Linux' control groups.
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_USED = (Path("/sys/fs/cgroup/memory.current"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"))


@dataclass(frozen=True)
class Gpu:
    """A GPU that this process may use.

    Attributes
    ----------
    index : str
        What CUDA_VISIBLE_DEVICES calls it.
    free_bytes : int
        Memory that nobody uses.
    """

    index: str
    free_bytes: int


def gpus(environment: Mapping[str, str] | None = None) -> tuple[Gpu, ...]:
    """Return the GPUs that this process may use, as the driver's ``nvidia-smi`` lists them; none without it.

    Parameters
    ----------
    environment : mapping of str to str, optional
        Environment variables; those of the process without it. CUDA_VISIBLE_DEVICES restricts and orders them.

    Returns
    -------
    tuple of Gpu
        In the order in which CUDA counts them.
    """
    environment = os.environ if environment is None else environment
    if shutil.which("nvidia-smi") is None:
        return ()
    query = ["nvidia-smi", "--query-gpu=index,uuid,memory.free", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return ()
    return visible_gpus(done.stdout, environment.get("CUDA_VISIBLE_DEVICES"))


def visible_gpus(listed: str, visible: str | None) -> tuple[Gpu, ...]:
    """Return the GPUs of the driver's list that a value of CUDA_VISIBLE_DEVICES leaves.

    Parameters
    ----------
    listed : str
        Lines ``index, uuid, MiB free``.
    visible : str, optional
        Indices or uuids with commas between; all without it, none where it is empty.

    Returns
    -------
    tuple of Gpu
        As named by ``visible``; CUDA stops at the first name that it does not know, and so does this.
    """
    free: dict[str, int] = {}
    indices = []
    for line in listed.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) == 3 and parts[2].isdigit():
            indices.append(parts[0])
            free[parts[0]] = free[parts[1]] = int(parts[2]) * _MEBIBYTE
    names = indices if visible is None else [name.strip() for name in visible.split(",")]
    found: list[Gpu] = []
    for name in names:
        if name not in free:
            break
        found.append(Gpu(name, free[name]))
    return tuple(found)


def processor_name(listed: str | None = None) -> str:
    """Return what this machine calls its kind of processor.

    Parameters
    ----------
    listed : str, optional
        What Linux lists of its processors; read from ``/proc/cpuinfo`` without it.

    Returns
    -------
    str
        The model's name, or where Linux knows none (as on aarch64), the architecture.
    """
    if listed is None:
        listed = _CPUINFO.read_text(errors="replace") if _CPUINFO.exists() else ""
    found = re.search(r"^model name\s*:\s*(\S.*)$", listed, re.MULTILINE)
    return found[1].strip() if found else platform.machine() or "unknown"


def available_memory() -> int | None:
    """Return the bytes that new processes can have here; None where the system does not tell."""
    free = [size for size in (_system_memory(), _group_memory()) if size is not None]
    return min(free, default=None)


def _system_memory() -> int | None:
    if not _MEMINFO.exists():
        return None
    match = re.search(r"^MemAvailable:\s+(\d+) kB", _MEMINFO.read_text("ascii", "replace"), re.MULTILINE)
    return int(match[1]) * 1024 if match else None


def _group_memory() -> int | None:
    for limit, used in zip(_LIMITS, _USED, strict=True):
        try:
            return max(0, int(limit.read_text("ascii")) - int(used.read_text("ascii")))
        except (OSError, ValueError):
            # No such group, or no limit ("max").
            continue
    return None


GIB = 2**30


def in_gib(n_bytes: float) -> str:
    """Return a number of bytes in GiB: three digits, or all of them before the point, "1,147"."""
    gib = n_bytes / GIB
    return f"{gib:,.0f}" if gib >= 1000 else f"{gib:.3g}"


PROCESS_BYTES = GIB // 2
"""What a process takes before any model: the libraries on a CPU (measured 0.4 GiB), the context on a GPU (assumed)."""

_FLOAT32, _BFLOAT16 = 4, 2
# Two blocks at a time: the one that computes, and the next one, fetched meanwhile.
_BLOCKS_FETCHED = 2


@dataclass(frozen=True)
class Layout:
    """How one run is laid over processes.

    Attributes
    ----------
    n_processes : int
        Processes, one to a GPU.
    is_sharded : bool
        Whether weights, gradients and moments are divided among them (FSDP2), or whole on each (DDP).
    """

    n_processes: int = 1
    is_sharded: bool = False


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of the fullest process, by what takes them.

    Attributes
    ----------
    weights, gradients, moments : float
        Of the model and its optimiser; held from the first step to the last.
    activations, logits, copies : float
        Held for a forward and backward pass.
    step : float
        Held for the optimiser's step.
    process : float
        The process without a model.
    """

    weights: float
    gradients: float
    moments: float
    activations: float
    logits: float
    copies: float
    step: float
    process: float = PROCESS_BYTES

    @property
    def total(self) -> float:
        """Return the peak: what is held, and the larger of a pass and an optimiser's step."""
        held = self.process + self.weights + self.gradients + self.moments
        return held + max(self.activations + self.logits + self.copies, self.step)


def activation_bytes(size: ModelSize, tuning: Tuning, bytes_of_pass: int) -> float:
    """Return the bytes that one block keeps of one token for the backward pass.

    Parameters
    ----------
    size : ModelSize
        Base model.
    tuning : Tuning
        Method. Those with a frozen base keep less than full fine-tuning, whose count is taken for them, too.
    bytes_of_pass : int
        Bytes of a number in the forward pass: 4 in float32, 2 under bfloat16.

    Returns
    -------
    float
        Bytes a block and token.
    """
    d, f, k, c = size.d_model, size.d_ff, size.d_model // size.n_heads, bytes_of_pass
    full = c * (6 * d + 2 * k + 2 * f) + (_FLOAT32 - c) * 2 * d
    if tuning.method == "lora":
        # Dropped copies and masks of three inputs, in place of the inputs of four frozen projections.
        return full + (c + _FLOAT32) * (2 * d + f) - c * (3 * d + f) + 3 * tuning.rank * c
    if tuning.method == "ia3":
        return full + (_FLOAT32 - c) * (qkv_width(size) + f)
    return full


def estimate_memory(
    size: ModelSize, tuning: Tuning, schedule: Schedule, loop: LoopSettings, layout: Layout | None = None
) -> MemoryEstimate:
    """Return the memory that training takes on the fullest process.

    Parameters
    ----------
    size, tuning, schedule, loop : ModelSize, Tuning, Schedule, LoopSettings
        The run. A micro-batch that is left open is a process' whole share of the global batch.
    layout : Layout, optional
        Its processes; one without it.

    Returns
    -------
    MemoryEstimate
        Bytes.
    """
    layout = layout or Layout()
    counts, added = closed_form_counts(size, tuning), added_parameters(size, tuning)
    shards = layout.n_processes if layout.is_sharded else 1
    c = _BFLOAT16 if loop.precision == "bf16" else _FLOAT32
    n_virtual = tuning.virtual_tokens or 0
    micro_batch = loop.micro_batch or max(1, schedule.global_batch // layout.n_processes)
    tokens = micro_batch * (schedule.sequence_length + n_virtual)
    of_block = activation_bytes(size, tuning, c)
    kept = of_block * size.n_layers
    if loop.gradient_checkpointing:
        kept = of_block + _FLOAT32 * size.d_model * size.n_layers
    fetched = block_parameters(size) * _BLOCKS_FETCHED
    if layout.is_sharded:
        copies = c * fetched
    else:
        copies = _BFLOAT16 * counts.n_params if c == _BFLOAT16 and loop.base_precision is None else 0
        copies += _FLOAT32 * counts.n_params_updated if layout.n_processes > 1 else 0
    return MemoryEstimate(
        weights=(_base_bytes(size, counts.n_params_base, loop) + _FLOAT32 * added) / shards,
        gradients=_FLOAT32 * counts.n_params_updated / shards,
        moments=2 * _FLOAT32 * counts.n_params_updated / shards,
        activations=kept * tokens,
        logits=(c + 12) * size.vocab_size * tokens,
        copies=copies,
        step=_FLOAT32 * counts.n_params_updated / shards,
    )


def _base_bytes(size: ModelSize, n_base: int, loop: LoopSettings) -> float:
    if loop.base_precision is None:
        return _FLOAT32 * n_base
    if loop.base_precision == "bf16":
        return _BFLOAT16 * n_base
    of_blocks = size.n_layers * block_parameters(size)
    return of_blocks + _BFLOAT16 * (n_base - of_blocks)


@dataclass(frozen=True)
class Plan:
    """Settings and processes with which a run fits.

    Attributes
    ----------
    loop : LoopSettings
        With micro-batch and gradient checkpointing chosen.
    layout : Layout
        Processes.
    memory : MemoryEstimate
        What that takes.
    """

    loop: LoopSettings
    layout: Layout
    memory: MemoryEstimate


def fitting_plan(
    size: ModelSize, tuning: Tuning, schedule: Schedule, loop: LoopSettings, *, memory_bytes: float, n_devices: int
) -> Plan | None:
    """Return the first plan that fits: few devices before many, kept activations before checkpointing, large passes.

    Precisions stay as given: they are the same for all methods of a grid unless someone decides otherwise.

    Parameters
    ----------
    size, tuning, schedule, loop : ModelSize, Tuning, Schedule, LoopSettings
        The run; a micro-batch that it names is kept.
    memory_bytes : float
        Memory of a device.
    n_devices : int
        Devices there are; powers of two up to their number are tried, sharded from two on.

    Returns
    -------
    Plan or None
        None where nothing fits.
    """
    for n_processes in (2**power for power in range(n_devices.bit_length())):
        if schedule.global_batch % n_processes:
            continue
        sharded = Layout(n_processes, is_sharded=n_processes > 1)
        for checkpointing in sorted({loop.gradient_checkpointing, True}):
            for micro_batch in _micro_batches(schedule, loop, n_processes):
                chosen = loop.model_copy(update={"micro_batch": micro_batch, "gradient_checkpointing": checkpointing})
                # Whole weights on each process, where they fit, need less talk between processes.
                for layout in dict.fromkeys((replace(sharded, is_sharded=False), sharded)):
                    memory = estimate_memory(size, tuning, schedule, chosen, layout)
                    if memory.total <= memory_bytes:
                        return Plan(chosen, layout, memory)
    return None


def _micro_batches(schedule: Schedule, loop: LoopSettings, n_processes: int) -> list[int]:
    share = schedule.global_batch // n_processes
    if loop.micro_batch is not None:
        return [loop.micro_batch] if share % loop.micro_batch == 0 else []
    return [rows for rows in range(share, 0, -1) if share % rows == 0]


@dataclass(frozen=True)
class Machine:
    """What runs are trained on.

    Attributes
    ----------
    n_devices : int
        GPUs, or processors.
    memory_bytes : float
        Memory of each.
    tflops : float
        Peak of each, in 10^12 operations a second at the precision of the forward pass.
    utilisation : float
        Share of the peak that training reaches, in (0, 1].
    step_seconds : float
        Seconds of a step that no operation explains.

    Raises
    ------
    ValueError
        If a value is out of range.
    """

    n_devices: int
    memory_bytes: float
    tflops: float
    utilisation: float
    step_seconds: float = 0.0

    def __post_init__(self) -> None:
        for name in ("n_devices", "memory_bytes", "tflops"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} is {value}; give a positive number")
        if not 0 < self.utilisation <= 1:
            raise ValueError(f"utilisation is {self.utilisation}; give a share of the peak in (0, 1]")


@dataclass(frozen=True)
class RunEstimate:
    """What one run will cost.

    Attributes
    ----------
    spec : RunSpec
        The run.
    counts : ParameterCounts
        Its parameters.
    n_tokens : int
        Tokens trained on: exact for packed rows, the most there can be where a row is one document.
    flop : float
        Operations of training, as its record will count them.
    flop_spent : float
        Operations that take time: validation, attention and recomputed activations too.
    memory : MemoryEstimate
        With the run's own settings, on one device.
    plan : Plan or None
        Settings and devices with which it fits; None where it does not.
    device_seconds : float or None
        Seconds of one device, times devices; None where it does not fit.
    seconds : float or None
        From start to end.
    """

    spec: RunSpec
    counts: ParameterCounts
    n_tokens: int
    flop: float
    flop_spent: float
    memory: MemoryEstimate
    plan: Plan | None
    device_seconds: float | None
    seconds: float | None


def training_flop(counts: ParameterCounts, spec: RunSpec, n_tokens: int, n_rows: int) -> float:
    """Return the operations of training by the rule that records follow.

    Parameters
    ----------
    counts : ParameterCounts
        The tuned model's.
    spec : RunSpec
        Its method.
    n_tokens, n_rows : int
        Tokens and rows trained on.

    Returns
    -------
    float
        (4 N + 2 N_u) D; 4 N_base (D + v R) for P-Tuning with v virtual tokens and R rows.
    """
    if spec.tuning.virtual_tokens:
        return 4.0 * counts.n_params_base * (n_tokens + spec.tuning.virtual_tokens * n_rows)
    return (4.0 * counts.n_params + 2.0 * counts.n_params_updated) * n_tokens


def spent_flop(counts: ParameterCounts, spec: RunSpec, n_tokens: int, *, recomputed: bool) -> float:
    """Return all operations of a run: training, validation, attention, recomputed activations.

    Parameters
    ----------
    counts : ParameterCounts
        The tuned model's.
    spec : RunSpec
        The run.
    n_tokens : int
        Tokens trained on; validation rows are taken to be as long as training rows are on average.
    recomputed : bool
        Whether activations are computed anew.

    Returns
    -------
    float
        Operations.
    """
    schedule, size = spec.schedule, spec.size
    n_rows = schedule.steps * schedule.global_batch
    length = n_tokens / n_rows + (spec.tuning.virtual_tokens or 0)
    attention = 4.0 * size.n_layers * size.d_model * length
    forward = 2.0 * counts.n_params_base + attention
    # Before the first step, at multiples of validate_every, and after the last; a frozen base once by itself.
    n_validations = 1 + math.ceil(schedule.steps / schedule.validate_every) + (spec.tuning.method != "fft")
    trained = training_flop(counts, spec, n_tokens, n_rows) + 3.0 * attention * length * n_rows
    again = forward * length * n_rows if recomputed else 0.0
    return trained + again + n_validations * spec.n_validation * length * forward


def estimate_run(spec: RunSpec, machine: Machine, *, tokens_per_row: float | None = None) -> RunEstimate:
    """Return what a run will cost on a machine, scores and the training of its base left out.

    Parameters
    ----------
    spec : RunSpec
        The run.
    machine : Machine
        Where it is trained.
    tokens_per_row : float, optional
        Mean length of a row that is one document; without it, rows are taken to be as long as they may be.

    Returns
    -------
    RunEstimate
        The estimate.
    """
    schedule, counts = spec.schedule, closed_form_counts(spec.size, spec.tuning)
    n_rows = schedule.steps * schedule.global_batch
    n_tokens = round(n_rows * (tokens_per_row or schedule.sequence_length))
    arguments = (spec.size, spec.tuning, schedule, spec.loop)
    plan = fitting_plan(*arguments, memory_bytes=machine.memory_bytes, n_devices=machine.n_devices)
    recomputed = plan is not None and plan.loop.gradient_checkpointing
    spent = spent_flop(counts, spec, n_tokens, recomputed=recomputed)
    device_seconds = None
    if plan is not None:
        busy = spent / (machine.tflops * 1e12 * machine.utilisation)
        device_seconds = busy + schedule.steps * machine.step_seconds * plan.layout.n_processes
    return RunEstimate(
        spec=spec,
        counts=counts,
        n_tokens=n_tokens,
        flop=training_flop(counts, spec, n_tokens, n_rows),
        flop_spent=spent,
        memory=estimate_memory(*arguments, Layout()),
        plan=plan,
        device_seconds=device_seconds,
        seconds=None if plan is None else device_seconds / plan.layout.n_processes,
    )


def grid_seconds(estimates: Sequence[RunEstimate], machine: Machine) -> float | None:
    """Return the least time in which a machine can train runs: all devices busy, and no run cut in two.

    Parameters
    ----------
    estimates : sequence of RunEstimate
        The runs.
    machine : Machine
        Where they are trained.

    Returns
    -------
    float or None
        The larger of device time over devices and the longest run; None where a run does not fit.
    """
    if any(estimate.plan is None for estimate in estimates):
        return None
    busy = sum(estimate.device_seconds for estimate in estimates) / machine.n_devices
    return max(busy, *(estimate.seconds for estimate in estimates))


def shortage(spec: RunSpec, memory_bytes: float, n_devices: int = 1) -> str | None:
    """Return why a run does not fit into a device's memory as it is set, and with what it would; None where it fits.

    Parameters
    ----------
    spec : RunSpec
        The run.
    memory_bytes : float
        Memory of a device.
    n_devices : int
        Devices there are.

    Returns
    -------
    str or None
        A sentence: "needs 31 GiB, has 24: use ...".
    """
    arguments = (spec.size, spec.tuning, spec.schedule, spec.loop)
    needed = estimate_memory(*arguments).total
    if needed <= memory_bytes:
        return None
    open_loop = spec.loop.model_copy(update={"micro_batch": None})
    plan = fitting_plan(*arguments[:3], open_loop, memory_bytes=memory_bytes, n_devices=n_devices)
    advice = "use " + " and ".join(changes(spec, plan)) if plan is not None else _without_a_plan(spec, memory_bytes)
    return f"needs {in_gib(needed)} GiB, has {in_gib(memory_bytes)}: {advice}"


def changes(spec: RunSpec, plan: Plan) -> list[str]:
    """Return how a plan differs from a run's own settings, in the words of the command line."""
    found = []
    if plan.layout.n_processes > 1:
        found.append(f"{plan.layout.n_processes} devices with {'FSDP2' if plan.layout.is_sharded else 'DDP'}")
    share = spec.schedule.global_batch // plan.layout.n_processes
    if plan.loop.micro_batch != (spec.loop.micro_batch or share):
        found.append(f"--micro-batch {plan.loop.micro_batch}")
    if plan.loop.gradient_checkpointing != spec.loop.gradient_checkpointing:
        found.append("--gradient-checkpointing")
    return found


def _without_a_plan(spec: RunSpec, memory_bytes: float) -> str:
    arguments = (spec.size, spec.tuning, spec.schedule)
    loop = spec.loop.model_copy(update={"micro_batch": None})
    frozen = () if spec.tuning.method == "fft" else ("bf16", "int8")
    for base_precision in frozen:
        smaller = loop.model_copy(update={"base_precision": base_precision})
        if fitting_plan(*arguments, smaller, memory_bytes=memory_bytes, n_devices=1):
            return f"use --base-precision {base_precision}, for all methods with a frozen base alike"
    for n_devices in (2, 4, 8, 16, 32, 64, 128):
        if fitting_plan(*arguments, loop, memory_bytes=memory_bytes, n_devices=n_devices):
            return f"use {n_devices} such devices with FSDP2"
    return "use devices with more memory"


@dataclass(frozen=True)
class MeasuredCost:
    """One record's cost beside its estimate.

    Attributes
    ----------
    run_id, size, method, data : str
        The run.
    length : int
        The most tokens a row may have.
    steps : int
        Optimiser steps.
    tokens_per_row : float
        Mean tokens of a training row.
    flop, estimated_flop : float
        Operations of training: recorded, and by closed forms for the same tokens.
    flop_spent : float
        Operations estimated to have taken the time.
    seconds : float
        Recorded time, waiting for a busy machine included.
    device_seconds : float
        The same times processes.
    memory_bytes : float or None
        Recorded peak: of tensors on a GPU; on a CPU of the whole process, earlier runs of it included.
    estimated_memory_bytes : float
        Estimated peak of a process.
    scoring_seconds : float
        Time that the record's scores took, not part of ``seconds``; 0 where it has none.
    """

    run_id: str
    size: str
    method: str
    data: str
    length: int
    steps: int
    tokens_per_row: float
    flop: float
    estimated_flop: float
    flop_spent: float
    seconds: float
    device_seconds: float
    memory_bytes: float | None
    estimated_memory_bytes: float
    scoring_seconds: float = 0.0

    def as_row(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


def measured_costs(folder: str | Path) -> list[MeasuredCost]:
    """Return the costs in a folder of records.

    Parameters
    ----------
    folder : str or Path
        Records as the training package writes them.

    Returns
    -------
    list of MeasuredCost
        Those of records that hold time, operations and the run's specification.

    Raises
    ------
    ValueError
        If there is none.
    """
    found = [cost for record in load_folder(folder) if (cost := _cost_of(record)) is not None]
    if not found:
        raise ValueError(
            f"no record in {folder} has time, operations and the run's specification; give a folder of records that "
            "`python -m training grid run` wrote"
        )
    return found


def cost_of_record(path: Path) -> MeasuredCost | None:
    """Return the cost in a record's file; None where it cannot be read or lacks it."""
    try:
        return _cost_of(load(path))
    except ValueError:
        return None


def _cost_of(record: RunRecord) -> MeasuredCost | None:
    cost, provenance = record.cost, record.provenance
    if cost is None or not cost.seconds or not cost.flop or provenance is None or "run" not in provenance.spec:
        return None
    described = provenance.spec
    spec = RunSpec.model_validate_json(json.dumps(described["run"]))
    loop = LoopSettings.model_validate_json(json.dumps(described.get("loop", described["run"].get("loop", {}))))
    counts, n_rows = closed_form_counts(spec.size, spec.tuning), spec.schedule.steps * spec.schedule.global_batch
    layout = Layout(described.get("n_processes", 1))
    return MeasuredCost(
        run_id=record.run_id,
        size=record.size,
        method=record.method,
        data=spec.data,
        length=spec.schedule.sequence_length,
        steps=spec.schedule.steps,
        tokens_per_row=record.n_tokens / n_rows,
        flop=cost.flop,
        estimated_flop=training_flop(counts, spec, record.n_tokens, n_rows),
        flop_spent=spent_flop(counts, spec, record.n_tokens, recomputed=loop.gradient_checkpointing),
        seconds=cost.seconds,
        device_seconds=cost.seconds * layout.n_processes,
        memory_bytes=cost.peak_memory_bytes,
        estimated_memory_bytes=estimate_memory(spec.size, spec.tuning, spec.schedule, loop, layout).total,
        scoring_seconds=sum(taken.get("seconds", 0.0) for taken in described.get("scores", {}).values()),
    )


def pace(measured: Sequence[MeasuredCost]) -> tuple[float, float]:
    """Return how fast runs were: operations a second of a device, and seconds of a step that no operation explains.

    Least squares of relative errors in seconds = flop / rate + steps * overhead. Small models spend most of their time
    between operations, so that one rate for all sizes would be far off at both ends.

    Parameters
    ----------
    measured : sequence of MeasuredCost
        The runs.

    Returns
    -------
    rate, overhead : float
        Operations a second, and seconds a step, 0 at least; with runs of one size the overhead is 0.
    """
    seconds = np.array([cost.device_seconds for cost in measured])
    parts = np.array([[cost.flop_spent, cost.steps] for cost in measured]) / seconds[:, None]
    if len({cost.size for cost in measured}) > 1:
        per_flop, overhead = np.linalg.lstsq(parts, np.ones(len(measured)), rcond=None)[0]
        if per_flop > 0 and overhead > 0:
            return float(1 / per_flop), float(overhead)
    return float(statistics.median(parts[:, 0])), 0.0


def tokens_per_row(measured: Sequence[MeasuredCost], spec: RunSpec) -> float | None:
    """Return the mean tokens of a row on a run's corpus with its longest row; None where none was measured."""
    same = [
        cost.tokens_per_row
        for cost in measured
        if (cost.data, cost.length) == (spec.data, spec.schedule.sequence_length)
    ]
    return statistics.fmean(same) if same else None


def errors_by_size(measured: Sequence[MeasuredCost]) -> list[dict[str, Any]]:
    """Return estimated over measured for every size: operations, seconds and memory.

    Parameters
    ----------
    measured : sequence of MeasuredCost
        The runs.

    Returns
    -------
    list of dict
        By size: medians over its runs of each ratio, and the range of that of seconds. Seconds of a size are
        estimated from the pace of the runs of all other sizes, and of its own where there is no other.
    """
    rows = []
    for size in dict.fromkeys(cost.size for cost in measured):
        mine = [cost for cost in measured if cost.size == size]
        rate, overhead = pace([cost for cost in measured if cost.size != size] or mine)
        seconds = [(cost.flop_spent / rate + cost.steps * overhead) / cost.device_seconds for cost in mine]
        memory = [cost.estimated_memory_bytes / cost.memory_bytes for cost in mine if cost.memory_bytes]
        rows.append(
            {
                "size": size,
                "n_runs": len(mine),
                "flop_ratio": statistics.median(cost.estimated_flop / cost.flop for cost in mine),
                "seconds_ratio_low": min(seconds),
                "seconds_ratio": statistics.median(seconds),
                "seconds_ratio_high": max(seconds),
                "memory_ratio": statistics.median(memory) if memory else None,
            }
        )
    return rows


def needed_bytes(spec: RunSpec) -> float:
    """Return the memory of the fullest moment of a run: its own training, or that of its base from scratch."""
    own = estimate_memory(spec.size, spec.tuning, spec.schedule, spec.loop).total
    if spec.pretraining is None:
        return own
    in_float32 = spec.loop.model_copy(update={"base_precision": None})
    return max(own, estimate_memory(spec.size, Tuning(method="fft"), spec.pretraining, in_float32).total)


def place(
    specs: Sequence[RunSpec], jobs: int, gpus: Sequence[Gpu], memory_bytes: float | None
) -> tuple[str | None, ...]:
    """Return a place for each worker process: as many as were asked for, as far as memory goes.

    Parameters
    ----------
    specs : sequence of RunSpec
        The runs that are to be trained; any worker may get any of them.
    jobs : int
        Worker processes asked for.
    gpus : sequence of Gpu
        GPUs; one after the other gets a worker.
    memory_bytes : float, optional
        The machine's free memory, where there is no GPU; not limited without it.

    Returns
    -------
    tuple of str or None
        For each worker the GPU it is pinned to; None where there is none.

    Raises
    ------
    ValueError
        If not even one run at a time fits; the message says what is needed and what would do.
    """
    needs = sorted((needed_bytes(spec) for spec in specs), reverse=True)
    if not gpus:
        return (None,) * _fitting(specs, needs, jobs, memory_bytes)
    per_gpu = [_fitting(specs, needs, jobs, gpu.free_bytes) for gpu in gpus]
    # The first worker of every GPU before the second of any.
    rounds = [gpu.index for turn in range(max(per_gpu)) for gpu, room in zip(gpus, per_gpu, strict=True) if turn < room]
    return tuple(rounds[:jobs])


def _fitting(specs: Sequence[RunSpec], needs: Sequence[float], jobs: int, memory_bytes: float | None) -> int:
    if memory_bytes is None or not needs:
        return jobs
    taken, n_fitting = 0.0, 0
    # The largest runs at once are the worst that can happen; there are no more workers than runs.
    for need in needs[:jobs]:
        taken += need
        if taken > memory_bytes:
            break
        n_fitting += 1
    if n_fitting:
        return n_fitting
    largest = max(specs, key=needed_bytes)
    reason = shortage(largest, memory_bytes) or (
        f"needs {in_gib(needs[0])} GiB for the training of its base, has {in_gib(memory_bytes)}: use --micro-batch"
    )
    raise ValueError(f"run {largest.run_id} does not fit: {reason} (or --no-memory-check to try it all the same)")


def unfinished(specs: Sequence[RunSpec], runs_dir: str | Path) -> list[RunSpec]:
    """Return the runs that have no record yet."""
    return [spec for spec in specs if not record_path(runs_dir, spec.run_id).exists()]


# One run tells nothing about sizes that differ from its own.
_LEAST_FINISHED = 2


@dataclass(frozen=True)
class GridProgress:
    """What is left of a grid.

    Attributes
    ----------
    seconds_left : tuple of float or None
        Of every run, in the order given: 0 for finished ones; None where too few are finished to tell.
    """

    seconds_left: tuple[float | None, ...]

    def grid_seconds(self, n_running: int) -> float | None:
        """Return the time until all are done with so many runs at a time; None where it is not known."""
        if None in self.seconds_left or not any(self.seconds_left):
            return None
        return max(sum(self.seconds_left) / max(1, n_running), *self.seconds_left)


def progress_of(specs: Sequence[RunSpec], runs_dir: str | Path) -> GridProgress:
    """Return what is left of a grid, by the pace of its finished runs.

    Parameters
    ----------
    specs : sequence of RunSpec
        The runs.
    runs_dir : str or Path
        Folder of their records; one that cannot be read counts as finished and tells nothing about the pace.

    Returns
    -------
    GridProgress
        Training and scores of every run, less what its last checkpoint has.
    """
    is_done = [record_path(runs_dir, spec.run_id).exists() for spec in specs]
    measured = [
        cost
        for spec, done in zip(specs, is_done, strict=True)
        if done and (cost := cost_of_record(record_path(runs_dir, spec.run_id))) is not None
    ]
    if len(measured) < _LEAST_FINISHED:
        return GridProgress(tuple(0.0 if done else None for done in is_done))
    rate, overhead = pace(measured)
    scored = sum(cost.scoring_seconds for cost in measured) / len(measured)
    left = [
        0.0 if done else _seconds(spec, measured, rate, overhead) * _share_left(spec, runs_dir) + scored
        for spec, done in zip(specs, is_done, strict=True)
    ]
    return GridProgress(tuple(left))


def describe_time(seconds: float) -> str:
    """Return a time as people say it: ``1 h 05 min``."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def _seconds(spec: RunSpec, measured: Sequence[MeasuredCost], rate: float, overhead: float) -> float:
    same = [cost for cost in measured if (cost.size, cost.method) == (spec.size.name, spec.tuning.method)]
    if same:
        # Another seed of the same cell.
        return sum(cost.seconds for cost in same) / len(same)
    length = tokens_per_row(measured, spec) or spec.schedule.sequence_length
    n_tokens = round(length * spec.schedule.steps * spec.schedule.global_batch)
    counts = closed_form_counts(spec.size, spec.tuning)
    flop = spent_flop(counts, spec, n_tokens, recomputed=spec.loop.gradient_checkpointing)
    return flop / rate + spec.schedule.steps * overhead


def _share_left(spec: RunSpec, runs_dir: str | Path) -> float:
    saved = re.match(r"(\d+) steps saved", run_state(runs_dir, spec.run_id).detail)
    return 1 - int(saved[1]) / spec.schedule.steps if saved else 1.0
