"""What is run and what comes of it: programs, limits, verdicts, refusals; and how workers are told, in frames."""

import json
import math
import os
import select
import struct
import time
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

Language = Literal["python", "java"]
Status = Literal["passed", "failed", "timeout", "memory", "error"]

LANGUAGES: tuple[str, ...] = get_args(Language)

MAX_FOLDER_BYTES = 64 * 2**20
"""Size of the file system that holds a program's folder where it has one of its own: no limit can be above it."""


class SandboxUnavailable(RuntimeError):
    """No containment works on this machine; the message says what was tried and what to do."""


class JavaUnavailable(RuntimeError):
    """Java programs cannot be run on this machine; the message is one sentence for the user."""


@dataclass(frozen=True)
class Limits:
    """What one program may use. Processes: always one."""

    # Processor time of all its threads; for Java it includes compiling.
    cpu_seconds: float = 5.0
    # Ends a program that sleeps. Keep it well above `cpu_seconds`, or a busy machine decides verdicts.
    wall_seconds: float = 15.0
    # Address space in Python, heap in Java.
    memory_bytes: int = 2**30
    # What it may send to the harness's channel; whatever it prints is thrown away.
    output_bytes: int = 2**16
    # Any one file; all files in its folder together; files and folders that it may leave there at any time.
    file_bytes: int = 8 * 2**20
    folder_bytes: int = 16 * 2**20
    files: int = 256
    # Descriptors at a time (Python; a JVM has a fixed number for itself and its program).
    open_files: int = 64
    # At a time, beyond what the interpreter itself needs.
    threads: int = 32

    def __post_init__(self) -> None:
        for name in (item.name for item in fields(self)):
            value = getattr(self, name)
            if not (isinstance(value, int | float) and math.isfinite(value) and value > 0):
                raise ValueError(f"limit {name} must be a positive number, got {value!r}")
        if self.folder_bytes > MAX_FOLDER_BYTES:
            raise ValueError(f"limit folder_bytes is at most {MAX_FOLDER_BYTES}, got {self.folder_bytes}")


@dataclass(frozen=True)
class Program:
    """A program that a model wrote, with the test that decides whether it passes.

    Equal programs have equal verdicts as far as the machine allows: `Sandbox.run_many` runs them once.
    """

    language: Language
    # In Python executed as a module, before the test and in the test's name space.
    source: str
    # It passes by reaching its end. In Java a class `Main` whose `main` is called.
    test: str = ""
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.language not in LANGUAGES:
            raise ValueError(f"unknown language {self.language!r}; choose from {', '.join(LANGUAGES)}")


@dataclass(frozen=True)
class Verdict:
    """What came of a program.

    `passed`: the end of the test was reached. `failed`: it was not (exception, early exit, crash, forged output).
    `timeout` and `memory`: stopped at a limit. `error`: the sandbox could not run it, which says nothing about the
    program and must not be counted as a failure.
    """

    status: Status
    # Why, at most 500 printable characters. It may quote the program: it is never evidence of anything.
    message: str = ""
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether the end of the test was reached."""
        return self.status == "passed"


# A message is its length in four bytes, then JSON. A longer announcement is damage, or a forgery.
_HEADER = struct.Struct(">I")
_MAX_FRAME_BYTES = 2**26


class ChannelClosed(ConnectionError):
    """The other side is gone, talks nonsense, or did not answer in time."""


class MessageTooLong(ValueError):
    """No side would read it."""


def write_frame(descriptor: int, message: Any) -> None:
    """Send a message: anything that JSON can hold, unless it is too long."""
    body = json.dumps(message).encode()
    if len(body) > _MAX_FRAME_BYTES:
        raise MessageTooLong(f"longer than {_MAX_FRAME_BYTES} bytes")
    write_all(descriptor, _HEADER.pack(len(body)) + body)


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte."""
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except (BrokenPipeError, ConnectionResetError) as error:
        raise ChannelClosed("the other side is gone") from error


def read_frame(descriptor: int, deadline: float | None = None) -> Any:
    """Receive a message until a deadline on `time.monotonic`."""
    (length,) = _HEADER.unpack(_read_exactly(descriptor, _HEADER.size, deadline))
    if length > _MAX_FRAME_BYTES:
        raise ChannelClosed(f"a message of {length} bytes was announced; at most {_MAX_FRAME_BYTES} are allowed")
    try:
        return json.loads(_read_exactly(descriptor, length, deadline))
    except ValueError as error:
        raise ChannelClosed(f"a message is not JSON: {error}") from error


def _read_exactly(descriptor: int, length: int, deadline: float | None) -> bytes:
    parts = []
    poll = None
    if deadline is not None:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
    while length:
        if poll is not None and not poll.poll(max(0.0, 1000 * (deadline - time.monotonic()))):
            raise ChannelClosed("no answer in time")
        try:
            part = os.read(descriptor, min(length, 2**20))
        except ConnectionResetError:
            part = b""
        if not part:
            raise ChannelClosed("the other side is gone")
        parts.append(part)
        length -= len(part)
    return b"".join(parts)
