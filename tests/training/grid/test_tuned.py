"""Tuned weights in the cache give the model that was trained, bit for bit."""

import pytest
import tiny_grid as TINY
import torch

from astraios_analysis.records.frame import METHODS
from training.grid.bases import load_tuned, tuned_folder
from training.grid.bases import save_tuned as keep_tuned
from training.grid.run import run
from training.spec.grids import EMBEDDED_VOCABULARY

SPECS = {spec.tuning.method: spec for spec in TINY.tiny_grid(methods=METHODS).runs()}
TOKENS = torch.tensor([[5, 80, 7, 300, 12, 9]])


def compute_logits(model):
    with torch.inference_mode():
        return model.eval()(input_ids=TOKENS).logits


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, cache):
    """Logits of each model in memory, right after its training."""
    logits = {}
    with pytest.MonkeyPatch.context() as patch:
        for method, spec in SPECS.items():
            patch.setattr(
                "training.grid.run.save_tuned",
                lambda model, *rest, method=method: (
                    logits.__setitem__(method, compute_logits(model)),
                    keep_tuned(model, *rest),
                ),
            )
            run(spec, tmp_path_factory.mktemp("runs"), cache)
    return logits


@pytest.mark.parametrize("method", METHODS)
def test_a_kept_model_computes_what_the_trained_one_did(trained, cache, method):
    model, tokenizer = load_tuned(SPECS[method], cache)
    assert torch.equal(compute_logits(model), trained[method])
    assert tokenizer.get_vocab_size() == EMBEDDED_VOCABULARY


def test_every_method_computes_something_else(trained):
    logits = list(trained.values())
    assert all(not torch.equal(a, b) for i, a in enumerate(logits) for b in logits[:i])


def test_an_adapter_is_kept_without_its_base(trained, cache):
    sizes = {
        method: sum(path.stat().st_size for path in tuned_folder(cache, spec.run_id).glob("*.safetensors"))
        for method, spec in SPECS.items()
    }
    assert all(0 < sizes[method] < sizes["fft"] / 2 for method in METHODS if method != "fft")


def test_missing_weights_are_named(tmp_path):
    spec = SPECS["lora"]
    with pytest.raises(ValueError, match=rf"tuned weights of run {spec.run_id} are not in .*train it again"):
        load_tuned(spec, tmp_path)
