"""Measured points of several methods at several sizes, as a pooled law is conditioned on them."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from astraios_analysis.records.refusal import Refusal

Link = Literal["log", "logit"]
MIN_SIZES = 3


@dataclass(frozen=True)
class PooledPoints:
    """Measured points of several methods.

    Attributes
    ----------
    n_params : ndarray, shape (n,)
        Sizes, positive.
    y : ndarray, shape (n,)
        Loss, or a rate strictly inside (0, 1); the mean over seeds.
    method : ndarray of str, shape (n,)
    noise : ndarray, shape (n,)
        Known part of the variance on the link scale, up to a factor; 0 where none is known.
    seed_variance : float
        Variance of one run around the mean of its seeds' distribution, on the link scale; 0 where not known.
    n_seeds : float
        Seeds behind a point (mean).
    """

    n_params: np.ndarray
    y: np.ndarray
    method: np.ndarray
    noise: np.ndarray
    seed_variance: float = 0.0
    n_seeds: float = 1.0

    def keep(self, rows: np.ndarray) -> "PooledPoints":
        """Return the points that a boolean array keeps."""
        arrays = (self.n_params[rows], self.y[rows], self.method[rows], self.noise[rows])
        return PooledPoints(*arrays, self.seed_variance, self.n_seeds)


def require_usable(points: PooledPoints, link: Link) -> None:
    """Refuse points that no law can be fitted to.

    Raises
    ------
    Refusal
    """
    for name, values in (("size", points.n_params), ("value", points.y), ("noise", points.noise)):
        if not np.all(np.isfinite(values)):
            raise Refusal(f"a {name} is missing or not finite; leave such points out")
    if len(points.y) == 0:
        raise Refusal("no point is left to fit; every one is held out or the selection is empty")
    if np.any(points.n_params <= 0):
        raise Refusal(f"sizes must be positive; the smallest is {points.n_params.min():g}")
    upper = 1.0 if link == "logit" else np.inf
    wrong = (points.y <= 0) | (points.y >= upper)
    if np.any(wrong):
        raise Refusal(f"value {points.y[wrong][0]:g} is outside (0, {upper:g}); it has no {link}")
    n_sizes = len(np.unique(points.n_params))
    if n_sizes < MIN_SIZES:
        raise Refusal(
            f"{n_sizes} size{'s' if n_sizes != 1 else ''}; a law and its error need {MIN_SIZES}: measure more"
        )
