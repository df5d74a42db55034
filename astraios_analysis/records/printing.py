"""What is printed and written: tables for people, JSON and TOML for programs, notes on standard error."""

import json
import re
import sys
from collections.abc import Mapping, Sequence

import pandas as pd

MISSING = "-"
# As text, with commas between thousands; nothing, and what is missing, go with numbers.
_NUMBER = re.compile(r"(-?\d[\d,]*(\.\d*)?(e[+-]?\d+)?|-|)")


def count(n: int, noun: str) -> str:
    """Return a number of things in words."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


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
        width = max(map(len, cells))
        is_number = all(_NUMBER.fullmatch(cell) for cell in cells[1:])
        columns.append([cell.rjust(width) if is_number else cell.ljust(width) for cell in cells])
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True))


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
