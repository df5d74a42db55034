"""Numbers as people write them, in tables, options and files; and what is printed and written.

Printed are tables for people, JSON and TOML for programs, notes on standard error.
"""

import json
import re
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from numbers import Real

import numpy as np
import pandas as pd

from astraios_analysis.records.refusal import Refusal

COUNT_UNITS = {"1": 1, "k": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_SUFFIXES = {"": "1", "k": "k", "m": "M", "b": "B", "g": "B", "t": "T"}
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+([eE][+-]?\d+)?\s*[kKmMbBgGtT%]?")
_MISSING = frozenset(("", "na", "n/a", "#n/a", "<na>", "nan", "null", "-"))
_TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}\s*[kKmMbBgGtT%]?")
_GROUPED = re.compile(r"\d{1,3}(,\d{3})+(\.\d+)?")
# Spaces of several widths and apostrophes, which part thousands and nothing else.
_SPACED = re.compile(r"\d{1,3}(?:(?P<mark>[ \u00a0\u2009\u202f'’])\d{3})(?:(?P=mark)\d{3})*(\.\d+)?")
_NUMBER = re.compile(r"(?P<digits>[\d._]+(?:[eE][+-]?\d+)?)\s*(?P<suffix>[kKmMbBgGtT]?)")


def is_blank(cell: object) -> bool:
    """Whether a cell holds nothing; ``none`` in small letters is a word."""
    text = cell.strip() if isinstance(cell, str) else cell
    return text is None or text is pd.NA or text != text or str(text).lower() in _MISSING or text == "None"


def read_truth(cell: object) -> bool | None:
    """Return what a cell answers, yes or no; None where neither."""
    return _TRUTHS.get(str(cell).strip().lower().removesuffix(".0"))


def parse_number(text: str, unit: str = "1") -> Decimal:
    """Return a positive number from ``7B``, ``350M``, ``7e9``, ``7_000_000_000`` or ``1,000,000``, exactly.

    A suffix says its own unit; ``unit`` is that of numbers without one.
    """
    plain = text.strip()
    plain = re.sub(r"[^\d.]", "", plain) if _GROUPED.fullmatch(plain) or _SPACED.fullmatch(plain) else plain
    match = _NUMBER.fullmatch(plain)
    try:
        number = Decimal(match["digits"].replace("_", "")) if match else None
    except InvalidOperation:
        number = None
    if match is None or number is None:
        raise Refusal(f"{text!r} is not a count, such as 1137207296, 1,137,207,296, 1.137e9 or 1.137B")
    return number * COUNT_UNITS[_SUFFIXES[match["suffix"].lower()] if match["suffix"] else unit]


def parse_count(text: str, unit: str = "1") -> int:
    """Return a whole number in the same notation."""
    value = parse_number(text, unit)
    if value != int(value):
        raise Refusal(f"{text!r} is not a whole number; say its unit (k, M or B) where it has one")
    return int(value)


def split_sizes(text: str) -> list[str]:
    """Return the sizes in a list, ``7b,13b,34b``; commas that belong to a number, ``1,000,000``, part nothing."""
    found: list[str] = []
    for part in text.split(","):
        is_group = found and re.fullmatch(r"\d{3}(\.\d+)?", part) and re.fullmatch(r"\s*\d{1,3}(,\d{3})*", found[-1])
        found[-1:] = [f"{found[-1]},{part}"] if is_group else [*found[-1:], part]
    for size in found:
        if _THOUSANDS.fullmatch(size.strip()) and not size.endswith("000"):
            plain = size.strip().replace(",", "")
            raise Refusal(f"{size.strip()!r} may be {plain} or two sizes; write {plain}, or repeat --size")
    return [size.strip() for size in found if size.strip()]


def column_numbers(column: pd.Series) -> pd.Series:
    """Return a table's column as numbers, in the same notation where a cell is text; what is no number is NaN.

    Where a comma is the decimal mark in some cell it is in all; cells that could be either are refused. ``45 %`` is
    0.45 where all cells are percentages.
    """
    kind = column.dtype.kind
    if kind in "bcmM":
        # Truths, complex numbers and dates are no numbers, though they can be turned into some.
        return pd.Series(float("nan"), index=column.index)
    if not pd.api.types.is_numeric_dtype(column):
        column = with_points(column.map(lambda cell: cell.strip() if isinstance(cell, str) else cell))
        percent = column.map(lambda cell: isinstance(cell, str) and cell.endswith("%"))
        if percent.all() and len(column):
            return column.map(lambda cell: _plain(cell[:-1])).pipe(pd.to_numeric, errors="coerce").astype(float) / 100
        column = column.map(_plain)
    return pd.to_numeric(column, errors="coerce").astype(float)


def with_points(column: pd.Series) -> pd.Series:
    """Return a column of cells with decimal points, where a comma is the decimal mark in some cell."""
    if not _is_decimal([cell for cell in column if isinstance(cell, str) and "," in cell]):
        return column
    return column.map(lambda cell: cell.replace(",", ".") if isinstance(cell, str) else cell)


def _is_decimal(texts: list[str]) -> bool:
    """Whether the comma in a column's cells is a decimal mark, and not between thousands."""
    doubtful = [text for text in texts if _THOUSANDS.fullmatch(text)]
    decimal = [text for text in texts if DECIMAL_COMMA.fullmatch(text) and text not in doubtful]
    grouped = [text for text in texts if _GROUPED.fullmatch(text.lstrip("+-")) and text not in doubtful + decimal]
    if decimal and grouped:
        raise Refusal(f"commas stand for two things, in {decimal[0]!r} and {grouped[0]!r}; write numbers without")
    if doubtful and not decimal and not grouped and not all(text.endswith("000") for text in doubtful):
        text = next(text for text in doubtful if not text.endswith("000"))
        raise Refusal(f"{text!r} may be {text.replace(',', '')} or {text.replace(',', '.')}; write it without a comma")
    return bool(decimal)


def _plain(cell: object) -> object:
    if not isinstance(cell, str):
        return cell if isinstance(cell, Real | Decimal) and not isinstance(cell, bool | np.bool_) else None
    try:
        return float(parse_number(cell))
    except Refusal:
        return cell


MISSING = "-"
# As text, with commas between thousands; nothing, and what is missing, go with numbers.
_NUMERAL = re.compile(r"(-?\d[\d,]*(\.\d*)?(e[+-]?\d+)?|-|)")


def count(n: int, noun: str) -> str:
    """Return a number of things in words."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def find_alike(names: Iterable[str]) -> list[str]:
    """Return in words the names that differ in nothing but capitals and signs."""
    found: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        found.setdefault("".join(filter(str.isalnum, name.casefold())) or name, []).append(name)
    return [" and ".join(map(repr, same)) for same in found.values() if len(same) > 1]


def say(text: str) -> None:
    """Print a note where it does not mix with results: on standard error."""
    print(text, file=sys.stderr)


def table_text(table: pd.DataFrame | Sequence[Mapping[str, object]]) -> str:
    """Return a table, or its rows, as aligned text: numbers right and with four digits, text left, a dash for nothing.

    A table without rows is its header.
    """
    frame, columns = pd.DataFrame(table), []
    for position, name in enumerate(frame.columns):
        cells = [str(name), *map(_cell, frame.iloc[:, position])]
        spaces = [" " * (max(map(_width, cells)) - _width(cell)) for cell in cells]
        is_number = all(_NUMERAL.fullmatch(cell) for cell in cells[1:])
        columns.append([s + cell if is_number else cell + s for s, cell in zip(spaces, cells, strict=True)])
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True))


def _width(text: str) -> int:
    """Return how many columns of a terminal a text takes: wide letters take two, marks on letters none."""
    marks = ("Mn", "Me", "Cf")
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else unicodedata.category(c) not in marks for c in text)


def _cell(value: object) -> str:
    if isinstance(value, list | tuple):
        return " ".join(map(str, value)) or MISSING
    if pd.isna(value):
        return MISSING
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def rows_of(frame: pd.DataFrame) -> list[dict[str, object]]:
    """Return the rows of a table as plain values; what is missing is None."""
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def json_text(value: Sequence[object] | Mapping[str, object]) -> str:
    """Return JSON with every digit of every number; never NaN or infinity, which JSON does not have."""
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)


_BARE = re.compile(r"[A-Za-z0-9_-]+")


def toml_lines(content: Mapping[str, object], place: tuple[str, ...] = ()) -> list[str]:
    """Return the lines of a TOML table: its values, then the tables in it; empty ones are left out."""
    tables = {name: value for name, value in content.items() if isinstance(value, Mapping)}
    lists = {name: value for name, value in content.items() if isinstance(value, list) and value}
    lists = {name: value for name, value in lists.items() if all(isinstance(one, Mapping) for one in value)}
    plain = {name: value for name, value in content.items() if name not in {**tables, **lists}}
    # What JSON writes of texts, numbers, truths and lists is TOML.
    lines = [f"{_toml_key(name)} = {json.dumps(value, allow_nan=False, default=str)}" for name, value in plain.items()]
    for name, value in tables.items():
        own = toml_lines(value, (*place, name))
        has_values = any(not isinstance(one, Mapping) for one in value.values())
        lines += ["", f"[{'.'.join(map(_toml_key, (*place, name)))}]", *own] if has_values else own
    for name, values in lists.items():
        for value in values:
            lines += ["", f"[[{'.'.join(map(_toml_key, (*place, name)))}]]", *toml_lines(value, (*place, name))]
    return lines


def _toml_key(name: str) -> str:
    return name if _BARE.fullmatch(name) else json.dumps(name)
