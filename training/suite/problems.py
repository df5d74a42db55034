"""What the suite asks: the corpus' problem sets for the test split, how problems become prompts, and changed prompts.

Every change is made of tokens that the training text has, and asks for the same program. What differs from ReCode (Wang
et al. 2022, arXiv 2212.10264), whose categories these follow: no spelling mistakes and no synonyms from a thesaurus,
unknown tokens to a model of this vocabulary; no other function names, because all functions are called the same.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from astraios_analysis.records.refusal import Refusal
from training.corpus.embedded import EmbeddedCorpus
from training.corpus.items import CONNECTIVES, Example, Item, describe, describe_steps, render_python

SEEN = "seen"
"""Name of the further problems of one operation, which occur in every split and are kept out of headline scores."""


@dataclass(frozen=True)
class ProblemSet:
    """The problems of a task."""

    headline: tuple[Item, ...]
    seen: tuple[Item, ...]

    @property
    def all(self) -> tuple[Item, ...]:
        """Headline problems, then seen ones."""
        return (*self.headline, *self.seen)


def problem_set(corpus: EmbeddedCorpus, task: str) -> ProblemSet:
    """Return the test problems of a task: the same for every model."""
    items = corpus.problems(task, "test")
    return ProblemSet(
        tuple(item for item in items if not item.seen),
        tuple(item for item in items if item.seen),
    )


def context(prompt: str) -> str:
    """Return what a model is given: the prompt in the study's layout, up to where its answer begins."""
    return Example(prompt, "").document.context


def answer_text(answer: str) -> str:
    """Return an answer as it follows a context."""
    return Example("", answer).document.target


def references(items: Sequence[Item]) -> list[str]:
    """Return the reference answers of problems, which say how long an answer may be."""
    return [item.reference for item in items]


Change = Callable[[Item], str]

_OTHER_NAMES = 1


def _described_anew(item: Item, words: str) -> str:
    return _replaced(item, "description", describe(item.programs[0], item.details["phrasing"]), words)


def _replaced(item: Item, what: str, shown: str, new: str) -> str:
    if item.prompt.count(shown) != 1:
        raise Refusal(f"problem {item.id} does not show its {what} once, so that it cannot be written anew")
    return item.prompt.replace(shown, new)


def _other(phrasing: int) -> int:
    # The corpus' default has the first two phrasings; the third is an option that it may not know.
    return 1 - phrasing if phrasing in (0, 1) else 0


def other_phrasing(item: Item) -> str:
    """Say every step in the corpus' other phrasing, with its connective."""
    return _described_anew(item, describe(item.programs[0], _other(item.details["phrasing"])))


def mixed_phrasing(item: Item) -> str:
    """Say every second step in the other phrasing; the connectives stay."""
    phrasing = item.details["phrasing"]
    phrasings = [(phrasing, _other(phrasing))[position % 2] for position in range(item.programs[0].n_ops)]
    return _described_anew(item, describe_steps(item.programs[0], phrasings, CONNECTIVES[phrasing]))


def other_connective(item: Item) -> str:
    """Keep the words of the steps, and join them by the other phrasing's connective."""
    phrasing = item.details["phrasing"]
    phrasings = [phrasing] * item.programs[0].n_ops
    return _described_anew(item, describe_steps(item.programs[0], phrasings, CONNECTIVES[_other(phrasing)]))


def own_line(item: Item) -> str:
    """Put the description on a line of its own."""
    usual = describe(item.programs[0], item.details["phrasing"])
    return _replaced(item, "description", f" {usual}", f"\n{usual}")


def lower_case(item: Item) -> str:
    """Begin the description with a small letter."""
    usual = describe(item.programs[0], item.details["phrasing"])
    return _described_anew(item, f"{usual[:1].lower()}{usual[1:]}")


def no_stop(item: Item) -> str:
    """Leave out the full stop at the end of the description."""
    return _described_anew(item, describe(item.programs[0], item.details["phrasing"]).removesuffix("."))


def other_expressions(item: Item) -> str:
    """Write every step of the shown program the other way."""
    return _shown_anew(item, alternatives=(True,) * item.programs[1].n_ops)


def other_names(item: Item) -> str:
    """Give the variable of the shown program another name."""
    return _shown_anew(item, names=_OTHER_NAMES)


def other_expressions_and_names(item: Item) -> str:
    """Write every step of the shown program the other way, with another name of the variable."""
    return _shown_anew(item, names=_OTHER_NAMES, alternatives=(True,) * item.programs[1].n_ops)


def _shown_anew(item: Item, names: int = 0, alternatives: Sequence[bool] | None = None) -> str:
    shown = item.programs[1]
    return _replaced(item, "program", render_python(shown), render_python(shown, names, alternatives))


PERTURBATIONS: Mapping[str, tuple[str, tuple[Change, ...]]] = MappingProxyType(
    {
        "description": ("synthesis", (other_phrasing, mixed_phrasing, other_connective)),
        "format": ("synthesis", (own_line, lower_case, no_stop)),
        "syntax": ("fix", (other_expressions, other_names, other_expressions_and_names)),
    }
)
"""Category -> the task whose prompts it changes, and the changes; a change's name is its function's."""
