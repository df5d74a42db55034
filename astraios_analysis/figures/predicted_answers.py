"""What figures of fits, predictions, decisions and claims answer: functions from a figure's table to one sentence."""

import pandas as pd

from astraios_analysis.figures.style import join, name_dataset, name_method, size_label

CLEAR = 0.95
"""Probability from which a method is called clearly the best."""


def answer_best_method(table: pd.DataFrame) -> str | None:
    """Answer for `best_method`."""
    shown = table[table["is_drawn"].astype(bool)] if "is_drawn" in table else table
    return answer_clearly_best(shown)


def answer_clearly_best(table: pd.DataFrame) -> str | None:
    """Answer for `best_at_target`."""
    refused = say_refused(table)
    table = table.dropna(subset=["p_best"])
    firsts = table.sort_values("p_best", ascending=False).groupby("dataset", sort=False).head(1)
    clear = firsts[firsts["p_best"] >= CLEAR]
    named = join(f"{name_method(row['method'])} on {name_dataset(row['dataset'])}" for row in clear.to_dict("records"))
    found = f": {named}" if named else ""
    return (
        f"On {len(clear)} of {len(firsts)} data sets one method is the best with a probability of {CLEAR:g} or "
        f"more{found}. The highest probability is {firsts['p_best'].median():.2g} in the median.{refused}"
    )


def say_refused(table: pd.DataFrame) -> str:
    """Say which data sets of a figure's table are not predicted, and in short why; nothing where all are."""
    rows = refused_rows(table)
    # What follows the first clause explains it and stands in the table.
    reasons = rows["refusal"].astype(str).str.split(";").str[0]
    listed = [
        f"{join(name_dataset(name) for name in own['dataset'])} ({reason})"
        for reason, own in rows.groupby(reasons, sort=False)
    ]
    return f" Not predicted: {'; '.join(listed)}." if listed else ""


def refused_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a figure's table that stand for a data set that must not be predicted, with its reason."""
    if "refusal" not in table:
        return table.iloc[:0].assign(refusal="")
    return table[table["refusal"].fillna("").astype(str) != ""]


def answer_score_scaling(table: pd.DataFrame) -> str | None:
    """Answer for `score_scaling`."""
    predicted = table[(table["kind"] == "prediction") & (table["level"] > 0.9)]
    if predicted.empty:
        return say_refused(table).strip() or None
    width = (predicted["upper"] - predicted["lower"]).median()
    target = size_label(predicted["n_params_base"].max())
    return (
        f"A new run at {target}: 95 % prediction intervals are {100 * width:.0f} of 100 points wide in the median over "
        f"{predicted['dataset'].nunique()} data sets and their methods.{say_refused(table)}"
    )


def answer_small_against_large(table: pd.DataFrame) -> str | None:
    """Answer for `small_against_large`."""
    found = {
        dataset: rows["small"].corr(rows["large"], method="spearman")
        for dataset, rows in table.groupby("dataset", sort=False)
        if min(len(rows), rows["small"].nunique() + 1, rows["large"].nunique() + 1) > 2
    }
    known = pd.Series(found, dtype=float).dropna()
    if known.empty:
        return None
    ends = [f"{known[name]:.2f} ({name_dataset(name)})" for name in (known.idxmin(), known.idxmax())]
    return (
        f"Spearman's correlation of small and large is above 0 on {int((known > 0).sum())} of {len(known)} data sets, "
        f"from {ends[0]} to {ends[1]}."
    )


def answer_rank_transfer(table: pd.DataFrame) -> str | None:
    """Answer for `rank_transfer`."""
    rows = table[table["statistic"] == "spearman"].dropna(subset=["p_value"])
    if rows.empty:
        return None
    clear = rows[rows["p_value"] < 0.05]
    chance = 0.05 * len(rows)
    return (
        f"{len(clear)} of {len(rows)} pairs of data set and smaller size have p < 0.05 for rank correlation with the "
        f"largest size, where chance alone would give about {chance:.1f}."
    )


def answer_backtest(table: pd.DataFrame) -> str | None:
    """Answer for `backtest`."""
    rows = table[table["is_drawn"].astype(bool)].dropna(subset=["error"])
    if rows.empty:
        return None
    error, still = rows["error"].abs().mean(), rows["persistence_error"].abs().mean()
    made = rows[rows["lower"].notna()]
    width = f", {100 * (made['upper'] - made['lower']).median():.0f} points wide in the median" if len(made) else ""
    return (
        f"The held-out size is missed by {100 * error:.1f} of 100 points on average, against {100 * still:.1f} for "
        f"predicting no change; {_count_covered(made)} of {len(made)} prediction intervals cover{width}."
    )


def answer_explored_fit(table: pd.DataFrame) -> str | None:
    """Answer for `explored_fit`."""
    checked = table[table["kind"] == "backtest"].dropna(subset=["value", "predicted"])
    if checked.empty:
        return None
    made = checked[checked["lower"].notna()]
    error = (checked["predicted"] - checked["value"]).abs().mean()
    still = (checked["no_change"] - checked["value"]).abs().mean()
    return (
        f"Predicted from the smaller sizes, the largest fitted one is missed by {error:.2g} on average, against "
        f"{still:.2g} for predicting no change; {_count_covered(made)} of {len(made)} prediction intervals cover it."
    )


def answer_loss_performance(table: pd.DataFrame) -> str | None:
    """Answer for `loss_performance`."""
    found = {}
    # Where no size is held out the table has no such column.
    used = table[~table["held_out"].astype(bool)] if "held_out" in table else table
    for dataset, rows in used.groupby("dataset", sort=False):
        models = rows.groupby(["size", "method"])[["val_loss", "value"]].mean()
        if min(models["val_loss"].nunique(), models["value"].nunique()) < 2:
            continue
        found[dataset] = models["val_loss"].corr(models["value"], method="spearman")
    listed = join(f"{value:.2f} ({name_dataset(name)})" for name, value in found.items() if value == value)
    return f"Spearman's correlation of loss and score over all models: {listed}." if listed else None


def answer_loss_correlation(table: pd.DataFrame) -> str | None:
    """Answer for `loss_correlation`."""
    rows = table[table["statistic"] == "spearman"]
    words = {"all": "over all models", "within_size": "among methods of one size"}
    words["within_method"] = "among the sizes of one method"
    parts = []
    for scope, own in rows.groupby("scope", sort=False):
        follows = own[own["upper"] < 0]
        unknown = int(own["interval"].str.startswith("not estimable").sum()) if "interval" in own else 0
        left = f" ({unknown} not estimable)" if unknown else ""
        parts.append(f"{words.get(scope, scope)} on {len(follows)} of {len(own)} data sets{left}")
    return f"Less loss comes with a better score, with an interval that leaves out 0, {'; '.join(parts)}."


def answer_small_model_choices(table: pd.DataFrame) -> str | None:
    """Answer for `small_model_choices`."""
    rows = table[table["is_drawn"].astype(bool) & (table["rule"] == "best at the smaller size")]
    if rows.empty:
        return None
    right = int(rows["is_right"].astype(bool).sum())
    return (
        f"The best method at a smaller size is the best at the largest in {right} of {len(rows)} cases; choosing it "
        f"gives up {100 * rows['regret'].mean():.1f} of 100 points on average, choosing by lot "
        f"{100 * rows['regret_random'].mean():.1f}."
    )


def answer_cost_performance(table: pd.DataFrame) -> str | None:
    """Answer for `cost_performance`."""
    measured = table[(table["kind"] == "measured") & table["on_frontier"].astype(bool)]
    counts = measured.groupby("method")["dataset"].nunique().sort_values(ascending=False, kind="stable")
    if counts.empty:
        return None
    listed = join(f"{name_method(method)} ({n})" for method, n in counts.items())
    refused = say_refused(table)
    return f"Methods with a model that no other beats in both, by number of data sets: {listed}.{refused}"


def answer_claims(table: pd.DataFrame) -> str | None:
    """Answer for `claim_effects`."""
    counts = table[table["part"] == "overall"]["verdict"].value_counts()
    return f"{join(f'{n} {verdict}' for verdict, n in counts.items()).capitalize()}."


def _count_covered(intervals: pd.DataFrame) -> int:
    """Return how many prediction intervals cover what was measured; tables read from CSV hold the words."""
    return int(intervals["covered"].astype(str).str.lower().eq("true").sum())
