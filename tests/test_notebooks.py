"""Notebooks are thin and stripped: calls only, one parameters cell, nothing that a run leaves behind."""

import ast
import json
import re
from pathlib import Path

import nbformat
import pytest

from astraios_analysis.figures.style import METHOD_STYLES

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))

MAX_CELL_LINES = 12

NOT_A_CALL = (
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Lambda,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.If,
    ast.Try,
    ast.TryStar,
    ast.Match,
)

# An absolute path of two parts or more (not inside a web address), a home folder, a drive, a file address.
MACHINE_PATH = re.compile(r"(?<![\w.:/<])/[A-Za-z][\w.-]*/[\w.-]|(?<!\w)~/|\b[A-Za-z]:\\\\|file://")


def code_cells(notebook):
    """Code cells of a notebook, each with its number among all cells."""
    return [(i, cell) for i, cell in enumerate(notebook["cells"]) if cell["cell_type"] == "code"]


def source(cell):
    """Text of a cell, which the file format allows to be one string or a list of lines."""
    return "".join(cell["source"])


def find_leftovers(notebook):
    """Outputs, execution counts and metadata that a run has left."""
    found = [f"notebook metadata '{key}'" for key in ("papermill", "widgets") if key in notebook["metadata"]]
    for i, cell in code_cells(notebook):
        if cell["outputs"]:
            found.append(f"cell {i}: outputs")
        if cell["execution_count"] is not None:
            found.append(f"cell {i}: execution count")
        if "injected-parameters" in cell["metadata"].get("tags", []):
            found.append(f"cell {i}: injected parameters")
        found += [f"cell {i}: metadata '{key}'" for key in ("papermill", "execution") if key in cell["metadata"]]
    return found


def find_parameter_faults(notebook):
    """What is wrong with the tagged parameters cell: exactly one, before all other code."""
    tagged = [i for i, cell in code_cells(notebook) if "parameters" in cell["metadata"].get("tags", [])]
    if len(tagged) != 1:
        return [f"{len(tagged)} cells tagged 'parameters', not 1"]
    first = code_cells(notebook)[0][0]
    return [] if tagged == [first] else [f"cell {first}: code before parameters in cell {tagged[0]}"]


def find_thick_cells(notebook):
    """Cells that are long, or hold anything but plain statements and calls."""
    found = []
    for i, cell in code_cells(notebook):
        text = source(cell)
        n_lines = len(text.splitlines())
        if n_lines > MAX_CELL_LINES:
            found.append(f"cell {i}: {n_lines} lines, more than {MAX_CELL_LINES}")
        try:
            nodes = list(ast.walk(ast.parse(text)))
        except SyntaxError:
            found.append(f"cell {i}: not plain Python")
            continue
        found += [f"cell {i}: {type(node).__name__}" for node in nodes if isinstance(node, NOT_A_CALL)]
    return found


def find_machine_traces(notebook):
    """A kernel that others do not have, and paths of one machine."""
    kernel = notebook["metadata"].get("kernelspec", {}).get("name")
    found = [] if kernel == "python3" else [f"kernel {kernel!r}, not 'python3'"]
    for i, cell in enumerate(notebook["cells"]):
        found += [f"cell {i}: path {match.group()!r}" for match in MACHINE_PATH.finditer(source(cell))]
    return found


# Code, formulas and addresses name things; they state nothing.
NO_PROSE = re.compile(r"`[^`]*`|\$\$.*?\$\$|\$[^$]*\$|\bhttps?://\S+", re.DOTALL)
METHOD_NAMES = sorted({style.label for style in METHOD_STYLES.values()} | {"full fine-tuning"}, key=len, reverse=True)
FINDING = re.compile(rf"\d|\b(?:{'|'.join(map(re.escape, METHOD_NAMES))})|\bmini\b|\bladder\b")


def find_findings(notebook):
    """Numbers, methods and grids in words: what is found must be computed, so that it is true of anyone's records."""
    texts = [(i, NO_PROSE.sub("", source(c))) for i, c in enumerate(notebook["cells"]) if c["cell_type"] == "markdown"]
    return [f"cell {i}: {match.group()!r}" for i, text in texts for match in FINDING.finditer(text)]


RULES = (find_leftovers, find_parameter_faults, find_thick_cells, find_machine_traces, find_findings)
# Simulated data, whose truth is told.
SIMULATED = {"how_it_works", "own_data"}


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_whole_thin_and_stripped(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    nbformat.validate(notebook)
    rules = [rule for rule in RULES if rule is not find_findings or path.stem not in SIMULATED]
    assert [fault for rule in rules for fault in rule(notebook)] == []


def code(text, tags=(), **changes):
    cell = {"cell_type": "code", "source": text, "outputs": [], "execution_count": None}
    return cell | {"metadata": {"tags": list(tags)}} | changes


def prose(text):
    return {"cell_type": "markdown", "metadata": {}, "source": text}


def notebook_of(*cells, kernel="python3", **metadata):
    return {"cells": list(cells), "metadata": {"kernelspec": {"name": kernel}} | metadata}


PARAMETERS = code('records = "data/released"', tags=["parameters"])
DRAW = code("figure, table = figures.draw_suite(frame)\nfigure")
LINK = {
    "cell_type": "markdown",
    "metadata": {},
    "source": ["See https://doi.org/10.48550/arXiv and/or a/b/c."],
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_good_notebook_passes(rule):
    assert rule(notebook_of(LINK, PARAMETERS, DRAW)) == []


@pytest.mark.parametrize(
    ("rule", "bad", "complaints"),
    [
        (find_leftovers, notebook_of(code("x", outputs=[{}], execution_count=3)), "outputs, execution count"),
        (find_leftovers, notebook_of(code("", tags=["injected-parameters"])), "injected parameters"),
        (find_leftovers, notebook_of(code("x", metadata={"execution": {}})), "metadata 'execution'"),
        (find_parameter_faults, notebook_of(DRAW, PARAMETERS), "code before parameters"),
        (find_parameter_faults, notebook_of(PARAMETERS, PARAMETERS), "2 cells tagged 'parameters'"),
        (find_thick_cells, notebook_of(code("x = 1\n" * 13)), "13 lines"),
        (find_thick_cells, notebook_of(code(["def f():\n", "    pass"])), "FunctionDef"),
        (find_thick_cells, notebook_of(code("for x in y: z = lambda x: x")), "For, Lambda"),
        (find_thick_cells, notebook_of(code("%matplotlib inline")), "not plain Python"),
        (find_findings, notebook_of(prose("LoRA gains in grid ladder")), "'LoRA', 'ladder'"),
        (find_findings, notebook_of(prose("one of `x3`, $2 N$, and 4 more")), "'4'"),
        (find_machine_traces, notebook_of(PARAMETERS, kernel="my-env"), "kernel 'my-env'"),
        (find_machine_traces, notebook_of(code('x = "/home/ada/runs"')), "path '/home/a'"),
        (find_machine_traces, notebook_of(code('x = "~/runs"')), "path '~/'"),
    ],
)
def test_bad_notebook_is_caught(rule, bad, complaints):
    found = " ".join(rule(bad))
    assert all(complaint in found for complaint in complaints.split(", "))
