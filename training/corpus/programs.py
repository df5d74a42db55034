"""Programs: chains of typed operations, their meaning, bounds and canonical form."""

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from training.corpus.list_operations import LIST_OPERATIONS, REDUCTIONS
from training.corpus.number_operations import NUMBER_OPERATIONS
from training.corpus.operations import INPUT_BOUNDS, Bound, Kind, Operation
from training.corpus.string_operations import STRING_COUNTS, STRING_OPERATIONS

OPERATIONS = MappingProxyType(
    {
        operation.name: operation
        for operation in (*LIST_OPERATIONS, *REDUCTIONS, *NUMBER_OPERATIONS, *STRING_OPERATIONS, *STRING_COUNTS)
    }
)
"""Every operation by name."""


class Step(NamedTuple):
    """An operation with its constant, 0 for an operation without one."""

    name: str
    constant: int = 0

    @property
    def operation(self) -> Operation:
        """The operation."""
        return OPERATIONS[self.name]

    @property
    def label(self) -> str:
        """The step in a word: ``sort_up``, ``add:3``."""
        return f"{self.name}:{self.constant}" if self.constant else self.name


@dataclass(frozen=True)
class Program:
    """A function of one argument: steps applied one after the other.

    It is the expression tree of the rendered function, in which every operation has one argument; all renderings,
    Python and Java, come from it.

    Attributes
    ----------
    kind : str
        Kind of the argument.
    steps : tuple of Step
        The operations, first one first; none for the identity.
    """

    kind: Kind
    steps: tuple[Step, ...]

    @property
    def n_ops(self) -> int:
        """Number of operations."""
        return len(self.steps)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Kinds of the values along the way: the argument's, then one after each step."""
        return (self.kind, *(step.operation.gives for step in self.steps))

    @property
    def grade(self) -> int:
        """Difficulty: the sum of the operations' grades."""
        return sum(step.operation.grade for step in self.steps)

    @property
    def label(self) -> str:
        """The program as a line of text, in its written order."""
        return " | ".join([self.kind, *(step.label for step in self.steps)])

    @property
    def is_typed(self) -> bool:
        """Whether every step takes what the one before it gives."""
        return all(step.operation.takes == kind for step, kind in zip(self.steps, self.kinds, strict=False))

    @property
    def is_bounded(self) -> bool:
        """Whether no value on the way, from any input within `INPUT_BOUNDS`, can leave the allowed range."""
        bound: Bound = INPUT_BOUNDS[self.kind]
        for step in self.steps:
            bound = step.operation.grow(bound, step.constant)
            if not bound.is_allowed:
                return False
        return True

    def run(self, value: Any) -> Any:
        """Return the program's result, computed from the tree; no text is executed.

        Parameters
        ----------
        value : list of int, int or str
            The argument; it is not changed.

        Returns
        -------
        list of int, int or str
            The result.
        """
        for step in self.steps:
            value = step.operation.apply(value, step.constant)
        return value


Commutes = Callable[[Step, Step], bool]


def canonical(program: Program, commute: Commutes) -> Program:
    """Return the representative of all programs that differ by exchanging neighbouring steps that commute.

    Of the steps that can be moved to the front, the one that sorts first comes first, and so on: the lexicographic
    normal form of a partially commutative word, the same for every order of the same program.

    Parameters
    ----------
    program : Program
        The program.
    commute : callable
        Whether two steps can be exchanged wherever they are neighbours.

    Returns
    -------
    Program
        The representative. It does not depend on names, which no program has.

    References
    ----------
    Anisimov and Knuth 1979, Inhomogeneous sorting, International Journal of Computer and Information Sciences 8.
    """
    rest = list(program.steps)
    ordered: list[Step] = []
    while rest:
        movable = [
            position for position, step in enumerate(rest) if all(commute(before, step) for before in rest[:position])
        ]
        ordered.append(rest.pop(min(movable, key=lambda position: rest[position])))
    return Program(program.kind, tuple(ordered))
