import importlib.metadata
import json

import pytest
import tiny_grid as TINY
import torch

from astraios_analysis.records.frame import METHODS, load
from astraios_analysis.records.sources import check_sources
from training.grid import run as run_module
from training.grid.bases import load_tuned, tuned_folder
from training.grid.run import run
from training.loop.flop import model_flops_utilisation
from training.loop.train import DivergedError
from training.models.counts import count_parameters
from training.models.pretrained import scratch_config
from training.spec.files import record_path, run_state, work_folder
from training.spec.grids import EMBEDDED_POSITIONS, EMBEDDED_VOCABULARY
from training.spec.run import RunSpec

SPECS = {spec.tuning.method: spec for spec in TINY.tiny_grid(methods=METHODS).runs()}


@pytest.mark.parametrize("method", ["fft", "lora", "ptuning", "adapterh"])
def test_record_says_what_was_counted_and_measured(trained, method):
    spec = SPECS[method]
    record = load(record_path(trained.runs, spec.run_id))
    counts = count_parameters(scratch_config(spec.size), spec.tuning)
    assert (record.n_params, record.n_params_updated) == (counts.n_params, counts.n_params_updated)
    embedding = (EMBEDDED_VOCABULARY + EMBEDDED_POSITIONS) * 16
    assert record.n_params_base == record.n_params_base_nonembedding + embedding == counts.n_params_base
    assert [point.step for point in record.val_curve] == [0, 3, 6]
    assert (record.val_loss, record.val_loss_se) == (record.val_curve[-1].loss, record.val_curve[-1].stderr)
    assert record.n_tokens == record.val_curve[-1].n_tokens > 0
    assert record.val_loss < record.base_val_loss
    assert min(record.cost.seconds, record.cost.flop) > 0
    assert record.scores == ()


def test_record_holds_what_it_takes_to_make_it_again(trained):
    for spec in SPECS.values():
        provenance = load(record_path(trained.runs, spec.run_id)).provenance
        assert RunSpec.model_validate_json(json.dumps(provenance.spec["run"])) == spec
        assert provenance.spec["corpus"]["split_seed"] == 0
        assert provenance.spec["loop"]["micro_batch"] == 4
        assert (provenance.spec["n_processes"], provenance.spec["n_threads"]) == (1, 1)
        assert provenance.spec["base"]["outcome"]["n_tokens"] > 0
        assert provenance.versions["torch"] == importlib.metadata.version("torch")
        assert provenance.created_at.endswith("+00:00")
        assert provenance.processor.endswith(torch.backends.cpu.get_cpu_capability())


def test_records_are_all_that_is_left_and_the_analysis_accepts_them(trained):
    files = sorted(path.name for path in trained.runs.iterdir())
    assert files == sorted(f"{spec.run_id}.json" for spec in SPECS.values())
    records, problems = check_sources([trained.runs])
    assert (len(records), problems) == (len(SPECS), [])


def test_a_finished_run_is_not_trained_again_and_what_was_left_beside_its_record_is_removed(trained, monkeypatch):
    monkeypatch.setattr(run_module, "train", lambda *_, **__: pytest.fail("trained again"))
    path, work = (place(trained.runs, SPECS["lora"].run_id) for place in (record_path, work_folder))
    before = path.read_bytes()
    work.mkdir(parents=True)
    assert run(SPECS["lora"], trained.runs, trained.cache) == load(path)
    assert path.read_bytes() == before
    assert not work.parent.exists()


def test_a_run_that_diverges_leaves_no_record(trained, tmp_path):
    (spec,) = TINY.tiny_grid(learning_rates={"fft": 1e30}).runs(methods=["fft"])
    for error, message in ((DivergedError, "training diverged"), (ValueError, "this run failed before")):
        with pytest.raises(error, match=message):
            run(spec, tmp_path, trained.cache)
        assert not record_path(tmp_path, spec.run_id).exists()
    assert run_state(tmp_path, spec.run_id).state == "failed"
    assert "nan" in run_state(tmp_path, spec.run_id).detail


@pytest.mark.parametrize("method", METHODS)
def test_a_kept_model_computes_what_the_trained_one_did_to_the_last_bit(trained, compute_logits, method):
    model, tokenizer = load_tuned(SPECS[method], trained.cache)
    logits = compute_logits(model)
    same = [run_id for run_id, known in trained.logits.items() if torch.equal(logits, known)]
    assert same == [SPECS[method].run_id]
    assert tokenizer.get_vocab_size() == EMBEDDED_VOCABULARY


def test_an_adapter_is_kept_without_its_base(trained):
    files = {m: tuned_folder(trained.cache, spec.run_id).glob("*.safetensors") for m, spec in SPECS.items()}
    sizes = {method: sum(path.stat().st_size for path in found) for method, found in files.items()}
    assert all(0 < sizes[method] < sizes["fft"] / 2 for method in METHODS if method != "fft")


@pytest.mark.parametrize("root", [None, "/"], ids=["no_git", "within_another_project"])
def test_without_a_repository_of_its_own_there_is_no_commit(monkeypatch, root):
    monkeypatch.setattr(run_module, "_git", lambda *_: root)
    assert run_module._commit.__wrapped__() == (None, None)


@pytest.mark.parametrize(
    ("device", "expected"),
    [("NVIDIA H100 80GB HBM3", 0.5), ("NVIDIA H100 PCIe", 0.5 * 989 / 756), ("NVIDIA A100-SXM4-80GB", 0.5 * 989 / 312)],
)
def test_utilisation_is_a_share_of_the_devices_own_peak(device, expected):
    assert model_flops_utilisation(989e12, 1.0, 2, device) == pytest.approx(expected)
    assert model_flops_utilisation(989e12, 0.0, 2, device) is None
    assert model_flops_utilisation(989e12, 1.0, 2, "cpu") is None
