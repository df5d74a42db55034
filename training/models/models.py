"""Base models: their configurations, and empty models on the meta device."""

import copy
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, GPTBigCodeConfig, PretrainedConfig, PreTrainedModel

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
