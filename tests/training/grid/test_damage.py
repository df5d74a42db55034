"""Damage that a copy or a full disk leaves behind is noticed, named, and costs no other run."""

import shutil
from pathlib import Path
from unittest.mock import Mock

import pytest
import tiny_grid as TINY
from safetensors import safe_open

from training.grid import workers
from training.grid.bases import base_digest, load_base, load_tuned, tuned_folder
from training.grid.cluster import tasks_of
from training.grid.run import run
from training.grid.workers import Folders, launch, perform
from training.spec.files import record_path, run_state

FFT, LORA = TINY.tiny_grid().runs(methods=["fft", "lora"])


@pytest.fixture
def folders(trained, tmp_path):
    for source in (trained.runs, trained.cache):
        shutil.copytree(source, tmp_path / source.name)
    return tmp_path / "runs", tmp_path / "cache"


def zero_the_end(folder):
    """Zero the last hundred bytes of a file of weights, which stays a valid file."""
    (path,) = folder.glob("*.safetensors")
    content = path.read_bytes()
    path.write_bytes(content[:-100] + bytes(100))
    assert content[-100:] != bytes(100)
    with safe_open(path, "pt") as file:
        assert file.keys()


def test_weights_of_a_base_that_changed_are_not_used(folders, tmp_path):
    _, cache = folders
    zero_the_end(cache / "bases" / base_digest(FFT))
    with pytest.raises(ValueError, match=r"model.safetensors has changed since it was written; delete it to train it"):
        load_base(LORA, cache)
    with pytest.raises(ValueError, match="has changed since it was written"):
        run(LORA, tmp_path / "new", cache)


@pytest.mark.parametrize("spec", [FFT, LORA], ids=lambda spec: spec.tuning.method)
def test_tuned_weights_that_changed_are_not_scored(folders, spec):
    _, cache = folders
    zero_the_end(tuned_folder(cache, spec.run_id))
    with pytest.raises(ValueError, match=rf"{spec.run_id} .* has changed since it was written; delete the folder"):
        load_tuned(spec, cache)


def test_a_damaged_record_is_no_finished_run(folders, told, tiny):
    runs, cache = folders
    path = record_path(runs, LORA.run_id)
    path.write_bytes(path.read_bytes()[:300])
    found = run_state(runs, LORA.run_id)
    assert found.state == "damaged"
    assert f"{path}: " in found.detail
    assert found.detail.endswith("; delete the file to train the run again")
    lines = []
    outcomes = launch((FFT, LORA), Folders(runs, cache), jobs=1, report=lines.append)
    assert [outcome.status for outcome in outcomes] == ["skipped", "failed"]
    assert outcomes[1].message == found.detail
    assert lines == ["1 of 2 runs were finished before"]
    with pytest.raises(ValueError, match="delete the file to train the run again"):
        tasks_of((FFT, LORA), runs)
    with pytest.raises(ValueError, match=str(path)):
        run(LORA, runs, cache)
    chosen = ["--preset", "tiny", "--method", "fft", "lora", "--runs", runs]
    assert "1 done, 1 damaged" in told("grid", "status", *chosen).out
    errors = told("grid", "run", "--no-scores", "--cache", cache, *chosen, status=1).err
    assert f"failed: {LORA.run_id}: {found.detail}\n1 of 2 runs are finished" in errors


def test_a_folder_that_cannot_be_written_is_said_before_a_base_is_trained(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(workers, "Worker", lambda *_: pytest.fail("a worker was started"))
    for folders in ((tmp_path / "file" / "runs", tmp_path), (tmp_path, tmp_path / "file" / "cache")):
        with pytest.raises(ValueError, match="cannot be written: Not a directory; make room, or name another folder"):
            launch((FFT,), Folders(*folders), jobs=1)
    monkeypatch.setattr("training.grid.run.load_base", lambda *_, **__: pytest.fail("a base was trained"))
    for folders in ((tmp_path / "file" / "runs", tmp_path), (tmp_path, tmp_path / "file" / "cache")):
        with pytest.raises(ValueError, match="cannot be written"):
            run(FFT, *folders)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_a_full_disk_fails_a_run_in_one_line(tmp_path, monkeypatch):
    no_room = Mock(side_effect=OSError(28, "No space left on device", "somewhere"))
    monkeypatch.setattr("training.grid.run.run", no_room)
    monkeypatch.setattr(Path, "write_text", no_room)
    status, message = perform("run", FFT, Folders(tmp_path, tmp_path))
    assert (status, message) == ("failed", "OSError: [Errno 28] No space left on device: 'somewhere'")
