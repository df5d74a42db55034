"""The registries of metrics and data sets are complete and agree with each other."""

import pytest

from astraios_analysis.records import registry
from astraios_analysis.records.registry import DATASETS, METRICS, Metric, chance_level


def test_range_in_words():
    assert METRICS["pass@1"].describe_range() == "[0, 1]"
    assert METRICS["robust_drop@1"].describe_range() == "(-inf, 1]"
    assert METRICS["perplexity"].describe_range() == "[1, inf)"
    assert Metric("x", "x", -0.5, 2.0, None, "").describe_range() == "[-0.5, 2]"


def test_an_extra_data_set_shares_the_problems_and_is_none_of_the_study():
    extra = [name for name, d in DATASETS.items() if d.is_extra]
    assert extra == ["humaneval_python"] and DATASETS[extra[0]].kind == "generation"
    humaneval = {name for name, d in DATASETS.items() if d.problems == "humaneval"}
    assert {extra[0], "humanevalfix_java", "recode_format"} < humaneval and len(humaneval) == 12


def test_the_mean_of_the_embedded_suite_is_over_three_data_sets_and_it_shares_nothing_with_the_study():
    assert tuple(f"embedded_{task}" for task in ("synthesis", "fix", "explain")) == registry.EMBEDDED_DATASETS
    assert {name for name, d in DATASETS.items() if d.suite == "embedded"} == {
        name for name in DATASETS if name.startswith(("embedded_", "answers_"))
    }
    pools = {suite: {d.problems for d in DATASETS.values() if d.suite == suite} for suite in ("published", "embedded")}
    assert not pools["published"] & pools["embedded"]


def test_no_score_stands_for_what_hardly_leaves_chance():
    assert {name for name, d in DATASETS.items() if d.primary_metric is None} == {"embedded_clone", "embedded_defect"}


@pytest.mark.parametrize("name", [name for name, d in DATASETS.items() if d.primary_metric])
def test_primary_measure_is_a_known_metric_of_a_first_file(name):
    dataset = DATASETS[name]
    assert dataset.name == name
    is_less_better = dataset.primary_metric in ("insecure_rate", "cross_entropy")
    assert METRICS[dataset.primary_metric].higher_is_better is not is_less_better
    assert registry.SECOND_FILE not in dataset.primary_setting
    for level in (dataset.chance, dataset.majority):
        assert level is None or 0 <= level < 1


CHANCE = {
    "clone_detection": {"accuracy": 0.5},
    "defect_detection": {"overall_accuracy": 0.5, "overall_macro_f1": None, "no_such_metric": None},
    "humanevalfix_python": {"pass@1": 0.0, "timeout_rate": None},
    "recode_format": {"robust_pass@1": 0.0, "pass@1": 0.0},
    "embedded_explain": {"choice_accuracy": 0.25, "pass@1": None},
    "embedded_clone": {"accuracy": 0.5, "auc": 0.5, "macro_f1": None},
    "embedded_robust_syntax": {"robust_drop@1": None},
    "embedded_security": {"insecure_rate": 0.5},
    "a_new_data_set": {"pass@1": None},
}


@pytest.mark.parametrize("dataset", CHANCE)
def test_chance_level(dataset):
    assert {metric: chance_level(dataset, metric) for metric in CHANCE[dataset]} == CHANCE[dataset]
