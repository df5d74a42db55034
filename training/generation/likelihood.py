"""How probable a model finds given answers to its prompts."""

from collections.abc import Sequence

import numpy as np
import torch
from peft import PeftModel
from transformers import PreTrainedModel

from training.corpus.rows import ScoredRow
from training.generation.generate import (
    Progress,
    batches_within,
    check_tokens,
    checked_row,
    progress_bar,
    scoring,
    vocabulary_of,
)
from training.loop.batches import IGNORED, RowSet, TokenBatch
from training.loop.validation import count_virtual_tokens, token_losses


def answer_log_likelihoods(
    model: PreTrainedModel | PeftModel,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    *,
    tokens_per_batch: int,
    progress: Progress = None,
) -> np.ndarray:
    """Return the log-likelihood of every answer after every prompt, nats, float64 (prompts, answers).

    log P(a | p) = sum_t log P(a_t | p, a_1, ..., a_{t-1}) over the tokens of the answer, by the losses of training:
    neither the prompt nor virtual tokens are scored, and the model is left as it was.
    """
    vocab_size = vocabulary_of(model)
    if not len(answers):
        raise ValueError("there are no answers to score; give at least one")
    for number, answer in enumerate(answers):
        check_tokens(answer, f"answer {number}", vocab_size)
    longest = max(map(len, answers))
    for index, prompt in enumerate(prompts):
        check_tokens(prompt, f"prompt {index}", vocab_size)
    rows = [checked_row(model, index, prompt, longest, tokens_per_batch) for index, prompt in enumerate(prompts)]
    found = np.empty((len(prompts), len(answers)))
    device = model.get_input_embeddings().weight.device
    with scoring(model), progress_bar(progress, len(rows), label="likelihood", unit="prompt") as bar:
        for batch in batches_within(rows, tokens_per_batch):
            given = [prompts[row.index] for row in batch]
            for number, answer in enumerate(answers):
                losses = token_losses(model, _batch(given, answer).to(device))
                found[[row.index for row in batch], number] = -losses.sum(dim=1, dtype=torch.float64).cpu().numpy()
            bar.update(len(batch))
    return found


def row_log_likelihoods(
    model: PreTrainedModel | PeftModel,
    rows: Sequence[ScoredRow],
    *,
    tokens_per_batch: int,
    progress: Progress = None,
) -> np.ndarray:
    """Return the log-likelihood of the scored tokens of every row given those before them, nats, float64 (rows,)."""
    vocab_size, n_virtual = vocabulary_of(model), count_virtual_tokens(model)
    most = getattr(model.config, "max_position_embeddings", tokens_per_batch) - n_virtual
    checked = RowSet(rows, "scored", "documents", max_length=most, vocab_size=vocab_size)
    size = max(1, tokens_per_batch // (n_virtual + max(map(checked.length, range(len(checked))))))
    found = np.empty(len(checked))
    device = model.get_input_embeddings().weight.device
    with scoring(model), progress_bar(progress, len(checked), label="likelihood", unit="text") as bar:
        for group in checked.by_length(range(len(checked)), size):
            losses = token_losses(model, checked.batch(group).to(device))
            found[group] = -losses.sum(dim=1, dtype=torch.float64).cpu().numpy()
            bar.update(len(group))
    return found


def _batch(prompts: Sequence[Sequence[int]], answer: Sequence[int]) -> TokenBatch:
    width = max(map(len, prompts)) + len(answer)
    tokens = torch.zeros((len(prompts), width), dtype=torch.int64)
    targets = torch.full((len(prompts), width - 1), IGNORED)
    for row, prompt in enumerate(prompts):
        end = len(prompt) + len(answer)
        tokens[row, :end] = torch.tensor([*prompt, *answer])
        targets[row, len(prompt) - 1 : end - 1] = tokens[row, len(prompt) : end]
    return TokenBatch(tokens, targets, sum(map(len, prompts)), len(prompts) * len(answer))
