"""Minima of an objective whose Huber scale is fixed, or estimated together with the parameters."""

import numpy as np

from astraios_analysis.laws.objectives import Objective, log_normaliser, losses
from astraios_analysis.laws.residuals import LawResiduals
from astraios_analysis.laws.solver import Solution, minimise
from astraios_analysis.records.refusal import Refusal

_MAX_SCALE_STEPS = 200
# Residuals below this, relative to the outcome, are the solver's and not the data's.
_EXACT = 1e-9


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
    return Solution(solution.phi, value, solution.gradient_norm, solution.has_converged, solution.n_steps), sigma


def _require_scatter(problem: LawResiduals, residual: np.ndarray, weights: np.ndarray) -> None:
    """Refuse data that the law passes through: they have no scale."""
    size = 1.0 if problem.residual == "log" else float(np.abs(problem.target).max())
    if np.any(np.max(np.abs(residual) * (weights > 0), axis=1) < _EXACT * size):
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
