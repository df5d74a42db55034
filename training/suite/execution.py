"""Whether programs that a model wrote pass their tests: executed in the sandbox, never here."""

import ast
from collections.abc import Sequence

from training.published.verdicts import run_programs
from training.sandbox.pool import Sandbox
from training.sandbox.programs import Limits, Program

LIMITS = Limits(cpu_seconds=2.0, wall_seconds=30.0, memory_bytes=2**29)
"""What a program may use: right ones take a hundredth of a second. The clock is generous, because machines are busy."""


def passes(sandbox: Sandbox, programs: Sequence[tuple[str, str]]) -> list[bool]:
    """Return which programs reach the end of their tests.

    A text that does not parse fails without being executed; identical programs with identical tests run once.

    Parameters
    ----------
    sandbox : Sandbox
        Where they run.
    programs : sequence of (str, str)
        Source and test.

    Returns
    -------
    list of bool
        One for each program, in their order.

    Raises
    ------
    ProgramsNotRun
        If the sandbox could not run one: that is no failure of the program, and no score comes of it.
    """
    found = [False] * len(programs)
    places = [place for place, (source, _) in enumerate(programs) if parses(source)]
    wanted = [Program("python", *programs[place], LIMITS) for place in places]
    for place, verdict in zip(places, run_programs(sandbox, wanted), strict=True):
        found[place] = verdict.passed
    return found


def parses(source: str) -> bool:
    """Return whether a text is a Python program by its grammar; the text is not executed."""
    try:
        ast.parse(source)
    # Besides wrong syntax: null bytes, and expressions nested too deeply.
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return bool(source.strip())
