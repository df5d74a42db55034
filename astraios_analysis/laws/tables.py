"""Points to fit, from a table with named columns or from records: inputs, outcome and groups, checked."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from astraios_analysis.records.refusal import Refusal

TRAIN = "train"


@dataclass(frozen=True)
class Points:
    """Points that a law can be fitted to.

    Attributes
    ----------
    x : ndarray, shape (n,) or (n, d)
    y : ndarray, shape (n,)
    group : ndarray of str, shape (n,), or None
        Label of each point's group; labels of several columns are joined by ``/``.
    x_names : tuple of str
    y_name : str
    notes : tuple of str
        What was left out, and why.
    """

    x: np.ndarray
    y: np.ndarray
    group: np.ndarray | None
    x_names: tuple[str, ...]
    y_name: str
    notes: tuple[str, ...] = ()


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a CSV file; lines that begin with # are comments.

    Raises
    ------
    Refusal
        If the file does not exist or is no table.
    """
    path = Path(path)
    if not path.is_file():
        raise Refusal(f"{path}: there is no such file")
    try:
        return pd.read_csv(path, comment="#", skip_blank_lines=True)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise Refusal(f"{path}: is not a CSV table ({str(error).strip()})") from error


def select_points(
    frame: pd.DataFrame,
    x: Sequence[str],
    y: str,
    group: Sequence[str] = (),
    split: str | None = None,
    where: str = "the table",
) -> Points:
    """Return the points of named columns.

    Parameters
    ----------
    frame : DataFrame
    x, group : sequence of str
        Columns of the inputs, and of what tells groups apart.
    y : str
    split : str, optional
        Column that says which rows take part: those marked ``train``, all others are held out.
    where : str
        What to call the table in messages.

    Raises
    ------
    Refusal
        If a column is missing, a value of an input or the outcome is missing or not a number, or no row is left.
    """
    for name in (*x, y, *group, *([split] if split else [])):
        if name not in frame:
            raise Refusal(f"{where} has no column {name!r}; it has {', '.join(map(str, frame.columns))}")
    notes = []
    if split:
        kept = frame[split].astype(str) == TRAIN
        if not kept.any():
            found = ", ".join(map(str, frame[split].unique()[:5]))
            raise Refusal(f"no row of {where} is marked {TRAIN} in column {split!r}; it holds {found}")
        notes.append(f"{int((~kept).sum())} rows not marked {TRAIN} in {split} are held out")
        frame = frame[kept]
    if frame.empty:
        raise Refusal(f"{where} has no row to fit")
    columns = [_numbers(frame, name, where) for name in (*x, y)]
    labels = None
    if group:
        labels = frame[list(group)].astype(str).agg("/".join, axis=1).to_numpy(dtype=object)
    inputs = columns[0] if len(x) == 1 else np.column_stack(columns[:-1])
    return Points(inputs, columns[-1], labels, tuple(x), y, tuple(notes))


def _numbers(frame: pd.DataFrame, name: str, where: str) -> np.ndarray:
    values = pd.to_numeric(frame[name], errors="coerce").to_numpy(dtype=float)
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        shown = frame[name].iloc[wrong[0]]
        raise Refusal(
            f"{where}: column {name!r} has {len(wrong)} value{'s' if len(wrong) > 1 else ''} that are missing or no "
            f"finite number; the first is {shown} in row {int(wrong[0]) + 1}: leave such rows out"
        )
    return values


def record_points(frame: pd.DataFrame, x: Sequence[str], y: str, group: Sequence[str]) -> Points:
    """Return the points of runs (``to_frame(records, per="run")``); held-out runs and those without y take no part.

    Raises
    ------
    Refusal
        If no run has the outcome, or a column is missing.
    """
    if y in frame and frame[y].isna().all():
        raise Refusal(
            f"no run of these records has {y}: released models have scores and no loss. Choose another --grid, "
            "or give a table with --data FILE.csv"
        )
    notes = []
    held_out = frame["held_out"].astype(bool)
    if held_out.any():
        notes.append(f"{int(held_out.sum())} held-out runs take no part")
    frame = frame[~held_out]
    if y in frame and frame[y].isna().any():
        notes.append(f"{int(frame[y].isna().sum())} runs without {y} take no part")
        frame = frame[frame[y].notna()]
    points = select_points(frame, x, y, group, where="the records")
    return Points(points.x, points.y, points.group, points.x_names, points.y_name, tuple(notes))
