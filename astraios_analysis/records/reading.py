"""Files as they stand: tables of any kind, JSON and TOML; no cell is cut off, guessed, or changed on the way."""

import csv
import gzip
import io
import json
import re
import tomllib
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from astraios_analysis.records.notation import DECIMAL_COMMA, is_blank
from astraios_analysis.records.refusal import RecordError, fail

DELIMITERS = (",", "\t", ";", "|")
NOTES = "notes"
"""Under this name a table's ``attrs`` hold what to say of how it was read."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_GROUPS = re.compile(r"[+-]?\d{1,3}(\.\d{3})+(,\d+)?")
_AMBIGUOUS = re.compile(r"[+-]?[1-9]\d{0,2}\.\d{3}")
_NO_TABLE = "holds no table: a header and at least one row, each on a line of its own"
Lines = list[tuple[int, list[str]]]
Rows = list[tuple[int, dict[str, str]]]
"""Of every row the line, or the row, that it stands on, and its cells by column."""


@dataclass(frozen=True)
class Cells:
    """A table as text: names of columns, rows, and what to say of how it was read."""

    columns: list[str]
    rows: Rows
    notes: list[str] = field(default_factory=list)


def read_bytes(path: Path) -> bytes:
    """Return what a file holds, unpacked where it is packed with gzip."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except FileNotFoundError as error:
        raise fail(path, "there is no such file") from error
    except IsADirectoryError as error:
        raise fail(path, "is a folder; give a file in it") from error
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise fail(path, f"is packed with gzip and cannot be unpacked ({error}); it may be cut off") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise fail(path, f"cannot be read ({reason}); check the path and its permissions") from error


def is_packed(content: bytes) -> bool:
    """Whether a file is parquet, Excel or another archive, and no text."""
    return content[:4] == b"PAR1" or zipfile.is_zipfile(io.BytesIO(content))


def read_text(path: Path, content: bytes | None = None) -> str:
    """Return a file's text, with or without a byte-order mark."""
    content = read_bytes(path) if content is None else content
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise fail(path, f"is not UTF-8 text (byte {error.start}); save it as UTF-8, a table as CSV") from error
    if "\0" in text:
        raise fail(path, f"is not UTF-8 text (byte {text.index(chr(0))} is 0); save it as UTF-8, a table as CSV")
    return text


def parse_json(path: Path, text: str, field: str = "") -> object:
    """Return what JSON text says; an object that names a key twice would lose one of two values, and is refused."""

    def distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
        keys = [key for key, _ in pairs]
        for key in keys if len(set(keys)) < len(keys) else ():
            if keys.count(key) > 1:
                place = ", ".join(filter(None, (field, key)))
                raise fail(path, "stands twice in one object; keep one of the two values", place)
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=distinct)
    except json.JSONDecodeError as error:
        hint = "the file is empty" if not text.strip() else f"line {error.lineno}, column {error.colno}: {error.msg}"
        raise fail(path, f"is not valid JSON ({hint}); it may be cut off: restore it", field) from error
    except RecursionError as error:
        raise fail(path, "is not valid JSON: it is nested too deeply", field) from error
    except RecordError:
        raise
    except ValueError as error:
        raise fail(path, f"holds a number that is too long to read ({error}); correct it", field) from error


def read_json(path: Path) -> dict:
    """Return the object in a JSON file, or refuse a file that is missing, cut off or holds something else."""
    content = parse_json(path, read_text(path))
    if not isinstance(content, dict):
        raise fail(path, f"holds a {type(content).__name__}, not a JSON object; is it the right file?")
    return content


def read_lines(path: Path, text: str | None = None) -> list[tuple[int, dict]]:
    """Return (line number, object) of every line of a JSONL file that is not empty."""
    text, rows = read_text(path) if text is None else text, []
    for number, line in enumerate(text.split("\n"), 1):
        row = parse_json(path, line, f"line {number}") if line.strip() else None
        if row is not None and not isinstance(row, dict):
            raise fail(path, "holds no table: one object a line, or a list of objects", f"line {number}")
        rows += [(number, row)] if row is not None else []
    if not rows:
        raise fail(path, "is empty; is it the right file?")
    return rows


def read_toml(path: Path) -> dict:
    """Return what a TOML file says."""
    try:
        return tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise fail(path, f"is not TOML ({error}); correct it") from error


def read_cells(path: Path, delimiter: str | None = None) -> Cells:
    """Return a table of text: CSV with any of `DELIMITERS` or blanks, JSON, parquet or Excel, also packed with gzip.

    Lines that begin with ``#`` are comments, blank lines and blank columns nothing, and lines of one cell above the
    header titles. In a table whose cells stand apart by semicolons a comma is the decimal mark.
    """
    content = read_bytes(path)
    if is_packed(content):
        return _read_parquet(path, content) if content[:4] == b"PAR1" else _read_excel(path, content)
    text = read_text(path, content)
    if text.lstrip()[:1] in ("{", "["):
        return _from_frame(path, _read_json(path, text))
    return _read_delimited(path, text.replace("\r\n", "\n").replace("\r", "\n"), delimiter)


def read_frame(path: Path, labels: Sequence[str | None] = ()) -> pd.DataFrame:
    """Return a file's table; columns of plain numbers are numbers, all others text, and blank cells missing.

    ``labels`` are columns whose cells are names, whatever they look like.
    """
    cells = read_cells(path)
    columns = {name: [row[name] for _, row in cells.rows] for name in cells.columns}
    frame = pd.DataFrame({name: _typed(values, is_label=name in labels) for name, values in columns.items()})
    frame.attrs[NOTES] = list(cells.notes)
    return frame


def _typed(values: Sequence[str], *, is_label: bool) -> pd.Series:
    known = [value for value in values if not is_blank(value)]
    if is_label or not known or not all(_NUMBER.fullmatch(value) for value in known):
        return pd.Series([None if value == "" else value for value in values], dtype=object)
    numbers = pd.Series([None if is_blank(value) else value for value in values])
    is_whole = len(known) == len(values) and all(value.lstrip("+-").isdigit() for value in known)
    try:
        return numbers.astype("int64" if is_whole else float)
    except (OverflowError, ValueError):
        return numbers.astype(float)


def _read_parquet(path: Path, content: bytes) -> Cells:
    try:
        frame = pd.read_parquet(io.BytesIO(content))
    except Exception as error:
        raise _unreadable(path, error, "parquet", "pyarrow") from error
    named = any(name is not None for name in frame.index.names)
    return _from_frame(path, frame.reset_index() if named else frame)


def _read_excel(path: Path, content: bytes) -> Cells:
    """Return the first sheet that holds a table; texts stay texts."""
    if not any(name.startswith("xl/") for name in zipfile.ZipFile(io.BytesIO(content)).namelist()):
        raise fail(path, "is an archive, and no Excel file; unpack it, and give the table in it")
    try:
        sheets = pd.read_excel(io.BytesIO(content), None, header=None, dtype=object, keep_default_na=False)
    except Exception as error:
        raise _unreadable(path, error, "Excel", "openpyxl") from error
    tables = {}
    for name, sheet in sheets.items():
        rows = [(number, list(map(_shown, row))) for number, row in enumerate(sheet.itertuples(index=False), 1)]
        rows = [(number, row) for number, row in rows if any(row)]
        tables |= {name: rows} if len(rows) > 1 else {}
    if not tables:
        raise fail(path, _NO_TABLE)
    first, *others = tables
    notes = [f"sheet {first!r} is read, and {', '.join(map(repr, others))} not"] if others else []
    return _of_rows(path, tables[first], notes)


def _unreadable(path: Path, error: Exception, kind: str, package: str) -> RecordError:
    """Return the error of a reader of pandas', whose kinds are not documented."""
    if isinstance(error, ImportError):
        return fail(path, f"is an {kind} file; reading it needs {package}: pip install {package}, or save CSV")
    return fail(path, f"cannot be read as {kind} ({error})")


def _read_json(path: Path, text: str) -> pd.DataFrame:
    """Read an object a line, a list of objects, or an object of columns; fields of inner objects as ``outer.inner``."""
    try:
        content = parse_json(path, text)
    except RecordError as error:
        try:
            json.loads(text.lstrip().split("\n")[0])
        except ValueError:
            raise error from None
        content = [row for _, row in read_lines(path, text)]
    if isinstance(content, dict):
        if all(isinstance(value, dict) and value and all(map(str.isdigit, value)) for value in content.values()):
            # As pandas writes a table unless it is told otherwise.
            content = {name: list(value.values()) for name, value in content.items()}
        if all(isinstance(value, list) for value in content.values()):
            try:
                return pd.DataFrame(content)
            except ValueError as error:
                message = f"holds no table ({error}); write one object a line, or a list of objects"
                raise fail(path, message) from error
        content = [content]
    if not all(isinstance(row, dict) for row in content):
        raise fail(path, "holds no table: one object a line, or a list of objects")
    return pd.json_normalize(content)


def _from_frame(path: Path, frame: pd.DataFrame) -> Cells:
    if frame.empty:
        raise fail(path, "holds no row")
    names = require_distinct(path, [str(name).strip() for name in frame.columns])
    rows = enumerate(frame.itertuples(index=False), 1)
    return Cells(names, [(number, dict(zip(names, map(_shown, row), strict=True))) for number, row in rows])


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


def _lines(text: str) -> tuple[list[tuple[int, str]], list[tuple[int, str]]]:
    """Return the lines with their numbers, and apart from them the comments; blank lines between cells are dropped."""
    lines, comments, is_inside = [], [], False
    for number, line in enumerate(io.StringIO(text, newline=""), 1):
        if not is_inside and (line.startswith("#") or not line.strip()):
            comments += [(number, line)] if line.strip() else []
            continue
        is_inside ^= line.count('"') % 2 == 1
        lines.append((number, line))
    return lines, comments


def _read_delimited(path: Path, text: str, delimiter: str | None) -> Cells:
    lines, comments = _lines(text)
    # Excel's own mark of what stands between cells.
    if lines and (mark := re.fullmatch(r"sep=(.)\s*", lines[0][1])):
        lines, delimiter = lines[1:], delimiter or mark[1]
    delimiter = delimiter or _find_delimiter(lines)
    rows, notes = _split(path, lines, delimiter), []
    rows_of_comments = _split(path, comments, delimiter) if len(rows) else []
    alike = [row for row in rows_of_comments if len(row[1]) == len(rows[0][1]) > 1]
    if len(rows) == 1 and len(alike) == len(comments):
        rows += alike
    elif alike and (after := [number for number, _ in alike if number > rows[0][0]]):
        lines = f"line {after[0]} begins" if len(after) == 1 else f"lines {after[0]} and {len(after) - 1} more begin"
        notes.append(f"{lines} with # and is read as a comment; quote the cell if it is a row")
    if len(rows) < 2:
        raise fail(path, _NO_TABLE)
    return _of_rows(path, rows, notes, delimiter)


def _split(path: Path, lines: Sequence[tuple[int, str]], delimiter: str | None) -> Lines:
    """Return the cells of lines, with the number of the line on which each row begins; without delimiter at blanks."""
    if delimiter is None:
        return [(number, line.split()) for number, line in lines]
    rows, reader, start = [], csv.reader((line for _, line in lines), delimiter=delimiter), 0
    try:
        for row in reader:
            rows.append((lines[start][0], [cell.strip() for cell in row]))
            start = reader.line_num
    except csv.Error as error:
        raise fail(path, f"is no table of cells ({error})", f"line {lines[reader.line_num - 1][0]}") from error
    return rows


def _find_delimiter(lines: Sequence[tuple[int, str]]) -> str | None:
    """Return what stands between cells, outside of quotes, equally often in most lines; None where it is blanks."""
    plain = [re.sub(r'"[^"]*"', "", line) for _, line in lines]
    found = {}
    for one in DELIMITERS:
        counts = Counter(line.count(one) for line in plain if one in line)
        found[one] = max(((n_lines, often) for often, n_lines in counts.items()), default=(0, 0))
    best = max(DELIMITERS, key=found.get)
    if found[best] > (0, 0):
        return best
    widths = {len(line.split()) for line in plain}
    return None if len(widths) == 1 and widths != {1} else DELIMITERS[0]


def _of_rows(path: Path, rows: Lines, notes: list[str], delimiter: str | None = None) -> Cells:
    """Return the table of rows of cells, whose header may stand below a title."""
    widest = max(sum(map(bool, row)) for _, row in rows)
    while len(rows) > 2 and widest > 1 and sum(map(bool, rows[0][1])) == 1:
        notes.append(f"line {rows[0][0]}, {next(filter(None, rows[0][1]))!r}, is read as a title")
        rows = rows[1:]
    (first, header), rows = rows[0], rows[1:]
    while header and not header[-1] and not any(any(row[len(header) - 1 :]) for _, row in rows):
        header = header[:-1]
    if header and all(_NUMBER.fullmatch(name) for name in header):
        message = f"holds numbers, not names of columns: {', '.join(header[:5])}; write a header above it"
        raise fail(path, message, f"line {first}")
    for number, row in rows:
        if any(row[len(header) :]):
            message = f"has {len(row)} cells and the header {len(header)}; quote cells that hold {delimiter!r}"
            raise fail(path, message, f"line {number}")
    rows = [(number, (row + [""] * len(header))[: len(header)]) for number, row in rows]
    kept = [i for i, name in enumerate(header) if name or any(row[i] for _, row in rows)]
    names = require_distinct(path, [header[i] or f"column {i + 1}" for i in kept])
    found = [(number, dict(zip(names, (row[i] for i in kept), strict=True))) for number, row in rows]
    if delimiter == ";" and any(DECIMAL_COMMA.fullmatch(cell) for _, row in found for cell in row.values()):
        for number, row in found:
            row |= {name: _with_point(path, f"line {number}, column {name!r}", cell) for name, cell in row.items()}
        notes.append("a comma is read as the decimal mark")
    return Cells(names, found, notes)


def _with_point(path: Path, place: str, cell: str) -> str:
    """Return a cell with a decimal point where it is a number with a comma, and without dots between thousands."""
    if _AMBIGUOUS.fullmatch(cell):
        message = f"{cell!r} may be {cell.replace('.', '')} or {cell.replace('.', ',')}; write it without a dot"
        raise fail(path, message, place)
    if _GROUPS.fullmatch(cell) and (cell.count(".") > 1 or "," in cell):
        cell = cell.replace(".", "")
    return cell.replace(",", ".") if DECIMAL_COMMA.fullmatch(cell) else cell
