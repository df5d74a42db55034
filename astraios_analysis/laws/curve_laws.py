"""Laws of loss in examples or tokens seen that bend on a log-log plot, with gradients: one task, one model."""

import numpy as np
from scipy.special import expit, log_expit

from astraios_analysis.laws.forms import Law, Parameter, split, stack
from astraios_analysis.laws.power_laws import FLOOR, amplitude, exponent


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
    rescale=_rectified_rescale,
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
    rescale=_m4_rescale,
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
    rescale=_broken_rescale,
)
CURVE_LAWS = (RECTIFIED, M4, BROKEN)
