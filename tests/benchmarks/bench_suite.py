"""What data sets lend one another: the released models' largest size predicted from smaller ones, and simulated suites.

Each data set's largest size is held out and predicted with the suite's law, once with the other families measured in
full (only this data set lacks a size), once with the size held out of every data set (nobody has measured it), and by
the data set's own laws alone.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from pooled_worlds import SIZES, suite_world
from scipy.special import logit

import astraios_analysis as aa
from astraios_analysis.prediction.backtest import largest_from_smaller
from astraios_analysis.prediction.outcome import Lender, record_outcome
from astraios_analysis.prediction.suite import fit_suite
from astraios_analysis.records.registry import DATASETS

PROGRAMS = [name for name, data in DATASETS.items() if data.kind in ("generation", "robustness")]
LEVELS = (50, 80, 95)


def describe(rows):
    """Errors, coverage and widths of predicted runs, in points of score."""
    width = rows["upper_95"] - rows["lower_95"]
    outside = (rows["lower_95"] - rows["value"]).clip(lower=0) + (rows["value"] - rows["upper_95"]).clip(lower=0)
    covered = {f"covered {level}": 100 * rows[f"covered_{level}"].mean() for level in LEVELS}
    no_change = 100 * (rows["persistence"] - rows["value"]).abs().mean()
    errors = {"cells": len(rows), "error": 100 * rows["error"].abs().mean(), "no change": no_change}
    return errors | covered | {"width": 100 * width.median(), "interval score": 100 * (width + 40 * outside).mean()}


@pytest.mark.parametrize("grid", ["released", "ladder"])
def test_largest_size_of_each_data_set(grid):
    runs = [run for run in aa.load("data", grid=grid) if not run.held_out]
    rows = {}
    for name in PROGRAMS:
        try:
            whole = record_outcome(runs, name)
        except aa.Refusal:
            continue
        if len(whole.points.sizes) < 3:
            continue
        size = whole.points.sizes[-1]
        strict = record_outcome([run for run in runs if run.n_params_base < size], name).lenders
        ways = {"others in full": whole, "held out of all": replace(whole, lenders=strict) if strict else None}
        for way, outcome in (ways | {"by itself": replace(whole, lenders=())}).items():
            found = None if outcome is None else largest_from_smaller(outcome)
            if found is not None:
                rows[way, name] = found
    ways = list(dict.fromkeys(way for way, _ in rows))
    table = {f"{name}, {way}": describe(found) for (way, name), found in rows.items()}
    for way in ways:
        table[f"all, {way}"] = describe(pd.concat([found for (own, _), found in rows.items() if own == way]))
    print(f"\n{grid}\n{pd.DataFrame(table).T.round(1).to_string()}")
    assert table["all, others in full"]["covered 95"] >= 90


@pytest.mark.parametrize("n_sizes", [2, 3])
def test_simulated_suites(n_sizes):
    hits, widths, errors = [], [], []
    for seed in range(100):
        own, *others = suite_world(np.random.default_rng([seed, 5]))
        truth = logit(own.keep(own.n_params == SIZES[n_sizes]).y)
        lenders = tuple(Lender(str(i), points, 1.0) for i, points in enumerate(others))
        drawn = logit(fit_suite(own.below(SIZES[n_sizes]), lenders).draw(float(SIZES[n_sizes]))["observation"])
        bounds = [np.quantile(drawn, [(1 - level / 100) / 2, (1 + level / 100) / 2], axis=0) for level in LEVELS]
        hits.append([np.mean((low <= truth) & (truth <= high)) for low, high in bounds])
        widths.append(np.mean(bounds[-1][1] - bounds[-1][0]))
        errors.append(np.median(drawn, axis=0) - truth)
    # The width that intervals of the errors that were made would have had, with all known.
    ideal = 2 * 1.96 * np.std(errors)
    coverage = 100 * np.mean(hits, axis=0)
    print(f"\n{n_sizes} sizes: covered {coverage.round(1)} %, width over ideal {np.mean(widths) / ideal:.2f}")
    assert coverage[-1] >= 90
