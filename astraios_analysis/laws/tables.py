"""Points to fit, from a table with named columns or from records: inputs, outcome and groups, checked."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from astraios_analysis.records.notation import column_numbers, count, find_alike, is_blank, read_truth
from astraios_analysis.records.reading import NOTES, read_frame
from astraios_analysis.records.refusal import Refusal

TRAIN = "train"
LOGARITHM, OF_PERCENT = "above 0, to have a logarithm", "divide percentages by 100"
# The group of a table that has none.
ALL = "all"
# Under these names a table remembers where it comes from and which columns are what.
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
    *,
    labels: Sequence[str] = (),
    blank_group: str | None = None,
) -> pd.DataFrame:
    """Read a table of points and remember which columns are what.

    Parameters
    ----------
    source : path or DataFrame
        A table that is there already, or a file: CSV (cells apart by commas, semicolons, tabs, bars or blanks; lines
        that begin with # are comments), JSON, parquet or Excel, also packed with gzip.
    x, group : str or sequence of str, optional
        Columns of the inputs, in the order of the law's, and of what tells groups apart.
    y : str, optional
        Column of the outcome.
    split : str, optional
        Column that marks rows to fit with ``train``; all others are held out.
    labels : sequence of str, optional
        More columns whose cells are names, whatever they look like; so are those of ``group``.
    blank_group : str, optional
        Name of the group of rows whose cell in such a column is blank; without it they are refused.

    Returns
    -------
    DataFrame
        The table, with the columns' roles in ``attrs``: `astraios_analysis.fit` need not be told them again.
    """
    roles = {"x": _columns(x), "y": y, "group": _columns(group), "split": split}
    if isinstance(source, pd.DataFrame):
        frame, where = source.copy(), "the table"
        twice = frame.columns[frame.columns.duplicated()]
        if len(twice):
            raise Refusal(f"the table has two columns {twice[0]!r}; rename one")
    else:
        frame, where = read_frame(Path(source), [*roles["group"], *labels, split]), str(source)
    require_columns(frame, (*roles["x"], y, *roles["group"], split), where)
    for name in [name for name in (*roles["group"], *labels) if blank_group is not None and name in frame]:
        frame[name] = _named_blanks(frame, name, blank_group, where)
    frame.attrs |= {SOURCE: where, ROLES: roles}
    return frame


def _named_blanks(frame: pd.DataFrame, name: str, blank_group: str, where: str) -> pd.Series:
    """Return a column of groups in which blank cells have a name that no group has."""
    if is_blank(blank_group) or (frame[name].astype(str) == blank_group).any():
        raise Refusal(f"{where}, column {name!r}: {blank_group!r} cannot name the rows without a group; choose another")
    return frame[name].astype(object).mask(frame[name].map(is_blank).astype(bool), blank_group)


def _columns(names: str | Sequence[str] | None) -> tuple[str, ...]:
    return () if names is None else (names,) if isinstance(names, str) else tuple(names)


def require_columns(frame: pd.DataFrame, names: Sequence[str | None], where: str | None = None) -> None:
    """Refuse a table that lacks one of the columns."""
    where = where or frame.attrs.get(SOURCE, "the table")
    for name in names:
        if name is not None and (not isinstance(name, str) or name not in frame):
            raise Refusal(f"{where} has no column {name!r}; it has {', '.join(map(str, frame.columns))}")


def evaluate(expression: str, frame: pd.DataFrame) -> pd.Series:
    """Return an arithmetic expression of columns, such as ``6*N*D``; numbers may be written as anywhere, ``7B``."""
    texts = [name for name in frame.select_dtypes(exclude="number") if isinstance(name, str) and name in expression]
    try:
        numbers = {name: column_numbers(frame[name]) for name in texts}
        found = frame.assign(**{name: own for name, own in numbers.items() if own.notna().any()}).eval(expression)
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
    *,
    positive: bool = False,
) -> Points:
    """Return the points of named columns, or of those that `read_table` was told; ``where`` is the table's name.

    Which rows take part is `take_rows`'; with ``positive`` y has a logarithm.
    """
    roles, where = frame.attrs.get(ROLES, {}), where or frame.attrs.get(SOURCE, "the table")
    x, y = _columns(roles.get("x") if x is None else x), roles.get("y") if y is None else y
    group, split = _columns(roles.get("group") if group is None else group), split or roles.get("split")
    if not x or y is None:
        raise Refusal(f"name the columns of {where} with x and y; it has {', '.join(map(str, frame.columns))}")
    against = x[0] if len(x) == 1 else None
    rows = take_rows(frame, x, y, group, split, positive=positive, against=against, where=where)
    inputs = np.column_stack([rows[name] for name in x])
    labels = read_labels(rows, group, where) if group else None
    notes = tuple(rows.attrs[NOTES])
    return Points(inputs[:, 0] if len(x) == 1 else inputs, rows[y].to_numpy(), labels, x, y, notes, group)


def take_rows(
    table: pd.DataFrame,
    x: Sequence[str],
    y: str,
    group: Sequence[str] = (),
    split: str | None = None,
    *,
    marks: Sequence[str] = (TRAIN,),
    numbers: Sequence[str] = (),
    blank: Sequence[str] = (),
    positive: bool = True,
    against: str | None = None,
    where: str | None = None,
) -> pd.DataFrame:
    """Return the rows of a table that take part, whatever is asked of it, numbers read; `NOTES` say what does not.

    Rows of a column ``held_out`` that are true, and those not marked ``train`` in ``split``, take no part; ``marks``
    after ``train`` are of rows to predict, held out or not. In a table of records, which has a row a score, rows of one
    run that are the same in all that is named are one. Rows in which an input x has no logarithm are left out.

    y (positive, unless told otherwise) and more ``numbers`` are finite; those of ``blank`` are NaN where nothing was
    measured. A loss y falls ``against`` one input, and what looks wrong about it is noted.
    """
    where = where or table.attrs.get(SOURCE, "the table")
    require_columns(table, (*x, y, *group, *numbers, split), where)
    twice = [name for name, times in Counter([*x, y, *group]).items() if times > 1]
    if twice:
        raise Refusal(f"column {twice[0]!r} is named twice; inputs, outcome and groups are columns of their own")
    # Messages name rows by the index; one of several levels may have columns' names.
    is_kept = table.index.is_unique and table.index.nlevels == 1
    frame = table if is_kept else table.reset_index(drop=True)
    frame, notes = _marked_rows(frame, split, marks, where)
    if {"grid", "run_id"} <= set(frame.columns):
        named = [*x, y, *group, *numbers, *([split] if split else [])]
        frame = frame.drop_duplicates(list(dict.fromkeys(["grid", "run_id", *named])))
    if frame.empty:
        raise Refusal(
            f"{where} has no row to fit; every one is held out, or there is none: add rows, or hold out fewer"
        )
    frame = frame.copy()
    for name in x:
        frame[name] = read_numbers(frame, name, where)
        lost = (frame[name] <= 0).to_numpy()
        if lost.all():
            refuse_cells(frame, name, lost, where, LOGARITHM)
        if lost.any():
            notes.append(f"{count(int(lost.sum()), 'row')} with {name} of 0 or less left out: no logarithm")
            frame = frame[~lost].copy()
    for name in dict.fromkeys([y, *numbers]):
        known = ~frame[name].map(is_blank).to_numpy(dtype=bool) if name in blank else np.full(len(frame), True)
        values = np.full(len(frame), np.nan)
        if known.any():
            values[known] = read_numbers(frame[known], name, where, positive=positive and name == y)
        frame[name] = values
    labels = read_labels(frame, group, where)
    known = frame[y].notna().to_numpy()
    notes += warn_of_rows(frame[known], labels[known] if group else None, y)
    if against and known.any():
        measured = frame.loc[known, [against, y]].to_numpy(dtype=float)
        notes += warn_of_axes(*measured.T, labels[known], against, y)
    frame.attrs = {**table.attrs, NOTES: list(dict.fromkeys([*table.attrs.get(NOTES, []), *notes]))}
    return frame


def _marked_rows(
    frame: pd.DataFrame, split: str | None, marks: Sequence[str], where: str
) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows that are not held out, and those to predict, with notes on the others."""
    notes, marked = [], frame[split].astype(str) if split else pd.Series(marks[0], index=frame.index)
    if "held_out" in frame:
        kept = ~held_out_rows(frame) | marked.isin(marks[1:])
        notes += [f"{count(int((~kept).sum()), 'row')} marked held_out left out"] * (not kept.all())
        frame, marked = frame[kept], marked[kept]
    kept, known = marked.isin(marks), " or ".join(marks)
    if len(frame) and not (marked == marks[0]).any():
        found = f"it holds {', '.join(map(str, marked.unique()[:5]))}; mark rows {known}"
        raise Refusal(f"no row of {where} is marked {marks[0]} in column {split!r}; {found}")
    notes += [f"{count(int((~kept).sum()), 'row')} not marked {known} in {split} left out"] * (not kept.all())
    return frame[kept], notes


def read_points(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a table whose columns' roles are known: inputs, outcome, ``group``, ``held_out``.

    Held out are rows that a column ``held_out`` says are, and those not marked ``train`` in the column of the split.
    Rows in which an input has no logarithm are left out, as `take_rows` does.
    """
    roles, where = table.attrs.get(ROLES, {}), table.attrs.get(SOURCE, "the table")
    if not roles.get("x") or roles.get("y") is None:
        raise Refusal("which column is what is not known; read the table with aa.read_table(table, x=..., y=...)")
    found = {name: read_numbers(table, name, where) for name in roles["x"]}
    found |= {roles["y"]: read_numbers(table, roles["y"], where), "group": read_labels(table, roles["group"], where)}
    is_out = held_out_rows(table).to_numpy() if "held_out" in table else np.zeros(len(table), dtype=bool)
    if roles["split"]:
        is_out |= (table[roles["split"]].astype(str) != TRAIN).to_numpy()
    points = pd.DataFrame(found | {"held_out": is_out})
    return points[(points[list(roles["x"])] > 0).all(axis=1)].reset_index(drop=True)


def held_out_rows(frame: pd.DataFrame) -> pd.Series:
    """Return which rows are marked held out; a row that says neither yes nor no is refused."""
    where = frame.attrs.get(SOURCE, "the table")
    said = frame["held_out"].map(read_truth)
    if said.isna().any():
        row, value = _first(frame, "held_out", said.isna().to_numpy())
        raise Refusal(f"{where}, row {row}: column 'held_out' is {value!r}; it must be true or false in every row")
    return said.astype(bool)


def _first(frame: pd.DataFrame, name: str, wrong: np.ndarray) -> tuple[object, object]:
    """Return the row and the value of the first cell that is wrong; rows are counted from 1, as in a file."""
    place = int(np.flatnonzero(wrong)[0])
    label = frame.index[place]
    value = frame[name].iloc[place]
    row = int(label) + 1 if isinstance(label, int | np.integer) else label
    return row, value.item() if isinstance(value, np.generic) else value


def read_numbers(frame: pd.DataFrame, name: str, where: str, *, positive: bool = False) -> np.ndarray:
    """Return a column's numbers; a cell that is missing, infinite, no number or (``positive``) below 0 is refused."""
    try:
        values = column_numbers(frame[name]).to_numpy()
    except Refusal as error:
        raise Refusal(f"{where}, column {name!r}: {error}") from error
    wrong, wanted = ~np.isfinite(values), "a finite number"
    if not wrong.any() and positive:
        wrong, wanted = values <= 0, LOGARITHM
        wanted += "; a loss below 0 is relative to another: take the loss itself" if (values < 0).any() else ""
    refuse_cells(frame, name, wrong, where, wanted)
    return values


def refuse_cells(
    frame: pd.DataFrame, name: str, wrong: np.ndarray, where: str, wanted: str, remedy: str = "correct or leave it out"
) -> None:
    """Refuse a column that has cells that are wrong, naming the first one, and how many are like it."""
    if np.any(wrong):
        row, value = _first(frame, name, np.asarray(wrong))
        shown = "missing" if is_blank(value) else repr(value)
        more = f" ({int(np.sum(wrong))} rows are like it)" if np.sum(wrong) > 1 else ""
        raise Refusal(f"{where}, row {row}, column {name!r}: is {shown}, not {wanted}{more}; {remedy}")


def read_labels(frame: pd.DataFrame, group: Sequence[str], where: str) -> np.ndarray:
    """Return the label of each row's group, those of several columns joined; a blank cell is refused."""
    for name in group:
        blank = frame[name].map(is_blank).to_numpy(dtype=bool)
        if blank.any():
            row, _ = _first(frame, name, blank)
            raise Refusal(
                f"{where}, row {row}, column {name!r}: is blank, so its group is not known; fill it in, leave such "
                f"rows out ({int(blank.sum())} of {len(frame)}), or name their group with --blank-group"
            )
    if not group:
        return np.full(len(frame), "all", dtype=object)
    texts = frame[list(group)].astype(str)
    joined = texts.agg("/".join, axis=1)
    if joined.nunique() < len(texts.drop_duplicates()):
        alike = joined[texts.drop_duplicates().index]
        name = alike[alike.duplicated()].iloc[0]
        raise Refusal(
            f"{where}, columns {', '.join(group)}: two groups would both be called {name!r}; rename one of them"
        )
    return joined.to_numpy(dtype=object)


_FAR_APART = 1e4
# No loss falls by a power of its size as high as this.
_STEEPEST = 2.0


def warn_of_axes(x: np.ndarray, y: np.ndarray, labels: np.ndarray | None, x_name: str, y_name: str) -> list[str]:
    """Return what looks wrong about inputs and losses: columns the wrong way round, or a loss that rises with size."""
    spread, fall = np.log(x.max() / x.min()), np.log(max(y.max(), 1e-300) / max(y.min(), 1e-300))
    is_steep = fall > max(_STEEPEST * spread, np.log(30)) and spread > 0 and spearmanr(x, y).statistic < 0
    if is_steep or np.median(y) > _FAR_APART * np.median(x):
        span = f"{x_name} goes from {x.min():.4g} to {x.max():.4g} and {y_name} from {y.min():.4g} to {y.max():.4g}"
        return [f"warning: {span}: are x and y the wrong way round?"]
    rising, groups = [], np.full(len(x), "") if labels is None else labels
    for label in dict.fromkeys(groups):
        own = groups == label
        if len(np.unique(x[own])) > 2 and np.ptp(y[own]) > 0:
            rising.append(spearmanr(x[own], y[own]).statistic > 0.5)
    if rising and all(rising):
        return [f"warning: {y_name} rises with {x_name}, and losses fall (of a rate, say --rate)"]
    return []


def warn_of_rows(frame: pd.DataFrame, labels: np.ndarray | None, y: str) -> list[str]:
    """Return what looks wrong about rows: groups whose names hardly differ, and rows that stand twice."""
    alike = find_alike([] if labels is None else labels.tolist())
    notes = [f"warning: {' and '.join(alike)} are groups of their own; write them alike if they are one"] * bool(alike)
    # Losses of two runs are never the same to the last digit; rates may be.
    n_twice = int(frame.astype(str).duplicated().sum()) if not frame[y].between(0, 1).all() else 0
    words = "1 row is the same as another; it counts as a run of its own"
    words = words if n_twice == 1 else f"{n_twice} rows are the same as others; they count as runs of their own"
    return notes + [f"warning: {words}"] * bool(n_twice)


def record_points(frame: pd.DataFrame, x: Sequence[str], y: str, group: Sequence[str]) -> Points:
    """Return the points of runs (``to_frame(records, per="run")``); runs without y take no part."""
    if y in frame and frame[y].isna().all():
        raise Refusal(
            f"no run of these records has {y}: released models have scores and no loss. Choose another --grid, "
            "or give a table with --data FILE.csv"
        )
    missing = frame[y].isna() & ~frame["held_out"].astype(bool) if y in frame else np.zeros(len(frame), bool)
    points = select_points(frame[~missing], x, y, group, where="the records")
    notes = (f"{count(int(missing.sum()), 'run')} without {y} take no part",) if missing.any() else ()
    return replace(points, notes=(*points.notes, *notes))
