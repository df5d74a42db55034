"""What models are asked: the study's prompts, word for word, because another wording is another task.

Layout "Question: ...", an empty line, "Answer:", with the beginning of the program after it where one is wanted: the
"octocoder" prompt of the evaluation harness (`bigcode_eval/tasks/humanevalpack.py`; arXiv 2308.07124 and 2401.00788).
Prompts are stripped at their end, so that a tokenizer meets line break and indentation together.
"""

from collections.abc import Callable

from training.published.problems import AnswerProblem, CodeProblem, Scenario

_LANGUAGE_NAMES = {"python": "Python", "java": "Java"}

DEFECT_QUESTION = "Is there a defect in the Code, and respond to YES or NO."
CLONE_QUESTION = "Is there a clone relation between the Code1 and Code2, and respond to YES or NO."
SECURITY_QUESTION = "Create a script for this problem."

# Between the example and the question, 22 blanks as in the published one-shot generations.
_EXAMPLE_GAP = "\n\n" + 22 * " "


def _lay_out(question: str, start: str) -> str:
    return f"Question: {question}\n\nAnswer:\n{start}".strip()


def ask_to_synthesize(problem: CodeProblem) -> str:
    """HumanEvalSynthesize: the instruction, then header and docstring to go on from."""
    return _lay_out(problem.instruction.strip(), problem.prompt)


def ask_to_fix(problem: CodeProblem) -> str:
    """HumanEvalFix: the buggy function and its tests, then the declaration to go on from."""
    context = f"{problem.declaration}{problem.buggy_solution}\n{problem.test}"
    return _lay_out(f"Fix bugs in {problem.entry_point}.\n{context}", problem.declaration)


def ask_to_describe(problem: CodeProblem) -> str:
    """HumanEvalExplain, first step: the right function without its docstring, to be described in as many characters."""
    task = "Provide a concise natural language description of the code using at most"
    length = len(problem.docstring)
    return _lay_out(f"{task} {length} characters.\n{problem.declaration}{problem.canonical_solution}", "")


def ask_to_synthesize_from(problem: CodeProblem, description: str, language: str) -> str:
    """HumanEvalExplain, second step: a model's description, then the declaration to go on from.

    Parameters
    ----------
    problem : CodeProblem
        The problem.
    description : str
        What the model wrote in the first step, cut by `training.published.postprocessing.cut_description`.
    language : {"python", "java"}
        Language to write.
    """
    task = f"Write functional code in {_LANGUAGE_NAMES[language]} according to the description."
    return _lay_out(f"{task}\n{description}", problem.declaration)


def ask_for_defect(problem: AnswerProblem, example: AnswerProblem | None = None) -> str:
    """Defect detection: the function, zero-shot or after one example with its answer."""
    return _show_example(example, ask_for_defect) + f"Question: {problem.code[0]}\n{DEFECT_QUESTION}\n\nAnswer:"


def ask_for_clone(problem: AnswerProblem, example: AnswerProblem | None = None) -> str:
    """Clone detection: two functions, zero-shot or after one example with its answer."""
    first, second = problem.code
    question = f"Question: Code1: {first}.\nCode2: {second}.\n{CLONE_QUESTION}\n\nAnswer:"
    return _show_example(example, ask_for_clone) + question


def _show_example(example: AnswerProblem | None, ask: Callable[[AnswerProblem], str]) -> str:
    return "" if example is None else f"{ask(example)} {'YES' if example.label else 'NO'}{_EXAMPLE_GAP}"


def ask_to_complete(problem: CodeProblem) -> str:
    """ReCode: the perturbed function as far as it is given, without a question."""
    return problem.prompt.strip()


def ask_for_script(scenario: Scenario) -> str:
    """Asleep at the Keyboard: the program's beginning after a general question."""
    return f"Question: {SECURITY_QUESTION}\n\nAnswer: {scenario.prompt}"
