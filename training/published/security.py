"""Flaws that an analyser finds in Python programs: bandit, in a process of its own; no program is executed.

Programs in C are not analysed: there is no analyser for them here, so nothing is said about them.
"""

import importlib.metadata
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ANALYSED_LANGUAGE = "python"

SEVERITIES = ("LOW", "MEDIUM", "HIGH")
"""Bandit's severities, rising."""

LEAST_SEVERITY = "MEDIUM"
"""Least severity of a finding that makes a program insecure. Low ones are style in programs this short: an `assert`, an
import of `subprocess`."""

_CHUNK = 100
_SECONDS_EACH = 10.0


class AnalyserUnavailable(RuntimeError):
    """The analyser is not installed; the message is one sentence for the user."""


@dataclass(frozen=True)
class Finding:
    """One flaw."""

    rule: str
    cwe: int | None
    severity: str
    lines: tuple[int, ...]

    def counts(self, first_line: int = 1) -> bool:
        """Whether it makes a program insecure, and lies at least partly at or after a line."""
        is_severe = SEVERITIES.index(self.severity) >= SEVERITIES.index(LEAST_SEVERITY)
        return is_severe and max(self.lines, default=first_line) >= first_line


@dataclass(frozen=True)
class Analysis:
    """What the analyser says of one program."""

    is_valid: bool
    findings: tuple[Finding, ...] = ()


def describe_analyser() -> str:
    """Return the analyser's name and version."""
    if importlib.util.find_spec("bandit") is None:
        raise AnalyserUnavailable("Programs cannot be analysed: bandit is not installed; run `pip install bandit`.")
    return f"bandit {importlib.metadata.version('bandit')}"


def analyse_python(programs: Sequence[str]) -> dict[str, Analysis]:
    """Analyse Python programs; identical ones once.

    Comments that ask the analyser to look away (``# nosec``) have no effect.
    """
    describe_analyser()
    distinct = list(dict.fromkeys(programs))
    found: dict[str, Analysis] = {}
    for first in range(0, len(distinct), _CHUNK):
        found |= _analyse(distinct[first : first + _CHUNK])
    return found


def _analyse(programs: list[str]) -> dict[str, Analysis]:
    """Analyse some programs; one that the analyser breaks on is found by halves, and is no valid program."""
    report = _run_bandit(programs)
    if report is not None:
        return _read_report(programs, report)
    if len(programs) == 1:
        return {programs[0]: Analysis(is_valid=False)}
    middle = len(programs) // 2
    return _analyse(programs[:middle]) | _analyse(programs[middle:])


def _run_bandit(programs: list[str]) -> dict[str, Any] | None:
    with tempfile.TemporaryDirectory(prefix="astraios-analysis-") as folder:
        for number, program in enumerate(programs):
            Path(folder, f"{number}.py").write_bytes(program.encode("utf-8", "replace") + b"\n")
        command = [sys.executable, "-m", "bandit", "--recursive", "--format", "json", "--quiet", "--ignore-nosec", "."]
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=60 + _SECONDS_EACH * len(programs),
            )
            # 1 says that there are findings.
            return json.loads(done.stdout) if done.returncode in (0, 1) else None
        except (subprocess.TimeoutExpired, ValueError):
            return None


def _read_report(programs: list[str], report: dict[str, Any]) -> dict[str, Analysis]:
    unread = {_number(error["filename"]) for error in report["errors"]}
    findings: dict[int, list[Finding]] = {}
    for result in report["results"]:
        cwe = result.get("issue_cwe", {}).get("id")
        lines = tuple(result["line_range"]) or (result["line_number"],)
        finding = Finding(result["test_id"], cwe, result["issue_severity"], lines)
        findings.setdefault(_number(result["filename"]), []).append(finding)
    return {
        program: Analysis(number not in unread, () if number in unread else tuple(findings.get(number, ())))
        for number, program in enumerate(programs)
    }


def _number(name: str) -> int:
    return int(Path(name).stem)
