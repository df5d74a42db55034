"""Shares from counts: pass@k and ReCode's robustness, one definition for training and analysis."""

import numpy as np
from numpy.typing import ArrayLike

from astraios_analysis.records.refusal import Refusal


def pass_at_k(n_samples: ArrayLike, n_passed: ArrayLike, k: int) -> np.ndarray:
    """Unbiased pass@k of each problem, 1 - C(n - c, k) / C(n, k) for c passes of n samples, shape (n_problems,).

    Chen et al. 2021, arXiv 2107.03374, equation 1.
    """
    n, c = np.asarray(n_samples, dtype=int), np.asarray(n_passed, dtype=int)
    if n.shape != c.shape:
        raise Refusal(f"{n.size} numbers of samples and {c.size} numbers of passes; give one of each for a problem")
    if k < 1 or (n < k).any():
        raise Refusal(f"pass@{k} needs at least {max(k, 1)} samples of every problem; the fewest are {n.min()}")
    if (c < 0).any() or (c > n).any():
        raise Refusal("a problem has more passes than samples, or fewer than none")
    # C(n - c, k) / C(n, k) as a product of k factors, each at most 1.
    steps = np.arange(k)
    return 1.0 - np.prod(np.clip((n - c)[:, None] - steps, 0, None) / (n[:, None] - steps), axis=1)


def robust_pass(n_passed: ArrayLike, n_perturbed: ArrayLike) -> np.ndarray:
    """Whether each problem is solved under every perturbation, 0 or 1: its mean is RP_s@1 (arXiv 2212.10264)."""
    return (np.asarray(n_passed) == np.asarray(n_perturbed)).astype(float)


def robust_relative(n_passed: ArrayLike, n_perturbed: ArrayLike, nominal: ArrayLike) -> np.ndarray:
    """Whether some perturbed outcome of each problem differs from the nominal one, 0 or 1: its mean is RR_s@1."""
    passed, is_robust = np.asarray(n_passed), robust_pass(n_passed, n_perturbed)
    return np.where(np.asarray(nominal) == 1, is_robust == 0, passed > 0).astype(float)


def robust_drop(nominal: ArrayLike, robust: ArrayLike) -> np.ndarray:
    """RD_s@1 = (p - r) / p of shares p of nominal and r of robust passes; NaN where no nominal prompt is solved."""
    p, r = np.asarray(nominal, dtype=float), np.asarray(robust, dtype=float)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(p > 0, (p - r) / p, np.nan)


def inside_unit_interval(value: np.ndarray, n_items: np.ndarray) -> np.ndarray:
    """Keep rates half an item away from 0 and 1, in ``[0.5, n + 0.5] / (n + 1)``, so that their logit is finite.

    Rates between 0 and the limit (a few passes of many samples) move to it as well: left alone, they would rank below a
    rate of exactly 0.
    """
    value, n_items = np.asarray(value, dtype=float), np.asarray(n_items, dtype=float)
    outside = (value < 0) | (value > 1)
    if np.any(outside):
        raise Refusal(f"{value[outside][0]:g} is not a rate in [0, 1]; a logit-linear law does not apply to it")
    edge = 0.5 / (n_items + 1)
    return np.clip(value, edge, 1 - edge)


def open_ends(bounds: np.ndarray, n_items: ArrayLike) -> np.ndarray:
    """Let ends of intervals of rates reach 0 and 1 where so many problems cannot tell them from it."""
    inside = inside_unit_interval(bounds, n_items)
    return np.where(inside > bounds, 0.0, np.where(inside < bounds, 1.0, bounds))
