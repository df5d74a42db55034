import copy

import pytest
import torch
from peft import PeftModel

from astraios_analysis.records.frame import METHODS
from astraios_analysis.records.refusal import Refusal
from training.generation.generate import Decoding, generate
from training.loop.batches import TokenBatch
from training.loop.validation import token_losses
from training.models.architectures import ARCHITECTURES
from training.models.counts import count_parameters
from training.models.tuning import apply_tuning, merge_tuning, peft_config
from training.spec.run import Tuning


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("method", [method for method in METHODS if method != "fft"])
def test_every_architecture_takes_every_method(base_of, architecture, method, tokens, train):
    base, tuning = base_of(architecture), Tuning.for_width(method, 32)
    counts, n_params_base = count_parameters(base.config, tuning), base.num_parameters()
    model = apply_tuning(base, tuning, seed=3)
    model(input_ids=tokens, labels=tokens).loss.backward()
    updated = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    assert all(weight.grad is not None for weight in updated.values())
    n_params = sum(weight.numel() for weight in model.parameters())
    assert (counts.n_params_base, counts.n_params) == (n_params_base, n_params)
    assert counts.n_params_updated == sum(weight.numel() for weight in updated.values())
    if method != "ptuning":
        # Names read ...h.<block>... or ...layers.<block>...: every block is adapted.
        blocks = {part for name in updated for part in name.split(".") if part.isdigit()}
        assert blocks == {str(block) for block in range(base.config.num_hidden_layers)}
    if method in ("lora", "ia3"):
        train(model, tokens, n_steps=2)
        with torch.no_grad():
            before = model(input_ids=tokens).logits
            merged = merge_tuning(model)
            assert not isinstance(merged, PeftModel)
            assert (merged(input_ids=tokens).logits - before).abs().max() < 1e-5


@pytest.mark.parametrize("method", ["lora", "ia3", "adapterh", "adapterp", "parallel"])
def test_unknown_architecture_is_an_error_that_names_the_choices(base_of, method):
    config = copy.copy(base_of("llama").config)
    config.model_type = "opt"
    if method == "lora":
        assert set(peft_config(config, Tuning.for_width(method, 32)).target_modules or ["PEFT's own"]) == {"PEFT's own"}
        return
    message = "unknown architecture 'opt': .* choose a model of type gemma, .*gpt_bigcode, .* fft, lora, ptuning"
    with pytest.raises(ValueError, match=message):
        peft_config(config, Tuning.for_width(method, 32))


OTHERS = {
    "dora": {"peft_type": "LORA", "use_dora": True, "r": 4, "lora_dropout": 0.0},
    "rslora_all": {"peft_type": "lora", "use_rslora": True, "r": 4, "target_modules": "all-linear"},
    "vera": {"peft_type": "VERA", "r": 8},
    "loha": {"peft_type": "LOHA", "r": 4},
    "prefix": {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 4},
    "prompt": {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 4},
}


@pytest.mark.parametrize("architecture", ["gpt_bigcode", "starcoder2", "qwen2", "llama"])
@pytest.mark.parametrize("method", OTHERS)
def test_any_method_of_peft_by_its_configuration(base_of, architecture, method, tokens, train):
    """PEFT's own table lacks StarCoder2: all of its linear layers are taken."""
    tuning = Tuning(method=method, peft=OTHERS[method])
    if (method, architecture) == ("vera", "starcoder2"):
        tuning = Tuning(method=method, peft={**OTHERS[method], "target_modules": ["q_proj", "o_proj"]})
    model = apply_tuning(base_of(architecture), tuning, seed=3)
    counts = count_parameters(base_of(architecture).config, tuning)
    updated = [weight for weight in model.parameters() if weight.requires_grad]
    assert sum(weight.numel() for weight in updated) == counts.n_params_updated > 0
    batch = TokenBatch(tokens, tokens[:, 1:], tokens.numel(), tokens[:, 1:].numel())
    before = token_losses(model.eval(), batch).mean()
    train(model, tokens, n_steps=15)
    assert token_losses(model, batch).mean() < before
    assert len(generate(model, tokens.tolist(), Decoding(max_new_tokens=3), eos_token_id=None, pad_token_id=0)) == 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"peft_type": "NEW"}, "tuning method 'own': peft_type is 'NEW', which this version of PEFT does not have"),
        ({"peft_type": "LORA", "rank": 4}, "'own': has rank, which this version of PEFT does not know"),
        ({"peft_type": "LORA", "r": -1}, "'own': PEFT cannot place LORA|'own': is no configuration of LORA"),
        ({"peft_type": "LORA", "target_modules": ["c_attn"]}, "cannot place LORA on a model of type 'llama': .*c_attn"),
    ],
)
def test_a_configuration_that_peft_refuses_is_named(base_of, given, message):
    with pytest.raises(Refusal, match=message):
        apply_tuning(base_of("llama"), Tuning(method="own", peft=given))
