"""What shall be scored: names of the measures, and which of them a record lacks. Importable without torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from astraios_analysis.records.frame import RunRecord
from astraios_analysis.records.refusal import Refusal, require_known
from training.published.tasks import find_task
from training.published.writing import WRITING_VERSION, Writing, notes_of

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


@dataclass(frozen=True)
class Scoring:
    """What is scored, and how."""

    measures: tuple[str, ...] = MEASURE_NAMES
    unsafe: bool = False
    force: bool = False
    # Of runs on text, which have no suite: data sets of the study, the folder of their problems (files DATASET.jsonl;
    # else the hub), and how models answer.
    datasets: tuple[str, ...] = ()
    problems: Path | None = None
    writing: Writing | None = None

    def __post_init__(self) -> None:
        known_measures(self.measures)
        for name in self.datasets:
            find_task(name)

    def problems_of(self, dataset: str) -> Path | None:
        """Return the file of a data set's problems, gzipped or not; None where they come from the hub."""
        if self.problems is None:
            return None
        names = [f"{dataset}.jsonl", f"{dataset}.jsonl.gz"]
        found = next((path for name in names if (path := self.problems / name).is_file()), None)
        if found is None:
            raise Refusal(f"{self.problems} has no {' or '.join(names)}; put the problems there, or choose data sets")
        return found


def known_measures(names: Sequence[str]) -> tuple[str, ...]:
    """Return measures in the order of `MEASURE_NAMES`, each once."""
    require_known("measure", names, MEASURE_NAMES)
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


def is_unscored(record: RunRecord, scoring: Scoring) -> bool:
    """Whether a record lacks anything that is wanted."""
    return bool(missing_measures(record, scoring) or missing_datasets(record, scoring))


def missing_datasets(record: RunRecord, scoring: Scoring) -> tuple[str, ...]:
    """Return the data sets of the study to score, so that a record has all that are wanted."""
    notes = notes_of(record)
    return tuple(
        name for name in scoring.datasets if scoring.force or notes.get(name, {}).get("version") != WRITING_VERSION
    )
