"""Rows of tokens, the batches made of them, and which rows each step takes."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from training.corpus.rows import ScoredRow
from training.spec.run import Layout

IGNORED = -100
"""Target of a position that is not scored; the value that torch's cross-entropy leaves out."""


@dataclass(frozen=True)
class TokenRows:
    """What a run trains on, in the order of its seed and again from the first, and the fixed set it is validated on."""

    training: Sequence[ScoredRow]
    validation: Sequence[ScoredRow]


@dataclass(frozen=True)
class TokenBatch:
    """Rows side by side, padded with 0 on the right: tokens (B, T), and targets (B, T - 1), `IGNORED` if not scored.

    No attention mask goes with them: attention is causal, so no token sees the padding behind it, and what is computed
    at the padding itself is never scored.
    """

    tokens: torch.Tensor
    targets: torch.Tensor
    n_tokens: int
    n_targets: int
    # Of every row, where its first token stands; absent where all start at 0.
    starts: torch.Tensor | None = None

    @property
    def positions(self) -> torch.Tensor | None:
        """The position of every token, shape (B, T), where rows start elsewhere than at 0."""
        if self.starts is None:
            return None
        return self.starts[:, None] + torch.arange(self.tokens.shape[1], device=self.tokens.device)

    def to(self, device: torch.device) -> "TokenBatch":
        """Return the batch on a device."""
        starts = None if self.starts is None else self.starts.to(device)
        return TokenBatch(self.tokens.to(device), self.targets.to(device), self.n_tokens, self.n_targets, starts)


class RowSet:
    """Checked rows of one set, and the SHA-256 of all of them in their order."""

    def __init__(
        self, rows: Sequence[ScoredRow], what: str, layout: Layout, *, max_length: int, vocab_size: int
    ) -> None:
        if not len(rows):
            raise ValueError(f"there are no {what} rows; give at least one")
        digest = hashlib.sha256()
        # Rows themselves stay where they are, which may be the disk.
        self._rows, self._lengths, self._n_targets = rows, [], []
        for number, row in enumerate(rows):
            tokens, mask = _checked(row, f"{what} row {number}", layout, max_length, vocab_size)
            digest.update(np.int64(len(tokens)).tobytes() + tokens.tobytes() + mask.tobytes())
            self._lengths.append(len(tokens))
            self._n_targets.append(int(mask.sum()))
        self.digest = digest.hexdigest()
        if not self.n_targets(range(len(self))):
            raise ValueError(f"no token of the {what} rows is scored; set loss_mask where tokens enter the loss")

    def __len__(self) -> int:
        return len(self._lengths)

    def length(self, index: int) -> int:
        """Return the tokens of a row."""
        return self._lengths[index]

    def n_tokens(self, indices: Sequence[int]) -> int:
        """Return the tokens of some rows."""
        return sum(self._lengths[index] for index in indices)

    def n_targets(self, indices: Sequence[int]) -> int:
        """Return the scored tokens of some rows."""
        return sum(self._n_targets[index] for index in indices)

    def batch(self, indices: Sequence[int], starts: Mapping[int, int] | None = None) -> TokenBatch:
        """Return some rows side by side, as wide as the longest; with ``starts``, each from its position on."""
        width = max(self._lengths[index] for index in indices)
        tokens = np.zeros((len(indices), width), dtype=np.int64)
        targets = np.full((len(indices), width - 1), IGNORED, dtype=np.int64)
        for place, index in enumerate(indices):
            row, mask = map(np.asarray, self._rows[index])
            tokens[place, : len(row)] = row
            targets[place, : len(row) - 1][mask[1:]] = row[1:][mask[1:]]
        at = None if starts is None else torch.tensor([starts[index] for index in indices])
        counts = self.n_tokens(indices), self.n_targets(indices)
        return TokenBatch(torch.from_numpy(tokens), torch.from_numpy(targets), *counts, at)

    def by_length(self, indices: Sequence[int], size: int) -> list[list[int]]:
        """Return rows in groups of a size, rows of nearly one length together: little padding, the same sums."""
        ordered = sorted(indices, key=self.length)
        return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def step_rows(n_rows: int, global_batch: int, step: int) -> list[int]:
    """Return the rows of a step, a function of the step alone: a resumed run needs no other position in the data."""
    return [place % n_rows for place in range(step * global_batch, (step + 1) * global_batch)]


def step_starts(indices: Sequence[int], most: int | None, seed: int, step: int) -> dict[int, int] | None:
    """Return the position at which each row of a step starts, drawn from 0 to ``most``: a function of seed and step."""
    if most is None:
        return None
    return dict(
        zip(indices, np.random.default_rng([seed, step]).integers(most + 1, size=len(indices)).tolist(), strict=True)
    )


def _checked(
    row: ScoredRow, name: str, layout: Layout, max_length: int, vocab_size: int
) -> tuple[np.ndarray, np.ndarray]:
    tokens = np.asarray(row[0], dtype=np.int64)
    mask = np.asarray(row[1], dtype=bool).copy()
    if tokens.ndim != 1 or mask.shape != tokens.shape:
        raise ValueError(
            f"{name} has tokens of shape {tokens.shape} and a loss mask of shape {mask.shape}; "
            "give one mask value for each token"
        )
    if layout == "packed" and len(tokens) != max_length:
        raise ValueError(
            f"{name} has {len(tokens)} tokens, and packed blocks have sequence_length {max_length}; "
            "cut blocks of that length, or choose layout 'documents'"
        )
    if not 2 <= len(tokens) <= max_length:
        raise ValueError(
            f"{name} has {len(tokens)} tokens; a row has from 2 to sequence_length {max_length}: "
            "cut it, or choose another sequence_length"
        )
    if tokens.min() < 0 or tokens.max() >= vocab_size:
        worst = tokens.min() if tokens.min() < 0 else tokens.max()
        raise ValueError(
            f"{name} has token id {worst}, and the model's vocabulary goes from 0 to {vocab_size - 1}; "
            "use the model's own tokenizer"
        )
    mask[0] = False
    return tokens, mask
