"""Scale transfer as a regression: scores at a large size on scores at a small one, methods as points, errors in both.

Problems leave an error in both scores, shared between methods and sizes because all models answer the same problems.
Least squares on such scores is drawn towards a slope of 0. With S the covariance (divisor k - 1) over k methods, the
slope of what the scores are without error (Fuller 1987, section 2.5: known error covariances, error in the equation)
and the intercept, at the methods' mean small score, are::

    slope = (S_xy - E_xy) / (S_xx - E_xx),    intercept = mean(y)

where E are the parts of S that errors cause, from one joint resample of problems (and of seeds, where there are
several). The methods are those compared: nothing is said of others. The interval is that of resampled slopes; as these
carry the errors twice, E is taken off twice there. (Fieller's interval covers as often in simulated worlds, is wider,
and more often has no end.) Where small scores may differ by error alone there is no slope.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from astraios_analysis.records.frame import RunRecord
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.scores.bootstrap import RESAMPLES, ProblemBootstrap
from astraios_analysis.scores.models import ModelScores, model_scores

MIN_METHODS = 4


def errors_in_both(
    x: np.ndarray, y: np.ndarray, drawn_x: np.ndarray, drawn_y: np.ndarray, level: float
) -> dict[str, float]:
    """Return the line of y on x, values (k,) that are known with the errors of joint resamples (n_draws, k).

    ``slope, slope_lower, slope_upper``, the SD round the line (``scatter``), and ``reliability``, the share of the
    variance of x that is not error: alone where x may vary by error alone.
    """
    off_x, off_y = drawn_x - drawn_x.mean(axis=0), drawn_y - drawn_y.mean(axis=0)
    e_xx, e_xy, e_yy = (_covariance(a, b).mean() for a, b in ((off_x, off_x), (off_x, off_y), (off_y, off_y)))
    s_xx, s_xy, s_yy = _covariance(x, x) - e_xx, _covariance(x, y) - e_xy, _covariance(y, y) - e_yy
    reliability = float(max(s_xx, 0.0) / (s_xx + e_xx)) if s_xx + e_xx > 0 else 0.0
    spread = _covariance(drawn_x, drawn_x) - 2 * e_xx
    has_slope = spread > 0
    if s_xx <= 0 or np.mean(~has_slope) > (1 - level) / 2:
        return {"reliability": reliability}
    slopes = (_covariance(drawn_x, drawn_y) - 2 * e_xy) / np.where(has_slope, spread, 1.0)
    # A resample without a slope could have any; between an infinite one and its neighbour there is nothing.
    tail = (1 - level) / 2
    lower = np.quantile(np.where(has_slope, slopes, -np.inf), tail, method="nearest")
    upper = np.quantile(np.where(has_slope, slopes, np.inf), 1 - tail, method="nearest")
    slope = s_xy / s_xx
    scatter = np.sqrt(max(s_yy - 2 * slope * s_xy + slope**2 * s_xx, 0.0))
    found = {"slope": slope, "slope_lower": lower, "slope_upper": upper, "scatter": scatter}
    return {name: float(value) for name, value in found.items()} | {"reliability": reliability}


def _covariance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a - a.mean(axis=-1, keepdims=True), b - b.mean(axis=-1, keepdims=True)
    return (a * b).sum(axis=-1) / (a.shape[-1] - 1)


def transfer_slopes(
    records: Sequence[RunRecord],
    dataset: str,
    *,
    level: float = 0.95,
    bootstrap: ProblemBootstrap = RESAMPLES,
) -> pd.DataFrame:
    """Regress every larger size on every smaller one of a grid, on one data set.

    ``dataset, has_vote, metric, size_small, size_large, n_params_small, n_params_large, slope, slope_lower,
    slope_upper, centre`` (mean score at the small size), ``intercept, intercept_lower, intercept_upper`` (score at the
    large size there), ``scatter`` (SD of methods round the line that is no error), ``reliability, level, n_methods,
    methods, interval, reason``. Where there is no slope its columns are empty and ``reason`` says why.
    """
    scores = model_scores([record for record in records if not record.held_out], dataset, bootstrap)
    if scores.table.empty:
        raise Refusal(f"no run has a primary score on {dataset}; choose another data set or add runs")
    places = scores.places
    rows = []
    for small, large in combinations(places, 2):
        methods = [m for m in places[small] if m in places[large]]
        if len(methods) >= MIN_METHODS:
            at = [[places[n][m] for m in methods] for n in (small, large)]
            rows.append(_regress(scores, methods, *at, level))
    if not rows:
        raise Refusal(
            f"{dataset}: no two sizes share {MIN_METHODS} methods, which a slope over methods needs; add runs"
        )
    return pd.DataFrame(rows)


def _regress(scores: ModelScores, methods: list[str], small: list[int], large: list[int], level: float) -> dict:
    # Goodness, turned back into units of the score at the end.
    table, drawn = scores.table, scores.draws_of_runs()
    value = table["value"].to_numpy(dtype=float)
    known = ~np.isnan(drawn[:, [*small, *large]]).any(axis=1)
    row = scores.pair_of_sizes(small[0], large[0])
    row |= dict.fromkeys(("slope", "slope_lower", "slope_upper"), np.nan) | {"centre": float(value[small].mean())}
    row |= {"intercept": float(value[large].mean()), "intercept_lower": np.nan, "intercept_upper": np.nan}
    row |= {"scatter": np.nan, "reliability": np.nan, "level": level, "n_methods": len(methods)}
    row |= {"methods": " ".join(methods), "interval": f"percentile, {scores.interval_of([*small, *large])}"}
    if known.sum() < 2:
        return row | {"reason": "no counts or errors say how far scores are off"}
    x, y = drawn[known][:, small], drawn[known][:, large]
    good = scores.good
    row |= (line := errors_in_both(good[small], good[large], x, y, level))
    if "slope" not in line:
        chosen = "problems and seeds" if scores.covers_seeds else "problems"
        said = f"methods may differ at {row['size_small']} by the choice of {chosen} alone: reliability"
        return row | {"reason": f"{said} {row['reliability']:.2f}"}
    # In units of the score, at the methods' mean; there the slope's own error does not matter.
    at_centre = y.mean(axis=1) - row["slope"] * (x.mean(axis=1) - good[small].mean())
    row |= dict(zip(("intercept_lower", "intercept_upper"), scores.interval(at_centre, level), strict=True))
    return row | {"reason": ""}
