"""Plans, and predictions by averaged laws, at the command line: on a simulated grid and on a table."""

import json

import pytest
from simulated_grids import LARGEST, simulate

from astraios_analysis.cli.main import main
from astraios_analysis.records import frame as records

TABLE = "# note\nparams,loss,method\n" + "".join(
    f"{size},{2 + i + 30 * size**-0.3:.3f},{name}\n" for i, name in enumerate("ab") for size in (1e6, 1e7, 1e8, 1.1e9)
)


@pytest.fixture
def run(capsys):
    """Run a command: (exit code, standard output, standard error)."""

    def run(*arguments):
        code = main([*map(str, arguments)])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def folder(tmp_path):
    """Folder with a simulated grid."""
    for record in simulate(held_out=(LARGEST,), seeds=(0, 1)):
        records.save(record, tmp_path / "runs")
    return tmp_path


def test_plan_and_frontier(run, folder):
    options = ["--dataset", "embedded_fix", "--cost", "flop", "--json", "--data", folder]
    code, out, _ = run("plan", "--size", "5m", *options)
    found = json.loads(out, parse_constant=pytest.fail)
    assert code == 0 and list(found) == ["runs", "frontier"]
    gains = [row["reduction_per_flop"] for row in found["runs"]]
    assert gains == sorted(gains, reverse=True)
    assert {row["kind"] for row in found["frontier"]} == {"measured", "predicted"}
    code, out, err = run("plan", "--size", "5m", "--method", "lora", "--data", folder)
    assert code == 0 and "narrow the prediction of val_loss" in out
    assert "base models of new sizes are not counted" in err


def test_plan_needs_something_to_predict(run, released_data):
    code, out, err = run("plan", "--size", "34b", "--data", released_data)
    assert (code, out) == (2, "") and "name the data set to predict with --dataset" in err


def test_losses_and_scores_are_predicted(run, folder):
    code, out, err = run("predict", "--size", "2336k", "--method", "lora", "--json", "--data", folder)
    found = {one["quantity"]: one for one in json.loads(out, parse_constant=pytest.fail)}
    assert code == 0 and list(found) == ["val_loss", "embedded_synthesis", "embedded_fix"] and "extrapolation" in err
    truth = next(r for r in simulate(held_out=(LARGEST,), seeds=(0, 1)) if r.held_out and r.method == "lora")
    assert found["val_loss"]["value"] == pytest.approx(truth.val_loss, rel=0.1)
    assert sum(found["embedded_fix"]["weights"].values()) == pytest.approx(1)
    code, out, _ = run("predict", "--size", "2336k", "--dataset", "val_loss", "--data", folder)
    assert code == 0 and "Back-test" in out and "power_floor" in out


def test_a_table_is_predicted(run, tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text(TABLE)
    columns = ["--data", path, "--x", "params", "--y", "loss", "--group", "method"]
    code, out, _ = run("predict", *columns, "--size", "5b", "--json")
    found = json.loads(out, parse_constant=pytest.fail)
    assert code == 0 and [one["method"] for one in found] == ["a", "b"]
    for one, level in zip(found, (2, 3), strict=True):
        assert one["value"] == pytest.approx(level + 30 * 5e9**-0.3, rel=0.1) and len(one["intervals"]) == 6
    code, _, err = run("predict", "--data", path, "--size", "5b")
    assert code == 2 and "name its columns with --x and --y" in err
    code, _, err = run("predict", *columns[:-1], "size_class", "--size", "5b")
    assert code == 2 and "has no column 'size_class'; choose from params, loss, method" in err


def test_columns_belong_to_a_table(run, folder):
    code, _, err = run("predict", "--size", "5m", "--x", "params", "--data", folder)
    assert code == 2 and "--x names a column of a table" in err
