"""What a budget buys: the size and the data with the least predicted loss along a line of equal cost.

The optimum is that of the average of laws (`surfaces`); its interval holds the optima of draws of their parameters,
each law drawn as often as its share says.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from astraios_analysis.laws.tables import evaluate
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.tables.surfaces import Surface

N_DRAWS = 1000
# Laws that can have a best size; along a line of equal cost a product of powers falls, or rises, all the way.
ALLOCATING = ("chinchilla", "skaling")
# Sizes searched: so many times beyond those measured, on both sides.
_SEARCHED = 1e4
_N_GRID, _N_BISECTIONS = 1200, 80
_OUTSIDE, _NO_OPTIMUM = "outside_data", "no_optimum"


@dataclass(frozen=True)
class IsoCost:
    """Losses along one line of equal cost: inputs (g, 2), the average's loss (g,) and those of draws (s, g)."""

    inputs: np.ndarray
    loss: np.ndarray
    drawn: np.ndarray


def iso_cost(surface: Surface, names: Sequence[str], cost: str, budget: float, rng: np.random.Generator) -> IsoCost:
    """Return losses along the line on which ``cost``, which must rise with the second input, is the budget."""
    low, high = surface.train.min(axis=0), surface.train.max(axis=0)
    first = np.geomspace(low[0] / _SEARCHED, high[0] * _SEARCHED, _N_GRID)
    ends = [np.full(_N_GRID, np.log(end)) for end in (low[1] * 1e-12, high[1] * 1e12)]
    for _ in range(_N_BISECTIONS):
        middle = (ends[0] + ends[1]) / 2
        spent = evaluate(cost, pd.DataFrame({names[0]: first, names[1]: np.exp(middle)})).to_numpy()
        too_much = spent > budget
        ends = [np.where(too_much, ends[0], middle), np.where(too_much, middle, ends[1])]
    inputs = np.column_stack([first, np.exp(ends[0])])
    inputs = inputs[(inputs[:, 1] > low[1] / _SEARCHED) & (inputs[:, 1] < high[1] * _SEARCHED)]
    if len(inputs) < 3:
        raise Refusal(f"{cost} is never {budget:g} within {_SEARCHED:g} times the rows; check the budget and its unit")
    mean, drawn = np.zeros(len(inputs)), []
    for name, member in zip(surface.names, surface.members, strict=True):
        share, fit = surface.shares[name], member.fit
        with np.errstate(all="ignore"):
            mean += share * np.log(fit.law.function(inputs, fit.theta)) if share > 0 else 0.0
            thetas = fit.draw(round(share * N_DRAWS), rng) if round(share * N_DRAWS) else np.empty((0, len(fit.theta)))
            drawn.append(fit.law.function(inputs, thetas))
    return IsoCost(inputs, np.exp(mean), np.concatenate(drawn))


def allocate_budget(found: IsoCost, surface: Surface, names: Sequence[str], budget: float, level: float) -> dict:
    """Return the optimum of a budget with intervals, how far it lies beyond the rows, and coded warnings."""
    usable = np.isfinite(found.drawn).all(axis=1)
    best, places = _least(found.loss), np.array([_least(row) for row in found.drawn[usable]])
    ends = np.quantile(places, [(1 - level) / 2, (1 + level) / 2]) if len(places) else np.full(2, np.nan)
    # No interval excludes its own estimate.
    ends = np.minimum(ends[0], best), np.maximum(ends[1], best)
    logs, grid = np.log(found.inputs), np.arange(len(found.inputs))
    row: dict = {"budget": budget}
    for i, name in enumerate(names):
        value, *bounds = np.exp(np.interp([best, *ends], grid, logs[:, i]))
        row |= {name: float(value), f"{name}_lower": float(min(bounds)), f"{name}_upper": float(max(bounds))}
    at = np.array([[row[name] for name in names]])
    loss = np.exp(np.interp(best, grid, np.log(found.loss)))
    drawn = [np.interp(best, grid, own) for own in found.drawn[usable]]
    lower, upper = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    row |= {"loss": float(loss), "loss_lower": float(min(lower, loss)), "loss_upper": float(max(upper, loss))}
    reach = float(surface.reach(at)[0])
    lost = float(np.mean((places <= 0) | (places >= grid[-1]))) if len(places) else 0.0
    outside = (at[0] < surface.train.min(axis=0)) | (at[0] > surface.train.max(axis=0))
    warnings = []
    if best in (0, grid[-1]):
        text = f"the loss still falls at the end of the values of {names[0]} searched: this law sees no best one"
        warnings.append({"code": _NO_OPTIMUM, "text": text})
    elif lost > 0.05:
        text = f"{100 * lost:.0f} % of draws have no optimum among the values searched"
        warnings.append({"code": _NO_OPTIMUM, "text": text})
    if outside.any():
        beyond = ", ".join(name for name, is_out in zip(names, outside, strict=True) if is_out)
        text = f"the optimum lies {reach:.3g} times beyond the rows fitted ({beyond}); add runs nearer to it"
        warnings.append({"code": _OUTSIDE, "text": text})
    return row | {"level": level, "reach": reach, "warnings": warnings}


def _least(loss: np.ndarray) -> float:
    """Return where a curve on a grid is least, between its points by the parabola through three."""
    at = int(np.argmin(loss))
    if at in (0, len(loss) - 1):
        return float(at)
    before, here, after = np.log(loss[at - 1 : at + 2])
    bend = before - 2 * here + after
    return at + (0.5 * (before - after) / bend if bend > 0 else 0.0)
