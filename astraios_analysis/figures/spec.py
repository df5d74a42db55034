"""What a figure is called, which notebook draws it, and how it is written to disk."""

import io
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib import pyplot
from matplotlib.figure import Figure

from astraios_analysis.figures.style import size_label
from astraios_analysis.records.frame import FileProblem, RecordError
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.released import GRID

# Figures are drawn from their rounded twin: the last bits of a sum differ between machines, a figure should not.
SIGNIFICANT_DIGITS = 8
SUFFIXES = ("csv", "pdf", "png")


@dataclass(frozen=True)
class FigureSpec:
    """A figure's name, words and origin.

    Attributes
    ----------
    name : str
        Stem of the files for the released models; `figure_stem` has those for other grids.
    title, caption : str
        In words. The caption names the intervals; ``{level}`` and ``{target}`` in it stand for the notebook's
        parameters (see `describe`).
    notebook : str
        Stem of the notebook that draws it.
    fitted_columns : tuple of str
        Columns of the CSV twin that come from a fit or a resampling. All other numbers equal the records.
    """

    name: str
    title: str
    notebook: str
    caption: str
    fitted_columns: tuple[str, ...] = ()

    def describe(self, level: float = 0.95, target_size: float = 34e9) -> str:
        """Return the caption for the parameters a notebook ran with; it is also the alt text.

        Parameters
        ----------
        level : float
            Coverage of the intervals.
        target_size : float
            Size that is predicted, in base parameters.
        """
        return self.caption.replace("{level}", f"{100 * level:g} %").replace("{target}", size_label(target_size))


def figure_stem(name: str, grid: str) -> str:
    """Return the file stem of a grid's figure: the figure's name for the released models, else with the grid's."""
    return name if grid == GRID else f"{name}_{grid}"


def require_rows(table: pd.DataFrame, figure: str, needs: str) -> None:
    """Refuse to draw a figure of nothing.

    Raises
    ------
    Refusal
        Naming the figure and what it needs.
    """
    if table.empty:
        raise Refusal(f"nothing to draw in {figure}: it needs {needs}; choose another grid or add such scores")


def round_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with its floating-point columns rounded to eight significant digits."""
    rounded = table.reset_index(drop=True).copy()
    for column in rounded.select_dtypes("float"):
        values = rounded[column].to_numpy(dtype=float)
        rounded[column] = [float(f"{value:.{SIGNIFICANT_DIGITS}g}") for value in values]
    return rounded


def save(figure: Figure, table: pd.DataFrame, name: str, folder: str | Path) -> list[Path]:
    """Write a figure as PDF and PNG, and what it draws as CSV; each file whole or not at all.

    Parameters
    ----------
    figure : Figure
        Closed afterwards.
    table : DataFrame
        The CSV twin.
    name : str
        File stem.
    folder : str or Path
        Made if it does not exist.

    Returns
    -------
    list of Path
        The three files, free of time stamps: the same figure gives the same bytes.

    Raises
    ------
    RecordError
        If a file cannot be written.
    """
    folder = Path(folder)
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for suffix, content in _contents(figure, table).items():
            # A draft has one name: what an interrupt leaves is overwritten by the next run, and git ignores it.
            draft = folder / f".{name}.{suffix}.part"
            draft.write_bytes(content)
            draft.chmod(0o644)
            written.append(draft.replace(folder / f"{name}.{suffix}"))
    except OSError as error:
        problem = FileProblem(
            folder / name, "", f"cannot write the figure ({error.strerror}); free space or choose --out"
        )
        raise RecordError([problem]) from error
    finally:
        pyplot.close(figure)
    return written


def _contents(figure: Figure, table: pd.DataFrame) -> dict[str, bytes]:
    """Return the files of a figure by their suffix, in memory: nothing is written before all of them are drawn."""
    pdf, png = io.BytesIO(), io.BytesIO()
    figure.savefig(pdf, format="pdf", metadata={"CreationDate": None})
    figure.savefig(png, format="png", metadata={"Software": None})
    csv = table.to_csv(index=False, lineterminator="\n").encode()
    return {"csv": csv, "pdf": pdf.getvalue(), "png": png.getvalue()}
