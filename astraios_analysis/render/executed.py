"""What executed notebooks say for themselves: which grids lack which figure, and why."""

import json
from pathlib import Path

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
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        outputs = [output for cell in cells for output in cell.get("outputs", [])]
        galleries = [output["data"][MIME] for output in outputs if MIME in output.get("data", {})]
        return [(each["figure"], grid, reason) for each in galleries for grid, reason in each["lacking"].items()]
    except (ValueError, KeyError, TypeError, AttributeError):
        # A copy that was cut off or is not ours says nothing.
        return []
