"""The 28 published models' measured scores, as records like any other run's.

The tables in ``data/released`` hold what the authors' released generations score when they are really executed; the
models themselves were not run, so a released record has counts and scores but no loss, no seed and no cost.
"""

import zlib
from pathlib import Path

import pandas as pd

from astraios_analysis.records.frame import ProblemCounts, Provenance, RunRecord, Score, known_method
from astraios_analysis.records.refusal import fail
from astraios_analysis.records.registry import chance_level
from astraios_analysis.records.schema import validating

GRID = "released"
NOMINAL = "nominal"
ALL_TRANSFORMATIONS = "all_transformations"

_ORIGIN = "generations released with arXiv 2401.00788, parsed, compiled and executed again; the model was not run"
SCORE_FIELDS = ("dataset", "language", "setting", "metric", "value", "stderr", "reading_error")
SCORE_FIELDS += ("n_items", "n_samples", "source", "source_file")
SECURITY_COUNTS = "security_counts.csv"
# The metric of a setting that is the plain mean of its per-problem counts, and so carries them.
_MEAN_METRICS = ("pass@1", "mean_pass@1", "overall_accuracy", "parse_rate", "insecure_rate")

_MODEL = ["size", "method"]
_REQUIRED = {
    "scores.csv": [*_MODEL, *SCORE_FIELDS],
    "parameter_counts.csv": [*_MODEL, "n_params", "n_params_base", "n_params_base_nonembedding", "n_params_updated"],
    "problem_counts.csv.gz": [*_MODEL, "dataset", "language", "setting", "problem_id", "n_samples", "n_passed"],
}
_SCENARIO = [*_MODEL, "scenario_id", "completion", "n_samples", "n_valid", "n_insecure", "n_insecure_in_scope"]
_SCENARIO += ["rules_in_scope"]
_TEXTS = (*_MODEL, "dataset", "language", "setting", "metric", "source", "source_file")
_TEXTS += ("scenario_id", "completion", "rules_in_scope")
_FRACTIONS = ("value", "stderr", "reading_error")
# Cells that may be empty: what was not measured is absent.
_OPTIONAL = ("stderr", "reading_error", "n_samples", "source_file", "rules_in_scope")

Key = tuple[str, str, str, str, str]


def is_released_folder(folder: Path) -> bool:
    """Return whether a folder holds the tables of released models rather than one record a run.

    Two of the three are enough: a folder that lost one must say so, and not leave its models out in silence.
    """
    return sum((folder / name).exists() for name in _REQUIRED) >= 2


def released_datasets(folder: Path) -> frozenset[str]:
    """Return the data sets scored in the tables of a folder; none where that cannot be read."""
    try:
        return frozenset(pd.read_csv(folder / "scores.csv", usecols=["dataset"], dtype=str)["dataset"].dropna())
    except (OSError, ValueError):
        return frozenset()


def load_released(folder: str | Path) -> list[RunRecord]:
    """Read the tables in ``folder`` as one `RunRecord` for each released model.

    What is missing or impossible is refused, with file, row or column and value.
    """
    folder = Path(folder)
    scores = _read(folder / "scores.csv")
    parameters = _read(folder / "parameter_counts.csv")
    counts = _index_counts(folder / "problem_counts.csv.gz") | _index_scenarios(folder / SECURITY_COUNTS)
    _require_distinct(folder / "parameter_counts.csv", parameters[_MODEL])
    _require_distinct(folder / "scores.csv", scores[[*_MODEL, "dataset", "language", "setting", "metric"]])
    models = set(zip(parameters["size"], parameters["method"], strict=True))
    by_model = dict(list(scores.groupby(_MODEL, sort=False)))
    unknown = sorted(set(by_model) - models)
    if unknown:
        message = f"{unknown[0]} has scores but no row in parameter_counts.csv"
        raise fail(folder / "scores.csv", message, "size, method")
    return [
        _record(folder, row, by_model.get((row["size"], row["method"])), counts)
        for row in parameters.to_dict("records")
    ]


def _require_distinct(path: Path, keys: pd.DataFrame) -> None:
    repeated = keys[keys.duplicated()]
    if len(repeated):
        line = repeated.index[0] + 2
        raise fail(path, f"line {line} repeats {' '.join(repeated.iloc[0])}; keep one row", ", ".join(keys))


def _read(path: Path) -> pd.DataFrame:
    try:
        frame = pd.read_csv(path, dtype=dict.fromkeys(_TEXTS, str))
    except FileNotFoundError as error:
        raise fail(path, "does not exist; restore it, or write it again with the conversion") from error
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise fail(path, f"cannot be read as a table ({error}); restore it") from error
    required = _REQUIRED.get(path.name, _SCENARIO)
    missing = [column for column in required if column not in frame]
    if missing:
        raise fail(path, f"column is missing; the file has {', '.join(frame.columns)}", missing[0])
    return frame.assign(**{column: _typed(path, frame[column]) for column in required})


def _typed(path: Path, cells: pd.Series) -> pd.Series:
    """Return a column as text, fractions or whole numbers; name its first cell that is empty or something else."""
    wrong, typed, allowed = cells.isna() & (cells.name not in _OPTIONAL), cells, "text"
    if cells.name not in _TEXTS:
        typed = pd.to_numeric(cells, errors="coerce")
        wrong, allowed = wrong | (typed.isna() & cells.notna()), "a number"
    if cells.name not in _TEXTS + _FRACTIONS:
        wrong, allowed = wrong | (typed % 1 > 0) | (typed.abs() >= 2**63), "a whole number"
    if wrong.any():
        line = wrong.idxmax() + 2
        shown = "empty" if pd.isna(cells[line - 2]) else repr(str(cells[line - 2]))
        raise fail(path, f"is {shown}; give {allowed}", f"line {line}, {cells.name}")
    return typed.astype("Int64") if allowed == "a whole number" else typed


def _index_counts(path: Path) -> dict[Key, ProblemCounts]:
    """Group per-problem counts by model, data set, language and setting, adding each ReCode category's sum."""
    frame = _read(path)
    keys = [*_MODEL, "dataset", "language", "setting"]
    # As categories: a comparison of 130,000 texts takes longer than all the rest.
    frame = frame.astype(dict.fromkeys(keys, "category"))
    is_recode = frame["dataset"].cat.categories.str.startswith("recode_")[frame["dataset"].cat.codes]
    total = (
        frame[is_recode & (frame["setting"] != NOMINAL)]
        .groupby([*keys[:-1], "problem_id"], sort=False, as_index=False, observed=True)[["n_samples", "n_passed"]]
        .sum()
    )
    whole = pd.concat([frame, total.assign(setting=ALL_TRANSFORMATIONS)])
    names = {"problem_ids": "problem_id", "n_samples": "n_samples", "n_passed": "n_passed"}
    columns = {name: whole[column].to_numpy(dtype=object) for name, column in names.items()}
    counts = {}
    for key, rows in whole.groupby(keys, sort=False, observed=True).indices.items():
        with validating(path, " ".join(map(str, key))):
            counts[key] = ProblemCounts(**{name: tuple(column[rows].tolist()) for name, column in columns.items()})
    return counts


def _index_scenarios(path: Path) -> dict[Key, ProblemCounts]:
    """Return valid programs of each scenario and the insecure ones among them, by the settings of `convert.py`.

    Security is an addition to the tables: without it, models are without it.
    """
    if not path.exists():
        return {}
    frame, counts = _read(path), {}
    for (size, method, completion), own in frame.groupby([*_MODEL, "completion"], sort=False):
        key = (size, method, "aatk", "python", f"t0.2,n20,{completion}")
        scoped = own[own["rules_in_scope"].notna()]
        for suffix, rows, of, counted in (
            ("", own, "n_samples", "n_valid"),
            (",all_rules", own, "n_valid", "n_insecure"),
            (",own_weakness", scoped, "n_valid", "n_insecure_in_scope"),
        ):
            fields = {"problem_ids": rows["scenario_id"], "n_samples": rows[of], "n_passed": rows[counted]}
            with validating(path, f"{size} {method} {completion}"):
                made = ProblemCounts(**{name: tuple(column.tolist()) for name, column in fields.items()})
            counts[(*key[:4], key[4] + suffix)] = made
    return counts


def _record(folder: Path, row: dict, scores: pd.DataFrame | None, counts: dict[Key, ProblemCounts]) -> RunRecord:
    size, method = row["size"], row["method"]
    rows = [] if scores is None else scores.to_dict("records")
    try:
        known_method(method)
    except ValueError as error:
        raise fail(folder / "parameter_counts.csv", str(error), f"{size} {method} method") from error
    made = tuple(_score(folder, score, counts) for score in rows)
    names = ("n_params", "n_params_base", "n_params_base_nonembedding", "n_params_updated")
    fields = {name: row[name] for name in names} | {"grid": GRID, "method": method, "size": size, "scores": made}
    with validating(folder / "parameter_counts.csv", f"{size} {method}"):
        return RunRecord(
            run_id=f"{GRID}-{size}-{method}", held_out=False, provenance=Provenance(origin=_ORIGIN), **fields
        )


def _score(folder: Path, row: dict, counts: dict[Key, ProblemCounts]) -> Score:
    present = {name: value for name, value in row.items() if not pd.isna(value)}
    key = (row["size"], row["method"], row["dataset"], row["language"], row["setting"])
    fields = {name: present[name] for name in SCORE_FIELDS if name in present}
    if row["metric"] in _MEAN_METRICS and key in counts:
        problems = counts[key]
        fields |= {"problems": problems, "n_passed": sum(problems.n_passed)}
    with validating(folder / "scores.csv", " ".join((*key, row["metric"]))):
        return Score(**fields, chance=chance_level(row["dataset"], row["metric"]))
