"""The command: help that reads, output that parses, errors that name what to do, exit codes that mean something."""

import csv
import functools
import importlib
import io
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from astraios_analysis.cli import main as cli
from astraios_analysis.cli.main import main
from astraios_analysis.records import frame as records
from astraios_analysis.records import released, sources
from astraios_analysis.records.schema import METHODS

ROOT = Path(__file__).parents[2]
DATA = ["--data", str(ROOT / "data" / "released")]
COMMANDS = [[], ["figures"], ["records"], ["records", "check"], ["records", "show"], ["rank"], ["predict"], ["claims"]]
# What the design promises to those who build on the output.
PROMISED = """
    grid run_id size method seed held_out n_params n_params_base n_params_base_nonembedding n_params_updated
    base_val_loss val_loss dataset language setting metric value stderr n_items source
"""


load_once = functools.cache(released.load_released)


@pytest.fixture(autouse=True)
def read_tables_once(monkeypatch):
    """Read the released tables, which never change here, once and not for every command."""
    monkeypatch.setattr(sources, "load_released", load_once)


@pytest.fixture
def run(capsys):
    """Run the command: (exit code, standard output, standard error)."""

    def run(*arguments):
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return run


@pytest.fixture
def fails(run):
    """Run a command that must fail with nothing on standard output: (exit code, its last line of complaint)."""

    def fails(*arguments):
        code, out, err = run(*arguments)
        assert out == ""
        return code, err.strip().splitlines()[-1]

    return fails


def no_constant(name):
    raise AssertionError(f"{name} is not JSON")


def strict_json(text):
    """Parse JSON that has no NaN and no infinity."""
    return json.loads(text, parse_constant=no_constant)


def table_of(text):
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture
def own_record(make_record, tmp_path):
    """Write a valid record of our own and return its path."""
    return records.save(make_record(), tmp_path / "runs")


class TestHelp:
    @pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
    def test_reads_like_documentation(self, run, command):
        code, out, err = run(*command, "--help")
        assert (code, err) == (0, "")
        assert out.startswith(f"usage: {' '.join(['astraios', *command])}")
        description, examples = out.split("\n\n", 1)[1].split("examples:\n")
        assert description.strip() and f"  astraios {' '.join(command)}" in examples
        assert max(map(len, out.splitlines())) <= 100

    @pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
    def test_examples_can_be_run(self, run, command):
        examples = run(*command, "--help")[1].split("examples:\n")[1].split("\n\n")[0].splitlines()
        for line in examples:
            # What it does, or where its output goes, stands behind the command.
            words = re.split(r"  +| > ", line.strip())[0].split()
            parsed = cli.build_parser().parse_args(words[1:])
            module = importlib.import_module(f"astraios_analysis.{getattr(parsed, 'module', 'commands')}")
            assert words[0] == "astraios" and callable(getattr(module, parsed.run))

    def test_is_quick_because_nothing_heavy_is_loaded(self):
        heavy = {"numpy", "pandas", "scipy", "matplotlib", "statsmodels", "papermill", "nbformat", "seaborn"}
        script = "import sys\nfrom astraios_analysis.cli.main import main\ntry:\n    main(['rank', '--help'])\n"
        script += f"except SystemExit:\n    print(sorted({heavy} & set(sys.modules)), file=sys.stderr)\n"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
        assert done.stderr == "[]\n"

    def test_version(self, run):
        version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
        assert run("--version") == (0, f"astraios {version}\n", "")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "the following arguments are required: COMMAND"),
            (["dance"], "invalid choice: 'dance'"),
            (["records"], "the following arguments are required: ACTION"),
            (["predict", "--method", "lora"], "the following arguments are required: --size"),
            (["rank", "--level", "95"], "'95' is not a coverage between 0 and 1, such as 0.95"),
            (["rank", "--seed", "-1"], "'-1' is not a whole number from 0 up"),
            (["figures", "--jobs", "0"], "'0' is not a whole number from 1 up"),
            (["figures", "--data", "a", "--records", "b"], "argument --records: not allowed with argument --data"),
            (["figures", "-p", "level"], "'level' is not NAME=VALUE, for example level=0.9"),
        ],
    )
    def test_wrong_arguments(self, fails, arguments, message):
        code, complaint = fails(*arguments)
        assert code == 2 and message in complaint


class TestProcess:
    def test_broken_pipe_is_no_error(self):
        command = f"{sys.executable} -m astraios_analysis.cli.main records show --format csv | head -1"
        options = {"shell": True, "executable": "/bin/bash", "capture_output": True, "text": True, "cwd": ROOT}
        done = subprocess.run(f"set -o pipefail; {command}", check=False, **options)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("grid,run_id,size,method")

    def test_finds_the_data_from_any_folder(self, tmp_path):
        command = [sys.executable, "-m", "astraios_analysis.cli.main", "records", "show", "--runs", "--format", "json"]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path)
        released_models = [row for row in strict_json(done.stdout) if row["grid"] == "released"]
        assert len(released_models) == 28


class TestCheck:
    def test_released_data(self, run):
        assert run("records", "check", ROOT / "data" / "released") == (
            0,
            "",
            "28 valid records in 1 grid, 0 problems\n",
        )

    @pytest.mark.parametrize("times", [1, 2])
    def test_own_records_however_often_named(self, run, own_record, tmp_path, times):
        paths = [tmp_path, own_record.parent, own_record] * times
        assert run("records", "check", *paths) == (0, "", "1 valid record in 1 grid, 0 problems\n")

    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            (lambda text: text[:200], "is not valid JSON (line"),
            (lambda text: "", "is not valid JSON (the file is empty); it may be cut off: restore it"),
            (
                lambda text: text.replace('"lora"', '"lora2"'),
                "method: unknown tuning method 'lora2'; choose from adapterh",
            ),
            (
                lambda text: text.replace('"val_loss": 2.5', '"val_loss": -2.5'),
                "val_loss: is -2.5; input should be gre",
            ),
            (
                lambda text: text.replace('"seed"', '"sede"'),
                "sede: is not a field of schema version 1 (value 0); remove",
            ),
            (
                lambda text: text.replace('"n_params_base"', '"x"'),
                "n_params_base: is missing; every record has it: add",
            ),
        ],
    )
    def test_broken_record(self, run, own_record, tmp_path, damage, message):
        own_record.write_text(damage(own_record.read_text()))
        code, out, err = run("records", "check", tmp_path)
        assert code == 1 and err.startswith("0 valid records in 0 grids, ")
        assert any(line.startswith(f"{own_record}: {message}") for line in out.splitlines())

    def test_every_problem_of_every_path_is_printed(self, run, own_record, tmp_path):
        copy = tmp_path / "copy.json"
        copy.write_text(own_record.read_text())
        (tmp_path / "empty").mkdir()
        code, out, err = run("records", "check", tmp_path, tmp_path / "nowhere", tmp_path / "empty", DATA[1])
        assert code == 1 and err == "29 valid records in 2 grids, 3 problems\n"
        assert f"{own_record}: run_id: {own_record.stem!r} is also in {copy}; remove one or rename it" in out
        assert f"{tmp_path / 'nowhere'}: does not exist; give a record file or a folder" in out
        assert f"{tmp_path / 'empty'}: holds no record (*.json)" in out
        assert len(out.splitlines()) == 3

    @pytest.mark.parametrize(
        "command", [["rank"], ["records", "show"], ["predict", "--method", "all", "--size", "34b"]]
    )
    def test_other_commands_refuse_wrong_data(self, fails, tmp_path, command):
        (tmp_path / "bad.json").write_text("{")
        code, complaint = fails(*command, "--data", tmp_path)
        assert code == 1 and complaint.startswith(f"{tmp_path / 'bad.json'}: is not valid JSON")
        code, complaint = fails(*command, "--data", tmp_path / "nowhere")
        assert code == 1 and "nowhere: does not exist" in complaint


class TestShow:
    def test_csv_has_what_was_promised_in_full(self, run, released_records):
        code, out, err = run("records", "show", "--format", "csv", *DATA)
        rows = table_of(out)
        assert (code, err) == (0, "") and set(PROMISED.split()) <= set(rows[0])
        scores = {(r.run_id, s.dataset, s.language, s.setting, s.metric): s for r in released_records for s in r.scores}
        assert len(rows) == len(scores)
        for row in rows:
            score = scores[tuple(row[name] for name in ("run_id", "dataset", "language", "setting", "metric"))]
            assert float(row["value"]) == score.value and row["metric"] in records.METRICS
            assert (float(row["stderr"]) if row["stderr"] else None) == score.stderr
        pass_rates = [float(row["value"]) for row in rows if row["metric"] == "pass@1"]
        assert len(pass_rates) > 200 and min(pass_rates) >= 0 and max(pass_rates) <= 1

    def test_json_equals_csv_and_says_null_for_what_is_missing(self, run):
        chosen = ["--method", "lora", "--dataset", "recode_format", *DATA]
        rows = table_of(run("records", "show", "--format", "csv", *chosen)[1])
        objects = strict_json(run("records", "show", "--format", "json", *chosen)[1])
        assert len(objects) == len(rows) > 50 and objects[0]["val_loss"] is None
        for row, one in zip(rows, objects, strict=True):
            assert list(row) == list(one)
            assert all(row[name] == ("" if value is None else str(value)) for name, value in one.items())

    def test_filters_are_all_applied_and_repeats_add(self, run):
        chosen = {"method": {"lora", "ia3"}, "size": {"7b"}, "dataset": {"recode_format"}, "metric": {"pass@1"}}
        chosen |= {"setting": {"nominal"}}
        options = [part for name, values in chosen.items() for value in values for part in (f"--{name}", value)]
        rows = table_of(run("records", "show", "--format", "csv", "--grid", "released", *options, *DATA)[1])
        assert len(rows) == 2
        assert all({row[name] for row in rows} == values for name, values in chosen.items())

    def test_table_is_for_people(self, run):
        code, out, err = run("records", "show", "--size", "7b", "--method", "lora", "--dataset", "recode_format", *DATA)
        header, *lines = out.splitlines()
        assert code == 0 and "val_loss" not in header and "<NA>" not in out and "nan" not in out
        assert err == f"{len(lines)} rows; --format csv has every column with all digits\n"

    def test_runs(self, run):
        rows = table_of(run("records", "show", "--runs", "--size", "1b", "--format", "csv", *DATA)[1])
        assert [row["method"] for row in rows] == list(METHODS) and "value" not in rows[0]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--size", "99b"], "unknown size '99b'; choose from 1b, 3b, 7b, 16b"),
            (["--method", "lora", "--method", "qlora"], "unknown method 'qlora'; choose from fft, lora, ptuning, ia3"),
            (["--dataset", "mbpp"], "unknown dataset 'mbpp'; choose from clone_detection"),
            (["--metric", "bleu"], "unknown metric 'bleu'; choose from accuracy"),
            (["--grid", "mine"], "unknown grid 'mine'; choose from released"),
            (["--run-seed", "1"], "no run with seed 1; no run here records its seed"),
            (["--runs", "--dataset", "aatk"], "--dataset chooses scores and --runs shows one row a run; leave one"),
        ],
    )
    def test_unknown_value_names_the_choices(self, fails, options, message):
        code, complaint = fails("records", "show", *options, *DATA)
        assert code == 2 and complaint.startswith(message)

    @pytest.mark.parametrize(("form", "lines"), [("table", 1), ("csv", 1), ("json", 1)])
    def test_nothing_to_show_is_an_answer(self, run, form, lines):
        code, out, err = run(
            "records", "show", "--size", "16b", "--dataset", "humanevalfix_java", "--format", form, *DATA
        )
        assert code == 0 and len(out.splitlines()) == lines
        assert err.endswith("nothing is size 16b, dataset humanevalfix_java at once\n")


def test_unwritable_place_is_named(fails, tmp_path):
    (tmp_path / "taken").write_text("")
    code, complaint = fails("figures", "--only", "model_suite", "--out", tmp_path / "taken", "--quiet", *DATA)
    assert code == 1 and "taken: cannot be read or written (File exists)" in complaint


def test_figures_writes_figures_and_report(run, tmp_path):
    places = ["--out", tmp_path / "figures", "--build", tmp_path / "build"]
    code, out, err = run("figures", "--only", "model_suite", "--quiet", "-p", "grid=released", *places, *DATA)
    assert (code, out) == (0, "")
    report = tmp_path / "build" / "report.html"
    assert err.splitlines()[-1].startswith(f"1 of 1 notebook run: 3 files in {places[1]}, report in {report} (")
    assert sorted(path.name for path in places[1].iterdir()) == [
        f"updated_parameters.{x}" for x in ("csv", "pdf", "png")
    ]
    assert "28 runs: sizes 1b 3b 7b 16b; methods fft lora" in report.read_text("utf-8")


def test_unknown_names_are_wrong_arguments(fails, tmp_path):
    places = ["--out", tmp_path / "figures", "--build", tmp_path / "build"]
    code, complaint = fails("figures", "-p", "levle=0.9", "--quiet", *places, *DATA)
    assert code == 2 and complaint.startswith("unknown parameter 'levle' for notebooks model_suite, cross_entropy")
    code, complaint = fails("figures", "--only", "dance", "--quiet", *places, *DATA)
    assert code == 2 and complaint.startswith("unknown notebook 'dance'; choose from model_suite")


def test_every_grid_is_drawn_or_the_one_that_is_named(fails, tmp_path, make_record):
    from astraios_analysis.records.frame import save

    places = ["--out", tmp_path / "figures", "--build", tmp_path / "build", "--data", tmp_path / "data"]
    save(make_record(run_id="a", grid="mini"), tmp_path / "data")
    assert main(["figures", "--only", "model_suite", "--quiet", *map(str, places)]) == 0
    assert "mini" in (tmp_path / "build" / "report.html").read_text("utf-8")
    save(make_record(run_id="b", grid="maxi"), tmp_path / "data")
    assert main(["figures", "--only", "model_suite", "--quiet", "-p", "grid=maxi", *map(str, places)]) == 0
    drawn = {path.stem for path in (tmp_path / "figures").glob("*.csv")}
    assert {"updated_parameters_mini", "updated_parameters_maxi", "training_cost_maxi"} <= drawn
    code, complaint = fails("figures", "--only", "model_suite", "--quiet", "-p", "grid=midi", *places)
    assert code == 2 and "unknown grid 'midi'; choose from all, maxi, mini" in complaint


def test_check_notes_data_sets_that_take_part_in_nothing(run, tmp_path, make_record, make_score):
    from astraios_analysis.records.frame import save

    save(make_record(scores=(make_score([20, 0], dataset="humanevalfix_pyton"),)), tmp_path)
    code, _, notes = run("records", "check", tmp_path)
    assert code == 0 and "note: data set 'humanevalfix_pyton' is not one of the study's" in notes
