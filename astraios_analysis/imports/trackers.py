"""Tables that experiment trackers export: Weights & Biases run tables and charts, MLflow runs and metric histories.

Each becomes a table of runs; runs that did not finish are left out, and said to be.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from astraios_analysis.imports.inputs import Imported, Options
from astraios_analysis.imports.tables import build_records, read_runs
from astraios_analysis.records.notation import is_blank
from astraios_analysis.records.reading import Rows, read_cells, read_json
from astraios_analysis.records.refusal import FileProblem, fail

_STEPS = ("Step", "_step", "global_step", "train/global_step", "trainer/global_step")
_CHART = re.compile(r"(?P<run>.+) - (?P<metric>.+?)(?P<end>__MIN|__MAX)?")
_VALIDATION = re.compile(r"(^|[/_. ])(eval|val|valid|validation|test)[/_. ].*loss$", re.IGNORECASE)
_HISTORY = ["metric", "step", "timestamp", "value"]
_UI_COLUMNS = {"Run ID", "Name", "Source Type", "Status"}


def is_wandb_table(header: Mapping | list) -> bool:
    """Whether a header is that of a run table: names and states of runs."""
    return {"name", "state"} <= {name.lower() for name in header}


def is_wandb_chart(header: list[str]) -> bool:
    """Whether a header is that of a chart: an axis, and columns ``run - metric`` with their least and largest."""
    matches = [_CHART.fullmatch(name) for name in header[1:]]
    return len(header) > 1 and all(matches) and (header[0] in _STEPS or any(m["end"] for m in matches if m))


def is_mlflow_table(header: list[str]) -> bool:
    """Whether a header is that of MLflow's runs, from its interface or its commands, or of a metric's history."""
    return set(header) >= {"run_id", "experiment_id", "status"} or set(header) >= _UI_COLUMNS or _is_history(header)


def _is_history(header: list[str]) -> bool:
    return header[0] in ("Run", "Group") and header[2:] == _HISTORY


def read_wandb(path: Path, options: Options) -> Imported:
    """Return the runs of a run table or of a chart of Weights & Biases."""
    table = read_cells(path, options.delimiter)
    rows, header = table.rows, table.columns
    if is_wandb_table(header):
        own = {name.lower(): name for name in header}
        defaults = {"run_id": own["name"], "seconds": own.get("runtime")}
        return _run_table(path, rows, own["state"], defaults, options)
    if not is_wandb_chart(header):
        message = "is no run table (columns Name, State, ...) nor chart (Step, then 'run - metric') of Weights & Biases"
        raise fail(path, f"{message}; for any other table: astraios import csv")
    return _chart(path, rows, header, options)


def read_mlflow(path: Path, options: Options) -> Imported:
    """Return the runs of a table of MLflow, of a metric's history, or of one run as JSON (``mlflow runs describe``)."""
    if path.suffix == ".json":
        rows: Rows = [(1, _flat(path, read_json(path)))]
    else:
        # Its interface puts ' before cells that a spreadsheet would compute.
        rows = [
            (line, {name: re.sub(r"^'(?=[=+@-])", "", cell) for name, cell in row.items()})
            for line, row in read_cells(path, options.delimiter).rows
        ]
    header = list(rows[0][1])
    if _is_history(header):
        return _history(path, rows, header, options)
    if not is_mlflow_table(header):
        raise fail(path, "is no table of MLflow's runs (columns run_id, experiment_id, status, ...)")
    is_ui = "Status" in header
    by_name, by_id = ("Name", "Run ID") if is_ui else ("tags.mlflow.runName", "run_id")
    # Names of runs need not be distinct; their ids are.
    names = [row.get(by_name) for _, row in rows]
    named = not any(map(is_blank, names)) and len(set(names)) == len(names)
    defaults = {"run_id": by_name if named else by_id}
    return _run_table(path, rows, "Status" if is_ui else "status", defaults, options)


def _run_table(path: Path, rows: Rows, state: str, defaults: Mapping[str, str | None], options: Options) -> Imported:
    """Return the runs that finished; fields without a column of the user's take those of the tracker."""
    own = {name: column for name, column in defaults.items() if column and name not in options.columns}
    return read_runs(path, rows, options.model_copy(update={"columns": {**own, **options.columns}}), state)


def _chart(path: Path, rows: Rows, header: list[str], options: Options) -> Imported:
    """Return a run a column, with its curve."""
    axis = options.columns.get("step", header[0])
    if axis != header[0] or axis not in (*_STEPS, options.columns.get("step")):
        raise fail(path, f"the axis is {header[0]!r}; a curve goes by steps: say --step-column if it is one", "header")
    matches = {name: match for name in header[1:] if (match := _CHART.fullmatch(name)) and not match["end"]}
    metric = _one_metric(path, sorted({match["metric"] for match in matches.values()}), options)
    found_rows, notes = [], []
    for line, row in rows:
        for name, match in matches.items():
            # NaN is what a run that diverged logged; an empty cell is a step of other runs.
            if match["metric"] != metric or not row[name]:
                continue
            found_rows.append((line, {"run_id": match["run"], "step": row[axis], "val_loss": row[name]}))
            if row.get(f"{name}__MIN", row[name]) != row.get(f"{name}__MAX", row[name]) and not notes:
                message = f"{name!r} is a mean over steps or runs; the history of single runs is exact"
                notes.append(FileProblem(path, f"line {line}", message))
    return _curves(path, found_rows, notes, options)


def _history(path: Path, rows: Rows, header: list[str], options: Options) -> Imported:
    if header[0] == "Group":
        raise fail(path, "holds means over groups of runs; ungroup the runs and export them again", "header")
    metric = _one_metric(path, sorted({row["metric"] for _, row in rows}), options)
    kept = [(line, row) for line, row in rows if row["metric"] == metric]
    curves = [(n, {"run_id": row["Run"], "step": row["step"], "val_loss": row["value"]}) for n, row in kept]
    return _curves(path, curves, [], options)


def _one_metric(path: Path, metrics: list[str], options: Options) -> str:
    """Return the validation loss that is drawn; a training loss is no stand-in unless it is named."""
    named = options.columns.get("val_loss")
    candidates = [named] if named else [metric for metric in metrics if _VALIDATION.search(metric)]
    if len(candidates) != 1 or candidates[0] not in metrics:
        message = f"which of {', '.join(metrics)} is the validation loss? say it with --val-loss-column NAME"
        raise fail(path, message, "header")
    return candidates[0]


def _curves(path: Path, rows: Rows, notes: list[FileProblem], options: Options) -> Imported:
    if not rows:
        raise fail(path, "has no value of the validation loss")
    found = build_records(path, rows, options.model_copy(update={"columns": {}}))
    message = "a chart does not say whether its runs finished; a record is of a finished run"
    notes = [*notes, *found.notes, FileProblem(path, "", message)]
    return Imported(found.records, [], notes)


def _flat(path: Path, content: Mapping) -> dict[str, str]:
    """Return one run's JSON as a row, with the columns of `mlflow experiments csv`."""
    run = content["run"] if isinstance(content.get("run"), Mapping) else content
    info, data = run.get("info"), run.get("data")
    if not isinstance(info, Mapping) or not isinstance(data, Mapping):
        raise fail(path, "is no run of MLflow, which has info and data")
    row = {name: str(info.get(name, "")) for name in ("run_id", "experiment_id", "status")}
    for kind in ("metrics", "params", "tags"):
        values = data.get(kind) or {}
        try:
            pairs = values.items() if isinstance(values, Mapping) else [(v["key"], v["value"]) for v in values]
        except (TypeError, KeyError) as error:
            raise fail(path, "is neither an object nor a list of key and value", f"data.{kind}") from error
        row |= {f"{kind}.{name}": str(value) for name, value in pairs}
    return row
