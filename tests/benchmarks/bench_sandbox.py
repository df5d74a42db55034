"""Programs per second of the sandbox, between a new interpreter for each program and no isolation at all."""

import gzip
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest

from training.sandbox.pool import Sandbox
from training.sandbox.programs import JavaUnavailable, Program

N_PROGRAMS, WORKERS = 2624, 2
N_SLOW = 200

pytestmark = pytest.mark.reference


def load_programs(language, n_programs):
    """Canonical solutions of HumanEvalPack, each made distinct by a comment."""
    path = Path(os.environ["ASTRAIOS_REFERENCE"]) / "generations" / f"humanevalpack_{language}.jsonl.gz"
    with gzip.open(path, "rt") as lines:
        rows = [json.loads(line) for line in lines]
    mark = "#" if language == "python" else "//"
    return [
        Program(language, f"{row['declaration']}{row['canonical_solution']}\n{mark} {index}\n", row["test"])
        for index, row in ((index, rows[index % len(rows)]) for index in range(n_programs))
    ]


def execute_bare(program):
    """No isolation: only for canonical solutions."""
    names = {}
    exec(compile(program.source, "<program>", "exec"), names)
    exec(compile(program.test, "<test>", "exec"), names)
    return True


def execute_interpreter(program):
    """A new interpreter for each program."""
    text = f"{program.source}\n{program.test}\n"
    return subprocess.run([sys.executable, "-I", "-S", "-c", text], capture_output=True, check=False).returncode == 0


def execute_fork(program):
    """A forked process for each program, without containment."""
    pid = os.fork()
    if pid == 0:
        execute_bare(program)
        os._exit(0)
    return os.waitpid(pid, 0)[1] == 0


def compile_and_run(program):
    """javac and java for each program."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "Main.java")
        source.write_text(f"{program.source}\n{program.test}")
        subprocess.run(["javac", "-nowarn", "-d", folder, source], capture_output=True, check=True)
        return subprocess.run(["java", "-cp", folder, "Main"], capture_output=True, check=False).returncode == 0


def measure(run, programs):
    """Programs per second, every one of which must pass."""
    begin = time.perf_counter()
    passed = list(run(programs))
    seconds = time.perf_counter() - begin
    assert all(passed) and len(passed) == len(programs)
    return len(programs) / seconds


def passed_in(sandbox, programs):
    return (verdict.passed for verdict in sandbox.run_many(programs))


def measure_sandbox(sandbox, programs):
    sandbox.run_many(programs[:8])
    return measure(lambda some: passed_in(sandbox, some), programs)


def show(title, rates):
    print(f"\n{title}, {WORKERS} workers, load {os.getloadavg()[0]:.1f}")
    for name, rate in rates.items():
        print(f"  {name:38s} {rate:8.1f} programs/s")


def test_python_programs_per_second():
    programs = load_programs("python", N_PROGRAMS)
    rates = {}
    with Sandbox(WORKERS) as sandbox:
        rates[f"sandbox ({sandbox.backend_name})"] = measure_sandbox(sandbox, programs)
    with Sandbox(WORKERS, unsafe=True) as sandbox:
        rates["the same without walls"] = measure_sandbox(sandbox, programs)
    with ProcessPoolExecutor(WORKERS) as pool:
        rates["fork for each, nothing else"] = measure(lambda x: pool.map(execute_fork, x, chunksize=16), programs)
        rates["no isolation"] = measure(lambda x: pool.map(execute_bare, x, chunksize=16), programs)
    with ThreadPoolExecutor(WORKERS) as pool:
        rates["new interpreter for each"] = measure(lambda x: pool.map(execute_interpreter, x), programs[:N_SLOW])
    show("Python", rates)


LEAST_JAVA_RATIO = 10.0
JAVA_PARTS, N_JAVAC = 4, 3


def test_java_is_ten_times_as_fast_as_javac_and_java():
    programs = load_programs("java", 164)
    seconds = {"sandbox": 0.0, "javac": 0.0}
    with Sandbox(WORKERS) as sandbox:
        try:
            sandbox.require("java")
        except JavaUnavailable as error:
            pytest.skip(str(error))
        sandbox.run_many(programs[:8])
        # The sides take turns, so that what else runs on the machine meets both; the slow one has fewer programs.
        for part in range(JAVA_PARTS):
            fast, slow = programs[part::JAVA_PARTS], programs[part : N_JAVAC * JAVA_PARTS : JAVA_PARTS]
            seconds["sandbox"] += 1 / measure(lambda some: passed_in(sandbox, some), fast) * len(fast)
            with ThreadPoolExecutor(WORKERS) as pool:
                seconds["javac"] += 1 / measure(lambda some: pool.map(compile_and_run, some), slow) * len(slow)
        backend = sandbox.backend_name
    rates = {
        f"sandbox ({backend})": len(programs) / seconds["sandbox"],
        "javac and java for each": N_JAVAC * JAVA_PARTS / seconds["javac"],
    }
    show("Java", rates)
    ratio = len(programs) / seconds["sandbox"] / (N_JAVAC * JAVA_PARTS / seconds["javac"])
    print(f"  ratio {ratio:.1f}; all verdicts were checked")
    assert ratio >= LEAST_JAVA_RATIO
