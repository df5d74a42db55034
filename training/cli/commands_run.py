"""The actions ``grid run`` and ``grid retry``: train a grid on this machine or on a cluster."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.cli.shared import (
    UNSAFE_HELP,
    add_choice,
    add_trackers,
    add_workers,
    check_trackers,
    chosen_specs,
    close,
    note,
    records_folder,
    require_containment,
    worker_count,
)
from training.grid.cluster import JobSettings, submit
from training.grid.estimates import available_memory, gpus, place, unfinished
from training.grid.workers import Folders
from training.spec.files import clear_failure, run_state
from training.spec.grids import check_corpus, fetch_corpus
from training.spec.run import RunSpec
from training.suite.request import Scoring

ENGINES = ("local", "slurm")

RUN_EPILOG = """\
Engine local: worker processes on this machine, each of which trains and scores one run at a time with one thread; base
models come first. Where there are GPUs, there is a worker on each. There are only as many workers as fit into the free
memory by the estimate of `python -m training estimate`; where not even one run does, nothing is started and the message
says what would do. Progress goes to standard error. Ctrl-C stops the workers; the same command goes on later.

Engine slurm: two job arrays, bases and then runs, through submitit (pip install 'astraios[cluster]'). A job that runs
out of time or is preempted goes back into the queue and goes on from its last checkpoint. Records, cache and this
installation must lie on a file system that all nodes share. The command ends when the jobs are in the queue; `grid
status` shows how far they are. Two launchers never train one run twice, on either engine (docs/scale.md).

Programs that a model wrote run in the sandbox, without network or files (docs/sandbox.md). Where no containment works,
nothing is trained: --no-scores trains without running any program, and --unsafe runs them without containment.

Exit status: 0 when all runs asked for are finished, or in the queue; 1 when some failed, with the last line of each on
standard error, or are being trained by another process; 2 for wrong arguments; 130 after Ctrl-C. A failed run is tried
again the next time; one that diverged would diverge again, and says which file to delete to try it all the same.
"""

RUN_EXAMPLES = """
examples:
  python -m training grid run --preset smoke
  python -m training grid run --preset smoke --size 32x2 --method lora ia3 --runs build/trial
  python -m training grid run --preset mini --seed 0
  python -m training grid run --preset smoke --no-scores
  python -m training grid run --preset gpu --engine slurm --partition gpu --minutes 120 --no-scores
"""

RETRY_HELP = """\
Train the runs of a grid again that failed, and no others.

What a failed run had saved is used; why it failed is forgotten. One that diverged is left out, for it would diverge
again, unless --diverged is given (after a change of the machine or of the libraries, say).
"""

RETRY_EXAMPLES = """
examples:
  python -m training grid retry --preset mini
  python -m training grid retry --preset mini --method lora --jobs 1
  python -m training grid retry --preset mini --diverged
"""


def add_run_actions(actions: Any) -> None:
    """Add the actions to the sub-parsers of ``python -m training grid``."""
    raw = argparse.RawDescriptionHelpFormatter
    trained = actions.add_parser("run", help="train a grid", epilog=RUN_EPILOG + RUN_EXAMPLES, formatter_class=raw)
    retried = actions.add_parser(
        "retry",
        help="train failed runs again",
        description=RETRY_HELP,
        epilog=RUN_EPILOG + RETRY_EXAMPLES,
        formatter_class=raw,
    )
    retried.add_argument("--diverged", action="store_true", help="those that diverged, too")
    for parser, command in ((trained, _run), (retried, _retry)):
        add_choice(parser)
        add_workers(parser)
        parser.add_argument(
            "--no-memory-check", action="store_true", help="start as many workers as asked for, whatever they need"
        )
        what = parser.add_mutually_exclusive_group()
        what.add_argument("--no-scores", action="store_true", help="train only; `grid score` adds the scores later")
        what.add_argument("--unsafe", action="store_true", help=UNSAFE_HELP)
        add_trackers(parser)
        _add_engine(parser)
        parser.set_defaults(command=command, parser=parser)


def _add_engine(parser: argparse.ArgumentParser) -> None:
    defaults = JobSettings()
    group = parser.add_argument_group("engine")
    group.add_argument("--engine", metavar="ENGINE", default="local", help="local (default) or slurm")
    group.add_argument("--partition", metavar="NAME", help="slurm: partition of the jobs")
    group.add_argument("--account", metavar="NAME", help="slurm: account of the jobs")
    group.add_argument("--qos", metavar="NAME", help="slurm: quality of service")
    group.add_argument(
        "--minutes", metavar="N", type=int, default=defaults.minutes, help="slurm: time of a job (default: %(default)s)"
    )
    group.add_argument(
        "--memory-gib",
        metavar="N",
        type=float,
        default=defaults.memory_gib,
        help="slurm: main memory of a job (default: %(default)s)",
    )
    for name in ("cpus", "gpus", "at_once", "max_timeouts"):
        group.add_argument(
            f"--{name.replace('_', '-')}",
            metavar="N",
            type=int,
            default=getattr(defaults, name),
            help=f"slurm: {_MEANINGS[name]} (default: %(default)s)",
        )
    group.add_argument(
        "--setup", metavar="COMMAND", action="append", default=[], help="slurm: a shell command before Python starts"
    )


_MEANINGS = {
    "cpus": "processors of a job",
    "gpus": "GPUs of a job, 0 or 1",
    "at_once": "jobs that run at the same time",
    "max_timeouts": "how often a job may run out of time",
}


def _run(arguments: argparse.Namespace) -> int:
    return _train(chosen_specs(arguments), arguments)


def _retry(arguments: argparse.Namespace) -> int:
    runs_dir = records_folder(arguments)
    failed, diverged = [], []
    for spec in chosen_specs(arguments):
        found = run_state(runs_dir, spec.run_id)
        if found.state == "failed":
            (diverged if found.is_divergence else failed).append(spec)
    if diverged and not arguments.diverged:
        note(f"{len(diverged)} runs that diverged would diverge again and are left out; --diverged tries them")
        diverged = []
    if not failed + diverged:
        note(f"no failed run to try again in {runs_dir}")
        return 0
    for spec in failed + diverged:
        clear_failure(runs_dir, spec.run_id)
    return _train(tuple(failed + diverged), arguments)


def _train(specs: Sequence[RunSpec], arguments: argparse.Namespace) -> int:
    if arguments.engine not in ENGINES:
        raise ValueError(f"unknown engine {arguments.engine!r}; choose from {', '.join(ENGINES)}")
    # Asked before any process is started.
    check_trackers(arguments.log_with)
    for spec in specs:
        check_corpus(spec.data, is_scored=not arguments.no_scores)
    scoring = None if arguments.no_scores else Scoring(unsafe=arguments.unsafe)
    runs_dir = records_folder(arguments)
    # Once, and here: workers of one launch do not all ask the hub, and nodes of a cluster may not reach it.
    for data in dict.fromkeys(spec.data for spec in unfinished(specs, runs_dir)):
        fetch_corpus(data)
    if arguments.engine == "slurm":
        return _queue(specs, runs_dir, scoring, arguments)
    require_containment(scoring, "grid run --no-scores trains without running any program")
    places = _places(specs, runs_dir, arguments)

    from training.grid.workers import launch

    try:
        outcomes = launch(
            specs,
            runs_dir,
            arguments.cache,
            jobs=len(places),
            report=note,
            scoring=scoring,
            places=places,
            log_with=arguments.log_with,
            log_dir=arguments.log_dir,
        )
    except KeyboardInterrupt:
        note("stopped; the same command goes on from the last checkpoints")
        raise
    return close(outcomes, f"runs are finished; records are in {runs_dir}")


def _places(specs: Sequence[RunSpec], runs_dir: Path, arguments: argparse.Namespace) -> tuple[str | None, ...]:
    found = gpus()
    jobs = len(found) if found and arguments.jobs is None else worker_count(arguments)
    if jobs < 1:
        raise ValueError(f"jobs is {jobs}; give the number of worker processes, from 1 on")
    missing = unfinished(specs, runs_dir)
    if arguments.no_memory_check or not missing:
        return tuple(found[turn % len(found)].index if found else None for turn in range(jobs))
    wanted = min(jobs, len(missing))
    places = place(missing, wanted, found, available_memory())
    if len(places) < wanted:
        note(f"{len(places)} of {jobs} workers: more would not fit into the free memory")
        return places
    return places if found else (None,) * jobs


def _queue(specs: Sequence[RunSpec], runs_dir: Path, scoring: Scoring | None, arguments: argparse.Namespace) -> int:
    settings = JobSettings(
        minutes=arguments.minutes,
        memory_gib=arguments.memory_gib,
        cpus=arguments.cpus,
        gpus=arguments.gpus,
        partition=arguments.partition,
        account=arguments.account,
        qos=arguments.qos,
        at_once=arguments.at_once,
        max_timeouts=arguments.max_timeouts,
        setup=tuple(arguments.setup),
    )
    folders = Folders(runs_dir, arguments.cache, scoring, tuple(arguments.log_with), arguments.log_dir)
    jobs = submit(specs, folders, settings)
    if not jobs:
        note(f"all {len(specs)} runs were finished before")
        return 0
    note(f"{len(jobs)} jobs are in the queue, {jobs[0].job_id} to {jobs[-1].job_id}; see `grid status`")
    return 0
