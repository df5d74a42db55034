"""One worker process as seen from outside: started, asked, and ended with everything in it."""

import os
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from training.sandbox.containment import Place
from training.sandbox.frames import ChannelClosed, ChannelTimeout, read_frame, write_frame
from training.sandbox.interpreters import Python
from training.sandbox.programs import Program, Verdict

_START_SECONDS = 60.0
# Beyond a program's own limit: its folder has to be emptied, a Java machine started and a killed one started again.
_GRACE_SECONDS = 240.0
_END_SECONDS = 5.0
_MAX_MESSAGE = 500


class WorkerLost(RuntimeError):
    """A worker ended, or stopped answering, before it had a verdict."""


@dataclass(frozen=True)
class Recipe:
    """How a worker for a language is made.

    Attributes
    ----------
    backend : str
        What contains it.
    language : str
        Language of its programs.
    python : Python
        The interpreter that runs it.
    readable : tuple of str
        What it has to read.
    settings : dict
        `packages` or `jvm`.
    """

    backend: str
    language: str
    python: Python
    readable: tuple[str, ...]
    settings: dict[str, Any]


class Worker:
    """A worker process.

    Started by a thread that lives as long as it is needed: it ends with that thread.

    Parameters
    ----------
    recipe : Recipe
        How it is made.
    slot : int
        Its number.

    Raises
    ------
    WorkerLost
        If it does not start; the message quotes what it said.
    """

    def __init__(self, recipe: Recipe, slot: int) -> None:
        self._place = Place(recipe.backend, slot)
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
        except (ChannelClosed, ChannelTimeout) as error:
            self.kill()
            reason = self._quote()
            self.close()
            raise WorkerLost(reason) from error
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Its process, or that of what contains it."""
        return self._process.pid

    def ask(self, program: Program) -> tuple[Verdict, bool]:
        """Have a program run.

        Parameters
        ----------
        program : Program
            The program.

        Returns
        -------
        verdict : Verdict
        is_reusable : bool
            Whether it takes another one.

        Raises
        ------
        WorkerLost
            If there is no verdict.
        """
        request = {"source": program.source, "test": program.test, "limits": asdict(program.limits)}
        try:
            write_frame(self._channel.fileno(), request)
            deadline = time.monotonic() + program.limits.wall_seconds + _GRACE_SECONDS
            answer = read_frame(self._channel.fileno(), deadline)
        except (ChannelClosed, ChannelTimeout, OSError, ValueError) as error:
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


def _find_children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _make_printable(text: str) -> str:
    shown = "".join(character if character.isprintable() else " " for character in text[: 2 * _MAX_MESSAGE])
    return shown[:_MAX_MESSAGE]
