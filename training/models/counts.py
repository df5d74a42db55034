"""Parameter counts of tuned GPTBigCode models by their closed forms. Importable without torch.

`training.models.counts` counts any architecture on the meta device; a test holds the two together. These serve
where a plan is made before anything is installed or loaded: `training.grid.estimates`.
"""

from dataclasses import dataclass
from training.spec.run import ModelSize, Tuning
from collections.abc import Iterable
import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from training.models.pretrained import empty_model
from training.models.tuning import apply_tuning
from training.spec.run import Tuning


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


def qkv_width(size: ModelSize) -> int:
    """Return the width of the fused query, key and value projection: d + 2 d / h, with one key and value head."""
    return size.d_model + 2 * (size.d_model // size.n_heads)


def block_parameters(size: ModelSize) -> int:
    """Return the parameters of one block: d q + q + d^2 + d + 2 d f + f + d + 4 d, with q = d + 2 d / h."""
    d, f, q = size.d_model, size.d_ff, qkv_width(size)
    return d * q + q + d * d + d + 2 * d * f + f + d + 4 * d


def added_parameters(size: ModelSize, tuning: Tuning) -> int:
    """Return the parameters that a tuning method adds to a base model: those it updates, unless it updates all.

    With width d, depth L, feed-forward width f, q = d + 2 d / h, rank r, bottleneck b and v virtual tokens:

    ============  =================================
    ``fft``       0
    ``lora``      L r [(d + q) + 2 d + (f + d)]
    ``ptuning``   v d + 3 (d^2 + d)
    ``ia3``       L (q + f)
    ``adapterh``  4 L b d
    ``adapterp``  2 L b d
    ``parallel``  L b (d + q)
    ============  =================================
    """
    d, f, q, depth = size.d_model, size.d_ff, qkv_width(size), size.n_layers
    match tuning.method:
        case "fft":
            return 0
        case "lora":
            return depth * tuning.rank * ((d + q) + 2 * d + (f + d))
        case "ptuning":
            return tuning.virtual_tokens * d + 3 * (d * d + d)
        case "ia3":
            return depth * (q + f)
        case "adapterh":
            return 4 * depth * tuning.bottleneck * d
        case "adapterp":
            return 2 * depth * tuning.bottleneck * d
        case "parallel":
            return depth * tuning.bottleneck * (d + q)
    raise ValueError(f"no closed form for tuning method {tuning.method!r}; add it, or use training.models.counts")


def closed_form_counts(size: ModelSize, tuning: Tuning) -> ParameterCounts:
    """Return the parameter counts of a tuned GPTBigCode model without building it.

    Parameters
    ----------
    size : ModelSize
        Base model.
    tuning : Tuning
        Method and options.

    Returns
    -------
    ParameterCounts
        Exact counts, those of `training.models.counts.count_parameters`.
    """
    n_embedding = (size.vocab_size + size.n_positions) * size.d_model
    n_base = n_embedding + size.n_layers * block_parameters(size) + 2 * size.d_model
    n_added = added_parameters(size, tuning)
    return ParameterCounts(
        n_params=n_base + n_added,
        n_params_base=n_base,
        n_params_embedding=n_embedding,
        n_params_updated=n_base if tuning.method == "fft" else n_added,
    )


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
