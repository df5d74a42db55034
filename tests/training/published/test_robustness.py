import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.published.measures import CATEGORIES, score_robustness

PROBLEMS = st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=40)


def test_categories_have_the_published_number_of_prompts():
    assert {name: 164 * len(category.blocks) for name, category in CATEGORIES.items()} == {
        "format": 1640,
        "function": 4264,
        "syntax": 2460,
        # Seven random transformations with five seeds and three others.
        "docstring": 164 * 38,
    }


def test_blocks_are_in_the_order_of_sorted_file_names():
    for category in CATEGORIES.values():
        assert len(set(category.blocks)) == len(category.blocks)
        assert category.nominal is None or category.nominal in category.blocks
        assert {item.n_seeds for item in category.transformations} == {1, 5}
    for name in ("format", "function", "docstring"):
        names = [item.name for item in CATEGORIES[name].transformations]
        assert names == sorted(names)


def test_robust_scores_by_hand():
    # Perturbed prompts solved of 2, and whether the prompt as it was is solved.
    passed, nominal = [2, 1, 0, 0, 2], [True, True, True, False, False]
    values, stderr = score_robustness(passed, [2] * 5, nominal)
    assert values == pytest.approx(
        {
            "mean_pass@1": 5 / 10,
            "robust_pass@1": 2 / 5,
            # Problems 1, 2 and 4 change.
            "robust_relative@1": 3 / 5,
            "robust_drop@1": (3 / 5 - 2 / 5) / (3 / 5),
        }
    )
    assert stderr.keys() == values.keys()


def test_without_nominal_outcomes_there_is_nothing_relative():
    values, stderr = score_robustness([1, 0], [1, 1])
    assert values.keys() == stderr.keys() == {"mean_pass@1", "robust_pass@1"}


def test_no_drop_from_nothing():
    values, _ = score_robustness([1, 0], [1, 1], [False, False])
    assert values["robust_relative@1"] == 0.5
    assert "robust_drop@1" not in values


@given(PROBLEMS)
def test_robust_scores_keep_their_ranges(problems):
    passed, nominal = zip(*problems, strict=True)
    values, _ = score_robustness(passed, [5] * len(passed), nominal)
    assert 0 <= values["robust_pass@1"] <= values["mean_pass@1"] <= 1
    assert 0 <= values["robust_relative@1"] <= 1
    assert values.get("robust_drop@1", 0) <= 1
    expected = np.mean([(count == 5) != bool(solved) or (count > 0) != bool(solved) for count, solved in problems])
    assert values["robust_relative@1"] == pytest.approx(expected)
