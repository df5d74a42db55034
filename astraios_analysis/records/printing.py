"""What commands print: tables for people, JSON for programs, notes on standard error."""

import json
import sys
from collections.abc import Mapping, Sequence

import pandas as pd

MISSING = "-"


def say(text: str) -> None:
    """Print a note where it does not mix with results: on standard error."""
    print(text, file=sys.stderr)


def table_text(frame: pd.DataFrame) -> str:
    """Return a table as aligned text: numbers right and with four digits, text left, what is missing as a dash.

    A table without rows is its header.
    """
    columns = []
    for position, name in enumerate(frame.columns):
        values = frame.iloc[:, position]
        cells = [str(name), *(_cell(value) for value in values)]
        width = max(map(len, cells))
        is_number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
        columns.append([cell.rjust(width) if is_number else cell.ljust(width) for cell in cells])
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True))


def _cell(value: object) -> str:
    if pd.isna(value):
        return MISSING
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def rows_of(frame: pd.DataFrame) -> list[dict[str, object]]:
    """Return the rows of a table as plain values; what is missing is None."""
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def json_text(value: Sequence[object] | Mapping[str, object]) -> str:
    """Return JSON with every digit of every number; never NaN or infinity, which JSON does not have."""
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
