"""Sizes as people write them, predictions with their intervals, and what the data cannot support."""

import itertools
import json
import random

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit

from astraios_analysis.fits import fit
from astraios_analysis.laws import LOGIT_LINEAR, decades
from astraios_analysis.predictions import (
    LEVELS,
    PredictionError,
    parse_size,
    predict,
    predict_scores,
    predictable_datasets,
    reach,
    require_reach,
)
from astraios_analysis.records import to_frame
from astraios_analysis.scores import primary_frame

KNOWN = {"1b": 1_137_207_296, "16B": 15_517_456_384}
SIZES = np.array([1.137e9, 3.043e9, 7.327e9, 15.517e9])


@pytest.fixture(scope="module")
def primary(released_records):
    return primary_frame(to_frame(released_records))


@pytest.fixture(scope="module")
def pooled():
    """Two methods at four sizes, pooled."""
    noise = np.random.default_rng(0).normal(0, 0.1, (2, 4))
    y = expit(np.array([[-1.5], [-1.0]]) + decades(SIZES) + noise)
    return fit(LOGIT_LINEAR, np.tile(SIZES, 2), y.ravel(), ["lora"] * 4 + ["ia3"] * 4)


def synthetic(cells, dataset="recode_format", noise=0.05):
    """Primary scores on a noisy line, from {method: sizes}."""
    rng = np.random.default_rng(1)
    rows = [
        {
            "dataset": dataset,
            "method": method,
            "size": f"{x / 1e9:.0f}b",
            "n_params_base": int(x),
            "value": expit(-1.5 + decades(x) + rng.normal(0, noise)),
            "n_items": 164,
            "held_out": False,
        }
        for method, sizes in cells.items()
        for x in sizes
    ]
    return pd.DataFrame(rows)


class TestParseSize:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("1b", 1_137_207_296),
            ("1B", 1_137_207_296),
            ("16b", 15_517_456_384),
            ("34b", 34e9),
            (" 7B ", 7e9),
            ("350m", 350e6),
            ("0.5b", 0.5e9),
            ("120k", 120e3),
            ("1.5t", 1.5e12),
            ("3.4e10", 3.4e10),
            ("3.4E+10", 3.4e10),
            ("1137207296", 1_137_207_296),
        ],
    )
    def test_sizes(self, text, expected):
        assert parse_size(text, KNOWN) == pytest.approx(expected, rel=1e-15)

    def test_a_label_nobody_measured_is_a_round_number(self):
        assert parse_size("1b") == 1e9

    @pytest.mark.parametrize(
        "text", ["big", "-3b", "0", "0b", "", " ", "nanb", "nan", "inf", "1e999", "7bb", "b", "7 b"]
    )
    def test_other_text_is_refused(self, text):
        with pytest.raises(PredictionError, match=r"is not understood; give a measured size \(1b, 16B\)") as caught:
            parse_size(text, KNOWN)
        assert repr(text) in str(caught.value)


class TestReach:
    @pytest.mark.parametrize(
        ("size", "expected"), [(1e9, 1), (4e9, 1), (16e9, 1), (32e9, 2), (160e9, 10), (5e8, 2), (1e8, 10)]
    )
    def test_counts_how_many_times_beyond(self, size, expected):
        assert reach(size, (1e9, 16e9)) == pytest.approx(expected)

    @pytest.mark.parametrize("size", [1.138e9 / 10.02, 15.517e9 * 10.01])
    def test_far_sizes_need_force_on_both_sides(self, pooled, size):
        with pytest.raises(PredictionError, match=r"10\.0 times beyond the fitted range .*or insist with --force"):
            require_reach(size, pooled, force=False)
        require_reach(size, pooled, force=True)

    def test_ten_times_is_allowed(self, pooled):
        require_reach(15.517e10, pooled, force=False)


class TestPredict:
    TARGETS = np.array([1.2e8, 5e8, 2e9, 4e9, 34e9, 155e9])

    def test_value_is_on_the_line(self, pooled):
        for method, intercept in zip(pooled.groups, pooled.theta, strict=False):
            line = LOGIT_LINEAR.function(self.TARGETS, np.array([intercept, pooled.theta[-1]]))
            found = predict(pooled, self.TARGETS, method)
            np.testing.assert_allclose([p.y for p in found], line)
            np.testing.assert_allclose([p.x for p in found], self.TARGETS)

    def test_intervals_nest_by_level_and_kind_inside_the_unit_interval(self, pooled):
        for n_params in self.TARGETS:
            found = {
                (kind, level): predict(pooled, n_params, "lora", level=level, kind=kind)[0]
                for kind in ("mean", "observation")
                for level in (0.05, *LEVELS, 0.999)
            }
            for (kind, level), p in found.items():
                assert (p.kind, p.level) == (kind, level)
                assert 0 < p.lower < p.y < p.upper < 1
            ordered = sorted(found.items())
            for (before, inner), (after, outer) in itertools.pairwise(ordered):
                if before[0] == after[0]:
                    assert outer.lower < inner.lower < inner.upper < outer.upper
            for level in LEVELS:
                mean, new = found["mean", level], found["observation", level]
                assert new.lower < mean.lower < mean.upper < new.upper

    def test_intervals_are_symmetric_on_the_link_scale(self, pooled):
        p = predict(pooled, 34e9, "ia3", level=0.8)[0]
        assert logit(p.upper) - logit(p.y) == pytest.approx(logit(p.y) - logit(p.lower))

    @pytest.mark.parametrize("kind", ["mean", "observation"])
    def test_uncertainty_grows_with_the_distance_from_the_data(self, pooled, kind):
        for sizes in (np.geomspace(16e9, 160e9, 6), np.geomspace(1e9, 1e8, 6)):
            found = predict(pooled, sizes, "lora", kind=kind)
            widths = [logit(p.upper) - logit(p.lower) for p in found]
            assert np.all(np.diff(widths) > 0)
            assert np.all(np.diff([p.reach for p in found]) > 0)

    def test_observation_is_the_default_kind(self, pooled):
        assert predict(pooled, 4e9, "lora") == predict(pooled, 4e9, "lora", level=0.95, kind="observation")


class TestPredictScores:
    def test_json_of_the_design(self, primary):
        found = predict_scores(primary, "recode_format", ["lora", "fft"], "34b", 34e9)
        assert [p["method"] for p in found] == ["lora", "fft"]
        assert json.loads(json.dumps(found, allow_nan=False)) == found
        for p in found:
            keys = {"size", "n_params", "method", "quantity", "value", "intervals", "reach", "weights"}
            assert keys <= set(p)
            assert (p["size"], p["n_params"], p["quantity"]) == ("34b", 34e9, "recode_format")
            assert sum(p["weights"].values()) == pytest.approx(1)
            assert p["reach"] == pytest.approx(34e9 / 15_517_456_384)
            labels = [(i["kind"], i["level"]) for i in p["intervals"]]
            assert sorted(labels) == sorted((kind, level) for kind in ("mean", "observation") for level in LEVELS)
            for interval in p["intervals"]:
                assert set(interval) == {"level", "kind", "lower", "upper"}
                assert 0 < interval["lower"] < p["value"] < interval["upper"] < 1

    def test_four_sizes_are_fitted_alone(self, primary):
        (found,) = predict_scores(primary, "recode_format", ["lora"], "34b", 34e9)
        assert (found["pooling"], found["dof"]) == ("per_method", 2)
        assert found["sizes_fitted"] == ["1b", "3b", "7b", "16b"]
        assert list(found["weights"]) == ["logit_linear/per_method"]

    def test_three_sizes_are_pooled_and_said(self, primary):
        found = predict_scores(primary, "humanevalfix_java", ["lora", "ia3"], "16b", 15_517_456_384)
        assert {(p["pooling"], p["dof"], tuple(p["sizes_fitted"])) for p in found} == {
            ("pooled", 1, ("1b", "3b", "7b"))
        }
        assert list(found[0]["weights"]) == ["logit_linear/pooled"]

    def test_mixed_data_set(self, primary):
        found = predict_scores(primary, "humanevalexplain_python", ["lora", "fft"], "34b", 34e9)
        assert [(p["pooling"], p["sizes_fitted"][-1]) for p in found] == [("per_method", "16b"), ("pooled", "16b")]

    def test_order_of_records_does_not_matter(self, released_records):
        shuffled = random.Random(0).sample(released_records, len(released_records))
        for dataset in ("humanevalfix_python", "recode_function"):
            before, after = (
                predict_scores(primary_frame(to_frame(r)), dataset, ["adapterh", "lora"], "34b", 34e9)
                for r in (released_records, shuffled)
            )
            assert [p["value"] for p in before] == pytest.approx([p["value"] for p in after], rel=1e-9)
            for one, other in zip(before, after, strict=True):
                for a, b in zip(one["intervals"], other["intervals"], strict=True):
                    assert (a["lower"], a["upper"]) == pytest.approx((b["lower"], b["upper"]), rel=1e-9)

    def test_order_of_rows_does_not_matter(self, primary):
        for dataset in ("humanevalfix_python", "humanevalexplain_python"):
            before, after = (
                predict_scores(frame, dataset, ["fft"], "34b", 34e9)[0]
                for frame in (primary, primary.sample(frac=1, random_state=0))
            )
            assert before["value"] == pytest.approx(after["value"], rel=1e-9)
            assert before["sizes_fitted"] == after["sizes_fitted"]
            assert before["intervals"][2]["upper"] == pytest.approx(after["intervals"][2]["upper"], rel=1e-9)

    def test_held_out_sizes_are_neither_fitted_nor_named(self, primary):
        frame = primary.assign(held_out=primary["size"] == "16b")
        worse = frame.assign(value=frame["value"].where(~frame["held_out"], 0.999))
        (found,) = predict_scores(frame, "recode_format", ["lora"], "16b", 15_517_456_384)
        assert (found["pooling"], found["sizes_fitted"]) == ("pooled", ["1b", "3b", "7b"])
        assert [found] == predict_scores(worse, "recode_format", ["lora"], "16b", 15_517_456_384)

    @pytest.mark.parametrize(
        ("dataset", "message"),
        [
            ("humanevalexplain_java", "humanevalexplain_java: only 1b, 7b measured; .*at least 3 sizes.*choose from"),
            ("recode_docstring", "recode_docstring: nothing measured"),
            ("aatk", "aatk has no score to predict .*not security scores.*choose from clone_detection"),
            ("humaneval", "unknown data set 'humaneval'; choose from clone_detection"),
        ],
    )
    def test_data_sets_that_cannot_be_predicted(self, primary, dataset, message):
        assert dataset not in predictable_datasets(primary)
        with pytest.raises(PredictionError, match=message):
            predict_scores(primary, dataset, ["lora"], "34b", 34e9)

    def test_predictable_data_sets_all_predict(self, primary):
        names = predictable_datasets(primary)
        assert len(names) == 10
        for name in names:
            assert len(predict_scores(primary, name, ["fft", "lora"], "34b", 34e9)) == 2

    def test_method_without_scores(self, primary):
        with pytest.raises(PredictionError, match="lora2 has no score on recode_format to fit; choose from fft, lora"):
            predict_scores(primary, "recode_format", ["lora2"], "34b", 34e9)

    def test_far_sizes_need_force(self, primary):
        with pytest.raises(PredictionError, match=r"12\.9 times beyond the fitted range"):
            predict_scores(primary, "recode_syntax", ["fft"], "200b", 200e9)
        (found,) = predict_scores(primary, "recode_syntax", ["fft"], "200b", 200e9, force=True)
        assert found["reach"] == pytest.approx(12.9, abs=0.05)

    def test_reach_counts_from_the_sizes_of_the_fit_that_is_used(self, primary):
        (found,) = predict_scores(primary, "humanevalfix_python", ["fft"], "16b", 15_517_456_384)
        assert found["reach"] == pytest.approx(15_517_456_384 / 7_327_263_232)

    def test_sizes_that_methods_do_not_share(self):
        frame = synthetic({"lora": [1e9, 2e9], "ia3": [3e9, 4e9]})
        with pytest.raises(PredictionError, match="recode_format: lora and ia3 share no size"):
            predict_scores(frame, "recode_format", ["lora"], "8b", 8e9)

    def test_recovers_a_known_world(self):
        frame = synthetic({"lora": SIZES, "ia3": SIZES[:3]}, noise=1e-6)
        found = predict_scores(frame, "recode_format", ["lora", "ia3"], "34b", 34e9)
        assert [p["value"] for p in found] == pytest.approx([expit(-1.5 + decades(34e9))] * 2, abs=1e-4)


def test_scores_without_scatter_are_refused():
    frame = synthetic({"lora": SIZES}).assign(value=0.25)
    with pytest.raises(PredictionError, match="recode_format: the scores that lora is fitted to are equal or lie on"):
        predict_scores(frame, "recode_format", ["lora"], "34b", 34e9)
