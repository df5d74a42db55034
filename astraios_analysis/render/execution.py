"""Run notebooks: each in a process and a kernel of its own, several at a time, with failures a reader can act on."""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from dataclasses import dataclass
from pathlib import Path

from astraios_analysis.records.refusal import Refusal

WORKER = "astraios_analysis.render.kernel"
# Cells that papermill puts in: they are not counted, so that a cell's number is its number in the source notebook.
_ADDED_TAGS = {"injected-parameters", "papermill-error-cell-tag"}
_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_SOURCE_LINES, _ERROR_LINES, _TRACEBACK_LINES, _LOG_LINES = 6, 20, 12, 10
_START_ATTEMPTS = 2
_STOP_SECONDS = 5.0
# Exit status of a process whose kernel did not start or died.
NO_KERNEL = 3


@dataclass(frozen=True)
class Job:
    """A notebook to run with values for its parameters cell, and where the executed copy goes, finished or not."""

    source: Path
    target: Path
    parameters: Mapping[str, object]

    @property
    def name(self) -> str:
        """Stem of the notebook's file."""
        return self.source.stem


def read_cells(path: Path) -> list[dict]:
    """Return the cells of a notebook, the source of each in one text.

    Read as JSON: nbformat, which also checks every cell, takes seconds to import.
    """
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        return [cell | {"source": "".join(cell["source"])} for cell in cells]
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise Refusal(f"{path} cannot be read as a notebook: {reason}") from error


def run_jobs(
    jobs: Sequence[Job], *, n_parallel: int, on_end: Callable[[Job, str | None], None] = lambda job, failure: None
) -> dict[str, str | None]:
    """Run notebooks, at most so many at a time, and return for each what went wrong, or None.

    A failure stops none of the others. An interrupt stops all of them; `on_end` is called with a job and its failure as
    soon as it has ended, so that what has ended before an interrupt is known to have.
    """
    outcomes: dict[str, str | None] = {}
    # Not a process pool: if one of its processes is killed, it gives up all others and does not say by what.
    processes: set[subprocess.Popen] = set()
    # A killed process may still be writing there while the folder is removed.
    with (
        tempfile.TemporaryDirectory(prefix="astraios-", ignore_cleanup_errors=True) as scratch,
        ThreadPoolExecutor(max(n_parallel, 1)) as threads,
    ):
        futures = {threads.submit(_run, job, Path(scratch) / job.name, processes): job for job in jobs}
        try:
            for future in as_completed(futures):
                job, failure = futures[future], future.result()
                outcomes[job.name] = failure and _name_executed(f"notebook {job.name!r}{failure}", job)
                on_end(job, outcomes[job.name])
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            _stop(processes, futures)
            raise
    return outcomes


def _stop(processes: set[subprocess.Popen], futures: Mapping[Future, Job]) -> None:
    """End all processes, and those that a thread was about to start."""
    patience = time.monotonic() + _STOP_SECONDS
    asked: set[subprocess.Popen] = set()
    while wait(futures, timeout=0.1).not_done:
        for process in list(processes):
            if time.monotonic() > patience:
                process.kill()
            elif process not in asked:
                asked.add(process)
                process.terminate()


def _name_executed(failure: str, job: Job) -> str:
    return f"{failure}\nexecuted as far as it came: {job.target}" if job.target.exists() else failure


def _run(job: Job, scratch: Path, processes: set[subprocess.Popen]) -> str | None:
    scratch.mkdir()
    draft, log = scratch / f"{job.name}.ipynb", scratch / "log"
    command = [sys.executable, "-m", WORKER, str(job.source), str(draft), json.dumps(dict(job.parameters))]
    # Kernels that start at the same moment can choose the same port; as long as nothing has run, try again.
    for _ in range(_START_ATTEMPTS):
        # What is printed outside cells would break the progress bar; it is kept for the error message. In a session of
        # its own the process never sees the terminal's interrupt: this one alone decides when to stop it.
        with log.open("wb") as file:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
            )
        processes.add(process)
        status = process.wait()
        processes.discard(process)
        try:
            cells = read_cells(draft)
        except Refusal:
            cells = []  # Not there, or cut off when the process was killed.
        started = [i for i, cell in enumerate(cells) if cell["metadata"].get("papermill", {}).get("start_time")]
        if status != NO_KERNEL or started:
            break
    if cells:
        part = job.target.with_name(f".{job.target.name}.part")
        shutil.copyfile(draft, part)
        part.replace(job.target)
    if status == 0:
        return _find_error(cells)
    if status == NO_KERNEL and started:
        death = "the kernel died while the cell ran (killed, out of memory, or ended by the cell itself)"
        return f"{_describe_cell(cells, started[-1])}{death}{_tail(log)}"
    if status == NO_KERNEL:
        return f": its kernel did not start{_tail(log)}"
    how = f"signal {-status}; the machine may be out of memory" if status < 0 else f"exit status {status}"
    return f": the process that ran it ended without a word ({how}); run it again with fewer jobs{_tail(log)}"


def _find_error(cells: Sequence[dict]) -> str | None:
    """Return the first error in the outputs of cells, in words.

    Looked for in the outputs, because a cell that ends the program with status 0 stops a notebook half-way and
    papermill calls that a success.
    """
    for index, cell in enumerate(cells):
        for output in cell.get("outputs", []):
            if output["output_type"] == "error":
                return _describe_cell(cells, index) + _describe_error(output)
    return None


def _describe_error(output: dict) -> str:
    error = _ANSI.sub("", f"{output['ename']}: {output['evalue']}").rstrip().splitlines()
    trace = [line for line in _ANSI.sub("", "\n".join(output["traceback"])).splitlines() if line.strip(" -")]
    if trace[-len(error) :] == error:
        trace = trace[: -len(error)]
    lines = _clip(error, _ERROR_LINES)
    if trace:
        lines += ["last lines of its traceback:", *(f"    {line}" for line in trace[-_TRACEBACK_LINES:])]
    return "\n".join(lines)


def _describe_cell(cells: Sequence[dict], index: int) -> str:
    """Return a cell's number among the source notebook's cells, counted from 1, and its first lines."""
    added = [bool(_ADDED_TAGS & set(cell["metadata"].get("tags", []))) for cell in cells]
    number = index - sum(added[:index]) + (not added[index])
    lines = _clip(cells[index]["source"].strip().splitlines(), _SOURCE_LINES)
    return "\n".join([f", cell {number} failed:", *(f"    {line}" for line in lines), ""])


def _clip(lines: list[str], limit: int) -> list[str]:
    return lines if len(lines) <= limit else [*lines[:limit], "..."]


def _tail(log: Path) -> str:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return (
        "\nits last words:" + "".join(f"\n    {_ANSI.sub('', line)}" for line in lines[-_LOG_LINES:]) if lines else ""
    )
