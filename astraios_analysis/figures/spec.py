"""What a figure is: its declaration beside its code, the tables it is drawn from, and its files."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import pyplot
from matplotlib.figure import Figure

from astraios_analysis.figures.style import name_grid, size_label, split_held_out
from astraios_analysis.records.files import write_whole
from astraios_analysis.records.refusal import Refusal, fail
from astraios_analysis.records.registry import METRICS, RELEASED

# Figures are drawn from their rounded twin: the last bits of a sum differ between machines, a figure should not.
SIGNIFICANT_DIGITS = 8
SUFFIXES = ("csv", "pdf", "png")
BARS = ("lower", "upper")
INTERVAL = (
    "Error bars are {level} percentile intervals from 2,000 bootstrap resamples of problems; they do not cover the "
    "variance between training runs. Digitised clone-detection accuracy has normal intervals from binomial and "
    "reading error."
)

Answer = Callable[[pd.DataFrame], str | None]


@dataclass(frozen=True)
class FigureSpec:
    """A figure's name (the stem of its files), words and origin.

    ``draw`` makes figure and table of one grid, its arguments called as in `gallery.Tables`. Where there is ``rows``,
    all grids share the figure: ``rows`` makes a grid's table, and ``draw`` the figure of those tables, with a column
    ``grid``. ``answer`` says in a sentence what a grid's table answers to the question. ``fitted_columns`` of the table
    come from a fit or a resampling; all other numbers equal the records. ``{level}`` and ``{target}`` in the caption
    stand for what the figure was drawn with.
    """

    name: str
    title: str
    notebook: str
    caption: str
    fitted_columns: tuple[str, ...] = ()
    question: str = ""
    draw: Callable | None = None
    answer: Answer | None = None
    rows: Callable[..., pd.DataFrame] | None = None

    def describe(self, level: float = 0.95, target_size: float = 34e9) -> str:
        """Return the caption for the parameters a notebook ran with."""
        return self.caption.replace("{level}", f"{100 * level:g} %").replace("{target}", size_label(target_size))

    def say(self, table: pd.DataFrame | None) -> str | None:
        """Return the answer of a figure's table, grid by grid, or None where it has too little to answer from."""
        if not self.answer or table is None or table.empty:
            return None
        if self.rows is None or "grid" not in table:
            return self.answer(table)
        said = {grid: self.answer(own) for grid, own in table.groupby("grid", sort=False)}
        lead = "{1}" if len(said) == 1 else "{0}: {1}"
        return " ".join(lead.format(name_grid(grid), words) for grid, words in said.items() if words) or None


FIGURES: dict[str, FigureSpec] = {}
"""Every figure that is declared, by its name, in the order of the report."""


def figure(name: str, *, fitted: Sequence[str] = (), **declared: Any) -> Callable[[Callable], Callable]:
    """Declare the function below as the figure of that name, by the fields of `FigureSpec`."""

    def declare(draw: Callable) -> Callable:
        FIGURES[name] = FigureSpec(name, fitted_columns=tuple(fitted), draw=draw, **declared)
        return draw

    return declare


def figure_stem(name: str, grid: str) -> str:
    """Return the file stem of a grid's figure: its name where grids share it or models are released, else with both."""
    return name if grid == RELEASED or (name in FIGURES and FIGURES[name].rows) else f"{name}_{grid}"


def require_rows(table: pd.DataFrame, figure: str, needs: str) -> None:
    """Refuse to draw a figure of nothing, naming it and what it needs."""
    if table.empty:
        raise Refusal(f"nothing to draw in {figure}: it needs {needs}; choose another grid or add such scores")


def round_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with its floating-point columns rounded to eight significant digits."""
    rounded = table.reset_index(drop=True).copy()
    for column in rounded.select_dtypes("float"):
        values = rounded[column].to_numpy(dtype=float)
        rounded[column] = [float(f"{value:.{SIGNIFICANT_DIGITS}g}") for value in values]
    return rounded


def average_models(table: pd.DataFrame, value: str, *more: str) -> pd.DataFrame:
    """Return the mean of a column for each model, seeds averaged, sizes in order; what is held out is left out."""
    found = (
        split_held_out(table)[0]
        .groupby([*more, "n_params_base", "size", "method"], sort=True, as_index=False)[value]
        .mean()
    )
    return found.dropna(subset=[value])


def keep_shares(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a table whose metric is a share, of which points of 100 can be spoken of."""
    return table[[(METRICS[name].lower, METRICS[name].upper) == (0, 1) for name in table["metric"]]]


def keep_largest(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the largest size."""
    return table[table["n_params_base"] == table["n_params_base"].max()]


def find_ends(table: pd.DataFrame, value: str) -> tuple[pd.Series, pd.Series]:
    """Return the rows with the lowest and the highest value."""
    return table.sort_values(value).iloc[0], table.sort_values(value, ascending=False).iloc[0]


def save(figure: Figure, table: pd.DataFrame, name: str, folder: str | Path) -> list[Path]:
    """Write a figure as PDF and PNG, and what it draws as CSV; each file whole or not at all; close the figure.

    Files are free of time stamps: the same figure gives the same bytes.
    """
    try:
        files = {Path(folder, f"{name}.{suffix}"): content for suffix, content in _contents(figure, table).items()}
        for path, content in files.items():
            write_whole(path, content)
    except OSError as error:
        message = f"cannot write the figure ({error.strerror}); free space or choose another folder"
        raise fail(Path(folder, name), message) from error
    finally:
        pyplot.close(figure)
    return list(files)


def _contents(figure: Figure, table: pd.DataFrame) -> dict[str, bytes]:
    """Return the files of a figure by their suffix, in memory: nothing is written before all of them are drawn."""
    pdf, png = io.BytesIO(), io.BytesIO()
    figure.savefig(png, format="png", metadata={"Software": None})
    # The panels stay where they are: to find their places anew is a third of the time.
    figure.set_layout_engine("none")
    figure.savefig(pdf, format="pdf", metadata={"CreationDate": None})
    csv = table.to_csv(index=False, lineterminator="\n").encode()
    return {"csv": csv, "pdf": pdf.getvalue(), "png": png.getvalue()}
