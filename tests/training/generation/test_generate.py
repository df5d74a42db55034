from contextlib import contextmanager

import pytest
import torch
from peft import CPTConfig, PeftModel, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM

from astraios_analysis.records.frame import METHODS
from training.generation.generate import Decoding, generate, scoring
from training.models.architectures import ARCHITECTURES
from training.models.tuning import apply_tuning
from training.spec.run import Tuning

N_NEW = 16
ENDS = tuple(range(0, 80, 6))
WIDE, NARROW = 10_000, 60
GIVEN = {"eos_token_id": 0, "pad_token_id": 3, "progress": False}
ENDLESS = {"stop_token_ids": (), "eos_token_id": None}


def continue_all(model, prompts, **options):
    given = {name: options.pop(name, default) for name, default in GIVEN.items()}
    settings = {"max_new_tokens": N_NEW, "tokens_per_batch": WIDE, "stop_token_ids": ENDS} | options
    return generate(model, prompts, Decoding(**settings), **given)


def decode_by_hand(model, prompt):
    """Greedy tokens of one prompt, every forward pass from the start, and the gap of the two best logits at each."""
    text, gaps = [], []
    while len(text) < N_NEW:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompt + text]), use_cache=False).logits[0, -1]
        best = logits.topk(2)
        gaps.append((best.values[0] - best.values[1]).item())
        if best.indices[0].item() in ENDS:
            break
        text.append(best.indices[0].item())
    return text, gaps


def assert_same_but_for_ties(found, by_hand):
    """Hold greedy samples, one a prompt, to texts by hand, up to the first place where rounding may decide."""
    for (text,), (expected, gaps) in zip(found, by_hand, strict=True):
        sure = next((place for place, gap in enumerate(gaps) if gap < 1e-4), None)
        assert text[:sure] == expected[:sure]


def assert_decoded_as_by_hand(model, prompts):
    assert_same_but_for_ties(continue_all(model, prompts), [decode_by_hand(model, prompt) for prompt in prompts])


@contextmanager
def watched(model):
    """Rows and tokens attended to, of every forward pass of the base model."""
    shapes = []

    def watch(module, args, kwargs):
        inputs = kwargs["input_ids"] if kwargs.get("inputs_embeds") is None else kwargs["inputs_embeds"]
        cache = kwargs["past_key_values"]
        shapes.append((inputs.shape[0], inputs.shape[1] + (cache.get_seq_length() if cache else 0)))

    base = model.get_base_model() if isinstance(model, PeftModel) else model
    handle = base.register_forward_pre_hook(watch, with_kwargs=True)
    yield shapes
    handle.remove()


class TestGreedy:
    @pytest.mark.parametrize("model_type", ["gpt_bigcode", "llama"])
    @pytest.mark.parametrize("method", METHODS)
    def test_batches_of_any_size_give_the_tokens_decoded_by_hand(self, tuned_of, prompts, model_type, method):
        model = tuned_of(model_type, method)
        by_hand = [decode_by_hand(model, prompt) for prompt in prompts]
        assert len({len(text) for text, _ in by_hand}) >= 3, "samples must end at different steps"
        narrow = continue_all(model, prompts, tokens_per_batch=NARROW)
        alone = [continue_all(model, [prompt])[0] for prompt in prompts]
        for found in (continue_all(model, prompts), narrow, alone):
            assert_same_but_for_ties(found, by_hand)

    @pytest.mark.parametrize("model_type", sorted(ARCHITECTURES.keys() - {"gpt_bigcode", "llama"}))
    @pytest.mark.parametrize("method", ["fft", "ptuning"])
    def test_other_architectures_too(self, tuned_of, prompts, model_type, method):
        assert_decoded_as_by_hand(tuned_of(model_type, method), prompts)

    def test_sliding_window_is_that_of_the_text(self, config_of, prompts):
        config = config_of("mistral")
        config.sliding_window = 6
        assert_decoded_as_by_hand(AutoModelForCausalLM.from_config(config).eval(), prompts)

    def test_samples_are_copies(self, model, prompts):
        with watched(model) as shapes:
            found = continue_all(model, prompts, n_samples=3)
        assert max(rows for rows, _ in shapes) == len(prompts)
        assert found == [samples * 3 for samples in continue_all(model, prompts)]
        assert found[0][0] is not found[0][1]

    def test_disabled_adapter_gives_the_base_model(self, base_of, tuned_of, prompts):
        model = tuned_of("gpt_bigcode", "ptuning")
        tuned = continue_all(model, prompts)
        with model.disable_adapter():
            assert continue_all(model, prompts) == continue_all(base_of("gpt_bigcode"), prompts) != tuned


class TestEnds:
    def test_end_of_text_and_stop_tokens_end_alike(self, model, prompts):
        by_stop_token = continue_all(model, prompts, stop_token_ids=(12,), eos_token_id=None)
        assert continue_all(model, prompts, stop_token_ids=(), eos_token_id=12) == by_stop_token

    def test_the_work_ends_with_the_last_row(self, model, prompts):
        with watched(model) as shapes:
            found = continue_all(model, prompts)
        assert len(shapes) == min(max(len(text) for (text,) in found) + 1, N_NEW)

    def test_length_of_text_is_limited_where_asked(self, model, prompts):
        endless = continue_all(model, prompts, **ENDLESS)
        found = continue_all(model, prompts, **ENDLESS, max_length=30)
        for (text,), (whole,), prompt in zip(found, endless, prompts, strict=True):
            assert text == whole[: 30 - len(prompt)]

    def test_the_last_position_is_reached_beside_shorter_prompts(self, model, prompts):
        full = [prompts[2] * 3 + prompts[3], *([token] for token in range(1, 12))]
        options = ENDLESS | {"max_length": 96, "max_new_tokens": 60}
        found = continue_all(model, full, **options)
        assert [len(text) for (text,) in found] == [9, *[60] * 11]
        assert found == [continue_all(model, [prompt], **options)[0] for prompt in full]


@pytest.mark.parametrize("method", ["fft", "ptuning"])
@pytest.mark.parametrize("budget", [46, 90, 200, 1_000])
def test_no_pass_exceeds_the_budget(tuned_of, prompts, method, budget):
    model = tuned_of("gpt_bigcode", method)
    with watched(model) as shapes:
        continue_all(model, prompts, tokens_per_batch=budget, temperature=1.0, n_samples=4)
    assert max(rows * width for rows, width in shapes) <= budget


class TestModel:
    def test_dropout_is_off_and_modes_are_restored(self, model, prompts):
        expected = continue_all(model.eval(), prompts)
        model.train()
        frozen = model.get_base_model().transformer.ln_f.eval()
        state = torch.get_rng_state()
        assert continue_all(model, prompts) == expected
        assert model.training and not frozen.training
        assert torch.equal(torch.get_rng_state(), state)

    def test_modes_are_restored_after_an_error(self, model):
        model.train()
        with pytest.raises(RuntimeError, match="stop here"), scoring(model):
            raise RuntimeError("stop here")
        assert model.training and not torch.is_inference_mode_enabled()

    @pytest.mark.parametrize("model_type", ["gpt_bigcode", "llama"])
    def test_training_goes_on_after_generation(self, tuned_of, prompts, tokens, train, model_type):
        model = tuned_of(model_type, "lora")
        continue_all(model, prompts)
        assert all(gradient > 0 for gradient in train(model, tokens, n_steps=1).values())

    @pytest.mark.parametrize("method", ["fft", "lora", "ptuning"])
    def test_bf16_models_generate(self, tuned_of, prompts, method):
        model = tuned_of("gpt_bigcode", method).to(torch.bfloat16)
        found = continue_all(model, prompts, tokens_per_batch=NARROW)
        assert all(0 <= len(text) <= N_NEW for (text,) in found)
        assert any(text for (text,) in found)

    def test_gradient_checkpointing_and_a_cache_switched_off_do_not_matter(self, model, prompts):
        expected = continue_all(model, prompts)
        model.gradient_checkpointing_enable()
        model.config.use_cache = False
        assert continue_all(model.train(), prompts) == expected

    def test_defaults_of_the_model_s_folder_do_not_enter(self, model, prompts):
        expected = continue_all(model, prompts)
        theirs = model.get_base_model().generation_config
        theirs.update(repetition_penalty=5.0, no_repeat_ngram_size=1, eos_token_id=expected[0][0][0])
        assert continue_all(model, prompts) == expected
        assert model.get_base_model().generation_config is theirs

    @pytest.mark.parametrize("model_type", ["gpt_bigcode", "llama", "starcoder2"])
    def test_prefixes_lie_before_the_padding(self, base_of, prompts, model_type):
        tuning = Tuning(method="prefix", peft={"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 4})
        model = apply_tuning(base_of(model_type), tuning, seed=1).eval()
        nn.init.normal_(model.prompt_encoder["default"].embedding.weight)
        assert_decoded_as_by_hand(model, prompts)

    def test_prompts_of_another_kind_are_refused(self, base_of, prompts):
        config = CPTConfig(task_type="CAUSAL_LM", cpt_token_ids=[1, 2], cpt_mask=[1, 1], cpt_tokens_type_mask=[1, 2])
        with pytest.raises(ValueError, match="type CPT is prompt learning that nothing is generated by here; use"):
            continue_all(get_peft_model(base_of("llama"), config), prompts)


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        ([], {}, "prompt 1 is empty; give at least one token"),
        ([1, 80], {}, "prompt 1 has token id 80, and the model's vocabulary goes from 0 to 79; use the model's own"),
        ([-1, 2], {}, "prompt 1 has token id -1, and"),
        ([1] * 81, {}, "prompt 1 has 81 tokens, with 16 more to follow 97, and the model has 96 positions; shorten"),
        ([2] * 20, {"tokens_per_batch": 35}, "prompt 1 has 20 tokens, with 16 more to follow 36, .* raise it to 36"),
        ([1] * 30, {"max_length": 30}, "prompt 1 has 30 tokens, and max_length 30 leaves no room"),
        ([1], {"pad_token_id": 80}, "pad_token_id is 80, and the model's vocabulary goes from 0 to 79"),
    ],
)
def test_what_does_not_fit_is_refused(model, prompt, options, message):
    with pytest.raises(ValueError, match=message):
        continue_all(model, [[1], prompt], **options)


def test_virtual_tokens_count(tuned_of):
    model = tuned_of("gpt_bigcode", "ptuning")
    assert len(continue_all(model, [[1] * 75], **ENDLESS)[0][0]) == N_NEW
    message = "prompt 0 has 76 tokens, with 5 virtual tokens and 16 more to follow 97, and the model has 96"
    with pytest.raises(ValueError, match=message):
        continue_all(model, [[1] * 76])


def test_the_bar_is_on_standard_error(model, prompts, capfd):
    continue_all(model, prompts, progress=True, temperature=1.0, n_samples=2)
    shown = capfd.readouterr()
    assert "generate: 100%" in shown.err and "24/24" in shown.err and shown.out == ""


def test_no_prompts_no_samples(model):
    assert continue_all(model, []) == []
