"""Prompts in, new tokens out: in batches of similar length, by transformers' ``generate``, tuned or not."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from peft import PeftModel, PeftType
from pydantic import Field, PositiveInt
from torch import nn
from torch.nn import functional
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    StoppingCriteria,
    StoppingCriteriaList,
    TopPLogitsWarper,
)

from training.corpus.settings import Frozen
from training.loop.reporting import Progress, progress_bar
from training.loop.validation import count_virtual_tokens

# Most tokens of a batch, padding included: what bounds memory, and no number depends on it but by rounding.
TOKENS_PER_BATCH = 16_384
TokenId = Annotated[int, Field(ge=0)]

# Prompt learning whose virtual tokens are embeddings put before the prompt's; those of prefix tuning lie in the cache.
_PROMPTS = (PeftType.P_TUNING, PeftType.PROMPT_TUNING, PeftType.PREFIX_TUNING)
_TINY = torch.finfo(torch.float32).tiny


class Decoding(Frozen):
    """How a model continues its prompts."""

    max_new_tokens: PositiveInt
    # Budget of one batch: rows x (virtual tokens + longest prompt + new tokens). Memory grows with it, no text depends
    # on it. On one CPU thread 4,096 takes up to twice as long as the default, and twice the default saves little more.
    tokens_per_batch: PositiveInt = TOKENS_PER_BATCH
    # Logits are divided by it before the softmax; 0 takes the most probable token every time.
    temperature: Annotated[float, Field(ge=0)] = 0.0
    # Draw among the fewest most probable tokens that together have this probability (Holtzman et al. 2020, 1904.09751).
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    n_samples: PositiveInt = 1
    # A sample depends on the seed, the place of its prompt and its own number alone.
    seed: Annotated[int, Field(ge=0)] = 0
    # Of a prompt and its new tokens together, virtual tokens not counted: prompts near it get fewer new ones.
    max_length: PositiveInt | None = None
    # End a sample as the end of text does, and are left out of it.
    stop_token_ids: tuple[TokenId, ...] = ()

    @property
    def is_greedy(self) -> bool:
        """Whether the most probable token is taken every time."""
        return self.temperature == 0


class Row(NamedTuple):
    """The caller's number of a row, its given tokens (virtual ones counted), and those beyond: new, or of an answer."""

    index: int
    n_given: int
    n_more: int


def generate(
    model: PreTrainedModel | PeftModel,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    *,
    eos_token_id: int | None,
    pad_token_id: int,
    progress: Progress = None,
    is_complete: Callable[[int, list[int]], bool] | None = None,
    known: Mapping[tuple[int, int], list[int]] = MappingProxyType({}),
    keep: Callable[[int, int, list[int]], None] = lambda prompt, sample, tokens: None,
) -> list[list[list[int]]]:
    """Return the new tokens of each sample of each prompt, without the one that ended it; the model is left as it was.

    With ``is_complete``, asked every few tokens with a prompt's number and the new tokens, a sample ends soon after it
    holds all that is wanted. Each sample is handed to ``keep`` when it is there, and those that are ``known`` (by
    numbers of prompt and sample) are not generated again.

    Greedy text in float32 is the same for any budget, but where the two best logits differ by rounding alone (less than
    1e-4), and so are the draws of samples. A sample of ``max_new_tokens`` tokens was cut off.
    """
    _check_model(model, pad_token_id)
    rows = [_row(model, index, prompt, decoding) for index, prompt in enumerate(prompts)]
    # Greedy samples of one prompt are equal: one is decoded.
    n_distinct = 1 if decoding.is_greedy else decoding.n_samples
    units = [row._replace(index=row.index * n_distinct + sample) for row in rows for sample in range(n_distinct)]
    units = [unit for unit in units if divmod(unit.index, n_distinct) not in known]
    stops = sorted({*decoding.stop_token_ids, *([] if eos_token_id is None else [eos_token_id])})
    found = [list(known.get(divmod(place, n_distinct), [])) for place in range(len(rows) * n_distinct)]
    with scoring(model), progress_bar(progress, len(units), label="generate", unit="sample") as bar:
        for batch in batches_within(units, decoding.tokens_per_batch, _positions(model)):
            places = [divmod(row.index, n_distinct) for row in batch]
            config = GenerationConfig(
                max_new_tokens=max(row.n_more for row in batch),
                do_sample=False,
                eos_token_id=stops or None,
                pad_token_id=pad_token_id,
            )
            draws = [] if decoding.is_greedy else [SeededDraws(decoding, places)]
            ends = Completion(is_complete, places)
            new = _continued(model, [prompts[prompt] for prompt, _ in places], config, LogitsProcessorList(draws), ends)
            for row, place, end, tokens in zip(batch, places, ends.n_new, new.tolist(), strict=True):
                tokens = tokens[: min(row.n_more, end or row.n_more)]
                end = next((place for place, token in enumerate(tokens) if token in stops), len(tokens))
                found[row.index] = tokens[:end]
                keep(*place, found[row.index])
            bar.update(len(batch))
    repeats = decoding.n_samples // n_distinct
    return [
        [list(text) for text in found[start : start + n_distinct] * repeats]
        for start in range(0, len(found), n_distinct)
    ]


_CHECKED_EVERY = 8


class Completion(StoppingCriteria):
    """Ends samples that hold all that is wanted, at multiples of a few new tokens: the same in whatever batch.

    ``n_new`` are the new tokens at which a sample was ended, None where it was not.
    """

    def __init__(self, is_complete: Callable[[int, list[int]], bool] | None, places: Sequence[tuple[int, int]]) -> None:
        self._is_complete, self._places = is_complete, places
        self.n_new: list[int | None] = [None] * len(places)
        self._n_given: int | None = None

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        """Return which rows have ended."""
        if self._n_given is None:
            # Called after the first new token; embedded prompts are not among the tokens.
            self._n_given = input_ids.shape[1] - 1
        n_new = input_ids.shape[1] - self._n_given
        if self._is_complete is not None and n_new % _CHECKED_EVERY == 0:
            for row, (prompt, _) in enumerate(self._places):
                if self.n_new[row] is None and self._is_complete(prompt, input_ids[row, self._n_given :].tolist()):
                    self.n_new[row] = n_new
        return torch.tensor([n is not None for n in self.n_new], device=input_ids.device)


def _continued(
    model: PreTrainedModel | PeftModel,
    prompts: Sequence[Sequence[int]],
    config: GenerationConfig,
    draws: LogitsProcessorList,
    ends: StoppingCriteria,
) -> torch.Tensor:
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    device, width = model.get_input_embeddings().weight.device, max(map(len, prompts))
    n_padding = torch.tensor([width - len(prompt) for prompt in prompts], device=device)
    rows = [[config.pad_token_id] * (width - len(prompt)) + list(prompt) for prompt in prompts]
    tokens = torch.tensor(rows, device=device)
    n_virtual = count_virtual_tokens(model)
    mask = (torch.arange(n_virtual + width, device=device) >= n_padding[:, None]).long()
    if n_virtual and model.active_peft_config.peft_type == PeftType.PREFIX_TUNING:
        # What lies in the cache has places before the tokens, and before their padding.
        mask = functional.pad(mask[:, :width], (n_virtual, 0), value=1)
        inputs = {"input_ids": functional.pad(tokens, (n_virtual, 0), value=config.pad_token_id)}
        inputs["past_key_values"] = model.get_prompt(len(prompts))
    elif n_virtual:
        # Past PEFT's own generation, which puts virtual tokens before the padding and drops positions.
        inputs = {"inputs_embeds": _embedded(model, tokens, n_padding)}
    else:
        inputs = {"input_ids": tokens}
    # What a folder says about generation (a penalty on repetition, an end of text) would fill what is left open here.
    theirs, base.generation_config = base.generation_config, GenerationConfig()
    try:
        found = base.generate(
            **inputs,
            attention_mask=mask,
            generation_config=config,
            logits_processor=draws,
            stopping_criteria=StoppingCriteriaList([ends]),
        )
    finally:
        base.generation_config = theirs
    return found[:, inputs["input_ids"].shape[1] :] if "input_ids" in inputs else found


def _embedded(model: PeftModel, tokens: torch.Tensor, n_padding: torch.Tensor) -> torch.Tensor:
    given = model.get_input_embeddings()(tokens)
    virtual = model.get_prompt(1).to(given.dtype).expand(len(tokens), -1, -1)
    both = torch.cat([virtual, given], dim=1)
    # [virtual][padding][prompt] -> [padding][virtual][prompt]; padding may hold anything.
    places = torch.arange(both.shape[1], device=tokens.device)
    source = torch.where(
        places >= n_padding[:, None] + virtual.shape[1], places, (places - n_padding[:, None]).clamp(min=0)
    )
    return both.gather(1, source[:, :, None].expand_as(both))


class SeededDraws(LogitsProcessor):
    """Scores whose largest is a draw from softmax(logits / T): logits / T - log E with independent E ~ Exp(1).

    Each row has a generator of its own, of (seed, place of the prompt, number of the sample), so that its draws do not
    depend on the other rows, and rounding moves a draw only where two tokens are all but equal. Gumbel-max: Maddison et
    al. 2014, A* Sampling, arXiv 1411.0030.
    """

    def __init__(self, decoding: Decoding, rows: Sequence[tuple[int, int]]) -> None:
        self._temperature, self._nucleus = decoding.temperature, None
        if decoding.top_p < 1:
            self._nucleus = TopPLogitsWarper(decoding.top_p)
        self._generators = [np.random.default_rng((decoding.seed, *row)) for row in rows]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return scores of shape (B, V)."""
        # Measured from the best one, which stays 0 at any temperature that float32 tells from 0.
        scaled = (scores - scores.amax(dim=-1, keepdim=True)) / max(self._temperature, _TINY)
        if self._nucleus is not None:
            scaled = self._nucleus(input_ids, scaled)
        draws = np.empty(tuple(scores.shape), dtype=np.float32)
        for row, generator in zip(draws, self._generators, strict=True):
            generator.standard_exponential(out=row, dtype=np.float32)
        return scaled - torch.from_numpy(draws).to(scores.device).clamp_(min=_TINY).log_()


def _check_model(model: PreTrainedModel | PeftModel, pad_token_id: int) -> None:
    if count_virtual_tokens(model) and model.active_peft_config.peft_type not in _PROMPTS:
        raise ValueError(
            f"adapter of type {model.active_peft_config.peft_type.value} is prompt learning that nothing is generated "
            f"by here; use {', '.join(kind.value for kind in _PROMPTS)}"
        )
    vocab_size = vocabulary_of(model)
    if not 0 <= pad_token_id < vocab_size:
        raise ValueError(
            f"pad_token_id is {pad_token_id}, and the model's vocabulary goes from 0 to {vocab_size - 1}; "
            "any token of it will do, such as the end of text"
        )


def _row(model: PreTrainedModel | PeftModel, index: int, prompt: Sequence[int], decoding: Decoding) -> Row:
    """Return the row of a prompt, after the check that it fits the vocabulary, the positions and the budget."""
    name, vocab_size = f"prompt {index}", vocabulary_of(model)
    if not len(prompt):
        raise ValueError(f"{name} is empty; give at least one token, such as the end of text")
    worst = min(prompt) if min(prompt) < 0 else max(prompt)
    if not 0 <= worst < vocab_size:
        raise ValueError(
            f"{name} has token id {worst}, and the model's vocabulary goes from 0 to {vocab_size - 1}; "
            "use the model's own tokenizer"
        )
    n_new = decoding.max_new_tokens
    if decoding.max_length is not None:
        n_new = min(n_new, decoding.max_length - len(prompt))
        if n_new < 1:
            raise ValueError(
                f"{name} has {len(prompt)} tokens, and max_length {decoding.max_length} leaves no room for new ones; "
                "raise max_length, or shorten the prompt"
            )
    n_virtual, n_positions, budget = count_virtual_tokens(model), _positions(model), decoding.tokens_per_batch
    row = Row(index, n_virtual + len(prompt), n_new)
    total = row.n_given + n_new
    virtual = f"{n_virtual} virtual tokens and " if n_virtual else ""
    length = f"{name} has {len(prompt)} tokens, with {virtual}{n_new} more to follow {total}"
    if n_positions is not None and total > n_positions:
        raise ValueError(f"{length}, and the model has {n_positions} positions; shorten it, or let fewer tokens follow")
    if total > budget:
        raise ValueError(
            f"{length}, and tokens_per_batch is {budget}; raise it to {total} or more, or shorten the prompt"
        )
    return row


def vocabulary_of(model: PreTrainedModel | PeftModel) -> int:
    """Return the number that a model's token ids are below."""
    return model.get_input_embeddings().weight.shape[0]


def batches_within(rows: Iterable[Row], tokens_per_batch: int, n_positions: int | None = None) -> list[list[Row]]:
    """Put rows into batches of similar length, longest first, each within a budget and the model's positions.

    A batch of R rows takes R (max n_given + max n_more) tokens, padding counted; equal rows keep their order.
    """
    batches: list[list[Row]] = []
    most = 0
    for row in sorted(rows, key=lambda row: (-row.n_given, -row.n_more)):
        # All rows of a batch go on as long as the one that goes on longest.
        more = max(most, row.n_more)
        longest = more + (batches[-1][0].n_given if batches else 0)
        if not batches or (len(batches[-1]) + 1) * longest > tokens_per_batch or longest > (n_positions or longest):
            batches.append([])
            more = row.n_more
        batches[-1].append(row)
        most = more
    return batches


def _positions(model: PreTrainedModel | PeftModel) -> int | None:
    return getattr(model.config, "max_position_embeddings", None)


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
