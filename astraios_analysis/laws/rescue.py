"""What is tried where Newton's method stops short: more starts, and scipy's least squares.

A valley that runs to a bound, or to infinity, has no minimum to arrive at. There a fit counts as converged when 200
more of Newton's steps, from where scipy's trust region ended, lower the deviance by less than a hundredth: a profile's
limit is about four, so that intervals and the curve stay what they are, and the parameters are not known anyway.
"""

from dataclasses import replace

import numpy as np
from scipy.optimize import least_squares

from astraios_analysis.laws.residuals import LawResiduals, Objective
from astraios_analysis.laws.solver import Solution, minimise, solve
from astraios_analysis.laws.starts import find_starts
from astraios_analysis.records.refusal import Refusal

SOLVER_ERRORS = (np.linalg.LinAlgError, FloatingPointError, ValueError, OverflowError)
_MORE_STARTS = 12
_MAX_EVALUATIONS = 400
# A fall of the deviance (twice the objective's, in units of the noise) below this says that nothing is left to gain.
_NO_GAIN = 1e-2
# A floor below this share of the outcome may be on its way to 0; and the coordinate that is 0 for every purpose.
_NEAR_BOUND, _AT_BOUND = 1e-3, -200.0


def solve_or_rescue(
    problem: LawResiduals,
    starts: np.ndarray,
    weights: np.ndarray,
    objective: Objective,
    polished: tuple[Solution, np.ndarray] | None = None,
) -> tuple[tuple[Solution, np.ndarray], str]:
    """Return minima of one problem with Huber's scales, and the name of what found them where Newton's method did not.

    ``polished`` are minima from the starts that are there already.
    """
    try:
        found = polished or solve(problem, starts, weights, objective)
    except SOLVER_ERRORS as error:
        if isinstance(error, Refusal):
            raise
        found = None
    if objective.scale == "estimated":
        if found is None:
            raise Refusal(f"{problem.law.name}: the solver found no minimum; keep Huber's scale fixed")
        return found, ""
    fallback, solution = "", None if found is None else _polish_bound(problem, found[0], weights, objective)
    if solution is None or not solution.has_converged[np.argmin(solution.objective)]:
        solution, fallback = _rescue(problem, starts, weights, objective, solution)
        solution = _polish_bound(problem, solution, weights, objective)
    return (solution, np.ones(len(solution.objective))), fallback


def _polish_bound(problem: LawResiduals, found: Solution, weights: np.ndarray, objective: Objective) -> Solution:
    """Put a floor at its bound of 0 where the best solution is on its way there and the rest fits as well without it.

    In log coordinates a bound is never reached, and how far a fit gets is the solver's and not the data's.
    """
    row, law = int(np.argmin(found.objective)), problem.law
    places = [place for place, j in enumerate(problem.free) if law.names[j] == "E" and law.parameters[j].lower == 0]
    outcome = np.exp(problem.target) if problem.residual == "log" else np.abs(problem.target)
    if (
        not places
        or len(problem.free) < 2
        or found.phi[row, places[0]] > np.log(_NEAR_BOUND * np.mean(outcome) + 1e-300)
    ):
        return found
    others, held = np.arange(len(problem.free)) != places[0], {int(problem.free[places[0]]): 0.0}
    without = replace(problem, held={**problem.held, **held})
    at = minimise(without, found.phi[[row]][:, others], weights, objective.delta)
    if not (at.has_converged[0] and at.objective[0] <= found.objective[row] * (1 + 1e-9) + 1e-24):
        return found
    phi = found.phi.copy()
    phi[row, others], phi[row, places[0]] = at.phi[0], _AT_BOUND
    columns = {name: getattr(found, name).copy() for name in ("objective", "gradient_norm", "has_converged")}
    for name, values in columns.items():
        values[row] = getattr(at, name)[0]
    return replace(found, phi=phi, **columns)


def _rescue(problem, starts, weights, objective, found: Solution | None) -> tuple[Solution, str]:
    """Return minima of more starts, or of scipy's least squares, and which it was."""
    parts = [] if found is None else [found]
    try:
        more = find_starts(problem, weights, _MORE_STARTS)
        parts.append(minimise(problem, more, weights, objective.delta))
    except SOLVER_ERRORS:
        more = starts
    best = _together(parts) if parts else None
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
    return last if best is None else _together([best, last]), "scipy least_squares"


def _least_squares(problem: LawResiduals, start: np.ndarray, weights: np.ndarray, objective: Objective) -> Solution:
    """Minimise from one start (q,) by scipy's trust region, then by Newton's method from where that ends."""
    used = weights > 0
    root = np.sqrt(weights[used])
    if objective.is_robust and np.ptp(root) > 0:
        raise ValueError("Huber's loss of unequal weights")
    robust = {"loss": "huber", "f_scale": objective.delta * root[0]} if objective.is_robust else {}

    def residual(phi):
        return np.nan_to_num(problem.evaluate(phi)[0][used] * root, nan=1e6, posinf=1e6, neginf=-1e6)

    def jacobian(phi):
        return np.nan_to_num((problem.evaluate(phi)[1][:, used] * root).T, nan=0.0, posinf=0.0, neginf=0.0)

    tight = {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15, "max_nfev": _MAX_EVALUATIONS}
    phi = least_squares(residual, start, jacobian, x_scale="jac", **robust, **tight).x
    first = minimise(problem, np.stack([start, phi]), weights, objective.delta)
    again = minimise(problem, first.phi[[int(np.argmin(first.objective))]], weights, objective.delta)
    gain = first.objective.min() - again.objective[0]
    dof = max(int(used.sum()) - len(start), 1)
    flat = np.isfinite(again.objective) & (gain * dof <= _NO_GAIN * again.objective)
    return Solution(again.phi, again.objective, again.gradient_norm, again.has_converged | flat, again.n_steps)


def _together(parts: list[Solution]) -> Solution:
    return Solution(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in Solution.__dataclass_fields__)
    )
