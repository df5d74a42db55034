import subprocess
import sys
from pathlib import Path

import pytest

from astraios_analysis.figures import FigureSpec
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.render import twins

ROOT = Path(__file__).parents[2]
SPEC = FigureSpec("scaling", "Scaling", "scale_transfer", "Caption.", fitted_columns=("lower",))
TABLE = "method,n_items,value,lower\nfft,164,0.25,0.1234567\nlora,164,0.5,\nia3,164,0.75,0.5\n"


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    monkeypatch.setattr(twins, "FIGURES", {"scaling": SPEC})


@pytest.fixture
def folders(tmp_path):
    """Two folders with the same twin."""
    paths = tmp_path / "committed", tmp_path / "new"
    for path in paths:
        path.mkdir()
        (path / "scaling.csv").write_text(TABLE)
    return paths


def changed(folders, before, after, name="scaling.csv"):
    """Differences after a change of the new twin."""
    text = (folders[1] / "scaling.csv").read_text()
    assert text.count(before) == 1
    (folders[1] / name).write_text(text.replace(before, after))
    return twins.compare(*folders)


def test_equal_folders_agree(folders):
    assert twins.compare(*folders) == []


@pytest.mark.parametrize(
    ("before", "after", "difference"),
    [
        ("fft,164,0.25", "fft,164,0.2500001", "row 1, column value: committed '0.25', new '0.2500001'"),
        ("lora,164", "lora,165", "row 2, column n_items: committed '164', new '165'"),
        ("lora", "loRA", "row 2, column method: committed 'lora', new 'loRA'"),
        ("0.1234567", "0.1235", "row 1, column lower: committed '0.1234567', new '0.1235'"),
        ("0.1234567", "", "row 1, column lower: committed '0.1234567', new ''"),
        ("0.5,\n", "0.5,0.3\n", "row 2, column lower: committed '', new '0.3'"),
        ("0.75,0.5", "0.75,low", "row 3, column lower: committed '0.5', new 'low'"),
        ("ia3,164,0.75,0.5\n", "", "number of rows: committed 3, new 2"),
        ("value,lower", "value,upper", "columns gone: lower; columns new: upper"),
        (
            "n_items,value",
            "value,n_items",
            "columns in another order: method, n_items, value, lower -> method, value, n_items, lower",
        ),
    ],
)
def test_difference_names_file_row_column_and_values(folders, before, after, difference):
    assert changed(folders, before, after) == [f"scaling.csv: {difference}"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("0.1234567", "0.1234600"),  # fitted: 3e-5 relative
        ("0.75,0.5", "0.75,0.50004"),
        ("0.5,\n", "0.5,nan\n"),
        ("fft,164,0.25", "fft,164,0.250"),  # one value, written differently
    ],
)
def test_what_counts_as_equal(folders, before, after):
    assert changed(folders, before, after) == []


@pytest.mark.parametrize(("new", "agrees"), [("0.0000009", True), ("0.0000011", False)])
def test_fitted_values_at_zero_have_an_absolute_tolerance(folders, new, agrees):
    for folder, value in zip(folders, ("0", new), strict=True):
        (folder / "scaling.csv").write_text(f"lower\n{value}\n")
    assert (twins.compare(*folders) == []) is agrees


def test_further_rows_of_a_column_are_counted(folders):
    text = (folders[1] / "scaling.csv").read_text()
    (folders[1] / "scaling.csv").write_text(text.replace("164", "163"))
    assert twins.compare(*folders) == [
        "scaling.csv: row 1, column n_items: committed '164', new '163' (and 2 more rows)"
    ]


def test_integers_are_compared_with_all_digits(folders):
    for folder, value in zip(folders, ("9007199254740993", "9007199254740992"), strict=True):
        (folder / "counts.csv").write_text(f"n\n{value}\n")
    assert len(twins.compare(*folders)) == 1


def test_figure_without_specification_has_no_tolerance(folders):
    for folder, value in zip(folders, ("0.5", "0.50000001"), strict=True):
        (folder / "other.csv").write_text(f"lower\n{value}\n")
    assert len(twins.compare(*folders)) == 1


def test_files_on_one_side_only(folders):
    (folders[0] / "gone.csv").write_text("a\n")
    (folders[1] / "fresh.csv").write_text("a\n")
    assert twins.compare(*folders) == [
        f"gone.csv: is in {folders[0]} only",
        f"fresh.csv: is in {folders[1]} only",
    ]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b"a,b\n1\n", "row 1 has 1 values for 2 columns"),
        (b'a\n"1\n', "cannot be read"),
        (b"a\n\xff\n", "cannot be read"),
    ],
)
def test_broken_table_is_a_difference(folders, content, problem):
    (folders[1] / "scaling.csv").write_bytes(content)
    (difference,) = twins.compare(*folders)
    assert difference.startswith("scaling.csv: ")
    assert problem in difference


def test_missing_and_empty_folders_are_errors(folders, tmp_path):
    with pytest.raises(Refusal, match="nowhere is not a folder"):
        twins.compare(folders[0], tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(Refusal, match="empty holds no CSV file"):
        twins.compare(tmp_path / "empty", tmp_path / "empty")


def run(*folders):
    command = [sys.executable, "-m", "astraios_analysis.render.twins", *map(str, folders)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_command(folders, tmp_path, capsys):
    assert twins.main([str(folder) for folder in folders]) == 0
    assert capsys.readouterr().out == "1 CSV twins agree\n"
    changed(folders, "lora", "ia3")
    done = run(*folders)
    assert (done.returncode, done.stdout) == (
        1,
        "scaling.csv: row 2, column method: committed 'lora', new 'ia3'\n",
    )
    assert twins.main([str(folders[0]), str(tmp_path / "nowhere")]) == 1
    assert "error: " in capsys.readouterr().err
