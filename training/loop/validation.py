"""Cross-entropy on given tokens, computed the same way for every tuning method, with its standard error."""

import math
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from numpy.typing import ArrayLike
from peft import PeftModel
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from training.loop.batches import IGNORED, RowSet, TokenBatch
from training.spec.run import CHUNK_LOGITS


@dataclass(frozen=True)
class CrossEntropy:
    """Mean cross-entropy of a set of tokens, nats, and its standard error over the rows that have scored ones."""

    loss: float
    stderr: float | None
    n_targets: int
    n_rows: int


def count_virtual_tokens(model: nn.Module) -> int:
    """Return how many virtual tokens a tuned model puts before its input: those of prompt learning, else 0.

    A model inside ``disable_adapter()`` puts none: PEFT calls the base model then.
    """
    if isinstance(model, PeftModel) and model.active_peft_config.is_prompt_learning and not model._adapters_disabled:
        return model.active_peft_config.num_virtual_tokens
    return 0


def token_losses(model: nn.Module, batch: TokenBatch) -> torch.Tensor:
    """Return the cross-entropy of every token given those before it, nats, float32 (B, T - 1); 0 where not scored.

    Not the model's own loss: PEFT's P-Tuning scores the first token too, and returns logits of its virtual tokens
    before those of the input. Here every method is scored on the same tokens. Logits of all tokens would set the batch
    where the vocabulary is large (11 GiB for 8 rows of 2,048 of StarCoder's): there the output head itself computes
    losses, of scored tokens only, a chunk at a time.
    """
    # Logits of the last token have no target. They are ignored rather than cut off, which would copy all others.
    targets = functional.pad(batch.targets, (0, 1), value=IGNORED)
    base = next(module for module in model.modules() if isinstance(module, PreTrainedModel))
    head = base.get_output_embeddings()
    rows = CHUNK_LOGITS // base.get_input_embeddings().weight.shape[0]
    if targets.numel() <= rows or head is None or getattr(base, _CHANGES_LOGITS, False):
        losses = _whole_losses(model, batch, targets)
    else:
        losses = _chunked_losses(model, head, batch, targets, max(1, rows))
        if losses is None:
            # Such as Gemma 2, which caps its logits. Known from now on.
            setattr(base, _CHANGES_LOGITS, True)
            losses = _whole_losses(model, batch, targets)
    return losses.view(targets.shape)[:, :-1].contiguous()


_CHANGES_LOGITS = "_astraios_changes_logits"


def _logits(model: nn.Module, batch: TokenBatch) -> torch.Tensor:
    # A cache would only cost memory here, and masks leak through it (packed rows with positions of their own).
    moved = {} if batch.starts is None else {"position_ids": batch.positions}
    return model(input_ids=batch.tokens, use_cache=False, **moved).logits


def _whole_losses(model: nn.Module, batch: TokenBatch, targets: torch.Tensor) -> torch.Tensor:
    # Virtual tokens, where they have logits, come first.
    logits = _logits(model, batch)[:, -batch.tokens.shape[1] :]
    return _cross_entropy(logits.flatten(0, 1), targets.flatten())


def _cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(logits.float(), targets, ignore_index=IGNORED, reduction="none")


def _chunked_losses(
    model: nn.Module, head: nn.Module, batch: TokenBatch, targets: torch.Tensor, rows: int
) -> torch.Tensor | None:
    """Return losses that the head computes in place of logits; None where the model does more to logits than the head.

    Inside the model's forward pass, where shards are gathered, precisions set and gradients expected.
    """
    project = head.forward
    places = (targets.flatten() != IGNORED).nonzero()[:, 0]
    given: list[torch.Tensor] = []

    def losses_of(hidden: torch.Tensor) -> torch.Tensor:
        states, wanted = hidden[:, -batch.tokens.shape[1] :].flatten(0, 1), targets.flatten()
        found = torch.zeros(len(wanted), device=hidden.device)
        for part in places.split(rows):
            chunk = checkpoint(
                lambda states, wanted: _cross_entropy(project(states), wanted),
                states[part],
                wanted[part],
                use_reentrant=False,
                preserve_rng_state=False,
            )
            found = found.index_copy(0, part, chunk)
        given.append(found)
        return found

    head.forward = losses_of
    try:
        losses = _logits(model, batch)
    finally:
        del head.forward
    return losses if given and losses is given[0] else None


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
    def score(self, model: nn.Module) -> CrossEntropy:
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
            losses = token_losses(model, self._batches[place].to(device))
            if place == start + process:
                sums[self._groups[place]] = losses.sum(dim=1, dtype=torch.float64)
        sums = self._accelerator.reduce(sums, reduction="sum")
        model.train(was_training)
        return mean_with_error(sums.tolist(), self._counts)
