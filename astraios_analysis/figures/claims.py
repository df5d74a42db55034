"""Claims: the effect behind each verdict, over all parts and on each."""

import textwrap
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from astraios_analysis.claims.judge import Judgement, judgement_frame
from astraios_analysis.claims.rules import CLAIMS
from astraios_analysis.figures.spec import BARS, figure, require_rows, round_table
from astraios_analysis.figures.style import GREY, join, note, small_multiples
from astraios_analysis.records.registry import DATASETS

_COLOURS = {"supported": "#009E73", "mixed": "#E69F00", "not supported": "#D55E00"}
_COLUMNS = 2


def _say_verdicts(table: pd.DataFrame) -> str:
    counts = table[table["part"] == "overall"]["verdict"].value_counts()
    return f"{join(f'{n} {verdict}' for verdict, n in counts.items()).capitalize()}."


@figure(
    "claim_effects",
    notebook="claims",
    title="What the study claims, judged",
    question="Does what the study claims hold?",
    caption="Effect of each claim over all parts (diamond) and on each part (dots), with 95 % intervals of the kind "
    "that docs/claims.md names; right of the dashed line speaks for the claim. The verdict follows rules written down "
    "before; claims that the records cannot test are named in the table.",
    answer=_say_verdicts,
    fitted=("effect", *BARS, "p_value", "p_opposite", "p_holm"),
)
def claim_effects(judgements: Sequence[Judgement]) -> tuple[Figure, pd.DataFrame]:
    """Draw the effect of every claim that could be tested, over all parts and part by part: a panel a claim and suite.

    The twin has a row without numbers for a claim that was not tested.
    """
    frames = [judgement_frame(judgements), judgement_frame(judgements, parts=True)]
    table = round_table(pd.concat([frame for frame in frames if len(frame)], ignore_index=True))
    tested = table[table["effect"].notna()]
    require_rows(tested, "claim_effects", "a claim that can be tested")
    panels = list(tested.groupby(["suite", "claim"], sort=False))
    most = max(len(rows) for _, rows in panels)
    figure, axes = small_multiples(len(panels), _COLUMNS, row_height=0.75 + 0.17 * most)
    several = table["suite"].nunique() > 1
    for panel, ((suite, name), rows) in zip(axes, panels, strict=True):
        low, high = int(rows["n"].min()), int(rows["n"].max())
        n = f"{low if low == high else f'{low} to {high}'} {CLAIMS[name].counted}"
        _draw(panel, rows, n, f"{suite} data sets. " if several else "")
    return figure, table


def _draw(panel: Axes, rows: pd.DataFrame, n: str, where: str) -> None:
    verdict, colour = rows["verdict"].iloc[0], _COLOURS[rows["verdict"].iloc[0]]
    shown = rows.to_dict("records")
    for height, row in enumerate(shown[::-1]):
        is_whole = row["part"] == "overall"
        panel.plot([row["lower"], row["upper"]], [height, height], color=colour if is_whole else GREY, linewidth=1.1)
        marker, size = ("D", 5) if is_whole else ("o", 3.5)
        panel.plot(row["effect"], height, marker, markersize=size, color=colour if is_whole else GREY)
    panel.axvline(0, color=GREY, linewidth=0.7, linestyle="--", zorder=0)
    names = [DATASETS[row["part"]].title if row["part"] in DATASETS else "Overall" for row in shown[::-1]]
    panel.set_yticks(np.arange(len(shown)), names, fontsize=6)
    panel.set_ylim(-0.6, len(shown) - 0.4)
    panel.xaxis.set_major_locator(mpl.ticker.MaxNLocator(5))
    panel.set_xlabel(rows["unit"].iloc[0], fontsize=6.5)
    panel.set_title(textwrap.fill(rows["statement"].iloc[0], 32), loc="left", fontsize=7)
    p_holm = rows["p_holm"].iloc[0]
    note(panel, f"{where}{verdict.capitalize()}, corrected p {p_holm:.2g}; {n}", width=60)
