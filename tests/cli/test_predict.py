"""``astraios predict``: records and tables, one grid and several, one seed and several."""

import json

import pandas as pd
import pytest
from simulated_grids import LARGEST, simulate

KEYS = ["size", "n_params", "at", "group", "dataset", "method", "quantity", "value", "intervals", "reach", "weights"]
PREDICT = ["predict", "--method", "lora", "--size", "34b"]


class TestPredict:
    def test_json_is_what_was_promised(self, as_json):
        # What is named twice counts once.
        found, notes = as_json(*PREDICT, *PREDICT[1:], *2 * ("--dataset", "recode_format"))
        assert isinstance(found, list) and [list(one) for one in found] == [KEYS]
        (one,) = found
        assert (one["size"], one["method"], one["quantity"]) == ("34b", "lora", "recode_format")
        assert one["n_params"] == 34_000_000_000 and isinstance(one["n_params"], int)
        assert one["reach"] == pytest.approx(34e9 / 15_517_456_384)
        assert set(one["weights"]) == {"logit_power/suite"}
        assert sum(one["weights"].values()) == pytest.approx(1, abs=1e-5)
        intervals = {(i["level"], i["kind"]): i for i in one["intervals"]}
        assert set(intervals) == {(level, kind) for level in (0.5, 0.8, 0.95) for kind in ("mean", "observation")}
        for interval in intervals.values():
            assert list(interval) == ["level", "kind", "lower", "upper"]
            assert 0 <= interval["lower"] < one["value"] < interval["upper"] <= 1
        assert intervals[0.95, "mean"]["upper"] < intervals[0.95, "observation"]["upper"]
        assert "this is an extrapolation" in notes

    def test_the_back_test_and_the_weights_are_printed(self, run, released_data, tmp_path):
        files = ["--plot", tmp_path / "p.png", "--csv", tmp_path / "p.csv"]
        code, out, _ = run(*PREDICT[:-1], "7b,34b", "--dataset", "recode_format", *files, data=released_data)
        _, line = [line for line in out.splitlines() if line.startswith("recode_format")]
        assert code == 0 and "95 % PI" in out and line.split()[-2:] == ["4", "2.191"]
        assert "recode_format: 7 runs, mean error" in out and "laws: logit_power/suite" in out
        table = pd.read_csv(tmp_path / "p.csv")
        assert table["size"].tolist() == ["7b", "34b"]
        assert table["value"].round(4).tolist()[1] == pytest.approx(float(line.split()[4]), abs=1e-3)
        assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")

    def test_method_without_scores(self, as_json, refusal, own_grid):
        folder = own_grid(scored=lambda method: method != "ia3")
        for options in ([], ["--dataset", "embedded_fix"]):
            message = refusal("predict", "--method", "ia3", "--size", "5m", *options, data=folder)
            assert "ia3 has no embedded_fix to fit; choose from fft, lora, ptuning, adapterh" in message
            found, _ = as_json("predict", "--size", "5m", *options, data=folder)
            assert [one["method"] for one in found] == ["fft", "lora", "ptuning", "adapterh"]

    def test_no_scores_at_all(self, refusal, own_grid):
        folder = own_grid(scored=lambda method: False)
        assert "no data set here has primary scores at three sizes" in refusal(*PREDICT, data=folder)


def test_losses_and_scores_are_predicted(run, as_json, simulated):
    found, err = as_json("predict", "--size", "2336k", "--method", "lora", data=simulated)
    found = {one["quantity"]: one for one in found}
    assert list(found) == ["val_loss", "embedded_synthesis", "embedded_fix"] and "extrapolation" in err
    truth = next(r for r in simulate(held_out=(LARGEST,), seeds=(0, 1)) if r.held_out and r.method == "lora")
    assert found["val_loss"]["value"] == pytest.approx(truth.val_loss, rel=0.1)
    assert sum(found["embedded_fix"]["weights"].values()) == pytest.approx(1)
    code, out, _ = run("predict", "--size", "2336k", "--dataset", "val_loss", data=simulated)
    assert code == 0 and "Back-test" in out and "power_floor" in out


class TestSeveralGrids:
    def test_are_never_mixed(self, run, as_json, two_grids):
        code, out, err = run(*PREDICT, "--dataset", "recode_format", data=two_grids)
        assert code == 0 and "grid released; there is also own (--grid NAME)" in err
        assert out == run(*PREDICT, "--dataset", "recode_format", "--grid", "released", data=two_grids)[1]
        found, _ = as_json("rank", "--grid", "own", data=two_grids)
        assert {row["size"] for row in found["ranks"]} == {"13k", "51k", "213k", "727k"}
        found, _ = as_json("predict", "--method", "lora", "--size", "2m", "--grid", "own", data=two_grids)
        assert [one["reach"] for one in found] == [pytest.approx(2e6 / 727_296)]

    def test_a_damaged_run_of_another_grid_stops_nothing_but_its_own(self, run, two_grids):
        damaged = next((two_grids / "runs").glob("*lora*.json"))
        damaged.write_text(damaged.read_text().replace('"lora"', '"lo ra"'))
        assert run(*PREDICT, "--dataset", "recode_format", data=two_grids)[0] == 0
        assert run("rank", "--grid", "own", data=two_grids)[0] == 1
        assert run("records", "check", two_grids)[0] == 1

    def test_without_released_models_one_must_be_named(self, refusal, two_grids):
        (two_grids / "released").unlink()
        one = json.loads(next((two_grids / "runs").rglob("*.json")).read_text())
        other = {**one, "grid": "other", "run_id": "other-run"}
        (two_grids / "runs" / "other-run.json").write_text(json.dumps(other))
        message = "scores of different grids do not compare, and there are 2: other, own; choose one with --grid"
        assert refusal("rank", data=two_grids) == message


class TestSeveralSeeds:
    @pytest.mark.parametrize("command", [["rank"], ["predict", "--method", "all", "--size", "5m"]])
    def test_are_replicates_unless_one_is_chosen(self, refusal, run, own_grid, command):
        folder = own_grid(seeds=(3, 4))
        assert run(*command, data=folder)[0] == run(*command, "--run-seed", "4", data=folder)[0] == 0
        assert refusal(*command, "--run-seed", "5", data=folder) == "no run with seed 5; choose from 3, 4"

    def test_show_filters_by_seed(self, run, own_grid):
        out = run("records", "show", "--run-seed", "3", "--format", "json", data=own_grid(seeds=(3, 4)))[1]
        assert {row["seed"] for row in json.loads(out)} == {3}
