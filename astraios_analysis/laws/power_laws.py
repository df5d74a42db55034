"""Laws of loss in size, tokens and updated parameters, with gradients.

Notation of Hoffmann et al. (2022): N parameters, D tokens or examples, U updated parameters, E the irreducible loss,
A and B amplitudes, alpha and beta exponents.
"""

import numpy as np

from astraios_analysis.laws.forms import Law, Parameter, split, stack

# Exponents from barely falling to falling faster than any measured curve, evenly in their logarithm.
EXPONENTS = (0.02, 0.05, 0.1, 0.17, 0.25, 0.35, 0.5, 0.7, 1.0, 1.5, 2.5)
_FEW_EXPONENTS = (0.05, 0.15, 0.35, 0.7, 1.3, 2.5)


def amplitude(name: str, what: str, unit: str = "loss") -> Parameter:
    """Return a positive parameter in which laws are linear."""
    return Parameter(name, 0, np.inf, unit, what)


def exponent(name: str, of: str, search: tuple[float, ...] = EXPONENTS) -> Parameter:
    """Return a positive exponent of an input."""
    return Parameter(name, 0, np.inf, "1", f"exponent of {of}", search)


FLOOR = Parameter("E", 0, np.inf, "loss", "irreducible loss, approached as the inputs grow")


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


POWER = Law(
    name="power",
    formula="A N^-alpha",
    parameters=(amplitude("A", "loss at N = 1"), exponent("alpha", "N")),
    function=_power,
    gradient=_power_gradient,
    source="Kaplan et al. 2020, equation 1.1",
    linear=("A",),
    rescale=_power_rescale,
)
POWER_FLOOR = Law(
    name="power_floor",
    formula="E + A N^-alpha",
    parameters=(FLOOR, amplitude("A", "reducible loss at N = 1"), exponent("alpha", "N")),
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
        FLOOR,
        amplitude("A", "loss of finite parameters at N = 1"),
        amplitude("B", "loss of finite data at D = 1"),
        exponent("alpha", "N"),
        exponent("beta", "D"),
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
        FLOOR,
        amplitude("A", "reducible loss at N = D = 1"),
        exponent("alpha", "N"),
        exponent("beta", "D"),
    ),
    function=_product,
    gradient=_product_gradient,
    source="Zhang et al. 2024, equation 1 (fine-tuning; D examples or tokens)",
    inputs=("N", "D"),
    linear=("E", "A"),
    rescale=_product_rescale,
)
UPDATED_FLOOR = Law(
    name="updated_floor",
    formula="E + A U^-alpha",
    parameters=(FLOOR, amplitude("A", "reducible loss at U = 1"), exponent("alpha", "U")),
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
        FLOOR,
        amplitude("A", "loss of finite base parameters at N = 1"),
        amplitude("B", "loss of few updated parameters at U = 1"),
        exponent("alpha", "N"),
        exponent("beta", "U"),
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
        FLOOR,
        amplitude("A", "reducible loss at N = U = 1"),
        exponent("alpha", "N", _FEW_EXPONENTS),
        Parameter("beta", -np.inf, np.inf, "1", "exponent of U", (-0.1, 0.0, 0.03, 0.1, 0.3, 0.7)),
    ),
    function=_product,
    gradient=_product_gradient,
    source="Zhang et al. 2024, equation 1, with updated (PET) parameters in the place of data",
    inputs=("N", "U"),
    linear=("E", "A"),
    rescale=_product_rescale,
)

SIZE_LAWS = (
    POWER,
    POWER_FLOOR,
    CHINCHILLA,
    MULTIPLICATIVE,
    UPDATED_FLOOR,
    UPDATED_ADDITIVE,
    UPDATED_MULTIPLICATIVE,
)
