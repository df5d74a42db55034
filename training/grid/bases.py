"""Base models with weights: pre-trained from scratch once and kept in a cache, or loaded from a folder or the hub."""

import hashlib
import importlib.metadata
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from peft import PeftModel
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, PreTrainedModel

from training.corpus.embedded import EmbeddedCorpus
from training.corpus.hub import reason_of
from training.corpus.items import Item
from training.corpus.rows import document_rows, packed_rows
from training.corpus.settings import Split
from training.corpus.texts import TextCorpus, find_text
from training.corpus.tokenizer import Row as EncodedRow
from training.corpus.tokenizer import encode, save_tokenizer
from training.loop.batches import Row, TokenRows
from training.loop.processes import agreed, is_first_process, locked_by_first
from training.loop.reporting import Reporting
from training.loop.train import train
from training.models.adapters import (
    BottleneckConfig as BottleneckConfig,  # registers the adapters, which loading looks up
)
from training.models.models import scratch_config
from training.models.pretrained import load_pretrained, weight_arguments
from training.spec.files import whole_folder
from training.spec.grids import CORPORA, corpus_settings
from training.spec.loop_settings import Layout
from training.spec.run import RunSpec, Schedule

BASE_VERSION = 1
"""Version of how bases are made: raised whenever the same inputs give other weights. It enters their digest."""

CHECKPOINT_EVERY = 50
"""Steps between two checkpoints: seconds of work at most are lost where models are small."""

Stream = Literal["pretraining", "instructions"]

_NOTE_FILE = "base.json"
_DRAWN_AT_ONCE = 1000
# Seeds of the instructions in pre-training text lie this far from those of the runs, whose tuning draws others.
_APART = 1_000_000
# Libraries whose other versions may give other weights from the same inputs.
_VERSIONS = ("numpy", "torch", "transformers", "accelerate", "tokenizers")


@dataclass(frozen=True)
class Base:
    """A base model, ready to be tuned.

    Attributes
    ----------
    model : PreTrainedModel
        Weights in float32, or as the run keeps a frozen base.
    tokenizer : tokenizers.Tokenizer
        Its tokenizer.
    note : dict
        Where it comes from, as JSON values: ``pretrained``, or the digest, inputs and outcome of its training here.
    """

    model: PreTrainedModel
    tokenizer: Tokenizer
    note: dict[str, Any]


def load_base(spec: RunSpec, cache_dir: str | Path, *, reporting: Reporting | None = None) -> Base:
    """Return the base model of a run; one trained from scratch is trained first where the cache lacks it.

    Parameters
    ----------
    spec : RunSpec
        The run. Every method of one size, seed and corpus has the same base.
    cache_dir : str or Path
        Cache folder; bases are in ``bases/<digest>`` below it.
    reporting : Reporting, optional
        Progress of the training, where there is one.

    Returns
    -------
    Base
        Model and tokenizer.

    Raises
    ------
    ValueError
        If the weights cannot be loaded or are of another shape than the size says, the corpus is unknown, or the
        vocabulary has no room for its tokens.
    """
    if spec.size.pretrained is not None:
        model, tokenizer = load_pretrained(spec.size, spec.loop.base_precision)
        return Base(model, tokenizer, {"pretrained": spec.size.pretrained})
    arguments = weight_arguments(spec.loop.base_precision)
    folder = pretrain(spec, cache_dir, reporting=reporting)
    try:
        note = json.loads((folder / _NOTE_FILE).read_text("utf-8"))
        model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, **arguments)
    except Exception as error:  # json, transformers and safetensors each raise their own
        raise ValueError(
            f"base model {folder} cannot be read: {reason_of(error)}; delete it to train it anew"
        ) from error
    # The one it was trained with: the digest covers the corpus. One object a process, so that rows are shared.
    return Base(model, run_corpus(spec.data).tokenizer, note)


def base_digest(spec: RunSpec) -> str:
    """Return sixteen hexadecimal digits for everything that the weights of a run's base depend on."""
    text = json.dumps(_inputs(spec), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def pretrain(
    spec: RunSpec,
    cache_dir: str | Path,
    *,
    checkpoint_every: int = CHECKPOINT_EVERY,
    reporting: Reporting | None = None,
) -> Path:
    """Train a run's base model from scratch, unless the cache has it, and return its folder.

    The folder appears under its name when everything is in it. Of several processes that ask for one base, the first
    trains it and the others wait. An interrupted training goes on from its last checkpoint.

    Parameters
    ----------
    spec : RunSpec
        A run with a pre-training schedule.
    cache_dir : str or Path
        Cache folder.
    checkpoint_every : int
        Steps between two checkpoints.
    reporting : Reporting, optional
        Progress bar and trackers.

    Returns
    -------
    Path
        A folder with the model as `save_pretrained` writes it, ``tokenizer.json``, and ``base.json``.

    Raises
    ------
    ValueError
        If the run has no pre-training schedule, or its size and the corpus do not fit each other.
    DivergedError
        If the training diverges.
    """
    if spec.pretraining is None:
        raise ValueError(
            f"size {spec.size.name!r} of grid {spec.grid!r} has neither pre-trained weights nor a pre-training "
            "schedule; set the size's `pretrained` or the grid's `pretraining`"
        )
    digest = base_digest(spec)
    bases = Path(cache_dir) / "bases"
    folder, work = bases / digest, bases / f".training-{digest}"
    if agreed(folder.exists()):
        return folder
    with locked_by_first(bases / f".{digest}.lock"):
        # Another process may have trained it while this one waited.
        if not agreed(folder.exists()):
            _train_into(folder, work, spec, checkpoint_every, reporting or Reporting(name=f"base {spec.size.name}"))
    return folder


def stream_rows(spec: RunSpec, schedule: Schedule, stream: Stream, tokenizer: Tokenizer) -> TokenRows:
    """Return the rows of a stream of a run's corpus; every token but the first of a row is scored, as in the study.

    Parameters
    ----------
    spec : RunSpec
        The run: corpus, seed, layout and the number of validation rows.
    schedule : Schedule
        Takes as many training rows as it has steps times rows in a step, so that none comes twice; says how long a
        row may be, and a packed block is.
    stream : {"pretraining", "instructions"}
        Which stream.
    tokenizer : tokenizers.Tokenizer
        The base model's.

    Returns
    -------
    TokenRows
        Training rows of the run's seed, and validation rows that all runs share.
    """
    corpus, length, layout = run_corpus(spec.data), schedule.sequence_length, spec.loop.layout
    shared, n_rows = corpus.settings.split_seed, schedule.steps * schedule.global_batch
    share = (spec.pretraining_instructions or 0.0) if stream == "pretraining" else 1.0
    return TokenRows(
        training=_rows(corpus, tokenizer, share, spec.seed, "train", n_rows, length, layout),
        validation=_rows(corpus, tokenizer, share, shared, "validation", spec.n_validation, length, layout),
    )


@lru_cache(maxsize=1)
def run_corpus(label: str) -> EmbeddedCorpus | TextCorpus:
    """Return the corpus with a label, built once a process: an embedded one, or text from a file, a folder or the hub.

    Raises
    ------
    ValueError
        If there is none, or its text cannot be had; the message names the choices, or what to do.
    """
    if label not in CORPORA and (source := find_text(label, os.environ)) is not None:
        return TextCorpus(label, source)
    return EmbeddedCorpus(corpus_settings(label))


# The methods of one size and seed share their rows, and a worker trains them one after the other.
@lru_cache(maxsize=4)
def _rows(
    corpus: EmbeddedCorpus | TextCorpus,
    tokenizer: Tokenizer,
    share: float,
    seed: int,
    split: Split,
    n: int,
    length: int,
    layout: Layout,
) -> list[Row]:
    items = corpus.instructions(seed, split) if share == 1 else _mixed(corpus, share, seed, split)
    if layout == "documents":
        documents = [item.document for item in islice(items, n)]
        return [Row(*row) for row in document_rows(encode(tokenizer, documents), length)]
    rows: list[EncodedRow] = []
    while sum(len(row.tokens) for row in rows) < n * length:
        drawn = [item.document for item in islice(items, _DRAWN_AT_ONCE)]
        if not drawn:
            # The validation part of a text ends: fewer rows, and none twice, which would not be another row.
            break
        rows += encode(tokenizer, drawn)
    return [Row(*row) for row in packed_rows(rows, length)[:n]]


def _mixed(corpus: EmbeddedCorpus, share: float, seed: int, split: Split) -> Iterator[Item]:
    """Yield documented functions, and in their midst a share of instructions that no tuning of this seed sees."""
    documented, instructions = corpus.pretraining(seed, split), corpus.instructions(seed + _APART, split)
    rng = np.random.default_rng([seed, _APART])
    while True:
        yield next(instructions if share and rng.random() < share else documented)


def _inputs(spec: RunSpec) -> dict[str, Any]:
    return {
        "version": BASE_VERSION,
        # A label changes no weight: grids share the bases they have in common.
        "size": spec.size.model_dump(mode="json", exclude={"name"}, exclude_none=True),
        "pretraining": None if spec.pretraining is None else spec.pretraining.model_dump(mode="json"),
        # How a frozen base is kept belongs to tuning.
        "loop": spec.loop.model_dump(mode="json", exclude_none=True, exclude={"base_precision"}),
        **({} if spec.pretraining_instructions is None else {"instructions": spec.pretraining_instructions}),
        "data": spec.data,
        "seed": spec.seed,
        "n_validation": spec.n_validation,
        "versions": {name: importlib.metadata.version(name) for name in _VERSIONS},
    }


def _train_into(folder: Path, work: Path, spec: RunSpec, checkpoint_every: int, reporting: Reporting) -> None:
    corpus = run_corpus(spec.data)
    if isinstance(corpus, TextCorpus):
        raise ValueError(
            f"corpus {spec.data!r} is text for tuning, and no base is trained on it from scratch; set the "
            f"`pretrained` of size {spec.size.name!r}"
        )
    n_tokens = corpus.tokenizer.get_vocab_size()
    if n_tokens > spec.size.vocab_size:
        raise ValueError(
            f"size {spec.size.name!r} has vocab_size {spec.size.vocab_size}, and the tokenizer of corpus "
            f"{spec.data!r} has {n_tokens} tokens; give the size at least as many"
        )
    schedule = spec.pretraining
    rows = stream_rows(spec, schedule, "pretraining", corpus.tokenizer)
    settings = spec.loop.model_copy(update={"checkpoint_every": checkpoint_every})
    model = _initial_model(spec)
    result = train(
        model, schedule, rows, seed=spec.seed, settings=settings, spec=_inputs(spec), folder=work, reporting=reporting
    )
    outcome = {
        "val_loss": result.final.loss,
        "n_tokens": result.n_tokens,
        "seconds": result.seconds,
        "flop": result.flop,
    }
    note = {"digest": folder.name, "inputs": _inputs(spec), "outcome": outcome}
    if is_first_process():
        _write_base(folder, model, corpus.tokenizer, note)
        shutil.rmtree(work)
    # The others read it.
    agreed(None)


def _write_base(folder: Path, model: PreTrainedModel, tokenizer: Tokenizer, note: dict[str, Any]) -> None:
    with whole_folder(folder) as partial:
        model.cpu().save_pretrained(partial)
        save_tokenizer(tokenizer, partial)
        (partial / _NOTE_FILE).write_text(json.dumps(note, indent=1) + "\n", "utf-8")


def _initial_model(spec: RunSpec) -> PreTrainedModel:
    # The caller's random numbers go on as if no model had been drawn.
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(int(np.random.SeedSequence([spec.seed, BASE_VERSION]).generate_state(1)[0]))
        return AutoModelForCausalLM.from_config(scratch_config(spec.size), dtype=torch.float32)


def tuned_folder(cache_dir: str | Path, run_id: str) -> Path:
    """Return the folder of a run's tuned weights."""
    return Path(cache_dir) / "tuned" / run_id


def save_tuned(model: PreTrainedModel | PeftModel, cache_dir: str | Path, run_id: str) -> Path:
    """Keep what a run updated: all weights after full fine-tuning, the adapter alone after any other method.

    Parameters
    ----------
    model : PreTrainedModel or PeftModel
        The tuned model, on any device.
    cache_dir : str or Path
        Cache folder.
    run_id : str
        The run.

    Returns
    -------
    Path
        The folder, ``tuned/<run_id>`` in the cache, as `save_pretrained` writes it. It appears when it is complete.
    """
    folder = tuned_folder(cache_dir, run_id)
    with whole_folder(folder) as partial:
        model.save_pretrained(partial)
    return folder


def load_tuned(spec: RunSpec, cache_dir: str | Path) -> tuple[PreTrainedModel | PeftModel, Tokenizer]:
    """Return a finished run's tuned model, which computes bit for bit what it did after training, and its tokenizer.

    Parameters
    ----------
    spec : RunSpec
        The run. The base under an adapter is trained anew if the cache lacks it.
    cache_dir : str or Path
        Cache folder.

    Returns
    -------
    tuple of (PreTrainedModel or PeftModel, tokenizers.Tokenizer)
        Weights in float32.

    Raises
    ------
    ValueError
        If the tuned weights are not in the cache or cannot be read.
    """
    folder = tuned_folder(cache_dir, spec.run_id)
    if not folder.is_dir():
        raise ValueError(
            f"tuned weights of run {spec.run_id} are not in {folder.parent}; name the cache that the grid was trained "
            "with, or delete the run's record and train it again"
        )
    if spec.tuning.method == "fft" and spec.size.pretrained is None:
        return _read(spec.run_id, folder, None), run_corpus(spec.data).tokenizer
    base = load_base(spec, cache_dir)
    return _read(spec.run_id, folder, None if spec.tuning.method == "fft" else base.model), base.tokenizer


def _read(run_id: str, folder: Path, base: PreTrainedModel | None) -> PreTrainedModel | PeftModel:
    try:
        if base is None:
            return AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
        return PeftModel.from_pretrained(base, folder)
    except Exception as error:  # json, transformers, peft and safetensors each raise their own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"tuned weights of run {run_id} in {folder} cannot be read: {reason}; delete the folder and the run's "
            "record, and train it again"
        ) from error
