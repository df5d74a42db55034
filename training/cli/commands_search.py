"""The action ``grid search``: learning rates for a grid's methods, by validation loss."""

import argparse
from pathlib import Path
from typing import Any

from training.cli.shared import add_workers, note, table, worker_count
from training.spec.grids import check_corpus, preset

SEARCH_HELP = """\
Search learning rates for the methods of a grid.

Every method is trained at the grid's smallest size with a pilot seed, at rates a factor of two apart, until the rate
with the smallest validation loss has a larger and a smaller one beside it. No test score is looked at. With several
prompt lengths, the rates of each are searched.
"""

SEARCH_EPILOG = """\
Trials are kept as records in RUNS; an interrupted search goes on, and finished trials are not trained again. The table
goes to standard output and, as CSV with full precision, to OUT. Progress goes to standard error.

Exit status: 0; 2 with a message when a rate cannot be found; 130 after Ctrl-C.

examples:
  python -m training grid search --preset smoke
  python -m training grid search --preset smoke --method ptuning --out build/ptuning.csv
  python -m training grid search --preset mini --method ptuning --virtual-tokens 1 4 10 30
"""


def add_search_action(actions: Any) -> None:
    """Add the action to the sub-parsers of ``python -m training grid``."""
    searched = actions.add_parser(
        "search",
        help="search learning rates for a grid",
        description=SEARCH_HELP,
        epilog=SEARCH_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    searched.add_argument("--preset", metavar="NAME", required=True, help="the grid")
    searched.add_argument("--method", metavar="METHOD", nargs="+", action="extend", help="methods (default: all)")
    searched.add_argument(
        "--virtual-tokens",
        metavar="N",
        type=int,
        nargs="+",
        action="extend",
        help="P-Tuning: prompt lengths (default: the grid's)",
    )
    searched.add_argument(
        "--runs", metavar="DIR", type=Path, help="folder of the trials' records (default: build/runs/PRESET_search)"
    )
    searched.add_argument("--out", metavar="FILE", type=Path, help="the table (default: RUNS/learning_rates.csv)")
    add_workers(searched)
    searched.set_defaults(command=_search, parser=searched)


def _search(arguments: argparse.Namespace) -> int:
    grid = preset(arguments.preset)
    check_corpus(grid.data, is_scored=False)
    grid.runs(methods=arguments.method)

    from training.grid.search import search, write_trials

    runs_dir = arguments.runs or Path("build/runs") / f"{grid.name}_search"
    trials = search(
        grid,
        runs_dir,
        arguments.cache,
        jobs=worker_count(arguments),
        methods=arguments.method,
        virtual_tokens=arguments.virtual_tokens,
        report=note,
    )
    out = arguments.out or runs_dir / "learning_rates.csv"
    write_trials(trials, out)
    print(table([{**trial.model_dump(), "chosen": "*" if trial.chosen else ""} for trial in trials]))
    note(f"the table is in {out}")
    return 0
