"""``astraios rank``: its arguments and what it prints."""

import argparse

from astraios_analysis.cli.arguments import add_command, add_data, level, seed

TRANSFER_COLUMNS = (
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
)
DECISION_COLUMNS = (
    "dataset",
    "size_small",
    "size_large",
    "rule",
    "chosen",
    "best",
    "p_right",
    "regret",
    "regret_lower",
    "regret_upper",
    "regret_random",
    "pair_accuracy",
)


def add_parser(commands) -> None:
    """Add the command to the parser of all commands."""
    rank = add_command(
        commands,
        "rank",
        "rank methods at each size; does the order carry over to larger ones?",
        "Rank methods at each measured size with the probability of being best, and\n"
        "correlate each smaller size's order with the largest's (Spearman, Kendall,\n"
        "exact permutation p-values, bootstrap intervals over problems). Say what comes\n"
        "of choosing by a smaller size: whether the choice is right at the larger, what\n"
        "it gives up, and the share of pairs in the same order. With --size, give the\n"
        "probability of being best at a size that nobody has measured. Several seeds of\n"
        "a model are replicates. JSON has the lists ranks, transfer and decisions (and\n"
        "best with --size), with all digits and all columns.",
        "  astraios rank\n"
        "  astraios rank --dataset humanevalsynthesize_java\n"
        "  astraios rank --dataset recode_format --size 34b\n"
        "  astraios rank --dataset recode_format --json\n",
    )
    add_data(rank)
    rank.add_argument("--dataset", action="append", metavar="NAME", help="data set (repeatable; default: all)")
    rank.add_argument("--size", metavar="N", help="also rank at this size: 34b, 350m, 3.4e10")
    rank.add_argument("--level", type=level, default=0.95, metavar="P", help="coverage of the intervals (0.95)")
    rank.add_argument("--seed", type=seed, default=0, metavar="N", help="seed of the bootstrap (0)")
    rank.add_argument("--json", action="store_true", help="print JSON")
    rank.set_defaults(run="run_rank", module="rank")


def run_rank(arguments: argparse.Namespace) -> int:
    """Rank methods by size, correlate the orders, and judge the choices that they lead to."""
    import astraios_analysis as aa
    from astraios_analysis.cli.shared import load_grid
    from astraios_analysis.records.printing import json_text, rows_of, say

    records = load_grid(arguments)
    found = aa.rank(records, arguments.size, arguments.dataset, level=arguments.level, seed=arguments.seed)
    for what, reason in found.refused.items():
        say(f"no {what}: {reason}")
    frames = {"ranks": found.table, "transfer": found.transfer, "decisions": found.decisions}
    frames |= {"best": found.best} if arguments.size is not None else {}
    if arguments.json:
        print(json_text({name: rows_of(frame) for name, frame in frames.items()}))
        return 0
    _print({name: frame if len(frame) else None for name, frame in frames.items()}, arguments)
    return 0


def _print(frames: dict, arguments) -> None:
    from astraios_analysis.records.printing import say, table_text

    print("Methods by size (p_best: share of resampled problem sets in which the method is first)\n")
    print(table_text(frames["ranks"].drop(columns=["level", "n_params_base"])))
    if frames["transfer"] is not None:
        print("\nOrder of methods at a smaller size against the largest\n")
        print(table_text(frames["transfer"][[*TRANSFER_COLUMNS]]))
    if frames["decisions"] is not None:
        print("\nChoosing by a smaller size (regret: score given up; p_right: share of resamples)\n")
        print(table_text(frames["decisions"][[*DECISION_COLUMNS]]))
    if frames.get("best") is not None:
        print(f"\nProbability of being best at {arguments.size} (one new run of each method)\n")
        print(table_text(frames["best"].drop(columns=["level", "interval", "n_params"])))
    say(
        f"\n{100 * arguments.level:g} % percentile intervals over problems; p-values: two-sided permutation, not "
        "corrected for their number;\nceiling: about the most that rank noise lets one see"
    )
