"""The command ``run``: one run on the processes that a launcher started, or on one."""

import argparse
import os
from typing import Any

from training.cli.shared import (
    UNSAFE_HELP,
    add_choice,
    add_trackers,
    check_trackers,
    chosen_specs,
    note,
    records_folder,
    require_containment,
)
from training.grid.estimates import Layout, available_memory, estimate_memory, gpus, in_gib, shortage
from training.spec.files import record_path
from training.spec.grids import check_corpus
from training.spec.loop_settings import check_sharding
from training.spec.run import RunSpec
from training.suite.request import Scoring

ONE_HELP = """\
Train one run of a grid with all processes of this launch: one big model on many GPUs.

Started by itself it is one process. torchrun or accelerate launch start several, which train the run together: whole
weights on each (DDP), or with --shard weights, gradients and moments divided among them (FSDP2). A run that was begun
on some number of processes goes on on any other; the record says so.
"""

ONE_EPILOG = """\
Before anything is loaded, the memory of a process is estimated (`python -m training estimate`) and held against what is
free; --no-memory-check starts all the same. accelerate's files for its own launcher are in configs/accelerate; sharding
needs none, only connected processes (docs/scale.md).

Exit status: 0 when the record is there; 1 when training diverged; 2 with a message on standard error.

examples:
  python -m training run --preset smoke --size 16x2 --method lora --no-scores
  python -m training run --preset smoke --size 16x2 --method lora --log-with tensorboard
  torchrun --nproc_per_node 8 -m training run --preset starcoderbase --size 16b --method fft --shard \\
      --precision bf16 --micro-batch 1 --gradient-checkpointing --no-scores
  accelerate launch --config_file configs/accelerate/ddp.yaml -m training run --preset gpu --size 1024x16 --method fft
  ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 -m training run --preset smoke --size 16x2 --method fft --shard
"""


def add_one_command(commands: Any) -> None:
    """Add the command to the sub-parsers of ``python -m training``."""
    parser = commands.add_parser(
        "run",
        help="train one run with all processes of this launch",
        description=ONE_HELP,
        epilog=ONE_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_choice(parser)
    parser.add_argument("--cache", metavar="DIR", default="build/cache", help="models (default: build/cache)")
    add_trackers(parser)
    parser.add_argument("--shard", action="store_true", help="divide the model among the processes (FSDP2)")
    parser.add_argument("--no-memory-check", action="store_true", help="start whatever the estimate says")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--no-scores", action="store_true", help="train only; `grid score` adds the scores later")
    what.add_argument("--unsafe", action="store_true", help=UNSAFE_HELP)
    parser.set_defaults(command=_run_one, parser=parser)


def _run_one(arguments: argparse.Namespace) -> int:
    specs = chosen_specs(arguments)
    if len(specs) != 1:
        found = ", ".join(spec.run_id for spec in specs[:3])
        raise ValueError(f"{len(specs)} runs were chosen ({found}, ...); name one with --size, --method and --seed")
    (spec,) = specs
    check_corpus(spec.data, is_scored=not arguments.no_scores)
    check_sharding(spec.loop, arguments.shard)
    check_trackers(arguments.log_with)
    scoring = None if arguments.no_scores else Scoring(unsafe=arguments.unsafe)
    require_containment(scoring, "--no-scores trains without running any program")
    if not arguments.no_memory_check:
        check_memory(spec, arguments.shard)

    from training.grid.run import run
    from training.loop.processes import is_first_process
    from training.loop.reporting import Reporting
    from training.loop.train import DivergedError

    runs_dir = records_folder(arguments)
    was_finished = record_path(runs_dir, spec.run_id).exists()
    try:
        record = run(
            spec,
            runs_dir,
            arguments.cache,
            reporting=Reporting(log_with=tuple(arguments.log_with), folder=arguments.log_dir),
            scoring=scoring,
            is_sharded=arguments.shard,
        )
    except DivergedError as error:
        note(str(error))
        return 1
    if is_first_process():
        when = "was finished before: " if was_finished else ""
        losses = f"validation loss {record.val_loss:.3f}, base {record.base_val_loss:.3f}"
        note(f"{spec.run_id}: {when}{losses}; in {runs_dir}")
    return 0


def check_memory(spec: RunSpec, is_sharded: bool) -> None:
    """Refuse a run that does not fit, by the estimate, into the memory that each process of this launch can have.

    Parameters
    ----------
    spec : RunSpec
        The run.
    is_sharded : bool
        Whether it is divided among the processes.

    Raises
    ------
    ValueError
        If it does not fit; the message says what is needed and what would do.
    """
    n_processes = int(os.environ.get("WORLD_SIZE", "1"))
    found = gpus()
    if found:
        free: float | None = found[min(int(os.environ.get("LOCAL_RANK", "0")), len(found) - 1)].free_bytes
    else:
        free = available_memory()
        free = None if free is None else free / int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if free is None:
        return
    needed = estimate_memory(spec.size, spec.tuning, spec.schedule, spec.loop, Layout(n_processes, is_sharded)).total
    if needed > free:
        advice = shortage(spec, free, n_processes) or "use fewer processes on this machine"
        raise ValueError(
            f"run {spec.run_id} needs {in_gib(needed)} GiB on each of {n_processes} processes, and {in_gib(free)} "
            f"are free; by itself it {advice} (or --no-memory-check to try it all the same)"
        )
