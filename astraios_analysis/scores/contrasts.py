"""Paired contrasts of two methods: how far apart they are, how sure that is, and what would turn it.

All models answer the same problems, so that a difference is known better than either score. Two questions are kept
apart. *These models*: the trained models as they are, on other problems (problems resampled jointly). *Other models*:
trained again, with another seed. Problems and seeds are crossed, and the variance of the mean difference over S seeds
and n problems is that of the two-way layout (Searle, Casella & McCulloch 1992, chapter 4)::

    Var = [MS(problems) + max(MS(seeds) - MS(error), 0)] / (n S)

with Satterthwaite's degrees of freedom. With one run a model nothing is known of it; what is known is the standard
deviation of one run at which the interval would begin to include 0 (``tipping_sd``).
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from astraios_analysis.records.frame import RunRecord
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.registry import DATASETS, LOSS, METRICS, SECOND_FILE, TEXT_LOSSES
from astraios_analysis.scores.bootstrap import (
    NO_INTERVAL,
    RESAMPLES,
    ProblemBootstrap,
    percentile_interval,
    primary_score,
    problem_statistics,
)
from astraios_analysis.scores.models import group_models, mean_squares, model_scores, require_measure, require_one_grid
from astraios_analysis.scores.ranks import measured_datasets

REFERENCE = "fft"
THESE, OTHER = "these models", "other models"
TOKENS = "normal, errors over tokens as if independent: at most this"
ANSWERS = "normal, answers as if independent: at most this"
UNKNOWN = "one run a model: not known"
Model = tuple[int, str]
Pair = tuple[Model, Model]


@dataclass(frozen=True)
class Measured:
    """One quantity of a grid's models, by (base size, method).

    ``value`` are means over seeds, ``draws`` (n_draws,) the same for resampled problems, ``runs`` the value of every
    seed and ``shares`` its score problem by problem, where it is their plain mean; ``kind`` says how draws were made.
    What ``is_of_text`` has errors that models share and no record pairs: over seeds nothing is added for them.
    """

    name: str
    sizes: dict[int, str]
    value: dict[Model, float]
    draws: dict[Model, np.ndarray]
    runs: dict[Model, dict[int | None, float]]
    shares: dict[Model, dict[int | None, np.ndarray]]
    kind: dict[Model, str]
    higher_is_better: bool = True
    is_of_text: bool = False

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods measured at any size."""
        return tuple(dict.fromkeys(method for _, method in self.value))


def measure(records: Sequence[RunRecord], name: str, bootstrap: ProblemBootstrap = RESAMPLES) -> Measured:
    """Return a data set's primary score, or the validation loss (``val_loss``), of the models that are not held out."""
    kept = [record for record in records if not record.held_out]
    require_one_grid(kept)
    sizes = {r.n_params_base: r.size for r in sorted(kept, key=lambda r: r.n_params_base)}
    runs, shares, value, draws, kind = {}, {}, {}, {}, {}
    way = require_measure(records, name)
    is_of_text = way[0] in TEXT_LOSSES
    scores = model_scores(kept, name, bootstrap, way)
    for own in group_models(kept).values():
        model = (own[0].n_params_base, own[0].method)
        found = [(record, one) for record in own if (one := primary_score(record, name, way)) is not None]
        if not found:
            continue
        runs[model] = {record.seed: score.value for record, score in found}
        value[model] = float(np.mean(list(runs[model].values())))
        known = {record.seed: problem_statistics(record, score) for record, score in found}
        if all(one is not None and len(one) == 1 for one in known.values()):
            shares[model] = {seed: one[0] for seed, one in known.items()}
        place = scores.places[model[0]][model[1]]
        draws[model], kind[model] = scores.draws[:, place], TOKENS if is_of_text else scores.kinds[place]
    if not value:
        raise Refusal(f"no run has {name}; choose another data set or add runs")
    better = METRICS[way[0]].higher_is_better is not False
    return Measured(name, sizes, value, draws, runs, shares, kind, better, is_of_text)


def measure_rows(frame: pd.DataFrame, name: str, *, is_rate: bool, bootstrap: ProblemBootstrap) -> Measured:
    """Return the outcomes of a table's rows ``x, y, group, n_items``; rows of one size and method are its runs.

    Rates are drawn with the error of independent answers, which for answers to the same problems is the most it can be.
    """
    sizes = {n: f"{n:.4g}" for n in sorted(frame["x"].unique())}
    runs, value, draws, kind = {}, {}, {}, {}
    rng = np.random.default_rng(bootstrap.seed)
    for (n, method), rows in frame.groupby(["x", "group"], sort=False):
        model, y, n_items = (n, method), rows["y"].to_numpy(), rows["n_items"].to_numpy(dtype=float)
        # Nothing pairs the runs of a table.
        runs[model] = {(method, place): one for place, one in enumerate(y)}
        value[model] = float(y.mean())
        error = np.sqrt(np.mean(y * (1 - y) / n_items) / len(y)) if is_rate else np.nan
        draws[model] = value[model] + error * rng.standard_normal(bootstrap.n_draws)
        kind[model] = ANSWERS
    return Measured(name, sizes, value, draws, runs, {}, kind, is_rate)


def contrast(measured: Measured, pair: Pair, level: float = 0.95) -> list[dict]:
    """Return the difference of two models, b minus a: a row for these models and one for others.

    ``method_a, method_b, size, n_params, dataset, difference, stderr, lower, upper, level, scope, tipping_sd,
    interval``; None where not known, and ``tipping_sd`` where there is no conclusion to turn.
    """
    (size_a, method_a), (size_b, method_b) = pair
    a, b = pair
    difference, drawn = (weigh(of, {b: 1.0, a: -1.0}) for of in (measured.value, measured.draws))
    drawn = drawn[~np.isnan(drawn)]
    label = measured.sizes[size_b] if size_a == size_b else f"{measured.sizes[size_b]} against {measured.sizes[size_a]}"
    row = {"method_a": method_a, "method_b": method_b, "size": label, "n_params": size_b, "dataset": measured.name}
    row |= {"difference": difference, "stderr": None, "lower": None, "upper": None, "level": level}
    these, other = row | {"scope": THESE}, row | {"scope": OTHER}
    ways = "; ".join(dict.fromkeys((measured.kind[a], measured.kind[b])))
    these |= {"tipping_sd": None, "interval": ways if len(drawn) else NO_INTERVAL}
    variance = 0.0
    if len(drawn):
        variance = float(drawn.var(ddof=1))
        lower, upper = percentile_interval(drawn, level)
        tipping = tipping_sd(difference, variance, sum(1 / len(measured.runs[model]) for model in pair), level)
        these |= {"stderr": variance**0.5, "lower": lower, "upper": upper, "tipping_sd": tipping}
    other |= {"tipping_sd": these["tipping_sd"], "interval": UNKNOWN}
    if (total := _over_seeds(measured, pair, 0.0 if measured.is_of_text else variance)) is not None:
        error, dof = total
        half = stats.t.ppf((1 + level) / 2, dof) * error
        other |= {"stderr": error, "lower": difference - half, "upper": difference + half}
        other["interval"] = f"t({dof:.3g}), seeds" + ("" if measured.is_of_text else " and problems")
    return [these, other]


def weigh(values: Mapping[Model, Any], weights: Mapping[Model, float]) -> Any:
    """Return a weighted sum of models' values, or of their draws: a contrast."""
    return sum(weight * values[model] for model, weight in weights.items())


def tipping_sd(difference: float, variance: float, runs: float, level: float) -> float | None:
    """Return the SD of one run at which a normal interval would begin to include 0.

    Runs are independent; their variance enters the contrast's ``runs`` times: once over the runs of each of two models.
    """
    room = (difference / stats.norm.ppf((1 + level) / 2)) ** 2 - variance
    return float(np.sqrt(room / runs)) if room > 0 else None


def _over_seeds(measured: Measured, pair: Pair, variance: float) -> tuple[float, float] | None:
    """Return standard error and degrees of freedom over seeds and problems; None with one run a model.

    ``variance`` is that over problems. Runs of one seed are pairs where both models have the same seeds.
    """
    a, b = (measured.runs[model] for model in pair)
    if min(len(a), len(b)) < 2:
        return None
    shares = [measured.shares.get(model) for model in pair]
    sides = [(a, shares[0]), (b, shares[1])]
    if set(a) == set(b):
        is_known = all(shares) and len({len(one) for side in shares for one in side.values()}) == 1
        paired = {seed: shares[1][seed] - shares[0][seed] for seed in a} if is_known else None
        sides = [({seed: b[seed] - a[seed] for seed in a}, paired)]
    n_problems = min((len(next(iter(known.values()))) for _, known in sides if known), default=np.inf)
    total, squares = variance, variance**2 / (n_problems - 1)
    for values, per_problem in sides:
        n, mean_square = len(values), float(np.var(list(values.values()), ddof=1))
        noise = _error_variance(per_problem) if per_problem is not None else 0.0
        total += max(mean_square - noise, 0.0) / n
        squares += (mean_square / n) ** 2 / (n - 1)
    # Runs that are equal to the last digit leave no error and no doubt about it.
    return float(np.sqrt(total)), float(total**2 / squares) if squares > 0 else np.inf


def _error_variance(shares: dict[int | None, np.ndarray]) -> float:
    """Return what sampling of answers alone contributes to the variance of a run's mean: MS(error) / n."""
    table = np.stack(list(shares.values()))
    residual = table - table.mean(axis=0) - table.mean(axis=1, keepdims=True) + table.mean()
    seeds, n = table.shape
    return float((residual**2).sum() / ((seeds - 1) * (n - 1)) / n) if n > 1 else 0.0


def crossing(measured: Measured, method_a: str, method_b: str, level: float = 0.95) -> dict | None:
    """Return the size from which on the method ahead at the largest size is ahead; None with one size or none ahead.

    Differences are joined by straight lines in the logarithm of size. ``n_params`` is 0 where it is ahead at every
    size; ``lower`` and ``upper`` of the percentile interval over resampled problems are 0 below the smallest size and
    infinite above the largest; ``p_ahead`` is the share of resamples in which it is ahead at the largest.
    """
    sizes = [n for n in measured.sizes if {(n, method_a), (n, method_b)} <= measured.value.keys()]
    if len(sizes) < 2:
        return None
    values = np.array([measured.value[n, method_b] - measured.value[n, method_a] for n in sizes])
    if values[-1] == 0:
        return None
    drawn = np.stack([measured.draws[n, method_b] - measured.draws[n, method_a] for n in sizes], axis=1)
    drawn = drawn[~np.isnan(drawn).any(axis=1)]
    sign = -1.0 if values[-1] < 0 else 1.0
    found = _crossings(sign * np.vstack([values, drawn]), np.log(sizes))
    # An infinite draw has no neighbour to interpolate with.
    ends = [(1 - level) / 2, (1 + level) / 2]
    lower, upper = np.quantile(found[1:], ends, method="nearest") if len(drawn) else (np.nan, np.nan)
    row = {"dataset": measured.name, "method_a": method_a, "method_b": method_b, "n_params": float(found[0])}
    better = measured.higher_is_better == (sign > 0)
    row |= {"ahead": method_b if better else method_a, "from_size": measured.sizes[sizes[0]]}
    row |= {"to_size": measured.sizes[sizes[-1]], "lower": float(lower), "upper": float(upper), "level": level}
    return row | {"p_ahead": float(np.mean(np.isfinite(found[1:]))) if len(drawn) else np.nan}


def _crossings(values: np.ndarray, log_sizes: np.ndarray) -> np.ndarray:
    """Return where rows of differences (n, n_sizes) turn positive for good: 0 at once, infinite where they never do."""
    below = values <= 0
    last = below.shape[1] - 1 - below[:, ::-1].argmax(axis=1)
    found = np.where(below.any(axis=1), np.inf, 0.0)
    inside = below.any(axis=1) & (last < below.shape[1] - 1)
    row, left = np.flatnonzero(inside), last[inside]
    low, high = values[row, left], values[row, left + 1]
    found[inside] = np.exp(log_sizes[left] + (log_sizes[left + 1] - log_sizes[left]) * -low / (high - low))
    return found


def run_sd(records: Sequence[RunRecord], measured: Measured) -> tuple[float, str] | None:
    """Return what is known of the SD of one run, and from what: seeds, or second files of one model; None if nothing.

    As `tipping_sd` is, it is of runs that are independent: what the runs of a seed share cancels between methods. Two
    files of one model differ by sampling, and by what else their making differed in: the root mean square of their
    differences over the square root of two is a floor of the SD between training runs. The task with most such pairs
    stands for all.
    """
    of_sizes = [[runs for (n, _), runs in measured.runs.items() if n == size] for size in measured.sizes]
    squares, dof = np.concatenate([mean_squares(pd.DataFrame(own).to_numpy(float))[1] for own in of_sizes if own]).T
    if dof.any():
        words = f"seeds of {np.count_nonzero(dof)} models, beyond what the runs of a seed share"
        return float(np.sqrt(np.average(squares, weights=dof))), words
    if measured.name == LOSS:
        return None
    found: dict[str, list[float]] = {}
    for record in records:
        for score in record.scores:
            known, first = DATASETS.get(score.dataset), primary_score(record, score.dataset)
            if known and first and SECOND_FILE in score.setting and score.metric == known.primary_metric:
                found.setdefault(known.title.split()[0], []).append(first.value - score.value)
    if not found:
        return None
    task, pairs = max(found.items(), key=lambda item: len(item[1]))
    words = f"{len(pairs)} second files on {task}, one data set each: a floor, if only sampling differs"
    return float(np.sqrt(np.mean(np.square(pairs)) / 2)), words


def contrasts(
    measured: Measured,
    method_a: str,
    method_b: str,
    sizes: Sequence[int] | None = None,
    *,
    against: int | None = None,
    level: float = 0.95,
) -> list[dict]:
    """Compare two methods at every size that has both, or at those given: rows of `contrast`.

    With ``against``, method a is taken at that size.
    """
    for method in (method_a, method_b):
        if method not in measured.methods:
            raise Refusal(f"{method} has no {measured.name}; choose from {', '.join(measured.methods)}")
    pairs = [((n if against is None else against, method_a), (n, method_b)) for n in measured.sizes]
    pairs = [pair for pair in pairs if set(pair) <= measured.value.keys() and pair[0] != pair[1]]
    wanted = [pair for pair in pairs if sizes is None or pair[1][0] in sizes]
    if not wanted:
        at = ", ".join(measured.sizes[n] for _, (n, _) in pairs) or "no size"
        raise Refusal(f"{measured.name}: {method_a} and {method_b} can be compared at {at}; choose such a size")
    return [row for pair in wanted for row in contrast(measured, pair, level)]


def contrast_all(
    records: Sequence[RunRecord], *, level: float = 0.95, bootstrap: ProblemBootstrap = RESAMPLES
) -> pd.DataFrame:
    """Compare every method with full fine-tuning, or the first there is, on the loss and all data sets with a vote."""
    rows, kept = [], [record for record in records if not record.held_out]
    names = [name for name in measured_datasets(kept) if model_scores(kept, name, bootstrap).has_vote]
    for name in [LOSS] * any(record.val_loss is not None for record in kept) + names:
        measured = measure(kept, name, bootstrap)
        first = REFERENCE if REFERENCE in measured.methods else measured.methods[0]
        for method in measured.methods:
            with suppress(Refusal):
                rows += contrasts(measured, first, method, level=level) if method != first else []
    return pd.DataFrame(rows)
