"""Small tuned models, and prompts of uneven lengths."""

import copy
import functools

import numpy as np
import pytest

from training.models.tuning import apply_tuning
from training.spec.run import Tuning

_SMALL = {"lora": {"rank": 4, "dropout": 0.5}, "ptuning": {"virtual_tokens": 5}, "fft": {}, "ia3": {}}


@pytest.fixture(scope="session")
def tuned_of(base_of, tokens, train):
    """Return a function from model type and method to a model after two steps: no method is at its starting point."""

    @functools.cache
    def make(model_type, method):
        tuning = Tuning(method=method, **_SMALL.get(method, {"bottleneck": 8}))
        model = apply_tuning(base_of(model_type), tuning, seed=3)
        train(model, tokens, n_steps=2)
        return model

    return lambda model_type, method: copy.deepcopy(make(model_type, method))


@pytest.fixture(scope="session")
def prompts():
    """Return 12 prompts of 1 to 25 tokens."""
    rng = np.random.default_rng(5)
    return [rng.integers(1, 80, size=length).tolist() for length in (7, 1, 25, 12, 12, 3, 18, 2, 25, 9, 5, 14)]


@pytest.fixture
def model(tuned_of):
    return tuned_of("gpt_bigcode", "lora")
