"""Operations on lists of whole numbers."""

from itertools import accumulate, pairwise

from training.corpus.operations import CONSTANTS, Bound, Operation


def _endo(name: str, grade: int, phrasings: tuple[str, str, str], python: str, alternative: str, java: str, **more):
    return Operation(name, "list", "list", grade, phrasings, python, alternative, java, **more)


def _reduction(name: str, phrasings: tuple[str, str, str], python: str, alternative: str, java: str, **more):
    return Operation(name, "list", "number", 3, phrasings, python, alternative, java, **more)


LIST_OPERATIONS: tuple[Operation, ...] = (
    _endo(
        "sort_up",
        1,
        ("sort the numbers", "put the numbers in rising order", "order the numbers from small to large"),
        "sorted({v})",
        "sorted({v}, reverse=False)",
        "{v}.stream().sorted().toList()",
        apply=lambda xs, k: sorted(xs),
    ),
    _endo(
        "sort_down",
        1,
        ("sort the numbers downwards", "put the numbers in falling order", "order the numbers from large to small"),
        "sorted({v}, reverse=True)",
        "sorted({v})[::-1]",
        "{v}.stream().sorted(Comparator.reverseOrder()).toList()",
        apply=lambda xs, k: sorted(xs, reverse=True),
    ),
    _endo(
        "reverse",
        1,
        ("reverse the list", "turn the list around", "read the list backwards"),
        "{v}[::-1]",
        "list(reversed({v}))",
        "IntStream.range(0, {v}.size()).mapToObj(i -> {v}.get({v}.size() - 1 - i)).toList()",
        apply=lambda xs, k: xs[::-1],
    ),
    _endo(
        "negate",
        1,
        ("negate every number", "flip the sign of each number", "subtract every number from zero"),
        "[-x for x in {v}]",
        "[0 - x for x in {v}]",
        "{v}.stream().map(x -> -x).toList()",
        apply=lambda xs, k: [-x for x in xs],
    ),
    _endo(
        "absolute",
        1,
        ("take the absolute value of every number", "remove the sign of each number", "make every number unsigned"),
        "[abs(x) for x in {v}]",
        "[max(x, -x) for x in {v}]",
        "{v}.stream().map(x -> Math.abs(x)).toList()",
        apply=lambda xs, k: [abs(x) for x in xs],
    ),
    _endo(
        "square",
        1,
        ("square every number", "multiply each number by itself", "raise every number to its square"),
        "[x * x for x in {v}]",
        "[x ** 2 for x in {v}]",
        "{v}.stream().map(x -> x * x).toList()",
        apply=lambda xs, k: [x * x for x in xs],
        grow=lambda bound, k: Bound(bound.magnitude**2, bound.length),
    ),
    _endo(
        "keep_even",
        1,
        ("keep the even numbers", "leave out the odd numbers", "select the even numbers only"),
        "[x for x in {v} if x % 2 == 0]",
        "[x for x in {v} if not x % 2]",
        "{v}.stream().filter(x -> x % 2 == 0).toList()",
        apply=lambda xs, k: [x for x in xs if x % 2 == 0],
    ),
    _endo(
        "keep_odd",
        1,
        ("keep the odd numbers", "leave out the even numbers", "select the odd numbers only"),
        "[x for x in {v} if x % 2 != 0]",
        "[x for x in {v} if x % 2]",
        "{v}.stream().filter(x -> x % 2 != 0).toList()",
        apply=lambda xs, k: [x for x in xs if x % 2],
    ),
    _endo(
        "keep_positive",
        1,
        ("keep the positive numbers", "leave out zero and the negative numbers", "select the numbers above zero"),
        "[x for x in {v} if x > 0]",
        "[x for x in {v} if 0 < x]",
        "{v}.stream().filter(x -> x > 0).toList()",
        apply=lambda xs, k: [x for x in xs if x > 0],
    ),
    _endo(
        "unique",
        3,
        ("drop repeated numbers", "keep the first of equal numbers", "remove the duplicates"),
        "list(dict.fromkeys({v}))",
        "sorted(set({v}), key={v}.index)",
        "{v}.stream().distinct().toList()",
        apply=lambda xs, k: list(dict.fromkeys(xs)),
    ),
    _endo(
        "running_total",
        3,
        ("take the running totals", "replace each number by the sum so far", "accumulate the numbers"),
        "[sum({v}[:i + 1]) for i in range(len({v}))]",
        "[sum({v}[:i]) for i in range(1, len({v}) + 1)]",
        "IntStream.range(0, {v}.size()).mapToObj(i -> {v}.subList(0, i + 1).stream().mapToInt(x -> x).sum()).toList()",
        apply=lambda xs, k: list(accumulate(xs)),
        grow=lambda bound, k: Bound(bound.magnitude * bound.length, bound.length),
    ),
    _endo(
        "differences",
        3,
        ("take the differences of neighbours", "subtract each number from the next one", "list the successive changes"),
        "[b - a for a, b in zip({v}, {v}[1:])]",
        "[{v}[i + 1] - {v}[i] for i in range(len({v}) - 1)]",
        "IntStream.range(1, {v}.size()).mapToObj(i -> {v}.get(i) - {v}.get(i - 1)).toList()",
        apply=lambda xs, k: [b - a for a, b in pairwise(xs)],
        grow=lambda bound, k: Bound(2 * bound.magnitude, bound.length),
    ),
    _endo(
        "add",
        2,
        ("add {k} to every number", "increase each number by {k}", "raise every number by {k}"),
        "[x + {k} for x in {v}]",
        "[{k} + x for x in {v}]",
        "{v}.stream().map(x -> x + {k}).toList()",
        apply=lambda xs, k: [x + k for x in xs],
        grow=lambda bound, k: Bound(bound.magnitude + k, bound.length),
        constants=CONSTANTS,
    ),
    _endo(
        "multiply",
        2,
        ("multiply every number by {k}", "scale each number by {k}", "make every number {k} times as large"),
        "[x * {k} for x in {v}]",
        "[{k} * x for x in {v}]",
        "{v}.stream().map(x -> x * {k}).toList()",
        apply=lambda xs, k: [x * k for x in xs],
        grow=lambda bound, k: Bound(bound.magnitude * k, bound.length),
        constants=CONSTANTS,
    ),
    _endo(
        "keep_above",
        2,
        ("keep the numbers above {k}", "leave out the numbers up to {k}", "select the numbers larger than {k}"),
        "[x for x in {v} if x > {k}]",
        "[x for x in {v} if {k} < x]",
        "{v}.stream().filter(x -> x > {k}).toList()",
        apply=lambda xs, k: [x for x in xs if x > k],
        constants=CONSTANTS,
    ),
    _endo(
        "take_first",
        2,
        ("take the first {k} numbers", "leave out all after the first {k}", "cut the list to {k} numbers"),
        "{v}[:{k}]",
        "{v}[0:{k}]",
        "{v}.stream().limit({k}).toList()",
        apply=lambda xs, k: xs[:k],
        constants=CONSTANTS,
    ),
)
"""Lists to lists: the default corpus."""

REDUCTIONS: tuple[Operation, ...] = (
    _reduction(
        "total",
        ("add up the numbers", "find the sum of the list", "sum all numbers"),
        "sum({v})",
        "sum(x for x in {v})",
        "{v}.stream().mapToInt(x -> x).sum()",
        apply=lambda xs, k: sum(xs),
        grow=lambda bound, k: Bound(bound.magnitude * bound.length, 1),
    ),
    _reduction(
        "largest",
        ("find the largest number or 0", "pick the maximum with 0 for an empty list", "get the biggest number or 0"),
        "max({v}, default=0)",
        "max({v}) if {v} else 0",
        "{v}.stream().mapToInt(x -> x).max().orElse(0)",
        apply=lambda xs, k: max(xs, default=0),
        grow=lambda bound, k: Bound(bound.magnitude, 1),
    ),
    _reduction(
        "count",
        ("count the numbers", "find the length of the list", "get how many numbers there are"),
        "len({v})",
        "sum(1 for x in {v})",
        "{v}.size()",
        apply=lambda xs, k: len(xs),
        grow=lambda bound, k: Bound(bound.length, 1),
    ),
)
"""Lists to numbers: only where both kinds are chosen."""
