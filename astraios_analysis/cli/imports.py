"""What ``astraios import`` does with its parsed arguments: read, check, write all or nothing, say what was done."""

import argparse
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from astraios_analysis.cli.printing import json_text, say
from astraios_analysis.imports.harnesses import HarnessOptions, read_scores
from astraios_analysis.imports.inputs import (
    Given,
    complete_counts,
    fail,
    make_record,
    read_items,
    require_method,
    size_label,
)
from astraios_analysis.imports.tables import FIELDS, ScoreColumn, TableOptions, read_table, unused_columns
from astraios_analysis.imports.trainer import TrainerOptions, read_trainer_folder
from astraios_analysis.imports.writing import Written, add_scores, existing_records, write_all
from astraios_analysis.records.frame import FileProblem, Provenance, RecordError, RunRecord, to_frame
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.registry import DATASETS

_ORIGINS = {"bigcode": "bigcode-evaluation-harness", "lm-eval": "lm-evaluation-harness"}


def run_import(arguments: argparse.Namespace) -> int:
    """Import runs or scores and print what was done."""
    given = _given(arguments)
    readers: dict[str, Callable] = {"csv": _from_table, "trainer": _from_trainer}
    records, left_out = readers.get(arguments.format, _from_harness)(arguments, given)
    # Adding scores changes a record on purpose; the values that it has already were guarded when they were added.
    replace = arguments.replace or arguments.format in _ORIGINS
    written = write_all(records, arguments.out, replace=replace)
    for problem in left_out:
        say(f"left out: {problem}")
    names = {score.dataset for record in records for score in record.scores}
    for name in sorted(names.difference(DATASETS)):
        say(f"note: data set {name!r} is not one of the study's, so it is in no figure, rank or prediction")
    if arguments.json:
        print(json_text(_summary(arguments, records, written, left_out)))
    else:
        _print_summary(arguments.out, records, written)
    return 0


def _given(arguments: argparse.Namespace) -> Given:
    if arguments.method is not None:
        require_method(arguments.method)
    if len(arguments.paths) > 1 and arguments.run_id is not None and arguments.format == "trainer":
        raise Refusal(f"--run-id {arguments.run_id} names one run, and there are {len(arguments.paths)} folders")
    options = {name: getattr(arguments, name) for name in Given.__dataclass_fields__ if name != "held_out"}
    return Given(held_out=tuple(arguments.held_out), **options)


def _from_table(arguments: argparse.Namespace, given: Given) -> tuple[list[RunRecord], list[FileProblem]]:
    columns = {name: column for name in FIELDS if (column := getattr(arguments, f"{name}_column")) is not None}
    methods = dict(arguments.method_name)
    for method in methods.values():
        require_method(method)
    wrong = [score for score in arguments.score if not 2 <= len(score) <= 5]
    if wrong:
        raise Refusal(f"--score {' '.join(wrong[0])}: give COLUMN DATASET, and METRIC SETTING LANGUAGE if need be")
    options = TableOptions(
        columns,
        methods,
        [ScoreColumn(*score) for score in arguments.score],
        arguments.percent,
        read_items(dict(arguments.n_items)),
        arguments.language,
        arguments.params_unit,
        arguments.loss_unit,
        arguments.time_unit,
        "\t" if arguments.delimiter == "tab" else arguments.delimiter,
    )
    if len(options.delimiter) != 1:
        raise Refusal(f"--delimiter {arguments.delimiter!r} is not one character; for tabs give the word tab")
    path = arguments.paths[0]
    records = read_table(path, given, options)
    unused = [FileProblem(path, f"column {name!r}", "is read as nothing") for name in unused_columns(path, options)]
    return records, unused


def _from_trainer(arguments: argparse.Namespace, given: Given) -> tuple[list[RunRecord], list[FileProblem]]:
    counted = _read_counted(arguments.counts) if arguments.counts else {}
    options = TrainerOptions(
        arguments.base_config, arguments.eval, arguments.repeated_step, arguments.unfinished, counted
    )
    records, problems = [], []
    for folder in _progress(arguments.paths, "folders", arguments.quiet):
        try:
            records.append(read_trainer_folder(folder, given, options))
        except RecordError as error:
            problems += error.problems
    if problems:
        raise RecordError(problems)
    return records, []


def _from_harness(arguments: argparse.Namespace, given: Given) -> tuple[list[RunRecord], list[FileProblem]]:
    options = HarnessOptions(
        dict(arguments.dataset),
        dict(arguments.language),
        read_items(dict(arguments.n_items)),
        arguments.setting,
        {task: Path(file) for task, file in getattr(arguments, "logs", ())},
        arguments.skip_unknown,
    )
    record = _record_to_extend(arguments, given)
    left_out, problems = [], []
    for path in _progress(arguments.paths, "files", arguments.quiet):
        try:
            scores, unknown = read_scores(path, arguments.format, options)
            record = add_scores(record, scores, path, replace=arguments.replace)
            left_out += unknown
        except RecordError as error:
            problems += error.problems
    if problems:
        raise RecordError(problems)
    return [record], left_out


def _record_to_extend(arguments: argparse.Namespace, given: Given) -> RunRecord:
    """Return the record that scores are added to: the one of that name, or a new one made of what was given."""
    known = existing_records(arguments.out)
    if given.run_id is None:
        names = ", ".join(sorted(known)) or "none yet"
        raise Refusal(f"say with --run-id which run these scores are of; {arguments.out} has {names}")
    if given.run_id in known:
        if given.names_a_run() and not arguments.replace:
            raise Refusal(f"run {given.run_id!r} is in {arguments.out}; leave its description out, or pass --replace")
        if not given.names_a_run():
            return known[given.run_id][0]
    counts = complete_counts(given.counts(), given.method)
    wanted = {"grid": given.grid, "method": given.method}
    wanted |= {name: counts.get(name) for name in ("n_params_base", "n_params_updated")}
    lacking = [f"--{name.replace('_', '-')}" for name, value in wanted.items() if value is None]
    if lacking:
        names = ", ".join(sorted(known)) or "none yet"
        raise Refusal(
            f"there is no run {given.run_id!r} in {arguments.out} (it has {names}); choose one of them, or describe "
            f"a new run with {', '.join(lacking)}"
        )
    size = given.size or size_label(counts["n_params_base"])
    fields = {"run_id": given.run_id, "grid": given.grid, "method": given.method, "size": size, "seed": given.seed}
    fields |= {"held_out": size in given.held_out, "n_tokens": given.n_tokens} | counts
    origin = f"scores imported from {_ORIGINS[arguments.format]}"
    return make_record(arguments.paths[0], "", fields | {"provenance": Provenance(origin=origin)})


def _read_counted(path: Path) -> dict[Path, dict[str, int]]:
    """Return counts by adapter folder from what `python -m training params --adapter ... --json` printed."""
    names = ("n_params", "n_params_base", "n_params_updated")
    try:
        rows = json.loads(path.read_text("utf-8"))
        found = {Path(row["adapter"]).resolve(): {name: int(row[name]) for name in names} for row in rows}
        for row, counts in zip(rows, found.values(), strict=True):
            counts["n_params_base_nonembedding"] = counts["n_params_base"] - int(row["n_params_embedding"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        message = "is not what `python -m training params --adapter DIR --config DIR --json` prints"
        raise fail(path, f"{message} ({error})") from error
    return found


def _progress(paths: Sequence[Path], unit: str, quiet: bool) -> Iterable[Path]:
    return tqdm(paths, unit=f" {unit}", desc="reading", disable=quiet or len(paths) == 1, leave=False)


def _summary(
    arguments: argparse.Namespace, records: Sequence[RunRecord], written: Written, left_out: Sequence[FileProblem]
) -> Mapping[str, object]:
    """Return what was done as plain values."""
    described = [
        {
            "run_id": record.run_id,
            "grid": record.grid,
            "size": record.size,
            "method": record.method,
            "seed": record.seed,
            "n_params": record.n_params,
            "n_params_base": record.n_params_base,
            "n_params_updated": record.n_params_updated,
            "val_loss": record.val_loss,
            "n_points": len(record.val_curve),
            "n_scores": len(record.scores),
        }
        for record in records
    ]
    done = {name: list(getattr(written, name)) for name in ("new", "replaced", "unchanged")}
    missed = [{"path": str(p.path), "place": p.field, "message": p.message} for p in left_out]
    return {"format": arguments.format, "out": str(arguments.out), **done, "left_out": missed, "records": described}


def _print_summary(out: Path, records: Sequence[RunRecord], written: Written) -> None:
    from astraios_analysis.cli.printing import table_text

    frame = to_frame(records, per="run")
    frame["scores"] = [sum(1 for _ in record.scores) for record in _in_order(frame["run_id"], records)]
    columns = ["run_id", "grid", "size", "method", "seed", "n_params_base", "n_params_updated", "val_loss", "scores"]
    print(table_text(frame[columns]))
    parts = [f"{len(getattr(written, name))} {name}" for name in ("new", "replaced", "unchanged")]
    say(f"{', '.join(parts)} in {out}; check with: astraios records check {out}")


def _in_order(names: Iterable[str], records: Sequence[RunRecord]) -> list[RunRecord]:
    """Return records in the order of their names."""
    by_name = {record.run_id: record for record in records}
    return [by_name[name] for name in names]
