import math

import loop_runs as RUNS
import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from astraios_analysis.records.frame import METHODS
from training.loop import validation
from training.loop.batches import IGNORED, RowSet
from training.loop.validation import Validator, count_virtual_tokens, mean_with_error, token_losses


def row_set(rows):
    return RowSet(rows, "validation", "documents", max_length=RUNS.LENGTH, vocab_size=RUNS.VOCABULARY)


def all_rows(rows):
    return row_set(rows).batch(range(len(rows)))


def score(model, rows, batch_size=4):
    return Validator(row_set(rows), batch_size, Accelerator(cpu=True)).score(model)


@pytest.fixture
def rows():
    return RUNS.token_rows(9, 7)


class TestTokenLosses:
    def test_mean_equals_the_models_own_loss(self, rows):
        """For a model without virtual tokens, transformers' loss is the mean over the same tokens."""
        model = RUNS.tuned_model("lora").eval()
        batch = all_rows(rows)
        labels = batch.tokens.clone()
        labels[:, 1:] = batch.targets
        with torch.no_grad():
            expected = model(input_ids=batch.tokens, labels=labels).loss.item()
        assert score(model, rows).loss == pytest.approx(expected, rel=1e-6)

    def test_with_the_adapter_disabled_equal_those_of_the_base_model(self, rows):
        model = RUNS.tuned_model("ptuning").eval()
        tuned = score(model, rows)
        with model.disable_adapter():
            assert count_virtual_tokens(model) == 0
            disabled = score(model, rows)
        assert disabled.loss == score(model.get_base_model(), rows).loss
        assert disabled.loss != tuned.loss

    def test_leave_out_the_token_that_ptuning_scores_itself(self, rows):
        model = RUNS.tuned_model("ptuning").eval()
        tokens = torch.tensor([rows[0][0]])
        with torch.no_grad():
            own = model(input_ids=tokens, labels=tokens)
            ours = token_losses(model, all_rows(rows[:1]))
        first = nn.functional.cross_entropy(own.logits[:, 4], tokens[:, 0])
        n = tokens.shape[1]
        assert own.loss.item() * n == pytest.approx(ours.sum().item() + first.item(), rel=1e-5)

    @pytest.mark.parametrize("method", METHODS)
    def test_are_of_the_same_tokens_for_every_method_and_do_not_depend_on_padding(self, method, rows):
        model, batch = RUNS.tuned_model(method).eval(), all_rows(rows)
        with torch.no_grad():
            together = token_losses(model, batch)
            assert torch.equal(together > 0, batch.targets != IGNORED)
            assert int((together > 0).sum()) == batch.n_targets == sum(len(tokens) - 1 for tokens, _ in rows)
            for place, row in enumerate(rows):
                alone = token_losses(model, all_rows([row]))[0]
                torch.testing.assert_close(together[place, : len(alone)], alone, atol=2e-6, rtol=2e-6)

    @pytest.mark.parametrize("method", METHODS)
    def test_in_chunks_are_those_of_whole_logits(self, method, rows, monkeypatch):
        model = RUNS.tuned_model(method, **({"dropout": 0.0} if method == "lora" else {})).train()
        masked = [(tokens, [place > 4 for place in range(len(tokens))]) for tokens, _ in rows]
        found, n_logits = [], []
        watch = model.get_output_embeddings().register_forward_hook(lambda head, given, out: n_logits.append(out.shape))
        for chunk in (validation.CHUNK_LOGITS, 16 * RUNS.VOCABULARY):
            monkeypatch.setattr(validation, "CHUNK_LOGITS", chunk)
            model.zero_grad()
            losses = token_losses(model, all_rows(masked))
            losses.sum().backward()
            gradients = {n: w.grad.clone() for n, w in model.named_parameters() if w.grad is not None}
            found.append((losses.detach(), gradients))
        watch.remove()
        (whole, expected), (chunked, gradients) = found
        # What came out of the head the second time were losses.
        assert [len(shape) for shape in n_logits] == [3, 1]
        assert (chunked - whole).abs().max() <= 1e-6
        torch.testing.assert_close(gradients, expected, atol=1e-5, rtol=1e-4)

    def test_of_a_model_that_changes_its_logits_are_its_own(self, base_of, monkeypatch):
        model, rows = base_of("gemma2"), RUNS.token_rows(3, 7)
        assert model.config.final_logit_softcapping
        with torch.no_grad():
            whole = token_losses(model, all_rows(rows))
            monkeypatch.setattr(validation, "CHUNK_LOGITS", 16)
            assert torch.equal(token_losses(model, all_rows(rows)), whole)


class TestValidator:
    def test_does_not_depend_on_the_batch(self, rows):
        model = RUNS.tuned_model("ptuning")
        scored = [score(model, rows, batch_size) for batch_size in (1, 4, 9)]
        for other in scored[1:]:
            assert other.loss == pytest.approx(scored[0].loss, rel=1e-6)
            assert other.stderr == pytest.approx(scored[0].stderr, rel=1e-5)

    def test_leaves_the_mode_and_takes_no_random_numbers(self, rows):
        model = RUNS.tuned_model("lora", base_dropout=0.5).train()
        state = torch.get_rng_state()
        assert score(model, rows) == score(model, rows)
        assert model.training
        assert torch.equal(torch.get_rng_state(), state)


class TestMeanWithError:
    def test_of_rows_of_one_length_is_that_of_their_means(self):
        rng = np.random.default_rng(0)
        means = rng.normal(2, 0.3, 50)
        scored = mean_with_error(means * 10, np.full(50, 10))
        assert scored.loss == pytest.approx(means.mean())
        assert scored.stderr == pytest.approx(means.std(ddof=1) / math.sqrt(50))
        assert (scored.n_targets, scored.n_rows) == (500, 50)

    def test_has_the_spread_that_resampled_rows_have(self):
        rng = np.random.default_rng(1)
        counts = rng.integers(5, 60, 200)
        sums = counts * rng.normal(2, 0.4, 200) + rng.normal(0, 3, 200)
        picks = rng.integers(0, 200, (4000, 200))
        spread = (sums[picks].sum(1) / counts[picks].sum(1)).std()
        assert mean_with_error(sums, counts).stderr == pytest.approx(spread, rel=0.05)

    def test_leaves_out_rows_without_scored_tokens_and_has_no_error_for_one(self):
        assert mean_with_error([4.0, 0.0, 2.0], [2, 0, 2]) == mean_with_error([4.0, 2.0], [2, 2])
        assert mean_with_error([3.0, 0.0], [2, 0]).stderr is None

    def test_needs_a_token(self):
        with pytest.raises(ValueError, match="no token is scored; set loss_mask"):
            mean_with_error([0.0], [0])
