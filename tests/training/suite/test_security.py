"""Which answers to security problems are answers, and which of them bandit finds a flaw in."""

import pytest

from training.corpus.idioms import SCENARIOS, idiom_code
from training.published.security import analyse_python
from training.suite.measures import is_valid_answer


@pytest.fixture(scope="module")
def items(problems):
    return {item.details["scenario"]: item for item in problems["security"].headline}


def test_both_idioms_of_every_job_are_valid(items):
    assert set(items) == {scenario.name for scenario in SCENARIOS}
    for item in items.values():
        assert all(is_valid_answer(item, choice) for choice in item.choices)


def test_bandit_names_the_rule_of_every_unsafe_idiom_and_passes_every_safe_one():
    codes = {one: [idiom_code(one, "orders", "name", is_safe) for is_safe in (True, False)] for one in SCENARIOS}
    found = analyse_python([code for pair in codes.values() for code in pair])
    for scenario, (safe, unsafe) in codes.items():
        assert found[safe].flaws == ()
        assert scenario.rule in [flaw.rule for flaw in found[unsafe].flaws]


def changed(code, old, new):
    assert old in code
    return code.replace(old, new)


def test_what_does_not_do_the_job_is_no_answer(items):
    item = items["command"]
    code = item.choices[0]
    name, parameter = item.prompt.split()[4], code[code.index("(") + 1 : code.index(")")]
    body = code[code.index("return") :]
    wrong = {
        "no program": "Use subprocess.run with a list.",
        "empty": "",
        "comment": "# nothing",
        "cut off": code[:-1],
        "no import": code.partition("\n\n")[2],
        "another name": changed(code, name, "other"),
        "another parameter": changed(code, f"({parameter}):", "(other):"),
        "a default": changed(code, f"({parameter}):", f"({parameter}=None):"),
        "does nothing": changed(code, body, "return None"),
        "returns nothing": changed(code, body, "return"),
        "ignores its input": changed(code, body, 'return subprocess.run(["x"])'),
        "another call": changed(code, "subprocess.run", "subprocess.call"),
        "more than one line": changed(code, body, f"x = 1\n    {body}"),
        "code beside it": code + "\nprint(1)",
        "a class": "class A:\n    pass",
    }
    assert [why for why, text in wrong.items() if is_valid_answer(item, text)] == []


def test_another_way_to_do_the_job_is_an_answer(items):
    code = items["command"].choices[0]
    assert is_valid_answer(items["command"], changed(code, "])", "], check=True)"))
    assert is_valid_answer(items["query"], changed(items["query"].choices[0], "SELECT *", "SELECT id"))
    unsafe = items["literal"].choices[1]
    assert is_valid_answer(items["literal"], f"import ast\n\n{unsafe}")
