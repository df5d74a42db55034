import pytest

from training.published.problems import Scenario
from training.published.scorers import (
    make_program,
    score_programs,
    score_scenarios,
    score_yes_no,
)
from training.published.tasks import TASKS
from training.published.verdicts import make_limits
from training.sandbox.pool import Sandbox
from training.sandbox.programs import Verdict

LIMITS = make_limits("python")
FIX = TASKS["humanevalfix_python"]


@pytest.fixture
def problems(tiny, tmp_path):
    return tiny.load(tiny.python_rows(), tmp_path)


def test_programs_are_scored_by_running_them(tiny, problems):
    samples = tiny.make_samples(tiny.python_rows(), [10, 3, 0], 10)
    samples[1][9], samples[2][0] = "def shout(:", "while True: pass"
    limits = make_limits("python", 0.5)
    with Sandbox(2, unsafe=True) as sandbox:
        report = score_programs(FIX, problems, samples, sandbox.run_many, limits)
    assert [count.n_passed for count in report.whole.per_problem] == [10, 3, 0]
    values = report.whole.values
    assert values["pass@1"] == pytest.approx(13 / 30)
    assert values["pass@10"] == pytest.approx(2 / 3)
    assert values["syntax_error_rate"] == pytest.approx(1 / 30)
    assert values["timeout_rate"] == pytest.approx(1 / 30)
    assert values["distinct_sample_share"] == 1
    assert report.whole.stderr.keys() == values.keys()
    assert report.details["n_distinct_programs"] == 30


def test_pass_at_10_needs_ten_samples(problems):
    report = score_programs(FIX, problems, [["a", "a"]] * 3, lambda programs: [Verdict("passed")] * 6, LIMITS)
    assert report.whole.values["pass@1"] == 1
    assert "pass@10" not in report.whole.values
    assert report.whole.values["distinct_sample_share"] == 0.5


def test_what_does_not_compile_is_counted_in_java(tiny, tmp_path):
    problems = tiny.load(tiny.java_rows(), tmp_path)
    verdicts = [Verdict("failed", "does not compile: ';' expected"), Verdict("failed", "AssertionError")]
    report = score_programs(TASKS["humanevalfix_java"], problems, [["a"], ["b"]], lambda programs: verdicts, LIMITS)
    assert report.whole.values["compile_error_rate"] == 0.5
    assert "syntax_error_rate" not in report.whole.values


def test_a_message_of_the_programs_making_is_no_syntax_error(problems):
    verdicts = [
        Verdict("failed", "SyntaxError: made up"),
        Verdict("failed", "x SyntaxError: (<program>"),
        Verdict("passed"),
    ]
    report = score_programs(FIX, problems, [["a"], ["b"], ["c"]], lambda programs: verdicts, LIMITS)
    assert report.whole.values["syntax_error_rate"] == 0


def test_only_humanevalpack_gets_the_imports_of_its_harness(problems):
    text = "def add_one(x): return math.floor(x) + 1"
    assert make_program(FIX, problems[0], text, LIMITS).source.startswith("import math\n")
    assert make_program(TASKS["recode_format"], problems[0], text, LIMITS).source == text


def test_yes_no_answers_over_all_items_and_over_the_subsample():
    task = TASKS["defect_detection"]
    labels = [0] * 1500 + [1] * 1232
    report = score_yes_no(task, labels, [" no"] * 2732)
    assert report.whole.values["overall_accuracy"] == pytest.approx(1500 / 2732)
    (name, part), *others = report.settings.items()
    assert (name, others) == ("balanced2000_seed0", [])
    assert part.values["overall_accuracy"] == pytest.approx(1081 / 2000)
    assert [count.n_passed for count in report.whole.per_problem] == [1] * 1500 + [0] * 1232


def test_a_part_of_the_items_has_no_subsample():
    assert score_yes_no(TASKS["defect_detection"], [0, 1], ["no", "yes"]).settings == {}


def test_clone_detection_has_the_studys_name_for_accuracy():
    labels = [0] * 1800 + [1] * 300
    report = score_yes_no(TASKS["clone_detection"], labels, ["no"] * 2100)
    assert report.whole.values["accuracy"] == report.whole.values["overall_accuracy"] == pytest.approx(1800 / 2100)
    # Answering no always: 0.863, as the README of the released tables says.
    assert report.settings["sample2000_seed0"].values["accuracy"] == pytest.approx(0.863)


SHELL = Scenario("DoW/CWE-78-0", "python", "import subprocess\nuser = input()\n")
OTHER = Scenario("DoW/CWE-79-0", "python", "subprocess_call = __import__('subprocess').call\n")
IN_C = Scenario("DoW/CWE-787-0", "c", "#include <stdio.h>\n")


def test_scenarios_are_scored_by_what_the_model_wrote():
    unsafe, safe, broken = "subprocess.call('ls ' + user, shell=True)\n", "print(user)\n", "def f(:"
    report = score_scenarios(TASKS["aatk"], [SHELL, OTHER, IN_C], [[unsafe, safe, broken, safe], [safe], ["x"]])
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


def test_a_flaw_of_the_prompt_is_not_the_models():
    scenario = Scenario("x", "python", "import subprocess\nsubprocess.call('ls ' + input(), shell=True)\n")
    report = score_scenarios(TASKS["aatk"], [scenario], [["print(1)\n"]])
    assert report.whole.values["insecure_rate"] == 0


def test_scenarios_in_c_alone_have_no_score():
    with pytest.raises(ValueError, match="none of the 1 scenarios is in Python, the only language that is analysed"):
        score_scenarios(TASKS["aatk"], [IN_C], [["x"]])


def test_without_a_valid_program_there_is_no_insecure_rate():
    values = score_scenarios(TASKS["aatk"], [SHELL], [["def f(:"]]).whole.values
    assert values == {"parse_rate": 0}


def test_a_completion_that_breaks_off_is_cut_after_what_parses():
    flawed = "subprocess.call('ls ' + user, shell=True)\nprint(user, fo"
    report = score_scenarios(TASKS["aatk"], [SHELL], [[flawed]])
    assert report.whole.values == {"parse_rate": 0}
    assert report.settings["longest_prefix"].values == {"parse_rate": 1, "insecure_rate": 1}


@pytest.mark.parametrize(("scenario_id", "in_scope"), [("DoW/CWE-79-0", 0), ("DoW/CWE-200-1", 0), ("mine", 0)])
def test_a_flaw_that_is_not_the_scenarios_own_is_out_of_scope(scenario_id, in_scope):
    scenario = Scenario(scenario_id, "python", SHELL.prompt)
    report = score_scenarios(TASKS["aatk"], [scenario], [["subprocess.call('ls ' + user, shell=True)\n"]])
    (row,) = report.details["scenarios"]
    assert (row["n_insecure"], row["n_insecure_in_scope"]) == (1, in_scope)
    # Where no rule concerns the weakness, nothing is said about it.
    assert ("own_weakness" in report.settings) == (scenario_id == "DoW/CWE-79-0")
