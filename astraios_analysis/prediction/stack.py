"""Laws and poolings fitted to the same points, and averaged by how they predict sizes left out.

Every form is fitted to the smaller sizes and predicts the largest one left, then the second largest, as long as three
sizes remain to fit. Weights maximise the log score of the mixture on what was left out (Yao et al. 2018), each size
counting as one look, because its methods share what is peculiar to it; and one more look is taken up by Akaike weights
of the small-sample criterion on all points. Where no size can be left out, Akaike weights stand alone.

Everything is deterministic: what is integrated over lies on scrambled Sobol points (Owen 1998) that are the same in
every call, so that a number does not depend on what else is asked, nor on chance.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.linalg import solve_triangular
from scipy.optimize import brentq
from scipy.special import logit, logsumexp, ndtri
from scipy.stats import qmc

from astraios_analysis.curves.mixture import Link
from astraios_analysis.prediction.outcome import MIN_SIZES, PooledPoints, require_usable
from astraios_analysis.prediction.pool import (
    SPREAD_OF_FLOORS,
    Linear,
    MixedEquations,
    Pool,
    Versions,
    draw_runs,
    share_of,
    slopes_of,
)
from astraios_analysis.records.notation import count
from astraios_analysis.records.refusal import Refusal, attempt

MAX_LEFT_OUT = 3
POOLINGS = ("shared_slope", "own_slopes", "no_pooling")
POOLINGS_OF_FLOORS = ("shared_floor", "own_floors", "no_pooling")
LAWS_OF_SIZE: dict[Link, tuple[str, ...]] = {
    "log": ("power", "power_floor", "relative_floor"),
    "logit": ("logit_linear",),
}
# Versions of a law: candidates of the first and last round, those kept of one form, those kept of all forms together.
_N_CANDIDATES = 512
_N_KEPT = 512
N_VERSIONS = 512
_DRAWS_A_VERSION = 8
N_DRAWS = N_VERSIONS * _DRAWS_A_VERSION
# Numbers of a size's own effect and of a run's own scatter: runs that several draws are of differ in them.
Fresh = tuple[int, int]
SAME: Fresh = (0, 0)
# Standard deviations lie between these multiples of the scatter around parallel lines, their prior uniform in the log.
_SPAN = (0.1, 10.0)
_SPAN_OF_FACTORS = (0.05, 2.0)
# So do the exponents of what lies above relative floors.
_SPAN_OF_EXPONENTS = (0.05, 3.0)
# The second round's proposals are so much wider than the first round's posterior.
_WIDER, _LEAST_SPREAD = 1.3, 1e-4
# Rounds, and the places that must share a posterior, for each dimension, before its spread is believed.
_MAX_ROUNDS, _LEAST_EFFECTIVE = 16, 10
_EM_STEPS = 500


@lru_cache(maxsize=32)
def sobol(n: int, d: int) -> np.ndarray:
    """Return n (a power of 2) scrambled Sobol points inside the unit cube of d dimensions: always the same ones."""
    return np.clip(qmc.Sobol(d, scramble=True, rng=np.random.default_rng(0)).random(n), 1e-9, 1 - 1e-9)


@dataclass(frozen=True)
class Form:
    """A law of size and how methods share it.

    Pooling: one slope for all (``shared_slope``), slopes drawn towards a common one (``own_slopes``), slopes of each
    method by itself (``no_pooling``). Law ``relative_floor``: the exponent is common, and what is shared or not are the
    floors, as shares of each method's line at the largest size (with ``shared_floor`` curves are multiples of one
    another).
    """

    law: str
    pooling: str

    @property
    def name(self) -> str:
        """The form as weights name it."""
        return f"{self.law}/{self.pooling}"


def forms_of(link: Link, n_methods: int) -> list[Form]:
    """Return the forms that points of so many methods can take; one method has nothing to share."""
    if n_methods == 1:
        return [Form(law, POOLINGS[0]) for law in LAWS_OF_SIZE[link] if law != "relative_floor"]
    pairs = [(law, POOLINGS_OF_FLOORS if law == "relative_floor" else POOLINGS) for law in LAWS_OF_SIZE[link]]
    return [Form(law, pooling) for law, poolings in pairs for pooling in poolings]


@dataclass(frozen=True)
class Stack:
    """Forms fitted to the same points, and their weights, by which ``pools`` hold versions."""

    points: PooledPoints
    link: Link
    pools: tuple[Versions, ...]
    weights: dict[str, float]

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods fitted, in the order of draws."""
        return self.pools[0].methods

    def draw(self, n_params: float, fresh: Fresh = SAME) -> dict[str, np.ndarray]:
        """Draw outcomes of all methods at one size together (`draw_pools`)."""
        return draw_pools(self.pools, n_params, fresh)

    def log_density(self, test: PooledPoints) -> np.ndarray:
        """Return the log density of new runs at one size under the mixture of forms (`log_density`), (n,)."""
        by_pool = [log_density(pool, test) + np.log(len(pool.sigma_size) / N_VERSIONS) for pool in self.pools]
        return logsumexp(by_pool, axis=0)


def draw_pools(pools: Sequence[Versions], n_params: float, fresh: Fresh = SAME) -> dict[str, np.ndarray]:
    """Draw outcomes of all methods at one size from pools that together have `N_VERSIONS` versions.

    For one new run (``observation``) and its line (``mean``), each of shape (`N_DRAWS`, n_methods).
    """
    methods = pools[0].methods
    numbers, start, drawn = normals(len(methods), fresh), 0, []
    for pool in pools:
        stop = start + len(pool.sigma_size)
        drawn.append(draw_runs(pool, n_params, numbers[start:stop]))
        start = stop
    lines, runs = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
    return {"observation": np.exp(runs) if pools[0].link == "log" else share_of(runs), "mean": lines}


@lru_cache(maxsize=32)
def normals(n_methods: int, fresh: Fresh = SAME) -> np.ndarray:
    """Return the standard normal numbers of draws, shape (versions, draws of each, 2 n_methods + 2).

    They are the lines', the size effect's, the runs', the seed's; those that are fresh, and the seed's, which are the
    size effect's, are the same ones in another order.
    """
    points = sobol(N_DRAWS, 2 * n_methods + 2)
    # The first coordinate is the version: Sobol points fall into each of its slices equally often.
    found = ndtri(points[np.argsort(points[:, 0], kind="stable"), 1:])
    found = np.column_stack([found, found[seed_order(fresh), n_methods]])
    found[:, n_methods] = found[shuffled(fresh[0]), n_methods]
    found[:, n_methods + 1 : -1] = found[shuffled(fresh[1]), n_methods + 1 : -1]
    return found.reshape(N_VERSIONS, _DRAWS_A_VERSION, -1)


def seed_order(fresh: Fresh) -> np.ndarray:
    """Return the order of draws for what the runs of one seed share: new runs are of a new seed."""
    return shuffled(2**32 + fresh[1])


def shuffled(which: int) -> np.ndarray:
    """Return the order of draws that is numbered so; 0 leaves them as they are."""
    return np.random.default_rng([7, which]).permutation(N_DRAWS) if which else np.arange(N_DRAWS)


@lru_cache(maxsize=256)
def fit_stack(points: PooledPoints, link: Link) -> Stack:
    """Fit every form to points and weigh them by how they predict sizes left out, and by AICc."""
    fitted, refused = attempt(forms_of(link, len(points.methods)), lambda form: fit_form(points, link, form))
    if not fitted:
        # What the simplest form is refused for is what the points lack.
        raise Refusal(next(iter(refused.values())))
    criteria = np.array([criterion for _, criterion in fitted.values()])
    densities = _left_out_densities(points, link, list(fitted))
    weights = weigh(akaike_weights(criteria), densities)
    shares = np.bincount(systematic(weights, N_VERSIONS), minlength=len(weights))
    pools = tuple(_thin(pool, n) for (pool, _), n in zip(fitted.values(), shares, strict=True) if n)
    named = {form.name: float(weight) for form, weight in zip(fitted, weights, strict=True)}
    return Stack(points, link, pools, named)


def mixing(which: int) -> np.ndarray:
    """Return the number in (0, 1) that decides, draw by draw, which of two ways is taken; each choice has its own."""
    return sobol(N_DRAWS, 1)[:, 0][np.random.default_rng(which).permutation(N_DRAWS)]


def _thin(pool: Pool, n: int) -> Pool:
    """Return the law with n of its equally likely versions, evenly spread."""
    return pool.take(((np.arange(n) + 0.5) * len(pool.tau) / n).astype(int))


def systematic(weight: np.ndarray, n: int) -> np.ndarray:
    """Return n places, each about as often as its weight says (systematic resampling)."""
    total = np.cumsum(weight)
    return np.searchsorted(total / total[-1], (np.arange(n) + 0.5) / n).clip(0, len(weight) - 1)


@lru_cache(maxsize=256)
def fit_form(points: PooledPoints, link: Link, form: Form) -> tuple[Pool, float]:
    """Fit one form, and return its small-sample Akaike criterion beside it.

    The criterion (Hurvich and Tsai 1989) is marginal: random slopes and size effects are integrated out, and their
    variances count as parameters. Its likelihood is the largest over the versions tried; it is infinite where the
    points are not more than the parameters by two. Versions are integrated over by importance sampling (`explore`).
    """
    has_own_lines = form.pooling == "no_pooling"
    setting = _set_up(points, link, has_own_lines=has_own_lines, is_relative=form.law == "relative_floor")
    names = ["sigma_size", "sigma_run"] + ["tau"] * form.pooling.startswith("own_")
    names += {"power_floor": ["floor"], "relative_floor": ["growth"]}.get(form.law, [])
    names += ["noise_factor"] * bool(points.noise.any())
    largest = [-np.inf]

    def log_posterior(places: np.ndarray) -> np.ndarray:
        versions = _versions(setting, points, names, places)
        restricted, maximised = _likelihoods(setting, points, link, has_own_lines, versions)
        largest[0] = max(largest[0], float(maximised.max()))
        return restricted

    places, log_weight = explore(log_posterior, len(names), _N_CANDIDATES, _N_CANDIDATES, _WIDER)
    kept = keep_versions(log_weight, places[:, 0], _N_KEPT)
    versions = _versions(setting, points, names, places[kept])
    n_parameters = setting.n_fixed + len(names)
    criterion = _aicc(largest[0], n_parameters, len(points.y))
    kind = {"centre": setting.centre, "scale": setting.scale, "has_own_lines": has_own_lines}
    return Pool(points=points, link=link, **versions, **kind), criterion


def explore(
    log_posterior: Callable[[np.ndarray], np.ndarray], d: int, n_first: int, n_near: int, wider: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return places in the unit cube, and the log of their posterior over the density with which they were chosen.

    Importance sampling: Sobol points, then ``n_near`` normal ones around what was found, whose spread is ``wider`` than
    the posterior's. Before that, a posterior that too few places share is flattened until enough do, and half as many
    are laid around what is found so: rounds close in on a narrow peak. All proposals are one mixture (Veach and Guibas
    1995, Cornuet et al. 2012).
    """
    places = sobol(n_first, d)
    log_found, density = log_posterior(places), np.full(n_first, float(n_first))
    proposals, power = [], 0.0
    while power < 1 and len(proposals) < _MAX_ROUNDS:
        power, weight = _flattened(log_found - np.log(density), _LEAST_EFFECTIVE * d)
        n, centre = n_near if power == 1 else n_near // 2, weight @ places
        spread = (weight[:, None] * (places - centre)).T @ (places - centre)
        root = wider * np.linalg.cholesky(spread + _LEAST_SPREAD**2 * np.eye(d))
        near = centre + ndtri(sobol(n, d)) @ root.T
        near = near[((near > 0) & (near < 1)).all(axis=1)]
        proposals.append((n, centre, root))
        density += n * _normal(places, centre, root)
        new = n_first + sum(k * _normal(near, *proposal) for k, *proposal in proposals)
        places, density = np.concatenate([places, near]), np.concatenate([density, new])
        log_found = np.concatenate([log_found, log_posterior(near)])
    return places, log_found - np.log(density)


def _normal(places: np.ndarray, centre: np.ndarray, root: np.ndarray) -> np.ndarray:
    """Return the density of a normal distribution whose covariance has that lower triangular root."""
    distance = (solve_triangular(root, (places - centre).T, lower=True) ** 2).sum(axis=0)
    return np.exp(-distance / 2) / (np.prod(np.diag(root)) * (2 * np.pi) ** (len(centre) / 2))


def _flattened(log_weight: np.ndarray, least: float) -> tuple[float, np.ndarray]:
    """Return the largest power up to 1 of weights that at least so many places share, and those weights' shares."""

    def shares(power: float) -> np.ndarray:
        weight = np.exp(power * (log_weight - log_weight.max()))
        return weight / weight.sum()

    def lacking(power: float) -> float:
        return least * (shares(power) ** 2).sum() - 1

    power = 1.0 if lacking(1.0) <= 0 else brentq(lacking, 0.0, 1.0, rtol=1e-3)
    return power, shares(power)


def keep_versions(log_weight: np.ndarray, sigma_size: np.ndarray, n: int) -> np.ndarray:
    """Return n places by their weights, spread evenly over the size effect, on which intervals depend most."""
    order = np.argsort(sigma_size, kind="stable")
    return order[systematic(np.exp(log_weight - log_weight.max())[order], n)]


def _aicc(log_likelihood: float, n_parameters: int, n: int) -> float:
    left = n - n_parameters - 1
    if left <= 0:
        return float("inf")
    return -2 * log_likelihood + 2 * n_parameters + 2 * n_parameters * (n_parameters + 1) / left


@dataclass(frozen=True)
class _Setting:
    """Points in the coordinates of a fit."""

    centre: float
    scale: float
    x: np.ndarray
    n_fixed: int
    scatter: float


def _set_up(points: PooledPoints, link: Link, *, has_own_lines: bool, is_relative: bool) -> _Setting:
    require_usable(points, link)
    log_size = np.log10(points.n_params)
    centre, scale = float(log_size.max() if is_relative else log_size.mean()), float(log_size.std())
    x = (log_size - centre) / scale
    design = np.hstack([points.by_method, slopes_of(points.by_method, has_own_lines=has_own_lines) * x[:, None]])
    z = logit(points.y) if link == "logit" else np.log(points.y)
    theta, _, rank, _ = np.linalg.lstsq(design, z, rcond=None)
    dof = len(z) - rank
    if rank < design.shape[1] or dof < 2:
        raise Refusal(
            f"too little is left by {count(len(z), 'point')} to judge {design.shape[1]} parameters by; measure more"
        )
    scatter = float(np.sqrt(np.sum((z - design @ theta) ** 2) / dof))
    if scatter < 1e-7:
        raise Refusal(
            "the points are equal or lie on lines exactly, so nothing shows how far a new one may fall; add seeds"
        )
    return _Setting(centre, scale, x, design.shape[1], scatter)


def _versions(setting, points, names, places) -> dict[str, np.ndarray]:
    """Return the versions at places of the unit cube; what ``names`` lacks is 0 (noise counts as it is)."""
    found = {name: np.zeros(len(places)) for name in ("tau", "sigma_size", "sigma_run", "floor")}
    found["noise_factor"] = np.ones(len(places))
    spans = {"noise_factor": _SPAN_OF_FACTORS, "growth": _SPAN_OF_EXPONENTS}
    for name, place in zip(names, places.T, strict=True):
        if name == "floor":
            found[name] = SPREAD_OF_FLOORS * points.y.min() * place
            continue
        low, high = np.log(spans.get(name, np.multiply(_SPAN, setting.scatter)))
        found[name] = np.exp(low + (high - low) * place)
    if "growth" in found:
        # Exponents are of the size itself.
        found["growth"] *= -setting.scale * np.log(10)
    return found


def _likelihoods(setting, points, link, has_own_lines, versions) -> tuple[np.ndarray, np.ndarray]:
    """Return restricted and maximised log likelihoods of versions, each of shape (h,)."""

    def part_of(part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        own = {name: values[part] for name, values in versions.items()}
        kind = {"has_own_lines": has_own_lines}
        linear = Linear.of(link, points, setting.x, own["floor"], own.get("growth"), **kind)
        scatter = (own["tau"], own["sigma_size"], own["sigma_run"], own["noise_factor"])
        equations = MixedEquations.of(points, linear, scatter, **kind)
        return tuple(found - linear.log_scale for found in equations.log_likelihoods())

    n = len(versions["floor"])
    parts = np.array_split(np.arange(n), 1 + n * len(points.y) ** 2 // 4_000_000)
    return tuple(np.concatenate(found) for found in zip(*map(part_of, parts), strict=True))


def akaike_weights(criteria: np.ndarray) -> np.ndarray:
    """Return Akaike weights of criteria, equal ones where none is finite."""
    finite = np.isfinite(criteria)
    if not finite.any():
        return np.full(len(criteria), 1 / len(criteria))
    relative = np.where(finite, np.exp(-(criteria - criteria[finite].min()) / 2), 0.0)
    return relative / relative.sum()


def _left_out_densities(points, link, forms) -> list[np.ndarray]:
    """Return log densities of points left out, one array (forms, methods) for each size."""
    found = []
    sizes = points.sizes
    for place in range(len(sizes) - 1, MIN_SIZES - 1, -1)[:MAX_LEFT_OUT]:
        train, test = points.below(sizes[place]), points.keep(points.n_params == sizes[place])
        fitted, _ = attempt(forms, lambda form, points=train: fit_form(points, link, form)[0])
        known = np.isin(test.method, train.method)
        if not known.any() or not fitted:
            continue
        test, nothing = test.keep(known), np.full(int(known.sum()), -np.inf)
        own = [log_density(fitted[form], test) if form in fitted else nothing for form in forms]
        found.append(np.array(own))
    return found


def log_density(pool: Pool, test: PooledPoints) -> np.ndarray:
    """Return the log density of new runs at one size, each by itself, on the scale of log losses or logits, (n,).

    Exact but for a loss's line, which is taken as normal in its logarithm.
    """
    mean, covariance = pool.posterior(test.method.tolist(), test.n_params[0])
    variance = np.einsum("hii->hi", covariance)
    more = pool.points.seed_variance * max(0.0, 1 / test.n_seeds - 1 / pool.points.n_seeds)
    line = pool.unlink(mean, pool.floors(test.method.tolist()))
    scatter = (pool.sigma_size**2 + pool.sigma_run**2)[:, None] + pool.noise_factor[:, None] * pool.noise_at(line)
    if pool.link == "log":
        variance, centre, value = variance * (np.exp(mean) / line) ** 2, np.log(line), np.log(test.y)
    else:
        centre, value = mean, logit(test.y)
    total = variance + scatter + more
    by_version = -0.5 * (np.log(2 * np.pi * total) + (value - centre) ** 2 / total)
    return logsumexp(by_version, axis=0) - np.log(len(by_version))


def weigh(prior: np.ndarray, densities: Sequence[np.ndarray]) -> np.ndarray:
    """Return weights that maximise the log score of the mixture, with the prior as one more look."""
    weights = np.maximum(prior, 1e-12)
    weights = weights / weights.sum()
    # Relative to the best form of each look: EM needs no more, and no logarithms.
    looks = [np.exp(density - density.max(axis=0)) for density in densities]
    for _ in range(_EM_STEPS if looks else 0):
        before, weights = weights, prior.copy()
        for look in looks:
            joint = np.maximum(before, 1e-300)[:, None] * look
            weights += (joint / joint.sum(axis=0)).mean(axis=1)
        weights /= 1 + len(looks)
        if np.abs(weights - before).max() < 1e-10:
            break
    return weights / weights.sum()
