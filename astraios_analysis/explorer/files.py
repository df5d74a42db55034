"""Write what is shown: the figure, its table, and the lines of Python that make both again."""

import hashlib
import re
from pathlib import Path

from astraios_analysis.explorer.choices import Choice
from astraios_analysis.explorer.figure import explored_fit
from astraios_analysis.explorer.results import Exploration
from astraios_analysis.figures.spec import save

_SCRIPT = '''"""Draws {stem}.pdf, .png and .csv again, beside this file."""

from pathlib import Path

from astraios_analysis.explorer import widgets as explore
from astraios_analysis.explorer.figure import explored_fit
from astraios_analysis.figures.spec import save
from astraios_analysis.records import grids

records = grids.load_grids({data_dir!r}, {grid!r})[{grid!r}]
choice = explore.Choice({arguments})
save(*explored_fit(explore.explore(records, choice)), {stem!r}, Path(__file__).parent)
'''


def name_files(grid: str, choice: Choice) -> str:
    """Return a file stem that says what is shown; different choices have different ones."""
    arguments = f"{grid}, {choice.as_arguments()}"
    words = re.sub(r"[^a-z0-9]+", "_", f"{grid} {choice.y} {choice.x} {choice.law} {choice.pooling}".lower())
    return f"{words}_{hashlib.sha256(arguments.encode()).hexdigest()[:6]}"


def write_exploration(exploration: Exploration, folder: str | Path, data_dir: str | Path) -> list[Path]:
    """Write an exploration's figure as PDF and PNG, what it draws as CSV, and the script that makes them again.

    Parameters
    ----------
    exploration : Exploration
    folder : str or Path
        Made if it does not exist.
    data_dir : str or Path
        Where the records were read from; the script reads them there again.

    Returns
    -------
    list of Path
        CSV, PDF, PNG and Python file.

    Raises
    ------
    RecordError
        If a file cannot be written.
    """
    stem = name_files(exploration.grid, exploration.choice)
    written = save(*explored_fit(exploration), stem, folder)
    script = Path(folder) / f"{stem}.py"
    words = {"stem": stem, "grid": exploration.grid, "data_dir": str(Path(data_dir).resolve())}
    script.write_text(_SCRIPT.format(arguments=exploration.choice.as_arguments(), **words), encoding="utf-8")
    return [*written, script]
