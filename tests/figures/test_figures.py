"""Figures: what they return, that they can be read, and what they do with less than the released models."""

import re
from pathlib import Path

import pandas as pd
import pytest
from layout_checks import outside_axes, overlapping, problems_of, running_out, texts_of, too_small
from matplotlib import pyplot

from astraios_analysis.figures.gallery import FIGURES, Tables
from astraios_analysis.figures.style import FULL_WIDTH, MAX_PANELS, METHOD_STYLES, label_panel, small_multiples
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.scores.bootstrap import ProblemBootstrap

ROOT = Path(__file__).parents[2]
# All but those that need losses, and the frontier of costs, which takes fits.
RELEASED = [
    name
    for name, spec in FIGURES.items()
    if spec.notebook not in ("cross_entropy", "loss_performance") and name != "cost_performance"
]


def tables_of(records):
    return Tables(records, bootstrap=ProblemBootstrap(n_draws=50))


def draw_twin(name):
    """Draw a figure that grids share from its committed table, of the released models alone."""
    table = pd.read_csv(ROOT / "figures" / f"{name}.csv")
    table = table[table["grid"] == "released"].dropna(axis=1, how="all").reset_index(drop=True)
    return FIGURES[name].draw(table), table


@pytest.fixture(scope="module")
def drawn(released_records):
    """Every figure of the released models: {name: (figure, table, texts)}."""
    tables = tables_of(released_records)
    found = {name: draw_twin(name) if FIGURES[name].rows else tables.draw(name) for name in RELEASED}
    yield {name: (figure, table, texts_of(figure)) for name, (figure, table) in found.items()}
    pyplot.close("all")


@pytest.mark.parametrize("name", RELEASED)
class TestReleased:
    def test_is_whole(self, drawn, name):
        figure, table, texts = drawn[name]
        assert len(table) and figure.get_size_inches()[0] == FULL_WIDTH
        # Operations of tuning were not published for these models.
        assert set(FIGURES[name].fitted_columns) - {"flop"} <= set(table)
        assert re.search(r"\d+ models|\d+ methods|number of methods", " ".join(text.get_text() for text, _ in texts))
        assert "lower" not in table or re.search(r"interval|resample", FIGURES[name].caption)

    def test_can_be_read(self, drawn, name):
        figure, _, texts = drawn[name]
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


def test_methods_look_as_style_says(drawn):
    figure, table, _ = drawn["task_performance"]
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
