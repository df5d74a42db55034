"""Held-out rows of a table: those marked ``train`` are fitted, those marked ``extrapolate`` predicted and scored."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from astraios_analysis.curves.mixture import Forecast, mean_weights
from astraios_analysis.laws.tables import ALL, TRAIN
from astraios_analysis.prediction.limits import LEVELS, score_values
from astraios_analysis.records.counts import inside_unit_interval

EXTRAPOLATE = "extrapolate"
# Of rows to fit and rows to predict.
MARKS = (TRAIN, EXTRAPOLATE)
CURVE_PROCEDURE = (
    "power law, power law with floor and rectified law averaged by their posterior over exponents, floors, a rough "
    "remainder that grows with the distance from the last training row, and noise; priors chosen by the evidence of "
    "all training rows; prediction intervals hold fit, form and residual variance, scaled by what inner forecasts "
    "of all curves erred; few sizes with methods by pooled laws, mixed with curves; fewest by lines"
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
        mean[name] = mean_weights([g[name] for g in groups])
    return mean
