"""Predict losses and scores at unmeasured sizes by draws: laws averaged, seeds included, the chain loss to score too.

A score can be had directly, from its own law of size, or through the loss: size to loss by the pooled power law, loss
to score by binomial regression. Where a grid has losses both are drawn and mixed, with weights from how likely each
makes the scores of the largest fitted size after being fitted to the smaller ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from astraios_analysis.prediction.chain import choose_pooling, fit_loss_score
from astraios_analysis.prediction.limits import KINDS, LEVELS, reach, require_reach, require_sizes
from astraios_analysis.prediction.points import loss_points, score_points, without_largest
from astraios_analysis.prediction.pooled_points import Link, PooledPoints
from astraios_analysis.prediction.stack import Stack, fit_stack
from astraios_analysis.records.frame import RunRecord
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.registry import DATASETS, LOSS
from astraios_analysis.scores.bootstrap import ProblemBootstrap, primary_score
from astraios_analysis.scores.models import ModelScores, model_scores

N_DRAWS = 4000
Draws = dict[str, np.ndarray]


@dataclass(frozen=True)
class Forecast:
    """Draws of one quantity at one size, method by method and kind by kind.

    Attributes
    ----------
    quantity, metric : str
    draws : dict of str to dict
        For each kind (``observation``, ``mean``) the draws of each method; methods of one draw belong together.
    weights : dict of str to float
        Laws averaged and their weights.
    x_range : tuple of float
        Sizes fitted.
    sizes_fitted : int
    backtest : dict of str to float, or None
        The largest fitted size predicted from the smaller ones: ``n, mean_abs_error, persistence_mean_abs_error,
        n_covered`` (95 % intervals). None where fewer than four sizes leave nothing to test with.
    """

    quantity: str
    metric: str
    draws: dict[str, Draws]
    weights: dict[str, float]
    x_range: tuple[float, float]
    sizes_fitted: int
    backtest: dict[str, float] | None


def forecast_points(
    points: PooledPoints, link: Link, methods: Sequence[str], n_params: float, *, name: str, metric: str, seed: int = 0
) -> Forecast:
    """Predict an outcome of methods at a size by the pooled law of the size.

    Raises
    ------
    Refusal
        If the points cannot support it.
    """
    try:
        pool = fit_stack(points, link, seed=seed)
        draws = _pool_draws(pool, methods, n_params, seed)
    except Refusal as error:
        raise Refusal(f"{name}: {error}") from error
    tested = _backtest(points, lambda train, known, size: _test_draws(train, link, known, size, seed))
    n_sizes = len(np.unique(points.n_params))
    return Forecast(name, metric, draws, pool.weights, pool.x_range, n_sizes, tested)


def _pool_draws(pool: Stack, methods: Sequence[str], n_params: float, seed: int) -> dict[str, Draws]:
    found = {}
    for kind in KINDS:
        rng = np.random.default_rng([seed, 11])
        drawn = pool.draw(methods, n_params, N_DRAWS, rng, observation=kind == "observation")
        found[kind] = dict(zip(methods, drawn.T, strict=True))
    return found


def _test_draws(train: PooledPoints, link: Link, methods: Sequence[str], n_params: float, seed: int) -> Draws:
    pool = fit_stack(train, link, seed=seed)
    known = [method for method in methods if method in pool.methods]
    return _pool_draws(pool, known, n_params, seed)["observation"]


def _backtest(points: PooledPoints, predict) -> dict[str, float] | None:
    """Predict the largest fitted size from the smaller ones; None where these are fewer than three."""
    train, test = without_largest(points)
    try:
        drawn = predict(train, test.method.tolist(), float(test.n_params[0]))
    except Refusal:
        return None
    errors, persistence, covered = [], [], 0
    for method, value in zip(test.method, test.y, strict=True):
        own = train.method == method
        if method not in drawn or not own.any():
            continue
        lower, centre, upper = np.quantile(drawn[method], [0.025, 0.5, 0.975])
        errors.append(abs(centre - value))
        persistence.append(abs(train.y[own][np.argmax(train.n_params[own])] - value))
        covered += int(lower <= value <= upper)
    if not errors:
        return None
    found = {"n": len(errors), "mean_abs_error": float(np.mean(errors)), "n_covered": covered}
    return found | {"persistence_mean_abs_error": float(np.mean(persistence))}


def forecast_loss(records: Sequence[RunRecord], methods: Sequence[str], n_params: float, *, seed: int = 0) -> Forecast:
    """Predict the validation loss of methods at a size.

    Raises
    ------
    Refusal
        If the runs have no losses or too few sizes.
    """
    points = loss_points(records)
    return forecast_points(points, "log", methods, n_params, name=LOSS, metric="nats per token", seed=seed)


def forecast_score(
    records: Sequence[RunRecord], dataset: str, methods: Sequence[str], n_params: float, *, seed: int = 0
) -> Forecast:
    """Predict a data set's primary score at a size, directly and (where there are losses) through the loss.

    Raises
    ------
    Refusal
        If the runs cannot support it.
    """
    scores = model_scores(records, dataset, ProblemBootstrap(n_draws=200, seed=seed))
    metric = DATASETS[dataset].primary_metric or ""
    points = score_points(scores)
    direct = forecast_points(points, "logit", methods, n_params, name=dataset, metric=metric, seed=seed)
    try:
        losses = loss_points(records)
        chain, pooling = _chain(scores, losses, methods, n_params, seed)
    except Refusal:
        return _turn(direct, scores)
    mixed = _mix(scores, points, losses, (direct.draws, chain), methods, seed)
    draws, share, tested = mixed
    weights = {name: weight * (1 - share) for name, weight in direct.weights.items()}
    weights |= {f"power_floor>logistic/{pooling}": share}
    return _turn(Forecast(dataset, metric, draws, weights, direct.x_range, direct.sizes_fitted, tested), scores)


def _turn(forecast: Forecast, scores: ModelScores) -> Forecast:
    """Turn draws of a share that is better when lower back to what is measured."""
    if scores.higher_is_better:
        return forecast
    draws = {kind: {m: 1 - values for m, values in own.items()} for kind, own in forecast.draws.items()}
    return Forecast(**(vars(forecast) | {"draws": draws}))


def _chain(
    scores: ModelScores, losses: PooledPoints, methods: Sequence[str], n_params: float, seed: int
) -> tuple[dict[str, Draws], str]:
    """Draw losses at a size, and goodness at each of them."""
    pooling, _ = choose_pooling(scores)
    curve = fit_loss_score(scores, pooling)
    pool = fit_stack(losses, "log", seed=seed)
    found: dict[str, Draws] = {}
    for kind in KINDS:
        rng = np.random.default_rng([seed, 12])
        observation = kind == "observation"
        drawn = pool.draw(methods, n_params, N_DRAWS, rng, observation=observation)
        # One stream for all methods: the draws of the curve that methods share stay shared.
        found[kind] = {
            method: scores.goodness(
                curve.draw_scores(loss, method, np.random.default_rng([seed, 13]), observation=observation)
            )
            for method, loss in zip(methods, drawn.T, strict=True)
        }
    return found, pooling


def _mix(scores, points, losses, candidates, methods, seed):
    """Mix direct and chained draws; return them, the share of the chain, and the back-test of the mixture."""
    direct, chain = candidates
    train, test = without_largest(points)
    size = float(test.n_params[0])
    share = 0.5
    tried: list[Draws] = []
    try:
        smaller = scores.keep((scores.table["n_params_base"] < size).to_numpy())
        known = [m for m in test.method.tolist() if m in set(train.method)]
        loss_train = PooledPoints(
            *(a[losses.n_params < size] for a in _arrays(losses)), losses.seed_variance, losses.n_seeds
        )
        tried = [_test_draws(train, "logit", known, size, seed)]
        tried.append(_chain(smaller, loss_train, known, size, seed)[0]["observation"])
        fits = [np.mean([_log_density(d[m], float(test.y[test.method == m][0])) for m in known]) for d in tried]
        # The methods of one size share its size effect: together they count as one look.
        share = float(1 / (1 + np.exp(np.clip(fits[0] - fits[1], -50, 50))))
    except Refusal:
        tried = []
    take = np.random.default_rng([seed, 14]).random(N_DRAWS) < share
    mixed = {kind: {m: np.where(take, chain[kind][m], direct[kind][m]) for m in methods} for kind in KINDS}
    tested = None
    if tried:
        tested = _backtest(points, lambda *_: {m: np.where(take, tried[1][m], tried[0][m]) for m in tried[0]})
    return mixed, share, tested


def _arrays(points: PooledPoints) -> tuple[np.ndarray, ...]:
    return points.n_params, points.y, points.method, points.noise


def _log_density(draws: np.ndarray, value: float) -> float:
    """Return the log density of draws of a share at a value, normal on the logit scale."""
    z = np.log(np.clip(draws, 1e-6, 1 - 1e-6)) - np.log1p(-np.clip(draws, 1e-6, 1 - 1e-6))
    at = np.log(value) - np.log1p(-value)
    spread = max(float(z.std()), 1e-3)
    return -np.log(spread) - (at - float(z.mean())) ** 2 / (2 * spread**2)


def require_supported(forecast: Forecast, n_params: float, *, force: bool = False) -> None:
    """Refuse a forecast that must not be shown: the one rule of commands, notebooks and answers.

    Raises
    ------
    Refusal
        If nothing could be back-tested, or the size lies further than `predictions.MAX_REACH` beyond the sizes fitted
        and ``force`` is not set.
    """
    require_sizes(forecast.sizes_fitted)
    if forecast.backtest is None:
        raise Refusal(
            f"measured at {forecast.sizes_fitted} sizes, but the smaller ones predict no method of the largest, so "
            "nothing tests the prediction's intervals. Measure more methods at the largest"
        )
    require_reach(n_params, forecast.x_range, force=force)


def supported_score(
    records: Sequence[RunRecord],
    dataset: str,
    methods: Sequence[str],
    n_params: float,
    *,
    force: bool = False,
    seed: int = 0,
) -> Forecast:
    """Predict a data set's primary score as `forecast_score`, if the prediction may be shown.

    Raises
    ------
    Refusal
        As `require_supported`; the message begins with the data set.
    """
    sizes = {r.n_params_base for r in records if not r.held_out and primary_score(r, dataset) is not None}
    try:
        # Known without a fit, which takes seconds.
        require_sizes(len(sizes))
        forecast = forecast_score(records, dataset, methods, n_params, seed=seed)
        require_supported(forecast, n_params, force=force)
    except Refusal as error:
        raise Refusal(f"{dataset}: {str(error).removeprefix(f'{dataset}: ')}") from error
    return forecast


def forecast_rows(forecast: Forecast, size: str, n_params: float, *, force: bool = False) -> list[dict]:
    """Return a forecast as the rows that ``astraios predict`` prints, one a method.

    Raises
    ------
    Refusal
        As `require_supported`.
    """
    require_supported(forecast, n_params, force=force)
    beyond = reach(n_params, forecast.x_range)
    weights = {name: weight for name, weight in forecast.weights.items() if weight >= 1e-6}
    return [
        {
            "size": size,
            "n_params": n_params,
            "method": method,
            "quantity": forecast.quantity,
            "metric": forecast.metric,
            "value": float(np.median(forecast.draws["observation"][method])),
            "intervals": _intervals(forecast.draws, method),
            "reach": beyond,
            "weights": weights,
            "sizes_fitted": forecast.sizes_fitted,
            "backtest": forecast.backtest,
        }
        for method in forecast.draws["observation"]
    ]


def _intervals(draws: Mapping[str, Draws], method: str) -> list[dict]:
    found = []
    for kind in KINDS:
        for level in LEVELS:
            lower, upper = np.quantile(draws[kind][method], [(1 - level) / 2, (1 + level) / 2])
            found.append({"level": level, "kind": kind, "lower": float(lower), "upper": float(upper)})
    return found
