"""The default corpus, a sandbox, and respondents whose texts are given."""

import numpy as np
import pytest

from training.corpus.items import NO, YES
from training.corpus.settings import TASKS
from training.sandbox.pool import Sandbox
from training.sandbox.programs import SandboxUnavailable
from training.suite.measures import Examination
from training.suite.problems import problem_set


class Given:
    """Answers by a function from a prompt to a text; of Yes and No its likelihoods prefer that text.

    Of other texts they are by another function: two nats for every word of the context, and one token each.
    """

    def __init__(self, answer, likelihood=lambda document: -2.0 * len(document.context.split())):
        self.answer, self.likelihood, self.asked = answer, likelihood, []

    def write(self, prompts, references):
        self.asked += prompts
        return [self.answer(prompt) for prompt in prompts]

    def likelihoods(self, documents, *, is_ended):
        counts = np.array([len(document.context.split()) for document in documents])
        return np.array(list(map(self._likelihood, documents))), counts

    def _likelihood(self, document):
        if document.target not in (f" {YES}", f" {NO}"):
            return self.likelihood(document)
        prompt = document.context.removeprefix("Question: ").removesuffix("\n\nAnswer:")
        return 0.0 if f" {self.answer(prompt)}" == document.target else -1.0


@pytest.fixture(scope="session")
def given():
    """Respondents whose answers are given."""
    return Given


@pytest.fixture(scope="module")
def problems(corpus):
    return {task: problem_set(corpus, task) for task in TASKS}


@pytest.fixture(scope="module")
def references(problems):
    """Reference answers by prompt, of all problem sets; for security the safe idiom."""
    return {item.prompt: item.reference for known in problems.values() for item in known.all}


@pytest.fixture(scope="module")
def sandbox():
    try:
        with Sandbox(1) as sandbox:
            yield sandbox
    except SandboxUnavailable as error:
        pytest.skip(f"needs a containment: {str(error).splitlines()[0]}")


@pytest.fixture(scope="module")
def examine(corpus, sandbox):
    """Function from a function of prompts to an examination of who answers by it."""
    return lambda answer, *likelihood: Examination(Given(answer, *likelihood), corpus, sandbox)
