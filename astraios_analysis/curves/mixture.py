"""Predictive distributions on their link scale, as mixtures of normals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.special import expit, logit, logsumexp, ndtr
from scipy.stats import chi2, t

# The scale on which an outcome is predicted: a loss by its logarithm, a share by its logit.
Link = Literal["log", "logit"]
# Of forecasts: also outcomes in [0, 1] as they are, for laws that are fitted so.
Scale = Link | Literal["linear"]
# What is predicted: one new run, or the line that runs scatter around.
Kind = Literal["mean", "observation"]
KINDS: tuple[Kind, ...] = ("observation", "mean")
_N_OF_STUDENT, _N_THINNED = 25, 512


def to_link(values: np.ndarray, link: Link) -> np.ndarray:
    """Return outcomes on their link scale, shares kept inside 0 and 1."""
    return np.log(values) if link == "log" else logit(np.clip(values, 1e-9, 1 - 1e-9))


@dataclass(frozen=True)
class Forecast:
    """Predictive distributions of n outcomes on their link scale, mixtures of k normals: of a new observation.

    ``centres`` and ``scales`` have shape (k, n), ``shares`` (k,); ``lines`` are centres and scales of the curve itself,
    without what an observation scatters around it. ``weights`` are the laws' posterior probabilities. ``student`` are
    centres, spreads and degrees of freedom where these are one Student's t, ``drawn`` the outcomes (n_draws, n), in
    order, where it stands for draws.
    """

    centres: np.ndarray
    scales: np.ndarray
    shares: np.ndarray
    weights: dict[str, float]
    lines: tuple[np.ndarray, np.ndarray]
    link: Scale = "log"
    student: Mapping[Kind, tuple[np.ndarray, np.ndarray, int]] | None = None
    drawn: Mapping[Kind, np.ndarray] | None = None

    @property
    def median(self) -> np.ndarray:
        """Median of the outcomes, shape (n,): what is said where one number is asked for."""
        return self.values(self.log_quantile(0.5))

    def map(self, call: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]], **more) -> "Forecast":
        """Return the forecast with centres and scales changed by a call, of an observation and of the curve."""
        centres, scales = call(self.centres, self.scales)
        return replace(self, centres=centres, scales=scales, lines=call(*self.lines), student=None, drawn=None, **more)

    def values(self, z: np.ndarray) -> np.ndarray:
        """Return outcomes of link values."""
        if self.link == "linear":
            return np.clip(z, 0.0, 1.0)
        return np.exp(z) if self.link == "log" else expit(z)

    def parts(self, kind: Kind) -> tuple[np.ndarray, np.ndarray]:
        """Return centres and scales of an observation, or of the curve."""
        return self.lines if kind == "mean" else (self.centres, self.scales)

    def log_quantile(self, probability: float, kind: Kind = "observation") -> np.ndarray:
        """Return a quantile on the link scale, of a mixture by bisection, shape (n,)."""
        if self.student is not None:
            centre, spread, dof = self.student[kind]
            return centre + t.ppf(probability, dof) * spread
        if self.drawn is not None:
            return to_link(np.quantile(self.drawn[kind], probability, axis=0), self.link)
        centres, scales = self.parts(kind)
        low = (centres - 10 * scales).min(axis=0)
        high = (centres + 10 * scales).max(axis=0)
        for _ in range(36):
            middle = (low + high) / 2
            below = self.shares @ ndtr((middle - centres) / scales) < probability
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return (low + high) / 2

    def draw(self, places: np.ndarray, scores: np.ndarray, kind: Kind = "observation") -> np.ndarray:
        """Draw the outcomes together, (n_draws, n), of parts that places in (0, 1) choose, at normal scores there."""
        centres, scales = self.parts(kind)
        total = np.cumsum(self.shares)
        part = np.searchsorted(total / total[-1], places).clip(0, len(total) - 1)
        return self.values(centres[part] + scales[part] * scores[:, None])

    def interval(self, level: float, kind: Kind = "observation") -> tuple[np.ndarray, np.ndarray]:
        """Return the central interval of outcomes: where a new observation, or the curve, falls so often."""
        low, high = (self.log_quantile(p, kind) for p in ((1 - level) / 2, (1 + level) / 2))
        return self.values(low), self.values(high)

    def log_density(self, z: np.ndarray) -> np.ndarray:
        """Return the log density of observations on the link scale, shape (n,)."""
        log_normal = -0.5 * ((z - self.centres) / self.scales) ** 2 - np.log(self.scales)
        return logsumexp(log_normal, axis=0, b=self.shares[:, None]) - 0.5 * np.log(2 * np.pi)


def mix(parts: Mapping[str, Forecast], shares: Mapping[str, float]) -> Forecast:
    """Return the mixture of forecasts of the same outcomes, each with its share; laws are named by their part."""
    total = sum(shares[name] for name in parts)
    kept = {name: shares[name] / total for name in parts if shares[name] > 1e-6 * total}
    first = parts[next(iter(kept))]
    if len(kept) == 1:
        return first
    weights = {law: w * share for name, share in kept.items() for law, w in parts[name].weights.items()}
    of_rows, of_lines = (
        tuple(np.concatenate(own) for own in zip(*(parts[name].parts(kind) for name in kept), strict=True))
        for kind in ("observation", "mean")
    )
    shares = np.concatenate([share * parts[name].shares for name, share in kept.items()])
    return Forecast(*of_rows, shares, weights, of_lines, first.link)


def mean_weights(weights: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the mean weights of laws, of which each may lack some."""
    laws = dict.fromkeys(law for own in weights for law in own)
    return {law: float(np.mean([own.get(law, 0.0) for own in weights])) for law in laws}


def student_forecast(
    centre: np.ndarray, spread: np.ndarray, dof: int, name: str, noise: float = 0.0, link: Scale = "log"
) -> Forecast:
    """Return Student's t around link values (n,): spreads known as by ``dof`` looks.

    ``noise`` is the part of the spread that an observation adds to the curve. Its parts are a mixture of normals; its
    own quantiles are those of t.
    """
    line = np.sqrt(np.maximum(spread**2 - noise**2, (1e-3 * spread) ** 2))
    # A t is a normal whose variance is divided by chi-squared / dof; equally likely values of it stand for all.
    chi = chi2.ppf((np.arange(_N_OF_STUDENT) + 0.5) / _N_OF_STUDENT, dof)
    shares, wider = np.full(_N_OF_STUDENT, 1 / _N_OF_STUDENT), np.sqrt(dof / chi)[:, None]
    centres = np.repeat(centre[None], _N_OF_STUDENT, axis=0)
    lines, quantiles = (centres, wider * line), {"observation": (centre, spread, dof), "mean": (centre, line, dof)}
    return Forecast(centres, wider * spread, shares, {name: 1.0}, lines, link, quantiles)


def drawn_forecast(drawn: Mapping[Kind, np.ndarray], weights: dict[str, float], link: Link) -> Forecast:
    """Return draws of link values, shape (n_draws, n) by kind, as a mixture.

    So many quantiles stand for the draws, each a normal of next to no width; its own quantiles are those of the draws.
    """
    parts, drawn = {}, {kind: np.sort(values, axis=0) for kind, values in drawn.items()}
    for kind, values in drawn.items():
        centres = np.quantile(values, (np.arange(_N_THINNED) + 0.5) / _N_THINNED, axis=0)
        scales = np.maximum(5 * centres.std(axis=0) / _N_THINNED, 1e-9)
        parts[kind] = centres, np.broadcast_to(scales, centres.shape)
    shares = np.full(_N_THINNED, 1 / _N_THINNED)
    found = Forecast(*parts["observation"], shares, weights, parts["mean"], link)
    return replace(found, drawn={kind: found.values(values) for kind, values in drawn.items()})
