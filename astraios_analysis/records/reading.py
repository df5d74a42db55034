"""Tables from files of any kind, as they stand there: no cell is cut off, guessed, or changed on the way."""

import csv
import gzip
import io
import json
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from astraios_analysis.records.notation import MISSING
from astraios_analysis.records.refusal import FileProblem, RecordError, Refusal

DELIMITERS = (",", "\t", ";", "|")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+([eE][+-]?\d+)?")
_GROUPS = re.compile(r"[+-]?\d{1,3}(\.\d{3})+(,\d+)?")
_AMBIGUOUS = re.compile(r"[+-]?[1-9]\d{0,2}\.\d{3}")


@dataclass(frozen=True)
class Cells:
    """A table as text: names of columns, and the cells of every row with the line, or the row, that it stands on."""

    columns: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]
    notes: tuple[str, ...] = ()


def fail(path: Path, message: str, field: str = "") -> RecordError:
    """Return the error that says what is wrong with one line or column of a file."""
    return RecordError([FileProblem(path, field, message)])


def read_bytes(path: Path) -> bytes:
    """Return what a file holds, unpacked where it is packed with gzip."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise fail(path, "there is no such file") from error
    except IsADirectoryError as error:
        raise fail(path, "is a folder; give a table in it") from error
    except OSError as error:
        raise fail(path, f"cannot be read ({error.strerror}); check the path and its permissions") from error
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError) as error:
        raise fail(path, f"is packed with gzip and cannot be unpacked ({error}); it may be cut off") from error


def is_packed(content: bytes) -> bool:
    """Whether a file is parquet or Excel, and no text."""
    return content[:4] == b"PAR1" or zipfile.is_zipfile(io.BytesIO(content))


def read_text(path: Path, content: bytes) -> str:
    """Return a file's text, with or without a byte-order mark."""
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise fail(path, f"is not UTF-8 text (byte {error.start}); save the table as UTF-8") from error


def read_cells(path: Path, delimiter: str | None = None) -> Cells:
    """Return a table of text: CSV with any of `DELIMITERS`, JSON, parquet or Excel, also packed with gzip.

    Lines that begin with ``#`` are comments, blank lines and blank columns nothing. In a table whose cells stand apart
    by semicolons a comma is the decimal mark.
    """
    content = read_bytes(path)
    if is_packed(content):
        return _from_frame(path, _read_packed(path, content))
    text = read_text(path, content)
    if text.lstrip()[:1] in ("{", "["):
        return _from_frame(path, _read_json(path, text))
    return _read_delimited(path, text, delimiter)


def read_frame(path: Path, labels: Sequence[str | None] = ()) -> pd.DataFrame:
    """Return a file's table; columns of plain numbers are numbers, all others text, and blank cells missing.

    ``labels`` are columns whose cells are names, whatever they look like.
    """
    cells = read_cells(path)
    columns = zip(*(row for _, row in cells.rows), strict=True)
    named = zip(cells.columns, columns, strict=True)
    return pd.DataFrame({name: _typed(values, is_label=name in labels) for name, values in named})


def _typed(values: Sequence[str], *, is_label: bool) -> pd.Series:
    known = [value for value in values if value not in MISSING]
    if is_label or not known or not all(_NUMBER.fullmatch(value) for value in known):
        return pd.Series([None if value == "" else value for value in values], dtype=object)
    numbers = pd.Series([None if value in MISSING else value for value in values])
    is_whole = len(known) == len(values) and all(value.lstrip("+-").isdigit() for value in known)
    try:
        return numbers.astype("int64" if is_whole else float)
    except (OverflowError, ValueError):
        return numbers.astype(float)


def _read_packed(path: Path, content: bytes) -> pd.DataFrame:
    is_parquet = content[:4] == b"PAR1"
    try:
        read = pd.read_parquet if is_parquet else pd.read_excel
        return read(io.BytesIO(content))
    except ImportError as error:
        kind, package = ("parquet", "pyarrow") if is_parquet else ("Excel", "openpyxl")
        raise fail(
            path, f"is an {kind} file; reading it needs {package}: pip install {package}, or save CSV"
        ) from error
    except Exception as error:  # what the readers of other formats raise is not documented
        raise fail(path, f"cannot be read as {'parquet' if is_parquet else 'Excel'} ({error})") from error


def _read_json(path: Path, text: str) -> pd.DataFrame:
    """Read an object a line, a list of objects, or an object of columns."""
    try:
        content = json.loads(text)
    except ValueError:
        content = [_parse_line(path, number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if isinstance(content, dict):
        columns = all(isinstance(value, list) for value in content.values())
        content = content if columns else [content]
    elif not all(isinstance(row, dict) for row in content):
        raise fail(path, "holds no table: one object a line, or a list of objects")
    try:
        return pd.DataFrame(content)
    except ValueError as error:
        raise fail(path, f"holds no table ({error})") from error


def _parse_line(path: Path, number: int, line: str) -> object:
    try:
        return json.loads(line)
    except ValueError as error:
        raise fail(path, f"is not valid JSON ({error}); one object a line is wanted", f"line {number}") from error


def _from_frame(path: Path, frame: pd.DataFrame) -> Cells:
    if frame.empty:
        raise fail(path, "holds no row")
    cells = [[_shown(value) for value in row] for row in frame.itertuples(index=False)]
    names = require_distinct(path, [str(name).strip() for name in frame.columns])
    return Cells(tuple(names), tuple((number, tuple(row)) for number, row in enumerate(cells, 1)))


def _shown(value: object) -> str:
    """Return a cell as text that reads back as the same value."""
    if isinstance(value, dict | list):
        return json.dumps(value)
    if value is None or value is pd.NaT or value is pd.NA or value != value:
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return str(value).strip()


def require_distinct(path: Path, names: list[str]) -> list[str]:
    """Return names of columns, or refuse one that stands twice."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise fail(path, f"stands twice in the header; rename one: {', '.join(names)}", f"column {twice[0]!r}")
    return names


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Return lines with their numbers, without comments and blank lines between cells."""
    is_inside = False
    for number, line in enumerate(io.StringIO(text, newline=""), 1):
        if not is_inside and (line.startswith("#") or not line.strip()):
            continue
        is_inside ^= line.count('"') % 2 == 1
        yield number, line


def _read_delimited(path: Path, text: str, delimiter: str | None) -> Cells:
    lines = list(_lines(text.replace("\r\n", "\n").replace("\r", "\n")))
    if len(lines) < 2:
        raise fail(path, "holds no table: a header and at least one row, each on a line of its own")
    delimiter = delimiter or _find_delimiter(lines[0][1])
    table, ends = [], []
    reader = csv.reader((line for _, line in lines), delimiter=delimiter)
    try:
        for row in reader:
            table.append([cell.strip() for cell in row])
            ends.append(reader.line_num)
    except csv.Error as error:
        raise fail(path, f"is no table of cells ({error})", f"line {lines[reader.line_num - 1][0]}") from error
    numbers = [lines[start][0] for start in [0, *ends[:-1]]]
    header = _header(path, table, numbers)
    rows = []
    for number, row in zip(numbers[1:], table[1:], strict=True):
        if len(row) > len(header) and any(row[len(header) :]):
            message = f"has {len(row)} cells and the header {len(header)}; quote cells that hold {delimiter!r}"
            raise fail(path, message, f"line {number}")
        rows.append((number, (row + [""] * len(header))[: len(header)]))
    kept = [i for i, name in enumerate(header) if name or any(row[i] for _, row in rows)]
    names = require_distinct(path, [header[i] or f"column {i + 1}" for i in kept])
    rows = [(number, tuple(row[i] for i in kept)) for number, row in rows]
    notes: tuple[str, ...] = ()
    if delimiter == ";" and any(_DECIMAL_COMMA.fullmatch(cell) for _, row in rows for cell in row):
        rows, notes = _with_points(path, names, rows), ("a comma is read as the decimal mark",)
    return Cells(tuple(names), tuple(rows), notes)


def _find_delimiter(header: str) -> str:
    """Return what stands between the cells of a header, outside its quotes."""
    plain = re.sub(r'"[^"]*"', "", header)
    return max(DELIMITERS, key=plain.count)


def _header(path: Path, table: list[list[str]], numbers: list[int]) -> list[str]:
    header = table[0]
    while header and not header[-1] and not any(any(row[len(header) - 1 :]) for row in table[1:]):
        header = header[:-1]
    if len(table) < 2:
        raise fail(path, "holds no table: a header and at least one row, each on a line of its own")
    if header and all(_NUMBER.fullmatch(name) for name in header):
        message = f"holds numbers, not names of columns: {', '.join(header[:5])}; write a header above it"
        raise fail(path, message, f"line {numbers[0]}")
    return header


def _with_points(
    path: Path, names: Sequence[str], rows: Iterable[tuple[int, tuple[str, ...]]]
) -> list[tuple[int, tuple[str, ...]]]:
    """Return rows whose numbers have a decimal point where they had a comma, and no dots between thousands."""
    found = []
    for number, row in rows:
        cells = []
        for name, cell in zip(names, row, strict=True):
            if _AMBIGUOUS.fullmatch(cell):
                message = f"{cell!r} may be {cell.replace('.', '')} or {cell.replace('.', ',')}; write it without a dot"
                raise fail(path, message, f"line {number}, column {name!r}")
            if _GROUPS.fullmatch(cell) and (cell.count(".") > 1 or "," in cell):
                cell = cell.replace(".", "")
            cells.append(cell.replace(",", ".") if _DECIMAL_COMMA.fullmatch(cell) else cell)
        found.append((number, tuple(cells)))
    return found


def require_file(path: str | Path) -> Path:
    """Return a path as one of a file that is there."""
    path = Path(path)
    if path.is_dir():
        raise Refusal(f"{path}: is a folder; give a table in it")
    if not path.exists():
        raise Refusal(f"{path}: there is no such file")
    return path
