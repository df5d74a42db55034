"""``astraios figures``: render notebooks, figures and the report."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click

from astraios_analysis.cli.shared import METRIC, POSITIVE, several
from astraios_analysis.records.commands import Command, flag, option
from astraios_analysis.records.notation import count, say
from astraios_analysis.records.refusal import require_known
from astraios_analysis.records.sources import ALL, find_data_dir, find_notebooks_dir, load_records

HELP = """\
Execute the notebooks with papermill, each in its own process, and write
figures/NAME.{pdf,png,csv}, build/notebooks/*.ipynb, build/report.html and
build/manifest.json. The same inputs give the same bytes, and a notebook runs
again only when its inputs or its figures have changed. A notebook that fails
stops none of the others; after that, or Ctrl-C, the next run does the rest.
"""
EXAMPLES = """\
  astraios figures
  astraios figures --only task_performance --only model_suite --force
  astraios figures --records my_runs       (into build/records-my_runs)
  astraios figures --records my_runs --metric gsm8k=accuracy,5shot
  astraios figures --data my_data --out my_figures -p level=0.9
"""


def _assignment(text: str) -> tuple[str, Any]:
    name, sign, value = text.partition("=")
    if not sign or not name.isidentifier():
        raise click.BadParameter(f"{text!r} is not NAME=VALUE, for example level=0.9")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


@click.command("figures", cls=Command, help=HELP, epilog=EXAMPLES)
@several("--only", "NOTEBOOK", "render this notebook (repeatable)")
@flag("--force", "run notebooks even where nothing has changed")
@option("--data", "DIR", "data folder (default: ./data)", type=Path)
@option(
    "--records",
    "DIR",
    "folder of your own records in place of the data folder; all results go to build/records-NAME",
    type=Path,
)
@option("--notebooks", "DIR", "notebooks to run (default: ./notebooks)", type=Path)
@option("--out", "DIR", "where figures go (default: ./figures)", type=Path)
@option("--build", "DIR", "notebooks and report (default: ./build)", type=Path)
@option("--jobs", "N", "notebooks at a time (default: one a core)", type=POSITIVE)
@click.option(
    "-p", "parameters", multiple=True, type=_assignment, metavar="NAME=VALUE", help="set a notebook parameter"
)
@METRIC
@flag("--quiet", "no progress bar")
def command(given: SimpleNamespace) -> int:
    """Render notebooks, figures and the report."""
    # What draws takes seconds to import, and help needs none of it.
    from astraios_analysis.render.render import NotebookError, render
    from astraios_analysis.render.report import count_seeds, describe_records, write_report

    if given.data and given.records:
        raise click.UsageError("argument --records: not allowed with argument --data")
    notebooks, data = given.notebooks or find_notebooks_dir(), given.records or given.data or find_data_dir()
    out, build = choose_outputs(given.records, given.out, given.build)
    runs, named = load_records(data), dict(given.parameters) | ({"metrics": given.metric} if given.metric else {})
    if "grid" in named:
        require_known("grid", [str(named["grid"])], [ALL, *sorted({run.grid for run in runs})])
    failed, result = None, None
    how = {"parameters": named, "progress": not given.quiet, "force": given.force, "jobs": given.jobs}
    try:
        result = render(notebooks, data, out, build, only=list(given.only) or None, **how)
    except NotebookError as error:
        # The page is made all the same: it says of which notebooks the figures are not those of these records.
        failed = error
    report = write_report(build, out, notebooks, describe_records(runs), count_seeds(runs))
    if failed or not result:
        say(f"{failed}\n\nall other notebooks have their figures; the next run goes on with what is missing")
        return 1
    ran = f"{len(result.ran)} of {count(len(result.notebooks), 'notebook')} run"
    rest = "" if len(result.ran) == len(result.notebooks) else ", nothing has changed for the rest (--force runs all)"
    say(f"{ran}{rest}: {len(result.outputs)} files in {out}, report in {report} ({result.seconds:.0f} s)")
    return 0


def choose_outputs(records: Path | None, out: Path | None, build: Path | None) -> tuple[Path, Path]:
    """Return the folders of figures and of the build.

    A user's own records go into a build folder of their own, figures included: they never mix with the figures of the
    records that come with the project, which are kept in git.
    """
    if records is None:
        return out or Path("figures"), build or Path("build")
    build = build or Path("build") / f"records-{records.resolve().name}"
    return out or build / "figures", build
