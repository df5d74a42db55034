"""Which runs and data sets a mean is taken over."""

import numpy as np
import pytest

from astraios_analysis.records.frame import Score
from astraios_analysis.records.registry import DATASETS, STUDY_DATASETS
from astraios_analysis.scores.bootstrap import ProblemBootstrap, primary_score
from astraios_analysis.scores.means import performance_panels, shared_block

BOOTSTRAP = ProblemBootstrap(n_draws=100)
SETS = ("humanevalfix_python", "humanevalfix_java", "humanevalsynthesize_python", "humanevalsynthesize_java")


@pytest.fixture
def make_runs(make_record):
    """Factory of runs that have primary scores on the given data sets, all of value 0.25."""

    def make(*has):
        runs = []
        for number, names in enumerate(has):
            scores = tuple(
                Score(
                    dataset=name,
                    language=DATASETS[name].language,
                    setting="t0.2,n20",
                    metric="pass@1",
                    value=0.25,
                    stderr=0.01,
                    n_items=164,
                    source="measured",
                )
                for name in names
            )
            runs.append(make_record(run_id=f"run{number}", scores=scores))
        return runs

    return make


def chosen(runs, datasets=SETS):
    block, names = shared_block(runs, datasets)
    return [run.run_id for run in block], names


def test_largest_number_of_scores_wins(make_runs):
    first, second, third, _ = SETS
    runs = make_runs((first, second), (first, second), (first, second, third), (first, second), (third,))
    # Two sets in four runs make eight scores; three sets in one run make three.
    assert chosen(runs) == (["run0", "run1", "run2", "run3"], [first, second])


def test_more_data_sets_can_outweigh_more_runs(make_runs):
    runs = make_runs(SETS, SETS, SETS[:2])
    assert chosen(runs) == (["run0", "run1"], list(SETS))


def test_ties_go_to_more_data_sets(make_runs):
    # Two sets in six runs, three sets in four runs, four sets in three runs: twelve scores each.
    runs = make_runs(SETS, SETS, SETS, SETS[:3], SETS[:2], SETS[:2])
    assert chosen(runs) == (["run0", "run1", "run2"], list(SETS))


def test_runs_and_data_sets_keep_their_order(make_runs):
    runs = make_runs(SETS, SETS)[::-1]
    assert chosen(runs, SETS[::-1]) == (["run1", "run0"], list(SETS[::-1]))


@pytest.mark.parametrize("has", [(), (SETS[:1], SETS[:1]), (SETS[:1], SETS[1:2])])
def test_no_run_has_two_data_sets(make_runs, has):
    assert chosen(make_runs(*has)) == ([], [])


def test_one_data_set_is_no_mean(make_runs):
    assert chosen(make_runs(SETS), SETS[:1]) == ([], [])


def test_study_block_of_the_released_models(released_records):
    runs, names = shared_block(released_records, STUDY_DATASETS)
    assert (len(runs), len(names)) == (20, 7)
    assert names == [name for name in STUDY_DATASETS if name != "humanevalexplain_java"]
    left_out = {(r.size, r.method) for r in released_records} - {(r.size, r.method) for r in runs}
    assert left_out == {("1b", "adapterp")} | {("16b", r.method) for r in released_records}
    assert all(primary_score(run, name) is not None for run in runs for name in names)


def test_panels_of_the_released_models(released_records):
    panels = performance_panels(released_records, level=0.8, bootstrap=BOOTSTRAP)
    shapes = {title: (len(table), table["n_datasets"].iloc[0]) for title, table in panels.items()}
    assert shapes == {"Study data sets": (20, 7), "Code comprehension": (27, 2), "Robustness": (25, 3)}
    for table in panels.values():
        assert set(table["level"]) == {0.8} and table["datasets"].nunique() == 1
        assert np.all((table["lower"] < table["value"]) & (table["value"] < table["upper"]))
    assert panels["Robustness"]["datasets"].iloc[0] == "recode_format recode_function recode_syntax"


def test_panel_values_are_plain_means(released_records):
    table = performance_panels(released_records, bootstrap=BOOTSTRAP)["Study data sets"]
    row = table[(table["size"] == "7b") & (table["method"] == "lora")].iloc[0]
    run = next(r for r in released_records if (r.size, r.method) == ("7b", "lora"))
    values = [primary_score(run, name).value for name in row["datasets"].split()]
    assert row["value"] == pytest.approx(np.mean(values))


def test_groups_with_nothing_to_average_are_left_out(make_runs):
    assert list(performance_panels(make_runs(SETS), bootstrap=BOOTSTRAP)) == ["Study data sets"]
    assert performance_panels([], bootstrap=BOOTSTRAP) == {}
