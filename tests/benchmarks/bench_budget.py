"""Rules of choosing a method replayed on measured grids: what each costs, and what it gives up at the largest size.

Every data set that has a vote and the same methods at its sizes: the largest size is the target, the smaller ones may
be paid for. *Halving* runs every method at the smallest size, the better half at the next, and so on. *Predicted* pays
for all smaller sizes and takes the method that the law expects to be best.
"""

import numpy as np
import pandas as pd
import pytest

import astraios_analysis as aa
from astraios_analysis.prediction.decide import halving_counts, run_cost
from astraios_analysis.prediction.forecast import fit_outcome
from astraios_analysis.prediction.outcome import record_outcome
from astraios_analysis.records.registry import find_dataset
from astraios_analysis.scores.bootstrap import ProblemBootstrap
from astraios_analysis.scores.models import model_scores
from astraios_analysis.scores.ranks import measured_datasets


def measured(runs, name):
    """Goodness by size and method where the methods of the largest size are measured at all; None if these are few."""
    scores = model_scores(runs, name, ProblemBootstrap(n_draws=100))
    if not scores.has_vote:
        return None
    table = scores.table.assign(good=scores.good).pivot(index="n_params_base", columns="method", values="good")
    table = table[table.columns[table.iloc[-1].notna()]].dropna()
    return table if len(table) > 2 and table.shape[1] > 3 else None


def halving(table):
    """The method that is left, and the runs that were paid for."""
    kept, paid = list(table.columns), []
    counts = halving_counts(len(kept), len(table) - 1)
    for (size, row), following in zip(table.iloc[:-1].iterrows(), [*counts[1:], 1], strict=True):
        paid += [(method, size) for method in kept]
        kept = row[kept].sort_values(ascending=False, kind="stable").index[:following].tolist()
    return kept[0], paid


@pytest.mark.parametrize("grid", ["released", "ladder"])
def test_rules_of_choice(grid):
    runs, rows = [run for run in aa.load("data", grid=grid) if not run.held_out], []
    for name in measured_datasets(runs):
        # Regrets in points are of shares.
        is_loss = name == "val_loss" or find_dataset(name).kind == "answers"
        table = None if is_loss else measured(runs, name)
        if table is None:
            continue
        target, truth, smaller = table.index[-1], table.iloc[-1], table.index[:-1]
        everything = [(method, size) for size in smaller for method in table.columns]
        last = [run for run in everything if run[1] == smaller[-1]]
        outcome = record_outcome(runs, name).below(target)
        fitted = fit_outcome(outcome)
        expected = dict(zip(fitted.methods, fitted.draw(float(target))["mean"].mean(axis=0), strict=True))
        sign = 1 if outcome.higher_is_better else -1
        predicted = max(table.columns, key=lambda method: sign * expected[method])
        chosen, paid = halving(table)
        rules = {
            "best at the largest smaller size": (table.loc[smaller[-1]].idxmax(), last),
            "best at the smallest size": (table.iloc[0].idxmax(), [(m, smaller[0]) for m in table.columns]),
            "halving": (chosen, paid),
            "predicted": (predicted, everything),
        }
        cost = {run: run_cost(runs, *run)[0] for run in everything}
        whole = sum(cost.values())
        for rule, (method, bought) in rules.items():
            rows.append((rule, name, 100 * (truth.max() - truth[method]), sum(cost[run] for run in bought) / whole))
        rows.append(("random choice", name, 100 * (truth.max() - truth.mean()), 0.0))
    found = pd.DataFrame(rows, columns=["rule", "dataset", "regret", "cost"])
    shown = found.groupby("rule", sort=False)[["regret", "cost"]].mean().assign(n=found["dataset"].nunique())
    print(f"\n{grid}: mean regret in points, cost as a share of all smaller runs\n{shown.round(2).to_string()}")
    assert np.isfinite(found["regret"]).all()
