"""Which rows to measure next: the choice by hand, what the laws' covariance is, and what must be refused."""

import numpy as np
import pandas as pd
import pytest

import astraios_analysis as aa
from astraios_analysis.curves.plan import QUADRATIC, Expected, choose_batch, expect, parse_money, read_pool
from astraios_analysis.curves.tables import Columns
from astraios_analysis.laws.forms import LAWS
from astraios_analysis.records.refusal import Refusal

COLUMNS, COST, LAW = Columns(("N", "D"), "loss"), "6*N*D", "chinchilla"


def world(n_measured=14, noise=0.003, seed=0):
    """A pool of 49 rows of which the cheapest are measured, and targets beyond it."""
    n, d = (axis.ravel() for axis in np.meshgrid(np.geomspace(2e7, 1e9, 7), np.geomspace(5e8, 5e10, 7)))
    rng = np.random.default_rng(seed)
    pool = pd.DataFrame({"N": n, "D": d, "loss": loss(n, d) * np.exp(noise * rng.standard_normal(len(n)))})
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

    def test_laws_that_differ_at_a_place_are_unsure_there(self):
        _, known, target = world()
        rows = known[known["loss"].notna()]
        x, y = rows[["N", "D"]].to_numpy(), rows["loss"].to_numpy()
        alone, both = (
            expect(x, y, target.to_numpy(), [LAWS[name] for name in names], 1e-3, ["N", "D"])
            for names in (["chinchilla"], ["chinchilla", "multiplicative"])
        )
        assert set(both.weights) == {"chinchilla", "multiplicative"} and alone.weights == {"chinchilla": 1.0}
        near = expect(x, y, x[:3], [LAWS["chinchilla"]], 1e-3, ["N", "D"])
        assert np.diag(near.covariance).max() < np.diag(alone.covariance).min()

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
