"""Scores by problem and their uncertainty: by hand, against the tables' own errors and over simulated worlds."""

import numpy as np
import pandas as pd
import pytest

from astraios_analysis.records.frame import Score, to_frame
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.registry import STUDY_DATASETS, find_dataset
from astraios_analysis.scores import bootstrap as boot
from astraios_analysis.scores.means import mean_performance
from astraios_analysis.scores.models import intervals_over_seeds


def test_bootstrap_agrees_with_the_standard_errors_of_the_tables(released_records):
    bootstrap, ratios, constant = boot.ProblemBootstrap(1_000), [], 0
    for record in released_records:
        for score in record.scores:
            draws, kind = bootstrap.draws([(record, score)])[0]
            if kind != boot.PROBLEM_BOOTSTRAP:
                continue
            if score.stderr == 0:
                assert np.ptp(draws) == 0, (record.run_id, score.key)
                constant += 1
            else:
                ratios.append(np.nanstd(draws) / score.stderr)
                assert 0.7 < ratios[-1] < 1.3, (record.run_id, score.key)
                assert np.nanmean(draws) == pytest.approx(score.value, abs=0.25 * score.stderr)
    assert len(ratios) > 2_800 and constant == 60
    assert 0.97 < np.mean(ratios) < 1.03


def test_draws_depend_on_seed_and_pool_only():
    alone, mixed = boot.ProblemBootstrap(20, seed=1), boot.ProblemBootstrap(20, seed=1)
    mixed.weights("devign", 2732)
    weights = alone.weights("humaneval", 164)
    assert np.array_equal(weights, mixed.weights("humaneval", 164))
    for other in (boot.ProblemBootstrap(20, seed=2).weights("humaneval", 164), alone.weights("bigclonebench", 164)):
        assert not np.array_equal(weights, other)
    assert weights.shape == (20, 164) and weights.sum(axis=1) == pytest.approx(np.ones(20))
    assert np.array_equal(weights * 164, np.round(weights * 164))


def digitised(value, **changes):
    fields = {"dataset": "clone_detection", "language": "java", "setting": "zero_shot", "metric": "accuracy"}
    return Score(**(fields | {"value": value, "n_items": 2_000, "source": "digitised"} | changes))


def test_normal_draws_are_independent_between_models_and_stay_in_range(make_record):
    score = digitised(0.95, metric="parse_rate", stderr=0.05, n_items=25)
    records = [make_record(run_id=name, size=name, scores=(score,)) for name in ("1b", "3b")]
    bootstrap = boot.ProblemBootstrap(4_000, seed=3)
    (first, kind), (second, _) = (bootstrap.draws([(record, score)])[0] for record in records)
    assert kind == boot.BOOTSTRAP_ERROR
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.06
    assert first.max() == 1 and np.quantile(first, 0.1) == pytest.approx(0.95 - 1.2816 * 0.05, abs=0.005)
    assert np.array_equal(first, boot.ProblemBootstrap(4_000, seed=3).draws([(records[0], score)])[0][0])
    draws, kind = bootstrap.draws([(records[0], score.model_copy(update={"stderr": None}))])[0]
    assert kind == boot.NO_INTERVAL and np.isnan(draws).all()


def test_normal_errors_do_not_average_out_over_seeds(make_record):
    score = digitised(0.5, metric="cross_entropy", stderr=0.02)
    for seeds, spread in ((range(4), 0.02), ([None] * 4, 0.01)):
        runs = [make_record(run_id=f"r{i}", seed=seed, scores=(score,)) for i, seed in enumerate(seeds)]
        ((draws, _),) = boot.ProblemBootstrap(4_000).mean_draws([[(record, score) for record in runs]])
        assert draws.std() == pytest.approx(spread, rel=0.05)


@pytest.mark.parametrize(("value", "reading"), [(0.3, 0.0015), (0.8, 0.02)])
def test_digitised_accuracy_has_binomial_and_reading_error(make_record, value, reading):
    record = make_record(scores=(digitised(value, reading_error=reading),))
    table = intervals_over_seeds([record], level=0.9, bootstrap=boot.ProblemBootstrap(40_000))
    width = table["upper"][0] - table["lower"][0]
    assert width == pytest.approx(2 * 1.6449 * (value * (1 - value) / 2_000 + reading**2) ** 0.5, rel=0.02)
    assert table["interval"][0] == f"{boot.BINOMIAL_ERROR} and reading error"
    # An accuracy of zero is not known without error.
    table = intervals_over_seeds([make_record(scores=(digitised(0.0),))])
    assert table["lower"][0] == 0 and 0.0003 < table["upper"][0] < 0.002


def test_interval_covers_the_true_mean_of_the_population_of_problems(make_record, make_score):
    """Problems with beta-distributed difficulty, 20 dependent samples each: samples must not be resampled."""
    rng, bootstrap, n_worlds = np.random.default_rng(20240101), boot.ProblemBootstrap(1_000), 2_000
    covered, widths, naive = 0, [], []
    for _ in range(n_worlds):
        passed = rng.binomial(20, rng.beta(0.3, 0.7, size=164))
        score = make_score(passed)
        record = make_record(scores=(score,))
        lower, upper = boot.percentile_interval(bootstrap.draws([(record, score)])[0][0], 0.95)
        covered += lower <= 0.3 <= upper
        widths.append(upper - lower)
        naive.append(2 * 1.96 * (score.value * (1 - score.value) / 3_280) ** 0.5)
    # The standard error of a coverage of 0.95 over 2,000 worlds is 0.005.
    assert 0.93 <= covered / n_worlds <= 0.97
    assert np.mean(widths) > 3 * np.mean(naive)


def test_percentile_interval():
    draws = np.arange(101.0)
    assert boot.percentile_interval(draws, 0.9) == pytest.approx((5, 95))
    assert boot.percentile_interval(np.append(draws, [np.nan] * 50), 0.9) == pytest.approx((5, 95))
    assert np.isnan(boot.percentile_interval(np.full(3, np.nan), 0.9)).all()
    for level in (95, 1.0, 0.0, -0.1):
        with pytest.raises(Refusal, match=r"level is .*; give a share between 0 and 1, such as 0\.95"):
            boot.percentile_interval(draws, level)


def test_every_released_score_has_an_interval_around_it(released_records):
    table = intervals_over_seeds(released_records, level=0.95, bootstrap=boot.ProblemBootstrap(400))
    assert len(table) == len(to_frame(released_records)) == 4_117
    assert (table["level"] == 0.95).all()
    bare = table["interval"] == boot.NO_INTERVAL
    assert set(table.loc[bare, "metric"]) == {"macro_f1"} and set(table.loc[bare, "source"]) == {"digitised"}
    assert table.loc[bare, ["lower", "upper"]].isna().all(axis=None)
    known = table[~bare]
    assert (known["lower"] <= known["upper"]).all()
    # Percentiles of a skewed score may leave its value just outside, but not by a standard error.
    slack = known["stderr"].fillna(0.001)
    assert (known["lower"] - slack <= known["value"]).all() and (known["value"] <= known["upper"] + slack).all()
    pd.testing.assert_frame_equal(table[list(to_frame([]))], to_frame(released_records))
    assert list(intervals_over_seeds([])) == list(table)


def test_mean_performance_is_the_mean_of_primary_scores(released_records):
    records = [record for record in released_records if record.size == "3b"]
    names = [name for name in STUDY_DATASETS if name != "humanevalexplain_java"]
    table = mean_performance(records, names, level=0.8, bootstrap=boot.ProblemBootstrap(400))
    assert list(table["method"]) == [record.method for record in records]
    for record, (_, row) in zip(records, table.iterrows(), strict=True):
        assert row["value"] == pytest.approx(np.mean([boot.primary_score(record, name).value for name in names]))
        assert row["lower"] < row["value"] < row["upper"]
        assert (row["n_datasets"], row["datasets"], row["level"]) == (7, " ".join(names), 0.8)
    assert set(table["interval"]) == {f"{boot.BINOMIAL_ERROR} and reading error; {boot.PROBLEM_BOOTSTRAP}"}
    generation = mean_performance(records, names[2:], bootstrap=boot.ProblemBootstrap(10))
    assert set(generation["interval"]) == {boot.PROBLEM_BOOTSTRAP}


def test_mean_over_data_sets_of_one_pool_keeps_their_covariance(make_record, make_score):
    assert find_dataset("recode_format").problems == find_dataset("humanevalfix_java").problems == "humaneval"
    assert find_dataset("my_own").problems == "my_own"
    passed = np.random.default_rng(5).binomial(20, 0.4, size=164)
    same = [make_score(passed, dataset=f"humaneval{task}_python") for task in ("fix", "explain")]
    opposite = [same[0], make_score(20 - passed, dataset="humanevalexplain_python")]
    names = ["humanevalfix_python", "humanevalexplain_python"]
    one, both, against = (
        mean_performance([make_record(scores=tuple(scores))], chosen).iloc[0]
        for scores, chosen in ((same, names[:1]), (same, names), (opposite, names))
    )
    assert both["upper"] - both["lower"] == pytest.approx(one["upper"] - one["lower"])
    assert against["upper"] - against["lower"] == pytest.approx(0, abs=1e-12)


def test_mean_of_a_score_without_interval_has_none(make_record, make_score):
    names = ["humanevalfix_python", "humanevalexplain_python"]
    scores = make_score([20, 3, 4], problems=None), make_score([20, 3, 4], dataset=names[1])
    row = mean_performance([make_record(scores=scores)], names).iloc[0]
    assert row["value"] == pytest.approx(scores[0].value)
    assert np.isnan([row["lower"], row["upper"]]).all() and boot.NO_INTERVAL in row["interval"]


def test_mean_performance_refuses_what_has_no_mean(released_records):
    nothing = "a mean needs runs and a data set that all of them share"
    lacks = r"released-16b-\w+ has no primary score on humanevalfix_java; leave the run or"
    names = ["clone_detection", "humanevalfix_java"]
    cases = [(released_records, [], nothing), ([], STUDY_DATASETS, nothing), (released_records[-1:], names, lacks)]
    for runs, own, said in cases:
        with pytest.raises(ValueError, match=said):
            mean_performance(runs, own)


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
    assert boot.problem_statistics(record, plain).tolist() == [[1.0, 0.25, 0.0]]
    assert boot.problem_statistics(record, ten)[0] == pytest.approx([1, 1 - 3003 / 184756, 0])
    assert boot.problem_statistics(record, settings["robust_pass@1"]).tolist() == [[1, 0, 0, 0]]
    # Problem 1 passed and fails under a seed, problem 2 failed and passes under one: two of four changed.
    assert boot.problem_statistics(record, settings["robust_relative@1"]).tolist() == [[0, 1, 1, 0]]
    assert boot.problem_statistics(record, drop).tolist() == [[1, 1, 0, 0], [1, 0, 0, 0]]
    assert boot.combine("robust_drop@1", boot.problem_statistics(record, drop).mean(axis=1)) == 0.5


def test_counts_of_another_language_or_metric_are_not_borrowed(make_record, make_score):
    python, java = make_score([20, 0], dataset="fix"), make_score([0, 0], dataset="fix", language="java")
    ten = derived(java, "pass@10", 0.0)
    bare = derived(java, "timeout_rate", 0.0)
    valid = make_score([1, 1], 1, "defect_detection", "valid_rate", "greedy")
    accuracy = derived(valid, "overall_accuracy", 0.5)
    record = make_record(scores=(python, java, ten, bare, valid, accuracy))
    assert boot.problem_statistics(record, ten).tolist() == [[0, 0]]
    assert boot.problem_statistics(record, bare) is None
    assert boot.problem_statistics(record, valid).tolist() == [[1, 1]]
    assert boot.problem_statistics(record, accuracy) is None


def test_metrics_that_counts_do_not_determine_have_none(make_record, make_score):
    few = make_score([4, 2], 5)
    alone = make_score([5, 2], 5, "recode_format", "mean_pass@1", "new_lines")
    drop = derived(alone, "robust_drop@1", 0.5)
    record = make_record(scores=(few, derived(few, "pass@10", 0.9), alone, drop))
    assert boot.problem_statistics(record, record.scores[1]) is None  # 5 samples say nothing about 10
    assert boot.problem_statistics(record, drop) is None  # no nominal counts
    other = make_score([1, 1, 1], 1, "recode_format", setting="nominal")
    assert boot.problem_statistics(make_record(scores=(alone, drop, other)), drop) is None  # nominal of other problems


def test_mean_over_transformations_weighs_transformations_equally(make_record, make_score):
    one = make_score([1, 0, 1], 1, "recode_format", "mean_pass@1", "tab_indent")
    many = make_score([5, 5, 0], 5, "recode_format", "mean_pass@1", "new_lines")
    total = make_score([6, 5, 1], 6, "recode_format", "mean_pass@1", "all_transformations")
    mean = derived(total, "mean_pass@1", 2 / 3).model_copy(update={"setting": "mean_over_transformations"})
    record = make_record(scores=(one, many, total, mean))
    assert boot.problem_statistics(record, mean).tolist() == [[1.0, 0.5, 0.5]]
    bare = many.model_copy(update={"problems": None})
    assert boot.problem_statistics(make_record(scores=(one, bare, mean)), mean) is None


def test_relative_drop_without_a_nominal_pass_is_not_a_number(make_record, make_score):
    drops = boot.combine("robust_drop@1", np.array([[0.5, 0.25], [0.0, 0.0], [0.2, 0.4]]))
    assert drops == pytest.approx([0.5, np.nan, -1.0], nan_ok=True)
    nominal = make_score([0, 0, 0], 1, "recode_format", setting="nominal")
    perturbed = make_score([0, 0, 1], 1, "recode_format", "mean_pass@1", "new_lines")
    record = make_record(scores=(nominal, perturbed, derived(perturbed, "robust_drop@1", 0.0)))
    draws, kind = boot.ProblemBootstrap(50).draws([(record, record.scores[2])])[0]
    assert kind == boot.PROBLEM_BOOTSTRAP and np.isnan([*draws, *boot.percentile_interval(draws, 0.9)]).all()
