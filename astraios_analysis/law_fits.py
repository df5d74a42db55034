"""Fit any law of the registry to points: global start, damped Newton on the true objective, standard errors.

The parameters are found from the data alone. Each fit carries its objective, its gradient, how many starts agree, and
its degrees of freedom; whether the data identify each parameter is `profiles.certify`'s to say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from astraios_analysis.law_types import Law
from astraios_analysis.objectives import FitError, Objective, log_normaliser, losses
from astraios_analysis.residuals import LawResiduals, to_coordinates
from astraios_analysis.solver import Solution, minimise
from astraios_analysis.starts import find_starts

N_STARTS = 3
# Starts whose objectives differ by less than this share ended at the same minimum.
_SAME_MINIMUM = 1e-7
_MAX_SCALE_STEPS = 200


@dataclass(frozen=True)
class LawFit:
    """A law fitted to points.

    Attributes
    ----------
    law : Law
    objective : Objective
        What was minimised.
    theta : ndarray, shape (k,)
        Parameters, for inputs in their own units.
    covariance : ndarray, shape (k, k)
        Of ``theta`` by the delta method; zero rows for parameters that were held.
    value : float
        The objective at ``theta``.
    residuals : ndarray, shape (n,)
        Law minus data on the objective's scale.
    residual_scale : float
        Standard deviation of residuals with ``dof`` in the denominator; for a Huber fit a robust one (from the median
        size of residuals).
    sigma : float
        Huber's scale: estimated, or 1 where it is fixed.
    n_obs, dof : int
        Points with positive weight, and those beyond the fitted parameters.
    x_range : ndarray, shape (d, 2)
        Smallest and largest of each input.
    gradient_norm : float
        Largest component of the gradient relative to the sum of its terms' sizes.
    condition_number : float
        Of the derivatives with columns of length one, in log coordinates on centred inputs.
    n_starts, n_agreeing : int
        Starts polished, and how many of them ended at this minimum.
    status, message : str
        ``"converged"`` or ``"failed"``, and what happened.
    """

    law: Law
    objective: Objective
    theta: np.ndarray
    covariance: np.ndarray
    value: float
    residuals: np.ndarray
    residual_scale: float
    sigma: float
    n_obs: int
    dof: int
    x_range: np.ndarray
    gradient_norm: float
    condition_number: float
    n_starts: int
    n_agreeing: int
    status: Literal["converged", "failed"]
    message: str
    problem: LawResiduals
    phi: np.ndarray
    phi_covariance: np.ndarray
    weights: np.ndarray

    @property
    def params(self) -> dict[str, float]:
        """Parameters by name."""
        return dict(zip(self.law.names, map(float, self.theta), strict=True))

    @property
    def standard_errors(self) -> dict[str, float]:
        """Standard errors by name, by the delta method; 0 for held parameters."""
        return dict(zip(self.law.names, map(float, np.sqrt(np.diag(self.covariance))), strict=True))

    def predict(self, x: np.ndarray, theta: np.ndarray | None = None) -> np.ndarray:
        """Return the law at inputs (n,) or (n, d): its value at the fit, or at each of ``theta`` (m, k)."""
        return self.law.function(check_inputs(self.law, x), self.theta if theta is None else theta)

    def draw(self, n_draws: int, rng: np.random.Generator) -> np.ndarray:
        """Draw parameters, shape (n_draws, k), from a multivariate t distribution in unbounded coordinates."""
        normal = rng.multivariate_normal(np.zeros(len(self.phi)), self.phi_covariance, size=n_draws, method="eigh")
        spread = np.sqrt(rng.chisquare(self.dof, size=(n_draws, 1)) / self.dof)
        return self.problem.raw_theta(self.phi + normal / spread)


def fit_law(
    law: Law,
    x: np.ndarray,
    y: np.ndarray,
    *,
    objective: Objective | None = None,
    weights: np.ndarray | None = None,
    fixed: Mapping[str, float] | None = None,
    n_starts: int = N_STARTS,
    must_converge: bool = True,
) -> LawFit:
    """Fit a law to points.

    Parameters
    ----------
    law : Law
    x : ndarray, shape (n,) or (n, d)
        Inputs, positive.
    y : ndarray, shape (n,)
        Outcomes; positive where residuals are logarithmic.
    objective : Objective, optional
        Least squares on the law's own residual scale by default.
    weights : ndarray, shape (n,), optional
        Non-negative; 1 by default.
    fixed : mapping of str to float, optional
        Parameters to hold at a value.
    n_starts : int
        Starts to polish, of all those searched.
    must_converge : bool
        Raise where the solver ends with a gradient; otherwise the fit says so.

    Raises
    ------
    FitError
        If values are not usable, no degree of freedom is left, or the solver did not arrive.
    """
    objective = objective or Objective(residual=law.residual)
    x, y, weights = _check_points(law, objective, x, y, weights)
    held = _check_fixed(law, fixed or {})
    _check_count(law, x, weights, held)
    problem = make_problem(law, x, y, objective, held)
    starts = find_starts(problem, weights, n_starts)
    solution, sigma = solve(problem, starts, weights, objective)
    best = int(np.argmin(solution.objective))
    floor = solution.objective[best] + _SAME_MINIMUM * abs(solution.objective[best]) + 1e-24
    found = finish(problem, solution, best, weights, objective, sigma[best])
    agreeing = int(np.sum(solution.objective <= floor))
    found = LawFit(**(found | {"n_starts": len(starts), "n_agreeing": agreeing}))
    if found.status == "failed" and must_converge:
        raise FitError(f"{law.name}: {found.message}")
    return found


def make_problem(law: Law, x: np.ndarray, y: np.ndarray, objective: Objective, held: Mapping[int, float]):
    """Return the residuals of a law on points, with inputs divided by their geometric mean where that is free to do."""
    scale = np.exp(np.log(x).mean(axis=0)).reshape(len(law.inputs))
    if law.rescale is None or not _held_survive(law, held, scale):
        scale = np.ones(len(law.inputs))
    target = np.log(y) if objective.residual == "log" else y
    return LawResiduals(law, x / (scale if x.ndim > 1 else scale[0]), target, objective.residual, scale, held)


def _held_survive(law: Law, held: Mapping[int, float], scale: np.ndarray) -> bool:
    """Whether held parameters mean the same for scaled inputs, whatever the others are."""
    if not held:
        return True
    probe = np.array([1.1 if np.isinf(p.upper) else 0.5 * (p.lower + p.upper) for p in law.parameters])
    moved = law.rescale(probe, scale)
    return all(moved[j] == probe[j] for j in held)


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
    # Huber's own choice for a first threshold: 1.345 robust standard deviations.
    threshold = 1.345 * 1.4826 * np.median(np.abs(residual), axis=1)
    sigma = np.full(len(starts), np.nan)
    for _ in range(_MAX_SCALE_STEPS):
        solution = minimise(problem, solution.phi, weights, threshold, damping=1e-2)
        residual = problem.evaluate(solution.phi)[0]
        old, sigma = sigma, _solve_scale(residual, weights, total, objective.delta)
        if np.any(sigma <= 0):
            raise FitError("residuals are zero, so that their scale cannot be estimated; keep the scale fixed")
        target = objective.delta * sigma
        arrived = np.abs(target - threshold) <= 1e-12 * target
        if np.all(arrived | (np.abs(sigma - old) <= 1e-14 * sigma) & (target >= threshold)):
            break
        threshold = np.maximum(target, 0.1 * threshold)
    value = np.sum(weights * losses(residual, threshold[:, None]), axis=1) / sigma**2
    value = value + total * (np.log(sigma) + log_normaliser(objective.delta))
    return Solution(solution.phi, value, solution.gradient_norm, solution.has_converged, solution.n_steps), sigma


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


def finish(
    problem: LawResiduals, solution: Solution, row: int, weights: np.ndarray, objective: Objective, sigma: float
) -> dict:
    """Return the fields of a `LawFit` for one minimum of a solution: errors, certificate numbers and message."""
    law, phi = problem.law, solution.phi[row]
    residual, jacobian = problem.evaluate(phi)
    used = weights > 0
    n_obs, dof = int(used.sum()), int(used.sum()) - len(phi)
    noise, spread = noise_level(residual[used], weights[used], dof, objective.delta * sigma)
    columns = jacobian[:, used] * np.sqrt(weights[used])
    length = np.sqrt(np.sum(columns**2, axis=1))
    condition = np.linalg.cond((columns / np.where(length > 0, length, 1)[:, None]).T) if np.all(length > 0) else np.inf
    phi_covariance = noise * np.linalg.pinv(columns @ columns.T, hermitian=True)
    turn = _theta_by_phi(problem, phi)
    converged = bool(solution.has_converged[row])
    raw = (problem.x * (problem.scale if problem.x.ndim > 1 else problem.scale[0])).reshape(len(residual), -1)[used]
    return {
        "law": law,
        "objective": objective,
        "theta": problem.raw_theta(phi),
        "covariance": turn @ phi_covariance @ turn.T,
        "value": float(solution.objective[row]),
        "residuals": residual,
        "residual_scale": spread,
        "sigma": float(sigma),
        "n_obs": n_obs,
        "dof": dof,
        "x_range": np.column_stack([raw.min(axis=0), raw.max(axis=0)]),
        "gradient_norm": float(solution.gradient_norm[row]),
        "condition_number": float(condition),
        "status": "converged" if converged else "failed",
        "message": f"{int(solution.n_steps[row])} Newton steps; relative gradient {solution.gradient_norm[row]:.1e}",
        "problem": problem,
        "phi": phi,
        "phi_covariance": phi_covariance,
        "weights": weights,
    }


def noise_level(residual: np.ndarray, weights: np.ndarray, dof: int, threshold: float) -> tuple[float, float]:
    """Return the factor of the covariance, and the standard deviation of residuals.

    For least squares both come from the mean square. For Huber's loss the factor is ``mean psi^2 / (mean psi')^2``
    (Huber 1964), with ``psi'`` counted over a window no narrower than a kernel estimate of a density needs.
    """
    n = len(residual)
    if not np.isfinite(threshold):
        square = float(np.sum(weights * residual**2) / dof)
        return square, float(np.sqrt(square))
    spread = float(1.4826 * np.median(np.abs(residual)))
    window = max(threshold, 1.06 * spread * n**-0.2)
    psi = np.minimum(np.abs(residual), threshold)
    slope = np.mean(np.abs(residual) <= window) * threshold / window
    return float(np.mean(psi**2) / slope**2 * n / dof), spread


def _theta_by_phi(problem: LawResiduals, phi: np.ndarray) -> np.ndarray:
    """Return derivatives of all parameters in the free coordinates, shape (k, q)."""
    step = 1e-6
    steps = step * np.eye(len(phi))
    return (problem.raw_theta(phi + steps) - problem.raw_theta(phi - steps)).T / (2 * step)


def check_inputs(law: Law, x: np.ndarray) -> np.ndarray:
    """Return inputs as an array of shape (n,) or (n, d).

    Raises
    ------
    FitError
        If the law takes another number of inputs, or one is not positive and finite.
    """
    x = np.asarray(x, dtype=float)
    d = len(law.inputs)
    if x.ndim == 2 and x.shape[1] == 1 and d == 1:
        x = x[:, 0]
    given = 1 if x.ndim <= 1 else x.shape[-1]
    if given != d or x.ndim > 2:
        raise FitError(f"{law.name} takes {d} input{'s' if d > 1 else ''} ({', '.join(law.inputs)}), not {given}")
    wrong = ~(np.isfinite(x) & (x > 0))
    if np.any(wrong):
        raise FitError(f"inputs of {law.name} must be positive and finite; one is {x[wrong][0]:g}: leave it out")
    return np.atleast_1d(x)


def _check_points(law, objective, x, y, weights):
    x, y = check_inputs(law, x), np.asarray(y, dtype=float)
    weights = np.ones(len(y)) if weights is None else np.asarray(weights, dtype=float)
    if not len(x) == len(y) == len(weights):
        raise FitError(f"x, y and weights must have one length; they have {len(x)}, {len(y)} and {len(weights)}")
    if not np.all(np.isfinite(y)):
        raise FitError(f"an outcome is {y[~np.isfinite(y)][0]:g}; leave missing points out before fitting")
    if objective.residual == "log" and np.any(y <= 0):
        raise FitError(f"an outcome is {y[y <= 0][0]:g} and has no log; use linear residuals, or leave it out")
    if not (np.all(np.isfinite(weights)) and np.all(weights >= 0)):
        raise FitError("weights must be finite and not negative")
    return x, y, weights


def _check_fixed(law: Law, fixed: Mapping[str, float]) -> dict[int, float]:
    held = {}
    for name, value in fixed.items():
        if name not in law.names:
            raise FitError(f"{law.name} has no parameter {name!r}; it has {', '.join(law.names)}")
        parameter = law.parameters[law.index(name)]
        if not parameter.lower <= value <= parameter.upper:
            raise FitError(f"{name} is held at {value:g}, outside {parameter.lower:g} to {parameter.upper:g}")
        held[law.index(name)] = float(value)
    return held


def _check_count(law: Law, x: np.ndarray, weights: np.ndarray, held: Sequence[int]) -> None:
    used = weights > 0
    n_free, n_obs = len(law.parameters) - len(held), int(used.sum())
    if n_obs - n_free < 1:
        raise FitError(
            f"{n_obs} points leave no degree of freedom for the {n_free} parameters of {law.name}; "
            f"give at least {n_free + 1} points, a law with fewer parameters, or hold some"
        )
    n_distinct = len(np.unique(x[used], axis=0))
    if n_distinct < n_free:
        raise FitError(
            f"{n_distinct} distinct value{'s' if n_distinct != 1 else ''} of {', '.join(law.inputs)} cannot identify "
            f"the {n_free} parameters of {law.name}; measure more, or choose a law with fewer parameters"
        )


def start_at(law: Law, theta: np.ndarray, problem: LawResiduals) -> np.ndarray:
    """Return free coordinates of parameters given for inputs in their own units, shape (q,)."""
    theta = np.asarray(theta, dtype=float)
    scaled = theta if law.rescale is None else law.rescale(theta, 1 / problem.scale)
    return to_coordinates(law, scaled)[problem.free]
