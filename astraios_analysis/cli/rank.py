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
    import pandas as pd

    from astraios_analysis.cli.printing import json_text, rows_of, say
    from astraios_analysis.cli.shared import load_grid
    from astraios_analysis.prediction.decide import small_model_decisions
    from astraios_analysis.records.refusal import Refusal
    from astraios_analysis.scores.bootstrap import ProblemBootstrap
    from astraios_analysis.scores.ranks import measured_datasets, rank_methods, rank_transfer

    records = load_grid(arguments)
    options = {"level": arguments.level, "bootstrap": ProblemBootstrap(seed=arguments.seed)}
    names = arguments.dataset or measured_datasets(records)
    tables: dict[str, list] = {"ranks": [], "transfer": [], "decisions": []}
    for name in names:
        tables["ranks"].append(rank_methods(records, name, **options))
        for kind, function in (("transfer", rank_transfer), ("decisions", small_model_decisions)):
            try:
                tables[kind].append(function(records, name, **options))
            except Refusal as error:
                say(f"no {kind}: {error}")
    if not tables["ranks"]:
        raise Refusal("no run here has a primary score to rank by; add runs with scores, or choose another --grid")
    if arguments.size is not None:
        tables["best"] = _best(arguments, records, names)
    frames = {name: pd.concat(parts, ignore_index=True) if parts else None for name, parts in tables.items()}
    if arguments.json:
        print(json_text({name: [] if frame is None else rows_of(frame) for name, frame in frames.items()}))
        return 0
    _print(frames, arguments)
    return 0


def _best(arguments, records, names: list[str]) -> list:
    """Return the probabilities of being best at the size asked for; what cannot be predicted is said."""
    from astraios_analysis.cli.printing import say
    from astraios_analysis.prediction.decide import best_at_size
    from astraios_analysis.prediction.limits import parse_size
    from astraios_analysis.records.refusal import Refusal

    found = []
    n_params = parse_size(arguments.size, {record.size.lower(): record.n_params_base for record in records})
    for name in names:
        try:
            found.append(best_at_size(records, name, n_params, level=arguments.level, seed=arguments.seed))
        except Refusal as error:
            if arguments.dataset:
                raise Refusal(str(error)) from error
            say(f"no best method at {arguments.size}: {error}")
    return found


def _print(frames: dict, arguments) -> None:
    from astraios_analysis.cli.printing import say, table_text

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
