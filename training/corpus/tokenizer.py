"""A byte-level BPE tokenizer trained on the corpus, and documents as rows of tokens."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from training.corpus.layout import Document

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
