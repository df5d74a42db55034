import errno
import json
import os
import subprocess
import sys

import pytest

from training.published.verdicts import Journal, JournalError, identify_program
from training.sandbox.programs import Limits, Program, Verdict

SUBJECT = {"dataset": "humanevalfix_python", "generations": "abc"}
PASSED, FAILED = Verdict("passed", "", 0.25), Verdict("failed", "AssertionError: é", 0.5)


def test_verdicts_come_back(tmp_path):
    with Journal(tmp_path, SUBJECT) as journal:
        journal.add("a", PASSED)
        journal.add("b", FAILED)
    with Journal(tmp_path, SUBJECT) as again:
        assert again.verdicts == {"a": PASSED, "b": FAILED}
        assert again.path == journal.path
    assert json.loads(journal.path.read_text().splitlines()[0]).items() >= SUBJECT.items()


def test_another_subject_has_another_file(tmp_path):
    with Journal(tmp_path, SUBJECT) as journal:
        journal.add("a", PASSED)
    with Journal(tmp_path, SUBJECT | {"generations": "abd"}) as other:
        assert other.verdicts == {}


def test_a_fresh_journal_knows_nothing(tmp_path):
    with Journal(tmp_path, SUBJECT) as journal:
        journal.add("a", PASSED)
    with Journal(tmp_path, SUBJECT, is_fresh=True) as journal:
        assert journal.verdicts == {}
        journal.add("b", FAILED)
    with Journal(tmp_path, SUBJECT) as journal:
        assert list(journal.verdicts) == ["b"]


@pytest.mark.parametrize("n_cut", [1, 5, 30])
def test_a_line_that_was_not_finished_is_cut_off(tmp_path, n_cut):
    with Journal(tmp_path, SUBJECT) as journal:
        journal.add("a", PASSED)
        journal.add("b", FAILED)
    journal.path.write_bytes(journal.path.read_bytes()[:-n_cut])
    with Journal(tmp_path, SUBJECT) as journal:
        assert journal.verdicts == {"a": PASSED}
        journal.add("c", PASSED)
    with Journal(tmp_path, SUBJECT) as journal:
        assert list(journal.verdicts) == ["a", "c"]


def test_a_damaged_line_costs_its_own_verdict_only(tmp_path):
    with Journal(tmp_path, SUBJECT) as journal:
        for key in "abc":
            journal.add(key, PASSED)
    lines = journal.path.read_bytes().splitlines(keepends=True)
    lines[2] = b"\x00\xff{]\n"
    journal.path.write_bytes(b"".join(lines))
    with Journal(tmp_path, SUBJECT) as journal:
        assert list(journal.verdicts) == ["a", "c"]


def test_a_second_process_is_sent_away(tmp_path):
    code = (
        "import sys; from pathlib import Path; from training.published.verdicts import Journal, JournalError\n"
        f"try: Journal(Path(sys.argv[1]), {SUBJECT!r})\n"
        "except JournalError as error: print(error)"
    )
    with Journal(tmp_path, SUBJECT):
        done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert "another process is scoring the same file; wait until it is done" in done.stdout
    assert subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, check=True).stdout == b""


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        JournalError, match=r"file/x/humanevalfix_python-.*: cannot be opened .*; name a writable folder"
    ):
        Journal(tmp_path / "file" / "x", SUBJECT)


@pytest.mark.parametrize("n_bytes", [0, 10])
def test_a_full_disk_loses_nothing(tmp_path, monkeypatch, n_bytes):
    write = os.write

    def write_until_full(descriptor, data):
        if descriptor != journal._descriptor:
            return write(descriptor, data)
        if room:
            return write(descriptor, data[: room.pop()])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Journal(tmp_path, SUBJECT) as journal:
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
    with Journal(tmp_path, SUBJECT) as journal:
        assert journal.verdicts == {"a": PASSED, "b": FAILED}


def test_programs_are_told_apart_by_everything_that_decides_a_verdict():
    programs = [
        Program("python", "x", "y"),
        Program("java", "x", "y"),
        Program("python", "xy", ""),
        Program("python", "x", "z"),
        Program("python", "x", "y", Limits(cpu_seconds=1)),
    ]
    assert len({identify_program(program) for program in programs}) == len(programs)
    assert identify_program(programs[0]) == identify_program(Program("python", "x", "y"))
