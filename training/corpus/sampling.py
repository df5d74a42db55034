"""Drawing programs of a split, their near misses, and other orders of the same program."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np

from training.corpus.operations import Kind
from training.corpus.programs import Program, Step
from training.corpus.settings import Split
from training.corpus.space import ProgramSpace

_MOST_TRIES = 5000

T = TypeVar("T")


def pick(values: Sequence[T], rng: np.random.Generator) -> T:
    """Return one of the values, each with the same chance."""
    return values[int(rng.random() * len(values))]


def pick_weighted(values: Sequence[T], weights: Sequence[float], rng: np.random.Generator) -> T:
    """Return one of the values, with chances in proportion to the weights."""
    mark = rng.random() * sum(weights)
    for value, weight in zip(values, weights, strict=True):
        mark -= weight
        if mark < 0:
            return value
    # Rounding only: the last value that can be drawn at all.
    return next(value for value, weight in zip(reversed(values), reversed(weights), strict=True) if weight > 0)


def draw_steps(space: ProgramSpace, kind: Kind, n_ops: int, rng: np.random.Generator) -> tuple[Step, ...] | None:
    """Return a chain of steps that fit each other, or nothing where the chain comes to a dead end."""
    steps: list[Step] = []
    for _ in range(n_ops):
        has_constant = rng.random() < space.settings.constant_share
        choices = space.steps_with_constant[kind] if has_constant else space.steps_without_constant[kind]
        choices = choices or space.steps[kind]
        if not choices:
            return None
        steps.append(pick(choices, rng))
        kind = steps[-1].operation.gives
    return tuple(steps)


def draw_program(space: ProgramSpace, n_ops: int, split: Split, rng: np.random.Generator) -> Program:
    """Return a program of a split that needs all its operations and keeps its values bounded.

    Parameters
    ----------
    space : ProgramSpace
        The programs there are.
    n_ops : int
        Number of operations; programs of one are the same in every split.
    split : {"train", "validation", "test"}
        Split of the program.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    Program
        The program.

    Raises
    ------
    ValueError
        If the settings leave no such program, or hardly one.
    """
    for _ in range(_MOST_TRIES):
        kind = pick(space.settings.kinds, rng)
        steps = draw_steps(space, kind, n_ops, rng)
        if steps is None:
            continue
        program = Program(kind, steps)
        if program.is_bounded and space.is_needed(program) and space.is_allowed(program, split):
            return program
    raise ValueError(
        f"found no program of {n_ops} operations for split {split!r} in {_MOST_TRIES} tries; "
        "allow more kinds, grades or constants, or raise the share of the split"
    )


def neighbours(space: ProgramSpace, program: Program) -> Iterator[Program]:
    """Yield the near misses of a program: one operation or constant replaced, one dropped, two neighbours exchanged.

    Only chains of fitting kinds and bounded values are given; some may compute the same as the program.
    """
    steps = program.steps
    for position, step in enumerate(steps):
        operation = step.operation
        before, after = steps[:position], steps[position + 1 :]
        for other in space.steps[operation.takes]:
            if other != step and other.operation.gives == operation.gives:
                yield from _bounded(program.kind, (*before, other, *after))
        if operation.takes == operation.gives:
            yield from _bounded(program.kind, (*before, *after))
    for position, (first, second) in enumerate(pairwise(steps)):
        if first != second:
            swapped = Program(program.kind, (*steps[:position], second, first, *steps[position + 2 :]))
            if swapped.is_typed:
                yield from _bounded(swapped.kind, swapped.steps)


def _bounded(kind: Kind, steps: tuple[Step, ...]) -> Iterator[Program]:
    program = Program(kind, steps)
    if program.is_bounded:
        yield program


def draw_near_miss(
    space: ProgramSpace, program: Program, split: Split, rng: np.random.Generator
) -> tuple[Program, str] | None:
    """Return a near miss that computes something else and may be shown in the split, and how it was made.

    Parameters
    ----------
    space : ProgramSpace
        The programs there are.
    program : Program
        The right program.
    split : {"train", "validation", "test"}
        Split of the text that shows it.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    Program, str
        The wrong program, and ``replaced``, ``dropped`` or ``exchanged``; nothing where there is none, which happens
        in the smaller splits. The identity does not count.
    """
    ways: dict[str, list[Program]] = {}
    for other in neighbours(space, program):
        if other.n_ops:
            ways.setdefault(_way(program, other), []).append(other)
    # First the way, then the program: there are many replacements and few of the others.
    while ways:
        way = pick(sorted(ways), rng)
        candidates = ways[way]
        other = candidates.pop(int(rng.random() * len(candidates)))
        if not candidates:
            del ways[way]
        if space.fingerprint(other) != space.fingerprint(program) and space.is_allowed(other, split):
            return other, way
    return None


def _way(program: Program, other: Program) -> str:
    if other.n_ops < program.n_ops:
        return "dropped"
    return "exchanged" if sorted(other.steps) == sorted(program.steps) else "replaced"


def reorder(space: ProgramSpace, program: Program, rng: np.random.Generator) -> Program:
    """Return the same program in another order of steps that commute, where there is one; often there is not."""
    steps = list(program.steps)
    # As many passes as steps let every step travel from one end to the other.
    for position in list(range(len(steps) - 1)) * len(steps):
        if rng.random() < 0.5 and space.commute(steps[position], steps[position + 1]):
            steps[position : position + 2] = steps[position + 1], steps[position]
    return Program(program.kind, tuple(steps))
