"""``astraios plan``: which runs next, for how much, from records or from a table of rows that could be measured."""

from pathlib import Path
from typing import Any

import click

import astraios_analysis as aa
from astraios_analysis.cli.shared import (
    JSON,
    POSITIVE,
    READ,
    RUNS_OR_TABLE,
    Command,
    columns,
    load_grid,
    option,
    options,
    read_data,
    require_no_table,
    several,
    told,
)
from astraios_analysis.records.printing import json_text, rows_of, say, table_text

CHOICES = ["option", "n_runs", "flop", "gpu_hours", "is_affordable", "expected_regret", "saved", "advice"]
HELP = """\
Say what choosing a method for a target size gives up on average (the expected
regret), now and after runs that a --budget buys: one more of every method, of
the better half, or of the best two, at the largest measured size or at
--candidate-size, and successive halving over these sizes (all methods at the
first, the better half at the next). Then rank single runs by how much each
narrows the prediction per FLOP, and list which models (measured, and predicted
at the target) no other beats in both cost and performance.

Single runs are one more of each method at each measured size and at
--candidate-size. FLOP of pre-training a base are not counted. The variance is
that of the law at the target, on its link scale, averaged over what is open.

JSON has the lists choices, runs and frontier, with all digits and columns.

With a table (--data FILE.csv) rows whose outcome --y is blank are candidates,
and a batch of them is proposed, in order, for the --budget: the rows that
narrow the prediction at the --target rows the most per power of their --cost
(V-optimal; laws and basins of their fits averaged, the covariance updated
after each choice). A budget in percent is of what all rows of the table cost,
the measured ones counted. Measure them all, or the first few and ask again.
JSON has batch, error_now, budget, spent, weights; --csv keeps the rows.
"""
EXAMPLES = """\
  astraios plan --size 16b --dataset mean_generation --candidate-size 16b --budget '400 gpu-hours'
  astraios plan --size 34b --dataset recode_format
  astraios plan --size 34b --dataset recode_format --method lora --cost n_params_updated
  astraios plan --size 5m --grid mini --cost flop --json
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
    option("--power", "P", "with a CSV file: power of the cost that a row's gain is divided by (0.4)", type=float),
    option("--csv", "FILE", "with a CSV file: write the proposed rows as a table", type=Path),
    READ,
)


@click.command("plan", cls=Command, help=HELP, epilog=EXAMPLES)
@RUNS_OR_TABLE
@option("--size", "N", "target: 34b, 350m, 3.4e10, or a measured size")
@several("--method", "NAME", "predict and run this method (repeatable)")
@several(
    "--dataset",
    "NAME",
    "narrow this data set's prediction, or val_loss (repeatable; default: the loss, where there is one)",
)
@several("--candidate-size", "N", "consider runs at this size (repeatable)")
@option("--budget", "COST", "what more runs may cost: '40 gpu-hours', '2 gpu-days', '3e20 flop'; of a table 10%")
@option("--tflops", "X", "10^12 FLOP that a GPU does in a second (125)", type=float, default=125.0)
@option(
    "--cost",
    "NAME",
    "cost of the frontier: flop (default), seconds, peak_memory_bytes, n_params_updated; of a table a column, or 6*N*D",
)
@option("--top", "N", "runs to print as a table (12)", type=POSITIVE, default=12)
@TABLE
@JSON
def command(
    data: Path | None,
    grid: str | None,
    run_seed: int | None,
    size: str | None,
    method: tuple[str, ...],
    dataset: tuple[str, ...],
    candidate_size: tuple[str, ...],
    budget: str | None,
    tflops: float,
    cost: str | None,
    top: int,
    as_json: bool,
    target: Path | None,
    csv: Path | None,
    **table: Any,
) -> None:
    """Propose what to run next."""
    if data is not None and not data.is_dir():
        asked = {"size": size, "dataset": dataset, "method": method, "budget": budget, "cost": cost}
        _plan_table(data, target, csv, as_json, asked, table)
        return
    require_no_table({"target": target, "csv": csv, **table}, data)
    runs = load_grid(data, grid, run_seed, datasets=dataset)
    money = {"budget": budget, "tflops": tflops, "cost": cost}
    found = aa.plan(runs, size, dataset, method, candidate_sizes=candidate_size, **money)
    front = found.frontier
    if len(front):
        for row in front[front["kind"] == "refused"].itertuples():
            say(f"{row.dataset} not predicted at {size}: {row.refusal}")
        front = front[front["kind"] != "refused"].drop(columns="refusal")
    if as_json:
        tables = {"choices": found.choices, "runs": found.table, "frontier": front}
        print(json_text({name: rows_of(own) for name, own in tables.items()}))
        return
    for name, own in found.choices.groupby("quantity", sort=False):
        print(f"What choosing a method by {name} at {found.n_params:.4g} base parameters gives up on average\n")
        print(f"{table_text(own[CHOICES])}\n")
        advised = own[own["advice"]].iloc[0]
        say(f"within the budget: {advised['option']}{f' ({advised.runs})' if advised.n_runs else ''}")
        if advised.n_runs and found.preset:
            say(
                f"to train them: python -m training grid spec --preset {found.preset} > grid.toml, a new seed among "
                "its seeds, then python -m training grid run --spec grid.toml with --size, --method and --seed as above"
            )
    for name, own in found.table.groupby("quantity", sort=False):
        print(f"Runs that narrow the prediction of {name} at {found.n_params:.4g} base parameters the most per FLOP\n")
        print(f"{table_text(own.drop(columns=['quantity', 'flop_basis']).head(top))}\n")
        say(f"FLOP: {'; '.join(dict.fromkeys(own['flop_basis']))}; base models of new sizes are not counted")
    for name, own in front.groupby("dataset", sort=False) if len(front) else []:
        print(f"Models that none beats in both {found.cost} and {name}, or may: probability 0.1 or more\n")
        shown = own[own["on_frontier"] | (own["p_frontier"] >= 0.1)]
        print(f"{table_text(shown.drop(columns=['dataset', 'cost', 'level']))}\n")
    if not len(front):
        say("no frontier: it needs a score; name a data set with --dataset")


def _plan_table(
    data: Path, target: Path | None, csv: Path | None, as_json: bool, asked: dict[str, Any], table: dict[str, Any]
) -> None:
    """Propose a batch of a table's rows."""
    derived = [text for text in table["derive"] if text.partition("=")[0].strip() in (table["x"] or ())]
    places = None if target is None else read_data(target, {**table, "derive": derived})
    found = aa.plan(read_data(data, table), target=places, **asked, **told(table))
    if csv is not None:
        found.rows.to_csv(csv, index=False, lineterminator="\n")
    if as_json:
        kept = {name: getattr(found, name) for name in ("error_now", "budget", "spent", "weights")}
        print(json_text({"batch": rows_of(found.table), **kept}))
        return
    exact = {name: found.table[name].map(str) for name in table["x"]}
    print(f"Rows of {data} to measure, in this order (row: counted from 1 below the header)\n")
    print(f"{table_text(found.table.assign(**exact))}\n")
    print(
        f"error of the law at the target rows: {found.error_now:.3g} now (relative), {_last(found):.3g} with all rows"
    )
    print(f"cost: {found.table['cost'].sum():.4g} of {found.budget:.4g}; the measured rows cost {found.spent:.4g}")
    say("laws: " + ", ".join(f"{law} {weight:.3f}" for law, weight in found.weights.items() if weight >= 1e-3))


def _last(found: aa.Batch) -> float:
    return float(found.table["error_after"].iloc[-1]) if len(found.table) else found.error_now
