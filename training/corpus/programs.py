"""Programs: chains of typed operations, their meaning, bounds and canonical form."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

Kind = Literal["list", "number", "string"]
"""Kinds of values: a list of whole numbers, a whole number, a string."""

CONSTANTS = (2, 3, 5)
"""Constants of the operations. Few, because copying digits is what small models fail at first."""

MAX_MAGNITUDE = 10**6
"""Largest absolute value a program may reach on a bounded input."""

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
    """One operation: how it is said and written, with ``{v}`` for its argument and ``{k}`` for its constant."""

    name: str
    phrasings: tuple[str, str, str]
    # Two expressions in Python, the usual one first.
    python: tuple[str, str]
    takes: Kind
    gives: Kind
    # The result, and its bound, from the value's and the constant (0 where there is none).
    apply: Callable[[Any, int], Any]
    grow: Callable[[Bound, int], Bound] = _same

    @property
    def constants(self) -> tuple[int, ...]:
        """Constants that it may have; none for most operations."""
        return CONSTANTS if "{k}" in self.python[0] else ()


_endo = partial(Operation, takes="list", gives="list")
_reduction = partial(Operation, takes="list", gives="number")
_number = partial(Operation, takes="number", gives="number")
_string = partial(Operation, takes="string", gives="string")

# A number of at most MAX_MAGNITUDE (10**6) has at most seven digits.
_MOST_DIGITS = 7


def _to_number(bound: Bound, _constant: int) -> Bound:
    return Bound(bound.length, 1)


# Only those of lists, without the reductions, are in the default corpus.
_OPERATIONS: tuple[Operation, ...] = (
    _endo(
        "sort_up",
        ("sort the numbers", "put the numbers in rising order", "order the numbers from small to large"),
        ("sorted({v})", "sorted({v}, reverse=False)"),
        apply=lambda xs, k: sorted(xs),
    ),
    _endo(
        "sort_down",
        ("sort the numbers downwards", "put the numbers in falling order", "order the numbers from large to small"),
        ("sorted({v}, reverse=True)", "sorted({v})[::-1]"),
        apply=lambda xs, k: sorted(xs, reverse=True),
    ),
    _endo(
        "reverse",
        ("reverse the list", "turn the list around", "read the list backwards"),
        ("{v}[::-1]", "list(reversed({v}))"),
        apply=lambda xs, k: xs[::-1],
    ),
    _endo(
        "negate",
        ("negate every number", "flip the sign of each number", "subtract every number from zero"),
        ("[-x for x in {v}]", "[0 - x for x in {v}]"),
        apply=lambda xs, k: [-x for x in xs],
    ),
    _endo(
        "absolute",
        ("take the absolute value of every number", "remove the sign of each number", "make every number unsigned"),
        ("[abs(x) for x in {v}]", "[max(x, -x) for x in {v}]"),
        apply=lambda xs, k: [abs(x) for x in xs],
    ),
    _endo(
        "square",
        ("square every number", "multiply each number by itself", "raise every number to its square"),
        ("[x * x for x in {v}]", "[x ** 2 for x in {v}]"),
        apply=lambda xs, k: [x * x for x in xs],
        grow=lambda bound, k: Bound(bound.magnitude**2, bound.length),
    ),
    _endo(
        "keep_even",
        ("keep the even numbers", "leave out the odd numbers", "select the even numbers only"),
        ("[x for x in {v} if x % 2 == 0]", "[x for x in {v} if not x % 2]"),
        apply=lambda xs, k: [x for x in xs if x % 2 == 0],
    ),
    _endo(
        "keep_odd",
        ("keep the odd numbers", "leave out the even numbers", "select the odd numbers only"),
        ("[x for x in {v} if x % 2 != 0]", "[x for x in {v} if x % 2]"),
        apply=lambda xs, k: [x for x in xs if x % 2],
    ),
    _endo(
        "keep_positive",
        ("keep the positive numbers", "leave out zero and the negative numbers", "select the numbers above zero"),
        ("[x for x in {v} if x > 0]", "[x for x in {v} if 0 < x]"),
        apply=lambda xs, k: [x for x in xs if x > 0],
    ),
    _endo(
        "unique",
        ("drop repeated numbers", "keep the first of equal numbers", "remove the duplicates"),
        ("list(dict.fromkeys({v}))", "sorted(set({v}), key={v}.index)"),
        apply=lambda xs, k: list(dict.fromkeys(xs)),
    ),
    _endo(
        "running_total",
        ("take the running totals", "replace each number by the sum so far", "accumulate the numbers"),
        ("[sum({v}[:i + 1]) for i in range(len({v}))]", "[sum({v}[:i]) for i in range(1, len({v}) + 1)]"),
        apply=lambda xs, k: list(accumulate(xs)),
        grow=lambda bound, k: Bound(bound.magnitude * bound.length, bound.length),
    ),
    _endo(
        "differences",
        ("take the differences of neighbours", "subtract each number from the next one", "list the successive changes"),
        ("[b - a for a, b in zip({v}, {v}[1:])]", "[{v}[i + 1] - {v}[i] for i in range(len({v}) - 1)]"),
        apply=lambda xs, k: [b - a for a, b in pairwise(xs)],
        grow=lambda bound, k: Bound(2 * bound.magnitude, bound.length),
    ),
    _endo(
        "add",
        ("add {k} to every number", "increase each number by {k}", "raise every number by {k}"),
        ("[x + {k} for x in {v}]", "[{k} + x for x in {v}]"),
        apply=lambda xs, k: [x + k for x in xs],
        grow=lambda bound, k: Bound(bound.magnitude + k, bound.length),
    ),
    _endo(
        "multiply",
        ("multiply every number by {k}", "scale each number by {k}", "make every number {k} times as large"),
        ("[x * {k} for x in {v}]", "[{k} * x for x in {v}]"),
        apply=lambda xs, k: [x * k for x in xs],
        grow=lambda bound, k: Bound(bound.magnitude * k, bound.length),
    ),
    _endo(
        "keep_above",
        ("keep the numbers above {k}", "leave out the numbers up to {k}", "select the numbers larger than {k}"),
        ("[x for x in {v} if x > {k}]", "[x for x in {v} if {k} < x]"),
        apply=lambda xs, k: [x for x in xs if x > k],
    ),
    _endo(
        "take_first",
        ("take the first {k} numbers", "leave out all after the first {k}", "cut the list to {k} numbers"),
        ("{v}[:{k}]", "{v}[0:{k}]"),
        apply=lambda xs, k: xs[:k],
    ),
    _reduction(
        "total",
        ("add up the numbers", "find the sum of the list", "sum all numbers"),
        ("sum({v})", "sum(x for x in {v})"),
        apply=lambda xs, k: sum(xs),
        grow=lambda bound, k: Bound(bound.magnitude * bound.length, 1),
    ),
    _reduction(
        "largest",
        ("find the largest number or 0", "pick the maximum with 0 for an empty list", "get the biggest number or 0"),
        ("max({v}, default=0)", "max({v}) if {v} else 0"),
        apply=lambda xs, k: max(xs, default=0),
        grow=lambda bound, k: Bound(bound.magnitude, 1),
    ),
    _reduction(
        "count",
        ("count the numbers", "find the length of the list", "get how many numbers there are"),
        ("len({v})", "sum(1 for x in {v})"),
        apply=lambda xs, k: len(xs),
        grow=lambda bound, k: Bound(bound.length, 1),
    ),
    _number(
        "negate_number",
        ("negate the number", "flip the sign of the number", "subtract the number from zero"),
        ("-{v}", "0 - {v}"),
        apply=lambda n, k: -n,
    ),
    _number(
        "absolute_number",
        ("take the absolute value of the number", "remove the sign of the number", "make the number unsigned"),
        ("abs({v})", "max({v}, -{v})"),
        apply=lambda n, k: abs(n),
    ),
    _number(
        "square_number",
        ("square the number", "multiply the number by itself", "raise the number to its square"),
        ("{v} * {v}", "{v} ** 2"),
        apply=lambda n, k: n * n,
        grow=lambda bound, k: Bound(bound.magnitude**2, 1),
    ),
    _number(
        "halve",
        ("halve the number and round down", "take the lower half of the number", "divide the number by two downwards"),
        ("{v} // 2", "({v} - {v} % 2) // 2"),
        apply=lambda n, k: n // 2,
    ),
    _number(
        "add_to_number",
        ("add {k} to the number", "increase the number by {k}", "raise the number by {k}"),
        ("{v} + {k}", "{k} + {v}"),
        apply=lambda n, k: n + k,
        grow=lambda bound, k: Bound(bound.magnitude + k, 1),
    ),
    _number(
        "multiply_number",
        ("multiply the number by {k}", "scale the number by {k}", "make the number {k} times as large"),
        ("{v} * {k}", "{k} * {v}"),
        apply=lambda n, k: n * k,
        grow=lambda bound, k: Bound(bound.magnitude * k, 1),
    ),
    _number(
        "remainder",
        ("take the remainder modulo {k}", "find what is left after division by {k}", "reduce the number modulo {k}"),
        ("{v} % {k}", "{v} - {v} // {k} * {k}"),
        apply=lambda n, k: n % k,
        grow=lambda bound, k: Bound(max(bound.magnitude, k), 1),
    ),
    _number(
        "digits",
        ("list the digits of the number", "split the number into its digits", "spell the number as a list of digits"),
        ("[int(d) for d in str(abs({v}))]", "list(map(int, str(abs({v}))))"),
        apply=lambda n, k: [int(digit) for digit in str(abs(n))],
        grow=lambda bound, k: Bound(9, _MOST_DIGITS),
        gives="list",
    ),
    _string(
        "to_upper",
        ("write the text in capital letters", "turn small letters into capitals", "change the text to upper case"),
        ("{v}.upper()", '"".join(c.upper() for c in {v})'),
        apply=lambda s, k: s.upper(),
    ),
    _string(
        "to_lower",
        ("write the text in small letters", "turn capital letters into small ones", "change the text to lower case"),
        ("{v}.lower()", '"".join(c.lower() for c in {v})'),
        apply=lambda s, k: s.lower(),
    ),
    _string(
        "reverse_text",
        ("reverse the text", "turn the text around", "read the text backwards"),
        ("{v}[::-1]", '"".join(reversed({v}))'),
        apply=lambda s, k: s[::-1],
    ),
    _string(
        "sort_letters",
        ("sort the characters", "put the characters in rising order", "order the characters by their code"),
        ('"".join(sorted({v}))', '"".join(sorted(list({v})))'),
        apply=lambda s, k: "".join(sorted(s)),
    ),
    _string(
        "drop_vowels",
        ("drop the small vowels", "leave out the letters a e i o u", "remove the lower case vowels"),
        ('"".join(c for c in {v} if c not in "aeiou")', '"".join([c for c in {v} if "aeiou".find(c) < 0])'),
        apply=lambda s, k: "".join(c for c in s if c not in "aeiou"),
    ),
    _string(
        "keep_letters",
        ("keep the letters", "leave out what is not a letter", "select the letters only"),
        ('"".join(c for c in {v} if c.isalpha())', '"".join(filter(str.isalpha, {v}))'),
        apply=lambda s, k: "".join(c for c in s if c.isalpha()),
    ),
    _string(
        "double_text",
        ("write the text twice", "append the text to itself", "repeat the text once more"),
        ("{v} + {v}", "{v} * 2"),
        apply=lambda s, k: s + s,
        grow=lambda bound, k: Bound(0, 2 * bound.length),
    ),
    _string(
        "drop_first_character",
        ("drop the first character", "leave out the character at the front", "skip the first character"),
        ("{v}[1:]", "{v}[1:len({v})]"),
        apply=lambda s, k: s[1:],
    ),
    _string(
        "unique_characters",
        ("drop repeated characters", "keep the first of equal characters", "remove the duplicate characters"),
        ('"".join(dict.fromkeys({v}))', '"".join(sorted(set({v}), key={v}.index))'),
        apply=lambda s, k: "".join(dict.fromkeys(s)),
    ),
    _string(
        "take_characters",
        ("take the first {k} characters", "leave out all after character {k}", "cut the text to {k} characters"),
        ("{v}[:{k}]", "{v}[0:{k}]"),
        apply=lambda s, k: s[:k],
    ),
    _string(
        "text_length",
        ("count the characters", "find the length of the text", "get how many characters there are"),
        ("len({v})", "sum(1 for c in {v})"),
        apply=lambda s, k: len(s),
        grow=_to_number,
        gives="number",
    ),
    _string(
        "count_vowels",
        ("count the small vowels", "find how many of a e i o u there are", "get the number of lower case vowels"),
        ('sum(c in "aeiou" for c in {v})', 'len([c for c in {v} if c in "aeiou"])'),
        apply=lambda s, k: sum(c in "aeiou" for c in s),
        grow=_to_number,
        gives="number",
    ),
)

OPERATIONS = MappingProxyType({operation.name: operation for operation in _OPERATIONS})
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

    It is the expression tree, in which every operation has one argument; all renderings come from it.
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
        """Return the program's result, computed from the tree; no text is executed."""
        for step in self.steps:
            value = step.operation.apply(value, step.constant)
        return value
