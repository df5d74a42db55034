import pytest
from pydantic import ValidationError

from training.corpus.settings import CorpusSettings, Mixture


def test_label_changes_with_any_setting_and_with_nothing_else():
    settings = CorpusSettings()
    assert settings.label == CorpusSettings().label == f"embedded-{settings.digest}"
    others = [{"phrasings": 3}, {"split_seed": 1}, {"kinds": ("list", "number")}, {"pretraining_mixture": None}]
    others += [{"mixture": Mixture(synthesis=0.3, fix=0.15)}, {"pretraining_mixture": Mixture()}]
    # Under which the grid `ladder` was trained.
    assert settings.label == "embedded-f6941422"
    assert len({CorpusSettings(**change).label for change in [{}, *others]}) == 1 + len(others)


@pytest.mark.parametrize(
    ("make", "change", "message"),
    [
        (CorpusSettings, {"kinds": ()}, "at least 1 item"),
        (CorpusSettings, {"kinds": ("list", "list")}, "repeats a value"),
        (CorpusSettings, {"kinds": ("tree",)}, "'list', 'number' or 'string'"),
        (CorpusSettings, {"ops_weights": (0.0,) * 4}, "leave no program of up to 4 operations"),
        (CorpusSettings, {"phrasings": 4}, "less than or equal to 3"),
        (CorpusSettings, {"test_share": 0.0}, "greater than 0"),
        (CorpusSettings, {"unknown": 1}, "Extra inputs"),
        (CorpusSettings, {"java_share": 0.5}, "less than or equal to 0"),
        (CorpusSettings, {"vocab_size": 2048}, "should be 1024"),
        (Mixture, {"synthesis": 0.35}, r"add up to 1\.1; make them add up to 1"),
    ],
)
def test_settings_out_of_range_are_refused(make, change, message):
    with pytest.raises(ValidationError, match=message):
        make(**change)
