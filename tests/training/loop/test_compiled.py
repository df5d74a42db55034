"""Blocks computed by kernels of torch.compile: the losses and the checkpoints of plain blocks, or a reason."""

import loop_runs as RUNS
import pytest
import torch

run = RUNS.run


def losses(result):
    return [point.loss for point in result.curve]


@pytest.fixture
def quick(monkeypatch):
    """Kernels traced and differentiated, and left to torch's own in the end: no compiler, minutes less."""
    compile_function = torch.compile

    def compile_quickly(function, *, dynamic=None, options=None):
        assert options in (None, {"fallback_random": True})
        return compile_function(function, dynamic=dynamic, backend="aot_eager")

    monkeypatch.setattr(torch, "compile", compile_quickly)


def test_compiled_blocks_train_as_plain_ones_and_leave_a_plain_model(quick, tmp_path):
    """Rows of many lengths pass, dropout draws the same noise, and a checkpoint is one of plain blocks."""
    _, plain = run("lora", schedule={"steps": 4})
    torch._dynamo.utils.counters.clear()
    model, result = run("lora", settings={"compile": True}, schedule={"steps": 4}, folder=tmp_path)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    assert losses(result) == pytest.approx(losses(plain), abs=1e-4)
    assert result.train_losses == pytest.approx(plain.train_losses, abs=1e-4)
    plain_names = [name for name, _ in RUNS.tuned_model("lora").named_parameters()]
    assert [name for name, _ in model.named_parameters()] == plain_names
    assert all(module._compiled_call_impl is None for module in model.modules())
    _, again = run("lora", settings={"compile": True}, schedule={"steps": 4}, folder=tmp_path)
    assert (again.status, losses(again)) == ("loaded", losses(result))
    with pytest.raises(ValueError, match=r"settings\.compile is true there and null here"):
        run("lora", schedule={"steps": 4}, folder=tmp_path)


def test_compiled_blocks_are_refused_where_nothing_compiles_them(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no C++ compiler found\nmore")

    monkeypatch.setattr(torch, "compile", fail)
    expected = r"does not work here \(no C\+\+ compiler found\); install what compiles for cpu"
    with pytest.raises(ValueError, match=expected):
        run(settings={"compile": True}, schedule={"steps": 2})


def test_compiled_blocks_are_not_sharded():
    with pytest.raises(ValueError, match="sharded are not compiled here; leave out --compile or --shard"):
        run(settings={"compile": True}, is_sharded=True)
