"""What to train next, and what performance costs.

The value of a run is how much it is expected to narrow the prediction at a target: in the pooled law (`pools`) all
effects are Gaussian, so that the variance after a run that has not been made is known before its outcome is. What a run
costs comes from the records' own FLOP, or from the usual count of 6 FLOP per parameter and token for full fine-tuning
and 4 where base weights get no gradient.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from astraios_analysis.prediction.forecast import Forecast, supported_score
from astraios_analysis.prediction.pool_fits import fit_pool
from astraios_analysis.prediction.pooled_points import Link, PooledPoints
from astraios_analysis.records.frame import RunRecord
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.scores.bootstrap import ProblemBootstrap
from astraios_analysis.scores.models import ModelScores, model_scores
from astraios_analysis.scores.ranks import measured_datasets

FLOP_PER_PARAMETER = {"fft": 6.0}
FLOP_PER_FROZEN_PARAMETER = 4.0
MEASURED, COUNTED = "measured in other runs", "counted, 6 or 4 a parameter and token"
COSTS = ("n_params_updated", "peak_memory_bytes", "flop", "seconds")


def run_cost(records: Sequence[RunRecord], method: str, n_params: float) -> tuple[float, str]:
    """Return the FLOP of tuning a base model of a size with a method, and how that is known.

    The measured FLOP per parameter of the method's runs at the nearest size (in log) is taken where there is one.
    Otherwise FLOP are counted for the tokens that runs of the grid saw, or for one token where that is not recorded:
    then only ratios mean anything. Pre-training a base model of a new size is not counted.
    """
    own = [r for r in records if r.method == method and r.cost is not None and r.cost.flop]
    if own:
        distance = [abs(np.log(r.n_params_base / n_params)) for r in own]
        nearest = [r for r, d in zip(own, distance, strict=True) if d <= min(distance) + 1e-12]
        return float(np.mean([r.cost.flop / r.n_params_base for r in nearest if r.cost]) * n_params), MEASURED
    tokens = [r.n_tokens for r in records if r.n_tokens]
    per_parameter = FLOP_PER_PARAMETER.get(method, FLOP_PER_FROZEN_PARAMETER)
    basis = COUNTED if tokens else f"{COUNTED}; tokens not recorded: FLOP of one token"
    return per_parameter * n_params * (float(np.median(tokens)) if tokens else 1.0), basis


def plan_runs(
    points: PooledPoints,
    link: Link,
    target: tuple[Sequence[str], float],
    candidates: Sequence[tuple[str, float]],
    cost: Sequence[float],
    *,
    seed: int = 0,
) -> pd.DataFrame:
    """Rank runs by how much they narrow a prediction per FLOP.

    Parameters
    ----------
    points : PooledPoints
        What has been measured.
    link : {"log", "logit"}
    target : tuple of (methods, size)
        The predictions to narrow: of these methods at this size, their variances added.
    candidates : sequence of (method, size)
        Runs that could be made, one seed each.
    cost : sequence of float
        FLOP of each.
    seed : int

    Returns
    -------
    DataFrame
        ``method, n_params, is_new_size, flop, sd_now, sd_after, reduction, reduction_per_flop``, best per FLOP first.
        ``sd_*`` is the root mean variance of the target lines on the link scale (for a loss: relative to what lies
        above the floor); ``reduction`` the share of variance that goes.

    Raises
    ------
    Refusal
        If the points support no law, or there is no candidate.
    """
    if not candidates:
        raise Refusal("no run to choose from; give sizes with --candidate-size, or another --method")
    methods, size = list(target[0]), float(target[1])
    pool = fit_pool(points, link, seed=seed)
    now = _variance(pool.posterior(methods, np.full(len(methods), size))[1])
    after = [
        _variance(pool.posterior(methods, np.full(len(methods), size), ([m], np.array([float(n)])))[1])
        for m, n in candidates
    ]
    rows = []
    for (method, n_params), flop, variance in zip(candidates, cost, after, strict=True):
        share = max(0.0, 1 - variance / now)
        row = {"method": method, "n_params": round(n_params), "is_new_size": n_params not in points.n_params}
        row |= {"flop": flop, "sd_now": float(np.sqrt(now)), "sd_after": float(np.sqrt(variance))}
        rows.append(row | {"reduction": share, "reduction_per_flop": share / flop})
    found = pd.DataFrame(rows).sort_values("reduction_per_flop", ascending=False, kind="stable")
    return found.reset_index(drop=True)


def _variance(covariance: np.ndarray) -> float:
    """Return the mean over versions and targets of the lines' variance."""
    return float(np.einsum("hii->hi", covariance).mean())


def frontier(
    records: Sequence[RunRecord],
    dataset: str,
    cost: str,
    *,
    target: float | None = None,
    bootstrap: ProblemBootstrap | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Return cost against performance of every model, and which of them no other beats in both.

    Parameters
    ----------
    records : sequence of RunRecord
        Runs of one grid; held-out ones take no part.
    dataset : str
    cost : {"n_params_updated", "peak_memory_bytes", "flop", "seconds"}
        What is paid; seeds are averaged.
    target : float, optional
        Add every method's prediction at this size, where it may be shown (`pooled_predictions.require_supported`); the
        cost is carried over from the method's two nearest sizes.
    bootstrap : ProblemBootstrap, optional
    level : float
    seed : int

    Returns
    -------
    DataFrame
        ``dataset, metric, method, n_params_base, kind`` (measured or predicted)``, cost, cost_value, value, lower,
        upper, level, on_frontier, p_frontier, refusal``, by cost. ``p_frontier``: share of draws in which no cheaper or
        equally cheap model scores at least as well. Where the target must not be predicted, a last row of kind
        ``refused`` has the reason as ``refusal``, and no method.

    Raises
    ------
    Refusal
        If the cost is unknown or was not measured.
    """
    if cost not in COSTS:
        raise Refusal(f"unknown cost {cost!r}; choose from {', '.join(COSTS)}")
    fitted = [record for record in records if not record.held_out]
    scores = model_scores(fitted, dataset, bootstrap)
    paid = _paid(fitted, cost)
    known = np.array([(n, m) in paid for n, m in _models(scores)], dtype=bool)
    if not known.any():
        raise Refusal(f"{cost} was not measured in runs with a score on {dataset}; choose n_params_updated")
    scores = scores.keep(known)
    table = scores.table
    value, drawn = table["value"].to_numpy(dtype=float), scores.goodness(scores.draws_of_runs(seed))
    price = np.array([paid[model] for model in _models(scores)])
    rows = [
        {"method": m, "n_params_base": int(n), "kind": "measured", "value": v}
        for (n, m), v in zip(_models(scores), value, strict=True)
    ]
    methods = list(dict.fromkeys(table["method"]))
    forecast, refusal = _predicted(fitted, dataset, methods, target, seed)
    if target is not None and forecast is not None:
        more = np.column_stack([forecast.draws["observation"][m] for m in methods])
        rows += [
            {"method": m, "n_params_base": round(target), "kind": "predicted", "value": float(np.median(own))}
            for m, own in zip(methods, more.T, strict=True)
        ]
        price = np.concatenate([price, [_carried(paid, m, target) for m in methods]])
        take = np.random.default_rng([seed, 31]).integers(len(more), size=len(drawn))
        drawn = np.column_stack([drawn, more[take]])
    found = pd.DataFrame(rows).assign(dataset=dataset, metric=scores.metric, cost=cost, cost_value=price, level=level)
    bounds = np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    good = scores.goodness(found["value"].to_numpy())
    found = found.assign(
        lower=bounds[0],
        upper=bounds[1],
        on_frontier=_undominated(price, good[None])[0],
        p_frontier=_undominated(price, scores.goodness(drawn)).mean(axis=0),
    )
    columns = ["dataset", "metric", "method", "n_params_base", "kind", "cost", "cost_value", "value", "lower", "upper"]
    shown = found[[*columns, "level", "on_frontier", "p_frontier"]].sort_values("cost_value", kind="stable")
    return _with_refusal(shown.reset_index(drop=True), target, refusal)


def _with_refusal(shown: pd.DataFrame, target: float | None, refusal: str) -> pd.DataFrame:
    """Add the reasons of refusals, and a last row where there is one."""
    shown = shown.assign(refusal="")
    if target is None or not refusal:
        return shown
    row = shown.iloc[0][["dataset", "metric", "cost", "level"]].to_dict()
    row |= {"n_params_base": round(target), "kind": "refused", "on_frontier": False, "refusal": refusal}
    return pd.concat([shown, pd.DataFrame([row])], ignore_index=True)


def _predicted(fitted, dataset, methods, target, seed) -> tuple[Forecast | None, str]:
    """Return the forecast at a target, or why there is none."""
    if target is None:
        return None, ""
    try:
        return supported_score(fitted, dataset, methods, target, seed=seed), ""
    except Refusal as error:
        return None, str(error).removeprefix(f"{dataset}: ")


def frontier_all(
    records: Sequence[RunRecord], cost: str, *, target: float | None = None, level: float = 0.95
) -> pd.DataFrame:
    """Run `frontier` for every data set whose runs have the cost, one below the other.

    Raises
    ------
    Refusal
        If there is none.
    """
    bootstrap, parts, refusals = ProblemBootstrap(), [], []
    for name in measured_datasets(list(records)):
        try:
            parts.append(frontier(records, name, cost, target=target, bootstrap=bootstrap, level=level))
        except Refusal as error:
            refusals.append(str(error))
    if not parts:
        raise Refusal("; ".join(dict.fromkeys(refusals)) or "no run has a primary score; add runs with scores")
    return pd.concat(parts, ignore_index=True)


def _models(scores: ModelScores) -> list[tuple[int, str]]:
    return list(zip(scores.table["n_params_base"], scores.table["method"], strict=True))


def _paid(records: Sequence[RunRecord], cost: str) -> dict[tuple[int, str], float]:
    """Return the mean cost of each model's runs that have one."""
    found: dict[tuple[int, str], list[float]] = {}
    for record in records:
        value = record.n_params_updated if cost == "n_params_updated" else getattr(record.cost, cost, None)
        if value is not None:
            found.setdefault((record.n_params_base, record.method), []).append(float(value))
    return {model: float(np.mean(values)) for model, values in found.items()}


def _carried(paid: dict[tuple[int, str], float], method: str, target: float) -> float:
    """Return a method's cost at a size: log cost against log size through its two nearest sizes, or in proportion."""
    own = sorted((n, value) for (n, name), value in paid.items() if name == method)
    nearest = sorted(own, key=lambda pair: abs(np.log(pair[0] / target)))[:2]
    if len(nearest) == 1:
        return nearest[0][1] * target / nearest[0][0]
    (first, low), (second, high) = sorted(nearest)
    slope = np.log(high / low) / np.log(second / first)
    return float(low * (target / first) ** slope)


def _undominated(price: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Whether no other model is at most as expensive and at least as good, and better in one; shape of ``good``."""
    cheaper = price[None, :] <= price[:, None]
    strictly = price[None, :] < price[:, None]
    better = good[:, None, :] >= good[:, :, None]
    strictly_better = good[:, None, :] > good[:, :, None]
    return ~((cheaper & better) & (strictly | strictly_better)).any(axis=2)
