import errno
import json
import os
from unittest.mock import Mock

import pytest

from training.published.verdicts import ProgramsNotRun, Verdicts, identify_program, make_limits, run_programs
from training.sandbox.programs import Limits, Program, Verdict
from training.spec.files import JournalError

SUBJECT = {"dataset": "humanevalfix_python", "generations": "abc"}
PASSED, FAILED = Verdict("passed", "", 0.25), Verdict("failed", "AssertionError: é", 0.5)


@pytest.fixture
def path(tmp_path):
    with Verdicts(tmp_path, SUBJECT) as journal:
        journal.add("a", PASSED)
        journal.add("b", FAILED)
    return journal.path


def read_verdicts(folder, **options):
    with Verdicts(folder, SUBJECT, **options) as journal:
        return dict(journal.verdicts)


def test_verdicts_come_back(tmp_path, path):
    assert read_verdicts(tmp_path) == {"a": PASSED, "b": FAILED}
    assert list(tmp_path.iterdir()) == [path]
    assert json.loads(path.read_text().splitlines()[0]).items() >= SUBJECT.items()
    with Verdicts(tmp_path, SUBJECT | {"generations": "abd"}) as other:
        assert other.verdicts == {}


@pytest.mark.parametrize("n_cut", [1, 5, 30])
def test_a_line_that_was_not_finished_is_cut_off(tmp_path, path, n_cut):
    path.write_bytes(path.read_bytes()[:-n_cut])
    with Verdicts(tmp_path, SUBJECT) as journal:
        assert journal.verdicts == {"a": PASSED}
        journal.add("c", PASSED)
    assert list(read_verdicts(tmp_path)) == ["a", "c"]


def test_a_damaged_line_costs_its_own_verdict_only(tmp_path, path):
    first, _, last = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + b"\x00\xff{]\n" + last)
    assert read_verdicts(tmp_path) == {"b": FAILED}


def test_who_comes_second_is_sent_away(tmp_path, path):
    message = "another process is scoring the same file; wait"
    with Verdicts(tmp_path, SUBJECT), pytest.raises(JournalError, match=message):
        Verdicts(tmp_path, SUBJECT)
    assert list(read_verdicts(tmp_path)) == ["a", "b"]


@pytest.mark.parametrize("n_bytes", [0, 10])
def test_a_full_disk_loses_nothing(tmp_path, monkeypatch, n_bytes):
    write = os.write

    def write_until_full(descriptor, data):
        if descriptor != journal._descriptor:
            return write(descriptor, data)
        if room:
            return write(descriptor, data[: room.pop()])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Verdicts(tmp_path, SUBJECT) as journal:
        journal.add("a", PASSED)
        before = journal.path.read_bytes()
        # A full disk takes a part of a line before it refuses.
        room = [n_bytes] if n_bytes else []
        with monkeypatch.context() as patch, pytest.raises(JournalError) as raised:
            patch.setattr(os, "write", write_until_full)
            journal.add("b", FAILED)
        assert "No space left on device" in str(raised.value)
        assert "the 1 verdicts in it are kept: free some space, and the same command goes on" in str(raised.value)
        assert journal.path.read_bytes() == before
        journal.add("b", FAILED)
    assert read_verdicts(tmp_path) == {"a": PASSED, "b": FAILED}


def test_programs_are_told_apart_by_everything_that_decides_a_verdict():
    texts = [("python", "x", "y"), ("java", "x", "y"), ("python", "xy", ""), ("python", "x", "z")]
    programs = [*(Program(*one) for one in texts), Program("python", "x", "y", Limits(cpu_seconds=1))]
    assert len({identify_program(program) for program in programs}) == len(programs)
    assert identify_program(programs[0]) == identify_program(Program("python", "x", "y"))


RIGHT, WRONG = Program("python", "x = 1", "assert x == 1"), Program("python", "x = 2", "assert x == 1")


class Counting:
    """A sandbox that passes programs by their text and counts what it runs."""

    def __init__(self, broken=()):
        self.ran, self.broken = [], broken

    def run_each(self, programs):
        for index, program in reversed(list(enumerate(programs))):
            self.ran.append(program)
            status = "error" if program in self.broken else "passed" if "1" in program.source else "failed"
            yield index, Verdict(status, "no worker" if status == "error" else "")


def make_programs(n_programs):
    return [Program("python", f"x = {number}", "") for number in range(n_programs)]


def test_identical_programs_run_once():
    sandbox = Counting()
    verdicts = run_programs(sandbox, [RIGHT, WRONG, RIGHT, RIGHT])
    assert [verdict.passed for verdict in verdicts] == [True, False, True, True]
    assert sorted(program.source for program in sandbox.ran) == ["x = 1", "x = 2"]
    assert run_programs(sandbox, []) == []


def test_programs_that_could_not_be_run_are_no_failures(tmp_path):
    programs = make_programs(5)
    with Verdicts(tmp_path, SUBJECT) as journal, pytest.raises(ProgramsNotRun) as raised:
        run_programs(Counting(broken=programs[1:3]), programs, journal=journal)
    assert "could not run 2 of 5 programs (the first, number 2 of all in order: no worker)" in str(raised.value)
    again = Counting()
    with Verdicts(tmp_path, SUBJECT) as journal:
        run_programs(again, programs, journal=journal)
    assert set(again.ran) == set(programs[1:3])


def test_nothing_more_is_run_when_a_verdict_cannot_be_written_down(tmp_path, monkeypatch):
    sandbox = Counting()
    with Verdicts(tmp_path, SUBJECT) as journal:
        monkeypatch.setattr(journal, "_append", Mock(side_effect=JournalError("full")))
        with pytest.raises(JournalError, match="full"):
            run_programs(sandbox, make_programs(5), journal=journal)
    assert len(sandbox.ran) == 1


def test_progress_goes_to_standard_error_and_counts_distinct_programs(tmp_path, capsys):
    programs = make_programs(4)
    with Verdicts(tmp_path, SUBJECT) as journal:
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
