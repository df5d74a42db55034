import numpy as np
import pytest
import torch

from astraios_analysis.records.frame import METHODS
from training.generation.likelihood import row_log_likelihoods

ANSWERS = [[4], [5], [61, 7, 7, 2], [9, 30]]
WIDE, NARROW = 10_000, 36


def score(model, prompts, answers=ANSWERS, **options):
    settings = {"tokens_per_batch": WIDE, "progress": False} | options
    whole = [(len(prompt), np.array([*prompt, *answer])) for prompt in prompts for answer in answers]
    rows = [(tokens, np.arange(len(tokens)) >= n_given) for n_given, tokens in whole]
    return row_log_likelihoods(model, rows, **settings).reshape(len(prompts), -1)


def score_by_hand(model, prompt, answer):
    """Sum of log probabilities, every token from a forward pass of its own."""
    total = 0.0
    for place, token in enumerate(answer):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompt + answer[:place]]), use_cache=False).logits[0, -1]
        total += logits.double().log_softmax(dim=0)[token].item()
    return total


@pytest.mark.parametrize("model_type", ["gpt_bigcode", "llama"])
@pytest.mark.parametrize("method", METHODS)
def test_is_the_sum_of_log_probabilities(tuned_of, prompts, model_type, method):
    model = tuned_of(model_type, method)
    by_hand = [[score_by_hand(model, prompt, answer) for answer in ANSWERS] for prompt in prompts]
    for budget in (WIDE, NARROW):
        found = score(model, prompts, tokens_per_batch=budget)
        assert found.shape == (len(prompts), len(ANSWERS)) and found.dtype == np.float64
        np.testing.assert_allclose(found, by_hand, atol=2e-5)


def test_budget_bounds_every_pass(model, prompts):
    widths = []
    model.register_forward_pre_hook(lambda *given: widths.append(given[2]["input_ids"].numel()), with_kwargs=True)
    for budget in (29, 60, 200):
        score(model, prompts, tokens_per_batch=budget)
        assert max(widths) <= budget
        widths.clear()


def test_dropout_is_off_and_the_mode_restored(model, prompts):
    expected = score(model.eval(), prompts)
    assert np.array_equal(score(model.train(), prompts), expected)
    assert model.training


def test_bad_input_is_named(model):
    with pytest.raises(ValueError, match="scored row 1 has token id 99, and the model's vocabulary goes from 0 to 79"):
        score(model, [[1]], [[2], [3, 99]])
    with pytest.raises(ValueError, match="scored row 0 has 97 tokens; a row has from 2 to sequence_length 96"):
        score(model, [[1] * 94], [[3, 4, 5]])


def test_bar_is_on_standard_error(model, prompts, capfd):
    score(model, prompts, progress=True)
    shown = capfd.readouterr()
    assert "likelihood: 100%" in shown.err and "48/48" in shown.err and shown.out == ""
