"""The registry of laws: every form that can be fitted, by name."""

from astraios_analysis.laws.curve_laws import CURVE_LAWS
from astraios_analysis.laws.forms import Law, Parameter
from astraios_analysis.laws.power_laws import CHINCHILLA, POWER, POWER_FLOOR, SIZE_LAWS
from astraios_analysis.laws.score_laws import LOGIT_LINEAR, REFERENCE_SIZE, SCORE_LAWS, decades

__all__ = [
    "CHINCHILLA",
    "LAWS",
    "LOGIT_LINEAR",
    "POWER",
    "POWER_FLOOR",
    "REFERENCE_SIZE",
    "Law",
    "Parameter",
    "decades",
    "find_law",
]

LAWS: dict[str, Law] = {law.name: law for law in (*SIZE_LAWS, *CURVE_LAWS, *SCORE_LAWS)}


def find_law(name: str) -> Law:
    """Return a law by its name.

    Raises
    ------
    KeyError
        If there is none; the message lists those there are.
    """
    if name not in LAWS:
        raise KeyError(f"unknown law {name!r}; choose from {', '.join(LAWS)}")
    return LAWS[name]
