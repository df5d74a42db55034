"""Running many programs once: duplicates together, known verdicts from a journal, new ones into it at once.

The journal is a JSONL file: first what the verdicts hold for, then one line for each distinct program. Whoever scores
the same file again, with the same problems, limits and containment, goes on after the last line.
"""

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from astraios_analysis.records.refusal import Refusal
from training.sandbox.pool import Sandbox
from training.sandbox.programs import Limits, Program, Verdict
from training.spec.files import Journal

VERSION = 1
"""Changes when the same program could get another verdict by another rule of scoring."""

_DIGEST_LENGTH = 32


def identify_program(program: Program) -> str:
    """Return a digest of everything that a program's verdict depends on: language, text, test and limits."""
    content = json.dumps(asdict(program), sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()[:_DIGEST_LENGTH]


class Verdicts(Journal):
    """Verdicts that are known already, and the file that new ones are added to."""

    CONTENT, WORK = "verdicts", "scoring the same file"

    def __init__(self, folder: Path, subject: Mapping[str, Any], *, is_fresh: bool = False) -> None:
        whole = {"version": VERSION, **subject}
        name = hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:16]
        self.verdicts: dict[str, Verdict] = {}
        super().__init__(folder / f"{subject['dataset']}-{name}.jsonl", whole, is_fresh=is_fresh)

    def add(self, key: str, verdict: Verdict) -> None:
        """Write a verdict down."""
        fields = {"program": key, "status": verdict.status, "cpu": round(verdict.cpu_seconds, 4)}
        self._write(fields | ({"message": verdict.message} if verdict.message else {}))

    def _take(self, value: Any) -> None:
        self.verdicts[value["program"]] = Verdict(value["status"], value.get("message", ""), value["cpu"])


# Where standard error is no terminal, a line now and then.
_SECONDS_BETWEEN_LINES = 10.0


def make_limits(language: str, cpu_seconds: float | None = None) -> Limits:
    """Limits of programs of published data sets.

    Processor time decides, so that a busy machine changes no verdict; the clock is for programs that sleep. The default
    is that of the re-scoring behind the released counts, whose slowest passing Python program took 0.15 s. The
    evaluation harness itself waits 10 s (ReCode: 3 s) on the clock.
    """
    seconds = cpu_seconds or {"python": 1.0, "java": 3.0}[language]
    memory = {"python": 2**31, "java": 2**30}[language]
    return Limits(cpu_seconds=seconds, wall_seconds=max(30.0, 10 * seconds), memory_bytes=memory)


class ProgramsNotRun(Refusal):
    """The sandbox could not run some programs, so there is no score; what was found out is kept."""


def run_programs(
    sandbox: Sandbox, programs: Sequence[Program], *, journal: Verdicts | None = None, label: str | None = None
) -> list[Verdict]:
    """Run programs, identical ones once, and none whose verdict the journal knows."""
    keys = {program: identify_program(program) for program in dict.fromkeys(programs)}
    known = dict(journal.verdicts) if journal is not None else {}
    wanted = [program for program, key in keys.items() if key not in known]
    not_run: list[tuple[int, Verdict]] = []
    with _show_progress(label, len(keys), len(keys) - len(wanted)) as bar:
        for index, verdict in sandbox.run_each(wanted) if wanted else ():
            program = wanted[index]
            bar.update()
            if verdict.status == "error":
                not_run.append((programs.index(program), verdict))
                continue
            known[keys[program]] = verdict
            if journal is not None:
                journal.add(keys[program], verdict)
    if not_run:
        place, first = min(not_run, key=lambda found: found[0])
        raise ProgramsNotRun(
            f"the sandbox could not run {len(not_run)} of {len(keys)} programs (the first, number {place + 1} of "
            f"{label or 'all'} in order: {first.message}); nothing is scored, the other verdicts are kept, and the "
            "same command tries these again"
        )
    return [known[keys[program]] for program in programs]


def _show_progress(label: str | None, total: int, initial: int) -> AbstractContextManager:
    is_terminal = sys.stderr.isatty()
    return tqdm(
        desc=label,
        total=total,
        initial=initial,
        unit="program",
        file=sys.stderr,
        disable=label is None,
        mininterval=0.1 if is_terminal else _SECONDS_BETWEEN_LINES,
        dynamic_ncols=is_terminal,
    )
