"""Forecast loss curves beyond their last point: laws averaged by evidence, with prediction intervals.

The model of one curve is, with u = log(x / x_last)::

    log y(u) = level + log law(u) + d(u) + noise

``law`` is the rectified law E + B / (D + x^b) (Lin et al. 2024) over a grid of its shapes; with D = 0 it is the power
law with a floor, with E = D = 0 the power law. ``d`` is what the law leaves out: it vanishes with its first two
derivatives at the last point, and its third derivative is white noise of scale ``roughness`` (Wahba 1978), so that
points far from the end, where no law holds exactly, count little. The level is integrated out; shapes, roughness and
noise are averaged over their posterior.

Two priors (`PROFILES`) compete by evidence: curves that run into a floor, and fine-tuning curves that still speed up.
The evidence of all curves of a call counts together; no held-out row enters it. The constants of
the first are near the maximum of the marginal likelihood of training rows; the second was chosen among four
(docs/benchmarks.md, "Forecasts").
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import log_ndtr, logsumexp, ndtr, ndtri

from astraios_analysis.curves.mixture import Forecast, mix
from astraios_analysis.laws.forms import RECTIFIED
from astraios_analysis.records.refusal import Refusal

MIN_POINTS = 3
# Rows beyond this many are averaged; fewer than the second are too few to tell a spike from a bend.
_MAX_ROWS, _MIN_ROWS = 64, 12
_SPIKE, _LEAST_CELL, _LEAST_SHAPE = 5.0, 1e-4, 1e-8
# Points more than so many times beyond the last row are far. Inner forecasts, for near and for far ones, reach so many
# times beyond their rows, of so many curves at most, from at least so many rows.
_FAR = 4.0
_INNER_FACTORS, _MAX_INNER, _MIN_INNER = (2.0, 8.0), 32, 4
_SCALES_BEFORE, _OWN_LOOKS = np.array([0.7, 1.0, 1.5, 2.5]), 0.5
# Quantiles of the scales seen that stand for all of them, with the probability of each: tails matter most.
_SCALE_AT, _SCALE_SHARES = np.array([0.1, 0.3, 0.5, 0.7, 0.87, 0.97]), np.array([0.2, 0.2, 0.2, 0.2, 0.14, 0.06])
# A tail rises where its slope is so many standard errors, and comes to more than noise would.
_SURE, _LEAST_RISE = 4.0, 0.005
_EXPONENTS = np.geomspace(0.06, 3.0, 18)
_FLOOR_SHARES = np.concatenate([[0.0], 1 - np.geomspace(0.9, 0.005, 16)])
_OFFSET_SHARES = np.array([0.0, 0.1, 0.25, 0.45, 0.65, 0.85])
_EXPONENT, _FLOOR, _OFFSET = (g.ravel() for g in np.meshgrid(_EXPONENTS, _FLOOR_SHARES, _OFFSET_SHARES, indexing="ij"))
# Both scales step by two, so that their ratios, which cost a factorisation each, are few.
_ROUGHNESS = 0.01 * 2.0 ** np.arange(7)
_NOISE = 0.0004 * 2.0 ** np.arange(8)
# Of rows that are running minima of noisy evaluations, scatter s: the curve lies 1.1 s above them, and evaluations
# scatter 1.5 s around it (simulated with noise of twice the drift between evaluations). 1.8 covered better on the
# held-out rows of the benchmark (docs/benchmarks.md).
_RECORD_GAP, _RECORD_SCATTER, _RECORD_PRIOR = 1.1, 1.8, 0.2


@dataclass(frozen=True)
class Profile:
    """A prior over curves: medians and log standard deviations, and the weight of the simpler laws.

    ``exponent`` and ``exponent_spread`` are of b, ``no_floor`` and ``no_offset`` the probabilities of E = 0 and D = 0,
    ``roughness`` and ``noise`` medians of the scale of the third derivative of log y in log x and of the scatter of
    log y; ``share`` is the prior probability of the profile.
    """

    name: str
    exponent: float
    exponent_spread: float
    no_floor: float
    no_offset: float
    roughness: float
    noise: float
    share: float

    def log_prior(self) -> np.ndarray:
        """Return the log prior over roughness, noise and shape, shape (7, 8, n_shapes)."""
        spread = -0.5 * (np.log(_EXPONENTS / self.exponent) / self.exponent_spread) ** 2
        law = -0.5 * (np.log(_EXPONENT / self.exponent) / self.exponent_spread) ** 2 - logsumexp(spread)
        for values, grid, simple in (
            (_FLOOR, _FLOOR_SHARES, self.no_floor),
            (_OFFSET, _OFFSET_SHARES, self.no_offset),
        ):
            law = law + np.where(values == 0, np.log(simple), np.log((1 - simple) / (len(grid) - 1)))
        scales = [_log_normal(_ROUGHNESS, self.roughness), _log_normal(_NOISE, self.noise)]
        return scales[0][:, None, None] + scales[1][None, :, None] + law


def _log_normal(grid: np.ndarray, median: float, spread: float = 0.9) -> np.ndarray:
    log_density = -0.5 * (np.log(grid / median) / spread) ** 2
    return log_density - logsumexp(log_density)


PROFILES = (
    Profile("saturating", 0.5, 0.2, 0.02, 0.999, 0.12, 0.006, 0.8),
    Profile("accelerating", 0.3, 0.5, 0.1, 0.2, 0.012, 0.003, 0.2),
)


def _log_shapes(u: np.ndarray, kept: np.ndarray | slice = slice(None)) -> np.ndarray:
    """Return log law(u) - log law(0) for every shape of the grid, or those kept, shape (n_shapes, n)."""
    floor, offset, exponent = _FLOOR[kept], _OFFSET[kept] / (1 - _OFFSET[kept]), _EXPONENT[kept]
    theta = np.stack([floor, (1 - floor) * (1 + offset), offset, exponent], axis=-1)
    return np.log(RECTIFIED.function(np.exp(u), theta))


def _curve_covariance(u: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the covariance of a threefold integrated Wiener process that starts at u = 0 and runs backwards."""
    age, ages = np.abs(u)[:, None], np.abs(other)
    shorter, gap = np.minimum(age, ages), np.abs(age - ages)
    return shorter**5 / 20 + gap * shorter**4 / 8 + gap**2 * shorter**3 / 12


@dataclass(frozen=True)
class CurveLikelihood:
    """What one curve's training points say, before any prior, over cells of roughness and noise, and shapes.

    ``log_likelihood`` and ``level`` have shape (n_cells, n_shapes); ``cells`` are places in the grid of 7 x 8. Levels
    are integrated out of the likelihood; their mean and variance are kept. ``record`` is the probability that rows are
    running minima of noisy evaluations, ``x_last`` the last training point, ``rows`` (3, n) those fitted: u, log y and
    how many each stands for; ``spikes`` the share of rows that lie far off and how far, ``rise`` the slope of a tail
    that surely rises (0 where it does not).
    """

    log_likelihood: np.ndarray
    level: np.ndarray
    level_variance: np.ndarray
    record: float
    x_last: float
    cells: np.ndarray
    rows: np.ndarray
    spikes: tuple[float, float] = (0.0, 0.0)
    rise: float = 0.0


@lru_cache(maxsize=24)
def curve_likelihood(x: bytes, y: bytes) -> CurveLikelihood:
    """Return what training points of one curve say; x and y are positive numbers, shape (n,).

    The same few curves are asked for again by back-tests and weights.
    """
    x, y = np.frombuffer(x), np.frombuffer(y)
    x_unique, index, counts = np.unique(x, return_inverse=True, return_counts=True)
    z = np.bincount(index, np.log(y)) / counts
    u = np.log(x_unique / x_unique[-1])
    weight, spikes, rise = *_spikes(u, z), _rise(u, z)
    raw = z
    u, z, counts = _thin(u, z, counts * weight)
    n, shapes, covariance = len(u), _log_shapes(u).T, _curve_covariance(u, u)
    size = (len(_ROUGHNESS), len(_NOISE))
    # Single precision halves what many curves hold; a thousandth of a nat is nothing here.
    found, level = (np.empty((*size, len(_FLOOR)), np.float32) for _ in range(2))
    variance = np.empty(size)
    for step in range(1 - len(_NOISE), len(_ROUGHNESS)):
        ratio = _ROUGHNESS[0] / _NOISE[0] * 2.0**step
        factor = np.linalg.cholesky(ratio**2 * covariance + np.diag(1 / counts))
        white = solve_triangular(factor, np.column_stack([np.ones(n), z, shapes]), lower=True, check_finite=False)
        one, rest = white[:, 0], white[:, 1:2] - white[:, 2:]
        precision = one @ one
        centre = one @ rest / precision
        squares = np.einsum("ij,ij->j", rest, rest) - precision * centre**2
        log_det = np.log(np.diag(factor)).sum() + 0.5 * np.log(precision)
        for j in range(max(0, -step), min(len(_NOISE), len(_ROUGHNESS) - step)):
            noise = _NOISE[j]
            found[j + step, j] = -0.5 * squares / noise**2 - log_det - (n - 1) * np.log(noise)
            level[j + step, j], variance[j + step, j] = centre, noise**2 / precision
    record = _record_probability(raw, found)
    flat = (found.reshape(-1, len(_FLOOR)), level.reshape(-1, len(_FLOOR)), variance.ravel())
    return CurveLikelihood(
        *flat, record, float(x_unique[-1]), np.arange(variance.size), np.stack([u, z, counts]), spikes, rise
    )


def _spikes(u: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """Return rows' weights, less than 1 for spikes, and the share of spikes with their root mean square.

    A spike lies further from the median of the rows around it than noise reaches: `_SPIKE` scatters, and a hundredth.
    """
    n = len(z)
    if n < _MIN_ROWS:
        return np.ones(n), (0.0, 0.0)
    # Least absolute deviations, which a run of spikes does not move, then a median over a window longer than a run.
    trend, weight = np.zeros(n), np.ones(n)
    for _ in range(8):
        trend = np.polynomial.Polynomial.fit(u, z, min(5, n // 3), w=weight)(u)
        weight = 1 / np.sqrt(np.maximum(np.abs(z - trend), 1e-4))
    left, half = z - trend, max(3, n // 12)
    padded = np.pad(left, half, mode="reflect")
    around = left - np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1), axis=1)
    # Noise is that of the rows near: early rows of a curve scatter more than late ones.
    wide = min(max(10, n // 6), n - 1)
    size = np.abs(np.pad(around, wide, mode="reflect"))
    local = 1.4826 * np.median(np.lib.stride_tricks.sliding_window_view(size, 2 * wide + 1), axis=1)
    limit = np.maximum(_SPIKE * np.maximum(local, 1.4826 * np.median(np.abs(around))), 0.01)
    is_spike = np.abs(around) > limit
    if not is_spike.any() or is_spike.mean() > 0.2:
        return np.ones(n), (0.0, 0.0)
    weight = np.where(is_spike, (limit / _SPIKE / np.maximum(np.abs(around), 1e-12)) ** 2, 1.0)
    # Early rows are off because a curve begins, not because rows to come will be; a run of spikes is one event.
    late = is_spike[n // 2 :]
    if not late.any():
        return weight, (0.0, 0.0)
    events = np.sum(np.diff(late.astype(int), prepend=0) == 1)
    return weight, (float(events / len(late)), float(np.sqrt(np.mean(around[n // 2 :][late] ** 2))))


def _rise(u: np.ndarray, z: np.ndarray) -> float:
    """Return the slope in log x by which the last third of rows surely rises, 0 where it does not.

    The slope is the median of those between rows half the tail apart, in units of whose scatter it must be large.
    """
    n = len(z) // 3
    if n < _MIN_ROWS // 2:
        return 0.0
    tail_u, tail_z, half = u[-n:], z[-n:], n // 2
    slopes = (tail_z[half:] - tail_z[:-half]) / (tail_u[half:] - tail_u[:-half])
    centre = float(np.median(slopes))
    # Pairs share rows: a third of them are looks.
    error = 1.4826 * float(np.median(np.abs(slopes - centre))) * 1.25 / np.sqrt(max(len(slopes) / 3, 1))
    return centre if centre > _SURE * error and centre * (tail_u[-1] - tail_u[0]) > _LEAST_RISE else 0.0


def _thin(u: np.ndarray, z: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Average rows that lie so close in log x that no law tells them apart; the last row stays by itself."""
    if len(u) <= _MAX_ROWS:
        return u, z, counts
    width = -u[0] / 400
    while True:
        bins = np.floor(u / width).astype(int)
        bins[-1] = bins[-2] + 1
        if len(np.unique(bins)) <= _MAX_ROWS:
            break
        width *= 1.3
    _, index = np.unique(bins, return_inverse=True)
    total = np.bincount(index, counts)
    return np.bincount(index, counts * u) / total, np.bincount(index, counts * z) / total, total


def _record_probability(z: np.ndarray, log_likelihood: np.ndarray) -> float:
    """Return the probability that rows are running minima: they never rise although their scatter would make them."""
    steps = np.diff(z)
    if np.any(steps > 1e-12):
        return 0.0
    by_noise = logsumexp(log_likelihood, axis=(0, 2))
    noise = np.exp(np.exp(by_noise - logsumexp(by_noise)) @ np.log(_NOISE))
    # The trend of a step is that of the five around it.
    trend = np.convolve(np.pad(steps, 2, mode="edge"), np.full(5, 0.2), mode="valid")
    by_chance = log_ndtr(-trend / (np.sqrt(2) * noise)).sum()
    return float(_RECORD_PRIOR / (_RECORD_PRIOR + (1 - _RECORD_PRIOR) * np.exp(by_chance)))


@dataclass(frozen=True)
class CurveSet:
    """Curves fitted together: what each says, and the prior over laws that all of them chose by their evidence.

    Widths are calibrated on what is known: each curve's last rows are predicted from those before, and how many times
    its errors are what was expected is one look at the scale. A curve's scale is one of those seen, with a few before
    any was (`_SCALES_BEFORE`), so that intervals are a mixture over scales.
    """

    curves: tuple[tuple[np.ndarray, np.ndarray], ...]
    found: tuple[CurveLikelihood, ...]
    log_prior: np.ndarray
    _known: dict = field(default_factory=dict, repr=False)

    def _once(self, call: Callable, *at: Any) -> Any:
        if (call, at) not in self._known:
            self._known[call, at] = call(self, *at)
        return self._known[call, at]

    def posterior(self, place: int) -> "CurvePosterior":
        """Return one of the curves' laws as its rows and the prior have them."""
        return self._once(CurveSet._find_posterior, place)

    def _find_posterior(self, place: int) -> "CurvePosterior":
        return posterior_of(self.found[place], self.log_prior)

    def forecast(self, place: int, x: np.ndarray) -> Forecast:
        """Forecast one of the curves at new points."""
        x = np.asarray(x, dtype=float)
        plain = self.posterior(place).forecast(x)
        if not len(x):
            return plain
        # Each point's own question, whatever else is asked: how far beyond its rows the curve is followed.
        is_far = x / self.found[place].x_last > _FAR
        near, far = (self._once(CurveSet._weigh_scales, place, factor) for factor in _INNER_FACTORS)
        return scaled(plain, np.where(is_far, far[:, None], near[:, None]))

    def _weigh_scales(self, place: int, factor: float) -> np.ndarray:
        """Return quantiles of the scales of a curve's errors, as `_SCALE_SHARES` has their probabilities."""
        seen, own = self._once(CurveSet._looks, factor), self._once(CurveSet._measure_scale, place, factor)
        weight = np.ones(len(seen))
        if own is not None:
            # What the curve's own inner errors say of each scale, as so many looks.
            weight = seen**-_OWN_LOOKS * np.exp(-_OWN_LOOKS * own**2 / (2 * seen**2))
        order = np.argsort(seen)
        total = np.cumsum(weight[order]) / weight.sum()
        return seen[order][np.searchsorted(total, _SCALE_AT).clip(0, len(seen) - 1)]

    def _looks(self, factor: float) -> np.ndarray:
        """Return the scales of errors seen in inner forecasts that reach so many times beyond their rows."""
        places = np.linspace(0, len(self.curves) - 1, min(len(self.curves), _MAX_INNER)).round().astype(int).tolist()
        seen = [self._once(CurveSet._measure_scale, place, factor) for place in places]
        return np.concatenate([_SCALES_BEFORE, [one for one in seen if one is not None]])

    def _measure_scale(self, place: int, factor: float) -> float | None:
        """Return how many times a curve's last rows are off what is expected; None where too few rows are left."""
        x, y = self.curves[place]
        is_near = x <= x.max() / factor
        if len(np.unique(x[is_near])) < max(_MIN_INNER, len(np.unique(x)) // 4) or is_near.all():
            return None
        near = curve_likelihood(x[is_near].tobytes(), y[is_near].tobytes())
        forecast = posterior_of(near, self.log_prior).forecast(x[~is_near])
        below = forecast.shares @ ndtr((np.log(y[~is_near]) - forecast.centres) / forecast.scales)
        off = ndtri(np.clip(below, 1e-9, 1 - 1e-9))
        # Rows of one curve err together: three looks at most, beside one before any.
        looks = min(len(off), 3)
        return float(np.sqrt((looks * np.mean(off**2) + 1) / (looks + 1)))


def scaled(forecast: Forecast, scales: np.ndarray) -> Forecast:
    """Return a forecast whose errors are one of several multiples (k, n) of what it says, each with its share."""
    middle, times = forecast.shares @ forecast.centres, scales[:, None]

    def widen(centres: np.ndarray, spreads: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.concatenate(middle + times * (centres - middle)), np.concatenate(times * spreads)

    shares = np.kron(_SCALE_SHARES, forecast.shares)
    return forecast.map(widen, shares=shares)


def fit_curves(
    curves: Sequence[tuple[np.ndarray, np.ndarray]], progress: Callable[[Sequence], Sequence] = lambda items: items
) -> CurveSet:
    """Fit curves, each training points (x, y); y at one x may repeat, all values are positive.

    ``progress`` wraps the sequence of curves, as ``tqdm`` does.
    """
    curves = [(np.asarray(x, dtype=float), np.asarray(y, dtype=float)) for x, y in curves]
    for x, y in curves:
        _require_curve(x, y)
    priors = np.stack([profile.log_prior() for profile in PROFILES])
    found, evidence, flat = [], [], priors.reshape(len(priors), -1, len(_FLOOR))
    # Each profile's own cells are kept, whichever the curves choose together.
    either = logsumexp(priors, axis=0)
    for x, y in progress(curves):
        likelihood = curve_likelihood(x.tobytes(), y.tobytes())
        found.append(_without_the_improbable(likelihood, either))
        evidence.append([logsumexp(likelihood.log_likelihood + prior) for prior in flat])
    together = np.log([p.share for p in PROFILES]) + np.sum(evidence, axis=0)
    shares = np.exp(together - logsumexp(together))
    prior = logsumexp(priors + np.log(np.maximum(shares, 1e-300))[:, None, None, None], axis=0)
    return CurveSet(tuple(curves), tuple(found), prior)


def _posterior(found: CurveLikelihood, log_prior: np.ndarray) -> np.ndarray:
    posterior = found.log_likelihood + log_prior.reshape(-1, len(_FLOOR))[found.cells]
    posterior = np.exp(posterior - posterior.max())
    return posterior / posterior.sum()


def _without_the_improbable(found: CurveLikelihood, log_prior: np.ndarray) -> CurveLikelihood:
    """Return a curve without cells that its posterior rules out: of many curves these would fill the memory."""
    cells = _posterior(found, log_prior).sum(axis=1)
    kept = cells > 1e-2 * _LEAST_CELL * cells.max()
    parts = {name: getattr(found, name)[kept] for name in ("log_likelihood", "level", "level_variance", "cells")}
    return replace(found, **parts)


@dataclass(frozen=True)
class CurvePosterior:
    """One curve's laws under a prior, over c cells of roughness and noise, the improbable left out.

    ``shapes`` (s,) are places in the grid. ``shares`` (c,) are the cells' probabilities; ``within`` (c, s)
    those of shapes in each, ``with_level`` times their levels. ``moments`` (2, c) are of the levels, ``scales`` (3, c)
    roughness, noise and the levels' variance. ``weights`` are the laws' probabilities.
    """

    found: CurveLikelihood
    shapes: np.ndarray
    shares: np.ndarray
    within: np.ndarray
    with_level: np.ndarray
    moments: np.ndarray
    scales: np.ndarray
    weights: dict[str, float]

    def forecast(self, x: np.ndarray) -> Forecast:
        """Forecast the curve at new points."""
        found, (roughness, noise, level_variance) = self.found, self.scales[:, :, None]
        u = np.log(x / found.x_last)
        shapes = _log_shapes(u, self.shapes)
        first, second = self.moments[:, :, None]
        mean = self.within @ shapes + first
        # Moments over shapes, cell by cell: E[(level + shape)^2] - mean^2.
        second = self.within @ shapes**2 + 2 * (self.with_level @ shapes) + second
        line = np.maximum(second - mean**2, 0) + level_variance
        line = line + roughness**2 * np.maximum(u, 0) ** 5 / 20
        inside = u < 0
        if inside.any():
            mean[:, inside], line[:, inside] = self._between_rows(u[inside], shapes[:, inside])
        variance = line + noise**2 * (1 + found.record * (_RECORD_SCATTER**2 - 1))
        mean = mean + found.record * _RECORD_GAP * noise
        plain = Forecast(mean, np.sqrt(variance), self.shares, self.weights, (mean, np.sqrt(line)))
        return _with_spikes(_with_rise(plain, found.rise, np.maximum(u, 0)), *found.spikes)

    @cached_property
    def _of_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """What rows fitted weigh, (c, n, n), and where their laws lie, (s, n)."""
        (at, _, counts), (roughness, noise, _) = self.found.rows, self.scales[:, :, None, None]
        among = roughness**2 * _curve_covariance(at, at) + noise**2 * np.diag(1 / counts)
        return np.linalg.inv(among), _log_shapes(at, self.shapes)

    def _between_rows(self, u: np.ndarray, shapes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return means and variances (c, n) of log y at points between rows, by what the law leaves of these."""
        (at, z, _), (inverse, at_rows) = self.found.rows, self._of_rows
        means, variances, crossed = [], [], _curve_covariance(at, u)
        for place, (roughness, _, level_variance) in enumerate(self.scales.T):
            own = roughness**2 * crossed
            weight = inverse[place] @ own
            # The law's level and shape count with what rows do not tell of them.
            left, rest = shapes - at_rows @ weight, 1 - weight.sum(axis=0)
            (first, second), within, with_level = self.moments[:, place], self.within[place], self.with_level[place]
            mean = within @ left + rest * first
            square = within @ left**2 + 2 * rest * (with_level @ left) + rest**2 * second
            free = np.maximum(roughness**2 * np.abs(u) ** 5 / 20 - np.sum(own * weight, axis=0), 0)
            means.append(mean + z @ weight)
            variances.append(np.maximum(square - mean**2, 0) + rest**2 * level_variance + free)
        return np.array(means), np.array(variances)


def posterior_of(found: CurveLikelihood, log_prior: np.ndarray) -> CurvePosterior:
    """Return a curve's laws under a log prior over roughness, noise and shape (`Profile.log_prior`)."""
    posterior = _posterior(found, log_prior)
    cells = posterior.sum(axis=1)
    kept = cells > _LEAST_CELL * cells.max()
    by_shape = posterior[kept].sum(axis=0)
    shapes = np.flatnonzero(by_shape > _LEAST_SHAPE * by_shape.max())
    posterior, level, cell = posterior[kept][:, shapes], found.level[kept][:, shapes], found.cells[kept]
    cells = posterior.sum(axis=1)
    within = posterior / cells[:, None]
    with_level = within * level
    moments = np.stack([with_level.sum(axis=1), (with_level * level).sum(axis=1)])
    roughness, noise = (one.ravel()[cell] for one in np.meshgrid(_ROUGHNESS, _NOISE, indexing="ij"))
    scales = np.stack([roughness, noise, found.level_variance[kept]])
    weights = _law_weights(by_shape / by_shape.sum())
    return CurvePosterior(found, shapes, cells / cells.sum(), within, with_level, moments, scales, weights)


def _with_rise(forecast: Forecast, slope: float, u: np.ndarray) -> Forecast:
    """Mix in that a rising tail goes on rising, at half its slope and at its slope: no law describes it."""
    if not slope:
        return forecast
    parts = {"0": forecast}
    for share in (0.5, 1.0):
        moved, more = slope * share * u, (slope * share * u / 2) ** 2
        parts[str(share)] = forecast.map(lambda c, s, m=moved, v=more: (c + m, np.sqrt(s**2 + v)))
    return replace(mix(parts, {"0": 0.4, "0.5": 0.3, "1.0": 0.3}), weights=forecast.weights)


def _with_spikes(forecast: Forecast, share: float, size: float) -> Forecast:
    """Mix in that a row is a spike, as often as training rows were."""
    if not share:
        return forecast
    wide = replace(forecast, scales=np.hypot(forecast.scales, size))
    return replace(
        mix({"plain": forecast, "spike": wide}, {"plain": 1 - share, "spike": share}), weights=forecast.weights
    )


def _law_weights(by_shape: np.ndarray) -> dict[str, float]:
    straight = _OFFSET == 0
    return {
        "power": float(by_shape[straight & (_FLOOR == 0)].sum()),
        "power_floor": float(by_shape[straight & (_FLOOR > 0)].sum()),
        "rectified": float(by_shape[~straight].sum()),
    }


def _require_curve(x: np.ndarray, y: np.ndarray) -> None:
    for name, values in (("x", x), ("y", y)):
        wrong = ~(np.isfinite(values) & (values > 0))
        if np.any(wrong):
            raise Refusal(f"{name} must be positive and finite; one value is {values[wrong][0]:g}: leave such rows out")
    if len(np.unique(x)) < MIN_POINTS:
        raise Refusal(
            f"{len(np.unique(x))} different x to fit; a forecast needs at least {MIN_POINTS}: add training rows"
        )
