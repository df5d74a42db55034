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


def figure_rows(text: str) -> list[tuple[str, str, str]]:
    """Return (figure, notebook, data) of the rows of the table in docs/figures.md, without back-ticks."""
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")]
    return [tuple(cell.strip(" `") for cell in row[1:4]) for row in rows[1:]]


def test_figure_table_names_every_figure_with_its_notebook():
    rows = [row for row in figure_rows((ROOT / "docs" / "figures.md").read_text()) if row[0]]
    assert {(name, notebook) for name, notebook, _ in rows} == {(s.name, s.notebook) for s in FIGURES.values()}


def rows_without_reason(text):
    """Rows of the table that have no figure and do not say what is missing."""
    empty = [line for line in text.splitlines() if re.match(r"\|[^|]+\|\s*\|\s*\|\s*\|", line)]
    return [line for line in empty if "needs a trained grid" not in line]


def test_figure_table_says_why_where_there_is_no_figure():
    assert rows_without_reason((ROOT / "docs" / "figures.md").read_text()) == []
    assert rows_without_reason("| a question | | | | later |\n| b | | | | needs a trained grid |") == [
        "| a question | | | | later |"
    ]


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
    assert named
    assert named <= targets


def shown_commands(text: str) -> list[list[str]]:
    """Return the words of each `astraios` command in back-ticks or as a line of its own."""
    found = re.findall(r"`astraios ([^`]+)`|^    (?:\$ )?\.venv/bin/astraios (.+)$", text, re.MULTILINE)
    return [shlex.split(inline or line) for inline, line in found]


@pytest.mark.parametrize("page", ["README.md", "docs/start.md"])
def test_commands_shown_are_commands_with_these_options(page):
    shown = [words for words in shown_commands((ROOT / page).read_text()) if not {"FOLDER", "--help"} & set(words)]
    assert len(shown) > 1
    for name, *arguments in shown:
        assert find_command(name) is not None
        if arguments:
            find_command(name).make_context(name, arguments)


def test_an_option_that_is_not_there_is_noticed():
    ((name, *arguments),) = shown_commands("`astraios rank --data-set x`")
    with pytest.raises(click.UsageError, match="--data-set"):
        find_command(name).make_context(name, arguments)


def find_command(name: str) -> click.Command:
    return commands.get_command(click.Context(commands), name)
