"""Predict the curve of a family's largest model from its smaller ones: a robust line in log size at each x.

At each x the smaller models' log losses lie on a line in log size; its slope is drawn towards the common slope of all
families of the same task, because three or four sizes alone do not bound it, and a model that lies off its family's
line at every x (another tokenizer, another language) counts less. The line is mixed with no change from the family's
largest model as errs least when the same is predicted one size earlier (the largest training size of every family held
out). The width of intervals comes from those errors, each in units of what the line's own leverage lets expect: few
sizes and a long way to go make a prediction less sure than many and a short one. A scale from few families is itself
unsure, hence Student's t.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from astraios_analysis.curves.mixture import Forecast, student_forecast
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.tables.backtest import Group

SIZE_PROCEDURE = (
    "a line in log size at each x, its slope drawn towards that of all families, models weighted robustly, mixed with "
    "no change by what erred least one size earlier; the width "
    "of intervals is the error of the same prediction for the largest training size of each family, scaled by "
    "leverage; Student's t with as many degrees of freedom as there are families"
)
# In squared log sizes: a family whose sizes spread over this much has half the say on its slope.
_SLOPE_PRIOR = 0.5
_MIN_SCATTER = 0.01
# Neighbours in size that are off the shared slope by so much of the log loss, and so many times the usual.
_MIXED, _MIXED_TIMES = 0.1, 4.0
# Shares of the line beside no change, and how many families must have shown an error before it is any but 1.
_TRUSTS, _MIN_FAMILIES = (1.0, 0.75, 0.5, 0.25, 0.0), 5


def _table(rows: pd.DataFrame, x: str, y: str, size: str) -> pd.DataFrame:
    logs = rows.assign(_y=np.log(rows[y]), _model=rows.groupby([size, "_model"]).ngroup())
    return logs.pivot_table(index=[size, "_model"], columns=x, values="_y").dropna(axis=1)


def common_slopes(tables: Sequence[pd.DataFrame]) -> pd.Series:
    """Return the slope of log loss in log size at each x, pooled over families."""
    top, bottom = None, 0.0
    for table in tables:
        p = np.log(table.index.get_level_values(0).to_numpy(dtype=float))
        p = p - p.mean()
        part = pd.Series(p @ (table - table.mean()).to_numpy(), index=table.columns)
        top = part if top is None else top.add(part, fill_value=0.0)
        bottom += p @ p
    if top is None or bottom == 0:
        raise Refusal("no family has two training sizes; a slope in size needs at least two")
    return top / bottom


def predict_at(table: pd.DataFrame, slopes: pd.Series, n_params: float) -> tuple[pd.Series, float]:
    """Predict the log loss of a model of ``n_params`` at each x of a family's table, by x.

    The second value is the leverage: the variance of the line there in units of a model's scatter around it.
    """
    p = np.log(table.index.get_level_values(0).to_numpy(dtype=float) / n_params)
    z, prior = table.to_numpy(), slopes.reindex(table.columns).to_numpy()
    weights = np.ones(len(p))
    for _ in range(20):
        left = np.array([[weights.sum(), weights @ p], [weights @ p, weights @ p**2 + _SLOPE_PRIOR]])
        right = np.stack([weights @ z, (weights * p) @ z + _SLOPE_PRIOR * prior])
        level, slope = np.linalg.solve(left, right)
        scatter = np.sqrt(np.mean((z - level - np.outer(p, slope)) ** 2, axis=1))
        weights = np.minimum(1, max(np.median(scatter), _MIN_SCATTER) / np.maximum(scatter, 1e-12))
    return pd.Series(level, index=table.columns), float(np.linalg.inv(left)[0, 0])


def forecast_families(
    train: pd.DataFrame, target: pd.DataFrame, x: str, y: str, group: Sequence[str], size: str, family: str
) -> list[tuple[Group, Forecast]]:
    """Forecast rows of a family's larger models from its smaller ones; the targets' outcomes are not looked at.

    Columns of ``group`` whose values each belong to one size name models; the others (a task) are kept apart.
    """
    if train.empty:
        raise Refusal("no family has training rows; a slope in size needs two training sizes of a family")
    tasks, parts = _tasks(train, pd.concat([train, target]), group, size, family)
    found = []
    for key, rows in parts:
        asked = target
        for name, value in zip(tasks, key, strict=True):
            asked = asked[asked[name] == value]
        found += _forecast_task(rows, asked, dict(zip(tasks, map(str, key), strict=True)), (x, y, size, family))
    if not found:
        raise Refusal("no family has rows to predict and training sizes to predict them from")
    return found


def _tasks(train: pd.DataFrame, rows: pd.DataFrame, group: Sequence[str], size: str, family: str):
    """Return the columns that name tasks, as all rows have it, and training rows by task, with their models' names."""
    spans = {name: rows.groupby([family, name])[size].nunique().max() > 1 for name in group}
    tasks = [name for name in group if spans[name]]
    models = [name for name in group if not spans[name] and name != family]
    train = train.assign(_model=train[models].astype(str).agg("/".join, axis=1) if models else "")
    return tasks, [((), train)] if not tasks else list(train.groupby(tasks, sort=False))


def mixed_families(train: pd.DataFrame, x: str, y: str, group: Sequence[str], size: str, family: str) -> list[str]:
    """Return notes on families two of whose models, next to each other in size, lie on different lines.

    They differ from the slope that families share by more than a tenth of the loss, at the median over x, and by many
    times what neighbours do elsewhere.
    """
    _, parts = _tasks(train, train, group, size, family)
    found = []
    for key, rows in parts:
        tables = {name: _table(part, x, y, size) for name, part in rows.groupby(family, sort=False)}
        try:
            slopes, off = common_slopes(list(tables.values())), []
        except Refusal:
            continue
        for name, table in tables.items():
            sizes = table.index.get_level_values(0).to_numpy(dtype=float)
            step = np.outer(np.diff(np.log(sizes)), slopes.reindex(table.columns))
            excess = np.median(np.diff(table.to_numpy(), axis=0) - step, axis=1) if table.shape[1] else np.empty(0)
            off += [(name, one, two, abs(e)) for one, two, e in zip(sizes[:-1], sizes[1:], excess, strict=False)]
        usual = np.median([e for *_, e in off]) if off else 0.0
        found += [
            f"{'/'.join(map(str, (*key, name)))}: the models of {one:g} and {two:g} differ by {100 * np.expm1(e):.0f} "
            "% more than the slope in size says: does the family mix two kinds of models? Give each its own family"
            for name, one, two, e in off
            if e > max(_MIXED, _MIXED_TIMES * usual)
        ]
    return found


def _forecast_task(rows: pd.DataFrame, target: pd.DataFrame, key: dict, columns: tuple[str, ...]) -> list:
    x, y, size, family = columns
    train = dict(list(rows.groupby(family, sort=False)))
    tables = {name: _table(part, x, y, size) for name, part in train.items()}
    # Models that were measured at no common input have no line.
    tables = {name: table for name, table in tables.items() if table.shape[1]}
    slopes = common_slopes(list(tables.values()))
    scale, n_errors, trust = _inner_scale(tables)
    found = []
    for name, asked in target.groupby(family, sort=False):
        for n_params, own in asked.groupby(size) if name in tables else ():
            level, leverage = predict_at(tables[name], slopes, float(n_params))
            own, level = own[own[x].isin(level.index)], trust * level + (1 - trust) * _nearest(tables[name])
            if own.empty:
                continue
            centre = level.reindex(own[x]).to_numpy()
            spread = np.full(len(centre), scale * np.sqrt(1 + leverage))
            forecast = student_forecast(centre, spread, n_errors, "size_line", scale)
            forecast = replace(forecast, weights={"size_line": trust, "no_change": 1 - trust})
            found.append((Group({**key, family: str(name)}, train[name], own), forecast))
    return found


def _nearest(table: pd.DataFrame) -> pd.Series:
    """Return the log losses of a family's largest model, those of no change."""
    sizes = table.index.get_level_values(0)
    return table[sizes == sizes.max()].mean()


def _inner_scale(tables: dict[str, pd.DataFrame]) -> tuple[float, int, float]:
    """Return models' scatter that errors one size earlier show, how many these are, and the share of the line.

    Each family's largest training size is predicted from the smaller ones; the error's variance is the scatter's times
    1 + leverage. The share of the line beside no change is the one that errs least there, over a task's families.
    """
    moved, truth, leverages = [], [], []
    for name, table in tables.items():
        sizes = table.index.get_level_values(0)
        inner = {k: t[t.index.get_level_values(0) < t.index.get_level_values(0).max()] for k, t in tables.items()}
        if len(inner[name]) == 0:
            continue
        slopes = common_slopes([t for t in inner.values() if len(t)])
        level, leverage = predict_at(inner[name], slopes, float(sizes.max()))
        last = _nearest(inner[name])
        moved.append((level - last).to_numpy())
        truth.append((_nearest(table) - last).to_numpy())
        leverages.append(leverage)
    if not moved:
        raise Refusal("no family has two training sizes, so nothing shows how wrong a prediction by size is")

    def squares(share: float) -> np.ndarray:
        return np.array([np.mean((share * m - t) ** 2) for m, t in zip(moved, truth, strict=True)])

    trust = 1.0 if len(moved) < _MIN_FAMILIES else min(_TRUSTS, key=lambda share: squares(share).mean())
    # A share that was chosen takes a degree of freedom.
    dof = len(moved) - (len(moved) >= _MIN_FAMILIES)
    return float(np.sqrt(np.sum(squares(trust) / (1 + np.array(leverages))) / dof)), dof, trust
