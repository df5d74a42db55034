"""Points to fit, from a table with named columns or from records: inputs, outcome and groups, checked."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from astraios_analysis.records.notation import column_numbers
from astraios_analysis.records.refusal import Refusal

TRAIN = "train"
# The group of a table that has none.
ALL = "all"
# Under these names a table read with `read_table` remembers where it comes from and which columns are what.
SOURCE, ROLES = "source", "roles"


@dataclass(frozen=True)
class Points:
    """Points that a law can be fitted to: x, shape (n,) or (n, d), y (n,), and the label of each point's group (n,).

    Labels of several columns are joined by ``/``. ``notes`` say what was left out, and why.
    """

    x: np.ndarray
    y: np.ndarray
    group: np.ndarray | None
    x_names: tuple[str, ...]
    y_name: str
    notes: tuple[str, ...] = ()
    group_names: tuple[str, ...] = ()


def read_table(
    source: str | Path | pd.DataFrame,
    x: str | Sequence[str] | None = None,
    y: str | None = None,
    group: str | Sequence[str] | None = None,
    split: str | None = None,
) -> pd.DataFrame:
    """Read a table of points and remember which columns are what.

    Parameters
    ----------
    source : path or DataFrame
        A CSV file, in which lines that begin with # are comments, or a table that is there already.
    x, group : str or sequence of str, optional
        Columns of the inputs, in the order of the law's, and of what tells groups apart.
    y : str, optional
        Column of the outcome.
    split : str, optional
        Column that marks rows to fit with ``train``; all others are held out.

    Returns
    -------
    DataFrame
        The table, with the columns' roles in ``attrs``: `astraios_analysis.fit` need not be told them again.

    Raises
    ------
    Refusal
        If the file does not exist or is no table, or a column is missing.
    """
    frame, where = (
        (source.copy(), "the table") if isinstance(source, pd.DataFrame) else (_read_csv(source), str(source))
    )
    roles = {"x": _columns(x), "y": y, "group": _columns(group), "split": split}
    _require_columns(frame, (*roles["x"], y, *roles["group"], split), where)
    frame.attrs |= {SOURCE: where, ROLES: roles}
    return frame


def _read_csv(path: str | Path) -> pd.DataFrame:
    path = Path(path)
    if not path.is_file():
        raise Refusal(f"{path}: there is no such file")
    try:
        return pd.read_csv(path, comment="#", skip_blank_lines=True)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise Refusal(f"{path}: is not a CSV table ({str(error).strip()})") from error


def _columns(names: str | Sequence[str] | None) -> tuple[str, ...]:
    return () if names is None else (names,) if isinstance(names, str) else tuple(names)


def _require_columns(frame: pd.DataFrame, names: Sequence[str | None], where: str) -> None:
    for name in names:
        if name is not None and name not in frame:
            raise Refusal(f"{where} has no column {name!r}; it has {', '.join(map(str, frame.columns))}")


def evaluate(expression: str, frame: pd.DataFrame) -> pd.Series:
    """Return an arithmetic expression of columns, such as ``6*N*D``."""
    try:
        found = frame.eval(expression)
        return pd.Series(np.broadcast_to(np.asarray(found, dtype=float), len(frame)), index=frame.index)
    except Exception as error:  # whatever pandas makes of what a person wrote
        known = ", ".join(map(str, frame.columns))
        raise Refusal(f"{expression!r} cannot be computed from {known} ({error}); write, for example, 6*N*D") from None


def derive(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Return a table with new columns computed from its own.

    Parameters
    ----------
    table : DataFrame
    *columns : str
        ``NAME=EXPRESSION``, such as ``C=6*N*D``: arithmetic, in which later ones may use earlier ones.

    Returns
    -------
    DataFrame

    Raises
    ------
    Refusal
        If an expression cannot be computed, or a column of the name is there.
    """
    table = table.copy() if columns else table
    for text in columns:
        name, _, expression = (part.strip() for part in text.partition("="))
        if not name or not expression:
            raise Refusal(f"{text!r} is no column; write NAME=EXPRESSION, such as C=6*N*D")
        if name in table:
            raise Refusal(f"the table has a column {name!r} already; give the new one another name")
        table[name] = evaluate(expression, table)
    return table


def select_points(
    frame: pd.DataFrame,
    x: str | Sequence[str] | None = None,
    y: str | None = None,
    group: str | Sequence[str] | None = None,
    split: str | None = None,
    where: str | None = None,
) -> Points:
    """Return the points of named columns, or of those that `read_table` was told; ``where`` is the table's name.

    Rows of a column ``held_out`` that are true, and those not marked ``train`` in ``split``, take no part. In a table
    of records, which has a row a score, a run whose x and y are the same in all of its rows is one point.
    """
    roles, where = frame.attrs.get(ROLES, {}), where or frame.attrs.get(SOURCE, "the table")
    x, y = _columns(roles.get("x") if x is None else x), roles.get("y") if y is None else y
    group, split = _columns(roles.get("group") if group is None else group), split or roles.get("split")
    if not x or y is None:
        raise Refusal(f"name the columns of {where} with x and y; it has {', '.join(map(str, frame.columns))}")
    _require_columns(frame, (*x, y, *group, split), where)
    notes = []
    if "held_out" in frame:
        wrong = frame.loc[~frame["held_out"].isin([True, False]), "held_out"]
        if len(wrong):
            raise Refusal(f"{where}: column 'held_out' holds {wrong.iloc[0]!r}; it must be true or false in every row")
        is_held_out = frame["held_out"].astype(bool)
        notes += [f"{int(is_held_out.sum())} held-out rows take no part"] if is_held_out.any() else []
        frame = frame[~is_held_out]
    if split:
        kept = frame[split].astype(str) == TRAIN
        if not kept.any():
            found = ", ".join(map(str, frame[split].unique()[:5]))
            raise Refusal(f"no row of {where} is marked {TRAIN} in column {split!r}; it holds {found}")
        notes.append(f"{int((~kept).sum())} rows not marked {TRAIN} in {split} are held out")
        frame = frame[kept]
    if {"grid", "run_id"} <= set(frame.columns):
        frame = frame.drop_duplicates(list(dict.fromkeys(["grid", "run_id", *x, y, *group])))
    if frame.empty:
        raise Refusal(f"{where} has no row to fit")
    columns = [_numbers(frame, name, where) for name in (*x, y)]
    labels = frame[list(group)].astype(str).agg("/".join, axis=1).to_numpy(dtype=object) if group else None
    inputs = columns[0] if len(x) == 1 else np.column_stack(columns[:-1])
    return Points(inputs, columns[-1], labels, x, y, tuple(notes), group)


def _numbers(frame: pd.DataFrame, name: str, where: str) -> np.ndarray:
    values = column_numbers(frame[name]).to_numpy()
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        shown = frame[name].iloc[wrong[0]]
        raise Refusal(
            f"{where}: column {name!r} has {len(wrong)} value{'s' if len(wrong) > 1 else ''} that are missing or no "
            f"finite number; the first is {shown} in row {int(wrong[0]) + 1}: leave such rows out"
        )
    return values


def record_points(frame: pd.DataFrame, x: Sequence[str], y: str, group: Sequence[str]) -> Points:
    """Return the points of runs (``to_frame(records, per="run")``); runs without y take no part."""
    if y in frame and frame[y].isna().all():
        raise Refusal(
            f"no run of these records has {y}: released models have scores and no loss. Choose another --grid, "
            "or give a table with --data FILE.csv"
        )
    missing = frame[y].isna() & ~frame["held_out"].astype(bool) if y in frame else np.zeros(len(frame), bool)
    points = select_points(frame[~missing], x, y, group, where="the records")
    notes = (f"{int(missing.sum())} runs without {y} take no part",) if missing.any() else ()
    return replace(points, notes=(*points.notes, *notes))
