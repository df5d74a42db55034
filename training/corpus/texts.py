"""Instruction text in the place of the embedded corpus: prompts and completions of a file, a folder or the hub."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from pydantic import BaseModel, ConfigDict

from training.corpus.layout import Document, Example, lay_out
from training.corpus.settings import Split
from training.corpus.sources import TEXTS_VARIABLE, load_hub_splits, load_jsonl, require_hub_library

# The study's scripts name it (bigcode-project/astraios, run_fft.sh: columns prompt and completion, 200 steps), and its
# card on the hub has the splits train (12,958 rows) and test (629).
HUB_TEXTS: Mapping[str, str] = MappingProxyType({"commitpackft+oasst": "bigcode/guanaco-commits"})
"""Texts that are data sets on the hub: label and name there."""

_TRAINING_SPLIT = "train"
# The first of these that a data set has is validated on. The script that the study's grew out of validates on `test`
# (bigcode-project/octopack, finetuning/finetune.py), and tunes and scores on nothing else of it.
_VALIDATION_SPLITS = ("validation", "test")
_VALIDATION_SHARE = 0.05
# Fixes which examples are kept for validation; seeds of runs start from 0 and are another stream.
_SPLIT_SEED = 0


class TextSettings(BaseModel):
    """What a record says about text that the project does not carry.

    Attributes
    ----------
    label : str
        Name of the corpus.
    source : str
        Name of the file, or of the data set.
    sha256 : str
        Digest of the file; of a data set, that of its examples for training and then for validation, each a line
        ``["prompt", "completion"]`` of JSON.
    n_examples : int
        Examples in it that are used.
    n_validation_examples : int
        Of these, examples kept for validation.
    validation_split : str, optional
        Split of the data set that is validated on.
    validation_share : float, optional
        Share of the examples kept for validation, where there is no such split.
    split_seed : int
        Seed of that division and of the order of the validation examples, which all runs share.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    label: str
    source: str
    sha256: str
    n_examples: int
    n_validation_examples: int
    validation_split: str | None = None
    validation_share: float | None = None
    split_seed: int = _SPLIT_SEED


@dataclass(frozen=True)
class TextItem:
    """One example of the text."""

    document: Document


class TextCorpus:
    """Examples laid out as the study's, in a fresh order for every seed and every pass.

    Parameters
    ----------
    label : str
        Name of the corpus.
    source : Path or str
        JSONL file with ``prompt`` and ``completion``, or a data set with these columns: its folder, or its name on the
        hub. A data set's own split is validated on, or 5 % of the examples where there is none.

    Raises
    ------
    ValueError
        If the text cannot be read, or has too few examples to keep one for validation.
    """

    def __init__(self, label: str, source: Path | str) -> None:
        if Path(source).is_file():
            name, validation_split = Path(source).name, None
            training, validation = _divided(load_jsonl(source), str(source))
            digest = hashlib.sha256(Path(source).read_bytes()).hexdigest()
        else:
            name = HUB_TEXTS.get(label, str(source))
            training, validation, validation_split = _splits(str(source))
            digest = _digest(training, validation)
        self.settings = TextSettings(
            label=label,
            source=name,
            sha256=digest,
            n_examples=len(training) + len(validation),
            n_validation_examples=len(validation),
            validation_split=validation_split,
            validation_share=_VALIDATION_SHARE if validation_split is None else None,
        )
        parts = {"validation": validation, "train": training}
        self._parts = {part: [lay_out(example) for example in examples] for part, examples in parts.items()}

    def instructions(self, seed: int, split: Split) -> Iterator[TextItem]:
        """Yield examples of training without end, each pass in an order of its own; those of validation once.

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
            if split == "validation":
                # A row that came twice would be counted as two, in the standard error too.
                return


def find_text(label: str, environment: Mapping[str, str]) -> Path | str | None:
    """Return where the text of a corpus is: a file or folder below ASTRAIOS_TEXTS, or a name on the hub.

    Parameters
    ----------
    label : str
        Name of the corpus.
    environment : mapping of str to str
        Environment variables.

    Returns
    -------
    Path, str or None
        In the folder ASTRAIOS_TEXTS, the first there is of ``LABEL.jsonl``, ``LABEL.jsonl.gz`` and the folder of a data
        set under its hub name, the last part of that name, or the label; else its hub name. None where there is none.

    Raises
    ------
    ValueError
        If ASTRAIOS_TEXTS names no folder.
    """
    hub_name = HUB_TEXTS.get(label)
    texts = environment.get(TEXTS_VARIABLE)
    if not texts:
        return hub_name
    folder = Path(texts)
    if not folder.is_dir():
        raise ValueError(f"{TEXTS_VARIABLE} is {texts!r}, which is no folder; name one with texts in it, or unset it")
    files = [path for end in ("jsonl", "jsonl.gz") if (path := folder / f"{label}.{end}").is_file()]
    names = [label] if hub_name is None else [hub_name, hub_name.rpartition("/")[2], label]
    return next(iter([*files, *(path for name in names if (path := folder / name).is_dir())]), hub_name)


def fetch_text(label: str, environment: Mapping[str, str]) -> None:
    """Read a text that is a data set, so that worker processes find it in the library's cache.

    Raises
    ------
    ValueError
        If it cannot be had; the message says what to download and where to put it.
    """
    source = find_text(label, environment)
    if source is not None and not Path(source).is_file():
        TextCorpus(label, source)


def check_text(label: str, environment: Mapping[str, str]) -> None:
    """Raise ValueError if what reads a text is not installed."""
    source = find_text(label, environment)
    if source is not None and not Path(source).is_file():
        require_hub_library(str(source))


def _splits(name: str) -> tuple[list[Example], list[Example], str | None]:
    splits = load_hub_splits(name)
    if _TRAINING_SPLIT not in splits:
        raise ValueError(
            f"data set {name!r} has no split {_TRAINING_SPLIT!r}; its splits are {', '.join(splits)}: save the one you "
            "mean as JSONL"
        )
    found = next((split for split in _VALIDATION_SPLITS if split in splits), None)
    if found is None:
        return *_divided(splits[_TRAINING_SPLIT], name), None
    return splits[_TRAINING_SPLIT], splits[found], found


def _divided(examples: Sequence[Example], what: str) -> tuple[list[Example], list[Example]]:
    order = np.random.default_rng([_SPLIT_SEED, len(examples)]).permutation(len(examples))
    n_validation = round(_VALIDATION_SHARE * len(examples))
    if not 0 < n_validation < len(examples):
        raise ValueError(
            f"{what} has {len(examples)} examples, of which {_VALIDATION_SHARE:.0%} are kept for validation; "
            "give 20 at least"
        )
    return [examples[place] for place in order[n_validation:]], [examples[place] for place in order[:n_validation]]


def _digest(*parts: Sequence[Example]) -> str:
    digest = hashlib.sha256()
    for example in (example for part in parts for example in part):
        digest.update(json.dumps([example.prompt, example.completion]).encode() + b"\n")
    return digest.hexdigest()
