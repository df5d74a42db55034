"""Back-test predictions on records: hold out sizes, fit the rest, predict every loss and score, for every law.

What is scored is what ``astraios predict`` prints: the averaged prediction for one new run, against each run of the
held-out sizes. Every law and pooling that is averaged is scored beside it.
"""

from collections.abc import Callable, Sequence

import numpy as np

from astraios_analysis.prediction.forecast import LOSS, N_DRAWS, Forecast, forecast_loss, forecast_score
from astraios_analysis.prediction.limits import LEVELS, score_values
from astraios_analysis.prediction.points import loss_points, score_points
from astraios_analysis.prediction.pooled_points import PooledPoints
from astraios_analysis.prediction.stack import fit_stack
from astraios_analysis.records.counts import inside_unit_interval
from astraios_analysis.records.frame import RunRecord
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.scores.bootstrap import ProblemBootstrap, primary_score
from astraios_analysis.scores.models import model_scores
from astraios_analysis.scores.ranks import measured_datasets

RECORD_PROCEDURE = (
    "every law and pooling fitted to the sizes that are not held out; weights by stacking over the largest sizes among "
    "these, with Akaike weights (AICc) as one more look; scores of runs with losses also through the loss, mixed by "
    "how likely each makes the largest fitted size; intervals are for one new run and hold fit, form, size and run"
)


def hold_out_sizes(
    records: Sequence[RunRecord], n_largest: int | None = None
) -> tuple[list[RunRecord], list[RunRecord]]:
    """Split runs into those to fit and those to predict.

    Parameters
    ----------
    records : sequence of RunRecord
        Runs of one grid.
    n_largest : int, optional
        Predict so many of the largest sizes that are not marked held out; marked ones are then left out altogether,
        because they take part in no fit. Without it the marked sizes are predicted, or else the largest one.

    Returns
    -------
    train, test : list of RunRecord
        Runs to predict are no longer marked held out.

    Raises
    ------
    Refusal
        If no size would be left to fit.
    """
    marked = [record for record in records if record.held_out]
    if n_largest is None and marked:
        return [r for r in records if not r.held_out], [r.model_copy(update={"held_out": False}) for r in marked]
    kept = [record for record in records if not record.held_out]
    sizes = sorted({record.n_params_base for record in kept})
    n_largest = 1 if n_largest is None else n_largest
    if not 0 < n_largest < len(sizes):
        raise Refusal(
            f"{n_largest} sizes held out of {len(sizes)} leave nothing to fit or to predict; hold out 1 to "
            f"{max(len(sizes) - 1, 1)}"
        )
    first = sizes[-n_largest]
    return [r for r in kept if r.n_params_base < first], [r for r in kept if r.n_params_base >= first]


def backtest_records(
    records: Sequence[RunRecord],
    n_largest: int | None = None,
    quantities: Sequence[str] | None = None,
    *,
    seed: int = 0,
    progress: Callable[[Sequence], Sequence] = lambda items: items,
) -> tuple[list[dict], list[str]]:
    """Hold out sizes, predict the loss and every primary score at them, and score the predictions.

    Parameters
    ----------
    records : sequence of RunRecord
        Runs of one grid.
    n_largest : int, optional
        As in `hold_out_sizes`.
    quantities : sequence of str, optional
        ``val_loss`` and names of data sets; all that are measured by default.
    seed : int
    progress : callable
        Wraps the sequence of quantities, as ``tqdm`` does.

    Returns
    -------
    groups : list of dict
        For each quantity what `csv_backtests.score_group` gives, on the scale of its logarithm, with
        ``persistence_rmse_log`` (no change from the method's largest size), ``sizes`` (held out) and ``laws``: each
        law and pooling with its ``weight``, ``aicc``, ``left_out`` log density and scores of its own.
    refused : list of str
        What could not be back-tested, and why.

    Raises
    ------
    Refusal
        If sizes cannot be held out.
    """
    train, test = hold_out_sizes(records, n_largest)
    wanted = list(quantities) if quantities is not None else [LOSS, *measured_datasets(list(records))]
    groups, refused = [], []
    for quantity in progress(wanted):
        try:
            groups.append(_backtest(train, test, quantity, seed))
        except ValueError as error:
            text = str(error)
            refused.append(text if text.startswith(quantity) else f"{quantity}: {text}")
    return groups, refused


def _backtest(train: list[RunRecord], test: list[RunRecord], quantity: str, seed: int) -> dict:
    points, turn = _points(train, quantity)
    runs = _runs(test, quantity, set(points.method))
    if not runs:
        raise Refusal(f"{quantity}: no run of a held-out size has it, for a method that has it at a fitted one")
    stack = fit_stack(points, "log" if quantity == LOSS else "logit", seed=seed)
    drawn, by_form = [], {score.form.name: [] for score in stack.scores}
    measured = np.array([value for _, _, value, _ in runs])
    n_items = None if quantity == LOSS else np.array([n for *_, n in runs], dtype=float)
    forecasts: dict[int, Forecast] = {}
    for n_params in dict.fromkeys(n for n, *_ in runs):
        methods = list(dict.fromkeys(m for n, m, *_ in runs if n == n_params))
        own = [methods.index(m) for n, m, *_ in runs if n == n_params]
        forecasts[n_params] = forecast = _forecast(train, quantity, methods, n_params, seed)
        drawn.append(np.column_stack([forecast.draws["observation"][m] for m in methods])[:, own])
        for score, pool in zip(stack.scores, stack.pools, strict=True):
            rng = np.random.default_rng([seed, 15])
            values = pool.draw(methods, float(n_params), N_DRAWS, rng, observation=True)[:, own]
            by_form[score.form.name].append(turn(values))
    last = np.array([_last(points, method, turn) for _, method, *_ in runs])
    laws = [
        {"law": s.form.law, "pooling": s.form.pooling, "weight": s.weight}
        | {"aicc": s.aicc if np.isfinite(s.aicc) else None, "left_out": None if np.isnan(s.left_out) else s.left_out}
        | _score_draws(measured, np.hstack(by_form[s.form.name]), n_items)
        for s in stack.scores
    ]
    return {
        "group": {"grid": train[0].grid, "quantity": quantity},
        "n_train": len(points.y),
        **_score_draws(measured, np.hstack(drawn), n_items),
        "weights": next(iter(forecasts.values())).weights,
        "persistence_rmse_log": float(np.sqrt(np.mean((np.log(last) - np.log(measured)) ** 2))),
        "sizes": list(dict.fromkeys(r.size for r in test if r.n_params_base in forecasts)),
        "laws": laws,
    }


def _points(train: list[RunRecord], quantity: str) -> tuple[PooledPoints, Callable]:
    """Return points to fit, and what turns values of theirs into values of the metric."""
    if quantity == LOSS:
        return loss_points(train), lambda values: values
    scores = model_scores(train, quantity, ProblemBootstrap(n_draws=2))
    return score_points(scores), scores.goodness


def _forecast(train: list[RunRecord], quantity: str, methods: list[str], n_params: int, seed: int) -> Forecast:
    if quantity == LOSS:
        return forecast_loss(train, methods, float(n_params), seed=seed)
    return forecast_score(train, quantity, methods, float(n_params), seed=seed)


def _runs(test: list[RunRecord], quantity: str, methods: set[str]) -> list[tuple[int, str, float, int | None]]:
    """Return size, method, value and number of items of each run to predict, sizes increasing.

    Shares lie inside (0, 1); losses have no items.
    """
    found = []
    for record in sorted(test, key=lambda r: r.n_params_base):
        value, n_items = record.val_loss, None
        if quantity != LOSS:
            score = primary_score(record, quantity)
            if score is None:
                continue
            n_items = score.n_items
            value = float(inside_unit_interval(np.array([score.value]), np.array([float(n_items)]))[0])
        if value is not None and record.method in methods:
            found.append((record.n_params_base, record.method, value, n_items))
    return found


def _last(points: PooledPoints, method: str, turn: Callable) -> float:
    """Return the method's value at its largest fitted size."""
    own = points.keep(points.method == method)
    return float(turn(own.y[np.argmax(own.n_params)]))


def _score_draws(measured: np.ndarray, draws: np.ndarray, n_items: np.ndarray | None) -> dict:
    if n_items is not None:
        # Draws of a share near 0 or 1 cannot be told from it by so many items, and logarithms go to minus infinity.
        draws = np.clip(draws, *(inside_unit_interval(np.full(n_items.shape, end), n_items) for end in (0.0, 1.0)))
    bounds = {level: tuple(np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)) for level in LEVELS}
    return score_values(measured, np.log(np.median(draws, axis=0)), bounds)
