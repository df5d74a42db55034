"""The seven tuning methods, each applied to any causal language model.

`METHODS` maps a method's name to the function that makes its PEFT configuration for a model; full fine-tuning has none.

* ``fft``: every parameter of the base model is updated.
* ``lora``: W x + (alpha / r) B A x on the attention's projections and the feed-forward network's last one.
* ``ptuning``: trained virtual tokens, made by a three-layer MLP of the model's width, come before the prompt.
* ``ia3``: learned factors on keys and values (on the fused projection where there is one), and on the input of the
  feed-forward network's last projection.
* ``adapterh``, ``adapterp``, ``parallel``: bottlenecks s U tanh(D x), see `training.models.adapters`.

Biases, layer norms and embeddings of the base model stay frozen in all but ``fft``. Any other method of PEFT (DoRA,
VeRA, LoHa, prefix tuning, ...) is given by its configuration, `Tuning.peft`. Where neither names modules, PEFT's own
table does, and beyond it ``all-linear``: every linear layer but the output head.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import torch
from peft import (
    PEFT_TYPE_TO_CONFIG_MAPPING,
    PEFT_TYPE_TO_TUNER_MAPPING,
    IA3Config,
    LoraConfig,
    PeftConfig,
    PeftModel,
    PromptEncoderConfig,
    TaskType,
    get_peft_model,
)
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import PretrainedConfig, PreTrainedModel

from astraios_analysis.records.frame import known_method
from astraios_analysis.records.refusal import Refusal
from training.corpus.texts import reason_of
from training.models.adapters import BottleneckConfig
from training.models.architectures import ARCHITECTURES, architecture_of
from training.spec.run import Tuning

# Each of PEFT's methods raises errors of its own where a target is not what it expects.
PLACING_ERRORS = (ValueError, TypeError, KeyError, NotImplementedError, RuntimeError)


def _lora(config: PretrainedConfig, tuning: Tuning) -> PeftConfig:
    known = ARCHITECTURES.get(config.model_type)
    return LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        target_modules=known and [*known.attention_in, *known.attention_out, *known.ffn_down],
        r=tuning.rank,
        lora_alpha=tuning.alpha,
        lora_dropout=tuning.dropout,
        fan_in_fan_out=_has_transposed_weights(config),
    )


def _ptuning(config: PretrainedConfig, tuning: Tuning) -> PeftConfig:
    return PromptEncoderConfig(
        task_type=TaskType.CAUSAL_LM,
        # The encoder's width is left to PEFT, which takes the model's.
        num_virtual_tokens=tuning.virtual_tokens,
    )


def _ia3(config: PretrainedConfig, tuning: Tuning) -> PeftConfig:
    architecture = architecture_of(config.model_type)
    return IA3Config(
        task_type=TaskType.CAUSAL_LM,
        target_modules=[*architecture.key_value, *architecture.ffn_down],
        feedforward_modules=[*architecture.ffn_down],
        fan_in_fan_out=_has_transposed_weights(config),
    )


def _bottleneck(config: PretrainedConfig, tuning: Tuning) -> PeftConfig:
    # Asked here too, so that an unknown architecture is named before PEFT touches the model.
    architecture_of(config.model_type)
    return BottleneckConfig(
        task_type=TaskType.CAUSAL_LM,
        variant=tuning.method,
        bottleneck_size=tuning.bottleneck,
        scaling=tuning.scaling,
        init_std=tuning.init_std,
        init_identity=tuning.init_identity,
    )


def _has_transposed_weights(config: PretrainedConfig) -> bool:
    # GPT-2's projections are Conv1D, which stores (in, out) where torch.nn.Linear stores (out, in).
    return config.model_type == "gpt2"


METHODS: dict[str, Callable[[PretrainedConfig, Tuning], PeftConfig | None]] = {
    "fft": lambda config, tuning: None,
    "lora": _lora,
    "ptuning": _ptuning,
    "ia3": _ia3,
    "adapterh": _bottleneck,
    "adapterp": _bottleneck,
    "parallel": _bottleneck,
}
"""Tuning methods: name -> function of (model configuration, tuning) that makes the PEFT configuration, None for fft."""


def peft_config(config: PretrainedConfig, tuning: Tuning) -> PeftConfig | None:
    """Return the PEFT configuration of a tuning method for a model; None for full fine-tuning."""
    if tuning.peft is not None:
        made = made_config(tuning.peft, f"tuning method {tuning.method!r}")
    else:
        made = METHODS[known_method(tuning.method)](config, tuning)
    if getattr(made, "target_modules", "given") is None and made.peft_type in PEFT_TYPE_TO_TUNER_MAPPING:
        known = getattr(PEFT_TYPE_TO_TUNER_MAPPING[made.peft_type], "target_module_mapping", None)
        if known is not None and config.model_type not in known:
            made.target_modules = "all-linear"
    return made


def made_config(content: Mapping[str, Any], where: str) -> PeftConfig:
    """Return the PEFT configuration that an ``adapter_config.json`` holds, to be trained.

    PEFT passes over options that it does not know, so they are refused here.
    """
    kind = str(content.get("peft_type")).upper()
    if kind not in PEFT_TYPE_TO_CONFIG_MAPPING:
        raise Refusal(
            f"{where}: peft_type is {content.get('peft_type')!r}, which this version of PEFT does not have; upgrade "
            f"it, or choose from {', '.join(sorted(PEFT_TYPE_TO_CONFIG_MAPPING))}"
        )
    made = PEFT_TYPE_TO_CONFIG_MAPPING[kind]
    known = {field.name for field in fields(made)}
    unknown = sorted(name for name, value in content.items() if value and name not in known)
    if unknown:
        raise Refusal(f"{where}: has {', '.join(unknown)}, which this version of PEFT does not know; upgrade it")
    given = {name: value for name, value in content.items() if name in known and name != "peft_type"}
    given |= {"task_type": TaskType.CAUSAL_LM, "inference_mode": False, "base_model_name_or_path": None}
    try:
        return made(**given)
    except (ValueError, TypeError) as error:
        raise Refusal(f"{where}: is no configuration of {kind}: {error}") from error


def apply_tuning(model: PreTrainedModel, tuning: Tuning, *, seed: int | None = None) -> PreTrainedModel | PeftModel:
    """Add in place what the method adds, and let only what it updates require gradients.

    With a seed, torch's global generator is left as it was; without, added parameters are drawn from it.
    """
    if isinstance(model, PeftModel) or any(isinstance(module, BaseTunerLayer) for module in model.modules()):
        raise ValueError(
            f"the model already carries adapters, so {tuning.method!r} cannot start from it; "
            "give an untuned base model, or call unload() or merge_tuning first"
        )
    added = peft_config(model.config, tuning)
    if added is None:
        return model.requires_grad_(True)
    with torch.random.fork_rng([], enabled=seed is not None):
        if seed is not None:
            # PEFT draws initial values on the CPU and moves them, so the CPU's generator is the one to seed.
            torch.default_generator.manual_seed(seed)
        if tuning.peft is None:
            return get_peft_model(model, added)
        try:
            return get_peft_model(model, added)
        except PLACING_ERRORS as error:
            raise Refusal(
                f"tuning method {tuning.method!r}: PEFT cannot place {added.peft_type.value} on a model of type "
                f"{model.config.model_type!r}: {reason_of(error)}; give target_modules in its configuration"
            ) from error


def merge_tuning(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """Return a plain model that computes what the tuned model computes, where the method allows it.

    LoRA and (IA)^3 are linear in the adapted module's input: W + (alpha / r) B A, and W with scaled rows or columns.
    """
    if not isinstance(model, PeftModel):
        return model
    if model.active_peft_config.is_prompt_learning:
        raise ValueError(
            "P-Tuning cannot be merged into the base weights: it adds virtual tokens before the prompt and changes no "
            "weight; keep the adapter on the model, or call get_base_model() to get the base model back"
        )
    return model.merge_and_unload()
