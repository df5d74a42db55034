"""One self-contained HTML page with every figure, its caption, its table, and what it was made from.

The page needs no network: pictures, styles and the script that sorts tables are in it. It carries no time, so the same
figures give the same page.
"""

import base64
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import jinja2
import mistune
import nbformat
import pandas as pd

from astraios_analysis.figures import FIGURES, FigureSpec, drawn_figures
from astraios_analysis.manifest import MANIFEST, figure_files, file_hash, read_manifest, write_text
from astraios_analysis.released import GRID
from astraios_analysis.render import REPORT, RenderError, find_notebooks, order_notebooks

TITLE = "Astraios: figures and tables"
SIGNIFICANT_DIGITS = 4
_NO_VALUE = "–"
_HEADING = re.compile(r"\A\s*#\s+(.+?)\s*#*\s*(?:\n|\Z)")


def write_report(
    build_dir: str | Path,
    figures_dir: str | Path,
    notebooks_dir: str | Path,
    data_summary: Mapping[str, object] | None = None,
) -> Path:
    """Write ``build_dir/report.html`` from the figures that are there.

    Parameters
    ----------
    build_dir : str or Path
        Holds ``manifest.json``, whose versions and hash the page states, and executed notebooks.
    figures_dir : str or Path
        Holds ``<name>.png``, ``.pdf`` and ``.csv``; a figure without its PNG is listed as not rendered.
    notebooks_dir : str or Path
        The notebooks: the first cell of each gives its section a title and an introduction.
    data_summary : mapping of str to object, optional
        What the page shows, in words to values in the order to be read: strings, numbers, lists.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    RenderError
        If there is no figures folder or no notebook.
    """
    build_dir, figures_dir = Path(build_dir), Path(figures_dir)
    if not figures_dir.is_dir():
        raise RenderError(f"figures folder {figures_dir} does not exist; render the notebooks first")
    notebooks = find_notebooks(notebooks_dir)
    path, manifest = build_dir / MANIFEST, read_manifest(build_dir / MANIFEST)
    names = order_notebooks([*notebooks, *(spec.notebook for spec in FIGURES.values())])
    loader = jinja2.PackageLoader("astraios_analysis")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template(REPORT).render(
        title=TITLE,
        summary=[(label, _in_words(value)) for label, value in (data_summary or {}).items()],
        sections=[
            _section(name, notebooks.get(name), figures_dir, build_dir, _parameters(manifest, name))
            | {"notice": _notice(manifest, name, figures_dir)}
            for name in names
        ],
        manifest=manifest,
        manifest_hash=file_hash(path) if manifest else None,
        manifest_link=MANIFEST,
    )
    return write_text(build_dir / REPORT, page)


def introduction(path: str | Path) -> tuple[str | None, str]:
    """Return the title of a notebook and the Markdown below it, from its first cell.

    Returns
    -------
    str or None
        The first-level heading that the cell starts with.
    str
        The rest of the cell; empty if the notebook starts with no Markdown.
    """
    cells = nbformat.read(path, as_version=4).cells
    text = cells[0].source if cells and cells[0].cell_type == "markdown" else ""
    found = _HEADING.match(text)
    return (found[1], text[found.end() :].strip()) if found else (None, text.strip())


def _parameters(manifest: Mapping | None, name: str) -> dict[str, float]:
    """Return what the captions of a notebook's figures depend on, where the notebook did not run with its defaults."""
    given = manifest["notebooks"].get(name, {}).get("parameters", {}) if manifest else {}
    return {key: float(given[key]) for key in ("level", "target_size") if isinstance(given.get(key), int | float)}


def _section(
    name: str, notebook: Path | None, figures_dir: Path, build_dir: Path, parameters: Mapping[str, float]
) -> dict[str, object]:
    title, text = introduction(notebook) if notebook else (None, "")
    executed = build_dir / "notebooks" / f"{name}.ipynb"
    return {
        "name": name,
        "title": title or name.replace("_", " ").capitalize(),
        "introduction": _to_html(text),
        "executed": _link(executed, build_dir),
        "figures": [
            _figure(stem, spec, grid, figures_dir, build_dir, spec.describe(**parameters))
            for stem, spec, grid in _figures_of(name, figures_dir)
        ],
    }


def _figures_of(notebook: str, figures_dir: Path) -> list[tuple[str, FigureSpec, str]]:
    """Return a notebook's figures, grid by grid; one that no grid has stands once, to be named as not rendered."""
    drawn = drawn_figures(figures_dir, notebook, FIGURES)
    known = {spec.name for _, spec, _ in drawn}
    missing = [(name, spec, "") for name, spec in FIGURES.items() if spec.notebook == notebook and name not in known]
    order = list(FIGURES)
    return sorted([*drawn, *missing], key=lambda item: order.index(item[1].name))


def _notice(manifest: Mapping | None, name: str, figures_dir: Path) -> str | None:
    """Return a warning if a notebook's figures are not those that the manifest describes."""
    figures = [stem for stem, _, _ in drawn_figures(figures_dir, name, FIGURES)]
    files = {path.name: file_hash(path) for path in figure_files(figures_dir, figures)}
    if not manifest or not files or manifest["notebooks"].get(name, {}).get("outputs") == files:
        return None
    return "These figures were made earlier, from other records, package or settings; render this notebook again."


def _to_html(markdown: str) -> str:
    # The template marks this as safe, so HTML in a notebook has to be escaped here.
    return str(mistune.create_markdown(escape=True, plugins=["table", "strikethrough"])(markdown))


def _figure(
    stem: str, spec: FigureSpec, grid: str, figures_dir: Path, build_dir: Path, caption: str
) -> dict[str, object]:
    picture, twin = (figures_dir / f"{stem}.{kind}" for kind in ("png", "csv"))
    links = [(kind.upper(), _link(figures_dir / f"{stem}.{kind}", build_dir)) for kind in ("pdf", "png", "csv")]
    return {
        "name": stem,
        "title": f"{spec.title}: grid {grid}" if grid not in ("", GRID) else spec.title,
        "caption": caption,
        "picture": base64.b64encode(picture.read_bytes()).decode("ascii") if picture.is_file() else None,
        "links": [(kind, link) for kind, link in links if link],
        "table": _table(twin, spec.fitted_columns) if picture.is_file() and twin.is_file() else None,
    }


def _link(path: Path, start: Path) -> str | None:
    """Return the address of a file relative to the page, or None where there is no such file."""
    return quote(Path(os.path.relpath(path, start)).as_posix()) if path.is_file() else None


def _table(path: Path, fitted: Sequence[str]) -> dict[str, object]:
    """Return a CSV twin as columns and rows of text, every row of it."""
    try:
        # Text that looks like a missing value to pandas ("none", "NA") is text here: only an empty cell is missing.
        frame = pd.read_csv(path, keep_default_na=False, na_values=[""]).convert_dtypes()
    except pd.errors.EmptyDataError:
        frame = pd.DataFrame()
    numeric = {name: _is_numeric(frame[name]) for name in frame.columns}
    columns = [{"name": name, "numeric": numeric[name], "fitted": name in fitted} for name in frame.columns]
    text = {name: [format_value(value) for value in frame[name]] for name in frame.columns}
    return {"columns": columns, "rows": list(zip(*text.values(), strict=True))}


def _is_numeric(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype)


def format_value(value: object) -> str:
    """Return a value as a reader wants it: four significant digits, thousands separated, a dash for a missing one.

    Parameters
    ----------
    value : object
        Of a table's cell.

    Returns
    -------
    str
        ``0.1235`` for 0.123456, ``1,137,207,296`` for an integer, ``yes`` for True, ``–`` for a missing value.
    """
    if value is None or pd.isna(value):
        return _NO_VALUE
    if pd.api.types.is_bool(value):
        return "yes" if value else "no"
    if pd.api.types.is_integer(value):
        return f"{value:,}"
    if pd.api.types.is_float(value):
        large = 10**SIGNIFICANT_DIGITS <= abs(value) < 1e15
        return f"{value:,.0f}" if large else f"{value:.{SIGNIFICANT_DIGITS}g}"
    return str(value)


def _in_words(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_in_words(item) for item in value)
    return format_value(value)
