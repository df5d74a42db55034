"""How probable a model finds given answers to its prompts."""

from collections.abc import Sequence

import numpy as np
from peft import PeftModel
from transformers import PreTrainedModel

from training.generation.model import (
    CausalModel,
    Progress,
    Row,
    batches_within,
    check_length,
    check_tokens,
    progress_bar,
    scoring,
)


def answer_log_likelihoods(
    model: PreTrainedModel | PeftModel,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    *,
    tokens_per_batch: int,
    pad_token_id: int,
    progress: Progress = None,
) -> np.ndarray:
    r"""Return the log-likelihood of every answer after every prompt.

    log P(a | p) = sum_t log P(a_t | p, a_1, ..., a_{t-1}), in nats, over the tokens of the answer. The prompt and,
    with P-Tuning, the virtual tokens before it are not scored. The likeliest answer of a yes/no question is its row's
    maximum; answers of different numbers of tokens have sums of different numbers of terms.
    """
    causal = CausalModel(model, pad_token_id)
    rows = _rows(causal, prompts, answers, tokens_per_batch)
    found = np.empty((len(prompts), len(answers)))
    with scoring(model), progress_bar(progress, len(rows), label="likelihood", unit="prompt") as bar:
        for batch in batches_within(rows, tokens_per_batch):
            # A prompt is read once, whatever the number of answers.
            reading = causal.read([prompts[row.index] for row in batch])
            for number, answer in enumerate(answers):
                found[[row.index for row in batch], number] = reading.log_likelihoods(answer).cpu().numpy()
            bar.update(len(batch))
    return found


def _rows(
    causal: CausalModel, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], tokens_per_batch: int
) -> list[Row]:
    if not len(answers):
        raise ValueError("there are no answers to score; give at least one")
    for number, answer in enumerate(answers):
        check_tokens(answer, f"answer {number}", causal.vocab_size)
    longest = max(map(len, answers))
    rows = []
    for index, prompt in enumerate(prompts):
        row = Row(index, causal.n_virtual + len(prompt), longest)
        check_tokens(prompt, f"prompt {index}", causal.vocab_size)
        check_length(
            row,
            f"prompt {index}",
            n_virtual=causal.n_virtual,
            n_positions=causal.n_positions,
            tokens_per_batch=tokens_per_batch,
        )
        rows.append(row)
    return rows
