"""One tidy table for released and trained runs alike."""

from itertools import product

from astraios_analysis.records.frame import METHODS, sort_records, to_frame


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
