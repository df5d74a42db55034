"""What a choice of method gives up now, and after runs that a budget could buy first.

The regret of a choice at a target size is what the best method's expected outcome there exceeds the chosen one's. Its
expectation now, and after runs whose outcomes are not known yet, comes from joint draws of the lines at the target and
of the runs' outcomes: what the runs will tell is the regression of the one on the other (Strong, Oakley and Brennan
2014). Only the laws of size are asked; a way through the loss has no part here.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtri

from astraios_analysis.prediction.forecast import Fitted
from astraios_analysis.prediction.pool import draw_runs
from astraios_analysis.prediction.stack import N_DRAWS, sobol
from astraios_analysis.records.refusal import Refusal

# What a GPU of the kind that the study used (A100, bf16) does in practice: two fifths of its 312 TFLOP a second.
TFLOPS = 125.0
UNITS = {"gpu-hours": 3600e12, "gpu-days": 86400e12, "flop": 1.0}
_N_MOST = 24  # runs of one option, so that the regression stays one of few numbers on many draws


@dataclass(frozen=True)
class Option:
    """Runs to make before choosing: (method, size) of each, and what they cost in FLOP; none is choosing now.

    With ``halving``, sizes in order, all methods are run at the first of them, the better half by what is known then at
    the next, and so on.
    """

    name: str
    runs: tuple[tuple[str, float], ...]
    flop: float
    halving: tuple[float, ...] = ()


def parse_budget(text: str, tflops: float = TFLOPS) -> float:
    """Return the FLOP of a budget such as ``40 gpu-hours``, ``2 gpu-days`` or ``3e20 flop``."""
    found = re.fullmatch(r"\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*([a-z-]+)\s*", text.lower().replace("gpu-h ", "gpu-hours"))
    unit = next((name for name in UNITS if found and name.rstrip("s") == found[2].rstrip("s")), None)
    try:
        amount = float(found[1]) if found else 0.0
    except ValueError:
        amount = 0.0
    if unit is None or not 0 < amount < np.inf:
        raise Refusal(f"budget {text!r} is not understood; give a number and one of {', '.join(UNITS)}: '40 gpu-hours'")
    return amount * UNITS[unit] * (1.0 if unit == "flop" else tflops)


def make_options(
    fitted: Fitted, target: float, sizes: Mapping[float, str], cost: Mapping[tuple[str, float], float]
) -> list[Option]:
    """Return the options: now; at each size one run of all methods, of the better half, of the best two; halving.

    ``sizes`` are in order, with their names. Halving goes over all of them, or over two seeds of the only one.
    """
    order = [fitted.methods[i] for i in np.argsort(-_expected(fitted, target), kind="stable")]
    counts = sorted({len(order), -(-len(order) // 2), min(2, len(order))}, reverse=True)
    found = [Option("choose now", (), 0.0)]
    for size, label in sizes.items():
        for n in counts:
            runs = tuple((method, float(size)) for method in order[:n])
            who = "every method" if n == len(order) else f"the {n} expected best"
            found.append(Option(f"a run of {who} at {label}", runs, sum(cost[run] for run in runs)))
    stages = tuple(sizes) if len(sizes) > 1 else tuple(sizes) * 2
    kept = halving_counts(len(order), len(stages))
    if len(order) > 2:
        words = ", ".join(f"{n} at {sizes[size]}" for n, size in zip(kept, stages, strict=True))
        runs, worst = tuple((method, stages[0]) for method in order), 0.0
        for n, size in zip(kept, stages, strict=True):
            worst += sum(sorted(cost[method, size] for method in order)[-n:])
        found.append(Option(f"halving: {words}", runs, worst, stages))
    return [option for option in found if len(option.runs) <= _N_MOST]


def halving_counts(n_methods: int, n_stages: int) -> list[int]:
    """Return how many methods are run at each stage of successive halving: all, the better half of them, and so on."""
    found = [n_methods]
    while len(found) < n_stages:
        found.append(max(1, -(-found[-1] // 2)))
    return found


def _expected(fitted: Fitted, target: float) -> np.ndarray:
    """Return the mean of each method's line at the target, so that more is better."""
    mean = fitted.draw(target)["mean"].mean(axis=0)
    return -mean if fitted.outcome.link == "log" else mean if fitted.outcome.higher_is_better else 1 - mean


def expected_regrets(
    fitted: Fitted, target: float, options: Sequence[Option], labels: Mapping[float, str]
) -> pd.DataFrame:
    """Return the expected regret of choosing after each option, cheapest first.

    ``option, n_runs, flop, expected_regret, saved`` (against choosing now, both in the outcome's own unit), ``runs``
    (those that begin it). Halving, whose later runs depend on the first, costs ``flop`` at most.
    """
    runs = list(dict.fromkeys(run for option in options for run in option.runs if not option.halving))
    good, seen = joint_draws(fitted, target, runs)
    rows = []
    for option in options:
        n_runs = len(option.runs)
        if option.halving:
            at = [(method, size) for size in option.halving for method in fitted.methods]
            drawn = joint_draws(fitted, target, at)
            counts = halving_counts(len(fitted.methods), len(option.halving))
            (best, chosen), n_runs = _halve(*drawn, counts), sum(counts)
        else:
            best, chosen = good.max(axis=1).mean(), known_after(good, seen[:, [runs.index(run) for run in option.runs]])
        regret = max(round(float(best - chosen.max(axis=1).mean()), 12), 0.0)
        at_size: dict[str, list[str]] = {}
        for method, size in option.runs:
            at_size.setdefault(labels[size], []).append(method)
        named = "; ".join(f"{label}: {' '.join(methods)}" for label, methods in at_size.items())
        rows.append((option.name, n_runs, option.flop, regret, named))
    table = pd.DataFrame(rows, columns=["option", "n_runs", "flop", "expected_regret", "runs"])
    now = float(table.loc[table["n_runs"] == 0, "expected_regret"].min())
    table.insert(4, "saved", now - table["expected_regret"])
    return table.sort_values("flop", kind="stable").reset_index(drop=True)


def known_after(good: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Return the expectation of lines (n, n_methods) given outcomes (n, n_runs), by regression of the ones on them."""
    design = np.column_stack([np.ones(len(good)), seen])
    return design @ np.linalg.lstsq(design, good, rcond=None)[0]


def _halve(good: np.ndarray, seen: np.ndarray, counts: Sequence[int]) -> tuple[float, np.ndarray]:
    """Return what the best is on average, and what is known of all methods after the last stage of halving.

    ``seen`` (n, n_stages x n_methods) are outcomes of every method at every stage, of which each draw sees those of the
    methods that are left.
    """
    m = good.shape[1]
    is_seen, known = np.zeros(seen.shape, dtype=bool), np.zeros(good.shape)
    left = np.ones(good.shape, dtype=bool)
    for stage, count in enumerate(counts):
        if stage:
            order = np.argsort(-np.where(left, known, -np.inf), axis=1, kind="stable")
            left = np.zeros(good.shape, dtype=bool)
            np.put_along_axis(left, order[:, :count], True, axis=1)
        is_seen[:, stage * m : (stage + 1) * m] = left
        patterns, own = np.unique(is_seen, axis=0, return_inverse=True)
        for place, pattern in enumerate(patterns):
            rows = own == place
            known[rows] = known_after(good, seen[:, pattern])[rows]
    return float(good.max(axis=1).mean()), known


def joint_draws(fitted: Fitted, target: float, runs: Sequence[tuple[str, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Draw lines of all methods at the target, more being better, and outcomes of new runs on the link scale.

    Shapes (N_DRAWS, n_methods) and (N_DRAWS, n_runs). New runs of one size share its effect.
    """
    methods, n = [*fitted.methods, *(method for method, _ in runs)], len(fitted.methods)
    sizes = np.array([target] * n + [size for _, size in runs], dtype=float)
    numbers = ndtri(sobol(N_DRAWS, 2 * len(sizes) + len(np.unique(sizes))))
    each, start, drawn = N_DRAWS // sum(len(pool.sigma_size) for pool in fitted.stack.pools), 0, []
    # Sobol points in the order of their first coordinate would tie versions to lines; these are as they come.
    for pool in fitted.stack.pools:
        h = len(pool.sigma_size)
        own = numbers[start * each : (start + h) * each].reshape(h, each, -1)
        drawn.append(draw_runs(pool, methods, sizes, own))
        start += h
    lines, seen = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
    return (-1 if fitted.outcome.link == "log" else 1) * lines[:, :n], seen[:, n:]
