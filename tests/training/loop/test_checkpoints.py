import json
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file

from astraios_analysis.records.frame import ValidationPoint
from training.loop.checkpoints import Progress, RunFolder, keep_updated_weights_only
from training.spec.files import run_state

# Tuples are no difference to the lists that are read back.
IDENTITY = {"spec": {"grid": "smoke" * 9, "sizes": (1, 2)}, "schedule": {"steps": 200, "warmup_steps": 12}, "seed": 0}
POINT = ValidationPoint(step=0, loss=1 / 3, stderr=0.1, n_tokens=0)


@pytest.fixture
def prepared():
    accelerator = Accelerator(cpu=True)
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
    model[0].requires_grad_(False)
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=0.1)
    model, optimizer = accelerator.prepare(model, optimizer)
    keep_updated_weights_only(accelerator)
    return accelerator, model, optimizer


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / ".work" / "run", IDENTITY)


def edit(path, change):
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def progress_at(step):
    return Progress(
        step=step, n_processes=[1], n_tokens=7 * step, base=POINT, curve=[POINT], train_losses=[0.1 + 0.2], seconds=1.5
    )


def take_step(model, optimizer):
    model(torch.ones(4, 2)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def names(folder):
    return sorted(p.name for p in folder.path.iterdir() if p.name.startswith(("step", ".writing", ".removing")))


class TestSaveAndLoad:
    def test_give_back_weights_optimiser_random_numbers_and_progress(self, folder, prepared):
        accelerator, model, optimizer = prepared
        with folder.locked():
            take_step(model, optimizer)
            folder.save(accelerator, progress_at(1))
            drawn = torch.rand(3)
            take_step(model, optimizer)
            expected = [weight.detach().clone() for weight in model.parameters()]
            take_step(model, optimizer)
            assert folder.load(accelerator, folder.latest()) == progress_at(1)
            assert torch.equal(torch.rand(3), drawn)
            take_step(model, optimizer)
        for weight, before in zip(model.parameters(), expected, strict=True):
            assert torch.equal(weight, before)

    def test_leave_frozen_weights_out_and_miss_one_that_is_not_there(self, folder, prepared):
        folder.save(prepared[0], progress_at(1))
        path = folder.latest() / "model.safetensors"
        # Of a version that kept no marks of files.
        edit(folder.latest() / "progress.json", lambda values: values.pop("files"))
        assert set(load_file(path)) == {"1.weight", "1.bias"}
        save_file({"1.weight": load_file(path)["1.weight"]}, path)
        with pytest.raises(ValueError, match=r"does not hold the updated parameters, such as 1\.bias; delete it to"):
            folder.load(prepared[0], folder.latest())

    def test_keep_the_last_two(self, folder, prepared):
        assert folder.latest() is None
        for step in (2, 4, 999_999, 1_000_000):
            folder.save(prepared[0], progress_at(step))
        # By number, not by name.
        assert folder.latest().name == "step-1000000"
        assert names(folder) == ["step-1000000", "step-999999"]

    def test_nothing_unfinished_is_taken_for_a_checkpoint(self, folder, prepared, monkeypatch):
        accelerator, *_ = prepared
        folder.save(accelerator, progress_at(1))
        original = accelerator.save_state

        def fail(path):
            original(path)
            raise OSError("no space left on device")

        monkeypatch.setattr(accelerator, "save_state", fail)
        with pytest.raises(OSError, match="no space"):
            folder.save(accelerator, progress_at(2))
        assert names(folder) == [".writing-step-000002", "step-000001"]
        assert folder.latest().name == "step-000001"
        with folder.locked():
            assert names(folder) == ["step-000001"]

    @pytest.mark.parametrize("name", ["progress.json", "model.safetensors", "optimizer.bin", "random_states_0.pkl"])
    def test_a_damaged_one_is_named_and_the_one_before_it_taken(self, folder, prepared, name):
        for step in (1, 2):
            folder.save(prepared[0], progress_at(step))
        damaged = folder.latest() / name
        damaged.write_bytes(damaged.read_bytes()[:100])
        if name == "random_states_0.pkl":
            damaged.unlink()
        message = r"step-000002 cannot be read: .*; delete it to resume from the one before"
        with pytest.raises(ValueError, match=message):
            folder.load(prepared[0], damaged.parent)
        assert folder.latest().name == "step-000001"
        assert folder.load(prepared[0], folder.latest()).step == 1
        folder.save(prepared[0], progress_at(2))
        assert folder.latest().name == "step-000002"
        assert folder.load(prepared[0], folder.latest()).step == 2

    @pytest.mark.parametrize("name", ["model.safetensors", "optimizer.bin", "random_states_0.pkl"])
    def test_one_changed_byte_is_noticed(self, folder, prepared, name):
        for step in (1, 2):
            folder.save(prepared[0], progress_at(step))
        damaged = folder.latest() / name
        content = damaged.read_bytes()
        damaged.write_bytes(content[:-100] + bytes([content[-100] ^ 4]) + content[-99:])
        assert folder.latest().name == "step-000001"
        with pytest.raises(ValueError, match="cannot be read: its files are not those that were written; delete it"):
            folder.load(prepared[0], damaged.parent)

    def test_an_older_one_has_the_sizes_of_its_files_alone(self, folder, prepared):
        folder.save(prepared[0], progress_at(1))
        sizes = {path.name: path.stat().st_size for path in folder.latest().glob("*[!n]")}
        edit(folder.latest() / "progress.json", lambda values: values.update(files=sizes))
        assert folder.load(prepared[0], folder.latest()).step == 1

    def test_what_is_wrong_with_its_progress_is_said(self, folder, prepared):
        folder.save(prepared[0], progress_at(1))
        path = folder.latest() / "progress.json"
        for change, message in (
            (lambda values: values["progress"].update(step="x"), "progress.json: progress.step: is 'x'; .*; delete it"),
            (lambda values: values.pop("progress"), "progress.json: progress: is missing; .*; delete it"),
            (lambda values: values.update(identity=7), "progress.json: identity: is 7; .*; delete it"),
        ):
            edit(path, change)
            with pytest.raises(ValueError, match=message):
                folder.read(path.parent)


class TestAnotherRun:
    def test_many_differences_are_counted(self, folder, prepared):
        folder.save(prepared[0], progress_at(1))
        spec = {**IDENTITY["spec"], "grid": "mini"}
        other = RunFolder(folder.path, {"spec": spec, "schedule": {"steps": 1, "decay": "x"}, "seed": 1})
        # Long values are cut.
        with pytest.raises(ValueError, match=r'spec\.grid is "smokesmokes… there and "mini" here; .*; and 2 more'):
            other.read(other.latest())

    def test_an_older_format_is_refused(self, folder, prepared):
        folder.save(prepared[0], progress_at(1))
        path = folder.latest() / "progress.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "format": 0}))
        with pytest.raises(ValueError, match="has format 0, and this version reads 1"):
            folder.read(folder.latest())


def test_a_folder_is_for_one_process_at_a_time(folder):
    # Locks belong to the open file: a second handle is refused in this process as it is in another.
    second = RunFolder(folder.path, IDENTITY).locked()
    with folder.locked(), pytest.raises(ValueError, match="in use by another process; wait for it, or give another"):
        second.__enter__()
    with folder.locked():
        pass


def test_a_damaged_mark_of_a_failure_is_named(folder):
    folder.mark_failed(17, "the training loss of step 18 is nan")
    for content, message in (('{"step": 17, "rea', "is not valid JSON"), ('{"reason": "nan"}', "'identity'")):
        folder.failure_path.write_text(content)
        with pytest.raises(ValueError, match=f"{message}.*; delete .*failed.json to try it again"):
            folder.check_not_failed()
        state = run_state(folder.path.parents[1], "run")
        assert (state.state, state.is_divergence) == ("failed", True)
        assert message in state.detail


def test_a_failure_of_another_run_says_nothing_about_this_one(folder):
    folder.mark_failed(17, "the training loss of step 18 is nan")
    RunFolder(folder.path, {**IDENTITY, "seed": 1}).check_not_failed()


def test_a_full_disk_is_said_where_torch_names_a_position(prepared, folder, monkeypatch):
    accelerator, *_ = prepared
    monkeypatch.setattr(accelerator, "save_state", Mock(side_effect=RuntimeError("unexpected pos 192 vs 84")))
    with pytest.raises(RuntimeError, match="unexpected pos"):
        folder.save(accelerator, progress_at(3))
    monkeypatch.setattr(Path, "open", Mock(side_effect=OSError(28, "No space left on device")))
    with pytest.raises(ValueError, match="cannot be written: No space left on device; make room, or name another fold"):
        folder.save(accelerator, progress_at(3))
