"""Which rows to measure next, and what a budget buys: by hand, by closed forms, and what must be refused."""

import json

import numpy as np
import pandas as pd
import pytest
from law_worlds import losses_on_grid

import astraios_analysis as aa
from astraios_analysis.cli.main import main
from astraios_analysis.laws.engine import fit_law
from astraios_analysis.laws.forms import LAWS
from astraios_analysis.laws.residuals import Objective
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.tables.plan import QUADRATIC, Expected, choose_batch, expect, parse_money, read_pool
from astraios_analysis.tables.rows import Columns

COLUMNS, COST, LAW = Columns(("N", "D"), "loss"), "6*N*D", "chinchilla"


def world(n_measured=14, noise=0.003, seed=0):
    """A pool of 49 rows of which the cheapest are measured, and targets beyond it."""
    theta = [1.7, 400, 600, 0.34, 0.3]
    pool = losses_on_grid("chinchilla", theta, noise, seed, n=7, sizes=(2e7, 1e9), tokens=(5e8, 5e10))
    pool = pool.sort_values("N", kind="stable").reset_index(drop=True)
    measured = pool.assign(cost=6 * pool["N"] * pool["D"]).sort_values("cost").index[:n_measured]
    known = pool["loss"].where(pool.index.isin(measured))
    target = pd.DataFrame({"N": [2e9, 4e9, 4e9], "D": [1e11, 1e11, 2e11]})
    return pool, pool.assign(loss=known), target


def loss(n, d):
    return 1.7 + 400 * n**-0.34 + 600 * d**-0.3


class TestChoice:
    covariance = np.array([[4.0, 0.0, 2.0], [0.0, 9.0, 3.3], [2.0, 3.3, 5.0]])

    @pytest.mark.parametrize(("power", "first"), [(0, 1), (1, 0)])
    def test_gain_by_cost(self, power, first):
        expected = Expected(self.covariance, np.full(3, 1.0), {})
        # Gains 4/5 and 10.89/10, for 1 and 2.
        chosen = choose_batch(expected, 2, np.array([1.0, 2.0]), 3.0, power)
        assert [place for place, _ in chosen] == [first, 1 - first]

    def test_errors_are_those_of_conditioning_on_all(self):
        rng = np.random.default_rng(3)
        root = rng.standard_normal((6, 6))
        expected = Expected(root @ root.T, np.full(6, 0.3), {})
        chosen = choose_batch(expected, 4, np.ones(4), 3.0)
        for n in range(1, 4):
            seen = [place for place, _ in chosen[:n]]
            inner = expected.covariance[np.ix_(seen, seen)] + 0.3 * np.eye(n)
            cross = expected.covariance[np.ix_([4, 5], seen)]
            left = np.diag(expected.covariance)[4:] - np.einsum("ti,ij,tj->t", cross, np.linalg.inv(inner), cross)
            assert chosen[n - 1][1] == pytest.approx(np.sqrt(left.mean()))

    def test_what_is_told_already_is_not_bought_again(self):
        twin = np.array([[4.0, 4.0, 0.0, 2.0], [4.0, 4.0, 0.0, 2.0], [0.0, 0.0, 1.0, 0.5], [2.0, 2.0, 0.5, 3.0]])
        chosen = choose_batch(Expected(twin, np.full(4, 1e-9), {}), 3, np.ones(3), 2.0)
        assert [place for place, _ in chosen] == [0, 2]

    def test_budget(self):
        expected = Expected(self.covariance, np.full(3, 1.0), {})
        assert [place for place, _ in choose_batch(expected, 2, np.array([1.0, 2.0]), 1.5)] == [0]
        _, known, target = world()
        pool = read_pool(known, target, COLUMNS, COST)
        whole, spent = pool.cost.sum(), pool.cost[pool.measured].sum()
        assert parse_money("50%", pool) == pytest.approx((0.5 * whole - spent, spent))
        assert parse_money("1e20", pool) == pytest.approx((1e20, spent))


class TestExpected:
    def test_one_power_law_is_a_line_in_logs(self):
        rng = np.random.default_rng(1)
        n = np.geomspace(1e6, 1e8, 12)[:, None]
        y = 30 * n[:, 0] ** -0.2 * np.exp(0.01 * rng.standard_normal(12))
        at = np.array([[1e9], [1e10]])
        found = expect(n, y, at, [LAWS["power"]], np.inf, ["N"])
        design, places = (np.column_stack([np.ones(len(x)), np.log(x[:, 0] / 1e7)]) for x in (n, at))
        by_hand = places @ np.linalg.inv(design.T @ design) @ places.T * found.noise[0]
        # The law's exponent is positive, its prior weak: nearly the covariance of least squares.
        assert found.covariance == pytest.approx(by_hand, rel=0.05)

    def test_a_law_of_two_inputs_by_its_derivatives(self):
        pool, _, target = world()
        x, at, theta = pool[["N", "D"]].to_numpy(), target.to_numpy(), np.array([1.7, 400, 600, 0.34, 0.3])
        found = expect(x, pool["loss"].to_numpy(), at, [LAWS["chinchilla"]], np.inf, ["N", "D"])
        moved = theta * (1 + 1e-6 * np.eye(5))
        rows, places = (np.log(LAWS["chinchilla"].function(z, moved) / loss(*z.T)) for z in (x, at))
        # Of least squares; the prior is weak.
        by_hand = places.T @ np.linalg.inv(rows @ rows.T) @ places * found.noise[0]
        assert found.covariance == pytest.approx(by_hand, rel=0.1)

    def test_laws_that_differ_at_a_place_are_unsure_there(self):
        n, at, laws = np.geomspace(1e6, 1e8, 12), np.array([1e9, 1e10]), [LAWS["power"], LAWS["power_floor"]]
        y = (0.1 + 30 * n**-0.2) * np.exp(0.01 * np.random.default_rng(1).standard_normal(12))
        *alone, both = (expect(n[:, None], y, at[:, None], some, np.inf, ["N"]) for some in (laws[:1], laws[1:], laws))
        logs = [np.log(law.function(at, fit_law(law, n, y, objective=Objective("log")).theta)) for law in laws]
        # The law of total variance, of a mixture of two.
        a, b = (both.weights[law.name] for law in laws)
        within, apart = a * alone[0].covariance + b * alone[1].covariance, logs[0] - logs[1]
        assert 0.2 < a < 0.8 and both.covariance == pytest.approx(within + a * b * np.outer(apart, apart), rel=1e-3)

    def test_a_fit_of_several_minima_is_unsure(self):
        # The best of them has next to no floor, and knows nothing of others: it errs by three times what it expects.
        _, known, target = world(5)
        rows, at, law = known.dropna(), target.to_numpy(), LAWS["multiplicative"]
        x, y = rows[["N", "D"]].to_numpy(), rows["loss"].to_numpy()
        best = fit_law(law, x, y, objective=Objective("log", 1e-3), must_converge=False)
        error = np.log(law.function(at, best.theta) / loss(*at.T))
        assert (np.abs(error) < np.sqrt(np.diag(expect(x, y, at, [law], 1e-3, "ND").covariance))).all()

    def test_few_rows_are_not_known_exactly(self):
        _, known, target = world()
        found = expect(np.empty((0, 2)), np.empty(0), target.to_numpy(), None, 1e-3, ["N", "D"])
        assert found.weights == {QUADRATIC: 1.0} and np.isfinite(found.covariance).all()
        # As many as a law has parameters, and one.
        rows = known[known["loss"].notna()].iloc[:6]
        found = expect(rows[["N", "D"]].to_numpy(), rows["loss"].to_numpy(), target.to_numpy(), [LAWS[LAW]], 1e-3, "ND")
        assert 0.007 < np.sqrt(found.noise[0]) < 0.02 and np.sqrt(np.diag(found.covariance)).min() > 0.01


class TestPlan:
    def plan(self, table, target, **options):
        return aa.plan(table, target=target, x=["N", "D"], y="loss", **{"cost": COST, "budget": "10%"} | options)

    def test_batch(self):
        pool, known, target = world()
        found = self.plan(known, target)
        cost = 6 * pool["N"] * pool["D"]
        assert found.table["cost"].tolist() == cost.iloc[found.table["row"] - 1].tolist()
        assert found.spent + found.table["cost"].sum() <= 0.1 * cost.sum() * (1 + 1e-9)
        assert known["loss"].iloc[found.table["row"] - 1].isna().all()
        assert found.rows[["N", "D"]].equals(found.table[["N", "D"]])
        turned = self.plan(known.sample(frac=1, random_state=0, ignore_index=True), target)
        assert turned.table[["N", "D"]].equals(found.table[["N", "D"]])
        assert found.error_now > found.table["error_after"].iloc[0] > found.table["error_after"].iloc[-1] > 0

    def test_no_outcome_of_a_target_is_read(self):
        _, known, target = world()
        told = target.assign(loss=[1.0, 9.0, 3.0])
        assert self.plan(known, told, law=LAW).table.equals(self.plan(known, target, law=LAW).table)
        # Groups have laws of their own.
        both = pd.concat([known.assign(kind="a"), known.assign(kind="b")], ignore_index=True)
        assert set(self.plan(both, target.assign(kind="b"), group="kind", law=LAW).table["kind"]) == {"b"}

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"cost": None}, "name the target rows, the cost of a row"),
            ({"budget": "ten"}, "budget 'ten' is not understood; give a share of the table's cost"),
            ({"budget": "120%"}, "is not understood"),
            ({"budget": "0.001%"}, "the measured rows are .* % of the table's cost"),
            ({"budget": "1e9"}, "budget 1e9 buys no row: .*the cheapest candidate costs .*; give a larger one"),
            ({"cost": "6*N*M"}, "'6\\*N\\*M' cannot be computed"),
            ({"power": -1}, "the power of the cost is -1"),
            ({"size": "7b"}, "size is for records"),
            ({"table": world()[0]}, "every row is measured; add rows to choose from"),
            ({"target": world()[2][["N"]]}, "the table of target rows has no column 'D'"),
            (
                {"target": world()[2].assign(kind="c"), "group": "kind"},
                "no row to measure is of the target's group 'c'",
            ),
        ],
    )
    def test_refusals(self, options, said):
        _, known, target = world()
        with pytest.raises(Refusal, match=said):
            self.plan(**{"table": known.assign(kind="a"), "target": target} | options)


THETA = np.array([1.69, 406.4, 410.7, 0.34, 0.28])


def runs(law="chinchilla", theta=THETA, **options):
    return losses_on_grid(law, theta, n=7, sizes=(1e8, 1e10), tokens=(2e9, 3e11), **options)


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
    options = {"x": ["N", "D"], "y": "loss", "law": "chinchilla"}
    costs = (None, "6*N*D + 2*N*1e12")
    plain, dear = (aa.allocate(runs(), 1e21, **options, cost=cost).table.iloc[0] for cost in costs)
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
