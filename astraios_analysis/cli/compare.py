"""``astraios compare``, ``transfer`` and ``regress``: two methods, two sizes, and loss and score, with their errors."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
import pandas as pd

import astraios_analysis as aa
from astraios_analysis.cli.shared import LEVEL, RESAMPLED, RUNS, load_grid, picture, save_picture, several
from astraios_analysis.records.commands import JSON, Command, option
from astraios_analysis.records.frame import describe_mean
from astraios_analysis.records.notation import json_text, rows_of, say, table_text
from astraios_analysis.records.registry import MEAN_GENERATION

HELP = """\
Compare two methods, B minus A, in units of the score or loss. All models answer
the same problems, so problems are resampled for both together (these models);
where models have several seeds, training again is covered too (other models).

The JSON and CSV columns: method_a, method_b, size, n_params, dataset,
difference, stderr, lower, upper, level, scope, tipping_sd (the SD of one run
from which on the interval would include 0; none where it does already), interval.
"""
EXAMPLES = """\
  astraios compare lora fft --size 7b
  astraios compare lora fft --dataset humanevalfix_python --dataset recode_format
  astraios compare fft lora --size 7b --against 3b     LoRA at 7b, FFT at 3b
  astraios compare lora fft --grid ladder --dataset val_loss --csv contrasts.csv
"""
TRANSFER_HELP = """\
Regress scores at a large size on scores at a small one: methods are points, and
both scores have the errors that the choice of problems leaves. A slope of 1:
differences between methods carry over unchanged. The intercept is the score at
the large size of a method with the mean score (centre) at the small one;
scatter, how far methods lie from the line beyond errors.
"""
TRANSFER_EXAMPLES = """\
  astraios transfer --dataset mean_generation
  astraios transfer --small 1b --large 7b --json
"""
REGRESS_HELP = """\
Regress scores on the validation loss: binomial, above the chance level, with
over-dispersion and an effect of the size; over all sizes (pooled), among models
of one size (within size), and at each size. Slopes are in logits per nat less.
"""
REGRESS_EXAMPLES = """\
  astraios regress --grid ladder --dataset embedded_fix
  astraios regress --grid ladder --json
"""
SLOPES = ["dataset", "size_small", "size_large", "slope", "slope_lower", "slope_upper", "intercept", "intercept_lower"]
SLOPES += ["intercept_upper", "scatter", "reliability", "n_methods"]
SHOWN = ["dataset", "size", "difference", "stderr", "lower", "upper", "tipping_sd"]


@click.command("compare", cls=Command, help=HELP, epilog=EXAMPLES)
@click.argument("method_a", metavar="A")
@click.argument("method_b", metavar="B")
@RUNS
@several("--size", "N", "at this size (repeatable; default: all that have both)")
@several("--dataset", "NAME", "data set, or val_loss (repeatable; default: mean_generation, or all)")
@option("--against", "N", "another size for A")
@RESAMPLED
@click.option("--csv", "csv", is_flag=False, flag_value="-", metavar="[FILE]", help="print CSV, or write it to FILE")
@option("--plot", "FILE", "draw the differences by size (.png, .pdf, .svg)", type=picture)
def command(given: SimpleNamespace) -> None:
    """Print paired differences."""
    runs, methods = load_grid(given), (given.method_a, given.method_b)
    how = {"against": given.against, "level": given.level, "seed": given.seed}
    found = aa.compare(runs, *methods, given.size or None, given.dataset or None, **how)
    if MEAN_GENERATION in set(found.table["dataset"]) and not given.dataset:
        say(describe_mean(runs))
    if given.plot is not None:
        save_picture(found.plot(), given.plot)
    if given.csv is not None:
        text = found.table.to_csv(index=False, lineterminator="\n")
        print(text, end="") if given.csv == "-" else Path(given.csv).write_text(text)
    if given.as_json:
        print(json_text(found.rows))
    if not given.as_json and given.csv != "-":
        _print(found, *methods, given.level)


def _print(found: "aa.Comparison", method_a: str, method_b: str, level: float) -> None:
    for scope, rows in found.table.groupby("scope", sort=False):
        known = scope == "these models" or rows["stderr"].notna().any()
        what = "on other problems" if scope == "these models" else "trained again, on other problems"
        print(f"{method_b} minus {method_a}, {scope} {what}\n")
        print(f"{table_text(rows[SHOWN]) if known else 'one run a model: not known; see tipping_sd'}\n")
    for row in found.crossings.to_dict("records"):
        print(describe_crossing(row))
    for row in found.run_sd.to_dict("records"):
        print(f"SD of one run on {row['dataset']}: {row['run_sd']:.4f} ({row['source']})")
    say(f"\n{100 * level:g} % intervals; tipping_sd: SD of one run from which on the interval would include 0")


def describe_crossing(row: dict[str, Any]) -> str:
    """Say from which size on a method is ahead, with the interval."""
    between = f"{row['from_size']} and {row['to_size']}"
    if not row["n_params"]:
        found = f"{row['ahead']} is ahead at every size from {row['from_size']} to {row['to_size']}"
    else:
        found = f"{row['ahead']} is ahead from {row['n_params']:.3g} base parameters on"
    if pd.isna(row["lower"]) or not row["upper"]:
        return f"{row['dataset']}: {found}"
    low = f"{row['lower']:.3g}" if row["lower"] else f"below {row['from_size']}"
    high = f"{row['upper']:.3g}" if np.isfinite(row["upper"]) else f"above {row['to_size']}"
    interval = f"{100 * row['level']:g} % interval of the crossing {low} to {high}"
    return f"{row['dataset']}: {found} ({interval}; by straight lines between {between})"


@click.command("transfer", cls=Command, help=TRANSFER_HELP, epilog=TRANSFER_EXAMPLES)
@RUNS
@several("--dataset", "NAME", "data set (repeatable; default: all)")
@option("--small", "N", "smaller size (default: all)")
@option("--large", "N", "larger size (default: all)")
@RESAMPLED
def transfer(given: SimpleNamespace) -> None:
    """Print slopes of large on small."""
    asked = (given.small, given.large, given.dataset or None)
    found = aa.transfer(load_grid(given), *asked, level=given.level, seed=given.seed)
    if given.as_json:
        print(json_text(found.rows))
        return
    known = found.table["slope"].notna()
    if known.any():
        print(table_text(found.table.loc[known, SLOPES]))
    for row in found.table[~known].to_dict("records"):
        say(f"{row['dataset']}, {row['size_small']} to {row['size_large']}: no slope, {row['reason']}")
    level = f"{100 * given.level:g} % intervals over problems"
    say(f"{level}, for these methods; slope 1: differences carry over unchanged")


@click.command("regress", cls=Command, help=REGRESS_HELP, epilog=REGRESS_EXAMPLES)
@RUNS
@several("--dataset", "NAME", "data set (repeatable; default: all)")
@option(
    "--on", "NAME", "the loss: val_loss (default), or a task whose answers' loss the records hold", default="val_loss"
)
@LEVEL
@JSON
def regress(given: SimpleNamespace) -> None:
    """Print parameters and what was predicted of the held-out size."""
    found = aa.regress(load_grid(given), given.dataset or None, given.on, level=given.level)
    if given.as_json:
        print(json_text({"parameters": found.rows, "held_out": rows_of(found.held_out)}))
        return
    print(table_text(found.table.drop(columns=["on", "level"])))
    if len(found.held_out):
        print("\nThe size held out, or the largest, predicted from the others' curve and its own losses\n")
        print(table_text(found.held_out))
    for name, reason in found.refused.items():
        say(f"no curve of {name}: {reason}")
    meaning = "slopes in logits per nat less; dispersion 1: as independent problems scatter"
    say(f"{100 * given.level:g} % intervals; {meaning}")
