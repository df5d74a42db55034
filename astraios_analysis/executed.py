"""What executed notebooks say for themselves: which grids lack which figure, and why."""

from pathlib import Path

import nbformat

from astraios_analysis.figures.gallery import MIME


def read_lacking(path: Path) -> list[tuple[str, str, str]]:
    """Return what an executed notebook could not draw.

    Parameters
    ----------
    path : Path
        The executed copy; nothing is returned where there is none that can be read.

    Returns
    -------
    list of (str, str, str)
        Figure, grid and reason, in the order of the notebook.
    """
    if not path.is_file():
        return []
    try:
        notebook = nbformat.read(path, as_version=4)
    except (ValueError, AttributeError, KeyError):
        # A copy that was cut off or is not ours says nothing.
        return []
    galleries = [
        output.data[MIME]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if MIME in output.get("data", {})
    ]
    return [(each["figure"], grid, reason) for each in galleries for grid, reason in each["lacking"].items()]
