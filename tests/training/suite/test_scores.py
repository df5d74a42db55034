"""Outcomes as scores: values, standard errors, and what the analysis makes of the counts that a record keeps."""

import numpy as np
import pytest

from astraios_analysis.scores.bootstrap import combine, problem_statistics
from training.suite.scores import answer_scores, choice_scores, preference_scores, robustness_scores


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def test_answers_of_both_kinds_of_setting_have_their_own_metrics():
    truth = np.array([True, True, False, False])
    given = np.array([1, -1, 0, 0])
    found = {
        setting: {score.metric: score.value for score in answer_scores("embedded_clone", setting, truth, given)}
        for setting in ("likelihood", "generated", "generated/seen")
    }
    # The invalid answer is a third label with F1 0; Yes has 2/3, No 1.
    macro_f1 = pytest.approx((2 / 3 + 1 + 0) / 3)
    assert found["likelihood"] == {"accuracy": 0.75, "macro_f1": macro_f1, "predicted_positive_rate": 0.25}
    assert found["generated"] == found["generated/seen"]
    shares = {"overall_accuracy": 0.75, "valid_rate": 0.75, "predicted_positive_rate": 0.25}
    assert found["generated"] == shares | {"overall_macro_f1": macro_f1}


def test_the_likeliest_of_four_answers_is_chosen_and_a_tie_is_wrong():
    table = np.log([[0.4, 0.1, 0.1, 0.4], [0.7, 0.1, 0.1, 0.1], [0.2, 0.3, 0.3, 0.2], [1e-300, 1, 1, 1]])
    accuracy, probability = choice_scores("embedded_fix", table - 1000)
    assert (accuracy.value, accuracy.problems.n_passed, accuracy.chance) == (0.25, (0, 1, 0, 0), 0.25)
    assert accuracy.stderr == pytest.approx(np.sqrt(0.25 * 0.75 / 4))
    shares = [0.4, 0.7, 0.2, 0]
    assert probability.value == pytest.approx(np.mean(shares))
    assert probability.stderr == pytest.approx(np.std(shares) / 2)


def test_preferences_follow_the_origin(rng):
    is_untrusted = np.array([True, False] * 100)
    margins = np.where(is_untrusted, 1.0, 0.0) + rng.normal(size=200)
    auc, untrusted, trusted = preference_scores("embedded_security", margins, is_untrusted)
    pairs = [(a > b) for a in margins[::2] for b in margins[1::2]]
    assert (auc.value, auc.metric, auc.chance) == (pytest.approx(np.mean(pairs)), "preference_auc", 0.5)
    draws = []
    for _ in range(400):
        a, b = (rng.choice(margins[start::2], 100) for start in (0, 1))
        draws.append((a[:, None] > b).mean())
    assert auc.stderr == pytest.approx(np.std(draws), rel=0.15)
    assert (untrusted.setting, untrusted.value) == ("choice/untrusted", np.mean(margins[::2] > 0))
    assert (trusted.setting, trusted.value) == ("choice/trusted", np.mean(margins[1::2] > 0))
    assert preference_scores("embedded_security", np.zeros(200), is_untrusted)[0].value == 0.5


def test_the_analysis_finds_the_same_robustness_from_the_counts(rng, make_record):
    nominal = rng.random(100) < 0.6
    changed = {name: nominal & (rng.random(100) < 0.8) | (rng.random(100) < 0.05) for name in ("first", "second")}
    scores = robustness_scores("embedded_robust_format", range(0, 200, 2), nominal, changed)
    record = make_record(scores=tuple(scores))
    assert {score.setting for score in scores} == {"nominal", "first", "second", "all_transformations"}
    metrics = {s.metric for s in scores if s.setting == "all_transformations"}
    assert metrics == {"mean_pass@1", "robust_pass@1", "robust_drop@1", "robust_relative@1"}
    for score in scores:
        statistics = problem_statistics(record, score)
        assert combine(score.metric, statistics.mean(axis=1)) == pytest.approx(score.value), score.key
