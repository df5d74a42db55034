"""Files of JSON that others wrote, plain or gzipped: read with an error that says where they are damaged."""

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astraios_analysis.records.refusal import Refusal

_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class TextFile:
    """A file's text, unpacked, and its SHA-256: the same whether it was gzipped or not."""

    path: Path
    text: str
    digest: str


def read_text_file(path: Path | str, what: str) -> TextFile:
    """Read a file as UTF-8, gzipped or not whatever its name."""
    path = Path(path)
    if not path.is_file():
        raise Refusal(f"{path}: no such file; give {what}, plain or gzipped")
    try:
        content = path.read_bytes()
        if content.startswith(_GZIP_MAGIC):
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise Refusal(f"{path}: damaged or unreadable ({error}); fetch or write it anew") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Refusal(f"{path}: not UTF-8 at byte {error.start}; {what} is needed") from error
    return TextFile(path, text, hashlib.sha256(content).hexdigest())


def parse_json(file: TextFile) -> Any:
    """Parse a whole file as one JSON value."""
    try:
        return json.loads(file.text)
    except json.JSONDecodeError as error:
        is_cut = not file.text[error.pos :].strip()
        reason = "it ends too early" if is_cut else error.msg
        raise Refusal(
            f"{file.path}: not valid JSON at line {error.lineno}, column {error.colno} "
            f"(character {error.pos} of {len(file.text)}): {reason}; fetch or write it anew"
        ) from error
    except RecursionError as error:
        raise Refusal(f"{file.path}: not valid JSON for this purpose: it is nested too deeply") from error


def parse_json_lines(file: TextFile) -> Iterator[tuple[str, dict[str, Any]]]:
    """Parse a file of one JSON object a line; empty lines are passed over."""
    for number, line in enumerate(file.text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{file.path}, line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise Refusal(f"{where}: not valid JSON ({error}); each line holds one whole object") from error
        if not isinstance(row, dict):
            raise Refusal(f"{where}: holds {type(row).__name__}, not an object; each line holds one object")
        yield where, row
