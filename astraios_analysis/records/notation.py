"""Numbers as people write them: one notation for sizes and counts in tables, options and files."""

import re
from decimal import Decimal, InvalidOperation

import pandas as pd

from astraios_analysis.records.refusal import Refusal

COUNT_UNITS = {"1": 1, "k": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_SUFFIXES = {"": "1", "k": "k", "m": "M", "b": "B", "g": "B", "t": "T"}
_GROUPED = re.compile(r"\d{1,3}(,\d{3})+(\.\d+)?")
_NUMBER = re.compile(r"(?P<digits>[\d._]+(?:[eE][+-]?\d+)?)\s*(?P<suffix>[kKmMbBgGtT]?)")


def parse_number(text: str, unit: str = "1") -> Decimal:
    """Return a positive number from ``7B``, ``350M``, ``7e9``, ``7_000_000_000`` or ``1,000,000``, exactly.

    A suffix says its own unit; ``unit`` is that of numbers without one.
    """
    plain = text.strip()
    plain = plain.replace(",", "") if _GROUPED.fullmatch(plain) else plain
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


def column_numbers(column: pd.Series) -> pd.Series:
    """Return a table's column as numbers, in the same notation where a cell is text; what is no number is NaN."""
    column = column if pd.api.types.is_numeric_dtype(column) else column.map(_plain)
    return pd.to_numeric(column, errors="coerce").astype(float)


def _plain(cell: object) -> object:
    try:
        return float(parse_number(cell)) if isinstance(cell, str) else cell
    except Refusal:
        return cell
