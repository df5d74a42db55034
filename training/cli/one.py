"""The command ``run``: one run on the processes that a launcher started, or on one."""

import os
from types import SimpleNamespace

import click

from astraios_analysis.records.commands import flag
from astraios_analysis.records.notation import say
from astraios_analysis.records.refusal import Refusal
from training.cli.shared import (
    CACHE,
    CHOICE,
    NO_MEMORY_CHECK,
    SCORING,
    TRACKERS,
    Command,
    check_trackers,
    choice_of,
    require_containment,
    scoring_of,
)
from training.grid.estimates import available_memory, estimate_memory, gpus, in_gib, shortage
from training.spec.files import record_path
from training.spec.run import RunSpec, check_sharding

HELP = """\
Train one run of a grid with all processes of this launch: one big model on many GPUs.

Started by itself it is one process. torchrun or accelerate launch start several, which train the run together: whole
weights on each (DDP), or with --shard weights, gradients and moments divided among them (FSDP2). A run that was begun
on some number of processes goes on on any other; the record says so.
"""

EPILOG = """\
Before anything is loaded, the memory of a process is estimated (`python -m training estimate`) and held against what is
free; --no-memory-check starts all the same. accelerate's files for its own launcher are in configs/accelerate; sharding
needs none, only connected processes (docs/scale.md).

Exit status: 0 when the record is there; 1 when training diverged; 2 with a message on standard error.

examples:
  python -m training run --preset smoke --size 16x2 --method lora --no-scores --log-with tensorboard
  torchrun --nproc_per_node 8 -m training run --preset starcoderbase --size 16b --method fft --shard \\
      --precision bf16 --micro-batch 1 --gradient-checkpointing --no-scores
  accelerate launch --config_file configs/accelerate/ddp.yaml -m training run --preset gpu --size 1024x16 --method fft
  ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 -m training run --preset smoke --size 16x2 --method fft --shard
"""


@click.command("run", cls=Command, help=HELP, epilog=EPILOG)
@CHOICE
@CACHE
@TRACKERS
@flag("--shard", "divide the model among the processes (FSDP2)")
@flag("--cpu-offload", "--shard: keep shards and the optimiser in main memory")
@NO_MEMORY_CHECK
@SCORING
def command(given: SimpleNamespace) -> int:
    """Train the one run that was chosen."""
    choice = choice_of(given)
    if len(choice.specs) != 1:
        found = ", ".join(spec.run_id for spec in choice.specs[:3])
        raise Refusal(f"{len(choice.specs)} runs were chosen ({found}, ...); name one with --size, --method and --seed")
    (spec,) = choice.specs
    scoring, how = scoring_of((spec,), given), {"is_sharded": given.shard, "is_offloaded": given.cpu_offload}
    check_sharding(spec.loop, given.shard)
    if given.cpu_offload and not given.shard:
        raise Refusal("--cpu-offload keeps shards in main memory; give --shard, too")
    check_trackers(given.log_with)
    require_containment(scoring, "--no-scores trains without running any program")
    if not given.no_memory_check:
        check_memory(spec, **how)
    # Brings torch, which help and refusals do without.
    from training.grid.run import run
    from training.loop.processes import is_first_process
    from training.loop.reporting import Reporting
    from training.loop.train import DivergedError

    was_finished = record_path(choice.runs_dir, spec.run_id).exists()
    reporting = Reporting(log_with=tuple(given.log_with or ()), folder=given.log_dir)
    try:
        record = run(spec, choice.runs_dir, given.cache, reporting=reporting, scoring=scoring, **how)
    except DivergedError as error:
        say(str(error))
        return 1
    if is_first_process():
        when = "was finished before: " if was_finished else ""
        losses = f"validation loss {record.val_loss:.3f}, base {record.base_val_loss:.3f}"
        say(f"{spec.run_id}: {when}{losses}; in {choice.runs_dir}")
    return 0


def check_memory(spec: RunSpec, is_sharded: bool, is_offloaded: bool) -> None:
    """Refuse a run that does not fit, by the estimate, into the memory that each process of this launch can have."""
    n_processes = int(os.environ.get("WORLD_SIZE", "1"))
    found = gpus()
    if found:
        free: float | None = list(found.values())[min(int(os.environ.get("LOCAL_RANK", "0")), len(found) - 1)]
    else:
        free = available_memory()
        free = None if free is None else free / int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if free is None:
        return
    layout = {"n_processes": n_processes, "is_sharded": is_sharded, "is_offloaded": is_offloaded and bool(found)}
    needed = estimate_memory(spec.size, spec.tuning, spec.schedule, spec.loop, **layout).total
    if needed > free:
        advice = shortage(spec, free, n_processes) or "use fewer processes on this machine"
        raise Refusal(
            f"run {spec.run_id} needs {in_gib(needed)} GiB on each of {n_processes} processes, and {in_gib(free)} "
            f"are free; by itself it {advice} (or --no-memory-check to try it all the same)"
        )
