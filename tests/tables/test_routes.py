"""Ways to predict a table: each answers, what is back-tested is what predicts, advice that is given works."""

import json
from functools import cache

import numpy as np
import pandas as pd
import pytest
from law_worlds import losses_on_grid
from scipy.special import expit
from simulated_grids import SIZES as GRID_SIZES
from simulated_grids import World, simulate

import astraios_analysis as aa
from astraios_analysis.cli.main import main
from astraios_analysis.curves.lines import fit_lines
from astraios_analysis.records.refusal import Refusal

SECURITY = "embedded_security"
SIZES, RNG = np.geomspace(2e7, 6e9, 6), np.random.default_rng


def sizes_table(rng, sizes=SIZES, noise=0.004, n_items=2000):
    """Methods a and b: losses of a law with a floor, and accuracies and errors that follow the loss."""
    rows = []
    for level, name in ((1.0, "a"), (1.3, "b")):
        loss = (1.5 + 300 * level * sizes**-0.3) * np.exp(noise * rng.standard_normal(len(sizes)))
        solved = rng.binomial(n_items, expit(5 - 2.2 * loss)) / n_items
        rows.append(pd.DataFrame({"params": sizes, "method": name, "loss": loss, "accuracy": solved, "items": n_items}))
    return pd.concat(rows, ignore_index=True).assign(error=lambda t: 1 - t["accuracy"])


def curves_table(rng, n=30):
    x = np.geomspace(1e6, 1e9, n)
    loss = [(2 + 80 * level * x**-0.3) * np.exp(0.004 * rng.standard_normal(n)) for level in (1.0, 1.4)]
    return pd.DataFrame({"run": np.repeat(["p", "q"], n), "tokens": np.tile(x, 2), "loss": np.concatenate(loss)})


def joint_table():
    table = losses_on_grid("chinchilla", [1.7, 400, 410, 0.34, 0.28], 0.003, 4, sizes=(1e7, 1e9), tokens=(1e9, 1e11))
    return table.assign(accuracy=expit(6 - 2 * table["loss"]))


def family_table():
    rng, families = RNG(6), {"u": (1e8, 4e8, 1e9, 4e9), "v": (2e8, 6e8, 2e9), "w": (1e8, 5e8, 3e9)}
    rows = [
        (f, f"{f}{s:g}", s, x, 3.4 * level * x**-0.05 * (s / 1e8) ** -0.06 * np.exp(0.01 * rng.standard_normal()))
        for level, (f, sizes) in zip((1.0, 1.1, 0.9), families.items(), strict=True)
        for s in sizes
        for x in (1e2, 1e3, 1e4)
    ]
    return pd.DataFrame(rows, columns=["family", "model", "params", "n_ft", "loss"])


BY_METHOD, BY_LAW = {"x": "params", "group": "method"}, {"x": ["N", "D"], "law": "chinchilla"}
BY_FAMILY = {"x": "n_ft", "group": "model", "size_column": "params", "family_column": "family"}
FAR, FAR_OF_BOTH = {"params": 2e10}, {"N": 4e9, "D": 2e11}
CASES = {
    "curve": (curves_table(RNG(0)), {"x": "tokens", "y": "loss", "group": "run"}, {"tokens": 4e9}),
    "sizes": (sizes_table(RNG(1)), BY_METHOD | {"y": "loss", "route": "sizes"}, FAR),
    "mixed": (sizes_table(RNG(1)), BY_METHOD | {"y": "loss"}, FAR),
    "rate": (sizes_table(RNG(2)), BY_METHOD | {"y": "accuracy", "n_items": "items"}, FAR),
    "error": (sizes_table(RNG(2)), BY_METHOD | {"y": "error", "n_items": 2000}, FAR),
    "via": (sizes_table(RNG(3)), BY_METHOD | {"y": "accuracy", "via": "loss", "n_items": "items"}, FAR),
    "law": (joint_table(), BY_LAW | {"y": "loss"}, FAR_OF_BOTH),
    "law via": (joint_table(), BY_LAW | {"y": "accuracy", "via": "loss"}, FAR_OF_BOTH),
    "families": (family_table(), BY_FAMILY | {"y": "loss"}, {"params": 8e9}),
}


@cache
def answer(name):
    table, columns, at = CASES[name]
    return aa.predict(table, at=at, **columns)


@pytest.mark.parametrize("name", CASES)
def test_every_way_answers_and_is_back_tested(name):
    (table, columns, at), found = CASES[name], answer(name)
    assert len(found.rows) and not found.untested and found.backtest["n"].iloc[0] > 0
    # A marked row is predicted as an unmarked table without it is: what is back-tested is what predicts.
    tested = aa.backtest(table, **columns)
    np.testing.assert_allclose(tested.rows["value"], found.tested["value"])
    assert "mean_abs_error" in found.backtest and tested.mean["rmse_log"] < 0.5
    for row in found.rows:
        assert sum(row["weights"].values()) == pytest.approx(1, abs=1e-4) and row["at"].items() >= at.items()
        ends = {(one["kind"], one["level"]): (one["lower"], one["upper"]) for one in row["intervals"]}
        wide, narrow, mean = ends["observation", 0.95], ends["observation", 0.5], ends["mean", 0.95]
        assert wide[0] < narrow[0] < row["value"] < narrow[1] and wide[1] - wide[0] > mean[1] - mean[0]


def test_truths_are_covered():
    (row,) = answer("law").rows
    truth = 1.7 + 400 * 4e9**-0.34 + 410 * 2e11**-0.28
    assert row["intervals"][2]["lower"] < truth < row["intervals"][2]["upper"]
    assert row["value"] == pytest.approx(truth, rel=0.02)
    for name, turn in (("rate", 1), ("error", -1)):
        for row, level in zip(answer(name).rows, (1.0, 1.3), strict=True):
            rate = expit(turn * (5 - 2.2 * (1.5 + 300 * level * 2e10**-0.3)))
            assert row["intervals"][2]["lower"] < rate < row["intervals"][2]["upper"]
    for one, other in zip(answer("rate").rows, answer("error").rows, strict=True):
        assert one["value"] == pytest.approx(1 - other["value"], abs=2e-3)


def test_the_advice_of_refusals_works():
    short = pd.DataFrame({"params": [1e7, 1e8], "loss": [3.0, 2.5]})
    with pytest.raises(aa.Refusal, match="measure a third size"):
        aa.predict(short, size=1e9, x="params", y="loss")
    third = pd.concat([short, pd.DataFrame({"params": [5e8], "loss": [2.2]})])
    found = aa.predict(third, size=1e9, x="params", y="loss")
    low, high = (found.rows[0]["intervals"][2][end] for end in ("lower", "upper"))
    assert "loss" in found.untested and low < 2.1 < high and high / low > 1.2
    zero = pd.DataFrame({"params": SIZES, "score": [0.0, 0.01, 0.05, 0.2, 0.5, 0.8]})
    with pytest.raises(aa.Refusal, match="name the items behind each rate: --n-items"):
        aa.predict(zero, size=1e10, x="params", y="score", rate=True)
    assert 0.7 < aa.predict(zero, size=1e10, x="params", y="score", n_items=100).rows[0]["value"] < 1
    with pytest.raises(aa.Refusal, match=r"--at gives no D; give N=\.\.\.,D=\.\.\."):
        aa.predict(CASES["law"][0], at="N=4e9", x=["N", "D"], y="loss", law="chinchilla")


def test_few_sizes_of_many_groups_share_their_slope():
    rng, groups = RNG(5), []
    for _ in range(40):
        x = np.sort(rng.uniform(18, 24, rng.integers(2, 5)))
        groups.append((np.exp(x), rng.normal() + rng.normal(0.3, 0.05) * x + 0.1 * rng.standard_normal(len(x))))
    fitted = fit_lines(groups)
    assert fitted.slope == pytest.approx(0.3, abs=0.03) and 0.05 < fitted.scatter < 0.2
    inside = []
    for place, (x, z) in enumerate(groups[:20]):
        forecast = fitted.forecast(place, x[-1:] * 3)
        inside.append(forecast.log_quantile(0.025) < z[-1] + 0.3 * np.log(3) < forecast.log_quantile(0.975))
    assert np.mean(inside) >= 0.85


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("curve", ["--x", "tokens", "--y", "loss", "--group", "run", "--at", "tokens=4e9"]),
        ("law", ["--law", "chinchilla", "--x", "N,D", "--y", "loss", "--at", "N=4e9,D=2e11"]),
        ("via", ["--x", "params", "--y", "accuracy", "--group", "method", "--via", "loss", "--n-items", "items"]),
    ],
)
def test_commands(tmp_path, capsys, name, options):
    path = tmp_path / "t.csv"
    CASES[name][0].to_csv(path, index=False)
    options += [] if "--at" in options else ["--size", "2e10"]
    assert main(["predict", "--data", str(path), *options, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows[0]["at"] == CASES[name][2] and "back_tested" not in rows[0]
    assert main(["predict", "--data", str(path), *options, "--derive", "C=6*1e9"]) == 0
    assert "Back-test" in capsys.readouterr().out


@pytest.mark.parametrize("route", [None, "curve", "sizes"])
def test_a_size_has_one_answer_alone_and_among_many(route):
    table, way = sizes_table(RNG(2)), {**BY_METHOD, "y": "loss", "route": route}
    sizes = [*np.geomspace(1e7, 1e9, 40), 1e10, 5e10]
    together = aa.predict(table, size=sizes, **way).rows
    for size in (sizes[3], 1e10, 5e10):
        alone = aa.predict(table, size=size, **way).rows
        for one, other in zip(alone, (row for row in together if row["at"]["params"] == size), strict=True):
            ends = [[(i["lower"], i["upper"]) for i in row["intervals"]] for row in (one, other)]
            np.testing.assert_allclose(*ends, rtol=1e-9)
            np.testing.assert_allclose(one["value"], other["value"], rtol=1e-9)


def test_intervals_of_what_is_better_when_lower_are_turned_as_the_value_is():
    runs = simulate(World(level={SECURITY: -1.0}, slope={SECURITY: 3.0}), sizes=GRID_SIZES[:3])
    found = aa.predict(runs, size=2 * GRID_SIZES[2], dataset=SECURITY)
    assert list(found.untested) == [SECURITY] and found.rows[0]["metric"] == "insecure_rate"
    for row in found.rows:
        assert all(i["lower"] < row["value"] < i["upper"] for i in row["intervals"])


@pytest.mark.parametrize(("n", "noise"), [(7, 0.0), (12, 0.0), (7, 0.003), (12, 0.003)])
def test_what_rises_along_a_power_law_is_predicted_to_rise_on(n, noise):
    x = np.geomspace(1e8, 1e10, n)
    table = pd.DataFrame({"params": x, "y": (x / 1e8) ** 0.1 * np.exp(noise * RNG(0).standard_normal(n))})
    for row in aa.predict(table, x="params", y="y", size=[3e10, 1e11]).rows:
        assert row["value"] == pytest.approx((row["at"]["params"] / 1e8) ** 0.1, rel=0.03)


def test_a_curve_reaches_as_far_as_its_own_rows_allow():
    """A short curve beside a long one was said to reach as far, and answered without a word far beyond its rows."""
    x, rng = np.geomspace(10, 1000, 12), np.random.default_rng(0)
    scatter = np.exp(0.005 * rng.standard_normal((2, 12)))
    parts = [
        pd.DataFrame({"x": x * k, "y": (1 + 3 * (x * k) ** -0.5) * e, "group": g})
        for k, g, e in ((1, "short", scatter[0]), (100, "long", scatter[1]))
    ]
    roles = {"x": "x", "y": "y", "group": "group"}
    table = pd.concat(parts, ignore_index=True)
    found = aa.predict(table, size=[5e3, 2e5], **roles)
    reaches = found.table.set_index(["method", "size"])["reach"].to_dict()
    assert reaches == {("short", "5000"): 5.0, ("long", "5000"): 1.0, ("long", "200000"): 2.0}
    assert found.refused["short"].startswith("200000 lies 200 times beyond its own rows; the limit is 10 times")
    assert found.predict([5e3]).set_index("group")["reach"].to_dict() == {"short": 5.0, "long": 1.0}
    with pytest.raises(Refusal, match="short: 200000 lies 200 times"):
        aa.predict(table, size=2e5, method="short", **roles)
    with pytest.raises(Refusal, match=r"short: 200000 lies 200 times, 300000 lies 300 times beyond"):
        aa.predict(table, size=[2e5, 3e5], method="short", **roles)
    assert aa.predict(table, size=2e5, method="short", force=True, **roles).table["reach"][0] == 200


def test_losses_of_0_are_refused_and_no_line_goes_through_them():
    runs = [run.model_copy(update={"val_loss": 0.0}) for run in simulate(World())]
    with pytest.raises(aa.Refusal, match=r"val_loss: value 0 is outside \(0, inf\); it has no log"):
        aa.predict(runs, size=2 * GRID_SIZES[-1], dataset="val_loss")
