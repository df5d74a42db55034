"""Worlds of several methods at several sizes whose truth is known, as a pooled law sees them."""

import numpy as np
from scipy.special import expit

from astraios_analysis.prediction.points import PooledPoints

SIZES = np.array([1e4, 5e4, 2e5, 8e5])
NEXT = 3e6
METHODS = tuple("abcdefg")
SIZE, METHOD = np.tile(SIZES, 7), np.repeat(METHODS, 4)


def loss_world(rng, floor=0.2, size_sd=0.02, run_sd=0.02):
    """Losses of seven methods at four sizes, and what they are at the next size."""
    x = np.append(SIZES, NEXT)
    law = floor + (0.35 + 0.1 * np.arange(7))[:, None] * (x / 1e5) ** -0.2
    loss = law * np.exp(size_sd * rng.standard_normal(5) + run_sd * rng.standard_normal((7, 5)))
    return PooledPoints(SIZE, loss[:, :4].ravel(), METHOD, np.zeros(28)), loss[:, 4]


def rate_world(rng, size_sd=0.15, run_sd=0.1, slope_sd=0.2):
    """Rates likewise, logit-linear in the log of the size."""
    x = np.log10(np.append(SIZES, NEXT) / 1e5)
    slope = 1.0 + slope_sd * rng.standard_normal((7, 1))
    z = -0.2 * np.arange(7)[:, None] + slope * x + size_sd * rng.standard_normal(5)
    p = expit(z + run_sd * rng.standard_normal((7, 5)))
    return PooledPoints(SIZE, p[:, :4].ravel(), METHOD, np.zeros(28)), p[:, 4]
