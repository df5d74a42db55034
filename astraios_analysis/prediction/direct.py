"""An outcome by its size: laws that methods share, mixed with each method's own curve by sizes left out.

Shared laws (`stack`) need few sizes, and err where a method's floor and exponent are its own, or where curves bend as
none of them does. A method's own curve (`curves.forecast`) follows it there, and knows nothing of the others. Both
predict the outcomes at the largest size from the smaller ones, then at the second largest; weights maximise the log
score of the mixture, each size counting as one look and equal weights as one more. A curve needs four sizes. Of losses
at four, which leave no size to judge by, each way has half the weight; rates scatter too much for that, and their
curves wait for a fifth size. Beyond eight sizes, curves speak alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import logit, ndtri
from scipy.stats import kendalltau

from astraios_analysis.curves.forecast import CurveSet, fit_curves
from astraios_analysis.curves.mixture import KINDS, Forecast, Link, drawn_forecast, to_link
from astraios_analysis.prediction.outcome import Outcome, PooledPoints
from astraios_analysis.prediction.stack import N_DRAWS, SAME, Fresh, Stack, fit_stack, mixing, weigh
from astraios_analysis.prediction.suite import fit_suite
from astraios_analysis.records.refusal import Refusal

Progress = Callable[[Sequence], Sequence]
# A curve's laws have up to four parameters, a line two.
ENOUGH_FOR_CURVES = 4
_N_LOOKS = 2
# Kendall's tau, below which a loss that rises may be one that is flat.
_SURELY_RISES = 0.8
# Beyond these there is nothing to pool that a curve does not show by itself, and looks cost seconds.
_MAX_SIZES, _MAX_POINTS = 8, 72


@dataclass(frozen=True)
class OwnCurves:
    """Each method's own curve, those of too few sizes left out; ``signs`` turn outcomes round that rise (1 or -1)."""

    link: Link
    methods: tuple[str, ...]
    fitted: CurveSet
    signs: tuple[int, ...]

    def forecast(self, method: str, x: np.ndarray) -> Forecast:
        """Forecast a method at sizes."""
        place = self.methods.index(method)
        found, sign = self.fitted.forecast(place, x), self.signs[place]
        return found.map(lambda z, scales: (sign * z, scales), link=self.link)


def rows_by_method(outcome: Outcome) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return sizes and outcomes of every method: of losses each run, of rates the means over seeds."""
    points = outcome.points
    if outcome.link == "logit":
        return {m: (points.n_params[points.method == m], points.y[points.method == m]) for m in points.methods}
    own = outcome.runs.groupby("method", sort=False)
    return {m: (of["n_params"].to_numpy(dtype=float), of["value"].to_numpy(dtype=float)) for m, of in own}


def fit_own_curves(outcome: Outcome, progress: Progress | None = None) -> OwnCurves:
    """Fit the curve of each method that has sizes enough.

    ``progress`` wraps the sequence of curves; without it the same rows are fitted once.
    """
    rows = rows_by_method(outcome)
    n_short = sum(len(np.unique(x)) < ENOUGH_FOR_CURVES for x, _ in rows.values())
    if 2 * n_short > len(rows):
        raise Refusal(
            f"{n_short} of {len(rows)} groups have fewer than {ENOUGH_FOR_CURVES} different inputs for a curve"
        )
    rows = {m: (x, y) for m, (x, y) in rows.items() if len(np.unique(x)) >= ENOUGH_FOR_CURVES}
    signs = {m: -1 if _rises(np.log(x), y, outcome.link) else 1 for m, (x, y) in rows.items()}
    # Odds of what falls, or one over a loss that rises: the laws fall towards a floor.
    turn = np.power if outcome.link == "log" else lambda y, sign: np.exp(sign * logit(y))
    rows = {m: (x, turn(y, signs[m])) for m, (x, y) in rows.items()}
    key = tuple((x.tobytes(), y.tobytes()) for x, y in rows.values())
    fitted = _fit_once(key) if progress is None else fit_curves(list(rows.values()), progress)
    return OwnCurves(outcome.link, tuple(rows), fitted, tuple(signs.values()))


def _rises(log_x: np.ndarray, y: np.ndarray, link: Link) -> bool:
    """Whether an outcome rises with the input: a loss, which should not, only where nearly every row says so."""
    return np.polyfit(log_x, y, 1)[0] > 0 if link == "logit" else kendalltau(log_x, y).statistic > _SURELY_RISES


@lru_cache(maxsize=64)
def _fit_once(rows: tuple[tuple[bytes, bytes], ...]) -> CurveSet:
    return fit_curves([(np.frombuffer(x), np.frombuffer(y)) for x, y in rows])


@dataclass(frozen=True, eq=False)
class Direct:
    """Laws of size that methods share, and ``share``, the weight of each method's own curve beside them."""

    stack: Stack
    curves: OwnCurves | None = None
    share: float = 0.0

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods fitted, in the order of draws."""
        return self.stack.methods

    def weights_of(self, method: str) -> dict[str, float]:
        """Weights of a method's laws: of those that methods share by law and pooling, of its own curve by law."""
        if self.curves is None or method not in self.curves.methods:
            return self.stack.weights
        own = self.curves.fitted.posterior(self.curves.methods.index(method)).weights
        shared = {name: weight * (1 - self.share) for name, weight in self.stack.weights.items()}
        return shared | {f"{law}/own_curve": weight * self.share for law, weight in own.items()}

    def draw(self, n_params: float, fresh: Fresh = SAME) -> dict[str, np.ndarray]:
        """Draw outcomes of all methods at one size together, as `stack.Stack.draw`.

        A draw follows the methods' own curves, or none does. How far it lies off a curve is as far, in normal scores,
        as it lies off the shared laws at the largest size fitted: what methods share at a size they share there, too.
        """
        drawn = self.stack.draw(n_params, fresh)
        if self.curves is None or not self.share:
            return drawn
        taken, places, scores = _taken(self, fresh)
        for place, method in enumerate(self.methods):
            if method in self.curves.methods:
                forecast = self.curves.forecast(method, np.array([float(n_params)]))
                for kind, values in drawn.items():
                    values[taken, place] = forecast.draw(places, scores[kind][place], kind)[:, 0]
        return drawn

    def forecast(self, method: str, x: np.ndarray) -> Forecast:
        """Forecast a method at sizes, by its draws."""
        # Methods are asked for one by one, at the same sizes.
        place, drawn = self.methods.index(method), [_draw_once(self, float(one)) for one in x]
        by_kind = {
            kind: np.stack([to_link(one[kind][:, place], self.stack.link) for one in drawn], 1) for kind in KINDS
        }
        return drawn_forecast(by_kind, self.weights_of(method), self.stack.link)


@lru_cache(maxsize=16)
def _taken(direct: Direct, fresh: Fresh) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Return which draws follow own curves, where among a curve's parts, and at which normal scores, (n_methods, n)."""
    chosen, drawn = mixing(2), direct.stack.draw(direct.stack.points.x_range[1], fresh)
    taken = np.flatnonzero(mixing(1) < direct.share)
    taken = taken[np.argsort(chosen[taken])]
    ranks = {kind: values.argsort(axis=0, kind="stable").argsort(axis=0) for kind, values in drawn.items()}
    return taken, chosen[taken], {kind: ndtri((rank[taken].T + 0.5) / N_DRAWS) for kind, rank in ranks.items()}


@lru_cache(maxsize=64)
def _draw_once(direct: Direct, n_params: float) -> dict[str, np.ndarray]:
    return direct.draw(n_params)


def fit_direct(outcome: Outcome) -> Direct:
    """Fit laws of size alone: the one of the outcome's suite, or those of the outcome by itself."""
    if outcome.lenders:
        return Direct(fit_suite(outcome.points, outcome.lenders))
    stack = fit_stack(outcome.points, outcome.link)
    try:
        curves = fit_own_curves(outcome)
    except Refusal:
        return Direct(stack)
    share = _share_of_curves(outcome)
    return Direct(stack, curves, share) if share else Direct(stack)


def is_pooled(points: PooledPoints) -> bool:
    """Whether sizes and points are so few that what methods share adds to their own curves."""
    return len(points.sizes) <= _MAX_SIZES and len(points.y) <= _MAX_POINTS


def _share_of_curves(outcome: Outcome) -> float:
    """Return the weight of own curves; that of rates is 0 where no size that is left out can judge them."""
    if not is_pooled(outcome.points):
        return 1.0
    prior, looks = np.array([0.5, 0.5]), []
    for size in outcome.points.sizes[::-1][:_N_LOOKS]:
        smaller, test = outcome.below(float(size)), outcome.points.keep(outcome.points.n_params == size)
        try:
            curves, stack = fit_own_curves(smaller), fit_stack(smaller.points, outcome.link)
        except Refusal:
            break
        test = test.keep(np.isin(test.method, curves.methods))
        if len(test.y):
            z = to_link(test.y, outcome.link)
            at = [(m, np.array([size]), np.array([one])) for m, one in zip(test.method.tolist(), z, strict=True)]
            own = [curves.forecast(method, x).log_density(one)[0] for method, x, one in at]
            looks.append(np.array([stack.log_density(test), own]))
    return float(weigh(prior, looks)[1]) if looks or outcome.link == "log" else 0.0
