"""Tables of every kind are read as they stand: the same numbers whatever the file, and nothing guessed."""

import gzip
import json

import numpy as np
import pandas as pd
import pytest

import astraios_analysis as aa
from astraios_analysis.cli.main import main
from astraios_analysis.records.notation import column_numbers, parse_count, parse_number, split_sizes
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
    "excel.csv": f"sep=;\n{GERMAN}".encode(),
    "titled.csv": f"Runs of March, all\n\n{CSV}".replace(", all", "").encode(),
    "blanks.txt": CSV.replace("full #2", "full_#2").replace(",", "   ").encode(),
    "grouped.csv": CSV.replace("1M", "1\u202f000 000".replace(" ", "\u202f")).replace("4M", "4'000'000").encode(),
    "nested.jsonl": "\n".join(json.dumps(row | {"of": {"lr": 1}}) for row in RECORDS).encode(),
    "separators.jsonl": "\n".join(json.dumps(row | {"a": "\u2028"}, ensure_ascii=False) for row in RECORDS).encode(),
    "pandas.json": pd.DataFrame(RECORDS).to_json().encode(),
}


def points(table):
    return column_numbers(table["n"]).tolist(), table["method"].tolist(), column_numbers(table["loss"]).tolist()


@pytest.mark.parametrize("name", FILES)
def test_every_file_gives_the_same_table(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(FILES[name])
    expected = [1e6, 4e6, 1e6, 4e6], ["lora", "lora", "full #2", "full #2"], [3.25, 2.5, 3.0, 2.25]
    sizes, methods, losses = points(aa.read_table(path, "n", "loss", "method"))
    assert (sizes, [method.replace("_", " ") for method in methods], losses) == expected


def test_tables_of_excel(tmp_path):
    """Below a title, beside another sheet, with a blank row and column, names that look like numbers."""
    path = tmp_path / "t.xlsx"
    rows = [["Runs of March", None, None, None], [None] * 4, ["run", "n", None, "loss"]]
    rows += [["007", 1e6, None, 3.25], [None] * 4, ["1e3", 4e6, None, 2.5]]
    with pd.ExcelWriter(path) as writer:
        pd.DataFrame(rows).to_excel(writer, sheet_name="runs", header=False, index=False)
        pd.DataFrame([["a", "b"], [1, 2]]).to_excel(writer, sheet_name="more", header=False, index=False)
    table = aa.read_table(path, group="run")
    assert table.to_dict("list") == {"run": ["007", "1e3"], "n": [1_000_000, 4_000_000], "loss": [3.25, 2.5]}
    title = "line 1, 'Runs of March', is read as a title"
    assert table.attrs["notes"] == ["sheet 'runs' is read, and 'more' not", title]
    pd.DataFrame([["n", "loss", "loss"], [1, 2, 3]]).to_excel(path, header=False, index=False)
    with pytest.raises(Refusal, match="column 'loss': stands twice"):
        aa.read_table(path)


def test_lines_that_begin_with_a_hash(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("run,n,loss\n#1,1M,3\n#2,4M,2.5\n")
    assert aa.read_table(path)["run"].tolist() == ["#1", "#2"]
    path.write_text("# who, when, why\nrun,n,loss\na,1M,3\n#2,4M,2.5\n")
    table = aa.read_table(path)
    assert len(table) == 1
    assert table.attrs["notes"] == ["line 4 begins with # and is read as a comment; quote the cell if it is a row"]


def test_parquet_keeps_its_index_and_whole_numbers_beside_missing_ones(tmp_path):
    pytest.importorskip("pyarrow")
    path, n = tmp_path / "t.parquet", pd.array([2**53 + 1, None], dtype="Int64")
    pd.DataFrame({"n": n, "loss": [1.5, 2]}, index=pd.Index(["a", "b"], name="run")).to_parquet(path)
    table = aa.read_table(path)
    assert table["run"].tolist() == ["a", "b"] and table["n"].isna().tolist() == [False, True]
    frame = pd.DataFrame(RECORDS)
    frame.to_parquet(path)
    assert points(aa.read_table(path)) == points(frame)


def test_blank_groups_are_a_group_if_asked(tmp_path, capsys):
    path = tmp_path / "t.csv"
    path.write_text("n,m,loss\n" + "".join(f"{n},{m},{2 + n**-0.3}\n" for m in ("lora", "") for n in (1, 4, 16, 64)))
    assert aa.fit(aa.read_table(path, "n", "loss", "m", blank_group="base"), "power").groups == ("lora", "base")
    command = ["fit", "--law", "power", "--x", "n", "--y", "loss", "--group", "m", "--data", str(path)]
    assert main([*command, "--blank-group", "base", "--json"]) == 0
    assert [one["group"] for one in json.loads(capsys.readouterr().out)] == ["lora", "base"]
    assert main([*command, "--blank-group", "lora"]) == 2
    assert "'lora' cannot name the rows without a group" in capsys.readouterr().err


def test_a_name_that_holds_a_comma_stands_in_quotes(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('"size, B",loss\n' + "".join(f"{n},{2 + n**-0.3}\n" for n in (1, 4, 16, 64)))
    assert main(["fit", "--law", "power", "--x", '"size, B"', "--y", "loss", "--data", str(path)]) == 0


def test_counts():
    counts = dict.fromkeys(("7B", "7b", "7e9", "7E+9", "7_000_000_000"), 7 * 10**9)
    counts |= dict.fromkeys((" 1137207296 ", "1.137207296e9"), 1_137_207_296)
    counts |= {"350M": 350_000_000, "1.1B": 1_100_000_000, "12 k": 12_000, "1,000,000": 10**6, "2T": 2 * 10**12}
    assert {text: parse_count(text) for text in counts} == counts and parse_count("3G") == 3 * 10**9
    # The unit is that of numbers without one.
    assert (parse_count("1.5", "k"), parse_count("1.5M", "k")) == (1500, 1_500_000)


@pytest.mark.parametrize("text", ["", "about 7B", "-7B", "7BB", "1,00,000", "1,5", "1.2.3", "nan", "inf", "7 billion"])
def test_what_is_no_number(text):
    with pytest.raises(Refusal, match="is not a count, such as"):
        parse_number(text)


def test_a_count_is_whole():
    with pytest.raises(Refusal, match=r"'1\.2345' is not a whole number; say its unit"):
        parse_count("1.2345")


@pytest.mark.parametrize(
    ("cells", "numbers"),
    [
        (["7B", "350M", "7e9", "7_000_000_000", "1,000,000", "20"], [7e9, 350e6, 7e9, 7e9, 1e6, 20]),
        (["1,000", "12,000"], [1e3, 12e3]),
        (["1,234,567", "1,500"], [1234567, 1500]),
        (["2,512", "3,1"], [2.512, 3.1]),
        (["0,125", "0,250"], [0.125, 0.25]),
        (["-1.5", "2e-3", "+4"], [-1.5, 2e-3, 4]),
        (["1 M", "1 000 000", "1'500", "1\u00a0000"], [1e6, 1e6, 1500, 1000]),
        (["45.5%", "7 %"], [0.455, 0.07]),
        (["1,3B", "350M"], [1.3e9, 350e6]),
        (["1M", "1,000", "-1.5", "2e3", "x", None], [1e6, 1000, -1.5, 2000, np.nan, np.nan]),
        ([1, 2], [1, 2]),
    ],
)
def test_notation_of_a_column(cells, numbers):
    np.testing.assert_array_equal(column_numbers(pd.Series(cells)), numbers)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["3,141", "2,718"], "'3,141' may be 3141 or 3.141; write it without a comma"),
        (["1,500M", "3,250M"], "'1,500M' may be 1500M or 1.500M"),
    ],
)
def test_commas_that_could_mean_two_things_are_refused(cells, message):
    with pytest.raises(Refusal, match=message):
        column_numbers(pd.Series(cells))


def test_lists_of_sizes_are_split_beside_numbers():
    lists = {"7b,13b,34b": "7b 13b 34b", "7b, 13b": "7b 13b", "1,000,000": "1,000,000", "20,60,1000": "20 60 1000"}
    lists |= {"1,137,207,296,7b": "1,137,207,296 7b", "7e9,1.3e10": "7e9 1.3e10", "12,000,34b": "12,000 34b"}
    assert {text: " ".join(split_sizes(text)) for text in lists} == lists


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# c\n\nn,loss\n1,2\n1,2,3\n", "line 5: has 3 cells"),
        ('{"n": [1, 2], "loss": [3]}', "holds no table"),
        ('{"n": 1, "loss": 2}\n{"n": 1, "n": 2}\n', "line 2, n: stands twice in one object"),
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


def test_labels_of_several_columns_that_would_be_one_are_refused():
    table = pd.DataFrame({"n": [1, 2, 4] * 2, "loss": [3, 2, 1.5] * 2, "a": ["x/y"] * 3 + ["x"] * 3})
    table["b"] = ["z"] * 3 + ["y/z"] * 3
    for ask in (lambda **columns: aa.fit(table, "power", **columns), lambda **columns: aa.predict(table, 8, **columns)):
        with pytest.raises(aa.Refusal, match="two groups would both be called 'x/y/z'; rename one of them"):
            ask(x="n", y="loss", group=["a", "b"])


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ("loss", "n", "are x and y the wrong way round?"),
        ("n", "rising", "rising rises with n, and losses fall"),
        ("loss", "small", "are x and y the wrong way round?"),
        ("n", "loss", None),
    ],
)
def test_axes_that_look_wrong_are_warned_of(x, y, message):
    table = pd.DataFrame({"n": [1e6, 4e6, 16e6], "loss": [3, 2.5, 2.2], "small": [0.01, 0.1, 1]})
    table["rising"] = table["loss"].to_numpy()[::-1]
    notes = aa.fit(table, "power", x, y).points.notes
    assert any(message in note for note in notes) if message else not notes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, None),
        ({"m": ["lora"] * 4 + ["LoRA"] * 4}, "'lora' and 'LoRA' are groups of their own"),
        ({"m": ["ada lora"] * 4 + ["ada_lora"] * 4}, "'ada lora' and 'ada_lora' are groups of their own"),
        ({"m": ["+"] * 4 + ["++"] * 4}, None),
        ({"m": ["lora"] * 8, "loss": [3.0, 2.5, 2.2, 2.1] * 2}, "4 rows are the same as others"),
        # Columns that take no part may hold anything.
        ({"m": ["lora"] * 8, "config": [{"r": [8]}] * 8, "loss": [3.0, 2.5, 2.2, 2.1] * 2}, "4 rows are the same as"),
        ({"m": ["lora"] * 8, "loss": [0.3, 0.25, 0.2, 0.1] * 2}, None),
    ],
)
def test_rows_that_look_wrong_are_warned_of(change, message):
    losses = [3, 2.5, 2.2, 2.1, 3.1, 2.6, 2.3, 2.15]
    table = pd.DataFrame({"n": [1e6, 1e7, 1e8, 1e9] * 2, "loss": losses, "m": ["a"] * 4 + ["b"] * 4} | change)
    predicted = aa.predict(table, 2e9, x="n", y="loss", group="m")
    for notes in (aa.fit(table, "power", "n", "loss", "m").points.notes, predicted.notes):
        found = [note for note in notes if "wrong way" not in note]
        assert any(message in note for note in found) if message else not found


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
