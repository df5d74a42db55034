"""``astraios predict``: its arguments, what it predicts, and what it prints."""

import argparse

from astraios_analysis.cli.arguments import add_command, add_data
from astraios_analysis.records.schema import METHODS

ALL, LOSS = "all", "val_loss"
PREDICTION_KEYS = ("size", "n_params", "at", "group", "dataset", "method", "quantity", "value", "intervals", "reach")
PREDICTION_KEYS = (*PREDICTION_KEYS, "weights")
_ABOUT = """
PI: prediction interval for a new run on the same problems.
Reach: how many times the size lies beyond the sizes fitted; 1 is within them.
Back-test of the same procedure: the largest fitted size held out and predicted from the smaller ones"""


def add_parser(commands) -> None:
    """Add the command to the parser of all commands."""
    predict = add_command(
        commands,
        "predict",
        "predict losses and scores at a size nobody has measured",
        "Predict the loss (where runs have losses) and scores of methods at a size, with\n"
        "intervals, how far the size lies beyond the data, and the laws averaged.\n\n"
        "Laws and ways to pool methods are averaged: weights are learnt by leaving out\n"
        "the largest fitted sizes, with AICc as one more look. Where runs have losses a\n"
        "score is predicted both directly and through the loss. The back-test of the\n"
        "same procedure is printed beside it; what cannot be back-tested (fewer than\n"
        "four sizes) is not predicted.\n\n"
        "With `all`, what cannot be predicted is named on standard error and left out;\n"
        "what you name yourself must work, or the command ends with code 2.\n\n"
        "--data FILE.csv predicts column --y of any table at another value of column\n"
        "--x, pooled over --group; rows of one x and group are replicates.\n\n"
        "JSON is a list of {size, n_params, method, quantity, value, intervals, reach,\n"
        "weights}; each interval has level, kind, lower and upper. Kind observation is\n"
        "where a new run falls, kind mean where the fitted line is.",
        "  astraios predict --method lora --size 34b --dataset recode_format\n"
        "  astraios predict --size 34b --dataset clone_detection --json\n"
        "  astraios predict --method fft --size 300b --dataset recode_syntax --force\n"
        "  astraios predict --data runs.csv --x params --y loss --group method --size 7b\n",
    )
    add_data(predict)
    predict.add_argument(
        "--method", action="append", metavar="NAME", help=f"all (default), or {', '.join(METHODS)} (repeatable)"
    )
    predict.add_argument("--size", required=True, metavar="N", help="34b, 350m, 3.4e10, or a measured size")
    predict.add_argument(
        "--dataset", action="append", metavar="NAME", help=f"data set, or {LOSS} (repeatable; default: all)"
    )
    predict.add_argument("--force", action="store_true", help="allow sizes beyond ten times the fitted range")
    predict.add_argument("--x", metavar="COLUMN", help="with a CSV file: column of sizes")
    predict.add_argument("--y", metavar="COLUMN", help="with a CSV file: column to predict")
    predict.add_argument("--group", metavar="COLUMN", help="with a CSV file: column of methods")
    predict.add_argument(
        "--rate", action="store_true", help="with a CSV file: y is a rate in (0, 1), not a loss with a floor"
    )
    predict.add_argument("--json", action="store_true", help="print JSON")
    predict.set_defaults(run="run_predict", module="predict")


def run_predict(arguments: argparse.Namespace) -> int:
    """Predict losses and scores at a size."""
    import astraios_analysis as aa
    from astraios_analysis.cli.shared import load_grid
    from astraios_analysis.records.printing import json_text, say

    columns = {name: getattr(arguments, name) for name in ("x", "y", "group")}
    options = {"force": arguments.force, "method": _named(arguments.method)}
    if arguments.data is not None and arguments.data.is_file():
        table = aa.read_table(arguments.data)
        found = aa.predict(table, arguments.size.split(","), **columns, rate=arguments.rate, **options)
    else:
        for name, value in columns.items():
            if value:
                raise aa.Refusal(
                    f"--{name} names a column of a table; give the file with --data FILE.csv, or leave it out"
                )
        records = load_grid(arguments)
        found = aa.predict(records, arguments.size.split(","), _named(arguments.dataset), **options)
        if not arguments.dataset and not any(record.val_loss is not None for record in records):
            say("no loss predicted: these runs have no validation loss; a grid trained here measures it")
    reasons: dict[str, list[str]] = {}
    for name, reason in found.refused.items():
        reasons.setdefault(reason, []).append(name)
    for reason, names in reasons.items():
        say(f"not predicted: {', '.join(names)}: {reason}")
    if arguments.json:
        print(json_text([{key: row[key] for key in PREDICTION_KEYS} for row in found.rows]))
    else:
        _print_predictions(found)
    if any(row["reach"] > 1 for row in found.rows):
        say("this is an extrapolation; the intervals trust the law beyond the sizes it was fitted to")
    return 0


def _named(values: list[str] | None) -> list[str] | None:
    return None if not values or ALL in values else list(dict.fromkeys(values))


def _print_predictions(found) -> None:
    import pandas as pd

    from astraios_analysis.records.printing import table_text

    rows, several = [], len({row["size"] for row in found.rows}) > 1
    for prediction in found.rows:
        names = ("quantity", "metric", "method", *(["size"] if several else []), "value")
        row = {name: prediction[name] for name in names}
        for interval in prediction["intervals"]:
            if interval["kind"] == "observation":
                row[f"{100 * interval['level']:g} % PI"] = f"[{interval['lower']:.3f}, {interval['upper']:.3f}]"
        rows.append(row | {"sizes": prediction["sizes_fitted"], "reach": prediction["reach"]})
    what = "base parameters" if "n_params_base" in found.rows[0]["at"] else "parameters"
    print(f"Predicted at {', '.join(f'{n:.4g}' for n in dict.fromkeys(r['n_params'] for r in found.rows))} {what}\n")
    print(table_text(pd.DataFrame(rows)))
    print(_ABOUT)
    weights = found.weights
    for tested in found.backtest.to_dict("records"):
        own = weights[weights["quantity"] == tested["quantity"]]
        print(f"  {tested['quantity']}: {_say_tested(tested)}")
        laws = (f"{law} {weight:.3f}" for law, weight in zip(own["law"], own["weight"], strict=True))
        print(f"    laws: {', '.join(laws)}")


def _say_tested(tested: dict) -> str:
    return (
        f"{tested['n']} runs, mean error {tested['mean_abs_error']:.3f} (no change: "
        f"{tested['persistence_mean_abs_error']:.3f}), 95 % PI covered {tested['n_covered']} of {tested['n']}"
    )
