"""What a choice of method gives up now, and after runs that a budget could buy first.

The regret of a choice at a target size is what the best method's expected outcome there exceeds the chosen one's. Its
expectation now, and after runs whose outcomes are not known yet, comes from joint draws of the lines at the target and
of the runs' outcomes: what the runs will tell is the regression of the one on the other (Strong, Oakley and Brennan
2014). Only the laws of size are asked; a way through the loss has no part here.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import expit, logit, ndtri

from astraios_analysis.prediction.forecast import Fitted
from astraios_analysis.prediction.pool import Pool
from astraios_analysis.prediction.stack import N_DRAWS, sobol
from astraios_analysis.records.refusal import Refusal

# What a GPU of the kind that the study used (A100, bf16) does in practice: two fifths of its 312 TFLOP a second.
TFLOPS = 125.0
UNITS = {"gpu-hours": 3600e12, "gpu-days": 86400e12, "flop": 1.0}
_N_MOST = 24  # runs of one option, so that the regression stays one of few numbers on many draws


@dataclass(frozen=True)
class Option:
    """Runs to make before choosing: (method, size) of each, and what they cost in FLOP; none is choosing now."""

    name: str
    runs: tuple[tuple[str, float], ...]
    flop: float


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
    fitted: Fitted, target: float, sizes: Sequence[float], cost: dict[tuple[str, float], float]
) -> list[Option]:
    """Return the options: now, and at each size one run of all methods, of the better half, and of the best two."""
    order = [fitted.methods[i] for i in np.argsort(-_expected(fitted, target), kind="stable")]
    counts = sorted({len(order), -(-len(order) // 2), min(2, len(order))}, reverse=True)
    found = [Option("choose now", (), 0.0)]
    for size in sizes:
        for n in counts:
            runs = tuple((method, float(size)) for method in order[:n])
            who = "every method" if n == len(order) else f"the {n} expected best"
            found.append(Option(f"a run of {who} at {size:.4g}", runs, sum(cost[run] for run in runs)))
    return [option for option in found if len(option.runs) <= _N_MOST]


def _expected(fitted: Fitted, target: float) -> np.ndarray:
    """Return the mean of each method's line at the target, so that more is better."""
    mean = fitted.draw(target)["mean"].mean(axis=0)
    return -mean if fitted.outcome.link == "log" else mean if fitted.outcome.higher_is_better else 1 - mean


def expected_regrets(fitted: Fitted, target: float, options: Sequence[Option]) -> pd.DataFrame:
    """Return the expected regret of choosing after each option, cheapest first.

    ``option, n_runs, flop, expected_regret, saved`` (against choosing now, both in the outcome's own unit), ``runs``.
    """
    runs = list(dict.fromkeys(run for option in options for run in option.runs))
    good, seen = joint_draws(fitted, target, runs)
    best = good.max(axis=1).mean()
    rows = []
    for option in options:
        places = [runs.index(run) for run in option.runs]
        design = np.column_stack([np.ones(len(good)), seen[:, places]])
        known = design @ np.linalg.lstsq(design, good, rcond=None)[0]
        regret = max(round(float(best - known.max(axis=1).mean()), 12), 0.0)
        named = ", ".join(f"{method}@{size:.4g}" for method, size in option.runs)
        rows.append((option.name, len(option.runs), option.flop, regret, named))
    table = pd.DataFrame(rows, columns=["option", "n_runs", "flop", "expected_regret", "runs"])
    now = float(table.loc[table["n_runs"] == 0, "expected_regret"].min())
    table.insert(4, "saved", now - table["expected_regret"])
    return table.sort_values("flop", kind="stable").reset_index(drop=True)


def joint_draws(fitted: Fitted, target: float, runs: Sequence[tuple[str, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Draw lines of all methods at the target, more being better, and outcomes of new runs on the link scale.

    Shapes (N_DRAWS, n_methods) and (N_DRAWS, n_runs). New runs of one size share its effect.
    """
    methods = [*fitted.methods, *(method for method, _ in runs)]
    sizes = np.array([target] * len(fitted.methods) + [size for _, size in runs], dtype=float)
    at_size, p = np.unique(sizes, return_inverse=True)[1], len(sizes)
    numbers = ndtri(sobol(N_DRAWS, 2 * p + len(set(at_size))))
    n_versions = sum(_n_versions(pool) for pool in fitted.stack.pools)
    each, start, lines, seen = N_DRAWS // n_versions, 0, [], []
    # Sobol points in the order of their first coordinate would tie versions to lines; these are as they come.
    for pool in fitted.stack.pools:
        h = _n_versions(pool)
        own = numbers[start * each : (start + h) * each].reshape(h, each, -1)
        start += h
        mean, covariance = pool.posterior(methods, sizes)
        root = np.linalg.cholesky(covariance + 1e-10 * np.eye(p))
        z = mean[:, None, :] + own[..., :p] @ np.swapaxes(root, 1, 2)
        known = pool.noise_factor[:, None, None] * pool.noise_at(z)
        more = pool.points.seed_variance * (1 - 1 / pool.points.n_seeds)
        scatter = np.sqrt(pool.sigma_run[:, None, None] ** 2 + known + more) * own[..., p : 2 * p]
        scatter = scatter + pool.sigma_size[:, None, None] * own[..., 2 * p :][..., at_size]
        line = pool.unlink(z, pool.floors(methods)[:, None, :]) if isinstance(pool, Pool) else expit(z)
        is_loss = fitted.outcome.link == "log"
        outcome = np.log(line) + scatter if is_loss else logit(np.clip(line, 1e-9, 1 - 1e-9)) + scatter
        lines.append(line.reshape(h * each, p)[:, : len(fitted.methods)] * (-1 if is_loss else 1))
        seen.append(outcome.reshape(h * each, p)[:, len(fitted.methods) :])
    return np.concatenate(lines), np.concatenate(seen)


def _n_versions(pool: object) -> int:
    return len(pool.sigma_size)
