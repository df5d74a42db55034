"""``astraios backtest``: its arguments and what it prints."""

import argparse
from pathlib import Path

from astraios_analysis.cli.arguments import add_command


def add_parser(commands) -> None:
    """Add the command to the parser of all commands."""
    backtest = add_command(
        commands,
        "backtest",
        "predict held-out rows of a table and score the predictions",
        "Fit the rows that --split marks train, predict those it marks extrapolate, and\n"
        "print errors, coverage of 50, 80 and 95 % prediction intervals and the interval\n"
        "score (of the 95 % interval of log y; lower is better). No held-out row enters a\n"
        "fit, a choice or a width.\n\n"
        "Curves in one input are forecast by laws averaged by evidence. --size and\n"
        "--family predict the held-out largest model of each family from its smaller\n"
        "ones. --law fits one law.\n\n"
        "Without a table, records are back-tested: the sizes marked held out (or else\n"
        "the largest; --hold-out K: the K largest that are not marked) are predicted\n"
        "from the others, losses and every score, as `astraios predict` would. Each law\n"
        "and pooling that is averaged is scored beside it (laws in JSON).\n\n"
        "JSON is {mean: {rmse_log, mean_abs_pct, coverage, interval_score, weights},\n"
        "groups, procedure}; mean is the plain mean over groups.",
        "  astraios backtest --data curves.csv --x tokens --y loss --group task,model --split split\n"
        "  astraios backtest --data tuned.csv --x n_ft --y loss --group task,model \\\n"
        "      --size params --family family --split split_size --json\n"
        "  astraios backtest --data runs.csv --law chinchilla --x N,D --y loss --split split_C\n"
        "  astraios backtest --grid released\n"
        "  astraios backtest --grid mini --hold-out 2 --dataset val_loss --json\n",
    )
    backtest.add_argument("--data", type=Path, metavar="PATH", help="CSV file, or data folder (default: ./data)")
    backtest.add_argument("--grid", metavar="NAME", help="records of this grid, for example released")
    backtest.add_argument("--run-seed", type=int, metavar="N", help="records of runs trained with this seed")
    backtest.add_argument("--hold-out", type=int, metavar="K", help="records: hold out the K largest sizes")
    backtest.add_argument(
        "--dataset", action="append", metavar="NAME", help="records: data set, or val_loss (repeatable; default: all)"
    )
    backtest.add_argument("--x", metavar="A,B", help="columns of the inputs")
    backtest.add_argument("--y", metavar="NAME", help="column of the outcome, positive")
    backtest.add_argument("--group", metavar="A,B", default="", help="columns that tell curves apart")
    backtest.add_argument("--split", metavar="NAME", help="column that holds train and extrapolate")
    backtest.add_argument("--size", metavar="NAME", help="column of the model's size: predict larger models")
    backtest.add_argument("--family", metavar="NAME", help="column of the model's family (with --size)")
    backtest.add_argument("--law", metavar="NAME", help="fit this law alone")
    backtest.add_argument("--huber", type=float, default=1e-3, metavar="DELTA", help="Huber's loss for --law (1e-3)")
    backtest.add_argument("--json", action="store_true", help="print JSON")
    backtest.set_defaults(run="run_backtest", module="backtest")


def run_backtest(arguments: argparse.Namespace) -> int:
    """Back-test a table or records and print the scores."""
    from astraios_analysis.records.refusal import Refusal

    if arguments.data is None or arguments.data.is_dir():
        return _run_records(arguments)
    missing = [f"--{name}" for name in ("x", "y", "split") if getattr(arguments, name) is None]
    if missing:
        raise Refusal(f"a table needs {', '.join(missing)}: the columns to fit, and what marks held-out rows")
    if (arguments.size is None) != (arguments.family is None):
        raise Refusal("--size and --family go together: give both columns, or neither")
    try:
        found, procedure = _backtest_table(arguments)
    except ValueError as error:
        raise Refusal(f"{arguments.data}: {error}") from error
    _print(found, procedure, arguments.json)
    return 0


def _backtest_table(arguments: argparse.Namespace) -> tuple[list[dict], str]:
    from tqdm import tqdm

    from astraios_analysis.curves.backtest import (
        CURVE_PROCEDURE,
        LAW_PROCEDURE,
        backtest_curves,
        backtest_law,
        split_groups,
    )
    from astraios_analysis.curves.sizes import SIZE_PROCEDURE, backtest_sizes
    from astraios_analysis.laws.forms import find_law
    from astraios_analysis.laws.residuals import Objective
    from astraios_analysis.laws.tables import read_table
    from astraios_analysis.records.printing import say
    from astraios_analysis.records.refusal import Refusal

    inputs, group = arguments.x.split(","), [name for name in arguments.group.split(",") if name]
    frame = read_table(arguments.data)
    law = find_law(arguments.law) if arguments.law else None
    if law is None and len(inputs) > 1:
        raise Refusal(f"{len(inputs)} inputs need a law of as many: name it with --law, for example chinchilla")
    if law is not None and len(inputs) != len(law.inputs):
        raise Refusal(f"{law.name} takes {', '.join(law.inputs)}; --x names {len(inputs)} columns")
    sized = [arguments.size, arguments.family] if arguments.size else []
    for name in sized:
        if name not in frame:
            raise Refusal(f"there is no column {name!r}; the table has {', '.join(map(str, frame.columns))}")
    keys = list(dict.fromkeys([*group, *sized[1:]]))
    groups, notes = split_groups(frame, inputs, arguments.y, keys, arguments.split)
    for note in [] if sized else notes:
        say(note)
    if sized:
        kept = frame[(frame[inputs] > 0).all(axis=1)]
        found = backtest_sizes(kept, inputs[0], arguments.y, group, *sized, arguments.split)
        return found, SIZE_PROCEDURE
    if law is not None:
        objective = Objective(law.residual, arguments.huber)
        return backtest_law(groups, law, inputs, arguments.y, objective), LAW_PROCEDURE

    def progress(items):
        return tqdm(items, desc="curves", disable=None)

    return backtest_curves(groups, inputs[0], arguments.y, progress), CURVE_PROCEDURE


def _print(found: list[dict], procedure: str, as_json: bool, tested=None) -> None:
    import pandas as pd

    from astraios_analysis.curves.backtest import summarise
    from astraios_analysis.records.printing import json_text, rows_of, say, table_text

    mean = summarise(found)
    if as_json:
        groups = [{name: value for name, value in group.items() if name != "rows"} for group in found]
        rows = {} if tested is None else {"rows": rows_of(tested)}
        print(json_text({"mean": mean, "groups": groups, **rows, "procedure": procedure}))
        return
    rows = []
    more = [name for name in ("persistence_rmse_log",) if name in found[0]]
    for row in (*found, {**mean, "group": {"": "mean"}, "n_train": None, "n_test": None}):
        coverage = {f"{100 * float(k):g} % covers": v for k, v in row["coverage"].items()}
        names = ("n_train", "n_test", "rmse_log", "mean_abs_pct")
        rows.append({"group": "/".join(row["group"].values()), **{k: row[k] for k in names}, **coverage})
        rows[-1] |= {"interval_score": row["interval_score"], **{name: row.get(name) for name in more}}
    print(table_text(pd.DataFrame(rows)))
    say(procedure)


def _run_records(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    import astraios_analysis as aa
    from astraios_analysis.cli.shared import load_grid, require_known
    from astraios_analysis.prediction.backtest import RECORD_PROCEDURE
    from astraios_analysis.records.printing import say
    from astraios_analysis.records.registry import LOSS
    from astraios_analysis.scores.ranks import measured_datasets

    for name in ("x", "y", "group", "split", "size", "family", "law"):
        if getattr(arguments, name):
            raise aa.Refusal(f"--{name} is for a table; give the file with --data FILE.csv, or leave it out")
    records = load_grid(arguments)
    known, wanted = [LOSS, *measured_datasets(records)], arguments.dataset
    require_known("data set", wanted or [], known)
    if not any(record.val_loss is not None for record in records):
        say("no loss back-tested: these runs have no validation loss; a grid trained here measures it")
        wanted = [name for name in wanted or known if name != LOSS]

    def progress(items):
        return tqdm(items, desc="quantities", disable=None)

    found = aa.backtest(records, arguments.hold_out, wanted, progress=progress)
    for text in found.refused:
        say(f"not back-tested: {text}")
    _print(found.groups, RECORD_PROCEDURE, arguments.json, found.rows)
    if not arguments.json:
        _print_laws(found.groups)
    return 0


def _print_laws(found: list[dict]) -> None:
    import pandas as pd

    from astraios_analysis.records.printing import table_text

    rows = []
    for group in found:
        for law in group["laws"]:
            row = {"quantity": group["group"]["quantity"], "form": f"{law['law']}/{law['pooling']}"}
            row |= {name: law[name] for name in ("weight", "aicc", "left_out", "rmse_log")}
            rows.append(row | {"95 % covers": law["coverage"]["0.95"], "interval_score": law["interval_score"]})
    print("\nEach law and pooling alone (left_out: log density of the largest fitted sizes)\n")
    print(table_text(pd.DataFrame(rows)))
