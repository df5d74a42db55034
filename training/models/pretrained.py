"""Base models: configurations, empty ones on the meta device, and pre-trained ones from local folders or the hub."""

import copy
import hashlib
import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    GPTBigCodeConfig,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.utils import cached_file

from astraios_analysis.records.refusal import Refusal
from training.corpus.rows import END_ID, END_OF_TEXT, PADDING
from training.corpus.texts import folder_commit, hub_advice, reason_of
from training.spec.run import BasePrecision, ModelSize


def size_config(size: ModelSize) -> GPTBigCodeConfig:
    """Return the transformers configuration of a GPTBigCode base model."""
    return GPTBigCodeConfig(
        vocab_size=size.vocab_size,
        n_positions=size.n_positions,
        n_embd=size.d_model,
        n_layer=size.n_layers,
        n_head=size.n_heads,
        n_inner=size.d_ff,
        multi_query=True,
        tie_word_embeddings=True,
        # StarCoder's end-of-text token; the library's default ids (50256) lie outside these vocabularies.
        bos_token_id=END_ID,
        eos_token_id=END_ID,
    )


def scratch_config(size: ModelSize) -> GPTBigCodeConfig:
    """Return the configuration of a base model that is trained from scratch: `size_config` without dropout.

    Its stream never repeats a document, so there is nothing to memorise; and the library's default (0.1) would blur
    comparisons of tuning methods by noise that the study's do not share (LoRA keeps a dropout of its own).
    """
    config = size_config(size)
    config.resid_pdrop = config.embd_pdrop = config.attn_pdrop = 0.0
    return config


def plain_config(config: PretrainedConfig) -> PretrainedConfig:
    """Return a configuration without the note that weights were loaded in 8 bits: shapes do not depend on it."""
    if getattr(config, "quantization_config", None) is None:
        return config
    plain = copy.deepcopy(config)
    del plain.quantization_config
    return plain


def folder_config(folder: str | Path) -> PretrainedConfig:
    """Read the configuration of a causal language model from a local folder, or its file; nothing is downloaded."""
    path = Path(folder)
    if not path.exists():
        raise ValueError(f"model folder {str(folder)!r} does not exist; give a local folder with a config.json")
    file = path / "config.json" if path.is_dir() else path
    if not file.is_file():
        hint = (
            " (it has an adapter_config.json: give the base model's folder instead)"
            if (path / "adapter_config.json").is_file()
            else ""
        )
        raise ValueError(f"model folder {str(folder)!r} has no config.json{hint}; save the model with save_pretrained")
    try:
        config = AutoConfig.from_pretrained(file, local_files_only=True)
    except Exception as error:  # the library raises many types here, its strict configurations' own among them
        raise ValueError(f"{file} cannot be read as a model configuration: {reason_of(error)}") from error
    if type(config) not in AutoModelForCausalLM._model_mapping:
        raise ValueError(
            f"{file} describes a model of type {config.model_type!r}, "
            "which is not a causal language model; give one that transformers' AutoModelForCausalLM can build"
        )
    return config


def empty_model(config: PretrainedConfig, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Build a causal language model on the meta device: every shape, no memory for any weight."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    # Tying by identity: a head tied to the embedding must be one tensor, or it would be counted twice.
    model.tie_weights()
    return model


MODELS_VARIABLE = "ASTRAIOS_MODELS"
"""Environment variable: a folder in which models lie under their hub names; no part of a run's specification."""

# Weights, besides their description: without any, a folder is a download that was broken off.
_WEIGHTS = ("*.safetensors", "*.bin")


def load_pretrained(
    size: ModelSize, base_precision: BasePrecision | None = None, *, is_empty: bool = False
) -> tuple[PreTrainedModel, Tokenizer, dict[str, Any]]:
    """Return the pre-trained model of a size, its tokenizer, and which weights these are.

    It comes from ASTRAIOS_MODELS, the hub's cache, or the hub. Which weights: the hub's commit, or the SHA-256 of files
    that do not say of which commit they are.
    """
    name = str(size.pretrained)
    place = find_model(name, os.environ)
    folder = Path(place) if Path(place).is_dir() else None
    arguments = weight_arguments(base_precision)
    try:
        if folder:
            commit = _check_folder(folder, size.revision)
        else:
            # What a revision, or the head, stands for: the name of the folder that the cache keeps it in.
            commit = Path(cached_file(name, "config.json", revision=size.revision)).parent.name
        # A head that moves from here on is not what is read.
        at = {} if folder else {"revision": commit}
        model, tokenizer = open_model(place, arguments, is_empty=is_empty, **at)
    except Exception as error:  # the hub's client, transformers and safetensors each raise their own
        advice = hub_advice("model", name, MODELS_VARIABLE, error, size.revision)
        raise ValueError(f"base model {name!r} of size {size.name!r} cannot be loaded: {advice}") from error
    found = {"d_model": model.config.hidden_size, "n_layers": model.config.num_hidden_layers}
    for field, value in found.items():
        if value != getattr(size, field):
            raise ValueError(
                f"base model {name!r} has {field} {value}, and size {size.name!r} says {getattr(size, field)}; "
                "correct the size, which labels the run's record"
            )
    which = {"revision": commit} if commit else {"sha256": {path.name: file_digest(path) for path in _weights(folder)}}
    return model, tokenizer, {"pretrained": name, **which}


def open_model(
    place: str,
    arguments: Mapping[str, Any] = MappingProxyType({"dtype": torch.float32}),
    *,
    is_empty: bool = False,
    **at: str,
) -> tuple[PreTrainedModel, Tokenizer]:
    """Return a model, with ``is_empty`` its shapes alone, and its tokenizer from a folder or the hub."""
    if is_empty:
        model = empty_model(AutoConfig.from_pretrained(place, **at), arguments["dtype"])
    else:
        model = AutoModelForCausalLM.from_pretrained(place, **at, **arguments)
    return model, _tokenizer(place, model.config, **at)


def on_accelerator(model: torch.nn.Module) -> torch.nn.Module:
    """Return a model on an accelerator where there is one, as in training; a base in fewer bits lies there already."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return model if model.device.type == device else model.to(device)


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _weights(folder: Path) -> list[Path]:
    return sorted(path for pattern in _WEIGHTS for path in folder.glob(pattern))


class NamedEnds:
    """A tokenizer whose end of text and padding are found under this project's names for them.

    Llama's end of text is ``</s>``, Qwen's chat models end with ``<|im_end|>``: what is trained and generated here asks
    for `END_OF_TEXT`, whatever the model calls it. Everything else is the tokenizer's own.
    """

    def __init__(self, tokenizer: Tokenizer, end: int) -> None:
        self._tokenizer, self._ends = tokenizer, {END_OF_TEXT: end, PADDING: end}

    def token_to_id(self, token: str) -> int | None:
        """Return the number of a token."""
        return self._ends.get(token, self._tokenizer.token_to_id(token))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


def _tokenizer(place: str, config: PretrainedConfig, **at: str) -> Tokenizer:
    """Return a model's tokenizer; its end of text is what its own settings say, else the token of that name."""
    path = Path(place) / "tokenizer.json"
    end = None
    if path.is_file():
        # As it stands in the file: the classes of some architectures would build parts of it anew.
        tokenizer = Tokenizer.from_file(str(path))
        if (Path(place) / "tokenizer_config.json").is_file():
            end = AutoTokenizer.from_pretrained(place, **at).eos_token_id
    else:
        whole = AutoTokenizer.from_pretrained(place, **at)
        tokenizer, end = whole.backend_tokenizer, whole.eos_token_id
    if end is None:
        end = tokenizer.token_to_id(END_OF_TEXT)
    if end is None:
        # Several: the first is that of text, others end turns of a chat.
        end = next(iter(config.eos_token_id), None) if isinstance(config.eos_token_id, list) else config.eos_token_id
    if end is None or tokenizer.id_to_token(end) is None:
        raise Refusal("neither the tokenizer nor the model's configuration names an end of text (eos_token)")
    return tokenizer if tokenizer.token_to_id(END_OF_TEXT) == end else NamedEnds(tokenizer, end)


def find_model(name: str, environment: Mapping[str, str]) -> str:
    """Return where a model is: its folder in that named by ASTRAIOS_MODELS, or the name itself."""
    models = environment.get(MODELS_VARIABLE)
    if not models or Path(name).is_dir():
        return name
    if not Path(models).is_dir():
        raise ValueError(
            f"{MODELS_VARIABLE} is {models!r}, which is no folder; name one with models below it, or unset it"
        )
    # Under the whole name, or under its last part, as `git clone` would have it.
    for folder in (Path(models) / name, Path(models) / name.rpartition("/")[2]):
        if folder.is_dir():
            return str(folder)
    return name


def weight_arguments(base_precision: BasePrecision | None) -> dict[str, Any]:
    """Return what `from_pretrained` is told about the precision in which weights are kept."""
    if base_precision is None:
        return {"dtype": torch.float32}
    if base_precision == "bf16":
        return {"dtype": torch.bfloat16}
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ValueError(
            f"base_precision {base_precision!r} needs the package bitsandbytes, which is not installed; pip install "
            "bitsandbytes, or keep the base in bf16"
        )
    fewer = {"load_in_8bit": True}
    if base_precision == "nf4":
        # As QLoRA has it: 4-bit normal floats, their scales quantised too, computed with in bfloat16.
        fewer = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
        fewer["bnb_4bit_compute_dtype"] = torch.bfloat16
    return {"dtype": torch.bfloat16, "quantization_config": BitsAndBytesConfig(**fewer)}


def _check_folder(folder: Path, revision: str | None) -> str | None:
    """Refuse a folder that is not whole, or of another commit than is asked for; return its commit where it says so."""
    if not (folder / "config.json").is_file():
        raise ValueError(f"folder {folder} has no config.json")
    if not _weights(folder):
        raise ValueError(f"folder {folder} has no weights ({' or '.join(_WEIGHTS)}): its download was broken off")
    found = folder_commit(folder)
    if None not in (found, revision) and found != revision:
        raise ValueError(f"folder {folder} is of commit {found}, and the size asks for {revision}")
    return found
