"""Counts of parameters read off configurations and weight headers, without torch."""

import csv
import json
import re
from pathlib import Path

import pytest

from astraios_analysis.imports.adapters import adapter_method, count_saved, count_updated
from astraios_analysis.imports.architectures import count_parts, list_parts
from astraios_analysis.imports.base_models import read_base_model
from astraios_analysis.imports.inputs import size_label
from astraios_analysis.imports.weight_files import count_weights, read_model_shapes, read_shapes
from astraios_analysis.records.files import RecordError
from astraios_analysis.records.refusal import Refusal

RELEASED = Path(__file__).parents[2] / "data" / "released" / "parameter_counts.csv"
BIGCODE = {"model_type": "gpt_bigcode", "vocab_size": 49152, "n_positions": 8192, "multi_query": True, "n_inner": None}
# Shapes of StarCoderBase: width, layers, heads.
SIZES = {"1b": (2048, 24, 16), "3b": (2816, 36, 22), "7b": (4096, 42, 32), "16b": (6144, 40, 48)}
LLM_ADAPTERS = {"peft_type": "BOTTLENECK", "bottleneck_size": 256, "use_parallel_adapter": False, "use_adapterp": False}
# As the study saved them (LLM-Adapters for the bottlenecks).
ADAPTERS = {
    "lora": {"peft_type": "LORA", "r": 8, "bias": "none", "target_modules": ["c_proj", "c_attn", "q_attn"]},
    "ia3": {"peft_type": "IA3", "target_modules": ["c_attn", "mlp.c_proj"], "feedforward_modules": ["mlp.c_proj"]},
    "ptuning": {"peft_type": "P_TUNING", "num_virtual_tokens": 30, "num_transformer_submodules": 1},
    "adapterh": LLM_ADAPTERS | {"target_modules": ["c_fc", "mlp.c_proj"]},
    "adapterp": LLM_ADAPTERS | {"target_modules": ["mlp.c_proj"], "use_adapterp": True},
    "parallel": LLM_ADAPTERS | {"target_modules": ["c_attn"], "use_parallel_adapter": True},
}


def base_config(size):
    width, layers, heads = SIZES[size]
    return BIGCODE | {"n_embd": width, "n_layer": layers, "n_head": heads}


def released_counts():
    return [(row["size"], row["method"], row) for row in csv.DictReader(RELEASED.read_text("utf-8").splitlines())]


@pytest.mark.parametrize(("size", "method", "row"), released_counts(), ids=lambda value: str(value)[:8])
def test_counts_of_the_published_models(size, method, row):
    parts = list_parts(base_config(size))
    assert count_parts(parts)[0] == int(row["n_params_base"])
    if method != "fft":
        width = SIZES[size][0]
        adapter = ADAPTERS[method] | {"token_dim": width, "encoder_hidden_size": width}
        assert adapter_method(adapter) == method
        assert count_updated(adapter, parts) == int(row["n_params_updated"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "mamba"}, "model_type 'mamba' is not one of gpt2, gpt_bigcode, gpt_neox, llama"),
        ({"n_embd": None}, "has no 'n_embd', which the count of parameters needs"),
        ({"n_layer": 0}, "'n_layer' is 0, not a whole number from 1 up"),
        ({"multi_query": "yes"}, "'multi_query' is 'yes'; it must be true or false"),
    ],
)
def test_configuration_that_cannot_be_counted(change, message):
    with pytest.raises(Refusal, match=re.escape(message)):
        list_parts(base_config("1b") | change)


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        ({"peft_type": "ADALORA"}, "peft_type 'ADALORA' is none of the methods that records know: fft, lora"),
        (ADAPTERS["lora"] | {"use_dora": True}, "peft_type 'LORA' with use_dora is none of the methods"),
        (ADAPTERS["lora"] | {"modules_to_save": ["lm_head"]}, r"modules_to_save is ['lm_head']"),
        (ADAPTERS["lora"] | {"rank_pattern": {"c_fc": 4}}, "rank_pattern is {'c_fc': 4}"),
        (ADAPTERS["lora"] | {"target_modules": ["q_proj"]}, "['q_proj'] names no module of the base model, such as"),
        (ADAPTERS["lora"] | {"target_modules": ["wte"]}, "transformer.wte is no linear module"),
        (ADAPTERS["lora"] | {"r": None}, "r is None, not a whole number from 1 up"),
        (ADAPTERS["ptuning"] | {"encoder_reparameterization_type": "LSTM"}, "is 'LSTM', not 'MLP'"),
        (ADAPTERS["adapterh"] | {"target_modules": ["dense"]}, "['dense'] are adapted before or behind"),
    ],
)
def test_adapter_that_cannot_be_counted(adapter, message):
    with pytest.raises(Refusal, match=re.escape(message)):
        count_updated(adapter, list_parts(base_config("1b")))


def write_weights(path, shapes, dtype="F32"):
    header = {name: {"dtype": dtype, "shape": shape, "data_offsets": [0, 0]} for name, shape in shapes.items()}
    text = json.dumps({"__metadata__": {"format": "pt"}} | header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    return path


def test_weights_are_counted_from_headers_and_buffers_are_not_weights(tmp_path):
    shapes = {"transformer.wte.weight": [10, 4], "h.0.attn.c_attn.bias": [12], "h.0.attn.bias": [1, 1, 8, 8]}
    write_weights(tmp_path / "model.safetensors", shapes)
    assert count_weights(read_model_shapes(tmp_path)) == (52, 12)
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    write_weights(tmp_path / "one.safetensors", {"a": [3]})
    with pytest.raises(RecordError, match=r"two\.safetensors is not in .*; add it, or give the counts"):
        read_model_shapes(tmp_path)
    write_weights(tmp_path / "two.safetensors", {"b": [4]})
    assert count_weights(read_model_shapes(tmp_path)) == (7, None)


def test_weights_that_do_not_count(tmp_path):
    packed = write_weights(tmp_path / "packed.safetensors", {"w": [4]}, dtype="U8")
    with pytest.raises(RecordError, match=r"U8 holds packed weights.*allowed are BF16, F16, F32, F64"):
        read_shapes(packed)
    packed.write_bytes(packed.read_bytes()[:20])
    with pytest.raises(RecordError, match="is no safetensors file, or is cut off"):
        read_shapes(packed)
    assert count_saved({"m.lora_A.weight": [2, 3], "m.lm_head.weight": [9, 9]}, "lora") is None
    assert count_saved({"m.lora_A.weight": [2, 3], "m.lora_B.weight": [3, 2]}, "lora") == 12


def test_configuration_and_weights_must_agree(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(base_config("1b")))
    assert read_base_model(tmp_path).counts["n_params_base"] == 1_137_207_296
    write_weights(tmp_path / "model.safetensors", {"w": [4]})
    with pytest.raises(RecordError, match=r"config\.json: describes 1137207296 parameters, and the weights .* hold 4"):
        read_base_model(tmp_path)


@pytest.mark.parametrize(
    ("n", "label"),
    [(1_137_207_296, "1.14b"), (756_840, "757k"), (124_000_000, "124m"), (999_600_000, "1b"), (950, "950")],
)
def test_size_is_labelled_by_its_parameters(n, label):
    assert size_label(n) == label
