"""Imported records on disk: every one or none, whatever stops it."""

import pytest

from astraios_analysis.imports.writing import write_all
from astraios_analysis.records.files import RecordError
from astraios_analysis.records.frame import load, save


@pytest.mark.parametrize("stop", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_all_or_nothing(tmp_path, make_record, monkeypatch, stop):
    old = make_record(run_id="a")
    save(old, tmp_path / "my")
    records = [make_record(run_id=name, seed=seed, val_loss=2.25) for seed, name in enumerate("abc")]
    rename, left = type(tmp_path).replace, iter([True, True])

    def stops(path, target):
        # Two records are in place when the third cannot be moved.
        if path.suffix == ".json" and path.parent.name.startswith(".import-") and not next(left, False):
            raise stop
        return rename(path, target)

    monkeypatch.setattr(type(tmp_path), "replace", stops)
    with pytest.raises((RecordError, KeyboardInterrupt)):
        write_all(records, tmp_path / "my", replace=True)
    assert [path.name for path in (tmp_path / "my").iterdir()] == ["a.json"] and load(tmp_path / "my/a.json") == old


def test_no_empty_folder_is_left(tmp_path, make_record):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match=r"cannot be written .*, and nothing was; free space"):
        write_all([make_record()], tmp_path / "file" / "my", replace=False)
