"""What is said of a fit: parameters with intervals, certificate, and the checklist of a report, as JSON and text."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from astraios_analysis.cli.printing import table_text
from astraios_analysis.laws.engine import N_STARTS, LawFit, fit_law, number_groups, pool_law
from astraios_analysis.laws.forms import Law
from astraios_analysis.laws.intervals import (
    Certificate,
    Interval,
    bootstrap,
    bootstrap_intervals,
    certify,
    delta_intervals,
)
from astraios_analysis.laws.residuals import Objective
from astraios_analysis.laws.tables import Points
from astraios_analysis.records.refusal import Refusal

# What a size column counts, where its name says so.
_SIZE_CONVENTIONS = {
    "n_params_base": "base-model parameters, embeddings included",
    "n_params_base_nonembedding": "base-model parameters without embeddings",
    "n_params": "all parameters, those added by the method included",
    "n_params_updated": "updated parameters",
}


@dataclass(frozen=True)
class FitReport:
    """A fit with everything that a report of it must say.

    Attributes
    ----------
    law : Law
        The law asked for; ``fit.law`` is the pooled one where groups share it.
    fit : LawFit
    intervals : mapping of str to Interval
        Of the fitted parameters.
    certificate : Certificate
    group : str or None
        The group fitted; None where there is one fit only.
    checklist : mapping of str to str
        Form, objective, starts, window, N convention, intervals.
    """

    law: Law
    fit: LawFit
    intervals: Mapping[str, Interval]
    certificate: Certificate
    group: str | None
    checklist: Mapping[str, str]

    def as_json(self) -> dict[str, object]:
        """Return a report as plain values in the form that other programs build on."""
        fit, certificate = self.fit, self.certificate
        params = {}
        for name, value in fit.params.items():
            interval = self.intervals.get(name)
            params[name] = {
                "value": _finite(value),
                "lower": value if interval is None else _finite(interval.lower),
                "upper": value if interval is None else _finite(interval.upper),
                "level": None if interval is None else interval.level,
                "identified": None if interval is None else bool(certificate.identified[name]),
            }
        found: dict[str, object] = {} if self.group is None else {"group": self.group}
        return found | {
            "law": self.law.name,
            "formula": fit.law.formula,
            "params": params,
            "objective": _finite(fit.value),
            "n_obs": fit.n_obs,
            "dof": fit.dof,
            "certificate": {
                "converged": fit.status == "converged",
                "gradient_norm": _finite(fit.gradient_norm),
                "condition_number": _finite(fit.condition_number),
                "dof": fit.dof,
                "identified": {name: bool(known) for name, known in certificate.identified.items()},
                "is_lowest": bool(certificate.is_lowest),
                "n_starts": fit.n_starts,
                "n_agreeing": fit.n_agreeing,
                "residual_scale": _finite(fit.residual_scale),
                "sigma": _finite(fit.sigma),
                "warnings": self.warnings(),
                "checklist": dict(self.checklist),
            },
        }

    def warnings(self) -> list[str]:
        """Return what a reader must know before using the parameters."""
        found = self.certificate.warnings()
        if self.fit.status != "converged":
            found.insert(0, f"the solver stopped short of a minimum ({self.fit.message})")
        return found

    def as_text(self) -> str:
        """Return a report as text for people."""
        fit, certificate = self.fit, self.certificate
        percent = f"{100 * certificate.level:g} %"
        rows = []
        for name, value in fit.params.items():
            interval = self.intervals.get(name)
            held = interval is None
            rows.append(
                {
                    "parameter": name,
                    "value": value,
                    f"lower {percent}": np.nan if held else interval.lower,
                    f"upper {percent}": np.nan if held else interval.upper,
                    "identified": "held" if held else ("yes" if certificate.identified[name] else "NO"),
                    "unit": fit.law.parameters[fit.law.index(name)].unit,
                }
            )
        title = f"{self.law.name}: {fit.law.formula}" + (f", group {self.group}" if self.group else "")
        lines = [title, "", table_text(pd.DataFrame(rows)), ""]
        lines += [f"warning: {text}" for text in self.warnings()]
        lines += [
            f"objective {fit.value!r}, {fit.n_obs} points, {fit.dof} degrees of freedom, residual scale "
            f"{fit.residual_scale:.4g}",
            f"certificate: {fit.status}, relative gradient {fit.gradient_norm:.1e}, condition number "
            f"{fit.condition_number:.3g}, {fit.n_agreeing} of {fit.n_starts} starts at this minimum",
            "",
            "a report of this fit states",
        ]
        return "\n".join(lines + [f"  {item}: {text}" for item, text in self.checklist.items()])


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def fit_reports(law: Law, points: Points, objective: Objective, pooling: str | None, options) -> list[FitReport]:
    """Fit points as the pooling says and certify each fit.

    Parameters
    ----------
    law : Law
    points : Points
    objective : Objective
    pooling : {None, "none", "shared"}
        None for points without groups.
    options : object
        With attributes ``fix, starts, level, intervals, resamples, seed``, as the command has them.
    """
    if pooling is None:
        return [_report(law, law, points.x, points, objective, options, None)]
    if pooling == "none":
        reports = []
        for label in dict.fromkeys(points.group):
            own = points.group == label
            part = Points(points.x[own], points.y[own], None, points.x_names, points.y_name)
            try:
                reports.append(_report(law, law, part.x, part, objective, options, str(label)))
            except Refusal as error:
                raise Refusal(f"{label}: {error}") from error
        return reports
    x, names = number_groups(points.x, points.group)
    return [_report(law, pool_law(law, names), x, points, objective, options, None)]


def _report(law, fitted_law, x, points, objective, options, group) -> FitReport:
    fit = fit_law(
        fitted_law,
        x,
        points.y,
        objective=objective,
        fixed=dict(options.fix),
        n_starts=options.starts or N_STARTS,
        must_converge=False,
    )
    certificate, intervals = certify(fit, options.level)
    how = f"profile likelihood, {100 * options.level:g} %"
    if options.intervals == "delta":
        intervals, how = delta_intervals(fit, options.level), f"delta method, {100 * options.level:g} %"
    elif options.intervals == "bootstrap":
        refits = bootstrap(fit, options.resamples, np.random.default_rng(options.seed))
        intervals = bootstrap_intervals(fit, refits, options.level, certificate.identified)
        how = f"percentiles of {options.resamples} bootstrap refits of pairs, {100 * options.level:g} %"
        how += f" ({refits.n_failed} without a fit)" if refits.n_failed else ""
    return FitReport(law, fit, intervals, certificate, group, checklist(fit, law, points, how))


def checklist(fit: LawFit, law: Law, points: Points, intervals: str) -> dict[str, str]:
    """Return what a report of a fit must state, item by item."""
    window = "; ".join(
        f"{name} {low:.4g} to {high:.4g}" for name, (low, high) in zip(points.x_names, fit.x_range, strict=False)
    )
    sizes = [
        f"{name} is {_SIZE_CONVENTIONS.get(name, 'as its column has it: say whether embeddings count')}"
        for name, kind in zip(points.x_names, law.inputs, strict=False)
        if kind in ("N", "U")
    ]
    return {
        "form": f"{points.y_name} = {fit.law.formula} ({law.source})",
        "objective": fit.objective.describe(),
        "starts": f"{fit.n_starts} polished from a search of the data, {fit.n_agreeing} at this minimum",
        "window": f"{fit.n_obs} points, {window}",
        "N convention": "; ".join(sizes) or "no size among the inputs",
        "intervals": intervals,
    }
