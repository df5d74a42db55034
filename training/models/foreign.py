"""Parameters of an adapter that was made elsewhere: PEFT builds it on its base model, without any weight."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PeftConfig, get_peft_model
from transformers import AutoConfig, PretrainedConfig

import training.models.adapters  # noqa: F401  (registers the bottleneck adapters)
from training.models.counts import ParameterCounts
from training.models.pretrained import empty_model
from training.models.counts import count_embedding_parameters

ADAPTER_CONFIG = "adapter_config.json"


def count_adapter(adapter: str | Path, base: str | Path) -> ParameterCounts:
    """Return the counts of an adapter's folder on the base model whose ``config.json``, or folder of it, is given."""
    path = Path(adapter) / ADAPTER_CONFIG if Path(adapter).is_dir() else Path(adapter)
    config = _adapter_config(path)
    model = empty_model(_base_config(Path(base)))
    n_base, n_embedding = _numel(model.parameters()), count_embedding_parameters(model)
    try:
        with torch.device("meta"):
            tuned = get_peft_model(model, config)
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


def _numel(parameters: Any) -> int:
    return sum(weight.numel() for weight in {id(weight): weight for weight in parameters}.values())
