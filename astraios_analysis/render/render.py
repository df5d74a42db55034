"""Every figure from every notebook in one call: parameters checked first, then what is not there yet, in parallel.

A manifest says what was made from what. A notebook runs again only when that is no longer true of it, and the manifest
is written whenever one has ended: an interrupted run goes on where it was.
"""

import ast
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat
from tqdm import tqdm

from astraios_analysis.figures import FIGURES, drawn_figures
from astraios_analysis.render.execution import Job, run_jobs
from astraios_analysis.render.manifest import (
    describe_inputs,
    describe_notebook,
    figure_files,
    hash_files,
    true_entries,
    write_manifest,
)

# The order in which the study's questions build on each other: of the report and of execution.
NOTEBOOKS = (
    "model_suite",
    "cross_entropy",
    "task_performance",
    "robustness_security",
    "loss_performance",
    "scale_transfer",
    "predictions",
    "claims",
    "explore",
)
FOLDER_PARAMETERS = ("data_dir", "figures_dir")
REPORT = "report.html"


class RenderError(RuntimeError):
    """Notebooks that cannot be rendered, or failed; the message names notebook, cell and cause."""


class RenderArgumentError(RenderError):
    """A name of a notebook or parameter that does not exist; nothing has run."""


class NotebookError(RenderError):
    """Notebooks that failed while they ran; all others have their results."""


@dataclass(frozen=True)
class RenderResult:
    """What a rendering made.

    Attributes
    ----------
    notebooks : tuple of str
        The notebooks that were asked for, in order.
    ran : tuple of str
        Those of them that were run; nothing has changed for the others since they ran.
    outputs : tuple of Path
        Files of the figures that these notebooks draw.
    report : Path
        Where the report of this build belongs; `astraios_analysis.render.report.write_report` puts it there.
    seconds : float
        Time from call to return.
    """

    notebooks: tuple[str, ...]
    ran: tuple[str, ...]
    outputs: tuple[Path, ...]
    report: Path
    seconds: float


def order_notebooks(names: Iterable[str]) -> list[str]:
    """Return names of notebooks in the order of `NOTEBOOKS`; others follow by alphabet."""
    known = {name: place for place, name in enumerate(NOTEBOOKS)}
    return sorted(set(names), key=lambda name: (known.get(name, len(known)), name))


def find_notebooks(folder: str | Path) -> dict[str, Path]:
    """Return the notebooks in a folder by their stem, in order.

    Raises
    ------
    RenderError
        If there is none.
    """
    paths = {path.stem: path for path in Path(folder).glob("*.ipynb") if not path.name.startswith(".")}
    if not paths:
        raise RenderError(f"no notebook (*.ipynb) in {folder}; give the folder that holds the notebooks")
    return {name: paths[name] for name in order_notebooks(paths)}


def notebook_parameters(path: str | Path) -> list[str]:
    """Return the names that a notebook's cell tagged ``parameters`` assigns, in alphabetical order.

    Raises
    ------
    RenderError
        If the file is no notebook, has no such cell, or the cell is not Python.
    """
    path = Path(path)
    for cell in _read(path).cells:
        if cell.cell_type == "code" and "parameters" in cell.metadata.get("tags", []):
            break
    else:
        raise RenderError(f"notebook {path.stem} has no cell tagged 'parameters'; add one that sets its defaults")
    try:
        statements = ast.parse(cell.source).body
    except SyntaxError as error:
        raise RenderError(f"the parameters cell of notebook {path.stem} is not Python: {error}") from error
    targets = []
    for statement in statements:
        if isinstance(statement, ast.Assign):
            targets += statement.targets
        elif isinstance(statement, ast.AnnAssign):
            targets.append(statement.target)
    return sorted({target.id for target in targets if isinstance(target, ast.Name)})


def _read(path: Path) -> nbformat.NotebookNode:
    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:
        # nbformat raises whatever json, its schema and the file system do.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RenderError(f"{path} cannot be read as a notebook: {reason}") from error


def render(
    notebooks_dir: str | Path,
    data_dir: str | Path,
    figures_dir: str | Path,
    build_dir: str | Path,
    *,
    only: Sequence[str] | None = None,
    parameters: Mapping[str, object] | None = None,
    jobs: int | None = None,
    force: bool = False,
    progress: bool = True,
) -> RenderResult:
    """Run notebooks, which draw the figures, and write down what was made from what.

    Nothing runs before names of notebooks and parameters are known to be right. A notebook for which nothing has
    changed is not run: its file, the records, this package, versions and parameters are those of its last run without
    failure, and so are its figures. One that fails stops none of the others.

    Parameters
    ----------
    notebooks_dir, data_dir : str or Path
        Notebooks, and the records they read.
    figures_dir : str or Path
        Where notebooks put ``<name>.pdf``, ``.png`` and ``.csv``.
    build_dir : str or Path
        Where executed copies (``notebooks/``) and ``manifest.json`` go.
    only : sequence of str, optional
        Stems of the notebooks to run; all of them by default.
    parameters : mapping of str to object, optional
        Values in place of the defaults in the parameters cells of the notebooks that have a parameter of that name;
        at least one that runs must have it.
    jobs : int, optional
        Notebooks that run at the same time; by default as many as there are processors.
    force : bool
        Run notebooks for which nothing has changed as well.
    progress : bool
        Show a bar on standard error, counted in cells.

    Returns
    -------
    RenderResult

    Raises
    ------
    RenderError
        If a name is unknown (`RenderArgumentError`), a folder is missing, or a notebook fails (`NotebookError`). The
        message of a failure has the notebook, the number of the cell among all cells of the notebook (from 1), its
        first lines and the cell's own error.
    """
    began = time.perf_counter()
    data_dir, figures_dir, build_dir = (Path(folder).resolve() for folder in (data_dir, figures_dir, build_dir))
    given = dict(parameters or {})
    notebooks = find_notebooks(notebooks_dir)
    chosen = _choose(notebooks, only)
    if not data_dir.is_dir():
        raise RenderError(f"data folder {data_dir} does not exist; give the folder that holds the records")
    if jobs is not None and jobs < 1:
        raise RenderError(f"jobs is {jobs}; give at least 1")
    known = _check_parameters(chosen, given)

    executed = build_dir / "notebooks"
    for folder in (figures_dir, executed):
        folder.mkdir(parents=True, exist_ok=True)
    own = {stem: {name: value for name, value in given.items() if name in known[stem]} for stem in chosen}
    # Read before anything runs: what changes meanwhile is seen as changed by the next run.
    inputs = describe_inputs(data_dir)
    begun = {stem: describe_notebook(path, (), own[stem]) for stem, path in chosen.items()}
    entries = true_entries(build_dir, inputs, notebooks, _outputs(figures_dir))
    folders = {"data_dir": str(data_dir), "figures_dir": str(figures_dir)}
    todo = [Job(path, executed / path.name, own[stem] | folders) for stem, path in chosen.items()]
    todo = [job for job in todo if force or not _is_done(job, entries.get(job.name), own[job.name])]
    entries = {name: entry for name, entry in entries.items() if name not in {job.name for job in todo}}
    write_manifest(build_dir, inputs, entries)

    def note(job: Job, failure: str | None) -> None:
        if failure is None:
            entries[job.name] = begun[job.name] | {"outputs": hash_files(_outputs(figures_dir).get(job.name, []))}
            write_manifest(build_dir, inputs, entries)

    outcomes = _run(todo, n_parallel=min(jobs or _processors(), len(todo)), progress=progress, on_end=note)
    if failures := [outcomes[name] for name in chosen if outcomes.get(name)]:
        raise NotebookError("\n\n".join(failures))
    outputs = _outputs(figures_dir)
    files = [path for name in chosen for path in outputs.get(name, [])]
    ran = tuple(job.name for job in todo)
    return RenderResult(tuple(chosen), ran, tuple(files), build_dir / REPORT, time.perf_counter() - began)


def _is_done(job: Job, entry: Mapping | None, parameters: Mapping[str, object]) -> bool:
    """Whether a notebook's entry is there, is of a run with these parameters, and its executed copy is there too."""
    return entry is not None and entry["parameters"] == parameters and job.target.is_file()


def _choose(found: dict[str, Path], only: Sequence[str] | None) -> dict[str, Path]:
    if only is None:
        return found
    wanted = [only] if isinstance(only, str) else list(only)
    unknown = [name for name in wanted if name not in found]
    if unknown or not wanted:
        problem = f"unknown notebook {unknown[0]!r}" if unknown else "no notebook chosen"
        raise RenderArgumentError(f"{problem}; choose from {', '.join(found)}")
    return {name: path for name, path in found.items() if name in wanted}


def _check_parameters(notebooks: Mapping[str, Path], given: Mapping[str, object]) -> dict[str, list[str]]:
    """Return each notebook's parameters; refuse names that none has: papermill would set them and nobody read them."""
    for name in FOLDER_PARAMETERS:
        if name in given:
            raise RenderArgumentError(
                f"parameter {name!r} is set by the argument of that name; leave it out of the parameters"
            )
    known = {stem: notebook_parameters(path) for stem, path in notebooks.items()}
    for stem, names in known.items():
        for name in FOLDER_PARAMETERS:
            if name not in names:
                raise RenderError(f"notebook {stem} has no parameter {name!r}; add it to its parameters cell")
    choices = sorted({name for names in known.values() for name in names}.difference(FOLDER_PARAMETERS))
    for name in given:
        if name not in choices:
            shown = f"notebook {next(iter(known))}" if len(known) == 1 else f"notebooks {', '.join(known)}"
            raise RenderArgumentError(f"unknown parameter {name!r} for {shown}; choose from {', '.join(choices)}")
    return known


def _processors() -> int:
    """Return the number of processors this process may use, which a batch system can make fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _run(
    jobs: Sequence[Job], *, n_parallel: int, progress: bool, on_end: Callable[[Job, str | None], None]
) -> dict[str, str | None]:
    if not jobs:
        return {}
    # One more cell in each: the one that papermill puts in to set the parameters.
    total = sum(len(_read(job.source).cells) + 1 for job in jobs)
    with tqdm(total=total, desc="notebooks", unit="cell", disable=not progress) as bar:

        def count(job: Job) -> None:
            bar.set_postfix_str(job.name, refresh=False)
            bar.update()

        return run_jobs(jobs, n_parallel=n_parallel, on_cell=count, on_end=on_end)


def _outputs(figures_dir: Path) -> dict[str, list[Path]]:
    """Return the figure files that exist, by the notebook that draws them."""
    return {
        notebook: figure_files(figures_dir, [stem for stem, _, _ in drawn_figures(figures_dir, notebook, FIGURES)])
        for notebook in dict.fromkeys(spec.notebook for spec in FIGURES.values())
    }
