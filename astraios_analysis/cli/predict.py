"""``astraios predict``: losses and scores at sizes nobody has measured."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pandas as pd

import astraios_analysis as aa
from astraios_analysis.cli.shared import (
    RUNS_OR_TABLE,
    TABLE,
    is_table,
    load_grid,
    picture,
    read_data,
    save_picture,
    several,
    told,
)
from astraios_analysis.records.commands import JSON, Command, flag, option
from astraios_analysis.records.notation import count, json_text, rows_of, say, split_sizes, table_text
from astraios_analysis.records.refusal import by_reason

ALL = "all"
KEYS = ["size", "n_params", "at", "group", "dataset", "method", "quantity", "value", "intervals", "reach", "weights"]
AXES = {"n_params_base": "base parameters"}

HELP = """\
Predict the loss (where runs have losses) and scores of methods at a size, with
intervals, how far the size lies beyond the data, and the laws averaged.

Laws and ways to pool methods are averaged: weights are learnt by leaving out
the largest fitted sizes, with AICc as one more look, and so is that of each
method's own curve beside them (from four sizes on, of rates five). Where runs
have losses a score is predicted both directly and through the loss. Scores of
programs share one law, learned from all data sets of the grid. The back-test
of the same procedure is printed beside it; what cannot be back-tested (fewer
than four sizes) is answered by lines, with the intervals of the few degrees
of freedom that are left, and marked "not back-tested".

With `all`, what cannot be predicted is named on standard error and left out;
what you name yourself must work, or the command ends with code 2.

--data FILE.csv predicts column --y of any table at other values of its input
--x; --group tells methods or curves apart, rows of one x and group are
replicates, rows that --split does not mark train take no part. How it is
predicted is what `astraios backtest` scores:
  one input          curves by laws averaged by evidence; up to eight sizes with
                     methods as on records, fewer than four by lines (--route
                     takes one)
  --law NAME         one law, in one input or several (--x N,D --at N=7e9,D=2e12)
  --size-column and --family-column
                     larger models of families from their smaller ones, at each x
  --via LOSS         the column --y through the column of losses, by draws
--rate says that y is a rate, of successes or of errors; with --n-items it may
be 0 or 1. --size is the short form of --at for one column.

FIT --points FILE.csv predicts rows by a fit that `astraios fit -o FIT` kept, each
with its extrapolation factor (reach) and codes of warnings: extrapolation, and
far_extrapolation beyond ten times; not_identified:NAME, not_converged and
local_minimum are the fit's.

JSON is a list of {size, n_params, at, group, dataset, method, quantity, value,
intervals, reach, weights}; each interval has level, kind, lower and upper. Kind
observation is where a new run falls, kind mean where the fitted line is. A row
that no back-test supports has back_tested: false.
"""
EXAMPLES = """\
  astraios predict fit.json --points points.csv --csv predictions.csv
  astraios predict --method lora --size 34b --dataset recode_format
  astraios predict --size 7b,34b --dataset clone_detection --json
  astraios predict --size 34b --dataset recode_format --plot scores.png --csv scores.csv
  astraios predict --method fft --size 300b --dataset recode_syntax --force
  astraios predict --data runs.csv --x params --y loss --group method --size 7b
  astraios predict --data curves.csv --x tokens --y loss --group run --at tokens=2e11
  astraios predict --data runs.csv --x N,D --y loss --at N=7e9,D=2e12 --at N=70e9,D=1e12
  astraios predict --data runs.csv --law skaling --x N,D --y loss --at N=7e9,D=2e11
  astraios predict --data tuned.csv --x n_ft --y loss --group task,model \\
      --size-column params --family-column family --size 30b
  astraios predict --data runs.csv --x params --y accuracy --via loss --n-items 164 --size 7b
  astraios predict --data runs.csv --x params --y error --rate --route curve --size 7b
"""
_ABOUT = """
PI: prediction interval for a new run on the same problems.
Reach: how many times the size lies beyond the sizes fitted; 1 is within them.
Back-test of the same procedure: the largest fitted size held out and predicted from the smaller ones"""


@click.command("predict", cls=Command, help=HELP, epilog=EXAMPLES)
@click.argument("fit", required=False, type=Path)
@click.option("--points", metavar="FILE", type=Path, help="with a saved fit: CSV file of the inputs to predict at")
@RUNS_OR_TABLE
@several("--method", "NAME", "method, or a value of --group (repeatable; default: all)")
@option("--size", "A,B", "sizes: 34b, 350m, 3.4e10, or measured ones")
@several("--dataset", "NAME", "data set, or val_loss (repeatable; default: all)")
@flag("--force", "allow sizes beyond ten times the fitted range")
@several("--at", "A=V,B=W", "with a CSV file: values of columns to predict at (repeatable)")
@TABLE
@option("--split", "COLUMN", "with a CSV file: rows not marked train in it take no part")
@option("--plot", "FILE", "write a figure: measured points, laws, predictions (.png, .pdf, .svg)", type=picture)
@option("--csv", "FILE", "write the predictions as a table", type=Path)
@JSON
def command(given: SimpleNamespace) -> None:
    """Predict losses and scores at sizes."""
    if given.fit is not None or given.points is not None:
        _predict_saved(given)
        return
    asked: dict[str, Any] = {"size": split_sizes(given.size) if given.size else None, "method": _named(given.method)}
    asked["force"] = given.force
    if is_table(given, "at"):
        found = aa.predict(read_data(given), **asked, at=list(given.at), **told(given))
    else:
        if not given.size:
            raise aa.Refusal("name the sizes to predict with --size, such as 34b")
        runs = load_grid(given)
        found = aa.predict(runs, dataset=_named(given.dataset), **asked)
        if not given.dataset and not any(run.val_loss is not None for run in runs):
            say("no loss predicted: these runs have no validation loss; a grid trained here measures it")
    _say_refused(found)
    if given.plot is not None:
        save_picture(found.plot(), given.plot)
    if given.csv is not None:
        found.table.to_csv(given.csv, index=False, lineterminator="\n")
    if given.as_json:
        untested = {name: {"back_tested": False} for name in found.untested}
        rows = [{key: row[key] for key in KEYS} | untested.get(row["quantity"], {}) for row in found.rows]
        print(json_text(rows))
    else:
        _print(found)
    if any(row["reach"] > 1 for row in found.rows):
        say("this is an extrapolation; the intervals trust the law beyond the sizes it was fitted to")


def _predict_saved(given: SimpleNamespace) -> None:
    """Predict the rows of a file by a fit that was kept."""
    if given.fit is None or given.points is None:
        raise aa.Refusal("a saved fit and its points go together: astraios predict fit.json --points points.csv")
    saved = aa.load_fit(given.fit)
    found = saved.predict_rows(aa.read_table(given.points))
    if given.csv is not None:
        found.to_csv(given.csv, index=False, lineterminator="\n")
    print(json_text(rows_of(found)) if given.as_json else table_text(found))
    for group, own in saved.warnings.items():
        for one in own:
            say(f"warning ({one['code']}), {group}: {one['text']}")


def _named(values: tuple[str, ...]) -> list[str] | None:
    return None if not values or ALL in values else list(dict.fromkeys(values))


def _say_refused(found: "aa.Prediction") -> None:
    for names, reason in by_reason(found.refused).items():
        say(f"not predicted: {names}: {reason}")
    for note in found.notes:
        say(note)
    for name, reason in found.untested.items():
        say(f"not back-tested: {name}: {reason}")


def _print(found: "aa.Prediction") -> None:
    rows, several_sizes = [], len({row["size"] for row in found.rows}) > 1
    for prediction in found.rows:
        names = ("quantity", "metric", "method", *(["size"] if several_sizes else []), "value")
        row = {name: prediction[name] for name in names}
        for interval in prediction["intervals"]:
            if interval["kind"] == "observation":
                row[f"{100 * interval['level']:g} % PI"] = f"[{interval['lower']:.3f}, {interval['upper']:.3f}]"
        rows.append(row | {"sizes": prediction["sizes_fitted"], "reach": prediction["reach"]})
    places = dict.fromkeys(tuple(row["at"].items()) for row in found.rows)
    shown = [", ".join(f"{value:.4g} {AXES.get(name, name)}" for name, value in place) for place in list(places)[:5]]
    print(f"Predicted at {'; '.join(shown)}{'; ...' if len(places) > 5 else ''}\n")
    print(table_text(pd.DataFrame(rows)))
    print(_ABOUT)
    for tested in found.backtest.itertuples():
        own = found.weights[found.weights["quantity"] == tested.quantity]
        print(
            f"  {tested.quantity}: {count(tested.n, 'run')}, mean error {tested.mean_abs_error:.3f} (no change: "
            f"{tested.persistence_mean_abs_error:.3f}), 95 % PI covered {tested.n_covered} of {tested.n}"
        )
        laws = (f"{law} {weight:.3f}" for law, weight in zip(own["law"], own["weight"], strict=True))
        print(f"    laws: {', '.join(laws)}")
