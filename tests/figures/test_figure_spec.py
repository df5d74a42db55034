"""What figures are called, and how they and their tables reach the disk."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import pyplot
from matplotlib.figure import Figure

from astraios_analysis.figures.gallery import Tables
from astraios_analysis.figures.spec import SIGNIFICANT_DIGITS, round_table, save
from astraios_analysis.figures.style import small_multiples
from astraios_analysis.records.frame import RecordError

ROOT = Path(__file__).parents[2]
DRAW = """
import sys
from astraios_analysis.figures.gallery import Tables
from astraios_analysis.figures.spec import save
from astraios_analysis.records.released import load_released

tables = Tables(load_released(sys.argv[1]))
save(*tables.draw("updated_parameters"), "updated_parameters", sys.argv[2])
"""


@pytest.fixture
def figure():
    figure, (panel,) = small_multiples(1, 1)
    panel.plot([1, 2], [1, 2])
    panel.set_title("Ein Titel (IA)³")
    yield figure
    pyplot.close("all")


TABLE = pd.DataFrame({"size": ["1b", "7b"], "n": [3, 4], "value": [0.1, np.nan]})


def checksums(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


class TestSave:
    def test_writes_three_files_without_a_date_and_closes_the_figure(self, figure, tmp_path):
        folder = tmp_path / "new" / "folder"
        written = save(figure, TABLE, "name", folder)
        assert sorted(written) == sorted(folder.iterdir())
        assert [path.name for path in sorted(written)] == ["name.csv", "name.pdf", "name.png"]
        assert all(path.stat().st_mode & 0o777 == 0o644 for path in written)
        assert not pyplot.fignum_exists(figure.number)
        assert (folder / "name.csv").read_text() == "size,n,value\n1b,3,0.1\n7b,4,\n"
        pdf, png = ((folder / f"name.{kind}").read_bytes() for kind in ("pdf", "png"))
        # Text of the PDF is text.
        assert b"Date" not in pdf and b"/Type3" not in pdf and b"/FontFile2" in pdf
        assert not [chunk for chunk in (b"tIME", b"tEXt", b"iTXt") if chunk in png]

    def test_name_of_a_file_where_the_folder_should_be(self, figure, tmp_path):
        (tmp_path / "taken").write_text("")
        with pytest.raises(RecordError, match=r"taken/name: cannot write the figure \(File exists\); .*--out"):
            save(figure, TABLE, "name", tmp_path / "taken")

    @pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("cannot draw")])
    def test_failure_leaves_what_was_there(self, figure, tmp_path, monkeypatch, error):
        save(figure, TABLE, "name", tmp_path)
        before = checksums(tmp_path)
        savefig = Figure.savefig

        def fail_at_png(self, path, **options):
            savefig(self, path, **options)
            if options["format"] == "png":
                raise error

        monkeypatch.setattr(Figure, "savefig", fail_at_png)
        with pytest.raises((RecordError, ValueError), match=r"No space left|cannot draw"):
            save(figure, TABLE.assign(n=0), "name", tmp_path)
        assert checksums(tmp_path) == before

    def test_other_process_other_clock_same_bytes(self, released_folder, released_records, tmp_path):
        clock = {"PYTHONHASHSEED": "2", "TZ": "Asia/Tokyo", "SOURCE_DATE_EPOCH": "1"}
        command = [sys.executable, "-c", DRAW, str(released_folder), str(tmp_path / "second")]
        bare = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
        made = subprocess.run(command, cwd=ROOT, env=bare | clock, capture_output=True, timeout=600)
        assert (made.returncode, made.stderr) == (0, b"")
        save(*Tables(released_records).draw("updated_parameters"), "updated_parameters", tmp_path / "first")
        assert checksums(tmp_path / "first") == checksums(tmp_path / "second")
        assert len(checksums(tmp_path / "first")) == 3


floats = st.floats(allow_subnormal=False)


class TestRoundTable:
    @given(st.lists(floats, min_size=1))
    def test_eight_digits_and_no_more(self, values):
        once = round_table(pd.DataFrame({"x": values}))
        pd.testing.assert_frame_equal(round_table(once), once, check_exact=True)
        for value, short in zip(values, once["x"].to_numpy(), strict=True):
            if np.isfinite(value):
                assert abs(short - value) <= 0.51 * abs(value) * 10.0 ** (1 - SIGNIFICANT_DIGITS)
                # The shortest text of a number: what the CSV holds.
                assert len(repr(float(short)).split("e")[0].replace(".", "").strip("-0")) <= SIGNIFICANT_DIGITS
            else:
                assert short == value or (np.isnan(short) and np.isnan(value))

    def test_other_columns_and_the_input_stay_as_they_are(self):
        columns = {"n": [15_517_456_384, 1], "name": ["a", "b"], "flag": [True, False], "x": [1 / 3, 2.0]}
        table = pd.DataFrame(columns, index=[5, 5]).astype({"n": "Int64"})
        before = table.copy()
        rounded = round_table(table)
        pd.testing.assert_frame_equal(table, before)
        assert rounded["x"].tolist() == [0.33333333, 2.0]
        assert rounded[["n", "name", "flag"]].to_dict("list") == table[["n", "name", "flag"]].to_dict("list")
        assert list(rounded.index) == [0, 1]


def test_what_an_interrupt_leaves_is_a_draft_that_the_next_run_overwrites(figure, tmp_path, monkeypatch):
    write = Path.write_bytes

    def interrupted(self, content):
        write(self, content[:10])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(figure, TABLE, "name", tmp_path)
    # The name's form is in .gitignore.
    assert [path.name for path in tmp_path.iterdir()] == [".name.csv.part"]
    monkeypatch.undo()
    save(small_multiples(1, 1)[0], TABLE, "name", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"name.csv", "name.pdf", "name.png"}
