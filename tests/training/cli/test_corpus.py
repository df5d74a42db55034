import functools
import json

import pytest

from training.corpus.embedded import EmbeddedCorpus
from training.corpus.statistics import corpus_statistics

KEYS = [
    "task", "id", "language", "split", "prompt", "reference", "tests", "n_ops", "seen", "choices", "details", "text",
]  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def built_once():
    """Each corpus that the commands of these tests build."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.cli.corpus.EmbeddedCorpus", functools.cache(EmbeddedCorpus))
        yield


@pytest.fixture
def printed(told):
    return lambda *arguments: told("corpus", *arguments).out


def test_examples_are_printed(printed):
    text = printed("--show", "5")
    assert text.count("--- ") == 5
    assert text.count("Question: ") == 5
    assert printed() == text
    assert printed("--seed", "1") != text


def test_json_is_all_there_is_on_standard_output(printed):
    rows = json.loads(printed("--show", "4", "--task", "fix", "--split", "validation", "--json"))
    assert [list(row) for row in rows] == [KEYS] * 4
    assert {(row["task"], row["split"]) for row in rows} == {("fix", "validation")}
    assert rows[0]["text"] == f"Question: {rows[0]['prompt']}\n\nAnswer: {rows[0]['reference']}"


def test_documented_functions_and_problems(printed):
    (row,) = json.loads(printed("--show", "1", "--task", "completion", "--json"))
    assert row["text"] == row["prompt"] + row["reference"]
    rows = json.loads(printed("--problems", "--task", "synthesis", "--show", "300", "--json"))
    assert len(rows) == 224
    assert all(row["tests"] and row["split"] == "test" for row in rows)
    assert "test: " in printed("--problems", "--task", "synthesis", "--show", "1")


def test_the_corpus_of_a_preset(printed):
    rows = json.loads(printed("--preset", "gpu", "--show", "40", "--json"))
    assert 2 in {row["details"].get("phrasing") for row in rows}


def test_statistics(printed, corpus, monkeypatch):
    # Programs that are drawn at random, to see how many pass by chance.
    monkeypatch.setattr("training.corpus.statistics.random_pass_rate.__defaults__", (50,))
    found = corpus_statistics(corpus, sample=60)
    assert found["corpus"] == corpus.settings.label
    assert found["overlap"]["train-test"] == {"keys": 0, "fingerprints": 0, "texts": 0}
    assert found["vocabulary"]["used"] <= found["vocabulary"]["tokens"]
    assert found["streams"]["instructions"]["documents"] == 60
    synthesis = found["problems"]["test"]["synthesis"]
    assert (synthesis["headline"], synthesis["seen"], synthesis["n_ops"]) == (200, 24, {2: 50, 3: 75, 4: 75})
    assert 0 <= synthesis["random_program_pass_rate"] < 0.01
    assert found["problems"]["test"]["clone"]["yes_share"] == 0.5
    monkeypatch.setattr("training.cli.corpus.corpus_statistics", lambda *_: found)
    assert json.loads(printed("--statistics", "--json"))["corpus"] == corpus.settings.label
    assert "  train-test: keys 0, fingerprints 0, texts 0\n" in printed("--statistics")
