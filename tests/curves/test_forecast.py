import json
import os
from pathlib import Path

import numpy as np
import pytest

from astraios_analysis.cli.main import main
from astraios_analysis.curves.forecast import forecast_curves
from astraios_analysis.records.refusal import Refusal

REFERENCE = Path(os.environ.get("ASTRAIOS_REFERENCE", "")) / "benchmarks"


def _curve(rng, exponent=0.5, floor=1.5, noise=0.004):
    x = np.geomspace(1e3, 1e6, 24)
    y = (floor + 60 * x**-exponent) * np.exp(noise * rng.standard_normal(len(x)))
    return x, y


def test_forecast_recovers_a_known_law():
    x, y = _curve(np.random.default_rng(0))
    target = np.array([2e6, 4e6])
    forecast = forecast_curves([(x, y)], [target])[0]
    truth = np.log(1.5 + 60 * target**-0.5)
    assert np.all(np.abs(forecast.log_mean - truth) < 0.01)
    low, high = forecast.interval(0.95)
    assert np.all((np.log(low) < truth) & (truth < np.log(high)))
    assert sum(forecast.weights.values()) == pytest.approx(1)


@pytest.mark.parametrize("y, message", [([1, 1, 1, -1], "must be positive"), ([1, 1], "at least 3")])
def test_forecast_refuses(y, message):
    x = np.arange(1.0, len(y) + 1)
    with pytest.raises(Refusal, match=message):
        forecast_curves([(x, np.array(y, dtype=float))], [np.array([9.0])])


def test_command_prints_scores_as_json(tmp_path, capsys):
    x, y = _curve(np.random.default_rng(1))
    rows = [f"{a},{b},{'train' if i < 18 else 'extrapolate'}" for i, (a, b) in enumerate(zip(x, y, strict=True))]
    table = tmp_path / "runs.csv"
    table.write_text("\n".join(["x,y,split", *rows]))
    assert main(["backtest", "--data", str(table), "--x", "x", "--y", "y", "--split", "split", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"mean", "groups", "rows", "procedure"}
    first, measured = found["rows"][0], y[18]
    assert first["measured"] == pytest.approx(measured) and first["value"] == pytest.approx(measured, rel=0.1)
    assert [one["level"] for one in first["intervals"]] == [0.5, 0.8, 0.95]
    assert set(found["mean"]["coverage"]) == {"0.5", "0.8", "0.95"}
    assert found["mean"]["rmse_log"] < 0.03


@pytest.mark.parametrize(
    "text, message",
    [
        ("x,y\n1,1\n", "no column 'split'"),
        ("x,y,split\n1,1,test\n", "mark rows"),
        ("x,y,split\n1,0,train\n", "above 0"),
    ],
)
def test_command_names_what_is_wrong(tmp_path, capsys, text, message):
    table = tmp_path / "runs.csv"
    table.write_text(text)
    assert main(["backtest", "--data", str(table), "--x", "x", "--y", "y", "--split", "split"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.reference
@pytest.mark.skipif(not REFERENCE.is_dir(), reason="ASTRAIOS_REFERENCE does not name the benchmark curves")
def test_learning_curves_reach_the_stated_error(capsys):
    table = str(REFERENCE / "learning_curves.csv")
    options = ["--x", "x", "--y", "y", "--group", "Domain,Task,Model", "--split", "split", "--json"]
    assert main(["backtest", "--data", table, *options]) == 0
    assert json.loads(capsys.readouterr().out)["mean"]["rmse_log"] < 0.024
