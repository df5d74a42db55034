"""The command ``estimate``: what a grid will cost, and how far such estimates were off where a grid was measured."""

import argparse
import json
from pathlib import Path
from typing import Any

from training.cli.shared import add_run_choice, add_settings, chosen_specs, note, table
from training.grid.estimates import (
    GIB,
    Machine,
    MeasuredCost,
    RunEstimate,
    changes,
    errors_by_size,
    estimate_run,
    grid_seconds,
    in_gib,
    measured_costs,
    pace,
    tokens_per_row,
)
from training.spec.grids import PRESETS

PROG = "python -m training"

ESTIMATE_HELP = """\
Estimate what a grid costs before it is trained: operations, time, and memory of every run. Needs no torch, no weights.

Memory counts weights, gradients, AdamW's moments, activations and logits (training/grid/memory.py has the
formulas and their sources). Where a run does not fit as it is set, the first settings that do are given: smaller
passes, gradient checkpointing, more GPUs (sharded, FSDP2). Precisions are not changed: that is a decision.
"""

ESTIMATE_EPILOG = f"""\
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
operations a second, and a constant of every step, from records instead, and shows how far the estimates are from what
they measured, each size predicted from the others. The default peak is of bfloat16: give that of --precision.

With --json a single object {{machine, cells, grid, measured}}, and nothing else: cells are objects {{run_id, size,
method, seed, n_params, n_params_updated, n_tokens, flop, flop_spent, memory_gib, memory_parts_gib, fits, plan,
device_seconds, seconds}}, grid {{n_runs, n_unfit, flop, device_seconds, seconds}}, measured null or {{folder, tflops,
tokens_per_row, runs, by_size}}.

Exit status: 0; 1 where a run fits on no number of GPUs that there are; 2 for wrong arguments.

examples:
  {PROG} estimate --preset starcoderbase
  {PROG} estimate --preset starcoderbase --gpus 8 --memory-gib 80 --tflops 989 --utilisation 0.35
  {PROG} estimate --preset starcoderbase --size 16b --method lora --gpus 1 --memory-gib 24 --base-precision int8
  {PROG} estimate --preset mini --gpus 2 --memory-gib 8 --measured data/runs/mini --json
"""


def add_estimate_command(commands: Any) -> None:
    """Add the command to the sub-parsers of ``python -m training``."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = commands.add_parser(
        "estimate",
        help="estimate operations, time and memory of a grid before it is trained",
        description=ESTIMATE_HELP,
        epilog=ESTIMATE_EPILOG,
        formatter_class=raw,
    )
    parser.add_argument("--preset", metavar="NAME", required=True, help=f"the grid: {', '.join(PRESETS)}")
    add_run_choice(parser)
    add_settings(parser)
    machine = parser.add_argument_group("machine")
    machine.add_argument("--gpus", metavar="N", type=int, default=8, help="GPUs (default: 8)")
    machine.add_argument("--memory-gib", metavar="GIB", type=float, default=80.0, help="memory of each (default: 80)")
    machine.add_argument(
        "--tflops", metavar="T", type=float, default=312.0, help="peak of each, bf16 dense (default: 312, an A100's)"
    )
    machine.add_argument(
        "--utilisation", metavar="U", type=float, default=0.4, help="share of the peak that is reached (default: 0.4)"
    )
    machine.add_argument(
        "--measured", metavar="DIR", type=Path, help="records whose throughput and row length are used instead"
    )
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    parser.set_defaults(command=_estimate, parser=parser)


def _estimate(arguments: argparse.Namespace) -> int:
    specs = chosen_specs(arguments)
    measured, length = [], None
    tflops, utilisation, step_seconds = arguments.tflops, arguments.utilisation, 0.0
    if arguments.measured is not None:
        measured = measured_costs(arguments.measured)
        rate, step_seconds = pace(measured)
        tflops, utilisation = rate / 1e12, 1.0
        length = tokens_per_row(measured, specs[0])
    machine = Machine(arguments.gpus, arguments.memory_gib * GIB, tflops, utilisation, step_seconds)
    estimates = [estimate_run(spec, machine, tokens_per_row=length) for spec in specs]
    unfit = [estimate for estimate in estimates if estimate.plan is None]
    if arguments.json:
        print(json.dumps(_document(arguments, machine, estimates, measured, length), indent=2))
    else:
        print(table([_row(estimate, arguments.gpus) for estimate in estimates]))
        print(_summary(estimates, machine))
        if measured:
            print(_error_report(arguments.measured, measured))
    if unfit:
        note(f"{len(unfit)} of {len(estimates)} runs fit on no number of {arguments.gpus} GPUs of this memory")
    return 1 if unfit else 0


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
        "GPUs": "-" if plan is None else str(plan.layout.n_processes),
        "GiB": "-" if plan is None else in_gib(plan.memory.total),
        "GPU h": "-" if plan is None else f"{estimate.device_seconds / 3600:.3g}",
        "hours": "-" if plan is None else f"{estimate.seconds / 3600:.3g}",
        "fits": f"not on {n_gpus}" if plan is None else ", ".join(changes(spec, plan)) or "as set",
    }


def _summary(estimates: list[RunEstimate], machine: Machine) -> str:
    flop = sum(estimate.flop for estimate in estimates)
    seconds = grid_seconds(estimates, machine)
    if seconds is None:
        return f"{len(estimates)} runs: {flop / 1e18:.3g} EFLOP of training; no time, for some do not fit"
    device_seconds = sum(estimate.device_seconds for estimate in estimates)
    return (
        f"{len(estimates)} runs: {flop / 1e18:.3g} EFLOP of training, {device_seconds / 3600:.3g} GPU hours, "
        f"{seconds / 3600:.3g} hours on {machine.n_devices} at {machine.tflops * machine.utilisation:.3g} TFLOP/s each "
        "(all busy, or the longest run)"
    )


def _error_report(folder: Path, measured: list[MeasuredCost]) -> str:
    rows = [
        {name: f"{value:.3f}" if isinstance(value, float) else value for name, value in row.items()}
        for row in errors_by_size(measured)
    ]
    return f"\nestimated / measured in {folder} (medians; seconds of a size at the pace of the other sizes):\n" + table(
        rows
    )


def _document(
    arguments: argparse.Namespace,
    machine: Machine,
    estimates: list[RunEstimate],
    measured: list[MeasuredCost],
    length: float | None,
) -> dict[str, Any]:
    plans = [estimate for estimate in estimates if estimate.plan is not None]
    return {
        "machine": {
            "gpus": machine.n_devices,
            "memory_gib": arguments.memory_gib,
            "tflops": machine.tflops,
            "utilisation": machine.utilisation,
            "step_seconds": machine.step_seconds,
        },
        "cells": [_cell(estimate) for estimate in estimates],
        "grid": {
            "n_runs": len(estimates),
            "n_unfit": len(estimates) - len(plans),
            "flop": sum(estimate.flop for estimate in estimates),
            "device_seconds": sum(estimate.device_seconds for estimate in plans),
            "seconds": grid_seconds(estimates, machine),
        },
        "measured": None
        if not measured
        else {
            "folder": str(arguments.measured),
            "tflops": machine.tflops,
            "tokens_per_row": length,
            "runs": [run.as_row() for run in measured],
            "by_size": errors_by_size(measured),
        },
    }


def _cell(estimate: RunEstimate) -> dict[str, Any]:
    spec, plan = estimate.spec, estimate.plan
    memory = estimate.memory if plan is None else plan.memory
    return {
        "run_id": spec.run_id,
        "size": spec.size.name,
        "method": spec.tuning.method,
        "seed": spec.seed,
        "n_params": estimate.counts.n_params,
        "n_params_updated": estimate.counts.n_params_updated,
        "n_tokens": estimate.n_tokens,
        "flop": estimate.flop,
        "flop_spent": estimate.flop_spent,
        "memory_gib": estimate.memory.total / GIB,
        "memory_parts_gib": {name: value / GIB for name, value in vars(memory).items()},
        "fits": plan is not None,
        "plan": None
        if plan is None
        else {
            "n_processes": plan.layout.n_processes,
            "is_sharded": plan.layout.is_sharded,
            "micro_batch": plan.loop.micro_batch,
            "gradient_checkpointing": plan.loop.gradient_checkpointing,
            "memory_gib": plan.memory.total / GIB,
        },
        "device_seconds": estimate.device_seconds,
        "seconds": estimate.seconds,
    }
