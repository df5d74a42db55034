"""Scaling laws for tuned code language models: from runs, or any table, to predictions with tested uncertainty.

>>> import astraios_analysis as aa
>>> runs = aa.load("data", grid="released")
>>> aa.predict(runs, size=["7b", "34b"], dataset="recode_format")  # doctest: +SKIP
"""

from importlib import import_module
from typing import Any

_FROM = {
    "astraios_analysis.api": (
        "load",
        "frame",
        "list_laws",
        "example_table",
        "describe_claims",
        "fit",
        "predict",
        "backtest",
        "rank",
        "compare",
        "transfer",
        "regress",
        "judge",
        "complete",
        "plan",
        "allocate",
        "draw",
        "grids",
        "Prediction",
        "Backtest",
        "Ranking",
        "Comparison",
        "Transfer",
        "Regression",
        "Verdicts",
        "Plan",
        "Batch",
        "Completion",
        "Allocation",
        "Drawing",
    ),
    "astraios_analysis.explorer.choices": ("Choice",),
    "astraios_analysis.explorer.sources": ("explore",),
    "astraios_analysis.explorer.widgets": ("Explorer",),
    "astraios_analysis.laws.fit": ("Fit",),
    "astraios_analysis.laws.saved": ("SavedFit", "load_fit"),
    "astraios_analysis.laws.tables": ("derive", "read_table"),
    "astraios_analysis.records.frame": ("RunRecord", "Score"),
    "astraios_analysis.records.refusal": ("Refusal",),
    "astraios_analysis.records.registry": ("declare",),
}
_MODULE = {name: module for module, names in _FROM.items() for name in names}
__all__ = sorted(_MODULE)


def __getattr__(name: str) -> Any:
    """Import what is asked for, so that importing the package loads no library."""
    if name not in _MODULE:
        raise AttributeError(f"astraios_analysis has no {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_MODULE[name]), name)


def __dir__() -> list[str]:
    """Return the public names."""
    return list(__all__)
