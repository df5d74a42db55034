"""Run notebooks: each in a kernel of its own, several at a time, with failures a reader can act on."""

import json
import os
import signal
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astraios_analysis.records.refusal import Refusal

_LOG_LINES = 10
_THREADS = ("OPENBLAS", "OMP", "MKL", "NUMEXPR", "VECLIB_MAXIMUM")


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
    kernels: list[Any] = []
    # A killed kernel may still be writing there while the folder is removed.
    with (
        tempfile.TemporaryDirectory(prefix="astraios-", ignore_cleanup_errors=True) as scratch,
        ThreadPoolExecutor(max(n_parallel, 1)) as threads,
    ):
        futures = {threads.submit(_run, job, Path(scratch) / job.name, kernels): job for job in jobs}
        try:
            for future in as_completed(futures):
                job, failure = futures[future], future.result()
                where = f"\nexecuted as far as it came: {job.target}" if job.target.exists() else ""
                outcomes[job.name] = failure and f"notebook {job.name!r}{failure}{where}"
                on_end(job, outcomes[job.name])
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            # Again and again: a thread may be about to start its kernel. `wait` waits for cancelled ones for ever.
            while wait([future for future in futures if not future.cancelled()], timeout=0.1).not_done:
                for kernel in [kernel for kernel in kernels if kernel.has_kernel]:
                    kernel.signal_kernel(signal.SIGKILL)
            raise
    return outcomes


def _run(job: Job, scratch: Path, kernels: list[Any]) -> str | None:
    # They take seconds to import, and often nothing is to run.
    import papermill
    from nbclient.client import KernelManager
    from papermill.exceptions import PapermillExecutionError

    scratch.mkdir()
    kernel, log = KernelManager(client_class="jupyter_client.asynchronous.AsyncKernelClient"), scratch / "log"
    # No other environment's kernel of this name is taken, but this very Python.
    kernel.kernel_spec_manager.kernel_dirs = []
    kernel.connection_file = str(scratch / "connection.json")
    kernels.append(kernel)
    # papermill formats paths: braces in a folder's name are meant as they are. A busy machine takes its time to start.
    source, target = (str(path).replace("{", "{{").replace("}", "}}") for path in (job.source, job.target))
    how = {"kernel_name": kernel.kernel_name, "language": "python", "progress_bar": False, "start_timeout": 300}
    # What is printed outside cells would break the progress bar; it is kept for the error message.
    with log.open("wb") as file:
        kernel.start_kernel(env=_environment(scratch), stdout=file, stderr=file)
    # Whose kernel it is closes its channels, too.
    client = kernel.client()
    kernel.client = lambda: client
    try:
        done = papermill.execute_notebook(source, target, dict(job.parameters), km=kernel, **how)
    except PapermillExecutionError as error:
        return f":{error}".rstrip()
    except RuntimeError as error:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
        hint = "killed, out of memory, ended by a cell, or never started"
        return "\n    ".join([f": {error} ({hint}); its last words:", *lines])
    finally:
        client.stop_channels()
        if kernel.has_kernel:
            kernel.shutdown_kernel(now=True)
    # papermill calls it a success when a cell ends the program with status 0.
    is_whole = all(cell.metadata.papermill.status == "completed" for cell in done.cells if cell.cell_type == "code")
    return None if is_whole else ": a cell ended the program before the last one"


def _environment(scratch: Path) -> dict[str, str]:
    """Return what figures may rely on: a user's IPython start-up files and matplotlibrc do not change what is drawn."""
    settings = scratch / "matplotlibrc"
    settings.touch()
    return os.environ | {
        "PYTHONHASHSEED": "0",
        "PYTHONSTARTUP": "",
        "SOURCE_DATE_EPOCH": "0",
        "IPYTHONDIR": str(scratch / "ipython"),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "MATPLOTLIBRC": str(settings),
        # Kernels run in parallel: more threads in each would only get in each other's way.
        **{f"{name}_NUM_THREADS": "1" for name in _THREADS},
    }
