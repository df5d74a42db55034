import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from training.__main__ import main
from training.grid.estimates import GIB, Machine, errors_by_size, estimate_run, grid_seconds, measured_costs, pace
from training.spec.grids import preset

ROOT = Path(__file__).parents[2]
MINI = ROOT / "data" / "runs" / "mini"
RUNS = {(run.size.name, run.tuning.method): run for run in preset("starcoderbase").runs()}
MACHINE = Machine(n_devices=8, memory_bytes=80 * GIB, tflops=312, utilisation=0.4)


@pytest.fixture(scope="module")
def measured():
    return measured_costs(MINI)


def test_operations_are_those_of_the_records(measured):
    assert measured
    for cost in measured:
        assert cost.estimated_flop == pytest.approx(cost.flop, rel=1e-12)


def test_full_fine_tuning_costs_6_n_d():
    estimate = estimate_run(RUNS["1b", "fft"], MACHINE)
    assert estimate.n_tokens == 200 * 32 * 2048
    assert estimate.flop == 6 * 1_137_207_296 * estimate.n_tokens
    # By hand: 21 validations of 512 rows forward, and attention of 24 blocks of width 2048 in both.
    attention = 4 * 24 * 2048 * 2048
    validated = 21 * 512 * 2048 * (2 * 1_137_207_296 + attention)
    assert estimate.flop_spent == pytest.approx(estimate.flop + 3 * attention * estimate.n_tokens + validated)
    assert estimate.seconds == pytest.approx(estimate.flop_spent / (312e12 * 0.4))


def test_a_run_on_several_devices_takes_less_time_and_no_fewer_operations():
    estimate = estimate_run(RUNS["16b", "fft"], MACHINE)
    assert estimate.plan.layout.n_processes == 4
    assert estimate.seconds == pytest.approx(estimate.device_seconds / 4)
    assert estimate.flop == 6 * 15_517_456_384 * estimate.n_tokens


def test_a_grid_takes_its_longest_run_at_least():
    one, other = (estimate_run(RUNS[size, "lora"], MACHINE) for size in ("16b", "1b"))
    assert grid_seconds([one, other], MACHINE) == one.seconds
    assert grid_seconds([one] * 16, MACHINE) == pytest.approx(2 * one.device_seconds)
    small = Machine(n_devices=1, memory_bytes=GIB, tflops=1, utilisation=1)
    assert grid_seconds([estimate_run(RUNS["16b", "lora"], small)], small) is None


@pytest.mark.parametrize("name", ["n_devices", "memory_bytes", "tflops", "utilisation"])
def test_machines_have_positive_numbers(name):
    values = {"n_devices": 1, "memory_bytes": 1.0, "tflops": 1.0, "utilisation": 0.5}
    with pytest.raises(ValueError, match=f"{name} is 0; give a"):
        Machine(**{**values, name: 0})


def test_pace_finds_rate_and_overhead_again(measured):
    from dataclasses import replace

    made = [replace(cost, device_seconds=cost.flop_spent / 5e9 + cost.steps * 0.1) for cost in measured]
    assert pace(made) == pytest.approx((5e9, 0.1))
    of_one_size = [cost for cost in made if cost.size == made[0].size]
    assert pace(of_one_size)[1] == 0
    assert all(row["seconds_ratio"] == pytest.approx(1) for row in errors_by_size(made))


def test_a_folder_without_costs_is_refused(tmp_path):
    record = json.loads(next(MINI.glob("*.json")).read_text())
    del record["cost"]
    (tmp_path / f"{record['run_id']}.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"no record in .* has time, operations and the run's specification; give"):
        measured_costs(tmp_path)


def test_json_is_pure_and_complete(capsys):
    assert main(["estimate", "--preset", "starcoderbase", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["machine", "cells", "grid", "measured"]
    assert (len(found["cells"]), found["grid"]["n_runs"], found["grid"]["n_unfit"]) == (28, 28, 0)
    cell = found["cells"][-7]
    assert (cell["size"], cell["method"], cell["n_params_updated"]) == ("16b", "fft", 15_517_456_384)
    assert cell["plan"]["n_processes"] == 4
    assert found["grid"]["flop"] == sum(cell["flop"] for cell in found["cells"])


def test_what_does_not_fit_is_said_and_is_the_exit_status(capsys):
    command = ["estimate", "--preset", "starcoderbase", "--size", "16b", "--gpus", "1", "--method"]
    assert main([*command, "fft"]) == 1
    captured = capsys.readouterr()
    assert "not on 1" in captured.out
    assert "1 of 1 runs fit on no number of 1 GPUs" in captured.err
    assert main([*command, "lora", "--memory-gib", "24", "--base-precision", "int8"]) == 0


def test_measured_grids_give_pace_and_errors(capsys):
    command = ["estimate", "--preset", "smoke", "--gpus", "2", "--memory-gib", "8"]
    assert main([*command, "--measured", str(MINI), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["machine"]["step_seconds"] > 0
    # 60 steps of 32 documents, as long as those that were measured on the same corpus.
    assert found["cells"][0]["n_tokens"] == pytest.approx(60 * 32 * found["measured"]["tokens_per_row"], abs=1)
    assert all(row["flop_ratio"] == pytest.approx(1) for row in found["measured"]["by_size"])
    assert main([*command, "--measured", str(MINI)]) == 0
    assert f"estimated / measured in {MINI}" in capsys.readouterr().out


def test_wrong_arguments_say_what_is_allowed(capsys):
    for arguments, message in [
        (["--preset", "mega"], "unknown preset 'mega'"),
        (["--preset", "mini", "--gpus", "0"], "n_devices is 0; give a positive number"),
        (["--preset", "mini", "--utilisation", "40"], r"give a share of the peak in (0, 1]"),
    ]:
        with pytest.raises(SystemExit):
            main(["estimate", *arguments])
        assert message in capsys.readouterr().err


def test_estimates_need_no_torch(tmp_path):
    code = (
        "import sys; from training.__main__ import main\n"
        "main(['estimate', '--preset', 'starcoderbase'])\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, timeout=120)
