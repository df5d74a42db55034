"""One value for each grid, and for a grid without one the reason."""

import pandas as pd
import pytest

from astraios_analysis.records.frame import save
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.sources import PerGrid, load_grids
from astraios_analysis.scores.losses import final_losses


@pytest.fixture
def folder(tmp_path, make_record):
    save(make_record(run_id="a", grid="mini"), tmp_path)
    save(make_record(run_id="b", grid="bare", val_loss=None, val_loss_se=None, val_curve=()), tmp_path)
    return tmp_path


class TestLoadGrids:
    def test_all_grids_or_one(self, folder):
        assert {name: [r.run_id for r in runs] for name, runs in load_grids(folder).items()} == {
            "bare": ["b"],
            "mini": ["a"],
        }
        assert list(load_grids(folder, "mini")) == ["mini"]

    def test_released_models_come_first(self, write_tables, folder):
        write_tables(folder / "released")
        assert list(load_grids(folder)) == ["released", "bare", "mini"]


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
