"""What the sandbox says of programs that mean no harm, and of those that reach a limit."""

import re

import pytest

from training.sandbox.programs import Limits, Program

pytestmark = pytest.mark.sandbox

PATIENCE = {"cpu_seconds": 60, "wall_seconds": 240}
JAVA_MAIN = "public class Main {{ public static void main(String[] a) throws Exception {{ {} }} }}"


def judge(sandbox, source, test="", language="python", **limits):
    """Verdict of one program; limits that are not named are out of reach, however slow or busy the machine is."""
    return sandbox.run_many([Program(language, source, test, Limits(**{**PATIENCE, **limits}))])[0]


@pytest.mark.parametrize(
    ("source", "test"),
    [
        ("def f(x):\n    return x + 1", "assert f(1) == 2"),
        ("from __future__ import annotations\nx: Missing = 1", "assert x == 1"),
        ("from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int", "assert A(1) == A(1)"),
        (
            "import threading\nx = []\nt = threading.Thread(target=x.append, args=(1,))\nt.start()\nt.join()",
            "assert x == [1]",
        ),
        ("import asyncio\nasync def f():\n    return 1", "assert asyncio.run(f()) == 1"),
        ("with open('x', 'w') as f:\n    f.write('y')", "assert open('x').read() == 'y'"),
        ("import tempfile\nf = tempfile.TemporaryFile()\nf.write(b'x')", "assert f.tell() == 1"),
        ("print('x' * 10**6)", ""),
        ("if __name__ == '__main__':\n    raise SystemExit(1)", ""),
        ("def max(x):\n    return 7", "assert max([1]) == 7"),
        (
            "from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(2) as p:\n"
            "    x = list(p.map(abs, [-1]))",
            "assert x == [1]",
        ),
        ("import os, random, zoneinfo, ssl, sqlite3, decimal", "assert os.getcwd() and random.random() < 1"),
        ("class A:\n    def __del__(self):\n        raise ValueError", "A()"),
        ("import re, hashlib, string, itertools, heapq, math", "assert hashlib.md5(b'x').hexdigest()"),
    ],
)
def test_python_programs_pass(sandbox, source, test):
    verdict = judge(sandbox, source, test)
    assert (verdict.status, verdict.message) == ("passed", "")


@pytest.mark.parametrize(
    ("source", "test", "message"),
    [
        ("x = 1", "assert x == 2, 'not two'", r"AssertionError: not two \(test, line 1\)"),
        ("def f(:", "", "SyntaxError"),
        ("x = 1\nx.y", "", r"AttributeError.*\(program, line 2\)"),
        ("import sys\nsys.exit()", "", "SystemExit"),
        ("from multiprocessing.pool import ThreadPool\nThreadPool(2)", "", "(FileNotFound|Permission)Error"),
        ("raise ValueError('\\x1b[31m\\n' + 'x' * 999)", "", r"^ValueError: [ -~]{,500}$"),
    ],
)
def test_python_programs_fail_with_a_reason(sandbox, source, test, message):
    verdict = judge(sandbox, source, test)
    assert verdict.status == "failed"
    assert re.search(message, verdict.message), verdict.message


def test_processor_time_is_measured_and_limited(sandbox):
    verdict = judge(sandbox, "while True: pass", cpu_seconds=0.5)
    assert verdict.status == "timeout"
    assert "0.5 s of processor time" in verdict.message
    assert 0.5 <= verdict.cpu_seconds < 3


def test_time_on_the_clock_is_limited(sandbox):
    verdict = judge(sandbox, "import time\ntime.sleep(100)", wall_seconds=0.5)
    assert (verdict.status, verdict.message) == ("timeout", "took more than 0.5 s")
    assert verdict.cpu_seconds < 0.5


def test_memory_is_limited(sandbox):
    need = "x = bytearray(300 * 2**20)"
    assert judge(sandbox, need, memory_bytes=2**30).status == "passed"
    assert judge(sandbox, need, memory_bytes=2**28).status == "memory"


def test_files_are_limited(sandbox):
    write = "with open('x', 'wb') as f:\n    f.write(b'x' * 2**20)"
    assert judge(sandbox, write, file_bytes=2**21).status == "passed"
    assert "File too large" in judge(sandbox, write, file_bytes=2**19).message


def test_every_program_has_an_empty_folder_and_a_fresh_interpreter(sandbox):
    leave = "import os, math\nassert not os.listdir()\nassert not hasattr(math, 'left')\nmath.left = 1\nopen('x', 'w')"
    programs = [Program("python", f"# {index}\n{leave}") for index in range(20)]
    assert {verdict.status for verdict in sandbox.run_many(programs)} == {"passed"}


def test_the_environment_holds_nothing_of_the_host(sandbox, monkeypatch):
    monkeypatch.setenv("ASTRAIOS_SECRET", "CANARY")
    known = "{'PYTHONHASHSEED', 'LC_ALL', 'TZ', 'OPENBLAS_NUM_THREADS', 'MALLOC_ARENA_MAX', 'HOME', 'TMPDIR', 'PWD'}"
    source = f"import os\nleft = set(os.environ) - {known}"
    assert judge(sandbox, source, "assert not left, left").message == ""


def test_identical_programs_run_once(sandbox):
    look = Program("python", "import time\nassert False, time.time_ns()")
    first, second, other = sandbox.run_many([look, look, Program("python", look.source + " ")])
    assert first is second
    assert other.message != first.message


def test_verdicts_come_in_the_order_of_programs(sandbox):
    programs = [Program("python", f"x = {index}", f"assert x % 2, {index}") for index in [*range(20), 0, 1]]
    assert [v.passed for v in sandbox.run_many(programs)] == [index % 2 == 1 for index in [*range(20), 0, 1]]
    assert sandbox.run_many([]) == []


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ("System.out.println(1);", "passed", "^$"),
        ("int x = ;", "failed", r"does not compile \(test, line 1\)"),
        ('throw new IllegalStateException("why");', "failed", r"IllegalStateException: why \(test, line 1\)"),
        ("if (System.in.read() >= 0) throw new Error();", "passed", "^$"),
        ("new Thread(() -> { throw new Error(); }).start();", "passed", "^$"),
        ("Thread t = new Thread(() -> { }); t.start(); t.join();", "passed", "^$"),
        ("java.util.stream.IntStream.range(0, 99).parallel().sum();", "passed", "^$"),
        ("new java.awt.Point(1, 2).getX();", "passed", "^$"),
        ('new java.io.File("x").createNewFile();', "passed", "^$"),
    ],
)
def test_java_programs(one_sandbox, java, body, status, message):
    verdict = judge(one_sandbox, "import java.util.*;", JAVA_MAIN.format(body), "java")
    assert verdict.status == status, verdict.message
    assert re.search(message, verdict.message)


def test_java_without_main_fails(one_sandbox, java):
    assert "ClassNotFoundException: Main" in judge(one_sandbox, "class A {}", language="java").message


def test_java_memory_is_the_limit_of_the_program(one_sandbox, java):
    test = JAVA_MAIN.format("byte[] x = new byte[300 << 20]; if (x.length < 1) throw new Error();")
    assert judge(one_sandbox, "", test, "java", memory_bytes=2**30).status == "passed"
    assert judge(one_sandbox, "", test, "java", memory_bytes=2**28).status == "memory"
