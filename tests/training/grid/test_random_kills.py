"""Workers and launchers killed at random moments: every run ends with exactly one valid record, the undisturbed one."""

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
import tiny_grid as TINY
import torch

from astraios_analysis.records.frame import load_folder
from training.grid import bases, run
from training.grid.workers import Folders, launch
from training.spec.files import run_state

KILLS = 8

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="processes are found in Linux's /proc")


def specs():
    schedule = TINY.tiny_grid().schedule.model_copy(update={"steps": 12})
    return TINY.tiny_grid(schedule=schedule, methods=("fft", "lora", "ia3")).runs()


def launcher(runs, cache, log):
    """A whole launcher in a process group of its own, whose workers are forked and write down what they train."""
    os.setpgrp()
    torch.set_num_threads(1)
    original = run.train

    def train(*arguments, **options):
        result = original(*arguments, **options)
        with log.open("a") as file:
            file.write(f"{options['spec']['tuning']['method']}\n")
        return result

    run.train = train
    TINY.fork_workers(pytest.MonkeyPatch())
    launch(specs(), Folders(runs, cache), jobs=2)


def numbers(record):
    """What must not depend on what happened on the way: all but costs, and where and when it was made."""
    return record.model_dump(exclude={"cost", "provenance"})


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    for spec in specs():
        run.run(spec, folder / "runs", folder / "cache", checkpoint_every=2)
    return [numbers(record) for record in load_folder(folder / "runs")]


def test_every_run_ends_with_one_record_whatever_is_killed(tmp_path, undisturbed, monkeypatch):
    # Slower, so that there is something to kill at every stage.
    for function in (bases.pretrain, run.run):
        monkeypatch.setitem(function.__kwdefaults__, "checkpoint_every", 2)
    rng, runs, cache, log = random.Random(7), tmp_path / "runs", tmp_path / "cache", tmp_path / "log"
    started, n_kills = [], 0
    deadline = time.monotonic() + 800

    def is_over():
        return all(run_state(runs, spec.run_id).state == "done" for spec in specs())

    try:
        while not (is_over() and not any(process.is_alive() for process in started)):
            assert time.monotonic() < deadline
            # Two launchers at once, always.
            started = [process for process in started if process.is_alive()]
            while len(started) < 2 and not is_over():
                process = TINY.FORK.Process(target=launcher, args=(runs, cache, log))
                process.start()
                started.append(process)
            time.sleep(rng.uniform(0.05, 0.6))
            if n_kills >= KILLS:
                continue
            victim = rng.choice(started) if started else None
            targets = set(TINY.living_processes(victim.pid)) - {victim.pid} if victim else ()
            with suppress(ProcessLookupError):
                if rng.random() < 0.3 and victim is not None and os.getpgid(victim.pid) == victim.pid:
                    os.killpg(victim.pid, signal.SIGKILL)
                    n_kills += 1
                elif targets:
                    os.kill(rng.choice(sorted(targets)), signal.SIGKILL)
                    n_kills += 1
    finally:
        for process in started:
            with suppress(ProcessLookupError):
                if os.getpgid(process.pid) == process.pid:
                    os.killpg(process.pid, signal.SIGKILL)
            process.join(10)
    assert n_kills >= 3
    assert [numbers(record) for record in load_folder(runs)] == undisturbed
    # A training that was finished is not finished a second time, unless its process was killed before the record.
    assert len(log.read_text().split()) <= 3 + n_kills
    assert not [*runs.glob(".work/*/step-*"), *runs.glob("*.tmp")]
