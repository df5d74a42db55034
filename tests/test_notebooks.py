"""Notebooks are thin and stripped: calls only, one parameters cell, nothing that a run leaves behind."""

import ast
import json
import re
from pathlib import Path

import nbformat
import pytest

from astraios_analysis.figures.style import METHOD_STYLES

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
# Simulated data, whose truth is told.
SIMULATED = {"how_it_works", "own_data"}
MAX_CELL_LINES = 12
NOT_A_CALL = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.For, ast.AsyncFor, ast.While)
NOT_A_CALL += (ast.If, ast.Try, ast.TryStar, ast.Match)
# An absolute path of two parts or more (not inside a web address), a home folder, a drive, a file address.
MACHINE_PATH = re.compile(r"(?<![\w.:/<])/[A-Za-z][\w.-]*/[\w.-]|(?<!\w)~/|\b[A-Za-z]:\\\\|file://")
# Code, formulas and addresses name things; they state nothing.
NO_PROSE = re.compile(r"`[^`]*`|\$\$.*?\$\$|\$[^$]*\$|\bhttps?://\S+", re.DOTALL)
METHOD_NAMES = sorted({style.label for style in METHOD_STYLES.values()} | {"full fine-tuning"}, key=len, reverse=True)
FINDING = re.compile(rf"\d|\b(?:{'|'.join(map(re.escape, METHOD_NAMES))})|\bmini\b|\bladder\b")


def find_faults(notebook, tells_truth=False):
    """What is wrong with a notebook, cell by cell.

    What is found must be computed, so that it is true of anyone's records: words name no numbers, methods and grids.
    """
    kernel = notebook["metadata"].get("kernelspec", {}).get("name")
    found = [] if kernel == "python3" else [f"kernel {kernel!r}, not 'python3'"]
    found += [f"notebook metadata '{key}'" for key in ("papermill", "widgets") if key in notebook["metadata"]]
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    tagged = [cell for cell in code if "parameters" in cell["metadata"].get("tags", [])]
    if tagged != code[:1]:
        found.append(f"{len(tagged)} cells tagged 'parameters', not the first of code alone")
    for i, cell in enumerate(notebook["cells"]):
        # One string or a list of lines.
        text = "".join(cell["source"])
        faults = [f"path {match.group()!r}" for match in MACHINE_PATH.finditer(text)]
        if cell["cell_type"] == "code":
            faults += [*leftovers(cell), *thick_parts(text)]
        elif not tells_truth:
            faults += [f"finding {match.group()!r}" for match in FINDING.finditer(NO_PROSE.sub("", text))]
        found += [f"cell {i}: {fault}" for fault in faults]
    return found


def leftovers(cell):
    is_injected = "injected-parameters" in cell["metadata"].get("tags", [])
    left = {"outputs": cell["outputs"], "execution count": cell["execution_count"], "injected parameters": is_injected}
    left |= {f"metadata '{key}'": key in cell["metadata"] for key in ("papermill", "execution")}
    return [name for name, value in left.items() if value]


def thick_parts(text):
    """Too many lines, or anything but plain statements and calls."""
    n_lines = len(text.splitlines())
    found = [f"{n_lines} lines, more than {MAX_CELL_LINES}"] if n_lines > MAX_CELL_LINES else []
    try:
        nodes = ast.walk(ast.parse(text))
    except SyntaxError:
        return [*found, "not plain Python"]
    return found + [type(node).__name__ for node in nodes if isinstance(node, NOT_A_CALL)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_whole_thin_and_stripped(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    nbformat.validate(notebook)
    assert find_faults(notebook, path.stem in SIMULATED) == []


def code(text, tags=(), **changes):
    cell = {"cell_type": "code", "source": text, "outputs": [], "execution_count": None}
    return cell | {"metadata": {"tags": list(tags)}} | changes


def prose(text):
    return {"cell_type": "markdown", "metadata": {}, "source": text}


PARAMETERS = code('records = "data/released"', tags=["parameters"])
DRAW = code("figure, table = figures.draw_suite(frame)\nfigure")
LINK = prose(["See https://doi.org/10.48550/arXiv and/or a/b/c."])


@pytest.mark.parametrize(
    ("cells", "complaints"),
    [
        ([LINK, PARAMETERS, DRAW], []),
        ([PARAMETERS, code("x", outputs=[{}], execution_count=3)], ["outputs", "execution count"]),
        ([PARAMETERS, code("", tags=["injected-parameters"])], ["injected parameters"]),
        ([PARAMETERS, code("x", metadata={"execution": {}})], ["metadata 'execution'"]),
        ([DRAW, PARAMETERS], ["1 cells tagged 'parameters', not the first of code alone"]),
        ([PARAMETERS, PARAMETERS], ["2 cells tagged 'parameters', not the first of code alone"]),
        ([PARAMETERS, code("x = 1\n" * 13)], ["13 lines, more than 12"]),
        ([PARAMETERS, code(["def f():\n", "    pass"])], ["FunctionDef"]),
        ([PARAMETERS, code("for x in y: z = lambda x: x")], ["For", "Lambda"]),
        ([PARAMETERS, code("%matplotlib inline")], ["not plain Python"]),
        ([prose("LoRA gains in grid ladder"), PARAMETERS], ["finding 'LoRA'", "finding 'ladder'"]),
        ([prose("one of `x3`, $2 N$, and 4 more"), PARAMETERS], ["finding '4'"]),
        ([PARAMETERS, code('x = "/home/ada/runs"')], ["path '/home/a'"]),
        ([PARAMETERS, code('x = "~/runs"')], ["path '~/'"]),
    ],
)
@pytest.mark.parametrize("kernel", ["python3", "my-env"])
def test_faults_are_found_and_no_others(cells, complaints, kernel):
    notebook = {"cells": cells, "metadata": {"kernelspec": {"name": kernel}}}
    found = [fault.partition(": ")[2] or fault for fault in find_faults(notebook)]
    assert found == ([] if kernel == "python3" else ["kernel 'my-env', not 'python3'"]) + complaints
