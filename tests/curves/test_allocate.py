"""What a budget buys: the closed form of Hoffmann et al., optima outside the data, laws without one."""

import json

import numpy as np
import pandas as pd
import pytest

import astraios_analysis as aa
from astraios_analysis.cli.main import main
from astraios_analysis.laws.forms import find_law

THETA = np.array([1.69, 406.4, 410.7, 0.34, 0.28])


def runs(law="chinchilla", theta=THETA, noise=0.002, seed=0):
    n, d = np.meshgrid(np.geomspace(1e8, 1e10, 7), np.geomspace(2e9, 3e11, 7))
    x = np.column_stack([n.ravel(), d.ravel()])
    loss = find_law(law).function(x, np.array(theta)) * np.exp(noise * np.random.default_rng(seed).normal(size=len(x)))
    return pd.DataFrame({"N": x[:, 0], "D": x[:, 1], "loss": loss})


def best_size(budget):
    """Optimal size: alpha A N^-alpha = beta B D^-beta where 6 N D is the budget (Hoffmann et al. 2022, equation 4)."""
    _, a, b, alpha, beta = THETA
    return (alpha * a / (beta * b)) ** (1 / (alpha + beta)) * (budget / 6) ** (beta / (alpha + beta))


def test_optimum_is_the_closed_form():
    found = aa.allocate(runs(noise=0), [1e20, 1e21], ["N", "D"], "loss", law="chinchilla").table
    np.testing.assert_allclose(found["N"], [best_size(c) for c in found["budget"]], rtol=1e-3)
    np.testing.assert_allclose(6 * found["N"] * found["D"], found["budget"], rtol=1e-6)


def test_intervals_hold_the_optimum_about_as_often_as_they_say_and_are_no_wider_than_needed():
    hits, ratios = [], []
    for seed in range(20):
        row = aa.allocate(runs(seed=seed), 1e21, ["N", "D"], "loss", law="chinchilla", huber=np.inf).table.iloc[0]
        hits.append(row["N_lower"] <= best_size(1e21) <= row["N_upper"])
        ratios.append(row["N_upper"] / row["N_lower"])
        assert row["N_lower"] <= row["N"] <= row["N_upper"] and row["loss_lower"] <= row["loss"] <= row["loss_upper"]
    assert sum(hits) >= 16 and np.median(ratios) < 1.5


def test_a_budget_has_one_answer_alone_and_with_others():
    alone, together = (aa.allocate(runs(), budget, ["N", "D"], "loss").table for budget in (1e21, [1e20, 1e21]))
    pd.testing.assert_frame_equal(alone, together.iloc[[1]].reset_index(drop=True), check_exact=True)


def test_an_optimum_outside_the_data_or_none_is_warned_of():
    found = aa.allocate(runs(), [1e21, 1e25], ["N", "D"], "loss").table
    assert [[w["code"] for w in ws] for ws in found["warnings"]] == [[], ["outside_data"]]
    assert found["reach"][0] == 1 and found["reach"][1] > 10 and "N, D" in found["warnings"][1][0]["text"]
    # A law without an optimum says so.
    table = runs("multiplicative", [0.7, 3000.0, 0.1, 0.3])
    (row,) = aa.allocate(table, 1e21, ["N", "D"], "loss", law="multiplicative").table["warnings"]
    assert "no_optimum" in [w["code"] for w in row]


def test_cost_is_any_expression_that_rises_with_data():
    plain, dear = (
        aa.allocate(runs(), 1e21, ["N", "D"], "loss", law="chinchilla", cost=cost).table.iloc[0]
        for cost in (None, "6*N*D + 2*N*1e12")
    )
    assert dear["N"] < 0.8 * plain["N"]
    with pytest.raises(aa.Refusal, match=r"cannot be computed from N, D .*'M' is not defined"):
        aa.allocate(runs(), 1e21, ["N", "D"], "loss", cost="6*M*D")
    with pytest.raises(aa.Refusal, match="two inputs, size and data; x names N"):
        aa.allocate(runs(), 1e21, ["N"], "loss")


def test_command_prints_json_and_writes_the_picture(tmp_path, capsys):
    runs().to_csv(tmp_path / "runs.csv", index=False)
    asked = ["allocate", "--data", str(tmp_path / "runs.csv"), "--x", "N,D", "--y", "loss", "--budget", "1e21"]
    assert main([*asked, "--json", "--plot", str(tmp_path / "iso.png")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["budgets"][0]["N"] == pytest.approx(best_size(1e21), rel=0.2)
    assert sum(found["weights"].values()) == pytest.approx(1, abs=0.01)
    assert (tmp_path / "iso.png").stat().st_size > 10000
