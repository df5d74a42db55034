import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from astraios_analysis.records.frame import METHODS
from training.models.tuning import METHODS as TUNING_METHODS
from training.models.tuning import apply_tuning, merge_tuning
from training.spec.run import Tuning

ADDING = [method for method in METHODS if method != "fft"]
BOTTLENECK = 8
RANK = 4
VIRTUAL = 5


def tuning_of(method, **options):
    small = {"lora": {"rank": RANK, "dropout": 0.0}, "ptuning": {"virtual_tokens": VIRTUAL}, "fft": {}, "ia3": {}}
    return Tuning(method=method, **{**small.get(method, {"bottleneck": BOTTLENECK}), **options})


def logits(model, tokens):
    """Return logits of the tokens themselves: P-Tuning's virtual tokens have logits too."""
    with torch.no_grad():
        return model(input_ids=tokens).logits[:, -tokens.shape[1] :]


@pytest.fixture(params=["gpt_bigcode", "llama"])
def model_type(request):
    return request.param


@pytest.fixture(params=METHODS)
def method(request):
    return request.param


def closed_form(config, method):
    """Updated parameters of a Llama model; those of GPTBigCode are held to the specification's (test_parameters)."""
    d, depth, b, f = config.hidden_size, config.num_hidden_layers, BOTTLENECK, config.intermediate_size
    kv = config.num_key_value_heads * (d // config.num_attention_heads)
    return {
        "fft": 2 * config.vocab_size * d + depth * (2 * d * d + 2 * d * kv + 3 * d * f + 2 * d) + d,
        "lora": depth * RANK * (2 * d + 2 * (d + kv) + 2 * d + (f + d)),
        "ptuning": VIRTUAL * d + 3 * (d * d + d),
        "ia3": depth * (2 * kv + f),
        "adapterh": depth * 4 * b * d,
        "adapterp": depth * 2 * b * d,
        "parallel": depth * b * (2 * d + 2 * (d + kv)),
    }[method]


def test_every_method_is_known():
    assert tuple(TUNING_METHODS) == METHODS


def test_updated_count_equals_the_closed_form(base_of, method):
    base = base_of("llama")
    tuned = apply_tuning(base, tuning_of(method))
    n_updated = sum(weight.numel() for weight in tuned.parameters() if weight.requires_grad)
    assert n_updated == closed_form(base.config, method)


def test_a_method_from_its_start_to_a_saved_model(base_of, model_type, method, tokens, train, tmp_path):
    """It learns, moves what it updates and nothing else, and is itself again after saving and disabling."""
    base = base_of(model_type)
    base.save_pretrained(tmp_path / "base")
    untouched = logits(base, tokens)
    model = apply_tuning(base, tuning_of(method), seed=3)
    # Virtual tokens, and adapters drawn as published, change the model at once.
    assert torch.equal(logits(model, tokens), untouched) is (method in ("fft", "lora", "ia3"))
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    with torch.no_grad():
        loss = model(input_ids=tokens, labels=tokens).loss
    largest = train(model, tokens, n_steps=15)
    assert largest and [name for name, gradient in largest.items() if gradient == 0] == []
    for name, weight in model.named_parameters():
        assert torch.equal(weight, before[name]) is (name not in largest), name
    changed = logits(model, tokens)
    with torch.no_grad():
        assert model(input_ids=tokens, labels=tokens).loss < loss
    model.save_pretrained(tmp_path / "tuned")
    if method == "fft":
        assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "tuned"), tokens), changed)
        assert merge_tuning(model) is model
        return
    fresh = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    assert torch.equal(logits(PeftModel.from_pretrained(fresh, tmp_path / "tuned").eval(), tokens), changed)
    with model.disable_adapter():
        assert torch.equal(logits(model, tokens), untouched)
    assert torch.equal(logits(model, tokens), changed)
    refusal = {"lora": None, "ia3": None, "ptuning": "P-Tuning cannot be merged into the base weights: it adds virtual"}
    message = refusal.get(method, r"cannot be merged .* U tanh\(D x\) is not linear in x; .* call unload\(\)")
    if message is None:
        merged = merge_tuning(model)
        assert not isinstance(merged, PeftModel)
        assert (logits(merged, tokens) - changed).abs().max() < 1e-5
        return
    with pytest.raises(ValueError, match=message):
        merge_tuning(model)
    assert torch.equal(logits(model, tokens), changed)


@pytest.mark.parametrize("method", ["adapterh", "adapterp", "parallel"])
def test_adapters_start_as_the_base_model_where_asked(base_of, model_type, method, tokens):
    base = logits(base_of(model_type), tokens)
    assert torch.equal(logits(apply_tuning(base_of(model_type), tuning_of(method, init_identity=True)), tokens), base)


@pytest.mark.parametrize("method", ADDING)
def test_a_seed_fixes_the_start_and_leaves_the_generator_alone(base_of, model_type, method):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    starts = []
    for seed in (3, 3, 4):
        model = apply_tuning(base_of(model_type), tuning_of(method), seed=seed)
        assert torch.equal(torch.get_rng_state(), state)
        updated = [weight.detach().flatten() for weight in model.parameters() if weight.requires_grad]
        starts.append(torch.cat(updated))
    assert torch.equal(starts[0], starts[1])
    # (IA)^3 starts from ones, whatever the seed.
    assert torch.equal(starts[0], starts[2]) == (method == "ia3")


def test_unknown_method_is_an_error_that_names_the_choices(base_of):
    # Validation already refuses it; this is the boundary for a specification made without validation.
    unknown = Tuning.model_construct(method="lora2")
    with pytest.raises(ValueError, match="unknown tuning method 'lora2'; choose from adapterh, adapterp, fft, ia3"):
        apply_tuning(base_of("llama"), unknown)


def test_a_model_with_adapters_is_refused(base_of):
    model = apply_tuning(base_of("llama"), tuning_of("lora"))
    for carrier in (model, model.get_base_model()):
        with pytest.raises(ValueError, match="already carries adapters, so 'adapterh' cannot start from it"):
            apply_tuning(carrier, tuning_of("adapterh"))
