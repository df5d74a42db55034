"""``astraios rank`` and ``astraios plan``: which method, and which run next."""

from typing import Any

import click

import astraios_analysis as aa
from astraios_analysis.cli.shared import JSON, LEVEL, POSITIVE, RUNS, SEED, Command, load_grid, option, several
from astraios_analysis.records.means import describe_mean
from astraios_analysis.records.printing import json_text, rows_of, say, table_text

TRANSFER = [
    "dataset",
    "size_small",
    "size_large",
    "n_methods",
    "statistic",
    "value",
    "estimate",
    "lower",
    "upper",
    "p_holm",
    "ceiling",
]
DECISIONS = ["dataset", "size_small", "size_large", "rule", "chosen", "best", "p_right"]
DECISIONS += ["regret", "regret_lower", "regret_upper", "regret_random", "pair_accuracy"]
CHOICES = ["option", "n_runs", "flop", "gpu_hours", "is_affordable", "expected_regret", "saved", "advice"]

HELP = """\
Rank methods at each measured size with the probability of being best, and
correlate each smaller size's order with the largest's (Spearman, Kendall,
permutation p-values corrected for their number, intervals of noise-free
scores). Say what comes
of choosing by a smaller size: whether the choice is right at the larger, what
it gives up, and the share of pairs in the same order. With --size, give the
probability of being best at a size that nobody has measured. Several seeds of
a model are replicates. JSON has the lists ranks, transfer and decisions (and
best with --size), with all digits and all columns.
"""
EXAMPLES = """\
  astraios rank
  astraios rank --dataset humanevalsynthesize_java
  astraios rank --dataset recode_format --size 34b
  astraios rank --dataset recode_format --json
"""
PLAN_HELP = """\
Say what choosing a method for a target size gives up on average (the expected
regret), now and after runs that a --budget buys: one more of every method, of
the better half, or of the best two, at the largest measured size or at
--candidate-size. Then rank single runs by how much each narrows the prediction
per FLOP, and list which models (measured, and predicted at the target) no
other beats in both cost and performance.

Single runs are one more of each method at each measured size, at
--candidate-size, and, where the grid trains its own bases, at the geometric
mean of the largest and the target. FLOP of pre-training a base are not
counted. The variance is that of the law at the target, on its link scale,
averaged over what is open.

JSON has the lists choices, runs and frontier, with all digits and columns.
"""
PLAN_EXAMPLES = """\
  astraios plan --size 16b --dataset mean_generation --candidate-size 16b --budget '400 gpu-hours'
  astraios plan --size 34b --dataset recode_format
  astraios plan --size 34b --dataset recode_format --method lora --cost n_params_updated
  astraios plan --size 5m --grid mini --cost flop --json
"""


@click.command("rank", cls=Command, help=HELP, epilog=EXAMPLES)
@RUNS
@several("--dataset", "NAME", "data set (repeatable; default: all)")
@option("--size", "N", "also rank at this size: 34b, 350m, 3.4e10")
@LEVEL
@option("--seed", "N", "seed of the bootstrap (0)", type=SEED, default=0)
@JSON
def command(dataset: tuple[str, ...], size: str | None, level: float, seed: int, as_json: bool, **where: Any) -> None:
    """Rank methods by size, correlate the orders, and judge the choices that they lead to."""
    runs = load_grid(**where, datasets=dataset)
    found = aa.rank(runs, size, dataset or None, level=level, seed=seed)
    if not dataset and (words := describe_mean(runs)):
        say(words)
    for what, reason in found.refused.items():
        say(f"no {what}: {reason}")
    if as_json:
        frames = {"ranks": found.table, "transfer": found.transfer, "decisions": found.decisions}
        frames |= {"best": found.best} if size is not None else {}
        print(json_text({name: rows_of(frame) for name, frame in frames.items()}))
        return
    print("Methods by size (p_best: share of resampled problem sets in which the method is first)\n")
    print(table_text(found.table.drop(columns=["level", "n_params_base"])))
    if len(found.transfer):
        print("\nOrder of methods at a smaller size against the largest\n")
        print(table_text(found.transfer[TRANSFER]))
    if len(found.decisions):
        print("\nChoosing by a smaller size (regret: score given up; p_right: share of resamples)\n")
        print(table_text(found.decisions[DECISIONS]))
    if len(found.best):
        print(f"\nProbability of being best at {size} (one new run of each method)\n")
        print(table_text(found.best.drop(columns=["level", "interval", "n_params"])))
    say(
        f"\n{100 * level:g} % intervals of scores over problems; of correlations (value: observed, estimate: median) "
        "of noise-free scores;\np_holm: two-sided permutation, corrected over all data sets and sizes; ceiling: about "
        "the most that rank noise lets one see"
    )


@click.command("plan", cls=Command, help=PLAN_HELP, epilog=PLAN_EXAMPLES)
@RUNS
@option("--size", "N", "target: 34b, 350m, 3.4e10, or a measured size", required=True)
@several("--method", "NAME", "predict and run this method (repeatable)")
@several(
    "--dataset",
    "NAME",
    "narrow this data set's prediction, or val_loss (repeatable; default: the loss, where there is one)",
)
@several("--candidate-size", "N", "consider runs at this size (repeatable)")
@option("--budget", "COST", "what more runs may cost: '40 gpu-hours', '2 gpu-days', '3e20 flop'")
@option("--tflops", "X", "10^12 FLOP that a GPU does in a second (125)", type=float, default=125.0)
@option(
    "--cost",
    "NAME",
    "cost of the frontier: flop (default), seconds, peak_memory_bytes, n_params_updated",
    default="flop",
)
@option("--top", "N", "runs to print as a table (12)", type=POSITIVE, default=12)
@JSON
def plan(
    size: str,
    method: tuple[str, ...],
    dataset: tuple[str, ...],
    candidate_size: tuple[str, ...],
    budget: str | None,
    tflops: float,
    cost: str,
    top: int,
    as_json: bool,
    **where: Any,
) -> None:
    """Rank candidates and list the frontier."""
    runs = load_grid(**where, datasets=dataset)
    money = {"budget": budget, "tflops": tflops, "cost": cost}
    found = aa.plan(runs, size, dataset, method, candidate_sizes=candidate_size, **money)
    front = found.frontier
    if len(front):
        for row in front[front["kind"] == "refused"].itertuples():
            say(f"{row.dataset} not predicted at {size}: {row.refusal}")
        front = front[front["kind"] != "refused"].drop(columns="refusal")
    if as_json:
        tables = {"choices": found.choices, "runs": found.table, "frontier": front}
        print(json_text({name: rows_of(table) for name, table in tables.items()}))
        return
    for name, own in found.choices.groupby("quantity", sort=False):
        print(f"What choosing a method by {name} at {found.n_params:.4g} base parameters gives up on average\n")
        print(f"{table_text(own[CHOICES])}\n")
        advised = own[own["advice"]].iloc[0]
        say(f"within the budget: {advised['option']}{f' ({advised.runs})' if advised.n_runs else ''}")
    for name, own in found.table.groupby("quantity", sort=False):
        print(f"Runs that narrow the prediction of {name} at {found.n_params:.4g} base parameters the most per FLOP\n")
        print(f"{table_text(own.drop(columns=['quantity', 'flop_basis']).head(top))}\n")
        say(f"FLOP: {'; '.join(dict.fromkeys(own['flop_basis']))}; base models of new sizes are not counted")
    for name, own in front.groupby("dataset", sort=False) if len(front) else []:
        print(f"Models that none beats in both {cost} and {name}, or may: probability 0.1 or more\n")
        shown = own[own["on_frontier"] | (own["p_frontier"] >= 0.1)]
        print(f"{table_text(shown.drop(columns=['dataset', 'cost', 'level']))}\n")
    if not len(front):
        say("no frontier: it needs a score; name a data set with --dataset")
