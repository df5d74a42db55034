"""The choice of the next token, the same whatever else is in the batch."""

from collections.abc import Sequence

import numpy as np
import torch

from training.generation.decoding import Decoding

_TINY = torch.finfo(torch.float32).tiny


class Chooser:
    r"""Chooses the next token of every row of a batch.

    With temperature T > 0 a token is drawn with probability softmax(logits / T)_i, as the largest of
    logits_i / T - log E_i with independent E_i ~ Exp(1) (the Gumbel-max trick). Each row has a generator of its own,
    seeded by (seed, place of the prompt, number of the sample): the draws of one row do not depend on the others, and
    rounding in the logits, which differs between batches, moves a draw only where two tokens are all but equal.

    Parameters
    ----------
    decoding : Decoding
        How tokens are chosen.
    rows : sequence of (int, int)
        Place of the prompt and number of the sample, of every row.

    References
    ----------
    Maddison et al. 2014, A* Sampling, arXiv 1411.0030 (Gumbel-max).
    """

    def __init__(self, decoding: Decoding, rows: Sequence[tuple[int, int]]) -> None:
        self._decoding = decoding
        self._generators = [] if decoding.is_greedy else [np.random.default_rng((decoding.seed, *row)) for row in rows]

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        """Return a token for each row, shape (B,), from logits of shape (B, V)."""
        if self._decoding.is_greedy:
            return logits.argmax(dim=-1)
        # Measured from the best one, which stays 0 at any temperature that float32 tells from 0.
        temperature = max(self._decoding.temperature, _TINY)
        scaled = (logits - logits.amax(dim=-1, keepdim=True)) / temperature
        if self._decoding.top_p < 1:
            scaled = scaled.masked_fill(~in_nucleus(scaled, self._decoding.top_p), -torch.inf)
        draws = np.empty(tuple(logits.shape), dtype=np.float32)
        for row, generator in zip(draws, self._generators, strict=True):
            generator.standard_exponential(out=row, dtype=np.float32)
        noise = torch.from_numpy(draws).to(logits.device).clamp_(min=_TINY).log_()
        return (scaled - noise).argmax(dim=-1)

    def select(self, rows: Sequence[int]) -> None:
        """Go on with these rows only."""
        if self._generators:
            self._generators = [self._generators[row] for row in rows]


def in_nucleus(logits: torch.Tensor, top_p: float) -> torch.Tensor:
    """Return which tokens are among the fewest most probable ones whose probabilities sum to at least ``top_p``.

    Parameters
    ----------
    logits : Tensor of float32, shape (B, V)
        Scores, divided by the temperature.
    top_p : float
        Probability, in (0, 1].

    Returns
    -------
    Tensor of bool, shape (B, V)
        The most probable token always is.
    """
    ordered, places = torch.softmax(logits, dim=-1).sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(dim=-1) - ordered
    return torch.zeros_like(logits, dtype=torch.bool).scatter(-1, places, before < top_p)
