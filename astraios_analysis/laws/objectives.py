"""What a fit minimises: squared or Huber loss of residuals, on a log or a linear scale."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import norm

from astraios_analysis.laws.forms import Residual
from astraios_analysis.records.refusal import Refusal


@dataclass(frozen=True)
class Objective:
    """The function that a fit minimises over the parameters.

    ``sum_i w_i rho(r_i)`` with ``rho(r) = r^2 / 2`` where ``|r| <= delta`` and ``delta (|r| - delta / 2)`` beyond
    (Huber 1964), a sum and not a mean; ``delta = inf`` is half the sum of squares. With the scale estimated it is
    ``sum_i w_i (rho(r_i / sigma) + log sigma + log c)``, the negative log likelihood of Huber's density, minimised
    over ``sigma`` as well.

    Attributes
    ----------
    residual : {"log", "linear"}
        ``log f - log y`` or ``f - y``.
    delta : float
        Where Huber's loss turns from square to straight; infinite for least squares.
    scale : {"fixed", "estimated"}
        Whether residuals are taken as they are, or divided by a scale that is estimated with the parameters.
    """

    residual: Residual = "log"
    delta: float = np.inf
    scale: Literal["fixed", "estimated"] = "fixed"

    def __post_init__(self) -> None:
        if self.residual not in ("log", "linear"):
            raise Refusal(f"unknown residual {self.residual!r}; choose from log, linear")
        if self.scale not in ("fixed", "estimated"):
            raise Refusal(f"unknown scale {self.scale!r}; choose from fixed, estimated")
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
