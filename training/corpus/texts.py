"""Instruction text of one's own: prompts and completions from a JSONL file, in the place of the embedded corpus."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from training.corpus.layout import Document, lay_out
from training.corpus.settings import Split
from training.corpus.sources import load_jsonl

TEXTS_VARIABLE = "ASTRAIOS_TEXTS"
"""Environment variable: the folder in which text lies as ``<label of the corpus>.jsonl``, or with ``.gz``."""

_VALIDATION_SHARE = 0.05
# Fixes which examples are kept for validation; seeds of runs start from 0 and are another stream.
_SPLIT_SEED = 0


class TextSettings(BaseModel):
    """What a record says about text that the project does not carry.

    Attributes
    ----------
    label : str
        Name of the corpus.
    sha256 : str
        Digest of the file.
    n_examples : int
        Examples in it.
    validation_share : float
        Share of the examples kept for validation.
    split_seed : int
        Seed of that division, which all runs share.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    label: str
    sha256: str
    n_examples: int
    validation_share: float = _VALIDATION_SHARE
    split_seed: int = _SPLIT_SEED


@dataclass(frozen=True)
class TextItem:
    """One example of the text."""

    document: Document


class TextCorpus:
    """Examples of a file, laid out as the study's, in a fresh order for every seed and every pass.

    Parameters
    ----------
    label : str
        Name of the corpus.
    path : Path
        JSONL with ``prompt`` and ``completion``.

    Raises
    ------
    ValueError
        If the file cannot be read, or has too few examples to keep one for validation.
    """

    def __init__(self, label: str, path: Path) -> None:
        examples = load_jsonl(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        self.settings = TextSettings(label=label, sha256=digest, n_examples=len(examples))
        documents = [lay_out(example) for example in examples]
        order = np.random.default_rng([_SPLIT_SEED, len(documents)]).permutation(len(documents))
        n_validation = round(_VALIDATION_SHARE * len(documents))
        if not 0 < n_validation < len(documents):
            raise ValueError(
                f"{path} has {len(documents)} examples, of which {_VALIDATION_SHARE:.0%} are kept for validation; "
                "give 20 at least"
            )
        self._parts = {
            "validation": [documents[place] for place in order[:n_validation]],
            "train": [documents[place] for place in order[n_validation:]],
        }

    def instructions(self, seed: int, split: Split) -> Iterator[TextItem]:
        """Yield the examples of a part without end, each pass in an order of its own.

        Raises
        ------
        ValueError
            If the text has no such part: there are ``train`` and ``validation``.
        """
        if split not in self._parts:
            raise ValueError(f"text has no part {split!r}; choose from {', '.join(sorted(self._parts))}")
        documents = self._parts[split]
        rng = np.random.default_rng([seed, len(documents)])
        while True:
            for place in rng.permutation(len(documents)):
                yield TextItem(documents[place])


def text_file(label: str, environment: Mapping[str, str] | None = None) -> Path | None:
    """Return the file of a text by its label; None where there is none.

    Parameters
    ----------
    label : str
        Name of the corpus.
    environment : mapping of str to str, optional
        Environment variables; those of the process without it.
    """
    folder = (os.environ if environment is None else environment).get(TEXTS_VARIABLE)
    if not folder:
        return None
    return next((path for end in ("jsonl", "jsonl.gz") if (path := Path(folder) / f"{label}.{end}").is_file()), None)
