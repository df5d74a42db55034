"""``astraios plan``: which runs next, for how much, from records or from a table of rows that could be measured."""

from pathlib import Path
from types import SimpleNamespace

import click

import astraios_analysis as aa
from astraios_analysis.cli.shared import (
    READ,
    RUNS_OR_TABLE,
    columns,
    is_table,
    load_grid,
    read_data,
    several,
    told,
)
from astraios_analysis.records.commands import JSON, Command, option, options
from astraios_analysis.records.notation import json_text, rows_of, say, table_text

CHOICES = ["option", "n_runs", "flop", "gpu_hours", "is_affordable", "expected_regret", "saved", "advice"]
HELP = """\
Say what choosing a method for a target size gives up on average (the expected
regret), now and after runs that a --budget buys: one more of every method, of
the better half, or of the best two, at the largest measured size or at
--candidate-size, and successive halving over these sizes (all methods at the
first, the better half at the next). Then list which models (measured, and
predicted at the target) no other beats in both cost and performance. FLOP of
pre-training a base are not counted.

JSON has the lists choices and frontier, with all digits and columns.

With a table (--data FILE.csv) rows whose outcome --y is blank are candidates,
and a batch of them is proposed, in order, for the --budget: the rows that
narrow the prediction at the --target rows the most per unit of their --cost
(V-optimal; laws and basins of their fits averaged, the covariance updated
after each choice). A budget in percent is of what all rows of the table cost,
the measured ones counted. Measure the first quarter and ask again: better than
all at once.
JSON has batch, error_now, budget, spent, weights; --csv keeps the rows.
"""
EXAMPLES = """\
  astraios plan --size 16b --dataset mean_generation --candidate-size 16b --budget '400 gpu-hours'
  astraios plan --size 34b --dataset recode_format
  astraios plan --size 34b --dataset recode_format --cost n_params_updated
  astraios plan --size 5m --grid ladder --cost flop --json
  astraios plan --data pool.csv --x N,D --y loss --cost flop --target big.csv --budget 10%
  astraios plan --data pool.csv --x N,D --y loss --cost "6*N*D" \\
      --target big.csv --budget 1e21 --csv batch.csv
"""
# What a table is told of.
TABLE = options(
    option("--x", "A,B", "with a CSV file: columns of the inputs", type=columns),
    option("--y", "COLUMN", "with a CSV file: column of the loss, blank where not measured"),
    option("--group", "A,B", "with a CSV file: columns that tell groups with laws of their own apart", type=columns),
    option("--target", "FILE", "with a CSV file: table of the rows to predict", type=Path),
    option("--law", "NAME", "with a CSV file: this law alone"),
    option("--huber", "DELTA", "with a CSV file: Huber's loss (1e-3)", type=float),
    option("--power", "P", "with a CSV file: power of the cost that a row's gain is divided by (1)", type=float),
    option("--csv", "FILE", "with a CSV file: write the proposed rows as a table", type=Path),
    READ,
)


@click.command("plan", cls=Command, help=HELP, epilog=EXAMPLES)
@RUNS_OR_TABLE
@option("--size", "N", "target: 34b, 350m, 3.4e10, or a measured size")
@several(
    "--dataset",
    "NAME",
    "choose by this data set, or val_loss (repeatable; default: the loss, where there is one)",
)
@several("--candidate-size", "N", "consider runs at this size (repeatable)")
@option("--budget", "COST", "what more runs may cost: '40 gpu-hours', '2 gpu-days', '3e20 flop'; of a table 10%")
@option("--tflops", "X", "10^12 FLOP that a GPU does in a second (125)", type=float, default=125.0)
@option(
    "--cost",
    "NAME",
    "cost of the frontier: flop (default), seconds, peak_memory_bytes, n_params_updated; of a table a column, or 6*N*D",
)
@TABLE
@JSON
def command(given: SimpleNamespace) -> None:
    """Propose what to run next."""
    if is_table(given, "target", "csv"):
        _plan_table(given)
        return
    runs = load_grid(given)
    money = {name: getattr(given, name) for name in ("budget", "tflops", "cost")}
    found = aa.plan(runs, given.size, given.dataset, candidate_sizes=given.candidate_size, **money)
    front = found.frontier
    if len(front):
        for row in front[front["kind"] == "refused"].itertuples():
            say(f"{row.dataset} not predicted at {given.size}: {row.refusal}")
        front = front[front["kind"] != "refused"].drop(columns="refusal")
    if given.as_json:
        tables = {"choices": found.table, "frontier": front}
        print(json_text({name: rows_of(own) for name, own in tables.items()}))
        return
    for name, own in found.table.groupby("quantity", sort=False):
        print(f"What choosing a method by {name} at {found.n_params:.4g} base parameters gives up on average\n")
        # Draws tell no more digits of means of what they give up.
        regrets = {column: own[column].map("{:.3g}".format) for column in ("expected_regret", "saved")}
        print(f"{table_text(own[CHOICES].assign(**regrets))}\n")
        say(f"FLOP: {'; '.join(dict.fromkeys(own['flop_basis']))}; base models of new sizes are not counted")
        advised = own[own["advice"]].iloc[0]
        say(f"within the budget: {advised['option']}{f' ({advised.runs})' if advised.n_runs else ''}")
        if advised.n_runs and found.preset:
            say(
                f"to train them: python -m training grid spec --preset {found.preset} > grid.toml, a new seed among "
                "its seeds, then python -m training grid run --spec grid.toml with --size, --method and --seed as above"
            )
    for name, own in front.groupby("dataset", sort=False) if len(front) else []:
        print(f"Models that none beats in both {found.cost} and {name}, or may: probability 0.1 or more\n")
        shown = own[own["on_frontier"] | (own["p_frontier"] >= 0.1)]
        print(f"{table_text(shown.drop(columns=['dataset', 'cost', 'level']))}\n")
    if not len(front):
        say("no frontier: it needs a score; name a data set with --dataset")


def _plan_table(given: SimpleNamespace) -> None:
    """Propose a batch of a table's rows."""
    places = None
    if given.target is not None:
        derived = [text for text in given.derive if text.partition("=")[0].strip() in (given.x or ())]
        places = read_data(SimpleNamespace(**vars(given) | {"data": given.target, "derive": derived}))
    asked = {name: getattr(given, name) for name in ("size", "dataset", "budget", "cost")}
    found = aa.plan(read_data(given), target=places, **asked, **told(given))
    for note in found.notes:
        say(note)
    if given.csv is not None:
        found.rows.to_csv(given.csv, index=False, lineterminator="\n")
    if given.as_json:
        kept = {name: getattr(found, name) for name in ("error_now", "budget", "spent", "weights")}
        print(json_text({"batch": rows_of(found.table), **kept}))
        return
    after = float(found.table["error_after"].iloc[-1]) if len(found.table) else found.error_now
    exact = {name: found.table[name].map(str) for name in given.x}
    print(f"Rows of {given.data} to measure, in this order (row: counted from 1 below the header)\n")
    print(f"{table_text(found.table.assign(**exact))}\n")
    print(f"error of the law at the target rows: {found.error_now:.3g} now (relative), {after:.3g} with all rows")
    print(f"cost: {found.table['cost'].sum():.4g} of {found.budget:.4g}; the measured rows cost {found.spent:.4g}")
    say("laws: " + ", ".join(f"{law} {weight:.3f}" for law, weight in found.weights.items() if weight >= 1e-3))
