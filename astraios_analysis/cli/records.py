"""What each ``astraios`` command does with its parsed arguments."""

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from astraios_analysis.cli.shared import load_runs, require_known
from astraios_analysis.records.frame import METHODS, RunRecord, to_frame
from astraios_analysis.records.printing import json_text, rows_of, say, table_text
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.registry import DATASETS
from astraios_analysis.records.released import GRID
from astraios_analysis.records.sources import check_sources, find_data_dir, find_notebooks_dir, load_records

ALL = "all"
FILTERS = ("method", "size", "dataset", "metric", "setting")


def run_figures(arguments: argparse.Namespace) -> int:
    """Render notebooks, figures and the report."""
    from astraios_analysis.render.render import NotebookError, render
    from astraios_analysis.render.report import write_report

    notebooks, data = arguments.notebooks or find_notebooks_dir(), arguments.records or arguments.data
    data = data or find_data_dir()
    figures, build = choose_outputs(arguments.records, arguments.out, arguments.build)
    records = load_records(data)
    parameters = dict(arguments.parameters)
    _require_drawable(records, parameters)
    failed, result = None, None
    try:
        result = render(
            notebooks,
            data,
            figures,
            build,
            only=arguments.only,
            parameters=parameters,
            jobs=arguments.jobs,
            force=arguments.force,
            progress=not arguments.quiet,
        )
    except NotebookError as error:
        # The page is made all the same: it says of which notebooks the figures are not those of these records.
        failed = error
    report = write_report(build, figures, notebooks, describe_records(records), count_seeds(records))
    if failed or not result:
        say(f"{failed}\n\nall other notebooks have their figures; the next run goes on with what is missing")
        return 1
    ran = f"{len(result.ran)} of {_count(len(result.notebooks), 'notebook')} run"
    rest = "" if len(result.ran) == len(result.notebooks) else ", nothing has changed for the rest (--force runs all)"
    say(f"{ran}{rest}: {len(result.outputs)} files in {figures}, report in {report} ({result.seconds:.0f} s)")
    return 0


def choose_outputs(records: Path | None, out: Path | None, build: Path | None) -> tuple[Path, Path]:
    """Return the folders of figures and of the build.

    A user's own records go into a build folder of their own, figures included: they never mix with the figures of the
    records that come with the project, which are kept in git.
    """
    if records is None:
        return out or Path("figures"), build or Path("build")
    build = build or Path("build") / f"records-{records.resolve().name}"
    return out or build / "figures", build


def _require_drawable(records: Sequence[RunRecord], parameters: Mapping[str, object]) -> None:
    """Refuse a name of a grid that no record has before any notebook runs."""
    from astraios_analysis.records.grids import ALL

    if "grid" in parameters:
        require_known("grid", [str(parameters["grid"])], [ALL, *sorted({record.grid for record in records})])


def describe_records(records: Sequence[RunRecord]) -> dict[str, str]:
    """Return, for each grid, what its records are: sizes, methods, and how many scores from what source."""
    described = {}
    for grid in count_seeds(records):
        runs = [record for record in records if record.grid == grid]
        sizes = " ".join(dict.fromkeys(record.size for record in sorted(runs, key=lambda r: r.n_params_base)))
        methods = " ".join(method for method in METHODS if any(record.method == method for record in runs))
        sources = [score.source for record in runs for score in record.scores]
        counts = ", ".join(f"{sources.count(source):,} {source}" for source in dict.fromkeys(sorted(sources)[::-1]))
        known = f"sizes {sizes}; methods {methods}; scores: {counts or 'none'}"
        described[f"Grid {grid}"] = f"{_count(len(runs), 'run')}: {known}"
    return described


def count_seeds(records: Sequence[RunRecord]) -> dict[str, int]:
    """Return, for each grid in order, the most runs that any of its models has."""
    found: dict[str, Counter] = {}
    for record in records:
        found.setdefault(record.grid, Counter())[record.size, record.method] += 1
    ordered = sorted(found, key=lambda grid: (grid != GRID, grid))
    return {grid: max(found[grid].values()) for grid in ordered}


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
    records = load_runs(arguments)
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
            raise Refusal(f"--{column} chooses scores and --runs shows one row a run; leave one of the two out")
        known = list(dict.fromkeys(frame[column]))
        require_known(column, wanted, known)
        keep &= frame[column].isin(wanted)
    return frame[keep]
