"""What the suite asks: the corpus' problem sets for the test split, how problems become prompts, and changed prompts.

Every change is made of tokens that the training text has, and asks for the same program. What differs from ReCode (Wang
et al. 2022, arXiv 2212.10264), whose categories these follow: no spelling mistakes and no synonyms from a thesaurus,
unknown tokens to a model of this vocabulary; no other function names, because all functions are called the same.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from astraios_analysis.records.refusal import Refusal
from training.corpus.embedded import EmbeddedCorpus
from training.corpus.items import CONNECTIVES, Example, Item, Style, describe, describe_steps, lay_out, render_python
from training.corpus.programs import Program
from training.corpus.space import python_assertions

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


# A worker scores many models, and all of them answer the same problems. Making a set takes a good second.
@lru_cache(maxsize=16)
def problem_set(corpus: EmbeddedCorpus, task: str) -> ProblemSet:
    """Return the test problems of a task: the same for every model."""
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


Change = Callable[[Item], str]


def _replaced(item: Item, what: str, shown: str, new: str) -> str:
    if item.prompt.count(shown) != 1:
        raise Refusal(f"problem {item.id} does not show its {what} once, so that it cannot be written anew")
    return item.prompt.replace(shown, new)


def _described_anew(words: Callable[[Program, int, int], str], before: str = " ") -> Change:
    """Return a change to words that are made of the program, the phrasing that the prompt has, and another one."""

    def change(item: Item) -> str:
        program, phrasing = item.programs[0], item.details["phrasing"]
        # The corpus' default has the first two phrasings; the third is an option that it may not know.
        other = 1 - phrasing if phrasing in (0, 1) else 0
        shown = f" {describe(program, phrasing)}"
        return _replaced(item, "description", shown, before + words(program, phrasing, other))

    return change


def _shown_anew(names: int, is_other: bool) -> Change:
    """Return a change to other names of the shown program's variable, and to the other way to write every step."""

    def change(item: Item) -> str:
        shown = item.programs[1]
        name = item.reference.partition("(")[0].removeprefix("def ")
        style = Style(names, (is_other,) * shown.n_ops)
        return _replaced(item, "program", render_python(shown, name), render_python(shown, name, style))

    return change


def _alternating(program: Program, phrasing: int, other: int) -> str:
    phrasings = [(phrasing, other)[position % 2] for position in range(program.n_ops)]
    return describe_steps(program, phrasings, CONNECTIVES[phrasing])


PERTURBATIONS: Mapping[str, tuple[str, Mapping[str, Change]]] = {
    "description": (
        "synthesis",
        {
            "other_phrasing": _described_anew(lambda program, phrasing, other: describe(program, other)),
            # Every second step in the other phrasing; the connectives stay.
            "mixed_phrasing": _described_anew(_alternating),
            "other_connective": _described_anew(
                lambda program, phrasing, other: describe_steps(program, [phrasing] * program.n_ops, CONNECTIVES[other])
            ),
        },
    ),
    "format": (
        "synthesis",
        {
            "own_line": _described_anew(lambda program, phrasing, _: describe(program, phrasing), "\n"),
            "lower_case": _described_anew(
                lambda program, phrasing, _: (text := describe(program, phrasing))[:1].lower() + text[1:]
            ),
            "no_stop": _described_anew(lambda program, phrasing, _: describe(program, phrasing).removesuffix(".")),
        },
    ),
    "syntax": (
        "fix",
        {
            "other_expressions": _shown_anew(0, True),
            "other_names": _shown_anew(1, False),
            "other_expressions_and_names": _shown_anew(1, True),
        },
    ),
}
"""Category -> the task whose prompts it changes, and the changes by their names."""
