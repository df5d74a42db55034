"""The ``astraios`` command: its arguments, its help and its exit codes; what it does is in `commands`."""

import argparse
import importlib
import importlib.metadata
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from astraios_analysis.cli import backtest as commands_backtest
from astraios_analysis.cli import claims as commands_claims
from astraios_analysis.cli import commands_plan
from astraios_analysis.cli import fit as commands_fit
from astraios_analysis.cli import predict as commands_predict
from astraios_analysis.cli import rank as commands_rank
from astraios_analysis.cli.arguments import add_command, add_data, make_parser, positive

DESCRIPTION = """\
Scaling laws for tuned code language models: from measured runs to figures,
ranks and predictions for sizes nobody has tried.

The data folder (default: ./data) holds the scores of the 28 released Astraios
models (data/released) and any records of runs you trained (data/runs/**.json).
Where it holds several grids, rank and predict want to know which: --grid NAME.
"""

EXAMPLES = """\
examples:
  astraios figures                       render every notebook, figure and the report
  astraios figures --only scale_transfer --jobs 1
  astraios records check data            validate everything, exit 1 if anything is wrong
  astraios records show --method lora --size 7b --dataset humanevalfix_python
  astraios records show --format csv > scores.csv
  astraios rank --dataset humanevalsynthesize_java
  astraios predict --method lora --size 34b --dataset recode_format
  astraios predict --method all --size 34b --json
  astraios claims
  astraios plan --size 34b --dataset recode_format
  astraios fit --law chinchilla --x N,D --y loss --huber 1e-3 --data runs.csv
  astraios import csv runs.csv --grid mine --out my_data

results go to standard output, progress and notes to standard error.
exit codes: 0 done, 1 something is wrong with the data or a notebook,
2 the command or its arguments, or a prediction that the data cannot support.
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command."""
    parser = make_parser(argparse.ArgumentParser, prog="astraios", description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_figures(commands)
    _add_records(commands)
    commands_rank.add_parser(commands)
    commands_predict.add_parser(commands)
    commands_claims.add_parser(commands)
    commands_plan.add_parser(commands)
    commands_fit.add_parser(commands)
    commands_backtest.add_parser(commands)
    # Parsed by itself, in `cli.imports`; here for the list of commands.
    add_command(commands, "import", "records from tables, Trainer folders, results of harnesses", "", "").add_argument(
        "rest", nargs=argparse.REMAINDER
    )
    commands.choices["import"].set_defaults(run="main", module="imports")
    return parser


class _Version(argparse.Action):
    """Print the installed version; looked up only when asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"astraios {importlib.metadata.version('astraios')}")
        parser.exit()


def _add_figures(commands) -> None:
    figures = add_command(
        commands,
        "figures",
        "render the notebooks: figures, tables, report",
        "Execute the notebooks with papermill, each in its own process, and write\n"
        "figures/NAME.{pdf,png,csv}, build/notebooks/*.ipynb, build/report.html and\n"
        "build/manifest.json. The same inputs give the same bytes, and a notebook runs\n"
        "again only when its inputs or its figures have changed. A notebook that fails\n"
        "stops none of the others; after that, or Ctrl-C, the next run does the rest.",
        "  astraios figures\n"
        "  astraios figures --only task_performance --only model_suite --force\n"
        "  astraios figures --records my_runs       (into build/records-my_runs)\n"
        "  astraios figures --data my_data --out my_figures -p level=0.9\n",
    )
    figures.add_argument("--only", action="append", metavar="NOTEBOOK", help="render this notebook (repeatable)")
    figures.add_argument("--force", action="store_true", help="run notebooks even where nothing has changed")
    source = figures.add_mutually_exclusive_group()
    source.add_argument("--data", type=Path, metavar="DIR", help="data folder (default: ./data)")
    source.add_argument(
        "--records",
        type=Path,
        metavar="DIR",
        help="folder of your own records in place of the data folder; all results go to build/records-NAME",
    )
    figures.add_argument("--notebooks", type=Path, metavar="DIR", help="notebooks to run (default: ./notebooks)")
    figures.add_argument("--out", type=Path, metavar="DIR", help="where figures go (default: ./figures)")
    figures.add_argument("--build", type=Path, metavar="DIR", help="notebooks and report (default: ./build)")
    figures.add_argument("--jobs", type=positive, metavar="N", help="notebooks at a time (default: one a core)")
    figures.add_argument(
        "-p",
        dest="parameters",
        action="append",
        type=_assignment,
        default=[],
        metavar="NAME=VALUE",
        help="set a notebook parameter (repeatable)",
    )
    figures.add_argument("--quiet", action="store_true", help="no progress bar")
    figures.set_defaults(run="run_figures")


def _add_records(commands) -> None:
    records = add_command(
        commands,
        "records",
        "validate records, or print them as a table",
        "Validate record files and folders, or print scores as a table.",
        "  astraios records check data\n  astraios records show --dataset recode_format --format csv\n",
    )
    actions = records.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = add_command(
        actions,
        "check",
        "validate files and folders; exit 1 if anything is wrong",
        "Validate record files (*.json), folders of them, and folders of released tables.\n"
        "Everything that is wrong is printed with file, field, value and remedy.",
        "  astraios records check data\n  astraios records check data/runs/mini my_run.json\n",
    )
    check.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="record file or folder")
    check.set_defaults(run="run_check")
    show = add_command(
        actions,
        "show",
        "print scores, one row a score",
        "Print scores of released and trained runs, one row a score. The table has\n"
        "four digits of every number; CSV and JSON have all digits and all columns.\n"
        "Different filters must all hold; of one filter given twice, either.",
        "  astraios records show --method lora --size 7b\n"
        "  astraios records show --dataset humanevalfix_python --metric pass@1 --format json\n"
        "  astraios records show --runs --grid released --format csv > runs.csv\n",
    )
    add_data(show)
    for name in ("method", "size", "dataset", "metric", "setting"):
        show.add_argument(f"--{name}", action="append", metavar="NAME", help=f"keep this {name} (repeatable)")
    show.add_argument("--runs", action="store_true", help="one row a run instead of one a score")
    show.add_argument("--format", choices=("table", "csv", "json"), default="table", help="default: table")
    show.set_defaults(run="run_show")


def _assignment(text: str) -> tuple[str, object]:
    name, sign, value = text.partition("=")
    if not sign or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE, for example level=0.9")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    is_import = argv[:1] == ["import"]
    arguments = build_parser().parse_args(argv) if not is_import else argparse.Namespace(module="imports", run="main")
    # Imported after parsing: help and wrong arguments answer at once, and a command pays for what it uses.
    from astraios_analysis.records.files import RecordError
    from astraios_analysis.records.refusal import Refusal

    try:
        module = importlib.import_module(f"astraios_analysis.cli.{getattr(arguments, 'module', 'records')}")
        code = getattr(module, arguments.run)(argv[1:] if is_import else arguments)
        sys.stdout.flush()
    except RecordError as error:
        return _fail(str(error), 1)
    except Refusal as error:
        return _fail(str(error), 2)
    except BrokenPipeError:
        # The reader of a pipe (head, less) has seen enough. What is left in the buffer must go somewhere at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _fail(f"{error.filename or 'a file'}: cannot be read or written ({error.strerror})", 1)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    return code


def _fail(text: str, code: int) -> int:
    print(text, file=sys.stderr)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
