"""Rows of tokens for scoring: checked, and put into batches of similar length within a budget of tokens."""

import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tqdm import tqdm

Progress = bool | str | None
"""Whether there is a progress bar: always, never, or (None, or a label for it) where standard error is a terminal."""


class Row(NamedTuple):
    """One row of a batch.

    Attributes
    ----------
    index : int
        The caller's number of the row.
    n_given : int
        Tokens that the model reads, virtual ones counted.
    n_more : int
        Tokens beyond these: new ones, or those of an answer.
    """

    index: int
    n_given: int
    n_more: int


def batches_within(rows: Iterable[Row], tokens_per_batch: int) -> list[list[Row]]:
    """Put rows into batches of similar length, longest first, each within a budget of tokens.

    A batch of R rows takes R (max n_given + max n_more) tokens, padding counted.

    Parameters
    ----------
    rows : iterable of Row
        The rows, none of which exceeds the budget by itself.
    tokens_per_batch : int
        The budget.

    Returns
    -------
    list of list of Row
        Every row once. Rows of equal lengths keep their order.
    """
    batches: list[list[Row]] = []
    given = more = 0
    for row in sorted(rows, key=lambda row: (-row.n_given, -row.n_more)):
        given, more = max(given, row.n_given), max(more, row.n_more)
        if not batches or (len(batches[-1]) + 1) * (given + more) > tokens_per_batch:
            batches.append([])
            given, more = row.n_given, row.n_more
        batches[-1].append(row)
    return batches


def check_tokens(tokens: Sequence[int], name: str, vocab_size: int) -> None:
    """Check that a sequence has tokens, all of them in the vocabulary.

    Parameters
    ----------
    tokens : sequence of int
        Token ids.
    name : str
        What they are, for messages.
    vocab_size : int
        Ids are below this.

    Raises
    ------
    ValueError
        If it is empty, or an id lies outside.
    """
    if not len(tokens):
        raise ValueError(f"{name} is empty; give at least one token, such as the end of text")
    worst = min(tokens) if min(tokens) < 0 else max(tokens)
    if not 0 <= worst < vocab_size:
        raise ValueError(
            f"{name} has token id {worst}, and the model's vocabulary goes from 0 to {vocab_size - 1}; "
            "use the model's own tokenizer"
        )


def check_length(row: Row, name: str, *, n_virtual: int, n_positions: int | None, tokens_per_batch: int) -> None:
    """Check that a row fits the model and the budget.

    Parameters
    ----------
    row : Row
        The row.
    name : str
        What was given, for messages.
    n_virtual : int
        Virtual tokens among those given.
    n_positions : int or None
        Most positions of the model, if it has a limit.
    tokens_per_batch : int
        The budget of one batch.

    Raises
    ------
    ValueError
        If it does not.
    """
    total = row.n_given + row.n_more
    virtual = f"{n_virtual} virtual tokens and " if n_virtual else ""
    length = f"{name} has {row.n_given - n_virtual} tokens, with {virtual}{row.n_more} more to follow {total}"
    if n_positions is not None and total > n_positions:
        raise ValueError(f"{length}, and the model has {n_positions} positions; shorten it, or let fewer tokens follow")
    if total > tokens_per_batch:
        raise ValueError(
            f"{length}, and tokens_per_batch is {tokens_per_batch}; raise it to {total} or more, or shorten the prompt"
        )


def progress_bar(progress: Progress, total: int, *, label: str, unit: str) -> tqdm:
    """Return a progress bar on standard error.

    Parameters
    ----------
    progress : bool, str or None
        Whether and with which label (`Progress`).
    total : int
        Units in all.
    label : str
        Its label where ``progress`` gives none.
    unit : str
        What is counted.

    Returns
    -------
    tqdm
        The bar, to be used as a context.
    """
    # tqdm reads None as: where standard error is a terminal.
    disable = not progress if isinstance(progress, bool) else None
    label = progress if isinstance(progress, str) else label
    return tqdm(desc=label, total=total, unit=unit, file=sys.stderr, disable=disable)
