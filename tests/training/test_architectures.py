import copy

import pytest
import torch

from astraios_analysis.records.frame import METHODS
from training.models.architectures import ARCHITECTURES, architecture_of
from training.models.tuning import apply_tuning, merge_tuning, peft_config
from training.spec.run import Tuning


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("method", [method for method in METHODS if method != "fft"])
def test_every_architecture_takes_every_method(base_of, architecture, method, tokens, train):
    base = base_of(architecture)
    model = apply_tuning(base, Tuning.for_width(method, 32), seed=3)
    model(input_ids=tokens, labels=tokens).loss.backward()
    updated = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    assert all(weight.grad is not None for weight in updated.values())
    if method != "ptuning":
        # Names read ...h.<block>... or ...layers.<block>...: every block is adapted.
        blocks = {part for name in updated for part in name.split(".") if part.isdigit()}
        assert blocks == {str(block) for block in range(base.config.num_hidden_layers)}
    if method in ("lora", "ia3"):
        train(model, tokens, n_steps=2)
        with torch.no_grad():
            before = model(input_ids=tokens).logits
            merged = merge_tuning(model)(input_ids=tokens).logits
        assert (merged - before).abs().max() < 1e-5


@pytest.mark.parametrize("method", ["lora", "ia3", "adapterh", "adapterp", "parallel"])
def test_unknown_architecture_is_an_error_that_names_the_choices(base_of, method):
    config = copy.copy(base_of("llama").config)
    config.model_type = "opt"
    message = "unknown architecture 'opt': .* choose a model of type gpt2, gpt_bigcode, .* fft, ptuning"
    with pytest.raises(ValueError, match=message):
        peft_config(config, Tuning.for_width(method, 32))


def test_the_architectures_asked_for_are_known():
    assert {"gpt_bigcode", "gpt2", "gpt_neox", "llama", "mistral", "qwen2", "qwen3"} <= ARCHITECTURES.keys()
    with pytest.raises(ValueError, match="unknown architecture ''"):
        architecture_of("")
