"""Per-problem quantities behind each score: against enumeration and small cases worked by hand."""

import numpy as np
import pytest

from astraios_analysis.scores.bootstrap import (
    PROBLEM_BOOTSTRAP,
    ProblemBootstrap,
    combine,
    percentile_interval,
    problem_statistics,
)


def derived(score, metric, value):
    """Another metric of the same setting, whose counts stand with `score`."""
    return score.model_copy(update={"metric": metric, "value": value, "problems": None})


def test_statistics_of_each_metric(make_record, make_score):
    plain = make_score([20, 5, 0])
    nominal = make_score([1, 1, 0, 0], 1, "recode_format", setting="nominal")
    perturbed = make_score([5, 2, 3, 0], 5, "recode_format", "mean_pass@1", "new_lines")
    settings = {metric: derived(perturbed, metric, 0.25) for metric in ("robust_pass@1", "robust_relative@1")}
    drop = derived(perturbed, "robust_drop@1", 0.5)
    ten = derived(plain, "pass@10", 0.5)
    record = make_record(scores=(plain, ten, nominal, perturbed, drop, *settings.values()))
    assert problem_statistics(record, plain).tolist() == [[1.0, 0.25, 0.0]]
    assert problem_statistics(record, ten)[0] == pytest.approx([1, 1 - 3003 / 184756, 0])
    assert problem_statistics(record, settings["robust_pass@1"]).tolist() == [[1, 0, 0, 0]]
    # Problem 1 passed and fails under a seed, problem 2 failed and passes under one: two of four changed.
    assert problem_statistics(record, settings["robust_relative@1"]).tolist() == [[0, 1, 1, 0]]
    assert problem_statistics(record, drop).tolist() == [[1, 1, 0, 0], [1, 0, 0, 0]]
    assert combine("robust_drop@1", problem_statistics(record, drop).mean(axis=1)) == 0.5


def test_counts_of_another_language_or_metric_are_not_borrowed(make_record, make_score):
    python, java = make_score([20, 0], dataset="fix"), make_score([0, 0], dataset="fix", language="java")
    ten = derived(java, "pass@10", 0.0)
    bare = derived(java, "timeout_rate", 0.0)
    valid = make_score([1, 1], 1, "defect_detection", "valid_rate", "greedy")
    accuracy = derived(valid, "overall_accuracy", 0.5)
    record = make_record(scores=(python, java, ten, bare, valid, accuracy))
    assert problem_statistics(record, ten).tolist() == [[0, 0]]
    assert problem_statistics(record, bare) is None
    assert problem_statistics(record, valid).tolist() == [[1, 1]]
    assert problem_statistics(record, accuracy) is None


def test_metrics_that_counts_do_not_determine_have_none(make_record, make_score):
    few = make_score([4, 2], 5)
    alone = make_score([5, 2], 5, "recode_format", "mean_pass@1", "new_lines")
    drop = derived(alone, "robust_drop@1", 0.5)
    record = make_record(scores=(few, derived(few, "pass@10", 0.9), alone, drop))
    assert problem_statistics(record, record.scores[1]) is None  # 5 samples say nothing about 10
    assert problem_statistics(record, drop) is None  # no nominal counts
    other = make_score([1, 1, 1], 1, "recode_format", setting="nominal")
    assert problem_statistics(make_record(scores=(alone, drop, other)), drop) is None  # nominal of other problems


def test_mean_over_transformations_weighs_transformations_equally(make_record, make_score):
    one = make_score([1, 0, 1], 1, "recode_format", "mean_pass@1", "tab_indent")
    many = make_score([5, 5, 0], 5, "recode_format", "mean_pass@1", "new_lines")
    total = make_score([6, 5, 1], 6, "recode_format", "mean_pass@1", "all_transformations")
    mean = derived(total, "mean_pass@1", 2 / 3).model_copy(update={"setting": "mean_over_transformations"})
    record = make_record(scores=(one, many, total, mean))
    assert problem_statistics(record, mean).tolist() == [[1.0, 0.5, 0.5]]
    bare = many.model_copy(update={"problems": None})
    assert problem_statistics(make_record(scores=(one, bare, mean)), mean) is None


def test_relative_drop_without_a_nominal_pass_is_not_a_number(make_record, make_score):
    drops = combine("robust_drop@1", np.array([[0.5, 0.25], [0.0, 0.0], [0.2, 0.4]]))
    assert drops == pytest.approx([0.5, np.nan, -1.0], nan_ok=True)
    nominal = make_score([0, 0, 0], 1, "recode_format", setting="nominal")
    perturbed = make_score([0, 0, 1], 1, "recode_format", "mean_pass@1", "new_lines")
    record = make_record(scores=(nominal, perturbed, derived(perturbed, "robust_drop@1", 0.0)))
    draws, kind = ProblemBootstrap(50).draws(record, record.scores[2])
    assert kind == PROBLEM_BOOTSTRAP and np.isnan([*draws, *percentile_interval(draws, 0.9)]).all()
