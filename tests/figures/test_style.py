"""Looks: methods that people can tell apart, labels that say the size, sentences that say what is missing."""

from itertools import combinations

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from layout_checks import running_out, texts_of
from matplotlib import pyplot

from astraios_analysis.figures import style
from astraios_analysis.records.schema import METHODS

# Machado, Oliveira and Fernandes 2009, table 1, severity 1.0: on linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
# sRGB to XYZ (IEC 61966-2-1), and its white point D65.
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
# A just noticeable difference is about 2.3 for large patches side by side (Mahy et al. 1994). Markers of 4 pt on a
# page are small and apart; four to five times that is what categorical palettes are usually held to.
DISTINCT = 10.0


def to_lab(colour, vision):
    """CIELAB coordinates of an sRGB colour as seen with a kind of vision."""
    rgb = np.array(mpl.colors.to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(VISION[vision] @ linear, 0, 1)
    xyz = TO_XYZ @ seen / (TO_XYZ @ np.ones(3))
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def confusable(colours, vision):
    """Pairs of names whose colours are closer than `DISTINCT` with a kind of vision, and their distance."""
    lab = {name: to_lab(colour, vision) for name, colour in colours.items()}
    distances = {pair: float(np.linalg.norm(lab[pair[0]] - lab[pair[1]])) for pair in combinations(lab, 2)}
    return {pair: round(distance, 1) for pair, distance in distances.items() if distance < DISTINCT}


def test_every_method_has_one_style_that_differs_in_every_part():
    # Whatever another test drew.
    style.METHOD_STYLES.order([])
    assert tuple(style.METHOD_STYLES) == METHODS
    for part in ("label", "colour", "marker"):
        assert len({getattr(look, part).lower() for look in style.METHOD_STYLES.values()}) == len(METHODS)


@pytest.mark.parametrize("vision", VISION)
def test_colours_differ_for_everyone(vision):
    colours = {name: look.colour for name, look in style.METHOD_STYLES.items()}
    assert confusable(colours | {"paper": "white"}, vision) == {}
    # The check can fail.
    assert bool(confusable({"red": "#d62728", "green": "#6b7a20"}, vision)) == (vision == "deuteranopia")


def test_size_label():
    labels = {1_137_207_296: "1.1B", 15_517_456_384: "15.5B", 350_000_000: "350M", 300_000: "300k"}
    labels |= {436_744: "437k", 999_999_999: "1.0B", 2e12: "2T", 512: "512"}
    assert {n_params: style.size_label(n_params) for n_params in labels} == labels


SUITE = [(size, method) for size in ("1b", "3b") for method in METHODS]


def models(pairs):
    table = pd.DataFrame(pairs, columns=["size", "method"])
    return table.assign(n_params_base=table["size"].map({"1b": 1e9, "3b": 3e9}))


MISSING = ("1b", "ia3"), ("1b", "ptuning"), ("3b", "fft")


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (SUITE * 2, "14 of 14 models"),
        (SUITE[:7], "7 of 14 models (not 3b)"),
        # Few methods of a size are missing, or most.
        ([m for m in SUITE if m not in MISSING], "11 of 14 models (not 1b P-Tuning (IA)³, 3b FFT)"),
        ([*SUITE[:7], ("3b", "lora"), ("3b", "ia3")], "9 of 14 models (not 3b but LoRA (IA)³)"),
        ([], "0 of 14 models (not 1b, 3b)"),
        (SUITE[:1], "1 of 14 models (only 1b FFT)"),
    ],
)
def test_models_are_described_by_the_shorter_list(shown, words):
    assert style.describe_models(models(shown), models(SUITE * 3)) == words


def test_categories_keep_the_order_of_sizes_and_methods_and_points_stand_at_their_sizes():
    sizes = [1_137_207_296, 3_043_311_104, 7_327_263_232, 15_517_456_384]
    places = np.array([style._places(sizes, method, sizes) for method in METHODS])
    assert (np.diff(places, axis=0) > 0).all() and (places[-1, :-1] < places[0, 1:]).all()
    np.testing.assert_allclose(places.mean(axis=0), range(4), atol=1e-12)
    np.testing.assert_array_equal(style._places([1e9, 3e9], "parallel", None), [1e9, 3e9])
    beside = [style.beside(34e9, method) for method in METHODS]
    assert beside == sorted(beside) and beside[0] > 34e9 and beside[-1] < 1.6 * 34e9


@pytest.fixture
def panel():
    pyplot.style.use(style.THEME)
    figure, axes = pyplot.subplots()
    yield axes
    pyplot.close(figure)


@pytest.mark.parametrize(
    ("sizes", "ticks", "labels"),
    [
        ([7_000_000_000, 1_000_000_000, 1_000_000_000], [1e9, 7e9], ["1B", "7B"]),
        ([300_000], [3e5], ["300k"]),
        # Of crowded labels the smaller stands below.
        ([300_000, 310_000, 3_000_000, 3_100_000], [3e5, 3.1e5, 3e6, 3.1e6], ["\n300k", "310k", "\n3M", "3.1M"]),
    ],
)
def test_a_tick_at_each_size(panel, sizes, ticks, labels):
    style.size_axis(panel, sizes, label=len(sizes) > 1)
    assert list(panel.get_xticks()) == ticks and [text.get_text() for text in panel.get_xticklabels()] == labels
    assert panel.get_xscale() == "log" and bool(panel.get_xlabel()) == (len(sizes) > 1)
    assert panel.get_xlim()[0] < ticks[0] and ticks[-1] < panel.get_xlim()[1]


@pytest.mark.parametrize(("lowest", "starts"), [(0.5, 0), (-0.5, -0.57)])
def test_axes_start_at_zero_or_below_what_is_negative(panel, lowest, starts):
    panel.plot([1, 2], [lowest, 0.9])
    style.start_at_zero([panel])
    assert panel.get_ylim()[0] == pytest.approx(starts) and panel.get_ylim()[1] > 0.9
    # Axes that are shared fit every panel.
    _, panels = style.small_multiples(2, 2, sharey=True)
    for one, top in zip(panels, (0.5, 0.9), strict=True):
        one.plot([1, 2], [0.1, top])
    style.start_at_zero(panels)
    assert panels[0].get_ylim() == panels[1].get_ylim() and panels[0].get_ylim()[1] > 0.9
    pyplot.close(panels[0].figure)


def test_a_marker_far_from_zero_keeps_its_place_below_the_frame(panel):
    panel.plot([1, 2], [0.5, 0.5001], "o")
    style.start_at_zero([panel])
    assert panel.get_ylim() == pytest.approx((0, 0.5001 * 1.04))


def test_names_have_room(panel):
    pyplot.close(panel.figure)
    figure, panels = style.small_multiples(3, 3)
    sizes = [14e6 * 3**n for n in range(8)]
    rows = pd.DataFrame({"method": "lora", "n_params_base": sizes, "value": 0.5, "lower": None, "upper": None})
    style.draw_models(panels[0], rows, sizes)
    few = pd.DataFrame([[0.5], [0.5]], index=["a data set of a long name", "another of a long name"], columns=["x"])
    style.heat_map(panels[1], few)
    height = figure.get_figheight()
    style.method_legend(figure, [f"method_{n}" for n in range(30)])
    texts = texts_of(figure)
    names = [text.get_text() for text in panels[0].get_xticklabels()]
    assert names[:2] == ["14M", "\n42M"] and figure.get_figheight() > height + 0.3
    assert {text.get_rotation() for text in panels[1].get_yticklabels()} == {0} and running_out(figure, texts) == []
    pyplot.close(figure)


@pytest.mark.skipif(len(style._families()) == 1, reason="needs a font with Chinese letters")
@pytest.mark.filterwarnings("error")
def test_names_in_other_scripts_are_drawn(caplog):
    figure, (panel,) = style.small_multiples(1, 1)
    style.label_panel(panel, "\u4f4e\u79e9", "\u9002\u5e94")
    figure.canvas.draw()
    assert caplog.messages == []
    pyplot.close(figure)


def test_points_without_an_interval_are_drawn(panel):
    rows = {"method": "lora", "n_params_base": [1e9, 2e9], "value": [0.4, 0.5], "lower": [0.3, None], "upper": None}
    style.draw_methods(panel, pd.DataFrame(rows))
    assert np.isfinite(panel.dataLim.get_points()).all()
    assert panel.dataLim.y0 == pytest.approx(0.3)


def test_a_grid_of_which_no_interval_is_known_is_drawn_and_none_is_named(panel):
    nothing = {"lower": None, "upper": None, "level": 0.95, "interval": "none", "n_seeds": None}
    rows = pd.DataFrame({"grid": "own", "method": "lora", "n_params_base": [1e9, 2e9], "value": [0.4, 0.5], **nothing})
    ((grid, own),) = style.split_grids(rows)
    style.draw_models(panel, own, own["n_params_base"])
    assert grid == "own" and "n_seeds" not in own and style.interval_handles(own) == []


def test_long_names_of_methods_fit_into_the_figure(panel):
    names = [f"{n}-layers-of-prefix-tuning-with-virtual-tokens-{n % 2}" for n in range(12)]
    names.append("0-layers-of-many-virtual-tokens-0")
    style.method_legend(panel.figure, names)
    texts = texts_of(panel.figure)
    assert running_out(panel.figure, texts) == [] and style.name_method(names[-1]) == "0-layers-of-…al-tokens-0"
    assert len({style.name_method(name) for name in names}) == 13
    assert {text.get_text() for text, _ in texts} >= {style.name_method(name) for name in names}


def test_dollars_in_names_are_drawn_as_they_are(panel):
    style.method_legend(panel.figure, [r"$\none$"])
    style.heat_map(panel, pd.DataFrame([[0.5]], index=["$a$"], columns=["$x$"]))
    style.label_panel(panel, "$1$", "a note of $2$", ylabel="minus $x$")
    panel.figure.canvas.draw()
    shown = {text.get_text() for text in panel.figure.findobj(mpl.text.Text) if "$" in text.get_text()}
    expected = {r"|\none|", "|a|", "|x|", "|1|", "a note of |2|", "minus |x|"}
    assert {text.replace(r"\$", "|") for text in shown} == expected


def test_legend_has_the_methods_in_their_one_order(panel):
    style.method_legend(panel.figure, ["parallel", "fft", "parallel"])
    (legend,) = panel.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["FFT", "Parallel"]
