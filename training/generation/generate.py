"""Prompts in, new tokens out: in batches of similar length, by transformers' ``generate``, tuned or not."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, NamedTuple

import numpy as np
import torch
from peft import PeftModel, PeftType
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from torch import nn
from torch.nn import functional
from tqdm import tqdm
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, PreTrainedModel, TopPLogitsWarper

from training.loop.validation import count_virtual_tokens

Progress = bool | str | None
"""Whether there is a progress bar: always, never, or (None, or a label for it) where standard error is a terminal."""

# Most tokens of a batch, padding included: what bounds memory, and no number depends on it but by rounding.
TOKENS_PER_BATCH = 16_384
TokenId = Annotated[int, Field(ge=0)]

# Prompt learning whose virtual tokens are embeddings put before the prompt's; those of prefix tuning lie in the cache.
_PROMPTS = (PeftType.P_TUNING, PeftType.PROMPT_TUNING, PeftType.PREFIX_TUNING)
_TINY = torch.finfo(torch.float32).tiny


class Decoding(BaseModel):
    """How a model continues its prompts."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

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
) -> list[list[list[int]]]:
    """Return the new tokens of each sample of each prompt, without the one that ended it; the model is left as it was.

    Greedy text in float32 is the same for any budget, but where the two best logits differ by rounding alone (less than
    1e-4), and so are the draws of samples. A sample of ``max_new_tokens`` tokens was cut off.
    """
    _check_model(model, pad_token_id)
    rows = [_row(model, index, prompt, decoding) for index, prompt in enumerate(prompts)]
    # Greedy samples of one prompt are equal: one is decoded.
    n_distinct = 1 if decoding.is_greedy else decoding.n_samples
    units = [row._replace(index=row.index * n_distinct + sample) for row in rows for sample in range(n_distinct)]
    stops = sorted({*decoding.stop_token_ids, *([] if eos_token_id is None else [eos_token_id])})
    found: list[list[int]] = [[] for _ in units]
    with scoring(model), progress_bar(progress, len(units), label="generate", unit="sample") as bar:
        for batch in batches_within(units, decoding.tokens_per_batch):
            places = [divmod(row.index, n_distinct) for row in batch]
            config = GenerationConfig(
                max_new_tokens=batch[0].n_more, do_sample=False, eos_token_id=stops or None, pad_token_id=pad_token_id
            )
            draws = [] if decoding.is_greedy else [SeededDraws(decoding, places)]
            new = _continued(model, [prompts[prompt] for prompt, _ in places], config, LogitsProcessorList(draws))
            for row, tokens in zip(batch, new.tolist(), strict=True):
                end = next((place for place, token in enumerate(tokens) if token in stops), len(tokens))
                found[row.index] = tokens[:end]
            bar.update(len(batch))
    repeats = decoding.n_samples // n_distinct
    return [
        [list(text) for text in found[start : start + n_distinct] * repeats]
        for start in range(0, len(units), n_distinct)
    ]


def _continued(
    model: PreTrainedModel | PeftModel,
    prompts: Sequence[Sequence[int]],
    config: GenerationConfig,
    draws: LogitsProcessorList,
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
        found = base.generate(**inputs, attention_mask=mask, generation_config=config, logits_processor=draws)
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
    name = f"prompt {index}"
    check_tokens(prompt, name, vocabulary_of(model))
    n_new = decoding.max_new_tokens
    if decoding.max_length is not None:
        n_new = min(n_new, decoding.max_length - len(prompt))
        if n_new < 1:
            raise ValueError(
                f"{name} has {len(prompt)} tokens, and max_length {decoding.max_length} leaves no room for new ones; "
                "raise max_length, or shorten the prompt"
            )
    return checked_row(model, index, prompt, n_new, decoding.tokens_per_batch)


def vocabulary_of(model: PreTrainedModel | PeftModel) -> int:
    """Return the number that a model's token ids are below."""
    return model.get_input_embeddings().weight.shape[0]


def batches_within(rows: Iterable[Row], tokens_per_batch: int) -> list[list[Row]]:
    """Put rows into batches of similar length and as many further tokens, longest first, each within a budget.

    A batch of R rows takes R (max n_given + n_more) tokens, padding counted. Rows of equal lengths keep their order.
    """
    batches: list[list[Row]] = []
    for row in sorted(rows, key=lambda row: (-row.n_given, -row.n_more)):
        first = batches[-1][0] if batches else None
        fits = first and (len(batches[-1]) + 1) * (first.n_given + first.n_more) <= tokens_per_batch
        # A row that went on beyond its own end would leave the model's positions.
        if not fits or row.n_more != first.n_more:
            batches.append([])
        batches[-1].append(row)
    return batches


def check_tokens(tokens: Sequence[int], name: str, vocab_size: int) -> None:
    """Raise ValueError if a sequence is empty, or has a token outside the vocabulary."""
    if not len(tokens):
        raise ValueError(f"{name} is empty; give at least one token, such as the end of text")
    worst = min(tokens) if min(tokens) < 0 else max(tokens)
    if not 0 <= worst < vocab_size:
        raise ValueError(
            f"{name} has token id {worst}, and the model's vocabulary goes from 0 to {vocab_size - 1}; "
            "use the model's own tokenizer"
        )


def checked_row(
    model: PreTrainedModel | PeftModel, index: int, prompt: Sequence[int], n_more: int, tokens_per_batch: int
) -> Row:
    """Return the row of a prompt, after the check that it fits the model's positions and the budget."""
    n_virtual, n_positions = count_virtual_tokens(model), getattr(model.config, "max_position_embeddings", None)
    row = Row(index, n_virtual + len(prompt), n_more)
    total = row.n_given + n_more
    virtual = f"{n_virtual} virtual tokens and " if n_virtual else ""
    length = f"prompt {index} has {len(prompt)} tokens, with {virtual}{n_more} more to follow {total}"
    if n_positions is not None and total > n_positions:
        raise ValueError(f"{length}, and the model has {n_positions} positions; shorten it, or let fewer tokens follow")
    if total > tokens_per_batch:
        raise ValueError(
            f"{length}, and tokens_per_batch is {tokens_per_batch}; raise it to {total} or more, or shorten the prompt"
        )
    return row


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


def progress_bar(progress: Progress, total: int, *, label: str, unit: str) -> tqdm:
    """Return a progress bar on standard error."""
    # tqdm reads None as: where standard error is a terminal.
    disable = not progress if isinstance(progress, bool) else None
    label = progress if isinstance(progress, str) else label
    return tqdm(desc=label, total=total, unit=unit, file=sys.stderr, disable=disable)
