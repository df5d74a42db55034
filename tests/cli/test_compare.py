"""``astraios compare``."""

import csv
import io

FIELDS = ["method_a", "method_b", "size", "n_params", "dataset", "difference", "stderr", "lower", "upper", "level"]
FIELDS += ["scope", "tipping_sd", "interval"]


def test_json_has_these_models_first(as_json):
    found, notes = as_json("compare", "lora", "fft", "--size", "7b")
    assert [row["scope"] for row in found] == ["these models", "other models"]
    assert all(list(row) == FIELDS for row in found) and found[1]["stderr"] is None
    assert "mean_generation: mean over Synthesize Python" in notes


def test_csv_is_printed_or_written(run, released_data, tmp_path):
    _, out, _ = run("compare", "lora", "fft", "--csv", data=released_data)
    printed = list(csv.DictReader(io.StringIO(out)))
    assert len(printed) == 6 and list(printed[0]) == FIELDS
    run("compare", "lora", "fft", "--csv", tmp_path / "a.csv", "--plot", tmp_path / "a.png", data=released_data)
    assert (tmp_path / "a.csv").read_text() == out and (tmp_path / "a.png").stat().st_size > 1000


def test_table_says_where_they_cross_and_what_a_run_scatters(run, released_data):
    code, out, _ = run("compare", "lora", "fft", data=released_data)
    assert code == 0 and "nan" not in out
    assert "fft is ahead from 1.89e+09 base parameters on (95 % interval of the crossing" in out
    assert "SD of one run on mean_generation: 0.0047" in out and "not known; see tipping_sd" in out


def test_transfer(as_json, run, released_data):
    found, _ = as_json("transfer", "--dataset", "mean_generation")
    assert [(row["size_small"], row["size_large"]) for row in found] == [("1b", "3b"), ("1b", "7b"), ("3b", "7b")]
    assert all(row["slope_lower"] < row["slope"] < row["slope_upper"] for row in found)
    named = ("--dataset", "recode_format", "--dataset", "recode_syntax")
    code, out, err = run("transfer", "--small", "1b", "--large", "7b", *named, data=released_data)
    assert code == 0 and "nan" not in out and "recode_syntax" not in out and "by the choice of problems alone" in err


def test_regress(run, as_json, simulated):
    code, out, _ = run("regress", data=simulated)
    assert code == 0 and "within size" in out and "predicted from the others' curve" in out
    found, _ = as_json("regress", "--dataset", "embedded_fix", data=simulated)
    assert {row["parameter"] for row in found["parameters"]} == {"slope", "midpoint", "size_sd", "dispersion"}
    assert len(found["held_out"]) == 7
