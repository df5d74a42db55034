"""One figure for every grid that can answer: drawn, saved under the grid's name, and shown one below the other."""

import base64
import html
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from astraios_analysis.figures.spec import SUFFIXES, figure_stem, save
from astraios_analysis.records.grids import PerGrid, call_for_grid
from astraios_analysis.records.refusal import Refusal

MIME = "application/vnd.astraios.gallery+json"
"""Type of the output, among a cell's others, by which an executed notebook tells the report what was drawn and not."""


@dataclass(frozen=True)
class Gallery:
    """What was drawn of one figure.

    Attributes
    ----------
    name : str
        The figure's name.
    tables : dict of str to DataFrame
        The table of each grid that has the figure.
    pictures : dict of str to Path
        Its PNG file.
    lacking : dict of str to str
        For each grid without it, why.
    """

    name: str
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    pictures: dict[str, Path] = field(default_factory=dict)
    lacking: dict[str, str] = field(default_factory=dict)

    @property
    def table(self) -> pd.DataFrame:
        """The tables below one another, with the grid in front."""
        return PerGrid(self.tables, self.lacking).table

    def __repr__(self) -> str:
        """Return one line a grid."""
        drawn = [f"{grid}: {path.name}" for grid, path in self.pictures.items()]
        return "\n".join([*drawn, *(f"{grid}: {reason}" for grid, reason in self.lacking.items())])

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, object]:
        # Besides what people see: for the report, which reads executed notebooks.
        drawn = {grid: path.stem for grid, path in self.pictures.items()}
        return {MIME: {"figure": self.name, "drawn": drawn, "lacking": self.lacking}}

    def _repr_html_(self) -> str:
        parts = []
        for grid, path in self.pictures.items():
            picture = base64.b64encode(path.read_bytes()).decode("ascii")
            words = html.escape(f"{self.name}, grid {grid}")
            parts.append(f"<p>Grid <b>{html.escape(grid)}</b></p>")
            parts.append(f'<img src="data:image/png;base64,{picture}" alt="{words}" style="max-width: 100%">')
        for grid, reason in self.lacking.items():
            parts.append(f"<p>Grid <b>{html.escape(grid)}</b> is not shown: {html.escape(reason)}</p>")
        return "\n".join(parts)


def draw(
    name: str,
    function: Callable[..., tuple[Figure, pd.DataFrame]],
    first: PerGrid,
    *others: object,
    figures_dir: str | Path,
    **named: object,
) -> Gallery:
    """Draw a figure for each grid and save it; a grid whose records do not suffice is named with the reason.

    Files that an earlier run left for such a grid are removed: they would show other records.

    Parameters
    ----------
    name : str
        The figure's name; files are called ``name`` for the released models and ``name_grid`` for another grid.
    function : callable
        Returns (Figure, DataFrame).
    first : PerGrid
        Its first argument; says which grids there are.
    *others, **named : object
        Its further arguments: of a `PerGrid` the grid's value, of anything else itself.
    figures_dir : str or Path

    Returns
    -------
    Gallery
    """
    gallery = Gallery(name)
    for grid in first.everything:
        stem = figure_stem(name, grid)
        try:
            figure, table = call_for_grid(grid, function, first, *others, **named)
        except Refusal as error:
            gallery.lacking[grid] = str(error)
            for suffix in SUFFIXES:
                (Path(figures_dir) / f"{stem}.{suffix}").unlink(missing_ok=True)
            continue
        save(figure, table, stem, figures_dir)
        gallery.tables[grid] = table
        gallery.pictures[grid] = Path(figures_dir) / f"{stem}.png"
    return gallery
