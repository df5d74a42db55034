"""Curves of one law of the registry, each method alone or pooled, with intervals that an inner hold-out widens."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy import stats

from astraios_analysis.laws.engine import LawFit, fit_groups, fit_law, number_groups, own_parameters, pool_law
from astraios_analysis.laws.forms import Law
from astraios_analysis.laws.intervals import Interval, certify, delta_intervals
from astraios_analysis.records.refusal import Refusal


@dataclass(frozen=True)
class LawCurve:
    """A law of the registry (`law_fits`).

    Attributes
    ----------
    fits : mapping of str to LawFit
        By method; methods that are pooled have the same one.
    names : tuple of str
        Methods of a pooled fit in the order of their numbers; empty for fits of their own.
    scatter : mapping of str to float
        For each method how far a new run falls from the law, as a standard deviation of the log: the larger of the
        residuals' and the error at the largest fitted size when the law is fitted without it.
    dof : mapping of str to int
        Degrees of freedom of intervals: sizes less the parameters of the law's shape and one level, at least 1.
    inner : str
        What was held out inside, in words.
    """

    fits: Mapping[str, LawFit]
    names: tuple[str, ...]
    scatter: Mapping[str, float]
    dof: Mapping[str, int]
    inner: str
    refused: Mapping[str, str] = field(default_factory=dict)

    def methods(self) -> tuple[str, ...]:
        """Return the methods that have a curve."""
        return tuple(self.fits)

    def centre(self, method: str, x: np.ndarray) -> np.ndarray:
        """Return the law at inputs."""
        return self.fits[method].predict(_inputs(self.names, method, x))

    def interval(self, method: str, x: float, level: float, kind: str) -> tuple[float, float]:
        """Return the interval by the delta method on the log scale, with t quantiles."""
        fitted, at = self.fits[method], _inputs(self.names, method, np.array([x]))
        value = float(fitted.predict(at)[0])
        slope = fitted.law.gradient(at, fitted.theta)[0] / value
        # What widens the scatter of runs widens what is known of the parameters as well.
        widening = (self.scatter[method] / fitted.residual_scale) ** 2 if fitted.residual_scale > 0 else 1.0
        variance = float(slope @ fitted.covariance @ slope) * widening
        variance += self.scatter[method] ** 2 if kind == "observation" else 0.0
        half = float(stats.t.ppf((1 + level) / 2, self.dof[method]) * np.sqrt(variance))
        # An exponent beyond this is as good as infinite: the data say nothing there.
        return value * np.exp(-min(half, 700.0)), value * np.exp(min(half, 700.0 - abs(np.log(value))))

    def distinct(self) -> dict[str, LawFit]:
        """Return each fit once, by its method, or ``all`` for a pooled one."""
        return {"all": next(iter(self.fits.values()))} if self.names else dict(self.fits)

    def parameters(self, level: float) -> pd.DataFrame:
        """Return parameters with intervals by the delta method; whether they are identified is not yet known."""
        found = {group: delta_intervals(fitted, level) for group, fitted in self.distinct().items()}
        return _table(found, {})

    def certify(self, level: float) -> tuple[pd.DataFrame, dict[str, str]]:
        """Return parameters with profile intervals, which say what is identified, and warnings."""
        intervals, known, warnings = {}, {}, {}
        for group, fitted in self.distinct().items():
            certificate, intervals[group] = certify(fitted, level)
            known[group] = certificate.identified
            for text in certificate.warnings():
                warnings.setdefault(text, []).append(group)
        said = [text if groups == ["all"] else f"{', '.join(groups)}: {text}" for text, groups in warnings.items()]
        return _table(intervals, known), {f"warning {k}": text for k, text in enumerate(said, 1)}

    def certificate(self) -> dict[str, str]:
        """Return gradients, condition numbers, starts and degrees of freedom."""
        fits = list(self.distinct().values())
        law = fits[0].law
        return {
            "form": f"{law.formula} ({law.source})",
            "objective": fits[0].objective.describe(),
            "solver": f"{'converged' if all(f.status == 'converged' for f in fits) else 'FAILED'}, largest relative "
            f"gradient {max(f.gradient_norm for f in fits):.1e}, condition number "
            f"{max(f.condition_number for f in fits):.3g}",
            "starts": f"{min(f.n_agreeing for f in fits)} of {fits[0].n_starts} at this minimum",
            "points": f"{sum(f.n_obs for f in fits)} in {len(fits)} fit{'s' if len(fits) > 1 else ''}, "
            f"{min(f.dof for f in fits)} degrees of freedom",
            "intervals": f"t with {min(self.dof.values())} degrees of freedom (sizes are counted, because methods of "
            f"one size share a base model); {self.inner}",
        }


def _inputs(names: tuple[str, ...], method: str, x: np.ndarray) -> np.ndarray:
    x = np.asarray(x, dtype=float)
    return np.column_stack([x, np.full(len(x), names.index(method) + 1.0)]) if names else x


def _table(intervals: Mapping[str, Mapping[str, Interval]], identified: Mapping[str, Mapping[str, bool]]):
    rows = []
    for group, own in intervals.items():
        for name, found in own.items():
            base, _, member = name.partition("[")
            known = identified.get(group, {}).get(name)
            words = "" if known is None else ("yes" if known else "NO")
            label = member.rstrip("]") or group
            rows.append((label, base, found.value, found.lower, found.upper, words, found.method))
    return pd.DataFrame(rows, columns=["group", "parameter", "value", "lower", "upper", "identified", "interval"])


def fit_law_curve(law: Law, pooling: str, train: pd.DataFrame) -> LawCurve:
    """Fit a law to each method alone (``own``) or with one amplitude a method (``shared``).

    Raises
    ------
    Refusal
        If no method can be fitted.
    """
    fits, names, refused = _fit(law, pooling, train)
    inner_errors, inner = _inner_errors(law, pooling, train)
    sizes = train.groupby("method")["n_params_base"].nunique()
    n_shape = len(law.parameters) - len(own_parameters(law))
    n_sizes = {m: train["n_params_base"].nunique() if names else int(sizes[m]) for m in fits}
    scatter = {}
    for method, fitted in fits.items():
        own = [e for m, e in inner_errors.items() if names or m == method]
        error = float(np.sqrt(np.mean(np.square(own)))) if own else 0.0
        scatter[method] = max(fitted.residual_scale, error)
    dof = {method: max(n - n_shape - 1, 1) for method, n in n_sizes.items()}
    return LawCurve(fits, names, scatter, dof, inner, refused)


def _fit(law: Law, pooling: str, train: pd.DataFrame) -> tuple[dict[str, LawFit], tuple[str, ...], dict[str, str]]:
    x, y, group = (train[name].to_numpy() for name in ("x", "value", "method"))
    x, y = x.astype(float), y.astype(float)
    if pooling == "shared" and len(set(group)) > 1:
        numbered, names = number_groups(x, group)
        fitted = fit_law(pool_law(law, names), numbered, y)
        return dict.fromkeys(names, fitted), names, {}
    found = fit_groups(law, x, y, group)
    if not found.fits:
        raise Refusal("; ".join(f"{method}: {text}" for method, text in found.refused.items()))
    return found.fits, (), found.refused


def _inner_errors(law: Law, pooling: str, train: pd.DataFrame) -> tuple[dict[str, float], str]:
    """Return the log error of each method at the largest fitted size, predicted from the smaller ones."""
    is_last = train["n_params_base"] == train["n_params_base"].max()
    try:
        fits, names, _ = _fit(law, pooling, train[~is_last])
    except Refusal:
        return {}, "the fitted sizes are too few to hold one out inside, so residuals alone say how far runs scatter"
    errors = {
        row["method"]: float(
            np.log(fits[row["method"]].predict(_inputs(names, row["method"], np.array([float(row["x"])])))[0])
            - np.log(row["value"])
        )
        for row in train[is_last].to_dict("records")
        if row["method"] in fits
    }
    size = train.loc[is_last, "size"].iloc[0]
    return errors, f"scatter is the larger of the residuals' and the error at {size} when fitted without it"
