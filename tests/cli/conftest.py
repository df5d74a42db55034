"""The command, run in this process on the released models or on grids written for a test."""

import functools
import json

import pytest

from astraios_analysis.cli.main import main
from astraios_analysis.records import frame as records
from astraios_analysis.records import released, sources
from astraios_analysis.records.frame import METHODS, ProblemCounts, Score

load_once = functools.cache(released.load_released)


@pytest.fixture(autouse=True)
def read_tables_once(monkeypatch):
    """Read the released tables, which never change here, once and not for every command."""
    monkeypatch.setattr(sources, "load_released", load_once)


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
def fails(run):
    """Run a command that must fail with nothing on standard output: (exit code, its last line of complaint)."""

    def fails(*arguments, **options):
        code, out, err = run(*arguments, **options)
        assert out == ""
        return code, err.strip().splitlines()[-1]

    return fails


@pytest.fixture
def refusal(run, released_data):
    """Run a command that must end with code 2 and nothing on standard output: what it says."""

    def refusal(*arguments, data=released_data):
        code, out, err = run(*arguments, data=data)
        assert (code, out) == (2, "")
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


def own_score(place, step, dataset="humanevalsynthesize_python", **changes):
    """A score on 30 problems of 20 samples that grows with the place of the method and the step of the size."""
    passed = tuple((3 * problem + 2 * place + 4 * step) % 21 * (problem < 12 + 5 * step) for problem in range(30))
    problems = ProblemCounts(problem_ids=tuple(range(30)), n_samples=(20,) * 30, n_passed=passed)
    known = {"language": "python", "setting": "t0.2,n20", "metric": "pass@1", "source": "measured", "n_items": 30}
    return Score(**({"dataset": dataset, "value": sum(passed) / 600, "problems": problems} | known | changes))


@pytest.fixture
def own_grid(make_record, tmp_path):
    """Write a grid of our own into a folder: methods at sizes with seeds, or without scores."""

    def write(methods=METHODS[:5], sizes=(300_000, 10**6, 10**7, 30_000_000), seeds=(0,), scored=lambda *_: True):
        for step, n_params in enumerate(sizes):
            for place, method in enumerate(methods):
                for seed in seeds:
                    name = {"run_id": f"own-{n_params}-{method}-s{seed}", "grid": "own", "size": f"{n_params / 1e6:g}m"}
                    counts = {"n_params": n_params + 99, "n_params_base": n_params, "n_params_base_nonembedding": 9}
                    scores = (own_score(place, step),) if scored(method, n_params) else ()
                    fields = {"method": method, "seed": seed, "n_params_updated": 99, "scores": scores}
                    fields |= {"val_loss": None, "val_loss_se": None}
                    records.save(make_record(**(name | counts | fields)), tmp_path / "runs")
        return tmp_path

    return write


@pytest.fixture
def two_grids(own_grid, tmp_path, released_folder):
    """The released models beside a grid of our own."""
    (tmp_path / "released").symlink_to(released_folder)
    return own_grid()
