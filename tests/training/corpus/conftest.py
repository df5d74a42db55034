"""The default corpus and one with every option, built once."""

import pytest

from training.corpus.embedded import EmbeddedCorpus
from training.corpus.settings import CorpusSettings
from training.spec.grids import LADDER_CORPUS


@pytest.fixture(scope="session")
def corpus():
    """Corpus of the default settings."""
    return EmbeddedCorpus()


@pytest.fixture(scope="session")
def skilled_corpus():
    """Corpus whose base text shows several skills, with a vocabulary of its own words."""
    return EmbeddedCorpus(LADDER_CORPUS)


@pytest.fixture(scope="session")
def wide_corpus():
    """Corpus with lists, numbers and strings, and three phrasings."""
    return EmbeddedCorpus(CorpusSettings(kinds=("list", "number", "string"), phrasings=3))
