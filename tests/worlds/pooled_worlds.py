"""Worlds of several methods at several sizes whose truth is known, as a pooled law sees them."""

import numpy as np
import pandas as pd
from scipy.special import expit

from astraios_analysis.prediction.outcome import PooledPoints

SIZES = np.array([1e4, 5e4, 2e5, 8e5])
NEXT = 3e6
METHODS = tuple("abcdefg")
SIZE, METHOD = np.tile(SIZES, 7), np.repeat(METHODS, 4)


def require_calibrated(forecasts, scale, n_looks, widest):
    """Truths lie in intervals of draws about as often as asked, and these are about as wide as that needs."""
    levels, hits = np.array([0.5, 0.8, 0.95]), []
    for truth, drawn in forecasts:
        lower, upper = (np.quantile(drawn, q, axis=0) for q in ((1 - levels) / 2, (1 + levels) / 2))
        hits.append(((lower <= truth) & (truth <= upper)).mean(axis=1))
    # Methods of one world share its size effect: so many independent looks as worlds.
    error, found = np.sqrt(levels * (1 - levels) / n_looks), np.mean(hits, axis=0)
    assert np.all(found >= levels - 3 * error) and np.all(found <= np.minimum(levels + 3.5 * error, 1)), found
    widths = [np.diff(np.quantile(scale(drawn), [0.25, 0.75], axis=0), axis=0).mean() for _, drawn in forecasts]
    spread = np.median([np.abs(scale(truth) - np.median(scale(drawn), axis=0)) for truth, drawn in forecasts])
    # Half of all errors lie within half the width of a 50 % interval, if it is neither too narrow nor too wide.
    assert 0.6 < np.median(widths) / (2 * spread) < widest


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


def suite_world(rng, n_sets=4, bend=0.5, size_sd=0.1, run_sd=0.05, slope_sd=0.4):
    """Rates of seven methods at four sizes on several data sets, bending in the log of the size."""
    x, found = -np.expm1(-bend * np.log(SIZES / 1e5)) / (bend * np.log(10)), []
    for _ in range(n_sets):
        slope = 1.0 + slope_sd * rng.standard_normal() + 0.1 * rng.standard_normal((7, 1))
        z = -1 + 0.3 * rng.standard_normal((7, 1)) + slope * x + size_sd * rng.standard_normal(4)
        p = expit(z + run_sd * rng.standard_normal((7, 4)))
        found.append(PooledPoints(SIZE, p.ravel(), METHOD, np.zeros(28)))
    return found


def seven_methods(rng, spread=0.03, noise=0.01, floor=0.4, target=34e9):
    """Losses of seven methods at the study's four sizes, exponents .30 +- spread; a table, and truths at a target."""
    sizes = np.array([1.137e9, 3.043e9, 7.327e9, 15.517e9])
    level, exponent = rng.uniform(0.6, 1.2, 7), 0.30 + spread * rng.standard_normal(7)
    law = floor + level[:, None] * (np.append(sizes, target) / 1e9) ** -exponent[:, None]
    loss = law[:, :4] * np.exp(noise * rng.standard_normal((7, 4)))
    frame = pd.DataFrame({"params": np.tile(sizes, 7), "loss": loss.ravel(), "method": np.repeat(METHODS, 4)})
    return frame, law[:, 4]


def grid_world(rng, kind, n_sizes):
    """Losses of seven methods at sizes 2.5 times apart (`KINDS`): a table, truths at the next size, and that size."""
    sizes = 2e5 * 2.5 ** np.arange(n_sizes + 1)
    floor, slope, bend, size_sd = KINDS[kind](rng)
    level, t = np.exp(0.15 * rng.standard_normal((7, 1))), np.log(sizes / sizes[0])
    line = floor + level * np.exp(-slope * t - bend * t**2)
    y = line * np.exp(0.006 * rng.standard_normal(line.shape) + size_sd * rng.standard_normal(n_sizes + 1))
    table = pd.DataFrame({"params": np.tile(sizes[:-1], 7), "loss": y[:, :-1].ravel()})
    return table.assign(method=np.repeat(METHODS, n_sizes)), y[:, -1], sizes[-1]


# Floors, exponents, bends in the log of the size, and the scatter that methods of one size share.
KINDS = {
    "shared law": lambda rng: (0.6, 0.3, 0.0, 0.0),
    "own floors, exponents": lambda rng: (
        0.6 + 0.15 * rng.uniform(-1, 1, (7, 1)),
        rng.uniform(0.15, 0.5, (7, 1)),
        0.0,
        0.0,
    ),
    "bent, no floor": lambda rng: (0.0, rng.uniform(0.1, 0.3, (7, 1)), 0.01, 0.0),
    "exponents near, sizes": lambda rng: (0.6, 0.3 + 0.03 * rng.standard_normal((7, 1)), 0.0, 0.015),
}
