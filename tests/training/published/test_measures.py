import json
import random
from dataclasses import replace

import numpy as np
import pytest

from training.cli.score import report_table
from training.published.measures import (
    CATEGORIES,
    CLONE_RULE,
    DEFECT_RULE,
    INVALID,
    Part,
    Report,
    draw_subsample,
    make_counts,
    read_answer,
    resampled_statistic_stderr,
    resampled_stderr,
    score_answers,
    score_robustness,
)


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
    # Of too few items there is none.
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
    # Labels that do not occur take no part in macro F1.
    assert score_answers([1, 1], [1, 1])[0]["overall_macro_f1"] == 1
    assert score_answers([1, 0], [1, 0])[0]["overall_macro_f1"] == 1


def test_measures_of_valid_answers_are_absent_where_none_is_valid():
    values, stderr = score_answers([1, 0], [INVALID, INVALID])
    assert values["overall_accuracy"] == values["valid_rate"] == 0
    assert not {"valid_accuracy", "valid_f1"} & (values.keys() | stderr.keys())


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


def test_categories_have_the_published_number_of_prompts_in_the_order_of_sorted_file_names():
    n_prompts = {name: 164 * len(category.blocks) for name, category in CATEGORIES.items()}
    # Docstrings: seven random transformations with five seeds and three others.
    assert n_prompts == {"format": 1640, "function": 4264, "syntax": 2460, "docstring": 164 * 38}
    for category in CATEGORIES.values():
        assert len(set(category.blocks)) == len(category.blocks)
        assert category.nominal is None or category.nominal in category.blocks
        assert set(category.transformations.values()) == {1, 5}
    for name in ("format", "function", "docstring"):
        names = list(CATEGORIES[name].transformations)
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


def test_without_nominal_outcomes_there_is_nothing_relative_and_no_drop_from_nothing():
    values, stderr = score_robustness([1, 0], [1, 1])
    assert values.keys() == stderr.keys() == {"mean_pass@1", "robust_pass@1"}
    values, _ = score_robustness([1, 0], [1, 1], [False, False])
    assert values["robust_relative@1"] == 0.5
    assert "robust_drop@1" not in values


def make_report(**changes):
    # Nothing is rounded.
    part = Part({"pass@1": 2 / 3, "timeout_rate": 1 / 7}, {"pass@1": 1 / 7}, make_counts([4, 4], [4, 1]))
    return Report("humanevalfix_python", "python", "pass@1", part, **({"sandbox": "bubblewrap"} | changes))


def test_json_is_the_interface():
    nominal = Part({"pass@1": 1.0}, {}, make_counts([1], [1]))
    report = make_report(details={"n_distinct_programs": 5}, settings={"nominal": nominal}, notes=("mind this",))
    whole = json.loads(json.dumps(report.to_json()))
    (setting,) = whole.pop("settings")
    keys = "dataset language n_problems n_samples primary_metric pass@1 timeout_rate stderr n_distinct_programs notes"
    assert list(whole) == [*keys.split(), "sandbox", "per_problem"]
    assert (whole["n_problems"], whole["n_samples"], whole["sandbox"]) == (2, 8, "bubblewrap")
    assert (whole["pass@1"], whole["stderr"]) == (2 / 3, {"pass@1": 1 / 7})
    assert whole["per_problem"][1] == {"problem_id": 1, "n_samples": 4, "n_passed": 1}
    assert list(setting) == ["setting", "n_problems", "n_samples", "pass@1", "stderr", "per_problem"]
    assert (setting["setting"], setting["n_samples"], whole["notes"]) == ("nominal", 1, ["mind this"])


def test_table_says_what_was_scored_and_where():
    table = report_table(make_report(notes=("mind this",)))
    assert table.startswith("humanevalfix_python: 2 problems, 8 samples")
    assert "all      pass@1        0.6667  0.1429" in table
    assert "mind this\nstderr: over problems, which are resampled; programs were executed in: bubblewrap" in table
    assert "no program was executed" in report_table(make_report(sandbox=None))
    one = replace(make_report(), whole=Part({"pass@1": 1.0}, {}, make_counts([1], [1])))
    assert report_table(one).startswith("humanevalfix_python: 1 problem, 1 sample\n")
