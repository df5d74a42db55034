"""What a fit minimises: the objective, the points it is summed over, and the residuals of a law with derivatives.

Residuals are taken in coordinates without bounds, for many parameter vectors at once.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal

import numpy as np
from scipy.special import expit, logit
from scipy.stats import norm

from astraios_analysis.laws.law import Law, Parameter, Residual
from astraios_analysis.records.notation import count
from astraios_analysis.records.refusal import Refusal, require_known

# Step of central differences in unbounded coordinates, which are of order one: truncation and rounding both 1e-10.
_STEP = 1e-5
# Beyond this an exponential coordinate is zero or infinite for every purpose; it keeps exp from overflowing.
_COORDINATE_LIMIT = 300.0
# Coordinates of a parameter at its only bound, and, but for the sign, at one of two.
AT_BOUND = -200.0, 30.0


@dataclass(frozen=True)
class Objective:
    """The function that a fit minimises over the parameters.

    ``sum_i w_i rho(r_i)`` with ``rho(r) = r^2 / 2`` where ``|r| <= delta`` and ``delta (|r| - delta / 2)`` beyond
    (Huber 1964), a sum and not a mean; ``delta = inf`` is half the sum of squares. With the scale estimated it is
    ``sum_i w_i (rho(r_i / sigma) + log sigma + log c)``, the negative log likelihood of Huber's density, minimised
    over ``sigma`` as well. Residuals are ``log f - log y`` (``log``) or ``f - y`` (``linear``).
    """

    residual: Residual = "log"
    delta: float = np.inf
    scale: Literal["fixed", "estimated"] = "fixed"

    def __post_init__(self) -> None:
        require_known("residual", [self.residual], ("log", "linear"))
        require_known("scale", [self.scale], ("fixed", "estimated"))
        if not self.delta > 0:
            raise Refusal(f"Huber's delta is {self.delta:g}; it must be positive (inf for least squares)")
        if self.scale == "estimated" and not np.isfinite(self.delta):
            raise Refusal("least squares has no scale to estimate; give Huber's delta, or leave the scale fixed")

    @property
    def is_robust(self) -> bool:
        """Whether large residuals count less than their square."""
        return bool(np.isfinite(self.delta))

    def describe(self) -> str:
        """Return the objective in words."""
        kind = f"Huber loss, delta {self.delta:g}, {self.scale} scale" if self.is_robust else "half the squares"
        return f"{kind}, summed over points, of {'log ' if self.residual == 'log' else ''}residuals"


def losses(residuals: np.ndarray, delta: np.ndarray | float) -> np.ndarray:
    """Return Huber's loss of each residual; ``delta`` broadcasts, infinite for half the square."""
    size = np.abs(residuals)
    inner = np.minimum(size, delta)
    return inner * (size - 0.5 * inner)


def log_normaliser(delta: float) -> float:
    """Return log c: Huber's density is ``exp(-rho(r / sigma)) / (c sigma)`` (Huber 1964)."""
    centre = np.sqrt(2 * np.pi) * (1 - 2 * norm.sf(delta))
    return float(np.log(centre + 2 * np.exp(-0.5 * delta**2) / delta))


def check_inputs(law: Law, x: np.ndarray) -> np.ndarray:
    """Return inputs as an array of shape (n,) or (n, d); refuse another number of them, and what is not positive."""
    x = np.asarray(x, dtype=float)
    d = len(law.inputs)
    if x.ndim == 2 and x.shape[1] == 1 and d == 1:
        x = x[:, 0]
    given = 1 if x.ndim <= 1 else x.shape[-1]
    if given != d or x.ndim > 2:
        raise Refusal(f"{law.name} takes {d} input{'s' if d > 1 else ''} ({', '.join(law.inputs)}), not {given}")
    wrong = ~(np.isfinite(x) & (x > 0))
    if np.any(wrong):
        raise Refusal(f"inputs of {law.name} must be positive and finite; one is {x[wrong][0]:g}: leave it out")
    return np.atleast_1d(x)


def check_points(law: Law, objective: Objective, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs and outcomes as arrays; refuse what is missing, not positive, or of another length."""
    x, y = check_inputs(law, x), np.asarray(y, dtype=float)
    if len(x) != len(y):
        raise Refusal(f"x and y must have one length; they have {len(x)} and {len(y)}")
    if not np.all(np.isfinite(y)):
        raise Refusal(f"an outcome is {y[~np.isfinite(y)][0]:g}; leave missing points out before fitting")
    if law.outcome == "loss" and np.any(y < 0):
        raise Refusal(
            f"an outcome is {y[y < 0][0]:g}, and {law.name} is a sum of positive terms: a loss below 0 is relative to "
            "another (normalised by unigrams, say); fit the loss itself"
        )
    if objective.residual == "log" and np.any(y <= 0):
        raise Refusal(f"an outcome is {y[y <= 0][0]:g} and has no log; use linear residuals, or leave it out")
    return x, y


def check_range(law: Law, y: np.ndarray, name: str) -> None:
    """Refuse outcomes of a column that a law of rates is not of."""
    if law.outcome != "loss" and np.any(outside := (y < 0) | (y > 1)):
        raise Refusal(
            f"{name} is {y[outside][0]:g} in a row, and {law.name} is of {law.outcome}s between 0 and 1; divide "
            "percentages by 100, or choose a law of losses"
        )


def check_fixed(law: Law, fixed: Mapping[str, float]) -> dict[int, float]:
    """Return held parameters by position; refuse unknown ones and values outside the bounds."""
    held = {}
    for name, value in fixed.items():
        parameter = law.parameters[law.index(name)]
        if not parameter.lower <= value <= parameter.upper:
            raise Refusal(f"{name} is held at {value:g}, outside {parameter.lower:g} to {parameter.upper:g}")
        held[law.index(name)] = float(value)
    return held


def check_count(law: Law, x: np.ndarray, held: Collection[int]) -> None:
    """Refuse points that leave no degree of freedom, or fewer distinct inputs than parameters."""
    n_free, n_obs = len(law.parameters) - len(held), len(x)
    if n_obs - n_free < 1:
        raise Refusal(
            f"no degree of freedom is left by {count(n_obs, 'point')} for the {n_free} parameters of {law.name}; "
            f"give at least {n_free + 1} points, a law with fewer parameters, or hold some"
        )
    n_distinct = len(np.unique(x, axis=0))
    if n_distinct < n_free:
        raise Refusal(
            f"{n_distinct} distinct value{'s' if n_distinct != 1 else ''} of {', '.join(law.inputs)} cannot identify "
            f"the {n_free} parameters of {law.name}; measure more, or choose a law with fewer parameters"
        )


@lru_cache(maxsize=256)
def _kinds(law: Law) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return which parameters have two bounds and which a lower one only, the lower bounds and the widths."""
    lower = np.array([parameter.lower for parameter in law.parameters])
    upper = np.array([parameter.upper for parameter in law.parameters])
    between = np.isfinite(upper)
    above = np.isfinite(lower) & ~between
    return between, above, np.where(np.isfinite(lower), lower, 0.0), np.where(between, upper - lower, 1.0)


def to_coordinates(law: Law, theta: np.ndarray) -> np.ndarray:
    """Return parameters (..., k) without bounds: log above a lower bound, logit between two, unchanged without."""
    between, above, lower, width = _kinds(law)
    phi = np.array(theta, dtype=float)
    phi[..., above] = np.log(phi[..., above] - lower[above])
    phi[..., between] = logit((phi[..., between] - lower[between]) / width[between])
    return phi


def from_coordinates(law: Law, phi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return parameters and their derivatives, each in its own coordinate, both of shape (..., k)."""
    between, above, lower, width = _kinds(law)
    slope = np.exp(np.minimum(np.maximum(phi, -_COORDINATE_LIMIT), _COORDINATE_LIMIT))
    theta = lower + slope
    if above.all():
        return theta, slope
    free = ~(between | above)
    theta[..., free], slope[..., free] = phi[..., free], 1.0
    share = expit(phi[..., between])
    theta[..., between] = lower[between] + width[between] * share
    slope[..., between] = width[between] * share * (1 - share)
    return theta, slope


def nearest_bound(parameter: Parameter, coordinate: float) -> tuple[float, float] | None:
    """Return the bound that a coordinate runs to, and the coordinate that is there for every purpose."""
    if not np.isfinite(parameter.lower):
        return None
    if not np.isfinite(parameter.upper):
        return parameter.lower, AT_BOUND[0]
    return (parameter.lower, -AT_BOUND[1]) if coordinate < 0 else (parameter.upper, AT_BOUND[1])


def central_differences(call: Callable[[np.ndarray], np.ndarray], phi: np.ndarray) -> np.ndarray:
    """Return derivatives of what is called, shape (k, q), in coordinates of order one (q,)."""
    step = 1e-6
    steps = step * np.eye(len(phi))
    return (call(phi + steps) - call(phi - steps)).T / (2 * step)


@dataclass(frozen=True)
class LawResiduals:
    """Residuals of one law on data.

    Inputs x, shape (n,) or (n, d), are divided by ``scale``, shape (d,), their geometric mean, so that amplitudes and
    exponents are not entangled. ``target``, shape (n,), is ``log y`` or ``y``. ``held`` gives parameters that are held
    at a value, by position; a value may be an array of shape (b,), one for each problem of a batch.
    """

    law: Law
    x: np.ndarray
    target: np.ndarray
    residual: Residual
    scale: np.ndarray
    held: Mapping[int, float | np.ndarray] = field(default_factory=dict)

    @property
    def free(self) -> np.ndarray:
        """Positions of the parameters that are fitted."""
        return np.array([j for j in range(len(self.law.parameters)) if j not in self.held], dtype=int)

    @property
    def outcome(self) -> np.ndarray:
        """What was measured."""
        return np.exp(self.target) if self.residual == "log" else self.target

    def relative(self, weights: np.ndarray) -> np.ndarray:
        """Return weights of plain residuals: to first order a log residual is a relative one."""
        return weights / (self.outcome**2 if self.residual == "log" else 1.0)

    def take(self, rows: np.ndarray) -> "LawResiduals":
        """Return the problems of a batch that ``rows`` chooses."""
        return replace(self, held={j: value[rows] if np.ndim(value) else value for j, value in self.held.items()})

    def raw_x(self) -> np.ndarray:
        """Return inputs in their own units."""
        return self.x * self.scale

    def theta(self, phi: np.ndarray) -> np.ndarray:
        """Return all parameters for scaled inputs from free coordinates (..., q), shape (..., k)."""
        return self._spread(phi)[0]

    def raw_theta(self, phi: np.ndarray) -> np.ndarray:
        """Return all parameters for inputs in their own units, shape (..., k)."""
        theta = self.theta(phi)
        return theta if self.law.rescale is None else self.law.rescale(theta, self.scale)

    def from_raw(self, theta: np.ndarray) -> np.ndarray:
        """Return the free coordinates of parameters for inputs in their own units."""
        theta = theta if self.law.rescale is None else self.law.rescale(theta, 1 / self.scale)
        with np.errstate(divide="ignore"):
            return to_coordinates(self.law, theta)[..., self.free]

    def _spread(self, phi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if not self.held:
            return from_coordinates(self.law, phi)
        full = np.zeros((*phi.shape[:-1], len(self.law.parameters)))
        full[..., self.free] = phi
        theta, slope = from_coordinates(self.law, full)
        for j, value in self.held.items():
            theta[..., j], slope[..., j] = value, 0.0
        return theta, slope

    def evaluate(self, phi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return residuals, shape (..., n), and their derivatives, shape (..., q, n), at coordinates (..., q)."""
        theta, slope = self._spread(phi)
        with np.errstate(all="ignore"):
            value, derivative = self._law_at(theta)
            free = self.free if self.held else slice(None)
            derivative = derivative[..., free, :] * slope[..., free, None]
            if self.residual == "linear":
                return value - self.target, derivative
            derivative /= value[..., None, :]
            return np.log(value) - self.target, derivative

    def _law_at(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the law's values (..., n) and derivatives (..., k, n).

        Where it is linear in some parameters its value is the sum of their derivatives, which are there already.
        """
        law = self.law
        if law.both and not law.linear:
            value, gradient = law.both(self.x, theta)
            return value, np.swapaxes(gradient, -1, -2)
        derivative = np.swapaxes(law.gradient(self.x, theta), -1, -2)
        if not law.linear:
            return law.function(self.x, theta), derivative
        first, *others = (law.index(name) for name in law.linear)
        value = theta[..., first, None] * derivative[..., first, :]
        for j in others:
            value += theta[..., j, None] * derivative[..., j, :]
        return value, derivative

    def curvature(self, phi: np.ndarray) -> np.ndarray:
        """Return second derivatives of the residuals, shape (..., q, q, n), as differences of first ones."""
        q = phi.shape[-1]
        steps = _STEP * np.eye(q).reshape(q, *([1] * (phi.ndim - 1)), q)
        up, down = self.evaluate(phi + np.stack([steps, -steps]))[1]
        with np.errstate(all="ignore"):
            second = np.moveaxis((up - down) / (2 * _STEP), 0, -3)
            return 0.5 * (second + np.swapaxes(second, -2, -3))
