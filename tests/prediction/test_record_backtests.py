"""Back-tests on records: which sizes are held out, nothing seen of them, every law scored, and the command."""

import json

import numpy as np
import pytest
from simulated_grids import LARGEST, SIZES, World, simulate

from astraios_analysis.cli.main import main
from astraios_analysis.prediction.backtest import _score_draws, backtest_records, hold_out_sizes
from astraios_analysis.records import frame as store
from astraios_analysis.records.refusal import Refusal

METHODS = ("fft", "lora", "ia3")
QUANTITIES = ["val_loss", "embedded_fix"]


def grid(**options):
    return simulate(World(seed_sd=0.01), methods=METHODS, seeds=(0, 1), held_out=(LARGEST,), **options)


@pytest.fixture(scope="module")
def found():
    return backtest_records(grid(), quantities=QUANTITIES)[0]


def sizes_of(runs):
    return sorted({run.n_params_base for run in runs})


class TestWhatIsHeldOut:
    def test_marked_sizes_unless_a_number_is_given(self):
        train, test = hold_out_sizes(grid())
        assert (sizes_of(train), sizes_of(test)) == (list(SIZES), [LARGEST])
        assert not any(run.held_out for run in test)
        train, test = hold_out_sizes(grid(), 2)
        assert (sizes_of(train), sizes_of(test)) == (list(SIZES[:2]), list(SIZES[2:]))

    def test_the_largest_where_none_is_marked(self):
        train, test = hold_out_sizes([run for run in grid() if not run.held_out])
        assert (sizes_of(train), sizes_of(test)) == (list(SIZES[:3]), [SIZES[3]])

    @pytest.mark.parametrize("n_largest", [0, 4, 9])
    def test_something_must_be_left(self, n_largest):
        with pytest.raises(Refusal, match=f"{n_largest} sizes held out of 4 .*; hold out 1 to 3"):
            hold_out_sizes(grid(), n_largest)


class TestScores:
    def test_a_true_law_is_foretold(self, found):
        loss, score = found
        assert loss["group"] == {"grid": "sim", "quantity": "val_loss"} and loss["sizes"] == ["2336k"]
        assert (loss["n_train"], loss["n_test"]) == (12, 6)
        assert loss["rmse_log"] < 0.1 < loss["persistence_rmse_log"] and loss["coverage"]["0.95"] >= 5 / 6
        assert score["rmse_log"] < score["persistence_rmse_log"]
        assert any(">logistic" in name for name in score["weights"])

    def test_every_law_and_pooling_is_scored(self, found):
        poolings = ("shared_slope", "own_slopes", "no_pooling")
        names = [(law["law"], law["pooling"]) for law in found[0]["laws"]]
        assert names == [(law, pooling) for law in ("power", "power_floor", "relative_floor") for pooling in poolings]
        for group in found:
            assert sum(law["weight"] for law in group["laws"]) == pytest.approx(1)
            assert all(law["rmse_log"] > 0 and law["n_test"] == group["n_test"] for law in group["laws"])

    def test_held_out_runs_take_no_part(self, found):
        changed = [run.model_copy(update={"val_loss": run.val_loss * (9.0 if run.held_out else 1.0)}) for run in grid()]
        (other,) = backtest_records(changed, quantities=["val_loss"])[0]
        assert other["weights"] == found[0]["weights"] and other["rmse_log"] > 1
        # A shift of all held-out losses moves the mean error by its log, and nothing else.
        squares = found[0]["rmse_log"] ** 2, other["rmse_log"] ** 2
        mean_error = (squares[0] + np.log(9) ** 2 - squares[1]) / (2 * np.log(9))
        assert abs(mean_error) <= found[0]["rmse_log"] + 1e-12

    def test_what_cannot_be_back_tested_is_named(self):
        groups, refused = backtest_records(grid(val_loss=None), quantities=["val_loss", "embedded_fix"])
        assert [group["group"]["quantity"] for group in groups] == ["embedded_fix"]
        text = "val_loss: these runs have no validation loss, so none is predicted; a grid trained here measures it"
        assert refused == [text]


class TestCommand:
    @pytest.fixture
    def folder(self, tmp_path):
        for run in grid():
            store.save(run, tmp_path / "runs")
        return tmp_path

    def test_json_has_the_shape_of_tables(self, folder, capsys):
        assert main(["backtest", "--data", str(folder), "--dataset", "val_loss", "--hold-out", "1", "--json"]) == 0
        printed = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
        assert set(printed) == {"mean", "groups", "procedure"} and len(printed["groups"]) == 1
        assert set(printed["mean"]) == {"rmse_log", "mean_abs_pct", "coverage", "interval_score", "weights"}
        assert set(printed["mean"]["coverage"]) == {"0.5", "0.8", "0.95"} and "AICc" in printed["procedure"]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--law", "power"], "--law is for a table"),
            (["--dataset", "mbpp"], "unknown data set 'mbpp'; choose from val_loss"),
            (["--hold-out", "4", "--dataset", "val_loss"], "4 sizes held out of 4"),
        ],
    )
    def test_refusals(self, folder, capsys, options, message):
        assert main(["backtest", "--data", str(folder), *options]) == 2
        assert message in capsys.readouterr().err


def test_an_interval_that_ends_at_zero_is_scored_by_what_items_can_tell():
    measured, n_items = np.array([0.5 / 51]), np.array([50.0])
    found = _score_draws(measured, np.zeros((100, 1)), n_items)
    # Measured and drawn both stand at half a problem of 51: no width, and nothing outside.
    assert found["interval_score"] == pytest.approx(0.0, abs=1e-9)
