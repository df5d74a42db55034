"""Whether programs that a model wrote pass their tests: executed in the sandbox, never here."""

import ast
from collections.abc import Callable, Sequence

from training.sandbox.pool import Sandbox
from training.sandbox.programs import Limits, Program

LIMITS = Limits(cpu_seconds=2.0, wall_seconds=30.0, memory_bytes=2**29)
"""What a program may use: right ones take a hundredth of a second. The clock is generous, because machines are busy."""


class ExecutionError(RuntimeError):
    """The sandbox could not run a program, so nothing is known about it."""


def passes(
    sandbox: Sandbox,
    programs: Sequence[tuple[str, str]],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> list[bool]:
    """Return which programs reach the end of their tests.

    A text that does not parse fails without being executed; identical programs with identical tests run once.

    Parameters
    ----------
    sandbox : Sandbox
        Where they run.
    programs : sequence of (str, str)
        Source and test.
    progress : callable, optional
        Is given the number of programs that have a verdict, and of all that are run.

    Returns
    -------
    list of bool
        One for each program, in their order.

    Raises
    ------
    ExecutionError
        If the sandbox could not run one: that is no failure of the program, and no score comes of it.
    """
    found = [False] * len(programs)
    places = [place for place, (source, _) in enumerate(programs) if parses(source)]
    wanted = [Program("python", *programs[place], LIMITS) for place in places]
    for place, verdict in zip(places, sandbox.run_many(wanted, progress=progress), strict=True):
        if verdict.status == "error":
            raise ExecutionError(
                f"the sandbox could not run a program ({verdict.message}); nothing was scored: see docs/sandbox.md, "
                "and try again"
            )
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
