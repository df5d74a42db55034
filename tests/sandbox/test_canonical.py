"""HumanEvalPack: every canonical solution passes, every buggy one does not, in both languages.

In one containment: what they need of walls, the tests of verdicts ask of each.
"""

import gzip
import json

import pytest

from training.sandbox.programs import Limits, Program

pytestmark = [pytest.mark.sandbox, pytest.mark.reference]

# A canonical solution meets no limit, however slow or busy the machine is; some buggy ones never end.
LIMITS = {
    "canonical_solution": Limits(cpu_seconds=60, wall_seconds=240),
    "buggy_solution": Limits(cpu_seconds=0.5, wall_seconds=15),
}


@pytest.fixture(scope="module", params=["python", "java"])
def problems(request, reference_folder):
    """Language and problems."""
    if request.param == "java":
        request.getfixturevalue("java")
    with gzip.open(reference_folder / "generations" / f"humanevalpack_{request.param}.jsonl.gz", "rt") as lines:
        return request.param, [json.loads(line) for line in lines]


def run_solutions(one_sandbox, problems, solution):
    """Verdict of each problem by its name."""
    language, rows = problems
    programs = [Program(language, row["declaration"] + row[solution], row["test"], LIMITS[solution]) for row in rows]
    return dict(zip((row["task_id"] for row in rows), one_sandbox.run_many(programs), strict=True))


def test_canonical_solutions_pass(one_sandbox, problems):
    verdicts = run_solutions(one_sandbox, problems, "canonical_solution")
    assert {name: verdict for name, verdict in verdicts.items() if not verdict.passed} == {}
    assert len(verdicts) == 164


def test_buggy_solutions_fail(one_sandbox, problems):
    verdicts = run_solutions(one_sandbox, problems, "buggy_solution")
    wrong = {
        name: verdict for name, verdict in verdicts.items() if verdict.status not in ("failed", "timeout", "memory")
    }
    assert wrong == {}
    assert len(verdicts) == 164
