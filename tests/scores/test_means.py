"""Means over data sets: which runs and data sets they are over, their values, and that they behave as a data set."""

import numpy as np
import pandas as pd
import pytest
from released_counts import FIVE as FIVE_SETS
from released_counts import problem_shares

import astraios_analysis as aa
from astraios_analysis.records.files import load as load_record
from astraios_analysis.records.files import save
from astraios_analysis.records.frame import averaged_datasets, describe_mean, with_mean
from astraios_analysis.records.registry import ANSWERS, DATASETS, MEAN_GENERATION, STUDY_DATASETS
from astraios_analysis.records.schema import TaskLoss
from astraios_analysis.records.sources import load_records
from astraios_analysis.scores.bootstrap import ProblemBootstrap, primary_score
from astraios_analysis.scores.means import performance_panels, shared_block
from astraios_analysis.scores.models import model_scores

BOOTSTRAP = ProblemBootstrap(n_draws=100)
SETS = ("humanevalfix_python", "humanevalfix_java", "humanevalsynthesize_python", "humanevalsynthesize_java")


@pytest.fixture
def make_grid(make_record, make_score):
    """Factory of a grid: {(size, method): {data set: passes by problem}}."""

    def make(models, **changes):
        runs = []
        for number, ((size, method), passed) in enumerate(models.items()):
            own = [(counts, name, DATASETS[name].language) for name, counts in passed.items()]
            scores = tuple(make_score(n, dataset=name, language=language, **changes) for n, name, language in own)
            base = {"size": f"{size}b", "n_params_base": size, "method": method, "run_id": f"run{number}"}
            runs.append(make_record(scores=scores, n_params=10**6, n_params_base_nonembedding=None, **base))
        return runs

    return make


@pytest.fixture
def make_runs(make_grid):
    """Factory of runs that have primary scores on the given data sets."""
    return lambda *has: make_grid({(1, f"m{i}"): {one: [3, 1] for one in own} for i, own in enumerate(has)})


@pytest.mark.parametrize(
    ("has", "n_runs", "names"),
    [
        # Two sets in four runs make eight scores; three sets in one run make three.
        ((SETS[:2], SETS[:2], SETS[:3], SETS[:2], SETS[2:3]), 4, SETS[:2]),
        # More data sets can outweigh more runs.
        ((SETS, SETS, SETS[:2]), 2, SETS),
        # Two sets in six runs, three sets in four runs, four sets in three runs: twelve scores each.
        ((SETS, SETS, SETS, SETS[:3], SETS[:2], SETS[:2]), 3, SETS),
        # No run has two data sets.
        ((), 0, ()),
        ((SETS[:1], SETS[:1]), 0, ()),
        ((SETS[:1], SETS[1:2]), 0, ()),
    ],
)
def test_block_with_most_scores_wins(make_runs, has, n_runs, names):
    runs, order = make_runs(*has), list(names)
    assert shared_block(runs, SETS) == (runs[:n_runs], order)
    # Runs and data sets keep their order.
    assert shared_block(runs[::-1], SETS[::-1]) == (runs[:n_runs][::-1], order[::-1])


def test_panels_of_the_released_models(released_records):
    panels = performance_panels(released_records, level=0.8, bootstrap=BOOTSTRAP)
    shapes = {title: (len(table), table["n_datasets"].iloc[0]) for title, table in panels.items()}
    assert shapes == {"Study data sets": (20, 7), "Code comprehension": (27, 2), "Robustness": (25, 3)}
    study = panels["Study data sets"]
    assert set(study["size"]) == {"1b", "3b", "7b"} and "humanevalexplain_java" not in study["datasets"].iloc[0]
    for table in panels.values():
        assert set(table["level"]) == {0.8} and table["datasets"].nunique() == 1
        assert np.all((table["lower"] < table["value"]) & (table["value"] < table["upper"]))
    assert panels["Robustness"]["datasets"].iloc[0] == "recode_format recode_function recode_syntax"


def test_groups_with_nothing_to_average_are_left_out(make_runs):
    panels = [performance_panels(runs, bootstrap=BOOTSTRAP) for runs in (make_runs(SETS), [])]
    assert list(map(list, panels)) == [["Study data sets"], []]


FIVE = tuple(FIVE_SETS)


def mean_of(run):
    return primary_score(run, MEAN_GENERATION)


def test_released_values_from_the_counts_alone(released_runs, released_folder):
    own = {(run.size, run.method): mean_of(run).value for run in released_runs if mean_of(run)}
    assert own == pytest.approx(problem_shares(released_folder).mean().to_dict(), abs=1e-12) and len(own) == 21


def test_its_sets_are_the_grid_s_and_no_study_s(released_runs):
    assert averaged_datasets(released_runs) == FIVE
    assert MEAN_GENERATION not in STUDY_DATASETS and "humaneval_python" not in DATASETS[MEAN_GENERATION].parts
    assert describe_mean(released_runs).count(",") == 5
    # What is asked for later changes nothing.
    some = [run for run in released_runs if run.size == "7b" and run.method in ("fft", "lora")]
    values = aa.rank(some, dataset=MEAN_GENERATION).table.set_index("method")["value"]
    assert (100 * values).round(2).to_dict() == {"fft": 28.91, "lora": 27.68}
    assert "Explain Python" in describe_mean(some)


def test_resamples_are_joint(released_runs):
    def draws(name):
        own = model_scores(released_runs, name, ProblemBootstrap(n_draws=50))
        return pd.DataFrame(own.draws, columns=pd.MultiIndex.from_frame(own.table[["size", "method"]]))

    joint = draws(MEAN_GENERATION)
    np.testing.assert_allclose(joint, sum(draws(name)[joint.columns] for name in FIVE) / 5, atol=2e-9)


def test_a_set_counts_only_where_all_methods_have_it_at_all_sizes(make_grid):
    whole = {name: [20, 10] for name in FIVE[:3]}
    models = {(size, method): dict(whole) for size in (1, 3) for method in ("fft", "lora")}
    assert averaged_datasets(make_grid(models)) == FIVE[:3]
    del models[3, "lora"][FIVE[1]]
    assert averaged_datasets(make_grid(models)) == (FIVE[0], FIVE[2])
    # A size at which no set is complete asks for nothing.
    models[7, "lora"] = {FIVE[0]: [20, 10]}
    assert averaged_datasets(make_grid(models)) == (FIVE[0], FIVE[2])
    assert [mean_of(run) is not None for run in with_mean(make_grid(models))] == [True] * 4 + [False]
    assert averaged_datasets(make_grid({(1, "fft"): {FIVE[0]: [1]}})) == ()


def test_each_set_has_one_vote_whatever_its_samples(make_grid, make_score):
    (run,) = make_grid({(1, "fft"): {FIVE[0]: [20, 0]}})
    other = make_score([1, 2], n=[4, 5], dataset=FIVE[1], language="java")
    (run,) = with_mean([run.model_copy(update={"scores": (*run.scores, other)})])
    assert mean_of(run).value == pytest.approx((0.5 + (1 / 4 + 2 / 5) / 2) / 2)
    shares = np.divide(mean_of(run).problems.n_passed, mean_of(run).problems.n_samples)
    assert shares == pytest.approx([(1 + 1 / 4) / 2, (0 + 2 / 5) / 2])
    assert with_mean([run]) == [run]


def test_without_counts_the_error_is_the_largest_it_can_be(make_grid, make_score):
    (run,) = make_grid({(1, "fft"): {FIVE[0]: [20, 0]}}, problems=None, stderr=0.02)
    other = make_score([0, 0], dataset=FIVE[1], language="java", problems=None, stderr=0.04)
    (run,) = with_mean([run.model_copy(update={"scores": (*run.scores, other)})])
    assert (mean_of(run).value, mean_of(run).stderr, mean_of(run).problems) == (0.25, 0.03, None)


def test_data_sets_on_which_no_model_beats_the_constant_answer_have_no_vote(released_runs):
    names = [*STUDY_DATASETS, MEAN_GENERATION, "recode_format"]
    mute = [name for name in names if not model_scores(released_runs, name, ProblemBootstrap(n_draws=200)).has_vote]
    assert mute == ["clone_detection", "defect_detection"]


def test_losses_of_right_answers_are_scores_once_records_are_read(make_record, tmp_path):
    losses = {"clone": TaskLoss(loss=0.4, stderr=0.01, n_targets=9), "own": TaskLoss(loss=1, n_targets=2)}
    save(made := make_record(task_losses=losses), tmp_path)
    (record,) = load_records(tmp_path)
    (score,) = record.scores[len(made.scores) :]
    assert score.key == ("answers_clone", "python", ANSWERS, "cross_entropy")
    assert (score.value, score.stderr, score.n_items) == (0.4, 0.01, 9)
    assert load_record(tmp_path / f"{record.run_id}.json") == made
