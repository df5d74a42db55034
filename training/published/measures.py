"""Standard errors by resampling problems.

The samples of one problem are not independent of each other, so problems are what is resampled, never samples.
"""

from collections.abc import Callable, Sequence

import numpy as np

N_RESAMPLES = 1000
"""Resamples behind a standard error, as in the released tables."""

SEED = 0
"""Seed of the resamples: the same counts give the same standard errors."""


def resample(n_items: int, n_resamples: int = N_RESAMPLES, seed: int = SEED) -> np.ndarray:
    """How often each item occurs in each of several resamples with replacement.

    Parameters
    ----------
    n_items : int
        Items, and size of a resample.
    n_resamples : int
        Resamples.
    seed : int
        Seed of the draw.

    Returns
    -------
    ndarray of int, shape (n_resamples, n_items)
        Each row adds up to ``n_items``.
    """
    rng = np.random.default_rng(seed)
    return rng.multinomial(n_items, np.full(n_items, 1 / n_items), size=n_resamples)


def resampled_stderr(values: Sequence[float] | np.ndarray) -> float:
    """Standard error of a mean over problems, by resampling them.

    Parameters
    ----------
    values : sequence of float, shape (n_problems,)
        One value for each problem.

    Returns
    -------
    float
        Standard deviation over the resamples, in the unit of the values.
    """
    x = np.asarray(values, dtype=float)
    return float(np.std(resample(x.size) @ x / x.size, ddof=1))


def resampled_statistic_stderr(
    values: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], n_resamples: int = N_RESAMPLES
) -> float | None:
    """Standard error of a function of means over problems, by resampling them.

    Parameters
    ----------
    values : ndarray of float, shape (n_problems, n_values)
        Several values for each problem.
    statistic : callable
        Takes means, shape (n_resamples, n_values), and gives the statistic of each resample, shape (n_resamples,);
        not a number where it has none.
    n_resamples : int
        Resamples.

    Returns
    -------
    float or None
        Standard deviation over the resamples that have the statistic; None where fewer than half have it.
    """
    means = resample(len(values), n_resamples) @ np.asarray(values, dtype=float) / len(values)
    found = statistic(means)
    found = found[np.isfinite(found)]
    return float(np.std(found, ddof=1)) if 2 * found.size >= n_resamples else None
