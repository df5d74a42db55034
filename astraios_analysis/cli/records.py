"""``astraios records``: validate records, or print them as a table."""

from pathlib import Path
from types import SimpleNamespace

import click

import astraios_analysis as aa
from astraios_analysis.cli.shared import ALL_RUNS, LEVEL, RUNS, load_grid, load_runs, several
from astraios_analysis.records.commands import JSON, Command, Group, flag, options
from astraios_analysis.records.frame import to_frame, warn_of_models
from astraios_analysis.records.notation import count, json_text, rows_of, say, table_text
from astraios_analysis.records.refusal import Refusal, require_known
from astraios_analysis.records.registry import DATASETS, MEAN_GENERATION
from astraios_analysis.records.sources import check_sources

FILTERS = ("method", "size", "dataset", "metric", "setting")

CHECK_HELP = """\
Validate record files (*.json) and folders of them.
Everything that is wrong is printed with file, field, value and remedy.
"""
CHECK_EXAMPLES = """\
  astraios records check data
  astraios records check data/runs/ladder my_run.json
"""
COMPLETE_HELP = """\
Estimate the scores that models lack on data sets of programs from those that
they have. The logit of a score is additive in data set and model, with a slope
in the log of the size that is the data set's own; intervals are for what
scoring the model would give. Estimates enter no fit, mean or rank.
"""
COMPLETE_EXAMPLES = """\
  astraios records complete --grid released
  astraios records complete --grid released --dataset humanevalexplain_python --json
"""
SHOW_HELP = """\
Print scores of released and trained runs, one row a score. The table has
four digits of every number; CSV and JSON have all digits and all columns.
Different filters must all hold; of one filter given twice, either.
"""
SHOW_EXAMPLES = """\
  astraios records show --method lora --size 7b
  astraios records show --dataset humanevalfix_python --metric pass@1 --format json
  astraios records show --runs --grid released --format csv > runs.csv
"""


@click.group(
    "records",
    cls=Group,
    help="Validate record files and folders, or print scores as a table.\n",
    epilog="  astraios records check data\n  astraios records show --dataset recode_format --format csv\n",
)
def command() -> None:
    """Validate or print."""


@command.command(
    "check",
    cls=Command,
    help=CHECK_HELP,
    epilog=CHECK_EXAMPLES,
    short_help="validate files and folders; exit 1 if anything is wrong",
)
@click.argument("paths", nargs=-1, required=True, type=Path, metavar="PATH...")
def check(given: SimpleNamespace) -> int:
    """Print everything that is wrong."""
    records, problems = check_sources(list(given.paths))
    for problem in problems:
        print(problem)
    for name in sorted({score.dataset for record in records for score in record.scores}.difference(DATASETS)):
        say(f"note: data set {name!r} is not one of the study's, so it is in no mean and no claim")
    for words in warn_of_models(records):
        say(words)
    n_grids = len({record.grid for record in records})
    say(f"{count(len(records), 'valid record')} in {count(n_grids, 'grid')}, {count(len(problems), 'problem')}")
    return 1 if problems else 0


@command.command("show", cls=Command, help=SHOW_HELP, epilog=SHOW_EXAMPLES, short_help="print scores, one row a score")
@ALL_RUNS
@options(*(several(f"--{name}", "NAME", f"keep this {name} (repeatable)") for name in FILTERS))
@flag("--runs", "one row a run instead of one a score")
@click.option("--format", "form", type=click.Choice(["table", "csv", "json"]), default="table", help="default: table")
def show(given: SimpleNamespace) -> None:
    """Print records as a table."""
    frame = to_frame(load_runs(given), per="run" if given.runs else "score")
    wanted = {name: getattr(given, name) for name in FILTERS if getattr(given, name)}
    shown = frame
    for column, values in wanted.items():
        if column not in frame:
            raise Refusal(f"--{column} chooses scores and --runs shows one row a run; leave one of the two out")
        require_known(column, values, list(dict.fromkeys(frame[column])))
        shown = shown[shown[column].isin(values)]
    if not given.runs and MEAN_GENERATION not in given.dataset:
        # Computed from the others: it is shown where it is named.
        shown = shown[shown["dataset"] != MEAN_GENERATION]
    if given.form == "csv":
        print(shown.to_csv(index=False, lineterminator="\n"), end="")
    elif given.form == "json":
        print(json_text(rows_of(shown)))
    else:
        known = shown.dropna(axis="columns", how="all") if len(shown) else shown
        print(table_text(known.drop(columns=["source_file", "run_id", "held_out"], errors="ignore")))
        say(f"{count(len(shown), 'row')}; --format csv has every column with all digits")
    if shown.empty:
        chosen = ", ".join(f"{name} {' or '.join(values)}" for name, values in wanted.items())
        say(f"nothing is {chosen} at once" if chosen else "these runs have no score; --runs shows the runs")


@command.command(
    "complete",
    cls=Command,
    help=COMPLETE_HELP,
    epilog=COMPLETE_EXAMPLES,
    short_help="estimate the scores that models lack",
)
@RUNS
@several("--dataset", "NAME", "data set (repeatable; default: all)")
@LEVEL
@JSON
def complete(given: SimpleNamespace) -> None:
    """Print estimates of missing scores."""
    table = aa.complete(load_grid(given), level=given.level).table
    require_known("dataset", given.dataset, set(table["dataset"]))
    shown = table[table["dataset"].isin(given.dataset)] if given.dataset else table
    if given.as_json:
        print(json_text(rows_of(shown)))
        return
    estimates = shown[shown["kind"] == "estimate"].drop(columns=["n_items", "level", "kind", "n_params_base"])
    print(table_text(estimates) if len(estimates) else "no score is missing")
    level, n_measured = f"{100 * given.level:g} % intervals", len(shown) - len(estimates)
    say(f"{count(len(estimates), 'estimate')} beside {count(n_measured, 'measured score')}; {level}")
