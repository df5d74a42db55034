"""Running many programs once: duplicates together, known verdicts from a journal, new ones into it."""

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager

from tqdm import tqdm

from training.published.journal import Journal, identify_program
from training.sandbox.pool import Sandbox
from training.sandbox.programs import Limits, Program, Verdict

# Where standard error is no terminal, a line now and then.
_SECONDS_BETWEEN_LINES = 10.0


def make_limits(language: str, cpu_seconds: float | None = None) -> Limits:
    """Limits of programs of published data sets.

    Processor time decides, so that a busy machine changes no verdict; the clock is for programs that sleep. The default
    is that of the re-scoring behind the released counts, whose slowest passing Python program took 0.15 s. The
    evaluation harness itself waits 10 s (ReCode: 3 s) on the clock.

    Parameters
    ----------
    language : {"python", "java"}
        Language; for Java, processor time includes compiling.
    cpu_seconds : float, optional
        Processor time in seconds: 1 for Python, 3 for Java by default.

    Returns
    -------
    Limits
    """
    seconds = cpu_seconds or {"python": 1.0, "java": 3.0}[language]
    memory = {"python": 2**31, "java": 2**30}[language]
    return Limits(cpu_seconds=seconds, wall_seconds=max(30.0, 10 * seconds), memory_bytes=memory)


class ProgramsNotRun(RuntimeError):
    """The sandbox could not run some programs, so there is no score; what was found out is kept."""


def run_programs(
    sandbox: Sandbox, programs: Sequence[Program], *, journal: Journal | None = None, label: str | None = None
) -> list[Verdict]:
    """Run programs, identical ones once, and none whose verdict the journal knows.

    Parameters
    ----------
    sandbox : Sandbox
        Where they run.
    programs : sequence of Program
        What to run.
    journal : Journal, optional
        Known verdicts; new ones are written there at once.
    label : str, optional
        Label of a progress bar on standard error; none without it.

    Returns
    -------
    list of Verdict
        In the order of the programs.

    Raises
    ------
    ProgramsNotRun
        If the sandbox could not run some: that is not a failure of theirs.
    JournalError
        If a verdict cannot be written down.
    """
    places: dict[Program, str] = {}
    for program in programs:
        if program not in places:
            places[program] = identify_program(program)
    known = dict(journal.verdicts) if journal is not None else {}
    wanted = [program for program, key in places.items() if key not in known]
    not_run: list[tuple[int, Verdict]] = []
    with _show_progress(label, len(places), len(places) - len(wanted)) as bar:
        for index, verdict in sandbox.run_each(wanted) if wanted else ():
            key = places[wanted[index]]
            bar.update()
            if verdict.status == "error":
                not_run.append((programs.index(wanted[index]), verdict))
                continue
            known[key] = verdict
            if journal is not None:
                journal.add(key, verdict)
    if not_run:
        place, first = min(not_run, key=lambda found: found[0])
        raise ProgramsNotRun(
            f"the sandbox could not run {len(not_run)} of {len(places)} programs (the first, number {place + 1} of "
            f"{label or 'all'} in order: {first.message}); nothing is scored, the other verdicts are kept, and the "
            "same command tries these again"
        )
    return [known[places[program]] for program in programs]


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
