"""``astraios import``: read what other tools left, write records, all or nothing, and say what was done."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import click
import pandas as pd

from astraios_analysis.imports.formats import FORMATS, HARNESSES, TABLES, read_all, recognise
from astraios_analysis.imports.inputs import COUNTS, LOSS_UNITS, TIME_UNITS, Imported, read_options
from astraios_analysis.imports.mapping import merge, read_mappings, write_mapping
from astraios_analysis.imports.tables import FIELDS
from astraios_analysis.imports.writing import Written, write_all
from astraios_analysis.records.commands import Command, Group
from astraios_analysis.records.frame import RunRecord
from astraios_analysis.records.notation import COUNT_UNITS, json_text, say, table_text

# Between the words of an option that has several, where no shell would put it.
SEPARATOR = "\x1f"


def _pairs(ctx: click.Context, option: click.Option, values: Sequence[str]) -> dict[str, str]:
    """Read ``NAME=VALUE``, or a value for all, whose name is empty."""
    found = {}
    for value in values:
        name, sign, text = value.rpartition("=")
        if not text or (sign and not name):
            raise click.BadParameter(f"{value!r} is not NAME=VALUE, nor a value for all", ctx, option)
        found[name] = text
    return found


def _column(ctx: click.Context, option: click.Option, value: str | None) -> None:
    """Put the column of a field beside those of others."""
    if value is not None:
        ctx.params.setdefault("columns", {})[option.name.removesuffix("_column")] = value


def _scores(ctx: click.Context, option: click.Option, values: Sequence[str]) -> list[list[str]]:
    found = [value.split(SEPARATOR) for value in values]
    for words in found:
        if not 2 <= len(words) <= 5:
            message = f"{' '.join(words)!r}: give COLUMN DATASET, and METRIC SETTING LANGUAGE if need be"
            raise click.BadParameter(message, ctx, option)
    return found


def _option(*names: str, **settings) -> click.Option:
    return click.Option(list(names), **settings)


def _many(name: str, dest: str, metavar: str, text: str) -> click.Option:
    return _option(name, dest, multiple=True, callback=_pairs, metavar=metavar, help=f"{text} (repeatable)")


_PATH = click.Path(path_type=Path)
_GROUPS: dict[str, list[click.Option]] = {
    "run": [
        _option("--grid", metavar="NAME", help="grid that the runs belong to"),
        _option("--run-id", metavar="NAME", help="name of the run"),
        _option("--method", metavar="NAME", help="tuning method"),
        _option("--size", metavar="LABEL", help="label of the base model's size"),
        _option("--seed", type=click.IntRange(min=0), metavar="N", help="seed of the run"),
        _option("--held-out", multiple=True, metavar="LABEL", help="size that no fit uses (repeatable)"),
        *(_option(f"--{n.replace('_', '-')}", metavar="N", help=f"{n} of the run") for n in (*COUNTS, "n_tokens")),
    ],
    "methods": [_option("--method-name", "methods", type=(str, str), multiple=True,
                        callback=lambda ctx, option, values: dict(values), metavar="NAME METHOD",
                        help="what the files call a method (repeatable)")],
    "items": [_many("--n-items", "n_items", "[NAME=]N", "number of problems of a data set or task, or of all")],
    "metrics": [_many("--metric", "metrics", "NAME=METRIC", "metric of a data set of your own")],
    "language": [_many("--language", "languages", "[TASK=]NAME", "programming language of a task, or of all")],
    "skip": [_option("--skip-unknown", is_flag=True, help="leave out what cannot be mapped, and say so")],
    "table": [
        *(_option(f"--{name.replace('_', '-')}-column", callback=_column, expose_value=False, metavar="NAME",
                  help=f"column of {name}")
          for name in FIELDS),
        _option("--score", "scores", multiple=True, metavar="'COLUMN DATASET ...'", callback=_scores,
                help="a column of scores: COLUMN DATASET [METRIC SETTING LANGUAGE]; what is left out is the data "
                "set's own. Columns COLUMN_stderr and COLUMN_n_items go with it (repeatable)"),
        _option("--percent", is_flag=True, help="scores and their errors are percentages"),
        _option("--params-unit", type=click.Choice(list(COUNT_UNITS)), help="unit of parameter columns (1)"),
        _option("--loss-unit", type=click.Choice(list(LOSS_UNITS)), help="unit of losses, per token (nats)"),
        _option("--time-unit", type=click.Choice(list(TIME_UNITS)), help="unit of seconds (s)"),
        _option("--delimiter", metavar="CHAR", help="what stands between cells; tab for tabs (default: found)"),
        _option("--name-pattern", metavar="REGEX", help="fields in names of runs, as named groups: (?P<size>...)"),
    ],
    "trainer": [
        _option("--base-config", type=_PATH, metavar="DIR", help="folder of the base's weights"),
        _option("--counts", type=_PATH, metavar="FILE",
                help="counts, as python -m training params --adapter DIR... --config DIR --json prints them"),
        _option("--eval", metavar="NAME", help="validation set to take, where several were logged"),
        _option("--checkpoint", type=click.Choice(["last", "best"]), help="loss to record (last)"),
        _option("--repeated-step", type=click.Choice(["first", "last"]), help="loss of a step validated twice"),
        _option("--unfinished", is_flag=True, help="take a run that stopped before max_steps"),
    ],
    "harness": [
        _many("--dataset", "datasets", "[TASK=]NAME", "data set of a task, by default its own name"),
        _option("--setting", metavar="NAME", help="setting of the scores (default: by the file's configuration)"),
    ],
}  # fmt: skip
_END = [
    _option("--map", "maps", multiple=True, type=_PATH, metavar="FILE",
            help="TOML of the options: read where it exists, and written with what was decided (repeatable: "
            "later ones go before, and the last is written)"),
    _option("--out", type=_PATH, required=True, metavar="DIR", help="folder of records, made if need be"),
    _option("--replace", is_flag=True, help="overwrite what is there and differs"),
    _option("--json", "as_json", is_flag=True, help="print a summary as JSON"),
    _option("--quiet", is_flag=True, help="no progress bar"),
]  # fmt: skip
_OF_FORMAT = {name: ("run", "methods", "items", "metrics", "language", "table") for name in TABLES}
_OF_FORMAT |= {name: ("run", "items", "language", "skip", "harness") for name in HARNESSES}
_OF_FORMAT |= {"trainer": ("run", "methods", "trainer"), "peft": ("run", "methods", "items", "skip")}
_OF_FORMAT["auto"] = tuple(_GROUPS)
_ASIDE = ("paths", "maps", "out", "replace", "as_json", "quiet")


def _import(form: str, given: SimpleNamespace) -> None:
    """Import runs or scores, write them and print what was done."""
    known = {option.name for group in _OF_FORMAT[form] for option in _GROUPS[group] if option.expose_value}
    known |= {"columns", "runs"} if "table" in _OF_FORMAT[form] else set()
    # As they stand in a mapping file: plain values, lists and tables.
    asked = {name: value for name, value in vars(given).items() if name not in _ASIDE}
    asked = {name: value for name, value in asked.items() if value not in (None, {}, [], ()) and value is not False}
    read, wanted = read_mappings(given.maps, known, form)
    told = merge(read, asked)
    options = read_options(told | {"out": given.out, "replace": given.replace, "quiet": given.quiet})
    by_format: dict[str, list[Path]] = {}
    for path in given.paths:
        by_format.setdefault(recognise(path) if form == "auto" else form, []).append(path)
    if form == "auto":
        for name, some in by_format.items():
            say(f"{', '.join(map(str, some))}: {FORMATS[name]}")
    found = read_all(by_format, options)
    written = write_all(found.records, given.out, replace=given.replace, extended=found.extended)
    if given.maps:
        decided = [f"{record.run_id}: {_describe(record)}" for record in found.records]
        write_mapping(given.maps[-1], wanted, told, [*decided, *map(str, (*found.notes, *found.left_out))])
    _report(form, given.out, found, written, given.as_json)


def _describe(record: RunRecord) -> str:
    """Say in one line what was read of a run."""
    parts = [f"{record.method}, {record.n_params_base} parameters, {record.n_params_updated} updated"]
    parts += [f"val_loss {record.val_loss:g}"] if record.val_loss is not None else []
    parts += [f"{len(record.scores)} scores"] if record.scores else []
    return ", ".join(parts)


def _report(form: str, out: Path, found: Imported, written: Written, as_json: bool) -> None:
    for problem in found.left_out:
        say(f"left out: {problem}")
    for problem in found.notes:
        say(f"note: {problem}")
    for new, old in written.known_as.items():
        say(f"note: run {new!r} is there already as {old!r}")
    fields = ("run_id", "grid", "size", "method", "seed", "n_params", "n_params_base", "n_params_updated", "val_loss")
    rows = [
        {name: getattr(record, name) for name in fields}
        | {"n_points": len(record.val_curve), "n_scores": len(record.scores)}
        for record in found.records
    ]
    done = {name: list(getattr(written, name)) for name in ("new", "replaced", "unchanged")}
    if as_json:
        said = {
            name: [{"path": str(p.path), "place": p.field, "message": p.message} for p in getattr(found, name)]
            for name in ("left_out", "notes")
        }
        print(json_text({"format": form, "out": str(out), **done, **said, "records": rows}))
        return
    print(table_text(pd.DataFrame(rows).drop(columns=["n_params", "n_points"])))
    parts = [f"{len(names)} {name}" for name, names in done.items()]
    say(f"{', '.join(parts)} in {out}; check with: astraios records check {out}")


_HELP = """\
Make run records of what other tools left behind, or add scores to records, in a
folder that fit, predict, figures and the other commands read.

Nothing is guessed: what no file says is asked for. Every problem is named with
file, key or line, value and remedy; then nothing is written. A different record
of the same name is never overwritten without --replace. docs/import.md has a
worked example of each.
"""
_EXAMPLES = """\
  astraios import auto results/* --run-id r1 --out my_data
  astraios import csv runs.csv --grid mine --out my_data
  astraios import trainer out/* --grid mine --base-config base --out my_data
  astraios import lm-eval results.json --run-id r1 --out my_data
"""
_HELPS = {
    "auto": """\
Recognise each file by what it holds, and read it as its own importer would; its
options are those of all of them.
""",
    "csv": """\
Rows of one run are put together: scores in columns of their own (--score), or
one row a score with the columns dataset, metric, setting, language, value; a
column step makes val_loss a curve. A column has its field's name unless
--FIELD-column says otherwise. Lines that begin with # are comments, and empty
cells were not measured. Without a column run_id, runs are told apart by grid,
size, method and seed. n_params is n_params_base + n_params_updated where it is
not given (for fft, n_params_base). The output of `records show --format csv`
can be read back.
""",
    "trainer": """\
trainer_state.json (of the folder, or of its last checkpoint) gives the
validation curve, the final loss, tokens, seconds and FLOP; adapter_config.json
the method; the headers of safetensors files the counts of parameters, exactly,
without loading weights, or --counts FILE, which is made with torch:
python -m training params --adapter DIR... --config BASE --json > counts.json
The name of the run is that of its folder, and the size is labelled by its
parameters (1.14b) unless --size says otherwise. The loss is taken to be what
the Trainer logs for language models: nats per token.
""",
    "peft": """\
Each JSON of PEFT's method_comparison is a run, with its counts of parameters,
test accuracy and cost. The method is the experiment's name without that of the
base model (lora-rank32) unless --method-name says which it is.
""",
    "wandb": """\
A run table (Name, State, ...) or a chart (Step, then a column a run) as its CSV
export has it. Runs that crashed or still run are left out, and said to be. Which
columns hold loss, method and counts is said as for csv; fields may also stand in
the names of runs (--name-pattern) or in a mapping file, run by run.
""",
    "mlflow": """\
Runs as MLflow's interface or `mlflow experiments csv` writes them, the history
of a metric, or one run as JSON. Runs that did not finish are left out, and said
to be. Which columns hold loss, method and counts is said as for csv.
""",
}
for _name in HARNESSES:
    _HELPS[_name] = f"""\
Add the scores in {FORMATS[_name]} to a record of the folder
(--run-id), or make a record with scores only where grid, method and counts of
parameters are given as options.
"""
_EXAMPLE_OPTIONS = {
    "auto": ("results.json runs.csv --grid mine --run-id r1",),
    "csv": (
        "runs.csv --grid mine",
        "runs.csv --grid mine --size-column model --params-unit M",
        "runs.csv --score fix humanevalfix_python --n-items 164 --percent",
    ),
    "trainer": (
        "out/lora --grid mine --base-config base",
        "out/*-s1 --grid mine --seed 1 --counts counts.json",
        "out/fft --grid mine --held-out 1.14b --json",
    ),
    "peft": ("results/*.json --grid metamath --method-name lora-rank32 lora --skip-unknown",),
    "wandb": ("runs.csv --grid mine --val-loss-column eval/loss --map w.toml",),
    "mlflow": ("runs.csv --grid mine --val-loss-column metrics.eval_loss --method-column params.method",),
    "lm-eval": ("out.json --run-id r1", "out.json --run-id b --grid g --method fft --n-params-base 1B"),
    "bigcode": ("out.json --run-id r1 --skip-unknown",),
    "human-eval": ("samples.jsonl_results.jsonl --run-id r1 --setting greedy",),
}


class _Format(Command):
    """A format's command."""

    def parse_args(self, ctx, args):
        """Put the words behind each ``--score`` together: there are two to five."""
        words, score = [], None
        for word in args:
            if word == "--score":
                score = []
                words += [word, score]
            elif word.startswith("--") or score is None:
                score = None
                words.append(word)
            else:
                score.append(word)
        return super().parse_args(ctx, [SEPARATOR.join(word) if isinstance(word, list) else word for word in words])


def _command(form: str) -> click.Command:
    examples = [f"  astraios import {form} {line} --out my_data\n" for line in _EXAMPLE_OPTIONS[form]]
    argument = click.Argument(["paths"], nargs=-1, required=True, metavar="PATH...", type=_PATH)
    options = [option for group in _OF_FORMAT[form] for option in _GROUPS[group]]
    return _Format(
        form,
        callback=partial(_import, form),
        params=[argument, *options, *_END],
        help=_HELPS[form],
        short_help=FORMATS.get(form, "any of these, recognised by what it holds"),
        epilog="".join(examples),
    )


command = Group("import", help=_HELP, epilog=_EXAMPLES)
for _name in ("auto", *FORMATS):
    command.add_command(_command(_name))
