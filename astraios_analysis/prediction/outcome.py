"""What is predicted, from records or a table of one's own: measured points of methods at sizes, and what goes along."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from astraios_analysis.curves.mixture import Link
from astraios_analysis.laws.tables import LOGARITHM, OF_PERCENT, SOURCE, read_labels, refuse_cells
from astraios_analysis.records.counts import inside_unit_interval, open_ends
from astraios_analysis.records.frame import RunRecord
from astraios_analysis.records.notation import count
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.registry import DATASETS, LOSS, LOSS_METRIC, METRICS, find_dataset
from astraios_analysis.records.schema import order_methods
from astraios_analysis.scores.bootstrap import NO_RESAMPLES, Measure, primary_score
from astraios_analysis.scores.models import (
    ModelScores,
    model_scores,
    require_measure,
    require_one_grid,
    share_of_seeds,
)

MIN_SIZES = 3
MIN_LENDERS = 3
MIN_LENT_SIZES = 3


@dataclass(frozen=True, eq=False)
class PooledPoints:
    """Measured points that a pooled law is conditioned on; equal where all numbers are, so that fits are remembered.

    ``n_params`` (sizes, positive), ``y`` (a loss, or a share strictly inside (0, 1) in which more is better; the mean
    over seeds), ``method`` and ``noise`` (known part of the variance on the link scale, up to a factor; 0 where none is
    known) have shape (n,), and so have ``run_variance`` (of one run around the mean over seeds, on the link scale; NaN
    where not known), ``seeds`` (runs behind a point), which are those of one run a point where they are not given, and
    ``together`` (the share of a run's variance that runs of its seed share with it at its size; 0 where not given).
    """

    n_params: np.ndarray
    y: np.ndarray
    method: np.ndarray
    noise: np.ndarray
    run_variance: np.ndarray | None = None
    seeds: np.ndarray | None = None
    together: np.ndarray | None = None

    @property
    def _key(self) -> tuple:
        numbers = (self.n_params, self.y, self.noise, self.run_variance, self.seeds, self.together)
        return tuple(self.method.tolist()), *(None if array is None else array.tobytes() for array in numbers)

    @property
    def n_seeds(self) -> float:
        """Mean number of runs behind a point."""
        return 1.0 if self.seeds is None else float(self.seeds.mean())

    @property
    def seed_variance(self) -> float:
        """Variance of one run around the mean over seeds, from the points that have several; 0 without any."""
        return self._ordinary(self.run_variance)

    def _ordinary(self, variance: np.ndarray | None) -> float:
        if variance is None or self.seeds is None or np.isnan(variance).all():
            return 0.0
        known = ~np.isnan(variance)
        if self.noise.any():
            # Near 0 and 1 the linearised variance of a rate explodes; the median is that of an ordinary model.
            return float(np.median(variance[known]))
        dof = self.seeds[known] - 1
        return float(variance[known] @ dof / dof.sum())

    @property
    def one_run_variances(self) -> tuple[float, float]:
        """Variances of one run beyond a mean over as many seeds as these points have: its seed's, and its own."""
        shared = 0.0 if self.together is None else self._ordinary(self.run_variance * self.together)
        more = 1 - 1 / self.n_seeds
        return shared * more, (self.seed_variance - shared) * more

    def __eq__(self, other: object) -> bool:
        """Whether all numbers are equal."""
        return isinstance(other, PooledPoints) and self._key == other._key

    def __hash__(self) -> int:
        """Return a hash of all numbers."""
        return hash(self._key)

    @cached_property
    def methods(self) -> tuple[str, ...]:
        """Methods in the usual order, whichever the points come in: draws go by it."""
        return tuple(order_methods(self.method.tolist()))

    @cached_property
    def by_method(self) -> np.ndarray:
        """Whether each point is each method's, as numbers (n, n_methods)."""
        return (self.method[:, None] == np.array(self.methods)).astype(float)

    @cached_property
    def by_size(self) -> np.ndarray:
        """Whether each point is at each size, as numbers (n, n_sizes)."""
        size = np.round(np.log10(self.n_params), 9)
        return (size[:, None] == np.unique(size)).astype(float)

    @property
    def sizes(self) -> np.ndarray:
        """Sizes, increasing."""
        return np.unique(self.n_params)

    @property
    def x_range(self) -> tuple[float, float]:
        """Smallest and largest size."""
        return float(self.n_params.min()), float(self.n_params.max())

    def keep(self, rows: np.ndarray) -> "PooledPoints":
        """Return the points that a boolean array keeps."""
        arrays = (self.n_params, self.y, self.method, self.noise, self.run_variance, self.seeds, self.together)
        return PooledPoints(*(None if array is None else array[rows] for array in arrays))

    def below(self, n_params: float) -> "PooledPoints":
        """Return the points of smaller sizes."""
        return self.keep(self.n_params < n_params)


def loss_points(records: Sequence[RunRecord]) -> PooledPoints:
    """Return the final validation losses of the runs that are not held out, averaged over seeds."""
    require_one_grid(records)
    kept = [record for record in records if not record.held_out and record.val_loss is not None]
    known = [(r.n_params_base, r.method, r.val_loss, r.seed) for r in kept]
    if not known:
        raise Refusal("these runs have no validation loss, so none is predicted; a grid trained here measures it")
    table = pd.DataFrame(known, columns=["x", "group", "y", "seed"])
    of_sizes = {n: own.pivot_table("y", "group", "seed").to_numpy(dtype=float) for n, own in table.groupby("x")}
    points = _average(table, "log", has_items=False)
    return replace(points, together=np.array([share_of_seeds(of_sizes[n]) for n in points.n_params]))


def score_points(scores: ModelScores) -> PooledPoints:
    """Return the scores of models that are not held out: shares in which more is better, inside (0, 1), or losses."""
    kept = scores.keep(~scores.table["held_out"].to_numpy(dtype=bool)) if len(scores.table) else scores
    if not len(kept.table):
        raise Refusal(f"no run has a score on {scores.dataset} to fit; add runs, or choose another data set")
    table, n_items = kept.table, kept.table["n_items"].to_numpy(dtype=float)
    metric, size = METRICS[kept.metric], table["n_params_base"].to_numpy(dtype=float)
    if metric.is_bounded:
        span = metric.upper - metric.lower
        p = inside_unit_interval(kept.good if span == 1 else (kept.good - metric.lower) / span, n_items)
        variance = p * (1 - p)
        noise, scale = 1 / (n_items * variance), (variance * span) ** 2
    else:
        p = table["value"].to_numpy(dtype=float)
        noise, scale = np.zeros(len(p)), p**2
    run_variance = table["seed_variance"].to_numpy(dtype=float) / scale
    method, seeds = table["method"].to_numpy(dtype=str), table["n_seeds"].to_numpy(dtype=float)
    return PooledPoints(size, p, method, noise, run_variance, seeds, kept.together)


def table_points(
    table: pd.DataFrame, x: str, y: str, group: Sequence[str], link: Link, n_items: str | float | None = None
) -> PooledPoints:
    """Return the points of rows (`take_rows`) by columns of sizes, outcomes and, if any, methods.

    Rows of one x and group are seeds.

    ``n_items``: the items behind each rate, a column or one number; with it rates may be 0 and 1.
    """
    frame = table_rows(table, x, y, group, n_items)
    counts = frame["n_items"].to_numpy(dtype=float) if n_items is not None else None
    where, rates = table.attrs.get(SOURCE, "the table"), frame["y"].to_numpy()
    if link == "log":
        refuse_cells(table, y, rates <= 0, where, LOGARITHM)
    else:
        refuse_cells(table, y, (rates < 0) | (rates > 1), where, "between 0 and 1", OF_PERCENT)
        if counts is None:
            remedy = "name the items behind each rate: --n-items COLUMN, or a number"
            refuse_cells(table, y, (rates == 0) | (rates == 1), where, "inside 0 and 1, to have a logit", remedy)
    return _average(frame, link, has_items=counts is not None)


def table_rows(
    table: pd.DataFrame, x: str, y: str, group: Sequence[str], n_items: str | float | None = None
) -> pd.DataFrame:
    """Return rows as ``x, y, group, n_items``; labels of several columns joined by /."""
    frame = pd.DataFrame({"x": table[x].to_numpy(dtype=float), "y": table[y].to_numpy(dtype=float)})
    frame["group"] = read_labels(table, group, "")
    return frame.assign(n_items=table[n_items].to_numpy(dtype=float) if isinstance(n_items, str) else n_items)


def _average(frame: pd.DataFrame, link: Link, has_items: bool) -> PooledPoints:
    """Average replicates, with their variance on the link scale; those of a rate are runs on the same items."""
    grouped = frame.groupby(["x", "group"], sort=True)
    means = grouped["y"].mean().reset_index()
    size, y, method = (
        means["x"].to_numpy(dtype=float),
        means["y"].to_numpy(dtype=float),
        means["group"].to_numpy(dtype=str),
    )
    seeds, noise = grouped.size().to_numpy(dtype=float), np.zeros(len(y))
    if has_items:
        n_items = grouped["n_items"].mean().to_numpy(dtype=float)
        y = inside_unit_interval(y, n_items)
        noise = 1 / (n_items * y * (1 - y))
        return PooledPoints(size, y, method, noise, grouped["y"].var().to_numpy() / (y * (1 - y)) ** 2, seeds)
    z = np.log(frame["y"]) if link == "log" else np.log(frame["y"] / (1 - frame["y"]))
    return PooledPoints(size, y, method, noise, z.groupby([frame["x"], frame["group"]]).var().to_numpy(), seeds)


def require_usable(points: PooledPoints, link: Link) -> None:
    """Refuse points that no law can be fitted to."""
    for name, values in (("size", points.n_params), ("value", points.y), ("noise", points.noise)):
        if not np.all(np.isfinite(values)):
            raise Refusal(f"a {name} is missing or not finite; leave such points out")
    if len(points.y) == 0:
        raise Refusal(
            "no point is left to fit; every one is held out or none was chosen: add points, or hold out fewer"
        )
    if np.any(points.n_params <= 0):
        raise Refusal(f"sizes must be positive; the smallest is {points.n_params.min():g}: correct it")
    require_linked(points.y, link)
    n_sizes = len(points.sizes)
    if n_sizes < MIN_SIZES:
        raise Refusal(f"{count(n_sizes, 'size')}; a law and its error need {MIN_SIZES}: measure more")


def require_linked(y: np.ndarray, link: Link) -> None:
    """Refuse outcomes that have no value on their link scale."""
    upper = 1.0 if link == "logit" else np.inf
    wrong = (y <= 0) | (y >= upper)
    if np.any(wrong):
        raise Refusal(f"value {y[wrong][0]:g} is outside (0, {upper:g}); it has no {link}")


@dataclass(frozen=True)
class Lender:
    """Another data set's points, and the share with which they count: one over the number of those of its family."""

    name: str
    points: PooledPoints
    share: float


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
    losses: "Outcome | None" = None
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
        ways |= {"scores": scores, "losses": record_outcome(kept, LOSS)}
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
    """Return a column of a table as an outcome of another column (`table_points`)."""
    group = [group] if isinstance(group, str) else list(group or [])
    points, rows = table_points(table, x, y, group, link, n_items), table_rows(table, x, y, group, n_items)
    runs = pd.DataFrame({"n_params": rows["x"], "method": rows["group"], "value": rows["y"]})
    runs = runs.assign(size=runs["n_params"].map("{:g}".format), seed=None, n_items=rows["n_items"])
    mean = None if n_items is None else float(rows["n_items"].mean())
    ways = {"higher_is_better": link == "logit", "n_items": mean}
    return Outcome(y, y, link, points, runs.sort_values("n_params", kind="stable"), **ways)
