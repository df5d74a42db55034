"""The command, run in this process on the released models or on grids written for a test."""

import json

import pytest
from simulated_grids import LARGEST, World, simulate

from astraios_analysis.cli.main import main
from astraios_analysis.records import frame as records
from astraios_analysis.records.frame import METHODS


@pytest.fixture
def run(capsys):
    """Run the command, on a folder if one is given: (exit code, standard output, standard error)."""

    def run(*arguments, data=None):
        capsys.readouterr()
        code = main([*map(str, arguments), *(["--data", str(data)] if data else [])])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return run


@pytest.fixture
def refusal(run, released_data):
    """Run a command that must end with code 2, or another one, and nothing on standard output: its complaint."""

    def refusal(*arguments, data=released_data, code=2):
        found, out, err = run(*arguments, data=data)
        assert (found, out) == (code, "")
        return err.strip()

    return refusal


@pytest.fixture
def as_json(run, released_data):
    """Run a command with --json: (what it printed, which has no NaN, and standard error)."""

    def as_json(*arguments, data=released_data):
        code, out, err = run(*arguments, "--json", data=data)
        assert code == 0
        return json.loads(out, parse_constant=pytest.fail), err

    return as_json


@pytest.fixture
def own_grid(tmp_path):
    """Write a grid of our own into a folder: five methods at four sizes, without losses, and some without scores."""

    def write(scored=lambda method: True, **changes):
        world = World(level={"embedded_fix": -1.5}, slope={"embedded_fix": 4.0})
        fields = {"methods": METHODS[:5], "seeds": (0,), "grid": "own", "val_loss": None} | changes
        for record in simulate(world, **fields):
            kept = record.scores if scored(record.method) else ()
            records.save(record.model_copy(update={"scores": kept}), tmp_path / "runs")
        return tmp_path

    return write


@pytest.fixture(scope="session")
def simulated(tmp_path_factory):
    """Folder with a simulated grid of two seeds, its largest size held out."""
    folder = tmp_path_factory.mktemp("simulated")
    for record in simulate(held_out=(LARGEST,), seeds=(0, 1)):
        records.save(record, folder / "runs")
    return folder


@pytest.fixture
def two_grids(own_grid, tmp_path, released_folder):
    (tmp_path / "released").symlink_to(released_folder)
    return own_grid()
