"""Tables and values as a page shows them: four digits, a dash for what is missing."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

SIGNIFICANT_DIGITS = 4
_NO_VALUE = "–"


def describe_table(path: Path, fitted: Sequence[str]) -> dict[str, object]:
    """Return a CSV twin as columns and rows of text, every row of it."""
    try:
        # Text that looks like a missing value to pandas ("none", "NA") is text here: only an empty cell is missing.
        frame = pd.read_csv(path, keep_default_na=False, na_values=[""]).convert_dtypes()
    except pd.errors.EmptyDataError:
        frame = pd.DataFrame()
    numeric = {name: _is_numeric(frame[name]) for name in frame.columns}
    columns = [{"name": name, "numeric": numeric[name], "fitted": name in fitted} for name in frame.columns]
    text = {name: [format_value(value) for value in frame[name]] for name in frame.columns}
    return {"columns": columns, "rows": list(zip(*text.values(), strict=True))}


def _is_numeric(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype)


def format_value(value: object) -> str:
    """Return a value as a reader wants it: four significant digits, thousands separated, a dash for a missing one.

    Parameters
    ----------
    value : object
        Of a table's cell.

    Returns
    -------
    str
        ``0.1235`` for 0.123456, ``1,137,207,296`` for an integer, ``yes`` for True, ``–`` for a missing value.
    """
    if value is None or pd.isna(value):
        return _NO_VALUE
    if pd.api.types.is_bool(value):
        return "yes" if value else "no"
    if pd.api.types.is_integer(value):
        return f"{value:,}"
    if pd.api.types.is_float(value):
        large = 10**SIGNIFICANT_DIGITS <= abs(value) < 1e15
        return f"{value:,.0f}" if large else f"{value:.{SIGNIFICANT_DIGITS}g}"
    return str(value)


def in_words(value: object) -> str:
    """Return a value, or several with commas between them, as `format_value` writes them."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(in_words(item) for item in value)
    return format_value(value)
