"""What shall be scored: names of the measures, and which of them a record lacks. Importable without torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from astraios_analysis.records.frame import RunRecord
from astraios_analysis.records.refusal import Refusal

SUITE_VERSION = 2
"""Version of the suite: raised whenever the same model would get other scores. A record's scores name theirs."""

LOSSES = "losses"
"""The measure that gives no scores but the losses of right answers (`choices.answer_losses`), also of the base."""

MEASURE_NAMES: tuple[str, ...] = (
    "synthesis",
    "fix",
    "explain",
    "clone",
    "defect",
    "robust_description",
    "robust_format",
    "robust_syntax",
    "security",
    LOSSES,
)
"""The measures in the order in which they are taken; one with scores is named as its data set without ``embedded_``."""

NOTES = "scores"
"""Where a record's ``provenance.spec`` holds a note for every measure that was taken."""


@dataclass(frozen=True)
class Scoring:
    """What is scored, and how."""

    measures: tuple[str, ...] = MEASURE_NAMES
    unsafe: bool = False
    force: bool = False

    def __post_init__(self) -> None:
        known_measures(self.measures)


def known_measures(names: Sequence[str]) -> tuple[str, ...]:
    """Return measures in the order of `MEASURE_NAMES`, each once."""
    for name in names:
        if name not in MEASURE_NAMES:
            raise Refusal(f"unknown measure {name!r}; choose from {', '.join(MEASURE_NAMES)}")
    return tuple(name for name in MEASURE_NAMES if name in names)


def missing_measures(record: RunRecord, scoring: Scoring) -> tuple[str, ...]:
    """Return the measures to take, so that a record has all that are wanted from this version of the suite."""
    notes, measured = notes_of(record), {score.dataset.removeprefix("embedded_") for score in record.scores}
    measured |= {LOSSES} if record.task_losses else set()
    return tuple(
        name
        for name in known_measures(scoring.measures)
        if scoring.force or notes.get(name, {}).get("suite_version") != SUITE_VERSION or name not in measured
    )


def notes_of(record: RunRecord) -> Mapping[str, Any]:
    """Return the notes of the measures that a record has: version of the suite, containment, time, versions."""
    notes = (record.provenance.spec or {}).get(NOTES)
    return notes if isinstance(notes, dict) else {}
