"""What a law errs beyond its points: distances by hand, a known growth found again, one law's intervals one answer."""

import json

import numpy as np
import pandas as pd
import pytest
from law_worlds import losses_on_grid
from scipy.special import expit

import astraios_analysis as aa
from astraios_analysis.laws import holdouts
from astraios_analysis.laws.engine import fit_law
from astraios_analysis.laws.fit import fit_table
from astraios_analysis.laws.forms import find_law
from astraios_analysis.laws.residuals import Objective

X = np.geomspace(1e6, 1e9, 40)
THETA = [1.7, 400, 410, 0.34, 0.28]


def test_distance_is_the_furthest_of_the_inputs_and_their_product():
    last = holdouts.directions(np.array([[1.0, 10.0], [2.0, 20.0], [4.0, 5.0]])).max(axis=1)
    asked = np.array([[8.0, 5.0], [16.0, 1.0], [3.0, 19.0], [2.0, 10.0], [4.0, 40.0]])
    np.testing.assert_allclose(holdouts.distance_beyond(last, asked), np.log([2, 4, 57 / 40, 1, 4]), atol=1e-15)
    np.testing.assert_allclose(holdouts.distance_beyond([np.log(1e9)], np.array([[1e8], [2e9]])), [0.0, np.log(2)])


def test_reach_is_that_of_the_furthest_input():
    np.testing.assert_allclose(holdouts.reach(np.array([0.5, 2.0, 30.0]), 1.0, 10.0), [2, 1, 3])
    np.testing.assert_allclose(holdouts.reach(np.array([[5.0, 1.0], [5.0, 40.0]]), [1, 2], [10, 4]), [2, 10])
    assert len(holdouts.reach(np.empty((0, 2)), [1, 2], [10, 4])) == len(holdouts.reach(np.empty(0), 1.0, 2.0)) == 0


def test_growth_of_errors_is_found_again():
    rng = np.random.default_rng(0)
    distance, known = rng.uniform(0, 2, 4000), rng.uniform(0, 4, 4000)
    noise = rng.standard_normal(4000)
    errors = np.sqrt(0.01**2 + (0.05 * distance) ** 2) * noise
    near, growth = holdouts.fit_growth(errors, distance, 0.01)
    assert near == pytest.approx(0.01, rel=0.2) and growth == pytest.approx(0.05, rel=0.2)
    # What the points leave open is no growth, and no scatter.
    near, growth = holdouts.fit_growth(0.01 * np.sqrt(1 + known) * noise, distance, 0.01, known)
    assert near == pytest.approx(0.01, rel=0.1) and growth < 0.005
    assert holdouts.fit_growth(np.empty(0), np.empty(0), 0.03) == (0.03, 0.0)


def test_inner_errors_are_those_of_fits_to_the_points_below():
    y = 1.5 + 40 * X**-0.25 * np.exp(0.01 * np.random.default_rng(0).standard_normal(len(X)))
    fitted = fit_law("power", X, y)
    found = holdouts.inner_errors(fitted, X[:, None])
    for place, n_near in enumerate((20, 24, 28, 32, 36)):
        alone = fit_law("power", X[:n_near], y[:n_near])
        np.testing.assert_allclose(found.errors[place], np.log(alone.predict(X[n_near:]) / y[n_near:]), atol=1e-7)
        np.testing.assert_allclose(found.distances[place], np.log(X[n_near:] / X[n_near - 1]))
        # A line in log x, known from the points below: its variance in units of the scatter's.
        near, far = (np.column_stack([np.ones(len(x)), np.log(x)]) for x in (X[:n_near], X[n_near:]))
        open_ = np.einsum("ni,ij,nj->n", far, np.linalg.inv(near.T @ near), far)
        np.testing.assert_allclose(found.open[place], open_, rtol=1e-4)


def test_splits_that_cannot_be_fitted_are_left_out():
    fitted = fit_law("power_floor", X[:5], 1.5 + 40 * X[:5] ** -0.25)
    found = holdouts.inner_errors(fitted, X[:5, None])
    # Of five points 0.8 and 0.9 both leave the last; 0.5 to 0.7 leave too few below.
    assert [e is not None for e in found.errors] == [False, False, False, True, True]
    assert [len(d) for d in found.distances] == [3, 2, 2, 1, 1] and [len(own) for own in found.joined()] == [2, 2, 2]
    few = fit_law("power", X[:3], 40 * X[:3] ** -0.25 * np.array([1.0, 1.02, 1.0]))
    width = holdouts.width_of(few, X[:3, None], 2)
    robust = 1.4826 * np.median(np.abs(few.residuals)) * np.sqrt(3)
    assert (width.near, width.growth, width.dof) == (max(few.residual_scale, robust), 0.0, 1)


def points(law, n=14, **held):
    """Points of a law with their columns, and inputs beyond them."""
    rng, params = np.random.default_rng(3), find_law(law)
    x = {"N": np.geomspace(1e7, 1e9, n), "D": rng.permutation(np.geomspace(1e9, 1e11, n)), "L": np.linspace(3, 2, n)}
    names = list(params.inputs)
    x = np.column_stack([x[name] for name in names])
    y = params.function(x if len(names) > 1 else x[:, 0], np.array(list(held.values())))
    y = y * np.exp(0.01 * rng.standard_normal(n)) if params.residual == "log" else y + 0.01 * rng.standard_normal(n)
    far = {"N": 4e9, "D": 4e11, "L": 1.8}
    return pd.DataFrame(x, columns=names).assign(y=y), names, {name: far[name] for name in names}


@pytest.mark.parametrize(
    ("law", "params"),
    [
        ("power", {"A": 40.0, "alpha": 0.15}),
        ("power_floor", {"E": 1.5, "A": 400.0, "alpha": 0.3}),
        ("chinchilla", {"E": 1.7, "A": 400.0, "B": 4000.0, "alpha": 0.34, "beta": 0.37}),
        ("logistic_link", {"floor": 0.1, "ceiling": 0.9, "k": 4.0, "L0": 2.4}),
    ],
)
def test_one_law_has_one_interval_whoever_is_asked(law, params):
    table, names, far = points(law, **params)
    of_fit = fit_table(table, law, names, "y").predict(pd.DataFrame([far]))
    (row,) = aa.predict(table, x=names, y="y", law=law, at=far).rows
    for kind in ("mean", "observation"):
        own = of_fit[of_fit["kind"] == kind].iloc[0]
        (ends,) = (i for i in row["intervals"] if i["level"] == 0.95 and i["kind"] == kind)
        found = [row["value"], ends["lower"], ends["upper"]]
        np.testing.assert_allclose(found, own[["value", "lower", "upper"]].astype(float), rtol=1e-9)


def test_groups_that_share_a_law_of_the_loss_lie_out_where_it_is_small():
    rng, losses = np.random.default_rng(0), np.linspace(3, 2, 8)
    parts = [(name, scale * (0.9 - 0.8 * expit(3 * (losses - 2.4)))) for name, scale in (("a", 1.0), ("b", 0.8))]
    parts = [pd.DataFrame({"L": losses, "y": y + 0.01 * rng.standard_normal(8), "on": name}) for name, y in parts]
    fitted = fit_table(pd.concat(parts), "logistic_link", "L", "y", "on", pooling="shared")
    curve = fitted._saved.curves["all"]
    assert curve.width.last == pytest.approx([np.log(1 / 2)]) and curve.width.dof == 4
    inside, beyond = (holdouts.ordered(curve.law, np.array([[loss, 1.0]])) for loss in (2.5, 1.6))
    assert holdouts.distance_beyond(curve.width.last, inside) == 0
    np.testing.assert_allclose(holdouts.distance_beyond(curve.width.last, beyond), np.log(2 / 1.6))


def test_an_interval_does_not_depend_on_what_else_is_asked():
    table = losses_on_grid("chinchilla", THETA, 0.01, sizes=(1e7, 1e9), tokens=(1e8, 1e10))
    places = [{"N": 8e9, "D": 1e9}, {"N": 1e8, "D": 8e10}, {"N": 1e8, "D": 7e10}]
    together = aa.predict(table, x=["N", "D"], y="loss", at=places).rows
    for place, row in zip(places, together, strict=True):
        assert aa.predict(table, x=["N", "D"], y="loss", at=place).rows == [row]


def test_what_is_printed_does_not_depend_on_the_order_of_rows():
    worlds = [losses_on_grid("chinchilla", THETA, 0.01, seed, sizes=(1e7, 1e9), tokens=(1e8, 1e10)) for seed in (1, 2)]
    table = pd.concat([world.assign(on=name) for world, name in zip(worlds, "ba", strict=True)], ignore_index=True)
    table["error"] = expit(2 * (table["loss"] - 3)) + 0.002 * np.random.default_rng(3).standard_normal(len(table))
    columns = {"x": ["N", "D"], "group": "on", "at": {"N": 3e9, "D": 3e10}}
    for way in ({"y": "loss"}, {"y": "error", "via": "loss", "rate": True}):
        both = (aa.predict(rows, **columns, **way).table for rows in (table, table.sample(frac=1, random_state=3)))
        one, other = (found.sort_values("method") for found in both)
        ends = ["value", "lower_50", "upper_50", "lower_95", "upper_95"]
        np.testing.assert_allclose(one[ends], other[ends], rtol=1e-7)


def test_a_law_that_is_wrong_says_so_and_one_that_is_right_is_covered_as_asked():
    levels, hits, far = np.array([0.5, 0.8, 0.95]), {"right": [], "wrong": []}, 4e9
    for seed in range(60):
        rng = np.random.default_rng(seed)
        # A power law has no floor: its error grows with the distance.
        for name, truth in {"right": lambda x: 40 * x**-0.15, "wrong": lambda x: 1.6 + 300 * x**-0.3}.items():
            y = truth(X) * np.exp(0.01 * rng.standard_normal(len(X)))
            fitted = fit_table(pd.DataFrame({"n": X, "y": y}), "power", "n", "y")
            ends = pd.concat([fitted.predict(far, level=level).iloc[[1]] for level in levels])
            new = truth(far) * np.exp(0.01 * rng.standard_normal())
            hits[name].append(((ends["lower"] <= new) & (new <= ends["upper"])).to_numpy())
    margin = 3 * np.sqrt(levels * (1 - levels) / 60)
    right, wrong = (np.mean(hits[name], axis=0) for name in ("right", "wrong"))
    assert np.all(right >= levels - margin) and np.all(right <= levels + margin + 0.05), right
    # A wrong law errs to one side in every world, so that the narrow intervals miss alike.
    assert wrong[2] >= levels[2] - margin[2], wrong


def test_huber_is_asked_for():
    table, names, far = points("power", A=40.0, alpha=0.15)
    table.loc[5, "y"] *= 3
    straight, robust = (aa.predict(table, x=names, y="y", law="power", at=far, huber=h).rows[0] for h in (None, 1e-3))
    assert straight["value"] == pytest.approx(fit_table(table, "power", names, "y").predict([4e9])["value"].iloc[0])
    assert abs(np.log(robust["value"] / (40 * 4e9**-0.15))) < abs(np.log(straight["value"] / (40 * 4e9**-0.15))) / 2
    assert Objective("log", 1e-3).is_robust


def test_off_the_line_on_which_all_inputs_lie_nothing_is_said(tmp_path):
    n = np.geomspace(1e8, 3e9, 7)
    loss = (1.7 + 400 * n**-0.34) * np.exp(0.01 * np.random.default_rng(0).standard_normal(7))
    table, ways = pd.DataFrame({"N": n, "D": 20 * n, "loss": loss}), {"x": ["N", "D"], "y": "loss"}
    fitted = fit_table(table, "multiplicative", ["N", "D"], "loss")
    fitted.save(tmp_path / "fit.json")
    asks = [lambda at, law=law: aa.predict(table, at=at, law=law, **ways) for law in (None, "multiplicative")]
    asks += [lambda at: fitted.predict(pd.DataFrame([at]))]
    asks += [lambda at: aa.load_fit(tmp_path / "fit.json").predict(pd.DataFrame([at]))]
    for ask in asks:
        assert ask({"N": 1e10, "D": 2e11}) is not None
        with pytest.raises(aa.Refusal, match=r"and 1e\+10, 2e\+10 lies off where they do by a factor of 5"):
            ask({"N": 1e10, "D": 2e10})
    with pytest.raises(aa.Refusal, match="N and D move together in all rows, so that none tells how a budget"):
        aa.allocate(table, 1e21, ["N", "D"], "loss")
    with pytest.raises(aa.Refusal, match=r"move together, or not at all, .*, and 1e\+10, 2e\+10 lies off"):
        aa.predict(table.assign(D=1e10), at={"N": 1e10, "D": 2e10}, law="multiplicative", **ways)
    # A tenth apart is apart: the interval says how little that tells.
    apart = table.assign(D=table["D"] * np.exp(0.1 * np.random.default_rng(1).standard_normal(7)))
    places = [{"N": 1e10, "D": 2e11}, {"N": 1e10, "D": 2e10}]
    on, off = aa.predict(apart, at=places, law="multiplicative", **ways).rows
    on, off = (np.log(row["intervals"][2]["upper"] / row["intervals"][2]["lower"]) for row in (on, off))
    assert off > 2 * on


def test_a_fit_that_is_open_to_infinity_is_kept(tmp_path):
    n = np.geomspace(1e8, 3.2e9, 6)
    table = pd.DataFrame({"N": n, "D": 10 * n, "loss": [3.1, 2.9, 2.7, 2.6, 2.5, 2.45]})
    fitted = fit_table(table, "chinchilla", ["N", "D"], "loss")
    fitted.save(tmp_path / "fit.json")
    drawn = json.loads((tmp_path / "fit.json").read_text())["fits"][0]["draws"]
    assert any(None in one for one in drawn) and len(drawn) == 200
    again = aa.load_fit(tmp_path / "fit.json").predict([[1e10, 1e11]])
    pd.testing.assert_frame_equal(again, fitted.predict([[1e10, 1e11]]))
