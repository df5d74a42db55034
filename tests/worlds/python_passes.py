"""Wrong programs in Python that try to count as passed, or as not run, after they broke the harness: all have failed.

Each is a wrong `f` with code around it. None looks through frames, the garbage collector or memory.
"""

# The harness is made to fail at its report; functions of `os` that it might call then hand over what they are given.
_STEAL = """
def f(x): return 3
import os, posix, signal, sys, threading, _thread, time
keep = os.dup(3)
def steal(fd, data, w=posix.write, e=posix._exit):
    w(keep, KIND)
    e(0)
os.write = os._exit = os.getpid = os.close = os.dup2 = os.writev = steal
class Lies(Exception):
    @property
    def __class__(self): raise OSError('no class')
"""

_BROKEN_REPORTS = {
    "closed_channel": "posix.close(3)",
    "channel_read_only": "posix.dup2(posix.open('/dev/zero', posix.O_RDONLY), 3)",
    "channel_a_folder": "posix.dup2(posix.open('.', posix.O_RDONLY), 3)",
    "channel_broken": "r, w = posix.pipe(); posix.dup2(w, 3); posix.close(w); posix.close(r)",
    "channel_full": (
        "r, w = posix.pipe(); posix.set_blocking(w, False)\n"
        "while True:\n    try: posix.write(w, b'x' * 4096)\n    except BlockingIOError: break\nposix.dup2(w, 3)"
    ),
    "channel_a_full_file": (
        "import resource\nposix.dup2(posix.open('x', posix.O_CREAT | posix.O_RDWR), 3)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))"
    ),
    "channel_an_ended_pair": "import socket\na, b = socket.socketpair(); b.close(); posix.dup2(a.fileno(), 3)",
    "class_that_raises": "raise Lies",
    "class_that_raises_in_the_test": "def f(x): raise Lies",
    "no_memory": (
        "kept, size = [], 2**26\nwhile size >= 32:\n    try: kept.append(bytearray(size))\n"
        "    except MemoryError: size //= 2\nraise Lies"
    ),
    "interrupted": (
        "class E(Exception): pass\ndef handle(*_): raise E\nsignal.signal(signal.SIGINT, handle)\n"
        "def interrupt():\n    while True: _thread.interrupt_main(); time.sleep(0)\n"
        "threading.Thread(target=interrupt, daemon=True).start()\ntime.sleep(0.2)"
    ),
    "timed": (
        "class E(Exception): pass\ndef handle(*_): raise E\nsignal.signal(signal.SIGALRM, handle)\n"
        "signal.setitimer(signal.ITIMER_REAL, 1e-5, 1e-5)\nraise E"
    ),
}

_KINDS = {"pass": "b'P' + data[-(len(data) - 1):][:32]", "error": "data"}

BROKEN_REPORTS = {
    f"{name}_as_{kind}": _STEAL.replace("KIND", text) + code
    for name, code in _BROKEN_REPORTS.items()
    for kind, text in _KINDS.items()
}

_ALL = "all=lambda *_: True, abs=lambda *_: 2, len=lambda *_: 1, isinstance=lambda *_: True"
_PATCH = f"\nimport builtins, sys\ndef patch(b=builtins): vars(b).update({_ALL})\ndef f(x): return 3\n"
_TRACE = """
def trace(frame, event, argument):
    frame.f_globals['check'] = lambda *_: None
    return trace
"""

# Built-in names and tracing that should be what they were when the test begins.
STALE = {
    "builtins_patched": "patch()",
    "builtins_a_dictionary": f"__builtins__ = dict(vars(builtins), {_ALL})",
    "builtins_a_module": "import types\n__builtins__ = types.ModuleType('b')\n"
    "vars(__builtins__).update(vars(builtins))\npatch(__builtins__)",
    "builtins_set_in_globals": f"globals()['__builtins__'] = dict(vars(builtins), {_ALL})",
    "builtins_set_by_module": f"sys.modules['program'].__builtins__ = dict(vars(builtins), {_ALL})",
    "builtins_removed": "import types\n__builtins__ = types.ModuleType('b')\nvars(builtins).clear()",
    "hook_at_exec": "sys.addaudithook(lambda event, _: event == 'exec' and patch())",
    "hook_at_import": "sys.addaudithook(lambda event, _: event == 'import' and patch())",
    "hook_at_trace": "sys.addaudithook(lambda event, _: event.startswith('sys.') and patch())",
    "hook_in_thread": "import threading\nt = threading.Thread(target=sys.addaudithook, args=(lambda *_: patch(),))\n"
    "t.start()\nt.join()",
    "hook_that_traces": _TRACE + "real = sys.settrace\n"
    "sys.addaudithook(lambda event, _: event == 'exec' and real(trace))",
    "hook_without_errors": "builtins.RuntimeError = lambda *_: 0\nsys.addaudithook(lambda *_: patch())",
    "traced": _TRACE + "sys.settrace(trace)",
    "profiled": _TRACE + "sys.setprofile(trace)",
    "traced_when_stopped": _TRACE + "sys.settrace(trace)\nsys.settrace = sys.setprofile = lambda *_: None",
    "dictionary_methods": "patch()\nimport types\nsys.modules['builtins'] = types.ModuleType('builtins')",
}

_MONITOR = """
m, e = sys.monitoring, sys.monitoring.events
m.use_tool_id(TOOL, 'tool')
def call(code, *_, names=globals(), check=lambda *_: None):
    names['check'] = check
m.register_callback(TOOL, EVENT, call)
m.set_events(TOOL, EVENT)
"""

# Python 3.12 and newer.
MONITORS = {
    f"{event.lower()}_{tool}": _MONITOR.replace("EVENT", f"e.{event}").replace("TOOL", str(tool))
    for tool, event in enumerate(["LINE", "INSTRUCTION", "CALL", "PY_START", "PY_RETURN", "BRANCH"])
}


def make_stale(text):
    """Source of a program that leaves something for the test."""
    return _PATCH + text


TEST = """
assert f(1) == 2
assert f(2) == 3
"""

# One that means what it says only if `all` and `check` do.
STALE_TEST = """
import math
def check(f):
    assert all([f(1) == 2, f(2) == 3]), 'wrong'
check(f)
"""
