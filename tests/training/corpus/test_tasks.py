import ast
import re
from itertools import islice

import pytest

from training.corpus.embedded import EmbeddedCorpus
from training.corpus.items import NO, YES, describe, render_python
from training.corpus.settings import COMPLETION, CorpusSettings, Mixture
from training.corpus.space import PROBES

N_ITEMS = 1500


@pytest.fixture(scope="module")
def by_task(corpus):
    """Items of the training streams by task."""
    found = {COMPLETION: [item for item in islice(corpus.pretraining(4), 400) if item.task == COMPLETION]}
    for item in islice(corpus.instructions(4), N_ITEMS):
        found.setdefault(item.task, []).append(item)
    return found


def outputs(program):
    return [program.run(probe) for probe in PROBES[program.kind]]


def test_documented_functions_are_python_with_their_description(by_task):
    for item in by_task[COMPLETION]:
        (function,) = ast.parse(item.document.text).body
        assert function.name == "solve"
        assert ast.get_docstring(function) == describe(item.programs[0], item.details["phrasing"])
        assert item.document.text == item.prompt + item.reference
        assert len(function.body) == item.n_ops + 2


def test_a_program_and_its_description_are_each_others_answer(by_task):
    for item in by_task["synthesis"] + by_task["explain"]:
        (program,) = item.programs
        code, description = render_python(program), describe(program, item.details["phrasing"])
        asked = f"Write a Python function solve that takes a list of numbers. {description}"
        expected = {"synthesis": (asked, code), "explain": (f"Explain what this function does.\n{code}", description)}
        assert (item.prompt, item.reference) == expected[item.task]


def test_layout_and_truth_of_fixes(by_task):
    mutations = set()
    for item in by_task["fix"]:
        right, wrong = item.programs
        mutations.add(item.details["mutation"])
        lines = item.prompt.splitlines()
        assert lines[0] == f"Fix solve. {describe(right, item.details['phrasing'])}"
        assert "\n".join(lines[1:-1]) == render_python(wrong)
        value, given, wanted = re.fullmatch(r"solve\((.*)\) is (.*) but should be (.*)\.", lines[-1]).groups()
        value = ast.literal_eval(value)
        assert (wrong.run(value), right.run(value)) == (ast.literal_eval(given), ast.literal_eval(wanted))
        assert given != wanted
        assert item.reference == render_python(right)
    assert mutations == {"replaced", "dropped", "exchanged"}


def test_clone_questions_are_answered_rightly(by_task):
    pairs = set()
    for item in by_task["clone"]:
        first, second = item.programs
        assert (outputs(first) == outputs(second)) == (item.reference == YES)
        assert item.choices == (YES, NO)
        pairs.add(item.details["pair"])
        head, codes, tail = re.fullmatch(r"(.*?)\n(def .*)\n(Answer .*)", item.prompt, re.DOTALL).groups()
        assert (head, tail) == ("Do these two functions always return the same?", "Answer Yes or No.")
        one, two = codes.split("\n\n")
        assert one.splitlines()[0] != two.splitlines()[0]
        for code, program in ((one, first), (two, second)):
            scope = {}
            exec(code, scope)
            assert scope["solve"]([3, -1, 4, 4]) == program.run([3, -1, 4, 4])
    assert pairs == {"same", "replaced", "dropped", "exchanged", "unrelated"}


def test_defect_questions_are_answered_rightly(by_task):
    for item in by_task["defect"]:
        wanted, shown = item.programs
        assert (outputs(wanted) == outputs(shown)) == (item.reference == YES)
        first, *code, last = item.prompt.splitlines()
        assert first == f"Does the function do this? {describe(wanted, item.details['phrasing'])}"
        assert "\n".join(code) == render_python(shown)
        assert last == "Answer Yes or No."


def test_share_of_near_misses(by_task):
    wrong = [item.details["pair"] for task in ("clone", "defect") for item in by_task[task] if item.reference == NO]
    assert wrong.count("unrelated") / len(wrong) == pytest.approx(0.5, abs=0.12)
    only = Mixture(**{name: float(name == "clone") for name in Mixture.model_fields})
    near = EmbeddedCorpus(CorpusSettings(near_miss_share=1.0, mixture=only))
    assert all(item.details["pair"] != "unrelated" for item in islice(near.instructions(0), 60))


def test_both_phrasings_are_as_frequent(by_task):
    drawn = [item.details["phrasing"] for item in by_task["synthesis"]]
    assert set(drawn) == {0, 1}
    assert sum(drawn) / len(drawn) == pytest.approx(0.5, abs=0.1)


def test_options_keep_the_default_lists(corpus, wide_corpus):
    # The wide space holds the default one: a list program keeps its fingerprint, and so its split.
    for item in corpus.problems("fix", n=100):
        assert wide_corpus.space.fingerprint(item.programs[0]) == corpus.space.fingerprint(item.programs[0])
