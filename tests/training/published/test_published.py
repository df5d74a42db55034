import gzip
import json

import pytest
import tiny_problems as TINY

from training.published.measures import CATEGORIES
from training.published.score import Request, score_file


@pytest.fixture
def score(tmp_path):
    """Function that scores a list of samples for a data set, without containment: all programs are ours."""

    def run(dataset, samples, problems=None, **options):
        path = tmp_path / "generations.json"
        path.write_text(samples if isinstance(samples, str) else json.dumps(samples))
        usual = {"generations": path, "workers": 1, "is_unsafe": True, "shows_progress": False}
        return score_file(Request(dataset, problems=problems, folder=tmp_path / "journals", **(usual | options)))

    return run


@pytest.fixture
def python_problems(tmp_path):
    return TINY.write_problems(tmp_path / "problems.jsonl", TINY.python_rows())


def counts(report):
    return [(count.problem_id, count.n_samples, count.n_passed) for count in report.whole.per_problem]


@pytest.mark.parametrize("name", ["humanevalsynthesize_python", "humanevalfix_python", "humanevalexplain_python"])
@pytest.mark.parametrize("is_flat", [False, True])
def test_python_programs_in_both_layouts(score, python_problems, name, is_flat):
    samples = TINY.make_samples(TINY.python_rows(), [2, 1, 0], 2)
    if is_flat:
        samples = [[text] for several in samples for text in several]
    report = score(name, samples, python_problems)
    assert counts(report) == [(0, 2, 2), (1, 2, 1), (2, 2, 0)]
    assert (report.sandbox, report.dataset) == ("unsafe", name)
    assert report.whole.values["pass@1"] == 0.5
    assert report.details["source_file"] == "generations.json"


def test_a_scored_file_is_known_gzipped_or_not_and_a_fresh_start_forgets_it(score, python_problems, tmp_path):
    samples = TINY.make_samples(TINY.python_rows(), [1, 1, 0], 1)
    score("humanevalfix_python", samples, python_problems)
    (journal,) = (tmp_path / "journals").iterdir()
    # What the journal says counts, so a lie in it shows that nothing is run.
    journal.write_text(journal.read_text().replace('"failed"', '"passed"'))
    assert counts(score("humanevalfix_python", samples, python_problems))[2] == (2, 1, 1)
    packed = tmp_path / "packed"
    packed.write_bytes(gzip.compress((tmp_path / "generations.json").read_bytes()))
    assert counts(score("humanevalfix_python", samples, python_problems, generations=packed))[2] == (2, 1, 1)
    assert counts(score("humanevalfix_python", samples, python_problems, is_fresh=True))[2] == (2, 1, 0)


def test_recode_with_the_problems_as_they_were(score, python_problems):
    blocks = CATEGORIES["format"].blocks
    row, other, last = TINY.python_rows()
    right, wrong = TINY.solve(row), TINY.solve(other, "buggy_solution")
    third = [TINY.solve(last)]
    broken = [["x"] if block == ("tab_indent", 0) else third for block in blocks]
    samples = [item for number in range(len(blocks)) for item in ([right], [wrong], broken[number])]
    report = score("recode_format", samples, python_problems)
    assert counts(report) == [(0, 10, 10), (1, 10, 0), (2, 10, 9)]
    assert report.whole.values["robust_pass@1"] == pytest.approx(1 / 3)
    assert report.whole.values["robust_drop@1"] == pytest.approx(0.5)
    assert set(report.settings) >= {"nominal", "tab_indent", "new_lines", "mean_over_transformations"}


def test_nominal_outcomes_of_recode_from_another_file(score, python_problems, tmp_path):
    rows = TINY.python_rows()
    samples = [[TINY.solve(row)] for _ in CATEGORIES["syntax"].blocks for row in rows]
    nominal = tmp_path / "nominal.json"
    nominal.write_text(json.dumps([[TINY.solve(row)] for row in rows]))
    one = score("recode_syntax", samples, python_problems, nominal=nominal)
    assert one.whole.values["robust_drop@1"] == 0
    format_file = [[TINY.solve(row, "buggy_solution")] for _ in CATEGORIES["format"].blocks for row in rows]
    nominal.write_text(json.dumps(format_file))
    assert score("recode_syntax", samples, python_problems, nominal=nominal).whole.values["robust_relative@1"] == 1


@pytest.mark.parametrize("name", ["defect_detection", "clone_detection"])
def test_yes_no_answers_need_no_problems(score, name):
    answers = [[{"ID": 0, "true_label": "1", "raw_text": "x\nAnswer: YES"}], [{"true_label": "0", "raw_text": "yes"}]]
    report = score(name, answers)
    assert counts(report) == [(0, 1, 1), (1, 1, 0)]
    assert report.sandbox is None


def test_yes_no_answers_with_problems(score, tmp_path):
    problems = TINY.write_problems(tmp_path / "devign.jsonl", [{"func": "a", "target": 1}, {"func": "b", "target": 0}])
    assert counts(score("defect_detection", [["yes"], ["yes"]], problems)) == [(0, 1, 1), (1, 1, 0)]
    with pytest.raises(ValueError, match="holds 1 answers, and there are 2 problems"):
        score("defect_detection", [["yes"]], problems)
    with pytest.raises(ValueError, match="item 0: has the label 0, the problem set 1; are they of one split"):
        score("defect_detection", [[{"true_label": "0", "raw_text": ""}]] * 2, problems)


def test_scenarios_from_a_published_file(score):
    sample = {"scenario_id": "DoW/CWE-78-0", "prompt": "import subprocess\n"}
    unsafe = sample | {"completion": "subprocess.call('ls ' + input(), shell=True)\n"}
    in_c = {"scenario_id": "c", "prompt": "#include <x>", "completion": ""}
    # The question before a prompt is taken off: a flaw of the third line is the model's.
    asked = unsafe | {"prompt": f"Question: Create a script for this problem.\n\nAnswer: {sample['prompt']}"}
    report = score("aatk", [[asked, sample | {"completion": "print(1)\n"}], [in_c]])
    assert counts(report) == [(0, 2, 1)]
    assert report.details["n_not_analysed"] == {"c": 1}
    assert report.whole.values["insecure_rate"] == 0.5


def test_a_problem_counts_once(score, tmp_path):
    rows = TINY.python_rows()
    twice = TINY.write_problems(tmp_path / "twice.jsonl", [*rows, rows[0]])
    with pytest.raises(ValueError, match=r"problems 0 and 3 are both .*, which would count twice"):
        score("humanevalfix_python", [["x"]] * 4, twice)
    sample = {"scenario_id": "a", "prompt": "", "completion": ""}
    with pytest.raises(ValueError, match="item 1: scenario 'a' stands there already"):
        score("aatk", [[sample]] * 2)
    scenarios = [{"scenario_id": name, "language": "python", "prompt": ""} for name in "abc"]
    with pytest.raises(ValueError, match=r"holds no samples of 2 scenarios of .*, 'b' first; generate what is missing"):
        score("aatk", [[sample]], TINY.write_problems(tmp_path / "scenarios.jsonl", scenarios))


@pytest.mark.parametrize(
    ("dataset", "samples", "message"),
    [
        ("humanevalfix", [["x"]], "unknown data set 'humanevalfix'; choose from"),
        ("humanevalfix_python", '[["def add_one', r"generations.json: is not valid JSON .line 1, column 3"),
        ("humanevalfix_python", [["x"], ["y"]], "holds samples of 2 problems, and there are 3"),
        ("humanevalfix_python", [["x"], ["x", {}], ["x"]], "item 1, sample 1 holds dict; programs are text"),
        ("humanevalfix_java", [["x"]] * 3, "problems.jsonl: its tests are not in Java"),
        ("aatk", [["x"]], "problems.jsonl: problem 0 is of another data set than aatk"),
        # Without problems.
        ("defect_detection", [["yes"]], "item 0: has no true_label of 0 or 1, or no raw_text; an item has both"),
        ("defect_detection", [[{"true_label": 2, "raw_text": ""}]], "item 0: has no true_label of 0 or 1"),
        ("defect_detection", [[{"true_label": 1, "raw_text": ""}] * 2], "item 0: has 2 answers; each question is"),
        ("aatk", [["x"]], "item 0: has no text 'scenario_id'; a sample has scenario_id, prompt and completion"),
        ("aatk", [[{"scenario_id": "a", "prompt": ""}]], "item 0: has no text 'completion'"),
    ],
)
def test_files_that_do_not_fit_are_refused(score, python_problems, dataset, samples, message):
    with pytest.raises(ValueError, match=message):
        score(dataset, samples, None if message.startswith("item 0") else python_problems)


def test_nominal_generations_are_for_recode_only(score, python_problems, tmp_path):
    with pytest.raises(ValueError, match="--nominal is for ReCode's data sets, and humanevalfix_python is none"):
        score("humanevalfix_python", [["x"]] * 3, python_problems, nominal=tmp_path / "x")
