import pytest
import torch

from astraios_analysis.records.frame import METHODS
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


def test_updated_count_equals_the_closed_form(base_of, method):
    base = base_of("llama")
    tuned = apply_tuning(base, tuning_of(method))
    n_updated = sum(weight.numel() for weight in tuned.parameters() if weight.requires_grad)
    assert n_updated == closed_form(base.config, method)


def test_virtual_tokens_are_not_merged(base_of, model_type, tokens):
    model = apply_tuning(base_of(model_type), tuning_of("ptuning"), seed=3)
    before = logits(model, tokens)
    with pytest.raises(ValueError, match="P-Tuning cannot be merged into the base weights: it adds virtual tokens"):
        merge_tuning(model)
    assert torch.equal(logits(model, tokens), before)
    untuned = base_of(model_type)
    assert merge_tuning(untuned) is untuned


def test_a_base_in_bf16_is_near_and_what_is_added_is_float32(base_of, model_type, method, tokens, train):
    exact = logits(apply_tuning(base_of(model_type), tuning_of(method), seed=3), tokens)
    model = apply_tuning(base_of(model_type).to(torch.bfloat16), tuning_of(method), seed=3)
    added = torch.bfloat16 if method == "fft" else torch.float32
    assert {weight.dtype for weight in model.parameters() if weight.requires_grad} == {added}
    rounded = logits(model, tokens)
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), exact, atol=0.5, rtol=0.05)
    train(model, tokens, n_steps=2)
    assert torch.isfinite(logits(model, tokens)).all()


@pytest.mark.parametrize("method", ["adapterh", "adapterp", "parallel"])
def test_adapters_start_as_the_base_model_where_asked(base_of, model_type, method, tokens):
    base = logits(base_of(model_type), tokens)
    identity = apply_tuning(base_of(model_type), tuning_of(method, init_identity=True))
    assert torch.equal(logits(identity, tokens), base)
    published = apply_tuning(base_of(model_type), tuning_of(method))
    assert not torch.equal(logits(published, tokens), base)


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
    # The base model that is got back is frozen, and full fine-tuning updates all of it.
    base = model.unload()
    assert not any(weight.requires_grad for weight in base.parameters())
    assert all(weight.requires_grad for weight in apply_tuning(base, tuning_of("fft")).parameters())
