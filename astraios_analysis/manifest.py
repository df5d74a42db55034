"""What a rendering was made from and what it made: hashes of inputs and outputs, versions, parameters.

No time and no absolute path enters: the same inputs give the same bytes.
"""

import hashlib
import importlib.metadata
import json
import platform
import tempfile
from collections.abc import Collection, Iterable, Mapping
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


def update_manifest(
    build_dir: Path,
    *,
    notebooks: Mapping[str, Path],
    ran: Collection[str],
    data_dir: Path,
    parameters: Mapping[str, object],
    outputs: Mapping[str, Iterable[Path]],
) -> Path:
    """Write ``build_dir/manifest.json`` after some notebooks have run.

    Notebooks that did not run keep their entry only if it is still true: same data, package, versions, notebook and
    output files. So the manifest always describes figures that belong together.

    Parameters
    ----------
    build_dir : Path
    notebooks : mapping of str to Path
        All notebooks of the project.
    ran : collection of str
        Those that have just run without failure.
    data_dir : Path
        The records they read.
    parameters : mapping of str to object
        What those were given, folders left out.
    outputs : mapping of str to iterable of Path
        The figure files of every notebook of the project that has any.

    Returns
    -------
    Path
        The manifest.
    """
    shared = {
        "inputs": {
            "data": folder_hashes(data_dir),
            "package": folder_hashes(Path(__file__).parent, "*.py"),
        },
        "versions": versions(),
    }
    path = build_dir / MANIFEST
    earlier = read_manifest(path) or {}
    kept = earlier["notebooks"] if all(earlier.get(key) == value for key, value in shared.items()) else {}
    entries = {}
    for name, notebook in notebooks.items():
        made = {output.name: file_hash(output) for output in outputs.get(name, ())}
        now = {"notebook": file_hash(notebook), "outputs": made}
        if name in ran:
            entries[name] = now | {"parameters": dict(parameters)}
        elif name in kept and {key: kept[name].get(key) for key in now} == now:
            entries[name] = kept[name]
    return write_text(path, json.dumps(shared | {"notebooks": entries}, indent=1, sort_keys=True) + "\n")


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
