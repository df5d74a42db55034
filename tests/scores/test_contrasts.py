"""Paired contrasts, and large on small with errors in both: recomputed by other means, in worlds of known truth."""

import numpy as np
import pytest
from contrast_worlds import DATASET, SIZE, coverage, make_run
from released_counts import problem_shares
from scipy import stats
from simulated_grids import World, simulate
from transfer_worlds import slope_coverage

import astraios_analysis as aa
from astraios_analysis.scores.bootstrap import ProblemBootstrap
from astraios_analysis.scores.contrasts import OTHER, THESE, contrast, contrast_all, crossing, measure, tipping_sd
from astraios_analysis.scores.transfer import errors_in_both


@pytest.fixture(scope="module")
def trained():
    return simulate(seeds=(0, 1, 2), methods=("fft", "lora", "ia3"))


def rows_of(found, scope=THESE):
    return found.table[found.table["scope"] == scope].reset_index(drop=True)


def test_difference_and_error_from_the_counts_alone(released_runs, released_folder):
    share = problem_shares(released_folder)
    found = rows_of(aa.compare(released_runs, "lora", "fft"))
    assert list(found["size"]) == ["1b", "3b", "7b"]
    for row in found.to_dict("records"):
        paired = (share[row["size"], "fft"] - share[row["size"], "lora"]).to_numpy()
        assert row["difference"] == pytest.approx(paired.mean(), abs=1e-12)
        # The paired bootstrap against the analytic error of a mean of paired differences.
        assert row["stderr"] == pytest.approx(stats.sem(paired), rel=0.05)
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


def test_what_would_turn_a_difference_by_hand():
    # 1.96 errors of 0.05, of which problems make 0.03 and so two runs 0.04; equal models have no conclusion to turn.
    assert tipping_sd(stats.norm.ppf(0.975) * 0.05, 0.03**2, 2, 0.95) == pytest.approx(0.04 / np.sqrt(2))
    assert tipping_sd(0.0, 0.0, 2, 0.95) is None


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
    equal = [run.model_copy(update={"val_loss": 1.5}) for run in trained]
    assert crossing(measure(equal, "val_loss"), "ia3", "fft") is None


@pytest.mark.parametrize(("scope", "design"), [(THESE, {}), (OTHER, {"seeds": 4, "run_sd": 0.3, "n_samples": 1})])
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


def test_the_sd_of_one_run_is_what_its_seed_does_not_share(trained):
    off = {0: -0.2, 1: 0.0, 2: 0.3}
    moved = [run.model_copy(update={"val_loss": run.val_loss + off[run.seed]}) for run in trained]
    apart = [run.model_copy(update={"seed": run.seed + 10 * ord(run.method[0])}) for run in moved]
    sd, same, own = (aa.compare(runs, dataset="val_loss").run_sd["run_sd"].iloc[0] for runs in (trained, moved, apart))
    assert sd == pytest.approx(0.01, rel=0.5) and same == pytest.approx(sd, rel=0.5) and own > 0.2


def test_models_of_different_seeds_are_a_welch_test(trained):
    runs = [r for r in trained if r.method == "fft" or (r.method, r.seed) in {("lora", 1), ("lora", 2)}]
    losses = [[r.val_loss for r in runs if (r.method, r.size) == (m, trained[0].size)] for m in ("fft", "lora")]
    expected = stats.ttest_ind(*losses, equal_var=False).confidence_interval(0.95)
    row = rows_of(aa.compare(runs, "lora", "fft", dataset="val_loss", size=trained[0].size), OTHER).iloc[0]
    assert (row["lower"], row["upper"]) == pytest.approx((expected.low, expected.high))


def test_scores_of_different_seeds_add_what_sampling_does_not_explain():
    passed = np.random.default_rng(0).binomial(20, [[0.3], [0.4], [0.6], [0.7]], (4, 80))
    runs = [make_run(SIZE, method, i, passed[i], 20) for i, method in enumerate(("lora", "lora", "fft", "fft"))]
    these, other = contrast(measure(runs, DATASET), ((SIZE, "lora"), (SIZE, "fft")))
    # The variance between two means is half their difference squared, less what it is by chance; means are of two.
    steps = (passed[[1, 3]] - passed[[0, 2]]) / 20
    seeds = (steps.mean(axis=1) ** 2 - steps.var(axis=1, ddof=1) / 80) / 2 / 2
    assert other["stderr"] ** 2 == pytest.approx(these["stderr"] ** 2 + seeds.sum())


def test_across_sizes(released_runs):
    row = aa.compare(released_runs, "fft", "lora", size="7b", against="3b").rows[0]
    values = aa.frame(released_runs).query("dataset == 'mean_generation'").set_index(["size", "method"])["value"]
    assert row["size"] == "7b against 3b"
    assert row["difference"] == pytest.approx(values["7b", "lora"] - values["3b", "fft"])


def test_the_same_whatever_else_is_asked(released_runs):
    alone = aa.compare(released_runs, "lora", "fft", size="7b").rows[0]
    among = aa.compare(released_runs, "lora", "fft", dataset=["recode_format", "mean_generation"]).rows
    assert alone == next(r for r in among if (r["dataset"], r["size"]) == ("mean_generation", "7b"))


def test_a_data_set_that_a_method_lacks_is_no_reason_to_refuse_what_nobody_named(trained):
    runs = [run.model_copy(update={"scores": ()}) if run.method == "lora" else run for run in trained]
    found = aa.compare(runs).table
    assert set(found[found["method_b"] == "lora"]["dataset"]) == {"val_loss"}
    assert {"val_loss", "embedded_fix"} <= set(found[found["method_b"] == "ia3"]["dataset"])
    with pytest.raises(aa.Refusal, match="lora has no embedded_synthesis; choose from fft, ia3"):
        aa.compare(runs, "fft", "lora")
    with pytest.raises(aa.Refusal, match="lora is the only method here; a comparison needs two"):
        aa.compare([run for run in runs if run.method == "lora"])


def test_everything_against_full_fine_tuning(released_runs):
    table = contrast_all(released_runs, bootstrap=ProblemBootstrap(n_draws=100))
    assert set(table["method_a"]) == {"fft"} and len(set(table["method_b"])) == 6
    assert "mean_generation" in set(table["dataset"])
    # What no model beats a constant answer on has no vote.
    assert not {"clone_detection", "defect_detection"} & set(table["dataset"])


def test_slope_from_the_counts_alone(released_runs, released_folder):
    share = problem_shares(released_folder)
    x, y = share["1b"], share["7b"][share["1b"].columns]
    # Errors of means over problems, analytically: the covariance of problems over their number.
    joint = np.cov(np.hstack([x, y]).T) / len(share)
    k = x.shape[1]
    centring = (np.eye(k) - 1 / k) / (k - 1)
    e_xx, e_xy = np.trace(centring @ joint[:k, :k]), np.trace(centring @ joint[:k, k:])
    expected = (np.cov(x.mean(), y.mean())[0, 1] - e_xy) / (x.mean().var(ddof=1) - e_xx)
    row = aa.transfer(released_runs, small="1b", large="7b", dataset="mean_generation").table.iloc[0]
    assert row["slope"] == pytest.approx(expected, rel=0.03)
    assert row["centre"] == pytest.approx(x.mean().mean()) and row["intercept"] == pytest.approx(y.mean().mean())
    assert row["slope_lower"] < row["slope"] < row["slope_upper"]
    assert row["intercept_lower"] < row["intercept"] < row["intercept_upper"]


def test_of_losses_the_level_is_in_nats():
    runs = list(simulate(World(), seeds=(0,), n_problems=40, val_loss_se=0.01))
    found = aa.transfer(runs, dataset="val_loss")
    with pytest.raises(aa.Refusal, match="no two sizes share 4 methods"):
        aa.transfer([run for run in runs if run.method in ("fft", "lora", "ia3")], dataset="val_loss")
    assert len(found.plot().axes) >= len(found.table) > 0
    for row in found.table.dropna(subset=["slope"]).to_dict("records"):
        assert row["intercept_lower"] < row["intercept"] < row["intercept_upper"]
        # The error of a mean over seven methods, each known to 0.01, and what the smaller size brings.
        assert row["intercept_upper"] - row["intercept_lower"] < 4 * 0.01 / np.sqrt(7) * np.hypot(1, row["slope"]) * 1.5


@pytest.mark.parametrize("design", [{}, {"scatter": 0.03}, {"spread": 0.02}], ids=["line", "scatter", "little spread"])
def test_worlds_with_a_known_slope(design):
    found, covered, error, naive = slope_coverage(120, **design)
    assert found > 0.9 and 0.89 <= covered <= 0.995 and abs(error) < 0.1
    if "spread" in design:
        # Least squares is drawn towards 0; errors taken off, the slope is not.
        assert naive < -0.05 and abs(error) < abs(naive)


def test_without_errors_it_is_least_squares():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=7), rng.normal(size=7)
    line = errors_in_both(x, y, np.tile(x, (10, 1)), np.tile(y, (10, 1)), 0.95)
    slope = np.polyfit(x, y, 1)[0]
    expected = {"slope": slope, "slope_lower": slope, "slope_upper": slope, "reliability": 1.0}
    assert {name: line[name] for name in expected} == pytest.approx(expected)


def test_where_errors_could_be_everything_there_is_no_slope(released_runs):
    row = aa.transfer(released_runs, "1b", "7b", "humanevalsynthesize_python").table.iloc[0]
    assert np.isnan(row["slope"]) and "by the choice of problems alone" in row["reason"]


def test_every_pair_of_sizes(released_runs):
    found = aa.transfer(released_runs, dataset=["mean_generation", "recode_format"])
    table = found.table
    assert "slope_lower" in repr(found) and len(found.plot().axes) >= len(table)
    assert table.groupby("dataset").size().to_dict() == {"mean_generation": 3, "recode_format": 6}
    alone = aa.transfer(released_runs, "1b", "7b", "mean_generation").table.iloc[0]
    among = table[(table["dataset"] == "mean_generation") & (table["size_large"] == "7b")].iloc[0]
    assert alone["slope"] == among["slope"]


def test_losses_of_one_text_are_as_far_apart_by_rank_as_by_comparison():
    runs = simulate(World(seed_sd=0.001), seeds=(0, 1, 2), methods=("fft", "lora", "ia3"), val_loss_se=0.05)
    row = rows_of(aa.compare(runs, "fft", "lora", dataset="val_loss"), OTHER).iloc[-1]
    ranked = aa.rank(runs, dataset="val_loss").table
    first = ranked[ranked["size"] == row["size"]].iloc[0]
    assert row["lower"] > 0 and (first["method"], first["p_best"] > 0.99) == ("fft", True)
    # Another text would move them by their errors all the same.
    assert first["upper"] - first["lower"] == pytest.approx(2 * 1.96 * 0.05, rel=0.1)
