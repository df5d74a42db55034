"""What `passed` means, and what it does not: programs that break their harness, and programs that mark what follows."""

import os
import random
import shutil
import struct
import subprocess
from dataclasses import replace

import java_passes
import pytest
import python_passes

from training.sandbox.containment import describe_python
from training.sandbox.pool import Sandbox
from training.sandbox.programs import Limits, Program, SandboxUnavailable

pytestmark = pytest.mark.sandbox

LIMITS = Limits(cpu_seconds=2, wall_seconds=5, memory_bytes=2**29)
# Dumps of the heap are not to be cut.
JAVA_LIMITS = Limits(cpu_seconds=4, wall_seconds=20, memory_bytes=2**28, file_bytes=2**25, folder_bytes=2**25)
# What ends by itself meets no limit, however slow or busy the machine is.
PATIENT = Limits(cpu_seconds=60, wall_seconds=240)


def run_attacks(sandbox, language, attacks, test, limits):
    """What each attack got other than `failed`, but for those that a busy machine did not let come to their end."""
    verdicts = sandbox.run_many([Program(language, text, test, limits) for text in attacks.values()])
    got = {name: (verdict.status, verdict.message) for name, verdict in zip(attacks, verdicts, strict=True)}
    return {name: found for name, found in got.items() if found[0] not in {"failed", "timeout"}}


def test_a_broken_report_is_no_pass_and_no_error(one_sandbox):
    attacks = python_passes.BROKEN_REPORTS
    assert run_attacks(one_sandbox, "python", attacks, python_passes.TEST, LIMITS) == {}


def test_a_test_in_python_means_what_it_says(one_sandbox):
    attacks = {name: python_passes.make_stale(text) for name, text in python_passes.STALE.items()}
    assert run_attacks(one_sandbox, "python", attacks, python_passes.STALE_TEST, LIMITS) == {}


def test_monitoring_ends_before_the_test():
    for name in ("python3.12", "python3.13", "python3.14"):
        try:
            python = describe_python(shutil.which(name) or name).executable
        except SandboxUnavailable:
            continue
        attacks = {name: python_passes.make_stale(text) for name, text in python_passes.MONITORS.items()}
        with Sandbox(1, python=python) as sandbox:
            assert run_attacks(sandbox, "python", attacks, python_passes.STALE_TEST, LIMITS) == {}
        return
    pytest.skip("needs Python 3.12 or newer: install one beside this one")


def test_no_wrong_program_in_java_passes(one_sandbox, java):
    assert run_attacks(one_sandbox, "java", java_passes.FALSE, java_passes.TEST, JAVA_LIMITS) == {}


def test_the_secret_is_in_no_dump_of_the_heap(java, one_harness, tmp_path):
    machine = subprocess.Popen(one_harness(java.home), stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path)
    secret = os.urandom(32)
    texts = [java_passes.FALSE["dump_all"].encode(), java_passes.TEST.replace("!= 2", "!= 3").encode()]
    with machine:
        assert machine.stdout.read(6)[4:] == b"R+"
        machine.stdin.write(struct.pack(">II", *map(len, texts)) + secret + b"".join(texts))
        machine.stdin.close()
        # Some array of 32 bytes that the program took for it, and then the answer of the harness.
        assert secret in machine.stdout.read()
    dump = (tmp_path / "dump.hprof").read_bytes()
    assert b"It ends what a program may have begun" in dump
    assert secret not in dump


@pytest.mark.parametrize(
    ("source", "test"),
    [
        ("class F(int):\n    def __eq__(self, other): return True\ndef f(x): return F()", "assert f(1) == 2"),
        ("def f(x): return 3\ndef abs(x): return 0", "assert abs(f(1) - 2) == 0"),
        ("import math\nmath.isclose = lambda *_: 1\ndef f(x): return 3", "import math\nassert math.isclose(f(1), 2)"),
        ("import builtins\ndef f(x):\n    builtins.all = lambda *_: 1\n    return 3", "y = f(1)\nassert all([y == 2])"),
        ("def f(x):\n    global check\n    check = lambda *_: None", "def check(y): assert y == 2\ny = f(1)\ncheck(y)"),
        ("import os, sys\ns = sys._getframe(2).f_locals['secret']\nos.write(3, b'P' + s)\nos._exit(0)", "assert False"),
    ],
    ids=["equality", "shadowed", "library", "builtins_when_called", "names_when_called", "frames"],
)
def test_what_is_outside_the_guarantee_in_python(one_sandbox, source, test):
    assert one_sandbox.run_many([Program("python", source, test, PATIENT)])[0].passed


def test_what_is_outside_the_guarantee_in_java(one_sandbox, java):
    tests = {"class S { public boolean equals(Object x) { return true; } }": 'new S().equals("right")'}
    tests["class Objects { static boolean equals(Object x, Object y) { return true; } }"] = "Objects.equals(1, 2)"
    mains = {s: java_passes.make_main(f'if (!{test}) throw new AssertionError("wrong");') for s, test in tests.items()}
    programs = [Program("java", source, main, PATIENT) for source, main in mains.items()]
    assert [verdict.passed for verdict in one_sandbox.run_many(programs)] == [True, True]


def test_a_text_that_no_worker_would_read_has_failed(one_sandbox):
    long, good = one_sandbox.run_many([Program("python", "#" * (2**26 + 1)), Program("python", "x = 1")])
    assert (long.status, long.message) == ("failed", f"the program and its test are longer than {2**26} bytes")
    assert good.passed


@pytest.mark.parametrize("n_workers", [1, 2])
def test_order_and_workers_do_not_change_verdicts(java, n_workers):
    limits = replace(PATIENT, memory_bytes=2**28)
    # Half of the marks with each number of workers: every one costs a machine of its own.
    marks = [Program("java", text, limits=limits) for text in list(java_passes.LEFT.values())[n_workers - 1 :: 2]]
    look = [Program("java", f"{java_passes.LOOK} // {i}", limits=limits) for i in range(len(marks))]
    # One worker looks right after each mark; two meet them in any order.
    programs = [program for pair in zip(marks, look, strict=True) for program in pair]
    text = "import os\nassert os.listdir() == []\nopen('x{}', 'w').write('x')"
    programs += [Program("python", text.format(i), limits=limits) for i in range(8)]
    if n_workers > 1:
        random.Random(1).shuffle(programs)
    with Sandbox(n_workers) as sandbox:
        verdicts = dict(sandbox.run_each(programs))
    clean = {index for index, program in enumerate(programs) if program in look or program.language == "python"}
    assert {programs[index].source: verdicts[index] for index in clean if not verdicts[index].passed} == {}
    assert {verdict.status for verdict in verdicts.values()} <= {"passed", "failed"}
