"""Functional forms that can be fitted: pure functions with named, bounded parameters, their gradients and sources.

Notation of Hoffmann et al. (2022): N parameters, D tokens or examples, U updated parameters, L loss; E the irreducible
loss, A and B amplitudes, alpha and beta exponents.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import expit, log_expit, logit

from astraios_analysis.records.refusal import Refusal

Residual = Literal["log", "linear"]
# The input that numbers groups, in a law over several.
GROUP = "group"
# Sizes are counted in units of 1e9 parameters, so that an intercept is the value at one billion and not at one.
REFERENCE_SIZE = 1e9
# Exponents from barely falling to falling faster than any measured curve, evenly in their logarithm.
EXPONENTS = (0.02, 0.05, 0.1, 0.17, 0.25, 0.35, 0.5, 0.7, 1.0, 1.5, 2.5)
_FEW_EXPONENTS = (0.05, 0.15, 0.35, 0.7, 1.3, 2.5)


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
    meaning: str
    search: tuple[float, ...] = ()
    search_in: Literal["value", "input"] = "value"


@dataclass(frozen=True, repr=False)
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

    def __repr__(self) -> str:
        return f"Law({self.name}: {self.formula}; {self.source})"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters, in order."""
        return tuple(parameter.name for parameter in self.parameters)

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


def rescale_by(factors: Callable[[np.ndarray, np.ndarray], Mapping[int, np.ndarray]]):
    """Return a law's ``rescale`` from ``factors(theta, scale)``: what to multiply parameters with, by position."""

    def rescale(theta, scale):
        theta = np.array(theta, dtype=float)
        for position, factor in factors(theta, scale).items():
            theta[..., position] *= factor
        return theta

    return rescale


def decades(x: np.ndarray) -> np.ndarray:
    """Return log10 of a size in units of 1e9 parameters."""
    return np.log10(np.asarray(x, dtype=float) / REFERENCE_SIZE)


def amplitude(name: str, meaning: str, unit: str = "loss") -> Parameter:
    """Return a positive parameter in which laws are linear."""
    return Parameter(name, 0, np.inf, unit, meaning)


def exponent(name: str, of: str, search: tuple[float, ...] = EXPONENTS) -> Parameter:
    """Return a positive exponent of an input."""
    return Parameter(name, 0, np.inf, "1", f"exponent of {of}", search)


FLOOR = amplitude("E", "irreducible loss, approached as the inputs grow")


def power_law(
    name: str, formula: str, amplitudes: Mapping[str, str], exponents: Mapping[Parameter, tuple[str, str]], source: str
) -> Law:
    """Return the law ``E + sum over terms of A prod x^-alpha``; E only if the formula has it.

    ``amplitudes`` gives the meaning of each term's amplitude, ``exponents`` for each exponent its term's amplitude and
    the input that it belongs to.
    """
    floor = (FLOOR,) if formula.startswith("E + ") else ()
    parameters = (*floor, *(amplitude(*own) for own in amplitudes.items()), *exponents)
    inputs = tuple(dict.fromkeys(of for _, of in exponents.values()))
    place = {parameter.name: position for position, parameter in enumerate(parameters)}
    terms = {
        place[term]: [(place[p.name], inputs.index(of)) for p, (own, of) in exponents.items() if own == term]
        for term in amplitudes
    }

    def falls(x, theta):
        logs = [np.log(x[..., i]) for i in range(len(inputs))] if len(inputs) > 1 else [np.log(x)]
        return logs, {a: np.exp(-sum(theta[e] * logs[i] for e, i in own)) for a, own in terms.items()}

    def function(x, theta):
        theta = split(theta)
        return sum((theta[a] * fall for a, fall in falls(x, theta)[1].items()), start=theta[0] if floor else 0.0)

    def gradient(x, theta):
        theta = split(theta)
        logs, fall = falls(x, theta)
        by = fall | {e: -theta[a] * fall[a] * logs[i] for a, own in terms.items() for e, i in own}
        return stack(*([1.0] if floor else []), *(by[position] for position in sorted(by)))

    def factors(theta, scale):
        return {a: np.prod([scale[i] ** theta[..., e] for e, i in own], axis=0) for a, own in terms.items()}

    linear = (*(p.name for p in floor), *amplitudes)
    return Law(
        name, formula, parameters, function, gradient, source, inputs, linear=linear, rescale=rescale_by(factors)
    )


_ALPHA_N, _BETA_D, _BETA_U = exponent("alpha", "N"), exponent("beta", "D"), exponent("beta", "U")
POWER = power_law(
    "power", "A N^-alpha", {"A": "loss at N = 1"}, {_ALPHA_N: ("A", "N")}, "Kaplan et al. 2020, equation 1.1"
)
POWER_FLOOR = power_law(
    "power_floor",
    "E + A N^-alpha",
    {"A": "reducible loss at N = 1"},
    {_ALPHA_N: ("A", "N")},
    "Henighan et al. 2020, equation 1.1",
)
CHINCHILLA = power_law(
    "chinchilla",
    "E + A N^-alpha + B D^-beta",
    {"A": "loss of finite parameters at N = 1", "B": "loss of finite data at D = 1"},
    {_ALPHA_N: ("A", "N"), _BETA_D: ("B", "D")},
    "Hoffmann et al. 2022, equation 2",
)
MULTIPLICATIVE = power_law(
    "multiplicative",
    "E + A N^-alpha D^-beta",
    {"A": "reducible loss at N = D = 1"},
    {_ALPHA_N: ("A", "N"), _BETA_D: ("A", "D")},
    "Zhang et al. 2024, equation 1 (fine-tuning; D examples or tokens)",
)
UPDATED_FLOOR = power_law(
    "updated_floor",
    "E + A U^-alpha",
    {"A": "reducible loss at U = 1"},
    {exponent("alpha", "U"): ("A", "U")},
    "Zhuo et al. 2024, section 3: loss against updated parameters; form of Henighan et al. 2020",
)
UPDATED_ADDITIVE = power_law(
    "updated_additive",
    "E + A N^-alpha + B U^-beta",
    {"A": "loss of finite base parameters at N = 1", "B": "loss of few updated parameters at U = 1"},
    {_ALPHA_N: ("A", "N"), _BETA_U: ("B", "U")},
    "Hoffmann et al. 2022, equation 2, with updated parameters in the place of tokens",
)
UPDATED_MULTIPLICATIVE = power_law(
    "updated_multiplicative",
    "E + A N^-alpha U^-beta",
    {"A": "reducible loss at N = U = 1"},
    {
        exponent("alpha", "N", _FEW_EXPONENTS): ("A", "N"),
        Parameter("beta", -np.inf, np.inf, "1", "exponent of U", (-0.1, 0.0, 0.03, 0.1, 0.3, 0.7)): ("A", "U"),
    },
    "Zhang et al. 2024, equation 1, with updated (PET) parameters in the place of data",
)


def _rectified(x: np.ndarray, theta: np.ndarray) -> np.ndarray:
    e, b, d_l, beta = split(theta)
    return e + b / (d_l + np.exp(beta * np.log(x)))


def _rectified_gradient(x: np.ndarray, theta: np.ndarray) -> np.ndarray:
    _, b, d_l, beta = split(theta)
    log_x = np.log(x)
    rise = np.exp(beta * log_x)
    share = 1 / (d_l + rise)
    return stack(1.0, share, -b * share**2, -b * share**2 * rise * log_x)


def _sigmoid_position(x: np.ndarray, a: np.ndarray, x_t: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Solve ``log s - a log(1 - s) = c log(x_t / x)`` for ``t = logit(s)`` by Newton's method."""
    target = c * (np.log(x_t) - np.log(x))
    t = np.where(target < 0, target, target / a)
    for _ in range(60):
        share = expit(t)
        # The slope lies between 1 and a, so that each step is bounded and the last ones converge quadratically.
        step = (log_expit(t) - a * log_expit(-t) - target) / (1 - share + a * share)
        t = t - step
        if np.all(np.abs(step) <= 1e-14 * (1 + np.abs(t))):
            break
    return t


def _m4(x: np.ndarray, theta: np.ndarray) -> np.ndarray:
    e, e0, a, x_t, c = split(theta)
    share = expit(_sigmoid_position(x, a, x_t, c))
    return e + (e0 - e) * share


def _m4_gradient(x: np.ndarray, theta: np.ndarray) -> np.ndarray:
    e, e0, a, x_t, c = split(theta)
    t = _sigmoid_position(x, a, x_t, c)
    share = expit(t)
    rest = expit(-t)
    # ds/dt over dG/dt, with G(t) = log s - a log(1 - s) the left side of the equation that t solves.
    rate = (e0 - e) * share * rest / (rest + a * share)
    return stack(rest, share, rate * log_expit(-t), rate * c / x_t, rate * (np.log(x_t) - np.log(x)))


def _broken(x: np.ndarray, theta: np.ndarray) -> np.ndarray:
    e, a, alpha, beta, x_b, width = split(theta)
    log_x = np.log(x)
    bend = np.logaddexp(0, (log_x - np.log(x_b)) / width)
    return e + a * np.exp(-alpha * log_x - beta * width * bend)


def _broken_gradient(x: np.ndarray, theta: np.ndarray) -> np.ndarray:
    _, a, alpha, beta, x_b, width = split(theta)
    log_x = np.log(x)
    beyond = (log_x - np.log(x_b)) / width
    bend, share = np.logaddexp(0, beyond), expit(beyond)
    fall = np.exp(-alpha * log_x - beta * width * bend)
    term = a * fall
    by_break = term * beta * share / x_b
    return stack(1.0, fall, -term * log_x, -term * width * bend, by_break, -term * beta * (bend - share * beyond))


RECTIFIED = Law(
    name="rectified",
    formula="E + B / (D_l + D^beta)",
    parameters=(
        FLOOR,
        amplitude("B", "amplitude of the loss that data remove", "loss x D^beta"),
        Parameter(
            "D_l", 0, np.inf, "D^beta", "what pre-training is worth in data", (0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0)
        ),
        exponent("beta", "D"),
    ),
    function=_rectified,
    gradient=_rectified_gradient,
    source="Lin et al. 2024, the rectified scaling law",
    inputs=("D",),
    linear=("E", "B"),
    rescale=rescale_by(lambda theta, scale: dict.fromkeys((1, 2), scale[0] ** theta[..., 3])),
)
M4 = Law(
    name="m4",
    formula="(y - E)/(E0 - E) = ((E0 - y)/(E0 - E))^a (D/x_t)^-c",
    parameters=(
        FLOOR,
        amplitude("E0", "loss without data"),
        Parameter("a", 0, np.inf, "1", "how late the curve leaves E0", (0.3, 1.0, 2.0, 4.0, 8.0)),
        Parameter("x_t", 0, np.inf, "D", "transition", (-0.5, 0.0, 0.25, 0.5, 0.75, 1.0), "input"),
        exponent("c", "D", (0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.5, 2.5)),
    ),
    function=_m4,
    gradient=_m4_gradient,
    source="Alabdulmohsin et al. 2022, M4: their beta is x_t^c (E0 - E)^(1 - a)",
    inputs=("D",),
    linear=("E", "E0"),
    rescale=rescale_by(lambda theta, scale: {3: scale[0]}),
)
BROKEN = Law(
    name="broken",
    formula="E + A D^-alpha (1 + (D/x_b)^(1/width))^(-beta width)",
    parameters=(
        FLOOR,
        amplitude("A", "reducible loss at D = 1"),
        Parameter("alpha", -np.inf, np.inf, "1", "exponent before the break", (0.0, 0.1, 0.25, 0.5, 1.0)),
        Parameter("beta", -np.inf, np.inf, "1", "change of the exponent", (-0.2, 0.1, 0.3, 0.7, 1.5)),
        Parameter("x_b", 0, np.inf, "D", "break", (0.1, 0.3, 0.5, 0.7, 0.9), "input"),
        Parameter("width", 0, np.inf, "1", "width of the break in log D", (0.1, 0.4, 1.2)),
    ),
    function=_broken,
    gradient=_broken_gradient,
    source="Caballero et al. 2023, equation 1 with one break",
    inputs=("D",),
    linear=("E", "A"),
    rescale=rescale_by(lambda theta, scale: {1: scale[0] ** theta[..., 2], 4: scale[0]}),
)


def _logit_line(regressor: Callable[[np.ndarray], np.ndarray]) -> dict[str, Callable]:
    """Return function, gradient and links of the law ``logit(y) = a + b regressor(x)``."""

    def function(x, theta):
        a, b = split(theta)
        return expit(a + b * regressor(x))

    def gradient(x, theta):
        rate = function(x, theta)
        slope = rate * (1 - rate)
        return stack(slope, slope * regressor(x))

    return {"function": function, "gradient": gradient, "link": logit, "unlink": expit, "regressor": regressor}


def _exponential(x: np.ndarray, theta: np.ndarray) -> np.ndarray:
    ceiling, k, gamma = split(theta)
    return ceiling - k * np.exp(-gamma * x)


def _exponential_gradient(x: np.ndarray, theta: np.ndarray) -> np.ndarray:
    _, k, gamma = split(theta)
    fall = np.exp(-gamma * x)
    return stack(1.0, -fall, k * fall * x)


def _logistic(x: np.ndarray, theta: np.ndarray) -> np.ndarray:
    floor, ceiling, k, middle = split(theta)
    return floor + (ceiling - floor) * expit(-k * (x - middle))


def _logistic_gradient(x: np.ndarray, theta: np.ndarray) -> np.ndarray:
    floor, ceiling, k, middle = split(theta)
    share = expit(-k * (x - middle))
    slope = (ceiling - floor) * share * (1 - share)
    return stack(1 - share, share, -slope * (x - middle), slope * k)


LOGIT_LINEAR = Law(
    name="logit_linear",
    formula="logit(score) = a + b log10(N / 1e9)",
    parameters=(
        Parameter("a", -np.inf, np.inf, "logit", "logit of the score at one billion parameters", (-4, -2, -1, 0, 1, 3)),
        Parameter(
            "b", -np.inf, np.inf, "logit per decade", "change of the logit for ten times the parameters", (-1, 0, 1, 3)
        ),
    ),
    source="logistic growth of a rate with log size; the simplest form that keeps a rate in (0, 1)",
    outcome="score",
    residual="linear",
    **_logit_line(decades),
)
EXPONENTIAL_LINK = Law(
    name="exponential_link",
    formula="error = eps - k exp(-gamma L)",
    parameters=(
        Parameter("eps", 0, np.inf, "error", "error at large loss (chance)"),
        Parameter("k", 0, np.inf, "error", "what the error can fall by at L = 0"),
        Parameter("gamma", 0, np.inf, "1 / loss", "rate of the fall", (0.1, 0.3, 0.7, 1.5, 3, 6, 12, 25)),
    ),
    function=_exponential,
    gradient=_exponential_gradient,
    source="Gadre et al. 2024, error against loss",
    inputs=("L",),
    outcome="error",
    residual="linear",
    linear=("eps", "k"),
    rescale=rescale_by(lambda theta, scale: {2: 1 / scale[0]}),
)
LOGISTIC_LINK = Law(
    name="logistic_link",
    formula="score = floor + (ceiling - floor) / (1 + exp(k (L - L0)))",
    parameters=(
        Parameter("floor", 0, 1, "score", "chance level, approached at large loss"),
        Parameter("ceiling", 0, 1, "score", "score approached at small loss"),
        Parameter("k", 0, np.inf, "1 / loss", "steepness", (0.5, 1.5, 4, 8, 16, 32, 64, 128)),
        Parameter(
            "L0", 0, np.inf, "loss", "loss halfway between floor and ceiling", (-0.3, 0, 0.2, 0.4, 0.6, 0.8, 1), "input"
        ),
    ),
    function=_logistic,
    gradient=_logistic_gradient,
    source="Bhagia et al. 2024, accuracy against task loss, with their a and b as ceiling - floor and floor",
    inputs=("L",),
    outcome="score",
    residual="linear",
    linear=("floor", "ceiling"),
    rescale=rescale_by(lambda theta, scale: {2: 1 / scale[0], 3: scale[0]}),
)
LOGIT_LINK = Law(
    name="logit_link",
    formula="logit(score) = a + b L",
    parameters=(
        Parameter("a", -np.inf, np.inf, "logit", "logit of the score at loss 0", (-2, 0, 2, 5, 10, 20)),
        Parameter("b", -np.inf, np.inf, "logit / loss", "change of the logit for one nat", (-40, -20, -8, -3, -1, 0)),
    ),
    source="binomial regression on loss (McCullagh and Nelder 1989, chapter 4)",
    inputs=("L",),
    outcome="score",
    residual="linear",
    rescale=rescale_by(lambda theta, scale: {1: 1 / scale[0]}),
    **_logit_line(lambda x: np.asarray(x, dtype=float)),
)

LAWS: dict[str, Law] = {
    law.name: law
    for law in (
        *(POWER, POWER_FLOOR, CHINCHILLA, MULTIPLICATIVE, UPDATED_FLOOR, UPDATED_ADDITIVE, UPDATED_MULTIPLICATIVE),
        *(RECTIFIED, M4, BROKEN),
        *(LOGIT_LINEAR, EXPONENTIAL_LINK, LOGISTIC_LINK, LOGIT_LINK),
    )
}


def find_law(law: str | Law) -> Law:
    """Return a law by its name; a law is returned as it is."""
    if isinstance(law, Law):
        return law
    if law not in LAWS:
        raise Refusal(f"unknown law {law!r}; choose from {', '.join(LAWS)}")
    return LAWS[law]
