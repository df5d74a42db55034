"""Which rows to measure for a share of a pool's cost: R2 at unseen targets, `plan` beside four other rules.

Three tasks of ScaleBench. A seed measures a few rows by chance, cheap ones first (each with a chance in inverse
proportion to its cost), for at most a fifth of the budget; every rule spends the rest: at once, or, `plan` once more,
asked again after each quarter. What is scored is the median that `predict` gives from the rows bought. All rules start
from the same rows, and see no outcome of the others.
"""

import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from astraios_analysis.records.refusal import Refusal
from astraios_analysis.tables.plan import COST_POWER, choose_batch, expect_pool, read_pool
from astraios_analysis.tables.rows import Columns, fit_table, forecast_rows

# Up to ten minutes of processor time a task.
pytestmark = [pytest.mark.reference, pytest.mark.timeout(3600)]
FOLDER = Path(os.environ.get("ASTRAIOS_REFERENCE", "")) / "benchmarks" / "scalebench"
SEEDS = 20
# Rows of a group that a seed measures first, by the number of inputs: two and a half a parameter of the largest law.
N_START = {2: 12, 3: 18}
# Columns, cost of a row, budget as a share of the pool's cost, and the R2 that `plan` aims at.
TASKS = {
    "moe": (
        Columns(("num_experts", "dense_parameter_count"), "loss_validation"),
        "num_experts * dense_parameter_count",
        0.10,
        0.80,
    ),
    "data_constrained": (Columns(("params", "tokens", "unique_tokens"), "loss"), "6 * params * tokens", 0.10, 0.85),
    "sparsity": (
        Columns(("P", "N_active"), "loss", ("group",)),
        "6 * N_dense * D1 + 6 * N_active * D2",
        0.50,
        0.51,
    ),
}


def first_rows(pool, budget, rng, n_start):
    chance, spent, found = 1 / pool.cost, 0.0, []
    counts = dict.fromkeys(pool.label, 0)
    for row in rng.choice(len(chance), len(chance), replace=False, p=chance / chance.sum()):
        if counts[pool.label[row]] < n_start and spent + pool.cost[row] <= budget / 5:
            found.append(int(row))
            spent += pool.cost[row]
            counts[pool.label[row]] += 1
    return found


def in_order(order, cost, left):
    """Rows bought one after the other, those passed over that the budget does not buy."""
    found = []
    for row in order:
        if cost[row] <= left * (1 + 1e-9):
            found.append(int(row))
            left -= cost[row]
    return found


def batch(pool, columns, left):
    """The rows that `plan` proposes."""
    candidates, expected = expect_pool(pool, columns)
    return [int(candidates[i]) for i, _ in choose_batch(expected, len(candidates), pool.cost[candidates], left)]


def in_rounds(whole, columns, first, left, n_rounds=4):
    """`plan` asked anew with what its first rows have shown, so many times, each time for an equal part of the cost."""
    found = []
    for still in range(n_rounds, 0, -1):
        known, now = np.isin(np.arange(len(whole.y)), first + found), left / still
        for row in batch(replace(whole, y=np.where(known, whole.y, np.nan)), columns, left):
            if still > 1 and now <= 0:
                break
            found.append(row)
            now, left = now - whole.cost[row], left - whole.cost[row]
    return found


def d_optimal(expected, candidates, cost, left):
    """Greedy: the row that tells most of the laws' parameters, per the same power of its cost."""
    covariance, n, found = expected.covariance.copy(), len(candidates), []
    while True:
        usable = [i for i in range(n) if candidates[i] not in found and cost[candidates[i]] <= left * (1 + 1e-9)]
        if not usable:
            return found
        gain = np.log1p(np.diag(covariance)[usable] / expected.noise[usable])
        best = usable[int(np.argmax(gain / cost[candidates[usable]] ** COST_POWER))]
        column = covariance[:, best].copy()
        covariance -= np.outer(column, column) / (column[best] + expected.noise[best])
        found.append(int(candidates[best]))
        left -= cost[candidates[best]]


def r_squared(table, target, columns, rows):
    try:
        train = table.iloc[sorted(rows)]
        found = forecast_rows(train, target, columns, fit_table(train, columns))
    except Refusal:
        return -1.0
    predicted = pd.concat([pd.Series(one.median, index=group.test.index) for group, one in found])
    if len(predicted) < len(target):
        return -1.0
    y = target[columns.y]
    return float(np.clip(1 - ((predicted - y) ** 2).sum() / ((y - y.mean()) ** 2).sum(), -1, 1))


def replay(name, seeds):
    """R2 by rule, one a seed, and how many rows each bought on average."""
    columns, cost, share, _ = TASKS[name]
    table, target = (pd.read_csv(FOLDER / f"{name}_{part}.csv") for part in ("train", "test"))
    whole = read_pool(table, target, columns, cost)
    total, found, known = share * whole.cost.sum(), [], {}
    for seed in seeds:
        rng = np.random.default_rng(seed)
        first = first_rows(whole, total, rng, N_START[len(columns.x)])
        left, rest = total - whole.cost[first].sum(), np.setdiff1d(np.arange(len(table)), first)
        pool = replace(whole, y=np.where(np.isin(np.arange(len(table)), first), whole.y, np.nan))
        candidates, expected = expect_pool(pool, columns)
        chosen = choose_batch(expected, len(candidates), pool.cost[candidates], left)
        chance = 1 / whole.cost[rest]
        rules = {
            "random": in_order(rng.permutation(rest), whole.cost, left),
            "cheapest": in_order(rest[np.argsort(whole.cost[rest], kind="stable")], whole.cost, left),
            "cost-random": in_order(
                rng.choice(rest, len(rest), replace=False, p=chance / chance.sum()), whole.cost, left
            ),
            "D-optimal": d_optimal(expected, candidates, whole.cost, left),
            "plan, at once": [int(candidates[place]) for place, _ in chosen],
            "plan, asked four times": in_rounds(whole, columns, first, left),
        }
        for rule, more in rules.items():
            rows = frozenset(first + more)
            assert whole.cost[list(rows)].sum() <= total * (1 + 1e-9)
            if rows not in known:
                known[rows] = r_squared(table, target, columns, rows)
            found.append({"rule": rule, "seed": seed, "r2": known[rows], "n_rows": len(rows)})
    return pd.DataFrame(found)


@pytest.mark.parametrize("name", TASKS)
def test_r2_at_the_target(name):
    started = time.process_time()
    *_, share, aim = TASKS[name]
    table = replay(name, range(SEEDS))
    shown = table.groupby("rule", sort=False).agg(
        r2=("r2", "mean"), lowest=("r2", "min"), n_seeds=("seed", "nunique"), n_rows=("n_rows", "mean")
    )
    took = time.process_time() - started
    print(f"\n{name}, {100 * share:g} % of the pool's cost, R2 at the target, aim {aim:g} ({took:.0f} s)")
    print(shown.round(3).to_string())
    assert (shown["n_seeds"] == SEEDS).all() and table["r2"].between(-1, 1).all()
