"""Back-tests: which sizes are held out, nothing seen of them, every law scored, and the command."""

import json

import numpy as np
import pytest
from simulated_grids import LARGEST, SIZES, World, simulate

from astraios_analysis.cli.main import main
from astraios_analysis.prediction import backtest
from astraios_analysis.prediction.outcome import record_outcome
from astraios_analysis.records import frame as store
from astraios_analysis.records.refusal import Refusal

METHODS = ("fft", "lora", "ia3")
QUANTITIES = ["val_loss", "embedded_fix"]


def grid(**options):
    return simulate(World(seed_sd=0.01), methods=METHODS, seeds=(0, 1), held_out=(LARGEST,), **options)


@pytest.fixture(scope="module")
def found():
    return backtest.backtest_records(grid(), quantities=QUANTITIES)[0]


def sizes_of(runs):
    return sorted({run.n_params_base for run in runs})


MARKED, BARE = grid(), [run for run in grid() if not run.held_out]


@pytest.mark.parametrize(
    ("runs", "n_largest", "small", "large"),
    [
        (MARKED, None, list(SIZES), [LARGEST]),
        (MARKED, 2, list(SIZES[:2]), list(SIZES[2:])),
        (BARE, None, list(SIZES[:3]), [SIZES[3]]),
    ],
    ids=["marked sizes", "as many as are asked for", "the largest where none is marked"],
)
def test_what_is_held_out(runs, n_largest, small, large):
    train, test = backtest.hold_out_sizes(runs, n_largest)
    assert (sizes_of(train), sizes_of(test)) == (small, large) and not any(run.held_out for run in test)


@pytest.mark.parametrize("n_largest", [0, 4, 9])
def test_something_must_be_left(n_largest):
    with pytest.raises(Refusal, match=f"{n_largest} sizes held out of 4 .*; hold out 1 to 3"):
        backtest.hold_out_sizes(MARKED, n_largest)
    with pytest.raises(Refusal, match="1 size held out of 1 leave nothing to fit or to predict; measure another size"):
        backtest.hold_out_sizes(BARE[:1])


class TestNothingIsSeen:
    @pytest.mark.parametrize("quantity", QUANTITIES)
    def test_values_of_the_largest_size_do_not_move_its_prediction(self, quantity):
        def worse(run):
            scores = tuple(s.model_copy(update={"value": s.value / 2, "problems": None}) for s in run.scores)
            return run.model_copy(update={"val_loss": 3 * run.val_loss, "scores": scores})

        changed = [worse(run) if run.n_params_base == SIZES[-1] else run for run in BARE]
        one, two = (backtest.largest_from_smaller(record_outcome(runs, quantity)) for runs in (BARE, changed))
        ends = ["predicted", "lower_95", "upper_95", "lower_50", "upper_50", "persistence"]
        np.testing.assert_array_equal(one[ends], two[ends])
        errors = [backtest.describe(table)["mean_abs_error"] for table in (one, two)]
        assert (one["value"] != two["value"]).all() and errors[1] > errors[0]

    def test_marked_runs_take_no_part(self, found):
        changed = [run.model_copy(update={"val_loss": run.val_loss * (9.0 if run.held_out else 1.0)}) for run in MARKED]
        (other,) = backtest.backtest_records(changed, quantities=["val_loss"])[0]
        assert other["weights"] == found[0]["weights"]
        np.testing.assert_array_equal(other["rows"]["predicted"], found[0]["rows"]["predicted"])
        np.testing.assert_allclose(other["rows"]["value"], 9 * found[0]["rows"]["value"])


class TestScores:
    def test_a_true_law_is_foretold(self, found):
        loss, score = found
        assert loss["group"] == {"grid": "sim", "quantity": "val_loss"} and loss["sizes"] == ["2336k"]
        assert (loss["n_train"], loss["n_test"]) == (12, 6)
        assert loss["rmse_log"] < 0.1 < loss["persistence_rmse_log"] and loss["coverage"]["0.95"] >= 5 / 6
        assert score["rmse_log"] < score["persistence_rmse_log"]
        assert any(">logistic" in name for name in score["weights"])
        for rows in (loss["rows"], score["rows"]):
            assert len(rows) == 6 and set(rows["method"]) == set(METHODS)
            inside = (rows["lower_95"] <= rows["value"]) & (rows["value"] <= rows["upper_95"])
            assert inside.tolist() == rows["covered_95"].tolist()
            np.testing.assert_allclose(rows["error"], rows["predicted"] - rows["value"])

    def test_what_cannot_be_back_tested_is_named(self):
        groups, refused = backtest.backtest_records(grid(val_loss=None), quantities=["val_loss", "embedded_fix"])
        assert [group["group"]["quantity"] for group in groups] == ["embedded_fix"]
        text = "val_loss: these runs have no validation loss, so none is predicted; a grid trained here measures it"
        assert refused == [text]

    def test_an_interval_that_ends_at_zero_is_scored_by_what_items_can_tell(self, found):
        outcome = record_outcome(grid(n_problems=50), "embedded_fix")
        nothing = {name: [0.0] for name in ("value", "predicted", "lower_50", "upper_50", "lower_80", "upper_80")}
        rows = found[1]["rows"].iloc[:1].assign(**nothing, lower_95=0.0, upper_95=0.0, n_items=50)
        # Measured and predicted both stand at half a problem of 51: no width, and nothing outside.
        assert backtest.score_rows(outcome, rows)["interval_score"] == pytest.approx(0.0, abs=1e-9)


def test_command(tmp_path, capsys):
    for run in MARKED:
        store.save(run, tmp_path / "runs")
    asked = ["backtest", "--data", str(tmp_path)]
    assert main([*asked, "--dataset", "val_loss", "--hold-out", "1", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert set(printed) == {"mean", "groups", "rows", "procedure"} and len(printed["groups"]) == 1
    assert set(printed["mean"]) == {"rmse_log", "mean_abs_pct", "coverage", "interval_score", "weights"}
    assert set(printed["mean"]["coverage"]) == {"0.5", "0.8", "0.95"} and "AICc" in printed["procedure"]
    assert {"size", "method", "value", "predicted", "lower_95", "upper_95"} <= printed["rows"][0].keys()
    unknown = "unknown data set 'mbpp'; choose from val_loss"
    for options, message in ((["--law", "power"], "--law is for a table"), (["--dataset", "mbpp"], unknown)):
        assert main([*asked, *options]) == 2 and message in capsys.readouterr().err
