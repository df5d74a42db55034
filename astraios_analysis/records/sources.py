"""Where records come from: every released model and trained run below a data folder, as one list."""

import os
from collections.abc import Iterator
from pathlib import Path

from astraios_analysis.records.files import files_below, peek
from astraios_analysis.records.frame import FileProblem, RecordError, RunRecord, check, sort_records
from astraios_analysis.records.means import with_answers, with_mean
from astraios_analysis.records.refusal import collect, fail, require_known
from astraios_analysis.records.registry import DECLARATIONS, LOSS, read_declarations
from astraios_analysis.records.released import GRID, is_released_folder, load_released, released_datasets


def find_data_dir() -> Path:
    """Return the data folder to use when none is named: ``./data``, or else what came with this package."""
    return _find("data", "run in the repository or pass --data FOLDER")


def find_notebooks_dir() -> Path:
    """Return the folder of notebooks: ``./notebooks``, or else what came with this package."""
    return _find("notebooks", "run in the repository or pass --notebooks DIR")


def find_example() -> Path:
    """Return the simulated table of the examples, which came with this package."""
    return _find("data/examples/runs.csv", "install anew", here=False)


def _find(name: str, remedy: str, *, here: bool = True) -> Path:
    package = Path(__file__).resolve().parents[1]
    # A wheel holds a copy (setup.py); an editable install has the checkout's beside the package.
    beside = package.parent / name if (package.parent / "pyproject.toml").is_file() else None
    for candidate in (Path(name) if here else None, package / "study" / name, beside):
        if candidate and candidate.exists():
            return candidate
    raise fail(Path(name), f"does not exist; {remedy}")


def check_sources(paths: list[Path], grid: str | None = None) -> tuple[list[RunRecord], list[FileProblem]]:
    """Validate record files, folders of records and of released tables: what could be read, and what not and why.

    With ``grid``, what is of another grid is passed over.
    """
    listed, problems = collect(lambda path: (path, files_below(path) if os.path.isdir(path) else []), paths)
    recorded: list[Path] = []
    released: dict[Path, Path] = {}
    for path, files in listed:
        for file in files:
            if file.name == DECLARATIONS:
                read_declarations(file)
        folders = [folder for folder in sorted({file.parent for file in files}) if is_released_folder(folder)]
        released |= {folder.resolve(): folder for folder in folders}
        if not folders or any(file.suffix == ".json" for file in files):
            recorded.append(path)
    records, wrong = check(recorded, grid)
    tables_of = list(released.values()) if grid in (None, GRID) else []
    tables, refused = _check_released(tables_of, {record.run_id: "a record file" for record in records})
    return records + tables, problems + wrong + refused


def _check_released(folders: list[Path], places: dict[str, str]) -> tuple[list[RunRecord], list[FileProblem]]:
    """Read released tables and name the runs already in ``places``: one counted twice would shrink every interval."""
    records: list[RunRecord] = []
    loaded, problems = collect(lambda folder: (folder, load_released(folder)), folders)
    for folder, found in loaded:
        for run_id in sorted({record.run_id for record in found} & set(places)):
            problems.append(FileProblem(folder, "run_id", f"{run_id!r} is also in {places[run_id]}; give one of them"))
        places |= {record.run_id: str(folder) for record in found}
        records.extend(found)
    return records, problems


def load_records(data_dir: str | Path | None = None, grid: str | None = None) -> list[RunRecord]:
    """Read every record below a data folder (`find_data_dir` by default), of one grid or all, ordered as a table is.

    The folder holds released tables, record files, or both; anything wrong in it is refused. Runs that have what their
    grid's mean over code generation is over have the mean among their scores, and so are losses of right answers.
    """
    folder = find_data_dir() if data_dir is None else Path(data_dir)
    records, problems = check_sources([folder], grid)
    if problems:
        raise RecordError(problems)
    if grid is not None and not records:
        require_known("grid", [grid], sorted({name for name, _, _ in peek_runs(folder)}))
    return with_mean(sort_records(with_answers(record) for record in records if grid in (None, record.grid)))


def peek_runs(data_dir: str | Path | None = None) -> Iterator[tuple[str, object, frozenset[str]]]:
    """Look for grid, seed and data sets of the runs below a data folder, nothing checked: what to choose a grid by."""
    place = find_data_dir() if data_dir is None else Path(data_dir)
    files = files_below(place) if place.is_dir() else [place]
    for folder in sorted({file.parent for file in files}):
        if is_released_folder(folder):
            yield GRID, None, released_datasets(folder)
    for file in files:
        found = peek(file) if file.suffix == ".json" else {}
        if isinstance(found.get("grid"), str):
            scores = [score for score in found.get("scores") or () if isinstance(score, dict)]
            names = {str(score.get("dataset")) for score in scores} | ({LOSS} if "val_loss" in found else set())
            yield found["grid"], found.get("seed"), frozenset(names)
