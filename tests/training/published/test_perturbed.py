import dataclasses

import pytest

from training.published.measures import CATEGORIES, Category, Transformation
from training.published.problems import CodeProblem
from training.published.scorers import MEAN, make_blocks, score_perturbed
from training.published.tasks import TASKS
from training.published.verdicts import make_limits
from training.sandbox.programs import Verdict

LIMITS = make_limits("python")
TEST = "def check(candidate):\n    assert candidate() == 1\n"


def make_problems(n_problems=2):
    return [CodeProblem(f"HumanEval/{n}", f"f_{n}", f"def f_{n}():\n", TEST) for n in range(n_problems)]


TRANSFORMATIONS = (Transformation("a"), Transformation("b", 2))


def small_task(name="format", nominal=("a", 0)):
    return dataclasses.replace(TASKS[f"recode_{name}"], category=Category(name, name, TRANSFORMATIONS, nominal))


def pass_by(text):
    """A runner that passes the programs that hold a text."""
    return lambda programs: [Verdict("passed" if text in program.source else "failed") for program in programs]


def test_blocks_of_problems_as_they_were_all_hold_them():
    problems = make_problems()
    blocks = make_blocks(CATEGORIES["syntax"], problems)
    assert [(block.transformation, block.seed) for block in blocks] == list(CATEGORIES["syntax"].blocks)
    assert all(block.problems == problems for block in blocks)


def test_perturbed_problems_bring_their_order():
    order = [("b", 1), ("a", 0), ("b", 0)]
    problems = [
        dataclasses.replace(problem, perturbation=perturbation)
        # A seed that the study did not use is passed over.
        for perturbation in [*order, ("b", 7)]
        for problem in make_problems()
    ]
    blocks = make_blocks(small_task().category, problems)
    assert [(block.transformation, block.seed) for block in blocks] == order
    assert all(len(block.problems) == 2 for block in blocks)
    with pytest.raises(ValueError, match="the perturbed problems lack b with seed 1; give those of ReCode's category"):
        make_blocks(small_task().category, problems[2:])
    with pytest.raises(ValueError, match=r"the perturbed problems have blocks of \[1, 2\]"):
        make_blocks(small_task().category, problems[1:])


def test_scores_of_the_category_its_parts_and_their_mean():
    task = small_task()
    blocks = make_blocks(task.category, make_problems())
    # Blocks a/0, b/0, b/1; problem 0 falls once, problem 1 always but once.
    texts = [["right", "right"], ["wrong", "wrong"], ["right", "wrong"]]
    report = score_perturbed(task, blocks, texts, pass_by("right"), LIMITS)
    assert [(count.n_samples, count.n_passed) for count in report.whole.per_problem] == [(3, 2), (3, 1)]
    assert report.whole.values == pytest.approx(
        {"mean_pass@1": 0.5, "robust_pass@1": 0, "robust_relative@1": 1, "robust_drop@1": 1}
    )
    assert set(report.settings) == {"nominal", MEAN, "a", "b"}
    assert report.settings["nominal"].values == {"pass@1": 1}
    assert report.details["pass@1"] == 1
    assert report.settings["a"].values["robust_pass@1"] == 1
    assert report.settings["b"].values["mean_pass@1"] == 0.25
    assert report.settings[MEAN].values == pytest.approx({"mean_pass@1": 0.625, "robust_pass@1": 0.5})
    assert "all_transformations" not in report.settings


def test_a_category_without_nominal_prompts_takes_outcomes_from_elsewhere():
    task = small_task("syntax", nominal=None)
    problems = make_problems()
    blocks = make_blocks(task.category, problems)
    texts = [["right", "wrong"]] * 3
    alone = score_perturbed(task, blocks, texts, pass_by("right"), LIMITS)
    assert "robust_drop@1" not in alone.whole.values
    assert "nominal" not in alone.settings
    assert "give the model's generations of recode_format" in alone.notes[0]
    given = score_perturbed(
        task, blocks, texts, pass_by("right"), LIMITS, nominal=(problems, ["right nominal", "right nominal"])
    )
    assert given.whole.values["robust_drop@1"] == pytest.approx(0.5)
    assert given.settings["nominal"].values["pass@1"] == 1
    assert given.notes == ()


def test_a_renamed_function_is_called_by_the_name_in_the_program():
    task = small_task("function", nominal=None)
    ran = []

    def run(programs):
        ran.extend(programs)
        return [Verdict("passed")] * len(programs)

    helper = CodeProblem("HumanEval/2", "main_one", "def helper():\n    pass\n\ndef main_one():\n", TEST)
    blocks = make_blocks(task.category, [*make_problems(1), helper])
    texts = [["def fZero():\n    return 1", "def helper():\n    pass\n\ndef mainOne():\n    return 1"]] * 3
    score_perturbed(task, blocks, texts, run, LIMITS)
    assert ran[0].test.endswith("check(fZero)")
    assert ran[1].test.endswith("check(mainOne)")
    exec(ran[0].source + ran[0].test, {})


def test_other_categories_call_a_function_by_its_own_name():
    ran = []

    def run(programs):
        ran.extend(programs)
        return [Verdict("passed")] * len(programs)

    task = small_task("format")
    score_perturbed(task, make_blocks(task.category, make_problems(1)), [["def g(): pass"]] * 3, run, LIMITS)
    assert ran[0].test.endswith("check(f_0)")
    assert ran[0].source == "def g(): pass"
