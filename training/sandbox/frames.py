"""Messages between the sandbox and its workers: four bytes of length, then JSON, over a stream."""

import json
import os
import select
import struct
import time
from typing import Any

MAX_FRAME_BYTES = 2**26
"""Longest message; a longer announcement is damage, or a forgery."""

_HEADER = struct.Struct(">I")


class ChannelClosed(ConnectionError):
    """The other side is gone, or talks nonsense."""


class ChannelTimeout(TimeoutError):
    """The other side did not answer in time."""


def pack_frame(message: Any) -> bytes:
    """Bytes of a message.

    Parameters
    ----------
    message : object
        Anything that JSON can hold.

    Returns
    -------
    bytes
    """
    body = json.dumps(message).encode()
    return _HEADER.pack(len(body)) + body


def write_frame(descriptor: int, message: Any) -> None:
    """Send a message.

    Parameters
    ----------
    descriptor : int
        End of a pipe or socket.
    message : object
        Anything that JSON can hold.

    Raises
    ------
    ChannelClosed
        If nobody reads.
    """
    write_all(descriptor, pack_frame(message))


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte.

    Parameters
    ----------
    descriptor : int
        End of a pipe or socket.
    data : bytes
        What to write.

    Raises
    ------
    ChannelClosed
        If nobody reads.
    """
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except (BrokenPipeError, ConnectionResetError) as error:
        raise ChannelClosed("the other side is gone") from error


def read_frame(descriptor: int, deadline: float | None = None) -> Any:
    """Receive a message.

    Parameters
    ----------
    descriptor : int
        End of a pipe or socket.
    deadline : float, optional
        When to give up, on `time.monotonic`.

    Returns
    -------
    object

    Raises
    ------
    ChannelClosed
        At the end of the stream, or where it holds something else than messages.
    ChannelTimeout
        If the deadline passes.
    """
    (length,) = _HEADER.unpack(_read_exactly(descriptor, _HEADER.size, deadline))
    if length > MAX_FRAME_BYTES:
        raise ChannelClosed(f"a message of {length} bytes was announced; at most {MAX_FRAME_BYTES} are allowed")
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
            raise ChannelTimeout("no answer in time")
        try:
            part = os.read(descriptor, min(length, 2**20))
        except ConnectionResetError:
            part = b""
        if not part:
            raise ChannelClosed("the other side is gone")
        parts.append(part)
        length -= len(part)
    return b"".join(parts)
