"""Residuals of a law in coordinates without bounds, with their derivatives, for many parameter vectors at once."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from scipy.special import expit, logit

from astraios_analysis.laws.forms import Law, Residual

# Step of central differences in unbounded coordinates, which are of order one: truncation and rounding both 1e-10.
_STEP = 1e-5
# Beyond this an exponential coordinate is zero or infinite for every purpose; it keeps exp from overflowing.
_COORDINATE_LIMIT = 300.0


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


@dataclass(frozen=True)
class LawResiduals:
    """Residuals of one law on data, one set or one for each problem of a batch.

    Attributes
    ----------
    law : Law
    x : ndarray, shape (n,), (n, d), (b, n) or (b, n, d)
        Inputs, divided by ``scale``.
    target : ndarray, shape (n,) or (b, n)
        What the law is compared with, on the residual's scale: ``log y`` or ``y``.
    residual : {"log", "linear"}
    scale : ndarray, shape (d,)
        What the inputs were divided by; their geometric mean, so that amplitudes and exponents are not entangled.
    held : mapping of int to float
        Parameters that are held at a value, by position; a value may be an array of shape (b,).
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

    def _has_own_x(self) -> bool:
        return self.x.ndim == (2 if len(self.law.inputs) == 1 else 3)

    def take(self, rows: np.ndarray) -> "LawResiduals":
        """Return the problems of a batch that ``rows`` chooses."""
        return replace(
            self,
            x=self.x[rows] if self._has_own_x() else self.x,
            target=self.target[rows] if self.target.ndim == 2 else self.target,
            held={j: value[rows] if np.ndim(value) else value for j, value in self.held.items()},
        )

    def theta(self, phi: np.ndarray) -> np.ndarray:
        """Return all parameters for scaled inputs from free coordinates (..., q), shape (..., k)."""
        return self._spread(phi)[0]

    def raw_theta(self, phi: np.ndarray) -> np.ndarray:
        """Return all parameters for inputs in their own units, shape (..., k)."""
        theta = self.theta(phi)
        return theta if self.law.rescale is None else self.law.rescale(theta, self.scale)

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
            derivative = np.swapaxes(self.law.gradient(self.x, theta), -1, -2)
            value = self._value(theta, derivative)
            derivative = derivative * slope[..., None] if not self.held else self._free_part(derivative, slope)
            if self.residual == "linear":
                return value - self.target, derivative
            derivative /= value[..., None, :]
            return np.log(value) - self.target, derivative

    def _value(self, theta: np.ndarray, derivative: np.ndarray) -> np.ndarray:
        """Return the law, from the derivatives in its linear parameters where it has some: they are there already."""
        if not self.law.linear:
            return self.law.function(self.x, theta)
        first, *others = (self.law.index(name) for name in self.law.linear)
        value = theta[..., first, None] * derivative[..., first, :]
        for j in others:
            value += theta[..., j, None] * derivative[..., j, :]
        return value

    def _free_part(self, derivative: np.ndarray, slope: np.ndarray) -> np.ndarray:
        return derivative[..., self.free, :] * slope[..., self.free, None]

    def curvature(self, phi: np.ndarray) -> np.ndarray:
        """Return second derivatives of the residuals, shape (..., q, q, n), as differences of first ones."""
        q = phi.shape[-1]
        steps = _STEP * np.eye(q).reshape(q, *([1] * (phi.ndim - 1)), q)
        up, down = self.evaluate(phi + np.stack([steps, -steps]))[1]
        second = np.moveaxis((up - down) / (2 * _STEP), 0, -3)
        return 0.5 * (second + np.swapaxes(second, -2, -3))
