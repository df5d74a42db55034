import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.published.measures import estimate_pass_at_k, resample, resampled_statistic_stderr, resampled_stderr


@given(st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_is_the_share_of_draws_that_hold_a_right_one(case):
    n, c, k = case
    draws = list(itertools.combinations([True] * c + [False] * (n - c), k))
    assert estimate_pass_at_k([n], [c], k) == pytest.approx([np.mean([any(draw) for draw in draws])], abs=1e-12)


def test_pass_at_k_without_bias():
    # The plug-in estimate 1 - (1 - c/n)^k is not what is returned.
    assert estimate_pass_at_k([20], [1], 10) == pytest.approx([0.5])
    assert pytest.approx(0.4, abs=0.01) == 1 - (1 - 1 / 20) ** 10
    assert estimate_pass_at_k([20, 20, 2000], [0, 20, 1999], 10) == pytest.approx([0, 1, 1])


@pytest.mark.parametrize(
    ("n", "c", "k", "message"),
    [
        ([20, 5], [0, 0], 10, r"pass@10 needs at least 10 samples of every problem; the fewest are 5"),
        ([20], [0], 0, "pass@0 needs at least 1 samples"),
        ([20], [21], 1, "more passes than samples"),
        ([20], [-1], 1, "fewer than none"),
        ([20, 20], [1], 1, "give one of each"),
    ],
)
def test_impossible_counts_are_refused(n, c, k, message):
    with pytest.raises(ValueError, match=message):
        estimate_pass_at_k(n, c, k)


def test_resamples_have_the_size_of_what_is_resampled():
    counts = resample(7, 50, seed=3)
    assert counts.shape == (50, 7)
    assert (counts.sum(axis=1) == 7).all()
    assert (resample(7, 50, seed=3) == counts).all()
    assert (resample(7, 50, seed=4) != counts).any()


def test_standard_error_of_a_mean_over_problems():
    values = np.random.default_rng(7).binomial(20, 0.3, size=400) / 20
    assert resampled_stderr(values) == pytest.approx(values.std() / 20, rel=0.08)
    assert resampled_stderr(values) == resampled_stderr(values)
    assert resampled_stderr([0.5, 0.5]) == 0


def test_standard_error_of_a_statistic_is_absent_where_it_is_mostly_undefined():
    def ratio(means):
        with np.errstate(divide="ignore", invalid="ignore"):
            return means[:, 0] / means[:, 1]

    values = np.column_stack([np.arange(20) % 2, np.ones(20)])
    assert resampled_statistic_stderr(values, ratio) == pytest.approx(resampled_stderr(values[:, 0]))
    one_in_many = np.column_stack([np.ones(50), np.arange(50) == 0])
    assert resampled_statistic_stderr(one_in_many, ratio) is not None
    assert resampled_statistic_stderr(np.column_stack([np.ones(5), np.zeros(5)]), ratio) is None
