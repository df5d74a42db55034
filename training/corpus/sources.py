"""Examples from JSONL files and hub data sets, in the same form as the embedded ones."""

import gzip
import importlib
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from training.corpus.hub import hub_advice, reason_of
from training.corpus.layout import Example

PROMPT, COMPLETION = "prompt", "completion"
"""Names of the columns, unless others are given."""

TEXTS_VARIABLE = "ASTRAIOS_TEXTS"
"""Environment variable: the folder in which text lies, files by their labels and data sets by their hub names."""

# Not a dependency: the project trains on its own text and on files without it. Named here and not in an import
# statement, so that the check of declared imports stays strict for everything else.
_HUB_LIBRARY = "datasets"


def load_jsonl(path: Path | str, prompt: str = PROMPT, completion: str = COMPLETION) -> list[Example]:
    """Return the examples of a JSONL file, one object a line; gzip where the name ends in ``.gz``.

    Parameters
    ----------
    path : path
        The file. Empty lines are passed over.
    prompt, completion : str
        Names of the two columns; others are ignored.

    Returns
    -------
    list of Example
        One for each line, in the file's order.

    Raises
    ------
    ValueError
        If the file cannot be read, is empty, or a line is not an object with both columns as text; the message names
        file and line.
    """
    examples = [
        _example(_parsed(line, where), prompt, completion, where) for where, line in _lines(Path(path)) if line.strip()
    ]
    if not examples:
        raise ValueError(f"{path}: no examples in it; write one JSON object with {prompt!r} and {completion!r} a line")
    return examples


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give a JSONL file, plain or with .gz")
    is_compressed = path.suffix == ".gz"
    number = 0
    try:
        with gzip.open(path, "rt", encoding="utf-8-sig") if is_compressed else path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                yield f"{path}, line {number}", line
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}, after line {number}: not UTF-8 ({error}); convert the file to UTF-8") from error
    except (OSError, EOFError, zlib.error) as error:
        # A broken archive raises any of them; an unreadable plain file comes here too.
        raise ValueError(f"{path}, after line {number}: cannot be read ({error}); fetch or write it anew") from error


def _parsed(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not valid JSON ({error}); each line holds one whole object") from error


def _example(record: Any, prompt: str, completion: str, where: str) -> Example:
    if not isinstance(record, dict):
        raise ValueError(
            f"{where}: holds {type(record).__name__}, not an object; write one with {prompt!r} and {completion!r}"
        )
    for name in (prompt, completion):
        if name not in record:
            raise ValueError(f"{where}: no column {name!r}; its columns are {', '.join(map(str, record)) or 'none'}")
        if not isinstance(record[name], str):
            raise ValueError(f"{where}: column {name!r} holds {type(record[name]).__name__}; it must be text")
    if not record[completion]:
        raise ValueError(
            f"{where}: column {completion!r} is empty; there is nothing to learn from, so leave the line out"
        )
    return Example(record[prompt], record[completion])


def load_hub(name: str, split: str = "train", prompt: str = PROMPT, completion: str = COMPLETION) -> list[Example]:
    """Return the examples of a data set on the hub, or of a local folder in its layout.

    Parameters
    ----------
    name : str
        Name of the data set.
    split : str
        Split of it.
    prompt, completion : str
        Names of the two columns; others are ignored.

    Returns
    -------
    list of Example
        One for each row, in the data set's order.

    Raises
    ------
    ValueError
        If the library that reads the hub is not installed, the data set cannot be read, or a row lacks a column.
    """
    rows = _read_data_set(name, split)
    return _examples(rows, prompt, completion, name, split)


def load_hub_splits(name: str, prompt: str = PROMPT, completion: str = COMPLETION) -> dict[str, list[Example]]:
    """Return the examples of every split of a data set, by the split's name; see `load_hub`."""
    splits = _read_data_set(name, None)
    return {split: _examples(rows, prompt, completion, name, split) for split, rows in splits.items()}


def require_hub_library(name: str) -> Any:
    """Return the library that reads the hub.

    Parameters
    ----------
    name : str
        What shall be read, for the message.

    Raises
    ------
    ValueError
        If it is not installed.
    """
    try:
        return importlib.import_module(_HUB_LIBRARY)
    except ImportError as error:
        raise ValueError(
            f"reading {name!r} from the hub needs the package {_HUB_LIBRARY!r}, which is not installed; "
            f"run `pip install {_HUB_LIBRARY}`, or save the data set as JSONL and give that file"
        ) from error


def _read_data_set(name: str, split: str | None) -> Any:
    library = require_hub_library(name)
    is_folder = Path(name).is_dir()
    try:
        if is_folder:
            _check_whole(Path(name))
        return library.load_dataset(name, split=split)
    except Exception as error:
        # The library raises dozens of classes, for names, splits, files and connections alike.
        where = "" if split is None else f", split {split!r},"
        if is_folder:
            advice = f"{_HUB_LIBRARY} says {type(error).__name__}: {reason_of(error)}; put all of its files there"
            raise ValueError(f"cannot read the data set in folder {name!r}{where}: {advice}") from error
        advice = hub_advice("data set", name, TEXTS_VARIABLE, error)
        raise ValueError(f"cannot read data set {name!r}{where} from the hub: {advice}") from error


def _check_whole(folder: Path) -> None:
    # Where `hf download --local-dir` keeps what it has not finished.
    if next(folder.glob(".cache/huggingface/download/**/*.incomplete"), None) is not None:
        raise ValueError("its download was broken off")


def _examples(rows: Iterable[Any], prompt: str, completion: str, name: str, split: str) -> list[Example]:
    examples = [
        _example(dict(row), prompt, completion, f"{name}, split {split!r}, row {number}")
        for number, row in enumerate(rows)
    ]
    if not examples:
        raise ValueError(f"data set {name!r} has no rows in split {split!r}; choose another split")
    return examples
