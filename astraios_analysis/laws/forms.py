"""What a law is: a pure function with named, bounded parameters, its gradient, its units and its source."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

Residual = Literal["log", "linear"]
# The input that numbers groups, in a law over several.
GROUP = "group"


@dataclass(frozen=True)
class Parameter:
    """A parameter of a law.

    Attributes
    ----------
    name : str
        As in the law's formula.
    lower, upper : float
        Open bounds.
    unit, meaning : str
    search : tuple of float
        Values from which a global start is sought, for inputs divided by their geometric mean; empty for parameters
        in which the law is linear, which are solved for.
    search_in : {"value", "input"}
        Whether ``search`` lists values, or positions along the log of the first input (0 smallest, 1 largest).
    """

    name: str
    lower: float
    upper: float
    unit: str
    meaning: str
    search: tuple[float, ...] = ()
    search_in: Literal["value", "input"] = "value"


@dataclass(frozen=True)
class Law:
    """A functional form relating a quantity to size, tokens, updated parameters or loss.

    Attributes
    ----------
    name, formula : str
        Name in tables and output, and the form as text.
    parameters : tuple of Parameter
        In the order that ``function`` takes them.
    function : callable
        ``function(x, theta)``: x of shape (..., n), or (..., n, d) for a law of d > 1 inputs; theta of shape
        (..., k); result of shape (..., n). Leading axes broadcast, so that many fits are evaluated at once.
    gradient : callable
        ``gradient(x, theta)``: derivatives of ``function`` in each parameter, shape (..., n, k).
    source : str
        Where the form comes from.
    inputs : tuple of str
        What x holds: N parameters, D tokens or examples, U updated parameters, L loss.
    outcome : {"loss", "score", "error"}
    residual : {"log", "linear"}
        The scale of residuals that suits the outcome unless a caller says otherwise.
    linear : tuple of str
        Parameters in which the function is linear and homogeneous, the others given: the function is the sum of each
        times its derivative.
    rescale : callable, optional
        ``rescale(theta, scale)``: parameters for x, given those for ``x / scale``, scale of shape (d,). None where
        inputs have no free unit.
    link, unlink, regressor : callable, optional
        For laws linear in all parameters on a link scale: that scale, the way back, and what the slope multiplies.
    """

    name: str
    formula: str
    parameters: tuple[Parameter, ...]
    function: Callable[[np.ndarray, np.ndarray], np.ndarray]
    gradient: Callable[[np.ndarray, np.ndarray], np.ndarray]
    source: str
    inputs: tuple[str, ...] = ("N",)
    outcome: Literal["loss", "score", "error"] = "loss"
    residual: Residual = "log"
    linear: tuple[str, ...] = ()
    rescale: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    link: Callable[[np.ndarray], np.ndarray] | None = None
    unlink: Callable[[np.ndarray], np.ndarray] | None = None
    regressor: Callable[[np.ndarray], np.ndarray] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters, in order."""
        return tuple(parameter.name for parameter in self.parameters)

    def index(self, name: str) -> int:
        """Return the position of a parameter.

        Raises
        ------
        KeyError
            If the law has no such parameter; the message lists those it has.
        """
        if name not in self.names:
            raise KeyError(f"{self.name} has no parameter {name!r}; it has {', '.join(self.names)}")
        return self.names.index(name)

    def theta(self, values: Mapping[str, float]) -> np.ndarray:
        """Return parameters given by name as a vector, shape (k,)."""
        return np.array([values[name] for name in self.names], dtype=float)


def stack(*derivatives: np.ndarray) -> np.ndarray:
    """Return derivatives of shape (..., n), one a parameter, as a gradient of shape (..., n, k).

    In memory the points of one parameter lie together, which is how the solver reads them.
    """
    shape = np.broadcast_shapes(*(np.shape(derivative) for derivative in derivatives))
    gradient = np.empty((*shape[:-1], len(derivatives), shape[-1]))
    for position, derivative in enumerate(derivatives):
        gradient[..., position, :] = derivative
    return np.swapaxes(gradient, -1, -2)


def split(theta: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return each parameter of theta (..., k) with an axis for points added, shape (..., 1)."""
    theta = np.asarray(theta, dtype=float)
    return tuple(theta[..., position, None] for position in range(theta.shape[-1]))
