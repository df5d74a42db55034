"""What commands share: options, and the records that these choose."""

import csv
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pandas as pd

import astraios_analysis as aa
from astraios_analysis.records.commands import JSON, flag, option, options
from astraios_analysis.records.frame import RunRecord, describe_mean, warn_of_models
from astraios_analysis.records.notation import parse_count, say
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.registry import MEAN_GENERATION, RELEASED, choose_measure
from astraios_analysis.records.sources import load_records, peek_runs

# Files of figures, and what keeps the time of day out of them.
_PICTURES: dict[str, dict[str, None]] = {".png": {}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}


def picture(text: str) -> Path:
    """Return the path of a picture to write."""
    if Path(text).suffix not in _PICTURES:
        raise click.BadParameter(f"{text!r} is no picture; name a file that ends in {', '.join(_PICTURES)}")
    return Path(text)


def save_picture(figure: Any, path: Path) -> None:
    """Write a figure, the same bytes whenever it is drawn."""
    figure.savefig(path, metadata=_PICTURES[path.suffix])


def several(name: str, metavar: str, text: str) -> Callable:
    """Return an option that may be repeated."""
    return click.option(name, metavar=metavar, multiple=True, help=text)


def columns(text: str) -> tuple[str, ...]:
    """Read names of columns: A,B; a name that holds a comma stands in quotes."""
    return tuple(name for name in next(csv.reader([text], skipinitialspace=True), []) if name)


def _measures(ctx: click.Context, option: click.Option, values: tuple[str, ...]) -> dict[str, str]:
    """Choose the measures of data sets, NAME=METRIC[,SETTING], and return them."""
    chosen = {}
    for text in values:
        name, sign, measure = text.partition("=")
        metric, _, setting = measure.partition(",")
        if not (name and sign and metric):
            raise click.BadParameter(f"{text!r} is not NAME=METRIC, for example gsm8k=accuracy", ctx, option)
        try:
            choose_measure(name, metric, setting or None)
        except Refusal as error:
            raise click.BadParameter(str(error), ctx, option) from error
        chosen[name] = measure
    return chosen


_OWN = "metric[,setting] of a data set of your own (repeatable)"
METRIC = option("--metric", "NAME=METRIC", _OWN, multiple=True, callback=_measures)
_SHARE = click.FloatRange(0, 1, min_open=True, max_open=True)
POSITIVE, SEED = click.IntRange(min=1), click.IntRange(min=0)
LEVEL = option("--level", "P", "coverage of the intervals (0.95)", type=_SHARE, default=0.95)
# Of commands that resample problems.
RESAMPLED = options(LEVEL, option("--seed", "N", "seed of the bootstrap (0)", type=SEED, default=0), JSON)
_WHICH = (
    option("--grid", "NAME", "use this grid, for example released"),
    option("--run-seed", "N", "use runs trained with this seed", type=SEED),
)
ALL_RUNS = options(option("--data", "DIR", "data folder (default: ./data)", type=Path), *_WHICH)
RUNS = options(ALL_RUNS, METRIC)
RUNS_OR_TABLE = options(option("--data", "PATH", "table, or data folder (default: ./data)", type=Path), *_WHICH, METRIC)


READ = options(
    several("--derive", "NAME=EXPRESSION", "with a CSV file: a new column, such as C=6*N*D (repeatable)"),
    option("--blank-group", "NAME", "with a CSV file: group of the rows whose --group cell is blank"),
)
# What a table is told of; `predict` and `backtest` understand the same.
TABLE = options(
    option("--x", "A,B", "with a CSV file: columns of the inputs", type=columns),
    option("--y", "COLUMN", "with a CSV file: column to predict, positive, or a rate"),
    option("--group", "A,B", "with a CSV file: columns that tell methods or curves apart", type=columns),
    option("--size-column", "COLUMN", "with a CSV file: column of the models' sizes; predict larger models"),
    option("--family-column", "COLUMN", "with a CSV file: column of the models' families (with --size-column)"),
    option("--law", "NAME", "with a CSV file: fit this law alone"),
    option("--huber", "DELTA", "with a CSV file: Huber's loss for --law (default: least squares, as fit)", type=float),
    option("--via", "COLUMN", "with a CSV file: predict the rate --y through this column of losses"),
    flag("--rate", "with a CSV file: y is a rate in [0, 1], not a loss with a floor"),
    option("--n-items", "COLUMN|N", "with a CSV file: items behind each rate, a column or a number"),
    option("--route", "NAME", "with a CSV file: curve, sizes or lines alone"),
    READ,
)


# What a table is told of, which records have no use for.
_TOLD = ("x", "y", "group", "size_column", "family_column", "law", "huber", "via", "rate", "n_items", "route", "power")
_TOLD += ("split",)


def told(given: SimpleNamespace) -> dict[str, Any]:
    """Return what a table was told with `TABLE`, numbers read."""
    told = {name: value for name in _TOLD if (value := getattr(given, name, None))}
    with suppress(Refusal):
        told |= {"n_items": float(parse_count(told["n_items"]))} if "n_items" in told else {}
    return told


def read_data(given: SimpleNamespace) -> pd.DataFrame:
    """Read the table of a command, whose columns of names are text whatever they look like."""
    names = filter(None, [getattr(given, name, None) for name in ("family_column", "split")])
    found = aa.read_table(given.data, labels=[*(given.group or ()), *names], blank_group=given.blank_group)
    return aa.derive(found, *given.derive)


def is_table(given: SimpleNamespace, *others: str) -> bool:
    """Whether a command was given a table; with records the options of one (``others`` of the command) are refused."""
    if given.data is not None and not given.data.is_dir():
        return True
    what = "" if given.data is None else f"{given.data} is a folder; "
    for name in (*others, *_TOLD, "derive", "blank_group"):
        if getattr(given, name, None):
            option = name.replace("_", "-")
            raise Refusal(f"{what}--{option} is for a table: give the file with --data FILE.csv, or leave it out")
    return False


def load_runs(given: SimpleNamespace, grid: str | None = None) -> list[RunRecord]:
    """Read the records of the data folder that are of the grid and the seed asked for."""
    runs = load_records(given.data, grid or given.grid)
    if given.run_seed is None:
        return runs
    seeds = sorted({run.seed for run in runs if run.seed is not None})
    if given.run_seed not in seeds:
        known = f"choose from {', '.join(map(str, seeds))}" if seeds else "no run here records its seed"
        raise Refusal(f"no run with seed {given.run_seed}; {known}")
    return [run for run in runs if run.seed == given.run_seed]


def load_grid(given: SimpleNamespace) -> list[RunRecord]:
    """Read one grid: what ranks and fits compare. Several seeds of a model are replicates.

    Where no grid is named and there are several, it is the only one that has scores on the data sets asked for, or else
    that of the released models; which one it is goes to standard error, and the others are not read.
    """
    grid = given.grid
    if grid is None:
        scored: dict[str, set[str]] = {}
        for name, seed, found in peek_runs(given.data):
            if given.run_seed in (None, seed):
                scored.setdefault(name, set()).update(found)
        grid = _meant(scored, set(given.dataset)) if len(scored) > 1 else None
    runs = load_runs(given, grid)
    require_distinct(runs)
    for words in warn_of_models(runs):
        say(words)
    if MEAN_GENERATION in given.dataset and (words := describe_mean(runs)):
        say(words)
    return runs


def _meant(scored: dict[str, set[str]], wanted: set[str]) -> str:
    grids = sorted(scored)
    having = [name for name in grids if wanted & scored[name]]
    if len(having) != 1 and RELEASED not in grids:
        raise Refusal(
            f"scores of different grids do not compare, and there are {len(grids)}: {', '.join(grids)}; "
            "choose one with --grid"
        )
    chosen = having[0] if len(having) == 1 else RELEASED
    others = [name for name in grids if name != chosen]
    say(f"grid {chosen}; there {'is' if len(others) == 1 else 'are'} also {', '.join(others)} (--grid NAME)")
    return chosen


def require_distinct(runs: Iterable[RunRecord]) -> None:
    """Refuse two runs of one model and seed, which would count one training twice."""
    models: dict[tuple, list[RunRecord]] = {}
    for run in runs:
        models.setdefault((run.grid, run.n_params_base, run.method, run.seed), []).append(run)
    for same in models.values():
        if len(same) > 1:
            model = f"{same[0].size} {same[0].method} of grid {same[0].grid} has {len(same)} runs of one seed"
            names = ", ".join(run.run_id for run in same)
            raise Refusal(f"{model}: {names}; keep one, or give them their own grids")
