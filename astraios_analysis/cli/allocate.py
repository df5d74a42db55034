"""``astraios allocate``: the size and the data that a budget buys."""

from pathlib import Path
from types import SimpleNamespace

import click

import astraios_analysis as aa
from astraios_analysis.cli.shared import LEVEL, SEED, columns, picture, save_picture
from astraios_analysis.records.commands import JSON, Command, option
from astraios_analysis.records.notation import json_text, rows_of, say, table_text

HELP = """\
Find the size and the amount of data with the least predicted loss that a budget
buys, with intervals, and say where that lies outside the data.

The rows of a table (--x size,data --y loss) are fitted by laws that can have a
best size (chinchilla, skaling), averaged by how they predict the far rows of
inner splits, or by --law alone. A
run costs 6 N D FLOP unless --cost says otherwise: an expression of the columns.

Intervals hold the optima of draws of the laws' parameters. Warnings have codes:
outside_data (the optimum lies beyond the rows), no_optimum (the loss falls to
the end of the sizes searched: the law sees no best size).

JSON is {budgets: [{budget, N, N_lower, N_upper, D, ..., loss, ..., level, reach,
warnings: [{code, text}]}], weights}, with the columns' own names for N and D.
"""
EXAMPLES = """\
  astraios allocate --data runs.csv --x N,D --y loss --budget 1e21,1e22
  astraios allocate --data runs.csv --x N,D --y loss --budget 1e21 --law chinchilla --json
  astraios allocate --data runs.csv --x params,tokens --y loss --budget 5e20 --plot isoflop.png
  astraios allocate --data tuned.csv --x n,d --y loss --budget 1e19 --cost "6*n*d + 2*n*1e9"
"""


@click.command("allocate", cls=Command, help=HELP, epilog=EXAMPLES)
@click.option("--data", required=True, metavar="FILE", type=Path, help="CSV file")
@click.option("--budget", required=True, metavar="A,B", type=columns, help="budgets, FLOP")
@option("--x", "SIZE,DATA", "columns of the size and of the data", type=columns)
@option("--y", "COLUMN", "column of the loss")
@option("--split", "COLUMN", "column that marks the rows to fit with train")
@option("--cost", "EXPRESSION", "cost of a run from the columns of --x (6*SIZE*DATA)")
@option("--law", "NAME", "this law of two inputs alone (astraios fit --list)")
@option("--huber", "DELTA", "Huber's loss (1e-3)", type=float, default=1e-3)
@LEVEL
@option("--seed", "N", "seed of the draws (0)", type=SEED, default=0)
@option("--plot", "FILE", "write the isoFLOP picture (.png, .pdf, .svg)", type=picture)
@JSON
def command(given: SimpleNamespace) -> None:
    """Print what each budget buys."""
    names = ("x", "y", "split", "cost", "law", "huber", "level", "seed")
    asked = {name: getattr(given, name) for name in names}
    found = aa.allocate(aa.read_table(given.data), given.budget, **asked)
    for note in found.notes:
        say(note)
    if given.plot is not None:
        save_picture(found.plot(), given.plot)
    if given.as_json:
        print(json_text({"budgets": rows_of(found.table), "weights": found.weights}))
        return
    print(table_text(found.table.drop(columns="warnings")))
    print("\nlaws: " + ", ".join(f"{law} {weight:.3f}" for law, weight in found.weights.items()))
    for row in found.table.itertuples():
        for warning in row.warnings:
            say(f"warning ({warning['code']}), budget {row.budget:g}: {warning['text']}")
