"""Points to parameters: one law fitted to one set of points, or to groups that share its shape.

A global start from the data alone, damped Newton on the true objective, standard errors. Each fit carries its
objective, its gradient, how many starts agree, and its degrees of freedom; whether the data identify each parameter is
`intervals.certify`'s to say.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from astraios_analysis.laws.forms import find_law
from astraios_analysis.laws.law import GROUP, NO_UNIT, Law
from astraios_analysis.laws.residuals import (
    LawResiduals,
    Objective,
    central_differences,
    check_count,
    check_fixed,
    check_inputs,
    check_points,
)
from astraios_analysis.laws.solver import Solution, minimise, solve_or_rescue
from astraios_analysis.laws.starts import find_starts
from astraios_analysis.records.refusal import Refusal

N_STARTS = 2
# Starts whose objectives differ by less than this share ended at the same minimum.
_SAME_MINIMUM = 1e-7
# What is a power of e to the -100 is 0 for every purpose.
_ZERO = 1e-60
# A subset that has not arrived by then predicts badly, and is weighed so.
_SUBSET_STEPS = 60


@dataclass(frozen=True, repr=False)
class LawFit:
    """A law fitted to points: the minimum, how it was found, and what it rests on.

    ``theta`` (k,) are the parameters for inputs in their own units, ``covariance`` is theirs by the delta method, with
    zero rows for parameters that were held; ``phi`` and ``phi_covariance`` are of the free ones in unbounded
    coordinates of ``problem``. ``residuals`` (n,) are law minus data on the objective's scale, ``residual_scale``
    their standard deviation with ``dof`` in the denominator, for a Huber fit a robust one (from the median size), and
    ``sigma`` Huber's scale: estimated, or 1 where it is fixed. ``x_range`` (d, 2) holds the smallest and largest of
    each input. ``gradient_norm`` is the largest component of the gradient relative to the sum of its terms' sizes,
    ``condition_number`` that of the derivatives with columns of length one, in log coordinates on centred inputs.
    ``fallback`` names what found the minimum where Newton's method did not.
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
    fallback: str = ""

    def __repr__(self) -> str:
        errors = self.standard_errors
        params = ", ".join(f"{name} = {value:.4g} ± {errors[name]:.2g}" for name, value in self.params.items())
        return f"LawFit({self.law.name}: {params}; n = {self.n_obs}, dof = {self.dof}, {self.status})"

    @property
    def x(self) -> np.ndarray:
        """Inputs in their own units, shape (n, d)."""
        x = self.problem.raw_x()
        return x.reshape(len(x), -1)

    @property
    def weights(self) -> np.ndarray:
        """Weights of the points, shape (n,): one each."""
        return np.ones(self.n_obs)

    @property
    def params(self) -> dict[str, float]:
        """Parameters by name; one at its bound of 0 is 0."""
        theta = np.where(np.abs(self.theta) < _ZERO, 0.0, self.theta)
        return dict(zip(self.law.names, map(float, theta), strict=True))

    @property
    def standard_errors(self) -> dict[str, float]:
        """Standard errors by name, by the delta method; 0 for held parameters."""
        return dict(zip(self.law.names, map(float, np.sqrt(np.diag(self.covariance))), strict=True))

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return the law at inputs (n,) or (n, d)."""
        return self.law.function(check_inputs(self.law, x), self.theta)

    def draw(self, n_draws: int, rng: np.random.Generator) -> np.ndarray:
        """Draw parameters, shape (n_draws, k), from a multivariate t distribution in unbounded coordinates."""
        normal = rng.multivariate_normal(np.zeros(len(self.phi)), self.phi_covariance, size=n_draws, method="eigh")
        spread = np.sqrt(rng.chisquare(self.dof, size=(n_draws, 1)) / self.dof)
        return self.problem.raw_theta(self.phi + normal / spread)


def fit_law(
    law: Law | str,
    x: np.ndarray,
    y: np.ndarray,
    *,
    objective: Objective | None = None,
    fixed: Mapping[str, float] | None = None,
    n_starts: int = N_STARTS,
    must_converge: bool = True,
) -> LawFit:
    """Fit a law, or the law of a name, to points x, shape (n,) or (n, d), and y, shape (n,).

    The objective is least squares on the law's own residual scale by default. ``fixed`` holds parameters at a value,
    ``n_starts`` are polished of all those searched. Refuses points that are not usable or leave no degree of freedom,
    and, if it ``must_converge``, a solver that ends with a gradient; otherwise the fit says so.
    """
    law = find_law(law)
    objective = objective or Objective(residual=law.residual)
    x, y = check_points(law, objective, x, y)
    held = check_fixed(law, fixed or {})
    check_count(law, x, held)
    problem = make_problem(law, x, y, objective, held)
    starts = find_starts(problem, np.ones(len(y)), n_starts)
    found = choose(problem, *solve_or_rescue(problem, starts, objective), objective)
    if found.status == "failed" and must_converge:
        raise Refusal(f"{law.name}: the solver stopped short of a minimum ({found.message})")
    return found


def fit_subsets(fit: LawFit, subsets: np.ndarray) -> np.ndarray:
    """Fit a law to subsets of a fit's points, shape (b, n) of booleans, side by side; return parameters (b, k).

    Each starts where a search of its own points says. Parameters of a subset that leaves no degree of freedom, or that
    has no minimum, are not numbers.
    """
    weights = subsets.astype(float)
    found = np.full((len(subsets), len(fit.theta)), np.nan)
    rows = np.flatnonzero(count_distinct(fit, weights) > len(fit.phi))
    if len(rows):
        starts = find_starts(fit.problem, weights[rows], N_STARTS)
        threshold = fit.objective.delta * fit.sigma
        own = np.repeat(weights[rows], N_STARTS, axis=0)
        solution = minimise(fit.problem, starts.reshape(-1, len(fit.phi)), own, threshold, max_steps=_SUBSET_STEPS)
        best = solution.objective.reshape(len(rows), N_STARTS).argmin(axis=1)
        with np.errstate(all="ignore"):
            found[rows] = fit.problem.raw_theta(solution.phi[np.arange(len(rows)) * N_STARTS + best])
    return found


def count_distinct(fit: LawFit, weights: np.ndarray) -> np.ndarray:
    """Return how many distinct inputs each of several subsets or resamples (b, n) of a fit's points holds."""
    _, place = np.unique(fit.x, axis=0, return_inverse=True)
    return (weights @ (place[:, None] == np.arange(place.max() + 1)) > 0).sum(axis=1)


def choose(problem: LawResiduals, solution: Solution, sigma: np.ndarray, fallback: str, objective: Objective) -> LawFit:
    """Return the best of several minima of one problem as a fit, with its errors and what its certificate says."""
    row = int(np.argmin(solution.objective))
    law, phi, value = problem.law, solution.phi[row], float(solution.objective[row])
    residual, jacobian = problem.evaluate(phi)
    n_obs, dof = len(residual), len(residual) - len(phi)
    noise, spread = noise_level(residual, dof, objective.delta * sigma[row])
    slopes = np.ascontiguousarray(jacobian.T)
    length = np.sqrt(np.sum(slopes**2, axis=0))
    condition = np.linalg.cond(slopes / length) if np.all(length > 0) else np.inf
    phi_covariance = noise * np.linalg.pinv(slopes.T @ slopes, hermitian=True)
    with np.errstate(all="ignore"):
        turn = central_differences(problem.raw_theta, phi)
        covariance, theta = turn @ phi_covariance @ turn.T, problem.raw_theta(phi)
    x = problem.raw_x()
    return LawFit(
        law=law,
        objective=objective,
        theta=theta,
        covariance=covariance,
        value=value,
        residuals=residual,
        residual_scale=spread,
        sigma=float(sigma[row]),
        n_obs=n_obs,
        dof=dof,
        x_range=np.column_stack([x.min(axis=0), x.max(axis=0)]).reshape(-1, 2),
        gradient_norm=float(solution.gradient_norm[row]),
        condition_number=float(condition),
        n_starts=len(solution.objective),
        n_agreeing=int(np.sum(solution.objective <= value + _SAME_MINIMUM * abs(value) + 1e-24)),
        status="converged" if solution.has_converged[row] else "failed",
        message=f"{int(solution.n_steps[row])} Newton steps; relative gradient {solution.gradient_norm[row]:.1e}",
        problem=problem,
        phi=phi,
        phi_covariance=phi_covariance,
        fallback=fallback,
    )


def make_problem(law: Law, x: np.ndarray, y: np.ndarray, objective: Objective, held: Mapping[int, float]):
    """Return the residuals of a law on points, with inputs divided by their geometric mean where that is free to do."""
    scale = law.scale_of(np.log(x).mean(axis=0).reshape(len(law.inputs)))
    if law.rescale is None or not held_survive(law, held, scale):
        scale = np.ones(len(law.inputs))
    target = np.log(y) if objective.residual == "log" else y
    return LawResiduals(law, x / scale, target, objective.residual, scale, held)


def held_survive(law: Law, held: Iterable[int], scale: np.ndarray) -> bool:
    """Whether held parameters, by position, mean the same for scaled inputs, whatever the others are."""
    moved = law.rescale(law.probe, scale)
    return all(moved[j] == law.probe[j] for j in held)


def noise_level(residual: np.ndarray, dof: int, threshold: float) -> tuple[float, float]:
    """Return the factor of the covariance, and the standard deviation of residuals.

    For least squares both come from the mean square. For Huber's loss the factor is ``mean psi^2 / (mean psi')^2``
    (Huber 1964), with ``psi'`` counted over a window no narrower than a kernel estimate of a density needs.
    """
    n = len(residual)
    if not np.isfinite(threshold):
        square = float(np.sum(residual**2) / dof)
        return square, float(np.sqrt(square))
    spread = float(1.4826 * np.median(np.abs(residual)))
    window = max(threshold, 1.06 * spread * n**-0.2)
    psi = np.minimum(np.abs(residual), threshold)
    slope = np.mean(np.abs(residual) <= window) * threshold / window
    return float(np.mean(psi**2) / slope**2 * n / dof), spread


def pool_law(law: Law, groups: Sequence[str]) -> Law:
    """Return a law over groups with shared exponents and floor, and one amplitude a group.

    It takes one more input, the group's position counted from 1, and has the parameter ``A[lora]`` where the law has
    ``A``. Whatever fits, profiles or resamples a law does so with a pooled one.
    """
    if len(groups) < 2:
        raise Refusal(f"pooling needs at least two groups; there is {len(groups)}")
    # Of what is linear and no floor the first: a law with two terms in it shares the second.
    own = next((name for name in law.linear if name != "E"), None)
    if own is None:
        raise Refusal(f"{law.name} has no amplitude that groups could have their own of; fit groups apart (none)")
    place, n_groups, k = law.index(own), len(groups), len(law.parameters)
    template = law.parameters[place]
    parameters = (
        *(p for p in law.parameters if p.name != own),
        *(replace(template, name=f"{own}[{group}]") for group in groups),
    )
    # Which of its parameters each group's law takes, shape (n_groups, k).
    sources = np.empty((n_groups, k), dtype=int)
    sources[:, [j for j in range(k) if j != place]] = np.arange(k - 1)
    sources[:, place] = k - 1 + np.arange(n_groups)

    def by_point(x: np.ndarray, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return inputs and parameters point by point, (n, 1[, d]) and (..., n, k), and which parameters these are."""
        source = sources[np.asarray(x[:, -1], dtype=int) - 1]
        inputs = x[:, 0, None] if len(law.inputs) == 1 else x[:, None, :-1]
        return inputs, np.asarray(theta, dtype=float)[..., source], source

    def function(x: np.ndarray, theta: np.ndarray) -> np.ndarray:
        inputs, full, _ = by_point(x, theta)
        return law.function(inputs, full)[..., 0]

    def gradient(x: np.ndarray, theta: np.ndarray) -> np.ndarray:
        inputs, full, source = by_point(x, theta)
        base = law.gradient(inputs, full)[..., 0, :]
        found = np.swapaxes(np.zeros((*base.shape[:-2], len(parameters), base.shape[-2])), -1, -2)
        np.put_along_axis(found, np.broadcast_to(source, base.shape), base, axis=-1)
        return found

    def rescale(theta: np.ndarray, scale: np.ndarray) -> np.ndarray:
        moved = np.array(theta, dtype=float)
        for source in sources:
            moved[..., source] = law.rescale(np.asarray(theta, dtype=float)[..., source], scale[:-1])
        return moved

    return Law(
        name=f"{law.name}, pooled",
        formula=f"{law.formula}, one {own} a group",
        parameters=parameters,
        function=function,
        gradient=gradient,
        source=law.source,
        inputs=(*law.inputs, GROUP),
        # The number of a group is a label.
        units=(*(law.units or law.inputs), NO_UNIT),
        outcome=law.outcome,
        linear=tuple(p.name for p in parameters if p.name in law.linear or p.name.startswith(f"{own}[")),
        rescale=rescale if law.rescale else None,
    )


def number_groups(x: np.ndarray, group: Sequence) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return inputs with the group's number as last column, shape (n, d + 1), and the groups' names in order."""
    names = tuple(dict.fromkeys(map(str, group)))
    numbers = np.array([names.index(str(label)) + 1 for label in group], dtype=float)
    return np.column_stack([np.asarray(x, dtype=float), numbers]), names
