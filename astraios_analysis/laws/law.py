"""What a law is: a pure function with named, bounded parameters, its gradient and its source; and sums of power terms.

Notation of Hoffmann et al. (2022): N parameters, D tokens or examples, U updated parameters, Q unique tokens, V a third
input (rank, vocabulary, experts), L loss; E the irreducible loss, A, B, C amplitudes, alpha, beta, gamma exponents.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from astraios_analysis.records.refusal import Refusal

Residual = Literal["log", "linear"]
# The input that numbers groups, in a law over several.
GROUP = "group"
# Of an input that cannot be measured in another unit without changing the law's form.
NO_UNIT = ""
# Exponents from barely falling to falling faster than any measured curve, evenly in their logarithm.
EXPONENTS = (0.02, 0.05, 0.1, 0.17, 0.25, 0.35, 0.5, 0.7, 1.0, 1.5, 2.5)
FEW_EXPONENTS = (0.05, 0.15, 0.35, 0.7, 1.3, 2.5)


@dataclass(frozen=True)
class Parameter:
    """A parameter of a law, with open bounds.

    ``search`` lists values from which a global start is sought, for inputs divided by their geometric mean, or, with
    ``search_in="input"``, positions along the log of the first input (0 smallest, 1 largest). It is empty for
    parameters in which the law is linear, which are solved for.
    """

    name: str
    lower: float
    upper: float
    unit: str
    search: tuple[float, ...] = ()
    search_in: Literal["value", "input"] = "value"


@dataclass(frozen=True, eq=False)
class Search:
    """Another way to write a law, linear in some coefficients, in which its starts are sought.

    ``grid`` gives the values searched of each other number; ``basis(x, values)`` the columns (g, m, n) that the
    coefficients named by ``linear`` multiply, for values (g, p); ``to_theta(coefficients, values)`` the law's
    parameters (g, k).
    """

    linear: tuple[str, ...]
    grid: Mapping[str, tuple[float, ...]]
    basis: Callable[[np.ndarray, np.ndarray], np.ndarray]
    to_theta: Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True, repr=False)
class Law:
    """A functional form relating a quantity to size, tokens, updated parameters or loss.

    ``function(x, theta)`` takes x of shape (..., n), or (..., n, d) for a law of d > 1 inputs, and theta of shape
    (..., k), and returns (..., n); leading axes broadcast, so that many fits are evaluated at once.
    ``gradient(x, theta)`` are its derivatives in each parameter, shape (..., n, k); ``both`` gives the two at once. In
    the parameters ``linear`` it is linear and homogeneous, the others given: the sum of each times its derivative; a
    law that is not linear in its amplitudes has another ``search``. Inputs of one of the ``units`` are divided by one
    scale, those of `NO_UNIT` by none; by default each has its own. ``rescale(theta, scale)`` are the parameters for x,
    given those for ``x / scale``, scale of shape (d,); None where inputs have no free unit. ``best(theta)`` is the best
    outcome that a law of the loss says.
    """

    name: str
    formula: str
    parameters: tuple[Parameter, ...]
    function: Callable[[np.ndarray, np.ndarray], np.ndarray]
    gradient: Callable[[np.ndarray, np.ndarray], np.ndarray]
    source: str
    inputs: tuple[str, ...] = ("N",)
    units: tuple[str, ...] | None = None
    outcome: Literal["loss", "score", "error"] = "loss"
    linear: tuple[str, ...] = ()
    rescale: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    search: Search | None = None
    best: Callable[[np.ndarray], float] | None = None
    both: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]] | None = None

    def __repr__(self) -> str:
        return f"Law({self.name}: {self.formula}; {self.source})"

    @property
    def residual(self) -> Residual:
        """The scale of residuals that suits the outcome unless a caller says otherwise."""
        return "log" if self.outcome == "loss" else "linear"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters, in order."""
        return tuple(parameter.name for parameter in self.parameters)

    @property
    def probe(self) -> np.ndarray:
        """Parameters within their bounds, to try on what a change of units does to each."""
        return np.array([1.1 if np.isinf(p.upper) else 0.3 * p.lower + 0.7 * p.upper for p in self.parameters])

    def scale_of(self, logs: np.ndarray) -> np.ndarray:
        """Return what to divide inputs by, shape (d,), from the means of their logarithms (d,): one a unit."""
        units = np.array(self.units or self.inputs)
        shared = np.array([logs[units == unit].mean() for unit in units])
        return np.exp(np.where(units == NO_UNIT, 0.0, shared))

    def index(self, name: str) -> int:
        """Return the position of a parameter."""
        if name not in self.names:
            raise Refusal(f"{self.name} has no parameter {name!r}; it has {', '.join(self.names)}")
        return self.names.index(name)


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


def value_and_gradient(terms: Callable[..., Iterator[np.ndarray]]) -> dict[str, Callable]:
    """Return ``function``, ``gradient`` and ``both`` of a law from a generator ``terms(x, *parameters)``.

    It yields the value, then the derivative in each parameter; of a value alone no derivative is computed.
    """

    def function(x, theta):
        return next(terms(x, *split(theta)))

    def both(x, theta):
        value, *derivatives = terms(x, *split(theta))
        return value, stack(*derivatives)

    def gradient(x, theta):
        return both(x, theta)[1]

    return {"function": function, "gradient": gradient, "both": both}


def rescale_by(factors: Callable[[np.ndarray, np.ndarray], Mapping[int, np.ndarray]]):
    """Return a law's ``rescale`` from ``factors(theta, scale)``: what to multiply parameters with, by position."""

    def rescale(theta, scale):
        theta = np.array(theta, dtype=float)
        for position, factor in factors(theta, scale).items():
            theta[..., position] *= factor
        return theta

    return rescale


def amplitude(name: str, unit: str = "loss") -> Parameter:
    """Return a positive parameter in which laws are linear."""
    return Parameter(name, 0, np.inf, unit)


def exponent(name: str, search: tuple[float, ...] = EXPONENTS) -> Parameter:
    """Return a positive exponent of an input."""
    return Parameter(name, 0, np.inf, "1", search)


# The irreducible loss, approached as the inputs grow.
FLOOR = amplitude("E")


def power_law(
    name: str,
    formula: str,
    source: str,
    search: tuple[float, ...] = EXPONENTS,
    signed: Mapping[str, tuple[float, ...]] | None = None,
) -> Law:
    """Return the law ``E + sum over terms of A prod x^-alpha`` that a formula says; E only if it has one.

    ``search`` lists values of exponents; those that may have either sign have their own in ``signed``.
    """
    terms = [term.split() for term in formula.removeprefix("E + ").split(" + ")]
    floor = (FLOOR,) if formula.startswith("E + ") else ()
    # The input of each exponent, term by term: "N^-alpha".
    powers = [[factor.split("^-") for factor in factors] for _, *factors in terms]
    inputs = tuple(dict.fromkeys(of for own in powers for of, _ in own))
    exponents = [
        Parameter(alpha, -np.inf, np.inf, "1", signed[alpha]) if alpha in (signed or {}) else exponent(alpha, search)
        for own in powers
        for _, alpha in own
    ]
    parameters = (*floor, *(amplitude(own) for own, *_ in terms), *exponents)
    place = {parameter.name: position for position, parameter in enumerate(parameters)}
    by_term = {
        place[own[0]]: [(place[alpha], inputs.index(of)) for of, alpha in factors]
        for own, factors in zip(terms, powers, strict=True)
    }

    def falls(x, theta):
        logs = [np.log(x[..., i]) for i in range(len(inputs))] if len(inputs) > 1 else [np.log(x)]
        return logs, {a: np.exp(-sum(theta[e] * logs[i] for e, i in own)) for a, own in by_term.items()}

    def function(x, theta):
        theta = split(theta)
        return sum((theta[a] * fall for a, fall in falls(x, theta)[1].items()), start=theta[0] if floor else 0.0)

    def gradient(x, theta):
        theta = split(theta)
        logs, fall = falls(x, theta)
        by = fall | {e: -theta[a] * fall[a] * logs[i] for a, own in by_term.items() for e, i in own}
        return stack(*([1.0] if floor else []), *(by[position] for position in sorted(by)))

    def factors(theta, scale):
        return {a: np.prod([scale[i] ** theta[..., e] for e, i in own], axis=0) for a, own in by_term.items()}

    linear = (*(p.name for p in floor), *(own for own, *_ in terms))
    return Law(
        name, formula, parameters, function, gradient, source, inputs, linear=linear, rescale=rescale_by(factors)
    )
