"""The script by which CI compares the tables of a new rendering with the committed ones."""

import runpy
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "twins.py"
TABLE = "method,n_items,value,lower\nfft,9007199254740993,0.25,0.1234567\nlora,164,0.5,\nia3,164,0.75,0.5\n"
# A figure whose column `lower` is fitted and whose `value` is measured.
NAME = "contrasts_own.csv"


@pytest.fixture(scope="module")
def differences():
    return runpy.run_path(str(SCRIPT))["differences"]


@pytest.fixture
def folders(tmp_path):
    for name in ("committed", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / NAME).write_text(TABLE)
    return tmp_path / "committed", tmp_path / "new"


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        # Fitted: 3e-5 relative.
        *(("0.1234567", "0.1234600", None), ("0.75,0.5", "0.75,0.50004", None), ("lora", "loRA", "method")),
        *(("25,0.1", "25000001,0.1", "value"), ("9007199254740993", "9007199254740992", "n_items")),
        *(("0.1234567", "0.1235", "lower"), ("0.1234567", "", "lower"), ("0.5,\n", "0.5,0.3\n", "lower")),
        *(("0.75,0.5", "0.75,low", "low"), ("ia3,164,0.75,0.5\n", "", "shape")),
        *(("value,lower", "value,upper", "lower"), ("n_items,value", "value,n_items", "columns")),
        *((TABLE, "", "No columns"), (TABLE, 'a\n"1\n', "EOF")),
    ],
)
def test_a_change_is_named_or_within_the_tolerance(differences, folders, before, after, words):
    (folders[1] / NAME).write_text(TABLE.replace(before, after))
    found = differences(*folders)
    assert (found == []) == (words is None)
    assert all(text.startswith(f"{NAME}: ") and words in text for text in found)


@pytest.mark.parametrize(
    ("name", "old", "new", "agrees"),
    # Fitted values at zero have an absolute tolerance, and a table of no figure has none.
    [(NAME, "0", "0.0000009", True), (NAME, "0", "0.0000011", False), ("other.csv", "0.5", "0.50000001", False)],
)
def test_tolerances(differences, folders, name, old, new, agrees):
    for folder, value in zip(folders, (old, new), strict=True):
        (folder / name).write_text(f"lower\n{value}\n")
    assert len(differences(*folders)) == (not agrees)


def test_files_on_one_side_only(differences, folders, tmp_path):
    (folders[0] / "gone.csv").write_text("a\n")
    assert differences(*folders) == ["gone.csv is in one folder only"]
    assert differences(tmp_path, tmp_path) == ["there is no CSV file to compare"]


@pytest.mark.parametrize(("place", "status", "words"), [(0, 0, "all CSV twins agree\n"), (1, 1, NAME)])
def test_command(folders, monkeypatch, capsys, place, status, words):
    (folders[1] / NAME).write_text(TABLE.replace("lora", "ia3"))
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(folders[0]), str(folders[place])])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert ended.value.code == status and capsys.readouterr().out.startswith(words)
