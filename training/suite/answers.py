"""A language model at the suite: it answers greedily, and by likelihood."""

from collections.abc import Sequence

import numpy as np
from peft import PeftModel
from tokenizers import Tokenizer
from transformers import PreTrainedModel

from training.corpus.items import Document
from training.corpus.rows import END_OF_TEXT, PADDING, Row, document_rows, encode, encode_context
from training.generation.generate import TOKENS_PER_BATCH, Decoding, generate
from training.generation.likelihood import row_log_likelihoods
from training.suite.problems import answer_text, context

# An answer may be a little longer than any reference: a right program need not be the shortest one.
_SPARE_TOKENS = 8


class ModelRespondent:
    """A language model that answers in the study's layout, one greedy answer a prompt.

    Context and answer are encoded each for itself, as in training; the answer ends at the end of text, or where it is
    as long as the longest reference and eight tokens more.
    """

    def __init__(
        self, model: PreTrainedModel | PeftModel, tokenizer: Tokenizer, *, progress: bool | None = False
    ) -> None:
        self._model, self._progress = model, progress
        self._tokenizer = tokenizer
        self._end = tokenizer.token_to_id(END_OF_TEXT)
        padding = tokenizer.token_to_id(PADDING)
        self._padding = self._end if padding is None else padding

    def write(self, prompts: Sequence[str], references: Sequence[str]) -> list[str]:
        """Return the model's greedy answers to prompts, a little longer than the longest reference at most."""
        texts = self._continue([context(prompt) for prompt in prompts], [answer_text(text) for text in references])
        return [text.removeprefix(" ") for text in texts]

    def complete(self, contexts: Sequence[str], references: Sequence[str]) -> list[str]:
        """Return the model's greedy continuations of texts as they stand, as in the pre-training stream."""
        return self._continue(contexts, references)

    def _continue(self, contexts: Sequence[str], references: Sequence[str]) -> list[str]:
        distinct = list(dict.fromkeys(contexts))
        longest = max(len(encode_context(self._tokenizer, text)) for text in references) + _SPARE_TOKENS
        # One sample of the most likely tokens: no seed enters.
        decoding = Decoding(max_new_tokens=longest, temperature=0.0, n_samples=1)
        written = generate(
            self._model,
            [encode_context(self._tokenizer, text) for text in distinct],
            decoding,
            eos_token_id=self._end,
            pad_token_id=self._padding,
            progress=self._progress,
        )
        texts = {
            text: self._tokenizer.decode(samples[0], skip_special_tokens=False)
            for text, samples in zip(distinct, written, strict=True)
        }
        return [texts[text] for text in contexts]

    def likelihoods(self, documents: Sequence[Document], *, is_ended: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return the sums of the log-probabilities of the targets' tokens, nats, and how many there are, shape (n,).

        The end of the text is one of them where it is ended there.
        """
        encoded = encode(self._tokenizer, documents)
        cut = encoded if is_ended else [Row(row.tokens[:-1], row.n_context) for row in encoded]
        rows = document_rows(cut, max(len(row.tokens) for row in cut), loss_on="completion")
        sums = row_log_likelihoods(self._model, rows, tokens_per_batch=TOKENS_PER_BATCH, progress=self._progress)
        return sums, np.array([row.loss_mask.sum() for row in rows])
