"""Damped Newton on the true objective, for many problems at once.

For residuals r with derivatives J, weights w and Huber's loss, gradient and Hessian are ``J w psi(r)`` and
``J w 1[|r| <= delta] J' + sum w psi(r) r''``. Only the few points within delta carry the first part of the Hessian, so
that it says little far from the solution. It is damped with the matrix of iteratively re-weighted least squares,
``M = J w min(1, delta / |r|) J'``: with much damping a step is a short one of that safe, slow method, with none it is
Newton's. Both are invariant to how parameters are scaled, and so is the damped step. For least squares it is
Levenberg and Marquardt's method with full second derivatives.

Where it stops short (`solve_or_rescue`), more starts are tried, and scipy's least squares. A valley that runs to a
bound, or to infinity, has no minimum to arrive at. There a fit counts as converged when 200 more of Newton's steps,
from where scipy's trust region ended, lower the deviance by less than a hundredth: a profile's limit is about four, so
that intervals and the curve stay what they are, and the parameters are not known anyway.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import least_squares

from astraios_analysis.laws.residuals import LawResiduals, Objective, log_normaliser, losses, nearest_bound
from astraios_analysis.laws.starts import find_starts
from astraios_analysis.records.refusal import Refusal

# Problems solved side by side: large enough that Python's cost is spread, small enough to stay in the cache.
CHUNK = 128
MAX_STEPS = 200
# A step that would gain less than this share of the objective is the last one.
_GAIN_TOLERANCE = 1e-14
# Below this size per unit of weight, residuals are rounding errors and the fit is exact.
_EXACT = 1e-13
GRADIENT_TOLERANCE = 1e-6
_MAX_DAMPING = 1e10
# Second derivatives change slowly; they are taken anew only every so many steps.
_CURVATURE_EVERY = 4
# A problem that takes longer than this lies in a bent valley, where old second derivatives mislead.
_EASY_STEPS = 20
_DAMPING_IN_VALLEYS = 1e-4
_MAX_MOVE = 4.0
_MAX_SCALE_STEPS = 200
# Residuals below this, relative to the outcome, are the solver's and not the data's.
_NO_SCATTER = 1e-9


@dataclass(frozen=True)
class Solution:
    """Minima of a batch of b problems; ``phi``, shape (b, q), are the free parameters in unbounded coordinates.

    ``gradient_norm`` is the largest component of the gradient relative to the sum of its terms' sizes, or to the
    objective where that is larger: 0 at a minimum, at most 1.
    """

    phi: np.ndarray
    objective: np.ndarray
    gradient_norm: np.ndarray
    has_converged: np.ndarray
    n_steps: np.ndarray

    def take(self, rows: np.ndarray) -> "Solution":
        """Return the minima that ``rows`` chooses."""
        return Solution(*(values[rows] for values in vars(self).values()))


def join(parts: Sequence[Solution]) -> Solution:
    """Return the minima of several batches as one."""
    return Solution(*map(np.concatenate, zip(*(vars(part).values() for part in parts), strict=True)))


def minimise(
    residuals: LawResiduals,
    start: np.ndarray,
    weights: np.ndarray,
    delta: np.ndarray | float = np.inf,
    *,
    curvature_at: np.ndarray | None = None,
    max_steps: int = MAX_STEPS,
    damping: float = 1.0,
) -> Solution:
    """Minimise the weighted loss of residuals from starts (b, q), with weights (n,) or (b, n).

    ``curvature_at`` (q,) takes second derivatives there for all problems, which saves most of the work when they are
    resamples of one fit and start from it; it changes the path and not the minimum, because gradients stay exact.
    ``damping`` is the share of re-weighted least squares in the first step's matrix.
    """
    n_problems = len(start)
    delta = np.broadcast_to(np.asarray(delta, dtype=float), (n_problems,))
    shared = None if curvature_at is None else residuals.curvature(curvature_at)
    parts = []
    for first in range(0, n_problems, CHUNK):
        rows = np.arange(first, min(first + CHUNK, n_problems))
        own_weights = weights[rows] if np.ndim(weights) == 2 else np.broadcast_to(weights, (len(rows), len(weights)))
        descent = _Descent(residuals.take(rows), start[rows], own_weights, delta[rows, None], shared)
        parts.append(Solution(*descent.run(max_steps, damping)))
    return join(parts)


class _Descent:
    """The state of one chunk of problems on their way down; problems that have arrived are put aside."""

    def __init__(self, residuals, start, weights, delta, shared):
        self.residuals, self.phi, self.weights = residuals, start.copy(), weights
        self.delta, self.shared = delta, shared
        self.rows = np.arange(len(start))
        n = len(start)
        self.out = (start.copy(), np.full(n, np.inf), np.full(n, np.inf), np.zeros(n, bool), np.zeros(n, int))
        self.exact = _EXACT**2 * weights.sum(axis=1)
        self.r, self.jacobian = residuals.evaluate(self.phi)
        self.value = self._loss(self.r)
        # A start without a finite value has no way down; it ends where it is, as not converged.
        lost = ~(np.isfinite(self.value) & np.isfinite(self.jacobian).all(axis=(1, 2)))
        self.value[lost], self.r[lost], self.jacobian[lost] = np.inf, 0.0, 0.0
        self.tensor = shared

    def _loss(self, r):
        with np.errstate(invalid="ignore"):
            total = np.sum(self.weights * losses(r, self.delta), axis=1)
        return np.where(np.isfinite(total), total, np.inf)

    def run(self, max_steps, damping):
        lam = np.full(len(self.phi), damping)
        for step in range(1, max_steps + 1):
            if step > _EASY_STEPS or (self.shared is None and (step - 1) % _CURVATURE_EVERY == 0):
                self.tensor = self._curvature()
            if step <= _EASY_STEPS:
                slope, matrix = self._model(lam)
                move = -_solve_systems(matrix, slope)
            else:
                lam = np.minimum(lam, _DAMPING_IN_VALLEYS) if step == _EASY_STEPS + 1 else lam
                slope, matrix = self._model(np.zeros_like(lam))
                move = _leave_saddle(slope, matrix, lam)
            move, gain = _limit(slope, move)
            old = self.value
            accepted = self._try(move)
            with np.errstate(invalid="ignore"):
                is_good = old - self.value > 0.5 * gain
            lam = np.where(accepted, np.maximum(lam * np.where(is_good, 0.1, 0.5), 1e-12), lam * 6)
            done = (gain <= _GAIN_TOLERANCE * old) & (lam < 1e-2)
            done |= (old <= self.exact) | (lam > _MAX_DAMPING) | (step == max_steps)
            if np.any(done):
                self._put_aside(done, step)
                lam = lam[~done]
                if not len(self.rows):
                    break
        return self.out

    def _curvature(self):
        """Return second derivatives; where they are no numbers, none: the step is then that of least squares."""
        found = self.residuals.curvature(self.phi)
        found[~np.isfinite(found).all(axis=(1, 2, 3))] = 0.0
        return found

    def _model(self, lam):
        """Return the gradient and the damped Hessian."""
        size = np.abs(self.r)
        inside = size <= self.delta
        share = np.where(inside, 1.0, self.delta / np.maximum(size, 1e-300))
        pull = self.weights * share
        stiffness = (inside + lam[:, None] * share) * self.weights
        pull *= self.r
        slope = np.matmul(self.jacobian, pull[:, :, None])[:, :, 0]
        matrix = np.matmul(self.jacobian * stiffness[:, None, :], np.swapaxes(self.jacobian, 1, 2))
        diagonal = np.einsum("bkk->bk", matrix)
        # Keeps the system solvable where a column is zero or the columns are collinear to rounding.
        ridge = 1e-12 * diagonal + 1e-24 * diagonal.max(axis=1, keepdims=True) + 1e-300
        matrix += self._bend(pull) + ridge[:, :, None] * np.eye(ridge.shape[1])
        return slope, matrix

    def _bend(self, pull):
        q = self.phi.shape[1]
        if self.tensor.ndim == 3:
            return (pull @ self.tensor.reshape(q * q, -1).T).reshape(-1, q, q)
        return np.einsum("bkln,bn->bkl", self.tensor, pull)

    def _try(self, move):
        phi = self.phi + move
        r, jacobian = self.residuals.evaluate(phi)
        value = self._loss(r)
        accepted = (value < self.value) & np.isfinite(jacobian).all(axis=(1, 2))
        if np.all(accepted):
            self.phi, self.r, self.jacobian, self.value = phi, r, jacobian, value
        else:
            self.phi = np.where(accepted[:, None], phi, self.phi)
            self.r = np.where(accepted[:, None], r, self.r)
            self.jacobian = np.where(accepted[:, None, None], jacobian, self.jacobian)
            self.value = np.where(accepted, value, self.value)
        return accepted

    def _put_aside(self, done, step):
        relative = self._relative_gradient()
        rows = self.rows[done]
        phi, objective, gradient, converged, n_steps = self.out
        phi[rows], objective[rows], n_steps[rows] = self.phi[done], self.value[done], step
        is_exact = self.value[done] <= self.exact[done]
        gradient[rows] = np.where(is_exact, 0.0, relative[done])
        converged[rows] = is_exact | ((relative[done] <= GRADIENT_TOLERANCE) & np.isfinite(objective[rows]))
        keep = ~done
        self.rows, self.residuals = self.rows[keep], self.residuals.take(keep)
        for name in ("phi", "r", "jacobian", "value", "weights", "delta", "exact"):
            setattr(self, name, getattr(self, name)[keep])
        if self.tensor.ndim == 4:
            self.tensor = self.tensor[keep]

    def _relative_gradient(self):
        pull = self.weights * np.clip(self.r, -self.delta, self.delta)
        slope = np.abs(np.matmul(self.jacobian, pull[:, :, None])[:, :, 0])
        terms = np.matmul(np.abs(self.jacobian), np.abs(pull)[:, :, None])[:, :, 0]
        # Where a parameter has gone to its bound all terms have one sign, and are as small as the objective is flat.
        against = np.maximum(terms, self.value[:, None])
        return np.max(slope / np.maximum(against, 1e-300), axis=1)


def _limit(slope: np.ndarray, move: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return steps of bounded length and the gain each promises at least; an uphill one stays and promises infinity."""
    move *= np.minimum(1, _MAX_MOVE / np.maximum(np.abs(move).max(axis=1, keepdims=True), 1e-300))
    descent = -np.sum(slope * move, axis=1)
    uphill = ~(descent > 0) & np.any(slope != 0, axis=1)
    move[uphill] = 0.0
    return move, np.where(uphill, np.inf, 0.5 * descent)


def _leave_saddle(slope: np.ndarray, matrix: np.ndarray, lam: np.ndarray) -> np.ndarray:
    """Return damped Newton steps with negative curvatures turned positive: down a ridge, where Newton's climbs it."""
    scale = np.sqrt(np.abs(np.einsum("bkk->bk", matrix)))
    scale = np.maximum(scale, 1e-12 * scale.max(axis=1, keepdims=True) + 1e-150)
    scaled = matrix / (scale[:, :, None] * scale[:, None, :])
    # A model that overflows has no directions: a step along the gradient.
    scaled[~np.isfinite(scaled).all(axis=(1, 2))] = np.eye(scaled.shape[1])
    curvature, axes = np.linalg.eigh(scaled)
    largest = np.abs(curvature).max(axis=1, keepdims=True)
    curvature = np.maximum(np.abs(curvature), 1e-12 * largest + 1e-150) + lam[:, None] * 1e-3 * largest
    along = np.einsum("bkj,bk->bj", axes, slope / scale) / curvature
    return -np.einsum("bkj,bj->bk", axes, along) / scale


def _solve_systems(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve a batch of small systems; a singular one falls back to least squares."""
    try:
        return np.linalg.solve(matrix, right[..., None])[..., 0]
    except np.linalg.LinAlgError:
        return np.stack([np.linalg.lstsq(m, v, rcond=None)[0] for m, v in zip(matrix, right, strict=True)])


def solve(
    problem: LawResiduals, starts: np.ndarray, weights: np.ndarray, objective: Objective
) -> tuple[Solution, np.ndarray]:
    """Minimise an objective from starts (b, q); return the minima and Huber's scale of each."""
    if objective.scale == "fixed":
        return minimise(problem, starts, weights, objective.delta), np.ones(len(starts))
    return _solve_with_scale(problem, starts, weights, objective)


def _solve_with_scale(problem, starts, weights, objective):
    """Alternate between parameters and scale, from a smooth objective to the sharp one.

    Given the scale, parameters minimise Huber's loss with threshold ``delta sigma``; given them, the scale solves
    ``sigma = mean(psi(r / sigma) r)``. A threshold far below the residuals makes the objective that of least absolute
    deviations, whose minimum has as many exact points as parameters; lowering it tenfold at a time leads there.
    """
    total = weights.sum() if weights.ndim == 1 else weights.sum(axis=1)
    solution = minimise(problem, starts, weights, np.inf)
    residual = problem.evaluate(solution.phi)[0]
    _require_scatter(problem, residual, weights)
    # Huber's own choice for a first threshold: 1.345 robust standard deviations.
    threshold = 1.345 * 1.4826 * np.median(np.abs(residual), axis=1)
    sigma = np.full(len(starts), np.nan)
    for _ in range(_MAX_SCALE_STEPS):
        solution = minimise(problem, solution.phi, weights, threshold, damping=1e-2)
        residual = problem.evaluate(solution.phi)[0]
        old, sigma = sigma, _solve_scale(residual, weights, total, objective.delta)
        target = objective.delta * sigma
        arrived = np.abs(target - threshold) <= 1e-12 * target
        if np.all(arrived | (np.abs(sigma - old) <= 1e-14 * sigma) & (target >= threshold)):
            break
        threshold = np.maximum(target, 0.1 * threshold)
    value = np.sum(weights * losses(residual, threshold[:, None]), axis=1) / sigma**2
    value = value + total * (np.log(sigma) + log_normaliser(objective.delta))
    return replace(solution, objective=value), sigma


def _require_scatter(problem: LawResiduals, residual: np.ndarray, weights: np.ndarray) -> None:
    """Refuse data that the law passes through: they have no scale."""
    size = 1.0 if problem.residual == "log" else float(np.abs(problem.target).max())
    if np.any(np.max(np.abs(residual) * (weights > 0), axis=1) < _NO_SCATTER * size):
        raise Refusal("residuals are zero, so that their scale cannot be estimated; keep the scale fixed")


def _solve_scale(residual: np.ndarray, weights: np.ndarray, total: np.ndarray, delta: float) -> np.ndarray:
    size = np.abs(residual)
    sigma = np.sum(weights * size, axis=1) / total * min(delta, 1.0)
    for _ in range(1000):
        # sigma^2 = mean(min(|r|, delta sigma) |r|): increasing and concave in sigma^2, so that iterating converges.
        new = np.sqrt(np.sum(weights * np.minimum(size, delta * sigma[:, None]) * size, axis=1) / total)
        if np.all(np.abs(new - sigma) <= 1e-15 * new):
            break
        sigma = new
    return sigma


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
