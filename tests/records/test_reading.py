"""Tables of every kind are read as they stand: the same numbers whatever the file, and nothing guessed."""

import gzip
import json

import pandas as pd
import pytest

import astraios_analysis as aa
from astraios_analysis.records.notation import column_numbers, split_sizes
from astraios_analysis.records.reading import read_cells
from astraios_analysis.records.refusal import Refusal

ROWS = [("1M", "lora", 3.25), ("4M", "lora", 2.5), ("1M", "full #2", 3.0), ("4M", "full #2", 2.25)]
CSV = "n,method,loss\n" + "".join(f"{n},{method},{loss}\n" for n, method, loss in ROWS)
GERMAN = "n;method;loss\n" + "".join(f"{n};{method};{loss}\n".replace(".", ",") for n, method, loss in ROWS)
RECORDS = [{"n": n, "method": method, "loss": loss} for n, method, loss in ROWS]
FILES = {
    "plain.csv": CSV.encode(),
    "packed.csv.gz": gzip.compress(CSV.encode()),
    "marked.csv": b"\xef\xbb\xbf" + CSV.encode(),
    "wide.txt": CSV.replace(",", "\t").encode("utf-16"),
    "windows.csv": CSV.replace("\n", "\r\n").encode(),
    "tabs.tsv": CSV.replace(",", "\t").encode(),
    "german.csv": GERMAN.encode(),
    "bars.csv": CSV.replace(",", "|").encode(),
    "lines.jsonl": "\n".join(map(json.dumps, RECORDS)).encode(),
    "list.json": json.dumps(RECORDS).encode(),
    "columns.json": json.dumps(pd.DataFrame(RECORDS).to_dict("list")).encode(),
    "commented.csv": f"# who made it\n{CSV.replace('1M,full', '# halfway' + chr(10) * 2 + '1M,full')}".encode(),
    "quoted.csv": ('"n","method","loss"\n' + "".join(f'"{n}","{m}","{x}"\n' for n, m, x in ROWS)).encode(),
    "trailing.csv": CSV.replace("\n", ",\n").encode(),
}


def points(table):
    return column_numbers(table["n"]).tolist(), table["method"].tolist(), column_numbers(table["loss"]).tolist()


@pytest.mark.parametrize("name", FILES)
def test_every_file_gives_the_same_table(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(FILES[name])
    expected = [1e6, 4e6, 1e6, 4e6], ["lora", "lora", "full #2", "full #2"], [3.25, 2.5, 3.0, 2.25]
    assert points(aa.read_table(path, "n", "loss", "method")) == expected


@pytest.mark.parametrize(("suffix", "package"), [("parquet", "pyarrow"), ("xlsx", "openpyxl")])
def test_packed_tables(tmp_path, suffix, package):
    pytest.importorskip(package)
    path, frame = tmp_path / f"t.{suffix}", pd.DataFrame(RECORDS)
    frame.to_parquet(path) if suffix == "parquet" else frame.to_excel(path, index=False)
    assert points(aa.read_table(path)) == points(frame)


@pytest.mark.parametrize(
    ("cells", "numbers"),
    [
        (["7B", "350M", "7e9", "7_000_000_000", "1,000,000", "20"], [7e9, 350e6, 7e9, 7e9, 1e6, 20]),
        (["1,000", "12,000"], [1e3, 12e3]),
        (["1,234,567", "1,500"], [1234567, 1500]),
        (["2,512", "3,1"], [2.512, 3.1]),
        (["0,125", "0,250"], [0.125, 0.25]),
        (["-1.5", "2e-3", "+4"], [-1.5, 2e-3, 4]),
    ],
)
def test_notation_of_a_column(cells, numbers):
    assert column_numbers(pd.Series(cells)).tolist() == numbers


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["3,141", "2,718"], "'3,141' may be 3141 or 3.141; write it without a comma"),
        (["1,000,000", "2,5"], "commas stand for two things, in '2,5' and '1,000,000'"),
    ],
)
def test_commas_that_could_mean_two_things_are_refused(cells, message):
    with pytest.raises(Refusal, match=message):
        column_numbers(pd.Series(cells))


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("7b,13b,34b", ["7b", "13b", "34b"]),
        ("7b, 13b", ["7b", "13b"]),
        ("1,000,000", ["1,000,000"]),
        ("1,137,207,296,7b", ["1,137,207,296", "7b"]),
        ("7e9,1.3e10", ["7e9", "1.3e10"]),
        ("20,60,1000", ["20", "60", "1000"]),
        ("12,000,34b", ["12,000", "34b"]),
    ],
)
def test_lists_of_sizes_are_split_beside_numbers(text, sizes):
    assert split_sizes(text) == sizes


def test_a_list_that_may_be_a_number_is_refused():
    with pytest.raises(Refusal, match="'100,200' may be 100200 or two sizes"):
        split_sizes("100,200")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no table"),
        ("n,loss\n", "holds no table"),
        ("n,loss,loss\n1,2,3\n", "column 'loss': stands twice in the header"),
        ("1,2\n3,4\n", "line 1: holds numbers, not names of columns: 1, 2; write a header"),
        ("n,loss\n1,2,3\n", "line 2: has 3 cells and the header 2"),
        ("# c\n\nn,loss\n1,2\n1,2,3\n", "line 5: has 3 cells"),
        ('{"n": 1}\n{"n": }\n', "line 2: is not valid JSON"),
        ("[1, 2]", "holds no table: one object a line"),
        ('{"n": [1, 2], "loss": [3]}', "holds no table"),
        ("n;loss\n1.234;2,5\n", "line 2, column 'n': '1.234' may be 1234 or 1,234; write it without a dot"),
    ],
)
def test_what_is_no_table_is_refused_with_its_place(tmp_path, text, message):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(Refusal, match=r"t\.csv: ") as caught:
        read_cells(path)
    assert message in str(caught.value)


def test_semicolons_make_the_comma_a_decimal_mark_and_dots_part_thousands(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("n;loss\n1.000.000;2,512\n20.000.000;1.234,5\n")
    table = aa.read_table(path)
    assert table.to_dict("list") == {"n": [1e6, 2e7], "loss": [2.512, 1234.5]}


def test_names_of_groups_stay_as_they_are_written(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("n,run,loss\n1,007,3\n2,007,2\n3,1e3,2\n4,1.50,1\n")
    assert aa.read_table(path, group="run")["run"].tolist() == ["007", "007", "1e3", "1.50"]


@pytest.mark.parametrize(
    ("row", "options", "message"),
    [
        ("5M,,2.0", {}, "row 5, column 'method': is blank"),
        ("5M,NA,2.0", {}, "row 5, column 'method': is blank"),
        ("5M,lora,inf", {}, "row 5, column 'loss': is 'inf', not a finite number; correct or leave it out"),
        ("5M,lora,", {}, "row 5, column 'loss': is missing, not a finite number"),
        ("5M,lora,nan", {}, "row 5, column 'loss': is missing"),
        ("5M,lora,0", {}, "row 5, column 'loss': is 0.0, not above 0"),
        ("5M,lora,-1", {}, "row 5, column 'loss': is -1.0, not above 0"),
        ("0,lora,2", {}, "row 5, column 'n': is '0', not above 0"),
        ("big,lora,2", {}, "row 5, column 'n': is 'big', not a finite number"),
        ("5M,lora,2", {"y": "los"}, "has no column 'los'; it has n, method, loss"),
    ],
)
def test_a_wrong_cell_is_named_with_row_column_and_value(tmp_path, row, options, message):
    path = tmp_path / "t.csv"
    path.write_text(f"{CSV}{row}\n")
    with pytest.raises(Refusal) as caught:
        aa.fit(aa.read_table(path), "power", **{"x": "n", "y": "loss", "group": "method"} | options)
    assert str(path) in str(caught.value) and message in str(caught.value)


def test_labels_of_several_columns_do_not_collide():
    table = pd.DataFrame({"n": [1, 2, 4] * 2, "loss": [3, 2, 1.5] * 2, "a": ["x/y"] * 3 + ["x"] * 3})
    table["b"] = ["z"] * 3 + ["y/z"] * 3
    assert aa.fit(table, "power", "n", "loss", ["a", "b"]).groups == ("x/y | z", "x | y/z")


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ("loss", "n", "are x and y the wrong way round?"),
        ("n", "rising", "rising rises with n; the laws of losses here fall"),
        ("n", "loss", None),
    ],
)
def test_axes_that_look_wrong_are_warned_of(x, y, message):
    table = pd.DataFrame({"n": [1e6, 4e6, 16e6], "loss": [3, 2.5, 2.2], "rising": [2.2, 2.5, 3]})
    notes = aa.fit(table, "power", x, y).points.notes
    assert any(message in note for note in notes) if message else not notes


@pytest.mark.reference
def test_cases(reference_folder):
    cases = reference_folder / "cases"
    for name in ("a04_hex_colours", "a14_suffixes"):
        values = aa.fit(aa.read_table(cases / f"{name}.csv"), "power_floor", "n", "loss").fits["all"].params
        assert values == pytest.approx({"E": 2.244, "A": 40.26, "alpha": 0.2509}, rel=2e-3)
    with pytest.raises(Refusal, match="row 6, column 'm': is blank"):
        aa.fit(aa.read_table(cases / "a05_blank_group.csv"), "power_floor", "n", "loss", "m")
    for path in (reference_folder / "benchmarks").rglob("*.csv"):
        assert len(aa.read_table(path)) == len(pd.read_csv(path, comment="#"))
