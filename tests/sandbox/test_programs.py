import pytest

from training.sandbox.programs import MAX_FOLDER_BYTES, Limits, Program


def test_unknown_language_is_refused():
    with pytest.raises(ValueError, match="unknown language 'rust'; choose from python, java"):
        Program("rust", "")


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "3"])
def test_limits_are_positive_numbers(value):
    with pytest.raises(ValueError, match="limit cpu_seconds must be a positive number, got"):
        Limits(cpu_seconds=value)


def test_a_folder_has_a_largest_size():
    with pytest.raises(ValueError, match=f"limit folder_bytes is at most {MAX_FOLDER_BYTES}"):
        Limits(folder_bytes=MAX_FOLDER_BYTES + 1)


def test_equal_programs_are_one():
    assert len({Program("python", "x"), Program("python", "x"), Program("python", "x", "y")}) == 2
