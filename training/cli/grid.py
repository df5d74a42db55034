"""The command ``grid``: which grids there are, train one, score one, and how far it is."""

import argparse
import json
from collections import Counter
from typing import Any

from training.cli.commands_run import add_run_actions
from training.cli.commands_score_grid import add_score_action
from training.cli.commands_search import add_search_action
from training.cli.compare import add_compare_action
from training.cli.shared import add_choice, chosen_specs, records_folder, table
from training.grid.estimates import describe_time, progress_of
from training.spec.files import STATES, run_state
from training.spec.grids import PRESETS, preset

GRID_HELP = """\
Train and score grids of tuned models, sizes x tuning methods x seeds, on this machine or a cluster.

A run's record, RUNS/<run_id>.json, is written when the run has finished; a run whose record exists is skipped, and one
that was interrupted goes on from its last checkpoint. Base models are trained once and kept in the cache.
"""

GRID_EXAMPLES = """\
examples:
  python -m training grid list
  python -m training grid run --preset smoke --jobs 2
  python -m training grid status --preset smoke
  python -m training grid retry --preset smoke
  python -m training grid score --preset smoke
  python -m training grid compare --preset mini --runs build/runs/mini
  python -m training grid run --help
"""

LIST_EPILOG = """\
The table goes to standard output, and with --json a list of objects
{preset, sizes, held_out_sizes, methods, seeds, n_runs, data} and nothing else.
"""

STATUS_EPILOG = """\
states:
  done       the record exists
  running    a process is training it
  failed     it stopped with an error, whose last line is shown
  partial    it was interrupted and goes on from its last checkpoint
  missing    nothing of it is there, or nothing that was saved

Below the table stand the number of runs in each state and, once two runs are finished, the time that is left:
operations of what is not done, at the pace of what is, over as many runs at a time as are running now (one, where none
is). Bases that are still to be trained are not in it.

The table goes to standard output, and with --json a list of objects {run_id, size, method, seed, state, detail,
seconds_left} and nothing else; seconds_left is null where it is not known. Exit status: 0, or 2 with a message
on standard error.
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

    add_run_actions(actions)
    add_score_action(actions)
    add_search_action(actions)
    add_compare_action(actions)

    status = actions.add_parser("status", help="how far a grid is", epilog=STATUS_EPILOG, formatter_class=raw)
    add_choice(status)
    status.add_argument("--json", action="store_true", help="print JSON and nothing else")
    status.set_defaults(command=_status, parser=status)


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
    print(json.dumps(rows, indent=2) if arguments.json else table(rows))


def _status(arguments: argparse.Namespace) -> None:
    runs_dir = records_folder(arguments)
    specs = chosen_specs(arguments)
    progress = progress_of(specs, runs_dir)
    rows = []
    for spec, left in zip(specs, progress.seconds_left, strict=True):
        found = run_state(runs_dir, spec.run_id)
        labels = {"run_id": spec.run_id, "size": spec.size.name, "method": spec.tuning.method, "seed": spec.seed}
        rows.append({**labels, "state": found.state, "detail": found.detail, "seconds_left": left})
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    counts = Counter(row["state"] for row in rows)
    print(table([{name: value for name, value in row.items() if name != "seconds_left"} for row in rows]))
    print(", ".join(f"{counts[state]} {state}" for state in STATES))
    if (left := progress.grid_seconds(counts["running"])) is not None:
        print(f"about {describe_time(left)} left with {max(1, counts['running'])} at a time")
