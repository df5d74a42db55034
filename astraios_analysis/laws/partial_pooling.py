"""Power laws of several groups, partly pooled: own amplitude and exponent each, drawn towards common ones.

For group g at size x, with t = log(x / x0) and x0 the geometric mean of the sizes::

    log y = log(E + exp(a_g - alpha_g t)) + e,   a_g ~ N(a, tau_a^2),  alpha_g ~ N(alpha, tau^2),  e ~ N(0, sigma^2)

E is common. ``a`` and ``alpha`` have flat priors, or, with E between 0 and just below the smallest loss, Jeffreys'
joint one; the ratios tau_a / sigma and tau / sigma have log-uniform ones over a grid. At each node of the grid the
effects are found by Gauss-Newton steps and integrated by Laplace's approximation, exact where the model is linear, and
sigma exactly (empirical Bayes in the sense of Morris 1983, with what the variances leave open integrated and not
plugged in). With ``exponents="shared"`` tau is 0 and each ``a_g`` has a flat prior of its own. Everything that follows
from the fit is computed from draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import logsumexp

from astraios_analysis.records.refusal import Refusal

LAWS_TO_POOL = ("power", "power_floor", "updated_floor")
# Ratios of a random effect's standard deviation to the noise, in units of log loss at one standard deviation of t.
AMPLITUDE_RATIOS = tuple(np.geomspace(0.3, 300, 13))
EXPONENT_RATIOS = tuple(np.geomspace(0.06, 15, 9))
_LARGEST_FLOOR = 0.995
_N_FLOORS = 14
# Nodes of the floor whose weight is below e^-12 of the largest lie outside the range that is refined.
_NEGLIGIBLE = 12.0
_GAUSS_NEWTON_STEPS = 12
# Penalty that holds an effect at 0, far above any information in the data.
_HELD = 1e14


@dataclass(frozen=True)
class PartialPool:
    """Partly pooled power laws: a grid of nodes with weights, and the effects at each.

    Attributes
    ----------
    groups : tuple of str
    floor, amplitude_ratio, exponent_ratio : ndarray, shape (m,)
        E, tau_a / sigma and tau / sigma at each node.
    weights : ndarray, shape (m,)
        Posterior probabilities of the nodes.
    effects : ndarray, shape (m, 2 + 2 g)
        Common log amplitude and exponent, then each group's deviations from them.
    factor : ndarray, shape (m, 2 + 2 g, 2 + 2 g)
        Inverse of the Cholesky factor of the effects' precision, in units of sigma.
    squares : ndarray, shape (m,)
        Penalised sum of squares at each node.
    dof : int
        Of sigma at a node.
    n_obs : int
    centre : float
        x0.
    x_range : tuple of float
    exponents : {"partial", "shared"}
    """

    groups: tuple[str, ...]
    floor: np.ndarray
    amplitude_ratio: np.ndarray
    exponent_ratio: np.ndarray
    weights: np.ndarray
    effects: np.ndarray
    factor: np.ndarray
    squares: np.ndarray
    dof: int
    n_obs: int
    centre: float
    x_range: tuple[float, float]
    exponents: Literal["partial", "shared"]

    def draw(self, n_draws: int, rng: np.random.Generator) -> "PoolDraws":
        """Draw parameters from their posterior."""
        node = rng.choice(len(self.weights), size=n_draws, p=self.weights)
        sigma = np.sqrt(self.squares[node] / rng.chisquare(self.dof, size=n_draws))
        normal = rng.normal(size=(n_draws, self.effects.shape[1]))
        effects = self.effects[node] + sigma[:, None] * np.einsum("bkl,bl->bk", self.factor[node], normal)
        g = len(self.groups)
        return PoolDraws(
            self.groups,
            self.floor[node],
            effects[:, 0] if self.exponents == "partial" else effects[:, 2 : 2 + g].mean(axis=1),
            effects[:, 1],
            effects[:, :1] + effects[:, 2 : 2 + g],
            effects[:, 1:2] + effects[:, 2 + g :],
            sigma,
            self.amplitude_ratio[node] * sigma,
            self.exponent_ratio[node] * sigma,
            self.centre,
        )


@dataclass(frozen=True)
class PoolDraws:
    """Draws of a partial pool's parameters, n of each.

    Attributes
    ----------
    groups : tuple of str
    floor, common_log_amplitude, common_exponent : ndarray, shape (n,)
        E, a (at ``centre``) and alpha.
    log_amplitude, exponent : ndarray, shape (n, g)
        a_g (at ``centre``) and alpha_g.
    sigma, amplitude_deviation, exponent_deviation : ndarray, shape (n,)
    centre : float
    """

    groups: tuple[str, ...]
    floor: np.ndarray
    common_log_amplitude: np.ndarray
    common_exponent: np.ndarray
    log_amplitude: np.ndarray
    exponent: np.ndarray
    sigma: np.ndarray
    amplitude_deviation: np.ndarray
    exponent_deviation: np.ndarray
    centre: float

    def amplitudes(self) -> np.ndarray:
        """Return each group's A, for sizes in their own units, shape (n, g)."""
        return np.exp(self.log_amplitude + self.exponent * np.log(self.centre))

    def curves(self, x: np.ndarray, group: str) -> np.ndarray:
        """Return draws of a group's law at sizes (s,), shape (n, s).

        Raises
        ------
        Refusal
            If the group was not fitted.
        """
        if group not in self.groups:
            raise Refusal(f"no fit for {group!r}; it was fitted to {', '.join(self.groups)}")
        g, t = self.groups.index(group), np.log(np.atleast_1d(np.asarray(x, dtype=float)) / self.centre)
        fall = np.exp(self.log_amplitude[:, g, None] - self.exponent[:, g, None] * t)
        return self.floor[:, None] + fall

    def observations(self, x: np.ndarray, group: str, rng: np.random.Generator) -> np.ndarray:
        """Return draws of what a new run of a group would measure at sizes (s,), shape (n, s)."""
        curves = self.curves(x, group)
        return curves * np.exp(self.sigma[:, None] * rng.normal(size=curves.shape))


def pool_partially(
    x: np.ndarray,
    y: np.ndarray,
    group: Sequence[str],
    *,
    has_floor: bool = True,
    exponents: Literal["partial", "shared"] = "partial",
) -> PartialPool:
    """Fit power laws to all groups at once.

    Parameters
    ----------
    x, y : ndarray, shape (n,)
        Sizes and losses, positive.
    group : sequence of str, shape (n,)
    has_floor : bool
        Whether E is fitted; otherwise it is 0.
    exponents : {"partial", "shared"}

    Raises
    ------
    Refusal
        If there are fewer than two groups or three sizes, or a value is not positive and finite.
    """
    x, y, labels = np.asarray(x, dtype=float), np.asarray(y, dtype=float), np.array(list(map(str, group)))
    _check(x, y, labels)
    groups = tuple(dict.fromkeys(labels.tolist()))
    member = np.array([groups.index(label) for label in labels])
    centre = float(np.exp(np.log(x).mean()))
    t = np.log(x / centre)
    design = _design(t, member, len(groups))
    ratios = _ratios(float(t.std()), exponents)
    floors = np.zeros(1)
    if has_floor:
        floors = y.min() * np.linspace(0, _LARGEST_FLOOR, _N_FLOORS)
        for _ in range(3):
            log_weight = _solve_nodes(design, y, floors, ratios, len(groups))[0].reshape(len(floors), -1)
            ratios = ratios[_matter(logsumexp(log_weight, axis=0))]
            floors = _refine(floors, logsumexp(log_weight, axis=1))
    log_weight, effects, factor, squares = _solve_nodes(design, y, floors, ratios, len(groups))
    nodes = np.column_stack([np.repeat(floors, len(ratios)), np.tile(ratios, (len(floors), 1))])
    return PartialPool(
        groups, *nodes.T, np.exp(log_weight - logsumexp(log_weight)), effects, factor, squares,
        _dof(len(y), ratios, len(groups)), len(y), centre, (float(x.min()), float(x.max())), exponents
    )  # fmt: skip


def _dof(n: int, ratios: np.ndarray, n_groups: int) -> int:
    """Return the degrees of freedom of sigma: flat effects cost one each, random ones bring their own term."""
    return n - (1 + n_groups if np.all(np.isinf(ratios[:, 0])) else 2)


def _check(x: np.ndarray, y: np.ndarray, labels: np.ndarray) -> None:
    if not len(x) == len(y) == len(labels):
        raise Refusal(f"x, y and group must have one length; they have {len(x)}, {len(y)} and {len(labels)}")
    for name, values in (("size", x), ("loss", y)):
        wrong = ~(np.isfinite(values) & (values > 0))
        if np.any(wrong):
            raise Refusal(f"a {name} is {values[wrong][0]:g}; pooled power laws need positive, finite values")
    n_groups, n_sizes = len(set(labels)), len(np.unique(x))
    if n_groups < 2:
        raise Refusal(f"pooling needs at least two groups; there is {n_groups}")
    if n_sizes < 3 or len(y) < 5:
        raise Refusal(f"{n_sizes} sizes and {len(y)} points do not identify pooled power laws; measure more sizes")


def _design(t: np.ndarray, member: np.ndarray, n_groups: int) -> np.ndarray:
    """Return what the effects multiply in ``a_g - alpha_g t``, shape (n, 2 + 2 g)."""
    own = np.eye(n_groups)[member]
    return np.column_stack([np.ones_like(t), -t, own, -own * t[:, None]])


def _ratios(spread: float, exponents: str) -> np.ndarray:
    """Return the grid of tau_a / sigma and tau / sigma, shape (r, 2)."""
    if exponents == "shared":
        return np.array([[np.inf, 0.0]])
    return np.array([(a, b) for a in AMPLITUDE_RATIOS for b in np.array(EXPONENT_RATIOS) / max(spread, 1e-12)])


def _matter(log_weight: np.ndarray) -> np.ndarray:
    """Return whether each pair of ratios has weight that could be seen in the results."""
    return log_weight > log_weight.max() - _NEGLIGIBLE / 2


def _solve_nodes(design, y, floors, ratios, n_groups):
    """Return log weights, effects, factors of their covariance and penalised squares at floors x ratios."""
    n, k = design.shape
    floor = np.repeat(floors, len(ratios))[:, None]
    ratio = np.tile(ratios, (len(floors), 1))
    deviations = np.repeat(ratio, n_groups, axis=1)
    penalty = np.zeros((len(ratio), k))
    penalty[:, 2:] = np.where(deviations > 0, 1 / np.maximum(deviations, 1e-7) ** 2, _HELD)
    # With flat amplitudes of the groups there is no common one.
    penalty[:, 0] = np.where(np.isinf(ratio[:, 0]), _HELD, 0.0)
    dof = _dof(n, ratios, n_groups)
    log_y = np.log(y)
    z = np.log(np.maximum(y - floor, 1e-300))
    share = (y - floor) / y
    # The first step is taken on log(y - E), the scale on which the model is linear, with the weights it has there.
    effects = _penalised(design, penalty, share, share * z, np.zeros((len(ratio), k)))[0]
    for _ in range(_GAUSS_NEWTON_STEPS):
        fall = np.exp(np.clip(effects @ design.T, -50, 50))
        share = fall / (floor + fall)
        residual = log_y - np.log(floor + fall)
        old = effects
        effects, precision = _penalised(design, penalty, share, residual, effects)
        if np.all(np.abs(effects - old) <= 1e-9 * (1 + np.abs(old))):
            break
    fall = np.exp(np.clip(effects @ design.T, -50, 50))
    squares = np.sum((log_y - np.log(floor + fall)) ** 2, axis=1) + np.sum(penalty * effects**2, axis=1)
    squares = np.maximum(squares, 1e-24)
    lower = np.linalg.cholesky(precision)
    log_weight = -0.5 * dof * np.log(squares) - np.sum(np.log(np.diagonal(lower, axis1=1, axis2=2)), axis=1)
    log_weight += 0.5 * np.sum(np.log(np.where(penalty[:, 2:] > 0, penalty[:, 2:], 1.0)), axis=1)
    if len(floors) > 1:
        flat = np.flatnonzero(penalty[0] == 0)
        log_weight += _log_jeffreys(design, precision, fall / (floor + fall), 1 / (floor + fall), flat)
    return log_weight, effects, np.linalg.inv(lower).swapaxes(1, 2), squares


def _log_jeffreys(design, precision, share, by_floor, flat):
    """Return the log of Jeffreys' prior of the floor and the effects without a prior, at each node.

    It is the root of the determinant of their information, random effects eliminated: against a flat prior of the
    floor, it takes out the leading bias of the exponent that comes from the floor's one-sided range (Firth 1993).
    """
    k = design.shape[1]
    random = np.setdiff1d(np.arange(k), flat)
    cross = np.matmul(design.T[None] * share[:, None, :], by_floor[:, :, None])[:, :, 0]
    information = np.sum(by_floor**2, axis=1) - np.sum(
        cross * np.linalg.solve(precision, cross[:, :, None])[:, :, 0], axis=1
    )
    whole = np.linalg.slogdet(precision)[1]
    rest = np.linalg.slogdet(precision[:, random][:, :, random])[1]
    return 0.5 * (np.log(np.maximum(information, 1e-300)) + whole - rest)


def _penalised(design, penalty, share, residual, effects):
    """Return the next Gauss-Newton iterate and the precision of the effects in units of sigma."""
    weighted = design.T[None] * share[:, None, :]
    precision = np.matmul(weighted, weighted.swapaxes(1, 2)) + penalty[:, :, None] * np.eye(design.shape[1])
    right = np.matmul(weighted, residual[:, :, None])[:, :, 0] - penalty * effects
    return effects + np.linalg.solve(precision, right[:, :, None])[:, :, 0], precision


def _refine(floors: np.ndarray, log_weight: np.ndarray) -> np.ndarray:
    """Return as many floors over the range that has weight, one step beyond it on both sides."""
    kept = np.flatnonzero(log_weight > log_weight.max() - _NEGLIGIBLE)
    low, high = max(kept[0] - 1, 0), min(kept[-1] + 1, len(floors) - 1)
    return np.linspace(floors[low], floors[high], len(floors))
