"""``astraios import``: its arguments; what it does is in `import_runs`."""

import argparse
from pathlib import Path

from astraios_analysis.cli.arguments import add_command, positive, seed

# As in `imports.tables`, `imports.cells`: listed here because help must not load them. A test holds them together.
COLUMN_FIELDS = (
    *(
        "grid",
        "run_id",
        "size",
        "method",
        "seed",
        "held_out",
        "n_params",
        "n_params_base",
        "n_params_base_nonembedding",
    ),
    *("n_params_updated", "n_tokens", "base_val_loss", "val_loss", "val_loss_se", "seconds", "flop"),
    *("peak_memory_bytes", "step", "dataset", "language", "setting", "metric", "source", "value", "stderr"),
    *("reading_error", "n_items", "n_samples", "n_passed"),
)
PARAMS_UNITS, LOSS_UNITS, TIME_UNITS = ("1", "k", "M", "B", "T"), ("nats", "bits", "perplexity"), ("s", "min", "h")

_DESCRIPTION = """\
Make run records of what other tools left behind, or add scores to records, in a
folder that fit, predict, figures and the other commands read.

Nothing is guessed: what no file says is asked for. Every problem is named with
file, key or line, value and remedy; then nothing is written. A different record
of the same name is never overwritten without --replace. docs/import.md has a
worked example of each.
"""


def add_parser(commands) -> None:
    """Add the command to the parser of all commands."""
    parser = add_command(
        commands,
        "import",
        "turn tables, Trainer folders and harness results into records",
        _DESCRIPTION,
        "  astraios import csv runs.csv --grid mine --out my_data\n"
        "  astraios import trainer out/* --grid mine --base-config base --out my_data\n"
        "  astraios import bigcode results.json --run-id r1 --out my_data\n"
        "  astraios import lm-eval results.json --run-id r1 --language python --out my_data\n",
    )
    formats = parser.add_subparsers(dest="format", required=True, metavar="FORMAT")
    _add_csv(formats)
    _add_trainer(formats)
    _add_harness(formats, "bigcode", "bigcode-evaluation-harness", "  astraios import bigcode out.json")
    _add_harness(formats, "lm-eval", "lm-evaluation-harness", "  astraios import lm-eval out.json")


def _add_csv(formats) -> None:
    parser = add_command(
        formats,
        "csv",
        "a table with named columns",
        "Rows of one run are put together: scores in columns of their own (--score), or\n"
        "one row a score with the columns dataset, metric, setting, language, value; a\n"
        "column step makes val_loss a curve. A column has its field's name unless\n"
        "--FIELD-column says otherwise. Lines that begin with # are comments, and empty\n"
        "cells were not measured. Without a column run_id, runs are told apart by grid,\n"
        "size, method and seed. n_params is n_params_base + n_params_updated where it is\n"
        "not given (for fft, n_params_base). The output of `records show --format csv`\n"
        "can be read back.",
        "  astraios import csv runs.csv --grid mine --out my_data\n"
        "  astraios import csv runs.csv --grid mine --size-column model --params-unit M --out my_data\n"
        "  astraios import csv runs.csv --score fix humanevalfix_python --n-items 164 --percent --out d\n"
        "  astraios import csv runs.csv --method-name full fft --loss-unit bits --out my_data --json\n",
    )
    parser.add_argument("paths", type=Path, nargs=1, metavar="FILE", help="the table")
    _add_run(parser)
    columns = parser.add_argument_group("columns", "the column of a field, where it has another name")
    for name in COLUMN_FIELDS:
        columns.add_argument(f"--{name.replace('_', '-')}-column", metavar="NAME", help=f"column of {name}")
    parser.add_argument(
        "--score",
        action="append",
        nargs="+",
        default=[],
        metavar=("COLUMN", "DATASET"),
        help="COLUMN DATASET [METRIC SETTING LANGUAGE]: a column of scores; what is left out is the data set's own. "
        "Columns COLUMN_stderr and COLUMN_n_items go with it (repeatable)",
    )
    parser.add_argument("--percent", action="store_true", help="scores and their errors are percentages")
    parser.add_argument("--params-unit", choices=PARAMS_UNITS, default="1", help="unit of parameter columns (1)")
    parser.add_argument("--loss-unit", choices=LOSS_UNITS, default="nats", help="unit of losses, per token (nats)")
    parser.add_argument("--time-unit", choices=TIME_UNITS, default="s", help="unit of seconds (s)")
    names = {"metavar": ("NAME", "METHOD"), "action": "append", "default": [], "nargs": 2}
    parser.add_argument("--method-name", help="what the table calls a method (repeatable)", **names)
    parser.add_argument("--delimiter", default=",", metavar="CHAR", help="what stands between cells; tab for tabs (,)")
    _add_items(parser, "DATASET")
    parser.add_argument("--language", metavar="NAME", help="language of data sets that are not the study's")
    _add_end(parser)


def _add_trainer(formats) -> None:
    parser = add_command(
        formats,
        "trainer",
        "output folders of the Hugging Face Trainer",
        "trainer_state.json (of the folder, or of its last checkpoint) gives the\n"
        "validation curve, the final loss, tokens, seconds and FLOP; adapter_config.json\n"
        "the method; the headers of safetensors files the counts of parameters, exactly,\n"
        "without loading weights, or --counts FILE, which is made with torch:\n"
        "python -m training params --adapter DIR... --config BASE --json > counts.json\n"
        "The name of the run is that of its\n"
        "folder, and the size is labelled by its parameters (1.14b) unless --size says\n"
        "otherwise. The loss is taken to be what the Trainer logs for language models:\n"
        "nats per token.",
        "  astraios import trainer out/lora --grid mine --base-config base --out my_data\n"
        "  astraios import trainer out/*-s1 --grid mine --seed 1 --base-config base --out my_data\n"
        "  astraios import trainer out/fft --grid mine --held-out 1.14b --out my_data --json\n",
    )
    parser.add_argument("paths", type=Path, nargs="+", metavar="DIR", help="output folder of a run")
    _add_run(parser)
    parser.add_argument("--base-config", type=Path, metavar="DIR", help="base model: folder of its weights")
    parser.add_argument("--counts", type=Path, metavar="FILE", help="counts that `training params --adapter` printed")
    parser.add_argument("--eval", metavar="NAME", help="validation set to take, where several were logged")
    parser.add_argument("--repeated-step", choices=("first", "last"), help="loss to take of a step validated twice")
    parser.add_argument("--unfinished", action="store_true", help="take a run that stopped before max_steps")
    _add_end(parser)


def _add_harness(formats, name: str, title: str, example: str) -> None:
    parser = add_command(
        formats,
        name,
        f"results of {title}",
        f"Add the scores in result files of {title} to a record of\n"
        "the folder (--run-id), or make a record with scores only where grid, method and\n"
        "counts of parameters are given as options.",
        f"{example} --run-id r1 --out my_data\n"
        f"{example} --run-id r1 --skip-unknown --out my_data --json\n"
        f"{example} --run-id b --grid g --method fft --n-params-base 124000 --out d\n",
    )
    parser.add_argument("paths", type=Path, nargs="+", metavar="FILE", help="result file, all of one run")
    _add_run(parser)
    pair = {"action": "append", "default": [], "type": _pair}
    parser.add_argument("--dataset", metavar="TASK=NAME", help="data set of a task (default: its own name)", **pair)
    parser.add_argument("--language", metavar="[TASK=]NAME", help="language of a task, or of all (repeatable)", **pair)
    parser.add_argument(
        "--setting", metavar="NAME", help="setting of the scores (default: by the file's configuration)"
    )
    if name == "bigcode":
        parser.add_argument("--logs", metavar="TASK=FILE", help="logs.json of a task: outcomes by problem", **pair)
    parser.add_argument("--skip-unknown", action="store_true", help="leave out what cannot be mapped")
    _add_items(parser, "TASK")
    _add_end(parser)


def _add_run(parser: argparse.ArgumentParser) -> None:
    run = parser.add_argument_group("the run", "what no file says")
    run.add_argument("--grid", metavar="NAME", help="grid that the runs belong to")
    run.add_argument("--run-id", metavar="NAME", help="name of the run")
    run.add_argument("--method", metavar="NAME", help="tuning method")
    run.add_argument("--size", metavar="LABEL", help="label of the base model's size")
    run.add_argument("--seed", type=seed, metavar="N", help="seed of the run")
    run.add_argument(
        "--held-out", action="append", default=[], metavar="LABEL", help="size that no fit uses (repeatable)"
    )
    for name in ("n-params", "n-params-base", "n-params-base-nonembedding", "n-params-updated", "n-tokens"):
        run.add_argument(f"--{name}", type=positive, metavar="N", help=f"{name.replace('-', '_')} of the run")


def _add_items(parser: argparse.ArgumentParser, what: str) -> None:
    options = {"action": "append", "default": [], "type": _pair, "metavar": f"[{what}=]N"}
    parser.add_argument("--n-items", help="number of problems of a data set, or of all (repeatable)", **options)


def _add_end(parser: argparse.ArgumentParser) -> None:
    # The options are too many for a line that helps.
    parser.usage = f"{parser.prog} [options] PATH... --out DIR"
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of records, made if need be")
    parser.add_argument("--replace", action="store_true", help="overwrite what is there and differs")
    parser.add_argument("--json", action="store_true", help="print a summary as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run="run_import", module="imports")


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.rpartition("=")
    if not value or (sign and not name):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE, nor a value for all")
    return name, value
