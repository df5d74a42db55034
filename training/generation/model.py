"""A causal language model behind one interface for scoring: with or without adapter, left padding, key-value cache."""

import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from peft import PeftModel, PeftType
from torch import nn
from transformers import Cache, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from training.loop.validation import count_virtual_tokens

# Prompt learning whose virtual tokens are embeddings put before the prompt's.
_EMBEDDED_PROMPTS = (PeftType.P_TUNING, PeftType.PROMPT_TUNING)


class CausalModel:
    """A causal language model, ready to read prompts and to continue them.

    Parameters
    ----------
    model : PreTrainedModel or PeftModel
        Any causal language model of transformers, tuned or not. A prompt-learning adapter that is disabled
        (`PeftModel.disable_adapter`) adds no virtual tokens.
    pad_token_id : int
        Fills rows up; a token of the vocabulary, whichever. It is never attended to.

    Attributes
    ----------
    n_virtual : int
        Virtual tokens before every prompt.
    n_positions : int or None
        Most positions of the model; None where its configuration names none.
    vocab_size : int
        Token ids are below this.
    device : torch.device
        Where input goes.

    Raises
    ------
    ValueError
        If the adapter is prompt learning of a kind that does not put embeddings before the prompt, or the padding
        token is outside the vocabulary.
    """

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
        """Read prompts side by side, padded on the left: [padding][virtual tokens][prompt].

        Parameters
        ----------
        prompts : sequence of B sequences of int
            Token ids; none is empty.

        Returns
        -------
        Reading
            What follows each prompt, and the cache.
        """
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
        """Return what the model computes for more tokens, with at least the last ``n_logits`` logits of each row.

        Parameters
        ----------
        inputs : mapping of str to Tensor
            ``input_ids`` of shape (B, T) or ``inputs_embeds``.
        mask : Tensor of int64, shape (B, T so far), optional
            0 at padding.
        positions : Tensor of int64, shape (B, T)
            Positions in the text.
        cache : Cache, optional
            What was read before; what is read now is added to it.
        n_logits : int
            How many are needed: all would take more memory than the rest where the vocabulary is large.

        Returns
        -------
        CausalLMOutputWithPast
            ``logits`` and ``past_key_values``.
        """
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
    """Rows that a model has read so far, side by side; made by `CausalModel.read`.

    Parameters
    ----------
    model : CausalModel
        Who reads.
    inputs : mapping of str to Tensor
        Token ids of shape (B, T), or their embeddings.
    mask : Tensor of int64, shape (B, T), optional
        0 at padding; without it there is none.
    positions : Tensor of int64, shape (B, T)
        Positions in the text.

    Attributes
    ----------
    logits : Tensor of float32, shape (B, V)
        Scores of the token that follows each row.
    """

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
        """Return the log-likelihood, in nats, of one answer after every row; nothing more is read by it.

        Parameters
        ----------
        answer : sequence of int
            Token ids, at least one.

        Returns
        -------
        Tensor of float64, shape (B,)
            Sum over the answer's tokens.
        """
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
