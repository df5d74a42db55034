"""Published generations against their released scores; tests/benchmarks/bench_agreement.py scores every file whole."""

import gzip
import json
from dataclasses import replace
from types import SimpleNamespace

import agreement as AGREEMENT
import pandas as pd
import pytest

from training.published.problems import read_problems
from training.published.score import score_file
from training.published.tasks import TASKS
from training.sandbox.programs import JavaUnavailable, SandboxUnavailable

DEFECT = ("defect_detection_zeroshot_7b_lora", "defect_detection_oneshot_16b_fft")
# Some problems of each, which take seconds; both layouts, two tasks, two languages.
PARTS = {
    "humanevalexplain_python_16b_lora": range(0, 164, 20),
    "humanevalsynthesize_python_1b_lora": range(5, 164, 20),
    "humanevalfix_java_7b_lora": range(3, 164, 20),
}

pytestmark = pytest.mark.reference


@pytest.mark.parametrize("name", DEFECT)
def test_defect_detection_has_the_released_counts_and_scores(reference_folder, tmp_path, name):
    found = AGREEMENT.compare(reference_folder, name, tmp_path)
    assert found.differing == {}
    dataset, _, size, method = name.rsplit("_", 3)
    condition = "zero" if "zeroshot" in name else "one"
    released = pd.read_csv(reference_folder / "data" / "astraios_released_scores.csv")
    is_same = (released[["dataset", "model_size", "method"]] == [dataset, size, method]).all(axis=1)
    rows = released[is_same & released["setting"].str.contains(condition)]
    parts = {"full2732": found.report.whole, "balanced2000_seed0": found.report.settings["balanced2000_seed0"]}
    for row in rows.to_dict("records"):
        part = next(part for name, part in parts.items() if name in row["setting"])
        assert 100 * part.values[row["metric"]] == pytest.approx(row["value"], abs=1e-3), row
        assert 100 * part.stderr[row["metric"]] == pytest.approx(row["stderr"], rel=0.35, abs=0.02), row
    assert len(rows) == 12


@pytest.mark.parametrize("name", PARTS)
def test_some_problems_of_a_file_have_the_released_counts(reference_folder, tmp_path, name):
    request = AGREEMENT.make_request(reference_folder, name, tmp_path)
    places = PARTS[name]
    with gzip.open(request.problems, "rt") as lines:
        rows = lines.readlines()
    samples = json.loads(gzip.decompress(request.generations.read_bytes()))
    each = len(samples) // len(rows)
    parts = [samples[each * place : each * (place + 1)] for place in places]
    (tmp_path / "problems.jsonl").write_text("".join(rows[place] for place in places))
    (tmp_path / "generations.json").write_text(json.dumps([item for part in parts for item in part]))
    request = replace(request, generations=tmp_path / "generations.json", problems=tmp_path / "problems.jsonl")
    try:
        report = score_file(request)
    except (SandboxUnavailable, JavaUnavailable) as error:
        pytest.skip(f"needs a containment or javac: {str(error).splitlines()[0]}")
    (released,) = AGREEMENT.expected_counts(reference_folder, name).values()
    expected = {problem: (n_samples, n_passed) for problem, n_samples, n_passed in released}
    found = [(count.n_samples, count.n_passed) for count in report.whole.per_problem]
    assert found == [expected[place] for place in places]
    assert 0 < report.whole.values["pass@1"] < 1


@pytest.mark.parametrize("name", ["humanevalsynthesize_python_7b_fft", "humanevalfix_python_3b_adapterp"])
def test_published_programs_begin_as_the_prompts_end(reference_folder, tmp_path, name):
    request = AGREEMENT.make_request(reference_folder, name, tmp_path)
    task = TASKS[request.dataset]
    problems = read_problems(request.problems)
    samples = json.loads(gzip.decompress(request.generations.read_bytes()))
    of_problem = zip(problems, samples, strict=True)
    strangers = [p.task_id for p, own in of_problem if not all(text.startswith(task.cut(p, "")) for text in own)]
    # The released docstring of one problem has a quotation mark too many, which the problem file has no more.
    assert strangers == (["Python/142"] if "synthesize" in name else [])


def test_published_questions_are_the_ones_asked(reference_folder):
    question = TASKS["defect_detection"].ask(SimpleNamespace(code=("x",)))
    end = question.partition("x")[2]
    for name in DEFECT:
        path = AGREEMENT.published_files(reference_folder)[name]
        items = json.loads(gzip.decompress(path.read_bytes()))
        assert all(end in item["raw_text"] for (item,) in items)
