"""What Python and Java need to run: their files, and nothing else, are shown to programs."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from training.sandbox.programs import JavaUnavailable, SandboxUnavailable

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

_DESCRIBE = """
import json, os, sys, sysconfig
lib = os.path.join(sys.base_prefix, "lib")
paths = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib")] + [sysconfig.get_config_var("LIBDIR") or lib]
paths += [lib] if os.path.dirname(sysconfig.get_path("stdlib")) == lib else []
packages = [sysconfig.get_path(name) for name in ("purelib", "platlib")]
real = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
print(json.dumps([real, paths, list(dict.fromkeys(packages)), sys.version_info[:2]]))
"""


@dataclass(frozen=True)
class Python:
    """A Python interpreter.

    Attributes
    ----------
    executable : str
        Its file, not a link.
    readable : tuple of str
        Everything that it has to read.
    packages : tuple of str
        Folders of installed packages.
    """

    executable: str
    readable: tuple[str, ...]
    packages: tuple[str, ...]


@dataclass(frozen=True)
class Java:
    """A Java development kit.

    Attributes
    ----------
    home : str
        Its folder, not a link.
    readable : tuple of str
        Everything that it has to read.
    """

    home: str
    readable: tuple[str, ...]


def describe_python(executable: str | None = None) -> Python:
    """Find the files of an interpreter by asking it.

    Parameters
    ----------
    executable : str, optional
        The interpreter; this one by default.

    Returns
    -------
    Python

    Raises
    ------
    SandboxUnavailable
        If it does not answer or is older than 3.11.
    """
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


def find_source_root() -> str:
    """Folder that the worker's code is imported from."""
    return str(_SOURCE_ROOT)


def describe_java(javac: str | None = None) -> Java:
    """Find a Java development kit.

    Parameters
    ----------
    javac : str, optional
        Its compiler; the one on the search path by default.

    Returns
    -------
    Java

    Raises
    ------
    JavaUnavailable
        If there is none, or none that is new enough.
    """
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
    """Compile the harness for Java programs, and say how to start it.

    Parameters
    ----------
    java : Java
        The development kit.
    folder : str
        Where its classes go, and an archive of what a machine loads at its start, which halves the time that takes.

    Returns
    -------
    list of str
        Command line but for the size of the heap.

    Raises
    ------
    JavaUnavailable
        If it does not compile.
    """
    sources = sorted(str(path) for path in (Path(__file__).parent / "java").rglob("*.java"))
    classes, module, archive = (os.path.join(folder, name) for name in ("classes", "runner.jar", "runner.jsa"))
    _run_tool([f"{java.home}/bin/javac", "-proc:none", "-nowarn", "-d", classes, *sources])
    _run_tool([f"{java.home}/bin/jar", "--create", "--file", module, "-C", classes, "."])
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
