import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.stats import chisquare

from training.generation.generate import Decoding, SeededDraws, generate

NARROW = 60
PROBABILITIES = torch.tensor([0.05, 0.4, 0.1, 0.3, 0.15], dtype=torch.float64)


def draw(model, prompts, **options):
    settings = {"max_new_tokens": 12, "temperature": 0.9, "n_samples": 4} | options
    return generate(model, prompts, Decoding(**settings), eos_token_id=0, pad_token_id=0, progress=False)


def choose_often(n_draws, **options):
    """Counts of tokens drawn by rows that differ in the number of their sample only."""
    decoding = Decoding(max_new_tokens=1, **({"temperature": 1.0} | options))
    draws = SeededDraws(decoding, [(0, sample) for sample in range(n_draws)])
    scores = draws(None, PROBABILITIES.log().float().expand(n_draws, -1))
    return np.bincount(scores.argmax(dim=-1), minlength=len(PROBABILITIES))


@pytest.fixture
def model(tuned_of):
    return tuned_of("gpt_bigcode", "fft")


class TestSamples:
    @pytest.mark.parametrize("model_type", ["gpt_bigcode", "llama"])
    @pytest.mark.parametrize("method", ["fft", "lora", "ptuning", "parallel"])
    def test_budget_does_not_matter(self, tuned_of, prompts, model_type, method):
        model = tuned_of(model_type, method)
        assert draw(model, prompts, top_p=0.95) == draw(model, prompts, top_p=0.95, tokens_per_batch=NARROW)

    def test_other_prompts_and_samples_do_not_matter(self, model, prompts):
        found = draw(model, prompts)
        assert draw(model, prompts[:3]) == found[:3]
        assert [samples[:2] for samples in found] == draw(model, prompts, n_samples=2)
        assert draw(model, prompts, max_new_tokens=5) == [[text[:5] for text in samples] for samples in found]

    def test_seed_place_and_number_matter(self, model, prompts):
        found = draw(model, [prompts[0]] * 3)
        assert len({tuple(text) for samples in found for text in samples}) == 12
        assert draw(model, [prompts[0]] * 3, seed=1) != found

    def test_torch_generator_is_left_alone(self, model, prompts):
        state = torch.get_rng_state()
        draw(model, prompts)
        assert torch.equal(torch.get_rng_state(), state)

    @pytest.mark.parametrize("options", [{"temperature": 1e-6}, {"temperature": 1e-300, "top_p": 0.9}, {"top_p": 1e-9}])
    def test_limits_are_greedy(self, model, prompts, options):
        greedy = draw(model, prompts, temperature=0.0, n_samples=1)
        assert draw(model, prompts, n_samples=1, **options) == greedy


class TestDistribution:
    @pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
    def test_tokens_come_with_their_probabilities(self, temperature):
        counts = choose_often(5_000, temperature=temperature)
        expected = torch.softmax(PROBABILITIES.log() / temperature, dim=0)
        assert chisquare(counts, 5_000 * expected.numpy()).pvalue > 0.01

    def test_nucleus_keeps_the_odds_of_its_tokens(self):
        counts = choose_often(5_000, top_p=0.6)
        assert counts[[0, 2, 4]].sum() == 0
        assert chisquare(counts[[1, 3]], 5_000 * np.array([4, 3]) / 7).pvalue > 0.01

    def test_steps_of_a_row_are_independent(self):
        draws = SeededDraws(Decoding(max_new_tokens=2, temperature=1.0), [(0, sample) for sample in range(5_000)])
        logits = PROBABILITIES.log().float().expand(5_000, -1)
        first, second = (draws(None, logits).argmax(dim=-1).numpy() for _ in range(2))
        counts = np.bincount(5 * first + second, minlength=25)
        assert chisquare(counts, 5_000 * np.outer(PROBABILITIES, PROBABILITIES).ravel()).pvalue > 0.01

    def test_temperature_comes_before_the_nucleus(self):
        # Probabilities squared and normalised: .56 and .31 for the best two.
        counts = choose_often(2_000, temperature=0.5, top_p=0.5)
        assert counts.tolist() == [0, 2_000, 0, 0, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens\n.*greater than 0"),
        ({"tokens_per_batch": 0}, "tokens_per_batch\n.*greater than 0"),
        ({"temperature": -0.1}, "temperature\n.*greater than or equal to 0"),
        ({"temperature": float("nan")}, "temperature\n.*finite number"),
        ({"top_p": 0.0}, "top_p\n.*greater than 0"),
        ({"top_p": 1.1}, "top_p\n.*less than or equal to 1"),
        ({"n_samples": 0}, "n_samples\n.*greater than 0"),
        ({"seed": -1}, "seed\n.*greater than or equal to 0"),
        ({"stop_token_ids": (-5,)}, "stop_token_ids.0\n.*greater than or equal to 0"),
        ({"top_k": 5}, "top_k\n.*Extra inputs"),
    ],
)
def test_settings_out_of_range_are_named(options, message):
    with pytest.raises(ValidationError, match=message):
        Decoding(**({"max_new_tokens": 4} | options))
