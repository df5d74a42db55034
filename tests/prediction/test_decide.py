"""Choices made by small models, what they give up and what more runs save: by hand and on grids of known truth."""

from math import pi, sqrt
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib import pyplot
from scipy.special import logit
from simulated_grids import LARGEST, SIZES, World, simulate

from astraios_analysis.figures.gallery import FIGURES, Tables
from astraios_analysis.prediction import decide
from astraios_analysis.prediction.forecast import fit_outcome
from astraios_analysis.prediction.outcome import record_outcome
from astraios_analysis.records.frame import METHODS, Cost
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.scores.bootstrap import ProblemBootstrap

FIX, BOOTSTRAP = "embedded_fix", ProblemBootstrap(n_draws=300)


def test_what_a_choice_gives_up_by_hand():
    # Three methods; the first is chosen, the second is best on the data; in one of four resamples the first is best.
    draws = np.array([[0.5, 0.6, 0.1], [0.5, 0.7, 0.1], [0.5, 0.8, 0.1], [0.9, 0.6, 0.1]])
    found = decide._outcome(np.array([3.0, 2.0, 1.0]), None, np.array([0.5, 0.7, 0.1]), draws, ["a", "b", "c"], 0.5)
    assert (found["chosen"], found["best"], found["is_right"], found["p_right"]) == ("a", "b", False, 0.25)
    assert found["regret"] == pytest.approx(0.2) and found["regret_random"] == pytest.approx(0.7 - 1.3 / 3)
    # Regrets of the chosen method in the resamples: 0.1, 0.2, 0.3 and 0.
    ends = np.quantile([0.1, 0.2, 0.3, 0.0], [0.25, 0.75])
    assert (found["regret_lower"], found["regret_upper"]) == pytest.approx(ends)
    assert found["pair_accuracy"] == pytest.approx(2 / 3)


class TestDecisions:
    def test_a_clear_order_is_carried_over(self):
        found = decide.small_model_decisions(simulate(n_problems=1000), FIX, bootstrap=BOOTSTRAP)
        last = found[found["size_large"] == "727k"]
        assert len(last) == 4 and last["is_right"].all() and (last["regret"] == 0).all()
        assert (last["pair_accuracy"] > 0.8).all() and (last["regret_random"] > 0.05).all()
        assert set(found["rule"]) == {"best at the smaller size", "predicted from sizes up to it"}
        assert (found["pair_lower"] <= found["pair_upper"]).all() and found["p_right"].between(0, 1).all()

    def test_equal_methods_are_a_lottery(self):
        world = World(amplitude={m: 0.6 for m in METHODS})
        found = [decide.small_model_decisions(simulate(world, seed=s), FIX, bootstrap=BOOTSTRAP) for s in range(6)]
        assert np.mean([table["pair_accuracy"].mean() for table in found]) == pytest.approx(0.5, abs=0.12)
        assert np.mean([table["p_right"].mean() for table in found]) < 0.5

    def test_probability_of_being_best_at_an_unmeasured_size(self):
        clear = decide.best_at_size(simulate(World(amplitude={m: 0.7 for m in METHODS} | {"lora": 0.3})), FIX, LARGEST)
        assert clear["method"].iloc[0] == "lora" and clear["p_best"].iloc[0] > 0.9
        assert clear["p_best"].sum() == pytest.approx(1) and clear["expected_regret"].iloc[0] < 0.01
        even = decide.best_at_size(simulate(World(amplitude={m: 0.6 for m in METHODS})), FIX, LARGEST)
        assert even["p_best"].max() < 0.5

    def test_what_no_back_test_can_check_is_named_and_not_predicted(self):
        both = {r.run_id: r.scores for r in simulate(seeds=(0,))}
        records = [
            run if run.n_params_base == SIZES[0] else run.model_copy(update={"scores": both[run.run_id]})
            for run in simulate(World(level={FIX: -1.0}, slope={FIX: 3.0}), seeds=(0,))
        ]
        found = decide.best_at_size_all(records, LARGEST)
        refused = found[found["refusal"] != ""]
        assert set(found.loc[found["refusal"] == "", "dataset"]) == {FIX, "val_loss"}
        assert refused["dataset"].tolist() == ["embedded_synthesis"]
        assert refused[["method", "p_best"]].isna().all(axis=None)
        assert refused["refusal"].iloc[0].startswith("measured at 3 sizes; a back-test holds out the largest, and 2")
        tables = Tables(records, target=LARGEST, bootstrap=BOOTSTRAP)
        figure, table = tables.draw("best_method")
        answer = FIGURES["best_method"].say(table)
        assert "1 of 1 data sets" in answer and answer.count("Not predicted: ") == 1 and "measured at 3 sizes" in answer
        costs = decide.frontier(records, "embedded_synthesis", "n_params_updated", target=LARGEST, bootstrap=BOOTSTRAP)
        assert set(costs["kind"]) == {"measured", "refused"} and costs["refusal"].iloc[-1] == refused["refusal"].iloc[0]
        assert (table["kind"] == "predicted").sum() == 15
        pyplot.close(figure)

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda: decide.small_model_decisions(simulate(), "aatk"), "no run that is not held out has aatk"),
            (lambda: decide.small_model_decisions(simulate(sizes=SIZES[:1]), FIX), "no two sizes share 2 methods"),
            (lambda: decide.best_at_size(simulate(), "mbpp", 1e6), "unknown data set 'mbpp'; choose from"),
            (lambda: decide.best_at_size(simulate(), FIX, 1e9), "the limit is 10 times"),
            (lambda: decide.best_at_size(simulate(scores=()), FIX, 1e6), "no run has a score on embedded_fix"),
            (
                lambda: decide.frontier(simulate(), FIX, "money"),
                "unknown cost 'money'; choose from n_params_updated, peak",
            ),
            (
                lambda: decide.frontier(simulate(cost=Cost(flop=1.0)), FIX, "seconds"),
                "seconds was not measured in runs with a score on embedded_fix",
            ),
        ],
    )
    def test_refusals(self, call, message):
        with pytest.raises(Refusal, match=message):
            call()


class TestPlanning:
    def test_cost_is_measured_or_counted(self):
        records = simulate(sizes=SIZES[:2], seeds=(0,))
        assert decide.run_cost(records, "lora", 1e5) == (pytest.approx(6 * 1e5 * 4e5), decide.MEASURED)
        bare = [r.model_copy(update={"cost": None, "n_tokens": 1000}) for r in records]
        assert decide.run_cost(bare, "lora", 1e5) == (4 * 1e5 * 1000, decide.COUNTED)
        assert decide.run_cost(bare, "fft", 1e5)[0] == 6 * 1e5 * 1000

    def test_frontier(self):
        records = simulate(World(amplitude={m: 0.6 for m in METHODS} | {"lora": 0.3}), seeds=(0,))
        found = decide.frontier(records, FIX, "n_params_updated", target=LARGEST, bootstrap=BOOTSTRAP)
        best = found.loc[found["value"].idxmax()]
        assert best["on_frontier"] and set(found["kind"]) == {"measured", "predicted"} and len(found) == 35
        shown = found[found["on_frontier"]]
        assert shown["value"].is_monotonic_increasing and shown["cost_value"].is_monotonic_increasing
        assert found.loc[(found["method"] == "fft") & (found["kind"] == "measured"), "p_frontier"].max() < 0.2
        # Where lower is better, the best are the lowest.
        insecure = World(level={"embedded_security": 0.0}, slope={"embedded_security": 5.0})
        found = decide.frontier(simulate(insecure), "embedded_security", "flop", bootstrap=BOOTSTRAP)
        assert found.loc[found["on_frontier"], "value"].is_monotonic_decreasing
        assert found.loc[found["value"].idxmin(), "on_frontier"]


DATASET = "humaneval_python"


def test_budgets():
    budgets = {"40 gpu-hours": 40 * 3600e14, "1gpu-day": 86400e14, "3e20 flop": 3e20, "0.5 GPU-hours": 1.8e17}
    assert {text: decide.parse_budget(text, tflops=100) for text in budgets} == pytest.approx(budgets)


@pytest.mark.parametrize("text", ["40", "gpu-hours", "-3 flop", "0 flop", "1.2.3 flop", "40 euros", "inf flop"])
def test_what_is_no_budget(text):
    with pytest.raises(Refusal, match="is not understood; give a number and one of gpu-hours"):
        decide.parse_budget(text)


def test_two_equal_methods_by_hand(monkeypatch):
    # The larger of two standard normal numbers is 1/sqrt(pi) on average; of what noise of the same variance leaves to
    # be known of each, of variance 1/2, it is less by sqrt(1/2).
    rng = np.random.default_rng(0)
    good = rng.standard_normal((100_000, 2))
    seen = np.column_stack([good, good + rng.standard_normal(good.shape)])
    monkeypatch.setattr(decide, "joint_draws", lambda *_: (good, seen))
    runs = (("a", 1.0), ("b", 1.0), ("a", 2.0), ("b", 2.0))
    options = [("now", (), 0.0), ("exact", runs[:2], 5.0), ("noisy", runs[2:], 4.0)]
    options = [decide.Option(*option) for option in options]
    found = decide.expected_regrets(None, 1.0, options, {1.0: "1m", 2.0: "2m"}).set_index("option")
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
    option = decide.make_options(fitted, 3.0, {1.0: "1m", 2.0: "2m"}, cost)[-1]
    assert (option.name, option.flop, option.halving) == ("halving: 3 at 1m, 2 at 2m", 23.0, (1.0, 2.0))
    both = decide.Option("both", (), 0.0)
    found = decide.expected_regrets(fitted, 3.0, [both, option], {1.0: "1m", 2.0: "2m"}).set_index("option")
    seen = np.hstack([first, second[:, :2]])
    of_all = good.max(axis=1).mean() - decide.known_after(good, seen).max(axis=1).mean()
    assert found.loc[option.name, "expected_regret"] == pytest.approx(of_all, abs=1e-9)
    assert found.loc["both", "expected_regret"] == pytest.approx(1 / sqrt(pi), abs=0.02)


def test_joint_draws_are_those_of_the_prediction():
    # Five sizes, and scores beside losses: shared laws, own curves and the way through the loss are mixed.
    fitted = fit_outcome(record_outcome(simulate(sizes=(*SIZES, 2_336_064)), "embedded_fix"))
    runs = [("lora", 4e6), ("fft", 4e6), ("lora", 2e6), ("lora", 4e6)]
    good, seen = decide.joint_draws(fitted, 6e6, runs)
    np.testing.assert_array_equal(good, fitted.draw(6e6)["mean"])
    lines = [fitted.draw(size)["mean"][:, fitted.methods.index(method)] for method, size in runs]
    scatter = np.corrcoef(seen - logit(np.stack(lines, axis=1)), rowvar=False)
    # Runs of one size share its effect, of two sizes nothing but what the draw is of; twice a run is two runs.
    assert abs(scatter[0, 2]) < 0.1 and 0.2 < scatter[0, 1] < 0.6 and 0.2 < scatter[0, 3] < 0.6
    assert 0.3 < np.corrcoef(good[:, fitted.methods.index("lora")], seen[:, 0])[0, 1] < 0.99
    # Whatever other runs are asked for, a run is the same one.
    np.testing.assert_array_equal(decide.joint_draws(fitted, 6e6, runs[2:3])[1][:, 0], seen[:, 2])


def test_more_runs_give_up_less_and_a_budget_bounds_them(released_records):
    found = decide.choices(released_records, DATASET, 34e9, budget=decide.parse_budget("5 gpu-hours"))
    regret = found.sort_values("n_runs")["expected_regret"].to_numpy()
    assert found["n_runs"].tolist() == [0, 2, 4, 7, 11]
    assert (np.diff(regret) < 3e-4).all() and 0 < regret[-1] < regret[0] < 0.03
    assert found["is_affordable"].tolist() == [True, True, False, False, False]
    assert found.loc[found["advice"], "n_runs"].tolist() == [2]
    # As the command that trains them takes them.
    assert found.loc[found["advice"], "runs"].item().startswith("16b: ")
    assert found["option"].iloc[-1] == "halving: 7 at 16b, 4 at 16b"
    poor = decide.choices(released_records, DATASET, 34e9, budget=1.0)
    assert poor.loc[poor["advice"], "option"].tolist() == ["choose now"]
    losses = decide.choices(simulate(), "val_loss", 3e6)
    assert (losses["expected_regret"] >= 0).all() and losses["quantity"].eq("val_loss").all()
