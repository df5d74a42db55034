"""A grid in a queue, through submitit: on SLURM, or on this machine. Importable without torch and without submitit.

On SLURM one array trains the base models, one job each; a second one, which starts when the first has ended, trains the
runs. A job may have several processes on several nodes, which train its run together. On this machine such jobs follow
each other; many small runs at a time are what `training.grid.workers` is for. A job that is about to be ended for time,
or to make room for another's, is put back into the queue and goes on from its run's last checkpoint. Locks keep two
jobs, and two launchers, from one run; the file system that the nodes share must honour flock between them (NFS from
version 4 on, Lustre mounted with ``flock``, GPFS).
"""

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from astraios_analysis.records.refusal import Refusal
from training.grid.workers import Folders, Outcome, Status, Task, perform
from training.spec.files import damage, last_line, record_path
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
    # On every node; processes are one for each GPU, or as many as are said.
    gpus: int = 1
    nodes: int = 1
    processes: int = 0
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    at_once: int = 64
    max_timeouts: int = 20
    setup: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        for name in ("minutes", "memory_gib", "cpus", "at_once", "nodes"):
            if getattr(self, name) <= 0:
                raise Refusal(f"{name} is {getattr(self, name)}; give a positive number")
        if self.minutes <= _MINUTES_TO_SAVE:
            raise Refusal(
                f"minutes is {self.minutes}; a job needs {_MINUTES_TO_SAVE} of them to be put back into the queue: "
                "give more"
            )
        for name in ("gpus", "max_timeouts", "processes"):
            if getattr(self, name) < 0:
                raise Refusal(f"{name} is {getattr(self, name)}; give 0 or more")

    @property
    def processes_per_node(self) -> int:
        """Return how many processes of a job there are on every node."""
        return self.processes or max(1, self.gpus)

    def local_parameters(self) -> dict[str, Any]:
        """Return submitit's parameters for a job on this machine."""
        if self.nodes > 1:
            raise Refusal(f"nodes is {self.nodes}, and this machine is one; choose --engine slurm")
        gpus = {"gpus_per_node": self.gpus} if self.gpus else {}
        return {"tasks_per_node": self.processes_per_node, "timeout_min": self.minutes, **gpus}

    def parameters(self, name: str) -> dict[str, Any]:
        """Return submitit's parameters for an array with a name."""
        asked = {"partition": self.partition, "account": self.account, "qos": self.qos}
        return {
            "job_name": name,
            "time": self.minutes,
            "mem": f"{int(self.memory_gib * 1024)}MB",
            "cpus_per_task": self.cpus,
            "ntasks_per_node": self.processes_per_node,
            "nodes": self.nodes,
            "array_parallelism": self.at_once,
            "signal_delay_s": 60 * _MINUTES_TO_SAVE,
            **({"gpus_per_node": self.gpus} if self.gpus else {}),
            **{name: value for name, value in asked.items() if value is not None},
            **({"setup": list(self.setup)} if self.setup else {}),
            # The cluster's own failures (a node that is lost) put a job back, too.
            "additional_parameters": {"requeue": True},
        }


class TaskJob:
    """What a job does: one task, in its own processes. submitit keeps it in a file and calls it in each of them."""

    def __init__(self, task: Task, folders: Folders) -> None:
        self._kind, self._spec, self._folders = task.kind, task.spec.model_dump_json(), folders

    def __call__(self) -> tuple[Status, str]:
        """Do it, and return what became of it with a message."""
        # Read by the libraries at their import, which comes after this. A GPU's job has its processors for itself.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        self._announce()
        spec = RunSpec.model_validate_json(self._spec)
        if self._kind == "run" and record_path(self._folders.runs, spec.run_id).exists():
            return "skipped", "its record exists"
        status, message = perform(self._kind, spec, self._folders)
        torch = sys.modules.get("torch")
        if torch is not None and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        if status == "failed":
            raise RuntimeError(f"{spec.run_id}: {message}")
        return status, message

    def _announce(self) -> None:
        """Tell the libraries which of the job's processes this is, as torchrun would."""
        if "SUBMITIT_EXECUTOR" not in os.environ:
            return
        from submitit import JobEnvironment
        from submitit.helpers import TorchDistributedEnvironment

        if JobEnvironment().num_tasks > 1:
            TorchDistributedEnvironment().export(set_cuda_visible_devices=False)

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


def submit(specs: Sequence[RunSpec], folders: Folders, settings: JobSettings) -> list[Any]:
    """Put the runs of a grid that have no record into a cluster's queue, their bases before them."""
    log_dir = folders.log_dir and folders.log_dir.resolve()
    folders = replace(folders, runs=folders.runs.resolve(), cache=folders.cache.resolve(), log_dir=log_dir)
    bases, runs = tasks_of(specs, folders.runs)
    executor = slurm_executor(folders.runs / JOB_FOLDER, settings.max_timeouts)
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


def run_queue(
    specs: Sequence[RunSpec], folders: Folders, settings: JobSettings, report: Callable[[str], None]
) -> tuple[Outcome, ...]:
    """Train runs on this machine one after the other, each by all processes of a job; bases first."""
    executor = _submitit().LocalExecutor(folders.runs / JOB_FOLDER)
    executor.update_parameters(**settings.local_parameters())
    found = {spec.run_id: Outcome(spec.run_id, "skipped") for spec in specs}
    bases, runs = tasks_of(specs, folders.runs)
    for number, task in enumerate((*bases, *runs), 1):
        started = time.perf_counter()
        job = executor.submit(TaskJob(task, folders))
        try:
            status, message = job.results()[0]
        except KeyboardInterrupt:
            job.cancel()
            raise
        except Exception as error:  # of the job itself, which submitit tells in an error of its own
            status, message = "failed", last_line(str(error))
        seconds = time.perf_counter() - started
        report(f"[{number}/{len(bases) + len(runs)}] {task.name}: {status}, {message} ({seconds:.1f} s)")
        if task.kind == "run":
            found[task.spec.run_id] = Outcome(task.spec.run_id, status, message, seconds)
    return tuple(found.values())


def _submitit() -> Any:
    try:
        import submitit
    except ImportError as error:
        raise Refusal(
            "a queue needs the package submitit, which is not installed; pip install 'astraios[cluster]'"
        ) from error
    return submitit


def slurm_executor(folder: Path, max_timeouts: int) -> Any:
    """Return submitit's executor for SLURM."""
    try:
        return _submitit().SlurmExecutor(folder, max_num_timeout=max_timeouts)
    except RuntimeError as error:
        raise Refusal(
            "this machine has no SLURM (there is no command srun); run this on a cluster's login node, "
            "or choose --engine local"
        ) from error
