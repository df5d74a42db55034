"""Figures of the released models and of a trained grid: whole and readable; and with parts of a grid missing."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from layout_checks import outside_axes, overlapping, problems_of, running_out, texts_of, too_small
from matplotlib import pyplot
from simulated_grids import LARGEST, SIZES, World, simulate

from astraios_analysis.figures import gallery
from astraios_analysis.figures.gallery import FIGURES, Tables
from astraios_analysis.figures.spec import figure_stem
from astraios_analysis.figures.style import FULL_WIDTH, MAX_PANELS, METHOD_STYLES, label_panel, small_multiples
from astraios_analysis.records.frame import METHODS, Score, ValidationPoint
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.registry import EMBEDDED_DATASETS
from astraios_analysis.records.sources import PerGrid
from astraios_analysis.scores.bootstrap import ProblemBootstrap

GRID = "sim"
# Fits and panels of seven take half as long again.
OWN = METHODS[:5]
ROBUST = tuple(f"embedded_robust_{category}" for category in ("format", "syntax"))
LEVELS = {name: -0.5 - 0.1 * place for place, name in enumerate((*EMBEDDED_DATASETS, "embedded_security"))}
WORLD = World(level=LEVELS, slope=dict.fromkeys(LEVELS, 3.0))
LOSS = {"cross_entropy", "cross_entropy_by_step", "cross_entropy_by_updated_parameters"}
DECISIONS = {"best_method", "small_model_choices", "cost_performance", "claim_effects"}


def more_scores(record, rng):
    """Scores of changed prompts and of security beside the primary ones."""
    rates = {"nominal": ("pass@1", 0.6), "all_transformations": ("robust_pass@1", 0.4)}
    rows = [(name, setting, *rates[setting]) for name in ROBUST for setting in rates]
    rows += [(name, setting, "robust_drop@1", 0.3) for name in ROBUST for setting in ("all_transformations", "no_stop")]
    rows += [("embedded_security", "trusted", "insecure_rate", 0.5), ("embedded_security", "all", "valid_rate", 0.9)]
    for dataset, setting, metric, value in rows:
        value = round(float(value + rng.uniform(-0.05, 0.05)), 3)
        fields = {"language": "python", "stderr": 0.03, "n_items": 100, "source": "measured"}
        yield Score(dataset=dataset, setting=setting, metric=metric, value=value, **fields)


@pytest.fixture(scope="module")
def trained():
    """Five sizes, the largest held out, five methods, three seeds: losses, curves and the embedded suite."""
    rng, records = np.random.default_rng(0), []
    for record in simulate(WORLD, methods=OWN, held_out=(LARGEST,), n_problems=60, val_loss_se=0.02):
        base, loss = 2.5 * record.n_params_base**-0.03, record.val_loss
        steps = {step: loss + (base - loss) * np.exp(-step / 15) for step in range(0, 51, 10)}
        curve = tuple(ValidationPoint(step=step, loss=float(value)) for step, value in steps.items())
        scores = (*record.scores, *more_scores(record, rng))
        records.append(record.model_copy(update={"base_val_loss": base, "val_curve": curve, "scores": scores}))
    return records


def tables_of(records):
    return Tables(records, bootstrap=ProblemBootstrap(n_draws=50))


def draw_all(records, folder, names):
    tables = PerGrid({records[0].grid: tables_of(records)})
    return {name: gallery.draw(name, tables, folder) for name in names}


@pytest.fixture(scope="module")
def drawn(trained, tmp_path_factory):
    """Every figure of the trained grid: {name: (table, texts, problems of its layout)}; and the folder."""
    kept, save = {}, gallery.save

    def keep(figure, table, stem, folder):
        texts = texts_of(figure)
        words = " ".join(text.get_text() for text, _ in texts)
        kept[stem] = (table, words, problems_of(figure, texts), hollow_points(figure))
        pyplot.close(figure)

    gallery.save = keep
    try:
        galleries = draw_all(trained, tmp_path_factory.mktemp("figures"), TRAINED)
    finally:
        gallery.save = save
    return galleries, kept


def hollow_points(figure):
    """How many markers with a white face are drawn inside axes."""
    lines = [line for axes in figure.axes for line in axes.lines]
    return sum(len(line.get_xdata()) for line in lines if line.get_markerfacecolor() == "white")


TRAINED = sorted(set(FIGURES) - {"zero_against_one_shot"})
# The figures for choosing a method take seconds of pooled fits.
OTHERS = [name for name in TRAINED if name not in DECISIONS]


@pytest.mark.parametrize("name", TRAINED)
def test_every_figure_is_drawn_readable_and_whole(drawn, name):
    galleries, kept = drawn
    assert galleries[name].lacking == {}
    table, words, problems, _ = kept[figure_stem(name, GRID)]
    assert len(table) and problems == [] and set(FIGURES[name].fitted_columns) <= set(table)
    assert any(text in words for text in ("25 of 25 models", "20 models", "25 models", "5 methods"))
    assert "validation loss, nats per token" in words or name not in LOSS | {"loss_performance"}


@pytest.mark.parametrize(("n_models", "n_items"), [(2, 100), (7, 29)])
def test_rates_of_too_few_models_or_programs_have_no_panel(trained, n_models, n_items):
    keys = [(r.size, r.method) for r in trained if r.seed == 0][:n_models]

    def thin(score):
        return score.model_copy(update={"n_items": n_items}) if score.metric == "insecure_rate" else score

    few = [r.model_copy(update={"scores": tuple(map(thin, r.scores))}) for r in trained if (r.size, r.method) in keys]
    said = "nothing to draw in security: it needs insecure rates of 3 models, each over 30 valid programs or a set of"
    with pytest.raises(Refusal, match=said):
        tables_of(few).draw("security")


def test_many_methods_and_parts_fit(drawn, trained):
    named = [record.model_copy(update={"method": f"own_{n}"}) for n in range(14) for record in trained[::15]]
    names = ["contrasts", "cross_entropy", "cross_entropy_by_updated_parameters"]
    figures = [tables_of([r for r in named if not r.held_out]).draw(name)[0] for name in names]
    claims = drawn[1]["claim_effects"][0]
    parts = [claims[claims["part"] == "pooled"], *(claims.assign(part=f"part {n}") for n in range(4))]
    figures.append(FIGURES["claim_effects"].draw(pd.concat(parts)))
    for figure in figures:
        assert problems_of(figure, texts_of(figure)) == [] and len(figure.axes) <= MAX_PANELS
        pyplot.close(figure)


NEVER = {"dataset": "own", "language": "text", "setting": "default", "metric": "accuracy", "source": "measured"}
NEVER = Score(**NEVER, value=0.0, n_items=100)


@pytest.mark.parametrize(("name", "n_sizes"), [("loss_performance", 1), ("score_scaling", 4)])
def test_scores_that_no_law_follows_are_drawn_without_one(trained, name, n_sizes):
    few = [record for record in trained if record.n_params_base in SIZES[:n_sizes] and record.method in OWN[:3]]
    few = [record.model_copy(update={"scores": (NEVER,)}) for record in few]
    _, table = Tables(few, bootstrap=ProblemBootstrap(n_draws=20)).draw(name)
    assert set(table["kind"]) <= {"run", "mean", "measured", "held_out", "seed", "refused"}
    FIGURES[name].say(table)


def test_choices_by_losses_of_three_methods_are_drawn(trained):
    few = [record.model_copy(update={"scores": ()}) for record in trained if record.method in OWN[:3]]
    figure, table = Tables(few, bootstrap=ProblemBootstrap(n_draws=20)).draw("small_model_choices")
    assert len(figure.axes) == 1 and set(table["dataset"]) == {"val_loss"}
    pyplot.close(figure)


@pytest.mark.parametrize("name", ["cross_entropy", "task_performance", "loss_performance", "score_scaling"])
def test_every_seed_is_drawn_beside_its_mean_and_held_out_sizes_are_hollow(drawn, name):
    table, words, _, hollow = drawn[1][f"{name}_{GRID}"]
    assert (table["kind"] == "seed").sum() % 75 == 0 and (table["kind"] == "seed").any()
    assert "3 seeds" in words and "size held out of fits" in words
    assert hollow >= len(OWN)


def test_measured_losses_are_those_of_the_records(drawn, trained):
    table = drawn[1][f"cross_entropy_{GRID}"][0]
    known = {(r.size, r.method, r.seed): r.val_loss for r in trained}
    seeds = table[table["kind"] == "seed"].set_index(["size", "method", "seed"])["val_loss"]
    assert seeds.to_dict() == pytest.approx(known, rel=1e-7)
    means = table[table["kind"] == "mean"].set_index(["size", "method"])["val_loss"]
    assert means.to_dict() == pytest.approx(pd.Series(known).groupby(level=[0, 1]).mean().to_dict(), rel=1e-7)


def worsened(record):
    return record.model_copy(update={"scores": tuple(s.model_copy(update={"value": 0.01}) for s in record.scores)})


def test_prediction_is_at_the_held_out_size_and_leaves_it_out(drawn, trained):
    table = drawn[1][f"score_scaling_{GRID}"][0]
    assert set(table.loc[table["kind"] == "prediction", "n_params_base"]) == {LARGEST}
    tables = tables_of([worsened(r) if r.held_out else r for r in trained])
    tables.datasets = [EMBEDDED_DATASETS[0]]
    own, again = (
        one[(one["kind"] == "prediction") & (one["dataset"] == EMBEDDED_DATASETS[0])][["value", "lower", "upper"]]
        for one in (table, tables.draw("score_scaling")[1])
    )
    pyplot.close("all")
    np.testing.assert_array_equal(own, again)


class TestPartial:
    """Grids of which some runs are not there yet: what they lack is absent or said, and nothing fails."""

    @pytest.fixture(autouse=True)
    def save_tables_only(self, monkeypatch):
        """Figures are drawn as far as they are without rendering them, which takes longest."""

        def save(figure, table, stem, folder):
            table.to_csv(folder / f"{stem}.csv", index=False)
            pyplot.close(figure)

        monkeypatch.setattr(gallery, "save", save)

    def lacking(self, records, folder, names=OTHERS):
        """Names of the figures that lack something; of the suite two data sets do, each of which takes fits."""
        kept = {*EMBEDDED_DATASETS[:2], "embedded_security", *ROBUST}
        records = [r.model_copy(update={"scores": tuple(s for s in r.scores if s.dataset in kept)}) for r in records]
        return {name for name, one in draw_all(records, folder, names).items() if one.lacking}

    def test_first_seed_of_some_cells(self, trained, tmp_path):
        some = [r for i, r in enumerate(r for r in trained if r.seed == 0) if i % 6]
        # Those whose tables tell single runs from means over seeds.
        names = [*LOSS, "loss_performance", "score_scaling", "task_performance", "robustness", "security"]
        assert self.lacking(some, tmp_path, names) == set()
        twin = pd.read_csv(tmp_path / f"cross_entropy_{GRID}.csv")
        assert set(twin["kind"]) == {"run", "line"} and (twin["kind"] == "run").sum() == len(some) == 20

    def test_two_sizes_of_uneven_seeds(self, trained, tmp_path):
        some = [r for r in trained if r.n_params_base in SIZES[:2] and (r.seed == 0 or r.method == "lora")]
        assert self.lacking(some, tmp_path) == {"score_scaling", "backtest"}
        twin = pd.read_csv(tmp_path / f"cross_entropy_{GRID}.csv")
        means = twin[twin["kind"] == "mean"].set_index("method")["n_seeds"]
        assert set(means["lora"]) == {3} and set(means["fft"]) == {1}

    def test_one_run_without_scores(self, trained, tmp_path):
        one = [trained[0].model_copy(update={"scores": ()})]
        assert self.lacking(one, tmp_path) == set(TRAINED) - LOSS - DECISIONS - {"updated_parameters"}


ROOT = Path(__file__).parents[2]
# All but those that need losses, and the frontier of costs, which takes fits.
OF_LOSS = [name for name, spec in FIGURES.items() if spec.notebook in ("cross_entropy", "loss_performance")]
RELEASED = [name for name in FIGURES if name not in (*OF_LOSS, "cost_performance")]


def draw_twin(name):
    """Draw a figure that grids share from its committed table, of the released models alone."""
    table = pd.read_csv(ROOT / "figures" / f"{name}.csv")
    table = table[table["grid"] == "released"].dropna(axis=1, how="all").reset_index(drop=True)
    return FIGURES[name].draw(table), table


@pytest.fixture(scope="module")
def released_drawn(released_records):
    """Every figure of the released models: {name: (figure, table, texts)}."""
    tables = tables_of(released_records)
    found = {name: draw_twin(name) if FIGURES[name].rows else tables.draw(name) for name in RELEASED}
    yield {name: (figure, table, texts_of(figure)) for name, (figure, table) in found.items()}
    pyplot.close("all")


@pytest.mark.parametrize("name", RELEASED)
class TestReleased:
    def test_is_whole(self, released_drawn, name):
        figure, table, texts = released_drawn[name]
        assert len(table) and figure.get_size_inches()[0] == FULL_WIDTH
        # Operations of tuning were not published for these models.
        assert set(FIGURES[name].fitted_columns) - {"flop"} <= set(table)
        assert re.search(r"\d+ models|\d+ methods|number of methods", " ".join(text.get_text() for text, _ in texts))
        assert "lower" not in table or re.search(r"interval|resample", FIGURES[name].caption)

    def test_can_be_read(self, released_drawn, name):
        figure, _, texts = released_drawn[name]
        assert problems_of(figure, texts) == []
        assert len({axes for axes in figure.axes if axes.get_label() != "<colorbar>"}) <= MAX_PANELS
        for axes in figure.axes:
            is_inner = axes.get_subplotspec() is not None and not axes.get_subplotspec().is_last_row()
            assert axes.get_xlabel() or axes.get_title(loc="left") or axes.get_ylabel()
            assert is_inner or axes.get_xlabel() or axes.get_ylabel() or name == "best_method"


class TestLayoutCheckCanFail:
    @pytest.fixture
    def panel(self):
        figure, (panel,) = small_multiples(1, 1)
        panel.plot([1, 2], [1, 2])
        texts = texts_of(figure)
        assert len(texts) > 8 and problems_of(figure, texts) == []
        yield panel
        pyplot.close(figure)

    def test_overlap(self, panel):
        panel.annotate("first", (1.5, 1.5))
        panel.annotate("second", (1.5, 1.52), (1.4, 1.1), arrowprops={"arrowstyle": "-"})
        assert overlapping(texts_of(panel.figure)) == []
        panel.annotate("third", (1.51, 1.51))
        assert overlapping(texts_of(panel.figure)) == [("first", "third")]

    def test_text_beyond_the_edge(self, panel):
        label_panel(panel, "title", "a_note_of_one_word_far_longer_than_the_figure_is_wide_" * 9)
        assert len(running_out(panel.figure, texts_of(panel.figure))) == 1

    def test_small_text(self, panel):
        panel.annotate("small", (1.5, 1.5), fontsize=5)
        panel.set_xlabel("$10^6$", fontsize=7)
        assert set(too_small(texts_of(panel.figure))) == {"small", "$10^6$"}

    def test_cut_off_bar(self, panel):
        panel.errorbar([1.5], [1.5], yerr=[0.4])
        panel.set_ylim(0, 1.8)
        assert [1.5, 1.9] in outside_axes(panel.figure)


def test_methods_look_as_style_says(released_drawn):
    figure, table, _ = released_drawn["task_performance"]
    colours = {METHOD_STYLES[method].colour for method in set(table["method"])}
    assert {line.get_color() for line in figure.axes[0].lines if line.get_marker() not in ("", "None", None)} == colours


def test_a_data_set_with_one_method_has_no_best_one(released_records):
    tables = tables_of(released_records)
    names = list(tables.ranks["dataset"].unique())[2:4]
    alone = (tables.ranks["dataset"] != names[1]) | (tables.ranks["method"] == "fft")
    chosen = tables.ranks[tables.ranks["dataset"].isin(names) & alone]
    tables.ranks = chosen.assign(n_methods=chosen.groupby(["dataset", "size"])["method"].transform("count"))
    # Nothing is predicted: there is one heat map.
    tables.best = pd.DataFrame()
    figure, table = tables.draw("best_method")
    assert set(table.loc[table["is_drawn"], "dataset"]) == {names[0]}
    assert len(figure.axes[0].get_yticklabels()) == 1
    tables.ranks = tables.ranks[tables.ranks["dataset"] == names[1]]
    with pytest.raises(Refusal, match="primary scores of several methods at one size"):
        tables.draw("best_method")


def test_names_of_ones_own_fit_their_panels(trained):
    long, names = "a_benchmark_of_whole_repositories_and_their_tests_completed", [f"method_{i}" for i in range(12)]
    few = [r for r in trained if r.n_params_base in SIZES and r.seed == 0 and r.method == OWN[0]]
    scored = [Score(**NEVER.model_dump(exclude={"dataset", "value"}), dataset=name, value=0.5) for name in (long, "b")]
    runs = [r.model_copy(update={"method": name, "scores": tuple(scored)}) for r in few for name in names]
    runs = [r.model_copy(update={"run_id": f"{r.run_id}-{r.method}"}) for r in runs]
    tables = Tables(runs, bootstrap=ProblemBootstrap(n_draws=20))
    for name in ("task_performance", "contrasts", "cross_entropy"):
        figure, _ = tables.draw(name)
        assert problems_of(figure, texts_of(figure)) == []
        pyplot.close(figure)
