import pytest

from training.published.verdicts import Journal, JournalError, ProgramsNotRun, make_limits, run_programs
from training.sandbox.pool import Sandbox
from training.sandbox.programs import Program, Verdict

RIGHT, WRONG = Program("python", "x = 1", "assert x == 1"), Program("python", "x = 2", "assert x == 1")


class Counting:
    """A sandbox that passes programs by their text and counts what it runs."""

    def __init__(self, broken=(), stops_after=None):
        self.ran, self.broken, self.stops_after = [], broken, stops_after

    def run_each(self, programs):
        for index, program in reversed(list(enumerate(programs))):
            if self.stops_after is not None and len(self.ran) >= self.stops_after:
                raise KeyboardInterrupt
            self.ran.append(program)
            status = "error" if program in self.broken else "passed" if "1" in program.source else "failed"
            yield index, Verdict(status, "no worker" if status == "error" else "")


def make_programs(n_programs):
    return [Program("python", f"x = {number}", "") for number in range(n_programs)]


def open_journal(folder):
    return Journal(folder, {"dataset": "x"})


def test_verdicts_are_in_the_order_of_the_programs():
    with Sandbox(1, unsafe=True) as sandbox:
        verdicts = run_programs(sandbox, [RIGHT, WRONG, RIGHT])
    assert [verdict.passed for verdict in verdicts] == [True, False, True]


def test_identical_programs_run_once():
    sandbox = Counting()
    assert [verdict.passed for verdict in run_programs(sandbox, [RIGHT, WRONG, RIGHT, RIGHT])] == [
        True,
        False,
        True,
        True,
    ]
    assert sorted(program.source for program in sandbox.ran) == ["x = 1", "x = 2"]
    assert run_programs(sandbox, []) == []


def test_what_was_stopped_goes_on_where_it_was(tmp_path):
    programs = make_programs(10)
    first, second = Counting(stops_after=4), Counting()
    with open_journal(tmp_path) as journal, pytest.raises(KeyboardInterrupt):
        run_programs(first, programs, journal=journal)
    with open_journal(tmp_path) as journal:
        verdicts = run_programs(second, programs, journal=journal)
    assert (len(first.ran), len(second.ran)) == (4, 6)
    assert {*first.ran, *second.ran} == set(programs)
    assert verdicts == run_programs(Counting(), programs)


def test_programs_that_could_not_be_run_are_no_failures(tmp_path):
    programs = make_programs(5)
    with open_journal(tmp_path) as journal, pytest.raises(ProgramsNotRun) as raised:
        run_programs(Counting(broken=programs[1:3]), programs, journal=journal)
    assert "could not run 2 of 5 programs (the first, number 2 of all in order: no worker)" in str(raised.value)
    again = Counting()
    with open_journal(tmp_path) as journal:
        run_programs(again, programs, journal=journal)
    assert set(again.ran) == set(programs[1:3])


def test_nothing_more_is_run_when_a_verdict_cannot_be_written_down(tmp_path, monkeypatch):
    def refuse(line):
        raise JournalError("full")

    sandbox = Counting()
    with open_journal(tmp_path) as journal:
        monkeypatch.setattr(journal, "_append", refuse)
        with pytest.raises(JournalError, match="full"):
            run_programs(sandbox, make_programs(5), journal=journal)
    assert len(sandbox.ran) == 1


def test_progress_goes_to_standard_error_and_counts_distinct_programs(tmp_path, capsys):
    programs = make_programs(4)
    with open_journal(tmp_path) as journal:
        run_programs(Counting(), programs[:1], journal=journal)
        run_programs(Counting(), [*programs, *programs], journal=journal, label="fix")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("fix:  25%") or "1/4" in captured.err
    assert "4/4" in captured.err


def test_limits_are_those_of_processor_time():
    python, java = make_limits("python"), make_limits("java", 5)
    assert (python.cpu_seconds, java.cpu_seconds) == (1, 5)
    # The clock only ends what sleeps.
    assert python.wall_seconds >= 10 * python.cpu_seconds
    assert java.wall_seconds >= 10 * java.cpu_seconds
