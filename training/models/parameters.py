"""Exact parameter counts of tuned models, without their weights: everything is built on the meta device."""

from collections.abc import Iterable

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from training.models.counts import ParameterCounts
from training.models.models import empty_model
from training.models.tuning import apply_tuning
from training.spec.run import Tuning


def count_parameters(config: PretrainedConfig, tuning: Tuning) -> ParameterCounts:
    """Count the parameters of a base model tuned by a method, without weights.

    Parameters
    ----------
    config : PretrainedConfig
        Configuration of the base model.
    tuning : Tuning
        Method and options.

    Returns
    -------
    ParameterCounts
        Exact counts.

    Raises
    ------
    ValueError
        If the method or architecture is unknown.
    """
    base = empty_model(config)
    n_base = _numel(base.parameters())
    n_embedding = count_embedding_parameters(base)
    with torch.device("meta"):
        tuned = apply_tuning(base, tuning)
    return ParameterCounts(
        n_params=_numel(tuned.parameters()),
        n_params_base=n_base,
        n_params_embedding=n_embedding,
        n_params_updated=_numel(weight for weight in tuned.parameters() if weight.requires_grad),
    )


def count_embedding_parameters(model: PreTrainedModel) -> int:
    """Return the parameters of a base model's token and position embeddings and of an untied output head."""
    modules: list[nn.Module] = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    head = model.get_output_embeddings()
    if head is not None:
        modules.append(head)
    return _numel(weight for module in modules for weight in module.parameters())


def _numel(parameters: Iterable[nn.Parameter]) -> int:
    return sum(weight.numel() for weight in {id(weight): weight for weight in parameters}.values())
