"""Laws of scores: in size (logit-linear), and links from loss to score, with gradients."""

import numpy as np
from scipy.special import expit, logit

from astraios_analysis.laws.forms import Law, Parameter, split, stack

# Sizes are counted in units of 1e9 parameters, so that an intercept is the value at one billion and not at one.
REFERENCE_SIZE = 1e9


def decades(x: np.ndarray) -> np.ndarray:
    """Return log10 of a size in units of 1e9 parameters."""
    return np.log10(np.asarray(x, dtype=float) / REFERENCE_SIZE)


def _logit_linear(x: np.ndarray, theta: np.ndarray) -> np.ndarray:
    a, b = split(theta)
    return expit(a + b * decades(x))


def _logit_linear_gradient(x: np.ndarray, theta: np.ndarray) -> np.ndarray:
    rate = _logit_linear(x, theta)
    slope = rate * (1 - rate)
    return stack(slope, slope * decades(x))


def _exponential(x: np.ndarray, theta: np.ndarray) -> np.ndarray:
    ceiling, k, gamma = split(theta)
    return ceiling - k * np.exp(-gamma * x)


def _exponential_gradient(x: np.ndarray, theta: np.ndarray) -> np.ndarray:
    _, k, gamma = split(theta)
    fall = np.exp(-gamma * x)
    return stack(1.0, -fall, k * fall * x)


def _exponential_rescale(theta: np.ndarray, scale: np.ndarray) -> np.ndarray:
    theta = np.array(theta, dtype=float)
    theta[..., 2] /= scale[0]
    return theta


def _logistic(x: np.ndarray, theta: np.ndarray) -> np.ndarray:
    floor, ceiling, k, middle = split(theta)
    return floor + (ceiling - floor) * expit(-k * (x - middle))


def _logistic_gradient(x: np.ndarray, theta: np.ndarray) -> np.ndarray:
    floor, ceiling, k, middle = split(theta)
    share = expit(-k * (x - middle))
    slope = (ceiling - floor) * share * (1 - share)
    return stack(1 - share, share, -slope * (x - middle), slope * k)


def _logistic_rescale(theta: np.ndarray, scale: np.ndarray) -> np.ndarray:
    theta = np.array(theta, dtype=float)
    theta[..., 2] /= scale[0]
    theta[..., 3] *= scale[0]
    return theta


def _logit_loss(x: np.ndarray, theta: np.ndarray) -> np.ndarray:
    a, b = split(theta)
    return expit(a + b * np.asarray(x, dtype=float))


def _logit_loss_gradient(x: np.ndarray, theta: np.ndarray) -> np.ndarray:
    rate = _logit_loss(x, theta)
    slope = rate * (1 - rate)
    return stack(slope, slope * x)


def _logit_loss_rescale(theta: np.ndarray, scale: np.ndarray) -> np.ndarray:
    theta = np.array(theta, dtype=float)
    theta[..., 1] /= scale[0]
    return theta


def _identity(x: np.ndarray) -> np.ndarray:
    return np.asarray(x, dtype=float)


LOGIT_LINEAR = Law(
    name="logit_linear",
    formula="logit(score) = a + b log10(N / 1e9)",
    parameters=(
        Parameter("a", -np.inf, np.inf, "logit", "logit of the score at one billion parameters", (-4, -2, -1, 0, 1, 3)),
        Parameter(
            "b", -np.inf, np.inf, "logit per decade", "change of the logit for ten times the parameters", (-1, 0, 1, 3)
        ),
    ),
    function=_logit_linear,
    gradient=_logit_linear_gradient,
    source="logistic growth of a rate with log size; the simplest form that keeps a rate in (0, 1)",
    outcome="score",
    residual="linear",
    link=logit,
    unlink=expit,
    regressor=decades,
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
    rescale=_exponential_rescale,
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
    rescale=_logistic_rescale,
)
LOGIT_LINK = Law(
    name="logit_link",
    formula="logit(score) = a + b L",
    parameters=(
        Parameter("a", -np.inf, np.inf, "logit", "logit of the score at loss 0", (-2, 0, 2, 5, 10, 20)),
        Parameter("b", -np.inf, np.inf, "logit / loss", "change of the logit for one nat", (-40, -20, -8, -3, -1, 0)),
    ),
    function=_logit_loss,
    gradient=_logit_loss_gradient,
    source="binomial regression on loss (McCullagh and Nelder 1989, chapter 4)",
    inputs=("L",),
    outcome="score",
    residual="linear",
    rescale=_logit_loss_rescale,
    link=logit,
    unlink=expit,
    regressor=_identity,
)

SCORE_LAWS = (LOGIT_LINEAR, EXPONENTIAL_LINK, LOGISTIC_LINK, LOGIT_LINK)
