"""Twenty kills at random moments after a run's first checkpoint: each gives the record of an unkilled run."""

import multiprocessing
import random
import signal
import time

import pytest
import tiny_grid as TINY
import torch

from astraios_analysis.records.frame import load
from training.grid.run import run
from training.spec.files import record_path, work_folder

# Forked, not spawned: the libraries are in memory already.
FORK = multiprocessing.get_context("fork")
KILLS, STEPS, EVERY = 20, 60, 2

pytestmark = [
    pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="forks"),
    pytest.mark.timeout(3600),
]


def child(spec, runs, cache):
    torch.set_num_threads(1)
    run(spec, runs, cache, checkpoint_every=EVERY)


def everything_but_time(record):
    """All that a record says, without times, costs and dates."""
    fields = record.model_dump(exclude={"cost": True, "provenance": {"created_at"}})
    fields["provenance"]["spec"].pop("throughput")
    return fields


def checkpoints(runs, spec):
    return sorted(path.name for path in work_folder(runs, spec.run_id).glob("step-*"))


def wait_for_checkpoint(process, runs, spec):
    while process.is_alive() and not checkpoints(runs, spec):
        time.sleep(0.002)


def test_a_killed_run_gives_the_record_of_one_that_was_not(tmp_path, capsys):
    schedule = TINY.tiny_grid().schedule.model_copy(update={"steps": STEPS, "warmup_steps": 4})
    specs = TINY.tiny_grid(
        schedule=schedule, pretraining=TINY.tiny_grid().schedule, methods=("fft", "lora", "ia3")
    ).runs()
    cache, rng, undisturbed, span = tmp_path / "cache", random.Random(11), {}, {}
    # In this process, so that forked ones find texts and base in its memory. The first one's time has them in it.
    for spec in (specs[0], *specs):
        begin = time.monotonic()
        record = run(spec, tmp_path / f"undisturbed-{len(span)}", cache, checkpoint_every=EVERY)
        undisturbed[spec.run_id], span[spec.run_id] = everything_but_time(record), time.monotonic() - begin

    n_kills, n_late, left = 0, 0, []
    while n_kills < KILLS:
        # A run by itself each time, killed once: what is resumed from is what one kill leaves.
        spec, runs = specs[n_kills % len(specs)], tmp_path / f"killed-{n_kills}-{n_late}"
        process = FORK.Process(target=child, args=(spec, runs, cache))
        process.start()
        wait_for_checkpoint(process, runs, spec)
        process.join(rng.uniform(0, span[spec.run_id]))
        if process.exitcode is not None:
            n_late += 1
            assert n_late < KILLS, "nearly every run was over before its kill: the machine's speed changes too much"
            continue
        process._popen._send_signal(rng.choice((signal.SIGKILL, signal.SIGTERM)))
        process.join()
        assert process.exitcode < 0
        n_kills += 1
        # Killed after its record was written and before its folder was cleared, it has both.
        left.append(checkpoints(runs, spec)[-1] if not record_path(runs, spec.run_id).exists() else "record")
        again = FORK.Process(target=child, args=(spec, runs, cache))
        again.start()
        again.join()
        assert again.exitcode == 0
        assert everything_but_time(load(record_path(runs, spec.run_id))) == undisturbed[spec.run_id]
        assert not work_folder(runs, spec.run_id).exists()
    assert len(set(left)) > KILLS // 4
    with capsys.disabled():
        print(f"\n{n_kills} kills after the first checkpoint, resumed from {', '.join(left)}; {n_late} came too late")
