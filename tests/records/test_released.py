"""The released tables: complete, in the project's names and units, exact in their counts; refused where damaged."""

from collections import Counter
from functools import partial
from io import StringIO

import pandas as pd
import pytest

from astraios_analysis.records.frame import RecordError
from astraios_analysis.records.registry import DATASETS, SECOND_FILE
from astraios_analysis.records.released import is_released_folder, load_released
from astraios_analysis.scores.bootstrap import combine, primary_frame, primary_score, problem_statistics


def test_second_files_are_four_models_and_never_primary(table, released_records):
    second = table[table["setting"].str.contains(SECOND_FILE)]
    assert {key: set(rows["model"]) for key, rows in second.groupby("dataset")} == {
        "humanevalsynthesize_python": {"1b-fft", "3b-fft"},
        "humanevalsynthesize_java": {"1b-fft", "3b-fft"},
        "humanevalfix_java": {"1b-ia3", "3b-ptuning"},
    }
    primary = primary_frame(table)
    assert not primary["setting"].str.contains(SECOND_FILE).any()
    assert not primary.duplicated(["model", "dataset"]).any() and list(primary.index) == list(range(len(primary)))
    for record in released_records:
        for name in DATASETS:
            score = primary_score(record, name)
            assert score is None or SECOND_FILE not in score.setting


def test_only_clone_detection_is_digitised(table):
    is_clone = table["dataset"] == "clone_detection"
    assert ((table["source"] == "digitised") == is_clone).all()
    assert (table["reading_error"].notna() == is_clone).all()
    assert (table["stderr"].isna() == is_clone).all()
    errors = table[is_clone].groupby("setting")["reading_error"].unique()
    assert {key: list(values) for key, values in errors.items()} == {"zero_shot": [0.0015], "one_shot": [0.002]}


def test_what_was_not_measured_is_absent(released_records):
    for record in released_records:
        assert (record.val_loss, record.base_val_loss, record.seed, record.n_tokens, record.cost) == (None,) * 5
        assert record.val_curve == ()
        assert not record.held_out


def test_every_score_with_counts_comes_out_of_its_counts(released_records):
    compared = Counter()
    for record in released_records:
        for score in record.scores:
            statistics = problem_statistics(record, score)
            if statistics is not None:
                again = float(combine(score.metric, statistics.mean(axis=1)))
                assert again == pytest.approx(score.value, abs=1e-6), (record.run_id, score.key)
                assert statistics.shape[1] == score.n_items
                compared[score.metric] += 1
    # 676 conditions of ReCode, 81 of them means over transformations or nominal, ...
    recode = 28 * (6 + 2) + 28 * (7 + 2) + 25 * (6 + 2)
    expected = {"pass@1": 126 + 28 + 28 + 25 + 28, "pass@10": 126, "overall_accuracy": 27 + 28, "parse_rate": 9}
    expected |= {"mean_pass@1": recode, "robust_pass@1": recode, "insecure_rate": 9 * 4}
    assert compared == expected | {"robust_drop@1": recode - 81, "robust_relative@1": recode - 81}


TABLES = ("scores.csv", "problem_counts.csv.gz", "parameter_counts.csv")


@pytest.fixture
def damaged(write_tables, tmp_path):
    """Write the tables of two models with one of them changed."""
    return partial(write_tables, tmp_path)


def edit(line, column, value):
    """Set one cell; lines are counted as an editor does, the header being line 1."""

    def change(text):
        frame = pd.read_csv(StringIO(text), dtype=str, keep_default_na=False)
        frame.loc[line - 2, column] = value
        return frame.to_csv(index=False)

    return change


def repeat(line):
    return lambda text: text + text.splitlines(keepends=True)[line - 1]


def add_model(method):
    """Add a row of another method that has no score."""
    return lambda text: text + text.splitlines(keepends=True)[1].replace("1b,fft", f"1b,{method}")


def without_column(column):
    def change(text):
        header, *lines = text.splitlines()
        return "\n".join([header.replace(f"{column},", f"{column}_,"), *lines]) + "\n"

    return change


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("scores.csv", without_column("value"), r"value: column is missing; the file has size, method, .*value_"),
        ("scores.csv", edit(7, "value", "high"), r"line 7, value: is 'high'; give a number"),
        ("scores.csv", edit(7, "value", "58.5"), r"1b .* value 58\.5 is outside \[0, 1\].*divide a percentage by 100"),
        ("scores.csv", edit(7, "stderr", "-0.1"), r"stderr: is -0\.1; .*greater than or equal to 0"),
        ("scores.csv", edit(9, "n_items", "2.5"), r"line 9, n_items: is '2\.5'; give a whole number"),
        ("scores.csv", edit(9, "n_samples", "1e99"), r"line 9, n_samples: is '1e\+99'; give a whole number"),
        ("scores.csv", edit(9, "metric", "pass"), r"unknown metric 'pass'; choose from accuracy"),
        ("scores.csv", edit(9, "source", "guess"), r"source: is 'guess'; .*'measured' or 'digitised'"),
        ("scores.csv", edit(9, "size", "34b"), r"\('34b', '\w+'\) has scores but no row in parameter_counts\.csv"),
        ("scores.csv", repeat(5), r"line \d+ repeats 1b lora clone_detection java .*; keep one row"),
        ("scores.csv", lambda text: text.encode() + b"\xff\xfe", r"cannot be read as a table .*utf-8"),
        ("parameter_counts.csv", edit(3, "n_params", "5"), r"1b lora: n_params_base 1137207296 exceeds n_params 5"),
        ("parameter_counts.csv", edit(3, "n_params_updated", "0"), "1b lora, n_params_updated: is 0; .*than 0"),
        ("parameter_counts.csv", add_model("qlora"), "1b qlora method: .*unknown tuning method 'qlora'"),
        ("parameter_counts.csv", edit(3, "size", ""), "line 3, size: is empty; give text"),
        ("parameter_counts.csv", repeat(2), r"size, method: line 4 repeats 1b fft; keep one row"),
        ("problem_counts.csv.gz", edit(4, "n_passed", "2"), "1b fft .*: problem 2: n_passed 2 exceeds n_samples 1"),
        ("problem_counts.csv.gz", repeat(4), "1b fft .*: problem_ids must be distinct"),
    ],
)
def test_damaged_table_is_refused_by_name(damaged, name, change, message):
    folder = damaged(name, change)
    with pytest.raises(RecordError, match=message) as caught:
        load_released(folder)
    assert str(caught.value).startswith(f"{folder / name}: ")


def test_model_without_scores_has_none(damaged):
    records = load_released(damaged("parameter_counts.csv", add_model("ia3")))
    found = [(record.method, len(record.scores) > 0) for record in records]
    assert found == [("fft", True), ("lora", True), ("ia3", False)]


def test_number_of_samples_may_be_left_out(damaged):
    record = load_released(damaged("scores.csv", edit(2, "n_samples", "")))[0]
    assert [score.n_samples for score in record.scores].count(None) == 1
    assert record.scores[1].n_samples == record.scores[1].n_items == 2_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[: text[:-1].rindex("\n") + 1], "n_items is 164 but problems lists 163"),
        (
            lambda text: text.replace("one_shot/full2732,0,1,0", "one_shot/full2732,0,1,1"),
            "one_shot/full2732 overall_accuracy: value .* is not the mean pass rate",
        ),
    ],
)
def test_counts_that_do_not_explain_a_score_are_refused(damaged, change, message):
    with pytest.raises(RecordError, match=rf"scores\.csv: .*{message}"):
        load_released(damaged("problem_counts.csv.gz", change))


@pytest.mark.parametrize(
    "damage", [lambda data: data[:200], lambda data: data[:300] + b"\0" * 50 + data[350:], lambda data: b"no"]
)
def test_damaged_archive_is_refused(damaged, damage):
    path = damaged() / "problem_counts.csv.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(RecordError, match=r"problem_counts\.csv\.gz: cannot be read as a table"):
        load_released(path.parent)


@pytest.mark.parametrize("name", TABLES)
def test_lost_table_is_named(damaged, name):
    folder = damaged()
    assert is_released_folder(folder)
    (folder / name).unlink()
    assert is_released_folder(folder)
    with pytest.raises(
        RecordError, match=rf"{name}: does not exist; restore it, or write it again with the conversion"
    ):
        load_released(folder)
