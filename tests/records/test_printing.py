"""Tables and JSON on standard output."""

import json

import pandas as pd
import pytest

from astraios_analysis.records.printing import json_text, rows_of, table_text


class TestPrinting:
    def test_table(self):
        frame = pd.DataFrame(
            {"name": ["a", None], "n": pd.array([12_345_678, None], "Int64"), "x": [1 / 3, float("nan")]}
        )
        assert table_text(frame) == "name         n       x\na     12345678  0.3333\n-            -       -"
        assert table_text(frame.iloc[:0]) == "name  n  x"

    def test_json_has_every_digit_and_no_nan(self):
        frame = pd.DataFrame({"x": [1 / 3, float("nan")], "n": pd.array([2**53 + 1, None], "Int64"), "held_out": True})
        assert json.loads(json_text(rows_of(frame)), parse_constant=pytest.fail) == [
            {"x": 1 / 3, "n": 2**53 + 1, "held_out": True},
            {"x": None, "n": None, "held_out": True},
        ]
        with pytest.raises(ValueError, match="not JSON compliant"):
            json_text([float("inf")])
