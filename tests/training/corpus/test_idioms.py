from collections import Counter
from itertools import islice

import numpy as np
import pytest

from training.corpus.embedded import EmbeddedCorpus
from training.corpus.idioms import NOUNS, SCENARIOS, VALUES, draw_idiom
from training.corpus.settings import CorpusSettings, Mixture


def test_frequencies_are_those_of_the_settings():
    settings, rng = CorpusSettings(), np.random.default_rng(0)
    for trusted, share in ((True, 0.8), (False, 0.2)):
        drawn = [draw_idiom(settings, "train", trusted, rng) for _ in range(600)]
        assert np.mean([item.details["is_unsafe"] for item in drawn]) == pytest.approx(share, abs=0.05)
        assert all(item.reference == item.choices[item.details["is_unsafe"]] for item in drawn)
        by_scenario = Counter(item.details["scenario"] for item in drawn)
        assert min(by_scenario.values()) > 40


def test_prompts_say_where_the_input_comes_from():
    item = draw_idiom(CorpusSettings(), "train", False, np.random.default_rng(0))
    assert item.details["origin"] == "untrusted"
    assert item.prompt.startswith(f"Write a Python function {item.choices[0].split('def ')[1].split('(')[0]} that ")
    assert item.prompt.endswith((" comes from a visitor.", " comes from a web form.", " comes from an unknown sender."))


def test_names_of_the_splits_are_disjoint_and_all_used():
    settings = CorpusSettings()
    names = (f"{s.name}:{noun}:{value}" for s in SCENARIOS for noun in NOUNS for value in VALUES)
    splits = Counter(map(settings.split_of, names))
    assert set(splits) == {"train", "validation", "test"}
    assert splits["train"] / splits.total() == pytest.approx(0.6, abs=0.06)


def test_streams_alternate_the_origin():
    only = Mixture(synthesis=0.0, fix=0.0, explain=0.0, clone=0.0, defect=0.0, security=1.0)
    stream = EmbeddedCorpus(CorpusSettings(mixture=only)).instructions(0)
    origins = Counter(item.details["origin"] for item in islice(stream, 100))
    assert origins == {"trusted": 50, "untrusted": 50}


def test_problems_take_the_safe_idiom_as_reference(corpus):
    for item in corpus.problems("security", n=40):
        assert item.reference == item.choices[0]
        assert "is_unsafe" not in item.details


def test_a_split_without_names_says_so():
    with pytest.raises(ValueError, match="split 'test' has no names for security items; raise its share"):
        draw_idiom(CorpusSettings(test_share=1e-9), "test", True, np.random.default_rng(0))
