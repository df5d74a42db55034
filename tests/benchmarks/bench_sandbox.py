"""Java programs per second of the sandbox, beside `javac` and `java` for each; Python's are `bench_human_eval.py`'s."""

import gzip
import json
import os
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from training.sandbox.pool import Sandbox
from training.sandbox.programs import JavaUnavailable, Program

WORKERS = 2
LEAST_JAVA_RATIO = 10.0
JAVA_PARTS, N_JAVAC = 4, 3

pytestmark = pytest.mark.reference


def load_programs():
    """Canonical solutions of HumanEvalPack."""
    path = Path(os.environ["ASTRAIOS_REFERENCE"]) / "generations" / "humanevalpack_java.jsonl.gz"
    with gzip.open(path, "rt") as lines:
        rows = [json.loads(line) for line in lines]
    return [Program("java", f"{row['declaration']}{row['canonical_solution']}", row["test"]) for row in rows]


def compile_and_run(program):
    """javac and java for each program."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "Main.java")
        source.write_text(f"{program.source}\n{program.test}")
        subprocess.run(["javac", "-nowarn", "-d", folder, source], capture_output=True, check=True)
        return subprocess.run(["java", "-cp", folder, "Main"], capture_output=True, check=False).returncode == 0


def measure(run, programs):
    """Seconds that programs take, every one of which must pass."""
    begin = time.perf_counter()
    passed = list(run(programs))
    assert all(passed) and len(passed) == len(programs)
    return time.perf_counter() - begin


def test_java_is_ten_times_as_fast_as_javac_and_java():
    programs = load_programs()
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
            seconds["sandbox"] += measure(lambda some: (v.passed for v in sandbox.run_many(some)), fast)
            with ThreadPoolExecutor(WORKERS) as pool:
                seconds["javac"] += measure(lambda some: pool.map(compile_and_run, some), slow)
        backend = sandbox.backend_name
    rates = {
        f"sandbox ({backend})": len(programs) / seconds["sandbox"],
        "javac and java for each": N_JAVAC * JAVA_PARTS / seconds["javac"],
    }
    print(f"\nJava, {WORKERS} workers, load {os.getloadavg()[0]:.1f}")
    for name, rate in rates.items():
        print(f"  {name:38s} {rate:8.1f} programs/s")
    fast, slow = rates.values()
    print(f"  ratio {fast / slow:.1f}; all verdicts were checked")
    assert fast / slow >= LEAST_JAVA_RATIO
