"""The process that runs one notebook, and its kernel: this very Python in an environment that figures may rely on.

Which kernels are installed, a user's IPython start-up files and a user's matplotlibrc do not change what is drawn.
"""

import json
import logging
import os
import signal
import sys
from pathlib import Path

# What checks web addresses in JSON schemas builds a grammar for a second; notebooks hold none to check.
sys.modules.setdefault("rfc3987_syntax", None)

import nbformat  # noqa: E402
import papermill  # noqa: E402
from papermill.exceptions import PapermillExecutionError  # noqa: E402

from astraios_analysis.render.execution import NO_KERNEL  # noqa: E402

KERNEL = "astraios"


def prepare_kernel(folder: Path) -> None:
    """Describe the kernel `KERNEL` in a folder, and make it known to this process.

    The folder comes first on Jupyter's path, and the name is our own: so neither another environment's ``python3`` nor
    one of the same name is taken.
    """
    place = folder / "kernels" / KERNEL
    place.mkdir(parents=True, exist_ok=True)
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


def main(source: str, draft: str, parameters: str) -> int:
    """Run a notebook into a draft, in the process that `execution` starts, and return its exit status."""
    # An exit in place of sudden death, so that the notebook client takes its kernel along.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    logging.disable(logging.CRITICAL)
    prepare_kernel(Path(draft).parent)
    try:
        papermill.execute_notebook(
            nbformat.read(source, as_version=4),
            # papermill formats paths: braces in a folder's name are meant as they are.
            draft.replace("{", "{{").replace("}", "}}"),
            parameters=json.loads(parameters),
            kernel_name=KERNEL,
            language="python",
            progress_bar=False,
            shutdown_kernel="immediate",
            # Of the kernel alone; many start at once, and a busy machine takes its time.
            start_timeout=300,
        )
    except PapermillExecutionError:
        return 0  # What went wrong stands in the draft.
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return NO_KERNEL
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
