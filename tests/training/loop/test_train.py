import gc
import json
import math
import weakref

import loop_runs as RUNS
import pytest
import torch

from astraios_analysis.records.frame import METHODS
from training.loop.batches import TokenRows
from training.loop.flop import PeakMemory, estimate_flop
from training.loop.train import DivergedError

run = RUNS.run


def losses(result):
    return [point.loss for point in result.curve]


class TestEveryMethod:
    @pytest.fixture(scope="class")
    def base(self):
        return run("fft", schedule={"steps": 1, "warmup_steps": 0})[1].curve[0]

    @pytest.mark.parametrize("method", METHODS)
    def test_trains_from_one_base_on_the_same_tokens(self, method, base):
        """Adapters drawn at random, and P-Tuning, change the model before the first step; the base is the base."""
        before = {name: weight.clone() for name, weight in RUNS.tuned_model(method).named_parameters()}
        model, result = run(method, schedule={"steps": 5, "validate_every": 2})
        assert [point.step for point in result.curve] == [0, 2, 4, 5]
        assert all(math.isfinite(point.loss) and point.stderr > 0 for point in result.curve)
        assert result.base == base
        assert (result.curve[0] == base) is (method in ("fft", "lora", "ia3"))
        assert not model.training
        for name, weight in model.named_parameters():
            assert torch.equal(weight, before[name]) is not weight.requires_grad, name
            assert weight.grad is None

    def test_keeps_no_hold_on_the_model(self):
        model, _ = run("lora", schedule={"steps": 2}, settings={"precision": "bf16"})
        held = weakref.ref(model)
        del model
        gc.collect()
        assert held() is None

    def test_counts_what_it_saw(self):
        _, result = run("fft", schedule={"steps": 10})
        seen = RUNS.token_rows(60, 5) + RUNS.token_rows(60, 5)[:20]
        assert result.n_tokens == result.final.n_tokens == sum(len(tokens) for tokens, _ in seen)
        assert result.n_targets == sum(len(tokens) - 1 for tokens, _ in seen)
        assert result.n_rows == 80
        assert result.curve[0].n_tokens == 0
        assert len(result.train_losses) == 10
        assert result.status == "trained"
        assert result.seconds > 0


class TestNumbersDoNotDependOn:
    def test_anything_but_the_seed(self):
        runs = [RUNS.numbers(*run(model=RUNS.tuned_model("lora", base_dropout=0.1), seed=seed)) for seed in (0, 0, 1)]
        assert runs[0] == runs[1]
        assert runs[0]["curve"][0] == runs[2]["curve"][0]
        assert runs[0]["curve"][1] != runs[2]["curve"][1]

    def test_the_random_numbers_around_it(self):
        torch.manual_seed(11)
        expected = torch.rand(2)
        torch.manual_seed(11)
        run(model=RUNS.tuned_model("lora"), schedule={"steps": 2})
        assert torch.equal(torch.rand(2), expected)

    @pytest.mark.parametrize("method", ["fft", "ptuning"])
    def test_how_the_batch_is_cut(self, method):
        """The loss is normalised over the global batch: rows of unequal length weigh as many tokens as they have."""
        results = [run(method, settings={"micro_batch": size})[1] for size in (1, 2, 4, 8)]
        for other in results[1:]:
            assert losses(other) == pytest.approx(losses(results[0]), rel=1e-5)
            assert other.train_losses == pytest.approx(results[0].train_losses, rel=1e-5)

    def test_the_layout_where_every_block_is_a_document(self):
        rows = TokenRows(RUNS.token_rows(20, 5, RUNS.LENGTH), RUNS.token_rows(7, 6, RUNS.LENGTH))
        results = [run(rows=rows, settings={"layout": layout})[1] for layout in ("packed", "documents")]
        assert losses(results[0]) == losses(results[1])

    @pytest.mark.parametrize("method", ["fft", "lora", "ptuning", "adapterh"])
    def test_gradient_checkpointing(self, method):
        results = []
        for is_on in (False, True):
            model, result = run(method, settings={"gradient_checkpointing": is_on}, schedule={"steps": 4})
            assert not any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
            results.append(result)
        assert losses(results[1]) == pytest.approx(losses(results[0]), rel=1e-6)
        assert results[1].train_losses == pytest.approx(results[0].train_losses, rel=1e-6)


@pytest.mark.parametrize("method", ["fft", "lora", "ptuning", "ia3", "adapterh", "parallel"])
def test_bfloat16_is_near_float32_and_leaves_float32_weights(method):
    _, exact = run(method)
    model, result = run(method, settings={"precision": "bf16"})
    assert losses(result) == pytest.approx(losses(exact), rel=0.03)
    assert losses(result) != losses(exact)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    # Afterwards the model computes in float32 again.
    tokens = torch.arange(6)[None]
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=False):
        logits = model(input_ids=tokens).logits
    assert not torch.equal(logits, logits.bfloat16().float())


class TestDivergence:
    def test_of_the_loss_stops_the_run_and_is_marked(self, tmp_path):
        schedule = {"learning_rate": 1e30, "warmup_steps": 0}
        none = "no folder was given to mark the failure in"
        for folder, mark in ((None, none), (tmp_path, r"marked in .*failed\.json")):
            message = rf"the training loss of step 2 is nan \({mark}\); lower the learn"
            with pytest.raises(DivergedError, match=message):
                run(schedule=schedule, folder=folder)
        failure = json.loads((tmp_path / "failed.json").read_text())
        assert failure["step"] == 1
        assert failure["identity"]["schedule"]["learning_rate"] == 1e30
        with pytest.raises(ValueError, match=r"this run failed before: the training loss of step 2 is nan"):
            run(schedule=schedule, folder=tmp_path)

    @pytest.mark.parametrize("max_gradient_norm", [1.0, None])
    def test_of_a_gradient_comes_before_the_weights(self, tmp_path, max_gradient_norm):
        model, calls = RUNS.tuned_model("fft"), []

        def spoil(module, inputs, output):
            calls.extend([output] * module.training)
            if module.training and len(calls) == 2:
                output.register_hook(lambda gradient: gradient * math.inf)

        model.transformer.ln_f.register_forward_hook(spoil)
        settings = {"micro_batch": 8, "max_gradient_norm": max_gradient_norm}
        with pytest.raises(DivergedError, match=r"the gradient norm of step 2 is (nan|inf)"):
            run(model=model, folder=tmp_path, settings=settings)
        assert all(weight.isfinite().all() for weight in model.parameters())

    def test_of_the_base_model_is_found_before_training(self, tmp_path):
        model = RUNS.tuned_model("lora")
        model.get_base_model().transformer.wte.weight.data[3] = torch.nan
        with pytest.raises(DivergedError, match="the base model's validation loss is nan"):
            run(model=model, folder=tmp_path)


class TestCost:
    @pytest.mark.parametrize(
        ("method", "expected"),
        [
            ("fft", lambda n, n_base, n_updated: 6 * n * 100),
            # A frozen base saves its weights' gradients.
            ("adapterp", lambda n, n_base, n_updated: (4 * n + 2 * n_updated) * 100),
            # Virtual tokens pass through the base model.
            ("ptuning", lambda n, n_base, n_updated: 4 * n_base * (100 + 5 * 10)),
        ],
    )
    def test_operations_are_those_of_the_formula(self, method, expected):
        model = RUNS.tuned_model(method)
        n_base = sum(weight.numel() for weight in RUNS.tuned_model("fft").parameters())
        n_params = sum(weight.numel() for weight in model.parameters())
        n_updated = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
        assert estimate_flop(model, 100, 10) == expected(n_params, n_base, n_updated)

    def test_peak_memory_is_that_of_the_run_alone(self):
        memory = PeakMemory(torch.device("cpu"))
        if memory.read() is None:
            pytest.skip("this system has no peak memory that can be reset")
        before = memory.read()
        held = torch.ones(25_000_000)
        grown = memory.read()
        assert grown - before > 60_000_000
        del held
        # Linux counts pages in batches, so its numbers are near, not exact.
        assert memory.read() == pytest.approx(grown, rel=0.01)
        assert PeakMemory(torch.device("cpu")).read() < grown - 60_000_000


TOO_LONG = "sequence_length 20 and 30 virtual tokens exceed the model's 40 positions; choose .* of at most 10"
UNSCORED = [(tokens, [False] * len(tokens)) for tokens, _ in RUNS.token_rows(8, 1)]


@pytest.mark.parametrize(
    ("options", "arguments", "message"),
    [
        ({"method": "ptuning", "virtual_tokens": 30}, {}, TOO_LONG),
        ({}, {"settings": {"position_offsets": 30}}, "20 and 30 start positions exceed the model's 40 positions"),
        ({"method": "ptuning"}, {"settings": {"position_offsets": 3}}, "first positions; leave position_offsets out"),
        ({}, {"settings": {"micro_batch": 3}}, r"8 rows does not split into passes of 3 rows .* from 1, 2, 4, 8"),
        (
            {},
            {"rows": TokenRows(UNSCORED + RUNS.token_rows(8, 2), RUNS.token_rows(3, 1))},
            "no token of the 8 rows of step 1 is scored; choose a larger global_batch",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(options, arguments, message):
    with pytest.raises(ValueError, match=message):
        run(model=RUNS.tuned_model(**{"method": "fft", **options}), **arguments)


def test_weights_that_cannot_be_updated_are_refused():
    with pytest.raises(ValueError, match="no parameter requires a gradient"):
        run(model=RUNS.tuned_model("fft").requires_grad_(False))
    with pytest.raises(ValueError, match=r"updated parameter transformer\.wte\.weight is bfloat16"):
        run(model=RUNS.tuned_model("fft").bfloat16())
