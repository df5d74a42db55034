"""Sizes as people write them, predictions with their intervals, and what the data cannot support."""

import itertools

import numpy as np
import pytest
from scipy.special import expit, logit

from astraios_analysis.laws.forms import LOGIT_LINEAR, decades
from astraios_analysis.prediction.fits import fit
from astraios_analysis.prediction.limits import (
    LEVELS,
    parse_size,
    predict,
    predictable_datasets,
    reach,
    require_predictable,
    require_reach,
)
from astraios_analysis.records.frame import to_frame
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.scores.bootstrap import primary_frame

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
        with pytest.raises(Refusal, match=r"is not understood; give a measured size \(1b, 16B\)") as caught:
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
        with pytest.raises(Refusal, match=r"10\.0 times beyond the fitted range .*or insist with --force"):
            require_reach(size, pooled.x_range, force=False)
        require_reach(size, pooled.x_range, force=True)

    def test_ten_times_is_allowed(self, pooled):
        require_reach(15.517e10, pooled.x_range, force=False)


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


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("humanevalexplain_java", "humanevalexplain_java: only 1b, 7b measured; .*at least 3 sizes.*choose from"),
        ("recode_docstring", "recode_docstring: nothing measured"),
        ("aatk", "aatk has no score to predict .*not security scores.*choose from clone_detection"),
        ("humaneval", "unknown data set 'humaneval'; choose from clone_detection"),
    ],
)
def test_data_sets_that_cannot_be_predicted(primary, dataset, message):
    assert dataset not in predictable_datasets(primary) and len(predictable_datasets(primary)) == 10
    with pytest.raises(Refusal, match=message):
        require_predictable(primary, dataset)
