"""What comes of choosing a method by small models: how often the choice is right, and what a wrong one gives up.

Two rules of choice are followed: take the method that is best at a smaller measured size, and take the one that a
pooled law, fitted to the sizes up to there, expects to be best at the larger. Decision accuracy is the share of pairs
of methods whose order at the smaller size is that at the larger (as in Magnusson et al. 2025); regret is the score
given up by the choice. Probabilities and intervals resample problems, and seeds where there are several.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from astraios_analysis.prediction.forecast import supported_score
from astraios_analysis.prediction.limits import reach
from astraios_analysis.prediction.points import score_points
from astraios_analysis.prediction.pool_fits import fit_pool
from astraios_analysis.records.frame import RunRecord
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.registry import DATASETS
from astraios_analysis.scores.bootstrap import ProblemBootstrap, percentile_interval
from astraios_analysis.scores.models import ModelScores, model_scores
from astraios_analysis.scores.ranks import measured_datasets

MIN_METHODS = 2
_N_DRAWS = 2000


def small_model_decisions(
    records: Sequence[RunRecord],
    dataset: str,
    *,
    level: float = 0.95,
    bootstrap: ProblemBootstrap | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Judge the choice of a method at every smaller size by the scores at every larger one.

    Parameters
    ----------
    records : sequence of RunRecord
        Runs of one grid; held-out ones take no part.
    dataset : str
    level : float
        Coverage of the intervals.
    bootstrap : ProblemBootstrap, optional
    seed : int

    Returns
    -------
    DataFrame
        One row for each pair of sizes and rule: ``dataset, metric, size_small, size_large, n_params_small,
        n_params_large, rule, chosen, best, is_right, p_right, regret, regret_lower, regret_upper, regret_random,
        pair_accuracy, pair_lower, pair_upper, level, n_methods, interval``. ``p_right`` is the share of resamples
        in which the method chosen on the data is the best at the larger size; ``regret_random`` what a choice by lot
        gives up on average. ``pair_accuracy`` is of the order that the rule goes by: measured or predicted scores.

    Raises
    ------
    Refusal
        If no two sizes share two methods.
    """
    try:
        scores = model_scores([r for r in records if not r.held_out], dataset, bootstrap)
    except ValueError as error:
        raise Refusal(str(error)) from error
    if scores.table.empty:
        raise Refusal(f"no run has a primary score on {dataset}; choose another data set or add runs")
    values, drawn = scores.goodness(scores.table["value"].to_numpy(dtype=float)), scores.draws_of_runs(seed)
    sizes = sorted(set(scores.table["n_params_base"]))
    place = {(row.n_params_base, row.method): i for i, row in enumerate(scores.table.itertuples())}
    rows = []
    for index, small in enumerate(sizes):
        for large in sizes[index + 1 :]:
            methods = [m for m in dict.fromkeys(scores.table["method"]) if {(small, m), (large, m)} <= place.keys()]
            if len(methods) < MIN_METHODS:
                continue
            at_small, at_large = ([place[n, m] for m in methods] for n in (small, large))
            shared = _sizes_row(scores, at_small[0], at_large[0]) | {"level": level, "n_methods": len(methods)}
            outcome = (values[at_large], drawn[:, at_large], methods, level)
            measured = _outcome(values[at_small], drawn[:, at_small], *outcome)
            ways = {"interval": f"percentile, {scores.interval_of([*at_small, *at_large])}"}
            rows.append(shared | {"rule": "best at the smaller size"} | measured | ways)
            expected = _expected(scores, small, large, methods, seed)
            if expected is not None:
                rows.append(shared | {"rule": "predicted from sizes up to it"} | _outcome(*expected, *outcome) | ways)
    if not rows:
        raise Refusal(f"{dataset}: no two sizes share {MIN_METHODS} methods; add runs")
    return pd.DataFrame(rows)


def _sizes_row(scores: ModelScores, small: int, large: int) -> dict:
    table = scores.table
    row = {"dataset": scores.dataset, "metric": scores.metric}
    for side, place in (("small", small), ("large", large)):
        row[f"size_{side}"] = table["size"].iloc[place]
        row[f"n_params_{side}"] = int(table["n_params_base"].iloc[place])
    return row


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
    is_best = draws == draws.max(axis=1, keepdims=True)
    lower, upper = percentile_interval(regrets, level)
    by_draw = np.broadcast_to(choice, draws.shape) if choice_draws is None else choice_draws
    pairs = percentile_interval(_pair_accuracy(by_draw, draws), level)
    known = ~np.isnan(draws).any(axis=1)
    p_right = (is_best / is_best.sum(axis=1, keepdims=True))[known, chosen]
    return {
        "chosen": methods[chosen],
        "best": methods[best],
        "is_right": bool(value[chosen] == value[best]),
        "p_right": float(p_right.mean()) if known.any() else np.nan,
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


def _expected(
    scores: ModelScores, small: int, large: int, methods: list[str], seed: int
) -> tuple[np.ndarray, np.ndarray | None] | None:
    """Return the methods' scores at the larger size that a law of the sizes up to the smaller one expects."""
    train = scores.keep((scores.table["n_params_base"] <= small).to_numpy())
    try:
        pool = fit_pool(score_points(train), "logit", seed=seed)
    except Refusal:
        return None
    drawn = pool.draw(methods, float(large), _N_DRAWS, np.random.default_rng([seed, 21]), observation=False)
    return np.median(drawn, axis=0), None


def best_at_size(
    records: Sequence[RunRecord],
    dataset: str,
    n_params: float,
    *,
    level: float = 0.95,
    force: bool = False,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the probability that each method is the best at a size, measured or not.

    Parameters
    ----------
    records : sequence of RunRecord
        Runs of one grid; held-out ones take no part.
    dataset : str
    n_params : float
        Base parameters.
    level : float
    force : bool
        Allow sizes beyond `predictions.MAX_REACH`.
    seed : int

    Returns
    -------
    DataFrame
        ``dataset, metric, n_params, method, p_best, value, lower, upper, level, interval, reach, expected_regret,
        n_models``, most probable first; ``n_models`` are the models fitted. ``p_best``: the share of
        joint draws of one new run of each method in which it is first; what the methods share at a size cancels.
        ``expected_regret``: what choosing it gives up on average.

    Raises
    ------
    Refusal
        If the records cannot support a prediction, or the size is too far (`pooled_predictions.require_supported`).
    """
    if dataset not in DATASETS or DATASETS[dataset].primary_metric is None:
        known = ", ".join(d.name for d in DATASETS.values() if d.primary_metric)
        raise Refusal(f"unknown data set {dataset!r}; choose from {known}")
    fitted = [record for record in records if not record.held_out]
    scores = model_scores(fitted, dataset, ProblemBootstrap(n_draws=2, seed=seed))
    if scores.table.empty:
        raise Refusal(f"no run has a score on {dataset} to fit")
    methods = list(dict.fromkeys(scores.table["method"]))
    forecast = supported_score(fitted, dataset, methods, n_params, force=force, seed=seed)
    beyond = reach(n_params, forecast.x_range)
    drawn = np.column_stack([forecast.draws["observation"][method] for method in methods])
    good = scores.goodness(drawn)
    is_best = good == good.max(axis=1, keepdims=True)
    p_best = (is_best / is_best.sum(axis=1, keepdims=True)).mean(axis=0)
    regret = (good.max(axis=1, keepdims=True) - good).mean(axis=0)
    rows, n_models = [], len(scores.table[["n_params_base", "method"]].drop_duplicates())
    for index, method in enumerate(methods):
        lower, upper = percentile_interval(drawn[:, index], level)
        row = {"dataset": dataset, "metric": scores.metric, "n_params": round(n_params), "method": method}
        row |= {"p_best": float(p_best[index]), "value": float(np.median(drawn[:, index])), "lower": lower}
        row |= {"upper": upper, "level": level, "interval": "prediction, one new run", "reach": beyond}
        rows.append(row | {"expected_regret": float(regret[index]), "n_models": n_models})
    return pd.DataFrame(rows).sort_values("p_best", ascending=False, kind="stable").reset_index(drop=True)


def decisions_all(
    records: Sequence[RunRecord], *, level: float = 0.95, bootstrap: ProblemBootstrap | None = None
) -> pd.DataFrame:
    """Run `small_model_decisions` for every data set that has two sizes, one below the other.

    Raises
    ------
    Refusal
        If there is none.
    """
    bootstrap, parts = bootstrap or ProblemBootstrap(), []
    for name in measured_datasets(list(records)):
        try:
            parts.append(small_model_decisions(records, name, level=level, bootstrap=bootstrap))
        except Refusal:
            continue
    if not parts:
        raise Refusal("no data set has scores of two methods at two sizes; add runs")
    return pd.concat(parts, ignore_index=True)


def best_at_size_all(records: Sequence[RunRecord], n_params: float, *, level: float = 0.95) -> pd.DataFrame:
    """Run `best_at_size` for every data set that has scores, one below the other.

    Returns
    -------
    DataFrame
        As `best_at_size`, and ``refusal``: a data set that must not be predicted has one row without a method, with
        the reason.

    Raises
    ------
    Refusal
        If none can be predicted.
    """
    parts, refused = [], {}
    for name in measured_datasets(list(records)):
        try:
            parts.append(best_at_size(records, name, n_params, level=level))
        except Refusal as error:
            refused[name] = str(error).removeprefix(f"{name}: ")
    if not parts:
        listed = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
        raise Refusal(listed or "no run has a primary score; add runs with scores")
    metrics = [DATASETS[name].primary_metric for name in refused]
    rows = {"dataset": list(refused), "metric": metrics, "n_params": round(n_params), "level": level}
    rows |= {"n_models": 0, "refusal": list(refused.values())}
    found = [part.assign(refusal="") for part in parts]
    return pd.concat([*found, pd.DataFrame(rows)] if refused else found, ignore_index=True)
