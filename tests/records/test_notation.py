"""Sizes and counts as people write them: one notation in tables, options and files."""

import pandas as pd
import pytest

from astraios_analysis.records.notation import column_numbers, parse_count, parse_number
from astraios_analysis.records.refusal import Refusal


@pytest.mark.parametrize(
    ("text", "count"),
    [
        *(("7B", 7 * 10**9), ("7b", 7 * 10**9), ("350M", 350_000_000), ("1.1B", 1_100_000_000), ("12 k", 12_000)),
        *(("7e9", 7 * 10**9), ("7E+9", 7 * 10**9), ("7_000_000_000", 7 * 10**9), ("1,000,000", 10**6)),
        *((" 1137207296 ", 1_137_207_296), ("1.137207296e9", 1_137_207_296), ("2T", 2 * 10**12), ("3G", 3 * 10**9)),
    ],
)
def test_counts(text, count):
    assert parse_count(text) == count


def test_unit_is_that_of_numbers_without_one():
    assert (parse_count("1.5", "k"), parse_count("1.5M", "k")) == (1500, 1_500_000)


@pytest.mark.parametrize("text", ["", "about 7B", "-7B", "7BB", "1,00,000", "1,5", "1.2.3", "nan", "inf", "7 billion"])
def test_what_is_no_number(text):
    with pytest.raises(Refusal, match="is not a count, such as"):
        parse_number(text)


def test_a_count_is_whole():
    with pytest.raises(Refusal, match=r"'1\.2345' is not a whole number; say its unit"):
        parse_count("1.2345")


def test_columns_of_text_and_of_numbers():
    found = column_numbers(pd.Series(["1M", "1,000", "-1.5", "2e3", "x", None]))
    assert found[:4].tolist() == [1e6, 1000, -1.5, 2000] and found[4:].isna().all()
    assert column_numbers(pd.Series([1, 2])).tolist() == [1, 2]
