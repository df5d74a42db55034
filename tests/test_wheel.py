"""The wheel in an environment of its own, outside the checkout: every command works from an empty folder."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

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


def test_what_is_imported_is_the_wheel(installed, tmp_path):
    code = "import astraios_analysis, training; print(*astraios_analysis.__path__, *training.__path__)"
    found = call([installed / "python", "-c", code], tmp_path).split()
    assert [Path(path).is_relative_to(installed.parent) for path in found] == [True, True]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("claims --claim fft_best", "mixed"),
        ("rank --dataset humanevalsynthesize_java", "humanevalsynthesize_java"),
        ("fit --law power_floor --grid ladder --pooling shared", "power_floor"),
        ("backtest --grid ladder --dataset val_loss", "val_loss"),
        ("plan --size 34b --dataset recode_format", "recode_format"),
        ("records show --grid released --method lora --size 7b", "humanevalfix_java"),
    ],
)
def test_a_command_works_from_an_empty_folder(installed, tmp_path, command, expected):
    assert expected in call([installed / "astraios", *command.split()], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_predictions_are_those_of_the_checkout(installed, tmp_path):
    command = [installed / "astraios", "predict", "--method", "lora", "--size", "34b", "--dataset", "recode_format"]
    found = call([*command, "--json"], tmp_path)
    assert json.loads(found)[0]["dataset"] == "recode_format"
    assert call([*command, "--json", "--data", ROOT / "data"], tmp_path) == found


def test_figures_and_report_go_to_the_working_folder(installed, tmp_path):
    call([installed / "astraios", "figures", "--only", "model_suite", "--quiet"], tmp_path)
    assert (tmp_path / "build" / "report.html").stat().st_size > 10_000
    for table in (ROOT / "figures").glob("updated_parameters*.csv"):
        assert (tmp_path / "figures" / table.name).read_bytes() == table.read_bytes()
