import json
import os
import signal
from functools import partial

import numpy as np
import pytest
import tiny_grid as TINY
import torch

from training.corpus.settings import CorpusSettings
from training.grid import bases
from training.grid.bases import base_digest, load_base, pretrain
from training.grid.rows import run_corpus, stream_rows
from training.loop.batches import RowSet
from training.loop.validation import mean_with_error, token_losses
from training.spec.run import LoopSettings, RunSpec, Schedule


def tiny(method="fft", **changes):
    return TINY.tiny_grid(**changes).runs(methods=[method])[0]


def changed(spec, **changes):
    return RunSpec(**{**dict(spec), **changes})


def resized(spec, **changes):
    return changed(spec, size=type(spec.size)(**{**dict(spec.size), **changes}))


def weights(model):
    return dict(model.named_parameters())


assert_same_weights = partial(torch.testing.assert_close, rtol=0, atol=0)


@pytest.fixture
def folder(trained):
    return pretrain(tiny(), trained.cache)


def test_a_base_is_trained_once_for_all_methods(trained, folder, monkeypatch):
    monkeypatch.setattr(bases, "train", lambda *_, **__: pytest.fail("trained again"))
    fft, lora = (load_base(tiny(method), trained.cache) for method in ("fft", "lora"))
    assert_same_weights(weights(fft.model), weights(lora.model))
    assert fft.note["digest"] == folder.name == base_digest(tiny("ptuning"))
    assert np.isfinite(fft.note["outcome"]["val_loss"])


def test_digest_covers_what_decides_the_weights_and_nothing_else():
    spec = tiny()
    longer = spec.pretraining.model_copy(update={"steps": 7})
    assert base_digest(changed(spec, schedule=longer, grid="other")) == base_digest(spec)
    assert base_digest(resized(spec, name="renamed")) == base_digest(spec)
    changes = [{"pretraining": longer}, {"seed": 1}, {"data": "text"}, {"n_validation": 9}]
    others = [changed(spec, **change) for change in [*changes, {"pretraining_instructions": 0.2}]]
    others += [resized(spec, d_ff=32), tiny(loop=LoopSettings(layout="documents", micro_batch=2))]
    assert len({base_digest(other) for other in (spec, *others)}) == len(others) + 1


def test_folder_holds_a_model_without_dropout_and_its_tokenizer(folder):
    config = json.loads((folder / "config.json").read_text())
    assert [config[name] for name in ("attn_pdrop", "embd_pdrop", "resid_pdrop")] == [0, 0, 0]
    assert (folder / "tokenizer.json").read_bytes() == run_corpus(tiny().data).tokenizer.to_str(pretty=True).encode()
    assert not [*folder.parent.glob(".training-*"), *folder.parent.glob(".writing-*")]


def test_seed_decides_the_initial_weights():
    one, again, other = (weights(bases._initial_model(tiny(seeds=(seed,)))) for seed in (0, 0, 1))
    assert_same_weights(one, again)
    name = next(iter(one))
    assert not torch.equal(one[name], other[name])


def pretrain_and_log(cache, log, barrier):
    torch.set_num_threads(1)
    train = bases.train

    def logged(*args, **kwargs):
        with log.open("a") as file:
            file.write("trained\n")
        return train(*args, **kwargs)

    bases.train = logged
    barrier.wait(600)
    pretrain(tiny(), cache)


def test_two_processes_at_once_train_a_base_once(tmp_path, folder):
    run_corpus(tiny().data)
    barrier, log = TINY.FORK.Barrier(2), tmp_path / "log"
    assert TINY.in_processes(pretrain_and_log, [(tmp_path, log, barrier)] * 2) == [0, 0]
    assert log.read_text() == "trained\n"


def pretrain_and_die(cache):
    with pytest.MonkeyPatch.context() as patch:
        TINY.stop_at(patch, 5, lambda: os.kill(os.getpid(), signal.SIGKILL))
        pretrain(tiny(), cache, checkpoint_every=2)


def test_a_killed_training_goes_on_to_the_same_weights(tmp_path, trained, folder, monkeypatch):
    assert TINY.in_a_process(pretrain_and_die, tmp_path) == -signal.SIGKILL
    assert not (tmp_path / "bases" / folder.name).exists()
    train, results = bases.train, []
    monkeypatch.setattr(bases, "train", lambda *a, **k: results.append(train(*a, **k)) or results[-1])
    resumed = load_base(tiny(), tmp_path)
    assert [result.status for result in results] == ["resumed"]
    assert_same_weights(weights(resumed.model), weights(load_base(tiny(), trained.cache).model))


def test_a_local_folder_takes_the_place_of_pre_training(trained, folder):
    spec = resized(tiny(pretraining=None), pretrained=str(folder))
    loaded = load_base(spec, trained.cache)
    assert_same_weights(weights(loaded.model), weights(load_base(tiny(), trained.cache).model))
    assert loaded.note["pretrained"] == str(folder)
    with pytest.raises(ValueError, match="has d_model 16, and size '16x1' says 32; correct the size"):
        load_base(resized(spec, d_model=32), trained.cache)


def test_a_damaged_base_is_named(tmp_path, folder):
    copy = tmp_path / "bases" / folder.name
    copy.mkdir(parents=True)
    (copy / "base.json").write_text("{}")
    with pytest.raises(ValueError, match=f"{folder.name} cannot be read: .*; delete it to train it anew"):
        load_base(tiny(), tmp_path)


def shift_losses(offsets, cache):
    """Losses of a trained base on validation rows that start at position 0 and at 30, and the error of the first."""
    learning = {"learning_rate": 1.5e-2, "warmup_steps": 10, "validate_every": 60}
    schedule = Schedule(steps=60, global_batch=16, sequence_length=290, **learning)
    loop = LoopSettings(layout="documents", micro_batch=8, position_offsets=offsets)
    spec = tiny(data=CorpusSettings(pretraining_mixture=None).label, pretraining=schedule, loop=loop, n_validation=64)
    base, tokenizer = load_base(spec, cache), run_corpus(spec.data).tokenizer
    model = base.model.eval()
    given = stream_rows(spec, schedule, "pretraining", tokenizer).validation
    rows = RowSet(given, "validation", "documents", max_length=290, vocab_size=spec.size.vocab_size)
    counts = [rows.n_targets([row]) for row in range(len(rows))]

    @torch.no_grad()
    def loss(start):
        batch = rows.batch(range(len(rows)), dict.fromkeys(range(len(rows)), start))
        return mean_with_error(token_losses(model, batch).sum(dim=1).tolist(), counts)

    assert loss(0).loss == pytest.approx(base.note["outcome"]["val_loss"], rel=1e-4)
    return loss(0).loss, loss(30).loss, loss(0).stderr


def test_a_base_whose_rows_started_anywhere_does_not_mind_a_shift(tmp_path):
    at_0, at_30, error = shift_losses(30, tmp_path)
    assert abs(at_30 - at_0) < 2 * error
    # Of a base that has always started at 0, the shift is most of what P-Tuning would have to make up for.
    at_0, at_30, error = shift_losses(None, tmp_path)
    assert at_30 - at_0 > 2 * error


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (tiny(pretraining=None), "size '16x1' of grid 'tiny' has neither pre-trained weights nor"),
        (resized(tiny(), vocab_size=64), r"has vocab_size 64, and the tokenizer of corpus .* has 385 tokens"),
        (tiny(data="elsewhere"), "unknown corpus 'elsewhere'; runs are trained here on embedded-"),
    ],
    ids=["neither", "narrow", "corpus"],
)
def test_what_does_not_fit_says_what_to_do(tmp_path, spec, message):
    with pytest.raises(ValueError, match=message):
        load_base(spec, tmp_path)


@pytest.fixture(scope="module")
def tokenizer():
    return run_corpus(tiny().data).tokenizer


def tokens_of(rows):
    return [row.tokens.tolist() for row in rows]


def test_validation_rows_are_the_same_for_every_seed_and_training_rows_are_not(tokenizer):
    specs = [tiny(seeds=(seed,)) for seed in (0, 1)]
    one, other = (stream_rows(spec, spec.schedule, "instructions", tokenizer) for spec in specs)
    assert len(one.training) == TINY.STEPS * 4
    assert len(one.validation) == 8
    assert tokens_of(one.validation) == tokens_of(other.validation)
    assert tokens_of(one.training) != tokens_of(other.training)
    assert all(row.loss_mask[1:].all() for row in one.training)


def test_packed_rows_are_blocks_of_the_schedules_length(tokenizer):
    spec = tiny(loop=LoopSettings())
    rows = stream_rows(spec, spec.schedule, "pretraining", tokenizer)
    assert {len(row.tokens) for row in (*rows.training, *rows.validation)} == {290}
    assert (len(rows.training), len(rows.validation)) == (24, 8)


def test_a_share_of_the_pretraining_documents_are_instructions_that_no_tuning_of_the_seed_sees(tokenizer):
    def drawn(stream, share):
        spec = tiny(pretraining_instructions=share, pretraining=tiny().pretraining.model_copy(update={"steps": 100}))
        return [tokenizer.decode(row.tokens) for row in stream_rows(spec, spec.pretraining, stream, tokenizer).training]

    texts = drawn("pretraining", 0.25)
    instructions = {text for text in texts if text.startswith("Question: ")}
    assert len(texts) == 400
    # Four standard deviations of a binomial share.
    assert abs(sum(text.startswith("Question: ") for text in texts) / 400 - 0.25) < 4 * (0.25 * 0.75 / 400) ** 0.5
    # Short security items are few, and come twice by chance.
    assert len(instructions.intersection(drawn("instructions", 0.25))) < 0.1 * len(instructions)
    assert not any("Question: " in text for text in drawn("pretraining", None))
