"""How probable a model finds given texts, or the part of them that is scored."""

from collections.abc import Sequence

import numpy as np
import torch
from peft import PeftModel
from transformers import PreTrainedModel

from training.corpus.rows import ScoredRow
from training.generation.generate import scoring, vocabulary_of
from training.loop.batches import RowSet
from training.loop.reporting import Progress, progress_bar
from training.loop.validation import count_virtual_tokens, token_losses


def row_log_likelihoods(
    model: PreTrainedModel | PeftModel,
    rows: Sequence[ScoredRow],
    *,
    tokens_per_batch: int,
    progress: Progress = None,
) -> np.ndarray:
    """Return the log-likelihood of the scored tokens of every row given those before them, nats, float64 (rows,).

    By the losses of training: virtual tokens are not scored, and the model is left as it was. ``tokens_per_batch``
    bounds a forward pass, padding counted; no number depends on it but by rounding.
    """
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
