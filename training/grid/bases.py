"""Models with weights, kept in a cache: bases, pre-trained from scratch once or loaded, and what runs made of them."""

import hashlib
import importlib.metadata
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, PreTrainedModel

from astraios_analysis.records.refusal import Refusal
from training.corpus.rows import save_tokenizer
from training.corpus.texts import TextCorpus, reason_of
from training.grid.rows import run_corpus, stream_rows
from training.loop.processes import agreed, is_first_process, locked_by_first
from training.loop.reporting import Reporting
from training.loop.train import train
from training.models.adapters import (
    BottleneckConfig as BottleneckConfig,  # registers the adapters, which loading looks up
)
from training.models.pretrained import (
    empty_model,
    file_digest,
    folder_config,
    load_pretrained,
    scratch_config,
    weight_arguments,
)
from training.spec.files import whole_folder
from training.spec.run import RunSpec

BASE_VERSION = 1
"""Version of how bases are made: raised whenever the same inputs give other weights. It enters their digest."""

CHECKPOINT_EVERY = 50
"""Steps between two checkpoints: seconds of work at most are lost where models are small."""

_NOTE_FILE = "base.json"
_DIGESTS_FILE = "digests.json"
# Libraries whose other versions may give other weights from the same inputs.
_VERSIONS = ("numpy", "torch", "transformers", "accelerate", "tokenizers")


@dataclass(frozen=True)
class Base:
    """A base model, in float32 or as the run keeps a frozen one; the note, JSON values, says where it comes from."""

    model: PreTrainedModel
    tokenizer: Tokenizer
    note: dict[str, Any]


def load_base(
    spec: RunSpec, cache_dir: str | Path, *, reporting: Reporting | None = None, is_empty: bool = False
) -> Base:
    """Return the base model of a run; one trained from scratch is trained first where the cache lacks it.

    With ``is_empty`` it has shapes and no weights, on the meta device.
    """
    if spec.size.pretrained is not None:
        return Base(*load_pretrained(spec.size, spec.loop.base_precision, is_empty=is_empty))
    arguments = weight_arguments(spec.loop.base_precision)
    folder = pretrain(spec, cache_dir, reporting=reporting)
    try:
        check_weights(folder)
        note = json.loads((folder / _NOTE_FILE).read_text("utf-8"))
        if is_empty:
            model = empty_model(folder_config(folder), arguments["dtype"])
        else:
            model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, **arguments)
    except Exception as error:  # json, transformers and safetensors each raise their own
        raise Refusal(f"base model {folder} cannot be read: {reason_of(error)}; delete it to train it anew") from error
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
    """
    if spec.pretraining is None:
        raise Refusal(
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
        raise Refusal(
            f"corpus {spec.data!r} is text for tuning, and no base is trained on it from scratch; set the "
            f"`pretrained` of size {spec.size.name!r}"
        )
    n_tokens = corpus.tokenizer.get_vocab_size()
    if n_tokens > spec.size.vocab_size:
        raise Refusal(
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
    outcome = {name: getattr(result, name) for name in ("n_tokens", "seconds", "flop")}
    note = {"digest": folder.name, "inputs": _inputs(spec), "outcome": {"val_loss": result.final.loss, **outcome}}
    if is_first_process():
        with whole_folder(folder) as partial:
            model.cpu().save_pretrained(partial)
            save_tokenizer(corpus.tokenizer, partial)
            (partial / _NOTE_FILE).write_text(json.dumps(note, indent=1) + "\n", "utf-8")
            _seal(partial)
        shutil.rmtree(work)
    # The others read it.
    agreed(None)


def _initial_model(spec: RunSpec) -> PreTrainedModel:
    # The caller's random numbers go on as if no model had been drawn.
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(int(np.random.SeedSequence([spec.seed, BASE_VERSION]).generate_state(1)[0]))
        return AutoModelForCausalLM.from_config(scratch_config(spec.size), dtype=torch.float32)


def _seal(folder: Path) -> None:
    """Write down the SHA-256 of every file of weights: one cached base feeds all methods of its size and seed."""
    digests = {path.name: file_digest(path) for path in sorted(folder.glob("*.safetensors"))}
    (folder / _DIGESTS_FILE).write_text(json.dumps(digests, indent=1) + "\n", "utf-8")


def check_weights(folder: Path) -> None:
    """Refuse weights that are not those that were written; folders of before digests were kept have none."""
    path = folder / _DIGESTS_FILE
    for name, digest in json.loads(path.read_text("utf-8")).items() if path.exists() else ():
        if file_digest(folder / name) != digest:
            raise Refusal(f"{name} has changed since it was written")


def tuned_folder(cache_dir: str | Path, run_id: str) -> Path:
    """Return the folder of a run's tuned weights."""
    return Path(cache_dir) / "tuned" / run_id


def save_tuned(model: PreTrainedModel | PeftModel, cache_dir: str | Path, run_id: str) -> Path:
    """Keep what a run updated: all weights after full fine-tuning, the adapter alone after any other method."""
    folder = tuned_folder(cache_dir, run_id)
    with whole_folder(folder) as partial:
        model.save_pretrained(partial)
        _seal(partial)
    return folder


def load_tuned(spec: RunSpec, cache_dir: str | Path) -> tuple[PreTrainedModel | PeftModel, Tokenizer]:
    """Return a finished run's tuned model, which computes bit for bit what it did after training, and its tokenizer."""
    folder = tuned_folder(cache_dir, spec.run_id)
    if not folder.is_dir():
        raise Refusal(
            f"tuned weights of run {spec.run_id} are not in {folder.parent}; name the cache that the grid was trained "
            "with, or delete the run's record and train it again"
        )
    if spec.tuning.method == "fft" and spec.size.pretrained is None:
        return _read(spec.run_id, folder, None), run_corpus(spec.data).tokenizer
    base = load_base(spec, cache_dir)
    return _read(spec.run_id, folder, None if spec.tuning.method == "fft" else base.model), base.tokenizer


def _read(run_id: str, folder: Path, base: PreTrainedModel | None) -> PreTrainedModel | PeftModel:
    try:
        check_weights(folder)
        if base is None:
            return AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
        return PeftModel.from_pretrained(base, folder)
    except Exception as error:  # json, transformers, peft and safetensors each raise their own
        raise Refusal(
            f"tuned weights of run {run_id} in {folder} cannot be read: {reason_of(error)}; delete the folder and the "
            "run's record, and train it again"
        ) from error
