"""Scores in a table: one column a data set (wide), or one row a score (long)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from astraios_analysis.imports import cells
from astraios_analysis.imports.inputs import fail
from astraios_analysis.records.files import RecordError
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.registry import DATASETS, chance_level
from astraios_analysis.records.schema import Score


@dataclass(frozen=True)
class ScoreColumn:
    """A column that holds one data set's score: what it is, as far as the data set does not say it itself."""

    column: str
    dataset: str
    metric: str | None = None
    setting: str | None = None
    language: str | None = None


@dataclass(frozen=True)
class ScoreDefaults:
    """What holds for scores where no column says it.

    Attributes
    ----------
    percent : bool
        Whether values and standard errors of shares are percentages.
    n_items : mapping of str to int
        Number of problems by data set; under the empty name, of all others.
    language : str, optional
        Programming language of data sets that are not in the registry.
    """

    percent: bool = False
    n_items: Mapping[str, int] = field(default_factory=dict)
    language: str | None = None


def row_scores(
    path: Path,
    line: int,
    row: Mapping[str, str],
    columns: Mapping[str, str],
    wide: Sequence[ScoreColumn],
    defaults: ScoreDefaults,
) -> list[Score]:
    """Return the scores that stand in a row.

    Raises
    ------
    RecordError
        Naming line, column, value and what is allowed.
    """
    scores = []
    for score in wide:
        if cells.is_missing(row.get(score.column)):
            continue
        texts = {"value": row[score.column], "dataset": score.dataset, "metric": score.metric or ""}
        texts |= {"setting": score.setting or "", "language": score.language or ""}
        texts |= {name: row.get(f"{score.column}_{name}", "") for name in ("stderr", "n_items")}
        scores.append(_score(path, f"line {line}, column {score.column!r}", texts, defaults))
    texts = {name: row.get(columns.get(name, name)) or "" for name in LONG_FIELDS}
    if not cells.is_missing(texts["dataset"]) and not cells.is_missing(texts["value"]):
        scores.append(_score(path, f"line {line}", texts, defaults))
    return scores


TEXTS = ("dataset", "language", "setting", "metric", "source")
NUMBERS, COUNTS = ("value", "stderr", "reading_error"), ("n_items", "n_samples", "n_passed")
LONG_FIELDS = (*TEXTS, *NUMBERS, *COUNTS)


def _score(path: Path, place: str, texts: Mapping[str, str], defaults: ScoreDefaults) -> Score:
    """Make a score of texts; a data set of the registry fills in its own metric, setting and language."""
    said = {name: text for name, text in texts.items() if not cells.is_missing(text)}
    name = said["dataset"]
    known = DATASETS.get(name)
    if known is not None:
        own = {"metric": known.primary_metric, "setting": known.primary_setting, "language": known.language}
        said = {key: value for key, value in own.items() if value} | said
    elif defaults.language:
        said = {"language": defaults.language} | said
    lacking = [key for key in ("metric", "setting", "language") if key not in said]
    if lacking:
        message = (
            f"data set {name!r} is not in the registry, so its {', '.join(lacking)} must be said: "
            "--score COLUMN DATASET METRIC SETTING LANGUAGE, or columns of these names"
        )
        raise fail(path, message, place)
    try:
        read = cells.read_percentage if defaults.percent else cells.read_number
        numbers = {key: read(said[key]) for key in NUMBERS if key in said}
        counts = {key: cells.read_count(said[key]) for key in COUNTS if key in said}
    except Refusal as error:
        raise fail(path, str(error), place) from error
    n_items = defaults.n_items.get(name, defaults.n_items.get(""))
    if "n_items" not in counts and n_items is not None:
        counts["n_items"] = n_items
    text = {key: said[key] for key in TEXTS if key in said}
    return make_score(path, place, text | numbers | counts | {"source_file": path.name})


def make_score(path: Path, place: str, fields: Mapping[str, object]) -> Score:
    """Return a score, measured unless its fields say otherwise, with its chance level.

    Raises
    ------
    RecordError
        Naming the file, the place in it and everything wrong with the fields.
    """
    if fields.get("n_items") is None:
        message = (
            f"the number of problems of {fields['dataset']} is not known; say it with --n-items {fields['dataset']}=N"
        )
        raise fail(path, message, place)
    chance = chance_level(str(fields["dataset"]), str(fields["metric"]))
    try:
        return Score(**({"chance": chance, "source": "measured"} | dict(fields)))
    except ValidationError as error:
        raise RecordError([_problem(path, place, detail) for detail in error.errors()]) from error


def _problem(path: Path, place: str, detail) -> object:
    field_name = ".".join(str(part) for part in detail["loc"])
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] != "value_error":
        message = f"{detail['input']!r}: {message[0].lower()}{message[1:]}"
    return fail(path, message, ", ".join(part for part in (place, field_name) if part)).problems[0]
