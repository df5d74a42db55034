"""The documentation site: ``make docs`` writes it to build/docs. The command line and the API come from the code."""

import importlib
import inspect
import tomllib
from pathlib import Path

import click

import astraios_analysis

HERE = Path(__file__).resolve().parent
project = "Astraios"
author = "the Astraios authors"
release = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]["version"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax", "sphinx_copybutton"]
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
# Links that lead out of docs/ (a file of the repository) are good on its web page and in a checkout, not on the site.
suppress_warnings = ["myst.xref_missing"]
html_theme = "furo"
html_title = f"Astraios {release}"
html_copy_source = False
html_show_copyright = False
autodoc_typehints = "none"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_ivar = True

_PROGRAMS = {"astraios": "astraios_analysis.cli.main", "python -m training": "training.cli.main"}


def _write(name: str, text: str) -> None:
    path = HERE / "generated" / name
    path.parent.mkdir(exist_ok=True)
    if not path.is_file() or path.read_text() != text:
        path.write_text(text)


def _commands() -> str:
    parts = ["# Command line", "What `--help` of each command says."]
    for program, module in _PROGRAMS.items():
        group = importlib.import_module(module).commands
        with click.Context(group, info_name=program, max_content_width=100) as above:
            parts += [f"## {program}", "```text", group.get_help(above), "```"]
            for name in group.list_commands(above):
                command = group.get_command(above, name)
                with click.Context(command, info_name=name, parent=above, max_content_width=100) as context:
                    parts += [f"### {program} {name}", "```text", command.get_help(context), "```"]
    return "\n\n".join(parts) + "\n"


def _api() -> str:
    rooms: dict[bool, list[str]] = {False: [], True: []}
    for name in astraios_analysis.__all__:
        thing = getattr(astraios_analysis, name)
        if callable(thing):
            rooms[inspect.isclass(thing)].append(f"astraios_analysis.{name}")
    parts = [
        "# API",
        "`import astraios_analysis as aa` is the toolkit. Verbs take the runs of a grid (`aa.load`) or any table "
        "(`aa.read_table`, a DataFrame). What they return prints as a table, has `.table` (a DataFrame) and, where "
        "there is something to see, `.plot()` (a Figure).",
    ]
    for classes, title in ((False, "Verbs"), (True, "What they return, and what they take")):
        kind, options = (
            ("autoclass", "\n   :members:\n   :exclude-members: model_config") if classes else ("autofunction", "")
        )
        parts.append(f"## {title}")
        parts += [f"```{{eval-rst}}\n.. {kind}:: {place}{options}\n```" for place in rooms[classes]]
    return "\n\n".join(parts) + "\n"


def _generate(app: object) -> None:
    _write("commands.md", _commands())
    _write("api.md", _api())


def setup(app: object) -> None:
    """Have the pages written that come from the code."""
    app.connect("builder-inited", _generate)
