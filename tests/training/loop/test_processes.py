"""Several processes: the same curve as one, and launches that start copies which do not know of each other."""

import loop_runs as RUNS
import pytest
import torch

from astraios_analysis.records.frame import load_folder
from training.grid.bases import load_tuned
from training.grid.rows import run_corpus
from training.grid.run import run
from training.loop.processes import check_launch


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each of two processes found, and the folder of what they left."""
    out = tmp_path_factory.mktemp("distributed")
    # What one process has begun, two go on with.
    RUNS.interrupted_run(out / "from_one", "fft")
    # Trained here once, and known to both.
    run_corpus(RUNS.tiny_specs()[0].data).tokenizer  # noqa: B018
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCELERATE_USE_CPU", "true")
        return RUNS.on_processes(2, RUNS.train_distributed, out), out


@pytest.mark.parametrize("method", ["fft", "lora", "ptuning", "adapterh"])
def test_two_processes_give_the_curve_of_one_with_shards_or_without(found, method):
    model, result = RUNS.run(model=RUNS.plain_model(method), **RUNS.SHORT)
    two, shards, one = found[0][0][method], found[0][0]["sharded"][method], RUNS.curve(result)
    for key in ("loss", "stderr"):
        expected = [point[key] for point in RUNS.numbers(model, result)["curve"]]
        assert [point[key] for point in two["curve"]] == pytest.approx(expected, rel=1e-4)
    assert shards["curve"] == pytest.approx(one["curve"], rel=1e-4)
    assert (two["base"]["loss"], shards["base"]) == pytest.approx((one["base"], one["base"]), rel=1e-6)
    for several in (two, shards):
        assert several["train_losses"] == pytest.approx(one["train_losses"], rel=1e-4)
    assert (two["n_tokens"], shards["counts"]) == (result.n_tokens, [*one["counts"][:2], 2])


class TestTwoProcesses:
    def test_hold_the_same_weights_and_numbers(self, found):
        assert found[0][0] == found[0][1]

    def test_resume_to_the_same_numbers(self, found):
        assert found[0][0]["resumed"] == found[0][0]["dropout"] | {"status": "resumed", "n_processes": [2]}

    def test_with_different_rows_are_refused(self, found):
        assert "the 2 processes of this run do not agree on its model, rows or settings" in found[0][0]["disagreement"]


class TestAnotherNumberOfProcesses:
    """Sums in another order round differently, and nothing else changes."""

    def test_two_go_on_with_what_one_has_begun(self, found):
        whole = RUNS.numbers(*RUNS.run("fft", **RUNS.SHORT))
        for resumed in (rank["from_one"] for rank in found[0].values()):
            assert (resumed["status"], resumed["n_processes"]) == ("resumed", [1, 2])
            self.assert_close(resumed, whole)

    def test_one_goes_on_with_what_two_have_begun(self, found):
        model, result = RUNS.run("fft", folder=found[1] / "for_one", **RUNS.SHORT)
        assert (result.status, result.n_processes) == ("resumed", [2, 1])
        self.assert_close(RUNS.numbers(model, result), RUNS.numbers(*RUNS.run("fft", **RUNS.SHORT)))

    def assert_close(self, resumed, whole):
        assert resumed["n_tokens"] == whole["n_tokens"]
        assert resumed["train_losses"] == pytest.approx(whole["train_losses"], rel=1e-4)
        losses = [[point["loss"] for point in numbers["curve"]] for numbers in (resumed, whole)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)


# In main memory, or with losses in chunks; in bfloat16 and with checkpointing they stay near.
WAYS = [("offloaded", "fft", 1e-4), ("chunked", "fft", 1e-4)]
WAYS += [("bf16", "fft", 0.02), ("bf16_lora", "lora", 0.02), ("bf16_base", "lora", 0.02)]


class TestShards:
    """Weights, gradients and moments divided among two processes: the training of one."""

    @pytest.mark.parametrize(("how", "plain", "rel"), WAYS)
    def test_give_it_in_other_ways_too(self, found, how, plain, rel):
        sharded = found[0][0]["sharded"]
        assert sharded[how]["curve"] == pytest.approx(sharded[plain]["curve"], rel=rel)

    def test_resume_to_the_same_numbers(self, found):
        sharded = found[0][0]["sharded"]
        assert sharded["resumed"] == sharded["adapterh"] | {"status": "resumed", "before": []}

    def test_are_read_by_another_number_of_processes(self, found):
        resumed = RUNS.on_processes(1, RUNS.resumed_shards, found[1] / "shards_for_one")[0]
        assert (resumed["status"], resumed["before"]) == ("resumed", [2])
        two = found[0][0]["sharded"]["adapterh"]
        assert resumed["curve"] == pytest.approx(two["curve"], rel=1e-4)
        assert resumed["train_losses"] == pytest.approx(two["train_losses"], rel=1e-4)

    def test_without_connected_processes_are_refused(self):
        with pytest.raises(ValueError, match="sharded over connected processes; start them with torchrun"):
            RUNS.run("fft", is_sharded=True)


class TestRunsOfTwoProcesses:
    """From base to record: the first process writes, and what it writes is what one process alone would have."""

    def test_leave_one_record_and_one_model_each(self, found, tmp_path):
        together = {record.method: record for record in load_folder(found[1] / "runs")}
        assert together.keys() == {"fft", "ia3"}
        assert not (found[1] / "runs" / ".work").exists()
        for spec in RUNS.tiny_specs():
            alone, record = run(spec, tmp_path / "runs", tmp_path / "cache"), together[spec.tuning.method]
            assert record.provenance.spec["n_processes"] == 2
            assert record.val_loss == pytest.approx(alone.val_loss, rel=1e-3)
            assert (record.n_tokens, record.cost.flop) == (alone.n_tokens, alone.cost.flop)
            caches = found[1] / "cache", tmp_path / "cache"
            weights = [dict(load_tuned(spec, cache)[0].named_parameters()) for cache in caches]
            torch.testing.assert_close(*weights, atol=1e-3, rtol=1e-5)


def test_the_loop_itself_refuses_a_launch_that_does_not_connect(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="WORLD_SIZE announces 2 processes, but accelerate connected 1 "):
        RUNS.run("fft")


class TestCheckLaunch:
    @pytest.mark.parametrize(
        ("environment", "n_processes", "distributed_type"),
        [
            ({}, 1, "NO"),
            ({"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}, 1, "MULTI_GPU"),
            ({"WORLD_SIZE": "2", "RANK": "1", "LOCAL_WORLD_SIZE": "2"}, 2, "MULTI_CPU"),
            ({"WORLD_SIZE": "8", "RANK": "5", "LOCAL_WORLD_SIZE": "4"}, 8, "MULTI_GPU"),
            ({"PMI_SIZE": "2", "MASTER_ADDR": "node", "ACCELERATE_MIXED_PRECISION": "no"}, 2, "MULTI_CPU"),
            # Cluster scripts set an address for later; only accelerate's launcher says with it that it was told more.
            ({"MASTER_ADDR": "node"}, 1, "NO"),
            ({"WORLD_SIZE": "", "ACCELERATE_USE_FSDP": "false"}, 1, "NO"),
        ],
    )
    def test_lets_sound_launches_pass(self, environment, n_processes, distributed_type):
        check_launch(environment, n_processes, distributed_type)

    @pytest.mark.parametrize(
        ("environment", "n_processes", "distributed_type", "message"),
        [
            ({"OMPI_COMM_WORLD_SIZE": "4"}, 1, "NO", "OMPI_COMM_WORLD_SIZE announces 4 processes"),
            ({"LOCAL_WORLD_SIZE": "2"}, 1, "NO", "LOCAL_WORLD_SIZE announces 2 processes"),
            ({"WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}, 4, "MULTI_GPU", "accelerate connected 4 "),
            ({"LOCAL_RANK": "1"}, 1, "NO", "LOCAL_RANK is 1, so this is not the only one"),
            # What accelerate's launcher leaves where it was told more than one on CPUs, and starts one.
            ({"MASTER_ADDR": "node", "ACCELERATE_MIXED_PRECISION": "no"}, 1, "NO", "more than one .it set MASTER_ADDR"),
            ({"ACCELERATE_USE_FSDP": "true", "WORLD_SIZE": "2"}, 2, "MULTI_CPU", "not support ACCELERATE_USE_FSDP"),
            ({"ACCELERATE_USE_FSDP": "true"}, 1, "FSDP", "the training loop does not support ACCELERATE_USE_FSDP"),
            ({}, 1, "DEEPSPEED", "the training loop does not support DEEPSPEED"),
        ],
    )
    def test_refuses_the_rest(self, environment, n_processes, distributed_type, message):
        with pytest.raises(ValueError, match=message):
            check_launch(environment, n_processes, distributed_type)
