"""Text from files, folders of data sets and the hub; and what is said when the hub does not give it.

Folders are read by the library itself; where the hub does not answer, a stand-in raises what the library (datasets 5.2)
was seen to raise.
"""

import gzip
import hashlib
import json
from itertools import islice
from unittest.mock import Mock

import pytest

from training.corpus.items import Example
from training.corpus.texts import HUB_TEXTS, TEXTS_VARIABLE, TextCorpus, find_text, load_jsonl
from training.spec.grids import check_corpus, fetch_corpus, preset

STUDY = preset("starcoderbase").data
HUB_NAME = HUB_TEXTS[STUDY]


def rows(n, first=0, prompt="prompt"):
    return [{prompt: f"Question {place}", "completion": f"answer {place}"} for place in range(first, first + n)]


def write(path, lines):
    """Write lines, rows among them as JSON; gzipped where the name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def drawn(corpus, seed, part, n):
    return [item.document.context for item in islice(corpus.instructions(seed, part), n)]


def test_a_file_is_divided_once_and_ordered_by_seed(tmp_path):
    path = write(tmp_path / "mine.jsonl", rows(40))
    corpus = TextCorpus("mine", path)
    assert sorted(drawn(corpus, 0, "train", 38)) == sorted(drawn(corpus, 1, "train", 38))
    assert drawn(corpus, 0, "train", 38) != drawn(corpus, 1, "train", 38)
    assert len(set(drawn(corpus, 0, "train", 38))) == 38
    # Pass after pass, each in an order of its own; what is validated on comes once.
    assert drawn(corpus, 0, "train", 76)[38:] != drawn(corpus, 0, "train", 38)
    validation = drawn(corpus, 0, "validation", 100)
    assert len(validation) == 2
    assert set(validation).isdisjoint(drawn(corpus, 0, "train", 38))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    told = {"label": "mine", "source": "mine.jsonl", "sha256": digest, "validation_share": 0.05}
    told |= {"n_examples": 40, "n_validation_examples": 2, "split_seed": 0}
    assert corpus.settings.model_dump(exclude_none=True) == told
    with pytest.raises(ValueError, match="text has no part 'test'; choose from train, validation"):
        next(corpus.instructions(0, "test"))
    with pytest.raises(ValueError, match="has 1 examples, of which 5% are kept for validation; give 20 at least"):
        TextCorpus("mine", write(path, rows(1)))


def test_what_is_trained_and_validated_on_is_counted(tmp_path, capsys):
    # Each example twice, as a file that was put together from several has them.
    corpus = TextCorpus("mine", write(tmp_path / "mine.jsonl", rows(40) + rows(40)))
    assert (corpus.settings.n_validation_examples, corpus.settings.n_validation_in_training) == (4, 4)
    assert "4 of 4 examples that 'mine' is validated on are trained on, too" in capsys.readouterr().err


def test_a_data_set_brings_the_split_it_is_validated_on(tmp_path):
    folder = tmp_path / HUB_NAME
    write(folder / "train.jsonl", rows(30))
    write(folder / "test.jsonl", rows(3, first=30))
    corpus = TextCorpus(STUDY, find_text(STUDY, {TEXTS_VARIABLE: str(tmp_path)}))
    assert set(drawn(corpus, 0, "validation", 9)) == {f"Question: Question {n}\n\nAnswer:" for n in (30, 31, 32)}
    assert len(set(drawn(corpus, 0, "train", 30))) == 30
    found = corpus.settings
    assert (found.source, found.n_examples, found.n_validation_examples) == (HUB_NAME, 33, 3)
    assert (found.validation_split, found.validation_share) == ("test", None)
    # The same text under another division is another text.
    write(folder / "test.jsonl", rows(3, first=40))
    assert TextCorpus(STUDY, folder).settings.sha256 != corpus.settings.sha256
    assert TextCorpus(STUDY, folder).settings.revision is None
    note = folder / ".cache" / "huggingface" / "download" / "train.jsonl.metadata"
    note.parent.mkdir(parents=True)
    note.write_text("c" * 40 + "\n0123\n1700000000.0\n")
    assert TextCorpus(STUDY, folder).settings.revision == "c" * 40
    # Without a split of its own, a share is kept, as of a file.
    (folder / "test.jsonl").unlink()
    assert TextCorpus(STUDY, folder).settings.n_validation_examples == 2
    (folder / "train.jsonl").rename(folder / "test.jsonl")
    with pytest.raises(ValueError, match="has no split 'train'; its splits are test: save the one you mean as JSONL"):
        TextCorpus(STUDY, folder)


def test_what_lies_nearest_is_taken(tmp_path):
    at = {TEXTS_VARIABLE: str(tmp_path)}
    assert find_text(STUDY, {}) == find_text(STUDY, at) == HUB_NAME == "bigcode/guanaco-commits"
    assert find_text("mine", {}) is find_text("mine", at) is None
    for name in (STUDY, "guanaco-commits", HUB_NAME):
        (tmp_path / name).mkdir(parents=True)
        assert find_text(STUDY, at) == tmp_path / name
    for name in (f"{STUDY}.jsonl.gz", f"{STUDY}.jsonl"):
        (tmp_path / name).touch()
        assert find_text(STUDY, at) == tmp_path / name
    with pytest.raises(ValueError, match=r"ASTRAIOS_TEXTS is '/no/such', which is no folder; name one with texts"):
        find_text(STUDY, {TEXTS_VARIABLE: "/no/such"})


def not_found(message):
    return type("DatasetNotFoundError", (FileNotFoundError,), {})(f"Dataset '{HUB_NAME}' {message}")


def unreachable(why):
    return ConnectionError(f"Couldn't reach '{HUB_NAME}' on the Hub ({why})")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            not_found("is a gated dataset on the Hub. You must be authenticated to access it."),
            "it is gated; accept its licence at https://huggingface.co/datasets/bigcode/guanaco-commits, then run",
        ),
        (
            not_found("doesn't exist on the Hub or cannot be accessed."),
            "the hub has no such public data set; correct the name, or run hf auth login",
        ),
        (unreachable("OfflineModeIsEnabled"), r"the hub is switched off \(HF_HUB_OFFLINE\) and the data set is not in"),
        (unreachable("LocalEntryNotFoundError"), "the hub cannot be reached from here; where there is a network, run"),
        (type("ReadTimeout", (type("TransportError", (Exception,), {}),), {})(), "the hub cannot be reached from here"),
        (RuntimeError("its own words\nand more"), "its own words; give a folder with all of its files, or run hf"),
    ],
    ids=["gated", "no_such_name", "offline", "unreachable", "timeout", "other"],
)
def test_what_the_hub_refuses_is_said_with_what_to_do(monkeypatch, error, message):
    monkeypatch.setattr("datasets.load_dataset", Mock(side_effect=error))
    said = f"cannot read data set 'bigcode/guanaco-commits' from the hub: {message}"
    with pytest.raises(ValueError, match=said) as caught:
        TextCorpus(STUDY, HUB_NAME)
    fetch = "hf download bigcode/guanaco-commits --repo-type dataset --local-dir DIR/bigcode/guanaco-commits"
    assert fetch in str(caught.value)
    assert "ASTRAIOS_TEXTS=DIR" in str(caught.value)


def test_the_hub_is_asked_before_anything_starts(monkeypatch):
    monkeypatch.delenv(TEXTS_VARIABLE, raising=False)
    monkeypatch.setattr("datasets.load_dataset", Mock(side_effect=unreachable("LocalEntryNotFoundError")))
    check_corpus(STUDY)
    with pytest.raises(ValueError, match="the hub cannot be reached"):
        fetch_corpus(STUDY)
    fetch_corpus(preset("smoke").data)


def test_folders_that_are_not_whole_are_named(tmp_path, monkeypatch):
    folder = tmp_path / "guanaco-commits"
    folder.mkdir()
    with pytest.raises(ValueError, match=r"EmptyDatasetError: .* any data files; put all of its files there"):
        TextCorpus(STUDY, folder)
    write(folder / "train.jsonl", rows(20, prompt="instruction"))
    with pytest.raises(ValueError, match="row 0: no column 'prompt'; its columns are instruction, completion"):
        TextCorpus(STUDY, folder)
    part = folder / ".cache" / "huggingface" / "download" / "data" / "x.incomplete"
    part.parent.mkdir(parents=True)
    part.touch()
    with pytest.raises(
        ValueError, match=r"data set in folder '.*guanaco-commits': .* its download was broken off; put"
    ):
        TextCorpus(STUDY, folder)
    monkeypatch.setattr("datasets.load_dataset", Mock(return_value={"train": []}))
    with pytest.raises(ValueError, match="has no rows in split 'train'; choose another split"):
        TextCorpus(STUDY, HUB_NAME)


def test_the_library_itself_does_not_reach_the_hub(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"from the hub: the hub (is switched off|cannot be reached)"):
        TextCorpus(STUDY, "nobody/none")


GOOD = {"prompt": "Say hé", "completion": "hé"}


@pytest.mark.parametrize("name", ["examples.jsonl", "examples.jsonl.gz"])
def test_examples_come_in_the_order_of_the_file(tmp_path, name):
    path = write(tmp_path / name, ["\ufeff", GOOD, "\n", {"completion": "b", "prompt": "", "extra": 1}])
    assert load_jsonl(path) == [Example("Say hé", "hé"), Example("", "b")]
    assert load_jsonl(str(path)) == load_jsonl(path)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([GOOD, '{"prompt": "a", "comp\n'], r"examples\.jsonl: line 2: is not valid JSON"),
        ([GOOD, "\n", {"prompt": "a"}], r"line 3: no column 'completion'; its columns are prompt"),
        ([{}], r"line 1: no column 'prompt'; its columns are none"),
        ([{"prompt": 3, "completion": "b"}], r"line 1: column 'prompt' holds int; it must be text"),
        ([{"prompt": "a", "completion": None}], r"line 1: column 'completion' holds NoneType; it must be text"),
        ([{"prompt": "a", "completion": ""}], r"line 1: column 'completion' is empty; .* leave the line out"),
    ],
)
def test_wrong_lines_are_named(tmp_path, lines, message):
    with pytest.raises(ValueError, match=message):
        load_jsonl(write(tmp_path / "examples.jsonl", lines))
