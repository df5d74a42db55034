"""The explorer without a browser: choices, what follows from them, what is refused, and what the button writes."""

import asyncio
import re
import runpy
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from simulated_grids import LARGEST, World, simulate

import astraios_analysis as aa
from astraios_analysis.explorer.choices import LOSS_LAWS, Choice, complete, options_of, poolings_for
from astraios_analysis.explorer.picture import draw_interactive
from astraios_analysis.explorer.sources import explore, make_grid
from astraios_analysis.explorer.view import Grid
from astraios_analysis.explorer.widgets import Explorer
from astraios_analysis.figures.style import name_method
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.schema import METHODS
from astraios_analysis.scores.bootstrap import primary_frame
from astraios_analysis.scores.models import intervals_over_seeds

ROOT = Path(__file__).parents[2]
LADDER = ROOT / "data" / "runs" / "ladder"
EXACT = {"rtol": 1e-12, "atol": 0}


@pytest.fixture(scope="module")
def ladder():
    return aa.load(LADDER, "ladder")


@pytest.fixture(scope="module")
def grid(ladder):
    return Grid(ladder)


@pytest.fixture(scope="module")
def seeded():
    """Three seeds a model, the largest size held out, loss and one rate."""
    return list(simulate(World(), held_out=(LARGEST,), n_problems=40, val_loss_se=0.01))


class TestChoices:
    def test_released_models_offer_no_loss_and_no_cost_and_say_so(self, released_records):
        found = options_of(released_records)
        assert "val_loss" not in found.outcomes and "flop" not in found.inputs
        assert found.lacking[0].startswith("losses: these runs have none") and len(found.lacking) == 3
        with pytest.raises(Refusal, match=r"y 'val_loss' is not there; .*not offered: losses: these runs"):
            explore(released_records, Choice())

    def test_the_primary_measure_comes_first_and_second_files_and_drops_are_left_out(self, released_records):
        measures = options_of(released_records).measures
        assert measures["recode_format"][0] == "all_transformations | robust_pass@1"
        assert not [m for own in measures.values() for m in own if "second_file" in m or "robust_drop" in m]

    @pytest.mark.parametrize(
        ("wrong", "complaint"),
        [
            ({"law": "logit_linear"}, "law 'logit_linear' is not there; choose from power, power_floor, averaged"),
            ({"x": "tokens"}, "x 'tokens' is not there; choose from n_params_base"),
            ({"held_out": ("160x4",)}, "held_out '160x4' is not there; choose from 16x2, 32x2"),
            ({"methods": ("lora2",)}, "methods 'lora2' is not there; choose from fft, lora"),
            ({"law": "averaged", "pooling": "shared"}, "pooling 'shared' is not there; choose from averaged"),
            ({"level": 95}, "level is 95; give a share between 0 and 1"),
        ],
    )
    def test_what_is_not_there_is_named_with_what_is(self, grid, wrong, complaint):
        with pytest.raises(Refusal, match=re.escape(complaint)):
            complete(Choice(**wrong), grid.options)


class TestAveraged:
    @pytest.mark.parametrize("y", ["val_loss", "embedded_synthesis"])
    def test_says_what_predict_says_number_for_number(self, ladder, grid, y):
        view = grid.view(Choice(y=y, law="averaged", methods=("fft", "lora"), target=1e6))
        expected = aa.predict(ladder, 1e6, y, ["fft", "lora"])
        ends = {
            (row["method"], one["kind"], one["level"]): (row["value"], one["lower"], one["upper"], row["reach"])
            for row in expected.rows
            for one in row["intervals"]
        }
        own = view.predictions.set_index(["method", "kind", "level"])[["value", "lower", "upper", "reach"]]
        assert set(own.index) == set(ends)
        np.testing.assert_allclose(own.to_numpy(), [ends[key] for key in own.index], **EXACT)

    def test_is_back_tested_as_predict_is(self, ladder, grid):
        own = grid.view(Choice(law="averaged", target=1e6)).backtest
        own = own[own["held_out_by"] == "in turn"].sort_values(["method", "seed"])
        expected = aa.predict(ladder, 1e6, "val_loss").tested.sort_values(["method", "seed"])
        names = {"predicted": "predicted", "lower": "lower_95", "upper": "upper_95", "no_change": "persistence"}
        np.testing.assert_allclose(own[list(names)], expected[list(names.values())], **EXACT)

    def test_a_target_is_a_size_as_predict_takes_it(self, seeded):
        table = aa.read_table(aa.example_table(), "params", "loss", "method")
        for runs, number, said in ((seeded, 2e6, "2m"), (table, 9e9, "9b")):
            assert explore(runs, target=said).choice == explore(runs, target=number).choice
            assert explore(runs, target=said).choice.target == aa.Explorer(runs, target=said).choice.target == number
            with pytest.raises(Refusal, match="size 'big' is not understood; give a measured"):
                explore(runs, target="big")

    def test_a_size_held_out_here_is_no_run_to_predict(self, seeded):
        runs = [run.model_copy(update={"held_out": False}) for run in seeded]
        smallest = min(runs, key=lambda run: run.n_params_base).size
        view = explore(runs, Choice(law="averaged", held_out=(smallest,), target=4e6, methods=("lora",)))
        expected = aa.predict([run for run in runs if run.size != smallest], 4e6, "val_loss", "lora").rows[0]["value"]
        np.testing.assert_allclose(view.predictions["value"], expected, **EXACT)

    def test_another_input_is_a_table_to_predict(self, ladder, grid):
        view = grid.view(Choice(law="averaged", x="n_params_base_nonembedding", target=1e6))
        runs = aa.frame(ladder, per="run").query("not held_out")
        expected = aa.predict(runs, 1e6, x="n_params_base_nonembedding", y="val_loss", group="method")
        values = {row["method"]: row["value"] for row in expected.rows}
        found = view.predictions.drop_duplicates("method")
        np.testing.assert_allclose(found["value"], [values[method] for method in found["method"]], **EXACT)


class TestLaws:
    def test_every_choice_has_a_fit_a_prediction_and_a_back_test(self, grid):
        # One input that methods share at a size, and one that they do not.
        for x in ("n_params_base", "seconds"):
            for law in LOSS_LAWS[:2]:
                for pooling in poolings_for(law):
                    view = grid.view(Choice(x=x, law=law, pooling=pooling))
                    own = view.predictions
                    assert set(own["method"]) == set(METHODS) and len(view.backtest), view
                    assert ((own["lower"] <= own["value"]) & (own["value"] <= own["upper"])).all(), view

    def test_another_measure_of_a_data_set_is_fitted_too(self, released_records):
        start = make_grid(released_records).start()
        measure = options_of(released_records).measures[start.y][-1]
        view = explore(released_records, replace(start, law="logit_linear", measure=measure, target=3.4e10))
        assert view.predictions["value"].between(0, 1).all() and view.choice.measure == measure

    def test_points_have_the_intervals_of_the_other_figures(self, released_records):
        choice = Choice("recode_format", law="logit_linear", target=3.4e10)
        own = explore(released_records, choice).models.set_index("run_id")
        kept = [tuple(one for one in run.scores if one.dataset == "recode_format") for run in released_records]
        chosen = [run.model_copy(update={"scores": s}) for run, s in zip(released_records, kept, strict=True)]
        expected = primary_frame(intervals_over_seeds(chosen)).set_index("run_id").loc[own.index]
        assert set(own["interval"]) == {"bootstrap over problems"}
        np.testing.assert_allclose(own[["lower", "upper"]], expected[["lower", "upper"]], **EXACT)

    def test_sizes_that_are_held_out_take_no_part(self, ladder, grid):
        choice = Choice(law="power", held_out=("128x4",), target=1e6)
        found, out = grid.view(choice), ("128x4", "160x4")
        again = explore([r.model_copy(update={"val_loss": 9.0}) if r.size in out else r for r in ladder], choice)
        for name in ("value", "upper"):
            np.testing.assert_array_equal(found.predictions[name], again.predictions[name])
        tested = set(zip(found.backtest["held_out_by"], found.backtest["size"], strict=True))
        assert tested == {("in turn", "88x4"), ("choice", "128x4"), ("records", "160x4")}

    def test_a_target_out_of_reach_is_not_predicted(self, grid):
        found = grid.view(Choice(law="power", target=1e8))
        assert found.predictions.empty and "fft is not predicted: 1e+08 lies 127.5 times beyond" in found.notes[0]


def test_seeds_are_averaged_and_shown(seeded):
    view = explore(seeded)
    assert len(view.models) == 35 and len(view.seeds) == 105 and set(view.models["n_seeds"]) == {3}


@pytest.fixture(scope="module")
def view(grid):
    return grid.view(Choice(law="power", x="flop"))


class TestPicture:
    def test_shows_what_the_table_has(self, view):
        picture = draw_interactive(view)
        assert picture.layout.xaxis.title.text == "floating-point operations of tuning"
        assert (picture.layout.xaxis.type, picture.layout.yaxis.type) == ("log", "log")
        counts = view.table["kind"].value_counts()
        assert counts["measured"] == 35 and counts["held_out"] == 7 and counts["backtest"] == 42
        assert sum(trace.line.dash == "dash" for trace in picture.data) == len(METHODS)
        # The back-test: every run that took no part, and the diagonal.
        assert sum(len(trace.x) for trace in picture.data if trace.xaxis == "x2") == 42 + 2

    def test_hover_names_the_run_and_its_values(self, view, ladder):
        picture = draw_interactive(view)
        seed = next(trace for trace in picture.data if trace.marker.size == 4)
        run = next(run for run in ladder if run.val_loss == pytest.approx(seed.y[0], rel=1e-7))
        assert seed.text[0] == f"{name_method(run.method)}, {run.size}, seed {run.seed}"
        assert "%{x" in seed.hovertemplate and "%{y" in seed.hovertemplate

    def test_axes_a_second_law_and_residuals(self, view, grid):
        other = grid.view(replace(view.choice, law="power_floor", pooling=""))
        picture = draw_interactive(view, other=other, right="residuals", log=(False, True))
        assert (picture.layout.xaxis.type, picture.layout.yaxis.type) == ("linear", "log")
        dotted = [trace for trace in picture.data if trace.line.dash == "dot"]
        assert len(dotted) == len(METHODS) and "power_floor" in dotted[0].hovertemplate
        off = {trace.legendgroup: trace for trace in picture.data if trace.xaxis == "x2"}
        assert set(off) == set(METHODS)
        line = view.line[view.line["method"] == "lora"].set_index("x")["value"]
        models = view.models[view.models["method"] == "lora"].set_index("x")["value"]
        expected = np.log(models / line[models.index])
        np.testing.assert_allclose(sorted(off["lora"].y), sorted(expected), atol=1e-6)


@pytest.fixture(scope="module")
def own():
    return aa.read_table(aa.example_table(), "params", "loss", "method")


@pytest.fixture(scope="module")
def surface():
    """Losses of sizes and tokens, each token count off the curves of a few levels."""
    rng = np.random.default_rng(0)
    n, d = (np.repeat(np.geomspace(1e7, 1e9, 6), 8), np.exp(rng.uniform(np.log(1e9), np.log(1e11), 48)))
    loss = (1.7 + 400 * n**-0.34 + 410 * d**-0.28) * np.exp(rng.normal(0, 1e-4, 48))
    return aa.read_table(pd.DataFrame({"N": n, "D": d, "loss": loss}), ["N", "D"], "loss")


class TestTables:
    def test_a_table_from_no_file_is_written_beside_the_code_that_reads_it(self, own, tmp_path):
        view = explore(aa.read_table(pd.DataFrame(own), "params", "loss", "method"), Choice(law="power"))
        *_, script = view.write(tmp_path, "data")
        drawn = script.with_suffix(".csv").read_bytes()
        script.with_suffix(".csv").unlink()
        runpy.run_path(str(script))
        assert script.with_suffix(".csv").read_bytes() == drawn

    def test_says_what_predict_says_of_the_table(self, own):
        view = explore(own, Choice(target=2e10))
        expected = {row["method"]: row["value"] for row in aa.predict(own, 2e10).rows}
        found = view.predictions.drop_duplicates("method").set_index("method")["value"]
        assert found.to_dict() == pytest.approx(expected, rel=1e-12) and view.choice.law == "averaged"

    def test_one_law_is_that_of_fit(self, own):
        view = explore(own, Choice(law="power_floor", pooling="none"))
        fitted = aa.fit(own, "power_floor")
        pd.testing.assert_frame_equal(view.parameters, fitted.table)

    def test_two_inputs_are_predicted_as_predict_does_and_residuals_are_at_their_own_inputs(self, surface):
        view = explore(surface, Choice(law="chinchilla", target=2e9))
        assert len(view.choice.methods) == 6 and all(name.startswith("D near ") for name in view.choice.methods)
        rows = view.models
        np.testing.assert_allclose(rows["predicted"], rows["value"], rtol=1e-3)
        levels = make_grid(surface).curves
        expected = aa.predict(surface, at=[{"N": 2e9, "D": value} for value in levels.values()], law="chinchilla").rows
        found = view.predictions[view.predictions["kind"] == "observation"].drop_duplicates("method")
        np.testing.assert_allclose(found["value"], [row["value"] for row in expected], **EXACT)
        # The rows furthest out are left out, as `predict` does, and known to a part in a thousand.
        tested = aa.predict(surface, at={"N": 2e9, "D": 1e10}, law="chinchilla").tested
        assert sorted(view.backtest["predicted"]) == sorted(tested["value"])
        assert view.backtest["error"].abs().max() < 0.01 < view.backtest["no_change_error"].abs().mean()
        residuals = draw_interactive(view, right="residuals").data
        off = [y for trace in residuals if trace.xaxis == "x2" for y in trace.y]
        assert len(off) == 48 and np.abs(off).max() < 1e-3

    def test_few_values_of_the_second_input_are_curves_of_their_own(self, surface):
        few = surface.assign(D=np.tile([1e9, 1e10], 24))
        few.attrs |= surface.attrs
        assert explore(few, Choice(law="chinchilla")).choice.methods == ("D 1e+09", "D 1e+10")

    def test_repeated_rows_are_seeds_and_held_out_ones_are_tested(self, own):
        twice = pd.concat([own, own.assign(loss=own["loss"] * 1.01)], ignore_index=True)
        twice["held_out"] = twice["params"] == twice["params"].max()
        twice.attrs |= own.attrs
        view = explore(twice)
        assert len(view.seeds) == len(twice) == 2 * len(view.models)
        assert set(view.backtest["held_out_by"]) == {"records", "in turn"} and np.isfinite(view.backtest["error"]).all()

    def test_the_widgets_take_it_and_its_lines_make_it_again(self, own, surface):
        widgets = Explorer({"own": own, "surface": surface})
        made = {"table": own}  # a frame has no name of its own
        exec(widgets._code.value, made)
        pd.testing.assert_frame_equal(made["view"].table, widgets.view.table)
        widgets._inputs["grid"].value = "surface"
        assert widgets.choice.x == "N" and "skaling" in [value for _, value in widgets._inputs["law"].options]
        assert widgets._picture.layout.xaxis.title.text == "N"

    @pytest.mark.parametrize(
        ("roles", "complaint"),
        [
            ((), "which column is what is not known; read the table with aa.read_table"),
            ((["N", "D", "loss"], "loss"), "one input and groups, or two inputs without groups, can be looked at; x"),
            ((["N", "D"], "loss", "D"), "can be looked at; x names N, D and group D"),
        ],
    )
    def test_a_table_that_cannot_be_looked_at_is_refused(self, surface, roles, complaint):
        with pytest.raises(Refusal, match=re.escape(complaint)):
            explore(aa.read_table(surface, *roles))


@pytest.fixture(scope="module")
def explorer(ladder, tmp_path_factory):
    return Explorer({"ladder": ladder}, data_dir=LADDER, out_dir=tmp_path_factory.mktemp("out"), target=34e9)


class TestExplorer:
    def test_starts_with_what_predict_says_at_the_held_out_size(self, explorer):
        assert explorer.choice.target == 1_195_680 and explorer.choice.law == "averaged"
        assert "Laws averaged" in explorer._fit.value

    def test_a_widget_moved_changes_plot_prediction_code_and_fit(self, explorer):
        def shown():
            lines = [trace.y for trace in explorer._picture.data if trace.line.dash == "solid"]
            return str(lines), explorer._prediction.value, explorer._fit.value, explorer._code.value

        before = shown()
        explorer._inputs["law"].value = "power"
        assert all(a != b for a, b in zip(before, shown(), strict=True)) and explorer.choice.pooling == "shared"
        assert "identified" in explorer._fit.value

    def test_looks_are_drawn_anew_without_a_fit(self, explorer):
        view = explorer.view
        explorer._looks["other"].value = "averaged"
        assert [trace for trace in explorer._picture.data if trace.line.dash == "dot"]
        explorer._looks["log_x"].value = False
        assert explorer._picture.layout.xaxis.type == "linear" and explorer.view is view
        explorer._looks["other"].value, explorer._looks["log_x"].value = "", True

    def test_a_refusal_stands_in_place_of_the_plot(self, explorer):
        explorer._inputs["held_out"].value = ("16x2", "32x2", "56x3", "88x4")
        assert explorer._shown.layout.display == "none" and explorer._save.disabled
        assert "This choice has no answer" in explorer._notes.value
        explorer._inputs["held_out"].value = ()
        assert explorer._shown.layout.display is None and not explorer._save.disabled

    def test_a_page_without_a_kernel_shows_plot_and_tables(self, explorer):
        data, _ = explorer._repr_mimebundle_()
        assert "application/vnd.jupyter.widget-view+json" in data
        for part in ("data:image/png;base64,", "Prediction for a new run", "Back-test", "Fit diagnostics"):
            assert part in data["text/html"]

    def test_profiles_wait_until_nothing_moves(self, explorer):
        async def move():
            # Whichever test came before.
            explorer._inputs["law"].value = "power"
            explorer._inputs["pooling"].value = "shared"
            explorer._inputs["pooling"].value = "none"
            assert not explorer.view.is_certified and "being computed" in explorer._fit.value
            deadline = time.monotonic() + 400
            while not explorer.view.is_certified and time.monotonic() < deadline:
                await asyncio.sleep(0.1)

        asyncio.run(move())
        assert explorer.view.is_certified and "identified" in explorer._fit.value

    def test_the_three_lines_that_the_button_writes_make_the_same_table(self, explorer, tmp_path):
        explorer.out_dir = tmp_path
        explorer._on_save(None)
        (table,), (script,) = tmp_path.glob("*.csv"), tmp_path.glob("*.py")
        *lines, save = script.read_text().splitlines()
        assert len(lines) == 3 and lines == explorer._code.value.splitlines() and save.startswith("view.save(")
        drawn = table.read_bytes()
        for path in tmp_path.glob("*.[cp][sdn]*"):
            path.unlink()
        runpy.run_path(str(script))
        assert table.read_bytes() == drawn and len(list(tmp_path.glob("*.p[dn]*"))) == 2
