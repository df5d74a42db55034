"""What the suite asks: the corpus' problem sets for the test split, and how a problem becomes a prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from training.corpus.embedded import EmbeddedCorpus
from training.corpus.items import Example, Item, lay_out
from training.corpus.space import python_assertions

SEEN = "seen"
"""Name of the further problems of one operation, which occur in every split and are kept out of headline scores."""


@dataclass(frozen=True)
class ProblemSet:
    """The problems of a task.

    Attributes
    ----------
    headline : tuple of Item
        The problems that count.
    seen : tuple of Item
        Those of one operation, none for security.
    """

    headline: tuple[Item, ...]
    seen: tuple[Item, ...]

    @property
    def all(self) -> tuple[Item, ...]:
        """Headline problems, then seen ones."""
        return (*self.headline, *self.seen)


# A worker scores many models, and all of them answer the same problems. Making a set takes a good second.
@lru_cache(maxsize=16)
def problem_set(corpus: EmbeddedCorpus, task: str) -> ProblemSet:
    """Return the test problems of a task: the same for every model.

    Parameters
    ----------
    corpus : EmbeddedCorpus
        The corpus; its one object a process, so that sets are made once.
    task : str
        One of `training.corpus.settings.TASKS`.

    Returns
    -------
    ProblemSet
        200 headline problems and 24 seen ones; 200 for security.
    """
    items = corpus.problems(task, "test")
    return ProblemSet(
        tuple(item for item in items if not item.seen),
        tuple(item for item in items if item.seen),
    )


def context(prompt: str) -> str:
    """Return what a model is given: the prompt in the study's layout, up to where its answer begins."""
    return lay_out(Example(prompt, "")).context


def answer_text(answer: str) -> str:
    """Return an answer as it follows a context."""
    return lay_out(Example("", answer)).target


def assertions(corpus: EmbeddedCorpus, item: Item) -> str:
    """Return the test of a problem, as lines of Python that raise where a case fails."""
    return python_assertions(corpus.settings.function_name, item.cases)


def references(items: Sequence[Item]) -> list[str]:
    """Return the reference answers of problems, which say how long an answer may be."""
    return [item.reference for item in items]
