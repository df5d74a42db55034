"""Real kernels run here: notebooks that fail in every way that was thought of, an interrupt, a hostile environment."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest
from notebook_files import write_notebook
from waiting import wait_until

from astraios_analysis.render.execution import Job, run_jobs

ROOT = Path(__file__).parents[2]


@pytest.fixture
def job_of(tmp_path):
    """Return a function from a name and code cells to a job."""
    (tmp_path / "executed").mkdir()

    def make(name, *sources, **parameters):
        source = write_notebook(tmp_path / f"{name}.ipynb", *sources)
        return Job(source, tmp_path / "executed" / source.name, parameters or {"level": 0.9})

    return make


def printed(path):
    cells = nbformat.read(path, as_version=4).cells
    return "".join(x.text for c in cells for x in c.get("outputs", []) if x.output_type == "stream")


def test_kernel_is_this_python_in_a_fixed_environment(tmp_path, job_of, monkeypatch):
    # Kernels on Jupyter's path that cannot start.
    for name in ("python3", "astraios"):
        spec = {"argv": ["false", "{connection_file}"], "display_name": name, "language": "python"}
        (tmp_path / "jupyter" / "kernels" / name).mkdir(parents=True)
        (tmp_path / "jupyter" / "kernels" / name / "kernel.json").write_text(json.dumps(spec))
    settings = tmp_path / "matplotlibrc"
    settings.write_text("font.size: 31\n")
    startup = tmp_path / "startup.py"
    startup.write_text("import builtins\nbuiltins.spoiled = True\n")
    hostile = {"JUPYTER_PATH": tmp_path / "jupyter", "MATPLOTLIBRC": settings, "PYTHONSTARTUP": startup}
    hostile |= {"MPLBACKEND": "tkagg", "OMP_NUM_THREADS": "7", "PYTHONHASHSEED": "5"}
    for variable, value in hostile.items():
        monkeypatch.setenv(variable, str(value))
    names = ("PYTHONHASHSEED", "SOURCE_DATE_EPOCH", "OMP_NUM_THREADS")
    show = f"import builtins, json, os, sys, matplotlib\nvalues = [os.environ[name] for name in {names}]"
    looks = "matplotlib.rcParams['font.size'], hasattr(builtins, 'spoiled')"
    tell = f"print(json.dumps([sys.executable, level, *values, {looks}]))"
    job = job_of("shows", show, tell)
    assert run_jobs([job], n_parallel=1) == {"shows": None}
    assert json.loads(printed(job.target)) == [sys.executable, 0.9, "0", "0", "1", 10.0, False]


def test_failures_name_the_cell_and_its_error(job_of):
    raising = "class Sad(Exception): pass\ndef check(value):\n    raise Sad(f'cannot be {value}:\\n- too high')\n"
    jobs = [
        job_of("raises", raising + "#\n" * 9, "1\n\ncheck(level)", "print('never')"),
        job_of("dies", "import os, time", "time.sleep(1); os._exit(9)"),
        job_of("leaves", "import sys", "sys.exit(0)", "print('never')"),
        job_of("waits", "print('after a failure')"),
    ]
    ended = []
    outcomes = run_jobs(jobs, n_parallel=4, on_end=lambda job, failure: ended.append((job.name, failure)))
    executed = {job.name: job.target for job in jobs}
    assert dict(ended) == outcomes and len(ended) == len(jobs)
    assert outcomes.keys() == executed.keys()
    assert outcomes["waits"] is None and printed(executed["waits"]) == "after a failure\n"
    raised = outcomes["raises"]
    assert raised.startswith("notebook 'raises':\n") and 'Exception encountered at "In [4]"' in raised
    assert "in check(value)" in raised and "Sad: cannot be 0.9:\n- too high" in raised and "\x1b" not in raised
    assert raised.endswith(f"executed as far as it came: {executed['raises']}")
    assert "cannot be 0.9" in executed["raises"].read_text()
    assert outcomes["dies"].startswith("notebook 'dies': Kernel died (killed, out of memory, ended by a cell, or ")
    assert outcomes["leaves"].startswith("notebook 'leaves': a cell ended the program before the last one\n")


def test_interrupt_stops_at_once_and_leaves_no_kernel(tmp_path, job_of):
    pid_file = tmp_path / "pid"
    # Backtracking that takes years, without ever letting another thread of the kernel run.
    stubborn = "import re\nre.match('(a+)+$', 'a' * 50 + 'b')"
    tell = f"import os, pathlib\npathlib.Path({str(pid_file)!r}).write_text(str(os.getpid()))"
    job = job_of("sleeps", tell, stubborn)
    script = (
        "from pathlib import Path\nfrom astraios_analysis.render.execution import Job, run_jobs\n"
        f"run_jobs([Job(Path({str(job.source)!r}), Path({str(job.target)!r}), {{}})] * 2, n_parallel=1)"
    )
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, start_new_session=True, stderr=subprocess.PIPE
    )
    try:
        wait_until(lambda: pid_file.exists() and pid_file.read_text())
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=300)
        wait_until(lambda: not psutil.pid_exists(int(pid_file.read_text())))
    finally:
        process.kill()
        process.communicate()
        if pid_file.exists() and psutil.pid_exists(int(pid_file.read_text())):
            os.kill(int(pid_file.read_text()), signal.SIGKILL)
    assert errors.decode().splitlines()[-1] == "KeyboardInterrupt"
    assert process.returncode == -signal.SIGINT
    assert list(tmp_path.glob("astraios-*")) == []


def test_kernel_that_does_not_start_is_said_so(tmp_path, job_of, monkeypatch):
    (tmp_path / "ipykernel_launcher.py").write_text("raise SystemExit('a broken installation')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    failure = run_jobs([job_of("never", "1")], n_parallel=1)["never"]
    assert failure.startswith("notebook 'never': Kernel died before replying to kernel_info (killed, out of memory")
    assert "its last words:\n    a broken installation" in failure
