"""The command ``estimate``: what a grid will cost."""

import json
from types import SimpleNamespace
from typing import Any

import click

from astraios_analysis.records.commands import JSON, option
from astraios_analysis.records.notation import say, table_text
from training.cli.shared import CHOICE, Command, choice_of, folder
from training.grid.estimates import (
    GIB,
    Machine,
    RunEstimate,
    estimate_run,
    grid_seconds,
    in_gib,
    measured_costs,
    pace,
    tokens_per_row,
)

HELP = """\
Estimate what a grid costs before it is trained: operations, time, and memory of every run. Needs no torch, no weights.

Memory counts weights, gradients, AdamW's moments, activations and logits (training/grid/estimates.py has the
formulas and their sources). Where a run does not fit as it is set, the smallest passes, gradient checkpointing, and all
GPUs (sharded, FSDP2) are tried in this order. Precisions are not changed: that is a decision.
"""

EPILOG = """\
columns:
  updated    parameters that tuning updates
  tokens     tokens trained on; with one document a row the most there can be, unless --measured tells their length
  EFLOP      10^18 operations of training, as the record will count them: (4 N + 2 N_u) D
  as set     GiB on one GPU with the run's own settings (the whole share of a batch in one pass, unless it says less)
  GPUs       on which it fits, with the settings in the last column
  GiB        on each of them
  GPU h      GPU hours: validation, attention and recomputed activations included, scores and base training not
  hours      from start to end

Time is operations over peak times utilisation. The default, 0.4, is an aim, not a measurement; --measured DIR takes
operations a second, a constant of every step, and the length of rows from records instead. The default peak is of
bfloat16: give that of --precision.

With --json a single object {machine, cells, grid, measured}, and nothing else: cells are objects {run_id, size,
method, seed, n_params, n_params_updated, n_tokens, flop, flop_spent, memory_gib, memory_parts_gib, fits, plan,
device_seconds, seconds}, grid {n_runs, n_unfit, flop, device_seconds, seconds}, measured null or {folder, n_runs,
tflops, tokens_per_row}.

Exit status: 0; 1 where a run does not fit; 2 for wrong arguments.

examples:
  python -m training estimate --preset starcoderbase --gpus 8 --memory-gib 80 --tflops 989 --utilisation 0.35
  python -m training estimate --preset ladder --gpus 2 --memory-gib 8 --measured data/runs/ladder --json
"""


@click.command("estimate", cls=Command, help=HELP, epilog=EPILOG)
@CHOICE
@option("--gpus", "N", "GPUs", type=int, default=8, show_default=True)
@option("--memory-gib", "GIB", "memory of each", type=float, default=80.0, show_default=True)
@option("--tflops", "T", "peak of each, bf16 dense (default: an A100's)", type=float, default=312.0)
@option("--utilisation", "U", "share of the peak that is reached", type=float, default=0.4, show_default=True)
@folder("--measured", "records whose throughput and row length are used instead")
@JSON
def command(given: SimpleNamespace) -> int:
    """Print operations, memory and time of every run."""
    specs, length = choice_of(given).specs, None
    machine = Machine(given.gpus, given.memory_gib * GIB, given.tflops, given.utilisation)
    source = None
    if given.measured is not None:
        costs = measured_costs(given.measured)
        rate, step_seconds = pace(costs)
        length = tokens_per_row(costs, specs[0])
        machine = Machine(given.gpus, given.memory_gib * GIB, rate / 1e12, 1.0, step_seconds)
        source = {"folder": str(given.measured), "n_runs": len(costs), "tflops": machine.tflops}
        source["tokens_per_row"] = length
    estimates = [estimate_run(spec, machine, tokens_per_row=length) for spec in specs]
    fitting = [estimate for estimate in estimates if estimate.plan is not None]
    totals = {
        "n_runs": len(estimates),
        "n_unfit": len(estimates) - len(fitting),
        "flop": sum(estimate.flop for estimate in estimates),
        "device_seconds": sum(estimate.device_seconds for estimate in fitting),
        "seconds": grid_seconds(estimates, machine),
    }
    if given.as_json:
        names = {"gpus": machine.n_devices, "memory_gib": machine.memory_bytes / GIB, "tflops": machine.tflops}
        names |= {"utilisation": machine.utilisation, "step_seconds": machine.step_seconds}
        cells = [_cell(estimate) for estimate in estimates]
        print(json.dumps({"machine": names, "cells": cells, "grid": totals, "measured": source}, indent=2))
    else:
        print(table_text([_row(estimate, given.gpus) for estimate in estimates]))
        print(_summary(totals, machine))
    if totals["n_unfit"]:
        say(f"{totals['n_unfit']} of {len(estimates)} runs do not fit on {given.gpus} GPUs of this memory")
    return 1 if totals["n_unfit"] else 0


def _row(estimate: RunEstimate, n_gpus: int) -> dict[str, str]:
    spec, plan = estimate.spec, estimate.plan
    return {
        "size": spec.size.name,
        "method": spec.tuning.method,
        "seed": str(spec.seed),
        "updated": f"{estimate.counts.n_params_updated:,}",
        "tokens": f"{estimate.n_tokens:,}",
        "EFLOP": f"{estimate.flop / 1e18:.3g}",
        "as set": in_gib(estimate.memory.total),
        "GPUs": "-" if plan is None else str(plan.n_processes),
        "GiB": "-" if plan is None else in_gib(plan.memory.total),
        "GPU h": "-" if plan is None else f"{estimate.device_seconds / 3600:.3g}",
        "hours": "-" if plan is None else f"{estimate.seconds / 3600:.3g}",
        "fits": f"not on {n_gpus}" if plan is None else ", ".join(plan.changes(spec)) or "as set",
    }


def _summary(totals: dict[str, Any], machine: Machine) -> str:
    flop = f"{totals['n_runs']} runs: {totals['flop'] / 1e18:.3g} EFLOP of training"
    if totals["seconds"] is None:
        return f"{flop}; no time, for some do not fit"
    return (
        f"{flop}, {totals['device_seconds'] / 3600:.3g} GPU hours, {totals['seconds'] / 3600:.3g} hours on "
        f"{machine.n_devices} at {machine.tflops * machine.utilisation:.3g} TFLOP/s each (all busy, or the longest run)"
    )


def _cell(estimate: RunEstimate) -> dict[str, Any]:
    spec, plan = estimate.spec, estimate.plan
    memory, chosen = estimate.memory, None
    if plan is not None:
        memory = plan.memory
        chosen = {
            "n_processes": plan.n_processes,
            "is_sharded": plan.n_processes > 1,
            "micro_batch": plan.loop.micro_batch or spec.schedule.global_batch // plan.n_processes,
            "gradient_checkpointing": plan.loop.gradient_checkpointing,
            "memory_gib": memory.total / GIB,
        }
    return {
        "run_id": spec.run_id,
        "size": spec.size.name,
        "method": spec.tuning.method,
        "seed": spec.seed,
        **{name: getattr(estimate.counts, name) for name in ("n_params", "n_params_updated")},
        **{name: getattr(estimate, name) for name in ("n_tokens", "flop", "flop_spent")},
        "memory_gib": estimate.memory.total / GIB,
        "memory_parts_gib": {name: value / GIB for name, value in vars(memory).items()},
        "fits": plan is not None,
        "plan": chosen,
        "device_seconds": estimate.device_seconds,
        "seconds": estimate.seconds,
    }
