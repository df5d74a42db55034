"""Operations on single whole numbers (an option, not in the default corpus)."""

from training.corpus.operations import CONSTANTS, Bound, Kind, Operation

# A number of at most MAX_MAGNITUDE (10**6) has at most seven digits.
_MOST_DIGITS = 7


def _number(
    name: str, grade: int, phrasings: tuple[str, str, str], python: str, alternative: str, java: str, **more
) -> Operation:
    gives: Kind = more.pop("gives", "number")
    return Operation(name, "number", gives, grade, phrasings, python, alternative, java, **more)


NUMBER_OPERATIONS: tuple[Operation, ...] = (
    _number(
        "negate_number",
        1,
        ("negate the number", "flip the sign of the number", "subtract the number from zero"),
        "-{v}",
        "0 - {v}",
        "-{v}",
        apply=lambda n, k: -n,
    ),
    _number(
        "absolute_number",
        1,
        ("take the absolute value of the number", "remove the sign of the number", "make the number unsigned"),
        "abs({v})",
        "max({v}, -{v})",
        "Math.abs({v})",
        apply=lambda n, k: abs(n),
    ),
    _number(
        "square_number",
        1,
        ("square the number", "multiply the number by itself", "raise the number to its square"),
        "{v} * {v}",
        "{v} ** 2",
        "{v} * {v}",
        apply=lambda n, k: n * n,
        grow=lambda bound, k: Bound(bound.magnitude**2, 1),
    ),
    _number(
        "halve",
        1,
        ("halve the number and round down", "take the lower half of the number", "divide the number by two downwards"),
        "{v} // 2",
        "({v} - {v} % 2) // 2",
        "Math.floorDiv({v}, 2)",
        apply=lambda n, k: n // 2,
    ),
    _number(
        "add_to_number",
        2,
        ("add {k} to the number", "increase the number by {k}", "raise the number by {k}"),
        "{v} + {k}",
        "{k} + {v}",
        "{v} + {k}",
        apply=lambda n, k: n + k,
        grow=lambda bound, k: Bound(bound.magnitude + k, 1),
        constants=CONSTANTS,
    ),
    _number(
        "multiply_number",
        2,
        ("multiply the number by {k}", "scale the number by {k}", "make the number {k} times as large"),
        "{v} * {k}",
        "{k} * {v}",
        "{v} * {k}",
        apply=lambda n, k: n * k,
        grow=lambda bound, k: Bound(bound.magnitude * k, 1),
        constants=CONSTANTS,
    ),
    _number(
        "remainder",
        2,
        ("take the remainder modulo {k}", "find what is left after division by {k}", "reduce the number modulo {k}"),
        "{v} % {k}",
        "{v} - {v} // {k} * {k}",
        "Math.floorMod({v}, {k})",
        apply=lambda n, k: n % k,
        grow=lambda bound, k: Bound(max(bound.magnitude, k), 1),
        constants=CONSTANTS,
    ),
    _number(
        "digits",
        3,
        ("list the digits of the number", "split the number into its digits", "spell the number as a list of digits"),
        "[int(d) for d in str(abs({v}))]",
        "list(map(int, str(abs({v}))))",
        "String.valueOf(Math.abs({v})).chars().mapToObj(c -> c - '0').toList()",
        apply=lambda n, k: [int(digit) for digit in str(abs(n))],
        grow=lambda bound, k: Bound(9, _MOST_DIGITS),
        gives="list",
    ),
)
"""Numbers to numbers, and one to lists."""
