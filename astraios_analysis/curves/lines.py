"""Few sizes of many groups: lines in log size whose slopes are drawn towards a common one, with Student's t.

On the link scale group g at size s has z = a_g + b_g log(s) + e; slopes are b_g ~ N(b, tau^2), levels are free. With
groups enough both variances are estimated (restricted maximum likelihood over a grid); with one group there is nothing
to share and the line is ordinary least squares. A line is not trusted beyond what it is measured for: what it adds to
the largest size's value is multiplied by ``damping``, which predicting each group's largest size from the smaller ones
chooses (1 where no group has three sizes). Intervals are t with the degrees of freedom that are left.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from astraios_analysis.curves.mixture import Forecast, student_forecast
from astraios_analysis.records.notation import count
from astraios_analysis.records.refusal import Refusal

_RATIOS = np.concatenate([[0.0], np.geomspace(0.01, 100, 41)])
_DAMPINGS = np.linspace(0, 1.2, 25)
# A line that nothing tested may level off: so much of what it adds is its standard error, beside the scatter's.
_UNTESTED = 0.25


@dataclass(frozen=True)
class Lines:
    """Lines fitted to groups' log sizes and link values, one pair of arrays a group."""

    groups: tuple[tuple[np.ndarray, np.ndarray], ...]
    slope: float
    ratio: float
    scatter: float
    dof: int
    damping: float = 1.0
    is_tested: bool = False

    def forecast(self, place: int, x: np.ndarray) -> Forecast:
        """Forecast one group at new sizes."""
        centre, variance = _predict(self, place, np.log(np.asarray(x, dtype=float)))
        at, _ = self.groups[place]
        bend = 0.0 if self.is_tested else _UNTESTED * self.slope * (np.log(x) - at.max())
        spread = np.hypot(self.scatter * np.sqrt(variance), bend)
        return student_forecast(centre, spread, self.dof, "line", self.scatter)


def fit_lines(groups: Sequence[tuple[np.ndarray, np.ndarray]]) -> Lines:
    """Fit lines to groups, each sizes and link values; refuse where no residual is left."""
    logs = tuple((np.log(np.asarray(x, dtype=float)), np.asarray(z, dtype=float)) for x, z in groups)
    fitted = _fit(logs)
    try:
        smaller = _fit(tuple((x[x < x.max()], z[x < x.max()]) for x, z in logs))
    except Refusal:
        return fitted
    errors, spans = [], []
    for place, (x, z) in enumerate(logs):
        below = x < x.max()
        if not below.any():
            continue
        centre, variance = _predict(smaller, place, x[~below])
        last = z[below][np.argmax(x[below])]
        errors.append((np.mean(centre) - last, np.mean(z[~below]) - last))
        spans.append(float(np.mean(variance)))
    if len(errors) < 3:
        return fitted
    moved, truth, spans = np.array(errors)[:, 0], np.array(errors)[:, 1], np.array(spans)
    # Student's t with four degrees of freedom: a few groups that bend do not decide for all.
    fits = [np.log1p((truth - k * moved) ** 2 / (4 * smaller.scatter**2 * spans)).sum() for k in _DAMPINGS]
    damping = float(_DAMPINGS[int(np.argmin(fits))])
    scale = float(np.sqrt(np.mean((truth - damping * moved) ** 2 / spans)))
    scatter, dof = max(scale, fitted.scatter * 0.5), max(len(errors) - 2, 1)
    return replace(fitted, scatter=scatter, dof=dof, damping=damping, is_tested=True)


def _fit(groups: tuple) -> Lines:
    """Estimate slope, scatter and the slopes' variance (in units of the scatter's) by restricted likelihood."""
    known = [(x - x.mean(), z - z.mean()) for x, z in groups if len(x)]
    n, spread = sum(len(x) for x, _ in known), np.array([x @ x for x, _ in known])
    product, square = np.array([x @ z for x, z in known]), sum(z @ z for _, z in known)
    # Groups at common sizes share what is peculiar to a size: sizes, not rows, are what a line is judged by.
    n_sizes = len(np.unique(np.round(np.concatenate([x for x, _ in groups]), 9)))
    dof, looks = n - len(known) - 1, n_sizes - 2
    if not spread.any() or min(dof, looks) < 1:
        raise Refusal(
            f"{count(n, 'point')} at {count(n_sizes, 'size')}: no residual is left to judge a line by; "
            "measure a third size"
        )
    best = None
    for ratio in _RATIOS if (spread > 0).sum() > 2 else _RATIOS[:1]:
        shrunk = 1 + ratio * spread
        information = np.sum(spread / shrunk)
        slope = np.sum(product / shrunk) / information
        left = square - np.sum(ratio * product**2 / shrunk) - slope**2 * information
        variance = max(left, 1e-12 * max(square, 1e-12)) / dof
        score = dof * np.log(variance) + np.log(shrunk).sum() + np.log(information)
        if best is None or score < best[0]:
            best = (score, slope, ratio, np.sqrt(variance))
    return Lines(groups, float(best[1]), float(best[2]), float(best[3]), min(dof, looks))


def _predict(lines: Lines, place: int, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return predicted link values, and the variance of a new observation in units of the scatter's."""
    at, z = lines.groups[place]
    spread = float(np.sum((at - at.mean()) ** 2))
    all_spreads = np.array([np.sum((a - a.mean()) ** 2) for a, _ in lines.groups if len(a)])
    information = np.sum(all_spreads / (1 + lines.ratio * all_spreads))
    shrunk = 1 + lines.ratio * spread
    slope = (lines.slope + lines.ratio * float((at - at.mean()) @ z)) / shrunk
    # What the group's own slope leaves open, and what the common one does.
    variance = lines.ratio / shrunk + 1 / (shrunk**2 * information)
    last = z[np.argmax(at)]
    level = z.mean() + slope * (at.max() - at.mean())
    # Near the largest size the line and the point there are both estimates of where it goes on from.
    start = level if lines.damping == 1 else (level + last) / 2
    away = x - at.max()
    centre = start + lines.damping * slope * away
    return centre, 1 + 1 / len(at) + (x - at.mean()) ** 2 * variance
