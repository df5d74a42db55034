"""Grids in files: TOML that `grid spec` prints and that `grid run` and `run` read. Importable without torch."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from astraios_analysis.records.notation import toml_lines
from astraios_analysis.records.reading import read_toml
from astraios_analysis.records.refusal import FileProblem, RecordError, fail
from training.corpus.texts import TEXTS_VARIABLE
from training.spec.grids import PRESETS, Grid

_HEAD = """\
# A grid of runs: python -m training grid run --spec FILE
# data is one of the embedded corpora, a text of the hub that the toolkit knows, or a file NAME.jsonl beside this one
# (objects with prompt and completion). A size with pretrained = "NAME" takes that model; others are trained first.
"""


def read_grid(path: Path) -> Grid:
    """Return the grid of a file, or refuse it with every field that is wrong."""
    content = read_toml(path)
    content.setdefault("name", path.stem)
    if content["name"] in PRESETS:
        raise fail(path, f"is that of a preset, {content['name']!r}; give your grid a name of its own", "name")
    content["data"] = _text_beside(path, content.get("data"))
    try:
        grid = Grid.model_validate_json(json.dumps(content))
        # What is wrong with a run is said here, too, before anything starts.
        grid.runs()
        return grid
    except TypeError as error:
        raise fail(path, f"holds a date or time ({error}); write it as text") from error
    except ValidationError as error:
        raise RecordError([_problem(path, detail) for detail in error.errors()]) from error


def _problem(path: Path, detail: Mapping[str, Any]) -> FileProblem:
    field, message = ".".join(map(str, detail["loc"])), detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        message = "is no field of a grid; `grid spec --preset ladder` prints those that there are"
    elif detail["type"] == "missing":
        message = "is missing; add it"
    elif detail["type"] != "value_error":
        message = f"is {detail['input']!r}; {message[0].lower()}{message[1:]}"
    return FileProblem(path, field, message)


def _text_beside(path: Path, data: object) -> object:
    """Return the label of a text; a file of one's own is looked for beside the grid's, and by its workers too."""
    if not (isinstance(data, str) and data.endswith((".jsonl", ".jsonl.gz"))):
        return data
    text = (path.parent / data).resolve()
    if not text.is_file():
        raise fail(path, f"is {data!r}, and there is no such file; give one with prompt and completion a line", "data")
    os.environ[TEXTS_VARIABLE] = str(text.parent)
    return text.name.removesuffix(".gz").removesuffix(".jsonl")


def write_grid(grid: Grid) -> str:
    """Return a grid as the text of a file that `read_grid` reads."""
    content = grid.model_dump(mode="json", exclude_none=True)
    content["name"] = f"my_{grid.name}" if grid.name in PRESETS else grid.name
    return _HEAD + "\n".join(toml_lines(content)) + "\n"
