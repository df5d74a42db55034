"""Decisions: what choosing a method by small models comes to, which will be the best, what to train next, at what cost.

Two rules of choice are followed: take the method that is best at a smaller measured size, and take the one that the
prediction from the sizes up to there (`forecast.fit_outcome`) expects to be best at the larger. Decision accuracy is
the share of pairs of methods whose order at the smaller size is that at the larger (as in Magnusson et al. 2025);
regret is the score, or the loss, given up by the choice. Probabilities and intervals resample problems, and seeds
where there are several.

What a choice gives up at a target size, now and after runs that a budget could buy (`expected_regrets`), comes from
joint draws of the lines at the target and of the runs' outcomes: what the runs will tell is the regression of the one
on the other (Strong, Oakley and Brennan 2014). The draws are those of the prediction, all its ways mixed.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import pandas as pd

from astraios_analysis.curves.mixture import to_link
from astraios_analysis.prediction.forecast import Fitted, fit_outcome, fit_supported, require_near
from astraios_analysis.prediction.outcome import record_outcome
from astraios_analysis.records.frame import RunRecord
from astraios_analysis.records.refusal import Refusal, attempt
from astraios_analysis.records.registry import RELEASED
from astraios_analysis.scores.bootstrap import RESAMPLES, ProblemBootstrap, percentile_interval
from astraios_analysis.scores.models import ModelScores, model_scores, require_measure
from astraios_analysis.scores.ranks import measured_datasets, share_first

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
    found = re.fullmatch(r"\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*([a-z-]+)\s*", text.lower())
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
    return fitted.outcome.goodness(fitted.draw(target)["mean"]).mean(axis=0)


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

    Shapes (N_DRAWS, n_methods) and (N_DRAWS, n_runs). New runs of one size share its effect; a run that is asked for
    twice is two runs.
    """
    outcome, lines, seen, counts = fitted.outcome, fitted.draw(target)["mean"], [], Counter()
    drawn: dict[tuple[float, int], np.ndarray] = {}
    for run in runs:
        method, size = run
        counts[run] += 1
        key = size, counts[run]
        if key not in drawn:
            # The size's own numbers, whichever other runs are asked for.
            fresh = crc32(f"{size:.10g}".encode()), crc32(f"{size:.10g} {counts[run]}".encode())
            values = fitted.draw(size, fresh)["observation"]
            drawn[key] = to_link(values if outcome.link == "log" else outcome.share(values), outcome.link)
        seen.append(drawn[key][:, fitted.methods.index(method)])
    return outcome.goodness(lines), np.stack(seen, axis=1) if seen else np.empty((len(lines), 0))


MIN_METHODS = 2
FLOP_PER_PARAMETER = {"fft": 6.0}
FLOP_PER_FROZEN_PARAMETER = 4.0
# The study's schedule: 200 steps of 32 sequences of 2,048 tokens.
STUDY_TOKENS = 200 * 32 * 2048
# The grid of the study's models, as `training` calls it.
STUDY_PRESET = "starcoderbase"
MEASURED, COUNTED = "measured in other runs", "counted, 6 or 4 a parameter and token"
COSTS = ("n_params_updated", "peak_memory_bytes", "flop", "seconds")


def small_model_decisions(
    records: Sequence[RunRecord],
    dataset: str,
    *,
    level: float = 0.95,
    bootstrap: ProblemBootstrap = RESAMPLES,
) -> pd.DataFrame:
    """Judge the choice of a method at every smaller size by the scores at every larger one of one grid.

    One row for each pair of sizes and rule: ``dataset, has_vote, metric, size_small, size_large, n_params_small,
    n_params_large, rule, chosen, best, is_right, p_right, regret, regret_lower, regret_upper, regret_random,
    pair_accuracy, pair_lower, pair_upper, level, n_methods, interval``. ``p_right`` is the share of resamples in which
    the method chosen on the data is the best at the larger size; ``regret_random`` what a random choice gives up on
    average. ``pair_accuracy`` is of the order that the rule goes by: measured or predicted scores. ``has_vote``:
    `ModelScores.has_vote`. Held-out runs take no part.
    """
    kept = [record for record in records if not record.held_out]
    measure = require_measure(records, dataset)
    scores = model_scores(kept, dataset, bootstrap, measure)
    if scores.table.empty:
        raise Refusal(f"no run that is not held out has {dataset}; choose another data set or add runs")
    values, drawn = scores.good, scores.draws_of_runs()
    sizes = sorted(set(scores.table["n_params_base"]))
    place = {(row.n_params_base, row.method): i for i, row in enumerate(scores.table.itertuples())}
    rows = []
    for index, small in enumerate(sizes):
        so_far = [r for r in kept if r.n_params_base <= small]
        # Too few sizes may be left to predict from.
        fits, _ = attempt(
            [dataset] * (small != sizes[-1]), lambda name, runs=so_far: fit_outcome(record_outcome(runs, name, measure))
        )
        for large in sizes[index + 1 :]:
            methods = [m for m in dict.fromkeys(scores.table["method"]) if {(small, m), (large, m)} <= place.keys()]
            if len(methods) < MIN_METHODS:
                continue
            at_small, at_large = ([place[n, m] for m in methods] for n in (small, large))
            shared = scores.pair_of_sizes(at_small[0], at_large[0]) | {"level": level, "n_methods": len(methods)}
            outcome = (values[at_large], drawn[:, at_large], methods, level)
            measured = _outcome(values[at_small], drawn[:, at_small], *outcome)
            ways = {"interval": f"percentile, {scores.interval_of([*at_small, *at_large])}"}
            rows.append(shared | {"rule": "best at the smaller size"} | measured | ways)
            for expected in fits.values():
                median = expected.intervals(float(large)).median
                choice = scores.goodness(median[[expected.methods.index(m) for m in methods]])
                rows.append(
                    shared | {"rule": "predicted from sizes up to it"} | _outcome(choice, None, *outcome) | ways
                )
    if not rows:
        raise Refusal(f"{dataset}: no two sizes share {MIN_METHODS} methods; add runs")
    return pd.DataFrame(rows)


def _outcome(
    choice: np.ndarray,
    choice_draws: np.ndarray | None,
    value: np.ndarray,
    draws: np.ndarray,
    methods: list[str],
    level: float,
) -> dict:
    """Return what a choice by ``choice`` comes to at the larger size."""
    chosen, best = int(np.argmax(choice)), int(np.argmax(value))
    regrets = draws.max(axis=1) - draws[:, chosen]
    lower, upper = percentile_interval(regrets, level)
    by_draw = np.broadcast_to(choice, draws.shape) if choice_draws is None else choice_draws
    known = ~(np.isnan(draws) | np.isnan(by_draw)).any(axis=1)
    pairs = percentile_interval(_pair_accuracy(by_draw[known], draws[known]), level)
    return {
        "chosen": methods[chosen],
        "best": methods[best],
        "is_right": bool(value[chosen] == value[best]),
        "p_right": float(share_first(draws)[chosen]),
        "regret": float(value[best] - value[chosen]),
        "regret_lower": lower,
        "regret_upper": upper,
        "regret_random": float(value[best] - value.mean()),
        "pair_accuracy": float(_pair_accuracy(choice, value)),
        "pair_lower": pairs[0],
        "pair_upper": pairs[1],
    }


def _pair_accuracy(small: np.ndarray, large: np.ndarray) -> np.ndarray:
    """Return the share of pairs in the same order on both sides; a tie on either side counts one half."""
    first, second = np.triu_indices(small.shape[-1], k=1)
    agreement = np.sign(small[..., first] - small[..., second]) * np.sign(large[..., first] - large[..., second])
    return ((agreement + 1) / 2).mean(axis=-1)


def best_at_size(
    records: Sequence[RunRecord], dataset: str, n_params: float, *, level: float = 0.95, force: bool = False
) -> pd.DataFrame:
    """Return the probability that each method of a grid is the best at a size, measured or not.

    ``dataset, has_vote, metric, n_params, method, p_best, value, lower, upper, level, interval, reach, expected_regret,
    n_models``, most probable first; ``n_models`` are the models fitted. ``p_best``: the share of joint draws of one new
    run of each method in which it is first; what the methods share at a size cancels. ``expected_regret``: what
    choosing it gives up on average. Held-out runs take no part; `forecast.fit_supported` says what is refused.
    """
    fitted = fit_supported(record_outcome(records, dataset))
    beyond = require_near(fitted, n_params, force=force)
    found = fitted.intervals(n_params, (level,))
    better = fitted.outcome.goodness(fitted.draw(n_params)["observation"])
    lower, upper = found.bounds["observation", level]
    columns = {
        "dataset": dataset,
        "has_vote": model_scores([r for r in records if not r.held_out], dataset).has_vote,
        "metric": fitted.outcome.metric,
        "n_params": round(n_params),
        "method": fitted.methods,
        "p_best": share_first(better),
        "value": found.median,
        "lower": lower,
        "upper": upper,
        "level": level,
        "interval": "prediction, one new run",
        "reach": beyond,
        "expected_regret": (better.max(axis=1, keepdims=True) - better).mean(axis=0),
        "n_models": len(fitted.outcome.points.y),
    }
    return pd.DataFrame(columns).sort_values("p_best", ascending=False, kind="stable").reset_index(drop=True)


def best_at_size_all(records: Sequence[RunRecord], n_params: float, *, level: float = 0.95) -> pd.DataFrame:
    """Run `best_at_size` for the loss and every data set that has scores, one below the other.

    A data set that must not be predicted has one row without a method, with the reason as ``refusal``.
    """
    names = measured_datasets(records, loss=True)
    parts, refused = attempt(names, lambda name: best_at_size(records, name, n_params, level=level))
    if not parts:
        listed = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
        raise Refusal(listed or "no run has a loss or a primary score; add some")
    metrics = [require_measure(records, name)[0] for name in refused]
    rows = {"dataset": list(refused), "metric": metrics, "n_params": round(n_params), "level": level}
    rows |= {"n_models": 0, "refusal": list(refused.values())}
    found = [part.assign(refusal="") for part in parts.values()]
    return pd.concat([*found, pd.DataFrame(rows)] if refused else found, ignore_index=True)


def run_cost(records: Sequence[RunRecord], method: str, n_params: float) -> tuple[float, str]:
    """Return the FLOP of tuning a base model of a size with a method, and how that is known.

    The measured FLOP per parameter of the method's runs at the nearest size (in log) is taken where there is one.
    Otherwise FLOP are counted for the tokens that runs of the grid saw (released models: the study's schedule), or for
    one token where that is not recorded: then only ratios mean anything. Pre-training a base of a new size is not
    counted.
    """
    own = [r for r in records if r.method == method and r.cost is not None and r.cost.flop]
    if own:
        distance = [abs(np.log(r.n_params_base / n_params)) for r in own]
        nearest = [r for r, d in zip(own, distance, strict=True) if d <= min(distance) + 1e-12]
        return float(np.mean([r.cost.flop / r.n_params_base for r in nearest if r.cost]) * n_params), MEASURED
    tokens = [r.n_tokens for r in records if r.n_tokens]
    tokens = tokens or [STUDY_TOKENS] * any(r.grid == RELEASED for r in records)
    per_parameter = FLOP_PER_PARAMETER.get(method, FLOP_PER_FROZEN_PARAMETER)
    basis = COUNTED if tokens else f"{COUNTED}; tokens not recorded: FLOP of one token"
    return per_parameter * n_params * (float(np.median(tokens)) if tokens else 1.0), basis


def training_preset(records: Sequence[RunRecord]) -> str | None:
    """Return the preset of `training` that a grid is of; None where it was trained elsewhere."""
    if any(record.grid == RELEASED for record in records):
        return STUDY_PRESET
    specs = (record.provenance.spec or {} for record in records if record.provenance)
    return next((spec["run"]["grid"] for spec in specs if "run" in spec), None)


def _size_names(records: Sequence[RunRecord], sizes: Iterable[float]) -> dict[float, str]:
    """Return the names of sizes that were measured; of others, their parameters."""
    known = {record.n_params_base: record.size for record in records}
    return {size: known.get(round(size), f"{size:.10g}") for size in sizes}


def choices(
    records: Sequence[RunRecord],
    name: str,
    target: float,
    more_sizes: Sequence[float] = (),
    budget: float | None = None,
    tflops: float = TFLOPS,
) -> pd.DataFrame:
    """Return what choosing a method for a target gives up, now and after runs at the largest measured size or at more.

    The columns of `expected_regrets`, with ``quantity, n_params, gpu_hours, is_affordable, advice, flop_basis``;
    ``advice`` marks the least expected regret that the budget buys, the cheapest of several.
    """
    if not 0 < tflops < np.inf:
        raise Refusal(f"a GPU of {tflops:g} TFLOP a second trains nothing; give what one does in practice, such as 125")
    fitted = fit_supported(record_outcome(records, name))
    require_near(fitted, target)
    kept = [record for record in records if not record.held_out]
    sizes = _size_names(records, sorted({float(fitted.outcome.points.sizes[-1]), *map(float, more_sizes)}))
    costs = {(method, size): run_cost(kept, method, size) for method in fitted.methods for size in sizes}
    options = make_options(fitted, target, sizes, {run: flop for run, (flop, _) in costs.items()})
    found = expected_regrets(fitted, target, options, sizes).assign(quantity=name, n_params=round(target))
    found["gpu_hours"] = found["flop"] / (tflops * UNITS["gpu-hours"])
    found["is_affordable"] = found["flop"] <= (np.inf if budget is None else budget)
    # To the last digit that the draws carry, so that money is not advised for nothing.
    regrets = found["expected_regret"].where(found["is_affordable"]).round(4)
    found["advice"] = found.index == regrets.idxmin()
    return found.assign(flop_basis="; ".join(dict.fromkeys(words for _, words in costs.values())))


def frontier(
    records: Sequence[RunRecord],
    dataset: str,
    cost: str,
    *,
    target: float | None = None,
    bootstrap: ProblemBootstrap = RESAMPLES,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return cost (one of `COSTS`, averaged over seeds) against performance, and which models no other beats in both.

    With a ``target`` every method's prediction at this size is added, where it may be shown; its cost is carried over
    from the method's two nearest sizes. ``dataset, metric, method, n_params_base, kind`` (measured or predicted)``,
    cost, cost_value, value, lower, upper, level, on_frontier, p_frontier, refusal``, by cost. ``p_frontier``: share of
    draws in which no cheaper or equally cheap model scores at least as well. Where the target must not be predicted, a
    last row of kind ``refused`` has the reason as ``refusal``, and no method. Held-out runs take no part.
    """
    if cost not in COSTS:
        raise Refusal(f"unknown cost {cost!r}; choose from {', '.join(COSTS)}")
    kept = [record for record in records if not record.held_out]
    scores = model_scores(kept, dataset, bootstrap)
    paid = _paid(kept, cost)
    known = np.array([(n, m) in paid for n, m in _models(scores)], dtype=bool)
    if not known.any():
        raise Refusal(f"{cost} was not measured in runs with a score on {dataset}; choose n_params_updated")
    scores = scores.keep(known)
    good = scores.draws_of_runs()
    drawn, bounds = scores.goodness(good), [scores.interval(own, level) for own in good.T]
    rows = [
        {"method": m, "n_params_base": int(n), "kind": "measured", "value": v, "lower": low, "upper": high}
        | {"cost_value": paid[n, m]}
        for (n, m), v, (low, high) in zip(_models(scores), scores.table["value"], bounds, strict=True)
    ]
    fits, refused = attempt([dataset] * (target is not None), lambda name: _fit_near(kept, name, target))
    for fitted in fits.values():
        found = fitted.intervals(target, (level,))
        place = [fitted.methods.index(m) for m in dict.fromkeys(scores.table["method"])]
        rows += [
            {"method": fitted.methods[i], "n_params_base": round(target), "kind": "predicted", "value": found.median[i]}
            | dict(zip(("lower", "upper"), found.bounds["observation", level][:, i], strict=True))
            | {"cost_value": _carried(paid, fitted.methods[i], target)}
            for i in place
        ]
        more = fitted.draw(target)["observation"][:, place]
        drawn = np.column_stack([drawn, more[np.random.default_rng([0, 31]).integers(len(more), size=len(drawn))]])
    vote = {"dataset": dataset, "has_vote": scores.has_vote}
    table = pd.DataFrame(rows).assign(**vote, metric=scores.metric, cost=cost, level=level)
    price = table["cost_value"].to_numpy()
    table["on_frontier"] = _undominated(price, scores.goodness(table["value"].to_numpy())[None])[0]
    known = ~np.isnan(drawn).any(axis=1)
    table["p_frontier"] = _undominated(price, scores.goodness(drawn[known])).mean(axis=0) if known.any() else np.nan
    columns = [*vote, "metric", "method", "n_params_base", "kind", "cost", "cost_value", "value", "lower", "upper"]
    shown = table[[*columns, "level", "on_frontier", "p_frontier"]].sort_values("cost_value", kind="stable")
    shown = shown.reset_index(drop=True).assign(refusal="")
    row = shown.iloc[0][[*vote, "metric", "cost", "level"]].to_dict() | {"kind": "refused", "on_frontier": False}
    last = [row | {"n_params_base": round(target), "refusal": why} for why in refused.values()]
    return pd.concat([shown, pd.DataFrame(last)], ignore_index=True) if last else shown


def _fit_near(records: Sequence[RunRecord], dataset: str, target: float) -> Fitted:
    """Return the prediction that may be shown at a target."""
    fitted = fit_supported(record_outcome(records, dataset))
    require_near(fitted, target)
    return fitted


def _models(scores: ModelScores) -> list[tuple[int, str]]:
    return list(zip(scores.table["n_params_base"], scores.table["method"], strict=True))


def _paid(records: Sequence[RunRecord], cost: str) -> dict[tuple[int, str], float]:
    """Return the mean cost of each model's runs that have one."""
    found: dict[tuple[int, str], list[float]] = {}
    for record in records:
        value = record.n_params_updated if cost == "n_params_updated" else getattr(record.cost, cost, None)
        if value is None and cost == "flop":
            value = run_cost(records, record.method, record.n_params_base)[0]
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
