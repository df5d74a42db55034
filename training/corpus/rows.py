"""Rows that are trained on: one document a row in length buckets, or packed blocks of one length."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from training.corpus.items import Document
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple
import numpy as np
from numpy.typing import NDArray


END_OF_TEXT = "<|endoftext|>"
PADDING = "<|pad|>"
END_ID, PADDING_ID = 0, 1
SPECIAL_TOKENS = (END_OF_TEXT, PADDING)
"""Special tokens in the order of their ids: end of text 0, padding 1."""


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Return a byte-level BPE tokenizer trained on texts; the same texts and size give the same tokenizer.

    As StarCoder's, it cuts digits one by one and knows every byte, so that no text is unknown to it. Training ends
    early where nothing is left to merge: every word of the embedded corpus is one token.

    Parameters
    ----------
    texts : iterable of str
        Training texts.
    vocab_size : int
        Most tokens, special ones and the 256 bytes included.

    Returns
    -------
    tokenizers.Tokenizer
        The tokenizer, its special tokens `SPECIAL_TOKENS`.

    Raises
    ------
    ValueError
        If the size leaves no room for the bytes.
    """
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    smallest = len(SPECIAL_TOKENS) + len(alphabet)
    if vocab_size < smallest:
        raise ValueError(f"vocab_size {vocab_size} is too small; bytes and special tokens alone are {smallest}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def tokenizer_bytes(tokenizer: Tokenizer) -> bytes:
    """Return the tokenizer as the bytes of its ``tokenizer.json``."""
    return tokenizer.to_str(pretty=True).encode()


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> Path:
    """Write ``tokenizer.json`` into a folder, which is made if need be, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tokenizer.json"
    path.write_bytes(tokenizer_bytes(tokenizer))
    return path


def load_tokenizer(path: Path) -> Tokenizer:
    """Return the tokenizer of a ``tokenizer.json`` that `save_tokenizer` wrote, or any other with its special tokens.

    Raises
    ------
    ValueError
        If there is no such file, or it lacks the end of text.
    """
    if not path.is_file():
        raise ValueError(f"no tokenizer at {str(path)!r}; save one there with save_tokenizer")
    tokenizer = Tokenizer.from_file(str(path))
    if tokenizer.token_to_id(END_OF_TEXT) is None:
        raise ValueError(f"the tokenizer at {str(path)!r} has no token {END_OF_TEXT!r}; train it with train_tokenizer")
    return tokenizer


@dataclass(frozen=True)
class Row:
    """A document's tokens, the end of text included, and how many of them are given."""

    tokens: tuple[int, ...]
    n_context: int


def encode_context(tokenizer: Tokenizer, context: str) -> list[int]:
    """Return the tokens of what a model is given when it generates."""
    return tokenizer.encode(context, add_special_tokens=False).ids


def encode(tokenizer: Tokenizer, documents: Iterable[Document]) -> list[Row]:
    """Return documents as rows of tokens, each ended by the end of text.

    Context and target are encoded each for itself, so that a context has the same tokens in training and when a model
    is given it alone, wherever it ends.

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer
        The tokenizer.
    documents : iterable of Document
        The documents.

    Returns
    -------
    list of Row
        One row for each document, in their order.
    """
    documents = list(documents)
    contexts = tokenizer.encode_batch([document.context for document in documents], add_special_tokens=False)
    targets = tokenizer.encode_batch([document.target for document in documents], add_special_tokens=False)
    end = tokenizer.token_to_id(END_OF_TEXT)
    return [
        Row((*context.ids, *target.ids, end), len(context.ids))
        for context, target in zip(contexts, targets, strict=True)
    ]


LossOn = Literal["all", "completion"]

LOSS_ON: tuple[LossOn, ...] = ("all", "completion")
"""Tokens that enter the loss: all, as in the study, or those after the context."""

# Batches sorted by length together: many enough for rows of nearly one length, few enough to keep the order mixed.
_POOL_BATCHES = 64


class ScoredRow(NamedTuple):
    """A sequence and which of its tokens enter the loss.

    Attributes
    ----------
    tokens : ndarray of int64, shape (T,)
        Token ids.
    loss_mask : ndarray of bool, shape (T,)
        Tokens whose prediction enters the loss. The first never does: nothing comes before it.
    """

    tokens: NDArray[np.int64]
    loss_mask: NDArray[np.bool_]


@dataclass(frozen=True)
class Batch:
    """Rows side by side, padded on the right.

    Attributes
    ----------
    tokens : ndarray of int64, shape (B, T)
        Token ids.
    is_text : ndarray of bool, shape (B, T)
        Where the tokens are text and not padding.
    loss_mask : ndarray of bool, shape (B, T)
        Tokens whose prediction enters the loss.
    """

    tokens: NDArray[np.int64]
    is_text: NDArray[np.bool_]
    loss_mask: NDArray[np.bool_]

    @property
    def n_tokens(self) -> int:
        """Tokens of text."""
        return int(self.is_text.sum())

    def rows(self) -> list[ScoredRow]:
        """Return the rows without their padding."""
        lengths = self.is_text.sum(axis=1)
        return [ScoredRow(self.tokens[i, :n], self.loss_mask[i, :n]) for i, n in enumerate(lengths)]


def stack(rows: Sequence[ScoredRow]) -> Batch:
    """Return rows side by side, as wide as the longest."""
    shape = (len(rows), max(len(row.tokens) for row in rows))
    batch = Batch(np.full(shape, PADDING_ID, dtype=np.int64), np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool))
    for i, (tokens, loss_mask) in enumerate(rows):
        batch.tokens[i, : len(tokens)] = tokens
        batch.is_text[i, : len(tokens)] = True
        batch.loss_mask[i, : len(tokens)] = loss_mask
    return batch


def known_loss_on(loss_on: str) -> LossOn:
    """Return the choice of tokens that enter the loss.

    Raises
    ------
    ValueError
        If there is no such choice.
    """
    for choice in LOSS_ON:
        if loss_on == choice:
            return choice
    raise ValueError(f"unknown choice of loss tokens {loss_on!r}; choose from {', '.join(LOSS_ON)}")


def shuffled(rows: Sequence[Row], seed: int, epoch: int = 0) -> list[Row]:
    """Return rows in the order of a seed and an epoch."""
    order = np.random.default_rng([seed, epoch]).permutation(len(rows))
    return [rows[i] for i in order]


def document_rows(rows: Sequence[Row], max_length: int, loss_on: str = "all") -> list[ScoredRow]:
    """Return one document a row, in the order given.

    Parameters
    ----------
    rows : sequence of Row
        The documents.
    max_length : int
        Most tokens of a row; the end of a longer one is cut off. A row of which nothing would enter the loss, as after
        a cut within its context, is left out.
    loss_on : {"all", "completion"}
        Tokens that enter the loss.

    Returns
    -------
    list of ScoredRow
        The rows.

    Raises
    ------
    ValueError
        If no row has a token in the loss, or there is no such choice of tokens.
    """
    choice = known_loss_on(loss_on)
    cut = [
        ScoredRow(np.asarray(row.tokens[:max_length], dtype=np.int64), _loss_mask(row, choice)[:max_length])
        for row in rows
    ]
    scored = [row for row in cut if row.loss_mask.any()]
    if not scored:
        raise ValueError(
            f"none of {len(rows)} documents, cut to {max_length} tokens, has a token in the loss on {choice!r}; "
            "give other documents or a larger max_length"
        )
    return scored


def _loss_mask(row: Row, loss_on: LossOn) -> NDArray[np.bool_]:
    first = row.n_context if loss_on == "completion" else 0
    return np.arange(len(row.tokens)) >= max(1, first)


def packed_rows(rows: Sequence[Row], length: int, loss_on: str = "all") -> list[ScoredRow]:
    """Return documents one after the other, cut into blocks of one length, as the study packs them.

    A document may begin in one block and end in the next, attention reaches over the ends of text between them, and
    what does not fill the last block is left out. Shuffle the rows first (`shuffled`); `stack` makes the blocks an
    array (B, T).

    Parameters
    ----------
    rows : sequence of Row
        The documents.
    length : int
        Tokens of a block.
    loss_on : {"all", "completion"}
        Tokens that enter the loss.

    Returns
    -------
    list of ScoredRow
        The blocks.

    Raises
    ------
    ValueError
        If the documents do not fill one block, or there is no such choice of tokens.

    References
    ----------
    Zhuo et al. 2024, arXiv 2401.00788.
    """
    choice = known_loss_on(loss_on)
    total = sum(len(row.tokens) for row in rows)
    if length < 2 or total < length:
        raise ValueError(
            f"{len(rows)} documents with {total} tokens cannot fill a block of length {length}; "
            "give more documents, or a length from 2 to that number"
        )
    tokens = np.concatenate([np.asarray(row.tokens, dtype=np.int64) for row in rows])
    # Within a block, a document's first token has tokens before it: only contexts are left out here.
    first = [row.n_context if choice == "completion" else 0 for row in rows]
    loss_mask = np.concatenate([np.arange(len(row.tokens)) >= n for row, n in zip(rows, first, strict=True)])
    blocks = []
    for start in range(0, total - length + 1, length):
        mask = loss_mask[start : start + length].copy()
        mask[0] = False
        blocks.append(ScoredRow(tokens[start : start + length], mask))
    return blocks


def bucket(
    rows: Sequence[ScoredRow],
    *,
    seed: int,
    epoch: int = 0,
    batch_tokens: int | None = None,
    batch_rows: int | None = None,
) -> list[Batch]:
    """Return batches of rows of nearly one length.

    Rows are shuffled, sorted by length within pools of many batches and cut into batches, and the batches are
    shuffled. Every row occurs once.

    Parameters
    ----------
    rows : sequence of ScoredRow
        The rows.
    seed, epoch : int
        What the order comes from.
    batch_tokens : int, optional
        Most tokens of a batch, padding included: batches of nearly equal work.
    batch_rows : int, optional
        Rows of a batch; only the last batch may have fewer. One of the two is given.

    Returns
    -------
    list of Batch
        The batches.

    Raises
    ------
    ValueError
        If not exactly one of the two sizes is given, or a row does not fit into a batch.
    """
    if (batch_tokens is None) == (batch_rows is None):
        raise ValueError("give one of batch_tokens and batch_rows: the size of a batch is one or the other")
    longest = max((len(row.tokens) for row in rows), default=0)
    limit = batch_tokens if batch_tokens is not None else batch_rows * longest
    if not rows or longest > limit:
        raise ValueError(
            f"{len(rows)} rows of up to {longest} tokens do not fit into batches of {limit} tokens; "
            "give rows, and batches at least as large as the longest"
        )
    rng = np.random.default_rng([seed, epoch])
    mixed = [rows[i] for i in rng.permutation(len(rows))]
    # A pool of rows, in either measure: with rows of average length it holds _POOL_BATCHES batches.
    mean = sum(len(row.tokens) for row in rows) / len(rows)
    pool = _POOL_BATCHES * (batch_rows or max(1, round(limit / mean)))
    groups = [
        group
        for start in range(0, len(mixed), pool)
        for group in _groups(mixed[start : start + pool], limit if batch_rows is None else None, batch_rows)
    ]
    order = rng.permutation(len(groups))
    if batch_rows is not None:
        # Whoever takes the rows batch by batch counts them: the one short batch stays last.
        order = sorted(order, key=lambda i: len(groups[i]) < batch_rows)
    return [stack(groups[i]) for i in order]


def _groups(pool: list[ScoredRow], most_tokens: int | None, most_rows: int | None) -> Iterator[list[ScoredRow]]:
    group: list[ScoredRow] = []
    # Longest first, so that the first row of a group is its width.
    for row in sorted(pool, key=lambda row: len(row.tokens), reverse=True):
        too_many = most_rows is not None and len(group) == most_rows
        too_large = most_tokens is not None and group and (len(group) + 1) * len(group[0].tokens) > most_tokens
        if too_many or too_large:
            yield group
            group = []
        group.append(row)
    if group:
        yield group
