"""Arguments to run programs on: fixed probes that tell programs apart, and drawn ones for tests and questions."""

from types import MappingProxyType
from typing import Any

import numpy as np

from training.corpus.operations import Kind

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
    """Return a short argument, of a size that fits a question or an assertion.

    Parameters
    ----------
    kind : {"list", "number", "string"}
        Kind of the argument.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    list of int, int or str
        Three to six numbers from -6 to 9, a number from -40 to 60, or three to eight characters.
    """
    if kind == "list":
        return rng.integers(-6, 10, size=rng.integers(3, 7)).tolist()
    if kind == "number":
        return int(rng.integers(-40, 61))
    return "".join(_CHARACTERS[i] for i in rng.integers(len(_CHARACTERS), size=rng.integers(3, 9)))
