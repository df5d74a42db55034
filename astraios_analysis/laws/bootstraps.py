"""Refits of resampled data, thousands at once: pairs, residual, block and parametric bootstrap of any law's fit."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from astraios_analysis.laws.fit import LawFit
from astraios_analysis.laws.huber_scale import solve
from astraios_analysis.laws.solver import minimise
from astraios_analysis.records.refusal import Refusal

Kind = Literal["pairs", "residual", "block", "parametric"]
KINDS = ("pairs", "residual", "block", "parametric")
# Resamples start at the fit, which is close: little damping is needed.
_DAMPING = 0.1


@dataclass(frozen=True)
class Refits:
    """Parameters of a law fitted to resamples of its data.

    Attributes
    ----------
    kind : {"pairs", "residual", "block", "parametric"}
    theta : ndarray, shape (b, k)
        Of the resamples that have a fit.
    objective : ndarray, shape (b,)
    n_asked, n_failed : int
        Resamples drawn, and those whose solver did not arrive or that have too few distinct points.
    """

    kind: Kind
    theta: np.ndarray
    objective: np.ndarray
    n_asked: int
    n_failed: int

    def interval(self, level: float) -> np.ndarray:
        """Return central percentile intervals of the parameters, shape (k, 2)."""
        if not 0 < level < 1:
            raise Refusal(f"level is {level:g}; give a share between 0 and 1, such as 0.95")
        return np.quantile(self.theta, [(1 - level) / 2, (1 + level) / 2], axis=0).T

    def standard_deviations(self) -> np.ndarray:
        """Return standard deviations of the parameters, shape (k,)."""
        return self.theta.std(axis=0, ddof=1)


def bootstrap(
    fit: LawFit,
    n_resamples: int,
    rng: np.random.Generator,
    kind: Kind = "pairs",
    *,
    blocks: Sequence | np.ndarray | None = None,
) -> Refits:
    """Refit a law to resamples of its points, each refit started at the fit.

    Parameters
    ----------
    fit : LawFit
    n_resamples : int
    rng : numpy.random.Generator
    kind : {"pairs", "residual", "block", "parametric"}
        ``pairs`` draws points with replacement; ``block`` whole blocks of them (runs, methods, problems); ``residual``
        adds residuals, centred and inflated for the degrees of freedom spent, to the fitted values; ``parametric``
        adds normal noise of the residual scale.
    blocks : sequence, shape (n,), optional
        Label of each point's block; for ``block`` only.

    Raises
    ------
    Refusal
        If the kind is unknown, blocks are missing or too few, or fewer than half of the refits arrive.
    """
    if kind not in KINDS:
        raise Refusal(f"unknown bootstrap {kind!r}; choose from {', '.join(KINDS)}")
    if n_resamples < 2:
        raise Refusal(f"{n_resamples} resamples have no spread; ask for at least 2")
    weights, target = _resample(fit, n_resamples, rng, kind, blocks)
    if weights.ndim == 2:
        weights = weights[_count_distinct(fit, weights) >= len(fit.phi)]
    problem = replace(fit.problem, target=target)
    start = np.repeat(fit.phi[None], len(weights) if weights.ndim == 2 else n_resamples, axis=0)
    if fit.objective.scale == "estimated":
        solution = solve(problem, start, weights, fit.objective)[0]
    else:
        shared = {"curvature_at": fit.phi} if target.ndim == 1 else {}
        solution = minimise(problem, start, weights, fit.objective.delta, damping=_DAMPING, **shared)
    arrived = solution.has_converged
    if arrived.sum() < max(2, n_resamples / 2):
        raise Refusal(
            f"{fit.law.name}: only {int(arrived.sum())} of {n_resamples} resamples have a fit; the data do not "
            "identify this law: choose one with fewer parameters"
        )
    theta = problem.raw_theta(solution.phi[arrived])
    return Refits(kind, theta, solution.objective[arrived], n_resamples, n_resamples - len(theta))


def _resample(fit, n_resamples, rng, kind, blocks):
    """Return weights, shape (n,) or (b, n), and targets, shape (n,) or (b, n), of the resamples."""
    used, n = fit.weights > 0, len(fit.weights)
    target = fit.problem.target
    if kind in ("pairs", "block"):
        labels = np.arange(n) if kind == "pairs" else _check_blocks(blocks, n)
        names, member = np.unique(labels[used], return_inverse=True)
        if len(names) < 2:
            raise Refusal("a bootstrap needs at least two blocks to draw from")
        counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=n_resamples)
        weights = np.zeros((n_resamples, n))
        weights[:, used] = counts[:, member] * fit.weights[used]
        return weights, target
    fitted = target + fit.residuals
    if kind == "parametric":
        noise = rng.normal(0, fit.residual_scale, size=(n_resamples, n))
    else:
        inflation = np.sqrt(fit.n_obs / fit.dof)
        pool = (fit.residuals[used] - fit.residuals[used].mean()) * inflation
        noise = rng.choice(pool, size=(n_resamples, n))
    return fit.weights, fitted - noise


def _check_blocks(blocks, n: int) -> np.ndarray:
    if blocks is None:
        raise Refusal("a block bootstrap needs the block of each point; give blocks, or draw pairs")
    labels = np.asarray(blocks)
    if len(labels) != n:
        raise Refusal(f"there are {n} points and {len(labels)} block labels; give one a point")
    return labels


def _count_distinct(fit: LawFit, weights: np.ndarray) -> np.ndarray:
    """Return how many distinct inputs each resample holds."""
    _, place = np.unique(fit.problem.x, axis=0, return_inverse=True)
    held = np.zeros((len(weights), place.max() + 1), dtype=bool)
    for point, position in enumerate(place):
        held[:, position] |= weights[:, point] > 0
    return held.sum(axis=1)
