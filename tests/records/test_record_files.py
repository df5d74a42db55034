"""Records on disk: written whole or not at all, and every fault named with file, field and remedy."""

import json
import os
from pathlib import Path
from unittest.mock import Mock

import pytest

from astraios_analysis.records.files import record_files
from astraios_analysis.records.frame import RecordError, check, load, load_folder, save


@pytest.fixture
def write(make_record, tmp_path):
    """Write a changed record's JSON as text: change, add (`...` removes) fields by dotted name."""

    def write(changes=None, name="run.json", text=None):
        fields = json.loads(make_record().model_dump_json(exclude_none=True))
        for dotted, value in (changes or {}).items():
            *parents, last = [int(part) if part.isdigit() else part for part in dotted.split("/")]
            place = fields
            for part in parents:
                place = place[part]
            if value is ...:
                del place[last]
            else:
                place[last] = value
        path = tmp_path / name
        content = json.dumps(fields) if text is None else text(json.dumps(fields))
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def fails(path, field, message):
    """Loading raises a RecordError that names the file, the field, and what is wrong."""
    with pytest.raises(RecordError, match=message) as caught:
        load(path)
    assert [(problem.path, problem.field) for problem in caught.value.problems] == [(path, field)]
    assert str(caught.value).startswith(f"{path}: {field}: " if field else f"{path}: ")


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"method": "lora 2"}, "method", "is 'lora 2'; a name has no spaces"),
        ({"val_loss": -2.5}, "val_loss", r"is -2\.5; input should be greater than or equal to 0"),
        ({"scores/0/value": 1.7}, "scores.0", r"value 1\.7 is outside \[0, 1\].*divide a percentage by 100"),
        ({"colour": "red"}, "colour", r"is not a field of this kind of file \(value 'red'\); remove it or correct"),
        ({"schema_version": 3}, "schema_version", "schema version 3 is newer than the 2 read here; upgrade"),
        ({"n_params": "1100"}, "n_params", "is '1100'; input should be a valid integer"),
        ({"method": ...}, "method", "is missing; every record has it: add the field"),
        ({"scores/0/metric": ...}, "scores.0.metric", "is missing; every record has it: add the field"),
        ({"scores/0/problems/n_passed/1": 21}, "scores.0.problems", "problem 1: n_passed 21 exceeds n_samples 20"),
        ({"scores/1/metric": "pass@1"}, "record", "scores has .*pass@1 twice; keep one"),
        ({"val_loss": float("nan")}, "val_loss", "is nan; a value that was not measured is left out"),
        ({"cost/seconds": float("inf")}, "cost.seconds", "is inf; a value that was not measured is left out"),
        ({"provenance/spec/rate": float("nan")}, "provenance.spec", "cannot be written as JSON"),
        ({"size": "x" * 100, "grid": "y" * 70 + "!"}, "grid", r"is 'y{56}\.\.\.; a name has small letters"),
    ],
)
def test_wrong_field_is_named(write, changes, field, message):
    fails(write(changes), field, message)


@pytest.mark.parametrize(
    ("text", "field", "message"),
    [
        (lambda text: "", "", r"is not valid JSON \(the file is empty\); .*restore it"),
        (lambda text: " \n", "", "the file is empty"),
        (lambda text: text[:200], "", r"is not valid JSON \(line 1, column \d+: .*it may be cut off"),
        (lambda text: text[:-1], "", "it may be cut off"),
        (lambda text: b'{"run_id": "\xff"}', "", r"is not UTF-8 text \(byte 12\)"),
        (lambda text: "[]", "record", r"is \[\]; input should be an object"),
        (lambda text: "null", "record", "is None; input should be an object"),
        (lambda text: text + text, "", "Extra data"),
        (lambda text: text[:-1] + ', "size": "3b"}', "size", "stands twice in one object; keep one of the two values"),
        (lambda text: text.replace('"step": 0', '"step": 0, "step": 0'), "step", "stands twice in one object"),
        (lambda text: "[" * 100_000, "", "nested too deeply"),
        (lambda text: text.replace('"mini"', f'"{"m" * 101}"'), "grid", "should have at most 100 characters"),
        (lambda text: text.replace('"1b"', "[" * 300 + "]" * 300), "record", r"read \(Invalid JSON: recursion"),
        (lambda text: text.replace("4096", "4" * 5_000), "", "holds a number that is too long to read"),
        (lambda text: text.replace('"abc"', '"\\ud800"'), "record", r"cannot be read \(Invalid JSON"),
    ],
)
def test_broken_text_is_named(write, text, field, message):
    fails(write(text=text), field, message)


def test_every_wrong_field_is_listed(write):
    path = write({"method": "lora 2", "val_loss": -1, "size": ...})
    with pytest.raises(RecordError) as caught:
        load(path)
    assert {problem.field for problem in caught.value.problems} == {"method", "val_loss", "size"}
    assert str(caught.value).count(str(path)) == len(str(caught.value).splitlines()) == 3


def test_places_that_cannot_be_read(tmp_path):
    fails(tmp_path, "", "is a folder; give a file in it")
    fails(tmp_path / "none.json", "", "there is no such file")
    fails(Path("a\0b"), "", "cannot be read .embedded null byte.")
    loop = tmp_path / "loop.json"
    loop.symlink_to(loop)
    fails(loop, "", "Too many levels of symbolic links")


def test_places_without_records(tmp_path):
    (tmp_path / "readme.txt").write_text("nothing")
    for path, message in [
        (tmp_path / "none", "none: does not exist; give a record file or a folder of records"),
        (tmp_path, r"holds no record \(\*\.json\); give a record file or a folder of records"),
        (tmp_path / ("x" * 5_000), "cannot be read .File name too long."),
    ]:
        with pytest.raises(RecordError, match=message):
            record_files(path)
        assert check([path])[0] == [] and len(check([path])[1]) == 1


def test_folder_without_permission_is_an_error_and_not_an_absence(make_record, tmp_path, monkeypatch):
    save(make_record(), tmp_path)
    (tmp_path / "locked").mkdir()
    scandir, refuse = os.scandir, Mock(side_effect=PermissionError(13, "Permission denied", "locked"))
    monkeypatch.setattr(os, "scandir", lambda path: (refuse if str(path).endswith("locked") else scandir)(path))
    with pytest.raises(RecordError, match=r"locked: cannot be read \(Permission denied\); check the path"):
        record_files(tmp_path)


def test_links_are_followed_once_and_hidden_files_are_not_records(make_record, tmp_path):
    real = save(make_record(), tmp_path / "elsewhere")
    data = tmp_path / "data"
    (data / ".ipynb_checkpoints").mkdir(parents=True)
    (data / ".ipynb_checkpoints" / "run.json").write_text("{")
    (data / ".half.json").write_text("{")
    (data / "runs").symlink_to(real.parent)
    (data / "again").symlink_to(data)
    (data / "same.json").symlink_to(real)
    assert [path.resolve() for path in record_files(data)] == [real, real]
    records, problems = check([data])
    assert [record.run_id for record in records] == ["mini-1b-lora-s0"]
    assert problems == []


def test_folder_named_like_a_record_is_said(make_record, tmp_path):
    save(make_record(), tmp_path)
    (tmp_path / "other.json").mkdir()
    records, problems = check([tmp_path])
    assert len(records) == 1
    assert [str(problem) for problem in problems] == [f"{tmp_path}/other.json: is a folder; give a file in it"]


def test_check_lists_the_faults_of_all_files_and_keeps_the_rest(make_record, write, tmp_path):
    bad = [write({"method": "x y"}, "one.json"), write(text=lambda text: text[:50], name="two.json")]
    good = save(make_record(run_id="good"), tmp_path)
    records, problems = check([tmp_path, tmp_path / "gone"])
    assert [record.run_id for record in records] == ["good"]
    assert [problem.path for problem in problems] == [*bad, tmp_path / "gone"]
    with pytest.raises(RecordError, match=r"(?s)one\.json: method.*two\.json: is not valid JSON"):
        load_folder(tmp_path)
    assert load(good) == records[0]


def test_saved_file_is_readable_by_people(make_record, tmp_path):
    path = save(make_record(cost=None, seed=None), tmp_path / "made" / "on_the_way")
    assert path == tmp_path / "made" / "on_the_way" / "mini-1b-lora-s0.json"
    text = path.read_text()
    assert text.endswith("}\n")
    assert '"n_passed": [20, 5, 0, 3]\n' in text
    assert '"problem_ids": [0, 1, 2, 3],\n' in text
    fields = json.loads(text)
    assert "seed" not in fields and "cost" not in fields and "stderr" not in fields["scores"][0]
    assert path.stat().st_mode & 0o777 == 0o644


def test_record_is_replaced_only_when_told(make_record, tmp_path):
    path = save(make_record(), tmp_path)
    with pytest.raises(RecordError, match="already there; pass overwrite=True to replace it"):
        save(make_record(val_loss=1.0), tmp_path)
    assert load(path).val_loss == 2.5
    assert load(save(make_record(val_loss=1.0), tmp_path, overwrite=True)).val_loss == 1.0


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (OSError(28, "No space left on device"), r"cannot write the record \(No space left on device\); free space or"),
        (KeyboardInterrupt(), ""),
    ],
)
def test_interrupted_save_leaves_the_old_file_alone(make_record, tmp_path, monkeypatch, step, failure, message):
    path = save(make_record(), tmp_path)
    before = path.read_bytes()
    monkeypatch.setattr(os, step, Mock(side_effect=failure))
    with pytest.raises(KeyboardInterrupt if not message else RecordError, match=message):
        save(make_record(val_loss=1.0), tmp_path, overwrite=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    # Whoever lets it through says which file it was.
    assert getattr(failure, "filename", str(path)) == str(path)


def test_folder_that_cannot_be_written_is_named(make_record, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match=r"file/mini-1b-lora-s0\.json: cannot write the record"):
        save(make_record(), tmp_path / "file")
    with pytest.raises(RecordError, match=r"cannot write the record \(File name too long\)"):
        save(make_record(run_id="x" * 300), tmp_path)
