import pytest

from training.published import tasks
from training.published.problems import AnswerProblem, CodeProblem, Scenario

PROBLEM = CodeProblem(
    task_id="Python/0",
    entry_point="f",
    prompt='def f(x):\n    """ Double it. """\n',
    test="\ndef check(f):\n    assert f(1) == 2\n\ncheck(f)",
    declaration="def f(x):\n",
    canonical_solution="    return 2 * x\n",
    buggy_solution="    return x\n",
    docstring="Double it.",
    instruction="Write a Python function `f(x)` to solve the following problem:\nDouble it.\n",
)
DEFECT = AnswerProblem(("int f() { return 1; }",), 1)
CLONE = AnswerProblem(("int f();", "int g();"), 0)


def test_synthesis_asks_for_the_instruction_and_begins_the_program():
    assert tasks.ask_to_synthesize(PROBLEM) == (
        "Question: Write a Python function `f(x)` to solve the following problem:\nDouble it.\n\n"
        'Answer:\ndef f(x):\n    """ Double it. """'
    )


def test_fixing_shows_the_bug_and_the_tests():
    assert tasks.ask_to_fix(PROBLEM) == (
        "Question: Fix bugs in f.\ndef f(x):\n    return x\n\n\ndef check(f):\n    assert f(1) == 2\n\ncheck(f)\n\n"
        "Answer:\ndef f(x):"
    )


def test_explaining_has_two_steps():
    assert tasks.ask_to_describe(PROBLEM) == (
        "Question: Provide a concise natural language description of the code using at most 10 characters.\n"
        "def f(x):\n    return 2 * x\n\n\nAnswer:"
    )
    assert tasks.ask_to_synthesize_from(PROBLEM, "Doubles.", "java") == (
        "Question: Write functional code in Java according to the description.\nDoubles.\n\nAnswer:\ndef f(x):"
    )


@pytest.mark.parametrize("label", [0, 1])
def test_one_shot_puts_an_answered_question_before_the_same_question(label):
    zero = tasks.ask_for_defect(DEFECT)
    assert zero == (
        "Question: int f() { return 1; }\nIs there a defect in the Code, and respond to YES or NO.\n\nAnswer:"
    )
    example = AnswerProblem(("void g();",), label)
    one = tasks.ask_for_defect(DEFECT, example)
    assert one == f"{tasks.ask_for_defect(example)} {'YES' if label else 'NO'}\n\n{22 * ' '}{zero}"


def test_clones_are_two_pieces_of_code():
    zero = tasks.ask_for_clone(CLONE)
    assert zero == (
        "Question: Code1: int f();.\nCode2: int g();.\n"
        "Is there a clone relation between the Code1 and Code2, and respond to YES or NO.\n\nAnswer:"
    )
    assert tasks.ask_for_clone(CLONE, CLONE) == f"{zero} NO\n\n{22 * ' '}{zero}"


def test_completion_is_not_asked_for_in_words():
    assert tasks.ask_to_complete(PROBLEM) == 'def f(x):\n    """ Double it. """'
    scenario = Scenario("DoW/CWE-502-0", "python", "import yaml\n")
    assert tasks.ask_for_script(scenario) == ("Question: Create a script for this problem.\n\nAnswer: import yaml\n")
