"""Exact parameter counts of tuned models without their weights: everything is built on the meta device.

Those of GPTBigCode have closed forms too (`training.spec.run.closed_form_counts`), which a test holds to these; they
serve where a plan is made before anything is loaded.
"""

import json
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PeftConfig, get_peft_model
from torch import nn
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel

from training.models.pretrained import empty_model
from training.models.tuning import apply_tuning
from training.spec.run import ParameterCounts, Tuning

ADAPTER_CONFIG = "adapter_config.json"


def count_parameters(config: PretrainedConfig, tuning: Tuning) -> ParameterCounts:
    """Return the exact parameter counts of a model of any architecture, built on the meta device without weights."""
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


def count_adapter(adapter: str | Path, base: str | Path) -> ParameterCounts:
    """Return the counts of an adapter's folder on the base model whose ``config.json``, or folder of it, is given."""
    path = Path(adapter) / ADAPTER_CONFIG if Path(adapter).is_dir() else Path(adapter)
    config = _adapter_config(path)
    model = empty_model(_base_config(Path(base)))
    n_base, n_embedding = _numel(model.parameters()), count_embedding_parameters(model)
    try:
        with torch.device("meta"):
            tuned = get_peft_model(model, config)
    # Each of its methods raises errors of its own where a target is not what it expects.
    except (ValueError, TypeError, KeyError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{path}: PEFT cannot place it on this base model: {str(error).splitlines()[0]}") from error
    n_updated = _numel(weight for weight in tuned.parameters() if weight.requires_grad)
    if not n_updated:
        raise ValueError(f"{path}: updates no parameter of this base model; is it the base model of this adapter?")
    return ParameterCounts(_numel(tuned.parameters()), n_base, n_embedding, n_updated)


def _adapter_config(path: Path) -> PeftConfig:
    """Read an adapter's configuration; PEFT passes over options that it does not know, so they are refused here."""
    content = _read(path)
    kind = str(content.get("peft_type"))
    if kind not in PEFT_TYPE_TO_CONFIG_MAPPING:
        raise ValueError(f"{path}: peft_type is {kind!r}, which this version of PEFT does not have; upgrade it")
    made = PEFT_TYPE_TO_CONFIG_MAPPING[kind]
    known = {field.name for field in fields(made)}
    unknown = sorted(name for name, value in content.items() if value and name not in known)
    if unknown:
        raise ValueError(f"{path}: has {', '.join(unknown)}, which this version of PEFT does not know; upgrade it")
    content |= {"inference_mode": False, "base_model_name_or_path": None}
    try:
        return made(**{name: value for name, value in content.items() if name in known and name != "peft_type"})
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: is no configuration of {kind}: {error}") from error


def _base_config(path: Path) -> PretrainedConfig:
    file = path / "config.json" if path.is_dir() else path
    content = _read(file)
    model_type = content.pop("model_type", None)
    try:
        return AutoConfig.for_model(model_type, **content)
    except Exception as error:  # the library raises many types here, its strict configurations' own among them
        raise ValueError(f"{file}: is no configuration of a model: {str(error).strip().splitlines()[0]}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); give a folder that holds it") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds no JSON object; is it the right file?")
    return content


def _numel(parameters: Iterable[nn.Parameter]) -> int:
    return sum(weight.numel() for weight in {id(weight): weight for weight in parameters}.values())
