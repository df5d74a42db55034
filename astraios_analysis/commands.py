"""What each ``astraios`` command does with its parsed arguments."""

import argparse
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from astraios_analysis.metrics import DATASETS
from astraios_analysis.printing import json_text, rows_of, say, table_text
from astraios_analysis.records import METHODS, RunRecord, to_frame
from astraios_analysis.sources import check_sources, find_data_dir, find_notebooks_dir, load_records

ALL = "all"
FILTERS = ("method", "size", "dataset", "metric", "setting")
PREDICTION_KEYS = ("size", "n_params", "method", "quantity", "value", "intervals", "reach", "weights")
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
_ABOUT_PREDICTIONS = """
PI: prediction interval for a new run on the same problems, from logit-linear fits against n_params_base.
Reach: how many times the size lies beyond the sizes fitted; 1 is within them.
Back-test of the same kind of fit: the largest measured size held out and predicted from the smaller ones"""


class CommandError(ValueError):
    """Arguments that cannot be followed with these records; the message gives the reason and the choices."""


def run_figures(arguments: argparse.Namespace) -> int:
    """Render notebooks, figures and the report."""
    from astraios_analysis.render import RenderArgumentError, RenderError, render
    from astraios_analysis.report import write_report

    notebooks, data = arguments.notebooks or find_notebooks_dir(), arguments.data or find_data_dir()
    records = load_records(data)
    parameters = dict(arguments.parameters)
    _require_drawable(records, parameters)
    try:
        result = render(
            notebooks,
            data,
            arguments.out,
            arguments.build,
            only=arguments.only,
            parameters=parameters,
            jobs=arguments.jobs,
            progress=not arguments.quiet,
        )
        report = write_report(arguments.build, arguments.out, notebooks, describe_records(records))
    except RenderArgumentError as error:
        raise CommandError(str(error)) from error
    except RenderError as error:
        say(str(error))
        return 1
    say(f"{len(result.outputs)} files in {arguments.out}, report in {report} ({result.seconds:.0f} s)")
    return 0


def _require_drawable(records: Sequence[RunRecord], parameters: Mapping[str, object]) -> None:
    """Refuse a name of a grid that no record has before any notebook runs."""
    grids = [ALL, *sorted({record.grid for record in records})]
    if "grid" in parameters:
        _require_known("grid", [str(parameters["grid"])], grids)


def describe_records(records: Sequence[RunRecord]) -> dict[str, str]:
    """Return, for each grid, what its records are: sizes, methods, and how many scores from what source."""
    described = {}
    for grid in dict.fromkeys(record.grid for record in records):
        runs = [record for record in records if record.grid == grid]
        sizes = " ".join(dict.fromkeys(record.size for record in sorted(runs, key=lambda r: r.n_params_base)))
        methods = " ".join(method for method in METHODS if any(record.method == method for record in runs))
        sources = [score.source for record in runs for score in record.scores]
        counts = ", ".join(f"{sources.count(source):,} {source}" for source in dict.fromkeys(sorted(sources)[::-1]))
        known = f"sizes {sizes}; methods {methods}; scores: {counts or 'none'}"
        described[f"Grid {grid}"] = f"{_count(len(runs), 'run')}: {known}"
    return described


def run_check(arguments: argparse.Namespace) -> int:
    """Validate records and print everything that is wrong with them."""
    records, problems = check_sources(arguments.paths)
    for problem in problems:
        print(problem)
    for name in sorted({score.dataset for record in records for score in record.scores}.difference(DATASETS)):
        say(f"note: data set {name!r} is not one of the study's, so it is in no figure, rank or prediction")
    n_grids = len({record.grid for record in records})
    say(f"{_count(len(records), 'valid record')} in {_count(n_grids, 'grid')}, {_count(len(problems), 'problem')}")
    return 1 if problems else 0


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def run_show(arguments: argparse.Namespace) -> int:
    """Print records as a table."""
    records = _load(arguments)
    frame = to_frame(records, per="run" if arguments.runs else "score")
    filters = {name: values for name in FILTERS if (values := getattr(arguments, name))}
    shown = _filter(frame, filters)
    if arguments.format == "csv":
        print(shown.to_csv(index=False, lineterminator="\n"), end="")
    elif arguments.format == "json":
        print(json_text(rows_of(shown)))
    else:
        known = shown.dropna(axis="columns", how="all") if len(shown) else shown
        print(table_text(known.drop(columns=["source_file", "run_id", "held_out"], errors="ignore")))
        say(f"{_count(len(shown), 'row')}; --format csv has every column with all digits")
    if shown.empty:
        chosen = ", ".join(f"{name} {' or '.join(values)}" for name, values in filters.items())
        say(f"nothing is {chosen} at once" if chosen else "these runs have no score; --runs shows the runs")
    return 0


def _filter(frame: pd.DataFrame, filters: dict[str, list[str]]) -> pd.DataFrame:
    """Keep the rows that have one of the wanted values in every column named."""
    keep = pd.Series(True, index=frame.index)
    for column, wanted in filters.items():
        if column not in frame:
            raise CommandError(f"--{column} chooses scores and --runs shows one row a run; leave one of the two out")
        known = list(dict.fromkeys(frame[column]))
        _require_known(column, wanted, known)
        keep &= frame[column].isin(wanted)
    return frame[keep]


def _require_known(what: str, wanted: Iterable[str], known: Sequence[str]) -> None:
    for value in wanted:
        if value not in known:
            raise CommandError(f"unknown {what} {value!r}; choose from {', '.join(map(str, known))}")


def _load(arguments: argparse.Namespace) -> list[RunRecord]:
    """Read the records of the data folder that are of the grid and the seed asked for."""
    records = load_records(arguments.data)
    if arguments.grid is not None:
        _require_known("grid", [arguments.grid], sorted({record.grid for record in records}))
        records = [record for record in records if record.grid == arguments.grid]
    if arguments.run_seed is not None:
        seeds = sorted({record.seed for record in records if record.seed is not None})
        if arguments.run_seed not in seeds:
            known = f"choose from {', '.join(map(str, seeds))}" if seeds else "no run here records its seed"
            raise CommandError(f"no run with seed {arguments.run_seed}; {known}")
        records = [record for record in records if record.seed == arguments.run_seed]
    return records


def _load_grid(arguments: argparse.Namespace) -> list[RunRecord]:
    """Read one grid with one run for each size and method: what ranks and fits compare."""
    records = _load(arguments)
    grids = sorted({record.grid for record in records})
    if len(grids) > 1:
        raise CommandError(
            f"scores of different grids do not compare, and there are {len(grids)}: {', '.join(grids)}; "
            "choose one with --grid"
        )
    models: dict[tuple[int, str], list[RunRecord]] = {}
    for record in records:
        models.setdefault((record.n_params_base, record.method), []).append(record)
    for runs in models.values():
        if len(runs) > 1:
            raise CommandError(_say_repeated(runs))
    return records


def _say_repeated(runs: list[RunRecord]) -> str:
    model = f"{runs[0].size} {runs[0].method} of grid {runs[0].grid} has {len(runs)} runs"
    seeds = [run.seed for run in runs]
    if len(set(seeds)) == len(seeds):
        return f"{model}, with seeds {', '.join(map(str, seeds))}; choose one with --run-seed"
    return f"{model} of one seed: {', '.join(run.run_id for run in runs)}; keep one, or give them their own grids"


def run_rank(arguments: argparse.Namespace) -> int:
    """Rank methods by size and correlate the orders."""
    from astraios_analysis.regressions import RankError, measured_datasets, rank_methods, rank_transfer
    from astraios_analysis.scores import ProblemBootstrap

    records = _load_grid(arguments)
    options = {"level": arguments.level, "bootstrap": ProblemBootstrap(seed=arguments.seed)}
    ranks, transfers = [], []
    for name in arguments.dataset or measured_datasets(records):
        try:
            ranks.append(rank_methods(records, name, **options))
        except RankError as error:
            raise CommandError(str(error)) from error
        try:
            transfers.append(rank_transfer(records, name, **options))
        except RankError as error:
            say(f"no transfer: {error}")
    if not ranks:
        raise CommandError("no run here has a primary score to rank by; add runs with scores, or choose another --grid")
    rank = pd.concat(ranks, ignore_index=True)
    transfer = pd.concat(transfers, ignore_index=True) if transfers else pd.DataFrame(columns=[*TRANSFER_COLUMNS])
    if arguments.json:
        print(json_text({"ranks": rows_of(rank), "transfer": rows_of(transfer)}))
        return 0
    print("Methods by size (p_best: share of resampled problem sets in which the method is first)\n")
    print(table_text(rank.drop(columns=["level", "n_params_base"])))
    if transfers:
        print("\nOrder of methods at a smaller size against the largest\n")
        print(table_text(transfer[[*TRANSFER_COLUMNS]]))
    say(
        f"\n{100 * arguments.level:g} % percentile intervals over problems; p-values: two-sided permutation, not "
        "corrected for their number;\nceiling: about the most that rank noise lets one see"
    )
    return 0


def run_predict(arguments: argparse.Namespace) -> int:
    """Predict scores at a size."""
    from astraios_analysis.predictions import PredictionError, parse_size
    from astraios_analysis.scores import primary_frame

    _require_known("tuning method", arguments.method, [ALL, *METHODS])
    records = _load_grid(arguments)
    frame = primary_frame(to_frame(records))
    try:
        n_params = parse_size(arguments.size, {record.size.lower(): record.n_params_base for record in records})
    except PredictionError as error:
        raise CommandError(str(error)) from error
    found = _predict(arguments, frame, n_params)
    if arguments.json:
        print(json_text([{key: prediction[key] for key in PREDICTION_KEYS} for prediction in found]))
    else:
        _print_predictions(found, frame)
    if any(prediction["reach"] > 1 for prediction in found):
        say("this is an extrapolation; the intervals trust the law beyond the sizes it was fitted to")
    return 0


def _predict(arguments: argparse.Namespace, frame: pd.DataFrame, n_params: float) -> list[dict]:
    """Predict every data set and method asked for; what `all` stands for may be refused, what was named may not."""
    from astraios_analysis.fits import FitError
    from astraios_analysis.predictions import PredictionError, predict_scores, predictable_datasets, require_predictable

    every_method, every_dataset = ALL in arguments.method, ALL in (arguments.dataset or [ALL])
    present = set(frame["method"])
    methods = [name for name in METHODS if name in present] if every_method else arguments.method
    datasets = predictable_datasets(frame) if every_dataset else arguments.dataset
    for dataset in [] if every_dataset else datasets:
        try:
            require_predictable(frame, dataset)
        except PredictionError as error:
            raise CommandError(str(error)) from error
    found, refusals = [], {}
    for dataset in dict.fromkeys(datasets):
        for method in dict.fromkeys(methods):
            try:
                found += predict_scores(frame, dataset, [method], arguments.size, n_params, force=arguments.force)
            except (PredictionError, FitError) as error:
                if not (every_method or every_dataset):
                    raise CommandError(str(error)) from error
                refusals.setdefault(str(error), []).append(dataset)
    lines = [f"not predicted: {', '.join(dict.fromkeys(names))}: {text}" for text, names in refusals.items()]
    if not found:
        raise CommandError("\n".join(lines) or "no data set here has primary scores at three sizes; add runs")
    for line in lines:
        say(line)
    return [prediction | {"n_params": round(prediction["n_params"])} for prediction in found]


def _print_predictions(found: list[dict], frame: pd.DataFrame) -> None:
    rows = []
    for prediction in found:
        row = {name: prediction[name] for name in ("quantity", "metric", "method", "value")}
        for interval in prediction["intervals"]:
            if interval["kind"] == "observation" and interval["level"] in (0.5, 0.95):
                row[f"{100 * interval['level']:g} % PI"] = f"[{interval['lower']:.3f}, {interval['upper']:.3f}]"
        fitted = ", ".join(prediction["sizes_fitted"])
        row |= {"fit": prediction["pooling"], "sizes": fitted, "dof": prediction["dof"], "reach": prediction["reach"]}
        rows.append(row)
    print(f"Predicted at {found[0]['n_params']:.4g} base parameters\n")
    print(table_text(pd.DataFrame(rows)))
    print(_ABOUT_PREDICTIONS)
    for dataset, pooling in dict.fromkeys((prediction["quantity"], prediction["pooling"]) for prediction in found):
        print(f"  {dataset}, {pooling}: {_say_backtest(frame, dataset, pooling)}")


def _say_backtest(frame: pd.DataFrame, dataset: str, pooling: str) -> str:
    from astraios_analysis.backtests import backtest, summarise_backtest

    tested = backtest(frame, dataset, pooling=pooling)
    if tested.empty:
        return "none; no method of the largest size has two smaller ones"
    row = summarise_backtest(tested).iloc[0]
    covered = f"95 % PI covered {row['n_covered']} of {row['n_intervals']}" if row["n_intervals"] else "no interval"
    return (
        f"{row['n']} methods at {row['size']}, mean error {row['mean_abs_error']:.3f} (no change: "
        f"{row['persistence_mean_abs_error']:.3f}), {covered}, {row['n_train_sizes']} training sizes"
    )
