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
    "lower",
    "upper",
    "p_value",
    "ceiling",
]
DECISIONS = ["dataset", "size_small", "size_large", "rule", "chosen", "best", "p_right"]
DECISIONS += ["regret", "regret_lower", "regret_upper", "regret_random", "pair_accuracy"]

HELP = """\
Rank methods at each measured size with the probability of being best, and
correlate each smaller size's order with the largest's (Spearman, Kendall,
exact permutation p-values, bootstrap intervals over problems). Say what comes
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
Rank runs that could be made next by how much each is expected to narrow the
prediction at a target size per FLOP, and list which models (measured, and
predicted at the target) no other beats in both cost and performance.

Candidates are one more run of each method at each measured size, at the
geometric mean of the largest and the target, and at --candidate-size. FLOP of
pre-training a base model of a new size are not counted. The variance is that
of the law at the target, on its link scale, averaged over what is open.

JSON has two lists, runs and frontier, with all digits and all columns.
"""
PLAN_EXAMPLES = """\
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
        f"\n{100 * level:g} % percentile intervals over problems; p-values: two-sided permutation, not "
        "corrected for their number;\nceiling: about the most that rank noise lets one see"
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
@option(
    "--cost",
    "NAME",
    "cost of the frontier: n_params_updated (default), peak_memory_bytes, flop, seconds",
    default="n_params_updated",
)
@option("--top", "N", "runs to print as a table (12)", type=POSITIVE, default=12)
@JSON
def plan(
    size: str,
    method: tuple[str, ...],
    dataset: tuple[str, ...],
    candidate_size: tuple[str, ...],
    cost: str,
    top: int,
    as_json: bool,
    **where: Any,
) -> None:
    """Rank candidates and list the frontier."""
    runs = load_grid(**where, datasets=dataset)
    found = aa.plan(runs, size, dataset, method, candidate_sizes=candidate_size, cost=cost)
    front = found.frontier
    if len(front):
        for row in front[front["kind"] == "refused"].itertuples():
            say(f"{row.dataset} not predicted at {size}: {row.refusal}")
        front = front[front["kind"] != "refused"].drop(columns="refusal")
    if as_json:
        print(json_text({"runs": rows_of(found.table), "frontier": rows_of(front)}))
        return
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
