"""Paired contrasts: values and errors recomputed by other means, coverage, crossings, what would turn a conclusion."""

import numpy as np
import pytest
from contrast_worlds import coverage
from released_counts import problem_shares
from scipy import stats
from simulated_grids import simulate

import astraios_analysis as aa
from astraios_analysis.scores.bootstrap import ProblemBootstrap
from astraios_analysis.scores.contrasts import OTHER, THESE, contrast_all, crossing, measure


@pytest.fixture(scope="module")
def trained():
    return simulate(seeds=(0, 1, 2), methods=("fft", "lora", "ia3"))


def rows_of(found, scope=THESE):
    return found.table[found.table["scope"] == scope].reset_index(drop=True)


def test_difference_and_error_from_the_counts_alone(released_runs, released_folder):
    share = problem_shares(released_folder)
    found = rows_of(aa.compare(released_runs, "lora", "fft"))
    assert list(found["size"]) == ["1b", "3b", "7b"]
    # Of an independent review, in points.
    known = {"1b": (-1.30, 0.36), "3b": (1.23, 0.40), "7b": (1.23, 0.43)}
    for row in found.to_dict("records"):
        paired = (share[row["size"], "fft"] - share[row["size"], "lora"]).to_numpy()
        assert row["difference"] == pytest.approx(paired.mean(), abs=1e-12)
        # The paired bootstrap against the analytic error of a mean of paired differences.
        assert row["stderr"] == pytest.approx(stats.sem(paired), rel=0.05)
        difference, error = known[row["size"]]
        assert 100 * row["difference"] == pytest.approx(difference, abs=0.1)
        assert 100 * row["stderr"] == pytest.approx(error, rel=0.1)
        assert row["lower"] < row["difference"] < row["upper"]


def test_one_run_a_model_says_nothing_of_others_but_what_would_turn_it(released_runs):
    found = aa.compare(released_runs, "lora", "fft", size="7b")
    these, other = found.rows
    assert (these["scope"], other["scope"]) == (THESE, OTHER)
    assert other["stderr"] is None and other["lower"] is None and "not known" in other["interval"]
    # At the tipping SD the normal interval just reaches 0.
    error = np.sqrt(these["stderr"] ** 2 + 2 * these["tipping_sd"] ** 2)
    assert these["difference"] - stats.norm.ppf(0.975) * error == pytest.approx(0, abs=1e-12)
    assert 100 * found.run_sd["run_sd"].iloc[0] == pytest.approx(0.47, abs=0.005)
    unclear = aa.compare(released_runs, "lora", "fft", size="3b", dataset="humanevalsynthesize_java").rows[0]
    assert unclear["lower"] < 0 < unclear["upper"] and unclear["tipping_sd"] is None


def test_where_two_methods_cross(released_runs):
    row = aa.compare(released_runs, "lora", "fft").crossings.iloc[0]
    assert (row["ahead"], row["from_size"], row["to_size"]) == ("fft", "1b", "7b")
    # On the straight line between -1.299 points at 1.137e9 and 1.226 at 3.043e9.
    share = 1.299 / (1.299 + 1.226)
    assert np.log(row["n_params"]) == pytest.approx(np.log(1.137e9) + share * np.log(3.043 / 1.137), abs=2e-3)
    assert 1.137e9 < row["lower"] < row["n_params"] < row["upper"] < 3.043e9
    # Turned round, it is the same crossing.
    assert aa.compare(released_runs, "fft", "lora").crossings["n_params"].iloc[0] == pytest.approx(row["n_params"])


def test_a_method_that_is_ahead_everywhere_crosses_nowhere(trained):
    found = crossing(measure(trained, "val_loss"), "ia3", "fft")
    assert (found["n_params"], found["ahead"]) == (0.0, "fft")


@pytest.mark.parametrize(
    ("scope", "design"),
    [(THESE, {}), (OTHER, {"seeds": 4, "run_sd": 0.3, "n_samples": 1})],
    ids=["problems", "seeds and problems"],
)
def test_coverage(scope, design):
    covered, ratio, bias = coverage(200, scope, **design)
    assert 0.915 <= covered <= 0.985
    assert 0.88 <= ratio <= 1.15 and abs(bias) < 0.01


def test_losses_over_seeds_are_a_paired_t_test(trained):
    found = aa.compare(trained, "lora", "fft", dataset="val_loss")
    size = found.table["size"].iloc[0]
    runs = {m: [r.val_loss for r in trained if (r.method, r.size) == (m, size)] for m in ("lora", "fft")}
    expected = stats.ttest_rel(runs["fft"], runs["lora"]).confidence_interval(0.95)
    row = rows_of(found, OTHER).iloc[0]
    assert (row["lower"], row["upper"]) == pytest.approx((expected.low, expected.high))
    assert "seeds of" in found.run_sd["source"].iloc[0]
    assert "tipping_sd" in repr(found) and len(found.plot().axes) == 1
    # These runs have no error over tokens: nothing is known of other tokens.
    assert rows_of(found)["stderr"].isna().all()


def test_across_sizes(released_runs):
    row = aa.compare(released_runs, "fft", "lora", size="7b", against="3b").rows[0]
    values = aa.frame(released_runs).query("dataset == 'mean_generation'").set_index(["size", "method"])["value"]
    assert row["size"] == "7b against 3b"
    assert row["difference"] == pytest.approx(values["7b", "lora"] - values["3b", "fft"])


def test_the_same_whatever_else_is_asked(released_runs):
    alone = aa.compare(released_runs, "lora", "fft", size="7b").rows[0]
    among = aa.compare(released_runs, "lora", "fft", dataset=["recode_format", "mean_generation"]).rows
    assert alone == next(r for r in among if (r["dataset"], r["size"]) == ("mean_generation", "7b"))


def test_everything_against_full_fine_tuning(released_runs):
    table = contrast_all(released_runs, bootstrap=ProblemBootstrap(n_draws=100))
    assert set(table["method_a"]) == {"fft"} and len(set(table["method_b"])) == 6
    assert "mean_generation" in set(table["dataset"])
    # What no model beats a constant answer on has no vote.
    assert not {"clone_detection", "defect_detection"} & set(table["dataset"])
