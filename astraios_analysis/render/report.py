"""One self-contained HTML page: what the records support, every figure with its table, and what it was made from.

The page needs no network: pictures, styles and tables are in it, the tables as one archive from which a script shows
what is opened. It carries no time, so the same figures give the same page. What it says in words is computed by
`findings` and by what each figure answers.
"""

import base64
import io
import json
import os
import re
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import jinja2
import mistune
import pandas as pd
from PIL import Image

from astraios_analysis.figures.gallery import FIGURES, MIME, drawn_figures
from astraios_analysis.figures.spec import FigureSpec
from astraios_analysis.figures.style import name_method
from astraios_analysis.prediction.limits import parse_size
from astraios_analysis.records.files import write_whole
from astraios_analysis.records.frame import RunRecord
from astraios_analysis.records.registry import RELEASED
from astraios_analysis.records.schema import order_methods
from astraios_analysis.render.execution import read_cells
from astraios_analysis.render.findings import choose_method, claim_board, read_twin
from astraios_analysis.render.render import (
    MANIFEST,
    figure_files,
    file_hash,
    find_notebooks,
    hash_files,
    order_notebooks,
    read_manifest,
)

REPORT = "report.html"
TITLE = "Astraios: findings, figures and tables"
_COLOURS = 64  # of a picture in the page; the PNG beside it has all
_HEADING = re.compile(r"\A\s*#\s+(.+?)\s*#*\s*(?:\n|\Z)")


def write_report(
    build_dir: str | Path,
    figures_dir: str | Path,
    notebooks_dir: str | Path,
    data_summary: Mapping[str, str],
    seeds: Mapping[str, int],
) -> Path:
    """Write ``build_dir/report.html`` from the figures that are there, and return its path.

    The build folder's manifest says with what they were made, its executed notebooks what grids lack, and the first
    cell of each notebook introduces its section. ``data_summary`` says in words what the page shows. ``seeds`` has the
    grids of the records, in order, with the most runs that any of a grid's models has; figures of other grids are of
    earlier records and stay out.
    """
    build_dir, figures_dir, grids = Path(build_dir), Path(figures_dir), list(seeds)
    notebooks = find_notebooks(notebooks_dir)
    path, manifest = build_dir / MANIFEST, read_manifest(build_dir / MANIFEST)
    names = order_notebooks([*notebooks, *(spec.notebook for spec in FIGURES.values())])
    everything = [
        _section(name, notebooks.get(name), grids, (figures_dir, build_dir), _parameters(manifest, name))
        | {"notice": _notice(manifest, name, figures_dir)}
        for name in names
    ]
    sections = [section for section in everything if section["figures"]]
    choices = [choose_method(figures_dir, grid, n_seeds) for grid, n_seeds in seeds.items()]
    loader = jinja2.PackageLoader("astraios_analysis.render")
    looks = {"autoescape": True, "trim_blocks": True, "lstrip_blocks": True, "undefined": jinja2.StrictUndefined}
    template = jinja2.Environment(loader=loader, **looks).get_template(REPORT)
    page = template.render(
        title=TITLE,
        summary=list(data_summary.items()),
        sections=sections,
        choices=[choice for choice in choices if choice],
        tables=pack_tables(figures_dir, sections),
        board=claim_board(figures_dir, grids),
        lacking=[
            {"section": section["name"], "figure": FIGURES[figure].title, "grid": grid, "reason": reason}
            for section in everything
            for figure, grid, reason in section["lacking"]
        ],
        manifest=manifest,
        manifest_hash=file_hash(path) if manifest else None,
        manifest_link=MANIFEST,
    )
    write_whole(build_dir / REPORT, page)
    return build_dir / REPORT


def _shows(figures_dir: Path, name: str, grids: Sequence[str]) -> bool:
    """Whether a figure that grids share is of these records: it shows no other grid."""
    table = figures_dir / f"{name}.csv"
    shown = pd.read_csv(table, usecols=["grid"])["grid"] if table.is_file() else []
    return set(shown) <= set(grids)


def _shrink(picture: Path) -> str:
    """Return a PNG of few colours in base64, a quarter as large."""
    small = io.BytesIO()
    with Image.open(picture) as whole:
        # Neighbouring colours of a drawing are its own: nothing is mixed from dots.
        palette = whole.convert("RGB").quantize(_COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        palette.save(small, "png", optimize=True)
    return base64.b64encode(small.getvalue()).decode("ascii")


def pack_tables(figures_dir: Path, sections: Sequence[Mapping]) -> str:
    """Return the CSV twins of the figures shown as one ZIP in base64, the same bytes for the same tables."""
    archive = io.BytesIO()
    names = [f"{figure['name']}.csv" for section in sections for figure in section["figures"] if figure["columns"]]
    with zipfile.ZipFile(archive, "w") as packed:
        for name in names:
            # The default time, 1980: an archive with the time of the run would differ each time.
            packed.writestr(zipfile.ZipInfo(name), (figures_dir / name).read_bytes(), zipfile.ZIP_DEFLATED, 9)
    return base64.b64encode(archive.getvalue()).decode("ascii")


def introduction(path: str | Path) -> tuple[str | None, str]:
    """Return the heading that a notebook's first cell starts with, if any, and the Markdown below it."""
    cells = read_cells(Path(path))
    text = cells[0]["source"] if cells and cells[0]["cell_type"] == "markdown" else ""
    found = _HEADING.match(text)
    return (found[1], text[found.end() :].strip()) if found else (None, text.strip())


def _parameters(manifest: Mapping | None, name: str) -> dict[str, float]:
    """Return what the captions of a notebook's figures depend on, where the notebook did not run with its defaults."""
    given = manifest["notebooks"].get(name, {}).get("parameters", {}) if manifest else {}
    return {key: parse_size(str(given[key])) for key in ("level", "target_size") if key in given}


def _section(
    name: str,
    notebook: Path | None,
    grids: Sequence[str],
    folders: tuple[Path, Path],
    parameters: Mapping[str, float],
) -> dict[str, object]:
    figures_dir, build_dir = folders
    title, text = introduction(notebook) if notebook else (None, "")
    executed = build_dir / "notebooks" / f"{name}.ipynb"
    lacking = [row for row in read_lacking(executed) if row[0] in FIGURES]
    return {
        "name": name,
        "title": title or name.replace("_", " ").capitalize(),
        "introduction": _to_html(text),
        "executed": _link(executed, build_dir),
        "lacking": lacking,
        "figures": [
            _figure(stem, spec, grid, folders, spec.describe(**parameters))
            for stem, spec, grid in _figures_of(name, figures_dir, grids)
        ],
    }


def _figures_of(notebook: str, figures_dir: Path, grids: Sequence[str]) -> list[tuple[str, FigureSpec, str]]:
    return [
        (stem, spec, grid)
        for stem, spec, grid in drawn_figures(figures_dir, notebook, FIGURES)
        if (figures_dir / f"{stem}.png").is_file()
        and (grid in grids or (grid == "" and _shows(figures_dir, stem, grids)))
    ]


def _notice(manifest: Mapping | None, name: str, figures_dir: Path) -> str | None:
    """Return a warning if a notebook's figures are not those that the manifest describes."""
    files = hash_files(figure_files(figures_dir, name, FIGURES))
    if not manifest or not files or manifest["notebooks"].get(name, {}).get("outputs") == files:
        return None
    return "These figures were made earlier, from other records, package or settings; render this notebook again."


def _to_html(markdown: str) -> str:
    # The template marks this as safe, so HTML in a notebook has to be escaped here.
    return str(mistune.create_markdown(escape=True, plugins=["table", "strikethrough"])(markdown))


def _figure(stem: str, spec: FigureSpec, grid: str, folders: tuple[Path, Path], caption: str) -> dict[str, object]:
    figures_dir, build_dir = folders
    links = [(kind.upper(), _link(figures_dir / f"{stem}.{kind}", build_dir)) for kind in ("pdf", "png", "csv")]
    table = read_twin(figures_dir, spec.name, grid or None)
    answered = spec.say(table)
    title = f"{spec.title}: grid {grid}" if grid not in ("", RELEASED) else spec.title
    return {
        "name": stem,
        "title": title,
        "question": spec.question,
        "answer": answered,
        "caption": caption,
        "alt": f"{title}. {answered}" if answered else f"{title}. {caption}",
        "picture": _shrink(figures_dir / f"{stem}.png"),
        "links": [(kind, link) for kind, link in links if link],
        "columns": [] if table is None else [{"name": name, "fitted": name in spec.fitted_columns} for name in table],
        "n_rows": 0 if table is None else len(table),
    }


def _link(path: Path, start: Path) -> str | None:
    return quote(Path(os.path.relpath(path, start)).as_posix()) if path.is_file() else None


def read_lacking(path: Path) -> list[tuple[str, str, str]]:
    """Return (figure, grid, reason) of what an executed notebook could not draw; none where there is no whole copy."""
    if not path.is_file():
        return []
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        outputs = [output for cell in cells for output in cell.get("outputs", [])]
        galleries = [output["data"][MIME] for output in outputs if MIME in output.get("data", {})]
        return [(each["figure"], grid, reason) for each in galleries for grid, reason in each["lacking"].items()]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        # A copy that was cut off or is not ours says nothing.
        return []


def describe_records(records: Sequence[RunRecord]) -> dict[str, str]:
    """Return, for each grid, what its records are: sizes, methods, and how many scores from what source."""
    described = {}
    for grid in count_seeds(records):
        runs = [record for record in records if record.grid == grid]
        sizes = " ".join(dict.fromkeys(record.size for record in sorted(runs, key=lambda r: r.n_params_base)))
        methods = ", ".join(map(name_method, order_methods(record.method for record in runs)))
        sources = [score.source for record in runs for score in record.scores]
        counts = ", ".join(f"{sources.count(source):,} {source}" for source in dict.fromkeys(sorted(sources)[::-1]))
        known = f"sizes {sizes}; methods {methods}; scores: {counts or 'none'}"
        described[f"Grid {grid}"] = f"{len(runs)} run{'' if len(runs) == 1 else 's'}: {known}"
    return described


def count_seeds(records: Sequence[RunRecord]) -> dict[str, int]:
    """Return, for each grid in order, the most runs that any of its models has."""
    found: dict[str, Counter] = {}
    for record in records:
        found.setdefault(record.grid, Counter())[record.size, record.method] += 1
    ordered = sorted(found, key=lambda grid: (grid != RELEASED, grid))
    return {grid: max(found[grid].values()) for grid in ordered}
