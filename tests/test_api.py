"""`import astraios_analysis as aa`: the snippet of the design as it stands, and what holds of every prediction."""

import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from law_worlds import losses_on_grid
from matplotlib.figure import Figure
from simulated_grids import LARGEST, simulate

import astraios_analysis as aa
from astraios_analysis.prediction import suite

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "data" / "examples" / "runs.csv"
DATASET = "recode_format"


@pytest.fixture(scope="module")
def runs():
    return aa.load(ROOT / "data", grid="released")


@pytest.fixture(scope="module")
def table():
    return aa.read_table(EXAMPLE, x="params", y="loss", group="method")


@pytest.fixture(scope="module")
def predicted(runs):
    """Every score of the released models at the size of the figures."""
    return aa.predict(runs, size="34b")


@pytest.fixture(scope="module")
def judged(runs):
    return aa.judge(runs, "fft_best")


def test_nothing_is_loaded_before_it_is_needed():
    script = "import sys, astraios_analysis as aa; aa.__all__; print(*sys.modules); aa.predict; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=ROOT)
    package, verb = (set(line.split()) for line in done.stdout.splitlines())
    assert not package & {"numpy", "pandas", "scipy", "pydantic", "torch", "matplotlib", "statsmodels"}
    assert not verb & {"torch", "matplotlib", "statsmodels", "seaborn"} and "scipy" in verb


def test_all_names_are_there_and_described():
    assert aa.__all__ == sorted(set(aa.__all__)) == dir(aa)
    assert all(getattr(aa, name).__doc__ for name in aa.__all__)
    with pytest.raises(AttributeError, match=r"astraios_analysis has no 'predic'; it has .*predict"):
        _ = aa.predic


class TestSnippet:
    """Section 2 of the design."""

    def test_predict_runs(self, runs):
        p = aa.predict(runs, size=["7b", "34b"], dataset=DATASET)
        assert p.table["size"].unique().tolist() == ["7b", "34b"] and len(p.table) == 14
        assert p.weights["weight"].sum() == pytest.approx(1, abs=1e-2)
        assert p.backtest["quantity"].tolist() == [DATASET] and isinstance(p.plot(), Figure)

    @pytest.mark.parametrize("named", [{}, {"law": "power_floor"}])
    def test_more_inputs_are_asked_of_what_is_fitted(self, table, named):
        q = aa.predict(table, 2e10, level=0.9, **named)
        more = q.predict([2e10], level=[0.9, 0.95]).set_index(["group", "kind", "level"])
        for row in q.rows:
            for one in row["intervals"]:
                if one["level"] in (0.9, 0.95):
                    own = more.loc[(row["method"], one["kind"], one["level"])]
                    assert [*own[["value", "lower", "upper"]]] == [row["value"], one["lower"], one["upper"]]
        assert {"lower_90", "reach"} <= set(q.tested) and q.diagnostics["n_sizes"].tolist() == [6]

    def test_the_frame_has_intervals_of_what_is_asked(self, runs, table):
        found = aa.frame(runs, level=0.9, only=("recode_format", "all_transformations", "robust_pass@1"))
        assert len(found) == 28 and (found["lower"] < found["upper"]).all() and set(found["level"]) == {0.9}
        assert set(aa.frame(runs, per="primary").groupby("dataset")["metric"].nunique()) == {1}
        assert list(aa.frame(table)) == ["params", "loss", "group", "held_out"]

    def test_a_drawing_is_saved(self, tmp_path):
        written = aa.Drawing(Figure(), pd.DataFrame({"x": [1 / 3]})).save(tmp_path / "it.png")
        assert sorted(path.name for path in written) == ["it.csv", "it.pdf", "it.png"]
        assert (tmp_path / "it.csv").read_text() == "x\n0.33333333\n"

    def test_predict_a_table(self, table):
        q = aa.predict(table, x="params", y="loss", group="method", size=[7e9, 34e9])
        assert q.table.equals(aa.predict(table, size=[7e9, 34e9]).table)
        truth = 1.6 + 300 * 34e9**-0.32
        (full,) = q.table.query("method == 'full' and n_params == 34e9").itertuples()
        assert full.lower_95 < truth < full.upper_95 and full.value == pytest.approx(truth, rel=0.1)

    def test_an_index_named_as_columns_is_no_matter(self, table):
        asked = {"x": "params", "y": "loss", "group": "method"}
        found = table.set_index(["method", "params"], drop=False)
        assert aa.backtest(found, **asked).table.equals(aa.backtest(table, **asked).table)

    def test_compare_a_table(self, table):
        found = aa.compare(table)
        pairs = found.table[["method_a", "method_b"]].drop_duplicates()
        assert pairs.values.tolist() == [["full", "lora"], ["full", "prompt"]]
        at = table.set_index(["params", "method"])["loss"]
        for row in found.rows:
            assert row["difference"] == at[row["n_params"], row["method_b"]] - at[row["n_params"], "full"]
        assert isinstance(found.plot(), Figure) and found.crossings["ahead"].tolist() == ["lora", "full"]
        rates = table.assign(rate=0.5 + (table["method"] == "lora") / 10)
        (row, _) = aa.compare(rates, "full", "lora", "20m", y="rate", rate=True, n_items=100).rows
        assert row["stderr"] == pytest.approx((0.25 / 100 + 0.24 / 100) ** 0.5, rel=0.05)
        with pytest.raises(aa.Refusal, match="full is compared with itself; name two methods of full, lora, prompt"):
            aa.compare(table, "full", "full")

    def test_what_is_asked_of_runs_refuses_a_table(self, table):
        verbs = [lambda: aa.rank(table), lambda: aa.regress(EXAMPLE), lambda: aa.judge(table)]
        for verb in [*verbs, lambda: aa.draw("backtest", table), lambda: aa.transfer({"a": 1})]:
            with pytest.raises(aa.Refusal, match="runs"):
                verb()
        for wrong in (pd.concat([table, table[["loss"]]], axis=1), table.rename(columns={"loss": 1})):
            with pytest.raises(aa.Refusal, match=r"two columns 'loss'|no name of letters"):
                aa.predict(wrong, x="params", y="loss", size="7b")
        assert aa.fit(EXAMPLE, "power", "params", "loss", "method").groups == ("full", "lora", "prompt")

    @pytest.mark.parametrize("values", [[True] * 6, pd.date_range("2026", periods=6), np.arange(1, 7) + 1j])
    def test_what_is_no_number_is_refused(self, values):
        wrong = pd.DataFrame({"n": np.geomspace(1e6, 1e9, 6), "loss": values})
        with pytest.raises(aa.Refusal, match=r"row 1, column 'loss': is .*, not a finite number"):
            aa.fit(wrong, "power", "n", "loss")

    def test_a_list_is_no_column(self, table):
        with pytest.raises(aa.Refusal, match=r"has no column \['loss'\]; it has params, method, loss"):
            aa.predict(table, size=1e9, x="params", y=["loss"], group="method")

    def test_sizes_that_hardly_differ(self):
        n = 2**60 + np.geomspace(1e6, 1e9, 6).astype(int)
        with pytest.raises(aa.Refusal, match="the rows do not determine loss there"):
            aa.predict(pd.DataFrame({"n": n, "loss": [5.0, 4, 3.4, 3, 2.7, 2.5]}), x="n", y="loss", size="2e18")

    def test_a_table_whose_rows_are_marked(self, table):
        marked = table.assign(split=np.where(table["params"] < 1e9, "train", "extrapolate"))
        tested = aa.backtest(marked, x="params", y="loss", group=(), split="split", law="power_floor")
        assert tested.groups[0]["n_test"] == 6 == len(tested.predicted) and tested.procedure.startswith("one law")
        with pytest.raises(aa.Refusal, match="a back-test of a table has no figure"):
            tested.plot()


def test_which_rows_take_part_does_not_depend_on_what_is_asked():
    names = {"x": ["N", "D"], "y": "loss", "law": "multiplicative"}
    good = losses_on_grid("multiplicative", [0.7, 3000, 0.2, 0.15], noise=0)
    more = {"N": [0, 1e8, 9e9], "D": [1e10, -1, 1e12], "loss": [5, np.nan, 99], "held_out": [False, False, True]}
    table = pd.concat([good.assign(held_out=False), pd.DataFrame(more)], ignore_index=True)
    table.loc[3, "loss"], target = np.nan, pd.DataFrame({"N": [6e9], "D": [2e11]})
    known, at = table[table["loss"].notna() | (table["D"] < 0)], {"N": 6e9, "D": 2e11}
    planned = aa.plan(table, target=target, cost="6*N*D", budget="1e20", **names)
    assert planned.table["row"].tolist() == [4]
    expected = [f"1 row with {name} of 0 or less left out: no logarithm" for name in "ND"]
    expected.insert(0, "1 row marked held_out left out")
    fitted = aa.fit(known, names["law"], names["x"], names["y"]).points
    allocated = aa.allocate(known, 1e20, **names | {"law": "chinchilla"})
    for found in (fitted, aa.predict(known, at=at, **names), aa.backtest(known, **names), allocated, planned):
        assert list(found.notes) == expected
    methods = pd.DataFrame({"n": [0, 1e6, 1e7, 1e8] * 2, "m": ["a"] * 4 + ["b"] * 4, "loss": [9, 3, 2.5, 2.1] * 2})
    notes = aa.compare(methods, "a", "b", x="n", y="loss", group="m").notes
    assert notes == ["2 rows with n of 0 or less left out: no logarithm"]
    with pytest.raises(aa.Refusal, match=r"row 1, column 'n': is 0\.0, not above 0, .*\(8 rows are like it\)"):
        aa.predict(methods.assign(n=0), 1e9, x="n", y="loss", group="m")


def test_held_out_rows_that_are_marked_to_be_predicted_are(table):
    far = table["params"] > 1e9
    marked = table.assign(split=np.where(far, "extrapolate", "train"), held_out=far | (table["params"] < 3e7))
    tested = aa.backtest(marked, split="split", law="power")
    assert sum(group["n_test"] for group in tested.groups) == far.sum()
    assert tested.notes == [f"{(table['params'] < 3e7).sum()} rows marked held_out left out"]


def test_what_is_returned_prints_as_a_short_table(table, predicted, judged):
    found = [aa.fit(table, "power_floor"), predicted, aa.backtest(table), judged]
    for result in found:
        lines = repr(result).splitlines()
        assert max(map(len, lines)) < 400 and len(lines) <= len(result.table) + 10
        assert "<table" in result._repr_html_() and "Fitted(" not in repr(result)


def test_the_example_is_what_its_card_says():
    fitted = aa.fit(aa.example_table(), law="power_floor", pooling="shared")
    found = fitted.table.set_index(["group", "parameter"])
    assert fitted.predict([7e9, 34e9])["value"].between(1.4, 2.2).all() and isinstance(fitted.plot(to=34e9), Figure)
    for key, truth in {("all", "E"): 1.6, ("all", "alpha"): 0.32, ("full", "A"): 300, ("prompt", "A"): 520}.items():
        assert found.loc[key, "lower"] < truth < found.loc[key, "upper"]


def test_fitted_once_and_asked_many_times(runs, monkeypatch):
    calls, work = [], suite.explore
    monkeypatch.setattr(suite, "explore", lambda *arguments: calls.append(1) or work(*arguments))
    counts = []
    for sizes in (["34b"], [f"{n}b" for n in range(20, 70)]):
        suite.fit_suite.cache_clear()
        calls.clear()
        assert len(aa.predict(runs, size=sizes, dataset=DATASET).table) == 7 * len(sizes)
        counts.append(len(calls))
    assert counts[0] == counts[1] > 0


def test_a_number_does_not_depend_on_what_else_is_asked(runs, predicted):
    alone = aa.predict(runs, size=["7b", "34b"], dataset=DATASET, method="lora")
    own = next(row for row in predicted.rows if (row["quantity"], row["method"]) == (DATASET, "lora"))
    assert alone.rows[1] == own and isinstance(alone.plot(), Figure)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (lambda runs: None, "NoneType is neither runs nor a table"),
        (lambda runs: 5, "int is neither runs nor a table"),
        (lambda runs: [], "there is no run; give what `load` returns"),
        (lambda runs: [run.model_copy(update={"held_out": True}) for run in runs], "every run is marked held out"),
        (lambda runs: [*runs, runs[0].model_copy(update={"grid": "o"})], "scores of different grids do not compare"),
    ],
)
@pytest.mark.parametrize("verb", [partial(aa.predict, size="7b"), aa.rank, aa.compare, aa.explore, aa.Explorer])
def test_what_are_no_runs_of_one_grid_is_refused(runs, verb, given, words):
    with pytest.raises(aa.Refusal, match=words):
        verb(given(runs))


@pytest.mark.parametrize(
    "verb",
    [
        *(aa.rank, aa.compare, aa.transfer, aa.complete, aa.explore, partial(aa.predict, size="34b")),
        *(partial(aa.frame, per="run"), partial(aa.draw, "best_method")),
    ],
)
def test_no_verb_takes_a_level_that_is_no_share(runs, verb):
    for level in (0, 1, 95):
        with pytest.raises(aa.Refusal, match=f"level is {level}; give a share between 0 and 1"):
            verb(runs, level=level)


def test_one_method_is_fitted_by_itself(table):
    runs = simulate(methods=("lora",))
    found = aa.fit(runs, "power_floor").table
    assert found["parameter"].tolist() == ["E", "A", "alpha"] and set(found["group"]) == {"lora"}
    assert list(aa.Explorer(runs).grids) == ["sim"] and list(aa.Explorer(table).grids) == ["table"]


def test_answers_can_be_sent_to_another_process(table, predicted, judged):
    fitted, asked = aa.fit(table, "power_floor"), aa.predict(table, size=7e9)
    for one in (fitted, aa.fit(table, "power_floor", group=()), asked, predicted, judged):
        assert repr(pickle.loads(pickle.dumps(one))) == repr(one)
    again = pickle.loads(pickle.dumps(asked)).predict([8e9])
    pd.testing.assert_frame_equal(again, asked.predict([8e9]))
    pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(fitted)).predict([8e9]), fitted.predict([8e9]))


def test_a_number_does_not_depend_on_the_order_of_runs(runs):
    turned = runs[::-1]
    assert aa.predict(turned, size="34b", dataset=DATASET).rows == aa.predict(runs, size="34b", dataset=DATASET).rows
    one, other = (aa.rank(given, dataset=DATASET) for given in (runs, turned))
    for name in ("table", "transfer", "decisions"):
        pd.testing.assert_frame_equal(getattr(one, name), getattr(other, name))
    pd.testing.assert_frame_equal(aa.judge(turned).table, aa.judge(runs).table)


@pytest.mark.parametrize("source", ["drawn", "committed"])
@pytest.mark.parametrize("name", ["score_scaling", "best_method"])
def test_figures_say_what_predict_says(name, source, runs, predicted):
    path = ROOT / "figures" / f"{name}.csv"
    if source == "drawn":
        drawing = aa.draw(name, runs)
        assert isinstance(drawing.plot(), Figure)
    shown = drawing.table if source == "drawn" else pd.read_csv(path)
    shown = shown[shown["kind"].isin(["prediction", "predicted"]) & shown["method"].notna()]
    shown = shown[shown["grid"] == "released"] if "grid" in shown else shown
    known = {(row["quantity"], row["method"], row["n_params"]): row for row in predicted.rows}
    assert len(shown) >= 42
    for row in shown.itertuples():
        own = known[row.dataset, row.method, int(row.n_params_base)]
        (interval,) = [i for i in own["intervals"] if i["kind"] == "observation" and i["level"] == row.level]
        expected = (own["value"], interval["lower"], interval["upper"])
        assert (row.value, row.lower, row.upper) == pytest.approx(expected, rel=1e-6), (row.dataset, row.method)


def test_a_held_out_size_is_planned_for_by_its_name():
    runs = simulate(seeds=(0,), methods=("fft", "lora", "ia3"), held_out=(LARGEST,), n_problems=50)
    assert repr(aa.plan(runs, runs[-1].size)) == repr(aa.plan(runs, LARGEST))
