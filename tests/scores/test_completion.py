"""Scores that models lack: an additive truth found again, coverage of hidden cells, released models."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit

import astraios_analysis as aa
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.scores.completion import complete, score_cells

SIZES, METHODS, N_ITEMS = (1e9, 3e9, 7e9, 16e9), tuple("abcdefg"), 164


def world(rng, extra=0.1, has_noise=True):
    """Cells of five data sets and 28 models, additive with slopes up to ``extra`` and binomial noise."""
    rows = []
    ability = {(m, n): 0.3 * rng.standard_normal() + np.log10(n / 3e9) for m in METHODS for n in SIZES}
    for name in "vwxyz":
        level, slope = -1 + 0.5 * rng.standard_normal(), 0.4 * rng.standard_normal()
        for (method, n), t in ability.items():
            p = expit(level + slope * np.log10(n / 3e9) + t + extra * rng.standard_normal())
            value = rng.binomial(N_ITEMS, p) / N_ITEMS if has_noise else p
            rows.append((name, method, f"{n:g}", n, "pass@1", value, float(N_ITEMS), True))
    columns = ["dataset", "method", "size", "n_params_base", "metric", "value", "n_items", "higher_is_better"]
    return pd.DataFrame(rows, columns=columns)


def hide(cells, rng, hidden=None):
    """Estimates of a fifth of the cells, or of those to hide, beside what was measured there."""
    hidden = rng.random(len(cells)) < 0.2 if hidden is None else hidden
    found = complete(cells[~hidden])
    was = cells[hidden]
    return found[found["kind"] == "estimate"].merge(was, on=["dataset", "method", "size"], suffixes=("", "_was"))


def test_what_is_additive_is_found_again():
    cells = world(np.random.default_rng(0), extra=0.0, has_noise=False)
    found = hide(cells, np.random.default_rng(1))
    assert len(found) > 15
    np.testing.assert_allclose(logit(found["value"]), logit(found["value_was"]), atol=1e-6)


def test_choices_are_additive_above_chance():
    """An answer that is chosen of four was estimated at 0.02, below any guess."""
    cells = world(np.random.default_rng(0), extra=0.0, has_noise=False)
    chosen = (cells["dataset"] == "z").to_numpy()
    cells.loc[chosen, "value"] = 0.25 + 0.75 * cells.loc[chosen, "value"]
    cells.loc[chosen, ["dataset", "metric"]] = "embedded_explain", "choice_accuracy"
    found = hide(cells, np.random.default_rng(1))
    np.testing.assert_allclose(found["value"], found["value_was"], rtol=1e-6)
    chosen = found[found["dataset"] == "embedded_explain"]
    assert len(chosen) == 2 and (chosen["lower"] > 0.25).all()


def test_errors_turn_with_the_direction():
    cells = world(np.random.default_rng(2))
    turned = cells.assign(value=1 - cells["value"], higher_is_better=False)
    one, other = (hide(table, np.random.default_rng(3)) for table in (cells, turned))
    np.testing.assert_allclose(one[["value", "lower", "upper"]], 1 - other[["value", "upper", "lower"]], rtol=1e-9)


def test_hidden_cells_are_covered_as_often_as_asked():
    hits, widths = [], []
    for seed in range(30):
        found = hide(world(np.random.default_rng(seed)), np.random.default_rng([seed, 1]))
        hits += ((found["lower"] <= found["value_was"]) & (found["value_was"] <= found["upper"])).tolist()
        middle = found["value"] * (1 - found["value"])
        ideal = 2 * 1.96 * np.sqrt(0.1**2 + 1 / (N_ITEMS * middle)) * middle
        widths += ((found["upper"] - found["lower"]) / ideal).tolist()
    assert len(hits) > 600 and 0.92 < np.mean(hits) < 0.98
    # An estimate knows neither the model's level nor the data set's, so its interval is wider than scoring alone.
    assert 1.0 < np.median(widths) < 1.6


def test_sizes_that_a_data_set_lacks_are_covered_where_it_has_a_slope_of_its_own():
    hits = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        cells = world(rng)
        cells = cells[cells["dataset"].isin(["v", "w"])]
        found = hide(cells, rng, ((cells["dataset"] == "v") & (cells["n_params_base"] > 5e9)).to_numpy())
        hits += ((found["lower"] <= found["value_was"]) & (found["value_was"] <= found["upper"])).tolist()
    assert len(hits) == 60 * 14 and 0.91 < np.mean(hits) < 0.98


@pytest.mark.parametrize(("grid", "error"), [("released", 0.032), ("ladder", 0.055)])
def test_hidden_cells_of_the_grids(grid, error):
    """Floors and ceilings, where many cells of the trained grid lie, are covered."""
    cells = score_cells(aa.load("data", grid=grid))
    found = pd.concat(hide(cells, np.random.default_rng(seed)) for seed in range(10))
    hits = (found["lower"] <= found["value_was"]) & (found["value_was"] <= found["upper"])
    assert np.sqrt(np.mean((found["value"] - found["value_was"]) ** 2)) < error and 0.9 <= hits.mean() <= 0.98


def test_released_models(released_runs):
    table = aa.complete(released_runs).table
    fft = table[(table["dataset"] == "humanevalexplain_python") & (table["size"] == "16b") & (table["method"] == "fft")]
    assert fft["kind"].tolist() == ["estimate"] and 0.15 < fft["lower"].item() < fft["upper"].item() < 0.35


def test_what_cannot_be_filled_in(released_records):
    cells = world(np.random.default_rng(0))
    apart = cells["dataset"].isin(["v", "w"]) == cells["method"].isin(["a", "b", "c"])
    with pytest.raises(Refusal, match="nothing puts them on one scale"):
        complete(cells[apart])
    with pytest.raises(Refusal, match="filling in needs two data sets of programs with 6 models each"):
        score_cells([run for run in released_records if run.size == "1b"])
