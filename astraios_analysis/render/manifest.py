"""What a rendering was made from and what it made: hashes of inputs and outputs, versions, parameters.

No time and no absolute path enters: the same inputs give the same bytes.
"""

import hashlib
import importlib.metadata
import json
import platform
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

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


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_files(paths: Iterable[Path]) -> dict[str, str]:
    """Return the hash of each file by its name."""
    return {path.name: file_hash(path) for path in paths}


def folder_hashes(folder: Path, pattern: str = "*") -> dict[str, str]:
    """Return the hash of every file below a folder by its path in the folder; hidden files and caches are left out."""
    found = {}
    for path in sorted(folder.rglob(pattern)):
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


def figure_files(figures_dir: Path, names: Iterable[str]) -> list[Path]:
    """Return the files of figures, whatever their kinds, in order of name."""
    found = [path for name in names for path in figures_dir.glob(f"{name}.*") if path.stem == name]
    return sorted(path for path in found if path.is_file())


def describe_inputs(data_dir: Path) -> dict[str, object]:
    """Return what all notebooks are made from: hashes of records and of this package, and versions.

    Parameters
    ----------
    data_dir : Path
        The records they read; notebooks read all of them, whichever grid they show.

    Returns
    -------
    dict
        ``inputs`` (``data`` and ``package``: hash by file) and ``versions``.
    """
    package = folder_hashes(Path(__file__).parents[1], "*.py")
    return {"inputs": {"data": folder_hashes(data_dir), "package": package}, "versions": versions()}


def describe_notebook(
    notebook: Path, outputs: Iterable[Path], parameters: Mapping[str, object]
) -> dict[str, str | dict[str, object]]:
    """Return a notebook's entry: the hashes of its file and of the figures it drew, and what it was given.

    Parameters
    ----------
    notebook : Path
    outputs : iterable of Path
        The files of its figures.
    parameters : mapping of str to object
        Folders left out: the same records give the same figures wherever they lie.
    """
    return {"notebook": file_hash(notebook), "outputs": hash_files(outputs), "parameters": dict(parameters)}


def true_entries(
    build_dir: Path,
    inputs: Mapping[str, object],
    notebooks: Mapping[str, Path],
    outputs: Mapping[str, Iterable[Path]],
) -> dict[str, dict]:
    """Return the manifest's entries that still are as things are: same inputs, notebook and output files.

    Parameters
    ----------
    build_dir : Path
    inputs : mapping
        `describe_inputs` of now.
    notebooks : mapping of str to Path
        All notebooks of the project.
    outputs : mapping of str to iterable of Path
        The figure files of every notebook of the project that has any.
    """
    earlier = read_manifest(build_dir / MANIFEST) or {}
    if any(earlier.get(key) != value for key, value in inputs.items()):
        return {}
    found = {}
    for name, notebook in notebooks.items():
        entry = earlier["notebooks"].get(name)
        if isinstance(entry, dict) and isinstance(entry.get("parameters"), dict):
            now = describe_notebook(notebook, outputs.get(name, ()), entry["parameters"])
            found |= {name: entry} if entry == now else {}
    return found


def write_manifest(build_dir: Path, inputs: Mapping[str, object], entries: Mapping[str, Mapping]) -> Path:
    """Write ``build_dir/manifest.json`` and return its path."""
    text = json.dumps({**inputs, "notebooks": dict(entries)}, indent=1, sort_keys=True) + "\n"
    return write_text(build_dir / MANIFEST, text)


def read_manifest(path: Path) -> dict | None:
    """Return a manifest, or None where there is none that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("notebooks"), dict) else None


def write_text(path: Path, text: str) -> Path:
    """Write a file whole or not at all, making its folder if needed, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".", suffix=".part", delete=False) as file:
        draft = Path(file.name)
    try:
        draft.write_text(text, encoding="utf-8", newline="\n")
        draft.chmod(0o644)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return path
