"""Figures by their names: declared whole, drawn for every grid that can answer, saved whole with their tables."""

import hashlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import pyplot
from matplotlib.figure import Figure

from astraios_analysis.figures import gallery
from astraios_analysis.figures.gallery import FIGURES, Tables, draw, drawn_figures, find_spec
from astraios_analysis.figures.spec import SIGNIFICANT_DIGITS, FigureSpec, figure, figure_stem, round_table, save
from astraios_analysis.figures.style import small_multiples
from astraios_analysis.records.frame import RecordError
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.sources import PerGrid

A = SimpleNamespace(method="fft", grid="own")
NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


@pytest.mark.parametrize(
    ("said", "message"),
    [({"level": 2}, "level is 2"), ({"cost": "euros"}, "unknown cost 'euros'"), ({"target": "-3"}, "size '-3' is not")],
)
def test_what_no_figure_can_be_drawn_with_is_refused_at_once(said, message):
    with pytest.raises(Refusal, match=message):
        Tables([A], **said)
    assert Tables([A], target="34b").target == 34e9


class TestDeclared:
    @pytest.mark.parametrize("name", [*FIGURES])
    def test_every_figure_is_declared_whole(self, name):
        spec = FIGURES[name]
        assert spec.name == name and spec.title and spec.question.endswith("?")
        assert spec.caption.endswith(".") and not re.search(r"[{}]", spec.describe())
        assert set(inspect.signature(spec.rows or spec.draw).parameters) <= set(dir(Tables([])))
        assert not spec.rows or list(inspect.signature(spec.draw).parameters) == ["table"]
        assert f'aa.draw(\\"{name}\\", tables' in (NOTEBOOKS / f"{spec.notebook}.ipynb").read_text()
        assert spec.say(pd.DataFrame()) is spec.say(None) is None

    def test_caption_names_the_level_and_the_target_that_a_notebook_ran_with(self):
        spec = FigureSpec("name", "Title", "notebook", "Bars: {level} intervals at {target}; 50 % thick")
        assert spec.describe() == "Bars: 95 % intervals at 34B; 50 % thick"
        assert spec.describe(level=0.975, target_size=7e10) == "Bars: 97.5 % intervals at 70B; 50 % thick"


@pytest.fixture
def counted(monkeypatch):
    """Declare a figure that counts runs, and refuses where there is none."""
    monkeypatch.setattr(gallery, "FIGURES", FIGURES.copy())
    monkeypatch.setattr("astraios_analysis.figures.spec.FIGURES", gallery.FIGURES)

    @figure("counted", notebook="n", title="t", caption="c", question="q?", answer=lambda table: f"{len(table)} rows.")
    def draw_count(runs, level):
        if not runs:
            raise Refusal("no <runs>")
        return small_multiples(1, 1)[0], pd.DataFrame({"n": [len(runs)], "level": level})

    return PerGrid({"released": Tables([A]), "own": Tables([A, A], level=0.5), "bare": Tables([])})


@pytest.fixture
def shared(counted):
    """Declare a figure that grids share, whose panels are their runs; and two grids with runs, one without."""

    def rows(runs):
        if not runs:
            raise Refusal("no <runs>")
        columns = {"n": list(range(len(runs)))} | ({"extra": [1] * len(runs)} if len(runs) > 1 else {})
        return pd.DataFrame(columns)

    @figure("shared", notebook="n", title="t", caption="c", question="q?", rows=rows)
    def draw_shared(table):
        return small_multiples(table["grid"].nunique(), 3)[0]

    return PerGrid({"released": Tables([A]), "own": Tables([A, A]), "bare": Tables([])})


def test_one_file_has_the_rows_of_all_grids(shared, tmp_path):
    shared["released"].runs = [SimpleNamespace(method="fft", grid="released")]
    drawn = draw("shared", shared, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"shared.csv", "shared.pdf", "shared.png"}
    # Whole numbers stay whole where one grid has no such column.
    assert (tmp_path / "shared.csv").read_text() == "grid,n,extra\nreleased,0,\nown,0,1\nown,1,1\n"
    assert drawn.lacking == {"bare": "no <runs>"} and list(drawn.pictures) == ["released and own"]
    assert find_spec("shared", gallery.FIGURES)[1] == "" and find_spec("shared_own", gallery.FIGURES) is None
    picture, table = Tables([A]).draw("shared")
    assert len(picture.axes) == 1 and table.to_dict("list") == {"grid": ["own"], "n": [0]}


def test_files_carry_the_grid_and_reasons_are_shown(counted, tmp_path):
    drawn = draw("counted", counted, tmp_path)
    assert {path.stem for path in tmp_path.iterdir()} == {"counted", "counted_own"}
    assert len(list(tmp_path.iterdir())) == 6
    assert drawn.table.to_dict("list") == {"grid": ["released", "own"], "n": [1, 2], "level": [0.95, 0.5]}
    assert drawn.lacking == {"bare": "no <runs>"} and gallery.FIGURES["counted"].say(drawn.table) == "2 rows."
    page = drawn._repr_html_()
    assert page.count("<img ") == 2 and "Grid <b>bare</b> is not shown: no &lt;runs&gt;" in page
    with pytest.raises(Refusal, match="unknown figure 'countd'; choose from backtest, best_method, "):
        counted["own"].draw("countd")


@pytest.mark.parametrize(("name", "bare", "left"), [("counted", "own", {"counted"}), ("shared", "bare", set())])
def test_files_of_other_records_are_removed(shared, tmp_path, name, bare, left):
    draw(name, shared, tmp_path)
    draw(name, PerGrid({bare: Tables([])}), tmp_path)
    assert {path.stem for path in tmp_path.iterdir()} == left


@pytest.mark.parametrize(
    ("stem", "name", "grid"),
    [
        ("cross_entropy", "cross_entropy", "released"),
        ("cross_entropy_ladder", "cross_entropy", "ladder"),
        ("cross_entropy_by_step_ladder", "cross_entropy_by_step", "ladder"),
    ],
)
def test_a_stem_names_figure_and_grid(stem, name, grid):
    spec, found = find_spec(stem)
    assert (spec.name, found) == (name, grid) and figure_stem(name, grid) == stem
    assert find_spec("budget") is None


def test_figures_of_a_notebook_that_have_files(tmp_path):
    names = "contrasts_ladder.png task_performance_ladder.csv task_performance.csv budget.csv contrasts.txt"
    for name in (*names.split(), "mean_performance.png", "mean_performance_ladder.png"):
        (tmp_path / name).write_text("")
    found = [(stem, grid) for stem, _, grid in drawn_figures(tmp_path, "task_performance")]
    expected = {"contrasts_ladder": "ladder", "task_performance": "released", "task_performance_ladder": "ladder"}
    assert found == [*expected.items(), ("mean_performance", "")]


ROOT = Path(__file__).parents[2]
DRAW = """
import sys
from astraios_analysis.figures.gallery import Tables
from astraios_analysis.figures.spec import save
from astraios_analysis.records.files import load_folder

tables = Tables(load_folder(sys.argv[1]))
save(*tables.draw("updated_parameters"), "updated_parameters", sys.argv[2])
"""


@pytest.fixture
def picture():
    picture, (panel,) = small_multiples(1, 1)
    panel.plot([1, 2], [1, 2])
    panel.set_title("Ein Titel (IA)³")
    yield picture
    pyplot.close("all")


TABLE = pd.DataFrame({"size": ["1b", "7b"], "n": [3, 4], "value": [0.1, np.nan]})


def checksums(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


class TestSave:
    def test_writes_three_files_without_a_date_and_closes_the_figure(self, picture, tmp_path):
        folder = tmp_path / "new" / "folder"
        written = save(picture, TABLE, "name", folder)
        assert sorted(written) == sorted(folder.iterdir())
        assert [path.name for path in sorted(written)] == ["name.csv", "name.pdf", "name.png"]
        assert all(path.stat().st_mode & 0o777 == 0o644 for path in written)
        assert not pyplot.fignum_exists(picture.number)
        assert (folder / "name.csv").read_text() == "size,n,value\n1b,3,0.1\n7b,4,\n"
        pdf, png = ((folder / f"name.{kind}").read_bytes() for kind in ("pdf", "png"))
        # Text of the PDF is text.
        assert b"Date" not in pdf and b"/Type3" not in pdf and b"/FontFile2" in pdf
        assert not [chunk for chunk in (b"tIME", b"tEXt", b"iTXt") if chunk in png]

    def test_name_of_a_file_where_the_folder_should_be(self, picture, tmp_path):
        (tmp_path / "taken").write_text("")
        with pytest.raises(RecordError, match=r"taken/name: cannot write the figure \(File exists\); .*another folder"):
            save(picture, TABLE, "name", tmp_path / "taken")

    @pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("cannot draw")])
    def test_failure_leaves_what_was_there(self, picture, tmp_path, monkeypatch, error):
        save(picture, TABLE, "name", tmp_path)
        before = checksums(tmp_path)
        savefig = Figure.savefig

        def fail_at_png(self, path, **options):
            savefig(self, path, **options)
            if options["format"] == "png":
                raise error

        monkeypatch.setattr(Figure, "savefig", fail_at_png)
        with pytest.raises((RecordError, ValueError), match=r"No space left|cannot draw"):
            save(picture, TABLE.assign(n=0), "name", tmp_path)
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
