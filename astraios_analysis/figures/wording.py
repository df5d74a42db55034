"""Names and enumerations as a reader wants them in a sentence."""

from collections.abc import Iterable

from astraios_analysis.figures.style import METHOD_STYLES
from astraios_analysis.records.registry import DATASETS


def name_method(method: str) -> str:
    """Return a method's display name."""
    return METHOD_STYLES[method].label


def name_dataset(dataset: str) -> str:
    """Return a data set's title, or its name where it is not one of the study's."""
    return DATASETS[dataset].title if dataset in DATASETS else dataset


def join(words: Iterable[str]) -> str:
    """Return words as an enumeration: ``a, b and c``."""
    words = list(words)
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
