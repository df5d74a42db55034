"""Which runs and data sets a mean is taken over."""

import numpy as np
import pytest

from astraios_analysis.records.registry import DATASETS
from astraios_analysis.scores.bootstrap import ProblemBootstrap
from astraios_analysis.scores.means import performance_panels, shared_block

BOOTSTRAP = ProblemBootstrap(n_draws=100)
SETS = ("humanevalfix_python", "humanevalfix_java", "humanevalsynthesize_python", "humanevalsynthesize_java")


@pytest.fixture
def make_runs(make_record, make_score):
    """Factory of runs that have primary scores on the given data sets."""

    def make(*has):
        scored = [[make_score([3, 1], dataset=one, language=DATASETS[one].language) for one in own] for own in has]
        return [make_record(run_id=f"run{place}", scores=tuple(scores)) for place, scores in enumerate(scored)]

    return make


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
    assert [list(performance_panels(runs, bootstrap=BOOTSTRAP)) for runs in (make_runs(SETS), [])] == [
        ["Study data sets"],
        [],
    ]
