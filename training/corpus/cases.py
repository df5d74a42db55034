"""Inputs with expected outputs that tell a program from its near misses, and their rendering as assertions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from training.corpus.inputs import PROBES, draw_input
from training.corpus.operations import Kind
from training.corpus.programs import Program
from training.corpus.sampling import neighbours
from training.corpus.space import ProgramSpace

_DRAWN = 24
_FEWEST = 3


@dataclass(frozen=True)
class Case:
    """One argument and the result it must give."""

    input: Any
    output: Any

    def holds(self, program: Program) -> bool:
        """Return whether a program gives the expected output."""
        return program.run(self.input) == self.output


def discriminating_cases(space: ProgramSpace, program: Program, rng: np.random.Generator) -> tuple[Case, ...]:
    """Return cases of which every near miss fails at least one.

    Short drawn inputs come first, probe inputs after them; an input is taken where it fails a near miss that all
    before it let pass. A near miss that no drawn input and no probe tells from the program counts as the same.

    Parameters
    ----------
    space : ProgramSpace
        The programs there are.
    program : Program
        The right program.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    tuple of Case
        At least three cases, computed by the interpreter.
    """
    drawn = [draw_input(program.kind, rng) for _ in range(_DRAWN)]
    survivors = list(dict.fromkeys(neighbours(space, program)))
    cases: list[Case] = []
    for value in [*drawn, *PROBES[program.kind]]:
        case = Case(value, program.run(value))
        left = [other for other in survivors if case.holds(other)]
        if len(left) < len(survivors) or (len(cases) < _FEWEST and case not in cases):
            cases.append(case)
            survivors = left
    return tuple(cases)


def telling_input(program: Program, other: Program, rng: np.random.Generator) -> Any:
    """Return an input on which two programs differ, short where possible.

    Raises
    ------
    ValueError
        If they agree on every drawn and every probe input.
    """
    drawn = (draw_input(program.kind, rng) for _ in range(_DRAWN))
    for value in (*drawn, *PROBES[program.kind]):
        if program.run(value) != other.run(value):
            return value
    raise ValueError(f"{program.label!r} and {other.label!r} give the same on every input tried")


def python_assertions(function_name: str, cases: Sequence[Case]) -> str:
    """Return the cases as lines of Python that raise an AssertionError where one fails."""
    return "".join(f"assert {function_name}({case.input!r}) == {case.output!r}\n" for case in cases)


def java_literal(value: Any, kind: Kind) -> str:
    """Return a value as a Java expression."""
    if kind == "list":
        return f"List.of({', '.join(str(number) for number in value)})"
    return f'"{value}"' if kind == "string" else str(value)


def java_assertions(function_name: str, program_kinds: tuple[Kind, Kind], cases: Sequence[Case]) -> str:
    """Return the cases as lines of Java that throw an AssertionError where one fails.

    Parameters
    ----------
    function_name : str
        Name of the method.
    program_kinds : tuple of str
        Kind of the argument and of the result.
    cases : sequence of Case
        The cases.

    Returns
    -------
    str
        One statement a line, for the body of a method of the same class.
    """
    takes, gives = program_kinds
    return "".join(
        f"if (!Objects.equals({function_name}({java_literal(case.input, takes)}), {java_literal(case.output, gives)}))"
        " throw new AssertionError();\n"
        for case in cases
    )
