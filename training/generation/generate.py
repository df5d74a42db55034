"""Prompts in, new tokens out: in batches, with a key-value cache, for any causal language model, tuned or not."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
from peft import PeftModel
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from tqdm import tqdm
from transformers import PreTrainedModel

from training.generation.model import (
    CausalModel,
    Progress,
    Reading,
    Row,
    batches_within,
    check_length,
    check_tokens,
    progress_bar,
    scoring,
)

TokenId = Annotated[int, Field(ge=0)]

DEFAULT_TOKENS_PER_BATCH = 16_384
"""Budget of one batch that small models on a CPU are served well by.

Measured on one thread with 200 prompts of 60 tokens and 60 new ones each: from 13 thousand to 2.7 million parameters,
4,096 takes up to twice and 8,192 up to 1.2 times as long, and 32,768 saves little more.
"""


class Decoding(BaseModel):
    """How a model continues its prompts."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    max_new_tokens: PositiveInt
    tokens_per_batch: PositiveInt = DEFAULT_TOKENS_PER_BATCH
    temperature: Annotated[float, Field(ge=0)] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    n_samples: PositiveInt = 1
    seed: Annotated[int, Field(ge=0)] = 0
    max_length: PositiveInt | None = None
    stop_token_ids: tuple[TokenId, ...] = ()

    @property
    def is_greedy(self) -> bool:
        """Whether the most probable token is taken every time."""
        return self.temperature == 0


_TINY = torch.finfo(torch.float32).tiny


class Chooser:
    r"""Chooses the next token of every row of a batch.

    With temperature T > 0 a token is drawn with probability softmax(logits / T)_i, as the largest of
    logits_i / T - log E_i with independent E_i ~ Exp(1) (the Gumbel-max trick). Each row has a generator of its own,
    seeded by (seed, place of the prompt, number of the sample): the draws of one row do not depend on the others, and
    rounding in the logits, which differs between batches, moves a draw only where two tokens are all but equal.
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
    """Return which tokens are among the fewest most probable ones whose probabilities sum to at least ``top_p``."""
    ordered, places = torch.softmax(logits, dim=-1).sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(dim=-1) - ordered
    return torch.zeros_like(logits, dtype=torch.bool).scatter(-1, places, before < top_p)


__all__ = ["Decoding", "generate"]

# Finished rows leave the batch when at most this share of its rows is still at work: leaving copies the cache.
# Measured on a CPU with 13 thousand to 2.7 million parameters: a third less time than keeping them, little between
# .7 and 1.
_SHARE_AT_WORK = 0.9


def generate(
    model: PreTrainedModel | PeftModel,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    *,
    eos_token_id: int | None,
    pad_token_id: int,
    progress: Progress = None,
) -> list[list[list[int]]]:
    """Continue prompts with a causal language model.

    Prompts of similar length go side by side, padded on the left, in batches bounded by a budget of tokens. The text
    does not depend on the batches: greedily decoded text in float32 is the same for any budget except where the two
    best logits differ by rounding alone (less than 1e-4), and so are the draws of samples.
    """
    causal = CausalModel(model, pad_token_id)
    rows = [_row(causal, index, prompt, decoding) for index, prompt in enumerate(prompts)]
    # Greedy samples of one prompt are equal: one is decoded.
    n_distinct = 1 if decoding.is_greedy else decoding.n_samples
    units = [row._replace(index=row.index * n_distinct + sample) for row in rows for sample in range(n_distinct)]
    stops = {*decoding.stop_token_ids, *([] if eos_token_id is None else [eos_token_id])}
    found: list[list[int]] = [[] for _ in units]
    with scoring(model), progress_bar(progress, len(units), label="generate", unit="sample") as bar:
        for batch in batches_within(units, decoding.tokens_per_batch):
            places = [divmod(row.index, n_distinct) for row in batch]
            reading = _read(causal, prompts, places)
            texts = _decode(reading, Chooser(decoding, places), [row.n_more for row in batch], stops, bar)
            for row, text in zip(batch, texts, strict=True):
                found[row.index] = text
    repeats = decoding.n_samples // n_distinct
    return [
        [list(text) for text in found[start : start + n_distinct] * repeats]
        for start in range(0, len(units), n_distinct)
    ]


def _row(causal: CausalModel, index: int, prompt: Sequence[int], decoding: Decoding) -> Row:
    name = f"prompt {index}"
    check_tokens(prompt, name, causal.vocab_size)
    n_new = decoding.max_new_tokens
    if decoding.max_length is not None:
        n_new = min(n_new, decoding.max_length - len(prompt))
        if n_new < 1:
            raise ValueError(
                f"{name} has {len(prompt)} tokens, and max_length {decoding.max_length} leaves no room for new ones; "
                "raise max_length, or shorten the prompt"
            )
    row = Row(index, causal.n_virtual + len(prompt), n_new)
    check_length(
        row,
        name,
        n_virtual=causal.n_virtual,
        n_positions=causal.n_positions,
        tokens_per_batch=decoding.tokens_per_batch,
    )
    return row


def _read(causal: CausalModel, prompts: Sequence[Sequence[int]], places: Sequence[tuple[int, int]]) -> Reading:
    # A prompt is read once, whatever the number of its samples in the batch.
    distinct = list(dict.fromkeys(prompt for prompt, _ in places))
    reading = causal.read([prompts[prompt] for prompt in distinct])
    if len(distinct) < len(places):
        slots = {prompt: slot for slot, prompt in enumerate(distinct)}
        reading.select([slots[prompt] for prompt, _ in places])
    return reading


def _decode(reading: Reading, choose: Chooser, limits: Sequence[int], stops: set[int], bar: tqdm) -> list[list[int]]:
    texts: list[list[int]] = [[] for _ in limits]
    # Which text a row of the batch belongs to; None once that is at its end.
    slots: list[int | None] = list(range(len(limits)))
    while True:
        tokens = choose(reading.logits)
        for slot, (place, token) in enumerate(zip(slots, tokens.tolist(), strict=True)):
            if place is None:
                continue
            if token not in stops:
                texts[place].append(token)
            if token in stops or len(texts[place]) == limits[place]:
                slots[slot] = None
                bar.update()
        at_work = [slot for slot, place in enumerate(slots) if place is not None]
        if not at_work:
            return texts
        if len(at_work) <= _SHARE_AT_WORK * len(slots):
            reading.select(at_work)
            choose.select(at_work)
            slots, tokens = [slots[slot] for slot in at_work], tokens[at_work]
        reading.append(tokens)
