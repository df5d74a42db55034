"""A model at the suite: its answers, a record with its scores, the same again, and what an interruption leaves."""

from unittest.mock import Mock

import numpy as np
import pytest
import tiny_grid as TINY
import torch

from astraios_analysis.records.frame import load
from astraios_analysis.scores.bootstrap import primary_score
from astraios_analysis.scores.models import intervals_over_seeds
from training.corpus.items import NO, YES, Document
from training.corpus.rows import END_ID, encode_context
from training.corpus.settings import TASKS
from training.grid import run as run_module
from training.grid.bases import load_base
from training.grid.rows import run_corpus
from training.grid.run import rescore, run
from training.published.measures import Part, Report, make_counts
from training.published.writing import NOTES, with_published
from training.spec.files import record_path, run_state, work_folder
from training.suite import renewal
from training.suite.answers import ModelRespondent
from training.suite.problems import answer_text, context
from training.suite.request import MEASURE_NAMES, Scoring, missing_measures

pytestmark = pytest.mark.sandbox

FFT, PTUNING = (spec for spec in TINY.tiny_grid().runs() if spec.tuning.method in ("fft", "ptuning"))
# The cheapest of each kind: programs, questions, changed prompts, security.
FEW = Scoring(("synthesis", "defect", "robust_format", "security", "losses"))


@pytest.fixture(scope="module", autouse=True)
def few_problems():
    """Score on few problems."""
    run_corpus.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.grid.rows.EmbeddedCorpus", TINY.FewProblems)
        yield
    run_corpus.cache_clear()


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def runs(tmp_path_factory, cache):
    folder = tmp_path_factory.mktemp("runs")
    run(FFT, folder, cache, scoring=FEW)
    return folder


@pytest.fixture
def model(cache):
    base = load_base(FFT, cache)
    return base.model.eval(), base.tokenizer


def measured(record):
    return record.model_dump(exclude={"cost", "provenance"})


def test_a_record_has_its_scores_and_says_how_they_were_got(runs):
    record = load(record_path(runs, FFT.run_id))
    assert {score.dataset for score in record.scores} == {f"embedded_{name}" for name in FEW.measures[:-1]}
    for losses in (record.base_task_losses, record.task_losses):
        assert tuple(losses) == TASKS
        assert all(0 < found.stderr < found.loss and found.n_targets > 200 for found in losses.values())
    # Six steps of full fine-tuning on the instructions.
    assert all(record.task_losses[task].loss < record.base_task_losses[task].loss for task in TASKS)
    assert record.provenance.sandbox in ("bubblewrap", "landlock+seccomp")
    notes = record.provenance.spec[NOTES]
    assert tuple(notes) == FEW.measures
    assert all(note["suite_version"] == 2 and note["seconds"] > 0 for note in notes.values())
    assert notes["security"]["versions"]["bandit"]
    assert primary_score(record, "embedded_defect", ("accuracy", "likelihood")).n_items == TINY.N_PROBLEMS
    intervals = intervals_over_seeds([record])
    assert intervals.loc[intervals["metric"] == "accuracy", "lower"].notna().all()
    assert [path.name for path in runs.iterdir()] == [f"{FFT.run_id}.json"]


def test_measures_of_the_suite_and_of_the_study_keep_each_others_notes(runs):
    record = load(record_path(runs, FFT.run_id))
    part = Part({"overall_accuracy": 0.5}, {"overall_accuracy": 0.1}, make_counts([1, 1], [0, 1]))
    report = Report("defect_detection", "c", "overall_accuracy", part)
    both = with_published(record, report, "zero_shot", {})
    # No program was run for these answers; those of the suite still were, and in this.
    assert both.provenance.sandbox == record.provenance.sandbox
    note = {**record.provenance.spec[NOTES]["defect"], "sandbox": "unsafe"}
    again = renewal.with_scores(both, renewal.Taken("fix", (), note))
    assert tuple(again.provenance.spec[NOTES]) == ("synthesis", "fix", *FEW.measures[1:], "defect_detection")
    assert again.provenance.sandbox == f"{record.provenance.sandbox}, unsafe"


def test_missing_measures_are_those_without_a_note_or_of_another_version(runs, monkeypatch):
    record = load(record_path(runs, FFT.run_id))
    assert missing_measures(record, FEW) == ()
    assert missing_measures(record, Scoring()) == tuple(name for name in MEASURE_NAMES if name not in FEW.measures)
    assert missing_measures(record, Scoring(("security",), force=True)) == ("security",)
    monkeypatch.setattr("training.suite.request.SUITE_VERSION", 3)
    assert missing_measures(record, FEW) == FEW.measures


def test_interrupted_scoring_goes_on_without_training_or_repeating(runs, cache, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(renewal, "MEASURES", {**renewal.MEASURES, "defect": Mock(side_effect=KeyboardInterrupt)})
        with pytest.raises(KeyboardInterrupt):
            run(FFT, tmp_path, cache, scoring=FEW)
    assert not record_path(tmp_path, FFT.run_id).exists()
    assert run_state(tmp_path, FFT.run_id).state == "partial"
    noted = {name: Mock(wraps=take) for name, take in renewal.MEASURES.items()}
    monkeypatch.setattr(renewal, "MEASURES", noted)
    monkeypatch.setattr("training.loop.train._Loop._step", lambda *_: pytest.fail("trained again"))
    record = run(FFT, tmp_path, cache, scoring=FEW)
    assert [name for name, take in noted.items() if take.called] == ["defect", "robust_format", "security"]
    assert all(take.call_count <= 1 for take in noted.values())
    assert record.task_losses
    assert measured(record) == measured(load(record_path(runs, FFT.run_id)))
    assert not work_folder(tmp_path, FFT.run_id).exists()


def test_measures_are_added_to_a_finished_record_without_training(runs, cache, tmp_path, monkeypatch):
    run(FFT, tmp_path, cache)
    assert load(record_path(tmp_path, FFT.run_id)).scores == ()
    monkeypatch.setattr(run_module, "train", lambda *_, **__: pytest.fail("trained again"))
    record = rescore(FFT, tmp_path, cache, Scoring(("security", "synthesis")))
    assert record == load(record_path(tmp_path, FFT.run_id))
    assert tuple(record.provenance.spec[NOTES]) == ("synthesis", "security")
    whole = rescore(FFT, tmp_path, cache, FEW)
    assert measured(whole) == measured(load(record_path(runs, FFT.run_id)))
    # What is there is not taken again, and then the file is left as it is.
    before = record_path(tmp_path, FFT.run_id).read_bytes()
    monkeypatch.setattr(run_module, "load_tuned", lambda *_: pytest.fail("a complete record needs no model"))
    rescore(FFT, tmp_path, cache, FEW)
    assert record_path(tmp_path, FFT.run_id).read_bytes() == before


def test_a_run_without_a_record_is_not_scored(cache, tmp_path):
    with pytest.raises(ValueError, match=r"has no record in .*; train it first, which scores it too"):
        rescore(PTUNING, tmp_path, cache, FEW)


def test_likelihoods_are_those_of_the_answers_tokens(model, problems):
    net, tokenizer = model
    prompts = [item.prompt for item in problems["clone"].headline[:7]]
    asked = [Document(context(prompt), answer_text(word)) for prompt in prompts for word in (YES, NO)]
    found, counts = ModelRespondent(net, tokenizer).likelihoods(asked, is_ended=False)
    assert set(counts) == {1}
    # The end of the text is one more token.
    assert set(ModelRespondent(net, tokenizer).likelihoods(asked, is_ended=True)[1]) == {2}
    found = found.reshape(-1, 2)
    for row, prompt in zip(found, prompts, strict=True):
        tokens = encode_context(tokenizer, context(prompt))
        with torch.no_grad():
            logits = net(input_ids=torch.tensor([tokens])).logits[0, -1].double().log_softmax(-1)
        wanted = [logits[encode_context(tokenizer, answer_text(word))].item() for word in (YES, NO)]
        np.testing.assert_allclose(row, wanted, atol=1e-4)


def test_answers_are_greedy_and_end_with_the_text(model, problems):
    net, tokenizer = model
    item = problems["security"].headline[0]
    (text,) = ModelRespondent(net, tokenizer).write([item.prompt], [item.reference])
    tokens = encode_context(tokenizer, context(item.prompt))
    longest = len(encode_context(tokenizer, answer_text(item.reference))) + 8
    written = []
    with torch.no_grad():
        while len(written) < longest:
            written.append(net(input_ids=torch.tensor([tokens + written])).logits[0, -1].argmax().item())
            if written[-1] == END_ID:
                break
    assert text == tokenizer.decode([token for token in written if token != END_ID]).removeprefix(" ")


def test_equal_prompts_are_answered_once_and_alike(model, problems):
    prompts = [item.prompt for item in problems["security"].headline[:3]]
    respondent = ModelRespondent(*model)
    once = respondent.write(prompts, ["def f(x):"])
    assert respondent.write([*prompts, *prompts], ["def f(x):"]) == once * 2
