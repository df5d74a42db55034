"""The command ``grid``: which grids there are, train one, score one, and how far it is."""

import argparse
import json
from collections import Counter
from typing import Any

from training.commands_compare import add_compare_action
from training.commands_score_grid import add_score_action
from training.commands_search import add_search_action
from training.evaluation.embedded.request import Scoring
from training.grid import PRESETS, corpus_settings, preset
from training.grid_arguments import (
    UNSAFE_HELP,
    add_choice,
    add_workers,
    chosen_specs,
    close,
    note,
    records_folder,
    require_containment,
    table,
    worker_count,
)
from training.run_files import STATES, run_state

GRID_HELP = """\
Train and score grids of tuned models, sizes x tuning methods x seeds, on this machine.

A run's record, RUNS/<run_id>.json, is written when the run has finished; a run whose record exists is skipped, and one
that was interrupted goes on from its last checkpoint. Base models are trained once and kept in the cache.
"""

GRID_EXAMPLES = """\
examples:
  python -m training grid list
  python -m training grid run --preset smoke --jobs 2
  python -m training grid status --preset smoke
  python -m training grid score --preset smoke
  python -m training grid compare --preset mini --runs build/runs/mini
  python -m training grid run --help
"""

LIST_EPILOG = """\
The table goes to standard output, and with --json a list of objects
{preset, sizes, held_out_sizes, methods, seeds, n_runs, data} and nothing else.
"""

RUN_EPILOG = """\
Every worker process trains and scores one run at a time with one thread; base models come first. Progress goes to
standard error. Ctrl-C stops the workers; the same command goes on later.

Programs that a model wrote run in the sandbox, without network or files (docs/sandbox.md). Where no containment works,
nothing is trained: --no-scores trains without running any program, and --unsafe runs them without containment.

Exit status: 0 when all runs asked for are finished; 1 when some failed, with the last line of each on standard error,
or are being trained by another process; 2 for wrong arguments; 130 after Ctrl-C. A failed run is tried again the next
time; one that diverged would diverge again, and says which file to delete to try it all the same.

examples:
  python -m training grid run --preset smoke
  python -m training grid run --preset smoke --size 32x2 --method lora ia3 --runs build/trial
  python -m training grid run --preset mini --seed 0
  python -m training grid run --preset smoke --no-scores
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
    add_choice(trained)
    add_workers(trained)
    what = trained.add_mutually_exclusive_group()
    what.add_argument("--no-scores", action="store_true", help="train only; `grid score` adds the scores later")
    what.add_argument("--unsafe", action="store_true", help=UNSAFE_HELP)
    trained.set_defaults(command=_run, parser=trained)

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


def _run(arguments: argparse.Namespace) -> int:
    specs = chosen_specs(arguments)
    # Asked before any process is started.
    for spec in specs:
        corpus_settings(spec.data)
    scoring = None if arguments.no_scores else Scoring(unsafe=arguments.unsafe)
    require_containment(scoring, "grid run --no-scores trains without running any program")

    from training.launch import launch

    runs_dir = records_folder(arguments)
    try:
        outcomes = launch(specs, runs_dir, arguments.cache, jobs=worker_count(arguments), report=note, scoring=scoring)
    except KeyboardInterrupt:
        note("stopped; the same command goes on from the last checkpoints")
        raise
    return close(outcomes, f"runs are finished; records are in {runs_dir}")


def _status(arguments: argparse.Namespace) -> None:
    runs_dir = records_folder(arguments)
    rows = []
    for spec in chosen_specs(arguments):
        found = run_state(runs_dir, spec.run_id)
        labels = {"run_id": spec.run_id, "size": spec.size.name, "method": spec.tuning.method, "seed": spec.seed}
        rows.append({**labels, "state": found.state, "detail": found.detail})
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    counts = Counter(row["state"] for row in rows)
    print(table(rows))
    print(", ".join(f"{counts[state]} {state}" for state in STATES))
