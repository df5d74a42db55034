"""Which rows a run is trained and judged on: its corpus, and the streams of it."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from itertools import islice
from typing import Any, Literal

import numpy as np
from datasets import Dataset, Features, List, Value, disable_progress_bars
from tokenizers import Tokenizer

from training.corpus.embedded import EmbeddedCorpus
from training.corpus.items import Item
from training.corpus.rows import END_OF_TEXT, ScoredRow, document_rows, encode, packed_rows
from training.corpus.rows import Row as EncodedRow
from training.corpus.settings import Split
from training.corpus.texts import TextCorpus, find_text
from training.loop.batches import TokenRows
from training.spec.grids import CORPORA, corpus_settings
from training.spec.run import Layout, RunSpec, Schedule

Stream = Literal["pretraining", "instructions"]

_DRAWN_AT_ONCE = 1000
# Of stored rows: raised when the same text gives others.
_ROWS_VERSION = 1
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
) -> Sequence[ScoredRow]:
    items = corpus.instructions(seed, split) if share == 1 else _mixed(corpus, share, seed, split)
    rows = _document_rows if layout == "documents" else _packed_rows
    if isinstance(corpus, TextCorpus):
        sources = corpus.settings.sha256, tokenizer.to_str(), tokenizer.token_to_id(END_OF_TEXT)
        return StoredRows(partial(rows, items, tokenizer, n, length), *sources, seed, split, n, length, layout)
    return list(rows(items, tokenizer, n, length))


def _document_rows(items: Iterator[Item], tokenizer: Tokenizer, n: int, length: int) -> Iterator[ScoredRow]:
    """Yield documents as rows, the first n of them."""
    documents = (item.document for item in islice(items, n))
    while drawn := list(islice(documents, _DRAWN_AT_ONCE)):
        yield from document_rows(encode(tokenizer, drawn), length)


def _packed_rows(items: Iterator[Item], tokenizer: Tokenizer, n: int, length: int) -> Iterator[ScoredRow]:
    """Yield the first n blocks of documents, and fewer where a text ends: a row twice would not be another row."""
    rows: list[EncodedRow] = []
    while n and (drawn := [item.document for item in islice(items, _DRAWN_AT_ONCE)]):
        rows += encode(tokenizer, drawn)
        if sum(len(row.tokens) for row in rows) < length:
            continue
        blocks = packed_rows(rows, length)[:n]
        yield from blocks
        n -= len(blocks)
        # What does not fill a block begins the next one.
        tokens = [token for row in rows for token in row.tokens]
        rows = [EncodedRow(tuple(tokens[len(blocks) * length :]), 0)]


class StoredRows(Sequence[ScoredRow]):
    """Rows of a text, all of whose tokens are scored: made once a machine, and read from the disk as they are needed.

    They lie as Arrow files in the cache of the library `datasets`, mapped into memory, which all processes share.
    """

    def __init__(self, make: Callable[[], Iterator[ScoredRow]], *sources: Any) -> None:
        def tokens_of() -> Iterator[dict[str, Any]]:
            yield from ({"tokens": row.tokens} for row in make())

        digest = hashlib.sha256(json.dumps([_ROWS_VERSION, *sources]).encode()).hexdigest()[:32]
        features = Features({"tokens": List(Value("int32"))})
        disable_progress_bars()
        # Of several processes that ask, the first one makes them and the others wait.
        self._table = Dataset.from_generator(tokens_of, features, fingerprint=digest).with_format("numpy")

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int) -> ScoredRow:
        tokens = self._table[index]["tokens"].astype(np.int64)
        return ScoredRow(tokens, np.arange(len(tokens)) > 0)


def _mixed(corpus: EmbeddedCorpus, share: float, seed: int, split: Split) -> Iterator[Item]:
    """Yield documented functions, and in their midst a share of instructions that no tuning of this seed sees."""
    documented, instructions = corpus.pretraining(seed, split), corpus.instructions(seed + _APART, split)
    rng = np.random.default_rng([seed, _APART])
    while True:
        yield next(instructions if share and rng.random() < share else documented)
