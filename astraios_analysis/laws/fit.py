"""Fit any law of the registry to points: global start, damped Newton on the true objective, standard errors.

The parameters are found from the data alone. Each fit carries its objective, its gradient, how many starts agree, and
its degrees of freedom; whether the data identify each parameter is `profiles.certify`'s to say.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from astraios_analysis.laws.fit_inputs import check_count, check_fixed, check_inputs, check_points
from astraios_analysis.laws.forms import GROUP, Law
from astraios_analysis.laws.huber_scale import solve
from astraios_analysis.laws.objectives import Objective
from astraios_analysis.laws.residuals import LawResiduals, to_coordinates
from astraios_analysis.laws.solver import Solution
from astraios_analysis.laws.starts import find_starts
from astraios_analysis.records.refusal import Refusal

N_STARTS = 2
# Starts whose objectives differ by less than this share ended at the same minimum.
_SAME_MINIMUM = 1e-7


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
    Refusal
        If values are not usable, no degree of freedom is left, or the solver did not arrive.
    """
    objective = objective or Objective(residual=law.residual)
    x, y, weights = check_points(law, objective, x, y, weights)
    held = check_fixed(law, fixed or {})
    check_count(law, x, weights, held)
    problem = make_problem(law, x, y, objective, held)
    starts = find_starts(problem, weights, n_starts)
    solution, sigma = solve(problem, starts, weights, objective)
    return choose(problem, solution, sigma, weights, objective, must_converge=must_converge)


def choose(
    problem: LawResiduals,
    solution: Solution,
    sigma: np.ndarray,
    weights: np.ndarray,
    objective: Objective,
    *,
    must_converge: bool,
) -> LawFit:
    """Return the best of several minima of one problem as a fit.

    Raises
    ------
    Refusal
        If it has not converged and ``must_converge``.
    """
    best = int(np.argmin(solution.objective))
    value = solution.objective[best]
    found = finish(problem, solution, best, weights, objective, sigma[best])
    agreeing = int(np.sum(solution.objective <= value + _SAME_MINIMUM * abs(value) + 1e-24))
    found = LawFit(**(found | {"n_starts": len(solution.objective), "n_agreeing": agreeing}))
    if found.status == "failed" and must_converge:
        raise Refusal(f"{problem.law.name}: the solver stopped short of a minimum ({found.message})")
    return found


def make_problem(law: Law, x: np.ndarray, y: np.ndarray, objective: Objective, held: Mapping[int, float]):
    """Return the residuals of a law on points, with inputs divided by their geometric mean where that is free to do."""
    scale = np.exp(np.log(x).mean(axis=0)).reshape(len(law.inputs))
    # The number of a group is a label and has no unit.
    scale[[name == GROUP for name in law.inputs]] = 1.0
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


def start_at(law: Law, theta: np.ndarray, problem: LawResiduals) -> np.ndarray:
    """Return free coordinates of parameters given for inputs in their own units, shape (q,)."""
    theta = np.asarray(theta, dtype=float)
    scaled = theta if law.rescale is None else law.rescale(theta, 1 / problem.scale)
    return to_coordinates(law, scaled)[problem.free]
