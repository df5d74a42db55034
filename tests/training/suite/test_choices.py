"""The suite by likelihood: what is compared, and what follows from given likelihoods."""

import numpy as np
import pytest
import tiny_grid as TINY

from training.corpus.rows import encode_context
from training.corpus.settings import TASKS
from training.suite.choices import N_CHOICES, answer_losses, choices
from training.suite.scores import choice_scores


@pytest.fixture(scope="module")
def few():
    return TINY.FewProblems()


@pytest.mark.parametrize("task", TASKS)
def test_the_right_answer_stands_before_near_misses_of_the_split(few, task):
    asked = choices(few, task, "test")
    items = [item for item in few.problems(task) if not item.seen]
    left_out = [item for item in items if item not in [choice.item for choice in asked]]
    # Of few programs, short ones most of all, the split has no three near misses at one place.
    assert len(left_out) < 3
    for choice in asked:
        assert len(set(choice.answers)) == len(choice.answers) == (2 if task == "security" else N_CHOICES)
        text, whole = choice.documents[0].text, choice.item.document.text
        if choice.is_ended:
            is_trusted = choice.item.details.get("origin") == "trusted"
            assert (text == whole) != is_trusted
        else:
            # Up to the first function, or the description; then one that does what is asked for.
            assert whole.startswith(choice.context)
            assert choice.answers[0].startswith(whole[len(choice.context) :].partition("(")[0])
            assert choice.answers[0].endswith("\nAnswer")
        if task in ("synthesis", "fix", "clone", "defect"):
            assert len({answer.count("\n") for answer in choice.answers}) == 1
        for document in choice.documents:
            parts = document.context, document.target
            cut = [token for part in parts for token in encode_context(few.tokenizer, part)]
            assert cut == few.tokenizer.encode(document.text).ids


def test_choices_do_something_else_and_may_be_shown(few):
    for choice in choices(few, "synthesis", "test")[::2]:
        spaces = []
        for answer in choice.answers:
            found = {}
            exec(answer.strip(), found)
            spaces.append(str([found["solve"](list(case.input)) for case in choice.item.cases]))
        assert spaces[0] == str([case.output for case in choice.item.cases])
        assert spaces[0] not in spaces[1:]


def test_who_looks_at_length_alone_has_one_chance_in_four(corpus):
    assert len(choices(corpus, "synthesis", "test")) > 190
    for sign in (-1, 1):
        lengths = [sign * len(a) for c in choices(corpus, "synthesis", "test") for a in c.answers]
        # Ties are broken at random here, as a model's small differences would.
        ties = np.random.default_rng(0).uniform(0, 0.5, (len(lengths) // N_CHOICES, N_CHOICES))
        table = np.reshape(lengths, (-1, N_CHOICES)) + ties
        accuracy, _ = choice_scores("embedded_synthesis", table)
        assert abs(accuracy.value - 0.25) < 3 * accuracy.stderr


def test_losses_are_means_over_tokens_of_validation_problems(few, given):
    found = answer_losses(given(str), few)
    assert tuple(found) == TASKS
    for task, loss in found.items():
        asked = choices(few, task, "validation")
        assert not {c.item.id for c in asked} & {c.item.id for c in choices(few, task, "test")}
        assert (loss.loss, loss.stderr) == (pytest.approx(2), pytest.approx(0, abs=1e-12))
        assert loss.n_targets == sum(len(c.context.split()) for c in asked)
