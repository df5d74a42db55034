import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logit

from astraios_analysis.records.counts import inside_unit_interval, pass_at_k, robust_drop, robust_pass, robust_relative
from astraios_analysis.records.refusal import Refusal


@given(st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_is_the_share_of_draws_that_hold_a_right_one(case):
    n, c, k = case
    draws = list(itertools.combinations([True] * c + [False] * (n - c), k))
    assert pass_at_k([n], [c], k) == pytest.approx([np.mean([any(draw) for draw in draws])], abs=1e-12)


def test_pass_at_k_without_bias():
    # The plug-in estimate 1 - (1 - c/n)^k would be 0.40.
    assert pass_at_k([20], [1], 10) == pytest.approx([0.5])
    assert pass_at_k([20, 20, 2000], [0, 20, 1999], 10) == pytest.approx([0, 1, 1])


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
        pass_at_k(n, c, k)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=40))
def test_robustness_compares_worst_and_best_with_the_nominal(problems):
    passed, nominal = zip(*problems, strict=True)
    expected = [(count == 5) != solved or (count > 0) != solved for count, solved in problems]
    assert (robust_relative(passed, [5] * len(passed), nominal) == expected).all()
    assert (robust_pass(passed, [5] * len(passed)) == [count == 5 for count in passed]).all()


def test_drop_is_relative_to_the_nominal_share():
    assert robust_drop([0.6, 0.5, 0.0], [0.4, 0.5, 0.0]) == pytest.approx([1 / 3, 0, np.nan], nan_ok=True)


class TestInsideUnitInterval:
    def test_scores_of_none_and_all_move_by_half_a_problem(self):
        np.testing.assert_allclose(inside_unit_interval([0, 1, 0.5], [164, 9, 164]), [0.5 / 165, 9.5 / 10, 0.5])

    @given(st.lists(st.floats(0, 1), min_size=2, max_size=8), st.integers(1, 3000))
    def test_order_is_kept_and_the_logit_finite(self, values, n_items):
        moved = inside_unit_interval(np.sort(values), np.full(len(values), n_items))
        assert np.all(np.diff(moved) >= 0)
        assert np.all(np.isfinite(logit(moved)))

    @pytest.mark.parametrize("value", [-0.01, 1.01, -3])
    def test_other_quantities_are_refused(self, value):
        with pytest.raises(Refusal, match="is not a rate in"):
            inside_unit_interval([0.5, value], [10, 10])
