"""The suite by likelihood: each task as a choice among given answers, and the loss of the right one.

Nothing is generated and nothing executed, so a small model shows here what its greedy answers hide. Every text is a
whole one, to the end of the answer or to the words that follow it, so that sums of log-probabilities compare.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from astraios_analysis.records.frame import TaskLoss
from training.corpus.embedded import EmbeddedCorpus
from training.corpus.items import QUESTIONS, VARIABLES, Document, Item, Maker, describe, render_python
from training.corpus.programs import Program
from training.corpus.settings import FUNCTION_NAME, TASKS, Split
from training.corpus.space import draw_steps, reorder
from training.loop.validation import mean_with_error
from training.suite.answers import ModelRespondent
from training.suite.problems import answer_text, context

N_CHOICES = 4
"""Answers to choose from: the right one, and of three programs with another step. For security both idioms."""

_MOST_TRIES = 300
# What follows the code in a question that asks about it, and ends the text that is compared.
_AFTER_CODE = "\nAnswer"


@dataclass(frozen=True)
class Choice:
    """A context and what may follow it, the right one first."""

    item: Item
    context: str
    answers: tuple[str, ...]

    @property
    def documents(self) -> list[Document]:
        """The texts that are compared."""
        return [Document(self.context, answer) for answer in self.answers]

    @property
    def is_ended(self) -> bool:
        """Whether the text ends with the answer; else the question goes on."""
        return self.item.task not in QUESTIONS


# A worker scores many models, and all of them choose among the same answers.
@lru_cache(maxsize=16)
def choices(corpus: EmbeddedCorpus, task: str, split: Split) -> tuple[Choice, ...]:
    """Return the headline problems of a task as choices, the same for every model.

    Synthesis, fix and explain: the reference, and what would be the answer for three near misses of the program. Clone:
    given the first function, another writing of it, or of near misses; defect: given the description, the function,
    or near misses. Security: the idiom that the training text prefers for the input's origin, and the other one.
    """
    seed = [corpus.settings.split_seed, zlib.crc32(f"choices {task}/{split}".encode())]
    maker = Maker(corpus.space, split, np.random.default_rng(seed))
    made = (_choice(maker, item) for item in corpus.problems(task, split) if not item.seen)
    # A few programs, short ones most of all, have no three near misses at one place in their split.
    return tuple(choice for choice in made if choice is not None)


def _choice(maker: Maker, item: Item) -> Choice | None:
    asked = context(item.prompt)
    if item.task == "security":
        liked = item.choices if item.details["origin"] == "untrusted" else item.choices[::-1]
        return Choice(item, asked, tuple(map(answer_text, liked)))
    program = item.programs[0]
    known = [program, *(item.programs[1:] if item.task == "fix" else ())]
    programs = [program, *_near_misses(maker, known)]
    if len(programs) < N_CHOICES:
        return None
    if item.task == "explain":
        return Choice(item, asked, tuple(answer_text(describe(p, item.details["phrasing"])) for p in programs))
    if item.task == "clone":
        first = asked.partition("\n\n")[0]
        shown = next(i for i, variable in enumerate(VARIABLES[program.kind]) if f"{FUNCTION_NAME}({variable})" in first)
        names = (shown + 1 + int(maker.rng.integers(2))) % len(VARIABLES[program.kind])
        programs[0] = reorder(maker.space, program, maker.rng)
        return Choice(item, first, tuple(f"\n\n{maker.restyled(p, names)}{_AFTER_CODE}" for p in programs))
    codes = [render_python(p) for p in programs]
    if item.task == "defect":
        return Choice(item, asked.partition("\n")[0], tuple(f"\n{code}{_AFTER_CODE}" for code in codes))
    return Choice(item, asked, tuple(map(answer_text, codes)))


def _near_misses(maker: Maker, known: Sequence[Program]) -> list[Program]:
    """Draw three programs that compute something else than the known ones, by another step at one place of the first.

    Steps are drawn as those of programs are, and at the same place, so that the right answer is no different from the
    others to who only knows what programs are like: dropped steps, or steps at several places, would put guesses by
    what is likely or short at one in eight.
    """
    program, space, rng = known[0], maker.space, maker.rng
    for place in rng.permutation(program.n_ops):
        before, step, after = program.steps[:place], program.steps[place], program.steps[place + 1 :]
        found = {space.fingerprint(each): each for each in known}
        for _ in range(_MOST_TRIES):
            drawn = draw_steps(space, step.operation.takes, 1, rng)
            other = Program(program.kind, (*before, *drawn, *after))
            is_program = other.n_ops == program.n_ops and other.is_typed and other.is_bounded
            if is_program and space.is_needed(other) and space.is_allowed(other, maker.split):
                found.setdefault(space.fingerprint(other), other)
            if len(found) == len(known) + N_CHOICES - 1:
                return list(found.values())[len(known) :]
    return []


def answer_losses(respondent: ModelRespondent, corpus: EmbeddedCorpus) -> dict[str, TaskLoss]:
    """Return the cross-entropy of the right answers by task, nats per token, on the *validation* problems.

    Scores are of test problems, so that no problem is on both axes of loss against performance.
    """
    found = {}
    for task in TASKS:
        asked = choices(corpus, task, "validation")
        sums, counts = respondent.likelihoods([c.documents[0] for c in asked], is_ended=asked[0].is_ended)
        loss = mean_with_error(-sums, counts)
        found[task] = TaskLoss(loss=loss.loss, stderr=loss.stderr, n_targets=loss.n_targets)
    return found
