"""``astraios plan``: its arguments and what it prints."""

import argparse

from astraios_analysis.cli.arguments import add_command, add_data, positive

LOSS = "val_loss"
_SHOWN = 12


def add_parser(commands) -> None:
    """Add the command to the parser of all commands."""
    plan = add_command(
        commands,
        "plan",
        "which run to make next, and what performance costs",
        "Rank runs that could be made next by how much each is expected to narrow the\n"
        "prediction at a target size per FLOP, and list which models (measured, and\n"
        "predicted at the target) no other beats in both cost and performance.\n\n"
        "Candidates are one more run of each method at each measured size, at the\n"
        "geometric mean of the largest and the target, and at --candidate-size. FLOP of\n"
        "pre-training a base model of a new size are not counted. The variance is that\n"
        "of the law at the target, on its link scale, averaged over what is open.\n\n"
        "JSON has two lists, runs and frontier, with all digits and all columns.",
        "  astraios plan --size 34b --dataset recode_format\n"
        "  astraios plan --size 34b --dataset recode_format --method lora --cost n_params_updated\n"
        "  astraios plan --size 5m --grid mini --cost flop --json\n",
    )
    add_data(plan)
    plan.add_argument("--size", required=True, metavar="N", help="target: 34b, 350m, 3.4e10, or a measured size")
    plan.add_argument("--method", action="append", metavar="NAME", help="predict and run this method (repeatable)")
    plan.add_argument(
        "--dataset",
        action="append",
        metavar="NAME",
        help=f"narrow this data set's prediction, or {LOSS} (repeatable; default: {LOSS} where runs have losses)",
    )
    plan.add_argument("--candidate-size", action="append", metavar="N", help="consider runs at this size (repeatable)")
    plan.add_argument(
        "--cost",
        default="n_params_updated",
        metavar="NAME",
        help="cost of the frontier: n_params_updated (default), peak_memory_bytes, flop, seconds",
    )
    plan.add_argument("--top", type=positive, default=_SHOWN, metavar="N", help=f"runs to print as a table ({_SHOWN})")
    plan.add_argument("--json", action="store_true", help="print JSON")
    plan.set_defaults(run="run_plan", module="commands_plan")


def run_plan(arguments: argparse.Namespace) -> int:
    """Rank candidates and list the frontier."""
    import astraios_analysis as aa
    from astraios_analysis.cli.shared import load_grid, require_known
    from astraios_analysis.prediction.limits import parse_size
    from astraios_analysis.records.printing import json_text, rows_of, say, table_text

    records = [record for record in load_grid(arguments) if not record.held_out]
    require_known("tuning method", arguments.method or [], list(dict.fromkeys(record.method for record in records)))
    options = {"candidate_sizes": arguments.candidate_size or [], "cost": arguments.cost}
    found = aa.plan(records, arguments.size, arguments.dataset, arguments.method, **options)
    plan, front = found.table, found.frontier
    target = parse_size(arguments.size, {record.size: record.n_params_base for record in records})
    if len(front):
        for row in front[front["kind"] == "refused"].itertuples():
            say(f"{row.dataset} not predicted at {arguments.size}: {row.refusal}")
        front = front[front["kind"] != "refused"].drop(columns="refusal")
    if arguments.json:
        print(json_text({"runs": rows_of(plan), "frontier": rows_of(front)}))
        return 0
    for name, own in plan.groupby("quantity", sort=False):
        print(f"Runs that narrow the prediction of {name} at {target:.4g} base parameters the most per FLOP\n")
        print(f"{table_text(own.drop(columns=['quantity', 'flop_basis']).head(arguments.top))}\n")
        say(f"FLOP: {'; '.join(dict.fromkeys(own['flop_basis']))}; base models of new sizes are not counted")
    for name, own in front.groupby("dataset", sort=False) if len(front) else []:
        print(f"Models that none beats in both {arguments.cost} and {name}, or may: probability 0.1 or more\n")
        shown = own[own["on_frontier"] | (own["p_frontier"] >= 0.1)]
        print(f"{table_text(shown.drop(columns=['dataset', 'cost', 'level']))}\n")
    if not len(front):
        say("no frontier: it needs a score; name a data set with --dataset")
    return 0
