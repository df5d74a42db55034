"""Tuned weights in the cache give the model that was trained, bit for bit."""

import pytest
import tiny_grid as TINY
import torch

from astraios_analysis.records.frame import METHODS
from training.grid.bases import load_tuned, save_tuned, tuned_folder
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

    def keep(model, cache_dir, run_id):
        logits[run_id] = compute_logits(model)
        return save_tuned(model, cache_dir, run_id)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.grid.run.save_tuned", keep)
        for spec in SPECS.values():
            run(spec, tmp_path_factory.mktemp("runs"), cache)
    return logits


@pytest.mark.parametrize("method", METHODS)
def test_a_kept_model_computes_what_the_trained_one_did(trained, cache, method):
    model, tokenizer = load_tuned(SPECS[method], cache)
    logits = compute_logits(model)
    assert [run_id for run_id, known in trained.items() if torch.equal(logits, known)] == [SPECS[method].run_id]
    assert tokenizer.get_vocab_size() == EMBEDDED_VOCABULARY


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
