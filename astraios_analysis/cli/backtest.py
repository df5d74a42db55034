"""``astraios backtest``: hold rows of a table or sizes of records out, predict them, score the predictions."""

from functools import partial
from types import SimpleNamespace

import click
import pandas as pd
from tqdm import tqdm

import astraios_analysis as aa
from astraios_analysis.cli.shared import RUNS_OR_TABLE, TABLE, is_table, load_grid, read_data, several, told
from astraios_analysis.records.commands import JSON, Command, option
from astraios_analysis.records.notation import json_text, say, table_text

HELP = """\
Fit the rows that --split marks train, predict those it marks extrapolate, and
print errors, coverage of 50, 80 and 95 % prediction intervals and the interval
score (of the 95 % interval of log y; lower is better). No held-out row enters a
fit, a choice or a width.

The table is predicted as `astraios predict` would, with the same options:
curves in one input, sizes with methods, few sizes; --law; --size-column and
--family-column (also --size and --family); --via a column of losses; --rate.
Without --split the largest --x of each group (--hold-out K: the K largest) is
held out.

Without a table, records are back-tested: the sizes marked held out (or else
the largest; --hold-out K: the K largest that are not marked) are predicted
from the others, losses and every score, as `astraios predict` would.

JSON is {mean: {rmse_log, mean_abs_pct, coverage, interval_score, weights},
groups, rows, procedure}; mean is the plain mean over groups, rows are all that
was predicted: at, group, value, intervals and what was measured.
"""
EXAMPLES = """\
  astraios backtest --data curves.csv --x tokens --y loss --group task,model --split split
  astraios backtest --data tuned.csv --x n_ft --y loss --group task,model \\
      --size-column params --family-column family --split split_size --json
  astraios backtest --data runs.csv --x N,D --y loss --split split_C
  astraios backtest --data runs.csv --law skaling --x N,D --y loss --split split_C
  astraios backtest --data scores.csv --x params --y score --group family,task \\
      --rate --n-items items
  astraios backtest --data runs.csv --x params --y accuracy --via loss --split split
  astraios backtest --grid released
  astraios backtest --grid ladder --hold-out 2 --dataset val_loss --json
"""


@click.command("backtest", cls=Command, help=HELP, epilog=EXAMPLES)
@RUNS_OR_TABLE
@option("--hold-out", "K", "hold out the K largest sizes", type=int)
@several("--dataset", "NAME", "records: data set, or val_loss (repeatable; default: all)")
@TABLE
@option("--split", "COLUMN", "column that holds train and extrapolate")
@option("--size", "COLUMN", "the same as --size-column")
@option("--family", "COLUMN", "the same as --family-column")
@JSON
def command(given: SimpleNamespace) -> None:
    """Back-test a table or records and print the scores."""
    given.size_column, given.family_column = given.size_column or given.size, given.family_column or given.family
    if is_table(given):
        try:
            found = aa.backtest(read_data(given), given.hold_out, **told(given), progress=partial(tqdm, disable=None))
        except aa.Refusal as error:
            raise aa.Refusal(str(error) if str(given.data) in str(error) else f"{given.data}: {error}") from error
    else:
        runs = load_grid(given)
        if not any(run.val_loss is not None for run in runs):
            say("no loss back-tested: these runs have no validation loss; a grid trained here measures it")
        found = aa.backtest(runs, given.hold_out, given.dataset, progress=partial(tqdm, disable=None))
    for text in found.notes:
        say(text)
    for text in found.refused:
        say(f"not back-tested: {text}")
    if given.as_json:
        parts = {"mean": found.mean, "groups": found.groups, "rows": found.predicted, "procedure": found.procedure}
        print(json_text(parts))
    else:
        _print(found)


def _print(found: "aa.Backtest") -> None:
    mean = found.mean
    last = {"quantity": "mean"} | {name: mean[name] for name in ("rmse_log", "mean_abs_pct", "interval_score")}
    last |= {f"covered_{100 * float(level):g}": share for level, share in mean["coverage"].items()}
    print(table_text(pd.concat([found.table, pd.DataFrame([last])]).astype({"n_train": "Int64", "n_test": "Int64"})))
    say(found.procedure)
