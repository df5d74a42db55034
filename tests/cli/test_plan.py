"""``astraios plan``: runs of a grid, and rows of a table."""

import re

import pandas as pd
import pytest
from law_worlds import losses_on_grid

from training.spec.grids import preset


class TestPlan:
    def test_runs_and_frontier(self, run, as_json, simulated):
        found, _ = as_json("plan", "--size", "5m", "--dataset", "embedded_fix", "--cost", "flop", data=simulated)
        assert list(found) == ["choices", "frontier"]
        assert [row["option"] for row in found["choices"] if row["advice"]] and found["choices"][0]["flop"] == 0
        assert {row["kind"] for row in found["frontier"]} == {"measured", "predicted"}
        _, out, _ = run("plan", "--size", "5m", "--dataset", "embedded_fix", data=simulated)
        assert f"  {found['choices'][0]['expected_regret']:.3g} " in out.splitlines()[3]
        code, out, err = run("plan", "--size", "5m", data=simulated)
        assert code == 0 and "What choosing a method by val_loss at 5e+06 base parameters gives up on average" in out
        assert "base models of new sizes are not counted" in err

    def test_what_is_advised_can_be_trained(self, run):
        asked = ("--size", "16b", "--dataset", "humanevalsynthesize_python", "--candidate-size", "16b")
        code, out, err = run("plan", *asked, "--budget", "2 gpu-days")
        runs = re.search(r"within the budget: .* \((7b|16b): ([a-z0-9 ]+)\)", err)
        assert code == 0 and "halving: 7 at 7b, 4 at 16b" in out and runs
        assert "python -m training grid spec --preset starcoderbase > grid.toml" in err
        known = preset("starcoderbase")
        assert runs[1] in [size.name for size in known.sizes]
        assert set(runs[2].split()) <= set(known.methods)


class TestTable:
    @pytest.fixture
    def pool(self, tmp_path):
        theta = [1.7, 400, 600, 0.34, 0.3]
        table = losses_on_grid("chinchilla", theta, noise=0, n=6, sizes=(2e7, 1e9), tokens=(5e8, 5e10))
        table.insert(0, "run", range(36))
        table.loc[table["N"] * table["D"] > 2e18, "loss"] = None
        table.to_csv(tmp_path / "pool.csv", index=False)
        pd.DataFrame({"N": [4e9], "D": [2e11]}).to_csv(tmp_path / "big.csv", index=False)
        columns = ("--x", "N,D", "--y", "loss", "--law", "chinchilla")
        return tmp_path, (*columns, "--target", tmp_path / "big.csv", "--budget", "20%")

    def test_rows_can_be_run_as_printed(self, pool, run, as_json):
        where, asked = pool
        code, out, _ = run("plan", *asked, "--cost", "6*N*D", "--csv", where / "batch.csv", data=where / "pool.csv")
        assert code == 0 and "error of the law at the target rows" in out
        found, _ = as_json("plan", *asked, "--cost", "C", "--derive", "C=6*N*D", data=where / "pool.csv")
        table, batch = pd.read_csv(where / "pool.csv"), pd.read_csv(where / "batch.csv")
        chosen = table.iloc[[row["row"] - 1 for row in found["batch"]]].reset_index(drop=True)
        assert batch.equals(chosen) and chosen["loss"].isna().all()
        assert all(str(value) in out for value in chosen["N"])
        assert found["spent"] + chosen.eval("6*N*D").sum() <= 0.2 * table.eval("6*N*D").sum() * (1 + 1e-9)
        assert found["error_now"] > found["batch"][-1]["error_after"]
