"""Exact parameter counts of tuned models without their weights: everything is built on the meta device.

Those of GPTBigCode have closed forms too (`training.spec.run.closed_form_counts`), which a test holds to these; they
serve where a plan is made before anything is loaded.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from peft import get_peft_model
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from astraios_analysis.records.reading import read_json
from training.corpus.texts import reason_of
from training.models.pretrained import empty_model, find_model, folder_config, plain_config, size_config
from training.models.tuning import PLACING_ERRORS, apply_tuning, made_config
from training.spec.run import ModelSize, ParameterCounts, Tuning

ADAPTER_CONFIG = "adapter_config.json"


def count_parameters(config: PretrainedConfig, tuning: Tuning) -> ParameterCounts:
    """Return the exact parameter counts of a model of any architecture, built on the meta device without weights."""
    return _counts(config, lambda base: apply_tuning(base, tuning))


def _counts(config: PretrainedConfig, tune: Callable[[PreTrainedModel], nn.Module]) -> ParameterCounts:
    base = empty_model(config)
    n_base = _numel(base.parameters())
    n_embedding = count_embedding_parameters(base)
    with torch.device("meta"):
        tuned = tune(base)
    return ParameterCounts(
        n_params=_numel(tuned.parameters()),
        n_params_base=n_base,
        n_params_embedding=n_embedding,
        n_params_updated=_numel(weight for weight in tuned.parameters() if weight.requires_grad),
    )


def count_size(size: ModelSize, tuning: Tuning) -> ParameterCounts:
    """Return the counts of a size: by the configuration of its folder, where it has one, else as a GPTBigCode model."""
    place = Path(find_model(size.pretrained, os.environ)) if size.pretrained else None
    config = folder_config(place) if place and place.is_dir() else size_config(size)
    return count_parameters(plain_config(config), tuning)


def count_embedding_parameters(model: PreTrainedModel) -> int:
    """Return the parameters of a base model's token and position embeddings and of an untied output head."""
    modules: list[nn.Module] = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    head = model.get_output_embeddings()
    if head is not None:
        modules.append(head)
    return _numel(weight for module in modules for weight in module.parameters())


def count_adapter(adapter: str | Path, base: str | Path) -> ParameterCounts:
    """Return the counts of an adapter's folder on the base model whose ``config.json``, or folder of it, is given."""
    path = Path(adapter) / ADAPTER_CONFIG if Path(adapter).is_dir() else Path(adapter)
    config = made_config(read_json(path), str(path))
    base_config = folder_config(base)
    try:
        counts = _counts(base_config, lambda model: get_peft_model(model, config))
    except PLACING_ERRORS as error:
        raise ValueError(f"{path}: PEFT cannot place it on this base model: {reason_of(error)}") from error
    if not counts.n_params_updated:
        raise ValueError(f"{path}: updates no parameter of this base model; is it the base model of this adapter?")
    return counts


def _numel(parameters: Iterable[nn.Parameter]) -> int:
    return sum(weight.numel() for weight in {id(weight): weight for weight in parameters}.values())
