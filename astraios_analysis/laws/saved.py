"""A fit that can be kept: what predictions need of it, written to a file and read again."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy
from scipy import stats

from astraios_analysis.laws.engine import pool_law
from astraios_analysis.laws.forms import find_law
from astraios_analysis.laws.holdouts import Width, distance_beyond, ordered, reach
from astraios_analysis.laws.law import Law
from astraios_analysis.laws.residuals import check_inputs
from astraios_analysis.laws.tables import ALL, require_columns
from astraios_analysis.records.notation import column_numbers, json_text
from astraios_analysis.records.refusal import Refusal, require_level

FORMAT = 2
KINDS = ("mean", "observation")
N_DRAWS = 200
# Further out than this a law has rarely been tested.
_FAR = 10.0


@dataclass(frozen=True)
class Curve:
    """What predictions need of one fit: parameters with covariance, how far it errs, the range fitted."""

    law: Law
    theta: np.ndarray
    covariance: np.ndarray
    width: Width
    is_log: bool
    x_range: np.ndarray

    def at(self, x: np.ndarray, kind: str, beyond: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the law at inputs and its standard deviation, by the delta method on the scale of the residuals.

        ``beyond`` (n, d) tells how far each lies out where other inputs than the law's own do, too.
        """
        value, slope = self.law.function(x, self.theta), self.law.gradient(x, self.theta)
        slope = slope / value[:, None] if self.is_log else slope
        variance = np.maximum(np.einsum("ni,ij,nj->n", slope, self.covariance, slope), 0.0)
        beyond = ordered(self.law, x) if beyond is None else beyond
        self.width.require_told(beyond)
        return value, self.width.spread(variance, distance_beyond(self.width.last, beyond), kind)

    def interval(self, x: np.ndarray, level: float, kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return values and ends of intervals at inputs: Student's t on the scale of the residuals."""
        value, spread = self.at(x, kind)
        half = stats.t.ppf((1 + level) / 2, self.width.dof) * spread
        if self.is_log:
            # Beyond e^700 there are no numbers, and nothing is known there.
            room = 700.0 - np.abs(np.log(value))
            return value, value * np.exp(-np.minimum(half, room)), value * np.exp(np.minimum(half, room))
        lowest, highest = (-np.inf, np.inf) if self.law.outcome == "loss" else (0.0, 1.0)
        return value, np.maximum(value - half, lowest), np.minimum(value + half, highest)


@dataclass(frozen=True, repr=False)
class SavedFit:
    """A fit read from a file: it predicts as the fit that was saved does.

    Attributes
    ----------
    law : Law
    x_names, y_name, group_names
        Columns of the table that was fitted; a table to predict has the inputs and, of groups, theirs.
    curves : dict of str to Curve
        By group; one named ``all`` where there are no groups, or they share it.
    members : tuple of str
        Groups that share one fit.
    level : float
        Coverage of intervals unless another is asked for.
    warnings : dict of str to list of dict
        By group: ``code`` and ``text`` of what to beware of.
    content : dict
        The file as it is: parameters by name, draws, versions.
    """

    law: Law
    x_names: tuple[str, ...]
    y_name: str
    group_names: tuple[str, ...]
    curves: dict[str, Curve]
    members: tuple[str, ...] = ()
    level: float = 0.95
    warnings: Mapping[str, list[dict[str, str]]] = field(default_factory=dict)
    content: Mapping[str, Any] = field(default_factory=dict)

    @property
    def groups(self) -> tuple[str, ...]:
        """Groups that have a curve; ``all`` where there are none."""
        return self.members or tuple(self.curves)

    def predict(
        self,
        x: float | Sequence | np.ndarray | pd.DataFrame,
        group: str | Sequence[str] | None = None,
        level: float | None = None,
    ) -> pd.DataFrame:
        """Predict the outcome at inputs, as a mean and as a new observation; see `Fit.predict`."""
        names = list(self.x_names)
        x = x[names].to_numpy(dtype=float) if isinstance(x, pd.DataFrame) else np.asarray(x, dtype=float)
        x = check_inputs(self.law, x if len(names) == 1 else np.atleast_2d(x))
        groups = self.groups if group is None else (group,) if isinstance(group, str) else tuple(group)
        level, parts = self.level if level is None else level, []
        require_level(level)
        for name in groups:
            if name not in self.groups:
                raise Refusal(f"no fit for {name!r}; choose from {', '.join(self.groups)}")
            at = np.column_stack([x, np.full(len(x), self.members.index(name) + 1.0)]) if self.members else x
            curve = self.curves[ALL if self.members else name]
            for kind in KINDS:
                value, lower, upper = curve.interval(at, level, kind)
                columns = dict(zip(names, x.reshape(len(x), -1).T, strict=True))
                columns |= {"value": value, "lower": lower, "upper": upper, "level": level, "kind": kind}
                parts.append(
                    pd.DataFrame(
                        {"group": name}
                        | columns
                        | {"reach": reach(x.reshape(len(x), -1), *curve.x_range[: len(names)].T)}
                    )
                )
        return pd.concat(parts, ignore_index=True)

    def predict_rows(self, points: pd.DataFrame, level: float | None = None) -> pd.DataFrame:
        """Predict each row of a table.

        Parameters
        ----------
        points : DataFrame
            With the columns of the inputs and, where groups were fitted, of the groups; without these every group is
            predicted at every row.
        level : float, optional

        Returns
        -------
        DataFrame
            The table's columns, then ``value``, ``mean_lower, mean_upper`` (where the law is), ``lower, upper`` (a new
            point), ``level``, ``reach`` (the extrapolation factor) and ``warnings``, codes joined by ``;``:
            ``extrapolation`` (reach above 1), ``far_extrapolation`` (above 10), and those of the fit, such as
            ``not_identified:alpha``.
        """
        require_columns(points, self.x_names, "the table of points")
        points = points.reset_index(drop=True).assign(**{n: column_numbers(points[n]).to_numpy() for n in self.x_names})
        labelled = set(self.group_names) <= set(points.columns) and self.groups != (ALL,)
        if labelled:
            labels = points[list(self.group_names)].astype(str).agg("/".join, axis=1)
            blocks = [(name, points[labels == name]) for name in dict.fromkeys(labels)]
        else:
            named = self.groups != (ALL,)
            blocks = [(name, points.assign(group=name) if named else points) for name in self.groups]
        parts = []
        for name, rows in blocks:
            found = self.predict(rows, name, level)
            mean, new = (found[found["kind"] == kind].set_index(rows.index) for kind in KINDS)
            ends = {"mean_lower": mean["lower"], "mean_upper": mean["upper"]} | dict(new[["lower", "upper"]].items())
            shown = rows.assign(value=new["value"], **ends, level=new["level"], reach=new["reach"])
            own = [one["code"] for one in self.warnings.get(ALL if self.members else name, [])]
            parts.append(shown.assign(warnings=[";".join(_codes(reach) + own) for reach in shown["reach"]]))
        found = pd.concat(parts)
        return found.sort_index(kind="stable").reset_index(drop=True) if labelled else found.reset_index(drop=True)

    def __repr__(self) -> str:
        return f"SavedFit({self.law.name}: {self.y_name} = {self.law.formula}; groups {', '.join(self.groups)})"


def _codes(reach: float) -> list[str]:
    return [] if reach <= 1 else ["extrapolation"] if reach <= _FAR else ["extrapolation", "far_extrapolation"]


def finite_or_none(numbers: np.ndarray) -> list:
    """Return an array (n, k) as lists, numbers beyond all bounds (of what the points leave open) as null."""
    return [[one if np.isfinite(one) else None for one in row] for row in numbers.tolist()]


def write_fit(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write a fit's content with the versions it was made with."""
    versions = {"python": platform.python_version(), "numpy": np.__version__, "scipy": scipy.__version__}
    versions |= {"astraios": version("astraios")}
    Path(path).write_text(json_text({"format": FORMAT, **content, "versions": versions}) + "\n", encoding="utf-8")


def load_fit(path: str | Path) -> SavedFit:
    """Read a fit that `Fit.save` or ``astraios fit -o`` has written."""
    path = Path(path)
    if not path.is_file():
        raise Refusal(f"{path}: there is no such file; write one with astraios fit -o {path.name}")
    try:
        content = json.loads(path.read_text("utf-8"))
        if content["format"] != FORMAT:
            raise Refusal(f"{path}: is of format {content['format']!r}; this version reads {FORMAT}: fit anew with -o")
        law, members = find_law(content["law"]), tuple(content["members"])
        own = pool_law(law, members) if members else law
        curves = {
            one["group"]: Curve(
                own,
                np.array([one["params"][name] for name in own.names], dtype=float),
                np.array(one["covariance"], dtype=float),
                Width(**one["width"]),
                content["objective"]["residual"] == "log",
                np.array(list(one["range"].values()), dtype=float),
            )
            for one in content["fits"]
        }
        warnings = {one["group"]: one["warnings"] for one in content["fits"]}
        names = (tuple(content["x"]), content["y"], tuple(content["group"]))
        return SavedFit(law, *names, curves, members, float(content["level"]), warnings, content)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, Refusal):
            raise
        raise Refusal(f"{path}: is no saved fit ({error!r}); write one with astraios fit -o {path.name}") from None
