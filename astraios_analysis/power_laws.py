"""Laws of loss in size, tokens and updated parameters, with gradients.

Notation of Hoffmann et al. (2022): N parameters, D tokens or examples, U updated parameters, E the irreducible loss,
A and B amplitudes, alpha and beta exponents.
"""

import numpy as np
from scipy.special import expit, log_expit

from astraios_analysis.law_types import Law, Parameter, split, stack

# Exponents from barely falling to falling faster than any measured curve, evenly in their logarithm.
EXPONENTS = (0.02, 0.05, 0.1, 0.17, 0.25, 0.35, 0.5, 0.7, 1.0, 1.5, 2.5)
_FEW_EXPONENTS = (0.05, 0.15, 0.35, 0.7, 1.3, 2.5)


def _amplitude(name: str, what: str, unit: str = "loss") -> Parameter:
    return Parameter(name, 0, np.inf, unit, what)


def _exponent(name: str, of: str, search: tuple[float, ...] = EXPONENTS) -> Parameter:
    return Parameter(name, 0, np.inf, "1", f"exponent of {of}", search)


_FLOOR = Parameter("E", 0, np.inf, "loss", "irreducible loss, approached as the inputs grow")


def _power(x: np.ndarray, theta: np.ndarray) -> np.ndarray:
    a, alpha = split(theta)
    return a * np.exp(-alpha * np.log(x))


def _power_gradient(x: np.ndarray, theta: np.ndarray) -> np.ndarray:
    a, alpha = split(theta)
    log_x = np.log(x)
    fall = np.exp(-alpha * log_x)
    return stack(fall, -a * fall * log_x)


def _power_rescale(theta: np.ndarray, scale: np.ndarray) -> np.ndarray:
    theta = np.array(theta, dtype=float)
    theta[..., 0] *= scale[0] ** theta[..., 1]
    return theta


def _floor(x: np.ndarray, theta: np.ndarray) -> np.ndarray:
    e, a, alpha = split(theta)
    return e + a * np.exp(-alpha * np.log(x))


def _floor_gradient(x: np.ndarray, theta: np.ndarray) -> np.ndarray:
    _, a, alpha = split(theta)
    log_x = np.log(x)
    fall = np.exp(-alpha * log_x)
    return stack(1.0, fall, -a * fall * log_x)


def _floor_rescale(theta: np.ndarray, scale: np.ndarray) -> np.ndarray:
    theta = np.array(theta, dtype=float)
    theta[..., 1] *= scale[0] ** theta[..., 2]
    return theta


def _two_terms(x: np.ndarray, theta: np.ndarray) -> np.ndarray:
    e, a, b, alpha, beta = split(theta)
    return e + a * np.exp(-alpha * np.log(x[..., 0])) + b * np.exp(-beta * np.log(x[..., 1]))


def _two_terms_gradient(x: np.ndarray, theta: np.ndarray) -> np.ndarray:
    _, a, b, alpha, beta = split(theta)
    log_n, log_d = np.log(x[..., 0]), np.log(x[..., 1])
    fall_n, fall_d = np.exp(-alpha * log_n), np.exp(-beta * log_d)
    return stack(1.0, fall_n, fall_d, -a * fall_n * log_n, -b * fall_d * log_d)


def _two_terms_rescale(theta: np.ndarray, scale: np.ndarray) -> np.ndarray:
    theta = np.array(theta, dtype=float)
    theta[..., 1] *= scale[0] ** theta[..., 3]
    theta[..., 2] *= scale[1] ** theta[..., 4]
    return theta


def _product(x: np.ndarray, theta: np.ndarray) -> np.ndarray:
    e, a, alpha, beta = split(theta)
    return e + a * np.exp(-alpha * np.log(x[..., 0]) - beta * np.log(x[..., 1]))


def _product_gradient(x: np.ndarray, theta: np.ndarray) -> np.ndarray:
    _, a, alpha, beta = split(theta)
    log_n, log_d = np.log(x[..., 0]), np.log(x[..., 1])
    fall = np.exp(-alpha * log_n - beta * log_d)
    return stack(1.0, fall, -a * fall * log_n, -a * fall * log_d)


def _product_rescale(theta: np.ndarray, scale: np.ndarray) -> np.ndarray:
    theta = np.array(theta, dtype=float)
    theta[..., 1] *= scale[0] ** theta[..., 2] * scale[1] ** theta[..., 3]
    return theta


def _rectified(x: np.ndarray, theta: np.ndarray) -> np.ndarray:
    e, b, d_l, beta = split(theta)
    return e + b / (d_l + np.exp(beta * np.log(x)))


def _rectified_gradient(x: np.ndarray, theta: np.ndarray) -> np.ndarray:
    _, b, d_l, beta = split(theta)
    log_x = np.log(x)
    rise = np.exp(beta * log_x)
    share = 1 / (d_l + rise)
    return stack(1.0, share, -b * share**2, -b * share**2 * rise * log_x)


def _rectified_rescale(theta: np.ndarray, scale: np.ndarray) -> np.ndarray:
    theta = np.array(theta, dtype=float)
    factor = scale[0] ** theta[..., 3]
    theta[..., 1] *= factor
    theta[..., 2] *= factor
    return theta


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


def _m4_rescale(theta: np.ndarray, scale: np.ndarray) -> np.ndarray:
    theta = np.array(theta, dtype=float)
    theta[..., 3] *= scale[0]
    return theta


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
    return stack(
        1.0,
        fall,
        -term * log_x,
        -term * width * bend,
        term * beta * share / x_b,
        -term * beta * (bend - share * beyond),
    )


def _broken_rescale(theta: np.ndarray, scale: np.ndarray) -> np.ndarray:
    theta = np.array(theta, dtype=float)
    theta[..., 1] *= scale[0] ** theta[..., 2]
    theta[..., 4] *= scale[0]
    return theta


POWER = Law(
    name="power",
    formula="A N^-alpha",
    parameters=(_amplitude("A", "loss at N = 1"), _exponent("alpha", "N")),
    function=_power,
    gradient=_power_gradient,
    source="Kaplan et al. 2020, equation 1.1",
    linear=("A",),
    rescale=_power_rescale,
)
POWER_FLOOR = Law(
    name="power_floor",
    formula="E + A N^-alpha",
    parameters=(_FLOOR, _amplitude("A", "reducible loss at N = 1"), _exponent("alpha", "N")),
    function=_floor,
    gradient=_floor_gradient,
    source="Henighan et al. 2020, equation 1.1",
    linear=("E", "A"),
    rescale=_floor_rescale,
)
CHINCHILLA = Law(
    name="chinchilla",
    formula="E + A N^-alpha + B D^-beta",
    parameters=(
        _FLOOR,
        _amplitude("A", "loss of finite parameters at N = 1"),
        _amplitude("B", "loss of finite data at D = 1"),
        _exponent("alpha", "N"),
        _exponent("beta", "D"),
    ),
    function=_two_terms,
    gradient=_two_terms_gradient,
    source="Hoffmann et al. 2022, equation 2",
    inputs=("N", "D"),
    linear=("E", "A", "B"),
    rescale=_two_terms_rescale,
)
MULTIPLICATIVE = Law(
    name="multiplicative",
    formula="E + A N^-alpha D^-beta",
    parameters=(
        _FLOOR,
        _amplitude("A", "reducible loss at N = D = 1"),
        _exponent("alpha", "N"),
        _exponent("beta", "D"),
    ),
    function=_product,
    gradient=_product_gradient,
    source="Zhang et al. 2024, equation 1 (fine-tuning; D examples or tokens)",
    inputs=("N", "D"),
    linear=("E", "A"),
    rescale=_product_rescale,
)
RECTIFIED = Law(
    name="rectified",
    formula="E + B / (D_l + D^beta)",
    parameters=(
        _FLOOR,
        _amplitude("B", "amplitude of the loss that data remove", "loss x D^beta"),
        Parameter(
            "D_l", 0, np.inf, "D^beta", "what pre-training is worth in data", (0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0)
        ),
        _exponent("beta", "D"),
    ),
    function=_rectified,
    gradient=_rectified_gradient,
    source="Lin et al. 2024, the rectified scaling law",
    inputs=("D",),
    linear=("E", "B"),
    rescale=_rectified_rescale,
)
M4 = Law(
    name="m4",
    formula="(y - E)/(E0 - E) = ((E0 - y)/(E0 - E))^a (D/x_t)^-c",
    parameters=(
        _FLOOR,
        _amplitude("E0", "loss without data"),
        Parameter("a", 0, np.inf, "1", "how late the curve leaves E0", (0.3, 1.0, 2.0, 4.0, 8.0)),
        Parameter("x_t", 0, np.inf, "D", "transition", (-0.5, 0.0, 0.25, 0.5, 0.75, 1.0), "input"),
        _exponent("c", "D", (0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.5, 2.5)),
    ),
    function=_m4,
    gradient=_m4_gradient,
    source="Alabdulmohsin et al. 2022, M4: their beta is x_t^c (E0 - E)^(1 - a)",
    inputs=("D",),
    linear=("E", "E0"),
    rescale=_m4_rescale,
)
BROKEN = Law(
    name="broken",
    formula="E + A D^-alpha (1 + (D/x_b)^(1/width))^(-beta width)",
    parameters=(
        _FLOOR,
        _amplitude("A", "reducible loss at D = 1"),
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
    rescale=_broken_rescale,
)
UPDATED_FLOOR = Law(
    name="updated_floor",
    formula="E + A U^-alpha",
    parameters=(_FLOOR, _amplitude("A", "reducible loss at U = 1"), _exponent("alpha", "U")),
    function=_floor,
    gradient=_floor_gradient,
    source="Zhuo et al. 2024, section 3: loss against updated parameters; form of Henighan et al. 2020",
    inputs=("U",),
    linear=("E", "A"),
    rescale=_floor_rescale,
)
UPDATED_ADDITIVE = Law(
    name="updated_additive",
    formula="E + A N^-alpha + B U^-beta",
    parameters=(
        _FLOOR,
        _amplitude("A", "loss of finite base parameters at N = 1"),
        _amplitude("B", "loss of few updated parameters at U = 1"),
        _exponent("alpha", "N"),
        _exponent("beta", "U"),
    ),
    function=_two_terms,
    gradient=_two_terms_gradient,
    source="Hoffmann et al. 2022, equation 2, with updated parameters in the place of tokens",
    inputs=("N", "U"),
    linear=("E", "A", "B"),
    rescale=_two_terms_rescale,
)
UPDATED_MULTIPLICATIVE = Law(
    name="updated_multiplicative",
    formula="E + A N^-alpha U^-beta",
    parameters=(
        _FLOOR,
        _amplitude("A", "reducible loss at N = U = 1"),
        _exponent("alpha", "N", _FEW_EXPONENTS),
        Parameter("beta", -np.inf, np.inf, "1", "exponent of U", (-0.1, 0.0, 0.03, 0.1, 0.3, 0.7)),
    ),
    function=_product,
    gradient=_product_gradient,
    source="Zhang et al. 2024, equation 1, with updated (PET) parameters in the place of data",
    inputs=("N", "U"),
    linear=("E", "A"),
    rescale=_product_rescale,
)

LOSS_LAWS = (
    POWER,
    POWER_FLOOR,
    CHINCHILLA,
    MULTIPLICATIVE,
    RECTIFIED,
    M4,
    BROKEN,
    UPDATED_FLOOR,
    UPDATED_ADDITIVE,
    UPDATED_MULTIPLICATIVE,
)
