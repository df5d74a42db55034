"""Documents as rows of tokens: a tokenizer of words, one document a row, or packed blocks of one length."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from training.corpus.items import Document

END_OF_TEXT = "<|endoftext|>"
PADDING = "<|pad|>"
END_ID = 0
SPECIAL_TOKENS = (END_OF_TEXT, PADDING)
"""Special tokens in the order of their ids, from `END_ID` on."""


def word_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """Return a tokenizer of the words of some texts and of their characters; the same texts give the same tokenizer.

    Digits are cut one by one, as StarCoder's are. A word of the texts is one token; another one is cut into the longest
    known pieces, or, with a character that none of the texts has, read as the padding.
    """
    cut = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    words = {word for text in texts for word, _ in cut.pre_tokenize_str(text)}
    vocabulary = [*SPECIAL_TOKENS, *sorted(words | {character for word in words for character in word})]
    numbered = {piece: number for number, piece in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordPiece(numbered, unk_token=PADDING, continuing_subword_prefix=""))
    tokenizer.pre_tokenizer = cut
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> Path:
    """Write ``tokenizer.json`` into a folder, which is made if need be, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tokenizer.json"
    path.write_bytes(tokenizer.to_str(pretty=True).encode())
    return path


@dataclass(frozen=True)
class Row:
    """A document's tokens, the end of text included, and how many of them are given."""

    tokens: tuple[int, ...]
    n_context: int


def encode_context(tokenizer: Tokenizer, context: str) -> list[int]:
    """Return the tokens of what a model is given when it generates, begun as its tokenizer begins a text (Llama)."""
    return tokenizer.encode(context, add_special_tokens=True).ids


def encode(tokenizer: Tokenizer, documents: Iterable[Document]) -> list[Row]:
    """Return documents as rows of tokens, each ended by the end of text.

    Context and target are encoded each for itself, so that a context has the same tokens in training and when a model
    is given it alone, wherever it ends.
    """
    documents = list(documents)
    contexts = tokenizer.encode_batch([document.context for document in documents], add_special_tokens=True)
    targets = tokenizer.encode_batch([document.target for document in documents], add_special_tokens=False)
    end = tokenizer.token_to_id(END_OF_TEXT)
    return [
        Row((*context.ids, *target.ids, end), len(context.ids))
        for context, target in zip(contexts, targets, strict=True)
    ]


LossOn = Literal["all", "completion"]
"""Tokens that enter the loss: all, as in the study, or those after the context."""


class ScoredRow(NamedTuple):
    """A sequence, a document or a packed block of them, and which of its tokens are scored given those before.

    The first token never is: nothing comes before it.
    """

    tokens: NDArray[np.int64]
    loss_mask: NDArray[np.bool_]


def document_rows(rows: Sequence[Row], max_length: int, loss_on: LossOn = "all") -> list[ScoredRow]:
    """Return one document a row, its end cut off beyond ``max_length``; those with nothing in the loss are left out."""
    cut = [
        ScoredRow(np.asarray(row.tokens[:max_length], dtype=np.int64), _loss_mask(row, loss_on)[:max_length])
        for row in rows
    ]
    scored = [row for row in cut if row.loss_mask.any()]
    if not scored:
        raise ValueError(
            f"none of {len(rows)} documents, cut to {max_length} tokens, has a token in the loss on {loss_on!r}; "
            "give other documents or a larger max_length"
        )
    return scored


def _loss_mask(row: Row, loss_on: LossOn) -> NDArray[np.bool_]:
    first = row.n_context if loss_on == "completion" else 0
    return np.arange(len(row.tokens)) >= max(1, first)


def packed_rows(rows: Sequence[Row], length: int) -> list[ScoredRow]:
    """Return documents one after the other, cut into blocks of one length, as the study packs them.

    A document may begin in one block and end in the next, attention reaches over the ends of text between them, and
    what does not fill the last block is left out. All tokens but a block's first are scored.
    """
    total = sum(len(row.tokens) for row in rows)
    if length < 2 or total < length:
        raise ValueError(
            f"{len(rows)} documents with {total} tokens cannot fill a block of length {length}; "
            "give more documents, or a length from 2 to that number"
        )
    tokens = np.concatenate([np.asarray(row.tokens, dtype=np.int64) for row in rows])
    mask = np.arange(length) > 0
    return [ScoredRow(tokens[start : start + length], mask.copy()) for start in range(0, total - length + 1, length)]
