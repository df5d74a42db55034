import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.published.measures import CLONE_RULE, DEFECT_RULE, INVALID, draw_subsample, read_answer, score_answers

LABELS = st.lists(st.tuples(st.sampled_from([0, 1]), st.sampled_from([INVALID, 0, 1])), min_size=1, max_size=60)


@pytest.mark.parametrize(
    ("text", "prediction"),
    [
        (" YES", 1),
        ("no", 0),
        ("", INVALID),
        ("Yes, and no.", 1),
        ("No. Yes", 0),
        ("yes or no", INVALID),
        # Inside a word counts, too.
        ("I do not know", 0),
        ("maybe. There is a leak", 1),
        ("I see. There is no defect here", 0),
        # The positive phrases come first, wherever they stand.
        ("I see. There is no defect but there is a risk", 1),
        ("The code has a defect", 1),
        ("42", INVALID),
        ("Question: yes?\n\nAnswer: NO", 0),
        ("x\nAnswer: YES\n\n y\nAnswer: NO", 0),
        ("Answer: YES", 1),
        ("no defect\nAnswer:", INVALID),
    ],
)
def test_defect_answers_are_read_by_the_published_rule(text, prediction):
    assert read_answer(text, DEFECT_RULE) == prediction


def test_clone_rule_has_phrases_of_its_own():
    assert read_answer("well. it contains a defect", CLONE_RULE) == INVALID
    assert read_answer("well. there is no relation", CLONE_RULE) == 0
    assert read_answer("well. there is a relation", CLONE_RULE) == 1


def test_subsample_is_the_one_that_python_draws_negatives_first():
    labels = [1, 0, 0, 1, 0, 1, 0, 0, 1, 0]
    random.seed(0)
    negatives = [place for place, label in enumerate(labels) if label == 0]
    positives = [place for place, label in enumerate(labels) if label == 1]
    expected = [negatives[i] for i in random.sample(range(6), 4)] + [positives[i] for i in random.sample(range(4), 2)]
    assert draw_subsample(labels, 2, 4) == sorted(expected)
    assert draw_subsample(labels, 2, 4, seed=1) != sorted(expected)


def test_no_subsample_of_too_few_items():
    assert draw_subsample([1, 1, 0], 1, 2) is None
    assert draw_subsample([1, 0, 0], 2, 1) is None


def test_scores_by_hand():
    labels = [1, 1, 1, 0, 0]
    predictions = [1, 0, INVALID, 0, 1]
    values, stderr = score_answers(labels, predictions)
    assert values == pytest.approx(
        {
            "overall_accuracy": 2 / 5,
            # F1 of invalid answers 0, of no 2/4, of yes 2/5: the invalid ones are a label.
            "overall_macro_f1": (0 + 0.5 + 0.4) / 3,
            "valid_rate": 4 / 5,
            "valid_accuracy": 2 / 4,
            "valid_f1": 0.5,
            "predicted_positive_rate": 2 / 5,
        }
    )
    assert stderr.keys() == values.keys()


def test_labels_that_do_not_occur_take_no_part_in_macro_f1():
    assert score_answers([1, 1], [1, 1])[0]["overall_macro_f1"] == 1
    assert score_answers([1, 0], [1, 0])[0]["overall_macro_f1"] == 1


def test_measures_of_valid_answers_are_absent_where_none_is_valid():
    values, stderr = score_answers([1, 0], [INVALID, INVALID])
    assert values["overall_accuracy"] == values["valid_rate"] == 0
    assert not {"valid_accuracy", "valid_f1"} & (values.keys() | stderr.keys())


@given(LABELS)
def test_scores_are_shares_and_add_up(pairs):
    labels, predictions = zip(*pairs, strict=True)
    values, stderr = score_answers(labels, predictions)
    assert all(0 <= value <= 1 for value in values.values())
    assert all(error >= 0 for error in stderr.values())
    n_valid = sum(prediction != INVALID for prediction in predictions)
    assert values["valid_rate"] == pytest.approx(n_valid / len(pairs))
    if n_valid:
        assert values["overall_accuracy"] == pytest.approx(values["valid_accuracy"] * values["valid_rate"])


def test_standard_error_is_that_of_resampled_items():
    rng = np.random.default_rng(1)
    labels, predictions = rng.integers(0, 2, size=(2, 500))
    values, stderr = score_answers(labels.tolist(), predictions.tolist())
    p = values["overall_accuracy"]
    assert stderr["overall_accuracy"] == pytest.approx(np.sqrt(p * (1 - p) / 500), rel=0.1)
    drawn = [rng.integers(0, 500, 500) for _ in range(200)]
    f1 = [score_answers(labels[i].tolist(), predictions[i].tolist())[0]["overall_macro_f1"] for i in drawn]
    assert stderr["overall_macro_f1"] == pytest.approx(np.std(f1), rel=0.2)
    assert score_answers(labels.tolist(), predictions.tolist())[1] == stderr


@pytest.mark.parametrize(("labels", "predictions"), [([], []), ([1], [1, 0])])
def test_items_and_predictions_must_fit(labels, predictions):
    with pytest.raises(ValueError, match="give one of each for every item"):
        score_answers(labels, predictions)
