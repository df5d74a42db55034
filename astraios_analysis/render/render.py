"""Every figure from every notebook in one call: parameters checked first, then what is not there yet, in parallel.

A manifest says what was made from what. A notebook runs again only when that is no longer true of it, and the manifest
is written whenever one has ended: an interrupted run goes on where it was.
"""

import ast
import hashlib
import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from astraios_analysis.figures.gallery import FIGURES, drawn_figures
from astraios_analysis.figures.spec import FigureSpec
from astraios_analysis.records.files import peek, write_whole
from astraios_analysis.records.refusal import Refusal, require_known
from astraios_analysis.render.execution import Job, read_cells, run_jobs

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
    "own_data",
    "how_it_works",
)
FOLDER_PARAMETERS = ("data_dir", "figures_dir")
MANIFEST = "manifest.json"
# Distributions that a figure's numbers or looks depend on.
PACKAGES = (
    "astraios",
    "ipykernel",
    "matplotlib",
    "nbclient",
    "numpy",
    "pandas",
    "papermill",
    "pydantic",
    "scipy",
    "seaborn",
    "statsmodels",
)


class NotebookError(RuntimeError):
    """Notebooks that failed while they ran; all others have their results."""


@dataclass(frozen=True)
class RenderResult:
    """What a rendering made: notebooks asked for and those of them that ran, in order, and files of their figures."""

    notebooks: tuple[str, ...]
    ran: tuple[str, ...]
    outputs: tuple[Path, ...]
    seconds: float


def order_notebooks(names: Iterable[str]) -> list[str]:
    """Return names of notebooks in the order of `NOTEBOOKS`; others follow by alphabet."""
    known = {name: place for place, name in enumerate(NOTEBOOKS)}
    return sorted(set(names), key=lambda name: (known.get(name, len(known)), name))


def find_notebooks(folder: str | Path) -> dict[str, Path]:
    """Return the notebooks in a folder by their stem, in order."""
    paths = {path.stem: path for path in Path(folder).glob("*.ipynb") if not path.name.startswith(".")}
    if not paths:
        raise Refusal(f"no notebook (*.ipynb) in {folder}; give the folder that holds the notebooks")
    return {name: paths[name] for name in order_notebooks(paths)}


def notebook_parameters(path: str | Path) -> list[str]:
    """Return the names that a notebook's cell tagged ``parameters`` assigns, in alphabetical order."""
    path = Path(path)
    for cell in read_cells(path):
        if cell["cell_type"] == "code" and "parameters" in cell["metadata"].get("tags", []):
            break
    else:
        raise Refusal(f"notebook {path.stem} has no cell tagged 'parameters'; add one that sets its defaults")
    try:
        statements = ast.parse(cell["source"]).body
    except SyntaxError as error:
        raise Refusal(f"the parameters cell of notebook {path.stem} is not Python: {error}") from error
    targets = []
    for statement in statements:
        if isinstance(statement, ast.Assign):
            targets += statement.targets
        elif isinstance(statement, ast.AnnAssign):
            targets.append(statement.target)
    return sorted({target.id for target in targets if isinstance(target, ast.Name)})


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

    Executed copies (``notebooks/``) and the manifest go to ``build_dir``. ``parameters`` stand in place of the defaults
    of the notebooks that have a parameter of that name; at least one that runs must have it. ``jobs`` run at the same
    time, by default as many as there are processors. The message of a `NotebookError` has the notebook, the number of
    the cell in the executed copy, and its traceback.
    """
    began = time.perf_counter()
    data_dir, figures_dir, build_dir = (Path(folder).resolve() for folder in (data_dir, figures_dir, build_dir))
    given = dict(parameters or {})
    notebooks = find_notebooks(notebooks_dir)
    require_known("notebook", only or (), notebooks)
    chosen = {name: path for name, path in notebooks.items() if only is None or name in only}
    known = _check_parameters(chosen, given)

    executed = build_dir / "notebooks"
    for folder in (figures_dir, executed):
        folder.mkdir(parents=True, exist_ok=True)
    own = {stem: {name: value for name, value in given.items() if name in known[stem]} for stem in chosen}
    # Read before anything runs: what changes meanwhile is seen as changed by the next run.
    inputs = describe_inputs(data_dir)
    begun = {stem: describe_notebook(path, (), own[stem]) for stem, path in chosen.items()}
    entries = true_entries(build_dir, inputs, notebooks, figures_dir)
    folders = {"data_dir": str(data_dir), "figures_dir": str(figures_dir)}
    placed = {stem: {k: v for k, v in folders.items() if k in known[stem]} for stem in chosen}
    todo = [Job(path, executed / path.name, own[stem] | placed[stem]) for stem, path in chosen.items()]
    done = {name for name, entry in entries.items() if entry["parameters"] == own.get(name) and not force}
    todo = [job for job in todo if job.name not in done or not job.target.is_file()]
    entries = {name: entry for name, entry in entries.items() if name not in {job.name for job in todo}}
    write_manifest(build_dir, inputs, entries)

    def note(job: Job, failure: str | None) -> None:
        bar.set_postfix_str(job.name, refresh=False)
        bar.update()
        if failure is None:
            drawn = figure_files(figures_dir, job.name, FIGURES)
            entries[job.name] = begun[job.name] | {"outputs": hash_files(drawn)}
            write_manifest(build_dir, inputs, entries)

    with tqdm(total=len(todo), desc="notebooks", unit="notebook", disable=not (progress and todo)) as bar:
        outcomes = run_jobs(todo, n_parallel=min(jobs or _processors(), len(todo)), on_end=note)
    if failures := [outcomes[name] for name in chosen if outcomes.get(name)]:
        raise NotebookError("\n\n".join(failures))
    files = [path for name in chosen for path in figure_files(figures_dir, name, FIGURES)]
    ran = tuple(job.name for job in todo)
    return RenderResult(tuple(chosen), ran, tuple(files), time.perf_counter() - began)


def _check_parameters(notebooks: Mapping[str, Path], given: Mapping[str, object]) -> dict[str, list[str]]:
    """Return each notebook's parameters; refuse names that none has: papermill would set them and nobody read them."""
    for name in FOLDER_PARAMETERS:
        if name in given:
            raise Refusal(f"parameter {name!r} is set by the argument of that name; leave it out of the parameters")
    known = {stem: notebook_parameters(path) for stem, path in notebooks.items()}
    for stem, names in known.items():
        # One that has neither reads no records and draws no figure.
        missing = [name for name in FOLDER_PARAMETERS if name not in names]
        for name in missing:
            if missing != list(FOLDER_PARAMETERS):
                raise Refusal(f"notebook {stem} has no parameter {name!r}; add it to its parameters cell")
    choices = sorted({name for names in known.values() for name in names}.difference(FOLDER_PARAMETERS))
    for name in given:
        if name not in choices:
            shown = f"notebook {next(iter(known))}" if len(known) == 1 else f"notebooks {', '.join(known)}"
            raise Refusal(f"unknown parameter {name!r} for {shown}; choose from {', '.join(choices)}")
    return known


def _processors() -> int:
    """Return the number of processors this process may use, which a batch system can make fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_files(paths: Iterable[Path]) -> dict[str, str]:
    """Return the hash of each file by its name."""
    return {path.name: file_hash(path) for path in paths}


def folder_hashes(folder: Path) -> dict[str, str]:
    """Return the hash of every file below a folder by its path in the folder; hidden files and caches are left out."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") or part == "__pycache__" for part in name.parts):
            found[name.as_posix()] = file_hash(path)
    return found


def versions() -> dict[str, str]:
    """Return the versions of Python and of the installed `PACKAGES`."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def figure_files(figures_dir: Path, notebook: str, figures: Mapping[str, FigureSpec]) -> list[Path]:
    """Return the files of a notebook's figures, whatever their kinds, in order of name."""
    stems = {stem for stem, _, _ in drawn_figures(figures_dir, notebook, figures)}
    return sorted(path for path in figures_dir.glob("*.*") if path.stem in stems and path.is_file())


def describe_inputs(data_dir: Path) -> dict[str, object]:
    """Return what all notebooks are made from: hashes of records and of this package, and versions."""
    package = folder_hashes(Path(__file__).parents[1])
    return {"inputs": {"data": folder_hashes(data_dir), "package": package}, "versions": versions()}


def describe_notebook(
    notebook: Path, outputs: Iterable[Path], parameters: Mapping[str, object]
) -> dict[str, str | dict[str, object]]:
    """Return a notebook's entry: the hashes of its file and of the figures it drew, and what it was given."""
    return {"notebook": file_hash(notebook), "outputs": hash_files(outputs), "parameters": dict(parameters)}


def true_entries(
    build_dir: Path, inputs: Mapping[str, object], notebooks: Mapping[str, Path], figures_dir: Path
) -> dict[str, dict]:
    """Return the manifest's entries that still are as things are: same inputs, notebook and output files."""
    earlier = read_manifest(build_dir / MANIFEST) or {}
    if any(earlier.get(key) != value for key, value in inputs.items()):
        return {}
    found = {}
    for name, notebook in notebooks.items():
        entry = earlier["notebooks"].get(name)
        if isinstance(entry, dict) and isinstance(entry.get("parameters"), dict):
            now = describe_notebook(notebook, figure_files(figures_dir, name, FIGURES), entry["parameters"])
            found |= {name: entry} if entry == now else {}
    return found


def write_manifest(build_dir: Path, inputs: Mapping[str, object], entries: Mapping[str, Mapping]) -> Path:
    """Write ``build_dir/manifest.json`` and return its path."""
    text = json.dumps({**inputs, "notebooks": dict(entries)}, indent=1, sort_keys=True) + "\n"
    write_whole(build_dir / MANIFEST, text)
    return build_dir / MANIFEST


def read_manifest(path: Path) -> dict | None:
    """Return a manifest, or None where there is none that can be read."""
    found = peek(path)
    return found if isinstance(found.get("notebooks"), dict) else None
