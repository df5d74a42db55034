"""Held-out rows of a table: those marked ``train`` are fitted, those marked ``extrapolate`` predicted and scored."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from astraios_analysis.curves.forecast import Forecast
from astraios_analysis.laws.tables import ALL, SOURCE, TRAIN, read_labels, read_numbers
from astraios_analysis.prediction.limits import LEVELS, score_values
from astraios_analysis.records.counts import inside_unit_interval
from astraios_analysis.records.refusal import Refusal

EXTRAPOLATE = "extrapolate"
CURVE_PROCEDURE = (
    "power law, power law with floor and rectified law averaged by their posterior over exponents, floors, a rough "
    "remainder that grows with the distance from the last training row, and noise; priors chosen by the evidence of "
    "all training rows; prediction intervals hold fit, form and residual variance, scaled by what inner forecasts "
    "of all curves erred; few sizes with methods also by pooled laws, mixed by rows left out; fewest by lines"
)


@dataclass(frozen=True)
class Group:
    """Rows of one group to fit and to predict."""

    key: dict[str, str]
    train: pd.DataFrame
    test: pd.DataFrame

    @property
    def label(self) -> str:
        """Its name, as `read_labels` gives it to rows."""
        return "/".join(self.key.values()) or ALL


def split_rows(
    frame: pd.DataFrame,
    inputs: Sequence[str],
    y: str,
    group: Sequence[str],
    split: str,
    *,
    may_be_zero: bool = False,
    keep_all: bool = False,
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Return training and held-out rows, and notes on what was left out.

    Groups of which nothing is held out take no part, unless all are kept; rows of the others stand together.
    """
    marks = frame[split].astype(str)
    others, known = ~marks.isin([TRAIN, EXTRAPOLATE]), f"{TRAIN!r} to fit and {EXTRAPOLATE!r} to predict"
    shown = ", ".join(map(repr, marks[others].unique()[:5]))
    if others.all():
        raise Refusal(f"column {split!r} holds {shown}; mark rows {known}")
    frame, notes = usable_rows(frame[~others], inputs, y, may_be_zero=may_be_zero)
    if others.any():
        notes.append(
            f"{int(others.sum())} rows whose {split} is {shown}, neither {TRAIN!r} nor {EXTRAPOLATE!r}, left out"
        )
    labels = read_labels(frame, group, frame.attrs.get(SOURCE, "the table"))
    all_labels, asked = dict.fromkeys(labels), set(labels[(frame[split] == EXTRAPOLATE).to_numpy()])
    if not asked:
        raise Refusal(f"no row is marked {EXTRAPOLATE} in column {split!r}; mark the rows to predict")
    notes += [f"{label}: nothing is marked {EXTRAPOLATE}; left out" for label in all_labels if label not in asked]
    if not keep_all:
        frame = pd.concat([frame[labels == label] for label in all_labels if label in asked])
    is_train = frame[split] == TRAIN
    return frame[is_train], frame[~is_train], notes


def usable_rows(
    frame: pd.DataFrame, inputs: Sequence[str], y: str, *, may_be_zero: bool = False
) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows whose inputs are positive, numbers read, and a note on the others."""
    notes, where = [], frame.attrs.get(SOURCE, "the table")
    found = {name: read_numbers(frame, name, where) for name in inputs}
    found[y] = read_numbers(frame, y, where, positive=not may_be_zero)
    frame = frame.assign(**found)
    zero = (frame[list(inputs)] <= 0).any(axis=1)
    if zero.any():
        notes.append(f"{int(zero.sum())} rows with {' or '.join(inputs)} of 0 or less have no logarithm; left out")
    return frame[~zero], notes


def score_group(group: Group, forecast: Forecast, y: str, n_items: str | float | None = None) -> dict:
    """Return one group's ``group, n_train, n_test, weights`` and the scores of its forecast (`score_values`).

    Rates are scored half an item away from 0 and 1 where their items are known.
    """
    measured = group.test[y].to_numpy(dtype=float)
    if n_items is not None:
        items = group.test[n_items].to_numpy(dtype=float) if isinstance(n_items, str) else float(n_items)
        measured = inside_unit_interval(measured, items)
    bounds = {level: forecast.interval(level) for level in LEVELS}
    scored = score_values(measured, np.log(forecast.median), bounds)
    return {"group": group.key, "n_train": len(group.train), **scored, "weights": forecast.weights}


def summarise(groups: Sequence[dict]) -> dict:
    """Return the plain means over groups of each number that `score_group` gives."""
    mean = {name: float(np.mean([g[name] for g in groups])) for name in ("rmse_log", "mean_abs_pct", "interval_score")}
    for name in ("coverage", "weights"):
        keys = dict.fromkeys(key for g in groups for key in g[name])
        mean[name] = {key: float(np.mean([g[name].get(key, 0.0) for g in groups])) for key in keys}
    return mean
