"""The process inside the containment: takes programs one at a time, and answers with verdicts.

It is started by `training.sandbox.pool` and by nothing else.
"""

import json
import os
import signal
from contextlib import suppress
from typing import Any

from training.sandbox.confinement import Walls, confine_worker
from training.sandbox.java import JavaRunner
from training.sandbox.programs import ChannelClosed, read_frame, write_frame
from training.sandbox.python import HostGone, PythonRunner, empty_folder

# A longer text leaves its mark on the memory that processes of later programs begin with.
_MAX_TEXT = 2**20


def main(arguments: str) -> None:
    """Answer until the other side hangs up; `arguments` is JSON: `language`, `walls`, and `packages` or `jvm`."""
    settings = json.loads(arguments)
    walls = Walls(**settings["walls"])
    # A stray print must not end up between the verdicts.
    answers = os.dup(1)
    os.dup2(2, 1)
    _reset_signals()
    confine_worker(walls)
    runner = PythonRunner(walls, settings["packages"]) if settings["language"] == "python" else None
    runner = runner or JavaRunner(walls, settings["jvm"])
    try:
        write_frame(answers, "ready")
        _serve(runner, walls, answers)
    except (HostGone, ChannelClosed):
        # Nobody waits for an answer any more: not a failure of the worker.
        pass
    finally:
        runner.close()


def _reset_signals() -> None:
    """What an interpreter of its own would do with signals, whatever was ignored or blocked where it was started."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    ignored = (signal.SIGPIPE, signal.SIGXFSZ)
    for number in signal.valid_signals():
        with suppress(OSError):
            signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _serve(runner: PythonRunner | JavaRunner, walls: Walls, answers: int) -> None:
    while True:
        request: dict[str, Any] = read_frame(0)
        verdict = runner.run(request["source"], request["test"], request["limits"])
        is_short = len(request["source"]) + len(request["test"]) <= _MAX_TEXT
        # A folder that cannot be emptied costs the worker: the next one has a new folder.
        is_reusable = empty_folder(walls.folder) and _has_no_children(runner) and is_short
        write_frame(answers, {"verdict": verdict, "is_reusable": is_reusable})
        if not is_reusable:
            return


def _has_no_children(runner: PythonRunner | JavaRunner) -> bool:
    """Whether nothing that a program started is left: the filter allows no process, and this looks again."""
    if isinstance(runner, JavaRunner):
        return True
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False
