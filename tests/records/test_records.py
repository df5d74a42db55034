"""One tidy table for released and trained runs alike."""

import json
from itertools import product

import pandas as pd
import pytest

from astraios_analysis.records.frame import METHODS, sort_records, to_frame
from astraios_analysis.records.notation import json_text, rows_of, table_text


def test_table_has_the_same_columns_for_any_records(make_record, released_records):
    for per in ("score", "run"):
        tables = [to_frame(records, per=per) for records in ([], [make_record()], released_records)]
        assert len({str(table.dtypes) for table in tables}) == 1
    assert [len(table) for table in tables] == [0, 1, 28]
    assert {"seconds", "flop", "peak_memory_bytes", "n_tokens"} <= set(tables[0])


def test_table_has_one_row_for_each_score_with_absent_values_missing(make_record):
    table = to_frame([make_record(val_loss=None, val_loss_se=None, seed=None), make_record(run_id="b", scores=())])
    assert list(table["metric"]) == ["pass@1", "timeout_rate"]
    assert table["val_loss"].isna().all() and table["seed"].isna().all() and table["source_file"].isna().all()
    first = table.iloc[0]
    assert (first["value"], first["n_items"], first["n_params_updated"], first["held_out"]) == (0.35, 4, 100, False)
    run = to_frame([make_record()], per="run").iloc[0]
    assert (run["seconds"], run["flop"], run["peak_memory_bytes"], run["seed"]) == (12.5, 1e12, 2**30, 0)


def test_sizes_are_ordered_by_number_and_methods_as_in_the_study(make_record, released_records):
    sizes = {"16b": 16_000, "1b": 1_000, "7b": 7_000}
    order = list(product(("1b", "7b", "16b"), ("fft", "parallel"), (9, 10)))
    records = [
        make_record(size=size, n_params=sizes[size] + 100, n_params_base=sizes[size], method=method, seed=seed)
        for size, method, seed in reversed(order)
    ]
    assert [(record.size, record.method, record.seed) for record in sort_records(records)] == order
    table = to_frame(reversed(released_records), per="run")
    assert list(table["size"].unique()) == ["1b", "3b", "7b", "16b"]
    assert tuple(table["method"][:7]) == METHODS


def test_a_table_in_words():
    frame = pd.DataFrame({"name": ["a", None], "n": pd.array([12_345_678, None], "Int64"), "x": [1 / 3, float("nan")]})
    assert table_text(frame) == "name         n       x\na     12345678  0.3333\n-            -       -"
    assert table_text(frame.iloc[:0]) == "name  n  x"


def test_json_has_every_digit_and_no_nan():
    frame = pd.DataFrame({"x": [1 / 3, float("nan")], "n": pd.array([2**53 + 1, None], "Int64"), "held_out": True})
    assert json.loads(json_text(rows_of(frame)), parse_constant=pytest.fail) == [
        {"x": 1 / 3, "n": 2**53 + 1, "held_out": True},
        {"x": None, "n": None, "held_out": True},
    ]
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_text([float("inf")])
