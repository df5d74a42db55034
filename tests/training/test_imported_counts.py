"""Counts that importing reads off configurations, held to the models and adapters that are really built."""

import json

import peft
import pytest
import torch
from transformers import AutoConfig

from astraios_analysis.imports.adapters import adapter_method, count_updated
from astraios_analysis.imports.architectures import ARCHITECTURES, count_parts, list_parts
from astraios_analysis.records.frame import METHODS
from training.models.adapters import BottleneckConfig
from training.models.models import empty_model
from training.models.parameters import count_embedding_parameters, count_parameters
from training.models.tuning import apply_tuning
from training.spec.run import Tuning

GPT2 = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 50, "vocab_size": 99, "n_inner": 160}
LLAMA = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 160,
    "vocab_size": 99,
}
NO_TOKENS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
CONFIGS = [
    ("gpt2", GPT2),
    ("gpt_bigcode", GPT2),
    ("gpt_bigcode", GPT2 | {"multi_query": False}),
    ("gpt_neox", LLAMA),
    ("llama", LLAMA | {"num_key_value_heads": 2}),
    ("llama", LLAMA | {"attention_bias": True, "mlp_bias": True, "head_dim": 8}),
    ("mistral", LLAMA | {"num_key_value_heads": 2}),
    ("qwen2", LLAMA | {"num_key_value_heads": 2}),
    ("starcoder2", LLAMA | {"num_key_value_heads": 2}),
]


def saved_config(config):
    """Return a configuration as it stands in a config.json."""
    return json.loads(config.to_json_string())


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("model_type", "shape"), CONFIGS)
def test_counts_are_those_of_the_model_that_is_built(model_type, shape, tied):
    config = AutoConfig.for_model(model_type, **shape, **NO_TOKENS, tie_word_embeddings=tied)
    model = empty_model(config)
    total = sum(weight.numel() for weight in {id(w): w for w in model.parameters()}.values())
    assert count_parts(list_parts(saved_config(config))) == (total, total - count_embedding_parameters(model))


def test_every_architecture_is_held_to_a_model():
    assert {name for name, _ in CONFIGS} == set(ARCHITECTURES)


@pytest.mark.parametrize("method", [name for name in METHODS if name != "fft"])
def test_every_method_as_it_is_saved(method):
    config = AutoConfig.for_model("gpt_bigcode", **GPT2, **NO_TOKENS)
    tuning = Tuning(method=method)
    adapter, parts = saved_adapter(config, tuning), list_parts(saved_config(config))
    assert adapter_method(adapter) == method
    assert count_updated(adapter, parts) == count_parameters(config, tuning).n_params_updated


def saved_adapter(config, tuning):
    """Return the adapter_config.json that a method's model would save."""
    with torch.device("meta"):
        model = apply_tuning(empty_model(config), tuning)
    found = model.peft_config["default"].to_dict()
    return json.loads(json.dumps(found, default=lambda value: sorted(value) if isinstance(value, set) else str(value)))


def meta_count(config, adapter_config):
    """Count what an adapter updates on a model that is really built."""
    with torch.device("meta"):
        model = peft.get_peft_model(empty_model(config), adapter_config)
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


@pytest.mark.parametrize(
    "adapter",
    [
        peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"),
        peft.LoraConfig(r=4, target_modules=r".*\.1\.mlp\..*_proj", task_type="CAUSAL_LM"),
        peft.LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"),
        peft.IA3Config(
            target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"], task_type="CAUSAL_LM"
        ),
        peft.PromptEncoderConfig(num_virtual_tokens=5, encoder_hidden_size=16, task_type="CAUSAL_LM"),
        BottleneckConfig(
            input_modules=["up_proj"], output_modules=["down_proj"], bottleneck_size=8, task_type="CAUSAL_LM"
        ),
    ],
    ids=["lora", "lora-pattern", "lora-all", "ia3", "ptuning", "bottleneck"],
)
def test_other_placements(adapter):
    config = AutoConfig.for_model("llama", **LLAMA, **NO_TOKENS, num_key_value_heads=2)
    expected = meta_count(config, adapter)
    saved = json.loads(json.dumps(adapter.to_dict(), default=lambda v: sorted(v) if isinstance(v, set) else str(v)))
    saved |= {"variant": "adapterh"} if isinstance(adapter, BottleneckConfig) else {}
    assert count_updated(saved, list_parts(saved_config(config))) == expected


def test_weight_headers_of_a_saved_adapter(tmp_path):
    from astraios_analysis.imports.adapters import count_saved
    from astraios_analysis.imports.weight_files import count_weights, read_model_shapes, read_shapes

    config = AutoConfig.for_model("gpt_bigcode", **GPT2, **NO_TOKENS)
    for method in ("lora", "ia3", "adapterh", "parallel", "ptuning"):
        model = apply_tuning(_real_model(config), Tuning(method=method))
        updated = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
        model.save_pretrained(tmp_path / method)
        saved = count_saved(read_shapes(tmp_path / method / "adapter_model.safetensors"), method)
        assert saved == (None if method == "ptuning" else updated)
    base = _real_model(config)
    base.save_pretrained(tmp_path / "base")
    assert count_weights(read_model_shapes(tmp_path / "base")) == count_parts(list_parts(saved_config(config)))


def _real_model(config):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_config(config)
