import json

import pytest

from training.cli.score import report_table
from training.published.measures import Part, Report, make_counts


def make_report(**changes):
    part = Part({"pass@1": 0.625, "timeout_rate": 0.0}, {"pass@1": 0.125}, make_counts([4, 4], [4, 1]))
    return Report("humanevalfix_python", "python", "pass@1", part, **({"sandbox": "bubblewrap"} | changes))


def test_json_is_the_interface():
    found = json.loads(json.dumps(make_report(details={"n_distinct_programs": 5}).to_json()))
    assert found == {
        "dataset": "humanevalfix_python",
        "language": "python",
        "n_problems": 2,
        "n_samples": 8,
        "primary_metric": "pass@1",
        "pass@1": 0.625,
        "timeout_rate": 0.0,
        "stderr": {"pass@1": 0.125},
        "n_distinct_programs": 5,
        "sandbox": "bubblewrap",
        "per_problem": [
            {"problem_id": 0, "n_samples": 4, "n_passed": 4},
            {"problem_id": 1, "n_samples": 4, "n_passed": 1},
        ],
    }


def test_json_of_settings_and_notes():
    part = Part({"pass@1": 1.0}, {}, make_counts([1], [1]))
    found = make_report(settings={"nominal": part}, notes=("mind this",), sandbox=None).to_json()
    assert found["settings"] == [
        {
            "setting": "nominal",
            "n_problems": 1,
            "n_samples": 1,
            "pass@1": 1.0,
            "stderr": {},
            "per_problem": [{"problem_id": 0, "n_samples": 1, "n_passed": 1}],
        }
    ]
    assert (found["notes"], found["sandbox"]) == (["mind this"], None)


def test_table_says_what_was_scored_and_where():
    table = report_table(make_report(notes=("mind this",)))
    assert table.startswith("humanevalfix_python: 2 problems, 8 samples")
    assert "all      pass@1        0.6250  0.1250" in table
    assert "mind this\nstderr: over problems, which are resampled; programs were executed in: bubblewrap" in table
    assert "no program was executed" in report_table(make_report(sandbox=None))


@pytest.mark.parametrize("metric", ["pass@1", "timeout_rate"])
def test_values_are_not_rounded(metric):
    part = Part({metric: 1 / 3}, {metric: 1 / 7}, make_counts([3], [1]))
    found = json.loads(json.dumps(make_report() and Report("x", "python", metric, part).to_json()))
    assert (found[metric], found["stderr"][metric]) == (1 / 3, 1 / 7)
