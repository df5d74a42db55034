"""Pre-trained models from local folders or the hub, and in which precision a frozen base is kept."""

import copy
from pathlib import Path
import torch
from transformers import AutoConfig, AutoModelForCausalLM, GPTBigCodeConfig, PretrainedConfig, PreTrainedModel
from training.spec.run import ModelSize
import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, PreTrainedModel
from training.corpus.texts import hub_advice
from training.corpus.rows import END_OF_TEXT, load_tokenizer
from training.spec.run import BasePrecision
from training.spec.run import ModelSize


def size_config(size: ModelSize) -> GPTBigCodeConfig:
    """Return the transformers configuration of a GPTBigCode base model.

    Parameters
    ----------
    size : ModelSize
        Shape of the model.

    Returns
    -------
    GPTBigCodeConfig
        Multi-query attention, tied output head.
    """
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
        bos_token_id=0,
        eos_token_id=0,
    )


def scratch_config(size: ModelSize) -> GPTBigCodeConfig:
    """Return the configuration of a base model that is trained from scratch: `size_config` without dropout.

    Its pre-training stream never repeats a document, so there is nothing to memorise that dropout could prevent, and
    models this small only lose by it. The library's default (0.1) would also blur every comparison of one tuning
    method with another by noise that the study's methods do not share (LoRA keeps a dropout of its own).

    Parameters
    ----------
    size : ModelSize
        Shape of the model.

    Returns
    -------
    GPTBigCodeConfig
        Dropout 0 everywhere.
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
    """Read the configuration of a causal language model from a local folder; nothing is downloaded.

    Parameters
    ----------
    folder : str or Path
        A folder with a ``config.json``, as `save_pretrained` writes it. Weights are not read and need not be there.

    Returns
    -------
    PretrainedConfig
        The configuration.

    Raises
    ------
    ValueError
        If the folder or its ``config.json`` is missing or unreadable, or describes no causal language model.
    """
    path = Path(folder)
    if not path.is_dir():
        raise ValueError(f"model folder {str(folder)!r} does not exist; give a local folder with a config.json")
    if not (path / "config.json").is_file():
        hint = (
            " (it has an adapter_config.json: give the base model's folder instead)"
            if (path / "adapter_config.json").is_file()
            else ""
        )
        raise ValueError(f"model folder {str(folder)!r} has no config.json{hint}; save the model with save_pretrained")
    try:
        config = AutoConfig.from_pretrained(path, local_files_only=True)
    except Exception as error:  # the library raises many types here, its strict configurations' own among them
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"{path / 'config.json'} cannot be read as a model configuration: {reason}") from error
    if type(config) not in AutoModelForCausalLM._model_mapping:
        raise ValueError(
            f"{path / 'config.json'} describes a model of type {config.model_type!r}, "
            "which is not a causal language model; give one that transformers' AutoModelForCausalLM can build"
        )
    return config


def empty_model(config: PretrainedConfig) -> PreTrainedModel:
    """Build a causal language model on the meta device: every shape, no memory for any weight.

    Parameters
    ----------
    config : PretrainedConfig
        Configuration of the model.

    Returns
    -------
    PreTrainedModel
        The model, its tied weights tied.
    """
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    # Tying by identity: a head tied to the embedding must be one tensor, or it would be counted twice.
    model.tie_weights()
    return model


MODELS_VARIABLE = "ASTRAIOS_MODELS"
"""Environment variable: a folder in which models lie under their hub names, ``bigcode/starcoderbase-1b`` and so on.

Where a model lies is no part of what a run is, so it is not in the run's specification.
"""

_TOKENIZER_FILE = "tokenizer.json"
# Weights, besides their description: without any, a folder is a download that was broken off.
_WEIGHTS = ("*.safetensors", "*.bin")


def load_pretrained(size: ModelSize, base_precision: BasePrecision | None = None) -> tuple[PreTrainedModel, Tokenizer]:
    """Return the pre-trained model of a size and its tokenizer.

    Parameters
    ----------
    size : ModelSize
        With ``pretrained``: a local folder as `save_pretrained` writes it, or a name on the hub, which is looked for in
        the folder named by ASTRAIOS_MODELS first, then in the hub's cache, then on the hub.
    base_precision : {"bf16", "int8"}, optional
        How the weights are kept; float32 without it.

    Returns
    -------
    model : PreTrainedModel
        Of any architecture that the tuning methods know.
    tokenizer : tokenizers.Tokenizer
        With a token for the end of a text.

    Raises
    ------
    ValueError
        If the model cannot be had; the message says what to download and where to put it. Also if its shape is not what
        the size says, or its tokenizer lacks the token for the end of a text.
    """
    name = str(size.pretrained)
    place = find_model(name, os.environ)
    arguments = weight_arguments(base_precision)
    try:
        _check_folder(Path(place))
        model = AutoModelForCausalLM.from_pretrained(place, **arguments)
        path = Path(place) / _TOKENIZER_FILE
        tokenizer = load_tokenizer(path) if path.is_file() else AutoTokenizer.from_pretrained(place).backend_tokenizer
    except Exception as error:  # the hub's client, transformers and safetensors each raise their own
        advice = hub_advice("model", name, MODELS_VARIABLE, error)
        raise ValueError(f"base model {name!r} of size {size.name!r} cannot be loaded: {advice}") from error
    if tokenizer.token_to_id(END_OF_TEXT) is None:
        raise ValueError(f"the tokenizer of base model {name!r} has no token {END_OF_TEXT!r}; give a model that has it")
    found = {"d_model": model.config.hidden_size, "n_layers": model.config.num_hidden_layers}
    for field, value in found.items():
        if value != getattr(size, field):
            raise ValueError(
                f"base model {name!r} has {field} {value}, and size {size.name!r} says {getattr(size, field)}; "
                "correct the size, which labels the run's record"
            )
    return model, tokenizer


def find_model(name: str, environment: Mapping[str, str]) -> str:
    """Return where a model is: its folder in that named by ASTRAIOS_MODELS, or the name itself.

    Parameters
    ----------
    name : str
        A local folder, or a name on the hub.
    environment : mapping of str to str
        Environment variables.

    Raises
    ------
    ValueError
        If ASTRAIOS_MODELS names no folder.
    """
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
    """Return what `from_pretrained` is told about the precision in which weights are kept.

    Raises
    ------
    ValueError
        If 8 bits are asked for and the package that computes with them is not installed.
    """
    if base_precision is None:
        return {"dtype": torch.float32}
    if base_precision == "bf16":
        return {"dtype": torch.bfloat16}
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ValueError(
            "base_precision 'int8' needs the package bitsandbytes, which is not installed; pip install bitsandbytes, "
            "or keep the base in bf16"
        )
    return {"dtype": torch.bfloat16, "quantization_config": BitsAndBytesConfig(load_in_8bit=True)}


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        return
    if not (folder / "config.json").is_file():
        raise ValueError(f"folder {folder} has no config.json")
    if not any(found for pattern in _WEIGHTS for found in folder.glob(pattern)):
        raise ValueError(f"folder {folder} has no weights ({' or '.join(_WEIGHTS)}): its download was broken off")
