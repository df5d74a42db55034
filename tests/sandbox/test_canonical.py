"""HumanEvalPack: every canonical solution passes, every buggy one does not, in both languages.

In one containment: what they need of walls, the tests of verdicts ask of each.
"""

import gzip
import json

import pytest

from training.sandbox.programs import Limits, Program

pytestmark = [pytest.mark.sandbox, pytest.mark.reference]

# A canonical solution meets no limit, however slow or busy the machine is; some buggy ones never end.
RIGHT = {
    "canonical_solution": (Limits(cpu_seconds=60, wall_seconds=240), {"passed"}),
    "buggy_solution": (Limits(cpu_seconds=0.5, wall_seconds=15), {"failed", "timeout", "memory"}),
}


@pytest.fixture(scope="module", params=["python", "java"])
def problems(request, reference_folder):
    if request.param == "java":
        request.getfixturevalue("java")
    with gzip.open(reference_folder / "generations" / f"humanevalpack_{request.param}.jsonl.gz", "rt") as lines:
        return request.param, [json.loads(line) for line in lines]


@pytest.mark.parametrize("solution", RIGHT)
def test_solutions_get_their_verdicts(one_sandbox, problems, solution):
    (language, rows), (limits, right) = problems, RIGHT[solution]
    programs = [Program(language, row["declaration"] + row[solution], row["test"], limits) for row in rows]
    verdicts = dict(zip((row["task_id"] for row in rows), one_sandbox.run_many(programs), strict=True))
    assert {name: verdict for name, verdict in verdicts.items() if verdict.status not in right} == {}
    assert len(verdicts) == 164
