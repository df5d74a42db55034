"""What a grid will cost before it is trained: operations, time and memory of every run. Importable without torch.

Operations of training are those that records hold (`training.loop.flop.estimate_flop`): (4 N + 2 N_u) D. Time counts
what that rule leaves out as well, where N, N_u are all and updated parameters, D tokens, L blocks, d width, T the row:

* validation: 2 N for every token, as often as the schedule asks, once more for the base of a frozen one;
* attention's own products: 4 L d T forward for every token, twice that backward;
* activations computed anew under gradient checkpointing: one more forward pass.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from training.grid.memory import Layout, MemoryEstimate, Plan, estimate_memory, fitting_plan, in_gib
from training.spec.run import ParameterCounts, RunSpec, closed_form_counts


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
