"""Laws of several inputs: size, data, updated parameters, unique tokens, and a third quantity such as LoRA's rank."""

import numpy as np

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
    value_and_gradient,
)

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
