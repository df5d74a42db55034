"""Outcomes at sizes that nobody has measured: one procedure, fitted once and asked for any size.

A loss, or a column of a table, has its own laws of size (`stack`). The scores of a grid's data sets have one law
together (`suite`) where they are enough to lend one another something, and each its own laws where not. Where the grid
has losses a score is also predicted through the loss, size to loss to score (`chain`), and the two are mixed by how
likely each makes the scores of the largest fitted size after being fitted to the smaller ones. Whatever is said of an
unmeasured size (commands, figures, explorer, report, plans) comes from `fit_outcome`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from astraios_analysis.curves.mixture import KINDS, Link
from astraios_analysis.prediction.chain import Chain, fit_chain
from astraios_analysis.prediction.limits import LEVELS, MIN_SIZES_TO_PREDICT, require_reach
from astraios_analysis.prediction.points import PooledPoints, loss_points, score_points, table_points, table_rows
from astraios_analysis.prediction.stack import N_DRAWS, Stack, fit_stack, sobol
from astraios_analysis.prediction.suite import MIN_LENDERS, MIN_LENT_SIZES, Lender, fit_suite
from astraios_analysis.records.counts import inside_unit_interval, open_ends
from astraios_analysis.records.frame import RunRecord
from astraios_analysis.records.notation import count
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.registry import DATASETS, LOSS, LOSS_METRIC, METRICS, find_dataset
from astraios_analysis.scores.bootstrap import NO_RESAMPLES, Measure, primary_score
from astraios_analysis.scores.models import ModelScores, model_scores, require_measure

_LENDING = ("generation", "robustness")


@dataclass(frozen=True)
class Outcome:
    """What is predicted, and what it is predicted from.

    ``points`` are means over seeds in which, for a share, more is better; ``runs`` are single runs as measured, with
    ``size, n_params, method, seed, value, n_items``. ``scores`` and ``losses`` are there where a score can be predicted
    through the loss. ``n_items`` is the mean number of problems behind a share, None for others. ``lenders`` are other
    data sets of the grid, of which the law of a score is learned too. ``span`` are the ends of the metric's range, of
    which laws see shares.
    """

    name: str
    metric: str
    link: Link
    points: PooledPoints
    runs: pd.DataFrame
    scores: ModelScores | None = None
    losses: PooledPoints | None = None
    higher_is_better: bool = True
    n_items: float | None = None
    lenders: tuple[Lender, ...] = ()
    span: tuple[float, float] = (0.0, 1.0)

    def below(self, n_params: float) -> "Outcome":
        """Return the same outcome as if it had been measured at smaller sizes only; lenders keep theirs."""
        scores, losses = self.scores, self.losses
        if scores is not None and losses is not None:
            scores = scores.keep((scores.table["n_params_base"] < n_params).to_numpy())
            losses = losses.below(n_params)
        runs = self.runs[self.runs["n_params"] < n_params]
        return replace(self, points=self.points.below(n_params), runs=runs, scores=scores, losses=losses)

    def turn(self, good: np.ndarray) -> np.ndarray:
        """Return values of the metric for what laws are of: losses, or shares of its range in which more is better."""
        if self.link == "log":
            return good
        share = good if self.higher_is_better else 1.0 - good
        return self.span[0] + share * (self.span[1] - self.span[0])

    def share(self, values: np.ndarray) -> np.ndarray:
        """Return values of the metric as shares of its range."""
        return (values - self.span[0]) / (self.span[1] - self.span[0])

    def goodness(self, values: np.ndarray) -> np.ndarray:
        """Turn values round where less is better, so that more is."""
        return values if self.higher_is_better else (0.0 if self.link == "log" else sum(self.span)) - values

    def inside(self, values: np.ndarray, n_items: np.ndarray | float | None) -> np.ndarray:
        """Return values as predictions are scored against them: shares half a problem inside (0, 1), or losses."""
        if self.link == "log" or n_items is None:
            return values
        return inside_unit_interval(self.share(values), n_items)

    def end(self, bounds: np.ndarray) -> np.ndarray:
        """Let ends of intervals reach 0 and 1 where so many problems cannot tell them from it."""
        if self.n_items is None:
            return bounds
        share = self.share(bounds)
        opened = open_ends(share, self.n_items)
        return np.where(opened == share, bounds, self.span[0] + opened * (self.span[1] - self.span[0]))


def measured_runs(records: Sequence[RunRecord], name: str, measure: Measure | None = None) -> pd.DataFrame:
    """Return every run that has the loss or a data set's score by a measure, smallest size first."""
    rows, measure = [], measure or require_measure(records, name)
    for record in sorted(records, key=lambda r: r.n_params_base):
        score = primary_score(record, name, measure)
        if score is not None:
            n_items = None if name == LOSS else score.n_items
            rows.append((record.size, float(record.n_params_base), record.method, record.seed, score.value, n_items))
    return pd.DataFrame(rows, columns=["size", "n_params", "method", "seed", "value", "n_items"])


def record_outcome(records: Sequence[RunRecord], name: str, measure: Measure | None = None) -> Outcome:
    """Return the loss (``val_loss``) or a data set's score of the runs of a grid that are not held out.

    The score is by a measure: the one that stands for the data set among these runs, unless another is given.
    """
    measure = measure or require_measure(records, name)
    kept = [record for record in records if not record.held_out]
    runs = measured_runs(kept, name, measure)
    if name == LOSS:
        return Outcome(LOSS, LOSS_METRIC, "log", loss_points(kept), runs, higher_is_better=False)
    scores, metric = model_scores(kept, name, NO_RESAMPLES, measure), METRICS[measure[0]]
    points, link = score_points(scores), "logit" if metric.is_bounded else "log"
    ways: dict = {"higher_is_better": scores.higher_is_better}
    if metric.is_bounded:
        ways |= {"n_items": float(scores.table["n_items"].mean()), "span": (metric.lower, metric.upper)}
    elif scores.higher_is_better:
        raise Refusal(f"{name}: {metric.name} grows without end, and no law here does; declare its largest value")
    else:
        return Outcome(name, metric.name, link, points, runs, **ways)
    if any(record.val_loss is not None for record in kept):
        ways |= {"scores": scores, "losses": loss_points(kept)}
    return Outcome(name, metric.name, link, points, runs, **ways, lenders=_lenders(kept, name))


def _lenders(records: Sequence[RunRecord], name: str) -> tuple[Lender, ...]:
    """Return the data sets of programs that can lend to one of them, none where they are too few."""
    own, found = find_dataset(name), {}
    if own.kind not in _LENDING:
        return ()
    # A mean lends nothing, and borrows nothing from what it is the mean of.
    suite = DATASETS[own.parts[0]].suite if own.parts else own.suite
    for other, data in DATASETS.items():
        apart = data.family != own.family and other not in own.parts
        if data.kind in _LENDING and data.suite == suite and apart:
            scores = model_scores(records, other, NO_RESAMPLES)
            if len(scores.table) and scores.table["n_params_base"].nunique() >= MIN_LENT_SIZES:
                found[other] = score_points(scores)
    families = [DATASETS[other].family for other in found]
    lenders = tuple(Lender(other, p, 1 / families.count(DATASETS[other].family)) for other, p in found.items())
    return lenders if len(lenders) >= MIN_LENDERS else ()


def table_outcome(
    table: pd.DataFrame,
    x: str,
    y: str,
    group: str | Sequence[str] | None,
    link: Link,
    n_items: str | float | None = None,
) -> Outcome:
    """Return a column of a table as an outcome of another column (`points.table_points`)."""
    group = [group] if isinstance(group, str) else list(group or [])
    points, rows = table_points(table, x, y, group, link, n_items), table_rows(table, x, y, group, n_items)
    runs = pd.DataFrame({"n_params": rows["x"], "method": rows["group"], "value": rows["y"]})
    runs = runs.assign(size=runs["n_params"].map("{:g}".format), seed=None, n_items=rows["n_items"])
    mean = None if n_items is None else float(rows["n_items"].mean())
    ways = {"higher_is_better": link == "logit", "n_items": mean}
    return Outcome(y, y, link, points, runs.sort_values("n_params", kind="stable"), **ways)


@dataclass(frozen=True)
class Fitted:
    """An outcome's laws, fitted; ``share`` is the weight of the way through the loss, 0 without it."""

    outcome: Outcome
    stack: Stack
    chain: Chain | None = None
    share: float = 0.0

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods fitted, in the order of draws."""
        return self.stack.methods

    @property
    def x_range(self) -> tuple[float, float]:
        """Smallest and largest size fitted."""
        return self.outcome.points.x_range

    @property
    def n_sizes(self) -> int:
        """Number of sizes fitted."""
        return len(self.outcome.points.sizes)

    @property
    def weights(self) -> dict[str, float]:
        """Weights of the laws averaged, those through the loss by the law of the loss and the curve after it."""
        found = {name: weight * (1 - self.share) for name, weight in self.stack.weights.items()}
        if self.chain is not None:
            found |= {name: weight * self.share for name, weight in self.chain.weights.items()}
        return found

    def draw(self, n_params: float) -> dict[str, np.ndarray]:
        """Draw values of all methods together, for one new run (``observation``) and for the law (``mean``).

        Each is of shape (N_DRAWS, n_methods). Draws of different sizes and kinds are the same draws.
        """
        drawn = self.stack.draw(n_params)
        if self.chain is not None and self.share:
            through = self.chain.draw(n_params)
            take = _mixing() < self.share
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


def _mixing() -> np.ndarray:
    """Return the number in (0, 1) that decides, draw by draw, which of two ways is taken."""
    return sobol(N_DRAWS, 1)[:, 0][np.random.default_rng(0).permutation(N_DRAWS)]


def fit_outcome(outcome: Outcome) -> Fitted:
    """Fit an outcome's laws and, where a score has losses beside it, the way through the loss."""
    try:
        stack = fit_directly(outcome)
    except Refusal as error:
        raise Refusal(f"{outcome.name}: {error}") from error
    if outcome.scores is None or outcome.losses is None:
        return Fitted(outcome, stack)
    try:
        chain = fit_chain(outcome.scores, outcome.losses)
    except Refusal:
        return Fitted(outcome, stack)
    return Fitted(outcome, stack, chain, _share(outcome))


def fit_directly(outcome: Outcome) -> Stack:
    """Fit the laws of size alone: those of an outcome by itself, or the one of its suite."""
    if outcome.lenders:
        return fit_suite(outcome.points, outcome.lenders)
    return fit_stack(outcome.points, outcome.link)


def _share(outcome: Outcome) -> float:
    """Return how much of the mixture goes through the loss: by the largest size's densities, one half untested."""
    size = float(outcome.points.sizes[-1])
    smaller, test = outcome.below(size), outcome.points.keep(outcome.points.n_params == size)
    try:
        stack, chain = fit_directly(smaller), fit_chain(smaller.scores, smaller.losses)
    except Refusal:
        return 0.5
    direct, through = stack.draw(size)["observation"], chain.draw(size)["observation"]
    known = [(m, v) for m, v in zip(test.method.tolist(), test.y, strict=True) if m in stack.methods and m in through]
    if not known:
        return 0.5
    # The methods of one size share its size effect: together they count as one look.
    gain = [_log_density(through[m], v) - _log_density(direct[:, stack.methods.index(m)], v) for m, v in known]
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
            f"{n_sizes - 1} leave no interval to check, so the prediction's intervals would rest on nothing. Measure "
            f"another size, {least} in all"
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
