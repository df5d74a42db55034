"""Compare the CSV twins of figures: measured values exactly, values from fits within a tolerance.

``python -m astraios_analysis.render.twins COMMITTED NEW`` ends with status 0 if all agree, else with 1 and the
differences.
"""

import argparse
import csv
import math
import sys
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path

from astraios_analysis.figures import FIGURES, find_spec
from astraios_analysis.records.refusal import Refusal

# Fits and resampling go through linear algebra, which differs in the last digits between machines.
RELATIVE, ABSOLUTE = 1e-4, 1e-6
_MISSING = {"", "nan", "na", "<na>", "none"}


def compare(committed_dir: str | Path, new_dir: str | Path) -> list[str]:
    """Return what differs between the CSV twins of two folders.

    Files, columns and numbers of rows must be the same. Columns that `FIGURES` names as fitted agree if
    ``|a - b| <= max(1e-4 max(|a|, |b|), 1e-6)``; all others must be equal, numbers by value (0.10 is 0.1). A missing
    value equals a missing value.

    Parameters
    ----------
    committed_dir, new_dir : str or Path
        Folders of ``<figure>.csv``.

    Returns
    -------
    list of str
        One line a difference, with file, row (from 1, below the header), column and both values; of a column's
        differing rows the first is shown and the others are counted.

    Raises
    ------
    Refusal
        If a folder does not exist or holds no CSV file.
    """
    committed, new = _twins(committed_dir), _twins(new_dir)
    differences = [f"{name}: is in {committed_dir} only" for name in sorted(committed.keys() - new.keys())]
    differences += [f"{name}: is in {new_dir} only" for name in sorted(new.keys() - committed.keys())]
    for name in sorted(committed.keys() & new.keys()):
        named = find_spec(Path(name).stem, FIGURES)
        fitted = named[0].fitted_columns if named else ()
        differences += [f"{name}: {text}" for text in _compare_files(committed[name], new[name], fitted)]
    return differences


def _twins(folder: str | Path) -> dict[str, Path]:
    folder = Path(folder)
    if not folder.is_dir():
        raise Refusal(f"{folder} is not a folder; give the folder that holds the figures' CSV twins")
    found = {path.name: path for path in folder.glob("*.csv")}
    if not found:
        raise Refusal(f"{folder} holds no CSV file; there is nothing to compare")
    return found


def _compare_files(committed: Path, new: Path, fitted: Sequence[str]) -> list[str]:
    try:
        (header, *rows), (new_header, *new_rows) = _read(committed), _read(new)
    except Refusal as error:
        return [str(error)]
    if header != new_header:
        gone = [name for name in header if name not in new_header]
        added = [name for name in new_header if name not in header]
        parts = [f"columns gone: {', '.join(gone)}"] if gone else []
        parts += [f"columns new: {', '.join(added)}"] if added else []
        return ["; ".join(parts) or f"columns in another order: {', '.join(header)} -> {', '.join(new_header)}"]
    found = [f"number of rows: committed {len(rows)}, new {len(new_rows)}"] if len(rows) != len(new_rows) else []
    for place, column in enumerate(header):
        pairs = [(row[place], other[place]) for row, other in zip(rows, new_rows, strict=False)]
        tolerant = column in fitted
        wrong = [i for i, (a, b) in enumerate(pairs) if not (_close(a, b) if tolerant else _equal(a, b))]
        if wrong:
            a, b = pairs[wrong[0]]
            rest = f" (and {len(wrong) - 1} more rows)" if len(wrong) > 1 else ""
            found.append(f"row {wrong[0] + 1}, column {column}: committed {a!r}, new {b!r}{rest}")
    return found


def _read(path: Path) -> list[list[str]]:
    """Return a table's header and rows as text: nothing is guessed, so nothing is lost before it is compared."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.reader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Refusal(f"{path} cannot be read: {error}") from error
    if not lines:
        raise Refusal(f"{path} is empty; even a table without rows has a header")
    for number, row in enumerate(lines[1:], start=1):
        if len(row) != len(lines[0]):
            raise Refusal(f"{path}: row {number} has {len(row)} values for {len(lines[0])} columns")
    return lines


def _number(text: str) -> Decimal | None:
    try:
        return Decimal(text)
    except InvalidOperation:
        return None


def _equal(a: str, b: str) -> bool:
    if a == b or (a.lower() in _MISSING and b.lower() in _MISSING):
        return True
    x, y = _number(a), _number(b)
    return x is not None and y is not None and x == y


def _close(a: str, b: str) -> bool:
    if _equal(a, b):
        return True
    x, y = _number(a), _number(b)
    return x is not None and y is not None and math.isclose(x, y, rel_tol=RELATIVE, abs_tol=ABSOLUTE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare two folders named on the command line, print the outcome and return the exit status.

    Parameters
    ----------
    arguments : sequence of str, optional
        ``COMMITTED NEW``; those of the process by default.

    Returns
    -------
    int
        0 if all twins agree, 1 if not or if a folder cannot be compared.
    """
    parser = argparse.ArgumentParser(
        prog="python -m astraios_analysis.render.twins",
        description="Compare the CSV twins of figures: measured columns exactly, fitted columns to 1e-4 relative.",
    )
    parser.add_argument("committed", metavar="COMMITTED", help="folder with the committed CSV files")
    parser.add_argument("new", metavar="NEW", help="folder with the CSV files of a new rendering")
    options = parser.parse_args(arguments)
    try:
        differences = compare(options.committed, options.new)
    except Refusal as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if differences:
        print("\n".join(differences))
        print(f"{len(differences)} differences between {options.committed} and {options.new}", file=sys.stderr)
        return 1
    print(f"{len(_twins(options.new))} CSV twins agree")
    return 0


if __name__ == "__main__":
    sys.exit(main())
