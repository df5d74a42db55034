"""Functional forms that can be fitted, and the list of all laws.

First laws of several inputs: size, data, updated parameters, unique tokens, a third quantity such as LoRA's rank; then
those of one.
"""

import copyreg
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from scipy.special import expit, log_expit

from astraios_analysis.laws.law import (
    EXPONENTS,
    FEW_EXPONENTS,
    FLOOR,
    NO_UNIT,
    Law,
    Parameter,
    Search,
    amplitude,
    exponent,
    power_law,
    rescale_by,
    split,
    stack,
    value_and_gradient,
)
from astraios_analysis.records.refusal import Refusal, require_known

# Beyond e^700 there are no numbers.
_MAX_LOG = 700.0

CHINCHILLA = power_law("chinchilla", "E + A N^-alpha + B D^-beta", "Hoffmann et al. 2022, equation 2")
MULTIPLICATIVE = power_law(
    "multiplicative",
    "E + A N^-alpha D^-beta",
    "Zhang et al. 2024, equation 1 (fine-tuning; D examples or tokens)",
)
UPDATED_ADDITIVE = power_law(
    "updated_additive",
    "E + A N^-alpha + B U^-beta",
    "Hoffmann et al. 2022, equation 2, with updated parameters in the place of tokens",
)
UPDATED_MULTIPLICATIVE = power_law(
    "updated_multiplicative",
    "E + A N^-alpha U^-beta",
    "Zhang et al. 2024, equation 1, with updated (PET) parameters in the place of data",
    FEW_EXPONENTS,
    {"beta": (-0.1, 0.0, 0.03, 0.1, 0.3, 0.7)},
)
ADDITIVE_THREE = power_law(
    "additive_three",
    "E + A N^-alpha + B D^-beta + C V^-gamma",
    "Tao et al. 2024, vocabulary parameters as V (their floor is that of a normalised loss)",
    FEW_EXPONENTS,
)
MULTIPLICATIVE_THREE = power_law(
    "multiplicative_three",
    "E + A N^-alpha D^-beta V^-gamma",
    "Zhang et al. 2024, equation 1, with a factor for a third input (LoRA's rank, experts)",
    FEW_EXPONENTS,
    {"gamma": (-0.1, 0.0, 0.03, 0.1, 0.3)},
)


def product_law(n_inputs: int) -> Law:
    """Return ``E + A prod x_i^-alpha_i`` of any number of inputs, whose exponents may have either sign."""
    factors = " ".join(f"x{i + 1}^-alpha{i + 1}" for i in range(n_inputs))
    signed = {f"alpha{i + 1}": (-0.1, 0.0, 0.1, 0.3) for i in range(n_inputs)}
    source = "Zhang et al. 2024, equation 1, with a factor for each input"
    return power_law(f"product_{n_inputs}", f"E + A {factors}", source, signed=signed)


def _log_sum(parts: list[np.ndarray]) -> np.ndarray:
    """Return the log of the sum of exponentials; `numpy.logaddexp` takes three times as long."""
    largest = parts[0]
    for part in parts[1:]:
        largest = np.maximum(largest, part)
    base = np.maximum(largest, -1e300)
    with np.errstate(divide="ignore"):
        return base + np.log(sum(np.exp(part - base) for part in parts))


def coupled_law(name: str, additive: Law, source: str) -> Law:
    """Return ``E + (sum of power terms)^k`` of an additive law ``E + sum of power terms``; k = 1 is that law.

    Starts are sought in ``E + S (sum_j (e^(r_j) x_j^-a_j)^(1/k))^k``, which is linear in E and S, with r_1 = 0.
    """
    m = len(additive.inputs)
    inner = additive.formula.removeprefix("E + ")
    couplings = (0.1, 0.25, 0.5, 0.8, 1.0, 1.5)
    exponents = EXPONENTS[1:] if m == 2 else FEW_EXPONENTS[:-1]
    parameters = (*additive.parameters, Parameter("k", 0.01, 2.0, "1", couplings))

    def terms(x, *theta):
        logs = [np.log(x[..., i]) for i in range(m)]
        falls = [-theta[1 + m + i] * logs[i] for i in range(m)]
        # An amplitude may be 0.
        with np.errstate(divide="ignore"):
            own = [np.log(theta[1 + i]) + fall for i, fall in enumerate(falls)]
        total = _log_sum(own)
        value = np.exp(theta[-1] * total)
        yield theta[0] + value
        by_amplitude = [theta[-1] * value * np.exp(fall - total) for fall in falls]
        by_exponent = (-theta[1 + i] * by_amplitude[i] * log for i, log in enumerate(logs))
        yield from (1.0, *by_amplitude, *by_exponent, value * total)

    def basis(x, values):
        a, k, shifts = values[:, :m], values[:, m, None], np.pad(values[:, m + 1 :], ((0, 0), (1, 0)))
        own = [(shifts[:, i, None] - a[:, i, None] * np.log(x[..., i])) / k for i in range(m)]
        return np.stack([np.ones((len(values), len(x))), np.exp(k * _log_sum(own))], axis=1)

    def to_theta(coefficients, values):
        a, k, shifts = values[:, :m], values[:, m, None], np.pad(values[:, m + 1 :], ((0, 0), (1, 0)))
        amplitudes = np.exp((np.log(coefficients[:, 1:]) + shifts) / k)
        return np.column_stack([coefficients[:, 0], amplitudes, a / k, k])

    grid = {f"a{i}": exponents for i in range(m)} | {"k": couplings}
    grid |= {f"r{i}": (-2.0, -0.7, 0.0, 0.7, 2.0) if m == 2 else (-1.0, 0.0, 1.0) for i in range(1, m)}
    return Law(
        name,
        f"E + ({inner})^k",
        parameters,
        **value_and_gradient(terms),
        source=source,
        inputs=additive.inputs,
        rescale=additive.rescale,
        search=Search(("E", "S"), grid, basis, to_theta),
    )


def _repeated(amount: np.ndarray, unique: np.ndarray, decay: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return what an amount is worth of which only part is unique, and its derivatives in that part and in the decay.

    ``u + u R (1 - exp(-r / R))`` with ``r = amount / u - 1`` repeats: all of it where it is all unique.
    """
    u = np.minimum(unique, amount)
    repeats = amount / u - 1
    fall = np.exp(-repeats / decay)
    rest = -np.expm1(-repeats / decay)
    by_unique = np.where(unique < amount, 1 + decay * rest - fall * (1 + repeats), 0.0)
    return u + u * decay * rest, by_unique, u * (rest - fall * repeats / decay)


def _epochs(x, e, a, b, alpha, beta, r_d, r_n):
    n, d, q = (x[..., i] for i in range(3))
    unique = np.minimum(q, d)
    # The size that is optimal for the unique data: alpha A N^-alpha = beta B D^-beta there.
    log_usable = (np.log(alpha * a) - np.log(beta * b) + beta * np.log(unique)) / alpha
    data, _, data_by_decay = _repeated(d, unique, r_d)
    size, by_usable, size_by_decay = _repeated(n, np.exp(log_usable), r_n)
    of_size, of_data = size**-alpha, data**-beta
    yield e + a * of_size + b * of_data
    by_size, by_data = -alpha * a * of_size / size, -beta * b * of_data / data
    usable = by_size * by_usable * np.exp(np.minimum(log_usable, _MAX_LOG))
    yield from (1.0, of_size + usable / (alpha * a), of_data - usable / (alpha * b))
    yield -a * of_size * np.log(size) + usable * (1 / alpha - log_usable) / alpha
    yield -b * of_data * np.log(data) + usable * (np.log(unique) - 1 / beta) / alpha
    yield from (by_data * data_by_decay, by_size * size_by_decay)


def _epochs_basis(x: np.ndarray, values: np.ndarray) -> np.ndarray:
    alpha, beta, r_d = (values[:, i, None] for i in range(3))
    data = _repeated(x[..., 1], x[..., 2], r_d)[0]
    return np.stack(np.broadcast_arrays(1.0, x[..., 0] ** -alpha, data**-beta), axis=1)


EPOCHS = Law(
    name="epochs",
    formula="E + A N'^-alpha + B D'^-beta, D' = Q + Q R_D (1 - exp(-(D/Q - 1)/R_D)), N' likewise with R_N",
    parameters=(
        FLOOR,
        amplitude("A"),
        amplitude("B"),
        exponent("alpha", ()),
        exponent("beta", ()),
        # Repeats after which 1 - 1/e of their worth is had; the same of parameters beyond what unique data can use.
        Parameter("R_D", 0, np.inf, "epochs"),
        Parameter("R_N", 0, np.inf, "1"),
    ),
    **value_and_gradient(_epochs),
    source="Muennighoff et al. 2023, the data-constrained law (Q unique tokens), all parameters fitted at once",
    inputs=("N", "D", "Q"),
    units=("N", "D", "D"),
    rescale=rescale_by(lambda theta, scale: {1: scale[0] ** theta[..., 3], 2: scale[1] ** theta[..., 4]}),
    search=Search(
        ("E", "A", "B"),
        {"alpha": FEW_EXPONENTS, "beta": FEW_EXPONENTS, "R_D": (1.0, 3.0, 8.0, 15.0, 40.0), "R_N": (1.0, 5.3, 30.0)},
        _epochs_basis,
        lambda coefficients, values: np.column_stack([coefficients, values]),
    ),
)


def _box_cox(log_n: np.ndarray, power: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return ``(N^power - 1) / power``, log N where the power is 0, and its derivative in the power."""
    near = np.abs(power * log_n) < 1e-4
    safe = np.where(near, 1.0, power)
    value = np.where(near, log_n + power * log_n**2 / 2, np.expm1(safe * log_n) / safe)
    slope = (log_n * np.exp(safe * log_n) - value) / safe
    return value, np.where(near, log_n**2 / 2 + power * log_n**3 / 3, slope)


def _farseer_parts(x, theta):
    """Return the bends P(c) with their derivatives, the floor, the fall, and minus the derivative of its log in b1."""
    log_n, log_d = np.log(x[..., 0]), np.log(x[..., 1])
    bends = list(zip(*_box_cox(log_n, np.stack(theta[2::3])), strict=True))
    floor, size, rate = (b + a * bend for a, b, (bend, _) in zip(theta[::3], theta[1::3], bends, strict=True))
    rate = np.exp(rate)
    return bends, np.exp(floor), np.exp(size - rate * log_d), rate * log_d


def _farseer(x, *theta):
    bends, floor, fall, steepness = _farseer_parts(x, theta)
    yield floor + fall
    for d, a, (bend, by_power) in zip((floor, fall, -fall * steepness), theta[::3], bends, strict=True):
        yield from (d * bend, d, d * a * by_power)


def _farseer_basis(x: np.ndarray, values: np.ndarray) -> np.ndarray:
    _, floor, fall, _ = _farseer_parts(x, split(_farseer_theta(np.ones((len(values), 2)), values)))
    return np.stack([floor, fall], axis=1)


def _farseer_theta(coefficients: np.ndarray, values: np.ndarray) -> np.ndarray:
    constants = np.column_stack([np.log(coefficients), values[:, 6]])
    return np.stack([values[:, :3], constants, values[:, 3:6]], axis=2).reshape(len(values), 9)


def _farseer_rescale(theta: np.ndarray, scale: np.ndarray) -> np.ndarray:
    theta = np.array(theta, dtype=float)
    a, b, c = (theta[..., i::3].copy() for i in range(3))
    theta[..., ::3] = a * scale[0] ** -c
    theta[..., 1::3] = b + a * _box_cox(-np.log(scale[0]), c)[0]
    return theta


FARSEER = Law(
    name="farseer",
    formula="exp(a3 P(c3) + b3) + exp(a2 P(c2) + b2) D^-exp(a1 P(c1) + b1), P(c) = (N^c - 1)/c",
    # Of the log floor, of the log amplitude of data, of the log exponent of data.
    parameters=tuple(
        Parameter(f"{name}{i}", -bound, bound, "1")
        for i in (3, 2, 1)
        for name, bound in (("a", np.inf), ("b", np.inf), ("c", 1.0))
    ),
    **value_and_gradient(_farseer),
    source="Li et al. 2025 (Farseer, arXiv 2506.10972), their a being a/c and their b being b - a/c",
    inputs=("N", "D"),
    units=("N", NO_UNIT),
    rescale=_farseer_rescale,
    search=Search(
        ("floor", "fall"),
        {
            **{f"a{i}": at for i, at in ((3, (-0.1, -0.03, 0.0)), (2, (-0.3, 0.0, 0.3)), (1, (-0.1, 0.0, 0.1)))},
            **{f"c{i}": (-0.15, 0.15) for i in (3, 2, 1)},
            "b1": tuple(np.log([0.1, 0.2, 0.35, 0.6])),
        },
        _farseer_basis,
        _farseer_theta,
    ),
)
SKALING = coupled_law("skaling", CHINCHILLA, "Videau et al. 2026 (arXiv 2608.07222); k = 1 is chinchilla")
SKALING_THREE = coupled_law(
    "skaling_three", ADDITIVE_THREE, "Videau et al. 2026 with a third term, as in Tao et al. 2024"
)


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
    name, *ties = str(law).split(", ")
    require_known("law", [name], LAWS)
    return tie_law(LAWS[name], dict(tie.split(" = ") for tie in ties))


def _pickle_law(law: Law) -> tuple:
    """Keep a law of this list by its name: fits can be sent to other processes, whatever its functions close over."""
    name, *ties = law.name.split(", ")
    is_listed = law is LAWS.get(name) or (bool(ties) and all(" = " in tie for tie in ties))
    return (find_law, (law.name,)) if is_listed else law.__reduce_ex__(2)


copyreg.pickle(Law, _pickle_law)
