"""Inputs that are wrong: each gets one clear line that names the thing, and never a traceback."""

import gzip

import pytest

from astraios_analysis.cli.main import main

LEVELS, SIZES_OF_ROWS = {"lora": 300, "full": 250}, (1e6, 1e7, 1e8, 1e9)
CELLS = ((n, m, 2 + a * n**-0.3, 0.1 * a) for m, a in LEVELS.items() for n in SIZES_OF_ROWS)
ROWS = "".join(f"{n},{m},{loss:.4f},{acc:.2f}\n" for n, m, loss, acc in CELLS)
GOOD = f"n,m,loss,acc\n{ROWS}"


def changed(cell):
    """The table, with other cells in its first row."""
    return GOOD.replace(GOOD.splitlines()[1], cell)


TABLES = {
    "empty": "",
    "header": "n,m,loss\n",
    "twice": "n,loss,loss\n1,2,3\n",
    "headless": "1,2\n3,4\n",
    "long": f"{GOOD}1,2,3,4,5\n",
    "inf": changed("1e6,lora,inf,0.3"),
    "nan": changed("1e6,lora,nan,0.3"),
    "blank": changed("1e6,lora,,0.3"),
    "text": changed("1e6,lora,low,0.3"),
    "zero": changed("1e6,lora,0,0.3"),
    "minus": changed("1e6,lora,-2,0.3"),
    "size": changed("big,lora,3,0.3"),
    "huge": changed("1e999,lora,3,0.3"),
    "group": changed("1e6,,3,0.3"),
    "na": changed("1e6,NA,3,0.3"),
    "comma": changed('1e6,lora,"3,141",0.3'),
    "mixed": changed('"1,000,000",lora,3,0.3').replace("10000000.0", '"2,5"', 1),
    "percent": GOOD.replace("0.30", "30").replace(",30.00\n", ",30\n"),
    "held": GOOD.replace("acc", "held_out"),
    "two": "n,loss\n1,2\n2,1\n",
    "same": "n,loss\n5,2\n5,3\n5,4\n",
    "json": '{"n": 1, "loss": \n',
    "list": "[1, 2, 3]",
    "split": GOOD.replace("acc", "split"),
    "swapped": "loss,n\n1e6,3\n1e7,2.5\n1e8,2.2\n1e9,2.1\n",
    "dots": "n;loss\n1.234;2,5\n",
}
PREDICT = ("predict", "--x", "n", "--y", "loss", "--size", "1e10")
FIT = ("fit", "--law", "power", "--x", "n", "--y", "loss")
IMPORT = ("import", "csv", "--grid", "g", "--out", "o", "--n-params-base-column", "n", "--method-column", "m")
UPDATED = ("--n-params-updated", "9")
CASES = [
    *((name, PREDICT, words) for name, words in {
        "empty": "holds no table", "header": "holds no table", "twice": "column 'loss': stands twice",
        "headless": "holds numbers, not names", "long": "line 10: has 5 cells", "inf": "row 1, column 'loss': is 'inf'",
        "nan": "row 1, column 'loss': is missing", "blank": "row 1, column 'loss': is missing",
        "text": "row 1, column 'loss': is 'low'", "zero": "row 1, column 'loss': is 0.0, not above 0",
        "minus": "a loss below 0 is relative to another", "size": "row 1, column 'n': is 'big'",
        "huge": "row 1, column 'n': is inf", "comma": "'3,141' may be 3141 or 3.141",
        "mixed": "commas stand for two things", "held": "column 'held_out' is", "json": "is not valid JSON (line 2",
        "list": "holds no table", "dots": "'1.234' may be 1234 or 1,234", "same": "",
    }.items()),
    *((name, FIT, words) for name, words in {
        "empty": "holds no table", "inf": "row 1, column 'loss'", "zero": "not above 0", "two": "no degree of freedom",
        "text": "is 'low', not a finite number", "held": "column 'held_out' is",
    }.items()),
    ("group", (*PREDICT, "--group", "m"), "row 1, column 'm': is blank"),
    ("na", (*FIT, "--group", "m"), "row 1, column 'm': is blank"),
    ("good", (*FIT, "--group", "k"), "has no column 'k'; it has n, m, loss, acc"),
    ("good", (*PREDICT, "--group", "k"), "has no column 'k'"),
    ("good", ("predict", "--size", "1e10"), "name the table's columns with x and y"),
    ("good", ("fit", "--law", "powr", "--x", "n", "--y", "loss"), "powr"),
    ("good", ("fit", "--law", "power", "--x", "n"), "name the columns"),
    ("good", ("predict", "--x", "n", "--y", "los", "--size", "7b"), "no column 'los'"),
    ("good", ("predict", "--x", "n", "--y", "loss"), "name what to predict at"),
    ("good", ("predict", "--x", "n", "--y", "loss", "--size", "7q"), "size '7q' is not understood"),
    ("good", ("predict", "--x", "n", "--y", "loss", "--size", "-7b"), "size '-7b' is not understood"),
    ("good", ("predict", "--x", "n", "--y", "loss", "--size", "0"), "size '0' is not understood"),
    ("good", ("predict", "--x", "n", "--y", "loss", "--size", "1"), "times beyond the fitted range"),
    ("good", ("predict", "--x", "n", "--y", "loss", "--size", "1e20"), "times beyond the fitted range"),
    ("good", ("predict", "--x", "n", "--y", "loss", "--size", "100,200"), "may be 100200 or two sizes"),
    ("good", (*PREDICT, "--group", "m", "--method", "dora"), "unknown m 'dora'; choose from lora, full"),
    ("good", (*PREDICT, "--plot", "out.gif"), "'out.gif' is no picture"),
    ("good", (*PREDICT[:5], "--at", "n=low"), "n is 'low' at a place to predict; give a positive number"),
    ("good", (*PREDICT[:5], "--at", "n=0"), "n is '0' at a place to predict; give a positive number"),
    ("good", (*PREDICT[:5], "--at", "n=1e9,n=1e10"), "'n=1e9,n=1e10' is no place to predict at"),
    ("good", (*PREDICT, "--via", "loss"), "loss does not go through itself"),
    ("percent", (*PREDICT[:4], "acc", *PREDICT[5:], "--via", "loss"), "divide percentages by 100"),
    ("good", ("allocate", "--x", "n,acc", "--y", "loss", "--budget", "1e9,much"), "budget 'much' is not understood"),
    ("good", ("predict", "--x", "n", "--y", "loss", "--rate", "--size", "1e10"), "divide percentages by 100"),
    ("swapped", (*PREDICT,), "are x and y the wrong way round?"),
    ("good", ("backtest", "--x", "n", "--y", "loss", "--hold-out", "9"), "9"),
    ("split", ("backtest", "--x", "n", "--y", "loss", "--split", "split"), "train in column 'split'; it holds"),
    ("good", ("backtest", "--x", "n"), "x and y"),
    ("missing", PREDICT, "there is no such file"),
    ("missing", FIT, "there is no such file"),
    ("folder", PREDICT, "is a folder; --x is for a table"),
    ("good", IMPORT, "n_params_updated: is not there"),
    ("good", (*IMPORT, *UPDATED, "--score", "acc", "mine"), "'mine' is not in the registry, so its metric must be"),
    ("good", (*IMPORT, *UPDATED, "--score", "acc", "mine", "accuracy"), "say it with --n-items mine=N"),
    ("good", (*IMPORT, "--metric", "mine=acuracy", "--score", "acc", "mine"), "unknown metric 'acuracy'"),
    ("good", (*IMPORT, "--n-items", "many"), "--n-items: 'many' is not a count"),
    ("good", (*IMPORT, "--size-column", "Size"), "column 'Size': is not in the table"),
    ("packed", PREDICT, "is packed with gzip and cannot be unpacked"),
    ("bytes", PREDICT, "is not UTF-8 text"),
    ("parquet", PREDICT, "parquet"),
    ("empty", ("import", "auto", "--out", "o"), "is not recognised"),
    ("good", ("import", "lm-eval", "--run-id", "r", "--out", "o"), "read it with: astraios import csv"),
    ("good", ("rank",), ""),
    ("good", ("rank", "--metric", "gsm8k"), "'gsm8k' is not NAME=METRIC"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "words", "message"), CASES, ids=lambda part: part if isinstance(part, str) else None)
def test_one_clear_line(tmp_path, capsys, monkeypatch, name, words, message):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "t.csv"
    special = {"packed": gzip.compress(GOOD.encode())[:40], "bytes": b"n,loss\n1,\xff\n", "parquet": b"PAR1nothing"}
    if name == "folder":
        path.mkdir()
    elif name in special:
        path.write_bytes(special[name])
    elif name != "missing":
        path.write_text(TABLES.get(name, GOOD))
    option = [] if words[0] == "import" else ["--data"]
    arguments = [*words[:2], str(path), *words[2:]] if not option else [*words, "--data", str(path)]
    code = main(arguments)
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line and not line.startswith(("Usage", "Try"))]
    assert code in (1, 2) and out == "" and not (tmp_path / "o").exists()
    assert "Traceback" not in err and message in err and len(lines) <= 3, err


SIZES = "a line and its error need at least 3 sizes. Measure"
PREDICTABLE = "or choose from clone_detection, defect_detection, humanevalsynthesize_python, "
PREDICTABLE += "humanevalsynthesize_java, humanevalfix_python, humanevalfix_java, humanevalexplain_python, "
PREDICTABLE += "mean_generation, humaneval_python, recode_format, recode_function, recode_syntax"
REFUSED = [
    ("dance", "No such command 'dance'"),
    ("predict --method lora", "name the sizes to predict with --size, such as 34b"),
    ("predict --size 34b --method qlora", "unknown tuning method 'qlora'; choose from fft, lora, ptuning, ia3"),
    ("predict --size 34b --grid mine", "unknown grid 'mine'; choose from released"),
    ("predict --size 34b --dataset mbpp", "unknown data set 'mbpp'; choose from clone_detection"),
    ("predict --size 34b --dataset aatk", f"aatk: only 1b, 16b measured; {SIZES} 1 more size, {PREDICTABLE}"),
    ("predict --size 34b --dataset humanevalexplain_java", f"only 1b, 7b measured; {SIZES} 1 more size, {PREDICTABLE}"),
    ("predict --size 34b --dataset recode_docstring", f"nothing measured; {SIZES} 3 more sizes, {PREDICTABLE}"),
    ("rank --dataset mbpp", "unknown data set 'mbpp'; choose from clone_detection, "),
    ("rank --level 95", "95.0 is not in the range 0<x<1"),
    ("rank --seed -1", "-1 is not in the range x>=0"),
    ("compare lora dora", "unknown tuning method 'dora'; choose from fft"),
    ("compare lora fft --plot a.xyz", "'a.xyz' is no picture; name a file that ends in .png"),
    ("compare lora lora", "lora is compared with itself"),
    ("compare lora fft --size 9b", "size '9b' was not measured; choose from"),
    ("compare lora fft --dataset mbpp", "unknown data set 'mbpp'; choose from"),
    ("transfer --small 7b --large 1b", "7b is not smaller than 1b"),
    ("transfer --small 2b", "size '2b' was not measured"),
    ("transfer --small 3b --dataset humanevalexplain_java", "do not share four methods"),
    ("regress", "no validation loss, so nothing relates the two"),
    ("regress --on fix", "no run has a loss 'fix'; choose from val_loss"),
    ("claims --claim best", "unknown claim 'best'; choose from fft_best"),
    ("fit", "name the law to fit with --law: power"),
    ("fit --law power", "no run of these records has val_loss"),
    ("fit --huber 0", "0.0 is not in the range x>0"),
    ("fit --fix E", "'E' is not NAME=NUMBER or NAME=NAME, such as E=1.7 or alpha=beta"),
    ("fit --pooling partial", "'partial' is not one of 'none', 'shared'"),
    ("plan --size 34b", "name the data set to predict with --dataset"),
    ("plan --size 34b --dataset recode_format --budget 40euros", "budget '40euros' is not understood"),
    ("plan --size 34b --dataset recode_format --target big.csv", "--target is for a table"),
    ("plan --size 34b --dataset recode_format --tflops -3", "a GPU of -3 TFLOP a second trains nothing"),
    ("plan --dataset recode_format", "name the size to choose a method for"),
    ("records show --size 99b", "unknown size '99b'; choose from 1b, 3b, 7b, 16b"),
    ("records show --method lora --method qlora", "unknown method 'qlora'; choose from fft, lora, ptuning, ia3"),
    ("records show --dataset mbpp", "unknown dataset 'mbpp'; choose from clone_detection"),
    ("records show --metric bleu", "unknown metric 'bleu'; choose from accuracy"),
    ("records show --grid mine", "unknown grid 'mine'; choose from released"),
    ("records show --run-seed 1", "no run with seed 1; no run here records its seed"),
    ("records show --runs --dataset aatk", "--dataset chooses scores and --runs shows one row a run; leave one"),
    ("records complete --dataset gsm8k", "unknown dataset 'gsm8k'; choose from"),
    ("figures --jobs 0", "0 is not in the range x>=1"),
    ("figures --records b", "argument --records: not allowed with argument --data"),
    ("figures -p level", "'level' is not NAME=VALUE, for example level=0.9"),
    ("figures -p levle=0.9", "unknown parameter 'levle' for notebooks model_suite, cross_entropy"),
    ("figures --only dance", "unknown notebook 'dance'; choose from model_suite"),
]


@pytest.mark.parametrize(("words", "message"), REFUSED)
def test_wrong_arguments_of_the_released_models(refusal, released_data, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    *_, complaint = refusal(*words.split(), data=None if words == "dance" else released_data).splitlines()
    assert message in complaint and list(tmp_path.iterdir()) == []
