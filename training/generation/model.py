"""A causal language model behind one interface for scoring: with or without adapter, left padding, key-value cache."""

import copy
import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from peft import PeftModel, PeftType
from torch import nn
from tqdm import tqdm
from transformers import Cache, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from training.loop.validation import count_virtual_tokens

Progress = bool | str | None
"""Whether there is a progress bar: always, never, or (None, or a label for it) where standard error is a terminal."""


class Row(NamedTuple):
    """One row of a batch."""

    index: int
    n_given: int
    n_more: int


def batches_within(rows: Iterable[Row], tokens_per_batch: int) -> list[list[Row]]:
    """Put rows into batches of similar length, longest first, each within a budget of tokens.

    A batch of R rows takes R (max n_given + max n_more) tokens, padding counted.
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
    """Check that a sequence has tokens, all of them in the vocabulary."""
    if not len(tokens):
        raise ValueError(f"{name} is empty; give at least one token, such as the end of text")
    worst = min(tokens) if min(tokens) < 0 else max(tokens)
    if not 0 <= worst < vocab_size:
        raise ValueError(
            f"{name} has token id {worst}, and the model's vocabulary goes from 0 to {vocab_size - 1}; "
            "use the model's own tokenizer"
        )


def check_length(row: Row, name: str, *, n_virtual: int, n_positions: int | None, tokens_per_batch: int) -> None:
    """Check that a row fits the model and the budget."""
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
    """Return a progress bar on standard error."""
    # tqdm reads None as: where standard error is a terminal.
    disable = not progress if isinstance(progress, bool) else None
    label = progress if isinstance(progress, str) else label
    return tqdm(desc=label, total=total, unit=unit, file=sys.stderr, disable=disable)


# Prompt learning whose virtual tokens are embeddings put before the prompt's.
_EMBEDDED_PROMPTS = (PeftType.P_TUNING, PeftType.PROMPT_TUNING)


class CausalModel:
    """A causal language model, ready to read prompts and to continue them."""

    def __init__(self, model: PreTrainedModel | PeftModel, pad_token_id: int) -> None:
        self.n_virtual = count_virtual_tokens(model)
        if self.n_virtual and model.active_peft_config.peft_type not in _EMBEDDED_PROMPTS:
            raise ValueError(
                f"adapter of type {model.active_peft_config.peft_type.value} is prompt learning without embedded "
                "virtual tokens, which is not scored here; use P_TUNING or PROMPT_TUNING"
            )
        self._tuned = model
        # Past PEFT's own forward, which puts virtual tokens before left padding and drops position ids.
        self._model = model.get_base_model() if self.n_virtual else model
        base = model.get_base_model() if isinstance(model, PeftModel) else model
        known = inspect.signature(base.forward).parameters
        # Models with relative positions take them from the mask; the others must be told.
        self._takes_positions = "position_ids" in known
        self._takes_n_logits = "logits_to_keep" in known
        self._embed = base.get_input_embeddings()
        self._pad = pad_token_id
        self.n_positions = getattr(base.config, "max_position_embeddings", None)
        self.vocab_size = self._embed.weight.shape[0]
        self.device = self._embed.weight.device
        if not 0 <= pad_token_id < self.vocab_size:
            raise ValueError(
                f"pad_token_id is {pad_token_id}, and the model's vocabulary goes from 0 to {self.vocab_size - 1}; "
                "any token of it will do, such as the end of text"
            )

    def read(self, prompts: Sequence[Sequence[int]]) -> "Reading":
        """Read prompts side by side, padded on the left: [padding][virtual tokens][prompt]."""
        width = max(map(len, prompts))
        rows = [[self._pad] * (width - len(prompt)) + list(prompt) for prompt in prompts]
        tokens = torch.tensor(rows, device=self.device)
        n_padding = torch.tensor([width - len(prompt) for prompt in prompts], device=self.device)
        places = torch.arange(self.n_virtual + width, device=self.device)
        mask = (places >= n_padding[:, None]).long()
        positions = (places - n_padding[:, None]).clamp(min=0)
        inputs = {"inputs_embeds": self._embedded(tokens, n_padding)} if self.n_virtual else {"input_ids": tokens}
        # Without padding, no mask: attention without one is faster.
        return Reading(self, inputs, mask if n_padding.any() else None, positions)

    def forward(
        self,
        inputs: Mapping[str, torch.Tensor],
        mask: torch.Tensor | None,
        positions: torch.Tensor,
        cache: Cache | None,
        *,
        n_logits: int,
    ) -> CausalLMOutputWithPast:
        """Return what the model computes for more tokens, with at least the last ``n_logits`` logits of each row."""
        options = {"position_ids": positions} if self._takes_positions else {}
        options |= {"logits_to_keep": n_logits} if self._takes_n_logits else {}
        return self._model(**inputs, attention_mask=mask, past_key_values=cache, use_cache=True, **options)

    def _embedded(self, tokens: torch.Tensor, n_padding: torch.Tensor) -> torch.Tensor:
        given = self._embed(tokens)
        virtual = self._tuned.get_prompt(1).to(given.dtype).expand(len(tokens), -1, -1)
        both = torch.cat([virtual, given], dim=1)
        # [virtual][padding][prompt] -> [padding][virtual][prompt]; padding may hold anything.
        places = torch.arange(both.shape[1], device=self.device)
        source = torch.where(
            places >= n_padding[:, None] + self.n_virtual, places, (places - n_padding[:, None]).clamp(min=0)
        )
        return both.gather(1, source[:, :, None].expand_as(both))


class Reading:
    """Rows that a model has read so far, side by side; made by `CausalModel.read`."""

    def __init__(
        self,
        model: CausalModel,
        inputs: Mapping[str, torch.Tensor],
        mask: torch.Tensor | None,
        positions: torch.Tensor,
    ) -> None:
        self._model = model
        self._mask = mask
        self._position = positions[:, -1:]
        output = model.forward(inputs, mask, positions, None, n_logits=1)
        self._cache = output.past_key_values
        self.logits = output.logits[:, -1].float()

    def append(self, tokens: torch.Tensor) -> None:
        """Let the model read one more token of each row, shape (B,)."""
        column = tokens.to(self._position.device)[:, None]
        self._position, self._mask = self._positions_after(1), self._mask_after(1)
        output = self._model.forward({"input_ids": column}, self._mask, self._position, self._cache, n_logits=1)
        self._cache = output.past_key_values
        self.logits = output.logits[:, -1].float()

    def select(self, rows: Sequence[int]) -> None:
        """Go on with these rows only; a row may be taken more than once."""
        # On the CPU, whence it indexes the layers of a model that is spread over several devices.
        chosen = torch.tensor(rows)
        self._cache.batch_select_indices(chosen)
        self._position = self._position[chosen]
        self._mask = None if self._mask is None else self._mask[chosen]
        self.logits = self.logits[chosen]

    def log_likelihoods(self, answer: Sequence[int]) -> torch.Tensor:
        """Return the log-likelihood, in nats, of one answer after every row; nothing more is read by it."""
        logits = self.logits[:, None]
        if len(answer) > 1:
            n_read = len(answer) - 1
            read = torch.tensor([list(answer[:-1])], device=self._position.device).expand(len(logits), -1)
            # The model adds what it reads to the cache it is given.
            cache = copy.deepcopy(self._cache)
            output = self._model.forward(
                {"input_ids": read}, self._mask_after(n_read), self._positions_after(n_read), cache, n_logits=n_read
            )
            logits = torch.cat([logits, output.logits[:, -n_read:].float()], dim=1)
        places = torch.arange(len(answer), device=logits.device)
        scored = logits.log_softmax(dim=-1)[:, places, torch.tensor(list(answer), device=logits.device)]
        return scored.sum(dim=1, dtype=torch.float64)

    def _positions_after(self, n_tokens: int) -> torch.Tensor:
        after = self._position + torch.arange(1, n_tokens + 1, device=self._position.device)
        # Rows that are at their end stay in the batch for a while: what they read beyond the last position is unused.
        return after if self._model.n_positions is None else after.clamp(max=self._model.n_positions - 1)

    def _mask_after(self, n_tokens: int) -> torch.Tensor | None:
        if self._mask is None:
            return None
        return torch.cat([self._mask, self._mask.new_ones(len(self._mask), n_tokens)], dim=1)


@contextmanager
def scoring(model: nn.Module) -> Iterator[None]:
    """Let a model compute without dropout and gradients; every module is left in the mode that it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
