"""Interrupted runs: killed in processes of their own, resumed in others, equal to runs that nothing interrupted."""

import json
import random

import loop_runs as RUNS
import pytest
from tiny_grid import in_a_process

from training.loop.batches import TokenRows

run = RUNS.run

# Any step must do, so each session takes others; checkpoints are written every 3 of the 12 steps.
JOBS = {
    **{method: {"method": method, "at_step": random.randint(1, 12)} for method in ("fft", "lora", "adapterh")},
    # While the third checkpoint is written: its weights and optimiser are there, its random states are not.
    "while_writing": {"method": "lora", "at_torch_save": 5},
    # When all of it is written, and only its name is missing.
    "before_renaming": {"method": "lora", "at_rename": "step-000009"},
    # When the one before the last two is on its way out.
    "while_removing": {"method": "lora", "at_rename": ".removing-step-000003"},
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Each job killed and resumed, what lay in its folder, and its method trained whole, each in its own process."""
    out, found = tmp_path_factory.mktemp("killed"), {}
    for method in ("fft", "lora", "adapterh"):
        in_a_process(RUNS.train_job, {"method": method}, out / f"{method}-whole", out / f"{method}-whole.json")
    for name, job in JOBS.items():
        folder, numbers = out / name, out / f"{name}.json"
        exit_code = in_a_process(RUNS.train_job, job, folder, numbers, True)
        left = sorted(path.name for path in folder.iterdir())
        in_a_process(RUNS.train_job, job, folder, numbers)
        after = sorted(path.name for path in folder.iterdir())
        whole, resumed = (json.loads(path.read_text()) for path in (out / f"{job['method']}-whole.json", numbers))
        found[name] = ({"exit_code": exit_code, "left": left, "after": after}, whole, resumed)
    return found


@pytest.mark.parametrize("name", JOBS)
def test_a_killed_run_goes_on_to_the_same_numbers(outcomes, name):
    """Curve, losses and weights are equal to the last bit, with dropout in base model and adapter."""
    job, (process, whole, resumed) = JOBS[name], outcomes[name]
    assert process["exit_code"] == -9
    n_saved = sum(left.startswith("step-") for left in process["left"])
    assert resumed.pop("status") == ("resumed" if n_saved else "trained"), job
    assert bool(n_saved) is (job.get("at_step", 12) > 3), job
    assert whole == resumed | {"status": "trained"}, job
    assert [step for step in process["after"] if not step.startswith(".lock")] == ["step-000009", "step-000012"]


def test_unfinished_checkpoints_are_not_taken_for_whole_ones(outcomes):
    assert outcomes["while_writing"][0]["left"] == [".lock", ".writing-step-000009", "step-000003", "step-000006"]
    assert outcomes["before_renaming"][0]["left"] == [".lock", ".writing-step-000009", "step-000003", "step-000006"]
    assert outcomes["while_removing"][0]["left"] == [".lock", "step-000003", "step-000006", "step-000009"]


class TestSameProcess:
    def test_a_finished_run_is_loaded_not_trained(self, tmp_path):
        model, first = run("lora", folder=tmp_path)
        again, second = run("lora", folder=tmp_path)
        assert (first.status, second.status) == ("trained", "loaded")
        assert RUNS.numbers(again, second) == RUNS.numbers(model, first)
        assert second.model_copy(update={"status": "trained"}) == first
        # Without checkpoint_every only the end is kept.
        assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "step-000012"]

    def test_checkpoints_change_no_number(self, tmp_path):
        with_them = RUNS.numbers(*run("lora", folder=tmp_path, settings={"checkpoint_every": 1}))
        assert with_them == RUNS.numbers(*run("lora"))
        # How often to write may change.
        assert run("lora", folder=tmp_path, settings={"checkpoint_every": 2})[1].status == "loaded"

    @pytest.mark.parametrize(
        ("change", "difference"),
        [
            ({"schedule": {"learning_rate": 0.01}}, r"schedule\.learning_rate is 0\.02 there and 0\.01 here"),
            ({"settings": {"micro_batch": 4}}, r"settings\.micro_batch is 2 there and 4 here"),
            ({"settings": {"precision": "bf16"}}, r'settings\.precision is "fp32" there and "bf16" here'),
            ({"seed": 1}, "seed is 0 there and 1 here"),
            ({"spec": {"run_id": "b"}}, r'spec\.run_id is "a" there and "b" here'),
            ({"rows": TokenRows(RUNS.token_rows(60, 4), RUNS.token_rows(13, 6))}, r"rows\.training is "),
            ({"rows": TokenRows(RUNS.token_rows(60, 5), RUNS.token_rows(13, 7))}, r"rows\.validation is "),
            ({"method": "adapterh"}, "initial_weights is "),
        ],
    )
    def test_a_checkpoint_of_another_run_is_refused(self, tmp_path, change, difference):
        run("fft", folder=tmp_path, spec={"run_id": "a"}, schedule={"steps": 2})
        arguments = {"method": "fft", "spec": {"run_id": "a"}, **change}
        schedule = {"steps": 2, **arguments.pop("schedule", {})}
        with pytest.raises(ValueError, match=rf"step-000002 is of another run: {difference}.*give this run a folder"):
            run(**arguments, folder=tmp_path, schedule=schedule)
