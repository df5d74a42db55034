"""Predict scores at sizes nobody has measured, say how sure that is, and refuse what the data cannot support."""

from collections.abc import Mapping, Sequence

import numpy as np

from astraios_analysis.laws import holdouts
from astraios_analysis.records.frame import RunRecord
from astraios_analysis.records.notation import count, parse_number
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.registry import order_datasets
from astraios_analysis.scores.bootstrap import Measure, primary_measures, primary_score
from astraios_analysis.scores.models import require_measure

# Beyond ten times the largest fitted size the released grid (a factor of 13.6 in all) says next to nothing.
MAX_REACH = 10.0
# A back-test holds out the largest size; two sizes that are left give a line, and no interval to check.
MIN_SIZES_TO_PREDICT = 4
LEVELS = (0.5, 0.8, 0.95)


def parse_size(text: str, known: dict[str, int] | None = None) -> float:
    """Return the number of parameters that a size names."""
    label = text.strip().lower()
    for name, n_params in (known or {}).items():
        if name.lower() == label:
            return float(n_params)
    try:
        n_params = float(parse_number(text))
    except Refusal:
        n_params = 0.0
    if not 0 < n_params < float("inf"):
        labels = f" ({', '.join(known)})" if known else ""
        raise Refusal(
            f"size {text!r} is not understood; give a measured size{labels}, a number with a unit such as 34b or 350m, "
            "or a number of parameters such as 3.4e10"
        )
    return n_params


def reach(n_params: float, x_range: tuple[float, float]) -> float:
    """Return how many times a size lies beyond the fitted range; 1 inside it."""
    return float(holdouts.reach(np.array([n_params]), *x_range)[0])


def predictable_datasets(records: Sequence[RunRecord]) -> list[str]:
    """Return the data sets with primary scores at three or more sizes that are not held out, in the usual order."""
    measures = primary_measures(records)
    return [name for name in order_datasets(measures) if len(_sizes(records, name, measures[name])) >= 3]


def require_predictable(records: Sequence[RunRecord], dataset: str) -> None:
    """Refuse data sets whose scores a law of size cannot be fitted to."""
    sizes = _sizes(records, dataset, require_measure(records, dataset))
    if len(sizes) < 3:
        known = ", ".join(predictable_datasets(records)) or "none: no data set has scores at three sizes"
        shown = f"only {', '.join(sizes)}" if sizes else "nothing"
        raise Refusal(
            f"{dataset}: {shown} measured; a line and its error need at least 3 sizes. Measure "
            f"{count(3 - len(sizes), 'more size')}, or choose from {known}"
        )


def _sizes(records: Sequence[RunRecord], dataset: str, measure: Measure) -> list[str]:
    """Return labels of the sizes at which a data set's primary score is measured and not held out.

    Where sizes have several methods, one with a single method is no size: the two would not be told apart.
    """
    fitted = [r for r in records if not r.held_out and primary_score(r, dataset, measure) is not None]
    found: dict[tuple[int, str], set[str]] = {}
    for record in fitted:
        found.setdefault((record.n_params_base, record.size), set()).add(record.method)
    least = 2 if max(map(len, found.values()), default=0) > 2 else 1
    return [size for (_, size), methods in sorted(found.items()) if len(methods) >= least]


def require_reach(n_params: float, x_range: tuple[float, float], *, force: bool) -> float:
    """Return how far a size lies beyond the fitted range; refuse it beyond `MAX_REACH`, unless forced."""
    beyond = reach(n_params, x_range)
    if beyond > MAX_REACH and not force:
        raise Refusal(
            f"{n_params:.4g} parameters lie {beyond:.4g} times beyond the fitted range "
            f"({x_range[0]:.4g} to {x_range[1]:.4g}); the limit is {MAX_REACH:g} times. "
            "Add runs nearer to that size, or insist with --force"
        )
    return beyond


def score_values(
    measured: np.ndarray, log_centre: np.ndarray, bounds: Mapping[float, tuple[np.ndarray, np.ndarray]]
) -> dict:
    """Return errors, coverage and interval score of predictions of positive values, shape (n,).

    Errors and the score (of the 95 % interval) are of the logarithm; ``bounds`` holds an interval for each of `LEVELS`.
    """
    error = log_centre - np.log(measured)
    low, high = (np.log(b) for b in bounds[0.95])
    return {
        "n_test": len(measured),
        "rmse_log": float(np.sqrt(np.mean(error**2))),
        "mean_abs_pct": float(100 * np.mean(np.abs(np.exp(error) - 1))),
        "coverage": {f"{k:g}": float(np.mean((b[0] <= measured) & (measured <= b[1]))) for k, b in bounds.items()},
        "interval_score": interval_score(np.log(measured), low, high, 0.95),
    }


def interval_score(measured: np.ndarray, lower: np.ndarray, upper: np.ndarray, level: float) -> float:
    """Return the mean interval score: width, plus 2 / (1 - level) times the distance of what falls outside.

    Gneiting and Raftery 2007; lower is better.
    """
    outside = np.maximum(lower - measured, 0) + np.maximum(measured - upper, 0)
    return float(np.mean(upper - lower + 2 / (1 - level) * outside))
