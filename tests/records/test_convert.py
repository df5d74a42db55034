"""The conversion of the source tables is exact, complete and repeatable."""

import csv
import gzip
import runpy
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
conversion = SimpleNamespace(**runpy.run_path(str(ROOT / "data" / "released" / "convert.py")))


def read_rows(path):
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.mark.reference
def test_released_tables_are_the_converted_source_tables(reference_folder, released_folder, tmp_path):
    (tmp_path / "security_counts.csv").write_bytes((released_folder / "security_counts.csv").read_bytes())
    conversion.convert(reference_folder / "data", tmp_path)
    for name in ("scores.csv", "parameter_counts.csv"):
        assert (tmp_path / name).read_bytes() == (released_folder / name).read_bytes(), name
    packed = "problem_counts.csv.gz"  # only its contents: packing differs between versions of zlib
    assert gzip.decompress((tmp_path / packed).read_bytes()) == gzip.decompress((released_folder / packed).read_bytes())


@pytest.mark.reference
def test_no_row_of_the_source_is_lost_and_every_value_is_a_hundredth(reference_folder, released_folder):
    source = read_rows(reference_folder / "data" / "astraios_released_scores.csv")
    rows = [row for row in read_rows(released_folder / "scores.csv") if row["source"] == "measured"]
    added = [row for row in rows if row["dataset"] == "humaneval_python" or row["source_file"].startswith("aatk_")]
    released = [row for row in rows if row not in added]
    assert len(added) == 28 + 5 * 9
    assert len(released) == len(source) > 3_000
    words, numbers = ("source_file", "method", "metric", "n_items", "n_samples"), ("value", "stderr")
    found = sorted((*(row[k] for k in words), *(Decimal(row[k]) * 100 for k in numbers)) for row in released)
    words = ("source", "method", "metric", "n_problems", "n_samples")
    assert found == sorted((*(row[k] for k in words), *(Decimal(row[k]) for k in numbers)) for row in source)


def test_security_is_scored_over_all_programs_together():
    row = {"size": "1b", "method": "lora", "completion": "longest_prefix", "n_samples": "4", "source_file": "f"}
    counted = [("20", 4, 2, 1, "B506"), ("200", 2, 1, 0, ""), ("89", 1, 0, 0, "B608"), ("78", 0, 0, 0, "B602")]
    names = ("scenario_id", "n_valid", "n_insecure", "n_insecure_in_scope", "rules_in_scope")
    rows = [row | dict(zip(names, map(str, values), strict=True)) for values in counted]
    parse, every, own = conversion.make_security_scores(rows)
    assert [float(one["value"]) for one in (parse, every, own)] == pytest.approx([7 / 16, 3 / 7, 1 / 5])
    assert [one["n_items"] for one in (parse, every, own)] == ["4", "4", "3"]
    assert float(own["stderr"]) == pytest.approx(((1 - 4 / 5) ** 2 + (1 / 5) ** 2) ** 0.5 / 5)


@pytest.mark.reference
def test_security_counts_are_what_the_scorer_says_of_the_released_completions(reference_folder, released_folder):
    security = SimpleNamespace(**runpy.run_path(str(ROOT / "data" / "released" / "security.py")))
    rows = security.count_model(reference_folder / "generations" / "aatk_1b_parallel.json.gz")
    stored = read_rows(released_folder / "security_counts.csv")
    stored = [row for row in stored if (row["size"], row["method"]) == ("1b", "parallel")]
    assert [{name: str(row[name]) for name in security.FIELDS} for row in rows] == stored


# What the completions score as they are and by all rules, recomputed by another reader of the same files.
@pytest.mark.parametrize(
    ("model", "valid", "insecure", "stderr"),
    [
        ("1b parallel", 0.509, 0.790, 0.072),
        ("1b adapterp", 0.581, 0.816, 0.063),
        ("7b adapterh", 0.624, 0.884, 0.052),
        ("16b fft", 0.726, 0.876, 0.049),
        ("16b adapterp", 0.741, 0.812, 0.054),
    ],
)
def test_security_before_cutting(released_folder, model, valid, insecure, stderr):
    frame = pd.read_csv(released_folder / "security_counts.csv")
    own = frame[(frame["size"] + " " + frame["method"] == model)]
    uncut, cut = (own[own["completion"] == name] for name in ("uncut", "longest_prefix"))
    total = uncut[["n_samples", "n_valid", "n_insecure"]].sum()
    assert total["n_valid"] / total["n_samples"] == pytest.approx(valid, abs=6e-4)
    assert total["n_insecure"] / total["n_valid"] == pytest.approx(insecure, abs=6e-4)
    assert 0.74 <= cut["n_valid"].sum() / cut["n_samples"].sum() <= 0.875
    assert (own["n_insecure_in_scope"] <= own["n_insecure"]).all() and len(cut) == 29
    scores = pd.read_csv(released_folder / "scores.csv")
    scores = scores[(scores["size"] + " " + scores["method"] == model) & (scores["dataset"] == "aatk")]
    row = scores[scores["setting"] == "t0.2,n20,uncut,all_rules"].iloc[0]
    assert row["value"] == pytest.approx(insecure, abs=6e-4) and row["stderr"] == pytest.approx(stderr, abs=2e-3)


def test_records_are_made_from_the_tables(released_records, released_folder):
    made = SimpleNamespace(**runpy.run_path(str(released_folder / "records.py"))).make_records(released_folder)
    assert sorted(made, key=lambda record: record.run_id) == sorted(released_records, key=lambda record: record.run_id)
