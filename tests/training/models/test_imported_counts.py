"""Adapters made elsewhere: counted as PEFT builds them, and as the headers of their saved weights say."""

import json

import pytest
from transformers import AutoConfig, AutoModelForCausalLM

from astraios_analysis.imports.trainer import adapter_method, count_saved, count_weights, read_model_shapes, read_shapes
from astraios_analysis.records.frame import METHODS
from training.models.counts import count_adapter, count_parameters
from training.models.tuning import apply_tuning
from training.spec.run import Tuning

GPT2 = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 50, "vocab_size": 99, "n_inner": 160}
LLAMA = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
LLAMA |= {"num_key_value_heads": 2, "intermediate_size": 160, "vocab_size": 99}
LORA = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "target_modules": ["q_proj", "v_proj"]}
# Two modules in each of two layers, 64 wide in and 64 or 32 wide out.
PLAIN = 2 * 4 * (64 + 64 + 64 + 32)
NO_TOKENS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}


@pytest.fixture
def counted(tmp_path):
    """Count an adapter's configuration on the Llama model."""

    def counted(adapter):
        (tmp_path / "base.json").write_text(json.dumps(LLAMA))
        (tmp_path / "adapter_config.json").write_text(json.dumps(adapter))
        return count_adapter(tmp_path, tmp_path / "base.json").n_params_updated

    return counted


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, PLAIN),
        ({"use_dora": True}, PLAIN + 2 * (64 + 32)),
        ({"kasa_config": {"beta": 1e-4, "gamma": 1e-3}}, PLAIN + 4 * 4),
        ({"init_lora_weights": "mica"}, 2 * 4 * (64 + 64)),
        ({"rank_pattern": {"v_proj": 8}}, PLAIN + 2 * 4 * (64 + 32)),
        ({"layers_to_transform": [1]}, PLAIN // 2),
        ({"target_modules": r".*\.1\.self_attn\.[qv]_proj"}, PLAIN // 2),
        ({"modules_to_save": ["lm_head"]}, PLAIN + 64 * 99),
        ({"peft_type": "VERA", "r": 4, "init_weights": False}, 2 * (4 + 64 + 4 + 32)),
        ({"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 5, "target_modules": None, "r": None}, 5 * 2 * 2 * 32),
    ],
)
def test_variants_are_counted_as_they_are_built(counted, change, expected):
    adapter = {name: value for name, value in (LORA | change).items() if value is not None}
    assert counted(adapter) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target_modules": ["c_attn"]}, "PEFT cannot place it on this base model: .*c_attn"),
        ({"target_modules": ["embed_tokens", "norm"]}, "PEFT cannot place it"),
        ({"peft_type": "NEW"}, "peft_type is 'NEW', which this version of PEFT does not have"),
    ],
)
def test_adapter_that_cannot_be_counted(counted, change, message):
    with pytest.raises(ValueError, match=message):
        counted(LORA | change)


@pytest.mark.reference
@pytest.mark.parametrize(("case", "n_updated"), [("a07_mica", 5_505_024), ("a08_kasa", 9_176_832)])
def test_counts_of_published_variants(reference_folder, case, n_updated, told):
    cases = reference_folder / "cases"
    config = cases / "a07_llama32_3b_config.json"
    (row,) = json.loads(told("params", "--adapter", cases / case, "--config", config, "--json").out)
    assert (row["adapter"], row["n_params_updated"]) == (str((cases / case).resolve()), n_updated)
    assert row["n_params_base"] == 3_212_749_824


@pytest.mark.parametrize("method", [name for name in METHODS if name != "fft"])
def test_every_method_as_it_is_saved(tmp_path, method):
    config = AutoConfig.for_model("gpt_bigcode", **GPT2, **NO_TOKENS)
    base = AutoModelForCausalLM.from_config(config)
    base.save_pretrained(tmp_path / "base")
    apply_tuning(base, Tuning(method=method)).save_pretrained(tmp_path / "tuned")
    expected = count_parameters(config, Tuning(method=method))
    assert count_adapter(tmp_path / "tuned", tmp_path / "base") == expected
    adapter = json.loads((tmp_path / "tuned" / "adapter_config.json").read_text())
    assert adapter_method(adapter) == method
    saved = count_saved(read_shapes(tmp_path / "tuned" / "adapter_model.safetensors"), adapter)
    # P-Tuning's virtual tokens are saved without their encoder.
    assert saved == (None if method == "ptuning" else expected.n_params_updated)
    assert count_weights(read_model_shapes(tmp_path / "base")) == {
        "n_params_base": expected.n_params_base,
        "n_params_base_nonembedding": expected.n_params_base - expected.n_params_embedding,
    }
