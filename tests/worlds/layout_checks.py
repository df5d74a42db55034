"""Can a figure be read? Its texts, their overlaps and sizes, and what is drawn beyond the axes."""

from unittest import mock

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.text import Text

# The smallest print that people read without effort, and what two boxes of text may share: their empty margins.
SMALLEST, TOLERANCE = 5.5, 1.0


def texts_of(figure):
    """Texts that are drawn, each with its box in points from the lower left corner of the figure."""
    drawn, draw = {}, Text.draw

    def record(text, renderer):
        drawn[id(text)] = text
        return draw(text, renderer)

    # As in the PNG; on the coarser grid of a screen, letters are up to a tenth wider.
    figure.set_dpi(200)
    with mock.patch.object(Text, "draw", record):
        figure.draw_without_rendering()
    scale = 72 / figure.dpi
    # Of an annotation the words, not the arrow.
    boxes = [(text, Text.get_window_extent(text)) for text in drawn.values() if text.get_text().strip()]
    return [(text, np.array([box.x0, box.y0, box.x1, box.y1]) * scale) for text, box in boxes]


def problems_of(figure, texts):
    """What keeps a figure from being read: texts over each other, cut off or small, and what is drawn beyond axes."""
    found = [overlapping(texts), running_out(figure, texts), list(too_small(texts)), outside_axes(figure)]
    return [problem for problems in found for problem in problems]


def overlapping(texts):
    """Pairs of texts that are drawn over each other."""
    boxes = np.array([box for _, box in texts])
    lower = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    upper = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    pairs = np.argwhere(np.triu((upper - lower).min(axis=-1) > TOLERANCE, k=1))
    return [tuple(texts[place][0].get_text() for place in pair) for pair in pairs]


def running_out(figure, texts):
    """Texts that do not fit into the figure."""
    room = figure.get_size_inches() * 72 + 0.5
    return [text.get_text() for text, box in texts if (box[:2] < -0.5).any() or (box[2:] > room).any()]


def too_small(texts):
    """Texts smaller than people can read; an exponent has seven tenths of the size of its text."""
    sizes = {text.get_text(): text.get_fontsize() * (0.7 if "$" in text.get_text() else 1) for text, _ in texts}
    return {text: size for text, size in sizes.items() if size < SMALLEST}


def outside_axes(figure):
    """Points and ends of bars that are drawn beyond the limits of their axes, in pixels from the axes' corner."""
    found = []
    for axes in figure.axes:
        lines = [line.get_xydata() for line in axes.lines if line.get_transform() == axes.transData]
        bars = [c for c in axes.collections if isinstance(c, LineCollection) and c.get_transform() == axes.transData]
        points = [*lines, *(segment for bar in bars for segment in bar.get_segments())]
        for data in points:
            known = np.asarray(data, dtype=float).reshape(-1, 2)
            known = known[np.isfinite(known).all(axis=1)]
            place = axes.transAxes.inverted().transform(axes.transData.transform(known)) if len(known) else known
            found += known[((place < -1e-6) | (place > 1 + 1e-6)).any(axis=1)].tolist()
    return found
