"""What may import what, and how large and how named the modules are."""

import ast
import functools
import graphlib
import json
import re
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PACKAGES = ("astraios_analysis", "training")
BRIDGE = "astraios_analysis.records."

# The design says about 50 lines; beyond this it is no longer "about".
MAX_FUNCTION_LINES = 55
# Rooms from the ground up: a room imports only what lies below it.
FLOORS = {
    "astraios_analysis": (
        *("records", "laws", "scores imports curves", "prediction claims", "figures tables"),
        *("api", "explorer", "render", "cli"),
    ),
    "training": ("sandbox corpus", "spec", "models", "loop", "generation published", "suite", "grid", "cli"),
}
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "misc", "manager"}

# Distributions that are imported under another name, or under a second one that is part of their interface.
IMPORTED_AS = {"pyyaml": ["yaml"], "pillow": ["PIL"], "pydantic": ["pydantic", "pydantic_core"]}


@functools.cache
def trees(folder):
    """Syntax trees of all Python files below a folder: {path: tree}."""
    return {path: ast.parse(path.read_text("utf-8")) for path in sorted(folder.rglob("*.py"))}


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def find_imports(tree, modules=()):
    """Dotted names that a syntax tree imports, at any depth; relative ones start with a dot.

    `from a import b` counts as `a.b` where that is one of `modules`, and as `a` elsewhere.
    """
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            inner = [f"{base}.{alias.name}" for alias in node.names]
            found += [name if name in modules else base for name in inner]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in {"import_module", "__import__"}:
            found += [arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant)]
    return sorted(set(found))


@functools.cache
def imports_by_module(package):
    """What each module of a package imports: {dotted name: [dotted names]}."""
    known = {module_name(path) for name in PACKAGES for path in trees(ROOT / name)}
    return {module_name(path): find_imports(tree, known) for path, tree in trees(ROOT / package).items()}


def edges(imports):
    return [(module, name) for module, names in imports.items() for name in names]


def find_back_doors(imports):
    """Imports of the analysis other than through its one bridge to training."""
    return [pair for pair in edges(imports) if top(pair[1]) == "astraios_analysis" and not pair[1].startswith(BRIDGE)]


def find_undeclared_imports(imports, declared):
    """Imports from outside the standard library that no declared distribution provides, and the package neither."""
    allowed = sys.stdlib_module_names | set(declared) | set(map(top, imports))
    return [pair for pair in edges(imports) if top(pair[1]) not in allowed]


def find_cycle(imports):
    """Modules that import each other in a circle; empty where there is none."""
    graph = {module: [name for name in names if name in imports] for module, names in imports.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def find_upward_imports(imports, floors):
    """Imports of a room from one that does not lie below it; rooms are the second parts of dotted names."""
    floor = {room: place for place, rooms in enumerate(floors) for room in rooms.split()}
    found = []
    for module, name in edges(imports):
        own, other = (one.split(".")[1] if "." in one else "" for one in (module, name))
        is_known = top(module) == top(name) and own in floor and other in floor
        if is_known and own != other and floor[other] >= floor[own]:
            found.append((module, name))
    return found


def top(name):
    return name.split(".")[0]


def declared_imports(*extras):
    """Import names of the base dependencies and those of the named extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lines = project["dependencies"] + [x for extra in extras for x in project["optional-dependencies"][extra]]
    names = [canonicalize_name(Requirement(line).name) for line in lines]
    return {module for name in names for module in IMPORTED_AS.get(name, [name.replace("-", "_")])}


def find_long_functions(tree, limit=MAX_FUNCTION_LINES):
    """Functions with more lines than the limit, their docstring not counted."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = node.body[0] if ast.get_docstring(node, clean=False) is not None else None
            n_lines = node.end_lineno - node.lineno + 1
            n_lines -= docstring.end_lineno - docstring.lineno + 1 if docstring else 0
            if n_lines > limit:
                found.append(f"{node.name}: {n_lines} lines")
    return found


def is_vague(path):
    """Whether a file's name says nothing of what is in it."""
    return any(part in VAGUE_NAMES or re.fullmatch(r"v\d+", part) for part in path.stem.lower().split("_"))


def test_training_uses_the_analysis_through_records_only():
    assert find_back_doors(imports_by_module("training")) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_is_a_room_with_a_floor(package):
    rooms = {path: tree for path, tree in trees(ROOT / package).items() if path.match(f"{package}/*/__init__.py")}
    assert {path.parent.name for path in rooms} == set(" ".join(FLOORS[package]).split()) - {"api"}
    assert all(ast.get_docstring(tree) for tree in rooms.values())


@pytest.mark.parametrize("package", PACKAGES)
def test_rooms_import_only_what_lies_below_and_modules_have_no_cycle(package):
    assert find_upward_imports(imports_by_module(package), FLOORS[package]) == []
    assert find_cycle(imports_by_module(package)) == []


def test_commands_and_the_explorer_are_shells_over_the_api():
    imports, own = imports_by_module("astraios_analysis"), {}
    for room in ("cli", "explorer"):
        modules = [module for module in imports if module.startswith(f"astraios_analysis.{room}")]
        names = {name for module in modules for name in imports[module]}
        assert "astraios_analysis" in names
        own[room] = {name for name in names if name.startswith("astraios_analysis.")}
    # These read, write and render, which the API does not.
    assert {name.split(".")[1] for name in own["cli"]} <= {"records", "imports", "render", "cli"}
    beside = {name for name in own["explorer"] if name.split(".")[1] not in ("records", "explorer")}
    # Beside what `aa` exports, constants of the API; looks come from one place.
    assert beside == {"astraios_analysis.api", "astraios_analysis.figures.style"}


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_import_the_api_alone(path):
    cells = json.loads(path.read_text("utf-8"))["cells"]
    lines = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    assert find_imports(ast.parse(lines)) == ["astraios_analysis"] and "import astraios_analysis as aa" in lines


@pytest.mark.parametrize(
    ("package", "extras", "others"),
    # The analysis has no extra, so neither torch nor anything that brings it, and not training.
    [("astraios_analysis", (), ()), ("training", ("train", "cluster"), ("astraios_analysis",))],
)
def test_imports_are_declared(package, extras, others):
    assert find_undeclared_imports(imports_by_module(package), declared_imports(*extras) | set(others)) == []


@pytest.mark.parametrize("folder", [*PACKAGES, "tests"])
def test_functions_are_short_and_names_say_what_is_inside(folder):
    found = {path.name: find_long_functions(tree) for path, tree in trees(ROOT / folder).items()}
    assert {name: functions for name, functions in found.items() if functions} == {}
    assert [str(path) for path in trees(ROOT / folder) if is_vague(path)] == []


def test_checkers_find_what_is_wrong():
    text = "import a.b\nfrom c import d, e\nfrom . import j\ndef f():\n    from g import h\n    import_module('i')\n"
    assert find_imports(ast.parse(text), {"c.d"}) == [".", "a.b", "c", "c.d", "g", "i"]
    imports = {"training.grid.run": [f"{BRIDGE}counts", "astraios_analysis.laws.fits", "astraios_analysis"]}
    assert [name for _, name in find_back_doors(imports)] == ["astraios_analysis.laws.fits", "astraios_analysis"]
    imports = {"p.low.a": ["p.high.b", "os"], "p.high.b": ["p.low.a", "p.high.c"], "p.side.d": ["p.low.a"]}
    assert find_upward_imports(imports, ("low side", "high")) == [("p.low.a", "p.high.b"), ("p.side.d", "p.low.a")]
    imports = {"p.m": ["os", "numpy.linalg", "torch.nn", "training", "p.n"]}
    assert [name for _, name in find_undeclared_imports(imports, {"numpy"})] == ["torch.nn", "training"]
    assert set(find_cycle({"a": ["b", "os"], "b": ["c"], "c": ["b"]})) == {"b", "c"}
    function = ast.parse('def f():\n    """One.\n\n    Two.\n    """\n' + "    x = 1\n" * 3)
    assert find_long_functions(function, limit=3) == ["f: 4 lines"] and find_long_functions(function, limit=4) == []
    names = ["utils.py", "fit_helpers.py", "manager.py", "laws_v2.py", "laws.py"]
    assert [name for name in names if not is_vague(Path(name))] == ["laws.py"]
