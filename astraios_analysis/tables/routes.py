"""Which way the outcomes of a table in one input are predicted: what is back-tested is what predicts.

Three ways, or routes, share one interface: ``curve`` (each group's curve by laws averaged by evidence, `forecast`),
``sizes`` (groups are methods at common sizes, laws and poolings averaged, `prediction.stack`) and ``lines`` (few sizes
of many groups, `lines`). A route is there where the table has what it needs; where several are, they are mixed by how
likely each makes each group's last row from the rows before it, with equal weights as one more look. A forecast is
then a mixture of the routes' forecasts.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import product

import numpy as np
from scipy.special import logit

from astraios_analysis.curves.forecast import CurveSet, fit_curves
from astraios_analysis.curves.lines import Lines, fit_lines
from astraios_analysis.curves.mixture import KINDS, Forecast, Link, drawn_forecast, mix
from astraios_analysis.prediction.forecast import Fitted, Intervals, fit_supported
from astraios_analysis.prediction.limits import LEVELS, MIN_SIZES_TO_PREDICT
from astraios_analysis.prediction.outcome import Outcome
from astraios_analysis.prediction.stack import Stack, fit_stack, weigh
from astraios_analysis.records.notation import count
from astraios_analysis.records.refusal import Refusal, require_known

Progress = Callable[[Sequence], Sequence]
ROUTES = ("curve", "sizes", "lines")
# Beyond these the stack has nothing to pool that a curve does not show by itself, and costs seconds.
_MAX_SIZES, _MAX_POINTS = 8, 72
# A curve's laws have up to four parameters, a line two.
_ENOUGH_FOR_CURVES = 4


@dataclass(frozen=True)
class Route:
    """A way to predict methods (groups of rows) at values of the input: what was fitted, and how it is asked."""

    methods: Collection[str]
    fitted: CurveSet | Lines | Stack
    ask: Callable[[str, np.ndarray], Forecast]

    def forecast(self, method: str, x: np.ndarray) -> Forecast | None:
        """Return the forecast of a method, None where this way has none."""
        return self.ask(method, x) if method in self.methods else None


def _link(values: np.ndarray, link: str) -> np.ndarray:
    return np.log(values) if link == "log" else logit(np.clip(values, 1e-9, 1 - 1e-9))


@dataclass(frozen=True)
class TableFit:
    """An outcome of a table, fitted by every route that it allows; ``shares`` are the routes' weights.

    It is asked as `prediction.forecast.Fitted` is.
    """

    outcome: Outcome
    routes: Mapping[str, Route]
    shares: Mapping[str, float]

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods (groups of rows) that some route predicts."""
        return tuple(m for m in self.outcome.points.methods if _has_any(self.routes, m))

    @property
    def x_range(self) -> tuple[float, float]:
        """Smallest and largest input fitted."""
        return self.outcome.points.x_range

    @property
    def n_sizes(self) -> int:
        """Number of different inputs fitted."""
        return len(self.outcome.points.sizes)

    def forecast(self, method: str, x: np.ndarray) -> Forecast:
        """Forecast a method at inputs, the routes that have it mixed by their shares."""
        x = np.atleast_1d(np.asarray(x, dtype=float))
        found = {name: route.forecast(method, x) for name, route in self.routes.items()}
        # Lines are for the groups that nothing else predicts.
        others = {name: one for name, one in found.items() if one is not None and name != "lines"}
        return mix(others, self.shares) if others else found["lines"]

    @property
    def notes(self) -> list[str]:
        """What a reader must know of the curves: tails that rise, spikes that count less."""
        curves, found = self.routes.get("curve"), []
        for method, own in zip(curves.methods, curves.fitted.found, strict=True) if curves else ():
            name = "the curve" if len(curves.methods) == 1 else method
            if own.rise:
                found.append(f"{name}: the last rows rise; a power law does not describe them, intervals are wider")
            if own.spikes[0]:
                found.append(f"{name}: {100 * own.spikes[0]:.2g} % of the later rows are spikes; they count less")
        return found

    @cached_property
    def weights(self) -> dict[str, float]:
        """Weights of laws, the mean over methods."""
        own = [self.forecast(method, np.array([self.x_range[1]])).weights for method in self.methods]
        return {law: float(np.mean([w.get(law, 0.0) for w in own])) for law in dict.fromkeys(k for w in own for k in w)}

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
    """Fit the routes that an outcome of a table allows (or one of them), and weigh them by rows left out."""
    require_known("route", [only] if only else [], ROUTES)
    routes, reasons = _fit_all(outcome, only, progress)
    if not routes:
        raise Refusal(f"{outcome.name}: " + "; ".join(dict.fromkeys(reasons.values())))
    if len(routes) - ("lines" in routes) < 2:
        return TableFit(outcome, routes, dict.fromkeys(routes, 1.0))
    names, looks = [name for name in routes if name != "lines"], []
    for smaller, test in _left_out(outcome):
        inner, _ = _fit_all(smaller, only)
        densities = []
        for method, x, z in test:
            found = {name: inner[name].forecast(method, x) for name in names if name in inner}
            if all(found.get(name) is not None for name in names):
                densities.append([float(np.mean(found[name].log_density(z))) for name in names])
        if densities:
            looks.append(np.array(densities).T)
    weights = weigh(np.full(len(names), 1 / len(names)), looks)
    return TableFit(outcome, routes, dict(zip(names, map(float, weights), strict=True)) | {"lines": 0.0})


def _fit_all(
    outcome: Outcome, only: str | None, progress: Progress = lambda items: items
) -> tuple[dict[str, Route], dict[str, str]]:
    """Return the routes that can be fitted, and why others cannot."""
    routes: dict[str, Route] = {}
    reasons: dict[str, str] = {}
    makers = {"sizes": _fit_sizes, "lines": _fit_lines}
    for name in ROUTES if only is None else (only,):
        if only is None and name == "lines" and all(_has_any(routes, m) for m in outcome.points.methods):
            continue
        try:
            routes[name] = _fit_curves(outcome, progress) if name == "curve" else makers[name](outcome)
        except Refusal as error:
            reasons[name] = str(error)
    return routes, reasons


def _has_any(routes: Mapping[str, Route], method: str) -> bool:
    return any(method in route.methods for route in routes.values())


def _by_method(outcome: Outcome) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return inputs and outcomes of every method: of losses each row, of rates the means of replicates."""
    points, runs = outcome.points, outcome.runs
    if outcome.link == "logit":
        return {m: (points.n_params[points.method == m], points.y[points.method == m]) for m in points.methods}
    own = runs.groupby("method", sort=False)
    return {m: (rows["n_params"].to_numpy(), rows["value"].to_numpy()) for m, rows in own}


def _fit_curves(outcome: Outcome, progress: Progress) -> Route:
    rows = _by_method(outcome)
    n_short = sum(len(np.unique(x)) < _ENOUGH_FOR_CURVES for x, _ in rows.values())
    if 2 * n_short > len(rows):
        raise Refusal(
            f"{n_short} of {len(rows)} groups have fewer than {_ENOUGH_FOR_CURVES} different inputs for a curve"
        )
    rows = {m: (x, y) for m, (x, y) in rows.items() if len(np.unique(x)) >= _ENOUGH_FOR_CURVES}
    signs = None
    if outcome.link == "logit":
        # Odds of what falls: the laws fall towards a floor.
        signs = {m: 1 if np.polyfit(np.log(x), y, 1)[0] <= 0 else -1 for m, (x, y) in rows.items()}
        rows = {m: (x, np.exp(signs[m] * logit(y))) for m, (x, y) in rows.items()}
    fitted, methods = fit_curves(list(rows.values()), progress), list(rows)
    return Route(methods, fitted, partial(_ask_curves, fitted, methods, signs or {}))


def _ask_curves(fitted: CurveSet, methods: list[str], signs: Mapping[str, int], method: str, x: np.ndarray) -> Forecast:
    found, sign = fitted.forecast(methods.index(method), x), signs.get(method)
    # Log odds, of failures where these fall, as the rate's logit.
    return found.map(lambda centres, scales: (sign * centres, scales), link="logit") if sign else found


def _fit_sizes(outcome: Outcome) -> Route:
    points = outcome.points
    if len(points.sizes) < MIN_SIZES_TO_PREDICT:
        raise Refusal(f"of {count(len(points.sizes), 'size')} none is left for laws of size to be tested on")
    if len(points.sizes) > _MAX_SIZES or len(points.y) > _MAX_POINTS:
        raise Refusal(f"{len(points.sizes)} sizes of {len(points.methods)} methods are no table of few common sizes")
    stack = fit_stack(points, outcome.link)
    return Route(stack.methods, stack, partial(_ask_sizes, stack))


def _ask_sizes(stack: Stack, method: str, x: np.ndarray) -> Forecast:
    drawn, place = [stack.draw(float(one)) for one in x], stack.methods.index(method)
    by_kind = {kind: np.stack([_link(one[kind][:, place], stack.link) for one in drawn], axis=1) for kind in KINDS}
    return drawn_forecast(by_kind, stack.weights, stack.link)


def _fit_lines(outcome: Outcome) -> Route:
    rows = _by_method(outcome)
    fitted = fit_lines([(x, _link(y, outcome.link)) for x, y in rows.values()])
    return Route(list(rows), fitted, partial(_ask_lines, fitted, list(rows), outcome.link))


def _ask_lines(fitted: Lines, methods: list[str], link: Link, method: str, x: np.ndarray) -> Forecast:
    return replace(fitted.forecast(methods.index(method), x), link=link)


def _left_out(outcome: Outcome, n: int = 2) -> list[tuple[Outcome, list]]:
    """Return the table without the last input, or the last two, and each method's rows there."""
    found = []
    for size in outcome.points.sizes[::-1][:n]:
        smaller, at = outcome.below(float(size)), outcome.points.keep(outcome.points.n_params == size)
        if len(smaller.points.sizes) < 3:
            break
        found.append(
            (smaller, [(m, at.n_params[at.method == m], _link(at.y[at.method == m], outcome.link)) for m in at.methods])
        )
    return found


def fit_answer(outcome: Outcome) -> tuple[Fitted | TableFit, str | None]:
    """Fit an outcome of records; where nothing can test its predictions, by lines, with why it is not back-tested."""
    try:
        return fit_supported(outcome), None
    except Refusal as error:
        try:
            return fit_routes(outcome, "lines"), str(error).removeprefix(f"{outcome.name}: ")
        except Refusal:
            raise error from None
