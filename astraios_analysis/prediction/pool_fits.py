"""Fit pooled laws: all forms at once, weighted by evidence, or one form alone with its information criterion."""

from dataclasses import dataclass

import numpy as np
from scipy.special import logit

from astraios_analysis.prediction.pool import (
    SPREAD_OF_FLOORS,
    Pool,
    covariance_of_points,
    design_of,
    floor_units,
    link_values,
)
from astraios_analysis.prediction.pooled_points import Link, PooledPoints, require_usable
from astraios_analysis.records.refusal import Refusal

N_CANDIDATES = 2500
N_KEPT = 400
# Fewer dimensions are open once the form is chosen.
N_OF_ONE_FORM = 800
# Standard deviations lie between these multiples of the scatter around parallel lines.
_SPAN = (0.1, 10.0)
POOLINGS = ("shared_slope", "own_slopes", "no_pooling")
LAWS_OF_SIZE: dict[Link, tuple[str, ...]] = {
    "log": ("power", "power_floor", "relative_floor"),
    "logit": ("logit_linear",),
}


@dataclass(frozen=True)
class Form:
    """A law of size and how methods share it.

    Attributes
    ----------
    law : {"power", "power_floor", "relative_floor", "logit_linear"}
        ``relative_floor``: floors are one share of each method's smallest loss, so that with one slope methods' curves
        are multiples of one another.
    pooling : {"shared_slope", "own_slopes", "no_pooling"}
        One slope for all; slopes drawn towards a common one; slopes of each method by itself.
    """

    law: str
    pooling: str

    @property
    def name(self) -> str:
        """The form as weights name it."""
        return f"{self.law}/{self.pooling}"


def forms_of(link: Link, n_methods: int) -> list[Form]:
    """Return the forms that points of so many methods can take; one method has nothing to share."""
    poolings = POOLINGS if n_methods > 1 else POOLINGS[:1]
    laws = [law for law in LAWS_OF_SIZE[link] if n_methods > 1 or law != "relative_floor"]
    return [Form(law, pooling) for law in laws for pooling in poolings]


@dataclass(frozen=True)
class _Setting:
    """Points in the coordinates of a fit."""

    methods: tuple[str, ...]
    centre: float
    scale: float
    place: tuple[np.ndarray, np.ndarray, np.ndarray]
    design: np.ndarray
    scatter: float
    floor_units: np.ndarray


def fit_pool(points: PooledPoints, link: Link, *, seed: int = 0) -> Pool:
    """Fit the pooled law of `pools`, its forms averaged by evidence.

    Parameters
    ----------
    points : PooledPoints
    link : {"log", "logit"}
        ``log`` for a loss, with a floor; ``logit`` for a rate.
    seed : int
        Of the importance sampling.

    Raises
    ------
    Refusal
        If values are not usable, sizes are fewer than three, or the points lie on lines exactly.
    """
    setting = _set_up(points, link, has_own_lines=False)
    rng = np.random.default_rng(seed)
    versions, has_own_slopes, has_floor = _candidates(rng, setting.scatter, points, link, N_CANDIDATES)
    log_weight = _log_likelihoods(setting, points, link, versions)[0]
    weight, chosen = _resample(rng, log_weight, versions)
    laws = [("power", ~has_floor), ("power_floor", has_floor)] if link == "log" else [("logit_linear", ~has_floor)]
    slopes = [("shared_slope", ~has_own_slopes), ("own_slopes", has_own_slopes)]
    forms = {f"{law}/{kind}": float(weight[a & b].sum()) for law, a in laws for kind, b in slopes}
    return Pool(link, points, setting.methods, setting.centre, setting.scale, **chosen, weights=forms)


def fit_form(points: PooledPoints, link: Link, form: Form, *, seed: int = 0) -> tuple[Pool, float]:
    """Fit one form, and return its small-sample Akaike criterion beside it.

    The criterion (Hurvich and Tsai 1989) is marginal: random slopes and size effects are integrated out, and their
    variances count as parameters. Its likelihood is the largest over the versions sampled; it is infinite where the
    points are not more than the parameters by two.

    Raises
    ------
    Refusal
        As `fit_pool`, or if each method by itself has too few sizes.
    """
    kind = {"has_own_lines": form.pooling == "no_pooling", "is_relative": form.law == "relative_floor"}
    setting = _set_up(points, link, **kind)
    rng = np.random.default_rng(seed)
    versions, _, _ = _candidates(rng, setting.scatter, points, link, N_OF_ONE_FORM, form)
    log_weight, log_likelihood = _log_likelihoods(setting, points, link, versions)
    chosen = _resample(rng, log_weight, versions)[1]
    n_parameters = setting.design.shape[1] + 2 + (form.pooling == "own_slopes")
    n_parameters += form.law.endswith("_floor") + bool(points.noise.any())
    criterion = _aicc(float(log_likelihood.max()), n_parameters, len(points.y))
    place = (setting.methods, setting.centre, setting.scale)
    return Pool(link, points, *place, **chosen, weights={form.name: 1.0}, **kind), criterion


def _aicc(log_likelihood: float, n_parameters: int, n: int) -> float:
    left = n - n_parameters - 1
    if left <= 0:
        return float("inf")
    return -2 * log_likelihood + 2 * n_parameters + 2 * n_parameters * (n_parameters + 1) / left


def _set_up(points: PooledPoints, link: Link, *, has_own_lines: bool, is_relative: bool = False) -> _Setting:
    require_usable(points, link)
    methods = tuple(dict.fromkeys(points.method.tolist()))
    log_size = np.log10(points.n_params)
    centre, scale = float(log_size.mean()), float(log_size.std())
    group, x = np.array([methods.index(m) for m in points.method]), (log_size - centre) / scale
    design = design_of(group, x, len(methods), has_own_lines=has_own_lines)
    z = logit(points.y) if link == "logit" else np.log(points.y)
    theta, _, rank, _ = np.linalg.lstsq(design, z, rcond=None)
    dof = len(z) - rank
    if rank < design.shape[1] or dof < 2:
        raise Refusal(f"{len(z)} points leave too little to judge {design.shape[1]} parameters by; measure more sizes")
    scatter = float(np.sqrt(np.sum((z - design @ theta) ** 2) / dof))
    if scatter < 1e-7:
        raise Refusal("the points are equal or lie on lines exactly, so nothing shows how far a new one may fall")
    units = floor_units(points, points.method.tolist(), is_relative=is_relative)
    return _Setting(methods, centre, scale, (group, x, np.round(log_size, 9)), design, scatter, units)


def _candidates(rng, scatter, points, link, n, form=None):
    low, high = np.log(_SPAN[0] * scatter), np.log(_SPAN[1] * scatter)
    tau, sigma_size, sigma_run = (np.exp(rng.uniform(low, high, n)) for _ in range(3))
    has_own_slopes = rng.random(n) < 0.5
    has_floor = (rng.random(n) < 0.5) if link == "log" else np.zeros(n, dtype=bool)
    if form is not None:
        has_own_slopes = np.full(n, form.pooling == "own_slopes")
        has_floor = np.full(n, form.law.endswith("_floor"))
    largest = 1.0 if form is not None and form.law == "relative_floor" else points.y.min()
    floor = np.where(has_floor, rng.uniform(0, SPREAD_OF_FLOORS * largest, n), 0.0)
    factor = np.exp(rng.uniform(np.log(0.05), np.log(2.0), n))
    versions = {"tau": np.where(has_own_slopes, tau, 0.0), "sigma_size": sigma_size, "sigma_run": sigma_run}
    return versions | {"noise_factor": factor, "floor": floor}, has_own_slopes, has_floor


def _resample(rng, log_weight, versions) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return weights of versions, and equally likely ones."""
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    # Systematic resampling: each version is kept about as often as its weight says.
    kept = np.searchsorted(np.cumsum(weight), (np.arange(N_KEPT) + rng.random()) / N_KEPT).clip(0, len(weight) - 1)
    return weight, {name: values[kept] for name, values in versions.items()}


def _log_likelihoods(setting, points, link, versions) -> tuple[np.ndarray, np.ndarray]:
    """Return restricted and maximised log likelihoods of versions, each of shape (h,)."""
    n_versions, n = len(versions["tau"]), len(points.y)
    parts = [
        _log_likelihood(setting, points, link, {name: v[part] for name, v in versions.items()})
        for part in np.array_split(np.arange(n_versions), 1 + n_versions * n**2 // 4_000_000)
    ]
    return tuple(np.concatenate(found) for found in zip(*parts, strict=True))


def _log_likelihood(setting, points, link, versions) -> tuple[np.ndarray, np.ndarray]:
    floor = versions["floor"][:, None] * setting.floor_units
    z, stretch = link_values(link, points, floor)
    parts = (versions["tau"], versions["sigma_size"], versions["sigma_run"], versions["noise_factor"])
    root = np.linalg.cholesky(covariance_of_points(*setting.place, points.noise, stretch, parts))
    right = np.concatenate([np.broadcast_to(setting.design, (len(z), *setting.design.shape)), z[..., None]], axis=2)
    whitened = np.linalg.solve(root, right)
    inner = np.swapaxes(whitened, 1, 2) @ whitened
    k = setting.design.shape[1]
    information, cross, total = inner[:, :k, :k], inner[:, :k, k], inner[:, k, k]
    square = total - np.einsum("hk,hk->h", cross, np.linalg.solve(information, cross[..., None])[..., 0])
    maximised = -np.log(np.einsum("hnn->hn", root)).sum(axis=1) - square / 2
    if link == "log":
        maximised = maximised - np.log(points.y - floor).sum(axis=1)
    restricted = maximised - np.linalg.slogdet(information)[1] / 2
    return restricted, maximised
