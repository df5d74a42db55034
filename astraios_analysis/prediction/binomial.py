"""Binomial regression of rates with a chance floor, over-dispersion and a size effect; arrays in, arrays out.

The model of a rate y of n problems, with regressors x, chance level c and link parameters theta::

    E[y] = p = c + (1 - c) / (1 + exp(-x theta)),    Var[y] = phi p (1 - p) / n

Parameters maximise the quasi-likelihood by Fisher scoring (McCullagh & Nelder 1989, chapter 9). A weak normal prior,
of standard deviation `PRIOR_SD` logits on regressors of unit scale, keeps them finite where all or no problems are
solved. Models tuned from one base model share what is peculiar to it: a random effect of the size on the link scale,
whose variance comes from how much the scatter shrinks when every size gets its own level (Henderson's third method).
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.special import expit, ndtri

from astraios_analysis.records.notation import count
from astraios_analysis.records.refusal import Refusal

# Ten logits: from one pass in twenty thousand to all but one; the information of a single solved problem outweighs it.
PRIOR_SD = 10.0
_MAX_STEPS = 100
_MAX_CHANGE = 3.0
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class BinomialFit:
    """Estimates of a binomial regression of k parameters.

    ``bread`` is the inverse of the information for dispersion 1, ``size_bread`` the covariance of ``theta`` that size
    effects of variance 1 cause. ``dispersion`` is Pearson's chi-square within sizes by its degrees of freedom (1: as
    scattered as independent problems), ``size_variance`` that of the size effect in squared logits, with ``dof`` and
    ``size_dof`` degrees of freedom; ``replication`` is the information with which a size enters the size mean square.
    """

    theta: np.ndarray
    bread: np.ndarray
    size_bread: np.ndarray
    dispersion: float
    size_variance: float
    dof: int
    size_dof: int
    replication: float
    chance: float
    n_obs: int

    @property
    def covariance(self) -> np.ndarray:
        """Covariance of ``theta``, with both variance components, shape (k, k)."""
        return self.dispersion * self.bread + self.size_variance * self.size_bread

    def draw(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw parameters (n, k), dispersion and size variance (n,) at places of the unit cube, shape (n, 2 k + 2).

        Mean squares are over chi-square draws: what few models leave open about their own scatter is in the draws.
        """
        k = len(self.theta)
        dispersion = self.dispersion * self.dof / stats.chi2.ppf(places[:, 0], self.dof)
        size_variance = np.zeros(len(places))
        if self.size_dof:
            size_square = self.dispersion + self.replication * self.size_variance
            size_square = size_square * self.size_dof / stats.chi2.ppf(places[:, 1], self.size_dof)
            size_variance = np.maximum(size_square - dispersion, 0.0) / self.replication
        theta, normals = np.broadcast_to(self.theta, (len(places), k)), ndtri(places[:, 2:])
        for part, variance, normal in (
            (self.bread, dispersion, normals[:, :k]),
            (self.size_bread, size_variance, normals[:, k:]),
        ):
            values, vectors = np.linalg.eigh(part)
            root = vectors * np.sqrt(np.maximum(values, 0.0))
            theta = theta + np.sqrt(variance)[:, None] * (normal @ root.T)
        return theta, dispersion, size_variance


def mean_rate(eta: np.ndarray, chance: float) -> np.ndarray:
    """Return the expected rate at link values: the chance level plus what is gained above it."""
    return chance + (1 - chance) * expit(eta)


def solve_rates(design: np.ndarray, rates: np.ndarray, n_items: np.ndarray, chance: float) -> np.ndarray:
    """Maximise the penalised quasi-likelihood of rates (n,) by Fisher scoring; return theta (k,).

    statsmodels has no such prior, without which rates that losses separate have no estimate.
    """
    theta = np.zeros(design.shape[1])
    objective = _objective(design, rates, n_items, chance, theta)
    for _ in range(_MAX_STEPS):
        p, slope, weight = _weights(design @ theta, n_items, chance)
        gradient = design.T @ (n_items * (rates - p) * slope / np.maximum(p * (1 - p), 1e-300)) - theta / PRIOR_SD**2
        information = design.T @ (weight[:, None] * design) + np.eye(len(theta)) / PRIOR_SD**2
        step = np.linalg.solve(information, gradient)
        step *= min(1.0, _MAX_CHANGE / max(np.abs(design @ step).max(), 1e-300))
        for _ in range(30):
            value = _objective(design, rates, n_items, chance, theta + step)
            if value >= objective - 1e-12 * abs(objective):
                break
            step /= 2
        theta, objective = theta + step, value
        if np.abs(step).max() < _TOLERANCE * (1 + np.abs(theta).max()):
            break
    return theta


def _objective(design, rates, n_items, chance, theta) -> float:
    p = np.clip(mean_rate(design @ theta, chance), 1e-300, 1 - 1e-16)
    likelihood = rates * np.log(p) + (1 - rates) * np.log1p(-p)
    return float(n_items @ likelihood - theta @ theta / (2 * PRIOR_SD**2))


def _weights(eta: np.ndarray, n_items: np.ndarray, chance: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mean rate, its derivative by the link value, and the information for dispersion 1."""
    p = mean_rate(eta, chance)
    slope = (1 - chance) * expit(eta) * expit(-eta)
    return p, slope, n_items * slope**2 / np.maximum(p * (1 - p), 1e-300)


def fit_rates(
    design: np.ndarray, rates: np.ndarray, n_items: np.ndarray, size: np.ndarray, chance: float
) -> BinomialFit:
    """Fit the model of this module: regressors (n, k) of about unit scale, intercepts among them; the rest (n,)."""
    _require_rates(design, rates, n_items, chance)
    n, k = design.shape
    theta = solve_rates(design, rates, n_items, chance)
    eta = design @ theta
    p, _, weight = _weights(eta, n_items, chance)
    bread = np.linalg.inv(design.T @ (weight[:, None] * design) + np.eye(k) / PRIOR_SD**2)
    membership = (np.unique(size)[:, None] == size).astype(float).T
    root = np.sqrt(weight)
    scaled, levels = root[:, None] * design, root[:, None] * membership
    # Not divided by a variance below that of half a problem: one solved where hardly any was expected is no outlier.
    edge = 0.5 / (n_items + 1)
    residual = (rates - p) * np.sqrt(n_items / np.maximum(p * (1 - p), edge * (1 - edge)))
    around = float(residual @ residual)
    both = np.column_stack([scaled, levels])
    within = float(np.sum((residual - both @ np.linalg.lstsq(both, residual, rcond=None)[0]) ** 2))
    rank, rank_both = np.linalg.matrix_rank(scaled), np.linalg.matrix_rank(both)
    dof, size_dof = n - rank_both, rank_both - rank
    if dof < 1:
        dof, size_dof, within = n - rank, 0, around
    if dof < 1:
        raise Refusal(f"no degree of freedom is left by {count(n, 'model')} beside {k} parameters; measure more")
    explained = levels - scaled @ np.linalg.lstsq(scaled, levels, rcond=None)[0]
    replication = float(np.sum(explained**2)) / size_dof if size_dof else 0.0
    dispersion = within / dof
    size_square = max((around - within) / size_dof, dispersion) if size_dof else dispersion
    spread = bread @ design.T @ (weight[:, None] * membership)
    has_size = size_dof > 0 and replication > 0
    return BinomialFit(
        theta=theta,
        bread=bread,
        size_bread=spread @ spread.T,
        dispersion=dispersion,
        size_variance=(size_square - dispersion) / replication if has_size else 0.0,
        dof=int(dof),
        size_dof=int(size_dof) if has_size else 0,
        replication=replication,
        chance=chance,
        n_obs=n,
    )


def _require_rates(design: np.ndarray, rates: np.ndarray, n_items: np.ndarray, chance: float) -> None:
    if not len(design) == len(rates) == len(n_items):
        raise Refusal(
            f"design, rates and items have {len(design)}, {len(rates)} and {len(n_items)} rows, not one number"
        )
    for name, values in (("regressor", design), ("rate", rates), ("number of problems", n_items)):
        if not np.all(np.isfinite(values)):
            raise Refusal(f"a {name} is missing or not finite; leave such models out")
    if np.any((rates < 0) | (rates > 1)):
        raise Refusal(f"{rates[(rates < 0) | (rates > 1)][0]:g} is not a rate in [0, 1]")
    if np.any(n_items <= 0):
        raise Refusal(f"a rate needs problems behind it; one has {n_items.min():g}")
    if not 0 <= chance < 1:
        raise Refusal(f"chance level {chance:g} is not in [0, 1)")
