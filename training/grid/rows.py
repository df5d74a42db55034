"""Which rows a run is trained and judged on: its corpus, and the streams of it."""

import os
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from typing import Literal

import numpy as np
from tokenizers import Tokenizer

from training.corpus.embedded import EmbeddedCorpus
from training.corpus.items import Item
from training.corpus.rows import Row as EncodedRow
from training.corpus.rows import ScoredRow, document_rows, encode, packed_rows
from training.corpus.settings import Split
from training.corpus.texts import TextCorpus, find_text
from training.loop.batches import TokenRows
from training.spec.grids import CORPORA, corpus_settings
from training.spec.run import Layout, RunSpec, Schedule

Stream = Literal["pretraining", "instructions"]

_DRAWN_AT_ONCE = 1000
# Seeds of the instructions in pre-training text lie this far from those of the runs, whose tuning draws others.
_APART = 1_000_000


def stream_rows(spec: RunSpec, schedule: Schedule, stream: Stream, tokenizer: Tokenizer) -> TokenRows:
    """Return the rows of a stream of a run's corpus; every token but the first of a row is scored, as in the study."""
    corpus, length, layout = run_corpus(spec.data), schedule.sequence_length, spec.loop.layout
    shared, n_rows = corpus.settings.split_seed, schedule.steps * schedule.global_batch
    share = (spec.pretraining_instructions or 0.0) if stream == "pretraining" else 1.0
    return TokenRows(
        training=_rows(corpus, tokenizer, share, spec.seed, "train", n_rows, length, layout),
        validation=_rows(corpus, tokenizer, share, shared, "validation", spec.n_validation, length, layout),
    )


@lru_cache(maxsize=1)
def run_corpus(label: str) -> EmbeddedCorpus | TextCorpus:
    """Return the corpus with a label, built once a process: embedded, or text from a file, a folder or the hub."""
    if label not in CORPORA and (source := find_text(label, os.environ)) is not None:
        return TextCorpus(label, source)
    return EmbeddedCorpus(corpus_settings(label))


# The methods of one size and seed share their rows, and a worker trains them one after the other.
@lru_cache(maxsize=4)
def _rows(
    corpus: EmbeddedCorpus | TextCorpus,
    tokenizer: Tokenizer,
    share: float,
    seed: int,
    split: Split,
    n: int,
    length: int,
    layout: Layout,
) -> list[ScoredRow]:
    items = corpus.instructions(seed, split) if share == 1 else _mixed(corpus, share, seed, split)
    if layout == "documents":
        documents = [item.document for item in islice(items, n)]
        return document_rows(encode(tokenizer, documents), length)
    rows: list[EncodedRow] = []
    while sum(len(row.tokens) for row in rows) < n * length:
        drawn = [item.document for item in islice(items, _DRAWN_AT_ONCE)]
        if not drawn:
            # The validation part of a text ends: fewer rows, and none twice, which would not be another row.
            break
        rows += encode(tokenizer, drawn)
    return packed_rows(rows, length)[:n]


def _mixed(corpus: EmbeddedCorpus, share: float, seed: int, split: Split) -> Iterator[Item]:
    """Yield documented functions, and in their midst a share of instructions that no tuning of this seed sees."""
    documented, instructions = corpus.pretraining(seed, split), corpus.instructions(seed + _APART, split)
    rng = np.random.default_rng([seed, _APART])
    while True:
        yield next(instructions if share and rng.random() < share else documented)
