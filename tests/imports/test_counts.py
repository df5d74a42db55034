"""Counts of parameters read off the headers of weights, and the methods that adapters are, without torch."""

import json

import pytest
from foreign_files import LORA, write_weights

from astraios_analysis.imports.inputs import size_label
from astraios_analysis.imports.trainer import adapter_method, count_saved, count_weights, read_model_shapes, read_shapes
from astraios_analysis.records.files import RecordError
from astraios_analysis.records.refusal import Refusal

BOTTLENECK = {"peft_type": "BOTTLENECK", "use_parallel_adapter": False, "use_adapterp": False}
SHAPES = {"m.lora_A.weight": [2, 3], "m.lora_B.weight": [3, 2]}


@pytest.mark.parametrize(
    ("config", "method"),
    [
        (LORA | {"init_lora_weights": "pissa_niter_16", "use_rslora": True, "rank_pattern": {"c_fc": 4}}, "lora"),
        (LORA | {"use_dora": True}, "dora"),
        (LORA | {"kasa_config": {"beta": 1e-4}}, "kasa"),
        (LORA | {"init_lora_weights": "mica"}, "mica"),
        ({"peft_type": "P_TUNING"}, "ptuning"),
        ({"peft_type": "IA3"}, "ia3"),
        ({"peft_type": "LOHA"}, "loha"),
        (BOTTLENECK, "adapterh"),
        (BOTTLENECK | {"use_adapterp": True}, "adapterp"),
        (BOTTLENECK | {"use_parallel_adapter": True}, "parallel"),
        ({"peft_type": "BOTTLENECK", "variant": "adapterp"}, "adapterp"),
    ],
)
def test_method_of_an_adapter(config, method):
    assert adapter_method(config) == method


def test_option_that_is_not_known_is_no_plain_lora():
    config = LORA | {"new_config": {"rate": 1}}
    with pytest.raises(Refusal, match=r"LoRA with new_config, which is not known here.*--method.*--n-params-updated"):
        adapter_method(config)
    assert count_saved(SHAPES, config) is None


def test_saved_adapter_is_counted_only_where_all_of_it_was_updated():
    assert count_saved(SHAPES, LORA) == 12
    assert count_saved(SHAPES | {"m.lm_head.weight": [9, 9]}, LORA) is None
    # MiCA saves both matrices and updates one of them; prompts are saved without their encoder.
    for config in (LORA | {"init_lora_weights": "mica"}, LORA | {"modules_to_save": ["x"]}, {"peft_type": "P_TUNING"}):
        assert count_saved(SHAPES, config) is None


def test_weights_are_counted_from_headers_and_buffers_are_not_weights(tmp_path):
    shapes = {"transformer.wte.weight": [10, 4], "h.0.attn.c_attn.bias": [12], "h.0.attn.bias": [1, 1, 8, 8]}
    write_weights(tmp_path / "model.safetensors", shapes)
    counts = count_weights(read_model_shapes(tmp_path))
    assert counts == {"n_params_base": 52, "n_params_base_nonembedding": 12}
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    write_weights(tmp_path / "one.safetensors", {"a": [3]})
    with pytest.raises(RecordError, match=r"two\.safetensors is not in .*; add it, or give the counts"):
        read_model_shapes(tmp_path)
    write_weights(tmp_path / "two.safetensors", {"b": [4]})
    assert count_weights(read_model_shapes(tmp_path)) == {"n_params_base": 7}


def test_weights_that_do_not_count(tmp_path):
    packed = write_weights(tmp_path / "packed.safetensors", {"w": [4]}, dtype="U8")
    with pytest.raises(RecordError, match=r"U8 holds packed weights.*allowed are BF16, F16, F32, F64"):
        read_shapes(packed)
    packed.write_bytes(packed.read_bytes()[:20])
    with pytest.raises(RecordError, match="is no safetensors file, or is cut off"):
        read_shapes(packed)


@pytest.mark.parametrize(
    ("n", "label"),
    [(1_137_207_296, "1.14b"), (756_840, "757k"), (124_000_000, "124m"), (999_600_000, "1b"), (950, "950")],
)
def test_size_is_labelled_by_its_parameters(n, label):
    assert size_label(n) == label
