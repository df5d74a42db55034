"""What the actions of the command ``grid`` share: options, the runs they choose, notes and tables."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from astraios_analysis.records.frame import METHODS
from training.grid.workers import Outcome
from training.sandbox.pool import Sandbox
from training.sandbox.programs import SandboxUnavailable
from training.spec.grids import PRESETS, preset
from training.spec.loop_settings import LoopSettings
from training.spec.run import RunSpec
from training.suite.request import Scoring

UNSAFE_HELP = "run programs that models wrote without any containment; records say so"


def add_choice(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose runs of a grid, and the folder of their records."""
    parser.add_argument("--preset", metavar="NAME", required=True, help=f"the grid: {', '.join(PRESETS)}")
    parser.add_argument(
        "--runs", metavar="DIR", type=Path, default=None, help="folder of the records (default: build/runs/PRESET)"
    )
    add_run_choice(parser)
    add_settings(parser)


def add_run_choice(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose runs of a grid."""
    parser.add_argument("--size", metavar="SIZE", nargs="+", action="extend", help="sizes (default: all of the grid)")
    parser.add_argument(
        "--method", metavar="METHOD", nargs="+", action="extend", help=f"tuning methods: {', '.join(METHODS)}"
    )
    parser.add_argument("--seed", metavar="SEED", type=int, nargs="+", action="extend", help="seeds (default: all)")


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add the options that change how runs are trained. They are part of what a run is: its name changes with them."""
    settings = parser.add_argument_group("settings", "part of a run: with another setting it has another name")
    settings.add_argument("--micro-batch", metavar="ROWS", type=int, help="rows of one forward pass on one process")
    settings.add_argument(
        "--gradient-checkpointing", action="store_true", help="compute activations anew instead of keeping them"
    )
    settings.add_argument("--compile", action="store_true", help="compute blocks by kernels of torch.compile")
    settings.add_argument("--precision", metavar="P", help="of the forward pass: fp32 or bf16")
    settings.add_argument(
        "--base-precision", metavar="P", help="of a frozen base's weights: bf16, or int8 as in the study"
    )


def add_trackers(parser: argparse.ArgumentParser) -> None:
    """Add the options for trackers."""
    parser.add_argument(
        "--log-with",
        metavar="TRACKER",
        nargs="+",
        action="extend",
        default=[],
        help="report losses and speed to trackers of accelerate: tensorboard, wandb, mlflow, trackio, ...",
    )
    parser.add_argument(
        "--log-dir",
        metavar="DIR",
        type=Path,
        default=Path("build/trackers"),
        help="where trackers that write files put them (default: build/trackers)",
    )


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers that cannot be used here, before anything is started.

    Raises
    ------
    ValueError
        If accelerate does not know one, or its package is not installed.
    """
    if not names:
        return
    # Imports torch, which a launch without trackers does without.
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    available = {str(name) for name in get_available_trackers()}
    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            raise ValueError(f"unknown tracker {name!r}; choose from {', '.join(sorted(LOGGER_TYPE_TO_CLASS))}")
        if name not in available:
            raise ValueError(f"tracker {name!r} is not installed; install its package (pip install {name})")


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Add the options for worker processes and the cache of models."""
    parser.add_argument(
        "--jobs", metavar="N", type=int, default=None, help="worker processes (default: the processors of this process)"
    )
    parser.add_argument(
        "--cache", metavar="DIR", type=Path, default=Path("build/cache"), help="models (default: build/cache)"
    )


def close(outcomes: Sequence[Outcome], ending: str) -> int:
    """Say what is not finished and how much is, and return the exit status."""
    unfinished = [outcome for outcome in outcomes if outcome.status in ("failed", "busy")]
    for outcome in unfinished:
        note(f"{outcome.status}: {outcome.run_id}: {outcome.message}")
    note(f"{len(outcomes) - len(unfinished)} of {len(outcomes)} {ending}")
    return 1 if unfinished else 0


def worker_count(arguments: argparse.Namespace) -> int:
    """Return how many worker processes there shall be."""
    return len(os.sched_getaffinity(0)) if arguments.jobs is None else arguments.jobs


def require_containment(scoring: Scoring | None, otherwise: str) -> None:
    """Find out before anything is computed whether programs can be run at all."""
    if scoring is None or scoring.unsafe:
        return
    try:
        Sandbox(workers=1).close()
    except SandboxUnavailable as error:
        raise ValueError(f"{error}; {otherwise}") from error


def chosen_specs(arguments: argparse.Namespace) -> tuple[RunSpec, ...]:
    """Return the runs that were chosen, with the settings that were given."""
    given = {
        "micro_batch": arguments.micro_batch,
        "gradient_checkpointing": arguments.gradient_checkpointing or None,
        "compile": arguments.compile or None,
        "precision": arguments.precision,
        "base_precision": arguments.base_precision,
    }
    given = {name: value for name, value in given.items() if value is not None}
    specs = preset(arguments.preset).runs(arguments.size, arguments.method, arguments.seed)
    return tuple(_with_settings(spec, given) for spec in specs)


def _with_settings(spec: RunSpec, given: dict[str, Any]) -> RunSpec:
    # Full fine-tuning has no frozen base: it stays as it is beside methods that have one.
    mine = {name: value for name, value in given.items() if name != "base_precision" or spec.tuning.method != "fft"}
    if not mine:
        return spec
    fields = {name: getattr(spec, name) for name in RunSpec.model_fields}
    return RunSpec(**{**fields, "loop": LoopSettings(**{**spec.loop.model_dump(), **mine})})


def records_folder(arguments: argparse.Namespace) -> Path:
    """Return the folder of the records."""
    return arguments.runs or Path("build/runs") / arguments.preset


def note(line: str) -> None:
    """Print a line of progress to standard error."""
    print(line, file=sys.stderr, flush=True)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows of one set of columns as a table with a header."""
    cells = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def _cell(value: Any) -> str:
    return (" ".join(map(str, value)) or "-") if isinstance(value, list) else str(value)
