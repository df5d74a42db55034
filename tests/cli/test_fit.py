"""The command ``astraios fit``: its JSON, its tables, its refusals, on tables and on records."""

import pandas as pd
import pytest

import astraios_analysis as aa
from astraios_analysis.records.frame import METHODS


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """The example's three methods at six sizes, with a comment, a split, and a row that is held out and absurd."""
    path = tmp_path_factory.mktemp("fit") / "runs.csv"
    rows = pd.DataFrame(aa.example_table()).assign(split="train").to_csv(index=False)
    path.write_text(f"# source: simulated\n{rows}1e11,full,99,extrapolate\n")
    return path


COLUMNS = ("--x", "params", "--y", "loss", "--split", "split")


def test_json_of_one_fit(as_json, table):
    found, _ = as_json("fit", "--law", "power", *COLUMNS, data=table)
    assert list(found) == ["law", "formula", "params", "objective", "n_obs", "dof", "certificate"]
    assert (found["law"], found["n_obs"], found["dof"]) == ("power", 18, 16)
    assert list(found["params"]["alpha"]) == ["value", "lower", "upper", "level", "identified"]
    assert found["params"]["alpha"]["lower"] < found["params"]["alpha"]["value"] < found["params"]["alpha"]["upper"]
    assert set(found["certificate"]["checklist"]) >= {"form", "objective", "starts", "window", "N convention"}


def test_groups_apart_and_shared(as_json, table, tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text(table.read_text() + "1e6,alone,3,train\n")
    common = ("fit", "--law", "power_floor", *COLUMNS, "--group", "method")
    apart, notes = as_json(*common, data=path)
    assert [one["group"] for one in apart] == ["full", "lora", "prompt"]
    assert "alone is not fitted: no degree of freedom is left by 1 point" in notes
    shared, _ = as_json(*common, "--pooling", "shared", data=table)
    assert list(shared["params"]) == ["E", "alpha", "A[full]", "A[lora]", "A[prompt]"]
    assert shared["params"]["alpha"]["value"] == pytest.approx(0.32, abs=0.03)
    assert shared["params"]["alpha"]["identified"] is True


def test_options_reach_the_fit(as_json, table):
    options = ("--huber", "1e-3", "--fix", "A=10", "--level", "0.8")
    robust, _ = as_json("fit", "--law", "power", *COLUMNS, *options, data=table)
    assert robust["params"]["A"] == {"value": 10, "lower": 10, "upper": 10, "level": None, "identified": None}
    assert robust["params"]["alpha"]["level"] == 0.8
    assert robust["certificate"]["checklist"]["objective"].startswith("Huber loss, delta 0.001, fixed scale")
    bootstrap = ("--intervals", "bootstrap", "--resamples", "50", "--seed", "3")
    resampled, _ = as_json("fit", "--law", "power", *COLUMNS, *bootstrap, data=table)
    assert "50 bootstrap refits" in resampled["certificate"]["checklist"]["intervals"]


def test_text_names_what_is_not_identified(run, tmp_path):
    path = tmp_path / "flat.csv"
    path.write_text("n,loss\n" + "\n".join(f"{n},2.0" for n in (1e6, 1e7, 1e8, 1e9, 1e10)))
    code, out, _ = run("fit", "--law", "power_floor", "--x", "n", "--y", "loss", data=path)
    assert code == 0 and "warning: not identifiable: alpha" in out and "a report of this fit states" in out


def test_records_are_fitted_with_a_shared_exponent(as_json, simulated):
    found, _ = as_json("fit", "--law", "power", data=simulated)
    assert list(found["params"]) == ["alpha", *(f"A[{method}]" for method in METHODS)]
    # Seeds are points, and the largest size is held out.
    assert found["n_obs"] == 4 * 2 * len(METHODS)
    assert "embeddings included" in found["certificate"]["checklist"]["N convention"]


def test_laws_are_listed(run):
    code, out, _ = run("fit", "--list")
    assert code == 0 and "chinchilla" in out
