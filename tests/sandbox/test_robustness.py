"""Workers that are killed, batches that are broken off, containment that is missing."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from itertools import product
from pathlib import Path

import pytest

from training.sandbox import containment
from training.sandbox.pool import Sandbox, WorkerLost
from training.sandbox.programs import JavaUnavailable, Limits, Program, SandboxUnavailable

ROOT = Path(__file__).parents[2]
SLOW = "import time\ntime.sleep(0.2)\n"
JAVA = (
    "public class Main {{ public static void main(String[] a) throws Exception {{ Thread.sleep(100); int x = {}; }} }}"
)


def list_descendants(ancestor):
    """Processes below one."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = {ancestor}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {ancestor}


def wait_until(condition, seconds=20):
    """Whether a condition came true in time."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def list_scratch():
    return {path.name for path in Path("/tmp").glob("astraios-sandbox-*")}


@pytest.fixture
def make_sandbox(backend, request):
    """Factory of sandboxes of one test's own, in one containment."""
    find = request.getfixturevalue("find_interpreter")
    return lambda workers=2: Sandbox(workers, backend=backend, python=find(backend))


@pytest.mark.sandbox
@pytest.mark.parametrize("language", ["python", "java"])
def test_programs_of_a_killed_worker_are_run_again(make_sandbox, language, request):
    if language == "java":
        request.getfixturevalue("java")
    texts = [JAVA.format(i) if language == "java" else f"{SLOW}# {i}" for i in range(12)]
    with make_sandbox() as sandbox:
        sandbox.require(language)
        before = list_descendants(os.getpid())
        verdicts = {}
        for index, verdict in sandbox.run_each([Program(language, text) for text in texts]):
            verdicts[index] = verdict
            if len(verdicts) in (2, 5):
                # All stand still before any is killed: a worker that outlives its program reports the program's death.
                pids = sorted(list_descendants(os.getpid()) - before)
                for sign, pid in product((signal.SIGSTOP, signal.SIGKILL), pids):
                    try:
                        os.kill(pid, sign)
                    except ProcessLookupError:
                        continue
    assert sorted(verdicts) == list(range(12))
    assert {verdict.status for verdict in verdicts.values()} == {"passed"}


@pytest.mark.sandbox
def test_nothing_is_left_after_closing(make_sandbox):
    before, scratch = list_descendants(os.getpid()), list_scratch()
    stubborn = "import signal\nsignal.signal(15, signal.SIG_IGN)\nopen('x', 'w').write('x')\nwhile True: pass"
    with make_sandbox() as sandbox:
        verdicts = sandbox.run_each([Program("python", stubborn, limits=Limits(wall_seconds=20, cpu_seconds=15))] * 4)
        ender = threading.Timer(0.5, sandbox.close)
        ender.start()
        # Closed while they run: they are given up, and nobody waits for ever.
        assert {verdict.status for _, verdict in verdicts} <= {"error"}
        ender.join()
    assert list_descendants(os.getpid()) <= before
    assert list_scratch() <= scratch


@pytest.mark.sandbox
def test_a_batch_that_is_broken_off_is_not_finished(make_sandbox):
    with make_sandbox(1) as sandbox:
        for index, _ in sandbox.run_each([Program("python", f"{SLOW}# {i}") for i in range(100)]):
            if index == 1:
                break
        begin = time.monotonic()
        assert sandbox.run_many([Program("python", "x = 1")])[0].passed
        assert time.monotonic() - begin < 5


@pytest.mark.sandbox
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_run_leaves_no_process(backend, find_interpreter, ending):
    script = (
        "from training.sandbox.pool import Sandbox\nfrom training.sandbox.programs import Program, Limits\n"
        f"with Sandbox(2, backend={backend!r}, python={find_interpreter(backend)!r}) as sandbox:\n"
        "    print('ready', flush=True)\n"
        "    sandbox.run_many([Program('python', f'while True: "
        "pass # {i}', limits=Limits(60, 60)) for i in range(4)])\n"
    )
    scratch = list_scratch()
    run = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    run.stdout.readline()
    # In bubblewrap each of two workers is two processes, and a program one more.
    assert wait_until(lambda: len(list_descendants(run.pid)) >= 4)
    below = list_descendants(run.pid)
    run.send_signal(ending)
    run.wait(20)
    run.stdout.close()
    assert wait_until(lambda: not any(is_running(pid) for pid in below))
    left = list_scratch() - scratch
    assert not left or ending != signal.SIGINT
    for name in left:
        shutil.rmtree(Path("/tmp", name))


def is_running(pid):
    """Whether a process is there and is not just waiting to be collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_no_containment_is_refused(monkeypatch):
    monkeypatch.setattr(containment.shutil, "which", lambda name: None)
    monkeypatch.setattr(Sandbox, "_check_user", staticmethod(lambda *_: fail_to_contain()))
    with pytest.raises(
        SandboxUnavailable, match=r"no containment works here \(bubblewrap: .*install bubblewrap.*--unsafe"
    ):
        Sandbox(1)


def fail_to_contain():
    raise WorkerLost("not here")


@pytest.mark.sandbox
def test_a_broken_bwrap_is_refused(tmp_path, monkeypatch):
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: no name spaces for you' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(SandboxUnavailable, match="bubblewrap: it said: bwrap: no name spaces for you"):
        Sandbox(1, backend="bubblewrap")


def test_unsafe_runs_and_says_so():
    with Sandbox(1, unsafe=True) as sandbox:
        assert sandbox.backend_name == "unsafe"
        good, bad = sandbox.run_many([Program("python", "x = 1", "assert x == 1"), Program("python", "assert False")])
    assert (good.status, bad.status) == ("passed", "failed")


def test_unknown_backend_is_refused():
    with pytest.raises(ValueError, match=r"unknown backend 'docker'; choose from bubblewrap, landlock\+seccomp"):
        Sandbox(1, backend="docker")


def test_a_closed_sandbox_says_so():
    with Sandbox(1, unsafe=True) as sandbox:
        pass
    with pytest.raises(RuntimeError, match="the sandbox is closed"):
        sandbox.run_many([Program("python", "")])


def test_missing_javac_is_one_sentence():
    with Sandbox(1, unsafe=True, javac="javac-that-is-not-there") as sandbox:
        with pytest.raises(
            JavaUnavailable, match=r"no javac-that-is-not-there was found; install a JDK, version 17 or newer\.$"
        ):
            sandbox.run_many([Program("python", ""), Program("java", "")])
        assert sandbox.run_many([Program("python", "")])[0].passed


def test_an_old_jdk_is_refused(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "javac").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "javac").chmod(0o755)
    (tmp_path / "release").write_text('JAVA_VERSION="11.0.2"\n')
    with pytest.raises(JavaUnavailable, match="is version 11; install a JDK, version 17 or newer"):
        containment.describe_java(str(tmp_path / "bin" / "javac"))


def test_an_interpreter_that_does_not_work_is_refused():
    with pytest.raises(SandboxUnavailable, match="/nowhere/python is no Python interpreter that works"):
        Sandbox(1, python="/nowhere/python")
