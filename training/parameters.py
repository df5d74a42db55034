"""Exact parameter counts of tuned models, without their weights: everything is built on the meta device."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from training.config import Tuning
from training.models import empty_model
from training.tuning import apply_tuning


@dataclass(frozen=True)
class ParameterCounts:
    """Numbers of parameters of a tuned model; a tensor that is used twice (a tied head) is counted once.

    Attributes
    ----------
    n_params : int
        The tuned model, added parameters included.
    n_params_base : int
        The base model, embeddings included.
    n_params_embedding : int
        The part of the base model whose size depends on vocabulary or positions: token and position embeddings, and
        the output head where it is not tied to the token embedding (as in the counts published with Pythia, Biderman
        et al. 2023, arXiv 2304.01373).
    n_params_updated : int
        Parameters that tuning updates.
    """

    n_params: int
    n_params_base: int
    n_params_embedding: int
    n_params_updated: int

    @property
    def n_params_base_nonembedding(self) -> int:
        """Return the base model's parameters without embeddings."""
        return self.n_params_base - self.n_params_embedding

    @property
    def percent_updated(self) -> float:
        """Return updated parameters as a percentage of ``n_params``: added parameters count in the whole."""
        return 100 * self.n_params_updated / self.n_params


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
