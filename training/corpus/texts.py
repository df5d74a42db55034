"""Instruction text in the place of the embedded corpus: prompts and completions of a file, a folder or the hub."""

import hashlib
import importlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from astraios_analysis.records.notation import say
from astraios_analysis.records.reading import read_lines
from training.corpus.items import Example
from training.corpus.settings import Frozen, Split

Kind = Literal["model", "data set"]

_PAGES = {"model": "https://huggingface.co/{name}", "data set": "https://huggingface.co/datasets/{name}"}
_OPTIONS = {"model": "", "data set": " --repo-type dataset"}
_UNREACHABLE = {"LocalEntryNotFoundError", "HfHubHTTPError", "ConnectionError", "ConnectError", "TransportError"}


def hub_advice(kind: Kind, name: str, variable: str, error: BaseException, revision: str | None = None) -> str:
    """Return why something on the hub cannot be had, the command that downloads it, and where it is looked for."""
    at = f" --revision {revision}" if revision else ""
    fetch = f"hf download {name}{_OPTIONS[kind]}{at} --local-dir DIR/{name}"
    place = f"and set {variable}=DIR"
    elsewhere = f"where there is a network, run {fetch}, copy the folder to this machine {place}"
    kinds = _kinds(error)
    if "GatedRepoError" in kinds:
        page = _PAGES[kind].format(name=name)
        return f"it is gated; accept its licence at {page}, then run hf auth login and {fetch} {place}"
    if "RepositoryNotFoundError" in kinds:
        return f"the hub has no such public {kind}; correct the name, or run hf auth login and {fetch} {place}"
    if "OfflineModeIsEnabled" in kinds:
        return f"the hub is switched off (HF_HUB_OFFLINE) and the {kind} is not in its cache; {elsewhere}"
    if kinds & _UNREACHABLE:
        return f"the hub cannot be reached from here; {elsewhere}"
    whole = "a folder with weights and tokenizer" if kind == "model" else "a folder with all of its files"
    return f"{reason_of(error)}; give {whole}, or run {fetch} {place}"


def _kinds(error: BaseException) -> set[str]:
    # By their names: the hub's client, which raises them, is no dependency of this project but of its libraries.
    kinds = {kind.__name__ for cause in _causes(error) for kind in type(cause).__mro__}
    # The library of data sets cuts its errors off from their causes and only tells of them.
    kinds.update(re.findall(r"\((\w+)\)$", str(error).strip()))
    if "DatasetNotFoundError" in kinds:
        kinds.add("GatedRepoError" if "gated" in str(error) else "RepositoryNotFoundError")
    return kinds


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    # transformers wraps the hub's own errors, sometimes twice.
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def reason_of(error: BaseException) -> str:
    """Return the first line of an error's message, or its type where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def folder_commit(folder: Path) -> str | None:
    """Return the hub's commit that a folder was downloaded at, as `hf download` notes beside it; None if not one."""
    notes = (folder / ".cache/huggingface/download").glob("**/*.metadata")
    commits = {note.read_text("utf-8").partition("\n")[0] for note in notes}
    return commits.pop() if len(commits) == 1 else None


def rows_commit(rows: Any) -> str | None:
    """Return the hub's commit that the rows of a data set were read at; None where the library does not say."""
    urls = getattr(getattr(rows, "info", None), "download_checksums", None) or {}
    commits = {found[1] for url in urls if (found := re.search(r"@([0-9a-f]{40})/", url))}
    return commits.pop() if len(commits) == 1 else None


PROMPT, COMPLETION = "prompt", "completion"
"""Names of the columns; others are ignored."""

TEXTS_VARIABLE = "ASTRAIOS_TEXTS"
"""Environment variable: the folder in which text lies, files by their labels and data sets by their hub names."""


def load_jsonl(path: Path | str) -> list[Example]:
    """Return the examples of a JSONL file, one object a line, plain or gzipped."""
    return [_example(row, f"{path}, line {number}") for number, row in read_lines(Path(path))]


def _example(record: Mapping[str, Any], where: str) -> Example:
    for name in (PROMPT, COMPLETION):
        if name not in record:
            raise ValueError(f"{where}: no column {name!r}; its columns are {', '.join(map(str, record)) or 'none'}")
        if not isinstance(record[name], str):
            raise ValueError(f"{where}: column {name!r} holds {type(record[name]).__name__}; it must be text")
    if not record[COMPLETION]:
        raise ValueError(
            f"{where}: column {COMPLETION!r} is empty; there is nothing to learn from, so leave the line out"
        )
    return Example(record[PROMPT], record[COMPLETION])


def load_hub_splits(name: str) -> tuple[dict[str, list[Example]], str | None]:
    """Return the examples of every split of a data set on the hub or in a local folder, and the commit it has there."""
    # Imported here: commands that plan and score do without.
    library = importlib.import_module("datasets")
    is_folder = Path(name).is_dir()
    try:
        # Where `hf download --local-dir` keeps what it has not finished.
        if is_folder and any(Path(name).glob(".cache/huggingface/download/**/*.incomplete")):
            raise ValueError("its download was broken off")
        splits = library.load_dataset(name)
    except Exception as error:
        # The library raises dozens of classes, for names, splits, files and connections alike.
        if is_folder:
            advice = f"datasets says {type(error).__name__}: {reason_of(error)}; put all of its files there"
            raise ValueError(f"cannot read the data set in folder {name!r}: {advice}") from error
        advice = hub_advice("data set", name, TEXTS_VARIABLE, error)
        raise ValueError(f"cannot read data set {name!r} from the hub: {advice}") from error
    commit = folder_commit(Path(name)) if is_folder else next(map(rows_commit, splits.values()), None)
    return {split: _examples(rows, name, split) for split, rows in splits.items()}, commit


def _examples(rows: Iterable[Any], name: str, split: str) -> list[Example]:
    examples = [_example(dict(row), f"{name}, split {split!r}, row {number}") for number, row in enumerate(rows)]
    if not examples:
        raise ValueError(f"data set {name!r} has no rows in split {split!r}; choose another split")
    return examples


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


class TextSettings(Frozen):
    """What a record says about text that the project does not carry."""

    label: str
    # Name of the file, or of the data set.
    source: str
    # Commit of the data set on the hub.
    revision: str | None = None
    # Of the file; of a data set, of its examples, training first, each a line ["prompt", "completion"] of JSON.
    sha256: str
    n_examples: int
    n_validation_examples: int
    # Of these, examples that are trained on, too, which makes the loss on them too low; absent where there are none.
    n_validation_in_training: int | None = None
    # The data set's split that is validated on, or the share of the examples where there is none.
    validation_split: str | None = None
    validation_share: float | None = None
    # Of that division and of the order of the validation examples, which all runs share.
    split_seed: int = _SPLIT_SEED


class TextCorpus:
    """Examples laid out as the study's, in a fresh order for every seed and every pass."""

    def __init__(self, label: str, source: Path | str) -> None:
        if Path(source).is_file():
            name, revision, validation_split = Path(source).name, None, None
            training, validation = _divided(load_jsonl(source), str(source))
            digest = hashlib.sha256(Path(source).read_bytes()).hexdigest()
        else:
            name = HUB_TEXTS.get(label, str(source))
            training, validation, validation_split, revision = _splits(str(source))
            digest = _digest(training, validation)
        n_shared = sum(map(set(training).__contains__, validation))
        if n_shared:
            say(f"{n_shared} of {len(validation)} examples that {label!r} is validated on are trained on, too")
        self.settings = TextSettings(
            label=label,
            source=name,
            revision=revision,
            sha256=digest,
            n_examples=len(training) + len(validation),
            n_validation_examples=len(validation),
            n_validation_in_training=n_shared or None,
            validation_split=validation_split,
            validation_share=_VALIDATION_SHARE if validation_split is None else None,
        )
        self._parts = {"validation": validation, "train": training}

    def instructions(self, seed: int, split: Split) -> Iterator[Example]:
        """Yield examples of training without end, each pass in an order of its own; those of validation once."""
        if split not in self._parts:
            raise ValueError(f"text has no part {split!r}; choose from {', '.join(sorted(self._parts))}")
        examples = self._parts[split]
        rng = np.random.default_rng([seed, len(examples)])
        while True:
            for place in rng.permutation(len(examples)):
                yield examples[place]
            if split == "validation":
                # A row that came twice would be counted as two, in the standard error too.
                return


def find_text(label: str, environment: Mapping[str, str]) -> Path | str | None:
    """Return where the text of a corpus is: a file or folder below ASTRAIOS_TEXTS, or a name on the hub."""
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


def _splits(name: str) -> tuple[list[Example], list[Example], str | None, str | None]:
    splits, commit = load_hub_splits(name)
    if _TRAINING_SPLIT not in splits:
        raise ValueError(
            f"data set {name!r} has no split {_TRAINING_SPLIT!r}; its splits are {', '.join(splits)}: save the one you "
            "mean as JSONL"
        )
    found = next((split for split in _VALIDATION_SPLITS if split in splits), None)
    if found is None:
        return *_divided(splits[_TRAINING_SPLIT], name), None, commit
    return splits[_TRAINING_SPLIT], splits[found], found, commit


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
