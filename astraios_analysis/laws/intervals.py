"""How sure a fit is: profile likelihood and certificate, bootstrap refits.

The profile of a parameter is the objective minimised over all others with that one held. Twice its rise over the
minimum, in units of the noise, is compared with the square of a t quantile. Where it never rises that far on one side,
the data do not bound the parameter there, and it is not identified, whatever number the minimum has.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy import stats
from scipy.special import expit

from astraios_analysis.laws.engine import N_STARTS, LawFit, count_distinct, held_survive, noise_level
from astraios_analysis.laws.law import Parameter
from astraios_analysis.laws.residuals import (
    LawResiduals,
    central_differences,
    from_coordinates,
    losses,
    nearest_bound,
)
from astraios_analysis.laws.solver import NO_GAIN, minimise, solve
from astraios_analysis.laws.starts import find_starts, resolve_linear
from astraios_analysis.records.refusal import Refusal

# Multiples of the delta method's half width at which a profile is first looked at, on both sides.
_OFFSETS = np.array([0.25, 0.5, 0.8, 1.2, 2.0, 4.0, 8.0])
# In log coordinates a step of e^4 says enough; standard errors beyond it come from a flat direction.
_LARGEST_ERROR = 1.5
_REFINEMENTS = 25
# A root of the deviance that is off the straight line of the delta method by this share belongs to a bent valley.
_BENT = 0.25
_PRECISION = 1e-10
# Where the first look does not reach the limit: so many times twice as far, in log coordinates up to a factor e^12.
_DOUBLINGS, _FURTHEST = 8, 12.0
# A parameter that moves the outcome by less than this share may as well be at its bound, unless its error in unbounded
# coordinates is as small as this. It is then looked at where it moves the outcome by so many shares, found among these
# coordinates; a start away from the bound has the share below.
_VANISHED, _KNOWN, _NO_EFFECT = 1e-2, 0.3, 1e-15
_SHARES = np.array([1e-14, 1e-8, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.03, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9, 1.0])
_LIFTED = 0.05
_COORDINATES = np.arange(-250.0, 250.0, 0.5)
# Coordinates to look at of a parameter that has gone to one of two bounds.
_BETWEEN = np.linspace(-7.0, 7.0, 15)
# Square of the relative error that counts as exact.
_ROUNDING = 1e-20
# Resamples start at the fit, which is close: little damping is needed.
_DAMPING = 0.1


@dataclass(frozen=True)
class Interval:
    """A confidence interval of a parameter.

    An end at the parameter's bound means that the data do not bound it on that side; ``is_identified`` says that both
    lie strictly within, by profile likelihood.
    """

    value: float
    lower: float
    upper: float
    level: float
    is_identified: bool


@dataclass(frozen=True)
class Certificate:
    """What profiles say of a fit: which parameters have a profile interval, of a level, that ends within their bounds.

    ``is_lowest``: no profile went below the fit's objective; otherwise the fit is a local minimum only.
    """

    identified: Mapping[str, bool]
    level: float
    is_lowest: bool

    def warnings(self) -> list[tuple[str, str]]:
        """Return what a reader must know before using the parameters: a code, and the words for it."""
        reaches = f"(its {100 * self.level:g} % profile interval reaches its bound)"
        unknown = [name for name, is_identified in self.identified.items() if not is_identified]
        found = [(f"not_identified:{name}", f"not identifiable: {name} {reaches}") for name in unknown]
        if not self.is_lowest:
            text = "a profile found a lower objective: this is a local minimum; ask for more starts"
            found.append(("local_minimum", text))
        return found


def _frame(fit: LawFit, position: int) -> tuple[LawResiduals, np.ndarray, np.ndarray]:
    """Return the problem in which a parameter is as published, its coordinates at the fit, and their covariance.

    On a scaled input an amplitude mixes with its exponent: inputs that a parameter is measured in are in their own
    units, the others scaled, so that their parameters are not entangled.
    """
    law, problem = fit.law, fit.problem
    scale = np.ones_like(problem.scale)
    if law.rescale is not None:
        units = np.array(law.units or law.inputs)
        only = np.where(units[:, None] == units, problem.scale, 1.0)
        scale = np.where([held_survive(law, [position], one) for one in only], problem.scale, 1.0)
    frame = replace(problem, x=problem.raw_x() / scale, scale=scale)
    turn = central_differences(lambda phi: frame.from_raw(problem.raw_theta(phi)), fit.phi)
    return frame, frame.from_raw(fit.theta), turn @ fit.phi_covariance @ turn.T


def _value(fit, residual):
    return float(np.sum(losses(residual, fit.objective.delta * fit.sigma)))


def _noise_unit(fit: LawFit) -> float:
    """Return the unit of twice the objective's rise: ``sigma^2``, or ``mean psi^2 / mean psi'`` for Huber's loss.

    Never below what rounding makes of an exact fit, so that data without noise do not seem to identify everything.
    """
    threshold = fit.objective.delta * fit.sigma
    unit, _ = noise_level(fit.residuals, fit.dof, threshold)
    if fit.objective.is_robust:
        psi_square = float(np.mean(np.minimum(np.abs(fit.residuals), threshold) ** 2)) * fit.n_obs / fit.dof
        unit = float(np.sqrt(unit * psi_square))
    size = 1.0 if fit.objective.residual == "log" else float(np.mean(fit.problem.target**2))
    return max(unit, _ROUNDING * size)


def _values_at(fit: LawFit, position: int, points: np.ndarray) -> np.ndarray:
    """Return the values that a parameter has at coordinates of its own."""
    coordinates = np.zeros((*np.shape(points), len(fit.law.parameters)))
    coordinates[..., position] = points
    return from_coordinates(fit.law, coordinates)[0][..., position]


def certify(
    fit: LawFit, level: float = 0.95, only: Collection[str] | None = None
) -> tuple[Certificate, dict[str, Interval]]:
    """Return a fit's certificate and the profile intervals that it rests on, of all fitted parameters or of some."""
    profiles = _Profiles(fit, level)
    found = {}
    for place, (position, parameter) in enumerate(zip(profiles.free, profiles.parameters, strict=True)):
        if only is not None and parameter.name not in only:
            continue
        ends = np.nan, np.nan
        if place not in profiles.idle:
            search = _Search(profiles, place)
            ends = search.end(-1), search.end(1)
        lower, upper = map(float, _values_at(fit, position, np.nan_to_num(ends, nan=0.0)))
        lower = parameter.lower if np.isnan(ends[0]) else lower
        upper = parameter.upper if np.isnan(ends[1]) else upper
        bounded = not np.isnan(ends).any()
        found[parameter.name] = Interval(fit.params[parameter.name], lower, upper, level, bounded)
    identified = {name: interval.is_identified for name, interval in found.items()}
    # A fall of the deviance that no interval would show is that of a valley without an end.
    is_lowest = profiles.lowest >= profiles.base - max(1e-6 * abs(profiles.base), 0.5 * NO_GAIN * profiles.unit) - 1e-20
    return Certificate(identified, level, bool(is_lowest)), found


class _Profiles:
    """What the profiles of a fit's parameters share.

    ``at_bounds`` holds, by place and side, the root of the deviance with a parameter at a bound that it may reach, and
    all parameters there. Where some lie within the limit, or a parameter moves next to nothing, a profile may have
    several valleys: it is searched from the fit and from each of these.
    """

    def __init__(self, fit: LawFit, level: float):
        self.fit, self.free = fit, fit.problem.free
        self.limit, self.unit = float(stats.t.ppf((1 + level) / 2, fit.dof)), _noise_unit(fit)
        self.base = self.lowest = _value(fit, fit.residuals)
        is_log, target = fit.objective.residual == "log", fit.problem.target
        self.outcome = np.exp(target) if is_log else np.abs(target)
        moved = np.abs(fit.problem.evaluate(fit.phi)[1]) / (1.0 if is_log else np.mean(self.outcome) or 1.0)
        # Of a law that groups share, only one group's points have its amplitude.
        moved = np.array([np.median(one[one > 0]) if (one > 0).any() else 0.0 for one in moved])
        error = np.sqrt(np.maximum(np.diag(fit.phi_covariance), 0.0))
        is_known = (moved > _NO_EFFECT) & (error < _KNOWN)
        self.parameters = [fit.law.parameters[j] for j in self.free]
        self.has_vanished = (moved <= _VANISHED) & ~is_known & [p.lower > -np.inf for p in self.parameters]
        self.at_bounds = {key: self._at_bound(*key) for key in self._near_bounds()}
        within = {place: theta for (place, _), (root, theta) in self.at_bounds.items() if root < self.limit}
        self.is_careful = bool(self.has_vanished.any() or within)
        # Where another parameter may be at a bound at which these have no effect, they may be anything.
        self.idle = {k for place, theta in within.items() for k in self._without_effect(theta) if k != place}
        self.starts = []
        if self.is_careful and not fit.law.linear:
            # What is linear is solved for at every point of a profile; other laws start from each valley.
            self.starts = [self._lift(fit.theta, np.flatnonzero(self.has_vanished)), *within.values()]

    def _without_effect(self, theta: np.ndarray) -> list[int]:
        """Return places of parameters that move no outcome."""
        slope = np.abs(self.fit.law.gradient(self.fit.problem.raw_x(), theta))[:, self.free].max(axis=0)
        return np.flatnonzero(slope < _NO_EFFECT * np.mean(self.outcome)).tolist()

    def _near_bounds(self) -> list[tuple[int, int]]:
        """Return places and sides of bounds that lie within twice the limit by the delta method, or are reached."""
        error, found = np.sqrt(np.maximum(np.diag(self.fit.phi_covariance), 0.0)), []
        for place, parameter in enumerate(self.parameters):
            share = expit(self.fit.phi[place])
            # The distance of a bound is the slope of the parameter in its coordinate, over these.
            far = {-1: 1 - share, 1: share} if np.isfinite(parameter.upper) else {-1: 1.0}
            for side in far if np.isfinite(parameter.lower) else ():
                if self.has_vanished[place] or 2 * self.limit * error[place] * far[side] > 1:
                    found.append((place, side))
        return found

    def _at_bound(self, place: int, side: int) -> tuple[float, np.ndarray]:
        """Return the root of the deviance with one parameter at its bound, and all parameters there."""
        frame, phi, _ = _frame(self.fit, int(self.free[place]))
        others = np.arange(len(phi)) != place
        value, phi[place] = nearest_bound(self.parameters[place], side)
        problem = replace(frame, held={**frame.held, int(self.free[place]): value})
        if not others.any():
            return self.root(_value(self.fit, problem.evaluate(phi[others])[0])), frame.raw_theta(phi)
        starts = np.concatenate([phi[None, others], resolve_linear(problem, phi[None, others], self.fit.weights)])
        solution = self.minimise(problem, starts)
        best = int(np.argmin(solution.objective))
        phi[others] = solution.phi[best]
        return self.root(solution.objective[best]), frame.raw_theta(phi)

    def minimise(self, problem: LawResiduals, starts: np.ndarray):
        """Minimise the fit's objective for problems with a parameter held."""
        found = minimise(problem, starts, self.fit.weights, self.fit.objective.delta * self.fit.sigma, damping=0.1)
        return replace(found, objective=np.where(np.isfinite(found.objective), found.objective, np.inf))

    def root(self, objective):
        """Return the root of the deviance, and remember the lowest objective seen."""
        self.lowest = min(self.lowest, float(np.min(objective)))
        return np.sqrt(np.maximum(2 * (objective - self.base) / self.unit, 0.0))

    def shares(self, frame: LawResiduals, phi: np.ndarray, place: int) -> np.ndarray:
        """Return coordinates at which a parameter moves the outcome by `_SHARES`, as far as it can, from its bound."""
        many = np.repeat(phi[None], len(_COORDINATES), axis=0)
        many[:, place] = _COORDINATES
        with np.errstate(all="ignore"):
            value = self.fit.law.function(frame.x, frame.theta(many))
            change = np.abs(value - value[0]) / self.outcome
        change = np.maximum.accumulate(np.where(np.isfinite(change), change, 0.0), axis=0)
        own = change[-1] > 0
        if not own.any():
            return np.empty(0)
        moved = np.median(change[:, own], axis=1)
        reached = _SHARES[moved[-1] >= _SHARES]
        return np.interp(np.log(reached), np.log(np.maximum(moved, 1e-300)), _COORDINATES)

    def _lift(self, theta: np.ndarray, places: Sequence[int]) -> np.ndarray:
        """Return parameters of which some are moved away from a bound: what starts there has no gradient and stays."""
        frame = self.fit.problem
        phi = frame.from_raw(theta)
        for place in places:
            at = np.zeros(1) if np.isfinite(self.parameters[place].upper) else self.shares(frame, phi, place)
            if len(at):
                phi[place] = at[min(np.searchsorted(_SHARES, _LIFTED), len(at) - 1)]
        return frame.raw_theta(phi)


class _Point(NamedTuple):
    """A coordinate of the parameter profiled, the root of the deviance there, and the other coordinates."""

    at: float
    root: float
    path: np.ndarray


class _Search:
    """The profile of one parameter: where its signed root of the deviance passes the limit."""

    def __init__(self, shared: _Profiles, place: int):
        self.all, self.place, self.fit, self.limit = shared, place, shared.fit, shared.limit
        self.position, parameter = int(shared.free[place]), shared.parameters[place]
        self.frame, self.phi, self.covariance = _frame(self.fit, self.position)
        self.others = np.arange(len(self.phi)) != place
        self.is_log = np.isfinite(parameter.lower)
        self.points = self._points(parameter)
        self.roots, self.paths = self._roots(self.points)
        if shared.is_careful or not self._is_straight(_BENT):
            everywhere = np.arange(len(self.points))
            if self.fit.law.search and self.others.any() and not (shared.is_careful or self._is_straight(2 * _BENT)):
                found = [find_starts(self._held(point), self.fit.weights, N_STARTS) for point in self.points]
                self._improve(everywhere.repeat(N_STARTS), np.concatenate(found))
            # Each point again from where its neighbours ended: a valley is followed, not jumped into.
            for shift in (1, -1):
                self._improve(everywhere, np.roll(self.paths, shift, axis=0))

    def _points(self, parameter: Parameter) -> np.ndarray:
        """Return coordinates at which the profile is first looked at, on both sides.

        Of a term that has vanished from the fit, or may as well have, they are shares of the outcome.
        """
        centre, variance = self.phi[self.place], self.covariance[self.place, self.place]
        may_vanish = parameter.name in self.fit.law.linear and variance >= 1
        if self.is_log and (self.all.has_vanished[self.place] or may_vanish):
            points = _BETWEEN if np.isfinite(parameter.upper) else self.all.shares(self.frame, self.phi, self.place)
            if len(points):
                return points
        error = float(np.sqrt(max(variance, 0.0)))
        error = min(max(error, 1e-6), _LARGEST_ERROR) if self.is_log else error
        reach = max(error, 1e-6 * max(1.0, abs(centre))) * self.limit * _OFFSETS
        return np.concatenate([centre - reach[::-1], centre + reach])

    def _is_straight(self, share: float) -> bool:
        """Whether the root rises on both sides, up to rounding, about as the delta method has it up to the limit."""
        away = self.points - self.phi[self.place]
        rises = np.diff(self.roots) * np.sign(away[1:] + away[:-1]) > -1e-3 * self.limit
        expected = np.abs(away) / np.sqrt(max(self.covariance[self.place, self.place], 1e-300))
        near = expected <= 1.3 * self.limit
        return bool(rises.all() and np.all(np.abs(self.roots - expected)[near] <= share * expected[near]))

    def _held(self, points):
        held = {**self.frame.held, self.position: _values_at(self.fit, self.position, points)}
        return replace(self.frame, held=held)

    def _roots(self, points, *paths):
        """Return roots of the deviance and the other coordinates, the best from several starts at each point."""
        problem = self._held(points)
        if not self.others.any():
            residual = problem.evaluate(np.zeros((len(points), 0)))[0]
            return self.all.root(np.array([_value(self.fit, row) for row in residual])), np.zeros((len(points), 0))
        variance = self.covariance[self.place, self.place]
        # A parameter that has gone to its bound has no curvature left to say how the others follow it.
        along = self.covariance[self.others, self.place] / variance if variance > 1e-12 else np.zeros(self.others.sum())
        moved = np.clip((points - self.phi[self.place])[:, None] * along, -8, 8)
        starts = [*paths, self.phi[self.others] + moved]
        if self.all.is_careful and self.fit.law.linear:
            # Away from bounds, too: what starts there has no gradient and stays.
            starts += [resolve_linear(problem, start, self.fit.weights) for start in starts]
        more = (self.frame.from_raw(theta)[self.others] for theta in self.all.starts)
        starts += [np.broadcast_to(start, moved.shape) for start in more if np.isfinite(start).all()]
        solution = self.all.minimise(self._held(np.tile(points, len(starts))), np.concatenate(starts))
        objective = solution.objective.reshape(len(starts), -1)
        best, column = objective.argmin(axis=0), np.arange(len(points))
        phi = solution.phi.reshape(len(starts), len(points), -1)
        return self.all.root(objective[best, column]), phi[best, column]

    def _improve(self, rows, paths):
        """Look again at some of the points, from other starts."""
        if not self.others.any():
            return
        solution = self.all.minimise(self._held(self.points[rows]), paths)
        roots = self.all.root(solution.objective)
        for row, root, phi in zip(rows, roots, solution.phi, strict=True):
            if root < self.roots[row]:
                self.roots[row], self.paths[row] = root, phi

    def _look(self, at: float, *paths: np.ndarray) -> _Point:
        """Look at one more coordinate, also from where others ended."""
        roots, found = self._roots(np.array([at]), *(path[None] for path in paths))
        return _Point(at, roots[0], found[0])

    def _further(self, side: int, inner: _Point) -> tuple[_Point, _Point]:
        """Go on outwards, twice as far each time, until the limit is passed or nothing is left to look at."""
        outer, distance = inner, abs(inner.at - self.phi[self.place])
        for _ in range(_DOUBLINGS if distance > 0 else 0):
            if self.is_log and distance > _FURTHEST:
                break
            distance *= 2
            inner, outer = outer, self._look(self.phi[self.place] + side * distance, outer.path)
            if outer.root >= self.limit:
                break
        return inner, outer

    def _bracket(self, side: int) -> tuple[_Point, _Point] | None:
        """Return points within and beyond the limit, None where none is beyond it."""
        chosen = np.flatnonzero(np.sign(self.points - self.phi[self.place]) == side)[::side]
        looked = [_Point(self.points[i], self.roots[i], self.paths[i]) for i in chosen]
        # The outermost point below the limit, so that a failure further in does not cut the interval short.
        n_within = max((i + 1 for i, point in enumerate(looked) if not point.root >= self.limit), default=0)
        inner = looked[n_within - 1] if n_within else _Point(self.phi[self.place], 0.0, self.phi[self.others])
        if n_within < len(looked):
            return inner, looked[n_within]
        inner, outer = self._further(side, inner)
        if outer.root >= self.limit:
            return inner, outer
        if (self.place, side) not in self.all.at_bounds:
            return None
        root, theta = self.all.at_bounds[self.place, side]
        at = self.frame.from_raw(theta)
        return outer, _Point(at[self.place], root, at[self.others])

    def end(self, side: int) -> float:
        """Return the coordinate of one end, NaN where the profile stays below the limit."""
        root_at_bound = self.all.at_bounds.get((self.place, side), (np.inf, None))[0]
        found = None if root_at_bound < self.limit else self._bracket(side)
        if found is None:
            return np.nan
        inner, outer = found
        for _ in range(_REFINEMENTS):
            near = min(abs(outer.root - self.limit), abs(self.limit - inner.root))
            if abs(outer.at - inner.at) <= _PRECISION * max(1.0, abs(outer.at)) or near < 1e-7:
                break
            # The signed root of the deviance is close to a straight line; halves keep a kink from stalling it.
            is_line = np.isfinite(outer.root) and outer.root > inner.root
            share = (self.limit - inner.root) / (outer.root - inner.root) if is_line else 0.5
            at = inner.at + (outer.at - inner.at) * np.clip(share, 0.02, 0.98)
            middle = self._look(at, outer.path, inner.path)
            inner, outer = (inner, middle) if middle.root >= self.limit else (middle, outer)
        return min(outer, inner, key=lambda point: abs(point.root - self.limit)).at


@dataclass(frozen=True)
class Refits:
    """Parameters, shape (b, k), of a law fitted to resamples of its data, and the objective of each refit.

    ``n_failed`` of those drawn have no fit: the solver did not arrive, or they have too few distinct points.
    """

    theta: np.ndarray
    objective: np.ndarray
    n_failed: int


def bootstrap(fit: LawFit, n_resamples: int, rng: np.random.Generator) -> Refits:
    """Refit a law to points drawn with replacement, each refit started at the fit.

    Refuses if fewer than half of the refits arrive.
    """
    if n_resamples < 2:
        raise Refusal(f"{n_resamples} resamples have no spread; ask for at least 2")
    weights = rng.multinomial(fit.n_obs, np.full(fit.n_obs, 1 / fit.n_obs), size=n_resamples).astype(float)
    weights = weights[count_distinct(fit, weights) >= len(fit.phi)]
    start = np.repeat(fit.phi[None], len(weights), axis=0)
    if fit.objective.scale == "estimated":
        solution = solve(fit.problem, start, weights, fit.objective)[0]
    else:
        how = {"damping": _DAMPING, "curvature_at": fit.phi}
        solution = minimise(fit.problem, start, weights, fit.objective.delta, **how)
    arrived = solution.has_converged
    if arrived.sum() < max(2, n_resamples / 2):
        raise Refusal(
            f"{fit.law.name}: only {int(arrived.sum())} of {n_resamples} resamples have a fit; the data do not "
            "identify this law: choose one with fewer parameters"
        )
    theta = fit.problem.raw_theta(solution.phi[arrived])
    return Refits(theta, solution.objective[arrived], n_resamples - len(theta))


def bootstrap_intervals(
    fit: LawFit, refits: Refits, level: float, identified: Mapping[str, bool]
) -> dict[str, Interval]:
    """Return percentile intervals of refits, with what a certificate says of each parameter."""
    ends = np.quantile(refits.theta, [(1 - level) / 2, (1 + level) / 2], axis=0).T
    return {
        name: Interval(fit.params[name], *map(float, ends[fit.law.index(name)]), level, known)
        for name, known in identified.items()
    }
