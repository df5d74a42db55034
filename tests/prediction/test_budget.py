"""What a choice gives up, and what more runs save: by hand for two normal methods, and on the released models."""

from math import pi, sqrt
from types import SimpleNamespace

import numpy as np
import pytest
from simulated_grids import simulate

from astraios_analysis.prediction import decide
from astraios_analysis.prediction.decide import (
    Option,
    choices,
    expected_regrets,
    joint_draws,
    make_options,
    parse_budget,
)
from astraios_analysis.prediction.forecast import fit_outcome, record_outcome
from astraios_analysis.records.refusal import Refusal

DATASET = "humaneval_python"


@pytest.mark.parametrize(
    ("text", "flop"),
    [("40 gpu-hours", 40 * 3600 * 1e14), ("1gpu-day", 86400 * 1e14), ("3e20 flop", 3e20), ("0.5 GPU-hours", 1.8e17)],
)
def test_budgets(text, flop):
    assert parse_budget(text, tflops=100) == pytest.approx(flop)


@pytest.mark.parametrize("text", ["40", "gpu-hours", "-3 flop", "0 flop", "1.2.3 flop", "40 euros", "inf flop"])
def test_what_is_no_budget(text):
    with pytest.raises(Refusal, match="is not understood; give a number and one of gpu-hours"):
        parse_budget(text)


def test_two_equal_methods_by_hand(monkeypatch):
    # The larger of two standard normal numbers is 1/sqrt(pi) on average; of what noise of the same variance leaves to
    # be known of each, of variance 1/2, it is less by sqrt(1/2).
    rng = np.random.default_rng(0)
    good = rng.standard_normal((100_000, 2))
    seen = np.column_stack([good, good + rng.standard_normal(good.shape)])
    monkeypatch.setattr(decide, "joint_draws", lambda *_: (good, seen))
    runs = (("a", 1.0), ("b", 1.0), ("a", 2.0), ("b", 2.0))
    options = [Option("now", (), 0.0), Option("exact", runs[:2], 5.0), Option("noisy", runs[2:], 4.0)]
    found = expected_regrets(None, 1.0, options, {1.0: "1m", 2.0: "2m"}).set_index("option")
    assert found.index.tolist() == ["now", "noisy", "exact"]
    assert found.loc["now", "expected_regret"] == pytest.approx(1 / sqrt(pi), abs=0.01)
    assert found.loc["exact", "expected_regret"] == pytest.approx(0, abs=1e-9)
    assert found.loc["noisy", "expected_regret"] == pytest.approx((1 - sqrt(0.5)) / sqrt(pi), abs=0.01)
    assert found.loc["noisy", "runs"] == "2m: a b"
    assert found.loc["exact", "saved"] == pytest.approx(found.loc["now", "expected_regret"])


def test_halving_by_hand(monkeypatch):
    # Three methods of which one is far behind: the first stage, exact, drops it, and the second adds nothing.
    rng = np.random.default_rng(1)
    good = rng.standard_normal((20_000, 3)) + np.array([0, 0, -30])
    noise = rng.standard_normal((20_000, 3))
    first, second = good + noise, good + noise[:, ::-1] * np.array([1, 1, 0])
    monkeypatch.setattr(decide, "joint_draws", lambda *_: (good, np.hstack([first, second])))
    monkeypatch.setattr(decide, "_expected", lambda *_: good.mean(axis=0))
    fitted = SimpleNamespace(methods=("a", "b", "c"))
    cost = {(method, size): price for method in "abc" for size, price in ((1.0, 1.0), (2.0, 10.0))}
    option = make_options(fitted, 3.0, {1.0: "1m", 2.0: "2m"}, cost)[-1]
    assert (option.name, option.flop, option.halving) == ("halving: 3 at 1m, 2 at 2m", 23.0, (1.0, 2.0))
    both = Option("both", (), 0.0)
    found = expected_regrets(fitted, 3.0, [both, option], {1.0: "1m", 2.0: "2m"}).set_index("option")
    seen = np.hstack([first, second[:, :2]])
    of_all = good.max(axis=1).mean() - decide.known_after(good, seen).max(axis=1).mean()
    assert found.loc[option.name, "expected_regret"] == pytest.approx(of_all, abs=1e-9)
    assert found.loc["both", "expected_regret"] == pytest.approx(1 / sqrt(pi), abs=0.02)


def test_joint_draws_are_of_the_lines_that_predict_says(released_records):
    fitted = fit_outcome(record_outcome(released_records, DATASET))
    good, seen = joint_draws(fitted, 34e9, [("lora", 34e9), ("fft", 15.5e9)])
    lines = fitted.draw(34e9)["mean"]
    np.testing.assert_allclose(good.mean(axis=0), lines.mean(axis=0), atol=0.004)
    np.testing.assert_allclose(good.std(axis=0), lines.std(axis=0), rtol=0.1)
    correlation = np.corrcoef(good[:, fitted.methods.index("lora")], seen[:, 0])[0, 1]
    assert 0.3 < correlation < 0.95 and seen.shape == (len(good), 2)


def test_more_runs_give_up_less_and_a_budget_bounds_them(released_records):
    found = choices(released_records, DATASET, 34e9, budget=parse_budget("5 gpu-hours"))
    regret = found.sort_values("n_runs")["expected_regret"].to_numpy()
    assert found["n_runs"].tolist() == [0, 2, 4, 7, 11]
    assert (np.diff(regret) < 3e-4).all() and 0 < regret[-1] < regret[0] < 0.03
    assert found["is_affordable"].tolist() == [True, True, False, False, False]
    assert found.loc[found["advice"], "n_runs"].tolist() == [2]
    # As the command that trains them takes them.
    assert found.loc[found["advice"], "runs"].item().startswith("16b: ")
    assert found["option"].iloc[-1] == "halving: 7 at 16b, 4 at 16b"
    poor = choices(released_records, DATASET, 34e9, budget=1.0)
    assert poor.loc[poor["advice"], "option"].tolist() == ["choose now"]
    losses = choices(simulate(), "val_loss", 3e6)
    assert (losses["expected_regret"] >= 0).all() and losses["quantity"].eq("val_loss").all()
