"""What surrounds a Python program in its own process: run it, run its test, and only then show the secret.

Everything that is used after the program has run is looked up before it, so that a program which replaces functions of
`os`, `sys` or `builtins` replaces nothing here. What the guarantee cannot cover is in docs/sandbox.md.
"""

import builtins
import gc
import os
import sys
import types
from collections.abc import Callable
from typing import NoReturn

PASSED, FAILED, OUT_OF_MEMORY = b"P", b"F", b"M"

_MAX_MESSAGE = 300


def run_program(source: str, test: str, descriptor: int, secret: bytes) -> NoReturn:
    """Execute a program and its test, report, and end the process without any clean-up of the program's making.

    Nothing but the end of the test sends the secret: whatever breaks this ends the process without a word.
    """
    # Bound before the program can touch them; end first, because nothing may run after it.
    end, write, own_pid, pid = os._exit, os.write, os.getpid, os.getpid()
    try:
        report = _execute(source, test, _describe)
        # A program that could fork would come here twice.
        if own_pid() == pid:
            write(descriptor, PASSED + secret if report is None else report)
        end(0)
    finally:
        end(1)


def _execute(source: str, test: str, describe: Callable[[BaseException], bytes]) -> bytes | None:
    run = exec
    try:
        parts = [
            compile(text, name, "exec", dont_inherit=True) for text, name in ((source, "<program>"), (test, "<test>"))
        ]
        names = _make_name_space()
        restore = _remember_interpreter(names)
        gc.enable()
        run(parts[0], names)
        restore()
        run(parts[1], names)
    except BaseException as error:
        return describe(error)
    return None


def hide_worker() -> None:
    """Leave modules in memory that a program of its own interpreter would find, and nothing of the worker's code."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "training"]:
        del sys.modules[name]
    if "__main__" in sys.modules:
        sys.modules["__main__"] = types.ModuleType("__main__")
    sys.argv[:] = ["program"]
    sys.addaudithook(_refuse_hooks)


def _refuse_hooks(event: str, _: tuple, error: type = RuntimeError) -> None:
    """Keep audit hooks of a program out, which nothing could remove before its test: an exception here does that."""
    if event == "sys.addaudithook":
        raise error


def _make_name_space() -> dict:
    """Globals of a module that is not the main one, so that `if __name__ == "__main__"` stays out as under `exec`."""
    module = types.ModuleType("program")
    sys.modules["program"] = module
    return module.__dict__


def _remember_interpreter(names: dict) -> Callable[[], None]:
    """A function that puts built-in names back and ends all tracing, so that a test means what it says by `all`."""
    built_in, original = builtins.__dict__, dict(builtins.__dict__)
    clear, update, bind = built_in.clear, built_in.update, names.__setitem__
    settrace, setprofile = sys.settrace, sys.setprofile
    # Python 3.12 and newer. Events of a tool that has no function for them go nowhere.
    monitoring = getattr(sys, "monitoring", None)
    events = [event for event in vars(monitoring.events).values() if event] if monitoring else []
    callbacks = [(monitoring.register_callback, tool, event) for tool in range(6) for event in events]

    def restore() -> None:
        for register, tool, event in callbacks:
            register(tool, event, None)
        settrace(None)
        setprofile(None)
        clear()
        update(original)
        # What the test takes as built-in.
        bind("__builtins__", built_in)

    return restore


def _describe(error: BaseException, isinstance=isinstance, memory_error=MemoryError) -> bytes:
    kind = OUT_OF_MEMORY if isinstance(error, memory_error) else FAILED
    try:
        line = error.__traceback__
        place = ""
        while line is not None:
            name = line.tb_frame.f_code.co_filename
            place = f" ({name[1:-1]}, line {line.tb_lineno})" if name in ("<program>", "<test>") else place
            line = line.tb_next
        # An exception of the program's making can do anything here, within the limits.
        text = f"{type(error).__name__}: {error}"[:_MAX_MESSAGE] + place
        return kind + text.encode("utf-8", "replace")
    except BaseException:
        return kind + b"an exception that cannot be printed"
