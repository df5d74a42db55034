"""Scores and records: which measures a record lacks, taking them, and putting them in.

Every measure that was taken leaves a note in the record, ``provenance.spec["scores"]``: version of the suite, what
contained the programs, time and code. A measure whose note is of another version counts as missing.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from peft import PeftModel
from pydantic import JsonValue
from tokenizers import Tokenizer
from transformers import PreTrainedModel

from astraios_analysis.records.frame import RunRecord, Score, TaskLoss
from training.corpus.embedded import EmbeddedCorpus
from training.corpus.settings import COMPLETION
from training.published.writing import note_of, notes_of, renewed
from training.sandbox.pool import Sandbox
from training.suite.answers import ModelRespondent
from training.suite.choices import answer_losses
from training.suite.measures import MEASURES, Examination, completion_scores
from training.suite.request import (
    LOSSES,
    MEASURE_NAMES,
    SUITE_VERSION,
    Scoring,
    known_measures,
    missing_measures,
)


@dataclass(frozen=True)
class Taken:
    """A measure that was taken: its scores, and the note that a record keeps."""

    measure: str
    scores: tuple[Score, ...]
    note: dict[str, JsonValue]
    losses: dict[str, TaskLoss] = field(default_factory=dict)


def with_scores(record: RunRecord, taken: Taken) -> RunRecord:
    """Return a record with a measure's scores in place of those it had, and with the note of how they were got."""
    kept = [score for score in record.scores if score.dataset != f"embedded_{taken.measure}"]
    # In the order of the suite, other ones before them.
    places = {f"embedded_{name}": place for place, name in enumerate(MEASURE_NAMES)}
    scores = sorted([*kept, *taken.scores], key=lambda score: places.get(score.dataset, -1))
    notes = {**notes_of(record), taken.measure: taken.note}
    notes = {name: notes[name] for name in (*MEASURE_NAMES, *notes) if name in notes}
    losses = {"task_losses": taken.losses} if taken.measure == LOSSES else {}
    return renewed(record, notes, scores=tuple(scores), **losses)


def score_record(
    record: RunRecord,
    model: PreTrainedModel | PeftModel,
    tokenizer: Tokenizer,
    corpus: EmbeddedCorpus,
    scoring: Scoring,
    keep: Callable[[RunRecord], None] = lambda record: None,
) -> RunRecord:
    """Return a run's record with the measures that it lacks, taken from its model on the device where that is."""
    missing = missing_measures(record, scoring)
    for taken in take_measures(model, tokenizer, corpus, missing, unsafe=scoring.unsafe):
        record = with_scores(record, taken)
        keep(record)
    return record


def take_measures(
    model: PreTrainedModel | PeftModel,
    tokenizer: Tokenizer,
    corpus: EmbeddedCorpus,
    measures: Sequence[str],
    *,
    unsafe: bool = False,
    is_base: bool = False,
    progress: bool | None = False,
) -> Iterator[Taken]:
    """Take measures of a model, tuned or not, and yield each as soon as it is there."""
    if not measures:
        return
    wanted = {name: MEASURES.get(name) for name in known_measures(measures)}
    if is_base:
        wanted = {COMPLETION: completion_scores, **wanted}
    with Sandbox(workers=1, unsafe=unsafe) as sandbox:
        examination = Examination(ModelRespondent(model, tokenizer, progress=progress), corpus, sandbox)
        for name, take in wanted.items():
            started = time.perf_counter()
            losses = answer_losses(examination.respondent, corpus) if name == LOSSES else {}
            scores = tuple(take(examination)) if take else ()
            how = {"suite_version": SUITE_VERSION, "sandbox": sandbox.backend_name}
            yield Taken(name, scores, how | note_of(model, started, "transformers", "bandit"), losses)
