"""Damped Newton on the true objective, for many problems at once.

For residuals r with derivatives J, weights w and Huber's loss, gradient and Hessian are ``J w psi(r)`` and
``J w 1[|r| <= delta] J' + sum w psi(r) r''``. Only the few points within delta carry the first part of the Hessian, so
that it says little far from the solution. It is damped with the matrix of iteratively re-weighted least squares,
``M = J w min(1, delta / |r|) J'``: with much damping a step is a short one of that safe, slow method, with none it is
Newton's. Both are invariant to how parameters are scaled, and so is the damped step. For least squares it is
Levenberg and Marquardt's method with full second derivatives.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from astraios_analysis.laws.residuals import LawResiduals, Objective, log_normaliser, losses
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
