"""What follows from a choice: the fit, the prediction and the back-test, as tables; no widgets and no drawing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from astraios_analysis.explorer.choices import LOSS, X_LABELS, Choice, complete, options_of, starting_choice
from astraios_analysis.explorer.curves import Curve, fit_curve
from astraios_analysis.explorer.law_curves import LawCurve
from astraios_analysis.explorer.points import chosen_points, outcome_table
from astraios_analysis.prediction.limits import LEVELS, MAX_REACH, reach
from astraios_analysis.records.frame import RunRecord
from astraios_analysis.records.refusal import Refusal

N_LINE_POINTS = 30
_PREDICTED = ["method", "x", "value", "lower", "upper", "level", "kind", "reach"]
IN_TURN = "in turn"
KEY_OF_X = "n_params_base"


@dataclass(frozen=True)
class Exploration:
    """What follows from a choice.

    Attributes
    ----------
    choice : Choice
        Completed: every default filled in.
    grid : str
    models, seeds : DataFrame
        What was measured (`points.COLUMNS`), means over seeds and single runs.
    curve : Curve
    parameters : DataFrame
        ``group, parameter, value, lower, upper, identified, interval``.
    certificate : dict of str to str
        What speaks for and against the fit; complete after `certify`.
    predictions : DataFrame
        At the target: ``method, x, value, lower, upper, level, kind, reach``; kind ``observation`` is where a new run
        falls, ``mean`` where the law is.
    backtest : DataFrame
        Sizes that the fit beside them has not seen: ``held_out_by, size, method, x, measured, predicted, lower, upper,
        level, error, covered, no_change_error, reach``.
    notes : tuple of str
        What is left out, and why.
    is_certified : bool
        Whether profile intervals have been made, where the law needs them.
    """

    choice: Choice
    grid: str
    models: pd.DataFrame
    seeds: pd.DataFrame
    curve: Curve
    parameters: pd.DataFrame
    certificate: dict[str, str]
    predictions: pd.DataFrame
    backtest: pd.DataFrame
    notes: tuple[str, ...]
    is_certified: bool

    @property
    def fitted_range(self) -> tuple[float, float]:
        """Smallest and largest input fitted."""
        fitted = self.models.loc[self.models["held_out_by"].isna(), "x"]
        return float(fitted.min()), float(fitted.max())


def explore(records: Sequence[RunRecord], choice: Choice, *, outcomes: pd.DataFrame | None = None) -> Exploration:
    """Fit, predict and back-test what a choice says.

    Parameters
    ----------
    records : sequence of RunRecord
        Of one grid.
    choice : Choice
    outcomes : DataFrame, optional
        `points.outcome_table` of the choice, where it is at hand: it does not depend on law, input, methods or sizes.

    Returns
    -------
    Exploration
        Profile intervals take longest and are left to `certify`.

    Raises
    ------
    Refusal
        If the grid cannot answer; the message says why.
    """
    choice = complete(choice, options_of(records))
    outcomes = outcome_table(records, choice) if outcomes is None else outcomes
    models, seeds = chosen_points(records, choice, outcomes)
    is_fitted = models["held_out_by"].isna()
    curve = fit_curve(choice.law, choice.pooling, models[is_fitted], seeds)
    largest = float(models.loc[is_fitted, "x"].max())
    choice = replace(choice, target=float(choice.target or 2 * largest))
    predictions, beyond = _predict(curve, models[is_fitted], choice)
    backtest, untested = _backtest(curve, models, seeds, choice)
    left_out = tuple(f"no curve for {method}: {text}" for method, text in curve.refused.items())
    return Exploration(
        choice,
        records[0].grid,
        models,
        seeds,
        curve,
        curve.parameters(choice.level),
        curve.certificate(),
        predictions,
        backtest,
        (*left_out, *beyond, *untested),
        not isinstance(curve, LawCurve),
    )


def certify(exploration: Exploration) -> Exploration:
    """Return an exploration with profile intervals and what they say of each parameter, where the law has them."""
    curve = exploration.curve
    if exploration.is_certified or not isinstance(curve, LawCurve):
        return exploration
    parameters, warnings = curve.certify(exploration.choice.level)
    certificate = exploration.certificate | warnings
    return replace(exploration, parameters=parameters, certificate=certificate, is_certified=True)


def first_view(records: Sequence[RunRecord], *, level: float = 0.95, target: float | None = None) -> Exploration:
    """Return what the explorer starts with for a grid, certified.

    Raises
    ------
    Refusal
        If the grid has nothing to fit.
    """
    return certify(explore(records, starting_choice(records, level=level, target=target)))


def _predict(curve: Curve, fitted: pd.DataFrame, choice: Choice) -> tuple[pd.DataFrame, tuple[str, ...]]:
    rows, notes = [], []
    for method in curve.methods():
        beyond = reach(choice.target, _range_of(curve, fitted, method))
        if beyond > MAX_REACH:
            notes.append(
                f"{method} is not predicted: {choice.target:.4g} lies {beyond:.1f} times beyond its fitted range; the "
                f"limit is {MAX_REACH:g} times"
            )
            continue
        value = float(curve.centre(method, np.array([choice.target]))[0])
        for kind in ("observation", "mean"):
            for level in sorted({*LEVELS, choice.level}):
                ends = curve.interval(method, choice.target, level, kind)
                rows.append((method, choice.target, value, *ends, level, kind, beyond))
    return pd.DataFrame(rows, columns=_PREDICTED), tuple(notes)


def _range_of(curve: Curve, fitted: pd.DataFrame, method: str) -> tuple[float, float]:
    """Return the inputs behind a method's curve: its own, also where other methods lend it their shape."""
    own = fitted.loc[fitted["method"] == method, "x"]
    return float(own.min()), float(own.max())


def _backtest(
    curve: Curve, models: pd.DataFrame, seeds: pd.DataFrame, choice: Choice
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Compare with what the fit has not seen: sizes held out, and the largest fitted size held out in turn."""
    is_fitted = models["held_out_by"].isna()
    fitted, held_out = models[is_fitted], models[~is_fitted]
    rows = _compare(curve, fitted, held_out.assign(by=held_out["held_out_by"]), choice)
    is_last = fitted[KEY_OF_X] == fitted[KEY_OF_X].max()
    notes: tuple[str, ...] = ()
    try:
        smaller = fit_curve(choice.law, choice.pooling, fitted[~is_last], seeds)
        rows = [*_compare(smaller, fitted[~is_last], fitted[is_last].assign(by=IN_TURN), choice), *rows]
    except Refusal as error:
        notes = (f"the largest fitted size is not back-tested: {error}",)
    return pd.DataFrame(rows), notes


def _compare(curve: Curve, train: pd.DataFrame, test: pd.DataFrame, choice: Choice) -> list[dict]:
    rows = []
    for row in test.to_dict("records"):
        method, x, measured = row["method"], float(row["x"]), float(row["value"])
        own = train[train["method"] == method]
        if method not in curve.methods() or own.empty:
            continue
        predicted = float(curve.centre(method, np.array([x]))[0])
        lower, upper = curve.interval(method, x, choice.level, "observation")
        last = float(own.loc[own["x"].idxmax(), "value"])
        rows.append(
            {
                "held_out_by": row["by"],
                "size": row["size"],
                "method": method,
                "x": x,
                "measured": measured,
                "predicted": predicted,
                "lower": lower,
                "upper": upper,
                "level": choice.level,
                "error": predicted - measured,
                "covered": bool(lower <= measured <= upper),
                "no_change_error": last - measured,
                "reach": reach(x, _range_of(curve, train, method)),
            }
        )
    return rows


def summarise_backtest(backtest: pd.DataFrame) -> pd.DataFrame:
    """Summarise a back-test, one row for each size held out and by whom.

    Returns
    -------
    DataFrame
        ``held_out_by, size, n, mean_abs_error, no_change, n_covered, level``.
    """
    rows = []
    for (by, size), own in [] if backtest.empty else backtest.groupby(["held_out_by", "size"], sort=False):
        rows.append(
            {
                "held_out_by": by,
                "size": size,
                "n": len(own),
                "mean_abs_error": float(own["error"].abs().mean()),
                "no_change": float(own["no_change_error"].abs().mean()),
                "n_covered": int(own["covered"].sum()),
                "level": float(own["level"].iloc[0]),
            }
        )
    names = ["held_out_by", "size", "n", "mean_abs_error", "no_change", "n_covered", "level"]
    return pd.DataFrame(rows, columns=names)


def line_table(exploration: Exploration) -> pd.DataFrame:
    """Return every method's curve from its smallest input to the target: ``method, x, value, is_extrapolated``."""
    fitted = exploration.models[exploration.models["held_out_by"].isna()]
    parts = []
    for method in exploration.curve.methods():
        low, high = _range_of(exploration.curve, fitted, method)
        predicted = exploration.predictions.loc[exploration.predictions["method"] == method, "x"]
        ends = [low, high, *predicted, *exploration.models.loc[exploration.models["method"] == method, "x"]]
        # Four digits: the last bits of a power differ between machines, and a table of what is drawn should not.
        between = [float(f"{point:.4g}") for point in np.geomspace(min(ends), max(ends), N_LINE_POINTS)[1:-1]]
        x = np.unique([*between, *ends])
        value = exploration.curve.centre(method, x)
        beyond = (x < low * (1 - 1e-12)) | (x > high * (1 + 1e-12))
        parts.append(pd.DataFrame({"method": method, "x": x, "value": value, "is_extrapolated": beyond}))
    return pd.concat(parts, ignore_index=True)


def describe_choice(exploration: Exploration) -> str:
    """Return a choice in words: outcome, law, pooling, and what takes no part."""
    choice = exploration.choice
    what = "validation loss" if choice.y == LOSS else f"{choice.y} ({choice.measure})"
    out = f", without {', '.join(choice.held_out)}" if choice.held_out else ""
    return f"{what} against {X_LABELS[choice.x]}: {choice.law}, {choice.pooling}{out}"
