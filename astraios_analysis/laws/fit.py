"""A law fitted to a table: parameters with intervals, predictions, a figure, and what a report of it must say."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from astraios_analysis.laws.engine import N_STARTS, LawFit, fit_law, number_groups, pool_law
from astraios_analysis.laws.forms import find_law, tie_law
from astraios_analysis.laws.holdouts import Width, in_order, ordered, width_of
from astraios_analysis.laws.intervals import (
    Certificate,
    Interval,
    bootstrap,
    bootstrap_intervals,
    certify,
)
from astraios_analysis.laws.law import Law
from astraios_analysis.laws.residuals import Objective, check_inputs, check_range
from astraios_analysis.laws.saved import N_DRAWS, Curve, SavedFit, finite_or_none, write_fit
from astraios_analysis.laws.solver import SOLVER_ERRORS
from astraios_analysis.laws.tables import ALL, Points, select_points
from astraios_analysis.records.refusal import Refusal, by_reason, require_known, require_level

# What a size column counts, where its name says so.
_SIZE_CONVENTIONS = {
    "n_params_base": "base-model parameters, embeddings included",
    "n_params_base_nonembedding": "base-model parameters without embeddings",
    "n_params": "all parameters, those added by the method included",
    "n_params_updated": "updated parameters",
}
_NO_INTERVALS = "no intervals"
# A link's best outcome is extrapolated where it lies this share of the measured span beyond it.
_FAR_CEILING = 0.25


@dataclass(frozen=True)
class IntervalOptions:
    """How intervals of parameters are made: coverage, method, and refits and seed of a bootstrap."""

    level: float = 0.95
    method: Literal["profile", "bootstrap"] = "profile"
    resamples: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        require_level(self.level)
        require_known("intervals", [self.method], ("profile", "bootstrap"))


@dataclass(frozen=True, repr=False)
class Fit:
    """A law fitted to a table: one fit, one for each group, or one with groups that share its shape.

    Attributes
    ----------
    law : Law
    points : Points
        What was fitted, and notes on what was left out.
    fits : dict of str to LawFit
        By group; one named ``all`` where there are no groups, or they share it.
    members : tuple of str
        Groups that share one fit, each with its own amplitude; empty otherwise.
    options : IntervalOptions
    refused : dict of str to str
        Groups that could not be fitted, and why.
    table : DataFrame
        ``group, parameter, value, lower, upper, level, identified``: whether the data bound a parameter within its
        bounds; for one that was held there are no interval and no answer.
    """

    law: Law
    points: Points
    fits: dict[str, LawFit]
    members: tuple[str, ...] = ()
    options: IntervalOptions = field(default_factory=IntervalOptions)
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def groups(self) -> tuple[str, ...]:
        """Groups that have a curve; ``all`` where there are none."""
        return self.members or tuple(self.fits)

    @cached_property
    def certified(self) -> dict[str, tuple[Certificate, dict[str, Interval], str]]:
        """Certificate, intervals and how these were made, of each fit; profiles take up to a second each."""
        found = {}
        for group, fit in self.fits.items():
            try:
                found[group] = self._certify(fit)
            except SOLVER_ERRORS as error:
                # One group's failure must not take the others' numbers down.
                if len(self.fits) == 1:
                    raise Refusal(f"{fit.law.name}: no intervals ({error}); choose others, or a smaller law") from None
                unknown = {fit.law.names[j]: False for j in fit.problem.free}
                found[group] = Certificate(unknown, self.options.level, True), {}, f"{_NO_INTERVALS} ({error})"
        return found

    def _certify(self, fit: LawFit) -> tuple[Certificate, dict[str, Interval], str]:
        options, percent = self.options, f"{100 * self.options.level:g} %"
        certificate, intervals = certify(fit, options.level)
        how = f"profile likelihood, {percent}"
        if options.method == "bootstrap":
            refits = bootstrap(fit, options.resamples, np.random.default_rng(options.seed))
            intervals = bootstrap_intervals(fit, refits, options.level, certificate.identified)
            how = f"percentiles of {options.resamples} bootstrap refits of pairs, {percent}"
            how += f" ({refits.n_failed} without a fit)" if refits.n_failed else ""
        return certificate, intervals, how

    @cached_property
    def table(self) -> pd.DataFrame:
        """Parameters with intervals: ``group, parameter, value, lower, upper, level, identified``."""
        rows = []
        for group, fit in self.fits.items():
            certificate, intervals, _ = self.certified[group]
            for name, value in fit.params.items():
                base, _, member = name.partition("[")
                own, known = intervals.get(name), certificate.identified.get(name)
                ends = (np.nan, np.nan, np.nan) if own is None else (own.lower, own.upper, own.level)
                rows.append((member.rstrip("]") or group, base, value, *ends, known))
        columns = ["group", "parameter", "value", "lower", "upper", "level", "identified"]
        return pd.DataFrame(rows, columns=columns)

    @cached_property
    def diagnostics(self) -> pd.DataFrame:
        """What speaks for and against each fit: points, degrees of freedom, gradient, condition, starts, scatter."""
        names = ["n_obs", "dof", "status", "value", "residual_scale", "gradient_norm", "condition_number"]
        names += ["n_agreeing", "n_starts"]
        rows = [
            (group, *(getattr(fit, name) for name in names), self.certified[group][0].is_lowest)
            for group, fit in self.fits.items()
        ]
        return pd.DataFrame(rows, columns=["group", *names, "is_lowest"]).rename(columns={"value": "objective"})

    def coded_warnings(self, group: str = ALL) -> list[dict[str, str]]:
        """Return what a reader must know before using a group's parameters, each with its ``code`` and ``text``."""
        fit, found = self.fits[group], self.certified[group][0].warnings()
        if fit.status != "converged":
            found.insert(0, ("not_converged", f"the solver stopped short of a minimum ({fit.message})"))
        elif fit.fallback:
            found.append(("fallback", f"Newton's method stopped short; found by {fit.fallback}"))
        found += self._far_ceiling(group)
        if self.certified[group][2].startswith(_NO_INTERVALS):
            found.insert(0, ("no_intervals", self.certified[group][2]))
        return [{"code": code, "text": text} for code, text in found]

    def _far_ceiling(self, group: str) -> list[tuple[str, str]]:
        """Return a warning where a link's best outcome lies far from all that was measured."""
        best = self.law.best(self.fits[group].theta) if self.law.best else None
        if best is None:
            return []
        own = self.points.y if group == ALL else self.points.y[self._own(group)]
        is_error = self.law.outcome == "error"
        reached, worst = (own.min(), own.max()) if is_error else (own.max(), own.min())
        if abs(best - reached) <= _FAR_CEILING * abs(reached - worst):
            return []
        text = f"the best {self.law.outcome} that the law says, {best:.3g}, is extrapolated: the best measured is"
        text += f" {reached:.3g}; hold it at what is known (--fix), or go through --via, which ends at 1"
        return [("ceiling_extrapolated", text)]

    def warnings(self, group: str = ALL) -> list[str]:
        """Return what a reader must know before using a group's parameters, in words."""
        return [one["text"] for one in self.coded_warnings(group)]

    def _all_warnings(self) -> list[str]:
        found = [text if group == ALL else f"{group}: {text}" for group in self.fits for text in self.warnings(group)]
        return found + [f"{group} is not fitted: {reason}" for group, reason in self.refused.items()]

    def predict(
        self,
        x: float | Sequence | np.ndarray | pd.DataFrame,
        group: str | Sequence[str] | None = None,
        level: float | None = None,
    ) -> pd.DataFrame:
        """Predict the outcome at inputs, as a mean and as a new observation.

        Parameters
        ----------
        x : number, sequence or DataFrame
            Inputs, shape (n,), or (n, d) in the law's order, or a table with the columns that were fitted.
        group : str or sequence of str, optional
            All groups by default.
        level : float, optional
            Of the intervals; that of the fit by default.

        Returns
        -------
        DataFrame
            ``group``, the inputs' columns, ``value, lower, upper, level, kind, reach``. Kind ``mean``: where the law
            is; ``observation``: where a new point falls. Reach: how many times an input lies beyond those fitted, 1
            within them.

        Notes
        -----
        Delta method on the scale of the residuals, Student's t, with what the law errs beyond the points fitted, told
        by inner splits of these (`laws.holdouts`); those of `predict` with one law are the same. Points at one input
        count as one look, in whatever group.
        """
        return self._saved.predict(x, group, level)

    @cached_property
    def _saved(self) -> SavedFit:
        points, curves = self.points, {}
        for label, fit in self.fits.items():
            is_log = fit.objective.residual == "log"
            curves[label] = Curve(fit.law, fit.theta, fit.covariance, self._width(fit), is_log, fit.x_range)
        return SavedFit(
            self.law, points.x_names, points.y_name, points.group_names, curves, self.members, self.options.level
        )

    def save(self, path: str | Path, seed: int = 0) -> None:
        """Write the fit to a JSON file that `load_fit` and ``astraios predict`` read.

        Parameters
        ----------
        path : str or Path
        seed : int
            Of the draws of parameters that go with it.
        """
        fits, rng = [], np.random.default_rng(seed)
        for label, fit in self.fits.items():
            names = (*self.points.x_names, "group")[: len(fit.x_range)]
            held = [fit.law.names[j] for j in fit.problem.held]
            fits.append(
                {"group": label, "params": fit.params, "held": held, "covariance": finite_or_none(fit.covariance)}
                | {"draws": finite_or_none(fit.draw(N_DRAWS, rng)), "residual_scale": fit.residual_scale}
                | {"width": asdict(self._saved.curves[label].width)}
                | {"n_obs": fit.n_obs, "dof": fit.dof, "objective": fit.value}
                | {"range": dict(zip(names, fit.x_range.tolist(), strict=True)), "status": fit.status}
                | {"warnings": self.coded_warnings(label)}
            )
        first = next(iter(self.fits.values())).objective
        delta = first.delta if first.is_robust else None
        objective = {"residual": first.residual, "huber": delta, "scale": first.scale}
        points, columns = self.points, {"x": list(self.points.x_names), "y": self.points.y_name}
        columns["group"] = list(points.group_names)
        content = {"law": self.law.name, "formula": self.law.formula, **columns, "members": list(self.members)}
        content |= {"level": self.options.level, "objective": objective, "notes": list(points.notes), "fits": fits}
        write_fit(path, content | {"refused": dict(self.refused)})

    def _width(self, fit: LawFit) -> Width:
        """Return how far predictions of a fit err; groups that share a law share its looks."""
        return width_of(fit, ordered(fit.law, fit.x), len(self.law.parameters) - len(fit.problem.held))

    def plot(self, to: float | None = None):
        """Draw points, curves and the band of a new observation.

        Parameters
        ----------
        to : float, optional
            How far to draw the curves; beyond what was fitted they are dashed.

        Returns
        -------
        matplotlib.figure.Figure
            For a law of several inputs: measured against fitted values.
        """
        import seaborn
        from matplotlib import pyplot

        figure, axes = pyplot.subplots(figsize=(6.4, 4.4), layout="constrained")
        colours = seaborn.color_palette("colorblind", len(self.groups))
        draw = self._draw_curve if len(self.law.inputs) == 1 else self._draw_against_fitted
        for group, colour in zip(self.groups, colours, strict=True):
            draw(axes, group, colour, to)
        is_log = next(iter(self.fits.values())).objective.residual == "log"
        axes.set(yscale="log" if is_log else "linear", ylabel=self.points.y_name, title=self._title())
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
        if len(self.groups) > 1:
            axes.legend()
        pyplot.close(figure)
        return figure

    def _draw_curve(self, axes, group, colour, to) -> None:
        own = self._own(group)
        low, high = float(self.points.x[own].min()), float(self.points.x[own].max())
        far = [] if to is None else check_inputs(self.law, np.array([to])).tolist()
        ends = min([low, *far]), max([high, *far])
        grid = np.unique(np.concatenate([np.geomspace(*ends, 200), [low, high]]))
        found = self.predict(grid, group)
        found = found[found["kind"] == "observation"]
        inside = (grid >= low) & (grid <= high)
        axes.scatter(self.points.x[own], self.points.y[own], color=colour, s=18, label=group)
        axes.plot(grid[inside], found["value"][inside.tolist()], color=colour)
        for beyond in (grid <= low, grid >= high):
            axes.plot(grid[beyond], found["value"][beyond.tolist()], color=colour, linestyle="--")
        axes.fill_between(grid, found["lower"], found["upper"], color=colour, alpha=0.15, linewidth=0)
        axes.set(xscale="linear" if self.law.inputs == ("L",) else "log", xlabel=self.points.x_names[0])

    def _draw_against_fitted(self, axes, group, colour, to) -> None:
        if to is not None:
            raise Refusal(f"{self.law.name} has {len(self.law.inputs)} inputs, and no curve to draw as far as {to:g}")
        own = self._own(group)
        found = self.predict(self.points.x[own], group)
        value = found.loc[found["kind"] == "mean", "value"]
        axes.scatter(value, self.points.y[own], color=colour, s=18, label=group)
        axes.axline((value.min(),) * 2, (value.max(),) * 2, color="grey", linewidth=1)
        axes.set(xlabel=f"{self.points.y_name}, fitted")

    def _own(self, group: str) -> np.ndarray:
        labels = self.points.group
        return np.ones(len(self.points.y), bool) if labels is None else labels.astype(str) == group

    def _title(self) -> str:
        return f"{self.law.name}: {self.points.y_name} = {self.law.formula}"

    def checklist(self, group: str = ALL) -> dict[str, str]:
        """Return what a report of a fit must state, item by item."""
        fit, points = self.fits[group], self.points
        window = [f"{n} {low:.4g} to {high:.4g}" for n, (low, high) in zip(points.x_names, fit.x_range, strict=False)]
        sizes = [
            f"{name} is {_SIZE_CONVENTIONS.get(name, 'as its column has it: say whether embeddings count')}"
            for name, kind in zip(points.x_names, self.law.inputs, strict=True)
            if kind in ("N", "U")
        ]
        return {
            "form": f"{points.y_name} = {fit.law.formula} ({self.law.source})",
            "objective": fit.objective.describe(),
            "starts": f"{fit.n_starts} polished from a search of the data, {fit.n_agreeing} at this minimum",
            "window": "; ".join([f"{fit.n_obs} points", *window]),
            "N convention": "; ".join(sizes) or "no size among the inputs",
            "intervals": self.certified[group][2],
        }

    @pd.option_context("display.unicode.east_asian_width", True)
    def __repr__(self) -> str:
        shown = self.table if len(self.groups) > 1 else self.table.drop(columns="group")
        fits = self.fits.values()
        n_obs, dof = sum(fit.n_obs for fit in fits), min(fit.dof for fit in fits)
        status = "converged" if all(fit.status == "converged" for fit in fits) else "FAILED"
        lines = [self._title(), "", shown.to_string(index=False, float_format="{:.4g}".format, na_rep="-"), ""]
        lines.append(f"{n_obs} points, {dof} degrees of freedom{' at least' if len(fits) > 1 else ''}, {status}")
        return "\n".join(lines + [f"warning: {text}" for text in self._all_warnings()])

    def _repr_html_(self) -> str:
        table = self.table.to_html(index=False, float_format="{:.4g}".format, na_rep="-")
        return f"<p>{self._title()}</p>{table}" + "".join(f"<p>Warning: {text}</p>" for text in self._all_warnings())


def fit_table(
    frame: pd.DataFrame | Points,
    law: str | Law,
    x: str | Sequence[str] | None = None,
    y: str | None = None,
    group: str | Sequence[str] | None = None,
    *,
    split: str | None = None,
    pooling: Literal["none", "shared"] | None = None,
    huber: float | None = None,
    scale: Literal["fixed", "estimated"] = "fixed",
    residual: Literal["log", "linear"] | None = None,
    fixed: Mapping[str, float | str] | None = None,
    level: float = 0.95,
    intervals: Literal["profile", "bootstrap"] = "profile",
    resamples: int = 2000,
    seed: int = 0,
    n_starts: int = N_STARTS,
) -> Fit:
    """Fit a law to the points of a table, or to `Points`; options are those of `astraios_analysis.fit`.

    A group that cannot be fitted is named in the fit.
    """
    ties = {name: value for name, value in (fixed or {}).items() if isinstance(value, str)}
    law = tie_law(find_law(law), ties)
    how = {"fixed": {name: value for name, value in (fixed or {}).items() if name not in ties}}
    how |= {"objective": Objective(residual or law.residual, huber or np.inf, scale)}
    how |= {"n_starts": n_starts, "must_converge": False}
    options, points = IntervalOptions(level, intervals, resamples, seed), frame
    if not isinstance(points, Points):
        points = select_points(frame, x, y, group, split, positive=how["objective"].residual == "log")
    check_range(law, points.y, points.y_name)
    require_known("pooling", [pooling or "none"], ("none", "shared"))
    if len(points.x_names) != len(law.inputs):
        wanted, given = ", ".join(law.inputs), ", ".join(points.x_names)
        raise Refusal(f"{law.name} has {len(law.inputs)} inputs ({wanted}) and x names {len(points.x_names)}: {given}")
    if points.group is None:
        if pooling == "shared":
            raise Refusal("shared pooling needs groups; name their columns with group")
        return Fit(law, points, {ALL: fit_law(law, *in_order(points.x, points.y), **how)}, (), options)
    if pooling == "shared":
        x, names = number_groups(points.x, points.group)
        return Fit(law, points, {ALL: fit_law(pool_law(law, names), *in_order(x, points.y, 1), **how)}, names, options)
    fits, refused = {}, {}
    for label in dict.fromkeys(points.group.tolist()):
        own = points.group == label
        try:
            fits[str(label)] = fit_law(law, *in_order(points.x[own], points.y[own]), **how)
        except SOLVER_ERRORS as error:
            # One group's problem must not be that of all.
            refused[str(label)] = str(error)
    if not fits:
        raise Refusal("; ".join(f"{groups}: {reason}" for groups, reason in by_reason(refused).items()))
    return Fit(law, points, fits, (), options, refused)
