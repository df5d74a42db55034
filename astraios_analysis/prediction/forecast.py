"""Outcomes at sizes that nobody has measured: one procedure, fitted once and asked for any size.

A loss, or a column of a table, has its own laws of size (`direct`). The scores of a grid's data sets have one law
together (`suite`) where they are enough to lend one another something, and each its own laws where not. Where the grid
has losses a score is also predicted through the loss, size to loss to score (`chain`), and the two are mixed by how
likely each makes the scores of the largest fitted size after being fitted to the smaller ones. Whatever is said of an
unmeasured size (commands, figures, explorer, report, plans) comes from `fit_outcome`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from astraios_analysis.curves.mixture import KINDS, mean_weights
from astraios_analysis.prediction.chain import Chain, fit_chain
from astraios_analysis.prediction.direct import Direct, fit_direct
from astraios_analysis.prediction.limits import LEVELS, MIN_SIZES_TO_PREDICT, require_reach
from astraios_analysis.prediction.outcome import Outcome
from astraios_analysis.prediction.stack import SAME, Fresh, mixing
from astraios_analysis.records.notation import count
from astraios_analysis.records.refusal import Refusal


class Answers:
    """What is asked of every fitted ``outcome``, whichever way it is predicted: its ``methods`` and their weights."""

    outcome: Outcome
    methods: tuple[str, ...]

    @property
    def x_range(self) -> tuple[float, float]:
        """Smallest and largest size fitted."""
        return self.outcome.points.x_range

    def range_of(self, method: str) -> tuple[float, float]:
        """Smallest and largest size that a method is predicted from: those of all methods, which share laws."""
        return self.x_range

    @property
    def n_sizes(self) -> int:
        """Number of sizes fitted."""
        return len(self.outcome.points.sizes)

    @cached_property
    def weights(self) -> dict[str, float]:
        """Weights of the laws averaged, the mean over methods; those through the loss have the curve after its law."""
        return mean_weights(list(map(self.weights_of, self.methods)))


@dataclass(frozen=True)
class Fitted(Answers):
    """An outcome's laws, fitted; ``share`` is the weight of the way through the loss, 0 without it."""

    outcome: Outcome
    direct: Direct
    chain: Chain | None = None
    share: float = 0.0

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods fitted, in the order of draws."""
        return self.direct.methods

    def weights_of(self, method: str) -> dict[str, float]:
        """Weights of the laws averaged for one method: it may have no curve of its own, or no loss."""
        through = self.chain.weights_of(method) if self.chain is not None else {}
        share = self.share if through else 0.0
        found = {name: weight * (1 - share) for name, weight in self.direct.weights_of(method).items()}
        return found | {name: weight * share for name, weight in through.items()}

    def draw(self, n_params: float, fresh: Fresh = SAME) -> dict[str, np.ndarray]:
        """Draw values of all methods together, for one new run (``observation``) and for the law (``mean``).

        Each is of shape (N_DRAWS, n_methods). Draws of different sizes and kinds are the same draws; new runs that are
        looked at together differ by ``fresh`` numbers of their size's effect and of their own scatter.
        """
        drawn = self.direct.draw(n_params, fresh)
        if self.chain is not None and self.share:
            through = self.chain.draw(n_params, fresh)
            take = mixing(0) < self.share
            for kind, values in drawn.items():
                for place, method in enumerate(self.methods):
                    if method in through[kind]:
                        values[take, place] = through[kind][method][take]
        return {kind: self.outcome.turn(values) for kind, values in drawn.items()}

    def intervals(self, n_params: float, levels: Sequence[float] = LEVELS) -> "Intervals":
        """Return medians and intervals of all methods at a size."""
        return summarise(self.outcome, self.draw(n_params), self.methods, levels)


@dataclass(frozen=True)
class Intervals:
    """Medians, shape (n_methods,), and intervals by kind and level, each (2, n_methods)."""

    methods: tuple[str, ...]
    median: np.ndarray
    bounds: dict[tuple[str, float], np.ndarray]


def summarise(
    outcome: Outcome, drawn: dict[str, np.ndarray], methods: Sequence[str], levels: Sequence[float]
) -> Intervals:
    """Return what is printed and scored of draws: the median of a new run, and central intervals of both kinds."""
    probabilities = np.array([0.5, *(p for level in levels for p in ((1 - level) / 2, (1 + level) / 2))])
    bounds, median = {}, np.empty(0)
    for kind in KINDS:
        found = _quantiles(np.sort(drawn[kind].T, axis=1), probabilities)
        median = found[0] if kind == "observation" else median
        ends = outcome.end(found[1:])
        bounds |= {(kind, level): ends[2 * i : 2 * i + 2] for i, level in enumerate(levels)}
    return Intervals(tuple(methods), median, bounds)


def _quantiles(ordered: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return quantiles of rows in order, (k, n_rows), as `numpy.quantile` does, which selects for each anew."""
    place = probabilities * (ordered.shape[1] - 1)
    below = np.minimum(place.astype(int), ordered.shape[1] - 2)
    low, high = ordered[:, below].T, ordered[:, below + 1].T
    return low + (place - below)[:, None] * (high - low)


def fit_outcome(outcome: Outcome) -> Fitted:
    """Fit an outcome's laws and, where a score has losses beside it, the way through the loss."""
    try:
        direct = fit_direct(outcome)
    except Refusal as error:
        raise Refusal(f"{outcome.name}: {error}") from error
    if outcome.scores is None or outcome.losses is None:
        return Fitted(outcome, direct)
    try:
        chain = fit_chain(outcome.scores, outcome.losses)
    except Refusal:
        return Fitted(outcome, direct)
    return Fitted(outcome, direct, chain, _share(outcome))


def _share(outcome: Outcome) -> float:
    """Return how much of the mixture goes through the loss: by the largest size's densities, one half untested."""
    size = float(outcome.points.sizes[-1])
    smaller, test = outcome.below(size), outcome.points.keep(outcome.points.n_params == size)
    try:
        laws, chain = fit_direct(smaller), fit_chain(smaller.scores, smaller.losses)
    except Refusal:
        return 0.5
    direct, through = laws.draw(size)["observation"], chain.draw(size)["observation"]
    known = [(m, v) for m, v in zip(test.method.tolist(), test.y, strict=True) if m in laws.methods and m in through]
    if not known:
        return 0.5
    # The methods of one size share its size effect: together they count as one look.
    gain = [_log_density(through[m], v) - _log_density(direct[:, laws.methods.index(m)], v) for m, v in known]
    return float(1 / (1 + np.exp(np.clip(-np.mean(gain), -50, 50))))


def _log_density(draws: np.ndarray, value: float) -> float:
    """Return the log density of draws of a share at a value, normal on the logit scale."""
    z = np.log(np.clip(draws, 1e-6, 1 - 1e-6)) - np.log1p(-np.clip(draws, 1e-6, 1 - 1e-6))
    at = np.log(value) - np.log1p(-value)
    spread = max(float(z.std()), 1e-3)
    return -np.log(spread) - (at - float(z.mean())) ** 2 / (2 * spread**2)


def fit_supported(outcome: Outcome) -> Fitted:
    """Fit an outcome whose predictions may be shown: sizes enough for a back-test, and a method to test."""
    # Known without a fit, which takes a while.
    n_sizes, largest = len(outcome.points.sizes), outcome.points.sizes[-1]
    # Where others lend, one size less is enough.
    least = MIN_SIZES_TO_PREDICT - bool(outcome.lenders)
    if n_sizes < least:
        raise Refusal(
            f"{outcome.name}: measured at {count(n_sizes, 'size')}; a back-test holds out the largest, and "
            f"{n_sizes - 1} leave{'s' if n_sizes == 2 else ''} no interval to check, so the prediction's intervals "
            f"would rest on nothing. Measure {count(least - n_sizes, 'more size')}, {least} in all"
        )
    at_largest = set(outcome.points.method[outcome.points.n_params == largest])
    if not at_largest & set(outcome.points.below(largest).methods):
        raise Refusal(
            f"{outcome.name}: measured at {n_sizes} sizes, but the smaller ones predict no method of the largest, so "
            "nothing tests the prediction's intervals. Measure more methods at the largest"
        )
    return fit_outcome(outcome)


def require_near(fitted: Fitted, n_params: float, *, force: bool = False) -> float:
    """Return how far a size lies beyond those fitted; refuse it where that is too far, unless forced."""
    try:
        return require_reach(n_params, fitted.x_range, force=force)
    except Refusal as error:
        raise Refusal(f"{fitted.outcome.name}: {error}") from error
