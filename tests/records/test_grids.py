"""One value for each grid, and for a grid without one the reason."""

import pandas as pd
import pytest
from matplotlib import pyplot

from astraios_analysis import figures
from astraios_analysis.figures import find_spec
from astraios_analysis.figures.style import small_multiples
from astraios_analysis.records.frame import RecordError, save
from astraios_analysis.records.grids import PerGrid, load_grids
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.scores.losses import final_losses


@pytest.fixture
def folder(tmp_path, make_record):
    save(make_record(run_id="a", grid="mini"), tmp_path)
    save(make_record(run_id="b", grid="bare", val_loss=None, val_loss_se=None, val_curve=()), tmp_path)
    return tmp_path


def draw_table(table, note=""):
    figure, (panel,) = small_multiples(1, 1)
    panel.set_title(note)
    return figure, table


class TestLoadGrids:
    def test_all_grids_or_one(self, folder):
        assert {name: [r.run_id for r in runs] for name, runs in load_grids(folder).items()} == {
            "bare": ["b"],
            "mini": ["a"],
        }
        assert list(load_grids(folder, "mini")) == ["mini"]

    def test_released_models_come_first(self, released_folder, folder):
        (folder / "released").symlink_to(released_folder)
        assert list(load_grids(folder)) == ["released", "bare", "mini"]

    def test_unknown_grid(self, folder):
        with pytest.raises(RecordError, match="unknown grid 'midi'; choose from bare, mini"):
            load_grids(folder, "midi")


class TestMap:
    def test_reasons_are_kept_and_passed_on(self, folder):
        losses = load_grids(folder).map(final_losses)
        assert list(losses) == ["mini"] and "none of these runs has a validation loss" in losses.lacking["bare"]
        counts = losses.map(len)
        assert dict(counts) == {"mini": 1} and counts.lacking == losses.lacking
        with pytest.raises(KeyError, match="none of these runs has a validation loss"):
            counts["bare"]
        assert repr(counts).splitlines() == [f"mini: {counts['mini']}", f"bare: {counts.lacking['bare']}"]

    def test_other_arguments_are_those_of_the_grid(self):
        left, right = PerGrid({"a": 1, "b": 2}), PerGrid({"a": 10}, {"b": "has none"})
        assert dict(left.map(lambda x, y, z=0: x + y + z, right, z=left)) == {"a": 12}
        assert left.map(lambda x, y: x + y, right).lacking == {"b": "has none"}

    def test_only_refusals_are_caught(self):
        def fail(value, error):
            raise error

        assert PerGrid({"a": 1}).map(fail, Refusal("no loss")).lacking == {"a": "no loss"}
        with pytest.raises(ValueError, match="a fault"):
            PerGrid({"a": 1}).map(fail, ValueError("a fault"))

    def test_tables_stand_below_one_another(self):
        tables = PerGrid({"a": pd.DataFrame({"x": [1, 2]}), "b": pd.DataFrame({"x": [3]})})
        assert tables.table.to_dict("list") == {"grid": ["a", "a", "b"], "x": [1, 2, 3]}
        assert PerGrid({}, {"a": "no loss"}).table.to_dict("list") == {"grid": ["a"], "lacks": ["no loss"]}


class TestDraw:
    def test_files_carry_the_grid_and_reasons_are_shown(self, tmp_path):
        tables = PerGrid({"released": pd.DataFrame({"x": [1]}), "own": pd.DataFrame({"x": [2]})}, {"bare": "no <loss>"})
        drawn = figures.draw("loss_correlation", draw_table, tables, note="n", figures_dir=tmp_path)
        stems = {"loss_correlation", "loss_correlation_own"}
        assert {path.stem for path in tmp_path.iterdir()} == stems and len(list(tmp_path.iterdir())) == 6
        assert drawn.table["grid"].tolist() == ["released", "own"] and drawn.lacking == {"bare": "no <loss>"}
        page = drawn._repr_html_()
        assert page.count("<img ") == 2 and "Grid <b>bare</b> is not shown: no &lt;loss&gt;" in page
        pyplot.close("all")

    def test_files_of_other_records_are_removed(self, tmp_path):
        tables = PerGrid({"own": pd.DataFrame({"x": [2]})})
        figures.draw("loss_correlation", draw_table, tables, figures_dir=tmp_path)
        figures.draw("loss_correlation", draw_table, PerGrid({}, {"own": "no loss"}), figures_dir=tmp_path)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("stem", "name", "grid"),
    [
        ("cross_entropy", "cross_entropy", "released"),
        ("cross_entropy_mini", "cross_entropy", "mini"),
        ("cross_entropy_by_step_mini", "cross_entropy_by_step", "mini"),
    ],
)
def test_a_stem_names_figure_and_grid(stem, name, grid):
    spec, found = find_spec(stem)
    assert (spec.name, found) == (name, grid) and figures.figure_stem(name, grid) == stem


def test_a_stem_of_no_figure():
    assert find_spec("budget") is None
