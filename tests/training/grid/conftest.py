"""Small runs of every method, trained once."""

from types import SimpleNamespace

import pytest
import tiny_grid as TINY
import torch

from astraios_analysis.records.frame import METHODS
from training.grid.bases import save_tuned
from training.grid.run import run

TOKENS = torch.tensor([[5, 80, 7, 300, 12, 9]])


@pytest.fixture(scope="session")
def compute_logits():
    """Return a function from a model to its logits of one text."""

    @torch.inference_mode()
    def compute_logits(model):
        return model.eval()(input_ids=TOKENS).logits

    return compute_logits


@pytest.fixture(scope="session")
def trained(tmp_path_factory, compute_logits):
    """Specifications by method, folders of records and models, and each model's logits in memory after its training."""
    folder, logits = tmp_path_factory.mktemp("trained"), {}

    def keep(model, cache_dir, run_id):
        logits[run_id] = compute_logits(model)
        return save_tuned(model, cache_dir, run_id)

    specs = {spec.tuning.method: spec for spec in TINY.tiny_grid(methods=METHODS).runs()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.grid.run.save_tuned", keep)
        for spec in specs.values():
            run(spec, folder / "runs", folder / "cache")
    return SimpleNamespace(specs=specs, runs=folder / "runs", cache=folder / "cache", logits=logits)
