"""What an operation of a generated program is, and how large the values are that it can make."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["list", "number", "string"]

KINDS: tuple[Kind, ...] = ("list", "number", "string")
"""Kinds of values: a list of whole numbers, a whole number, a string."""

CONSTANTS = (2, 3, 5)
"""Constants of the operations. Few, because copying digits is what small models fail at first."""

MAX_MAGNITUDE = 10**6
"""Largest absolute value a program may reach on a bounded input; far inside Java's int."""

MAX_LENGTH = 24
"""Most elements or characters a value may have on the way."""


@dataclass(frozen=True)
class Bound:
    """How large a value can be: every number in it, and its length (1 for a number)."""

    magnitude: int
    length: int

    @property
    def is_allowed(self) -> bool:
        """Whether such a value may occur in a program."""
        return self.magnitude <= MAX_MAGNITUDE and self.length <= MAX_LENGTH


INPUT_BOUNDS: dict[Kind, Bound] = {"list": Bound(20, 12), "number": Bound(60, 1), "string": Bound(0, 12)}
"""How large the inputs of tests and probes are."""


def _same(bound: Bound, _constant: int) -> Bound:
    return bound


@dataclass(frozen=True)
class Operation:
    """One operation: what it computes, how it is written, and how it is said.

    Attributes
    ----------
    name : str
        Name, unique over all kinds.
    takes, gives : str
        Kind of its argument and of its result.
    grade : int
        Difficulty: 1 looks at each element alone or is a built-in, 2 needs a constant, 3 compares elements with each
        other or changes the kind of value.
    phrasings : tuple of str
        Its descriptions, one for each phrasing, ``{k}`` for the constant.
    python, alternative : str
        Two ways to write it as a Python expression of ``{v}`` and ``{k}``.
    java : str
        The same as a Java expression.
    apply : callable
        What it computes, from the value and the constant (0 where it has none).
    grow : callable
        Bound of the result from the bound of the argument and the constant.
    constants : tuple of int
        Constants it can have; empty for an operation without one.
    """

    name: str
    takes: Kind
    gives: Kind
    grade: int
    phrasings: tuple[str, str, str]
    python: str
    alternative: str
    java: str
    apply: Callable[[Any, int], Any]
    grow: Callable[[Bound, int], Bound] = _same
    constants: tuple[int, ...] = ()
