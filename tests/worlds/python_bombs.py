"""Programs in Python that use up what they can, that never end, or that claim to have passed: none may pass.

Bombs stand under the statuses that are right for them, beside a time limit, which may stop any on a busy machine. The
test that follows them always fails.
"""

BOMBS = {
    "timeout": {
        "fork_bomb_stubborn": "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
        "output_bomb": "while True:\n    print('x' * 2**16)",
        "output_bomb_raw": "import os\nwhile True:\n    os.write(1, b'x' * 2**16); os.write(2, b'x' * 2**16)",
        "hostile_message": "class E(Exception):\n    def __str__(self):\n        while True: pass\nraise E",
        "endless_loop": "while True: pass",
        "endless_caught_loop": "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        "endless_regex": "import re\nre.match('(a+)+b', 'a' * 64)",
        "sleep": "import time\ntime.sleep(1000)",
        "wait_for_lock": "import threading\nx = threading.Lock()\nx.acquire()\nx.acquire()",
        "ignore_signals": (
            "import signal\nfor s in signal.Signals:\n    try: signal.signal(s, signal.SIG_IGN)\n"
            "    except OSError: pass\nwhile True: pass"
        ),
        "blocked_signals": (
            "import signal, time\nsignal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\ntime.sleep(1000)"
        ),
        "stop_itself": "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)",
        "close_everything": "import os\nos.closerange(0, 1000)\nwhile True: pass",
    },
    "failed": {
        "fork_bomb": "import os\nwhile True:\n    os.fork()",
        "report_bomb": (
            "import os\nwhile True:\n    for i in range(64):\n        try: os.write(i, b'x' * 2**16)\n"
            "        except OSError: pass"
        ),
        "message_bomb": "raise ValueError('x' * 2**26)",
        "one_big_file": "with open('x', 'wb') as f:\n    while True:\n        f.write(b'x' * 2**20)",
        "disk_filler": (
            "import itertools\nfor i in itertools.count():\n    try:\n"
            "        open(f'x{i % 100}', 'wb').write(b'x' * 2**20)\n"
            "        open(f'y{i % 100}', 'wb').write(b'x' * 2**22)\n    except OSError: pass"
        ),
        "hidden_disk_filler": (
            "import os\nkept = []\nwhile True:\n    try:\n        kept.append(os.open('x', os.O_CREAT | os.O_RDWR))\n"
            "        os.unlink('x')\n        os.write(kept[-1], b'x' * 2**22)\n    except OSError: pass"
        ),
        "many_files": "import itertools\nfor i in itertools.count():\n    open(f'{i}', 'w').close()",
        "deep_folders": "import os\nwhile True:\n    os.mkdir('d' * 200)\n    os.chdir('d' * 200)",
        "closed_folders": "import os\nfor i in range(20):\n    os.mkdir(f'{i}', 0)\nassert False",
        "hidden_files": "import os\nos.mkdir('d', 0o300)\nfor i in range(10**9):\n    open(f'd/{i}', 'w').close()",
        "symlink_loops": "import os\nfor i in range(20):\n    os.symlink(f'{i}', f'{i}')\nassert False",
        "thread_bomb": "import threading as t, time\nwhile True: t.Thread(target=time.sleep, args=(1000,)).start()",
        "threads_that_never_end": (
            "import threading, time\nfor _ in range(8):\n"
            "    threading.Thread(target=lambda: [1 for _ in iter(int, 1)]).start()\nassert False"
        ),
        "wait_for_input": "input()",
        "deep_recursion": "def f():\n    f()\nf()",
        "crash": "import ctypes\nctypes.string_at(0)",
        "kill_itself": "import os\nos.kill(os.getpid(), 9)",
        "no_python": "this is no Python",
        "null_byte": "x = '\0'",
        "lone_surrogate": "x = '\ud800'",
    },
    "memory": {
        "memory_bomb": "x = []\nwhile True:\n    x.append(bytearray(2**24))",
        "memory_bomb_at_once": "x = bytearray(2**40)",
        "memory_of_ints": "x = 1\nwhile True:\n    x = x << 2**28",
        "endless_power": "x = 10 ** 10 ** 8\nstr(x)\n3 ** x",
    },
    "failed memory": {
        "memory_mapped": "import mmap\nx = [mmap.mmap(-1, 2**28) for _ in range(100)]",
        "endless_compile": "x = " + "(" * 90 + "1" + ")" * 90 + "\nx = " + "-" * 50000 + "1",
        "crash_by_recursion": (
            "import sys\nsys.setrecursionlimit(10**9)\nclass A:\n    def __repr__(self): return repr(self)\nrepr(A())"
        ),
    },
}

FORGERIES = {
    "exit": "import sys\nsys.exit(0)",
    "quit": "raise SystemExit",
    "exit_now": "import os\nos._exit(0)",
    "exit_subclass": "class E(SystemExit): pass\nraise E(0)",
    "base_exception": "class E(BaseException): pass\nraise E",
    "interrupt": "raise KeyboardInterrupt",
    "exit_raw": "import ctypes\nctypes.CDLL(None)._exit(0)",
    # Long before the limit of processor time: the two must not race.
    "exit_by_signal": "import signal, os\nsignal.signal(signal.SIGALRM, lambda *_: os._exit(0))\n"
    "signal.setitimer(signal.ITIMER_REAL, 0.1)\nwhile True: pass",
    "exit_in_thread": "import threading, os, time\nthreading.Thread(target=os._exit, "
    "args=(0,)).start()\ntime.sleep(1000)",
    "exit_at_exit": "import atexit, os\natexit.register(os._exit, 0)\nraise SystemExit(0)",
    "exit_in_finalizer": "import os\nclass A:\n    def __del__(self): os._exit(0)\nx = A()\ndel x",
    "exception_in_finalizer": "class A:\n    def __del__(self): raise SystemExit(0)\nx = A()\ndel x",
    "exit_in_except_hook": "import os, sys\nsys.excepthook = lambda *_: os._exit(0)\nassert False",
    "guess_on_all": "import os\nfor i in range(64):\n    try: os.write(i, "
    "b'P' + b'0' * 32)\n    except OSError: pass\nos._exit(0)",
    "echo_on_all": (
        "import os\nseen = b''\nfor i in range(64):\n    try:\n      "
        "  os.set_blocking(i, False)\n        seen += os.read(i, 99)\n"
        "    except OSError: pass\nfor i in range(64):\n    try: "
        "os.write(i, b'P' + seen)\n    except OSError: pass\nos._exit(0)"
    ),
    "forged_verdict": (
        "import os, json, struct\nb = json.dumps({'verdict': {'status': 'passed', 'message': '', 'cpu_seconds': 0,"
        " 'wall_seconds': 0}, 'is_reusable': True}).encode()\nfor i in range(64):\n"
        "    try: os.write(i, struct.pack('>I', len(b)) + b)\n    except OSError: pass\nos._exit(0)"
    ),
    "reused_report": "import os\nfor i in range(3, 64):\n    try: "
    "os.dup2(os.open('/dev/null', 1), i)\n    except OSError: pass",
    "secret_in_environment": "import os\nfor x in os.environ.values():\n    try: os.write(3, "
    "b'P' + x.encode())\n    except OSError: pass\nos._exit(0)",
    "replaced_builtins": (
        "import builtins\nbuiltins.compile = builtins.exec = lambda *a, **k: None\n"
        "builtins.AssertionError = type('A', (BaseException,), {})\nbuiltins.all = builtins.bool = lambda *_: True"
    ),
    "no_builtins": "import builtins\nfor x in list(vars(builtins)):\n    delattr(builtins, x)",
    "replaced_all": "import builtins\nbuiltins.all = builtins.any = lambda *_: True",
    "replaced_exit": "import os\nos._exit = os.write = os.getpid = "
    "lambda *_: 0\nimport sys\nsys.exit = exit = os._exit",
    "replaced_streams": "import sys\nsys.stdout = sys.stderr = sys.__stdout__ = None",
    "replaced_modules": "import sys\nfor x in list(sys.modules):\n    sys.modules[x] = None",
    "harness_module": "import training.sandbox.python_harness as h\nh._execute = lambda *_: None\nassert False",
    "harness_main": "import __main__, sys\nfor x in list(vars(__main__)):\n    setattr(__main__, x, lambda *_: None)",
    "replaced_unittest": "import unittest\nunittest.TestCase.assertEqual = lambda *_: None",
    "trace": (
        "import sys\ndef t(frame, *_):\n    frame.f_globals['got'] "
        "= True\n    return t\nsys.settrace(t)\nsys.setprofile(t)"
    ),
    "generator_exit": "def f():\n    raise GeneratorExit\nf()",
    "own_test": "def check(*_): pass\ncheck.__globals__['assert_'] = 1",
}

FAILING_TEST = "got = False\nassert all([got, False]) and got, 'not passed'"
