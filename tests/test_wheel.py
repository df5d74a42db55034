"""The wheel in an environment of its own, outside the checkout: commands work from an empty folder."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from astraios_analysis.records.frame import save

ROOT = Path(__file__).parents[1]
INGREDIENTS = "astraios_analysis", "training", "data", "notebooks", "*.md", "*.py", "*.toml", "LICENSE", "MANIFEST.in"
# Nothing of this test's own process may lead the commands back to the checkout.
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}


def call(command, folder):
    done = subprocess.run(command, cwd=folder, env=CLEAN, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Folder of the commands of an environment that has the wheel, and what it needs from this one."""
    source, place = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for path in (path for pattern in INGREDIENTS for path in ROOT.glob(pattern)):
        if path.is_dir():
            shutil.copytree(path, source / path.name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        else:
            shutil.copyfile(path, source / path.name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    offline = ["--quiet", "--no-index", "--no-deps"]
    call([*pip, "wheel", *offline, "--no-build-isolation", "--wheel-dir", str(place), "."], source)
    (wheel,) = place.glob("*.whl")
    environment = place / "environment"
    venv.create(environment, with_pip=False)
    # Named in a .pth file, a folder lends its packages and not its editable installs.
    paths = {"base": str(environment), "platbase": str(environment)}
    lent = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    Path(sysconfig.get_path("purelib", "venv", paths), "lent.pth").write_text("\n".join(lent) + "\n")
    call([*pip, "--python", str(environment / "bin" / "python"), "install", *offline, str(wheel)], place)
    return environment / "bin"


# In one process: what the environment changes is where packages, data and notebooks lie, and importing takes longest.
SCRIPT = """
import sys
import astraios_analysis, training
from astraios_analysis.cli.main import COMMANDS, commands, main
print(*astraios_analysis.__path__, *training.__path__)
assert all(commands.get_command(None, name) for name in COMMANDS)
for words in sys.argv[1:]:
    print("\\f", end="", flush=True)
    assert main(words.split()) == 0, words
"""
PREDICT = "predict --method lora --size 34b --dataset recode_format --json"
COMMANDS = {
    PREDICT: "recode_format",
    f"{PREDICT} --data {ROOT / 'data'}": "recode_format",
    "rank --dataset humanevalsynthesize_java": "humanevalsynthesize_java",
    "claims --grid released": "fft_best",
    "fit --law power_floor --grid ladder --pooling shared": "power_floor",
}


def test_commands_work_from_an_empty_folder(installed, tmp_path, tmp_path_factory, make_record):
    own = save(make_record(), tmp_path_factory.mktemp("own")).parent
    commands = [*COMMANDS, f"figures --only model_suite --quiet --data {own}"]
    places, *shown = call([installed / "python", "-c", SCRIPT, *commands], tmp_path).split("\f")
    assert [Path(path).is_relative_to(installed.parent) for path in places.split()] == [True, True]
    assert all(expected in out for expected, out in zip(COMMANDS.values(), shown[:-1], strict=True))
    # The data of the wheel are those of the checkout.
    assert shown[0] == shown[1]
    assert {path.name for path in tmp_path.iterdir()} == {"figures", "build"}
    assert (tmp_path / "build" / "report.html").stat().st_size > 10_000
    assert (tmp_path / "figures" / "updated_parameters.csv").read_text().count("mini") == 1
    assert call([installed / "astraios", "--version"], tmp_path).startswith("astraios ")
