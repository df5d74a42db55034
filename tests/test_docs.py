"""The documentation's tables name what exists: figures, notebooks, targets."""

import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest
import yaml

from astraios_analysis.cli.main import commands
from astraios_analysis.figures.gallery import FIGURES

ROOT = Path(__file__).resolve().parent.parent


def test_figure_table_names_every_figure_with_its_notebook():
    _, *lines = re.findall(r"^\| .*", (ROOT / "docs" / "figures.md").read_text(), re.MULTILINE)
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")[1:3]] for line in lines]
    assert {(name, notebook) for name, notebook in rows if name} == {(s.name, s.notebook) for s in FIGURES.values()}


def test_links_in_the_documentation_lead_somewhere():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}, which does not exist"


def test_the_site_leads_to_every_page():
    pages = {page.stem for page in (ROOT / "docs").glob("*.md")} - {"index"} | {"generated/api", "generated/commands"}
    named = re.findall(r"^[a-z_/]+$", (ROOT / "docs" / "index.md").read_text(), re.MULTILINE)
    assert sorted(named) == sorted(pages)


def test_citation_names_the_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()


def test_readme_names_targets_that_the_makefile_has():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)\b", (ROOT / "README.md").read_text()))
    assert named and named <= targets


def shown_commands(text: str) -> list[list[str]]:
    """Return the words of each `astraios` command in back-ticks or as a line of its own."""
    found = re.findall(r"`astraios ([^`]+)`|^    (?:\$ )?\.venv/bin/astraios (.+)$", text, re.MULTILINE)
    return [shlex.split(inline or line) for inline, line in found]


@pytest.mark.parametrize("page", ["README.md", "docs/start.md"])
def test_commands_shown_are_commands_with_these_options(page):
    shown = [words for words in shown_commands((ROOT / page).read_text()) if not {"FOLDER", "--help"} & set(words)]
    assert len(shown) > 1
    for name, *arguments in shown:
        command = commands.get_command(click.Context(commands), name)
        assert command is not None
        if arguments:
            command.make_context(name, arguments)
