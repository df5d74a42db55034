import numpy as np
import pytest

from training.published.measures import resample, resampled_statistic_stderr, resampled_stderr


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
