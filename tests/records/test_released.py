"""The released models: complete, in the project's names and units, exact in their counts."""

from collections import Counter

import pytest

from astraios_analysis.records.registry import DATASETS, SECOND_FILE
from astraios_analysis.scores.bootstrap import combine, primary_frame, primary_score, problem_statistics


def test_second_files_are_four_models_and_never_primary(table, released_records):
    second = table[table["setting"].str.contains(SECOND_FILE)]
    assert {key: set(rows["model"]) for key, rows in second.groupby("dataset")} == {
        "humanevalsynthesize_python": {"1b-fft", "3b-fft"},
        "humanevalsynthesize_java": {"1b-fft", "3b-fft"},
        "humanevalfix_java": {"1b-ia3", "3b-ptuning"},
    }
    primary = primary_frame(table)
    assert not primary["setting"].str.contains(SECOND_FILE).any()
    assert not primary.duplicated(["model", "dataset"]).any() and list(primary.index) == list(range(len(primary)))
    for record in released_records:
        for name in DATASETS:
            score = primary_score(record, name)
            assert score is None or SECOND_FILE not in score.setting


def test_only_clone_detection_is_digitised(table):
    is_clone = table["dataset"] == "clone_detection"
    assert ((table["source"] == "digitised") == is_clone).all()
    assert (table["reading_error"].notna() == is_clone).all()
    assert (table["stderr"].isna() == is_clone).all()
    errors = table[is_clone].groupby("setting")["reading_error"].unique()
    assert {key: list(values) for key, values in errors.items()} == {"zero_shot": [0.0015], "one_shot": [0.002]}


def test_what_was_not_measured_is_absent(released_records):
    for record in released_records:
        assert (record.val_loss, record.base_val_loss, record.seed, record.n_tokens, record.cost) == (None,) * 5
        assert record.val_curve == ()
        assert not record.held_out


def test_every_score_with_counts_comes_out_of_its_counts(released_records):
    compared = Counter()
    for record in released_records:
        for score in record.scores:
            statistics = problem_statistics(record, score)
            if statistics is not None:
                again = float(combine(score.metric, statistics.mean(axis=1)))
                assert again == pytest.approx(score.value, abs=1e-6), (record.run_id, score.key)
                assert statistics.shape[1] == score.n_items
                compared[score.metric] += 1
    # 676 conditions of ReCode, 81 of them means over transformations or nominal, ...
    recode = 28 * (6 + 2) + 28 * (7 + 2) + 25 * (6 + 2)
    expected = {"pass@1": 126 + 28 + 28 + 25 + 28, "pass@10": 126, "overall_accuracy": 27 + 28, "parse_rate": 9}
    expected |= {"mean_pass@1": recode, "robust_pass@1": recode, "insecure_rate": 9 * 4}
    assert compared == expected | {"robust_drop@1": recode - 81, "robust_relative@1": recode - 81}
