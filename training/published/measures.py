"""Scores from counts: pass@k without bias, shares, and standard errors by resampling problems.

The samples of one problem are not independent of each other, so problems are what is resampled, never samples.
"""

from collections.abc import Callable, Sequence

import numpy as np

N_RESAMPLES = 1000
"""Resamples behind a standard error, as in the released tables."""

SEED = 0
"""Seed of the resamples: the same counts give the same standard errors."""


def estimate_pass_at_k(n_samples: Sequence[int], n_passed: Sequence[int], k: int) -> np.ndarray:
    """Unbiased pass@k of each problem: the chance that k of its n samples, drawn without replacement, hold a right one.

    1 - C(n - c, k) / C(n, k) for c right samples of n.

    Parameters
    ----------
    n_samples : sequence of int, shape (n_problems,)
        Samples n of each problem.
    n_passed : sequence of int, shape (n_problems,)
        Right ones c among them.
    k : int
        Samples that may be tried.

    Returns
    -------
    ndarray of float, shape (n_problems,)

    Raises
    ------
    ValueError
        If a problem has fewer than k samples, or more right ones than samples.

    References
    ----------
    Chen et al. 2021, Evaluating Large Language Models Trained on Code, arXiv 2107.03374, equation 1.
    """
    n, c = np.asarray(n_samples, dtype=int), np.asarray(n_passed, dtype=int)
    if n.shape != c.shape:
        raise ValueError(f"{n.size} numbers of samples and {c.size} numbers of passes; give one of each for a problem")
    if k < 1 or (n < k).any():
        raise ValueError(f"pass@{k} needs at least {max(k, 1)} samples of every problem; the fewest are {n.min()}")
    if (c < 0).any() or (c > n).any():
        raise ValueError("a problem has more passes than samples, or fewer than none")
    # C(n - c, k) / C(n, k) as a product of k factors, each at most 1.
    steps = np.arange(k)
    return 1.0 - np.prod(np.clip((n - c)[:, None] - steps, 0, None) / (n[:, None] - steps), axis=1)


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
