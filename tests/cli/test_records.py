"""``astraios records``: validate, print as table, CSV and JSON."""

import csv
import io
import json
from pathlib import Path

import pytest

from astraios_analysis.records import frame as records
from astraios_analysis.records.registry import MEAN_GENERATION
from astraios_analysis.records.schema import METHODS

ROOT = Path(__file__).parents[2]
DATA = ["--data", str(ROOT / "data" / "released")]
# What the design promises to those who build on the output.
PROMISED = """
    grid run_id size method seed held_out n_params n_params_base n_params_base_nonembedding n_params_updated
    base_val_loss val_loss dataset language setting metric value stderr n_items source
"""


def strict_json(text):
    return json.loads(text, parse_constant=pytest.fail)


def table_of(text):
    return list(csv.DictReader(io.StringIO(text)))


class TestCheck:
    def test_released_data(self, run):
        found = run("records", "check", ROOT / "data" / "released")
        assert found == (0, "", "28 valid records in 1 grid, 0 problems\n")

    def test_every_problem_of_every_path_is_printed(self, run, make_record, tmp_path):
        own_record = records.save(make_record(), tmp_path / "runs")
        copy, broken = tmp_path / "copy.json", tmp_path / "lo ra.json"
        copy.write_text(own_record.read_text())
        broken.write_text(own_record.read_text().replace('"lora"', '"lo ra"'))
        (tmp_path / "empty").mkdir()
        code, out, err = run("records", "check", tmp_path, tmp_path / "nowhere", tmp_path / "empty", DATA[1])
        assert code == 1 and err == "29 valid records in 2 grids, 4 problems\n"
        assert f"{own_record}: run_id: {own_record.stem!r} is also in {copy}; remove one or rename it" in out
        assert f"{tmp_path / 'nowhere'}: does not exist; give a record file or a folder" in out
        assert f"{tmp_path / 'empty'}: holds no record (*.json)" in out
        assert f"{broken}: method: is 'lo ra'" in out and len(out.splitlines()) == 4

    @pytest.mark.parametrize("command", ["rank", "records show", "predict --size 34b", "rank --grid ladder"])
    def test_other_commands_refuse_wrong_data(self, refusal, tmp_path, command):
        (tmp_path / "bad.json").write_text("{")
        *_, complaint = refusal(*command.split(), data=tmp_path, code=1).splitlines()
        assert complaint.startswith(f"{tmp_path / 'bad.json'}: is not valid JSON")
        assert "nowhere: " in refusal(*command.split(), data=tmp_path / "nowhere", code=1)

    def test_a_table_is_no_record_and_can_become_some(self, refusal, tmp_path):
        (tmp_path / "runs.csv").write_text("params,loss\n1e9,2\n")
        complaint = refusal("rank", data=tmp_path / "runs.csv", code=1)
        assert "runs.csv: is no record, which is a JSON file; astraios import makes records of tables" in complaint


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
        # The mean over code generation is there where it is named.
        named = ("--dataset", MEAN_GENERATION)
        assert len(table_of(run("records", "show", "--format", "csv", *named, *DATA)[1])) == 21
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

    @pytest.mark.parametrize("form", ["table", "csv", "json"])
    def test_nothing_to_show_is_an_answer(self, run, form):
        asked = ("--size", "16b", "--dataset", "humanevalfix_java", "--format", form)
        code, out, err = run("records", "show", *asked, *DATA)
        assert code == 0 and len(out.splitlines()) == 1
        assert err.endswith("nothing is size 16b, dataset humanevalfix_java at once\n")


def test_check_notes_data_sets_that_take_part_in_nothing(run, tmp_path, make_record, make_score):
    records.save(make_record(scores=(make_score([20, 0], dataset="humanevalfix_pyton"),)), tmp_path)
    code, _, notes = run("records", "check", tmp_path)
    assert code == 0 and "note: data set 'humanevalfix_pyton' is not one of the study's" in notes


def test_models_that_look_like_one_are_warned_of(run, tmp_path, make_record):
    for seed, changes in enumerate(({}, {"n_params_base": 999}, {"method": "LoRA"})):
        records.save(make_record(run_id=f"r{seed}", seed=seed, **{"method": "lora", **changes}), tmp_path)
    code, _, notes = run("records", "check", tmp_path)
    assert code == 0 and "1 size with several numbers of base parameters, such as" in notes
    assert "'lora' and 'LoRA' are methods of their own; write them alike if they are one" in notes


def test_complete_prints_estimates_and_json(run):
    code, out, err = run("records", "complete", *DATA, "--dataset", "humanevalexplain_python")
    assert code == 0 and out.count("\n") == 5 and "4 estimates beside 24 measured scores; 95 % intervals" in err
    code, out, _ = run("records", "complete", *DATA, "--json")
    kinds = [row["kind"] for row in strict_json(out)]
    assert code == 0 and kinds.count("measured") > 200 and kinds.count("estimate") > 40
