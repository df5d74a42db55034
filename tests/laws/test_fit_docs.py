"""The page on the fit engine lists the laws that there are."""

from pathlib import Path

from astraios_analysis.laws.forms import LAWS

PAGE = Path(__file__).parents[2] / "docs" / "fit_engine.md"


def law_rows():
    """Rows of the page's table of laws, as the registry has them."""
    return [f"| `{law.name}` | `{law.formula}` | {', '.join(law.inputs)} | {law.source} |" for law in LAWS.values()]


def test_table_of_laws_is_the_registry():
    text = PAGE.read_text("utf-8")
    assert [line for line in text.splitlines() if line.startswith("| `")] == law_rows()
