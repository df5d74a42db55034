"""The types of a finished run refuse what cannot be true; one tidy table for released and trained runs alike."""

import json
import math
from itertools import product

import pandas as pd
import pytest
from pydantic import ValidationError

from astraios_analysis.records.frame import (
    METHODS,
    ProblemCounts,
    Provenance,
    Score,
    ValidationPoint,
    sort_records,
    to_frame,
)
from astraios_analysis.records.notation import json_text, rows_of, table_text
from astraios_analysis.records.registry import METRICS

RATE = {"dataset": "humanevalfix_java", "language": "java", "setting": "t0.2,n20", "metric": "pass@1", "value": 0.25}
RATE |= {"n_items": 2, "source": "measured"}
COUNTS = {"problem_ids": (0, 1), "n_samples": (4, 4), "n_passed": (2, 0)}
EMPTY = ProblemCounts(problem_ids=(0, 1), n_samples=(4, 0), n_passed=(2, 0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"value": 250.0}, r"value 250 is outside \[0, 1\], the range of pass@1(?!;)"),
        ({"metric": "robust_drop@1", "value": 1.2}, r"value 1\.2 is outside \(-inf, 1\], the range of robust_drop@1"),
        ({"value": math.nan}, "finite number"),
        ({"value": True}, "valid number"),
        ({"metric": "pass_at_1"}, r"unknown metric 'pass_at_1'; choose from accuracy, .*valid_rate"),
        ({"n_items": None}, "pass@1 needs n_items, the number of problems it was measured on"),
        ({"stderr": -0.1}, "greater than or equal to 0"),
        ({"chance": 1.5}, r"chance 1.5 is outside \[0, 1\], the range of pass@1"),
        ({"n_passed": 3}, "n_passed needs n_samples, the number of programs or answers scored"),
        ({"n_samples": 8, "n_passed": 9}, "n_passed 9 exceeds n_samples 8"),
        ({"n_samples": 10**30}, "less than or equal to 9223372036854775807"),
        ({"reading_error": 0.01}, "reading_error belongs to digitised values; leave it out of a measured one"),
        ({"source": "guessed"}, "'measured' or 'digitised'"),
        ({"dataset": "HumanEval Fix"}, "match pattern"),
        ({"n_items": 3, "problems": ProblemCounts(**COUNTS)}, "n_items is 3 but problems lists 2"),
        ({"n_samples": 9, "problems": ProblemCounts(**COUNTS)}, "n_samples is 9 but the problems add up to 8"),
        (
            {"n_samples": 8, "n_passed": 3, "problems": ProblemCounts(**COUNTS)},
            "n_passed is 3 but the problems add up to 2",
        ),
        (
            {"value": 0.2500011, "problems": ProblemCounts(**COUNTS)},
            r"value 0\.250001 is not the mean pass rate 0\.250000 of the counts",
        ),
        ({"problems": EMPTY}, "needs samples of every problem; leave out those without"),
        (
            {"metric": "insecure_rate", "problems": EMPTY},
            r"value 0\.25 is not the share of valid programs 0\.500000 of the counts",
        ),
    ],
)
def test_impossible_score_is_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        Score(**(RATE | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_samples": (4,)}, "one entry for each problem; they have 2, 1 and 2"),
        ({"problem_ids": (), "n_samples": (), "n_passed": ()}, "they have 0, 0 and 0"),
        ({"problem_ids": (7, 7)}, "problem_ids must be distinct; merge the counts of a repeated problem"),
        ({"n_passed": (2, -1)}, "greater than or equal to 0"),
    ],
)
def test_impossible_counts_are_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        ProblemCounts(**(COUNTS | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 0}, "schema version 0 does not exist; versions are 1 to 2"),
        ({"val_loss": None}, "val_loss_se is the standard error of val_loss, which is missing; add it or drop both"),
        ({"n_params_base": 1_101}, "n_params_base 1101 exceeds n_params 1100, the tuned model"),
        ({"n_params_updated": 1_101}, "n_params_updated 1101 exceeds n_params 1100, the tuned model"),
        ({"n_params_base_nonembedding": 1_001}, "exceeds n_params_base 1000, which includes the embeddings"),
        ({"run_id": "../escape"}, "match pattern"),
        *(
            ({"val_curve": tuple(ValidationPoint(step=step, loss=2.0) for step in steps)}, "strictly increasing steps")
            for steps in ((10, 0), (5, 5))
        ),
    ],
)
def test_impossible_record_is_refused(make_record, changes, message):
    with pytest.raises(ValidationError, match=message):
        make_record(**changes)


NO_JSON = [{"rate": math.nan}, {"rates": [1.0, math.inf]}, {"betas": (0.9, 0.95)}, {"path": object()}, {"a": {1: 2}}]


@pytest.mark.parametrize("spec", [*NO_JSON, {"name": "\ud800"}])
def test_specification_that_json_cannot_hold_is_refused_when_the_record_is_made(spec):
    with pytest.raises(ValidationError, match="spec"):
        Provenance(spec=spec)


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_ends_of_each_metric_are_possible_and_beyond_is_not(metric):
    lowest = -50.0 if metric.lower == -math.inf else metric.lower
    for value in (lowest, min(metric.upper, 1e9)):
        assert Score(**(RATE | {"metric": metric.name, "value": value, "chance": None})).value == value
    for value in filter(math.isfinite, (metric.upper + 1e-9, metric.lower - 1e-9)):
        with pytest.raises(ValidationError, match="outside"):
            Score(**(RATE | {"metric": metric.name, "value": value, "chance": None}))


def test_a_record_prints_as_one_line(released_records):
    record = next(r for r in released_records if (r.size, r.method) == ("1b", "lora"))
    updated = "3,588,096 of 1,140,795,392 parameters updated"
    assert (
        repr(record) == str(record) == f"RunRecord(released-1b-lora: 1b lora, {updated}, {len(record.scores)} scores)"
    )
    held_out = record.model_copy(update={"held_out": True, "val_loss": 0.25})
    assert ", held out, " in repr(held_out) and "updated, val_loss 0.25, " in repr(held_out)
    score = next(s for s in record.scores if s.key[0] == "humanevalfix_python" and s.stderr)
    measure = f"{score.setting}, {score.metric}: {score.value:.6g} ± {score.stderr:.2g}"
    assert repr(score) == f"Score(humanevalfix_python, python, {measure})"


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
    names = pd.DataFrame({"name": ["低秩", "e\u0301te", "lora"], "n": [1, 2, 3]})
    assert table_text(names) == "name  n\n低秩  1\ne\u0301te   2\nlora  3"


def test_json_has_every_digit_and_no_nan():
    frame = pd.DataFrame({"x": [1 / 3, float("nan")], "n": pd.array([2**53 + 1, None], "Int64"), "held_out": True})
    assert json.loads(json_text(rows_of(frame)), parse_constant=pytest.fail) == [
        {"x": 1 / 3, "n": 2**53 + 1, "held_out": True},
        {"x": None, "n": None, "held_out": True},
    ]
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_text([float("inf")])
