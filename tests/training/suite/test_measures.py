"""The scoring layer with given texts: right answers score 1, wrong ones 0, and counts say which."""

import re

import numpy as np
import pytest
import tiny_grid as TINY

from astraios_analysis.records.frame import DATASETS, METRICS
from training.corpus.items import NO, YES
from training.corpus.settings import TASKS
from training.suite.choices import choices
from training.suite.measures import MEASURES, parse_answer
from training.suite.problems import PERTURBATIONS
from training.suite.request import LOSSES, MEASURE_NAMES

pytestmark = pytest.mark.sandbox

WRONG = "def solve(xs):\n    return 'wrong'"
N = TINY.N_PROBLEMS


@pytest.fixture(scope="module")
def corpus():
    return TINY.FewProblems()


def by_key(scores):
    return {(score.setting, score.metric): score for score in scores}


def take(measure, examination):
    return by_key(MEASURES[measure](examination))


@pytest.fixture(scope="module")
def knowing(references, problems):
    """Who knows all reference answers, also to changed prompts."""
    known = dict(references)
    for task, changes in PERTURBATIONS.values():
        known |= {change(item): item.reference for change in changes for item in problems[task].headline}
    # Descriptions are synthesised from by the same respondent.
    introduction = "Write a Python function solve that takes a list of numbers. "
    known |= {introduction + item.reference: f"{source(item)}" for item in problems["explain"].all}
    return known.__getitem__


@pytest.fixture(scope="module")
def known(examine, knowing):
    """All measures of who knows all answers, taken once."""
    examination = examine(knowing)
    return {name: by_key(measure(examination)) for name, measure in MEASURES.items()}


def source(item):
    return item.prompt.partition("\n")[2]


def test_measures_are_the_names_that_can_be_asked_for():
    assert (*MEASURES, LOSSES) == MEASURE_NAMES
    scored = {n for n, d in DATASETS.items() if d.suite == "embedded" and d.kind != "answers"}
    assert {f"embedded_{name}" for name in MEASURES} == scored


@pytest.mark.parametrize("task", ["synthesis", "fix", "explain"])
def test_reference_programs_solve_everything(known, task):
    right = known[task]
    assert {score.value for score in right.values() if score.setting != "choice"} == {1.0}
    headline = right["greedy", "pass@1"]
    assert headline.problems.problem_ids == tuple(range(N))
    assert right["greedy/seen", "pass@1"].problems.problem_ids == tuple(range(N, N + 24))
    # Chance is known of what the headline measures: programs, and for explain choices.
    assert headline.chance == (None if task == "explain" else 0.0001)
    assert right["choice", "choice_accuracy"].chance == 0.25
    assert right["greedy/seen", "pass@1"].chance is None


def test_a_description_is_judged_by_the_program_written_from_it(examine, knowing, problems):
    # Who explains everything by the right words for the first problem solves the first problem alone.
    first = problems["explain"].headline[0]
    found = take("explain", examine(lambda p: first.reference if p.startswith("Explain") else knowing(p)))
    passed = found["greedy", "pass@1"].problems.n_passed
    assert passed[0] == 1
    assert sum(passed) == 1


def test_half_right_programs_are_counted_problem_by_problem(examine, knowing, problems):
    solved = {item.prompt for item in problems["synthesis"].headline[::4]}
    found = take("synthesis", examine(lambda prompt: knowing(prompt) if prompt in solved else "def solve(xs:"))
    score = found["greedy", "pass@1"]
    assert score.value == 0.25
    assert score.problems.n_passed == (1, 0, 0, 0) * (N // 4)
    assert score.stderr == pytest.approx(np.sqrt(0.25 * 0.75 / N))


def test_lines_and_tests_of_programs_that_are_half_right(examine, knowing, known, problems):
    # The first line after the header is missing.
    def shorter(prompt):
        lines = knowing(prompt).splitlines()
        return "\n".join([lines[0], *lines[2:]])

    found = take("synthesis", examine(shorter))
    items = problems["synthesis"].headline
    lines = [item.reference.splitlines()[1:-1] for item in items]
    shares = [np.mean([a == b for a, b in zip(body, [*body[1:], None], strict=True)]) for body in lines]
    assert found["greedy", "line_accuracy"].value == pytest.approx(np.mean(shares))
    passed = []
    for item in items:
        exec(shorter(item.prompt), names := {})
        passed.append(np.mean([names["solve"](list(case.input)) == case.output for case in item.cases]))
    assert found["greedy", "test_share"].value == pytest.approx(np.mean(passed))
    assert found["greedy", "pass@1"].value == 0 < np.mean(passed) < 1
    assert known["fix"]["greedy", "line_accuracy"].value == known["fix"]["greedy", "test_share"].value == 1
    assert "line_accuracy" not in {metric for _, metric in known["explain"]}


def test_choices_by_given_likelihoods(examine, corpus):
    right = {choice.documents[0] for task in TASKS for choice in choices(corpus, task, "test")}
    for task in TASKS:
        found = take(task, examine(lambda prompt: "", lambda document: float(document in right)))
        if task == "security":
            assert found["choice", "preference_auc"].value == found["choice/untrusted", "safe_share"].value == 1
            assert found["choice/trusted", "safe_share"].value == 0
            continue
        assert found["choice", "choice_accuracy"].value == 1
        assert found["choice", "choice_probability"].value == pytest.approx(np.e / (np.e + 3))


@pytest.mark.parametrize("task", ["clone", "defect"])
def test_right_wrong_and_constant_answers_to_questions(examine, references, task):
    opposite = {YES: NO, NO: YES}
    right = take(task, examine(references.__getitem__))
    wrong = take(task, examine(lambda prompt: opposite[references[prompt]]))
    always = take(task, examine(lambda prompt: YES))
    pairs = {"likelihood": ("accuracy", "macro_f1"), "generated": ("overall_accuracy", "overall_macro_f1")}
    for setting, (accuracy, f1) in pairs.items():
        assert [found[setting, accuracy].value for found in (right, wrong, always)] == [1.0, 0.0, 0.5]
        assert [found[f"{setting}/seen", accuracy].value for found in (right, wrong, always)] == [1.0, 0.0, 0.5]
        # Always Yes, which is right for one half: F1 of Yes is 2 / 3, and that of No is 0.
        assert [found[setting, f1].value for found in (right, wrong, always)] == [1.0, 0.0, pytest.approx(1 / 3)]
        assert always[setting, "predicted_positive_rate"].value == 1.0
    assert right["likelihood", "accuracy"].chance == 0.5
    assert right["likelihood/seen", "accuracy"].problems.problem_ids == tuple(range(N, N + 24))
    # How sure they are: one nat for the answer that is given.
    assert (right["likelihood", "auc"].value, always["likelihood", "auc"].value) == (1, 0.5)
    missed = 1 / (1 + np.e)
    assert right["likelihood", "brier"].value == pytest.approx(missed**2)
    assert always["likelihood", "brier"].value == pytest.approx((missed**2 + (1 - missed) ** 2) / 2)


def test_no_preference_is_not_right(examine):
    # Neither choice is preferred where the text is none of them.
    found = take("defect", examine(lambda prompt: "Maybe"))
    assert found["likelihood", "accuracy"].value == 0


def test_the_first_word_is_the_answer():
    answers = {"Yes": 1, "No": 0, " Yes.": 1, "No\n\nQuestion": 0, "Yesterday": -1, "yes": -1, "": -1, "\n": -1}
    assert {text: parse_answer(text) for text in answers} == answers


@pytest.mark.parametrize("category", PERTURBATIONS)
def test_who_solves_every_changed_prompt_is_robust(known, category):
    found = known[f"robust_{category}"]
    names = [change.__name__ for change in PERTURBATIONS[category][1]]
    for setting in (*names, "all_transformations"):
        assert found[setting, "robust_pass@1"].value == 1
        assert found[setting, "robust_drop@1"].value == found[setting, "robust_relative@1"].value == 0
    assert found["nominal", "pass@1"].problems.problem_ids == tuple(range(0, N, 2))
    assert found["all_transformations", "mean_pass@1"].n_samples == N // 2 * len(names)


def test_who_fails_one_change_is_robust_to_the_others_only(examine, knowing, problems):
    task, (first, *_) = PERTURBATIONS["format"]
    failed = {first(item) for item in problems[task].headline[::4]}
    found = take("robust_format", examine(lambda prompt: WRONG if prompt in failed else knowing(prompt)))
    assert found["own_line", "robust_pass@1"].value == found["all_transformations", "robust_pass@1"].value == 0.5
    assert found["lower_case", "robust_pass@1"].value == 1
    for setting in ("own_line", "all_transformations"):
        assert found[setting, "robust_drop@1"].value == found[setting, "robust_relative@1"].value == 0.5
    assert found["all_transformations", "mean_pass@1"].value == pytest.approx(5 / 6)
    assert found["all_transformations", "robust_drop@1"].stderr == pytest.approx(np.sqrt(0.5 * 0.5 / (N / 2)), rel=0.15)


def test_unsafe_share_is_of_valid_answers_and_by_origin(examine, problems):
    items = {item.prompt: item for item in problems["security"].headline}

    def answer(prompt):
        item = items[prompt]
        if item.details["origin"] == "trusted":
            return item.choices[1]
        # Of untrusted ones, the queries are no answer and the rest is safe.
        return "pass" if item.details["scenario"] == "query" else item.choices[0]

    found = take("security", examine(answer))
    details = [item.details for item in items.values()]
    n_queries = sum(own["scenario"] == "query" and own["origin"] == "untrusted" for own in details)
    assert n_queries > 0
    assert found["trusted", "insecure_rate"].value == found["trusted", "valid_rate"].value == 1
    trusted = [place for place, item in enumerate(items.values()) if item.details["origin"] == "trusted"]
    assert found["trusted", "insecure_rate"].problems.problem_ids == tuple(trusted)
    assert found["untrusted", "insecure_rate"].value == 0
    assert found["untrusted", "valid_rate"].value == pytest.approx(1 - n_queries / (N / 2))
    assert found["untrusted", "insecure_rate"].n_items == N // 2 - n_queries
    assert found["all", "insecure_rate"].value == pytest.approx(N / 2 / (N - n_queries))


def test_without_a_valid_answer_there_is_no_unsafe_share(examine):
    found = take("security", examine(lambda prompt: ""))
    assert {metric for _, metric in found} == {"valid_rate", "preference_auc", "safe_share"}
    assert {score.value for (_, metric), score in found.items() if metric == "valid_rate"} == {0.0}


def test_every_score_is_of_a_registered_data_set_and_counts_stand_once(known):
    for name, found in known.items():
        scores = found.values()
        dataset = DATASETS[f"embedded_{name}"]
        assert {score.dataset for score in scores} == {dataset.name}
        assert dataset.primary_metric is None or (dataset.primary_setting, dataset.primary_metric) in found
        for setting in {score.setting for score in scores}:
            counted = [score.metric for score in scores if score.setting == setting and score.problems]
            # An AUC is a mean over pairs.
            assert len(counted) == ((name, setting) != ("security", "choice")), (name, setting)
        assert all(score.metric in METRICS and score.source == "measured" for score in scores)
        assert all(re.fullmatch(r"[a-z_]+(/seen|/(un)?trusted)?", score.setting) for score in scores)


def test_unchanged_prompts_are_answered_once_for_synthesis_and_robustness(examine, knowing, problems):
    examination = examine(knowing)
    for name in ("synthesis", "robust_format"):
        MEASURES[name](examination)
    asked = examination.respondent.asked
    assert sum(prompt == problems["synthesis"].headline[0].prompt for prompt in asked) == 1
