"""A grid on one machine: worker processes that train or score one run after the other; only they import torch.

Base models come before the runs that need them, and the largest runs first.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path

from astraios_analysis.records.frame import load
from training.grid.workers import Folders, Status, Task, Worker
from training.spec.files import mark_error, record_path
from training.spec.run import RunSpec
from training.suite.request import Scoring, missing_measures


@dataclass(frozen=True)
class Outcome:
    """What became of a run.

    Attributes
    ----------
    run_id : str
        The run.
    status : {"done", "skipped", "failed", "busy"}
        Whether it was trained or scored now, was finished before, failed, or is another process' work.
    message : str
        Losses of a run, or how many scores its record has; the last line of a failure.
    seconds : float
        Time it took here.
    """

    run_id: str
    status: Status
    message: str = ""
    seconds: float = 0.0


def launch(
    specs: Sequence[RunSpec],
    runs_dir: str | Path,
    cache_dir: str | Path,
    *,
    jobs: int,
    report: Callable[[str], None] = lambda line: None,
    scoring: Scoring | None = None,
    places: Sequence[str | None] | None = None,
    log_with: Sequence[str] = (),
    log_dir: Path | None = None,
) -> tuple[Outcome, ...]:
    """Train runs in worker processes, base models first; finished runs are skipped, failures do not stop the others.

    Parameters
    ----------
    specs : sequence of RunSpec
        The runs.
    runs_dir, cache_dir : str or Path
        Folders of records and of base models.
    jobs : int
        Worker processes.
    report : callable, optional
        Is given a line of progress at a time.
    scoring : Scoring, optional
        Measures that every run is scored by after its training; none without it.
    places : sequence of str or None, optional
        For each worker process the GPU it is pinned to (`training.grid.placement.place`); ``jobs`` is their number.
    log_with : sequence of str, optional
        Trackers that every run reports to, by accelerate's names.
    log_dir : Path, optional
        Where trackers that write files put them.

    Returns
    -------
    tuple of Outcome
        One for each run, in the order given.

    Raises
    ------
    ValueError
        If ``jobs`` is not positive.
    KeyboardInterrupt
        After Ctrl-C, when the workers have ended. What they were at goes on from its last checkpoint the next time.
    """
    missing = [spec for spec in specs if not record_path(runs_dir, spec.run_id).exists()]
    if len(missing) < len(specs):
        report(f"{len(specs) - len(missing)} of {len(specs)} runs were finished before")
    folders = Folders(Path(runs_dir), Path(cache_dir), scoring, tuple(log_with), log_dir)
    return _outcomes(specs, [Task("run", spec) for spec in missing], folders, jobs, report, places)


def launch_scoring(
    specs: Sequence[RunSpec],
    runs_dir: str | Path,
    cache_dir: str | Path,
    scoring: Scoring,
    *,
    jobs: int,
    report: Callable[[str], None] = lambda line: None,
) -> tuple[Outcome, ...]:
    """Add the measures that finished runs lack, in worker processes; nothing is trained.

    Parameters
    ----------
    specs : sequence of RunSpec
        The runs; those without a record are passed over.
    runs_dir, cache_dir : str or Path
        Folders of records and of tuned models.
    scoring : Scoring
        The measures that every record shall have.
    jobs : int
        Worker processes.
    report : callable, optional
        Is given a line of progress at a time.

    Returns
    -------
    tuple of Outcome
        One for each run that has a record, in the order given.

    Raises
    ------
    ValueError
        If ``jobs`` is not positive, or no run has a record.
    RecordError
        If a record cannot be read.
    KeyboardInterrupt
        After Ctrl-C, when the workers have ended. Measures that were taken are in the records.
    """
    finished = [spec for spec in specs if record_path(runs_dir, spec.run_id).exists()]
    if not finished:
        raise ValueError(f"none of the {len(specs)} runs has a record in {runs_dir}; train them with `grid run` first")
    if len(finished) < len(specs):
        report(f"{len(specs) - len(finished)} of {len(specs)} runs have no record yet and are passed over")
    records = {spec.run_id: load(record_path(runs_dir, spec.run_id)) for spec in finished}
    tasks = [Task("score", spec) for spec in finished if missing_measures(records[spec.run_id], scoring)]
    if len(tasks) < len(finished):
        report(f"{len(finished) - len(tasks)} of {len(finished)} records have all of the measures")
    return _outcomes(finished, tasks, Folders(Path(runs_dir), Path(cache_dir), scoring), jobs, report)


def _outcomes(
    specs: Sequence[RunSpec],
    tasks: list[Task],
    folders: Folders,
    jobs: int,
    report: Callable[[str], None],
    places: Sequence[str | None] | None = None,
) -> tuple[Outcome, ...]:
    if jobs < 1:
        raise ValueError(f"jobs is {jobs}; give the number of worker processes, from 1 on")
    outcomes = {spec.run_id: Outcome(spec.run_id, "skipped") for spec in specs}
    if tasks:
        for outcome in _Launch(tasks, folders, jobs, report, places).outcomes():
            outcomes[outcome.run_id] = outcome
    return tuple(outcomes.values())


class _Launch:
    def __init__(
        self,
        tasks: list[Task],
        folders: Folders,
        jobs: int,
        report: Callable[[str], None],
        places: Sequence[str | None] | None = None,
    ) -> None:
        # Largest first: the last task of all should be a short one.
        runs = sorted(tasks, key=_work, reverse=True)
        self._n_runs, self._n_ended = len(runs), 0
        self._waiting: dict[str, list[Task]] = {}
        self._ready: list[Task] = []
        for task in runs:
            if task.kind == "score" or task.spec.size.pretrained is not None:
                self._ready.append(task)
            else:
                self._waiting.setdefault(task.base, []).append(task)
        self._bases = [Task("base", tasks[0].spec) for tasks in self._waiting.values()]
        self._folders, self._report = folders, report
        self._places = (places or (None,) * jobs)[: len(runs)]

    def outcomes(self) -> Iterator[Outcome]:
        workers: list[Worker] = []
        try:
            workers += [Worker(self._folders, gpu) for gpu in self._places]
            while True:
                self._hand_out(workers)
                busy = {worker.connection: worker for worker in workers if worker.task is not None}
                if not busy:
                    return
                for connection in wait(list(busy)):
                    worker = busy[connection]
                    task, status, message, seconds = worker.take()
                    yield from self._ended(task, status, message, seconds)
                    if not worker.is_alive:
                        workers[workers.index(worker)] = Worker(self._folders, worker.gpu)
        finally:
            for worker in workers:
                worker.end()

    def _hand_out(self, workers: "list[Worker]") -> None:
        for worker in workers:
            queue = self._bases or self._ready
            if worker.task is None and queue:
                worker.give(queue.pop(0))

    def _ended(self, task: Task, status: Status, message: str, seconds: float) -> Iterator[Outcome]:
        if task.kind != "base":
            yield self._outcome(task, status, message, seconds)
            return
        self._report(f"{task.name}: {'ready' if status == 'done' else message} ({seconds:.1f} s)")
        dependents = self._waiting.pop(task.base)
        if status == "done":
            self._ready = sorted([*self._ready, *dependents], key=_work, reverse=True)
            return
        for dependent in dependents:
            mark_error(self._folders.runs, dependent.spec.run_id, f"{task.name}: {message}\n")
            yield self._outcome(dependent, "failed", f"{task.name}: {message}", 0.0)

    def _outcome(self, task: Task, status: Status, message: str, seconds: float) -> Outcome:
        self._n_ended += 1
        place = f"[{self._n_ended:{len(str(self._n_runs))}}/{self._n_runs}]"
        self._report(f"{place} {task.name}: {status}, {message} ({seconds:.1f} s)")
        return Outcome(task.spec.run_id, status, message, seconds)


def _work(task: Task) -> tuple[int, int]:
    size = task.spec.size
    return size.n_layers * size.d_model * (size.d_model + size.d_ff), task.spec.schedule.steps
