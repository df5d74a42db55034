"""Cross-entropy on given tokens, computed the same way for every tuning method, with its standard error."""

import math
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from numpy.typing import ArrayLike
from peft import PeftModel
from torch import nn
from torch.nn import functional

from training.loop.batches import IGNORED, RowSet, TokenBatch


@dataclass(frozen=True)
class CrossEntropy:
    """Mean cross-entropy of a set of tokens, nats, and its standard error over the rows that have scored ones."""

    loss: float
    stderr: float | None
    n_targets: int
    n_rows: int


def count_virtual_tokens(model: nn.Module) -> int:
    """Return how many virtual tokens a tuned model puts before its input: those of P-Tuning, else 0.

    A model inside ``disable_adapter()`` puts none: PEFT calls the base model then.
    """
    if isinstance(model, PeftModel) and model.active_peft_config.is_prompt_learning and not model._adapters_disabled:
        return model.active_peft_config.num_virtual_tokens
    return 0


def token_losses(model: nn.Module, batch: TokenBatch, n_virtual: int = 0) -> torch.Tensor:
    """Return the cross-entropy of every token given those before it, nats, float32 (B, T - 1); 0 where not scored.

    Not the model's own loss: PEFT's P-Tuning scores the first token too, and returns logits of its virtual tokens
    before those of the input. Here every method is scored on the same tokens.
    """
    # A cache would only cost memory here, and masks leak through it (packed rows with positions of their own).
    logits = model(input_ids=batch.tokens, use_cache=False).logits
    expected = n_virtual + batch.tokens.shape[1]
    if logits.shape[1] != expected:
        raise ValueError(
            f"the model returned logits of {logits.shape[1]} positions for {batch.tokens.shape[1]} tokens and "
            f"{n_virtual} virtual ones; expected {expected}: which logits belong to which token is not known"
        )
    # Logits of the last token have no target. They are ignored rather than cut off, which would copy all others.
    predictions, targets = logits[:, n_virtual:].float(), functional.pad(batch.targets, (0, 1), value=IGNORED)
    losses = functional.cross_entropy(
        predictions.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none"
    )
    return losses.view(targets.shape)[:, :-1].contiguous()


def mean_with_error(sums: ArrayLike, counts: ArrayLike) -> CrossEntropy:
    r"""Return the mean over tokens and its standard error over rows.

    With sum s_i and count n_i of row i of m: L = sum s_i / sum n_i, and, as a ratio of two sums (linearised; Cochran
    1977, Sampling Techniques, section 6.3), sqrt(m / (m - 1) sum (s_i - L n_i)^2) / sum n_i. Tokens of a row are not
    independent, rows are. Rows without scored tokens are left out.
    """
    pairs = [(float(total), int(count)) for total, count in zip(sums, counts, strict=True) if count]
    if not pairs:
        raise ValueError("no token is scored; set loss_mask where tokens enter the loss")
    # Exactly rounded sums do not depend on the order of rows, so neither on how many processes took part.
    n_targets = sum(count for _, count in pairs)
    loss = math.fsum(total for total, _ in pairs) / n_targets
    n_rows = len(pairs)
    stderr = None
    if n_rows > 1:
        squares = math.fsum((total - loss * count) ** 2 for total, count in pairs)
        stderr = math.sqrt(n_rows / (n_rows - 1) * squares) / n_targets
    return CrossEntropy(loss, stderr, n_targets, n_rows)


class Validator:
    """The fixed validation set in batches, the same for any number of processes, which share the work."""

    def __init__(self, rows: RowSet, batch_size: int, accelerator: Accelerator) -> None:
        self._groups = rows.by_length(range(len(rows)), batch_size)
        self._batches = [rows.batch(group) for group in self._groups]
        self._counts = [rows.n_targets([index]) for index in range(len(rows))]
        self._accelerator = accelerator

    @torch.no_grad()
    def score(self, model: nn.Module, n_virtual: int = 0) -> CrossEntropy:
        """Return the model's cross-entropy on the set. The model is left in the mode it was in."""
        was_training = model.training
        model.eval()
        device = self._accelerator.device
        sums = torch.zeros(len(self._counts), dtype=torch.float64, device=device)
        n_processes, process = self._accelerator.num_processes, self._accelerator.process_index
        for start in range(0, len(self._batches), n_processes):
            # Distributed models talk to each other in every forward pass: a process without a batch left takes the
            # last one too, and drops what it gets.
            place = min(start + process, len(self._batches) - 1)
            losses = token_losses(model, self._batches[place].to(device), n_virtual)
            if place == start + process:
                sums[self._groups[place]] = losses.sum(dim=1, dtype=torch.float64)
        sums = self._accelerator.reduce(sums, reduction="sum")
        model.train(was_training)
        return mean_with_error(sums.tolist(), self._counts)
