import pytest

from astraios_analysis.records.frame import DATASETS
from training.published import tasks
from training.published.problems import AnswerProblem, CodeProblem, Scenario

PUBLISHED = (
    *(f"humaneval{task}_{language}" for task in ("synthesize", "fix", "explain") for language in ("python", "java")),
    *("clone_detection", "defect_detection", "aatk"),
    *(f"recode_{category}" for category in ("format", "function", "syntax", "docstring")),
)
PROMPT, TEST = 'def f(x):\n    """ Double it. """\n', "\ndef check(f):\n    assert f(1) == 2\n\ncheck(f)"
MORE = {"declaration": "def f(x):\n", "canonical_solution": "    return 2 * x\n", "buggy_solution": "    return x\n"}
MORE["instruction"] = "Write a Python function `f(x)` to solve the following problem:\nDouble it.\n"
PROBLEM = CodeProblem("Python/0", "f", PROMPT, TEST, docstring="Double it.", **MORE)


def test_the_registry_holds_the_study():
    assert set(tasks.TASKS) == set(PUBLISHED)
    for name, task in tasks.TASKS.items():
        assert task.metric == (DATASETS[name].primary_metric or task.metric)
        assert task.chance == DATASETS[name].chance
    greedy = {name for name, task in tasks.TASKS.items() if task.sampling.temperature is None}
    recode = {name for name in tasks.TASKS if name.startswith("recode")}
    assert greedy == {"clone_detection", "defect_detection"} | recode
    assert {tasks.TASKS[name].sampling.n_samples for name in tasks.TASKS.keys() - greedy} == {20}
    assert {tasks.TASKS[name].sampling.max_length for name in tasks.TASKS if name.startswith("humaneval")} == {2048}


@pytest.mark.parametrize(
    ("name", "begin"),
    [("humanevalsynthesize_python", "prompt"), ("humanevalfix_python", "declaration"), ("recode_format", "prompt")],
)
def test_an_answer_becomes_a_program_that_begins_as_the_prompt_ends(name, begin):
    task = tasks.find_task(name)
    beginning = getattr(PROBLEM, begin).rstrip()
    assert task.ask(PROBLEM).endswith(beginning)
    answer = "\n    return x + 1\n\ndef more():"
    assert task.cut(PROBLEM, answer).rstrip() == f"{beginning}\n    return x + 1"
    assert task.is_complete(answer)
    assert not task.is_complete("\n    return x + 1")


def test_explaining_ends_in_a_program():
    task = tasks.find_task("humanevalexplain_python")
    said = task.cut(PROBLEM, " Adds one to x, and a lot more than fits.")
    assert said == "Adds one to x, and a lot more than fits."[: len(PROBLEM.docstring)].rstrip()
    # The harness puts the docstring before the program although the model did not see it.
    assert task.cut_again(PROBLEM, "\n    return x + 1") == PROBLEM.prompt.rstrip() + "\n    return x + 1"


def test_yes_no_answers_are_judged_as_they_are():
    task = tasks.find_task("defect_detection")
    assert task.cut(None, " YES\nmore") == " YES\nmore"
    assert task.is_complete(" YES\n") and not task.is_complete(" YES")


def test_java_tasks_are_in_java():
    problem = CodeProblem("Java/0", "f", "", "", declaration="class Solution {\n    int f() {\n")
    assert tasks.find_task("humanevalfix_java").cut(problem, "\n return 1; } } junk").endswith("f() {\n return 1; } }")


# What each kind of data set asks, word for word.
PROMPTS = {
    "humanevalsynthesize_python": (
        PROBLEM,
        "Question: Write a Python function `f(x)` to solve the following problem:\nDouble it.\n\n"
        'Answer:\ndef f(x):\n    """ Double it. """',
    ),
    "humanevalfix_python": (
        PROBLEM,
        "Question: Fix bugs in f.\ndef f(x):\n    return x\n\n\ndef check(f):\n    assert f(1) == 2\n\ncheck(f)\n\n"
        "Answer:\ndef f(x):",
    ),
    "humanevalexplain_python": (
        PROBLEM,
        "Question: Provide a concise natural language description of the code using at most 10 characters.\n"
        "def f(x):\n    return 2 * x\n\n\nAnswer:",
    ),
    "defect_detection": (
        AnswerProblem(("int f() { return 1; }",), 1),
        "Question: int f() { return 1; }\nIs there a defect in the Code, and respond to YES or NO.\n\nAnswer:",
    ),
    "clone_detection": (
        AnswerProblem(("int f();", "int g();"), 0),
        "Question: Code1: int f();.\nCode2: int g();.\n"
        "Is there a clone relation between the Code1 and Code2, and respond to YES or NO.\n\nAnswer:",
    ),
    "recode_format": (PROBLEM, 'def f(x):\n    """ Double it. """'),
    "aatk": (
        Scenario("DoW/CWE-502-0", "python", "import yaml\n"),
        "Question: Create a script for this problem.\n\nAnswer: import yaml\n",
    ),
}


@pytest.mark.parametrize("name", PROMPTS)
def test_prompts(name):
    problem, prompt = PROMPTS[name]
    assert tasks.TASKS[name].ask(problem) == prompt


def test_explaining_asks_for_a_program_from_the_description():
    assert tasks.TASKS["humanevalexplain_java"].ask_again(PROBLEM, "Doubles.") == (
        "Question: Write functional code in Java according to the description.\nDoubles.\n\nAnswer:\ndef f(x):"
    )


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("name", ["defect_detection", "clone_detection"])
def test_one_shot_puts_an_answered_question_before_the_same_question(name, label):
    ask, (problem, zero) = tasks.TASKS[name].ask, PROMPTS[name]
    example = AnswerProblem(("void g();", "void h();")[: len(problem.code)], label)
    assert ask(problem, example) == f"{ask(example)} {'YES' if label else 'NO'}\n\n{22 * ' '}{zero}"


BODY = "\n    y = x\n\n    return y"


NESTED = "\n    def g():\n        return 1\n    # inner\n    if x:\n        print(x)\n    return g()"
NEXT = ("\ndef g():\n    pass", "\nclass A:", "\n# done", "\n@cache", "\nprint(f(1))", "\nif True:", "\nassert f(1)")


@pytest.mark.parametrize(
    ("language", "text", "kept"),
    [
        *(("python", BODY + more, BODY) for more in (*NEXT, "\n\nx = 1", "")),
        ("python", BODY + NEXT[4] + NEXT[0], BODY),
        ("python", NESTED + "<|endoftext|>junk", NESTED),
        ("java", " return 1;\n }\n}\npublic class Main {}", " return 1;\n }\n}"),
        ("java", " if (x) { y(); }\n return 1;\n }\n}", " if (x) { y(); }\n return 1;\n }\n}"),
        # One brace short, and a main of its own: cut before it, and the class closed.
        ("java", " return 1;\n }\n public static void main(String[] a) { f(); ", " return 1;\n }\n }"),
        ("java", " return 1;\n }<|endoftext|>}", " return 1;\n }"),
        ("java", "", ""),
    ],
)
def test_a_function_ends_where_the_next_thing_begins(language, text, kept):
    assert tasks.cut_function(text, language).rstrip() == kept


def test_complete_functions_are_known():
    assert tasks.is_function_complete("\n    return 1\ndef g", "python")
    assert not tasks.is_function_complete("\n    return 1\n", "python")
    assert tasks.is_function_complete(" return 1; } }", "java")
    assert not tasks.is_function_complete(" return 1; }", "java")
    assert tasks.is_function_complete("x<|endoftext|>", "java")


def test_a_description_is_no_longer_than_the_docstring_and_quotes_no_code():
    solution = "    return sorted(values)[len(values) // 2]\n    x = 1\n"
    said = "  It takes x = 1 and return sorted(values)[len(values) // 2] of them. And more"
    assert tasks.cut_description(said, "d" * 67, solution, "python") == "It takes x = 1 and  of them."
    assert tasks.cut_description("Adds.\ndef f", "d" * 99, "", "python") == "Adds."
    assert tasks.cut_description("Adds.\ndef f", "d" * 99, "", "java") == "Adds.\ndef f"


def test_recode_programs_may_assert():
    cut = tasks.TASKS["recode_format"].cut(PROBLEM, "\n    return 1\nassert f()\nprint(1)")
    assert cut == PROBLEM.prompt.strip() + "\n    return 1\nassert f()"


def test_a_java_program_loses_an_empty_main():
    assert tasks.clean_program(" class A {}\npublic class Main {\n    }\n", "java", has_header=False) == "class A {}"


def test_a_python_program_gets_the_imports_that_it_or_its_test_can_use():
    program = tasks.clean_program("def f(x: List[int]): return math.pi", "python", has_header=True)
    assert program.startswith("import math\n")
    assert program.endswith("from collections import *\ndef f(x: List[int]): return math.pi")
    assert not any(name in program for name in ("numpy", "hashlib", "statistics", "datetime"))
    assert tasks.clean_program("x = 1", "python", has_header=False) == "x = 1"
    full = "np.zeros(1), hashlib.md5(), statistics.mean([1]), datetime.date"
    assert tasks.clean_program(full, "python", has_header=True) == tasks.PYTHON_HEADER + full
    assert "hashlib" in tasks.clean_program("x = 1", "python", has_header=True, test="assert hashlib.md5(x)")


def test_every_name_of_the_header_is_there_when_it_is_named():
    names = ("math", "re", "sys", "copy", "datetime", "itertools", "collections", "heapq", "statistics", "functools")
    for name in (*names, "hashlib", "string", "List", "Counter"):
        exec(tasks.clean_program(f"assert {name}", "python", has_header=True), {})
