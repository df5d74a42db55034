"""A law fitted to a table: parameters and predictions against statsmodels, coverage, what takes no part, a figure."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from law_worlds import losses_on_grid
from scipy import stats
from simulated_grids import simulate

import astraios_analysis as aa
from astraios_analysis.laws import fit as fit_room
from astraios_analysis.laws import solver
from astraios_analysis.laws.engine import fit_law
from astraios_analysis.laws.fit import fit_table
from astraios_analysis.laws.forms import LAWS, POWER
from astraios_analysis.laws.tables import read_table
from astraios_analysis.records.frame import to_frame
from astraios_analysis.records.refusal import Refusal

SIZES = np.geomspace(1e6, 1e9, 12)
AMPLITUDES = {"fft": 40, "lora": 60, "ia3": 90}


@pytest.fixture(scope="module")
def grouped():
    """Three methods at six sizes with one floor and exponent, and a row of each that is held out and absurd."""
    rng, rows = np.random.default_rng(0), []
    for method, amplitude in AMPLITUDES.items():
        for size in SIZES[::2]:
            loss = (0.5 + amplitude * size**-0.3) * np.exp(rng.normal(0, 0.002))
            rows.append({"params": size, "loss": loss, "method": method, "split": "train"})
        rows.append({"params": 1e10, "loss": 99.0, "method": method, "split": "extrapolate"})
    return read_table(pd.DataFrame(rows), x="params", y="loss", group="method", split="split")


@pytest.fixture(scope="module")
def apart(grouped):
    return fit_table(grouped, "power_floor")


@pytest.fixture(scope="module")
def shared(grouped):
    return fit_table(grouped, "power_floor", pooling="shared")


def test_parameters_and_predictions_are_those_of_linear_regression():
    noise, target = np.exp(np.random.default_rng(1).normal(0, 0.02, len(SIZES))), [2e8, 1e10]
    frame = pd.DataFrame({"n": SIZES, "loss": 40 * SIZES**-0.15 * noise})
    found = fit_table(frame, "power", x="n", y="loss", level=0.8)
    line = sm.OLS(np.log(frame["loss"]), sm.add_constant(-np.log(frame["n"]))).fit()
    table = found.table.set_index("parameter")
    expected = np.array(line.conf_int(0.2))
    assert table.loc["alpha", ["value", "lower", "upper"]].tolist() == pytest.approx([line.params["n"], *expected[1]])
    assert table.loc["A", ["lower", "upper"]].tolist() == pytest.approx(np.exp(expected[0]), rel=1e-4)
    assert set(table["level"]) == {0.8} and table["identified"].all()
    oracle = line.get_prediction(sm.add_constant(-np.log(target))).summary_frame(alpha=0.2)
    predicted = found.predict(target)
    assert list(predicted.columns) == ["group", "n", "value", "lower", "upper", "level", "kind", "reach"]
    # The line's own errors are those of regression; the inner splits say what comes on top, and how surely.
    width = found._saved.curves["all"].width
    assert width.dof == 5 and width.inflation == max(1, width.near**2 / line.mse_resid)
    further = width.growth * np.log([1, 10])
    for kind, scatter in (("mean", 0.0), ("observation", width.near)):
        own = predicted[predicted["kind"] == kind]
        spread = np.sqrt(width.inflation * oracle["mean_se"] ** 2 + further**2 + scatter**2)
        ends = oracle["mean"].to_numpy()[:, None] + stats.t.ppf([0.1, 0.9], 5) * spread.to_numpy()[:, None]
        np.testing.assert_allclose(own["value"], np.exp(oracle["mean"]), rtol=1e-6)
        np.testing.assert_allclose(own[["lower", "upper"]], np.exp(ends), rtol=1e-5)
        assert own["reach"].tolist() == pytest.approx([1, 10])


def test_groups_apart_and_shared(apart, shared):
    assert list(apart.fits) == list(AMPLITUDES)
    assert apart.table["group"].tolist() == np.repeat([*AMPLITUDES], 3).tolist()
    found = shared.table.set_index("parameter")
    assert list(found["group"].items()) == [("E", "all"), ("alpha", "all"), *(("A", name) for name in AMPLITUDES)]
    assert found.loc["alpha", "value"] == pytest.approx(0.3, abs=0.02) and found["identified"].all()
    assert found.loc["E", "value"] == pytest.approx(0.5, abs=0.05)
    assert found.loc["A", "value"].tolist() == pytest.approx(list(AMPLITUDES.values()), rel=0.1)
    for fit in (apart, shared):
        near = fit.predict(1e10)
        assert near["group"].unique().tolist() == list(AMPLITUDES) and (near["lower"] < near["value"]).all()
        truth = near["group"].map(AMPLITUDES) * 1e10**-0.3 + 0.5
        assert near["value"].to_numpy() == pytest.approx(truth.to_numpy(), rel=0.01)
    assert shared.diagnostics[["n_obs", "dof", "status", "is_lowest"]].iloc[0].tolist() == [18, 13, "converged", True]
    # Three methods at one size are one look: six sizes and three parameters leave three degrees of freedom.
    assert shared._saved.curves["all"].width.dof == 3


def test_a_pooled_prediction_does_not_hang_on_the_order_of_rows_or_on_names(grouped, shared):
    found = shared.predict(1e10).set_index(["group", "kind"])
    mixed = grouped.sample(frac=1, random_state=0).replace({"method": {"lora": "zz"}})
    again = fit_table(mixed, "power_floor", "params", "loss", "method", pooling="shared").predict(1e10)
    again = again.replace({"group": {"zz": "lora"}}).set_index(["group", "kind"]).loc[found.index]
    np.testing.assert_allclose(again[["value", "lower", "upper"]], found[["value", "lower", "upper"]], rtol=1e-6)


def test_what_is_held_out_takes_no_part(grouped, apart):
    assert apart.points.notes == ("3 rows not marked train in split left out",)
    marked = pd.DataFrame(grouped).assign(held_out=grouped["split"] != "train", split="train")
    again = fit_table(marked, "power_floor", "params", "loss", "method")
    np.testing.assert_array_equal(again.table["value"], apart.table["value"])
    assert again.points.notes[0] == "3 rows marked held_out left out"
    with pytest.raises(Refusal, match="row 1: column 'held_out' is 'maybe'; it must be true or false"):
        fit_table(marked.assign(held_out="maybe"), "power", "params", "loss")


def test_groups_that_cannot_be_fitted_are_named(grouped):
    own = grouped[(grouped["method"] == "lora") & (grouped["split"] == "train")]
    for fixed in (None, {"E": 0.5}):
        alone = fit_law("power_floor", own["params"].to_numpy(), own["loss"].to_numpy(), fixed=fixed)
        np.testing.assert_allclose(fit_table(grouped, "power_floor", fixed=fixed).fits["lora"].theta, alone.theta)
    few = grouped.drop(grouped.index[(grouped["method"] == "ia3") & (grouped["params"] > 1e7)])
    found = fit_table(few, "power_floor")
    assert list(found.fits) == ["fft", "lora"] and "no degree of freedom is left by" in found.refused["ia3"]
    assert "warning: ia3 is not fitted: no degree of freedom" in repr(found)
    with pytest.raises(Refusal, match=r"^fft, lora, ia3: no degree of freedom is left by 1 point for "):
        fit_table(grouped[grouped["params"] == SIZES[0]], "power_floor")
    # A far error widens predictions.
    bent = own.assign(loss=own["loss"] * np.where(own["params"] == own["params"].max(), 1.02, 1))
    ends = [fit_table(table, "power_floor").predict(1e10) for table in (own, bent)]
    widths = [np.log(found["upper"] / found["lower"]).to_numpy() for found in ends]
    assert np.all(widths[1] > 2 * widths[0])


def test_it_prints_as_a_table(shared, grouped):
    text = repr(shared)
    assert len(text.splitlines()) == 10 and max(map(len, text.splitlines())) < 100
    assert "lora         A" in text and "18 points, 13 degrees of freedom, converged" in text
    assert shared._repr_html_().count("<tr>") + shared._repr_html_().count("<tr ") == 6
    assert repr(shared.fits["all"]).startswith("LawFit(power_floor, pooled: E = 0.")
    held = fit_table(grouped, POWER, group=(), fixed={"A": 40.0})
    assert held.table["identified"].tolist() == [None, True] and held.table["lower"].isna().tolist() == [True, False]


def test_figure_dashes_what_lies_beyond_the_points(apart):
    (axes,) = apart.plot(to=1e11).axes
    assert [collection.get_offsets().shape for collection in axes.collections[::2]] == [(6, 2)] * 3
    solid = [line.get_xdata() for line in axes.lines if line.get_linestyle() == "-"]
    dashed = [line.get_xdata() for line in axes.lines if line.get_linestyle() == "--" and len(line.get_xdata()) > 1]
    assert all(x.max() == pytest.approx(SIZES[10]) for x in solid) and len(solid) == len(dashed) == 3
    assert all(x.min() == pytest.approx(SIZES[10]) and x.max() == pytest.approx(1e11) for x in dashed)
    with pytest.raises(Refusal, match="inputs of power_floor must be positive"):
        apart.plot(to=-1)
    assert (axes.get_xscale(), axes.get_xlabel(), axes.get_ylabel()) == ("log", "params", "loss")


def test_laws_of_several_inputs():
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"N": rng.choice(SIZES, 40), "D": rng.choice(SIZES * 50, 40)})
    frame["loss"] = (1.7 + 400 * frame["N"] ** -0.34 + 2000 * frame["D"] ** -0.37) * np.exp(rng.normal(0, 0.005, 40))
    found = fit_table(frame, "chinchilla", x=["N", "D"], y="loss", huber=1e-3)
    assert found.table.set_index("parameter").loc["E", "value"] == pytest.approx(1.7, abs=0.1)
    row, again = found.predict([2e9, 1e12]), found.predict(pd.DataFrame({"D": [1e12], "N": [2e9]}))
    pd.testing.assert_frame_equal(row, again)
    assert row["reach"].tolist() == pytest.approx([1e12 / frame["D"].max()] * 2)
    assert found.plot().axes[0].get_xlabel() == "loss, fitted"
    with pytest.raises(Refusal, match="chinchilla has 2 inputs, and no curve to draw"):
        found.plot(to=1e10)


def test_rates_stay_within_zero_and_one():
    loss = np.linspace(1.5, 3, 12)
    rate = 1 / (1 + np.exp(-7 + 3 * loss)) + np.random.default_rng(0).normal(0, 0.02, 12)
    ends = fit_table(pd.DataFrame({"L": loss, "rate": rate}), "logit_link", x="L", y="rate").predict([0.5, 2.3, 6.0])
    assert ends["lower"].min() == 0 and ends["upper"].max() == 1
    assert ((ends["lower"] <= ends["value"]) & (ends["value"] <= ends["upper"])).all()


@pytest.mark.parametrize(
    ("name", "theta"), [("logistic_link", [0.25, 0.9, 4.0, 2.6]), ("exponential_link", [0.75, 2.0, 1.1])]
)
def test_a_ceiling_that_no_point_is_near_is_said_to_be_extrapolated(name, theta):
    codes = []
    for loss in (np.linspace(1.2, 4, 30), np.linspace(2.4, 4, 30)):
        rate = LAWS[name].function(loss, np.array(theta)) + np.random.default_rng(0).normal(0, 0.002, 30)
        found = fit_table(pd.DataFrame({"L": loss, "rate": rate}), name, x="L", y="rate")
        codes.append("ceiling_extrapolated" in [one["code"] for one in found.coded_warnings()])
    assert codes == [name == "exponential_link", True]


def test_a_table_is_read_once_with_its_roles(tmp_path):
    path = tmp_path / "runs.csv"
    # Sizes are written in any notation.
    path.write_text('# source: made up\nn,loss\n1M,3.5\n"2,000,000",3.3\n4e6,3.13\n8_000_000,2.99\n16m,2.87\n')
    found = fit_table(read_table(path, x="n", y="loss"), "power")
    assert found.points.x.tolist() == [1e6, 2e6, 4e6, 8e6, 16e6]
    assert found.fits["all"].params["alpha"] == pytest.approx(0.072, abs=2e-3)
    with pytest.raises(Refusal, match=r"runs\.csv has no column 'tokens'; it has n, loss"):
        read_table(path, x="tokens", y="loss")
    with pytest.raises(Refusal, match=r"runs\.csv: there is no such file"):
        read_table(tmp_path / "more" / "runs.csv")
    table = aa.derive(pd.DataFrame({"N": [1e8, 1e9], "D": [2e9, 3e9]}), "C=6*N*D", "r = D/N")
    assert list(table["C"]) == [1.2e18, 1.8e19] and list(table["r"]) == [20, 3]
    said = pd.DataFrame({"N": ["7B", "1e9"], "g": ["a", "b"]})
    assert aa.derive(said, "C=6*N")["C"].tolist() == [42e9, 6e9]
    with pytest.raises(Refusal, match=r"'6\*g' cannot be computed"):
        aa.derive(said, "C=6*g")
    for text, match in (("C=6*M", "cannot be computed from N, D"), ("6*N", "no column; write NAME"), ("N=D", "'N' al")):
        with pytest.raises(Refusal, match=match):
            aa.derive(pd.DataFrame({"N": [1.0], "D": [2.0]}), text)


def test_a_run_is_one_point_however_many_scores_it_has():
    frame = to_frame(simulate(methods=("lora", "fft")))
    found = fit_table(frame, "power", x="n_params_base", y="val_loss", group="method")
    assert len(frame) == 48 and found.fits["lora"].n_obs == 12


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"law": "powr"}, "unknown law 'powr'; choose from power"),
        ({"x": ["params", "loss"]}, "column 'loss' is named twice; inputs, outcome and groups"),
        ({"x": ["params", "loss"], "y": "seed"}, r"power has 1 inputs \(N\) and x names 2: params, loss"),
        ({"x": "size"}, "the table has no column 'size'; it has params, loss"),
        ({"y": "method", "group": ()}, "row 1, column 'method': is 'fft', not a finite number"),
        ({"group": (), "pooling": "shared"}, "shared pooling needs groups"),
        ({"pooling": "partial"}, "unknown pooling 'partial'; choose from none, shared"),
        ({"level": 95}, "level is 95; give a share"),
        ({"intervals": "exact"}, "unknown intervals 'exact'; choose from profile, bootstrap"),
        ({"split": "method"}, "no row of the table is marked train in column 'method'"),
    ],
)
def test_refusals(grouped, options, text):
    with pytest.raises(Refusal, match=text):
        fit_table(grouped.assign(seed=1.0), **({"law": "power"} | options))
    with pytest.raises(Refusal, match="name the columns of the table with x and y"):
        fit_table(pd.DataFrame({"n": SIZES}), "power")


def test_tied_parameters_are_one(tmp_path):
    runs = losses_on_grid("chinchilla", [1.7, 400, 3000, 0.35, 0.35])

    def fit(law, **fixed):
        return aa.fit(runs, law, ["N", "D"], "loss", fixed=fixed)

    tied = fit("chinchilla", alpha="beta")
    assert list(tied.table["parameter"]) == ["E", "A", "B", "beta"]
    one = tied.fits["all"]
    assert one.dof == 21 and one.params["beta"] == pytest.approx(0.35, abs=0.03)
    same = fit("chinchilla", **dict.fromkeys(("alpha", "beta"), one.params["beta"]))
    np.testing.assert_allclose(same.fits["all"].value, one.value, rtol=1e-9)
    np.testing.assert_allclose(fit("skaling", alpha="beta", k=1.0).fits["all"].value, one.value, rtol=1e-6)
    tied.save(tmp_path / "fit.json")
    again = aa.load_fit(tmp_path / "fit.json").predict([[1e9, 1e11]])
    pd.testing.assert_frame_equal(again, tied.predict([[1e9, 1e11]]))
    with pytest.raises(Refusal, match="alpha is tied to alpha, which is itself"):
        fit("chinchilla", alpha="alpha")


@pytest.fixture
def curve():
    """A table of one power law with a floor and one per cent of noise."""
    y = (1 + 30 * SIZES**-0.3) * np.exp(0.01 * np.random.default_rng(0).normal(size=len(SIZES)))
    return pd.DataFrame({"n": SIZES, "y": y})


def test_a_group_that_fails_takes_no_other_down(curve, monkeypatch):
    certify = fit_room.certify

    def half(one, level):
        if one.params["A"] > 60:
            raise np.linalg.LinAlgError("Singular matrix")
        return certify(one, level)

    monkeypatch.setattr(fit_room, "certify", half)
    other = curve.assign(m="b", y=curve["y"] + 60 * SIZES**-0.3)
    found = aa.fit(pd.concat([curve.assign(m="a"), other]), "power_floor", "n", "y", "m")
    assert set(found.fits) == {"a", "b"} and found.table["lower"].notna().tolist() == [True] * 3 + [False] * 3
    assert found.coded_warnings("b")[0]["code"] == "no_intervals" and "Singular" in repr(found)


def test_where_newton_stops_short_the_fallback_is_named(curve, monkeypatch):
    expected = aa.fit(curve, "power_floor", "n", "y").fits["all"]
    minimise = solver.minimise
    monkeypatch.setattr(solver, "minimise", lambda *args, **how: minimise(*args, **{**how, "max_steps": 3}))
    monkeypatch.setattr(solver, "solve", lambda p, s, w, o: (minimise(p, s, w, o.delta, max_steps=1), np.ones(len(s))))
    found = aa.fit(curve, "power_floor", "n", "y")
    one = found.fits["all"]
    assert one.fallback == "scipy least_squares" and one.value == pytest.approx(expected.value, rel=1e-9)
    text = "Newton's method stopped short; found by scipy least_squares"
    assert {"code": "fallback", "text": text} in found.coded_warnings()


@pytest.mark.parametrize(("law", "of"), [("logistic_link", "scores"), ("exponential_link", "errors")])
def test_laws_of_rates_take_rates(law, of):
    losses, rates = np.linspace(3, 2, 8), np.linspace(0.2, 0.6, 8)
    table, words = pd.DataFrame({"L": losses, "y": 100 * rates}), f"y is 20 in a row, and {law} is of {of} between 0"
    with pytest.raises(Refusal, match=words):
        fit_table(table, law, "L", "y")
    with pytest.raises(Refusal, match=words):
        aa.predict(table, x="L", y="y", law=law, size=1.9)
    with pytest.raises(Refusal, match=r"y is -0\.3 in a row"):
        fit_table(table.assign(y=rates - 0.5), law, "L", "y")
    # Nothing solved is a rate, too.
    assert (fit_table(table.assign(y=0.0), law, "L", "y").predict([1.9])["value"] < 1e-6).all()
