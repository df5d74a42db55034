"""Prompts are made of known tokens, and changed ones ask for the same program."""

from dataclasses import replace
from itertools import islice

import pytest

from training.corpus.items import CONNECTIVES, VARIABLES
from training.corpus.programs import OPERATIONS, Program, Step
from training.corpus.rows import encode, encode_context
from training.suite.problems import PERTURBATIONS, answer_text, context

CHANGES = [(task, change) for task, changes in PERTURBATIONS.values() for change in changes]
LONGEST = 290


@pytest.fixture(scope="module")
def seen_tokens(corpus):
    """Tokens that the training text has."""
    streams = (corpus.pretraining(1), corpus.instructions(1))
    documents = [item.document for stream in streams for item in islice(stream, 3000)]
    return {token for row in encode(corpus.tokenizer, documents) for token in row.tokens}


def test_no_prompt_has_a_token_that_training_text_has_not(corpus, problems, seen_tokens):
    prompts = [item.prompt for known in problems.values() for item in known.all]
    prompts += [change(item) for task, change in CHANGES for item in problems[task].headline]
    used = {token for prompt in prompts for token in encode_context(corpus.tokenizer, context(prompt))}
    assert used <= seen_tokens


def test_prompts_leave_room_for_answers_and_virtual_tokens(corpus, problems):
    for task, known in problems.items():
        answers = [len(encode_context(corpus.tokenizer, answer_text(item.reference))) for item in known.all]
        prompts = [item.prompt for item in known.all]
        prompts += [change(item) for of, change in CHANGES if of == task for item in known.headline]
        longest = max(len(encode_context(corpus.tokenizer, context(prompt))) for prompt in prompts)
        assert longest + max(answers) + 8 <= LONGEST, task


@pytest.mark.parametrize(("task", "change"), CHANGES, ids=lambda value: getattr(value, "__name__", value))
def test_every_prompt_is_changed(problems, task, change):
    items = problems[task].headline
    changed = [change(item) for item in items]
    assert all(new != item.prompt for new, item in zip(changed, items, strict=True))
    assert len({*changed}) == len({item.prompt for item in items})


def read(sentence: str) -> Program:
    """The program that a description names, read clause by clause without the code that writes descriptions."""
    for connective in CONNECTIVES:
        sentence = sentence.replace(connective, "|")
    steps = []
    for clause in sentence.rstrip(".").lower().split("|"):
        found = [
            Step(name, constant)
            for name, operation in OPERATIONS.items()
            for constant in operation.constants or (0,)
            if operation.takes == "list" and clause in (words.format(k=constant) for words in operation.phrasings[:2])
        ]
        assert len(found) == 1, clause
        steps += found
    return Program("list", tuple(steps))


def description(prompt: str) -> str:
    return prompt.partition(" numbers.")[2].strip()


@pytest.mark.parametrize("category", ["description", "format"])
def test_a_description_that_is_worded_anew_names_the_same_program(problems, category):
    task, changes = PERTURBATIONS[category]
    for item in problems[task].headline:
        assert read(description(item.prompt)) == item.programs[0]
        for change in changes:
            assert read(description(change(item))) == item.programs[0]


def shown_function(prompt: str):
    """The function of a fix prompt, executed: it is the corpus' own."""
    names: dict = {}
    exec(prompt[prompt.index("def solve") : prompt.rindex("\nsolve(")], names)
    return names["solve"]


@pytest.mark.parametrize("change", PERTURBATIONS["syntax"][1], ids=lambda change: change.__name__)
def test_a_program_that_is_written_anew_is_wrong_in_the_same_way(problems, change):
    for item in problems["fix"].headline:
        solve, prompt = shown_function(change(item)), change(item)
        for case in item.cases:
            assert solve(list(case.input)) == item.programs[1].run(case.input)
        # What the prompt says of it is still true, and so is what it should give.
        call, _, rest = prompt[prompt.rindex("\nsolve(") + 1 :].partition(" is ")
        given, _, wanted = rest.rstrip(".").partition(" but should be ")
        argument = eval(call.removeprefix("solve"))
        assert solve(list(argument)) == eval(given) == item.programs[1].run(argument)
        assert item.programs[0].run(argument) == eval(wanted)


def test_other_names_and_expressions_are_those_of_the_corpus(problems):
    for item in problems["fix"].headline[:50]:
        expressions, names, both = (change(item) for change in PERTURBATIONS["syntax"][1])
        assert VARIABLES["list"][1] not in expressions.replace("solve", "")
        assert f"solve({VARIABLES['list'][1]}):" in names
        assert f"solve({VARIABLES['list'][1]}):" in both
        assert len({item.prompt, expressions, names, both}) == 4


def test_a_prompt_that_does_not_show_what_is_changed_is_refused(problems):
    item = problems["synthesis"].headline[0]
    bad = replace(item, prompt=problems["clone"].headline[0].prompt, programs=item.programs * 2)
    for _, change in CHANGES:
        with pytest.raises(ValueError, match=r"does not show its (description|program) once"):
            change(bad)
