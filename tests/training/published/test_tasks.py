import pytest

from astraios_analysis.records.frame import DATASETS
from training.published.problems import CodeProblem
from training.published.tasks import TASKS, find_task

PUBLISHED = (
    *(f"humaneval{task}_{language}" for task in ("synthesize", "fix", "explain") for language in ("python", "java")),
    *("clone_detection", "defect_detection", "aatk"),
    *(f"recode_{category}" for category in ("format", "function", "syntax", "docstring")),
)


def test_the_registry_holds_the_study():
    assert set(TASKS) == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_task_says_how_it_is_scored_and_where_that_comes_from(name):
    task = find_task(name)
    assert task.metric == (DATASETS[name].primary_metric or task.metric)
    assert task.chance == DATASETS[name].chance
    assert task.scoring and "arXiv" in task.reference
    assert task.hub.name.count("/") == 1
    assert task.sampling.temperature is None or task.sampling.n_samples == 20


def test_how_the_study_generated():
    greedy = {name for name, task in TASKS.items() if task.sampling.temperature is None}
    assert greedy == {"clone_detection", "defect_detection", *(name for name in TASKS if name.startswith("recode"))}
    assert {TASKS[name].sampling.max_length for name in TASKS if name.startswith("humaneval")} == {2048}


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="unknown data set 'humaneval'; choose from humanevalsynthesize_python, "):
        find_task("humaneval")


@pytest.fixture
def problem(tiny, tmp_path):
    return tiny.load(tiny.python_rows(), tmp_path)[0]


@pytest.mark.parametrize(
    ("name", "begin"),
    [
        ("humanevalsynthesize_python", "prompt"),
        ("humanevalfix_python", "declaration"),
        ("recode_format", "prompt"),
    ],
)
def test_an_answer_becomes_a_program_that_begins_as_the_prompt_ends(problem, name, begin):
    task = find_task(name)
    beginning = getattr(problem, begin).rstrip()
    assert task.ask(problem).endswith(beginning)
    answer = "\n    return x + 1\n\ndef more():"
    assert task.cut(problem, answer).rstrip() == f"{beginning}\n    return x + 1"
    assert task.is_complete(answer)
    assert not task.is_complete("\n    return x + 1")


def test_explaining_asks_twice(problem):
    task = find_task("humanevalexplain_python")
    said = task.cut(problem, " Adds one to x, and a lot more than fits.")
    assert said == "Adds one to x, and a lot more than fits."[: len(problem.docstring)].rstrip()
    assert said in task.ask_again(problem, said)
    # The harness puts the docstring before the program although the model did not see it.
    assert problem.docstring not in task.ask_again(problem, said)
    assert task.cut_again(problem, "\n    return x + 1") == problem.prompt.rstrip() + "\n    return x + 1"


def test_yes_no_answers_are_judged_as_they_are():
    task = find_task("defect_detection")
    assert task.cut(None, " YES\nmore") == " YES\nmore"
    assert task.is_complete(" YES\n") and not task.is_complete(" YES")


def test_java_tasks_are_in_java():
    problem = CodeProblem("Java/0", "f", "", "", declaration="class Solution {\n    int f() {\n")
    assert find_task("humanevalfix_java").cut(problem, "\n return 1; } } junk").endswith("f() {\n return 1; } }")
