"""``astraios predict``: its arguments, what it predicts, and what it prints."""

import argparse
from pathlib import Path

from astraios_analysis.cli.arguments import add_command, add_data
from astraios_analysis.records.schema import METHODS

ALL, LOSS = "all", "val_loss"
PREDICTION_KEYS = ("size", "n_params", "method", "quantity", "value", "intervals", "reach", "weights")
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
    from astraios_analysis.cli.printing import json_text, say

    is_table = arguments.data is not None and arguments.data.is_file()
    found, measured = _from_table(arguments) if is_table else _from_records(arguments)
    if arguments.json:
        print(json_text([{key: prediction[key] for key in PREDICTION_KEYS} for prediction in found]))
    else:
        _print_predictions(found, measured)
    if any(prediction["reach"] > 1 for prediction in found):
        say("this is an extrapolation; the intervals trust the law beyond the sizes it was fitted to")
    return 0


def _from_table(arguments: argparse.Namespace) -> tuple[list[dict], None]:
    """Predict a column of a user's table."""
    from astraios_analysis.cli.shared import require_known
    from astraios_analysis.prediction.forecast import forecast_points, forecast_rows
    from astraios_analysis.prediction.limits import parse_size
    from astraios_analysis.prediction.points import read_points
    from astraios_analysis.records.refusal import Refusal

    if not (arguments.x and arguments.y):
        raise Refusal(f"{arguments.data} is a table: name its columns with --x and --y, and --group for methods")
    link = "logit" if arguments.rate else "log"
    points = read_points(Path(arguments.data), arguments.x, arguments.y, arguments.group, link)
    known = list(dict.fromkeys(points.method.tolist()))
    wanted = [m for m in arguments.method or [ALL] if m != ALL] or known
    require_known(arguments.group or "group", wanted, known)
    n_params = parse_size(arguments.size)
    forecast = forecast_points(points, link, wanted, n_params, name=arguments.y, metric=arguments.y)
    rows = forecast_rows(forecast, arguments.size, n_params, force=arguments.force)
    return [row | {"n_params": round(row["n_params"])} for row in rows], None


def _from_records(arguments: argparse.Namespace) -> tuple[list[dict], object]:
    """Predict losses and scores of a grid; what `all` stands for may be refused, what was named may not."""
    from astraios_analysis.cli.printing import say
    from astraios_analysis.cli.shared import load_grid, require_known
    from astraios_analysis.prediction.limits import parse_size, predictable_datasets, require_predictable
    from astraios_analysis.records.frame import to_frame
    from astraios_analysis.records.refusal import Refusal
    from astraios_analysis.scores.bootstrap import primary_frame

    for name in ("x", "y", "group"):
        if getattr(arguments, name):
            raise Refusal(f"--{name} names a column of a table; give the file with --data FILE.csv, or leave it out")
    methods = arguments.method or [ALL]
    require_known("tuning method", methods, [ALL, *METHODS])
    records = load_grid(arguments)
    frame = primary_frame(to_frame(records))
    has_losses = any(r.val_loss is not None and not r.held_out for r in records)
    every_method, every_dataset = ALL in methods, ALL in (arguments.dataset or [ALL])
    n_params = parse_size(arguments.size, {record.size.lower(): record.n_params_base for record in records})
    for dataset in [] if every_dataset else arguments.dataset:
        if dataset != LOSS:
            require_predictable(frame, dataset)
    datasets = predictable_datasets(frame) if every_dataset else arguments.dataset
    if every_dataset and has_losses:
        datasets = [LOSS, *datasets]
    present = {record.method for record in records if not record.held_out} if has_losses else set(frame["method"])
    wanted = [name for name in METHODS if name in present] if every_method else methods
    predictor = _Predictor(records, frame, arguments.size, n_params, arguments.force)
    found, refusals = [], {}
    for dataset in dict.fromkeys(datasets):
        rows, refused = predictor.predict(dataset, list(dict.fromkeys(wanted)), all_or_nothing=not every_method)
        found += rows
        for text in refused:
            if not (every_method or every_dataset):
                raise Refusal(text if dataset in text else f"{dataset}: {text}")
            refusals.setdefault(text, []).append(dataset)
    lines = [f"not predicted: {', '.join(dict.fromkeys(names))}: {text}" for text, names in refusals.items()]
    if not found:
        raise Refusal("\n".join(lines) or "no data set here has primary scores at three sizes; add runs")
    if every_dataset and not has_losses:
        say("no loss predicted: these runs have no validation loss; a grid trained here measures it")
    for line in lines:
        say(line)
    return [prediction | {"n_params": round(prediction["n_params"])} for prediction in found], frame


class _Predictor:
    """Predicts one quantity after the other for one grid at one size."""

    def __init__(self, records, frame, size, n_params, force):
        self.records, self.frame, self.size, self.n_params, self.force = records, frame, size, n_params, force

    def predict(self, dataset: str, methods: list[str], *, all_or_nothing: bool) -> tuple[list[dict], list[str]]:
        """Return predictions of a quantity, and why others were refused."""
        from astraios_analysis.prediction.forecast import forecast_loss, forecast_rows, forecast_score
        from astraios_analysis.records.refusal import Refusal

        if dataset == LOSS:
            known = {r.method for r in self.records if r.val_loss is not None and not r.held_out}
        else:
            own = self.frame[(self.frame["dataset"] == dataset) & ~self.frame["held_out"].astype(bool)]
            known = set(own["method"])
        choices = ", ".join(name for name in METHODS if name in known)
        what = "loss" if dataset == LOSS else f"score on {dataset}"
        refused = [f"{m} has no {what} to fit; choose from {choices}" for m in methods if m not in known]
        # What all methods stand for is those with something to fit.
        refused = refused if all_or_nothing else []
        wanted = [method for method in methods if method in known]
        if not wanted or (refused and all_or_nothing):
            return [], refused
        try:
            if dataset == LOSS:
                forecast = forecast_loss(self.records, wanted, self.n_params)
            else:
                forecast = forecast_score(self.records, dataset, wanted, self.n_params)
            return forecast_rows(forecast, self.size, self.n_params, force=self.force), refused
        except Refusal as error:
            return [], [*refused, str(error)]


def _print_predictions(found: list[dict], measured) -> None:
    import pandas as pd

    from astraios_analysis.cli.printing import table_text

    rows = []
    for prediction in found:
        row = {name: prediction[name] for name in ("quantity", "metric", "method", "value")}
        for interval in prediction["intervals"]:
            if interval["kind"] == "observation":
                row[f"{100 * interval['level']:g} % PI"] = f"[{interval['lower']:.3f}, {interval['upper']:.3f}]"
        rows.append(row | {"sizes": prediction["sizes_fitted"], "reach": prediction["reach"]})
    what = "parameters" if measured is None else "base parameters"
    print(f"Predicted at {found[0]['n_params']:.4g} {what}\n")
    print(table_text(pd.DataFrame(rows)))
    print(_ABOUT)
    for quantity, prediction in {prediction["quantity"]: prediction for prediction in found}.items():
        print(f"  {quantity}: {_say_tested(prediction['backtest'])}")
        print(f"    laws: {', '.join(f'{name} {weight:.3f}' for name, weight in prediction['weights'].items())}")


def _say_tested(tested: dict) -> str:
    return (
        f"{tested['n']} methods, mean error {tested['mean_abs_error']:.3f} (no change: "
        f"{tested['persistence_mean_abs_error']:.3f}), 95 % PI covered {tested['n_covered']} of {tested['n']}"
    )
