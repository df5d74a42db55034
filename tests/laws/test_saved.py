"""A fit that is kept predicts as the fit does, row by row, and says how far each row lies beyond the data."""

import json

import numpy as np
import pandas as pd
import pytest
from law_worlds import losses_on_grid

import astraios_analysis as aa
from astraios_analysis.cli.main import main

X = np.geomspace(1e7, 1e9, 12)
NO_FIT = "is no saved fit"
POINTS = pd.DataFrame({"n": [5e8, 2e9, 5e10], "m": ["a", "b", "a"]})


def table():
    amplitude, noise = np.repeat([300.0, 500.0], 12), np.exp(0.01 * np.random.default_rng(0).normal(size=24))
    x = np.tile(X, 2)
    return pd.DataFrame({"n": x, "m": np.repeat(["a", "b"], 12), "y": (0.7 + amplitude * x**-0.3) * noise})


@pytest.mark.parametrize(
    "options", [{}, {"group": "m"}, {"group": "m", "pooling": "shared"}, {"fixed": {"E": 0.7}}, {"residual": "linear"}]
)
def test_a_kept_fit_predicts_as_the_fit(tmp_path, options):
    found = aa.fit(table(), "power_floor", "n", "y", **options)
    found.save(tmp_path / "fit.json")
    saved = aa.load_fit(tmp_path / "fit.json")
    pd.testing.assert_frame_equal(saved.predict([1e8, 2e9]), found.predict([1e8, 2e9]))
    pd.testing.assert_frame_equal(saved.predict(2e9, level=0.5), found.predict(2e9, level=0.5))
    own = saved.content["fits"][0]
    assert np.shape(own["draws"]) == (200, len(own["params"]))
    assert set(saved.content["versions"]) >= {"astraios", "scipy"}
    assert own["warnings"] == found.coded_warnings(own["group"])


def test_two_inputs_and_rows_with_factors_and_codes(tmp_path):
    runs = losses_on_grid("skaling", [1.5, 2300, 9900, 0.42, 0.43, 0.4])
    aa.fit(runs, "skaling", ["N", "D"], "loss").save(tmp_path / "fit.json")
    rows = pd.DataFrame({"name": list("abc"), "N": [1e9, "7b", 1e9], "D": [1e10, 2e11, 1e13]})
    found = aa.load_fit(tmp_path / "fit.json").predict_rows(rows)
    assert list(found["name"]) == list("abc") and found["N"][1] == 7e9
    np.testing.assert_allclose(found["reach"], [1, 7 / 3, 100])
    codes = [text.split(";") for text in found["warnings"]]
    assert "extrapolation" not in codes[0] and "extrapolation" in codes[1] and "far_extrapolation" in codes[2]
    assert (found["lower"] < found["mean_lower"]).all() and (found["mean_upper"] < found["upper"]).all()


def test_commands_keep_a_fit_and_predict_by_it(tmp_path, capsys):
    table().to_csv(tmp_path / "runs.csv", index=False)
    POINTS.to_csv(tmp_path / "points.csv", index=False)
    fit, out = str(tmp_path / "fit.json"), tmp_path / "predictions.csv"
    asked = f"fit --law power_floor --x n --y y --group m --data {tmp_path / 'runs.csv'}".split()
    assert main([*asked, "-o", fit, "--json"]) == 0
    params = json.loads(capsys.readouterr().out)[0]["params"]
    assert main(["predict", fit, "--points", str(tmp_path / "points.csv"), "--csv", str(out), "--json"]) == 0
    rows, written = json.loads(capsys.readouterr().out), pd.read_csv(out)
    assert [row["m"] for row in rows] == ["a", "b", "a"] and list(written["reach"]) == pytest.approx([1, 2, 50])
    expected = params["E"]["value"] + params["A"]["value"] * 5e8 ** -params["alpha"]["value"]
    assert rows[0]["value"] == pytest.approx(expected) and written["warnings"][2].startswith("extrapolation;far")
    assert main(["predict", fit]) == 2 and "go together" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "text"),
    [(None, "no such file"), ("{}", NO_FIT), ("[", NO_FIT), ('{"format": 9}', "format 9; this version reads 2")],
)
def test_what_is_no_fit_is_refused(tmp_path, content, text):
    if content is not None:
        (tmp_path / "fit.json").write_text(content)
    with pytest.raises(aa.Refusal, match=text):
        aa.load_fit(tmp_path / "fit.json")


def test_points_must_have_the_inputs(tmp_path):
    aa.fit(table(), "power_floor", "n", "y", group="m").save(tmp_path / "fit.json")
    saved = aa.load_fit(tmp_path / "fit.json")
    with pytest.raises(aa.Refusal, match="the table of points has no column 'n'; it has size, m"):
        saved.predict_rows(POINTS.rename(columns={"n": "size"}))
    with pytest.raises(aa.Refusal, match="no fit for 'c'; choose from a, b"):
        saved.predict_rows(POINTS.assign(m="c"))
    assert len(saved.predict_rows(POINTS.drop(columns="m"))) == 6
