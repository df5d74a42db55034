"""Records from a table: rows of one run are put together, its scores stand in columns or in rows of their own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from astraios_analysis.imports.inputs import (
    COUNTS,
    TIME_UNITS,
    Imported,
    Options,
    complete_counts,
    data_name,
    make_record,
    make_score,
    read_loss,
    read_method,
    read_number,
    read_percentage,
    run_name,
    size_label,
)
from astraios_analysis.records.notation import is_blank, parse_count, read_truth, with_points
from astraios_analysis.records.reading import Rows, read_cells
from astraios_analysis.records.refusal import FileProblem, RecordError, Refusal, fail, fold, gather
from astraios_analysis.records.registry import find_dataset
from astraios_analysis.records.schema import RunRecord, Score

LOSS_FIELDS = ("base_val_loss", "val_loss", "val_loss_se")
COST_FIELDS = ("seconds", "flop", "peak_memory_bytes")
RUN_FIELDS = (
    *("grid", "run_id", "size", "method", "seed", "held_out"),
    *COUNTS,
    *("n_tokens", *LOSS_FIELDS, *COST_FIELDS),
)
SCORE_TEXTS = ("dataset", "language", "setting", "metric", "source")
SCORE_NUMBERS, SCORE_COUNTS = ("value", "stderr", "reading_error"), ("n_items", "n_samples", "n_passed")
SCORE_FIELDS = (*SCORE_TEXTS, *SCORE_NUMBERS, *SCORE_COUNTS)
FIELDS = (*RUN_FIELDS, "step", *SCORE_FIELDS)
"""Everything that a column can be. A column has its field's name unless the mapping says otherwise."""

ORIGIN = "imported from a CSV table"
NO_LANGUAGE = "text"
"""Language of a task whose answers are no programs."""
DEFAULT_SETTING = "default"
"""Setting of scores of which nobody says another."""
_MAX_SHOWN = 20
_FINISHED = "finished"
# What trackers call the states of runs.
_STATES = {_FINISHED, "crashed", "failed", "killed", "running", "preempting", "preempted", "scheduled", "pending"}


@dataclass
class _Run:
    """What the rows read so far say of one run."""

    line: int
    fields: dict[str, Any]
    raw_name: str | None = None
    points: dict[int, tuple[float, float | None]] = field(default_factory=dict)
    last_step: int = 0
    scores: list = field(default_factory=list)


def read_table(path: Path, options: Options) -> Imported:
    """Return the runs of a table's file in the order in which they appear."""
    table = read_cells(path, options.delimiter)
    columns = [name for name in table.columns if name not in options.columns.values()]
    named = [name for name in columns if name.lower() in ("state", "status")]
    state = next((name for name in named if all(row[name].lower() in _STATES for _, row in table.rows)), None)
    found = read_runs(path, table.rows, options, state)
    found.notes[:0] = [FileProblem(path, "", note) for note in table.notes]
    return found


def read_runs(path: Path, rows: Rows, options: Options, state: str | None) -> Imported:
    """Return the runs of rows that finished, by a column of states, and what is said of others and of other columns."""
    kept = [(line, row) for line, row in rows if state is None or row[state].lower() == _FINISHED]
    left_out = [
        FileProblem(path, f"line {line}", f"its {state} is {row[state]!r}: the run did not finish")
        for line, row in rows
        if state is not None and row[state].lower() != _FINISHED
    ]
    if not kept:
        shown = ", ".join(sorted({row[state] for _, row in rows}))
        raise fail(path, f"holds no run that finished; their {state} is {shown}")
    found = build_records(path, kept, options)
    used = {state, *(options.columns.get(name, name) for name in FIELDS)}
    used |= {score.column + end for score in options.scores for end in ("", "_stderr", "_n_items")}
    unused = [name for name in rows[0][1] if name not in used]
    if unused:
        shown = f"{', '.join(unused[:8])}{', ...' if len(unused) > 8 else ''}"
        left_out.append(FileProblem(path, "columns", f"read as nothing: {shown}"))
    return Imported(found.records, left_out, found.notes)


def build_records(path: Path, rows: Rows, options: Options) -> Imported:
    """Return the runs of rows; raises RecordError listing everything that cannot be mapped, with line and column."""
    _require_columns(path, list(rows[0][1]), options)
    rows = _with_points(path, rows, options)
    runs: dict[str, _Run] = {}
    try:
        gather(lambda numbered: _add_row(path, *numbered, runs, options), rows)
        records = gather(lambda named: _build(path, *named), runs.items())
    except RecordError as error:
        raise RecordError(fold(error.problems, _MAX_SHOWN)) from error
    renamed = [(run.raw_name, name) for name, run in runs.items() if run.raw_name not in (None, name)]
    notes = []
    if renamed:
        old, new = renamed[0]
        notes.append(FileProblem(path, "run_id", f"{old!r} is written {new!r}, with the signs that names may have"))
    for name, run in runs.items():
        if run.points and max(run.points) < run.last_step:
            message = f"the last loss is of step {max(run.points)}, and its rows go on to step {run.last_step}"
            notes.append(FileProblem(path, f"run {name!r}", message))
    empty = [record.run_id for record in records if record.val_loss is None and not record.scores]
    if empty:
        message = f"no loss and no score of {', '.join(empty[:5])}{', ...' if len(empty) > 5 else ''}"
        notes.append(FileProblem(path, f"{len(empty)} of {len(records)} runs", message))
    return Imported(records, [], notes)


def _with_points(path: Path, rows: Rows, options: Options) -> Rows:
    """Return rows whose columns of numbers have decimal points where a comma is the decimal mark."""
    wanted = {options.columns.get(name, name) for name in (*COUNTS, *LOSS_FIELDS, *COST_FIELDS, *SCORE_NUMBERS)}
    wanted |= {score.column + end for score in options.scores for end in ("", "_stderr")}
    for name in [name for name in rows[0][1] if name in wanted]:
        try:
            cells = with_points(pd.Series([row[name] for _, row in rows], dtype=object))
        except Refusal as error:
            raise fail(path, str(error), f"column {name!r}") from error
        rows = [(line, row | {name: cell}) for (line, row), cell in zip(rows, cells, strict=True)]
    return rows


def _require_columns(path: Path, header: list[str], options: Options) -> None:
    wanted = [*options.columns.values(), *(score.column for score in options.scores)]
    known = {options.columns.get(name, name) for name in FIELDS}
    if not known & set(header):
        example = "--size-column SIZE"
        raise fail(path, f"no column is known: {', '.join(header)}; say what they are, for example {example}", "header")
    for name in wanted:
        if name not in header:
            raise fail(path, f"is not in the table; its columns are {', '.join(header)}", f"column {name!r}")


def _readers(options: Options) -> dict[str, Callable[[str], object]]:
    """Return how to read each field of a run that is not text."""
    readers: dict[str, Callable[[str], object]] = {"method": lambda text: read_method(text, options.methods)}
    readers |= {name: lambda text: parse_count(text, options.params_unit) for name in COUNTS}
    readers |= dict.fromkeys(("seed", "n_tokens", "peak_memory_bytes", "step"), parse_count)
    readers |= {name: lambda text: read_loss(text, options.loss_unit) for name in LOSS_FIELDS}
    readers |= {"seconds": lambda text: read_number(text) * TIME_UNITS[options.time_unit]}
    return readers | {"flop": read_number, "held_out": _truth, "run_id": run_name}


def _truth(text: str) -> bool:
    if (found := read_truth(text)) is None:
        raise Refusal(f"{text!r} is neither true nor false")
    return found


def _read_fields(path: Path, line: int, row: Mapping[str, str], options: Options) -> dict[str, Any]:
    """Return a row's fields of the run; a missing cell gives none."""
    readers, found = _readers(options), {}
    for name in (*RUN_FIELDS, "step"):
        column = options.columns.get(name, name)
        text = row.get(column)
        if is_blank(text):
            continue
        try:
            found[name] = readers[name](text) if name in readers else text
        except Refusal as error:
            raise fail(path, str(error), f"line {line}, column {column!r}") from error
    if "val_loss_se" in found and options.loss_unit == "perplexity":
        # In bits an error scales as the loss does; that of a perplexity is relative to it.
        column = options.columns.get("val_loss_se", "val_loss_se")
        message = "is the error of a perplexity, which is not read; leave the column out, or give nats or bits"
        raise fail(path, message, f"line {line}, column {column!r}")
    return found


def _add_row(path: Path, line: int, row: Mapping[str, str], runs: dict[str, _Run], options: Options) -> None:
    """Add a row to its run: a point of the curve where it has a step, scores where it has them."""
    fields = _read_fields(path, line, row, options)
    step = fields.pop("step", None)
    raw_name = row.get(options.columns.get("run_id", "run_id")) or None
    fields = _named_fields(path, line, raw_name or path.stem, options) | fields
    for name in ("grid", "run_id", "method", "size", "seed", "n_tokens", *COUNTS):
        # What is updated follows from fft, whatever is said of the methods of other rows.
        follows = name == "n_params_updated" and fields.get("method") == "fft" != options.method
        if name not in fields and getattr(options, name) is not None and not follows:
            fields[name] = getattr(options, name)
    try:
        fields |= complete_counts({name: fields[name] for name in COUNTS if name in fields}, fields.get("method"))
    except Refusal as error:
        raise fail(path, str(error), f"line {line}") from error
    _require(path, line, fields)
    fields.setdefault("size", size_label(fields["n_params_base"]))
    fields["held_out"] = fields.get("held_out", False) or fields["size"] in options.held_out
    seed = f"s{fields['seed']}" if "seed" in fields else None
    name = fields.setdefault("run_id", run_name(fields["grid"], fields["size"], fields["method"], seed))
    point = (fields.pop("val_loss", None), fields.pop("val_loss_se", None)) if step is not None else None
    run = runs.setdefault(name, _Run(line, fields, raw_name))
    if run.raw_name != raw_name:
        message = f"runs {run.raw_name!r} and {raw_name!r} would both be named {name!r}; rename one"
        raise fail(path, message, f"line {line}")
    for key, value in fields.items():
        if run.fields.setdefault(key, value) != value:
            message = f"{key} is {value!r} here and {run.fields[key]!r} on line {run.line}, of the same run {name!r}"
            raise fail(
                path, f"{message}; correct one, or tell the runs apart with a column seed or run_id", f"line {line}"
            )
    run.last_step = max(run.last_step, step or 0)
    if point is not None and point[0] is not None and run.points.setdefault(step, point) != point:
        raise fail(path, f"step {step} of run {name!r} has two losses; keep one", f"line {line}")
    run.scores += _row_scores(path, line, row, options)


def _named_fields(path: Path, line: int, name: str, options: Options) -> dict[str, Any]:
    """Return the fields that are said of a run by its name: one by one, or by a pattern."""
    said = {key: str(value) for key, value in options.runs.get(name, options.runs.get(run_name(name), {})).items()}
    if options.name_pattern is not None:
        match = options.name_pattern.search(name)
        if match is None:
            message = f"{name!r} is not of the form {options.name_pattern.pattern!r}; correct --name-pattern"
            raise fail(path, message, f"line {line}")
        said = {key: text for key, text in match.groupdict().items() if text is not None} | said
    wrong = sorted(said.keys() - set(RUN_FIELDS))
    if wrong:
        raise fail(path, f"{wrong[0]!r} is no field of a run; choose from {', '.join(RUN_FIELDS)}", f"run {name!r}")
    return _read_fields(path, line, said, options.model_copy(update={"columns": {}}))


def _require(path: Path, line: int, fields: Mapping[str, object]) -> None:
    """Refuse a row without what every record has, saying which column or option would give it."""
    options = {"grid": "--grid NAME", "method": "--method METHOD", "n_params_base": "--n-params-base N"}
    options |= {"n_params_updated": "--n-params-updated N", "n_params": "--n-params N"}
    problems = []
    for name, option in options.items():
        if name not in fields and not (name == "n_params" and problems):
            column = f"--{name.replace('_', '-')}-column COLUMN"
            message = f"is not there; every record has it: name its column with {column}, or give {option}"
            problems.append(FileProblem(path, f"line {line}, {name}", message))
    if problems:
        raise RecordError(problems)


def _build(path: Path, name: str, run: _Run) -> RunRecord:
    """Make a run's record; where it has a curve, its last point is the loss and that of step 0 the base model's."""
    fields = dict(run.fields)
    cost = {key: fields.pop(key) for key in COST_FIELDS if key in fields}
    curve = [{"step": step, "loss": loss, "stderr": error} for step, (loss, error) in sorted(run.points.items())]
    if curve:
        fields.setdefault("val_loss", curve[-1]["loss"])
        if curve[-1]["stderr"] is not None:
            fields.setdefault("val_loss_se", curve[-1]["stderr"])
        if curve[0]["step"] == 0:
            fields.setdefault("base_val_loss", curve[0]["loss"])
    fields |= {"val_curve": tuple(curve), "scores": tuple(dict.fromkeys(run.scores)), "cost": cost}
    fields["provenance"] = {"origin": f"{ORIGIN}: {path.name}"}
    return make_record(path, f"line {run.line}, run {name!r}", fields)


def _row_scores(path: Path, line: int, row: Mapping[str, str], options: Options) -> list[Score]:
    """Return the scores that stand in a row, in columns of their own and in the columns of a row that is a score."""
    scores = []
    for score in options.scores:
        if is_blank(row.get(score.column)):
            continue
        texts = {"value": row[score.column], "dataset": score.dataset, "metric": score.metric or ""}
        texts |= {"setting": score.setting or "", "language": score.language or ""}
        texts |= {name: row.get(f"{score.column}_{name}", "") for name in ("stderr", "n_items")}
        scores.append(_score(path, f"line {line}, column {score.column!r}", texts, options))
    texts = {name: row.get(options.columns.get(name, name)) or "" for name in SCORE_FIELDS}
    if not is_blank(texts["dataset"]) and not is_blank(texts["value"]):
        scores.append(_score(path, f"line {line}", texts, options))
    return scores


def _score(path: Path, place: str, texts: Mapping[str, str], options: Options) -> Score:
    """Make a score of texts; a data set of the registry fills in its own metric, setting and language."""
    said = {name: text for name, text in texts.items() if not is_blank(text)}
    said |= {key: data_name(said[key]) for key in ("dataset", "language") if key in said}
    name = said["dataset"]
    known = find_dataset(name)
    own = {"metric": known.primary_metric, "setting": known.primary_setting, "language": known.language}
    if known.suite == "own":
        language = data_name(options.languages.get("", NO_LANGUAGE))
        own = (
            {"setting": DEFAULT_SETTING} | {key: value for key, value in own.items() if value} | {"language": language}
        )
    said = {key: value for key, value in own.items() if value} | said
    lacking = [key for key in ("metric", "setting", "language") if key not in said]
    if lacking:
        message = (
            f"data set {name!r} is not in the registry, so its {', '.join(lacking)} must be said: "
            f"--metric {name}=accuracy, --score COLUMN DATASET METRIC, or a column of this name"
        )
        raise fail(path, message, place)
    try:
        is_percent = options.percent or any(said.get(key, "").endswith("%") for key in SCORE_NUMBERS)
        read = read_percentage if is_percent else read_number
        numbers = {key: read(said[key]) for key in SCORE_NUMBERS if key in said}
        counts = {key: parse_count(said[key]) for key in SCORE_COUNTS if key in said}
    except Refusal as error:
        raise fail(path, str(error), place) from error
    if "n_items" not in counts and (n_items := options.of_task("n_items", name, texts["dataset"])) is not None:
        counts["n_items"] = n_items
    text = {key: said[key] for key in SCORE_TEXTS if key in said}
    return make_score(path, place, text | numbers | counts | {"source_file": path.name})
