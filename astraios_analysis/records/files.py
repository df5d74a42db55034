"""Records on disk: save whole or not at all, load with errors that name file, field, value and remedy, check many."""

import json
import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

from astraios_analysis.records.reading import parse_json, read_text
from astraios_analysis.records.refusal import FileProblem, RecordError, collect, fail
from astraios_analysis.records.schema import RunRecord, order_methods, validating

_READABLE = "check the path and its permissions"


def save(record: RunRecord, folder: str | Path, *, overwrite: bool = False, name: str | None = None) -> Path:
    """Write a record to ``folder/<run_id>.json``, whole or not at all; refuse where one of this run is already there.

    The file is written beside its final place and moved there in one step: a file that exists is a run that finished.
    """
    path = Path(folder) / (name or f"{record.run_id}.json")
    fields = record.model_dump(mode="json", exclude_none=True)
    try:
        if path.exists() and not overwrite:
            raise fail(path, "a record of this run_id is already there; pass overwrite=True to replace it")
        write_whole(path, _one_line_lists(json.dumps(fields, indent=1, ensure_ascii=False)) + "\n")
    except OSError as error:
        raise fail(path, f"cannot write the record ({error.strerror}); free space or choose another folder") from error
    return path


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file beside its final place and move it there; whatever stops that, nothing is left behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False, prefix=".", suffix=".part") as file:
        temporary = Path(file.name)
        try:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        except BaseException as error:
            temporary.unlink(missing_ok=True)
            if isinstance(error, OSError):
                # A write that finds no room names no file, and the temporary one says nothing.
                error.filename = str(path)
            raise


def _one_line_lists(text: str) -> str:
    """Put lists of plain numbers on one line: per-problem counts stay readable and diffs short."""
    return re.sub(r"\[\n\s+([-+.\deE,\s]+?)\n\s*\]", lambda match: "[" + " ".join(match[1].split()) + "]", text)


def load(path: str | Path) -> RunRecord:
    """Read one record; what is wrong with it is refused, every field with its value and what is allowed."""
    path = Path(path)
    text = read_text(path)
    if path.suffix != ".json" and not text.lstrip().startswith("{"):
        raise fail(path, "is no record, which is a JSON file; astraios import makes records of tables and other files")
    parse_json(path, text)
    with validating(path):
        return RunRecord.model_validate_json(text)


def peek(path: Path) -> dict[str, object]:
    """Return what a record file says, unchecked; nothing where it must be read in full to say what is wrong with it."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def record_files(path: str | Path) -> list[Path]:
    """Return the record files at ``path``: the file itself, or every ``*.json`` below a folder, in order of name."""
    path = Path(path)
    try:
        is_folder, exists = path.is_dir(), path.exists()
    except OSError as error:
        raise fail(path, f"cannot be read ({error.strerror}); {_READABLE}") from error
    if is_folder:
        files = [file for file in files_below(path) if file.suffix == ".json"]
        if not files:
            raise fail(path, "holds no record (*.json); give a record file or a folder of records")
        return files
    if not exists:
        raise fail(path, "does not exist; give a record file or a folder of records")
    return [path]


def files_below(folder: Path) -> list[Path]:
    """Return every file below a folder in order of name, linked folders included, hidden files and folders not.

    A folder that cannot be read is refused: its records would be missing in silence.
    """

    def refuse(error: OSError) -> None:
        raise fail(Path(error.filename), f"cannot be read ({error.strerror}); {_READABLE}") from error

    found: list[Path] = []
    visited: set[str] = set()
    for root, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        place = os.path.realpath(root)
        folders[:] = [] if place in visited else sorted(name for name in folders if not name.startswith("."))
        if place not in visited:
            # A folder named like a record is handed on, so that reading it says what it is.
            names += [name for name in folders if name.endswith(".json")]
            found.extend(Path(root, name) for name in names if not name.startswith("."))
        visited.add(place)
    return sorted(found)


def load_folder(path: str | Path) -> list[RunRecord]:
    """Read every record at ``path``, ordered by grid, size, method and seed; refuse if any is wrong or repeated."""
    records, problems = check([path])
    if problems:
        raise RecordError(problems)
    return sort_records(records)


def check(paths: Iterable[str | Path], grid: str | None = None) -> tuple[list[RunRecord], list[FileProblem]]:
    """Validate record files and folders: the readable records, and what is wrong with the rest.

    With ``grid``, files that name another grid are passed over.
    """
    listed, unknown = collect(record_files, paths)
    files = [file for folder in listed for file in folder if grid is None or not _names_another(file, grid)]
    loaded, problems = collect(lambda file: (load(file), file), files)
    records: dict[str, tuple[RunRecord, Path]] = {}
    for record, file in loaded:
        _, first = records.setdefault(record.run_id, (record, file))
        if first.resolve() != file.resolve():
            message = f"{record.run_id!r} is also in {first}; remove one or rename it"
            problems.append(FileProblem(file, "run_id", message))
    return [record for record, _ in records.values()], problems + unknown


def _names_another(file: Path, grid: str) -> bool:
    named = peek(file).get("grid")
    return isinstance(named, str) and named != grid


def sort_records(records: Iterable[RunRecord]) -> list[RunRecord]:
    """Order records by grid, size (by parameters, not by label), method and seed."""
    records = list(records)
    order = {name: place for place, name in enumerate(order_methods(record.method for record in records))}
    return sorted(records, key=lambda r: (r.grid, r.n_params_base, order[r.method], r.seed or 0, r.run_id))
