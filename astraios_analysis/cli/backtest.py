"""``astraios backtest``: hold rows of a table or sizes of records out, predict them, score the predictions."""

from pathlib import Path
from typing import Any

import click
import pandas as pd
from tqdm import tqdm

import astraios_analysis as aa
from astraios_analysis.cli.shared import JSON, RUNS_OR_TABLE, Command, columns, load_grid, option, several
from astraios_analysis.records.printing import json_text, rows_of, say, table_text

HELP = """\
Fit the rows that --split marks train, predict those it marks extrapolate, and
print errors, coverage of 50, 80 and 95 % prediction intervals and the interval
score (of the 95 % interval of log y; lower is better). No held-out row enters a
fit, a choice or a width.

Curves in one input are forecast by laws averaged by evidence. --size and
--family predict the held-out largest model of each family from its smaller
ones. --law fits one law.

Without a table, records are back-tested: the sizes marked held out (or else
the largest; --hold-out K: the K largest that are not marked) are predicted
from the others, losses and every score, as `astraios predict` would. Each law
and pooling that is averaged is scored beside it (laws in JSON).

JSON is {mean: {rmse_log, mean_abs_pct, coverage, interval_score, weights},
groups, procedure}, and rows for records; mean is the plain mean over groups.
"""
EXAMPLES = """\
  astraios backtest --data curves.csv --x tokens --y loss --group task,model --split split
  astraios backtest --data tuned.csv --x n_ft --y loss --group task,model \\
      --size params --family family --split split_size --json
  astraios backtest --data runs.csv --law chinchilla --x N,D --y loss --split split_C
  astraios backtest --grid released
  astraios backtest --grid mini --hold-out 2 --dataset val_loss --json
"""


@click.command("backtest", cls=Command, help=HELP, epilog=EXAMPLES)
@RUNS_OR_TABLE
@option("--hold-out", "K", "records: hold out the K largest sizes", type=int)
@several("--dataset", "NAME", "records: data set, or val_loss (repeatable; default: all)")
@option("--x", "A,B", "columns of the inputs", type=columns)
@option("--y", "NAME", "column of the outcome, positive")
@option("--group", "A,B", "columns that tell curves apart", type=columns)
@option("--split", "NAME", "column that holds train and extrapolate")
@option("--size", "NAME", "column of the model's size: predict larger models")
@option("--family", "NAME", "column of the model's family (with --size)")
@option("--law", "NAME", "fit this law alone")
@option("--huber", "DELTA", "Huber's loss for --law (1e-3)", type=float, default=1e-3)
@JSON
def command(
    data: Path | None,
    grid: str | None,
    run_seed: int | None,
    hold_out: int | None,
    dataset: tuple[str, ...],
    huber: float,
    as_json: bool,
    **table: Any,
) -> None:
    """Back-test a table or records and print the scores."""
    if data is None or data.is_dir():
        for name in (name for name, value in table.items() if value):
            raise aa.Refusal(f"--{name} is for a table; give the file with --data FILE.csv, or leave it out")
        runs = load_grid(data, grid, run_seed, dataset)
        if not any(run.val_loss is not None for run in runs):
            say("no loss back-tested: these runs have no validation loss; a grid trained here measures it")
        found = aa.backtest(runs, hold_out, dataset, progress=_progress)
    else:
        missing = [f"--{name}" for name in ("x", "y", "split") if not table[name]]
        if missing:
            raise aa.Refusal(f"a table needs {', '.join(missing)}: the columns to fit, and what marks held-out rows")
        frame = aa.read_table(data)
        try:
            found = aa.backtest(frame, **table, huber=huber, progress=_progress)
        except aa.Refusal as error:
            raise aa.Refusal(f"{data}: {error}") from error
    for text in found.refused:
        say(f"not back-tested: {text}")
    if as_json:
        rows = {} if found.rows.empty else {"rows": rows_of(found.rows)}
        print(json_text({"mean": found.mean, "groups": found.groups, **rows, "procedure": found.procedure}))
    else:
        _print(found)


def _progress(items: Any) -> Any:
    return tqdm(items, disable=None)


def _print(found: aa.Backtest) -> None:
    mean = found.mean
    last = {"quantity": "mean"} | {name: mean[name] for name in ("rmse_log", "mean_abs_pct", "interval_score")}
    last |= {f"covered_{100 * float(level):g}": share for level, share in mean["coverage"].items()}
    print(table_text(pd.concat([found.table, pd.DataFrame([last])]).astype({"n_train": "Int64", "n_test": "Int64"})))
    say(found.procedure)
    if len(found.laws):
        shown = found.laws[["quantity", "law", "pooling", "weight", "aicc", "left_out", "rmse_log", "interval_score"]]
        print("\nEach law and pooling alone (left_out: log density of the largest fitted sizes)\n")
        print(table_text(shown.assign(covered_95=[coverage["0.95"] for coverage in found.laws["coverage"]])))
