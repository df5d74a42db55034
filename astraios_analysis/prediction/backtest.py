"""The back-test: hold sizes out, fit the rest, predict every run held out, and compare.

What is scored is what `forecast` gives and every command prints: the median and the intervals for one new run.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd

from astraios_analysis.prediction.forecast import Fitted, fit_outcome
from astraios_analysis.prediction.limits import LEVELS, reach, score_values
from astraios_analysis.prediction.outcome import Outcome, measured_runs, record_outcome
from astraios_analysis.records.frame import RunRecord
from astraios_analysis.records.notation import count
from astraios_analysis.records.refusal import Refusal, attempt
from astraios_analysis.records.registry import LOSS
from astraios_analysis.scores.ranks import measured_datasets

RECORD_PROCEDURE = (
    "every law and pooling fitted to the sizes that are not held out; weights by stacking over the largest sizes among "
    "these, with Akaike weights (AICc) as one more look; from four sizes on (rates: five) mixed with each method's own "
    "curve in the same way; scores of runs with losses also through the loss, mixed by how likely each makes the "
    "largest fitted size; intervals are for one new run and hold fit, form, size and run"
)


def hold_out_sizes(
    records: Sequence[RunRecord], n_largest: int | None = None
) -> tuple[list[RunRecord], list[RunRecord]]:
    """Split runs of one grid into those to fit and those to predict, which are no longer marked held out.

    With ``n_largest``, so many of the largest sizes that are not marked are predicted, and marked ones left out
    altogether, because they take part in no fit. Without it the marked sizes are predicted, or else the largest one.
    """
    marked = [record for record in records if record.held_out]
    if n_largest is None and marked:
        return [r for r in records if not r.held_out], [r.model_copy(update={"held_out": False}) for r in marked]
    kept = [record for record in records if not record.held_out]
    sizes = sorted({record.n_params_base for record in kept})
    n_largest = 1 if n_largest is None else n_largest
    if not 0 < n_largest < len(sizes):
        remedy = f"hold out 1 to {len(sizes) - 1}" if len(sizes) > 1 else "measure another size"
        raise Refusal(
            f"{count(n_largest, 'size')} held out of {len(sizes)} leave nothing to fit or to predict; {remedy}"
        )
    first = sizes[-n_largest]
    return [r for r in kept if r.n_params_base < first], [r for r in kept if r.n_params_base >= first]


def predict_runs(fitted: Fitted, runs: pd.DataFrame, levels: Sequence[float] = LEVELS) -> pd.DataFrame:
    """Predict each of some runs (`Outcome.runs`) of methods that were fitted, and compare.

    The columns are those of the runs, and ``predicted, error`` (predicted minus measured), ``lower_L, upper_L,
    covered_L`` for each of the levels L in percent, ``persistence`` (no change from the method's largest fitted size),
    ``n_train_sizes`` and ``reach``.
    """
    points, parts = fitted.outcome.points, []
    runs = runs[runs["method"].isin(fitted.methods)]
    last = {m: points.keep(points.method == m) for m in fitted.methods}
    last = {m: float(fitted.outcome.turn(own.y[np.argmax(own.n_params)])) for m, own in last.items()}
    for n_params, own in runs.groupby("n_params", sort=True):
        found = fitted.intervals(float(n_params), levels)
        place = [fitted.methods.index(method) for method in own["method"]]
        columns = {"predicted": found.median[place], "error": found.median[place] - own["value"]}
        for level in levels:
            lower, upper = found.bounds["observation", level][:, place]
            name = f"{100 * level:g}"
            covered = (lower <= own["value"]) & (own["value"] <= upper)
            columns |= {f"lower_{name}": lower, f"upper_{name}": upper, f"covered_{name}": covered}
        persistence = [last[method] for method in own["method"]]
        beyond = reach(float(n_params), fitted.x_range)
        parts.append(own.assign(**columns, persistence=persistence, n_train_sizes=fitted.n_sizes, reach=beyond))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def largest_from_smaller(outcome: Outcome, levels: Sequence[float] = LEVELS) -> pd.DataFrame | None:
    """Predict the runs of the largest size from the smaller ones; None where these are too few to predict any."""
    size = float(outcome.points.sizes[-1])
    try:
        fitted = fit_outcome(outcome.below(size))
    except Refusal:
        return None
    rows = predict_runs(fitted, outcome.runs[outcome.runs["n_params"] == size], levels)
    return rows if len(rows) else None


def describe(
    rows: pd.DataFrame, measured: str = "value", predicted: str = "predicted", last: str = "persistence"
) -> dict[str, float]:
    """Return how far predictions fell: ``n, mean_abs_error, persistence_mean_abs_error, n_covered`` (by 95 %)."""
    truth = rows[measured]
    return {
        "n": len(rows),
        "mean_abs_error": float((rows[predicted] - truth).abs().mean()),
        "persistence_mean_abs_error": float((rows[last] - truth).abs().mean()),
        "n_covered": int(((rows["lower_95"] <= truth) & (truth <= rows["upper_95"])).sum()),
    }


def backtest_records(
    records: Sequence[RunRecord],
    n_largest: int | None = None,
    quantities: Sequence[str] | None = None,
    progress: Callable[[Sequence[str]], Iterable[str]] = lambda items: items,
) -> tuple[list[dict], list[str]]:
    """Hold out sizes (`hold_out_sizes`), predict the loss and every primary score at them, and score the predictions.

    Returns one group a quantity (``val_loss`` and names of data sets; all that are measured by default), and why others
    could not be back-tested. A group holds what `limits.score_values` gives, on the scale of the logarithm, with
    ``persistence_rmse_log``, ``sizes`` (held out) and ``rows`` (`predict_runs`).
    """
    train, test = hold_out_sizes(records, n_largest)
    wanted = list(quantities) if quantities is not None else [LOSS, *measured_datasets(list(records))]

    def back_test(quantity: str) -> dict:
        outcome = record_outcome(train, quantity)
        fitted = fit_outcome(outcome)
        rows = predict_runs(fitted, measured_runs(test, quantity))
        if not len(rows):
            raise Refusal("no run of a held-out size has it, for a method that has it at a fitted one")
        n_items = _items(outcome, rows)
        measured, last = (
            outcome.inside(rows[name].to_numpy(dtype=float), n_items) for name in ("value", "persistence")
        )
        return {
            "group": {"grid": train[0].grid, "quantity": quantity},
            "n_train": len(outcome.points.y),
            **score_rows(outcome, rows),
            "weights": fitted.weights,
            "persistence_rmse_log": float(np.sqrt(np.mean((np.log(last) - np.log(measured)) ** 2))),
            "sizes": list(dict.fromkeys(rows["size"])),
            "rows": rows.assign(quantity=quantity),
        }

    found, refused = attempt(progress(wanted), back_test)
    return list(found.values()), [f"{quantity}: {reason}" for quantity, reason in refused.items()]


def _items(outcome: Outcome, rows: pd.DataFrame) -> np.ndarray | None:
    return None if outcome.n_items is None else rows["n_items"].to_numpy(dtype=float)


def score_rows(outcome: Outcome, rows: pd.DataFrame) -> dict:
    """Score predicted runs on the scale of the logarithm, shares kept half a problem away from 0 and 1."""
    n_items = _items(outcome, rows)
    shares = [name for name in rows if name.startswith(("value", "predicted", "lower_", "upper_"))]
    inside = {name: outcome.inside(rows[name].to_numpy(dtype=float), n_items) for name in shares}
    bounds = {level: tuple(inside[f"{end}_{100 * level:g}"] for end in ("lower", "upper")) for level in LEVELS}
    return score_values(inside["value"], np.log(inside["predicted"]), bounds)
