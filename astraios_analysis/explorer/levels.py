"""Laws of two inputs, followed over the first at values of the second."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from astraios_analysis.curves.surfaces import Surface
from astraios_analysis.prediction.forecast import Intervals, Outcome
from astraios_analysis.prediction.limits import KINDS, LEVELS


@dataclass(frozen=True)
class Levels:
    """A surface and the values of the second input, by the names of their curves; asked as `forecast.Fitted` is."""

    outcome: Outcome
    surface: Surface
    values: dict[str, float]
    share: float = 0.0

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the curves."""
        return tuple(self.values)

    @property
    def x_range(self) -> tuple[float, float]:
        """Smallest and largest first input fitted."""
        return float(self.surface.train[:, 0].min()), float(self.surface.train[:, 0].max())

    @property
    def n_sizes(self) -> int:
        """Number of different first inputs fitted."""
        return len(np.unique(self.surface.train[:, 0]))

    @property
    def weights(self) -> dict[str, float]:
        """Shares of the laws."""
        return self.surface.shares

    def intervals(self, n_params: float, levels: Sequence[float] = LEVELS) -> Intervals:
        """Return medians and intervals of all curves at one value of the first input."""
        found = self.surface.forecast(np.array([[n_params, value] for value in self.values.values()]))
        bounds = {(kind, level): np.array(found.interval(level, kind)) for kind in KINDS for level in levels}
        return Intervals(self.methods, found.median, bounds)

    def predict_rows(self, rows: pd.DataFrame, level: float) -> pd.DataFrame:
        """Return rows with ``predicted, lower, upper, level, reach`` at their own two inputs, ``x`` and ``second``."""
        inputs = rows[["x", "second"]].to_numpy(dtype=float)
        found = self.surface.forecast(inputs)
        lower, upper = found.interval(level)
        ends = {"predicted": found.median, "lower": lower, "upper": upper, "level": level}
        return rows.assign(**ends, reach=self.surface.reach(inputs)).reset_index(drop=True)
