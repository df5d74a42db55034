"""Outcomes problem by problem from the execution log that bigcode-evaluation-harness writes (``logs.json``)."""

from pathlib import Path

from astraios_analysis.imports.inputs import fail, read_json
from astraios_analysis.records.schema import ProblemCounts


def read_problem_counts(path: Path, n_items: int | None) -> ProblemCounts:
    """Return passes by problem from ``{"0": [[0, {"passed": true, ...}], ...], ...}``.

    Parameters
    ----------
    path : Path
        The log; the harness writes it for the last task that it ran.
    n_items : int or None
        Number of problems. A multiple of them in the log are several descriptions a problem, in order
        (HumanEvalExplain), which are put together.

    Raises
    ------
    RecordError
        If an entry has another form, or the log has another number of problems.
    """
    outcomes: dict[int, list[bool]] = {}
    for key, entries in read_json(path).items():
        try:
            outcomes[int(key)] = [_passed(entry) for entry in entries]
        except (ValueError, TypeError, KeyError, IndexError) as error:
            message = "is no list of [number, {passed: true or false}]; give the logs.json that the harness wrote"
            raise fail(path, message, str(key)) from error
    n_entries = len(outcomes)
    n_items = n_items or n_entries
    if not n_entries or n_entries % n_items or sorted(outcomes) != list(range(n_entries)):
        message = f"has outcomes of {n_entries} problems, and the task has {n_items}; is it the log of this task?"
        raise fail(path, message)
    each = n_entries // n_items
    by_problem = [[p for row in range(i * each, (i + 1) * each) for p in outcomes[row]] for i in range(n_items)]
    if not all(by_problem):
        raise fail(path, "was never run; give a whole log", str(next(i for i, p in enumerate(by_problem) if not p)))
    return ProblemCounts(
        problem_ids=tuple(range(n_items)),
        n_samples=tuple(len(passed) for passed in by_problem),
        n_passed=tuple(sum(passed) for passed in by_problem),
    )


def _passed(entry) -> bool:
    passed = entry[1]["passed"]
    if not isinstance(passed, bool):
        raise TypeError(f"passed is {passed!r}")
    return passed
