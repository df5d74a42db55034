"""One cell of a table as a value: counts, losses, rates, names; each with its unit, each refused with a reason."""

import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation

from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.schema import METHODS

MISSING = {"", "na", "n/a", "nan", "none", "null", "-"}
COUNT_UNITS = {"1": 1, "k": 10**3, "M": 10**6, "B": 10**9}
TIME_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0}
# To nats per token. A loss in bits per byte or per character needs the tokenizer, so there is no factor for it.
LOSS_UNITS: dict[str, Callable[[float], float]] = {
    "nats": lambda loss: loss,
    "bits": lambda loss: loss * math.log(2),
    "perplexity": math.log,
}
_SUFFIXES = {"k": "k", "m": "M", "b": "B", "g": "B"}
_TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def is_missing(text: str | None) -> bool:
    """Whether a cell says that nothing was measured."""
    return text is None or text.strip().lower() in MISSING


def read_count(text: str, unit: str = "1") -> int:
    """Return a whole number from ``1137207296``, ``1_137_207_296``, ``1.137207296e9`` or ``1.1B``.

    A suffix says its own unit; ``unit`` is that of numbers without one.
    """
    match = re.fullmatch(r"\s*([\d._]+(?:[eE]\+?\d+)?)\s*([kKmMbBgG]?)\s*", text)
    try:
        number = Decimal(match[1].replace("_", "")) if match else None
    except InvalidOperation:
        number = None
    if match is None or number is None:
        raise Refusal(f"{text!r} is not a count, such as 1137207296, 1.137e9 or 1.137B")
    value = number * COUNT_UNITS[_SUFFIXES[match[2].lower()] if match[2] else unit]
    if value != int(value):
        raise Refusal(f"{text!r} is not a whole number; say its unit (k, M or B) where it has one")
    return int(value)


def read_number(text: str) -> float:
    """Return a finite number."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not math.isfinite(value):
        raise Refusal(f"{text!r} is not a finite number; leave a cell empty where nothing was measured")
    return value


def read_percentage(text: str) -> float:
    """Return a share from a percentage; divided in decimals, so that 1.8 is 0.018 and not a neighbour of it."""
    read_number(text)
    return float(Decimal(text.strip()) / 100)


def read_loss(text: str, unit: str = "nats") -> float:
    """Return a cross-entropy in nats per token from nats, bits per token or perplexity."""
    value = read_number(text)
    if unit == "perplexity" and value < 1:
        raise Refusal(f"{text!r} is no perplexity, which is 1 or more; is the column a loss in nats?")
    return LOSS_UNITS[unit](value)


def read_truth(text: str) -> bool:
    """Return whether a cell says yes."""
    if text.strip().lower() not in _TRUTHS:
        raise Refusal(f"{text!r} is neither true nor false")
    return _TRUTHS[text.strip().lower()]


def read_method(text: str, names: Mapping[str, str]) -> str:
    """Return a tuning method from its name here, its display name (``(IA)^3``), or a name that the user maps."""
    if text in names:
        return names[text]
    plain = "".join(c for c in unicodedata.normalize("NFKC", text).lower() if c.isalnum())
    if plain not in METHODS:
        raise Refusal(
            f"unknown tuning method {text!r}; choose from {', '.join(sorted(METHODS))}, or say which it is with "
            f"--method-name {text!r} METHOD"
        )
    return plain
