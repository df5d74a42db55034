"""The space of programs that some settings allow: which are the same, which are needed, and which split each is in."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise, product
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np

from training.corpus.programs import OPERATIONS, Kind, Program, Step
from training.corpus.settings import FUNCTION_NAME, MAX_OPS, CorpusSettings, Split

# Written out, not drawn: the identity of programs rests on them. The lists were picked one by one out of drawn ones as
# those that tell the most programs of up to three operations apart, until none of the others told any more; the first
# few settle edge cases.
_LISTS = (
    [],
    [4],
    [5, 5],
    [1, -2],
    [2, -4, 2],
    [-3, 3, -3],
    [-20, -14, -8, -2, 4, 10, 16],
    [1, 1, 1, 3],
    [3, 3, 6, 0, 3],
    [1, 0, -3, 9, -6, -5],
    [5, -4, -5, 2, 3, 4, 0],
    [-3, -2, -1, -1, 2, 2],
    [-13, -9, -11, -7, -11, -7, -9],
    [16, 10, 16, 20, 20, 2, 20, 11],
    [-5, -2, -2, 3, 4, 5, 7, 8, 9],
    [0, 1, 1, 3, 4, 4, 5, 6, 6],
    [5, -5, -5, 1, 0, 8, 7, 3, 2, -6],
    [-7, -7, -3, -9, -12, -2, -2, -2, -3, -15],
    [-9, -9, -9, 3, 3, 17, 11, 13, -17, 15],
    [6, 6, 3, 20, 9, 7, 13, 16, 19, 14, 3],
    [13, 5, 13, 7, 19, 20, 17, 5, 15, 20, 19],
    [3, -1, 0, -2, -2, 1, 7, -1, 5, 9, -4, 8],
    [2, 18, 19, 6, 19, 17, 4, 4, 9, 14, 8, 15],
    [7, 17, -11, 9, 3, 9, -7, -15, 17, -15, -5, -19],
    [4, -1, 7, 3, 6, 3, 6, -4, -3, 5, -4, -5],
    [-20, -15, -8, -4, -3, 3, 6, 10, 10, 13, 14, 18],
)
_NUMBERS = (*range(-12, 13), -60, -59, -55, -45, -42, -35, -31, 15, 17, 20, 22, 25, 26, 33, 36, 47, 50, 54, 59, 60)
_STRINGS = (
    "",
    "a",
    "I",
    "7",
    "ii",
    "Level",
    "-1y 1",
    "xBxeb",
    "o e",
    "eoex",
    "queue up",
    "IaAyEIaa",
    "711b1Izx",
    "AAoaeOIoyI",
    "aaABoyE  ay",
    "-u5o5Ooaz iB",
    "A9aeAeeau 1B",
    "Bbiu  1I5xI",
    "EueEi 7oEaey",
    "obea1aO1iio ",
)

PROBES: MappingProxyType[Kind, tuple[Any, ...]] = MappingProxyType(
    {"list": _LISTS, "number": _NUMBERS, "string": _STRINGS}
)
"""Probe inputs of each kind: programs that agree on all of them count as the same."""

_CHARACTERS = "abdeiknorstuAEKORS15 "


def draw_input(kind: Kind, rng: np.random.Generator) -> Any:
    """Return a short argument, of a size that fits a question or an assertion."""
    if kind == "list":
        return rng.integers(-6, 10, size=rng.integers(3, 7)).tolist()
    if kind == "number":
        return int(rng.integers(-40, 61))
    return "".join(_CHARACTERS[i] for i in rng.integers(len(_CHARACTERS), size=rng.integers(3, 9)))


_DIGEST_SIZE = 8
_REMEMBERED = 2**17


class ProgramSpace:
    """All programs that some settings allow, with the identity of each.

    Two programs are the same when they agree on every probe input (`fingerprint`); those that differ by exchanging
    steps that commute also share a `key`. The split is drawn from the fingerprint, so that no two splits share a
    fingerprint or a key.
    """

    def __init__(self, settings: CorpusSettings) -> None:
        self.settings = settings
        self.steps: dict[Kind, tuple[Step, ...]] = {kind: tuple(self._steps(kind)) for kind in settings.kinds}
        self.steps_with_constant = {kind: tuple(s for s in steps if s.constant) for kind, steps in self.steps.items()}
        self.steps_without_constant = {
            kind: tuple(s for s in steps if not s.constant) for kind, steps in self.steps.items()
        }
        # Streams meet the same programs again and again; bounded, because a stream has no end.
        self.fingerprint = lru_cache(maxsize=_REMEMBERED)(self._fingerprint)

    def _steps(self, kind: Kind) -> Iterator[Step]:
        for operation in OPERATIONS.values():
            if operation.takes == kind and operation.gives in self.settings.kinds:
                for constant in operation.constants or (0,):
                    yield Step(operation.name, constant)

    @cached_property
    def _commuting(self) -> frozenset[tuple[Step, Step]]:
        # Decided on the probes for each pair, not declared: a table by hand would have to be right for every option.
        return frozenset(
            (first, second)
            for kind, steps in self.steps.items()
            for first, second in product(steps, repeat=2)
            if first.operation.gives == second.operation.gives == kind
            and self._outputs(Program(kind, (first, second))) == self._outputs(Program(kind, (second, first)))
        )

    def commute(self, first: Step, second: Step) -> bool:
        """Return whether two steps give the same in either order, on every probe input."""
        return (first, second) in self._commuting

    def canonical(self, program: Program) -> Program:
        """Return the representative of all programs that differ by exchanging neighbouring steps that commute.

        Of the steps that can be moved to the front, the one that sorts first comes first, and so on: the lexicographic
        normal form of a partially commutative word (Anisimov and Knuth 1979, Inhomogeneous sorting).
        """
        rest = list(program.steps)
        ordered: list[Step] = []
        while rest:
            movable = [
                position
                for position, step in enumerate(rest)
                if all(self.commute(before, step) for before in rest[:position])
            ]
            ordered.append(rest.pop(min(movable, key=lambda position: rest[position])))
        return Program(program.kind, tuple(ordered))

    def key(self, program: Program) -> str:
        """Return the program's identity up to renaming and exchange of steps that commute."""
        return self.canonical(program).label

    def _fingerprint(self, program: Program) -> str:
        """Return the program's identity as a function: a digest of its outputs on the probe inputs.

        It is that of the canonical program, so that programs of one key have one fingerprint.
        """
        return self._digest(program.kind, self._outputs(self.canonical(program)))

    @staticmethod
    def _outputs(program: Program) -> list[Any]:
        return [program.run(probe) for probe in PROBES[program.kind]]

    @staticmethod
    def _digest(kind: Kind, outputs: list[Any]) -> str:
        return hashlib.blake2b(repr((kind, outputs)).encode(), digest_size=_DIGEST_SIZE).hexdigest()

    @cached_property
    def fewest_ops(self) -> dict[str, int]:
        """Fewest operations that make each function, for all functions of fewer than `MAX_OPS` operations.

        A function that ignores its argument counts as needing none, so that no program of it is ever drawn.
        """
        fewest: dict[str, int] = {}
        layer = [(kind, kind, list(PROBES[kind])) for kind in self.settings.kinds]
        for n_ops in range(MAX_OPS):
            new = []
            for start, kind, outputs in layer:
                digest = self._digest(start, outputs)
                # A function that fewer operations make is not extended: fewer make its extensions too.
                if digest not in fewest:
                    is_constant = all(output == outputs[0] for output in outputs)
                    fewest[digest] = 0 if is_constant else n_ops
                    new.append((start, kind, outputs))
            if n_ops < MAX_OPS - 1:
                layer = list(self._extended(new))
        return fewest

    def _extended(self, layer: list[tuple[Kind, Kind, list[Any]]]) -> Iterator[tuple[Kind, Kind, list[Any]]]:
        for start, kind, outputs in layer:
            for step in self.steps[kind]:
                operation = step.operation
                yield start, operation.gives, [operation.apply(value, step.constant) for value in outputs]

    def is_needed(self, program: Program) -> bool:
        """Return whether no program of fewer operations computes the same.

        Decided against all such programs, on the probe inputs.
        """
        return self.fewest_ops.get(self.fingerprint(program), program.n_ops) >= program.n_ops

    def is_seen(self, program: Program) -> bool:
        """Return whether at most one operation computes the same: such functions occur in every split."""
        return self.fewest_ops.get(self.fingerprint(program), MAX_OPS) <= 1

    def split(self, program: Program) -> Split:
        """Return the split of a program of two and more operations."""
        return self.settings.split_of(self.fingerprint(program))

    def is_allowed(self, program: Program, split: Split) -> bool:
        """Return whether a text of a split may show the program: it belongs to the split, or is seen everywhere."""
        return self.is_seen(program) or self.split(program) == split


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


def draw_steps(space: ProgramSpace, kind: Kind, n_ops: int, rng: np.random.Generator) -> tuple[Step, ...]:
    """Return a chain of steps that fit each other."""
    steps: list[Step] = []
    for _ in range(n_ops):
        has_constant = rng.random() < space.settings.constant_share
        steps.append(pick(space.steps_with_constant[kind] if has_constant else space.steps_without_constant[kind], rng))
        kind = steps[-1].operation.gives
    return tuple(steps)


def draw_program(space: ProgramSpace, n_ops: int | None, split: Split, rng: np.random.Generator) -> Program:
    """Return a program of a split that needs all its operations and keeps its values bounded.

    Without a number of operations, it is drawn as the streams have them.
    """
    n_ops = pick_weighted(range(1, MAX_OPS + 1), space.settings.ops_weights, rng) if n_ops is None else n_ops
    for _ in range(_MOST_TRIES):
        kind = pick(space.settings.kinds, rng)
        program = Program(kind, draw_steps(space, kind, n_ops, rng))
        if program.is_bounded and space.is_needed(program) and space.is_allowed(program, split):
            return program
    raise ValueError(
        f"found no program of {n_ops} operations for split {split!r} in {_MOST_TRIES} tries; "
        "allow more kinds, or raise the share of the split"
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
    """Return a near miss that computes something else and may be shown in the split, and how it was made."""
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
    """Return an input on which two programs differ, short where possible."""
    drawn = (draw_input(program.kind, rng) for _ in range(_DRAWN))
    for value in (*drawn, *PROBES[program.kind]):
        if program.run(value) != other.run(value):
            return value
    raise ValueError(f"{program.label!r} and {other.label!r} give the same on every input tried")


def python_assertions(cases: Sequence[Case]) -> str:
    """Return the cases as lines of Python that raise an AssertionError where one fails."""
    return "".join(f"assert {FUNCTION_NAME}({case.input!r}) == {case.output!r}\n" for case in cases)
