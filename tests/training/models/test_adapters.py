import copy
import json

import pytest
import torch
from peft import PeftConfig, PeftModel, TaskType, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, OPTConfig

from training.models.adapters import PEFT_TYPE, VARIANTS, BottleneckConfig, BottleneckLayer
from training.models.tuning import merge_tuning

WIDTH, BOTTLENECK = 32, 8


def config(variant=None, **options):
    return BottleneckConfig(variant=variant, task_type=TaskType.CAUSAL_LM, bottleneck_size=BOTTLENECK, **options)


def adapted(base, *arguments, **options):
    torch.manual_seed(3)
    return get_peft_model(base, config(*arguments, **options)).eval()


def logits(model, tokens):
    with torch.no_grad():
        return model(input_ids=tokens).logits


def weights(layer, position, adapter="default"):
    bottleneck = getattr(layer, f"bottleneck_{position}")[adapter]
    return bottleneck.down.weight.detach(), bottleneck.up.weight.detach()


def update(matrices, z):
    down, up = matrices
    return torch.tanh(z @ down.T) @ up.T


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "adapterx"}, "unknown adapter variant 'adapterx'; choose from adapterh, adapterp, parallel"),
        ({}, r"need a place: give variant \(adapterh, adapterp, parallel\) or at least one of input_modules"),
        ({"variant": "adapterh", "bottleneck_size": 0}, "bottleneck_size is 0; it must be at least 1"),
        (
            {"variant": "adapterh", "target_modules": ["mlp.c_fc"]},
            r"target_modules=\['mlp.c_fc'\] does not say where bottlenecks go; leave it out",
        ),
        ({"variant": "adapterh", "init_std": 0.0}, "init_std is 0.0; it must be positive"),
    ],
)
def test_configuration_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        BottleneckConfig(**options)


def test_saved_configuration_says_where_the_adapters_are(base_of, tmp_path):
    model = adapted(base_of("gpt_bigcode"), "adapterh")
    model.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "adapter_config.json").read_text())
    assert saved["peft_type"] == PEFT_TYPE
    places = [saved[f"{place}_modules"] for place in ("input", "output", "parallel")]
    assert (saved["variant"], places) == ("adapterh", [["mlp.c_fc"], ["mlp.c_proj"], None])
    again = PeftConfig.from_pretrained(tmp_path)
    assert isinstance(again, BottleneckConfig)
    assert again.target_modules == ["mlp.c_fc", "mlp.c_proj"]


def test_unknown_architecture_is_an_error_that_names_the_choices():
    opt = OPTConfig(hidden_size=32, num_hidden_layers=1, ffn_dim=64, num_attention_heads=4, vocab_size=80)
    base = AutoModelForCausalLM.from_config(opt)
    with pytest.raises(ValueError, match=r"unknown architecture 'opt': .* gpt2, gpt_bigcode, gpt_neox, llama"):
        get_peft_model(base, config("adapterp"))
    model = get_peft_model(base, config(output_modules=["fc2"]))
    assert [name for name, weight in model.named_parameters() if weight.requires_grad]


def test_weights_are_drawn_as_published(base_of):
    torch.manual_seed(0)
    published = BottleneckConfig(variant="adapterh", task_type=TaskType.CAUSAL_LM)
    model = get_peft_model(base_of("gpt_bigcode"), published)
    down, up = weights(model.get_submodule("base_model.model.transformer.h.0.mlp.c_fc"), "input")
    assert (down.shape, up.shape) == ((256, WIDTH), (WIDTH, 256))
    for matrix in (down, up):
        assert matrix.mean().item() == pytest.approx(0.0, abs=1e-3)
        assert matrix.std().item() == pytest.approx(0.02, rel=0.05)
    assert not [name for name, _ in model.named_parameters() if "bottleneck" in name and "bias" in name]


@pytest.mark.parametrize(
    ("model_type", "variant", "network", "entry", "end"),
    [
        ("gpt_bigcode", "adapterh", "transformer.h.0.mlp", ".c_fc", ".c_proj"),
        ("gpt_bigcode", "adapterp", "transformer.h.0.mlp", None, ".c_proj"),
        # Gated, it has one input for two projections: the whole network is adapted.
        ("llama", "adapterh", "model.layers.0.mlp", "", ""),
    ],
)
def test_series_adapters_are_at_the_ends_of_the_feed_forward_network(base_of, model_type, variant, network, entry, end):
    base = base_of(model_type)
    x = torch.randn(2, 5, WIDTH, generator=torch.Generator().manual_seed(1))
    frozen = copy.deepcopy(base.get_submodule(network))
    model = adapted(base, variant, init_std=0.3, scaling=0.5)
    tuned = model.get_submodule(f"base_model.model.{network}")
    layers = {name for name, module in model.named_modules() if isinstance(module, BottleneckLayer)}
    assert len(layers) == 2 * len({entry, end} - {None})
    with torch.no_grad():
        h = x if entry is None else x + 0.5 * update(weights(model.get_submodule(at(network, entry)), "input"), x)
        y = frozen(h)
        expected = y + 0.5 * update(weights(model.get_submodule(at(network, end)), "output"), y)
        torch.testing.assert_close(tuned(x), expected)


def at(network, module):
    return f"base_model.model.{network}{module}"


@pytest.mark.parametrize(
    ("model_type", "block", "projections"),
    [
        ("gpt_bigcode", "transformer.h.0.attn", ["c_attn"]),
        ("gpt2", "transformer.h.0.attn", ["c_attn"]),
        ("llama", "model.layers.0.self_attn", ["q_proj", "k_proj", "v_proj"]),
    ],
)
def test_parallel_adds_to_the_output_of_the_attention_projections(base_of, model_type, block, projections):
    base = base_of(model_type)
    x = torch.randn(2, 5, WIDTH, generator=torch.Generator().manual_seed(1))
    frozen = copy.deepcopy(base.get_submodule(block))
    model = adapted(base, "parallel", init_std=0.3)
    for name in projections:
        layer = model.get_submodule(f"base_model.model.{block}.{name}")
        with torch.no_grad():
            expected = getattr(frozen, name)(x) + update(weights(layer, "parallel"), x)
            torch.testing.assert_close(layer(x), expected)


def test_explicit_modules_overrule_the_variant(base_of):
    model = adapted(base_of("gpt_bigcode"), "adapterp", parallel_modules=["attn.c_proj"])
    names = [name for name, module in model.named_modules() if isinstance(module, BottleneckLayer)]
    assert [name.rsplit("h.", 1)[1] for name in names] == ["0.attn.c_proj", "1.attn.c_proj"]


def test_modules_of_unknown_width_are_refused():
    with pytest.raises(TypeError, match="cannot tell the widths of a LayerNorm; target a projection"):
        BottleneckLayer(nn.LayerNorm(4))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("model_type", ["gpt_bigcode", "llama"])
def test_merging_is_refused_by_every_way_in(base_of, tokens, model_type, variant):
    base = logits(base_of(model_type), tokens)
    model = adapted(base_of(model_type), variant)
    before = logits(model, tokens)
    layer = next(module for module in model.modules() if isinstance(module, BottleneckLayer))
    ways = model.merge_and_unload, model.merge_adapter, model.unmerge_adapter, layer.merge, layer.unmerge
    message = r"adapter default cannot be merged into the base weights: U tanh\(D x\) is .* call unload\(\)"
    for merge in (*ways, lambda: merge_tuning(model)):
        with pytest.raises(ValueError, match=message):
            merge()
    assert torch.equal(logits(model, tokens), before)
    assert torch.equal(logits(model.unload(), tokens), base)


def test_different_variants_live_side_by_side_and_are_saved_apart(base_of, tokens, tmp_path):
    base = base_of("gpt_bigcode")
    model = adapted(base, "adapterp")
    first = logits(model, tokens)
    model.add_adapter("second", config("adapterh"))
    model.add_adapter("third", config("parallel"))
    assert torch.equal(logits(model, tokens), first)
    for name, variant in (("second", "adapterh"), ("third", "parallel")):
        model.set_adapter(name)
        updated = [weight for weight in model.parameters() if weight.requires_grad]
        assert all(f".{name}." in key for key, weight in model.named_parameters() if weight.requires_grad)
        alone = get_peft_model(base_of("gpt_bigcode"), config(variant))
        assert len(updated) == len([weight for weight in alone.parameters() if weight.requires_grad])
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(base_of("gpt_bigcode"), tmp_path)
    loaded.load_adapter(tmp_path / "third", adapter_name="third")
    for name in ("default", "third"):
        model.set_adapter(name)
        loaded.set_adapter(name)
        assert torch.equal(logits(loaded.eval(), tokens), logits(model, tokens))
    model.delete_adapter("second")
    model.set_adapter("default")
    assert torch.equal(logits(model, tokens), first)
    assert not [key for key in model.state_dict() if ".second." in key]


@pytest.mark.parametrize("option", ["low_cpu_mem_usage", "is_trainable"])
def test_loading_gives_the_same_model_frozen_unless_asked(base_of, tokens, tmp_path, option):
    model = adapted(base_of("gpt_bigcode"), "adapterh")
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(base_of("gpt_bigcode"), tmp_path, **{option: True})
    assert torch.equal(logits(loaded.eval(), tokens), logits(model, tokens))
    assert any(weight.requires_grad for weight in loaded.parameters()) is (option == "is_trainable")
