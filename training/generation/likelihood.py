"""How probable a model finds given answers to its prompts."""

from collections.abc import Sequence

import numpy as np
from peft import PeftModel
from transformers import PreTrainedModel

from training.generation.model import CausalModel, scoring
from training.generation.rows import Progress, Row, batches_within, check_length, check_tokens, progress_bar


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

    Parameters
    ----------
    model : PreTrainedModel or PeftModel
        Any causal language model of transformers, tuned or not, in training mode or not; left as it was.
    prompts : sequence of P sequences of int
        Token ids; none is empty.
    answers : sequence of A sequences of int
        Token ids; none is empty. The same answers for every prompt.
    tokens_per_batch : int
        Budget of one batch: rows x (virtual tokens + longest prompt + longest answer).
    pad_token_id : int
        Fills rows up, any token of the vocabulary.
    progress : bool, str or None
        Progress bar on standard error: always, never, or (None, or a label for it) where that is a terminal.

    Returns
    -------
    ndarray of float64, shape (P, A)
        Log-likelihoods, nats.

    Raises
    ------
    ValueError
        If there is no answer, a prompt or an answer is empty or has tokens outside the vocabulary, or both together
        exceed the model's positions or the budget; the message names them.
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
