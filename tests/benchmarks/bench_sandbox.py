"""Java programs per second of the sandbox, beside javac and java for each program."""

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

pytestmark = pytest.mark.reference


def load_programs():
    """Canonical solutions of HumanEvalPack."""
    path = Path(os.environ["ASTRAIOS_REFERENCE"]) / "generations" / "humanevalpack_java.jsonl.gz"
    with gzip.open(path, "rt") as lines:
        rows = [json.loads(line) for line in lines]
    return [Program("java", row["declaration"] + row["canonical_solution"], row["test"]) for row in rows]


def compile_and_run(program):
    """javac and java for each program."""
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


LEAST_JAVA_RATIO = 10.0
JAVA_PARTS, N_JAVAC = 4, 3


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
            seconds["sandbox"] += 1 / measure(lambda some: passed_in(sandbox, some), fast) * len(fast)
            with ThreadPoolExecutor(WORKERS) as pool:
                seconds["javac"] += 1 / measure(lambda some: pool.map(compile_and_run, some), slow) * len(slow)
        backend = sandbox.backend_name
    fast, slow = len(programs) / seconds["sandbox"], N_JAVAC * JAVA_PARTS / seconds["javac"]
    print(
        f"\nJava programs/s, {WORKERS} workers, load {os.getloadavg()[0]:.1f}: sandbox ({backend}) {fast:.1f}", end=""
    )
    print(f", javac and java for each {slow:.1f}; ratio {fast / slow:.1f}; all verdicts were checked")
    assert fast / slow >= LEAST_JAVA_RATIO
