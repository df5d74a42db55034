"""Run notebooks: each in a process and a kernel of its own, several at a time, with failures a reader can act on.

The kernel is always the Python that runs this module, with the environment a figure may depend on fixed: which kernels
are installed, a user's IPython start-up files and a user's matplotlibrc do not change what is drawn.
"""

import json
import logging
import multiprocessing
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import nbformat
import papermill
from papermill.exceptions import PapermillExecutionError

KERNEL = "astraios"
# Cells that papermill puts in: they are not counted, so that a cell's number is its number in the source notebook.
_ADDED_TAGS = {"injected-parameters", "papermill-error-cell-tag"}
_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_SOURCE_LINES, _ERROR_LINES, _TRACEBACK_LINES, _LOG_LINES = 6, 20, 12, 10
_START_ATTEMPTS = 2
_STOP_SECONDS = 5.0
_NO_WORD = "the process that ran it ended without a word"


@dataclass(frozen=True)
class Job:
    """One notebook to run.

    Attributes
    ----------
    source : Path
        The notebook.
    target : Path
        Where the executed copy goes, whether it succeeds or fails.
    parameters : Mapping of str to object
        Values for its parameters cell.
    """

    source: Path
    target: Path
    parameters: Mapping[str, object]

    @property
    def name(self) -> str:
        """Stem of the notebook's file."""
        return self.source.stem


def run_jobs(
    jobs: Sequence[Job],
    *,
    n_parallel: int,
    on_cell: Callable[[Job], None] = lambda job: None,
    on_end: Callable[[Job, str | None], None] = lambda job, failure: None,
) -> dict[str, str | None]:
    """Run notebooks in separate processes.

    A failure stops none of the others. An interrupt stops all of them.

    Parameters
    ----------
    jobs : sequence of Job
        Started in this order.
    n_parallel : int
        Notebooks that run at the same time, at least 1.
    on_cell : callable
        Called with the job each time one of its cells starts.
    on_end : callable
        Called with the job and what went wrong (or None) as soon as it has ended: what has ended before an interrupt
        is known to have.

    Returns
    -------
    dict of str to (str or None)
        For each notebook what went wrong, or None.
    """
    context = multiprocessing.get_context("spawn")
    waiting, outcomes = list(jobs), {}
    running: dict[Connection, tuple[BaseProcess, Job]] = {}
    # A killed process may still be writing there while the folder is removed.
    with tempfile.TemporaryDirectory(prefix="astraios-", ignore_cleanup_errors=True) as scratch:
        try:
            while running or waiting:
                while waiting and len(running) < n_parallel:
                    job = waiting.pop(0)
                    connection, process = _start(context, job, Path(scratch) / job.name)
                    running[connection] = process, job
                for connection in wait(list(running)):
                    process, job = running[connection]
                    ended, failure = _receive(connection, process)
                    if not ended:
                        on_cell(job)
                        continue
                    del running[connection]
                    outcomes[job.name] = failure and _name_executed(f"notebook {job.name!r}{failure}", job)
                    on_end(job, outcomes[job.name])
        finally:
            _stop([process for process, _ in running.values()])
    return outcomes


def _start(context: multiprocessing.context.SpawnContext, job: Job, scratch: Path) -> tuple[Connection, BaseProcess]:
    """Start a worker that never sees the terminal's interrupt: this process alone decides when to stop it."""
    scratch.mkdir()
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(job, scratch, sender), name=job.name)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    # With this end open here, the end of the worker would not show as the end of the pipe.
    sender.close()
    return receiver, process


def _receive(connection: Connection, process: BaseProcess) -> tuple[bool, str | None]:
    """Return whether a notebook has ended, and what went wrong."""
    try:
        message = connection.recv()
    except EOFError:
        process.join()
        code = process.exitcode or 0
        how = f"signal {-code}; the machine may be out of memory" if code < 0 else f"exit status {code}"
        return True, f": {_NO_WORD} ({how}); run it again with fewer jobs"
    if message == "cell":
        return False, None
    connection.close()
    process.join()
    return True, message[1]


def _stop(processes: Sequence[BaseProcess]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(_STOP_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()


def _name_executed(failure: str, job: Job) -> str:
    return f"{failure}\nexecuted as far as it came: {job.target}" if job.target.exists() else failure


def _work(job: Job, scratch: Path, connection: Connection) -> None:
    """Run one notebook and send what happens: "cell" as each starts, then ("end", failure)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    # An exception, so that the notebook client takes its kernel along.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    log = scratch / "log"
    with log.open("wb") as file:
        # What the kernel prints outside its cells would break the progress bar; it is kept for the error message.
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    logging.disable(logging.CRITICAL)
    prepare_kernel(scratch)
    draft = scratch / f"{job.name}.ipynb"
    try:
        failure = _execute(job, draft, log, lambda: connection.send("cell"))
    except Exception as error:
        failure = f": {type(error).__name__}: {error}"
    if draft.exists():
        _put(draft, job.target)
    connection.send(("end", failure))


def _put(draft: Path, target: Path) -> None:
    part = target.with_name(f".{target.name}.part")
    shutil.copyfile(draft, part)
    part.replace(target)


def prepare_kernel(folder: Path) -> None:
    """Make the kernel `KERNEL` known to this process: this very Python, in a fixed environment.

    The kernel's description goes to a folder that comes first on Jupyter's path, under a name of its own. So neither
    another environment's ``python3`` nor one of the same name is taken.

    Parameters
    ----------
    folder : Path
        Where the description, connection files and an empty IPython profile go.
    """
    place = folder / "kernels" / KERNEL
    place.mkdir(parents=True)
    settings = folder / "matplotlibrc"
    settings.touch()
    threads = ("OPENBLAS", "OMP", "MKL", "NUMEXPR", "VECLIB_MAXIMUM")
    environment = {
        "PYTHONHASHSEED": "0",
        "PYTHONSTARTUP": "",
        "SOURCE_DATE_EPOCH": "0",
        "IPYTHONDIR": str(folder / "ipython"),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "MATPLOTLIBRC": str(settings),
        # Kernels run in parallel: more threads in each would only get in each other's way.
        **{f"{name}_NUM_THREADS": "1" for name in threads},
    }
    spec = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=ERROR"],
        "display_name": "Python that runs astraios",
        "language": "python",
        "env": environment,
    }
    (place / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
    others = os.environ.get("JUPYTER_PATH")
    os.environ["JUPYTER_PATH"] = f"{folder}{os.pathsep}{others}" if others else str(folder)
    os.environ["JUPYTER_RUNTIME_DIR"] = str(folder / "runtime")


def _execute(job: Job, draft: Path, log: Path, on_cell: Callable[[], None]) -> str | None:
    """Run a notebook into ``draft`` and return what went wrong, or None."""
    started: list[int] = []

    def note(cell: nbformat.NotebookNode, cell_index: int) -> None:
        started.append(cell_index)
        on_cell()

    for attempt in range(_START_ATTEMPTS):
        try:
            papermill.execute_notebook(
                nbformat.read(job.source, as_version=4),
                # papermill formats paths: braces in a folder's name are meant as they are.
                str(draft).replace("{", "{{").replace("}", "}}"),
                parameters=dict(job.parameters),
                kernel_name=KERNEL,
                language="python",
                progress_bar=False,
                shutdown_kernel="immediate",
                on_cell_start=note,
            )
        except PapermillExecutionError:
            break
        except RuntimeError as error:
            if started:
                return _describe_dead_kernel(nbformat.read(draft, as_version=4), started[-1], log)
            # Kernels that start at the same moment can choose the same port; nothing has run yet, so try again.
            if attempt == _START_ATTEMPTS - 1:
                return f": its kernel did not start ({error}){_tail(log)}"
        else:
            break
    return _find_error(nbformat.read(draft, as_version=4))


def _find_error(executed: nbformat.NotebookNode) -> str | None:
    """Return the first error in a notebook's outputs, in words.

    Looked for in the outputs, because a cell that ends the program with status 0 stops a notebook half-way and
    papermill calls that a success.
    """
    for index, cell in enumerate(executed.cells):
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                return _describe_cell(executed.cells, index) + _describe_error(output)
    return None


def _describe_error(output: nbformat.NotebookNode) -> str:
    error = _ANSI.sub("", f"{output.ename}: {output.evalue}").rstrip().splitlines()
    trace = [line for line in _ANSI.sub("", "\n".join(output.traceback)).splitlines() if line.strip(" -")]
    if trace[-len(error) :] == error:
        trace = trace[: -len(error)]
    lines = _clip(error, _ERROR_LINES)
    if trace:
        lines += ["last lines of its traceback:", *(f"    {line}" for line in trace[-_TRACEBACK_LINES:])]
    return "\n".join(lines)


def _describe_dead_kernel(executed: nbformat.NotebookNode, index: int, log: Path) -> str:
    text = "the kernel died while the cell ran (killed, out of memory, or ended by the cell itself)"
    return _describe_cell(executed.cells, index) + text + _tail(log)


def _describe_cell(cells: Sequence[nbformat.NotebookNode], index: int) -> str:
    """Return a cell's number among the source notebook's cells, counted from 1, and its first lines."""
    added = [bool(_ADDED_TAGS & set(cell.metadata.get("tags", []))) for cell in cells]
    number = index - sum(added[:index]) + (not added[index])
    lines = _clip(cells[index].source.strip().splitlines(), _SOURCE_LINES)
    return "\n".join([f", cell {number} failed:", *(f"    {line}" for line in lines), ""])


def _clip(lines: list[str], limit: int) -> list[str]:
    return lines if len(lines) <= limit else [*lines[:limit], "..."]


def _tail(log: Path) -> str:
    """Return the last lines that a kernel printed outside its cells, if any."""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return (
        "\nits last words:" + "".join(f"\n    {_ANSI.sub('', line)}" for line in lines[-_LOG_LINES:]) if lines else ""
    )
