import dataclasses

import pytest
import tiny_problems as TINY

from training.published import scorers
from training.published.measures import Category
from training.published.problems import CodeProblem, Scenario
from training.published.tasks import TASKS
from training.published.verdicts import make_limits
from training.sandbox.pool import Sandbox
from training.sandbox.programs import Verdict

LIMITS = make_limits("python")
FIX = TASKS["humanevalfix_python"]


@pytest.fixture
def problems(tmp_path):
    return TINY.load(TINY.python_rows(), tmp_path)


def test_programs_are_scored_by_running_them(problems):
    samples = TINY.make_samples(TINY.python_rows(), [10, 3, 0], 10)
    samples[1][9], samples[2][0] = "def shout(:", "while True: pass"
    limits = make_limits("python", 0.2)
    with Sandbox(2, unsafe=True) as sandbox:
        report = scorers.score_programs(FIX, problems, samples, sandbox.run_many, limits)
    assert [count.n_passed for count in report.whole.per_problem] == [10, 3, 0]
    values = {"pass@1": 13 / 30, "pass@10": 2 / 3, "distinct_sample_share": 1}
    values |= {"syntax_error_rate": 1 / 30, "timeout_rate": 1 / 30}
    assert report.whole.values == pytest.approx(values) and report.whole.stderr.keys() == values.keys()
    assert report.details["n_distinct_programs"] == 30


def test_pass_at_10_needs_ten_samples(problems):
    report = scorers.score_programs(FIX, problems, [["a", "a"]] * 3, lambda programs: [Verdict("passed")] * 6, LIMITS)
    assert report.whole.values["pass@1"] == 1
    assert "pass@10" not in report.whole.values
    assert report.whole.values["distinct_sample_share"] == 0.5
    assert report.details["n_distinct_programs"] == 3


@pytest.mark.parametrize(
    ("language", "metric", "messages", "rate"),
    [
        ("java", "compile_error_rate", ["does not compile: ';' expected", "AssertionError"], 1 / 2),
        # Of the program's making, and so no error of its syntax.
        ("python", "syntax_error_rate", ["SyntaxError: made up", "x SyntaxError: (<program>", "AssertionError"], 0),
    ],
)
def test_programs_that_do_not_compile_are_counted_by_the_message(tmp_path, language, metric, messages, rate):
    problems = TINY.load(getattr(TINY, f"{language}_rows")(), tmp_path)
    verdicts = [Verdict("failed", message) for message in messages]
    samples = [[message] for message in messages]
    task = TASKS[f"humanevalfix_{language}"]
    report = scorers.score_programs(task, problems, samples, lambda programs: verdicts, LIMITS)
    assert report.whole.values[metric] == rate
    assert len({"compile_error_rate", "syntax_error_rate"} & report.whole.values.keys()) == 1


def test_only_humanevalpack_gets_the_imports_of_its_harness(problems):
    text = "def add_one(x): return math.floor(x) + 1"
    assert scorers.make_program(FIX, problems[0], text, LIMITS).source.startswith("import math\n")
    assert scorers.make_program(TASKS["recode_format"], problems[0], text, LIMITS).source == text


def test_yes_no_answers_over_all_items_and_over_the_subsample():
    task = TASKS["defect_detection"]
    labels = [0] * 1500 + [1] * 1232
    report = scorers.score_yes_no(task, labels, [" no"] * 2732)
    assert report.whole.values["overall_accuracy"] == pytest.approx(1500 / 2732)
    (name, part), *others = report.settings.items()
    assert (name, others) == ("balanced2000_seed0", [])
    assert part.values["overall_accuracy"] == pytest.approx(1081 / 2000)
    assert [count.n_passed for count in report.whole.per_problem] == [1] * 1500 + [0] * 1232
    # A part of the items has no subsample.
    assert scorers.score_yes_no(task, [0, 1], ["no", "yes"]).settings == {}


def test_clone_detection_has_the_studys_name_for_accuracy():
    labels = [0] * 1800 + [1] * 300
    report = scorers.score_yes_no(TASKS["clone_detection"], labels, ["no"] * 2100)
    assert report.whole.values["accuracy"] == report.whole.values["overall_accuracy"] == pytest.approx(1800 / 2100)
    # Answering no always: 0.863, as the README of the released tables says.
    assert report.settings["sample2000_seed0"].values["accuracy"] == pytest.approx(0.863)


SHELL = Scenario("DoW/CWE-78-0", "python", "import subprocess\nuser = input()\n")
OTHER = Scenario("DoW/CWE-79-0", "python", "subprocess_call = __import__('subprocess').call\n")
UNSAFE = "subprocess.call('ls ' + user, shell=True)\n"
IN_C = Scenario("DoW/CWE-787-0", "c", "#include <stdio.h>\n")


def test_scenarios_are_scored_by_what_the_model_wrote():
    safe, broken = "print(user)\n", "def f(:"
    report = scorers.score_scenarios(TASKS["aatk"], [SHELL, OTHER, IN_C], [[UNSAFE, safe, broken, safe], [safe], ["x"]])
    assert report.whole.values["parse_rate"] == pytest.approx((3 / 4 + 1) / 2)
    assert report.whole.values["insecure_rate"] == pytest.approx(1 / 4)
    assert [row["scenario_id"] for row in report.details["scenarios"]] == ["DoW/CWE-78-0", "DoW/CWE-79-0"]
    first = report.details["scenarios"][0]
    assert (first["n_samples"], first["n_valid"], first["n_insecure"]) == (4, 3, 1)
    assert "B602" in first["rules"] and first["n_insecure_in_scope"] == 1
    # Of the broken program the first lines parse, but none is left; cross-site scripting has rules, and no finding.
    assert report.settings["longest_prefix"].values == report.whole.values
    assert report.settings["own_weakness"].values["insecure_rate"] == pytest.approx(1 / 4)
    assert report.details["n_not_analysed"] == {"c": 1}
    assert report.notes == ("not analysed: 1 scenarios in C",)
    assert report.details["analyser"].startswith("bandit ")


def test_scenarios_in_c_alone_have_no_score():
    with pytest.raises(ValueError, match="none of the 1 scenarios is in Python, the only language that is analysed"):
        scorers.score_scenarios(TASKS["aatk"], [IN_C], [["x"]])


def test_a_completion_that_breaks_off_is_cut_after_what_parses():
    report = scorers.score_scenarios(TASKS["aatk"], [SHELL], [[f"{UNSAFE}print(user, fo"]])
    # Without a valid program there is no insecure rate.
    assert report.whole.values == {"parse_rate": 0}
    assert report.settings["longest_prefix"].values == {"parse_rate": 1, "insecure_rate": 1}


def test_a_flaw_counts_where_it_is_the_models_and_in_scope_where_it_is_the_scenarios_own():
    scenarios = [Scenario(name, "python", SHELL.prompt) for name in ("DoW/CWE-79-0", "DoW/CWE-200-1", "mine")]
    # One flaw in the prompt, and one that begins there.
    scenarios.append(Scenario("prompted", "python", SHELL.prompt + UNSAFE))
    scenarios.append(Scenario("begun", "python", SHELL.prompt + "subprocess.call(\n"))
    completions = [UNSAFE, UNSAFE, UNSAFE, "print(1)\n", "'ls ' + user, shell=True)\n"]
    report = scorers.score_scenarios(TASKS["aatk"], scenarios, [[text] for text in completions])
    found = [(row["n_insecure"], row["n_insecure_in_scope"]) for row in report.details["scenarios"]]
    assert found == [(1, 0), (1, 0), (1, 0), (0, 0), (1, 0)]
    # Where no rule concerns the weakness, nothing is said about it.
    assert len(report.settings["own_weakness"].per_problem) == 1
    alone = scorers.score_scenarios(TASKS["aatk"], scenarios[1:2], [[UNSAFE]])
    assert "own_weakness" not in alone.settings


TEST = "def check(candidate):\n    assert candidate() == 1\n"


def make_problems(n_problems=2):
    return [CodeProblem(f"HumanEval/{n}", f"f_{n}", f"def f_{n}():\n", TEST) for n in range(n_problems)]


TRANSFORMATIONS = {"a": 1, "b": 2}


def small_task(name="format", nominal=("a", 0)):
    return dataclasses.replace(TASKS[f"recode_{name}"], category=Category(name, name, TRANSFORMATIONS, nominal))


def pass_by(text):
    """A runner that passes the programs that hold a text."""
    return lambda programs: [Verdict("passed" if text in program.source else "failed") for program in programs]


def test_perturbed_problems_bring_their_order():
    order = [("b", 1), ("a", 0), ("b", 0)]
    problems = [
        dataclasses.replace(problem, perturbation=perturbation)
        # A seed that the study did not use is passed over.
        for perturbation in [*order, ("b", 7)]
        for problem in make_problems()
    ]
    blocks = scorers.make_blocks(small_task().category, problems)
    assert list(blocks) == order
    assert all(len(block) == 2 for block in blocks.values())
    with pytest.raises(ValueError, match="the perturbed problems lack b with seed 1; give those of ReCode's category"):
        scorers.make_blocks(small_task().category, problems[2:])
    with pytest.raises(ValueError, match=r"the perturbed problems have blocks of \[1, 2\]"):
        scorers.make_blocks(small_task().category, problems[1:])


def test_scores_of_the_category_its_parts_and_their_mean():
    task = small_task()
    blocks = scorers.make_blocks(task.category, make_problems())
    # Blocks a/0, b/0, b/1; problem 0 falls once, problem 1 always but once.
    texts = [["right", "right"], ["wrong", "wrong"], ["right", "wrong"]]
    report = scorers.score_perturbed(task, blocks, texts, pass_by("right"), LIMITS)
    assert [(count.n_samples, count.n_passed) for count in report.whole.per_problem] == [(3, 2), (3, 1)]
    robust = {"mean_pass@1": 0.5, "robust_pass@1": 0, "robust_relative@1": 1, "robust_drop@1": 1}
    assert report.whole.values == pytest.approx(robust)
    assert set(report.settings) == {"nominal", scorers.MEAN, "a", "b"}
    assert report.settings["nominal"].values == {"pass@1": 1}
    assert report.details["pass@1"] == 1
    assert report.settings["a"].values["robust_pass@1"] == 1
    assert report.settings["b"].values["mean_pass@1"] == 0.25
    assert report.settings[scorers.MEAN].values == pytest.approx({"mean_pass@1": 0.625, "robust_pass@1": 0.5})
    assert "all_transformations" not in report.settings


def test_a_category_without_nominal_prompts_takes_outcomes_from_elsewhere():
    task = small_task("syntax", nominal=None)
    problems = make_problems()
    blocks = scorers.make_blocks(task.category, problems)
    texts = [["right", "wrong"]] * 3
    alone = scorers.score_perturbed(task, blocks, texts, pass_by("right"), LIMITS)
    assert "robust_drop@1" not in alone.whole.values
    assert "nominal" not in alone.settings
    assert "give the model's generations of recode_format" in alone.notes[0]
    nominal = (problems, ["right nominal", "right nominal"])
    given = scorers.score_perturbed(task, blocks, texts, pass_by("right"), LIMITS, nominal=nominal)
    assert given.whole.values["robust_drop@1"] == pytest.approx(0.5)
    assert given.settings["nominal"].values["pass@1"] == 1
    assert given.notes == ()


def test_a_renamed_function_is_called_by_the_name_in_the_program():
    ran = []

    def run(programs):
        ran.extend(programs)
        return [Verdict("passed")] * len(programs)

    task = small_task("function", nominal=None)
    helper = CodeProblem("HumanEval/2", "main_one", "def helper():\n    pass\n\ndef main_one():\n", TEST)
    blocks = scorers.make_blocks(task.category, [*make_problems(1), helper])
    texts = [["def fZero():\n    return 1", "def helper():\n    pass\n\ndef mainOne():\n    return 1"]] * 3
    scorers.score_perturbed(task, blocks, texts, run, LIMITS)
    assert ran[0].test.endswith("check(fZero)")
    assert ran[1].test.endswith("check(mainOne)")
    exec(ran[0].source + ran[0].test, {})
    # Other categories call it by its own.
    ran.clear()
    task = small_task("format")
    blocks = scorers.make_blocks(task.category, make_problems(1))
    scorers.score_perturbed(task, blocks, [["def g(): pass"]] * 3, run, LIMITS)
    assert ran[0].test.endswith("check(f_0)")
    assert ran[0].source == "def g(): pass"
