"""Reading what others wrote: JSON and JSONL files, plain or gzipped, with errors that say where they are damaged."""

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class TextFile:
    """The content of a file.

    Attributes
    ----------
    path : Path
        Where it was read.
    text : str
        What it holds, unpacked.
    digest : str
        SHA-256 of the text, in hexadecimal: the same whether it was gzipped or not.
    """

    path: Path
    text: str
    digest: str


def read_text_file(path: Path | str, what: str) -> TextFile:
    """Read a file as UTF-8, gzipped or not whatever its name.

    Parameters
    ----------
    path : path
        The file.
    what : str
        What it should be, for messages.

    Returns
    -------
    TextFile

    Raises
    ------
    ValueError
        If it cannot be read; the message names the file and the reason.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give {what}, plain or gzipped")
    try:
        content = path.read_bytes()
        if content.startswith(_GZIP_MAGIC):
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: damaged or unreadable ({error}); fetch or write it anew") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 at byte {error.start}; {what} is needed") from error
    return TextFile(path, text, hashlib.sha256(content).hexdigest())


def parse_json(file: TextFile) -> Any:
    """Parse a whole file as one JSON value.

    Parameters
    ----------
    file : TextFile
        Its content.

    Returns
    -------
    object

    Raises
    ------
    ValueError
        If it is not JSON; the message says at which line, column and byte it stops making sense.
    """
    try:
        return json.loads(file.text)
    except json.JSONDecodeError as error:
        is_cut = not file.text[error.pos :].strip()
        reason = "it ends too early" if is_cut else error.msg
        raise ValueError(
            f"{file.path}: not valid JSON at line {error.lineno}, column {error.colno} "
            f"(character {error.pos} of {len(file.text)}): {reason}; fetch or write it anew"
        ) from error
    except RecursionError as error:
        raise ValueError(f"{file.path}: not valid JSON for this purpose: it is nested too deeply") from error


def parse_json_lines(file: TextFile) -> Iterator[tuple[str, dict[str, Any]]]:
    """Parse a file of one JSON object a line; empty lines are passed over.

    Parameters
    ----------
    file : TextFile
        Its content.

    Yields
    ------
    where : str
        File and line, for messages.
    row : dict

    Raises
    ------
    ValueError
        If a line is not an object; the message names it.
    """
    for number, line in enumerate(file.text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{file.path}, line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{where}: not valid JSON ({error}); each line holds one whole object") from error
        if not isinstance(row, dict):
            raise ValueError(f"{where}: holds {type(row).__name__}, not an object; each line holds one object")
        yield where, row
