"""What the scoring layer asks of whoever answers; texts that are given, in a test, do as well as a model."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np


class Respondent(Protocol):
    """What answers prompts: a model, or given texts in a test."""

    def write(self, prompts: Sequence[str], references: Sequence[str]) -> list[str]:
        """Return an answer to each prompt, a little longer than the longest reference at most."""
        ...

    def complete(self, contexts: Sequence[str], references: Sequence[str]) -> list[str]:
        """Return what follows each text as it stands, without the layout of prompts."""
        ...

    def log_likelihoods(self, prompts: Sequence[str], choices: Sequence[str]) -> np.ndarray:
        """Return the log-likelihood of each choice as the answer to each prompt, shape (n_prompts, n_choices)."""
        ...
