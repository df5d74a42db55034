"""The explorer without a browser: choices, what follows from them, what is refused, and what the button writes."""

import asyncio
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib import pyplot
from simulated_grids import LARGEST, World, simulate

from astraios_analysis.explorer import widgets as explore
from astraios_analysis.explorer.choices import complete, laws_for, options_of, poolings_for, starting_choice
from astraios_analysis.explorer.curves import fit_curve
from astraios_analysis.explorer.figure import explored_fit
from astraios_analysis.explorer.points import chosen_points, outcome_table
from astraios_analysis.explorer.results import line_table
from astraios_analysis.records import grids
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.schema import METHODS

ROOT = Path(__file__).parents[2]
MINI = ROOT / "data" / "runs" / "mini"


@pytest.fixture(scope="module")
def mini():
    return grids.load_grids(MINI, "mini")["mini"]


@pytest.fixture(scope="module")
def seeded():
    """Three seeds a model, the largest size held out, loss and one rate."""
    return list(simulate(World(), held_out=(LARGEST,), n_problems=40, val_loss_se=0.01))


def every_choice(records):
    found = options_of(records)
    start = starting_choice(records)
    # One input that methods share at a size, and one that they do not.
    for x in {"n_params_base", "seconds"} & set(found.inputs):
        for law in laws_for(start.y):
            for pooling in poolings_for(law, x):
                yield replace(start, x=x, law=law, pooling=pooling, target=None)


class TestChoices:
    def test_released_models_offer_no_loss_and_no_cost_and_say_so(self, released_records):
        found = options_of(released_records)
        assert "val_loss" not in found.outcomes and "flop" not in found.inputs
        assert re.search("losses: these runs have none.*", found.lacking[0]) and len(found.lacking) == 3
        with pytest.raises(Refusal, match=r"y 'val_loss' is not there; .*not offered: losses: these runs"):
            explore.explore(released_records, explore.Choice())

    def test_the_primary_measure_comes_first_and_second_files_and_drops_are_left_out(self, released_records):
        measures = options_of(released_records).measures
        assert measures["recode_format"][0] == "all_transformations | robust_pass@1"
        assert not [m for own in measures.values() for m in own if "second_file" in m or "robust_drop" in m]

    @pytest.mark.parametrize(
        ("wrong", "complaint"),
        [
            ({"law": "logit_linear"}, "law 'logit_linear' is not there; choose from power_floor, power, averaged"),
            ({"x": "tokens"}, "x 'tokens' is not there; choose from n_params_base"),
            ({"held_out": ("120x4",)}, "held-out size '120x4' is not there; choose from 16x2, 32x2"),
            ({"methods": ("lora2",)}, "method 'lora2' is not there; choose from fft, lora"),
            ({"law": "averaged"}, "pooling 'shared' is not there; choose from partial"),
        ],
    )
    def test_what_is_not_there_is_named_with_what_is(self, mini, wrong, complaint):
        with pytest.raises(Refusal, match=re.escape(complaint)):
            complete(explore.Choice(**wrong), options_of(mini))

    def test_arguments_make_the_choice_again(self):
        choice = explore.Choice(law="power", held_out=("88x4",), target=1e6, methods=("lora",))
        assert eval(f"Choice({choice.as_arguments()})", {"Choice": explore.Choice}) == choice


class TestExplore:
    def test_every_choice_of_a_grid_has_a_fit_a_prediction_and_a_certificate(self, mini):
        outcomes = outcome_table(mini, complete(starting_choice(mini), options_of(mini)))
        for choice in every_choice(mini):
            found = explore.explore(mini, choice, outcomes=outcomes)
            assert len(found.parameters) and found.certificate["form"], choice
            assert len(found.predictions) or found.notes, choice
            own = found.predictions
            assert ((own["lower"] <= own["value"]) & (own["value"] <= own["upper"])).all(), choice

    def test_sizes_that_are_held_out_take_no_part(self, mini):
        choice = explore.Choice(law="power", held_out=("88x4",), target=1e6)
        found = explore.explore(mini, choice)
        out = ("88x4", "120x4")
        changed = [r.model_copy(update={"val_loss": 9.0}) if r.size in out else r for r in mini]
        again = explore.explore(changed, choice)
        np.testing.assert_array_equal(found.predictions["value"], again.predictions["value"])
        np.testing.assert_array_equal(found.predictions["upper"], again.predictions["upper"])
        assert set(zip(found.backtest["held_out_by"], found.backtest["size"], strict=True)) == {
            ("in turn", "56x3"),
            ("choice", "88x4"),
            ("records", "120x4"),
        }

    def test_a_law_that_holds_is_found_and_its_extrapolation_covers(self, mini):
        """On losses made by a power law, the fit returns it and every back-test covers."""
        noise = np.random.default_rng(0)
        level = {method: 5.0 + place for place, method in enumerate(METHODS)}
        made = [
            r.model_copy(update={"val_loss": level[r.method] * r.n_params_base**-0.2 * np.exp(0.01 * noise.normal())})
            for r in mini
        ]
        found = explore.certify(explore.explore(made, explore.Choice(law="power", target=1e6)))
        alpha = found.parameters.set_index("parameter").loc["alpha"]
        assert alpha["value"] == pytest.approx(0.2, abs=0.01) and alpha["identified"] == "yes"
        assert found.backtest["covered"].all() and (found.backtest["error"].abs() < 0.1).all()
        expected = [level[m] * 1e6**-0.2 for m in found.predictions["method"]]
        assert found.predictions["value"].to_numpy() == pytest.approx(expected, rel=0.05)

    def test_seeds_are_averaged_and_shown(self, seeded):
        choice = complete(starting_choice(seeded), options_of(seeded))
        models, seeds = chosen_points(seeded, choice, outcome_table(seeded, choice))
        assert len(models) == 35 and len(seeds) == 105 and set(models["n_seeds"]) == {3}
        averaged = fit_curve("averaged", "partial", models[models["held_out_by"].isna()], seeds)
        assert averaged.pool.points.seed_variance > 0

    def test_a_line_is_dashed_beyond_what_was_fitted(self, mini):
        line = line_table(explore.explore(mini, explore.Choice(law="power", target=1e6)))
        assert line.loc[line["x"] > 436_744, "is_extrapolated"].all()
        assert not line.loc[line["x"] <= 436_744, "is_extrapolated"].any()

    def test_a_target_out_of_reach_is_not_predicted(self, mini):
        found = explore.explore(mini, explore.Choice(law="power", target=1e8))
        assert found.predictions.empty and "fft is not predicted: 1e+08 lies 229.0 times beyond" in found.notes[0]

    def test_too_few_sizes_are_refused_in_words(self, mini):
        choice = explore.Choice(law="power_floor", pooling="own", held_out=("56x3", "88x4"))
        with pytest.raises(Refusal, match="leave no degree of freedom for the 3 parameters"):
            explore.explore(mini, choice)


def test_figure_shows_what_the_table_has(mini):
    figure, table = explored_fit(explore.explore(mini, explore.Choice(law="power", x="flop")))
    left = figure.axes[0]
    assert left.get_xlabel() == "floating-point operations of tuning" and left.get_xscale() == "log"
    counts = table["kind"].value_counts()
    assert counts["measured"] == 28 and counts["held_out"] == 7 and counts["backtest"] == 14
    pyplot.close(figure)


@pytest.fixture(scope="module")
def explorer(mini, tmp_path_factory):
    runs, out = grids.PerGrid({"mini": mini}), tmp_path_factory.mktemp("out")
    return explore.Explorer(runs, data_dir=MINI, out_dir=out, target=34e9)


class TestExplorer:
    def test_starts_at_the_held_out_size_certified(self, explorer):
        assert explorer.choice.target == 756_840 and explorer.exploration.is_certified
        assert "identified" in explorer._fit.value

    def test_a_widget_moved_changes_plot_prediction_and_fit(self, explorer):
        before = explorer._picture.value, explorer._prediction.value, explorer._fit.value
        explorer._inputs["law"].value = "averaged"
        after = explorer._picture.value, explorer._prediction.value, explorer._fit.value
        assert all(a != b for a, b in zip(before, after, strict=True)) and explorer.choice.pooling == "partial"
        explorer._inputs["law"].value = "power"

    def test_a_refusal_stands_in_place_of_the_plot(self, explorer):
        explorer._inputs["held_out"].value = ("32x2", "56x3", "88x4")
        assert explorer._picture.layout.display == "none" and explorer._save.disabled
        assert "This choice has no answer" in explorer._notes.value
        explorer._inputs["held_out"].value = ()
        assert explorer._picture.layout.display is None and not explorer._save.disabled

    def test_a_page_without_a_kernel_shows_plot_and_tables(self, explorer):
        data, _ = explorer._repr_mimebundle_()
        assert "application/vnd.jupyter.widget-view+json" in data
        for part in ("data:image/png;base64,", "Prediction for a new run", "Back-test", "Certificate"):
            assert part in data["text/html"]

    def test_profiles_wait_until_nothing_moves(self, explorer):
        async def move():
            explorer._inputs["pooling"].value = "shared"
            assert not explorer.exploration.is_certified and "being computed" in explorer._fit.value
            deadline = time.monotonic() + 60
            while not explorer.exploration.is_certified and time.monotonic() < deadline:
                await asyncio.sleep(0.1)

        asyncio.run(move())
        assert explorer.exploration.is_certified and "identified" in explorer._fit.value

    def test_the_script_that_the_button_writes_makes_the_same_table(self, explorer, tmp_path):
        explorer.out_dir = tmp_path
        explorer._on_save(None)
        (table,), (script,) = tmp_path.glob("*.csv"), tmp_path.glob("*.py")
        drawn = table.read_bytes()
        for path in tmp_path.glob("*.[cp][sdn]*"):
            path.unlink()
        subprocess.run([sys.executable, script], check=True, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)})
        assert table.read_bytes() == drawn and len(list(tmp_path.glob("*.p[dn]*"))) == 2
