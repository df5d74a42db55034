"""Imported records on disk: all of them or none, and never over a different record unless told to."""

import shutil
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from astraios_analysis.records.files import files_below, load, save
from astraios_analysis.records.refusal import FileProblem, RecordError
from astraios_analysis.records.schema import Provenance, RunRecord, Score


@dataclass(frozen=True)
class Written:
    """What became of each record, by names of runs; ``known_as`` where a run is there under another name."""

    new: tuple[str, ...]
    replaced: tuple[str, ...]
    unchanged: tuple[str, ...]
    known_as: Mapping[str, str]


def says_no_more(record: RunRecord, old: RunRecord) -> bool:
    """Whether a record says nothing of a run that an old one does not, whatever it is called and whoever said it."""
    plain = {"run_id": "", "provenance": Provenance(), "scores": ()}
    return record.model_copy(update=plain) == old.model_copy(update=plain) and _bare(record) <= _bare(old)


def _bare(record: RunRecord) -> set[Score]:
    return {score.model_copy(update={"source_file": None}) for score in record.scores}


def contradiction(score: Score, known: Score, place: object) -> str | None:
    """Say the first field in which a score is not the known one of its key, wherever they come from, or None."""
    for name in Score.model_fields:
        new, old = getattr(score, name), getattr(known, name)
        if name != "source_file" and new != old:
            return f"{name} is {old} in {place} and {new} in the file"
    return None


def existing_records(folder: Path) -> dict[str, tuple[RunRecord, Path]]:
    """Return the records in a folder by name of run, with their files; none where the folder holds none."""
    files = [file for file in files_below(folder) if file.suffix == ".json"] if folder.is_dir() else []
    records = [(load(file), file) for file in files]
    return {record.run_id: (record, file) for record, file in records}


def add_scores(record: RunRecord, scores: Sequence[Score], path: Path, *, replace: bool) -> RunRecord:
    """Return a record with more scores."""
    by_key = {score.key: score for score in record.scores}
    problems = []
    for score in scores:
        known = by_key.setdefault(score.key, score)
        message = contradiction(score, known, "the record")
        if message is None:
            continue
        if not replace:
            message += "; pass --replace to change it"
            problems.append(FileProblem(path, f"run {record.run_id!r}, {', '.join(score.key)}", message))
        by_key[score.key] = score
    if problems:
        raise RecordError(problems)
    return record.model_copy(update={"scores": tuple(by_key.values())})


def find_known(
    records: Sequence[RunRecord], known: Mapping[str, tuple[RunRecord, Path]]
) -> tuple[list[RunRecord], dict[str, str]]:
    """Return records, each once, with those that are there already, from other files or under another name, as there.

    The second value is the name of a run in the folder by the name that it now came with, where these differ.
    """
    models = {(r.grid, r.n_params_base, r.method, r.seed): r for r, _ in known.values()}
    kept, names = [], {}
    first = {record.run_id: record for record in reversed(records)}
    for record in records:
        other = first[record.run_id]
        if other is not record and says_no_more(record, other) and says_no_more(other, record):
            continue
        old = models.get((record.grid, record.n_params_base, record.method, record.seed))
        old = known[record.run_id][0] if record.run_id in known else old
        if old is not None and says_no_more(record, old):
            names |= {record.run_id: old.run_id} if old.run_id != record.run_id else {}
            record = old
        kept.append(record)
    return kept, names


def require_addable(
    records: Sequence[RunRecord],
    known: Mapping[str, tuple[RunRecord, Path]],
    *,
    replace: bool,
    extended: Collection[str] = (),
) -> None:
    """Refuse runs that are there with other content, and two runs of one model and seed, before anything is written."""
    problems, merged = [], {name: record for name, (record, _) in known.items()}
    names = [record.run_id for record in records]
    for name in sorted({name for name in names if names.count(name) > 1}):
        message = "two of the runs have this name and are not the same; rename one, in its file or with --run-id"
        problems.append(FileProblem(Path(f"{name}.json"), "run_id", message))
    for record in records:
        may_change = replace or record.run_id in extended
        if record.run_id in known and known[record.run_id][0] != record and not may_change:
            old = known[record.run_id]
            said = [one.model_copy(update={"scores": _bare(one)}) for one in (record, old[0])]
            changed = [name for name in type(record).model_fields if getattr(said[0], name) != getattr(said[1], name)]
            changed = [name for name in changed if name != "provenance"] or changed
            message = f"is there already with other {', '.join(changed)}; pass --replace, or choose another name"
            problems.append(FileProblem(old[1], "run_id", message))
        merged[record.run_id] = record
    models: dict[tuple, list[str]] = {}
    for record in merged.values():
        models.setdefault((record.grid, record.n_params_base, record.method, record.seed), []).append(record.run_id)
    for (grid, n_base, method, seed), runs in models.items():
        if len(runs) > 1 and set(runs) & set(names):
            message = (
                f"{', '.join(runs)} are all {method} of {n_base} parameters with seed {seed}, of grid {grid}; "
                "tell them apart with --seed N (in a table a column seed, or [runs.NAME] of --map FILE), or keep one"
            )
            problems.append(FileProblem(Path(f"{runs[-1]}.json"), "seed", message))
    if problems:
        raise RecordError(problems)


def write_all(records: Sequence[RunRecord], folder: Path, *, replace: bool, extended: Collection[str] = ()) -> Written:
    """Write records to ``folder/<run_id>.json``: every one of them, or nothing.

    Only with ``replace``, or where scores were added to it (``extended``), is a record changed. All are written beside
    the folder's records first; when all are whole they are moved into place, and taken back if one cannot be.
    """
    known = existing_records(folder)
    records, names = find_known(records, known)
    require_addable(records, known, replace=replace, extended=extended)
    changed = [record for record in records if known.get(record.run_id, (None,))[0] != record]
    if changed:
        is_new = not folder.exists()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _move_in(changed, folder, {name: file for name, (_, file) in known.items()})
        except OSError as error:
            reason = error.strerror or error
            message = f"cannot be written ({reason}), and nothing was; free space, or choose another folder with --out"
            raise RecordError([FileProblem(folder, "", message)]) from error
        finally:
            if is_new and folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
    new = tuple(record.run_id for record in changed if record.run_id not in known)
    replaced = tuple(record.run_id for record in changed if record.run_id in known)
    unchanged = tuple(record.run_id for record in records if record not in changed)
    return Written(new, replaced, unchanged, names)


def _move_in(records: Sequence[RunRecord], folder: Path, places: Mapping[str, Path]) -> None:
    """Move records to their places, or undo every move and raise."""
    # A hidden folder, so that nobody reads its records; inside the target, so that moving is a change of name.
    stage = Path(tempfile.mkdtemp(prefix=".import-", dir=folder))
    undo: list[tuple[Path, Path | None]] = []
    try:
        for record in records:
            save(record, stage)
        for record in records:
            target = places.get(record.run_id, folder / f"{record.run_id}.json")
            backup = stage / f"{record.run_id}.before" if target.exists() else None
            if backup is not None:
                shutil.copy2(target, backup)
            undo.append((target, backup))
            (stage / f"{record.run_id}.json").replace(target)
    except BaseException:
        for target, backup in undo:
            if backup is None:
                target.unlink(missing_ok=True)
            else:
                backup.replace(target)
        raise
    finally:
        shutil.rmtree(stage, ignore_errors=True)
