"""Notebooks with a parameters cell."""

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

DEFAULTS = 'data_dir = "../data"\ngrid = "released"\nlevel = 0.95\nfigures_dir = "../figures"'
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


def write_notebook(path, *sources, parameters=DEFAULTS, tags=("parameters",)):
    """Write a notebook with a title, a parameters cell and these code cells; the first of them is cell 3."""
    cells = [new_markdown_cell("# Title"), new_code_cell(parameters, metadata={"tags": list(tags)})]
    cells += [new_code_cell(source) for source in sources]
    path.parent.mkdir(exist_ok=True)
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": KERNEL}), path)
    return path
