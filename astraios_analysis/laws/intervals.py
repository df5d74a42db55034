"""How sure a fit is: profile likelihood and certificate, intervals by the delta method, bootstrap refits.

The profile of a parameter is the objective minimised over all others with that one held. Twice its rise over the
minimum, in units of the noise, is compared with the square of a t quantile. Where it never rises that far on one side,
the data do not bound the parameter there, and it is not identified, whatever number the minimum has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import stats

from astraios_analysis.laws.engine import LawFit, noise_level
from astraios_analysis.laws.residuals import LawResiduals, from_coordinates, losses, to_coordinates
from astraios_analysis.laws.solver import minimise, solve
from astraios_analysis.laws.starts import resolve_linear
from astraios_analysis.records.refusal import Refusal

# Multiples of the delta method's half width at which a profile is first looked at, on both sides.
_OFFSETS = np.array([0.25, 0.5, 0.8, 1.2, 2.0, 4.0, 8.0])
# In log coordinates a step of e^4 says enough; standard errors beyond it come from a flat direction.
_LARGEST_ERROR = 1.5
_REFINEMENTS = 25
_PRECISION = 1e-10
# Where the first look does not reach the limit: so many times twice as far, in log coordinates up to a factor e^12.
_DOUBLINGS, _FURTHEST = 8, 12.0
# A term of less than this share of the outcome may as well have vanished; and the shares at which it is looked at.
_VANISHED = 1e-2
_SHARES = np.array([1e-14, 1e-8, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.03, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9, 1.0])
# Square of the relative error that counts as exact.
_ROUNDING = 1e-20
Kind = Literal["pairs", "residual", "block", "parametric"]
KINDS = ("pairs", "residual", "block", "parametric")
# Resamples start at the fit, which is close: little damping is needed.
_DAMPING = 0.1


@dataclass(frozen=True)
class Interval:
    """A confidence interval of a parameter.

    An end at the parameter's bound means that the data do not bound it on that side; ``is_identified`` says that both
    lie strictly within, by profile likelihood.
    """

    name: str
    value: float
    lower: float
    upper: float
    level: float
    method: Literal["profile", "bootstrap", "delta"]
    is_identified: bool


@dataclass(frozen=True)
class Certificate:
    """What profiles say of a fit: which parameters have a profile interval, of a level, that ends within their bounds.

    ``is_lowest``: no profile went below the fit's objective; otherwise the fit is a local minimum only.
    """

    identified: Mapping[str, bool]
    level: float
    is_lowest: bool

    def coded(self) -> list[tuple[str, str]]:
        """Return what a reader must know before using the parameters: a code, and the words for it."""
        reaches = f"(its {100 * self.level:g} % profile interval reaches its bound)"
        unknown = [name for name, is_identified in self.identified.items() if not is_identified]
        found = [(f"not_identified:{name}", f"not identifiable: {name} {reaches}") for name in unknown]
        if not self.is_lowest:
            text = "a profile found a lower objective: this is a local minimum; ask for more starts"
            found.append(("local_minimum", text))
        return found

    def warnings(self) -> list[str]:
        """Return the same in words alone."""
        return [text for _, text in self.coded()]


def _raw_problem(fit: LawFit) -> tuple[LawResiduals, np.ndarray, np.ndarray]:
    """Return the problem for inputs in their own units, its coordinates at the fit, and their covariance.

    On scaled inputs an amplitude mixes with its exponent, and a profile is of the parameter as published.
    """
    problem = fit.problem
    raw = replace(problem, x=problem.raw_x(), scale=np.ones_like(problem.scale))
    free, step = problem.free, 1e-6
    steps = step * np.eye(len(fit.phi))
    up, down = (to_coordinates(fit.law, problem.raw_theta(fit.phi + s))[:, free] for s in (steps, -steps))
    turn = (up - down).T / (2 * step)
    return raw, to_coordinates(fit.law, fit.theta)[free], turn @ fit.phi_covariance @ turn.T


def _value(fit, residual):
    return float(np.sum(fit.weights * losses(residual, fit.objective.delta * fit.sigma)))


def _noise_unit(fit: LawFit) -> float:
    """Return the unit of twice the objective's rise: ``sigma^2``, or ``mean psi^2 / mean psi'`` for Huber's loss.

    Never below what rounding makes of an exact fit, so that data without noise do not seem to identify everything.
    """
    size = 1.0 if fit.objective.residual == "log" else float(np.mean(fit.problem.target**2))
    return max(_estimated_unit(fit), _ROUNDING * size)


def _estimated_unit(fit: LawFit) -> float:
    used, threshold = fit.weights > 0, fit.objective.delta * fit.sigma
    noise, _ = noise_level(fit.residuals[used], fit.weights[used], fit.dof, threshold)
    if not fit.objective.is_robust:
        return noise
    psi_square = float(np.mean(np.minimum(np.abs(fit.residuals[used]), threshold) ** 2)) * fit.n_obs / fit.dof
    return float(np.sqrt(noise * psi_square))


def certify(fit: LawFit, level: float = 0.95) -> tuple[Certificate, dict[str, Interval]]:
    """Return a fit's certificate and the profile intervals of the fitted parameters that it rests on."""
    if not 0 < level < 1:
        raise Refusal(f"level is {level:g}; give a share between 0 and 1, such as 0.95")
    raw, phi, covariance = _raw_problem(fit)
    limit, unit = float(stats.t.ppf((1 + level) / 2, fit.dof)), _noise_unit(fit)
    base = _value(fit, fit.residuals)
    found, is_lowest, is_careful = {}, True, _has_vanished(fit)
    for place, position in enumerate(raw.free):
        parameter = fit.law.parameters[position]
        search = _Search(fit, raw, place, phi, covariance, base, unit, limit, is_careful)
        lower, upper = search.end(-1), search.end(1)
        is_lowest &= search.lowest >= base - 1e-6 * abs(base) - 1e-20
        coordinates = np.zeros((2, len(fit.law.parameters)))
        coordinates[:, position] = [np.nan_to_num(end, nan=0.0) for end in (lower, upper)]
        ends = from_coordinates(fit.law, coordinates)[0][:, position]
        ends = (
            parameter.lower if np.isnan(lower) else float(ends[0]),
            parameter.upper if np.isnan(upper) else float(ends[1]),
        )
        bounded = not (np.isnan(lower) or np.isnan(upper))
        found[parameter.name] = Interval(parameter.name, fit.params[parameter.name], *ends, level, "profile", bounded)
    identified = {name: interval.is_identified for name, interval in found.items()}
    return Certificate(identified, level, is_lowest), found


def _scale_of_term(fit: LawFit, position: int) -> float | None:
    """Return the value of an amplitude or floor at which its term is the outcome; None for other parameters."""
    law, x = fit.law, fit.problem.raw_x()
    if law.names[position] not in (*law.linear, "E") or law.parameters[position].lower != 0:
        return None
    column = np.abs(law.gradient(x, fit.theta)[:, position])
    outcome = np.exp(fit.problem.target) if fit.objective.residual == "log" else np.abs(fit.problem.target)
    # Of a law that groups share, only one group's points have its amplitude.
    own = column > 0
    return float(np.median(outcome[own]) / np.median(column[own])) if own.any() else None


def _has_vanished(fit: LawFit) -> bool:
    """Whether some term is next to nothing: at its bound a parameter has no gradient, and profiles need more starts."""
    scales = {j: _scale_of_term(fit, j) for j in fit.problem.free}
    return any(scale is not None and fit.theta[j] <= _VANISHED * scale for j, scale in scales.items())


class _Search:
    """The profile of one parameter: where its signed root of the deviance passes the limit."""

    def __init__(self, fit, raw, place, phi, covariance, base, unit, limit, is_careful=True):
        self.fit, self.raw, self.place, self.phi, self.covariance = fit, raw, place, phi, covariance
        self.base, self.unit, self.limit, self.lowest = base, unit, limit, base
        self.others = np.arange(len(phi)) != place
        self.position = int(raw.free[place])
        parameter = fit.law.parameters[self.position]
        error = float(np.sqrt(max(covariance[place, place], 0.0)))
        self.is_log = np.isfinite(parameter.lower)
        at_bound = self._vanishing() if parameter.lower == 0 and np.isinf(parameter.upper) else None
        if at_bound is not None:
            self.points = at_bound
        else:
            error = min(max(error, 1e-6), _LARGEST_ERROR) if np.isfinite(parameter.lower) else error
            reach = max(error, 1e-6 * max(1.0, abs(phi[place]))) * limit * _OFFSETS
            self.points = np.concatenate([phi[place] - reach[::-1], phi[place] + reach])
        # Away from bounds profiles are smooth, and one start at each point is enough.
        self.is_careful = is_careful
        self.roots, self.paths = self._roots(self.points)
        if self.is_careful or not self._rises():
            # Each point again from where its neighbours ended: a valley is followed, not jumped into.
            for shift in (1, -1):
                self._improve(np.roll(self.paths, shift, axis=0))

    def _rises(self) -> bool:
        """Whether the deviance rises on both sides, up to rounding."""
        steps = np.diff(self.roots) * np.sign(self.points[1:] + self.points[:-1] - 2 * self.phi[self.place])
        return bool(np.isfinite(steps).all() and np.all(steps > -1e-3 * self.limit))

    def _vanishing(self) -> np.ndarray | None:
        """Return coordinates to look at of a term that has vanished from the fit, or may as well have; None for others.

        They are shares of the outcome, from none to nearly all.
        """
        scale = _scale_of_term(self.fit, self.position)
        if scale is None or (
            np.exp(self.phi[self.place]) > _VANISHED * scale and self.covariance[self.place, self.place] < 1.0
        ):
            return None
        return np.log(scale) + np.log(_SHARES)

    def _held(self, points):
        coordinates = np.zeros((len(points), len(self.fit.law.parameters)))
        coordinates[:, self.position] = points
        values = from_coordinates(self.fit.law, coordinates)[0][:, self.position]
        return replace(self.raw, held={**self.raw.held, self.position: values})

    def _roots(self, points, *paths):
        """Return roots of the deviance and the other coordinates, the best from several starts at each point."""
        if not self.others.any():
            residual = self._held(points).evaluate(np.zeros((len(points), 0)))[0]
            objective = np.array([_value(self.fit, row) for row in residual])
            return self._deviance(objective), np.zeros((len(points), 0))
        variance = self.covariance[self.place, self.place]
        # A parameter that has gone to its bound has no curvature left to say how the others follow it.
        along = self.covariance[self.others, self.place] / variance if variance > 1e-12 else np.zeros(self.others.sum())
        moved = np.clip((points - self.phi[self.place])[:, None] * along, -8, 8)
        starts = [*paths, self.phi[self.others] + moved]
        problem = self._held(points)
        # Away from bounds, too: what starts there has no gradient and stays.
        if self.is_careful:
            starts += [resolve_linear(problem, start, self.fit.weights) for start in starts]
        many = self._held(np.tile(points, len(starts)))
        threshold = self.fit.objective.delta * self.fit.sigma
        solution = minimise(many, np.concatenate(starts), self.fit.weights, threshold, damping=0.1)
        objective = np.where(np.isfinite(solution.objective), solution.objective, np.inf).reshape(len(starts), -1)
        best, column = objective.argmin(axis=0), np.arange(len(points))
        phi = solution.phi.reshape(len(starts), len(points), -1)
        return self._deviance(objective[best, column]), phi[best, column]

    def _deviance(self, objective):
        self.lowest = min(self.lowest, float(np.min(objective)))
        return np.sqrt(np.maximum(2 * (objective - self.base) / self.unit, 0.0))

    def _improve(self, paths):
        if not self.others.any():
            return
        threshold = self.fit.objective.delta * self.fit.sigma
        solution = minimise(self._held(self.points), paths, self.fit.weights, threshold, damping=0.1)
        roots = self._deviance(np.where(np.isfinite(solution.objective), solution.objective, np.inf))
        better = roots < self.roots
        self.roots = np.where(better, roots, self.roots)
        self.paths = np.where(better[:, None], solution.phi, self.paths)

    def _further(self, side, a, fa, start):
        """Go on outwards, twice as far each time, until the limit is passed or nothing is left to look at."""
        b, fb, path, distance = a, fa, start, abs(a - self.phi[self.place])
        for _ in range(_DOUBLINGS if distance > 0 else 0):
            if self.is_log and distance > _FURTHEST:
                break
            distance *= 2
            point = np.array([self.phi[self.place] + side * distance])
            root, paths = self._roots(point, path[None])
            a, fa, start, b, fb, path = b, fb, path, point[0], root[0], paths[0]
            if fb >= self.limit:
                break
        return a, fa, start, b, fb, path

    def end(self, side: int) -> float:
        """Return the coordinate of one end, NaN where the profile stays below the limit."""
        chosen = np.flatnonzero(np.sign(self.points - self.phi[self.place]) == side)[::side]
        below = np.flatnonzero(~(self.roots[chosen] >= self.limit))
        # The outermost point below the limit, so that a failure further in does not cut the interval short.
        inner = int(below[-1]) if len(below) else -1
        a, fa, start = self.phi[self.place], 0.0, self.phi[self.others]
        if inner >= 0:
            a, fa, start = (values[chosen[inner]] for values in (self.points, self.roots, self.paths))
        if inner + 1 < len(chosen):
            b, fb, path = (values[chosen[inner + 1]] for values in (self.points, self.roots, self.paths))
        else:
            a, fa, start, b, fb, path = self._further(side, a, fa, start)
            if not fb >= self.limit:
                return np.nan
        for _ in range(_REFINEMENTS):
            if abs(b - a) <= _PRECISION * max(1.0, abs(b)) or min(abs(fb - self.limit), abs(self.limit - fa)) < 1e-7:
                break
            # The signed root of the deviance is close to a straight line; halves keep a kink from stalling it.
            share = (self.limit - fa) / (fb - fa) if np.isfinite(fb) and fb > fa else 0.5
            middle = a + (b - a) * np.clip(share, 0.02, 0.98)
            root, paths = self._roots(np.array([middle]), path[None], start[None])
            if root[0] >= self.limit:
                b, fb, path = middle, root[0], paths[0]
            else:
                a, fa, start = middle, root[0], paths[0]
        return b if abs(fb - self.limit) <= abs(fa - self.limit) else a


def delta_intervals(fit: LawFit, level: float = 0.95) -> dict[str, Interval]:
    """Return intervals by the delta method in unbounded coordinates: a check on the others, and no more.

    ``is_identified`` says here only that the standard error is finite and the interval within the bounds.
    """
    raw, phi, covariance = _raw_problem(fit)
    half = stats.t.ppf((1 + level) / 2, fit.dof) * np.sqrt(np.diag(covariance))
    ends = np.zeros((2, len(fit.law.parameters)))
    ends[:, raw.free] = phi - half, phi + half
    ends = from_coordinates(fit.law, ends)[0]
    return {
        fit.law.names[j]: Interval(
            fit.law.names[j], float(fit.theta[j]), float(ends[0, j]), float(ends[1, j]), level, "delta",
            bool(np.all(np.isfinite(ends[:, j])))
        )
        for j in raw.free
    }  # fmt: skip


@dataclass(frozen=True)
class Refits:
    """Parameters, shape (b, k), of a law fitted to resamples of its data, and the objective of each refit.

    ``n_failed`` of those drawn have no fit: the solver did not arrive, or they have too few distinct points.
    """

    theta: np.ndarray
    objective: np.ndarray
    n_failed: int


def bootstrap(
    fit: LawFit,
    n_resamples: int,
    rng: np.random.Generator,
    kind: Kind = "pairs",
    *,
    blocks: Sequence | np.ndarray | None = None,
) -> Refits:
    """Refit a law to resamples of its points, each refit started at the fit.

    ``pairs`` draws points with replacement; ``block`` whole blocks of them (runs, methods, problems), by the label of
    each point; ``residual`` adds residuals, centred and inflated for the degrees of freedom spent, to fitted values;
    ``parametric`` adds normal noise of the residual scale. Refuses if fewer than half of the refits arrive.
    """
    if kind not in KINDS:
        raise Refusal(f"unknown bootstrap {kind!r}; choose from {', '.join(KINDS)}")
    if n_resamples < 2:
        raise Refusal(f"{n_resamples} resamples have no spread; ask for at least 2")
    weights, target = _resample(fit, n_resamples, rng, kind, blocks)
    if weights.ndim == 2:
        weights = weights[_count_distinct(fit, weights) >= len(fit.phi)]
    problem = replace(fit.problem, target=target)
    start = np.repeat(fit.phi[None], len(weights) if weights.ndim == 2 else n_resamples, axis=0)
    if fit.objective.scale == "estimated":
        solution = solve(problem, start, weights, fit.objective)[0]
    else:
        shared = {"curvature_at": fit.phi} if target.ndim == 1 else {}
        solution = minimise(problem, start, weights, fit.objective.delta, damping=_DAMPING, **shared)
    arrived = solution.has_converged
    if arrived.sum() < max(2, n_resamples / 2):
        raise Refusal(
            f"{fit.law.name}: only {int(arrived.sum())} of {n_resamples} resamples have a fit; the data do not "
            "identify this law: choose one with fewer parameters"
        )
    theta = problem.raw_theta(solution.phi[arrived])
    return Refits(theta, solution.objective[arrived], n_resamples - len(theta))


def _resample(fit, n_resamples, rng, kind, blocks):
    """Return weights, shape (n,) or (b, n), and targets, shape (n,) or (b, n), of the resamples."""
    used, n = fit.weights > 0, len(fit.weights)
    target = fit.problem.target
    if kind in ("pairs", "block"):
        labels = np.arange(n) if kind == "pairs" else _check_blocks(blocks, n)
        names, member = np.unique(labels[used], return_inverse=True)
        if len(names) < 2:
            raise Refusal("a bootstrap needs at least two blocks to draw from")
        counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=n_resamples)
        weights = np.zeros((n_resamples, n))
        weights[:, used] = counts[:, member] * fit.weights[used]
        return weights, target
    fitted = target + fit.residuals
    if kind == "parametric":
        noise = rng.normal(0, fit.residual_scale, size=(n_resamples, n))
    else:
        inflation = np.sqrt(fit.n_obs / fit.dof)
        pool = (fit.residuals[used] - fit.residuals[used].mean()) * inflation
        noise = rng.choice(pool, size=(n_resamples, n))
    return fit.weights, fitted - noise


def _check_blocks(blocks, n: int) -> np.ndarray:
    if blocks is None:
        raise Refusal("a block bootstrap needs the block of each point; give blocks, or draw pairs")
    labels = np.asarray(blocks)
    if len(labels) != n:
        raise Refusal(f"there are {n} points and {len(labels)} block labels; give one a point")
    return labels


def _count_distinct(fit: LawFit, weights: np.ndarray) -> np.ndarray:
    """Return how many distinct inputs each resample holds."""
    _, place = np.unique(fit.problem.x, axis=0, return_inverse=True)
    held = np.zeros((len(weights), place.max() + 1), dtype=bool)
    for point, position in enumerate(place):
        held[:, position] |= weights[:, point] > 0
    return held.sum(axis=1)


def bootstrap_intervals(
    fit: LawFit, refits: Refits, level: float, identified: Mapping[str, bool]
) -> dict[str, Interval]:
    """Return percentile intervals of refits, with what a certificate says of each parameter."""
    ends = np.quantile(refits.theta, [(1 - level) / 2, (1 + level) / 2], axis=0).T
    return {
        name: Interval(name, fit.params[name], *map(float, ends[fit.law.index(name)]), level, "bootstrap", known)
        for name, known in identified.items()
    }
