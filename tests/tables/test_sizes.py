"""Transfer to a family's largest model: exact lines come back, slopes are shared, held-out rows are not seen."""

import numpy as np
import pandas as pd
import pytest

import astraios_analysis as aa
from astraios_analysis.laws.tables import NOTES
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.tables.rows import Columns, backtest_table, rows_to_fit

X = np.array([100.0, 1000.0, 10000.0])
SIZES = {"a": (1e7, 1e8, 1e9, 1e10), "b": (2e7, 2e8, 2e9), "c": (5e7, 5e8, 5e9)}
FAMILIES = {"x": "n_ft", "y": "loss", "group": ["task", "model"], "size_column": "params", "family_column": "family"}
COLUMNS = Columns(("n_ft",), "loss", ("task", "model"), size="params", family="family")


def world(rng, noise=0.0, model_sd=0.0, slopes=(-0.06, -0.06, -0.06), task="t"):
    """Families whose log loss is a line in log size at each x; the largest model of each is held out."""
    rows = []
    for (family, sizes), slope in zip(SIZES.items(), slopes, strict=True):
        for size in sizes:
            off = model_sd * rng.standard_normal()
            z = 1.2 - 0.05 * np.log(X) + slope * np.log(size / 1e8) + off + noise * rng.standard_normal(len(X))
            fields = {"task": task, "family": family, "model": f"{family}{size:g}", "params": size}
            fields["split"] = "extrapolate" if size == max(sizes) else "train"
            rows.append(pd.DataFrame({"n_ft": X, "loss": np.exp(z)}).assign(**fields))
    return pd.concat(rows, ignore_index=True)


def run(frame):
    return {g["group"]["family"]: g for g in backtest_table(frame, COLUMNS, "split")[0]}


def test_lines_that_families_share_come_back_and_tasks_are_kept_apart():
    rng = np.random.default_rng(0)
    other = world(rng, slopes=(-0.2, -0.2, -0.2), task="u")
    found, _, _ = backtest_table(pd.concat([world(rng), other]), COLUMNS, "split")
    assert [(g["group"]["task"], g["group"]["family"]) for g in found] == [(t, f) for t in "tu" for f in "abc"]
    assert found[0]["n_train"] == 9 and found[0]["n_test"] == 3
    assert all(group["rmse_log"] < 1e-8 for group in found)


def test_held_out_rows_take_no_part():
    frame = world(np.random.default_rng(1), noise=0.02, model_sd=0.02)
    is_train = frame["split"] == "train"
    worlds = (frame.assign(loss=frame["loss"].where(is_train, frame["loss"] * k)) for k in (1, np.e**3, np.e**-3))
    one, up, down = map(run, worlds)
    for family in SIZES:
        # Shifting outcomes by 3 both ways adds 9 to the mean squared error, if and only if predictions stay.
        squares = [found[family]["rmse_log"] ** 2 for found in (one, up, down)]
        assert squares[1] + squares[2] == pytest.approx(2 * squares[0] + 18)


def test_a_family_of_few_sizes_borrows_its_slope():
    frame = world(np.random.default_rng(2), slopes=(-0.06, -0.06, 0.0))
    own = (frame["family"] == "c") & (frame["split"] == "train")
    target = frame[(frame["family"] == "c") & ~own]
    table = pd.concat([frame, target.assign(params=5e11, model="c5e+11")])
    _, rows, _ = backtest_table(table, COLUMNS, "split")
    near, far = (rows[(rows["family"] == "c") & (rows["params"] == size)] for size in (5e9, 5e11))
    flat = frame.loc[own & (frame["params"] == 5e8), "loss"].to_numpy()
    step = np.log(near["value"].to_numpy() / flat)
    assert np.all(step < 0) and np.all(step > -0.06 * np.log(10))
    widths = [np.log(one["upper_95"] / one["lower_95"]).iloc[0] for one in (near, far)]
    assert widths[0] < widths[1]


def test_no_change_is_followed_where_lines_erred():
    """Families whose largest model is no better than the next: the line of their smaller models is dropped."""
    rows, rng = [], np.random.default_rng(7)
    for family in "abcdef":
        for place, size in enumerate((1e7, 1e8, 1e9, 1e10)):
            z = -0.1 * np.log(10) * min(place, 1) + 0.01 * rng.standard_normal()
            split = "extrapolate" if place == 3 else "train"
            rows += [("t", family, f"{family}{place}", size, x, np.exp(z), split) for x in X]
    frame = pd.DataFrame(rows, columns=["task", "family", "model", "params", "n_ft", "loss", "split"])
    found = run(frame)
    assert found["a"]["weights"]["no_change"] > 0.5 and np.mean([g["rmse_log"] for g in found.values()]) < 0.05


def test_a_family_that_mixes_two_lines_is_named():
    frame = world(np.random.default_rng(0), noise=0.01)
    plain = rows_to_fit(frame, COLUMNS, None).attrs[NOTES]
    off = (frame["family"] == "a") & (frame["params"] == 1e8)
    mixed = rows_to_fit(frame.assign(loss=frame["loss"].where(~off, frame["loss"] * 1.6)), COLUMNS, None).attrs[NOTES]
    assert plain == [] and [note.partition(":")[0] for note in mixed] == ["t/a", "t/a"]
    assert "the models of 1e+07 and 1e+08 differ by" in mixed[0] and "Give each its own family" in mixed[0]


def test_new_models_are_covered_about_as_often_as_asked():
    hits = []
    for seed in range(12):
        found = run(world(np.random.default_rng(seed), noise=0.005, model_sd=0.03))
        hits += [list(group["coverage"].values()) for group in found.values()]
    levels = np.array([0.5, 0.8, 0.95])
    # Thirty-six models, whose rows lie together; the width of a world comes from three families only.
    assert np.all(np.abs(np.mean(hits, axis=0) - levels) < 0.2), np.mean(hits, axis=0)


def test_refusals():
    frame = world(np.random.default_rng(0))
    with pytest.raises(Refusal, match="no row is marked extrapolate in column 'split'"):
        run(frame.assign(split="train"))
    with pytest.raises(Refusal, match="needs two training sizes"):
        run(frame[frame["params"] > 1e9])


def test_a_family_is_asked_for_by_the_name_that_it_is_printed_with():
    frame = world(np.random.default_rng(0), noise=0.01)
    whole = aa.predict(frame, size=2e10, **FAMILIES).table
    own = aa.predict(frame, size=2e10, method="t/b", **FAMILIES).table
    pd.testing.assert_frame_equal(own, whole[whole["method"] == "t/b"].reset_index(drop=True))
    with pytest.raises(Refusal, match="unknown task/family 'b'; choose from t/a, t/b, t/c"):
        aa.predict(frame, size=2e10, method="b", **FAMILIES)


def test_a_family_whose_models_share_no_input_is_named_and_the_others_are_predicted():
    frame = world(np.random.default_rng(0), noise=0.01)
    apart = (frame["family"] == "b") & (frame["n_ft"] == np.where(frame["params"] > 1e8, 100.0, 1000.0))
    found = aa.predict(frame[(frame["family"] != "b") | apart], size=5e10, **FAMILIES)
    assert set(found.table["method"]) == {"t/a", "t/c"} and np.isfinite(found.table["value"]).all()
    assert found.refused == {"t/b": "its models share no n_ft asked for, so that no line joins them"}
