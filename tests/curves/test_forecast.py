import json

import numpy as np
import pandas as pd
import pytest

import astraios_analysis as aa
from astraios_analysis.cli.main import main
from astraios_analysis.curves.forecast import fit_curves, posterior_of
from astraios_analysis.records.refusal import Refusal


def _curve(rng, exponent=0.5, floor=1.5, noise=0.004):
    x = np.geomspace(1e3, 1e6, 24)
    y = (floor + 60 * x**-exponent) * np.exp(noise * rng.standard_normal(len(x)))
    return x, y


def test_forecast_recovers_a_known_law():
    x, y = _curve(np.random.default_rng(0))
    target = np.array([2e6, 4e6])
    forecast = fit_curves([(x, y)]).forecast(0, target)
    truth = np.log(1.5 + 60 * target**-0.5)
    assert np.all(np.abs(np.log(forecast.median) - truth) < 0.01)
    low, high = forecast.interval(0.95)
    assert np.all((np.log(low) < truth) & (truth < np.log(high)))
    assert sum(forecast.weights.values()) == pytest.approx(1)


@pytest.mark.parametrize(("y", "message"), [([1, 1, 1, -1], "must be positive"), ([1, 1], "at least 3")])
def test_forecast_refuses(y, message):
    with pytest.raises(Refusal, match=message):
        fit_curves([(np.arange(1.0, len(y) + 1), np.array(y, dtype=float))])


def test_a_run_of_spikes_moves_nothing():
    x = np.geomspace(1e6, 1e9, 200)
    y = (2 + 80 * x**-0.3) * np.exp(0.004 * np.random.default_rng(2).standard_normal(200))
    hurt = np.where((np.arange(200) // 12) == 12, 2.0 * y, y)
    target = np.array([2e9])
    plain, spiked = (fit_curves([(x, values)]) for values in (y, hurt))
    assert not plain.found[0].spikes[0] and spiked.found[0].spikes[0] > 0
    assert spiked.forecast(0, target).median == pytest.approx(plain.forecast(0, target).median, rel=0.003)


def test_a_tail_that_rises_is_said_and_widens():
    x = np.geomspace(1e6, 1e9, 60)
    y = (2 + 80 * x**-0.3) * np.exp(0.002 * np.random.default_rng(3).standard_normal(60))
    rising = y * np.exp(0.1 * np.maximum(np.log(x / x[40]), 0))
    table = pd.DataFrame({"x": x, "y": rising})
    found = aa.predict(table, size=2e9, x="x", y="y")
    assert any("the last rows rise" in note for note in found.notes)
    low, high = (found.rows[0]["intervals"][2][end] for end in ("lower", "upper"))
    assert low < rising[-1] and high > rising[-1] * 1.03
    assert not aa.predict(table.assign(y=y), size=2e9, x="x", y="y").notes


def test_widths_follow_the_errors_that_inner_rows_show():
    """Of curves that wander more than any law, intervals are wider than the laws' own."""
    rng, curves = np.random.default_rng(4), []
    for _ in range(12):
        x = np.geomspace(1e3, 1e6, 16)
        curves.append((x, (1 + 30 * x**-0.4) * np.exp(np.cumsum(0.03 * rng.standard_normal(16)))))
    fitted = fit_curves(curves)
    calm = [posterior_of(one, fitted.log_prior).forecast(np.array([2e6])).interval(0.95) for one in fitted.found]
    ours = [fitted.forecast(place, np.array([2e6])).interval(0.95) for place in range(12)]
    width = [np.mean([np.log(high / low) for low, high in ends]) for ends in (calm, ours)]
    assert width[1] > 1.05 * width[0]


def test_command_prints_scores_as_json_or_names_what_is_wrong(tmp_path, capsys):
    x, y = _curve(np.random.default_rng(1))
    rows = [f"{a},{b},{'train' if i < 18 else 'extrapolate'}" for i, (a, b) in enumerate(zip(x, y, strict=True))]
    table = tmp_path / "runs.csv"
    table.write_text("\n".join(["x,y,split", *rows]))
    asked = ["backtest", "--data", str(table), "--x", "x", "--y", "y", "--split", "split"]
    assert main([*asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"mean", "groups", "rows", "procedure"}
    first, measured = found["rows"][0], y[18]
    assert first["measured"] == pytest.approx(measured) and first["value"] == pytest.approx(measured, rel=0.1)
    assert [one["level"] for one in first["intervals"]] == [0.5, 0.8, 0.95]
    assert set(found["mean"]["coverage"]) == {"0.5", "0.8", "0.95"} and found["mean"]["rmse_log"] < 0.03
    wrong = {"x,y\n1,1\n": "no column 'split'", "x,y,split\n1,1,test\n": "mark rows"}
    wrong["x,y,split\n1,0,train\n"] = "above 0"
    for text, message in wrong.items():
        table.write_text(text)
        assert main(asked) == 2 and message in capsys.readouterr().err


@pytest.mark.reference
def test_learning_curves_reach_the_stated_error(reference_folder, capsys):
    table = str(reference_folder / "benchmarks" / "learning_curves.csv")
    options = ["--x", "x", "--y", "y", "--group", "Domain,Task,Model", "--split", "split", "--json"]
    assert main(["backtest", "--data", table, *options]) == 0
    assert json.loads(capsys.readouterr().out)["mean"]["rmse_log"] < 0.024


def test_between_rows_a_curve_goes_through_them():
    # No law of the forecaster bends like this one early on; the rows say where it is.
    x = np.geomspace(1e3, 1e7, 33)
    rng = np.random.default_rng(8)
    y = (0.5 + (x / 1e3) ** -0.4 + 0.4 / (1 + (x / 2e4) ** 2)) * np.exp(0.004 * rng.standard_normal(33))
    rows, at = np.arange(33) % 4 != 1, np.arange(33)[1::4]
    forecast = fit_curves([(x[rows], y[rows])]).forecast(0, x[at])
    low, high = forecast.interval(0.95)
    assert np.sqrt(np.mean(np.log(forecast.median / y[at]) ** 2)) < 0.012
    assert np.mean((low <= y[at]) & (y[at] <= high)) > 0.85 and np.median(np.log(high / low)) < 0.1
