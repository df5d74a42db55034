"""The command ``grid``: which grids there are, train one, and how far it is."""

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from astraios_analysis.records import METHODS
from training.config import RunSpec
from training.grid import PRESETS, corpus_settings, preset
from training.run_files import STATES, run_state

GRID_HELP = """\
Train grids of tuned models, sizes x tuning methods x seeds, on this machine.

A run's record, RUNS/<run_id>.json, is written when the run has finished; a run whose record exists is skipped, and one
that was interrupted goes on from its last checkpoint. Base models are trained once and kept in the cache.
"""

GRID_EXAMPLES = """\
examples:
  python -m training grid list
  python -m training grid run --preset smoke --jobs 2
  python -m training grid status --preset smoke
  python -m training grid run --help
"""

LIST_EPILOG = """\
The table goes to standard output, and with --json a list of objects
{preset, sizes, held_out_sizes, methods, seeds, n_runs, data} and nothing else.
"""

RUN_EPILOG = """\
Every worker process trains one run at a time with one thread; base models come first. Progress goes to standard error.
Ctrl-C stops the workers; the same command goes on later.

Exit status: 0 when all runs asked for are finished; 1 when some failed, with the last line of each on standard error,
or are being trained by another process; 2 for wrong arguments; 130 after Ctrl-C. A failed run is tried again the next
time; one that diverged would diverge again, and says which file to delete to try it all the same.

examples:
  python -m training grid run --preset smoke
  python -m training grid run --preset smoke --size 32x2 --method lora ia3 --runs build/trial
"""

STATUS_EPILOG = """\
states:
  done       the record exists
  running    a process is training it
  failed     it stopped with an error, whose last line is shown
  partial    it was interrupted and goes on from its last checkpoint
  missing    nothing of it is there, or nothing that was saved

The table goes to standard output, and with --json a list of objects {run_id, size, method, seed, state, detail} and
nothing else. Exit status: 0, or 2 with a message on standard error.
"""


def add_grid_command(commands: Any) -> None:
    """Add the command to the sub-parsers of ``python -m training``."""
    raw = argparse.RawDescriptionHelpFormatter
    grid = commands.add_parser(
        "grid",
        help="list grids, train one, or show how far it is",
        description=GRID_HELP,
        epilog=GRID_EXAMPLES,
        formatter_class=raw,
    )
    actions = grid.add_subparsers(title="actions", metavar="ACTION", required=True)
    listed = actions.add_parser("list", help="the grids there are", epilog=LIST_EPILOG, formatter_class=raw)
    listed.add_argument("--json", action="store_true", help="print JSON and nothing else")
    listed.set_defaults(command=_list, parser=listed)

    trained = actions.add_parser("run", help="train a grid", epilog=RUN_EPILOG, formatter_class=raw)
    _add_choice(trained)
    trained.add_argument(
        "--jobs", metavar="N", type=int, default=None, help="worker processes (default: the processors of this process)"
    )
    trained.add_argument(
        "--cache", metavar="DIR", type=Path, default=Path("build/cache"), help="base models (default: build/cache)"
    )
    trained.set_defaults(command=_run, parser=trained)

    status = actions.add_parser("status", help="how far a grid is", epilog=STATUS_EPILOG, formatter_class=raw)
    _add_choice(status)
    status.add_argument("--json", action="store_true", help="print JSON and nothing else")
    status.set_defaults(command=_status, parser=status)


def _add_choice(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--preset", metavar="NAME", required=True, help=f"the grid: {', '.join(PRESETS)}")
    parser.add_argument(
        "--runs", metavar="DIR", type=Path, default=None, help="folder of the records (default: build/runs/PRESET)"
    )
    parser.add_argument("--size", metavar="SIZE", nargs="+", action="extend", help="sizes (default: all of the grid)")
    parser.add_argument(
        "--method", metavar="METHOD", nargs="+", action="extend", help=f"tuning methods: {', '.join(METHODS)}"
    )


def _list(arguments: argparse.Namespace) -> None:
    grids = [preset(name) for name in PRESETS]
    rows = [
        {
            "preset": grid.name,
            "sizes": [size.name for size in grid.sizes],
            "held_out_sizes": list(grid.held_out_sizes),
            "methods": list(grid.methods),
            "seeds": list(grid.seeds),
            "n_runs": len(grid.runs()),
            "data": grid.data,
        }
        for grid in grids
    ]
    print(json.dumps(rows, indent=2) if arguments.json else _table(rows))


def _run(arguments: argparse.Namespace) -> int:
    specs = _specs(arguments)
    # Asked before any process is started.
    for spec in specs:
        corpus_settings(spec.data)
    jobs = len(os.sched_getaffinity(0)) if arguments.jobs is None else arguments.jobs

    from training.launch import launch

    runs_dir = _runs_dir(arguments)
    try:
        outcomes = launch(specs, runs_dir, arguments.cache, jobs=jobs, report=_note)
    except KeyboardInterrupt:
        _note("stopped; the same command goes on from the last checkpoints")
        raise
    unfinished = [outcome for outcome in outcomes if outcome.status in ("failed", "busy")]
    for outcome in unfinished:
        _note(f"{outcome.status}: {outcome.run_id}: {outcome.message}")
    _note(f"{len(outcomes) - len(unfinished)} of {len(outcomes)} runs are finished; records are in {runs_dir}")
    return 1 if unfinished else 0


def _status(arguments: argparse.Namespace) -> None:
    runs_dir = _runs_dir(arguments)
    rows = []
    for spec in _specs(arguments):
        found = run_state(runs_dir, spec.run_id)
        labels = {"run_id": spec.run_id, "size": spec.size.name, "method": spec.tuning.method, "seed": spec.seed}
        rows.append({**labels, "state": found.state, "detail": found.detail})
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    counts = Counter(row["state"] for row in rows)
    print(_table(rows))
    print(", ".join(f"{counts[state]} {state}" for state in STATES))


def _specs(arguments: argparse.Namespace) -> tuple[RunSpec, ...]:
    return preset(arguments.preset).runs(arguments.size, arguments.method)


def _runs_dir(arguments: argparse.Namespace) -> Path:
    return arguments.runs or Path("build/runs") / arguments.preset


def _note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _table(rows: Sequence[dict[str, Any]]) -> str:
    cells = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def _cell(value: Any) -> str:
    return (" ".join(map(str, value)) or "-") if isinstance(value, list) else str(value)
