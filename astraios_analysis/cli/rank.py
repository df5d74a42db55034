"""``astraios rank``: which method, and does its rank carry over to larger sizes."""

from types import SimpleNamespace

import click

import astraios_analysis as aa
from astraios_analysis.cli.shared import RESAMPLED, RUNS, load_grid, several
from astraios_analysis.records.commands import Command, option
from astraios_analysis.records.frame import describe_mean
from astraios_analysis.records.notation import json_text, rows_of, say, table_text

TRANSFER = ["dataset", "size_small", "size_large", "n_methods", "statistic", "value", "estimate", "lower", "upper"]
TRANSFER += ["p_holm", "ceiling"]
DECISIONS = ["dataset", "size_small", "size_large", "rule", "chosen", "best", "p_right"]
DECISIONS += ["regret", "regret_lower", "regret_upper", "regret_random", "pair_accuracy"]

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


@click.command("rank", cls=Command, help=HELP, epilog=EXAMPLES)
@RUNS
@several("--dataset", "NAME", "data set (repeatable; default: all)")
@option("--size", "N", "also rank at this size: 34b, 350m, 3.4e10")
@RESAMPLED
def command(given: SimpleNamespace) -> None:
    """Rank methods by size, correlate the orders, and judge the choices that they lead to."""
    runs = load_grid(given)
    found = aa.rank(runs, given.size, given.dataset or None, level=given.level, seed=given.seed)
    if not given.dataset and (words := describe_mean(runs)):
        say(words)
    for what, reason in found.refused.items():
        say(f"no {what}: {reason}")
    if given.as_json:
        frames = {"ranks": found.table, "transfer": found.transfer, "decisions": found.decisions}
        frames |= {"best": found.best} if given.size is not None else {}
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
        print(f"\nProbability of being best at {given.size} (one new run of each method)\n")
        print(table_text(found.best.drop(columns=["level", "interval", "n_params"])))
    say(
        f"\n{100 * given.level:g} % intervals of scores over problems; of correlations (value: observed, estimate: "
        "median) of noise-free scores;\np_holm: two-sided permutation, corrected over all data sets and sizes; "
        "ceiling: about the most that rank noise lets one see"
    )
