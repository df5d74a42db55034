"""Back-tests: an example by hand, nothing seen of what is held out, and a world in which the law is true."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import expit, logit

from astraios_analysis.laws.forms import decades
from astraios_analysis.prediction.backtests import backtest, backtest_all, summarise_backtest
from astraios_analysis.records.frame import to_frame
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.scores.bootstrap import primary_frame

SIZES = (10**9, 10**10, 10**11, 10**12)
PREDICTED = ["predicted", "lower", "upper", "dof", "n_train_sizes", "reach", "persistence"]


def as_frame(values, dataset="recode_format", sizes=SIZES):
    """Primary scores from {method: logits by size}; NaN for a size that was not measured."""
    rows = [
        {
            "dataset": dataset,
            "method": method,
            "size": f"{n:.0e}",
            "n_params_base": n,
            "value": expit(z),
            "n_items": 164,
            "held_out": False,
        }
        for method, zs in values.items()
        for n, z in zip(sizes, zs, strict=False)
        if not np.isnan(z)
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def example():
    """Logits -2, -1, -0.3 at decades 0, 1, 2: mean -1.1, slope 0.85, residuals -0.05, 0.1, -0.05; 0.9 is held out."""
    return as_frame({"lora": (-2.0, -1.0, -0.3, 0.9)})


@pytest.fixture(scope="module")
def primary(released_records):
    return primary_frame(to_frame(released_records))


def test_example_by_hand(example):
    (row,) = backtest(example, "recode_format", pooling="per_method", level=0.8).to_dict("records")
    mean, slope = -3.3 / 3, 0.85
    predicted = mean + 2 * slope
    deviation = np.sqrt((0.05**2 + 0.1**2 + 0.05**2) / 1)
    half = stats.t.ppf(0.9, 1) * deviation * np.sqrt(1 + 1 / 3 + 2**2 / 2)
    assert row["predicted"] == pytest.approx(expit(predicted))
    assert (logit(row["lower"]), logit(row["upper"])) == pytest.approx((predicted - half, predicted + half))
    assert row["measured"] == pytest.approx(expit(0.9))
    assert row["error"] == pytest.approx(expit(predicted) - expit(0.9))
    assert row["persistence"] == pytest.approx(expit(-0.3))
    assert row["persistence_error"] == pytest.approx(expit(-0.3) - expit(0.9))
    assert (row["n_params_base"], row["n_train_sizes"], row["dof"]) == (10**12, 3, 1)
    assert (row["level"], row["kind"], row["covered"]) == (0.8, "observation", True)
    assert row["reach"] == pytest.approx(10)


@pytest.mark.parametrize("value", [-5.0, 0.7, 5.0])
def test_covered_says_whether_the_measured_score_lies_inside(value):
    row = backtest(
        as_frame({"lora": (-2.0, -1.0, -0.3, value)}), "recode_format", pooling="per_method", level=0.5
    ).iloc[0]
    assert row["covered"] == (row["lower"] <= row["measured"] <= row["upper"]) == (value == 0.7)


@pytest.mark.parametrize("pooling", ["per_method", "pooled"])
def test_held_out_size_is_never_used(primary, pooling):
    for dataset in ("recode_format", "humanevalfix_java", "humanevalexplain_python"):
        own = primary[primary["dataset"] == dataset]
        largest = own["n_params_base"] == own["n_params_base"].max()
        changed = own.assign(value=own["value"].where(~largest, 0.987))
        before, after = (backtest(frame, dataset, pooling=pooling) for frame in (own, changed))
        pd.testing.assert_frame_equal(before[PREDICTED], after[PREDICTED])
        assert set(after["measured"]) == {0.987}
        assert np.all(before["error"] != after["error"])


def test_rows_marked_held_out_take_no_part(example):
    marked = example.assign(held_out=example["n_params_base"] == SIZES[-1])
    row = backtest(marked, "recode_format", pooling="per_method").iloc[0]
    assert (row["n_params_base"], row["n_train_sizes"]) == (10**11, 2)


@pytest.mark.parametrize("pooling", ["per_method", "pooled"])
def test_two_training_sizes_give_a_line_and_no_interval(pooling):
    found = backtest(as_frame({"lora": (-2, -1, 0.5), "ia3": (-1, -0.5, 0)}), "recode_format", pooling=pooling)
    assert found["covered"].isna().all() and found[["lower", "upper"]].isna().all(axis=None)
    assert set(found["dof"]) == {0} and set(found["n_train_sizes"]) == {2}
    slopes = {"per_method": (1.0, 0.5), "pooled": (0.75, 0.75)}[pooling]
    # On the pooled line each method keeps its own mean, half a decade back.
    means = (-1.5, -0.75)
    expected = [expit(mean + 1.5 * slope) for mean, slope in zip(means, slopes, strict=True)]
    np.testing.assert_allclose(found["predicted"], expected)


def test_training_sizes_that_methods_do_not_share_give_no_interval():
    nan = np.nan
    frame = as_frame({"lora": (-2, -1, nan, nan, 1), "ia3": (nan, nan, -1, -0.5, 0)}, sizes=(*SIZES, 10**13))
    found = backtest(frame, "recode_format", pooling="pooled")
    assert len(found) == 2 and found["covered"].isna().all() and set(found["dof"]) == {0}
    assert summarise_backtest(found)["n_intervals"].tolist() == [0]


def test_persistence_is_the_largest_training_size_of_the_method_itself():
    nan = np.nan
    found = backtest(
        as_frame({"lora": (-2, -1, -0.5, 0), "ia3": (-1, -0.4, nan, 0)}), "recode_format", pooling="pooled"
    )
    np.testing.assert_allclose(found["persistence"], expit([-0.5, -0.4]))


def test_persistence_averages_the_seeds_of_the_largest_training_size(example):
    again = example[example["n_params_base"] == 10**11].assign(value=expit(0.1))
    for frame in (pd.concat([example, again]), pd.concat([again, example])):
        row = backtest(frame, "recode_format", pooling="per_method").iloc[0]
        assert row["persistence"] == pytest.approx((expit(-0.3) + expit(0.1)) / 2)


def test_methods_without_two_training_sizes_are_left_out():
    nan = np.nan
    frame = as_frame({"lora": (-2, -1, -0.5, 0), "ia3": (nan, nan, -0.5, 0), "fft": (-2, -1, 0, nan)})
    assert backtest(frame, "recode_format", pooling="pooled")["method"].tolist() == ["lora"]


def test_too_few_sizes_are_refused(primary):
    with pytest.raises(Refusal, match="humanevalexplain_java: only 1b, 7b measured"):
        backtest(primary, "humanevalexplain_java", pooling="pooled")


def test_summary_adds_up():
    table = pd.DataFrame(
        {
            "dataset": ["a", "a", "a", "b"],
            "pooling": "pooled",
            "size": ["16b", "16b", "16b", "7b"],
            "error": [0.1, -0.2, 0.3, 0.5],
            "persistence_error": [0.3, -0.3, 0.6, 0.0],
            "lower": [0.1, 0.2, np.nan, np.nan],
            "upper": [0.4, 0.4, np.nan, np.nan],
            "covered": pd.array([True, False, pd.NA, pd.NA], dtype="boolean"),
            "n_train_sizes": [3, 3, 2, 2],
            "dof": [1, 1, 0, 0],
            "level": 0.8,
        }
    )
    first, second = summarise_backtest(table).to_dict("records")
    assert (first["n"], first["n_intervals"], first["n_covered"], first["dof"], first["level"]) == (3, 2, 1, 1, 0.8)
    assert first["mean_abs_error"] == pytest.approx(0.2)
    assert first["rmse"] == pytest.approx(np.sqrt(0.14 / 3))
    assert first["mean_error"] == pytest.approx(0.2 / 3)
    assert first["persistence_mean_abs_error"] == pytest.approx(0.4)
    assert first["mean_width"] == pytest.approx(0.25)
    assert (second["dataset"], second["n_intervals"], second["n_covered"]) == ("b", 0, 0)
    assert np.isnan(second["mean_width"])


def test_released_data_sets_are_all_back_tested_both_ways(primary):
    table = backtest_all(primary)
    assert table.groupby("dataset")["pooling"].nunique().eq(2).all()
    assert table["dataset"].nunique() == 10
    np.testing.assert_allclose(table["error"], table["predicted"] - table["measured"])
    np.testing.assert_allclose(table["persistence_error"], table["persistence"] - table["measured"])
    scores = primary.set_index(["dataset", "method", "size"])["value"]
    keys = zip(table["dataset"], table["method"], table["size"], strict=True)
    np.testing.assert_array_equal(table["measured"], [scores[key] for key in keys])
    assert summarise_backtest(table)["n"].sum() == len(table)


def test_nothing_to_back_test(primary):
    assert backtest_all(primary.iloc[:0]).empty
    assert summarise_backtest(backtest_all(primary.iloc[:0])).empty


@pytest.mark.parametrize("pooling", ["per_method", "pooled"])
def test_a_world_in_which_the_law_is_true(pooling):
    n_worlds, level, methods = 200, 0.8, ("lora", "ia3", "fft")
    rng = np.random.default_rng(2)
    sizes = (1_137_207_296, 3_043_311_104, 7_327_263_232, 15_517_456_384, 34_000_000_000)
    size_sd = 0.15 if pooling == "pooled" else 0.0
    tables = []
    for _ in range(n_worlds):
        shared = -1.5 + decades(sizes) + rng.normal(0, size_sd, len(sizes))
        world = {m: shared + rng.normal(0, 0.3) + rng.normal(0, 0.05, len(sizes)) for m in methods}
        tables.append(backtest(as_frame(world, sizes=sizes), "recode_format", pooling=pooling, level=level))
    (found,) = summarise_backtest(pd.concat(tables, ignore_index=True)).to_dict("records")
    assert (found["n"], found["dof"]) == (n_worlds * len(methods), 2)
    # Methods of one world share its size effects: count worlds, not methods.
    margin = 4 * np.sqrt(level * (1 - level) / n_worlds)
    assert found["n_covered"] / found["n"] == pytest.approx(level, abs=margin)
    assert abs(found["mean_error"]) < 0.02
    assert found["mean_abs_error"] < 0.9 * found["persistence_mean_abs_error"]
