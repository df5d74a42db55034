"""Residuals of a law in coordinates without bounds, with their derivatives, for many parameter vectors at once."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.special import expit, logit

from astraios_analysis.law_types import Law, Residual

# Step of central differences in unbounded coordinates, which are of order one: truncation and rounding both 1e-10.
_STEP = 1e-5
# Beyond this an exponential coordinate is zero or infinite for every purpose; it keeps exp from overflowing.
_COORDINATE_LIMIT = 300.0


def to_coordinates(law: Law, theta: np.ndarray) -> np.ndarray:
    """Return parameters (..., k) without bounds: log above a lower bound, logit between two, unchanged without."""
    theta = np.asarray(theta, dtype=float)
    phi = np.empty_like(theta)
    for j, parameter in enumerate(law.parameters):
        if np.isfinite(parameter.upper):
            phi[..., j] = logit((theta[..., j] - parameter.lower) / (parameter.upper - parameter.lower))
        elif np.isfinite(parameter.lower):
            phi[..., j] = np.log(theta[..., j] - parameter.lower)
        else:
            phi[..., j] = theta[..., j]
    return phi


def from_coordinates(law: Law, phi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return parameters and their derivatives, each in its own coordinate, both of shape (..., k)."""
    theta, slope = np.array(phi, dtype=float), np.ones(np.shape(phi))
    for j, parameter in enumerate(law.parameters):
        if np.isfinite(parameter.upper):
            share = expit(phi[..., j])
            width = parameter.upper - parameter.lower
            theta[..., j], slope[..., j] = parameter.lower + width * share, width * share * (1 - share)
        elif np.isfinite(parameter.lower):
            slope[..., j] = np.exp(np.clip(phi[..., j], -_COORDINATE_LIMIT, _COORDINATE_LIMIT))
            theta[..., j] = parameter.lower + slope[..., j]
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
            if self.law.linear:
                positions = [self.law.index(name) for name in self.law.linear]
                value = sum(theta[..., j, None] * derivative[..., j, :] for j in positions)
            else:
                value = self.law.function(self.x, theta)
            derivative = derivative * slope[..., None] if not self.held else self._free_part(derivative, slope)
            if self.residual == "linear":
                return value - self.target, derivative
            derivative /= value[..., None, :]
            return np.log(value) - self.target, derivative

    def _free_part(self, derivative: np.ndarray, slope: np.ndarray) -> np.ndarray:
        return derivative[..., self.free, :] * slope[..., self.free, None]

    def curvature(self, phi: np.ndarray) -> np.ndarray:
        """Return second derivatives of the residuals, shape (..., q, q, n), as differences of first ones."""
        q = phi.shape[-1]
        steps = _STEP * np.eye(q).reshape(q, *([1] * (phi.ndim - 1)), q)
        up, down = (self.evaluate(phi + sign * steps)[1] for sign in (1, -1))
        second = np.moveaxis((up - down) / (2 * _STEP), 0, -3)
        return 0.5 * (second + np.swapaxes(second, -2, -3))
