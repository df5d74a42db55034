"""A grid on a SLURM cluster, as job arrays through submitit. Importable without torch and without submitit.

One array trains the base models, one job each; a second one, which starts when the first has ended, trains the runs. A
job that is about to be ended for time, or to make room for another's, is put back into the queue and goes on from its
run's last checkpoint. Locks keep two jobs, and two launchers, from one run; the file system that the nodes share must
honour flock between them (NFS from version 4 on, Lustre mounted with ``flock``, GPFS).
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from astraios_analysis.records.refusal import Refusal
from training.grid.workers import Folders, Status, Task, perform
from training.spec.files import damage, record_path
from training.spec.run import RunSpec

JOB_FOLDER = ".jobs"
"""Folder below that of the records in which submitit keeps its files and the jobs' output."""

_MINUTES_TO_SAVE = 2


@dataclass(frozen=True)
class JobSettings:
    """What every job asks the cluster for."""

    minutes: int = 240
    memory_gib: float = 32
    cpus: int = 4
    gpus: int = 1
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    at_once: int = 64
    max_timeouts: int = 20
    setup: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        for name in ("minutes", "memory_gib", "cpus", "at_once"):
            if getattr(self, name) <= 0:
                raise Refusal(f"{name} is {getattr(self, name)}; give a positive number")
        if self.minutes <= _MINUTES_TO_SAVE:
            raise Refusal(
                f"minutes is {self.minutes}; a job needs {_MINUTES_TO_SAVE} of them to be put back into the queue: "
                "give more"
            )
        for name in ("gpus", "max_timeouts"):
            if getattr(self, name) < 0:
                raise Refusal(f"{name} is {getattr(self, name)}; give 0 or more")

    def parameters(self, name: str) -> dict[str, Any]:
        """Return submitit's parameters for an array with a name."""
        asked = {"partition": self.partition, "account": self.account, "qos": self.qos}
        return {
            "job_name": name,
            "time": self.minutes,
            "mem": f"{int(self.memory_gib * 1024)}MB",
            "cpus_per_task": self.cpus,
            "ntasks_per_node": 1,
            "nodes": 1,
            "array_parallelism": self.at_once,
            "signal_delay_s": 60 * _MINUTES_TO_SAVE,
            **({"gpus_per_node": self.gpus} if self.gpus else {}),
            **{name: value for name, value in asked.items() if value is not None},
            **({"setup": list(self.setup)} if self.setup else {}),
            # The cluster's own failures (a node that is lost) put a job back, too.
            "additional_parameters": {"requeue": True},
        }


class TaskJob:
    """What a job does: one task, in a process of its own. submitit keeps it in a file and calls it on a node."""

    def __init__(self, task: Task, folders: Folders) -> None:
        self._kind, self._spec, self._folders = task.kind, task.spec.model_dump_json(), folders

    def __call__(self) -> tuple[Status, str]:
        """Do it, and return what became of it with a message."""
        # Read by the libraries at their import, which comes after this. A GPU's job has its processors for itself.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        spec = RunSpec.model_validate_json(self._spec)
        if self._kind == "run" and record_path(self._folders.runs, spec.run_id).exists():
            return "skipped", "its record exists"
        status, message = perform(self._kind, spec, self._folders)
        if status == "failed":
            raise RuntimeError(f"{spec.run_id}: {message}")
        return status, message

    def checkpoint(self) -> Any:
        """Return what is put back into the queue before the job is ended: itself, for its state is on the disk."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def tasks_of(specs: Sequence[RunSpec], runs_dir: Path) -> tuple[list[Task], list[Task]]:
    """Return the bases to be trained from scratch, one for all runs that share it, and the runs without a record."""
    for spec in specs:
        if problem := damage(runs_dir, spec.run_id):
            raise Refusal(problem)
    runs = [Task("run", spec) for spec in specs if not record_path(runs_dir, spec.run_id).exists()]
    bases = {run.base: Task("base", run.spec) for run in runs if run.spec.size.pretrained is None}
    return list(bases.values()), runs


def submit(
    specs: Sequence[RunSpec],
    folders: Folders,
    settings: JobSettings,
    *,
    make_executor: Callable[[Path, int], Any] | None = None,
) -> list[Any]:
    """Put the runs of a grid that have no record into a cluster's queue, their bases before them."""
    log_dir = folders.log_dir and folders.log_dir.resolve()
    folders = replace(folders, runs=folders.runs.resolve(), cache=folders.cache.resolve(), log_dir=log_dir)
    bases, runs = tasks_of(specs, folders.runs)
    executor = (make_executor or slurm_executor)(folders.runs / JOB_FOLDER, settings.max_timeouts)
    jobs: list[Any] = []
    for name, tasks in (("bases", bases), ("runs", runs)):
        if not tasks:
            continue
        parameters = settings.parameters(f"{runs[0].spec.grid}-{name}")
        if jobs:
            # After any ending: a base that failed is tried once more by its runs, which then say what was wrong.
            parameters["dependency"] = f"afterany:{jobs[0].job_id.split('_')[0]}"
        executor.update_parameters(**parameters)
        # One batch is one array. Not map_array: what is submitted must itself have the method `checkpoint`.
        with executor.batch():
            jobs += [executor.submit(TaskJob(task, folders)) for task in tasks]
    return jobs


def slurm_executor(folder: Path, max_timeouts: int) -> Any:
    """Return submitit's executor for SLURM."""
    try:
        from submitit import SlurmExecutor
    except ImportError as error:
        raise Refusal(
            "the engine slurm needs the package submitit, which is not installed; pip install 'astraios[cluster]'"
        ) from error
    try:
        return SlurmExecutor(folder, max_num_timeout=max_timeouts)
    except RuntimeError as error:
        raise Refusal(
            "this machine has no SLURM (there is no command srun); run this on a cluster's login node, "
            "or choose --engine local"
        ) from error
