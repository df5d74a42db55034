"""Functional forms that can be fitted, of one input, and the list of all laws."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from scipy.special import expit, log_expit

from astraios_analysis.laws.law import (
    FLOOR,
    Law,
    Parameter,
    amplitude,
    exponent,
    power_law,
    rescale_by,
    stack,
    value_and_gradient,
)
from astraios_analysis.laws.surfaces import (
    ADDITIVE_THREE,
    CHINCHILLA,
    EPOCHS,
    FARSEER,
    MULTIPLICATIVE,
    MULTIPLICATIVE_THREE,
    SKALING,
    SKALING_THREE,
    UPDATED_ADDITIVE,
    UPDATED_MULTIPLICATIVE,
)
from astraios_analysis.records.refusal import Refusal, require_known

# Sizes are counted in units of 1e9 parameters, so that an intercept is the value at one billion and not at one.
REFERENCE_SIZE = 1e9


def decades(x: np.ndarray) -> np.ndarray:
    """Return log10 of a size in units of 1e9 parameters."""
    return np.log10(np.asarray(x, dtype=float) / REFERENCE_SIZE)


POWER = power_law("power", "A N^-alpha", "Kaplan et al. 2020, equation 1.1")
POWER_FLOOR = power_law("power_floor", "E + A N^-alpha", "Henighan et al. 2020, equation 1.1")
UPDATED_FLOOR = power_law(
    "updated_floor",
    "E + A U^-alpha",
    "Zhuo et al. 2024, section 3: loss against updated parameters; form of Henighan et al. 2020",
)


def _rectified(x, e, b, d_l, beta):
    log_x = np.log(x)
    rise = np.exp(beta * log_x)
    yield e + b / (d_l + rise)
    share = 1 / (d_l + rise)
    yield from (1.0, share, -b * share**2, -b * share**2 * rise * log_x)


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


def _m4(x, e, e0, a, x_t, c):
    t = _sigmoid_position(x, a, x_t, c)
    share = expit(t)
    yield e + (e0 - e) * share
    rest = expit(-t)
    # ds/dt over dG/dt, with G(t) = log s - a log(1 - s) the left side of the equation that t solves.
    rate = (e0 - e) * share * rest / (rest + a * share)
    yield from (rest, share, rate * log_expit(-t), rate * c / x_t, rate * (np.log(x_t) - np.log(x)))


def _broken(x, e, a, alpha, beta, x_b, width):
    log_x = np.log(x)
    beyond = (log_x - np.log(x_b)) / width
    bend = np.logaddexp(0, beyond)
    fall = np.exp(-alpha * log_x - beta * width * bend)
    yield e + a * fall
    share, term = expit(beyond), a * fall
    by_break, by_width = term * beta * share / x_b, -term * beta * (bend - share * beyond)
    yield from (1.0, fall, -term * log_x, -term * width * bend, by_break, by_width)


RECTIFIED = Law(
    name="rectified",
    formula="E + B / (D_l + D^beta)",
    parameters=(
        FLOOR,
        amplitude("B", "loss x D^beta"),
        # What pre-training is worth in data.
        Parameter("D_l", 0, np.inf, "D^beta", (0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0)),
        exponent("beta"),
    ),
    **value_and_gradient(_rectified),
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
        amplitude("E0"),
        # How late the curve leaves E0, the loss without data.
        Parameter("a", 0, np.inf, "1", (0.3, 1.0, 2.0, 4.0, 8.0)),
        Parameter("x_t", 0, np.inf, "D", (-0.5, 0.0, 0.25, 0.5, 0.75, 1.0), "input"),
        exponent("c", (0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.5, 2.5)),
    ),
    **value_and_gradient(_m4),
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
        amplitude("A"),
        # Exponent before the break, and what it changes by there.
        Parameter("alpha", -1.0, 3.0, "1", (0.0, 0.1, 0.25, 0.5, 1.0)),
        Parameter("beta", -3.0, 3.0, "1", (-0.2, 0.1, 0.3, 0.7, 1.5)),
        Parameter("x_b", 0, np.inf, "D", (0.1, 0.3, 0.5, 0.7, 0.9), "input"),
        Parameter("width", 0.01, np.inf, "1", (0.1, 0.4, 1.2)),
    ),
    **value_and_gradient(_broken),
    source="Caballero et al. 2023, equation 1 with one break",
    inputs=("D",),
    linear=("E", "A"),
    rescale=rescale_by(lambda theta, scale: {1: scale[0] ** theta[..., 2], 4: scale[0]}),
)


def _logit_line(regressor: Callable[[np.ndarray], np.ndarray]) -> dict[str, Callable]:
    """Return function and gradient of the law ``logit(y) = a + b regressor(x)``."""

    def terms(x, a, b):
        at = regressor(x)
        rate = expit(a + b * at)
        yield rate
        slope = rate * (1 - rate)
        yield from (slope, slope * at)

    return value_and_gradient(terms)


def _exponential(x, ceiling, k, gamma):
    fall = np.exp(-gamma * x)
    yield ceiling - k * fall
    yield from (1.0, -fall, k * fall * x)


def _logistic(x, floor, ceiling, k, middle):
    share = expit(-k * (x - middle))
    yield floor + (ceiling - floor) * share
    slope = (ceiling - floor) * share * (1 - share)
    yield from (1 - share, share, -slope * (x - middle), slope * k)


LOGIT_LINEAR = Law(
    name="logit_linear",
    formula="logit(score) = a + b log10(N / 1e9)",
    parameters=(
        Parameter("a", -np.inf, np.inf, "logit", (-4, -2, -1, 0, 1, 3)),
        Parameter("b", -np.inf, np.inf, "logit per decade", (-1, 0, 1, 3)),
    ),
    source="logistic growth of a rate with log size; the simplest form that keeps a rate in (0, 1)",
    outcome="score",
    **_logit_line(decades),
)
EXPONENTIAL_LINK = Law(
    name="exponential_link",
    formula="error = eps - k exp(-gamma L)",
    parameters=(
        Parameter("eps", 0, np.inf, "error"),
        Parameter("k", 0, np.inf, "error"),
        Parameter("gamma", 0, np.inf, "1 / loss", (0.1, 0.3, 0.7, 1.5, 3, 6, 12, 25)),
    ),
    **value_and_gradient(_exponential),
    source="Gadre et al. 2024, error against loss",
    inputs=("L",),
    outcome="error",
    linear=("eps", "k"),
    best=lambda theta: theta[0] - theta[1],
    rescale=rescale_by(lambda theta, scale: {2: 1 / scale[0]}),
)
LOGISTIC_LINK = Law(
    name="logistic_link",
    formula="score = floor + (ceiling - floor) / (1 + exp(k (L - L0)))",
    parameters=(
        Parameter("floor", 0, 1, "score"),
        Parameter("ceiling", 0, 1, "score"),
        Parameter("k", 0, np.inf, "1 / loss", (0.5, 1.5, 4, 8, 16, 32, 64, 128)),
        Parameter("L0", 0, np.inf, "loss", (-0.3, 0, 0.2, 0.4, 0.6, 0.8, 1), "input"),
    ),
    **value_and_gradient(_logistic),
    source="Bhagia et al. 2024, accuracy against task loss, with their a and b as ceiling - floor and floor",
    inputs=("L",),
    outcome="score",
    linear=("floor", "ceiling"),
    best=lambda theta: theta[1],
    rescale=rescale_by(lambda theta, scale: {2: 1 / scale[0], 3: scale[0]}),
)
LOGIT_LINK = Law(
    name="logit_link",
    formula="logit(score) = a + b L",
    parameters=(
        Parameter("a", -np.inf, np.inf, "logit", (-2, 0, 2, 5, 10, 20)),
        Parameter("b", -np.inf, np.inf, "logit / loss", (-40, -20, -8, -3, -1, 0)),
    ),
    source="binomial regression on loss (McCullagh and Nelder 1989, chapter 4)",
    inputs=("L",),
    outcome="score",
    rescale=rescale_by(lambda theta, scale: {1: 1 / scale[0]}),
    **_logit_line(lambda x: np.asarray(x, dtype=float)),
)

LAWS: dict[str, Law] = {
    law.name: law
    for law in (
        *(POWER, POWER_FLOOR, CHINCHILLA, MULTIPLICATIVE, SKALING, FARSEER),
        *(UPDATED_FLOOR, UPDATED_ADDITIVE, UPDATED_MULTIPLICATIVE),
        *(EPOCHS, ADDITIVE_THREE, MULTIPLICATIVE_THREE, SKALING_THREE),
        *(RECTIFIED, M4, BROKEN),
        *(LOGIT_LINEAR, EXPONENTIAL_LINK, LOGISTIC_LINK, LOGIT_LINK),
    )
}


def tie_law(law: Law, ties: Mapping[str, str]) -> Law:
    """Return a law in which parameters have the value of others, such as ``{"alpha": "beta"}``, and are left out."""
    if not ties:
        return law
    for name, other in ties.items():
        law.index(name), law.index(other)
        if name == other or other in ties:
            raise Refusal(f"{name} is tied to {other}, which is {'itself' if name == other else 'tied too'}")
    kept = [j for j, name in enumerate(law.names) if name not in ties]
    # Which of the kept parameters each of the law's takes.
    source = np.array([kept.index(law.index(ties.get(name, name))) for name in law.names])

    def function(x, theta):
        return law.function(x, np.asarray(theta)[..., source])

    def gradient(x, theta):
        full = np.swapaxes(law.gradient(x, np.asarray(theta)[..., source]), -1, -2)
        return stack(*(full[..., source == place, :].sum(axis=-2) for place in range(len(kept))))

    def rescale(theta, scale):
        return law.rescale(np.asarray(theta)[..., source], scale)[..., kept]

    probe = law.probe[kept][source]
    moved = law.rescale(probe, np.linspace(1.7, 3.1, len(law.inputs))) if law.rescale else probe
    # Two amplitudes that are equal in one unit are not in another.
    is_free = law.rescale is not None and all(np.isclose(moved[j], moved[kept][source[j]]) for j in range(len(source)))
    linear = tuple(name for name in law.linear if name not in ties)
    if any((name in law.linear) != (other in law.linear) for name, other in ties.items()):
        raise Refusal(f"{law.name} is linear in one of {', '.join(f'{a} and {b}' for a, b in ties.items())} alone")
    search = law.search and replace(law.search, to_theta=lambda c, v: law.search.to_theta(c, v)[:, kept])
    shown = "".join(f", {name} = {other}" for name, other in ties.items())
    return replace(
        law,
        name=law.name + shown,
        formula=law.formula + shown,
        parameters=tuple(law.parameters[j] for j in kept),
        function=function,
        gradient=gradient,
        both=None,
        linear=linear,
        rescale=rescale if is_free else None,
        search=search,
    )


def find_law(law: str | Law) -> Law:
    """Return a law by its name, with ties where it has some (``chinchilla, alpha = beta``); a law is returned as is."""
    if isinstance(law, Law):
        return law
    name, *ties = law.split(", ")
    require_known("law", [name], LAWS)
    return tie_law(LAWS[name], dict(tie.split(" = ") for tie in ties))
