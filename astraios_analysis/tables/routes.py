"""Which way the outcomes of a table in one input are predicted: what is back-tested is what predicts.

Three ways, or routes, share one interface, the first that a table allows being taken: ``sizes`` (groups are methods at
few common sizes, predicted as on records, `prediction.direct`), ``curve`` (each group's curve by laws averaged by
evidence, `curves.forecast`), and ``lines`` (few sizes of many groups, `curves.lines`) for groups that neither predicts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from astraios_analysis.curves.lines import Lines, fit_lines
from astraios_analysis.curves.mixture import KINDS, Forecast, Link, to_link
from astraios_analysis.prediction.direct import (
    Direct,
    OwnCurves,
    Progress,
    fit_direct,
    fit_own_curves,
    is_pooled,
    rows_by_method,
)
from astraios_analysis.prediction.forecast import Answers, Fitted, Intervals, fit_supported
from astraios_analysis.prediction.limits import LEVELS, MIN_SIZES_TO_PREDICT
from astraios_analysis.prediction.outcome import Outcome, require_linked
from astraios_analysis.prediction.stack import fit_stack
from astraios_analysis.records.notation import count
from astraios_analysis.records.refusal import Refusal, require_known

ROUTES = ("sizes", "curve", "lines")


@dataclass(frozen=True)
class MethodLines:
    """A line for each method (group of rows), slopes drawn towards a common one (`curves.lines`)."""

    link: Link
    methods: tuple[str, ...]
    fitted: Lines

    def forecast(self, method: str, x: np.ndarray) -> Forecast:
        """Forecast a method at inputs."""
        return replace(self.fitted.forecast(self.methods.index(method), x), link=self.link)


@dataclass(frozen=True)
class TableFit(Answers):
    """An outcome of a table, fitted by the routes that it needs; it is asked as `prediction.forecast.Fitted` is."""

    outcome: Outcome
    routes: Mapping[str, Direct | OwnCurves | MethodLines]

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods (groups of rows) that some route predicts."""
        return tuple(m for m in self.outcome.points.methods if _has_any(self.routes, m))

    def _route(self, method: str) -> "Direct | OwnCurves | MethodLines":
        return next(route for route in self.routes.values() if method in route.methods)

    def range_of(self, method: str) -> tuple[float, float]:
        """Smallest and largest input that a method is predicted from: its own where it shares no laws with others."""
        points = self.outcome.points
        shared = isinstance(self._route(method), Direct)
        return points.x_range if shared else points.keep(points.method == method).x_range

    def forecast(self, method: str, x: np.ndarray) -> Forecast:
        """Forecast a method at inputs by the first route that has it."""
        return self._route(method).forecast(method, np.atleast_1d(np.asarray(x, dtype=float)))

    @property
    def notes(self) -> list[str]:
        """What a reader must know of the curves: tails that rise, spikes that count less."""
        curves, found = next(iter(self.routes.values())), []
        curves = curves.curves if isinstance(curves, Direct) else curves
        if not isinstance(curves, OwnCurves):
            return found
        for method, own in zip(curves.methods, curves.fitted.found, strict=True):
            name = "the curve" if len(curves.methods) == 1 else method
            if own.rise:
                found.append(f"{name}: the last rows rise; a power law does not describe them, intervals are wider")
            if own.spikes[0]:
                found.append(f"{name}: {100 * own.spikes[0]:.2g} % of the later rows are spikes; they count less")
        return found

    def weights_of(self, method: str) -> dict[str, float]:
        """Weights of the laws averaged for one method."""
        return self.forecast(method, np.array([self.x_range[1]])).weights

    def intervals(self, n_params: float, levels: Sequence[float] = LEVELS) -> Intervals:
        """Return medians and intervals of all methods at one input."""
        found = [self.forecast(method, np.array([float(n_params)])) for method in self.methods]
        median = np.array([one.values(one.log_quantile(0.5))[0] for one in found])
        bounds = {}
        for kind, level in product(KINDS, levels):
            ends = np.array([[end[0] for end in one.interval(level, kind)] for one in found]).T
            # Turned round, the upper end of what is good is the lower of what is measured.
            bounds[kind, level] = self.outcome.end(np.sort(self.outcome.turn(ends), axis=0))
        return Intervals(self.methods, self.outcome.turn(median), bounds)


def fit_routes(outcome: Outcome, only: str | None = None, progress: Progress = lambda items: items) -> TableFit:
    """Fit the first route that an outcome of a table allows (or the one named), and lines for groups that it lacks."""
    require_known("route", [only] if only else [], ROUTES)
    require_linked(outcome.points.y, outcome.link)
    routes: dict[str, Direct | OwnCurves | MethodLines] = {}
    reasons: dict[str, str] = {}
    for name in ROUTES if only is None else (only,):
        if all(_has_any(routes, method) for method in outcome.points.methods):
            break
        try:
            if name == "curve":
                routes[name] = fit_own_curves(outcome, progress)
            else:
                routes[name] = _fit_lines(outcome) if name == "lines" else _fit_sizes(outcome, alone=only is not None)
        except Refusal as error:
            reasons[name] = str(error)
    if not routes:
        raise Refusal(f"{outcome.name}: " + "; ".join(dict.fromkeys(reasons.values())))
    return TableFit(outcome, routes)


def _has_any(routes: Mapping[str, Direct | OwnCurves | MethodLines], method: str) -> bool:
    return any(method in route.methods for route in routes.values())


def _fit_sizes(outcome: Outcome, *, alone: bool) -> Direct:
    """Fit laws that methods share, and their own curves unless these laws are asked for alone."""
    points = outcome.points
    if len(points.sizes) < MIN_SIZES_TO_PREDICT:
        raise Refusal(f"of {count(len(points.sizes), 'size')} none is left for laws of size to be tested on")
    if not is_pooled(points):
        raise Refusal(f"{len(points.sizes)} sizes of {len(points.methods)} methods are no table of few common sizes")
    return Direct(fit_stack(points, outcome.link)) if alone else fit_direct(outcome)


def _fit_lines(outcome: Outcome) -> MethodLines:
    rows = rows_by_method(outcome)
    fitted = fit_lines([(x, to_link(y, outcome.link)) for x, y in rows.values()])
    return MethodLines(outcome.link, tuple(rows), fitted)


def fit_answer(outcome: Outcome) -> tuple[Fitted | TableFit, str | None]:
    """Fit an outcome of records; where nothing can test its predictions, by lines, with why it is not back-tested."""
    try:
        return fit_supported(outcome), None
    except Refusal as error:
        try:
            return fit_routes(outcome, "lines"), str(error).removeprefix(f"{outcome.name}: ")
        except Refusal:
            raise error from None
