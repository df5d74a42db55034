"""Prompts in, new tokens out: in batches, with a key-value cache, for any causal language model, tuned or not."""

from collections.abc import Sequence

from peft import PeftModel
from tqdm import tqdm
from transformers import PreTrainedModel

from training.generation.decoding import Decoding
from training.generation.model import CausalModel, Reading, scoring
from training.generation.rows import Progress, Row, batches_within, check_length, check_tokens, progress_bar
from training.generation.sampling import Chooser

__all__ = ["Decoding", "generate"]

# Finished rows leave the batch when at most this share of its rows is still at work: leaving copies the cache.
# Measured on a CPU with 13 thousand to 2.7 million parameters: a third less time than keeping them, little between
# .7 and 1.
_SHARE_AT_WORK = 0.9


def generate(
    model: PreTrainedModel | PeftModel,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    *,
    eos_token_id: int | None,
    pad_token_id: int,
    progress: Progress = None,
) -> list[list[list[int]]]:
    """Continue prompts with a causal language model.

    Prompts of similar length go side by side, padded on the left, in batches bounded by a budget of tokens. The text
    does not depend on the batches: greedily decoded text in float32 is the same for any budget except where the two
    best logits differ by rounding alone (less than 1e-4), and so are the draws of samples.

    Parameters
    ----------
    model : PreTrainedModel or PeftModel
        Any causal language model of transformers, tuned or not, in training mode or not; left as it was.
    prompts : sequence of sequences of int
        Token ids; no prompt is empty. P-Tuning's virtual tokens come before them by themselves.
    decoding : Decoding
        How tokens are chosen, how many, and how many at once.
    eos_token_id : int or None
        Token that ends a sample; None generates ``max_new_tokens`` unless a stop token comes.
    pad_token_id : int
        Fills rows up, any token of the vocabulary.
    progress : bool, str or None
        Progress bar on standard error: always, never, or (None, or a label for it) where that is a terminal.

    Returns
    -------
    list of list of list of int
        New tokens of each sample of each prompt, in the order of the prompts, without the token that ended them. A
        sample of ``max_new_tokens`` tokens was cut off.

    Raises
    ------
    ValueError
        If a prompt is empty, has tokens outside the vocabulary, leaves no room for new tokens in the model's
        positions, in ``max_length`` or in the budget of a batch; the message names the prompt.
    """
    causal = CausalModel(model, pad_token_id)
    rows = [_row(causal, index, prompt, decoding) for index, prompt in enumerate(prompts)]
    # Greedy samples of one prompt are equal: one is decoded.
    n_distinct = 1 if decoding.is_greedy else decoding.n_samples
    units = [row._replace(index=row.index * n_distinct + sample) for row in rows for sample in range(n_distinct)]
    stops = {*decoding.stop_token_ids, *([] if eos_token_id is None else [eos_token_id])}
    found: list[list[int]] = [[] for _ in units]
    with scoring(model), progress_bar(progress, len(units), label="generate", unit="sample") as bar:
        for batch in batches_within(units, decoding.tokens_per_batch):
            places = [divmod(row.index, n_distinct) for row in batch]
            reading = _read(causal, prompts, places)
            texts = _decode(reading, Chooser(decoding, places), [row.n_more for row in batch], stops, bar)
            for row, text in zip(batch, texts, strict=True):
                found[row.index] = text
    repeats = decoding.n_samples // n_distinct
    return [
        [list(text) for text in found[start : start + n_distinct] * repeats]
        for start in range(0, len(units), n_distinct)
    ]


def _row(causal: CausalModel, index: int, prompt: Sequence[int], decoding: Decoding) -> Row:
    name = f"prompt {index}"
    check_tokens(prompt, name, causal.vocab_size)
    n_new = decoding.max_new_tokens
    if decoding.max_length is not None:
        n_new = min(n_new, decoding.max_length - len(prompt))
        if n_new < 1:
            raise ValueError(
                f"{name} has {len(prompt)} tokens, and max_length {decoding.max_length} leaves no room for new ones; "
                "raise max_length, or shorten the prompt"
            )
    row = Row(index, causal.n_virtual + len(prompt), n_new)
    check_length(
        row,
        name,
        n_virtual=causal.n_virtual,
        n_positions=causal.n_positions,
        tokens_per_batch=decoding.tokens_per_batch,
    )
    return row


def _read(causal: CausalModel, prompts: Sequence[Sequence[int]], places: Sequence[tuple[int, int]]) -> Reading:
    # A prompt is read once, whatever the number of its samples in the batch.
    distinct = list(dict.fromkeys(prompt for prompt, _ in places))
    reading = causal.read([prompts[prompt] for prompt in distinct])
    if len(distinct) < len(places):
        slots = {prompt: slot for slot, prompt in enumerate(distinct)}
        reading.select([slots[prompt] for prompt, _ in places])
    return reading


def _decode(reading: Reading, choose: Chooser, limits: Sequence[int], stops: set[int], bar: tqdm) -> list[list[int]]:
    texts: list[list[int]] = [[] for _ in limits]
    # Which text a row of the batch belongs to; None once that is at its end.
    slots: list[int | None] = list(range(len(limits)))
    while True:
        tokens = choose(reading.logits)
        for slot, (place, token) in enumerate(zip(slots, tokens.tolist(), strict=True)):
            if place is None:
                continue
            if token not in stops:
                texts[place].append(token)
            if token in stops or len(texts[place]) == limits[place]:
                slots[slot] = None
                bar.update()
        at_work = [slot for slot, place in enumerate(slots) if place is not None]
        if not at_work:
            return texts
        if len(at_work) <= _SHARE_AT_WORK * len(slots):
            reading.select(at_work)
            choose.select(at_work)
            slots, tokens = [slots[slot] for slot in at_work], tokens[at_work]
        reading.append(tokens)
