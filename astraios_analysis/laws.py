"""Laws: pure functions from size to a measured quantity, with named parameters and their source.

A law that is linear in its parameters on a link scale also says what that scale and its regressor are, so that
`fits.fit` can solve it exactly.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

# Sizes are counted in units of 1e9 parameters, so that an intercept is the value at one billion and not at one.
REFERENCE_SIZE = 1e9


@dataclass(frozen=True)
class Parameter:
    """A parameter of a law: its name, bounds, unit and what it means."""

    name: str
    lower: float
    upper: float
    unit: str
    meaning: str


@dataclass(frozen=True)
class Law:
    """A functional form relating a quantity to size.

    Attributes
    ----------
    name, formula : str
        Name in tables and output, and the form as text.
    parameters : tuple of Parameter
        In the order that ``function`` takes them.
    function : callable
        ``function(x, theta)``: x of shape (n,), theta of shape (k,), result of shape (n,).
    link, unlink : callable
        The scale on which the law is linear in its parameters, and back.
    regressor : callable
        ``regressor(x)``: what the slope multiplies on the link scale.
    source : str
        Where the form comes from.
    """

    name: str
    formula: str
    parameters: tuple[Parameter, ...]
    function: Callable[[np.ndarray, np.ndarray], np.ndarray]
    link: Callable[[np.ndarray], np.ndarray]
    unlink: Callable[[np.ndarray], np.ndarray]
    regressor: Callable[[np.ndarray], np.ndarray]
    source: str


def decades(x: np.ndarray) -> np.ndarray:
    """Return log10 of a size in units of 1e9 parameters."""
    return np.log10(np.asarray(x, dtype=float) / REFERENCE_SIZE)


def _logit_linear(x: np.ndarray, theta: np.ndarray) -> np.ndarray:
    return expit(theta[0] + theta[1] * decades(x))


LOGIT_LINEAR = Law(
    name="logit_linear",
    formula="logit(score) = a + b log10(N / 1e9)",
    parameters=(
        Parameter("a", -np.inf, np.inf, "logit", "logit of the score at one billion parameters"),
        Parameter("b", -np.inf, np.inf, "logit per decade", "change of the logit for ten times the parameters"),
    ),
    function=_logit_linear,
    link=logit,
    unlink=expit,
    regressor=decades,
    source="logistic growth of a rate with log size; the simplest form that keeps a rate in (0, 1)",
)

LAWS: dict[str, Law] = {law.name: law for law in (LOGIT_LINEAR,)}
