"""Forecasts on the public files, all numbers of docs/benchmarks.md in one run: `make bench` or this file alone.

Learning curves with the leave-curve-out figure beside them, fine-tuning curves (more data, larger models), and the
Chinchilla points with the usual percentile bootstrap beside our intervals.
"""

import os
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from astraios_analysis.curves.backtest import backtest_curves, backtest_law, split_groups, summarise
from astraios_analysis.curves.forecast import PROFILES, curve_likelihood, forecast_from
from astraios_analysis.curves.sizes import backtest_sizes
from astraios_analysis.laws.engine import fit_law
from astraios_analysis.laws.intervals import bootstrap
from astraios_analysis.laws.residuals import Objective
from astraios_analysis.laws.surfaces import CHINCHILLA
from astraios_analysis.prediction.limits import LEVELS, interval_score

pytestmark = pytest.mark.reference
OBJECTIVE = Objective("log", 1e-3)
N_RESAMPLES = 1000
# Settings of the saturating profile that the leave-curve-out choice is among: exponent, roughness, records correction.
SETTINGS = list(product((0.35, 0.5, 0.7), (0.06, 0.12, 0.24), (True, False)))


def read(name):
    return pd.read_csv(Path(os.environ["ASTRAIOS_REFERENCE"]) / "benchmarks" / name, comment="#")


def say(title, mean):
    coverage = ", ".join(f"{100 * float(k):g} % {100 * v:.1f}" for k, v in mean["coverage"].items())
    print(f"{title}: RMSE of log error {mean['rmse_log']:.4f}; covered: {coverage}; interval score", end=" ")
    print(f"{mean['interval_score']:.4f}")


def pooled(groups):
    """Root mean square over all rows, not the mean over groups."""
    n = np.array([g["n_test"] for g in groups])
    return float(np.sqrt(np.sum(n * np.array([g["rmse_log"] for g in groups]) ** 2) / n.sum()))


@pytest.fixture(scope="module")
def curves():
    groups, _ = split_groups(read("learning_curves.csv"), ["x"], "y", ["Domain", "Task", "Model"], "split")
    return groups


def test_learning_curves(curves):
    found = backtest_curves(curves, "x", "y")
    mean = summarise(found)
    print()
    say("learning curves, procedure as released", mean)
    for domain in dict.fromkeys(g["group"]["Domain"] for g in found):
        say(f"  {domain}", summarise([g for g in found if g["group"]["Domain"] == domain]))
    assert mean["rmse_log"] < 0.024


def test_leave_curve_out(curves):
    """Choose the setting on the held-out rows of all other curves (or other domains), score it on this one."""
    likelihoods = [curve_likelihood(g.train["x"].to_numpy(), g.train["y"].to_numpy()) for g in curves]
    errors = np.array(
        [[_error(g, found, *setting) for setting in SETTINGS] for g, found in zip(curves, likelihoods, strict=True)]
    )
    domains = np.array([g.key["Domain"] for g in curves])
    one_curve = np.eye(len(curves), dtype=bool)
    for name, left_out in (("curve", one_curve), ("domain", domains[:, None] == domains)):
        chosen = [int(np.argmin(errors[~out].mean(axis=0))) for out in left_out]
        figure = errors[np.arange(len(curves)), chosen].mean()
        print(f"\nleave-{name}-out: {figure:.4f} with {len(set(chosen))} different settings chosen", end="")
    best = int(np.argmin(errors.mean(axis=0)))
    print(f"\nof {len(SETTINGS)} settings: best {errors.mean(axis=0)[best]:.4f} {SETTINGS[best]}, ", end="")
    print(f"median {np.median(errors.mean(axis=0)):.4f}, worst {errors.mean(axis=0).max():.4f}")


def _error(group, likelihood, exponent, roughness, corrects_records):
    prior = replace(PROFILES[0], exponent=exponent, roughness=roughness).log_prior()
    found = likelihood if corrects_records else replace(likelihood, record=0.0)
    forecast = forecast_from(found, prior, group.test["x"].to_numpy())
    return float(np.sqrt(np.mean((forecast.log_mean - np.log(group.test["y"].to_numpy())) ** 2)))


def test_more_data_for_fine_tuning():
    frame = read("finetuning_curves.csv")
    groups, _ = split_groups(frame, ["n_ft"], "loss", ["task", "model"], "split_data")
    found = backtest_curves(groups, "n_ft", "loss")
    print()
    say("fine-tuning, more data", summarise(found))
    for task in dict.fromkeys(g["group"]["task"] for g in found):
        own = [g for g in found if g["group"]["task"] == task]
        say(f"  {task} (pooled over rows {pooled(own):.4f})", summarise(own))


def test_larger_models_for_fine_tuning():
    frame = read("finetuning_curves.csv")
    frame = frame[frame["n_ft"] > 0]
    found = backtest_sizes(frame, "n_ft", "loss", ["task", "model"], "params", "family", "split_size")
    print()
    say("fine-tuning, larger models", summarise(found))
    for task in dict.fromkeys(g["group"]["task"] for g in found):
        own = [g for g in found if g["group"]["task"] == task]
        say(f"  {task} (pooled over rows {pooled(own):.4f}, no change {_persistence(frame, task):.4f})", summarise(own))


def _persistence(frame, task):
    """Pooled error of predicting the largest model of a family by the next smaller one, row by row."""
    squares = []
    for _, rows in frame[frame["task"] == task].groupby("family"):
        train, test = rows[rows["split_size"] == "train"], rows[rows["split_size"] == "extrapolate"]
        if train.empty or test.empty:
            continue
        last = train[train["params"] == train["params"].max()].groupby("n_ft")["loss"].mean()
        known = test[test["n_ft"].isin(last.index)]
        squares.append((np.log(last.reindex(known["n_ft"]).to_numpy()) - np.log(known["loss"].to_numpy())) ** 2)
    return float(np.sqrt(np.mean(np.concatenate(squares))))


@pytest.mark.parametrize("split", ["split_C", "split_N"])
def test_chinchilla_points(split):
    groups, _ = split_groups(read("chinchilla_points.csv"), ["N", "D"], "loss", [], split)
    (ours,) = backtest_law(groups, CHINCHILLA, ["N", "D"], "loss", OBJECTIVE)
    print()
    say(f"chinchilla {split}, ours", ours)
    train, test = (rows[["N", "D"]].to_numpy(dtype=float) for rows in (groups[0].train, groups[0].test))
    y, measured = groups[0].train["loss"].to_numpy(), np.log(groups[0].test["loss"].to_numpy())
    rng = np.random.default_rng(0)
    fit = fit_law(CHINCHILLA, train, y, objective=OBJECTIVE)
    refits = bootstrap(fit, N_RESAMPLES, rng)
    lines = np.log(CHINCHILLA.function(test, refits.theta))
    residuals = np.log(y) - np.log(CHINCHILLA.function(train, fit.theta))
    noisy = lines + rng.choice(residuals, size=lines.shape)
    scores = {}
    for name, drawn in (("percentile bootstrap", lines), ("percentile bootstrap with residuals", noisy)):
        bounds = {level: np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0) for level in LEVELS}
        inside = {f"{k:g}": float(np.mean((b[0] <= measured) & (measured <= b[1]))) for k, b in bounds.items()}
        error = float(np.sqrt(np.mean((np.median(drawn, axis=0) - measured) ** 2)))
        scores[name] = interval_score(measured, *bounds[0.95], 0.95)
        say(f"  {name}", {"rmse_log": error, "coverage": inside, "interval_score": scores[name]})
    assert 0.9 <= ours["coverage"]["0.95"] <= 0.98
    assert ours["interval_score"] < scores["percentile bootstrap"]
