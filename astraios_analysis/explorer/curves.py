"""Curves through models: one interface over the fit engine, lines by size and averaged laws.

Every curve says where it is, where a new run would fall, which parameters it has, and what speaks for and against it.
The arithmetic is that of `astraios fit`, `predict` and `backtest`; nothing is fitted here in a way of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pandas as pd

from astraios_analysis.explorer.choices import AVERAGED
from astraios_analysis.explorer.law_curves import fit_law_curve
from astraios_analysis.explorer.lines import Fit, fit_by, predict
from astraios_analysis.laws.forms import LAWS, Law
from astraios_analysis.prediction.points import PooledPoints
from astraios_analysis.prediction.stack import Stack, fit_stack
from astraios_analysis.records.counts import inside_unit_interval
from astraios_analysis.records.refusal import Refusal

N_DRAWS = 4000


class Curve(Protocol):
    """A law through the models of each method.

    Attributes
    ----------
    refused : mapping of str to str
        Methods without a curve, and why.
    """

    refused: Mapping[str, str]

    def methods(self) -> tuple[str, ...]:
        """Return the methods that have a curve."""

    def centre(self, method: str, x: np.ndarray) -> np.ndarray:
        """Return a method's curve at inputs, shape (n,)."""

    def interval(self, method: str, x: float, level: float, kind: str) -> tuple[float, float]:
        """Return where the curve (``mean``) or a new run (``observation``) is at an input."""

    def parameters(self, level: float) -> pd.DataFrame:
        """Return ``group, parameter, value, lower, upper, identified, interval``."""

    def certificate(self) -> dict[str, str]:
        """Return what speaks for and against the fit, item by item."""


@dataclass(frozen=True)
class LineCurve:
    """Logit-linear lines by size (`fits`), solved exactly: own slopes, or one slope and effects of sizes."""

    fits: Mapping[str, Fit]
    refused: Mapping[str, str] = field(default_factory=dict)

    def methods(self) -> tuple[str, ...]:
        """Return the methods that have a line."""
        return tuple(self.fits)

    def centre(self, method: str, x: np.ndarray) -> np.ndarray:
        """Return a method's line at inputs."""
        fitted = self.fits[method]
        return fitted.law.unlink(fitted.design(x, method) @ fitted.theta)

    def interval(self, method: str, x: float, level: float, kind: str) -> tuple[float, float]:
        """Return the interval with t quantiles of both variance components."""
        found = predict(self.fits[method], np.array([x]), method, level=level, kind=kind)[0]
        return found.lower, found.upper

    def parameters(self, level: float) -> pd.DataFrame:
        """Return intercepts and slopes with t intervals."""
        rows = []
        for key, fitted in {id(f): f for f in self.fits.values()}.items():
            members = [m for m, f in self.fits.items() if id(f) == key]
            group = members[0] if len(members) == 1 else "all"
            for place, name in enumerate(fitted.names):
                design = np.eye(len(fitted.names))[place][None]
                half = float(fitted.half_width(design, level, observation=False)[0])
                value = float(fitted.theta[place])
                base, _, member = name.partition("[")
                rows.append((member.rstrip("]") or group, base, value, value - half, value + half, "yes", "t"))
        return _parameter_table(rows)

    def certificate(self) -> dict[str, str]:
        """Return degrees of freedom and scatter of each fit."""
        distinct = list({id(f): f for f in self.fits.values()}.values())
        dof, explained = [f.dof for f in distinct], [f.r_squared for f in distinct]
        spread = [np.sqrt(f.size_variance + f.residual_variance) for f in distinct]
        return {
            "form": f"{distinct[0].law.formula} ({distinct[0].law.source})",
            "solution": "least squares on the logit scale, solved exactly: one minimum, no start needed",
            "points": f"{sum(f.n_obs for f in distinct)} in {len(distinct)} fit{'s' if len(distinct) > 1 else ''}",
            "degrees of freedom": f"{_span(dof, '{:.0f}')} (sizes less two: methods of one size share a base model)",
            "scatter on the logit scale": _span(spread, "{:.3f}"),
            "variance explained": _span(explained, "{:.3f}"),
        }


@dataclass(frozen=True)
class AveragedCurve:
    """Laws averaged by left-out sizes: what ``astraios predict`` draws from."""

    stack: Stack
    refused: Mapping[str, str] = field(default_factory=dict)
    _drawn: dict = field(default_factory=dict, repr=False, compare=False)

    def methods(self) -> tuple[str, ...]:
        """Return the methods pooled."""
        return self.stack.methods

    def _draw(self, x: float) -> dict[str, np.ndarray]:
        if x not in self._drawn:
            self._drawn[x] = self.stack.draw(x)
        return self._drawn[x]

    def centre(self, method: str, x: np.ndarray) -> np.ndarray:
        """Return the median of a new run."""
        place = self.stack.methods.index(method)
        return np.array([np.median(self._draw(float(one))["observation"][:, place]) for one in np.asarray(x)])

    def interval(self, method: str, x: float, level: float, kind: str) -> tuple[float, float]:
        """Return quantiles of draws."""
        drawn = self._draw(float(x))[kind][:, self.stack.methods.index(method)]
        lower, upper = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
        return float(lower), float(upper)

    def parameters(self, level: float) -> pd.DataFrame:
        """Return the weights of the laws."""
        rows = [("all", name, weight, np.nan, np.nan, "yes", "weight") for name, weight in self.stack.weights.items()]
        return _parameter_table(rows)

    def certificate(self) -> dict[str, str]:
        """Return the weights of the laws."""
        points = self.stack.points
        return {
            "form": "laws and poolings averaged by left-out sizes",
            "weights": ", ".join(f"{name} {weight:.3f}" for name, weight in self.stack.weights.items()),
            "points": f"{len(points.y)} of {len(self.stack.methods)} methods at {len(points.sizes)} inputs",
        }


def _span(values: list[float], form: str) -> str:
    low, high = form.format(min(values)), form.format(max(values))
    return low if low == high else f"{low} to {high}"


def _parameter_table(rows: list[tuple]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["group", "parameter", "value", "lower", "upper", "identified", "interval"])


def fit_curve(law: str, pooling: str, train: pd.DataFrame, seeds: pd.DataFrame) -> Curve:
    """Fit a law to models.

    Parameters
    ----------
    law, pooling : str
        As in `choices.Choice`.
    train : DataFrame
        Models that take part (`points.COLUMNS`).
    seeds : DataFrame
        Their single runs; they say how far runs scatter where laws are averaged.

    Raises
    ------
    Refusal
        If no method can be fitted; the message is the engine's.
    """
    if train.empty:
        raise Refusal("no model is left to fit: every size is held out; hold out fewer")
    if law == AVERAGED:
        return AveragedCurve(fit_stack(_pooled_points(train, seeds), "logit" if _are_rates(train) else "log"))
    if law == "logit_linear":
        return _lines(LAWS[law], pooling, train)
    return fit_law_curve(LAWS[law], pooling, train)


def _are_rates(train: pd.DataFrame) -> bool:
    return bool(train["n_items"].notna().any())


def _lines(law: Law, pooling: str, train: pd.DataFrame) -> LineCurve:
    frame = train.assign(n_params_base=train["x"])
    if pooling == "shared":
        return LineCurve(fit_by(frame, law, pooling="pooled"))
    fits, refused = {}, {}
    for method, own in frame.groupby("method", sort=False):
        try:
            fits |= fit_by(own, law, pooling="per_method")
        except Refusal as error:
            refused[str(method)] = str(error).removeprefix(f"{method}: ")
    if not fits:
        raise Refusal("; ".join(dict.fromkeys(f"{method}: {text}" for method, text in refused.items())))
    return LineCurve(fits, refused)


def _pooled_points(train: pd.DataFrame, seeds: pd.DataFrame) -> PooledPoints:
    x, y, method = train["x"].to_numpy(dtype=float), train["value"].to_numpy(dtype=float), train["method"].to_numpy(str)
    noise, n_seeds = np.zeros(len(y)), float(train["n_seeds"].astype(float).mean())
    link = np.log
    if _are_rates(train):
        n_items = train["n_items"].to_numpy(dtype=float)
        y = inside_unit_interval(y, n_items)
        noise = 1 / (n_items * y * (1 - y))

        def link(p: np.ndarray) -> np.ndarray:
            return np.log(p / (1 - p))

    return PooledPoints(x, y, method, noise, _seed_variance(train, seeds, link), n_seeds)


def _seed_variance(train: pd.DataFrame, seeds: pd.DataFrame, link) -> float:
    """Return the variance of runs of one model on the link scale, pooled over the models fitted; 0 with one seed."""
    own = seeds.merge(train[["size", "method"]], on=["size", "method"])
    if own.empty:
        return 0.0
    values = own["value"].to_numpy(dtype=float)
    if _are_rates(train):
        values = inside_unit_interval(values, own["n_items"].to_numpy(dtype=float))
    spread = pd.Series(link(values)).groupby([own["size"], own["method"]]).agg(["var", "size"])
    dof = spread["size"] - 1
    return float((spread["var"].fillna(0) * dof).sum() / dof.sum()) if dof.sum() else 0.0
