"""What is tried where Newton's method stops short: more starts, and scipy's least squares.

A valley that runs to a bound, or to infinity, has no minimum to arrive at. There a fit counts as converged when 200
more of Newton's steps, from where scipy's trust region ended, lower the deviance by less than a hundredth: a profile's
limit is about four, so that intervals and the curve stay what they are, and the parameters are not known anyway.
"""

from dataclasses import replace

import numpy as np
from scipy.optimize import least_squares

from astraios_analysis.laws.residuals import LawResiduals, Objective, nearest_bound
from astraios_analysis.laws.solver import Solution, join, minimise, solve
from astraios_analysis.laws.starts import find_starts
from astraios_analysis.records.refusal import Refusal

SOLVER_ERRORS = (np.linalg.LinAlgError, FloatingPointError, ValueError, OverflowError)
_MORE_STARTS = 12
_MAX_EVALUATIONS = 400
# A fall of the deviance (twice the objective's, in units of the noise) below this says that nothing is left to gain.
NO_GAIN = 1e-2
# A parameter that moves no outcome by more than this share may be on its way to a bound.
_NEAR_BOUND = 1e-3


def solve_or_rescue(
    problem: LawResiduals, starts: np.ndarray, objective: Objective
) -> tuple[Solution, np.ndarray, str]:
    """Return minima of a problem, Huber's scales, and the name of what found them where Newton's method did not."""
    weights = np.ones(len(problem.target))
    try:
        found = solve(problem, starts, weights, objective)
    except SOLVER_ERRORS as error:
        if isinstance(error, Refusal):
            raise
        found = None
    if objective.scale == "estimated":
        if found is None:
            raise Refusal(f"{problem.law.name}: the solver found no minimum; keep Huber's scale fixed")
        return *found, ""
    fallback, solution = "", None if found is None else _polish_bounds(problem, found[0], weights, objective)
    if solution is None or not solution.has_converged[np.argmin(solution.objective)]:
        solution, fallback = _rescue(problem, starts, weights, objective, solution)
        solution = _settle(problem, _polish_bounds(problem, solution, weights, objective), weights, objective)
    return solution, np.ones(len(solution.objective)), fallback


def _polish_bounds(problem: LawResiduals, found: Solution, weights: np.ndarray, objective: Objective) -> Solution:
    """Put parameters at a bound where the best solution is on its way there and the rest fits as well with them at it.

    In unbounded coordinates a bound is never reached, and how far a fit gets is the solver's and not the data's.
    """
    row, size = int(np.argmin(found.objective)), 1.0 if problem.residual == "log" else np.mean(np.abs(problem.target))
    best = found.take([row])
    slope = np.abs(problem.evaluate(best.phi[0])[1]).max(axis=1)
    held: dict[int, float] = {}
    for place in np.flatnonzero(slope <= _NEAR_BOUND * size):
        j = int(problem.free[place])
        bound = nearest_bound(problem.law.parameters[j], best.phi[0, place])
        others = np.array([k not in held and k != j for k in problem.free])
        if bound is None or not others.any():
            continue
        value, coordinate = bound
        at = replace(problem, held={**problem.held, **held, j: value})
        end = minimise(at, best.phi[:, others], weights, objective.delta)
        if end.objective[0] <= best.objective[0] * (1 + 1e-9) + 1e-24:
            phi = best.phi.copy()
            phi[0, others], phi[0, place], held[j] = end.phi[0], coordinate, value
            best = replace(end, phi=phi)
    if not held:
        return found
    rows = np.arange(len(found.objective))
    rows[row] = len(rows)
    return join([found, best]).take(rows)


def _rescue(problem, starts, weights, objective, found: Solution | None) -> tuple[Solution, str]:
    """Return minima of more starts, or of scipy's least squares, and which it was."""
    parts = [] if found is None else [found]
    try:
        more = find_starts(problem, weights, _MORE_STARTS)
        parts.append(minimise(problem, more, weights, objective.delta))
    except SOLVER_ERRORS:
        more = starts
    best = join(parts) if parts else None
    row = None if best is None else int(np.argmin(best.objective))
    if row is not None and best.has_converged[row]:
        return best, f"{len(more)} starts"
    start = starts[0] if row is None or not np.isfinite(best.objective[row]) else best.phi[row]
    try:
        last = _least_squares(problem, start, weights, objective)
    except SOLVER_ERRORS as error:
        if best is None:
            raise Refusal(f"{problem.law.name}: no solver ends on these points ({error})") from None
        return best, ""
    return last if best is None else join([best, last]), "scipy least_squares"


def _least_squares(problem: LawResiduals, start: np.ndarray, weights: np.ndarray, objective: Objective) -> Solution:
    """Minimise from one start (q,) by scipy's trust region, then by Newton's method from where that ends."""
    robust = {"loss": "huber", "f_scale": objective.delta} if objective.is_robust else {}

    def residual(phi):
        return np.nan_to_num(problem.evaluate(phi)[0], nan=1e6, posinf=1e6, neginf=-1e6)

    def jacobian(phi):
        by_point = np.ascontiguousarray(problem.evaluate(phi)[1].T)
        return np.nan_to_num(by_point, nan=0.0, posinf=0.0, neginf=0.0)

    tight = {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15, "max_nfev": _MAX_EVALUATIONS}
    phi = least_squares(residual, start, jacobian, x_scale="jac", **robust, **tight).x
    return minimise(problem, np.stack([start, phi]), weights, objective.delta)


def _settle(problem: LawResiduals, found: Solution, weights: np.ndarray, objective: Objective) -> Solution:
    """Count the best solution as converged if going on gains next to nothing: it lies in a valley without an end."""
    row = int(np.argmin(found.objective))
    if found.has_converged[row] or not np.isfinite(found.objective[row]):
        return found
    again = minimise(problem, found.phi[[row]], weights, objective.delta)
    gain, dof = found.objective[row] - again.objective, max(len(weights) - found.phi.shape[1], 1)
    flat = np.isfinite(again.objective) & (gain * dof <= NO_GAIN * again.objective)
    return join([found, replace(again, has_converged=again.has_converged | flat)])
