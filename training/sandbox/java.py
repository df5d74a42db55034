"""Runs Java programs: one warm machine that compiles and runs them in memory, replaced whenever one may have marked it.

Inside the machine, `java/astraios/sandbox/Runner.java` gives each program a class loader of its own and answers with
the secret when its `main` and all threads that it started have ended. A machine is given up after a program that
reached a limit, that ended it, or whose classes name anything but what is known to leave nothing behind.
"""

import os
import signal
import struct
import time
from typing import Any, NoReturn

from training.sandbox.confinement import Walls, confine_program, make_filter
from training.sandbox.programs import ChannelClosed, write_all
from training.sandbox.python import (
    NOT_CONTAINED,
    SECRET_BYTES,
    Outcome,
    Watch,
    empty_folder,
    isolate_descriptors,
    measure_folder,
)

_PASSED, _FAILED, _OUT_OF_MEMORY, _READY = b"P", b"F", b"M", b"R"
_REUSABLE = b"+"
_KILLED = "the Java machine was killed"
_ATTEMPTS = 3
_START_SECONDS = 120.0

# The machine's own: class data, code, its threads' stacks. Measured need: below 0.7 GiB of address space.
_MACHINE_BYTES = 3 * 2**29
_MACHINE_THREADS = 48
_MACHINE_FILES = 256


class JavaRunner:
    """Keeps a Java machine and hands it programs, one at a time."""

    def __init__(self, walls: Walls, jvm: list[str]) -> None:
        self._walls = walls
        self._jvm = jvm
        self._filter = make_filter(walls, may_exec=True)
        self._machine: Machine | None = None
        self._empty_bytes = 0

    def run(self, source: str, test: str, limits: dict[str, Any]) -> dict[str, Any]:
        """Fields of the `Verdict` of a program."""
        texts = [text.encode("utf-8", "replace") for text in (source, test)]
        for _ in range(_ATTEMPTS):
            machine = self._provide(limits)
            outcome, secret = machine.ask(texts, limits)
            status, message, is_reusable = judge_machine(outcome, secret)
            # Files that are removed and still open would take room from the next program.
            if not is_reusable or not empty_folder(self._walls.folder) or self._measure() > self._empty_bytes:
                self.close()
            # Killed by no limit of ours: by somebody outside, and the program is not to blame for that.
            if message != _KILLED:
                break
        return outcome.make_verdict(status, message)

    def close(self) -> None:
        """End the machine."""
        if self._machine is not None:
            self._machine.close()
            self._machine = None
            # It may still have written after its program ended.
            empty_folder(self._walls.folder)

    def _provide(self, limits: dict[str, Any]) -> "Machine":
        wanted = tuple(limits[name] for name in ("memory_bytes", "file_bytes", "threads"))
        if self._machine is None or self._machine.limits != wanted:
            self.close()
            machine = Machine(self._walls, self._filter, self._jvm, limits, wanted)
            machine.start()
            self._machine = machine
            self._empty_bytes = self._measure()
        return self._machine

    def _measure(self) -> int:
        return measure_folder(self._walls.folder)[0]


class Machine:
    """One process of `java`, and the limits (`key`) that hold for its whole life."""

    def __init__(self, walls: Walls, blank: Any, jvm: list[str], limits: dict[str, Any], key: tuple) -> None:
        self.limits = key
        inner, self._requests = os.pipe()
        reports, outer = os.pipe()
        pid = os.fork()
        if pid == 0:
            _become_machine(walls, blank, jvm, limits, {0: inner, 1: outer})
        os.close(inner)
        os.close(outer)
        os.set_blocking(reports, False)
        self._watch = Watch(pid, reports, walls.folder)

    def start(self) -> None:
        """Wait until it has compiled and run something, so that no program pays for its start."""
        limits = {"cpu_seconds": _START_SECONDS, "wall_seconds": _START_SECONDS, "output_bytes": 2**16}
        limits |= {"folder_bytes": 2**40, "files": 2**40}
        outcome = self._watch.run(limits, _is_complete)
        if outcome.data[4:5] != _READY:
            self.close()
            said = outcome.data.removeprefix(NOT_CONTAINED).decode("utf-8", "replace")
            raise RuntimeError(
                f"the Java machine did not start: {outcome.stopped or said}, status {outcome.exit_status}"
            )

    def ask(self, texts: list[bytes], limits: dict[str, Any]) -> tuple[Outcome, bytes]:
        """What was seen of it while it ran a program, and the secret that it must have answered with."""
        secret = os.urandom(SECRET_BYTES)
        before, begin = self._watch.read_cpu(), time.monotonic()
        try:
            write_all(self._requests, struct.pack(">II", *map(len, texts)) + secret + b"".join(texts))
        except ChannelClosed:
            # It was killed between two programs.
            self._watch.kill()
            return Outcome(exit_status=signal.SIGKILL, wall_seconds=time.monotonic() - begin), secret
        return self._watch.run(limits, _is_complete, before), secret

    def close(self) -> None:
        """End it."""
        os.close(self._requests)
        self._watch.kill()
        self._watch.close()


def judge_machine(outcome: Outcome, secret: bytes) -> tuple[str, str, bool]:
    """Status and message of a program, and whether its machine may run another."""
    if outcome.stopped:
        return *outcome.stopped, False
    if outcome.exit_status is not None:
        ended = os.waitstatus_to_exitcode(outcome.exit_status)
        if ended in (-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM):
            return "failed", _KILLED, False
        return "failed", f"ended the Java machine with exit code {ended} before the end of its test", False
    report = outcome.data[4:]
    kind, is_reusable, text = report[:1], report[1:2] == _REUSABLE, report[2:]
    if len(outcome.data) == 4 + _length(outcome.data):
        if kind == _PASSED and text == secret:
            return "passed", "", is_reusable
        if kind in (_FAILED, _OUT_OF_MEMORY):
            status = "memory" if kind == _OUT_OF_MEMORY else "failed"
            return status, text.decode("utf-8", "replace"), is_reusable and status == "failed"
    return "failed", "wrote to the channel of the harness", False


def _length(data: bytes) -> int:
    return int.from_bytes(data[:4], "big")


def _is_complete(data: bytes) -> bool:
    # What announces more than any report can hold is no report.
    return len(data) >= 4 and (len(data) >= 4 + _length(data) or _length(data) > 2**16)


def _become_machine(walls: Walls, blank: Any, jvm: list[str], limits: dict[str, Any], kept: dict[int, int]) -> NoReturn:
    try:
        isolate_descriptors(kept)
        os.chdir(walls.folder)
        own = limits | {"cpu_seconds": None, "open_files": _MACHINE_FILES}
        memory = limits["memory_bytes"] + _MACHINE_BYTES
        heap = [f"-Xmx{limits['memory_bytes'] // 2**20}m"]
        confine_program(walls, blank, own, memory=memory, spare=_MACHINE_THREADS)
        # Where there is no /proc, the loader cannot tell where `java` lies, and so not where its libraries do.
        libraries = os.path.join(os.path.dirname(os.path.dirname(jvm[0])), "lib")
        os.execve(jvm[0], [jvm[0], *heap, *jvm[1:]], {**os.environ, "LD_LIBRARY_PATH": libraries})
    except Exception as error:
        os.write(1, NOT_CONTAINED + f"{type(error).__name__}: {error}".encode())
    finally:
        os._exit(1)
